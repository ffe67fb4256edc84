//! `nereus replay` on captures of every shape, made here and by tcpdump.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

#[path = "common/peers.rs"]
mod peers;
#[path = "common/trap.rs"]
mod trap;
#[path = "common/v3.rs"]
mod v3;

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder, UdpHeader};
use nereus::security::{AuthProtocol, PrivacyProtocol};
use serde_json::Value;

const DEVICE: [u8; 4] = [10, 0, 0, 7];
const COLLECTOR: [u8; 4] = [192, 0, 2, 1];

/// A pcap file of one link type: each packet, and how much of it the capture cuts off.
fn pcap(link: u32, packets: &[(Vec<u8>, usize)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, link] {
        file.extend(word.to_le_bytes());
    }
    for (number, (packet, cut)) in (0u32..).zip(packets) {
        let kept = packet.len() - cut;
        for word in [1_700_000_000 + number, 250_000, kept as u32, packet.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&packet[..kept]);
    }
    file
}

/// A pcapng file: interfaces by link type (with times in nanoseconds), packets by interface.
fn pcapng(links: &[u16], packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let mut padded = body.to_vec();
        padded.resize(body.len().next_multiple_of(4), 0);
        let length = (padded.len() + 12) as u32;
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), &padded, &length.to_be_bytes()].concat()
    };
    // Big-endian, as some devices write it.
    let section = [&0x1a2b_3c4du32.to_be_bytes()[..], &[0, 1, 0, 0], &[0xff; 8]].concat();
    let mut file = block(0x0a0d_0d0a, &section);
    for link in links {
        let resolution = [0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0];
        file.extend(block(1, &[&link.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0], &resolution].concat()));
    }
    for (interface, packet) in packets {
        let time = 1_700_000_000_250_000_000u64;
        let length = (packet.len() as u32).to_be_bytes();
        let head = [&interface.to_be_bytes()[..], &time.to_be_bytes(), &length, &length].concat();
        file.extend(block(6, &[&head[..], packet].concat()));
    }
    file
}

fn ethernet(octets: &[u8], port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(DEVICE, COLLECTOR, 64).udp(40_000, port);
    builder.write(&mut packet, octets).unwrap();
    packet
}

fn tagged(octets: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .double_vlan(7u16.try_into().unwrap(), 8u16.try_into().unwrap());
    builder.ipv4(DEVICE, COLLECTOR, 64).udp(40_000, 162).write(&mut packet, octets).unwrap();
    packet
}

fn ipv6(octets: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64).udp(40_000, 162);
    builder.write(&mut packet, octets).unwrap();
    packet
}

/// One UDP datagram in as many raw IPv4 packets as it takes.
fn fragments(octets: &[u8], identification: u16) -> Vec<Vec<u8>> {
    const SIZE: usize = 64;
    let header = UdpHeader::without_ipv4_checksum(40_000, 162, octets.len()).unwrap();
    let whole = [&header.to_bytes()[..], octets].concat();
    let count = whole.len().div_ceil(SIZE);
    let fragment = |(number, part): (usize, &[u8])| {
        let mut ip = Ipv4Header::new(part.len() as u16, 64, IpNumber::UDP, DEVICE, COLLECTOR).unwrap();
        ip.identification = identification;
        ip.more_fragments = number + 1 < count;
        ip.fragment_offset = IpFragOffset::try_new((number * SIZE / 8) as u16).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        [&ip.to_bytes()[..], part].concat()
    };
    whole.chunks(SIZE).enumerate().map(fragment).collect()
}

fn whole(packets: Vec<Vec<u8>>) -> Vec<(Vec<u8>, usize)> {
    packets.into_iter().map(|packet| (packet, 0)).collect()
}

fn write(folder: &Path, name: &str, octets: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, octets).unwrap();
    path
}

fn replay(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nereus"))
        .arg("replay")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The lines of `--json`, the summary apart.
fn lines(output: &Output) -> (Vec<Value>, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().expect("a summary")["summary"].clone();
    (lines, summary)
}

#[test]
fn every_link_type_and_what_becomes_of_each_packet() {
    let folder = tempfile::tempdir().unwrap();
    let down = trap::link_down(3, "public");
    let sll = |octets: &[u8]| [&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0][..], octets].concat();
    let sll2 =
        |octets: &[u8]| [&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0][..], octets].concat();
    let null = |octets: &[u8]| [&[2, 0, 0, 0][..], octets].concat();
    let raw = ethernet(&down, 162)[14..].to_vec();
    let files = [
        ("ethernet", pcap(1, &whole(vec![ethernet(&down, 162)])), "10.0.0.7:40000"),
        ("vlan", pcap(1, &whole(vec![tagged(&down)])), "10.0.0.7:40000"),
        ("sll", pcap(113, &whole(vec![sll(&raw)])), "10.0.0.7:40000"),
        ("sll2", pcap(276, &whole(vec![sll2(&raw)])), "10.0.0.7:40000"),
        ("loopback", pcap(0, &whole(vec![null(&raw)])), "10.0.0.7:40000"),
        ("raw", pcap(101, &whole(vec![raw.clone()])), "10.0.0.7:40000"),
        ("raw6", pcap(101, &whole(vec![ipv6(&down)])), "[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:40000"),
        ("pcapng", pcapng(&[1, 101], &[(1, raw.clone())]), "10.0.0.7:40000"),
    ];
    for (name, octets, peer) in files {
        let path = write(folder.path(), name, &octets);
        let output = replay(folder.path(), &[path.to_str().unwrap(), "--json"]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let (lines, summary) = lines(&output);
        let [line] = &lines[..] else { panic!("{name}: {lines:?}") };
        assert_eq!((&line["packet"], &line["peer"]), (&1.into(), &peer.into()), "{name}");
        assert_eq!(line["time"], "2023-11-14T22:13:20.250000Z", "{name}");
        assert_eq!((&line["outcome"], &line["trap_name"]), (&"event".into(), &"IF-MIB::linkDown".into()));
        assert_eq!(line["effects"][0]["key"]["ifIndex"], "3", "{name}: {line}");
        assert_eq!((&summary["packets"], &summary["events"]), (&1.into(), &1.into()), "{name}");
    }
}

#[test]
fn what_is_no_whole_datagram_is_told_and_fragments_are_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (trap::link_down(1, "public"), trap::inform(2, "public"));
    let mut packets = fragments(&one, 7);
    assert!(packets.len() > 1);
    // Two datagrams whose fragments are mixed, the second one backwards.
    packets.extend(fragments(&two, 8).into_iter().rev());
    packets.swap(1, 2);
    let mut lost = fragments(&one, 9);
    lost.pop();
    let incomplete = lost.len();
    packets.extend(lost);
    // Not UDP: a TCP segment.
    let mut tcp = Vec::new();
    PacketBuilder::ipv4(DEVICE, COLLECTOR, 64).tcp(40_000, 162, 1, 1).write(&mut tcp, b"x").unwrap();
    packets.extend([tcp, ethernet(&one, 53)[14..].to_vec(), vec![0x45, 0, 0]]);
    let mut packets = whole(packets);
    packets.push((ethernet(&one, 162)[14..].to_vec(), 40));
    let path = write(folder.path(), "mixed", &pcap(101, &packets));
    let output = replay(folder.path(), &[path.to_str().unwrap(), "--json"]);
    assert!(output.status.success());
    let (lines, summary) = lines(&output);
    let events: Vec<&Value> = lines.iter().filter(|line| line["outcome"] == "event").collect();
    let answered: Vec<_> = events.iter().map(|event| event["answered"].as_bool().unwrap()).collect();
    assert_eq!(answered, [false, true], "{lines:?}");
    let problems: Vec<&str> = lines.iter().filter_map(|line| line["problem"].as_str()).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("capture with -s 0")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("is not whole")), "{problems:?}");
    let skipped = &summary["skipped"];
    assert_eq!((&skipped["tcp"], &skipped["cut"], &skipped["damaged"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!((&skipped["incomplete"], &summary["elsewhere"]), (&incomplete.into(), &1.into()));
    // For people the problems are notes, and the text holds no control characters of the packets.
    let output = replay(folder.path(), &[path.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(": raise ") && text.contains(" ifIndex=1 source=10.0.0.7 (rule "), "{text}");
    assert!(text.contains("IF-MIB::linkDown of 10.0.0.7, answered"), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not whole"));
}

#[test]
fn two_configurations_are_compared_and_the_exit_code_tells() {
    let folder = tempfile::tempdir().unwrap();
    let rule = |severity: &str| {
        format!(
            "rules: [{{name: link, match: {{trap: IF-MIB::linkDown}}, alert: Down, severity: {severity}, key: [source]}}]\n"
        )
    };
    write(folder.path(), "a.yaml", rule("major").as_bytes());
    write(folder.path(), "b.yaml", rule("minor").as_bytes());
    write(
        folder.path(),
        "c.yaml",
        b"access: {communities: [other]}\nlistener: [{address: '127.0.0.1:9162'}]\n",
    );
    let packets = [
        ethernet(&trap::link_down(1, "public"), 162),
        ethernet(&trap::link_up(1, "public"), 162),
        ethernet(&trap::link_down(2, "public"), 9162),
    ];
    write(folder.path(), "x.pcap", &pcap(1, &whole(packets.to_vec())));
    let same = replay(folder.path(), &["x.pcap", "-c", "a.yaml", "--against", "a.yaml"]);
    assert_eq!(same.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&same.stdout).ends_with("differ: 0\n"));

    let other = replay(folder.path(), &["x.pcap", "-c", "a.yaml", "--against", "b.yaml", "--json"]);
    assert_eq!(other.status.code(), Some(1));
    let (differences, summary) = lines(&other);
    let [only] = &differences[..] else { panic!("{differences:?}") };
    assert_eq!(only["before"]["effects"][0]["severity"], "major");
    assert_eq!(only["after"]["effects"][0]["severity"], "minor");
    assert_eq!((&summary["differ"], &summary["elsewhere"]), (&1.into(), &1.into()));

    // A listener's port is looked at too.
    let text = replay(folder.path(), &["x.pcap", "-c", "a.yaml", "--against", "c.yaml"]);
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("  - v2c IF-MIB::linkDown") && text.contains("  + v2c dropped: bad_community"),
        "{text}"
    );
    assert!(text.ends_with("differ: 3\n"), "{text}");
}

#[test]
fn snmpv3_is_read_with_the_configurations_users() {
    let folder = tempfile::tempdir().unwrap();
    let users = "access: {users: [{name: ops, auth: {protocol: sha256, passphrase: auth-phrase}, privacy: {protocol: aes128, passphrase: priv-phrase}}]}\n";
    write(folder.path(), "a.yaml", users.as_bytes());
    write(folder.path(), "b.yaml", users.replace("priv-phrase", "another-one").as_bytes());
    let (auth, privacy) = ((AuthProtocol::Sha256, "auth-phrase"), (PrivacyProtocol::Aes128, "priv-phrase"));
    let sender = v3::Sender::new(&[0x80, 0, 0x1f, 0x88, 0x80, 1, 2, 3, 4], "ops", Some(auth), Some(privacy));
    let packets = vec![ethernet(&sender.link_down(4), 162), ethernet(&trap::link_down(4, "public"), 162)];
    write(folder.path(), "x.pcap", &pcap(1, &whole(packets)));
    let (lines, _) = lines(&replay(folder.path(), &["x.pcap", "-c", "a.yaml", "--json"]));
    assert_eq!((&lines[0]["version"], &lines[0]["trap_name"]), (&"v3".into(), &"IF-MIB::linkDown".into()));
    assert_eq!(lines[0]["effects"][0]["key"]["ifIndex"], "4");
    assert_eq!(lines[1]["reason"], "bad_community", "only users may send");
    let output = replay(folder.path(), &["x.pcap", "-c", "a.yaml", "--against", "b.yaml"]);
    assert_eq!(output.status.code(), Some(1), "the other passphrase reads nothing");
}

#[test]
fn a_file_that_is_no_capture_or_breaks_off_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let packets = whole(vec![ethernet(&trap::link_down(1, "public"), 162); 3]);
    let capture = pcap(1, &packets);
    write(folder.path(), "empty", b"");
    write(folder.path(), "text", b"no capture at all, but a long enough text for a header");
    write(folder.path(), "cut", &capture[..capture.len() - 10]);
    for (name, why) in [
        ("missing", "No such file"),
        ("empty", "empty"),
        ("text", "neither pcap nor pcapng"),
        ("cut", "packet 2"),
    ] {
        let output = replay(folder.path(), &[name]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{name}: {told}");
        assert!(told.contains(why), "{name}: {told}");
    }
    // What stands before the break was shown.
    assert!(String::from_utf8_lossy(&replay(folder.path(), &["cut"]).stdout).contains("IF-MIB::linkDown"));
    write(folder.path(), "bad.yaml", b"nonsense: 1\n");
    write(folder.path(), "x", &capture);
    let output = replay(folder.path(), &["x", "-c", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonsense"));
    // Whatever the octets, it ends and says so.
    for at in 0..capture.len() {
        let mut damaged = capture.clone();
        damaged[at] ^= 0xff;
        if at % 7 == 0 {
            write(folder.path(), "damaged", &damaged);
            let code = replay(folder.path(), &["damaged"]).status.code();
            assert!(matches!(code, Some(0 | 3)), "octet {at}: {code:?}");
        }
    }
}

#[test]
fn what_tcpdump_writes_is_read() {
    let Some(tcpdump) = peers::find_tool(&["tcpdump"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap();
    let path = folder.path().join("x.pcap");
    let mut child = Command::new(tcpdump)
        .args(["-i", "lo", "-U", "-n", "-s", "0", "-c", "5", "-w"])
        .arg(&path)
        .args(["udp", "dst", "port", &to.port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let status = loop {
        sender.send_to(&trap::link_down(5, "public"), to).unwrap();
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    };
    if !status.success() {
        eprintln!("skipped: tcpdump may not capture here");
        return;
    }
    let port = to.port().to_string();
    let output = replay(folder.path(), &["x.pcap", "--port", &port, "--json"]);
    assert!(output.status.success());
    let (lines, summary) = lines(&output);
    assert_eq!((lines.len(), &summary["events"]), (5, &5.into()));
    assert_eq!(lines[0]["peer"], sender.local_addr().unwrap().to_string());
}
