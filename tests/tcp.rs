//! Notifications over TCP at the built program: framing, bounds, answers on the same connection, real peers.

#[path = "common/peers.rs"]
mod peers;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use program::{Nereus, PATIENCE};

/// Starts with a TCP listener beside the UDP one; gives it and the TCP address.
fn start(folder: &std::path::Path, listener: &str, more: &str) -> (Nereus, SocketAddr) {
    let settings = format!(
        "listener: [{{address: '127.0.0.1:0', receivers: 1}}, {{address: 'tcp://127.0.0.1:0'{listener}}}]\n{more}"
    );
    let nereus = Nereus::start(folder, &settings);
    let status = nereus.json("/api/v1/status");
    let tcp = status["listeners"][1].as_str().unwrap().strip_prefix("tcp://").unwrap().parse().unwrap();
    (nereus, tcp)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the other side has closed it, with or without a complaint.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 100]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn stored(nereus: &Nereus, number: f64) {
    nereus.wait("they are stored", |nereus| {
        let stored = nereus.metric("nereus_events_stored_total");
        assert!(stored <= number, "{stored}");
        (stored == number).then_some(())
    });
}

fn dropped(nereus: &Nereus, reason: &str, number: u64) {
    let line = format!("nereus_traps_dropped_total{{reason=\"{reason}\"}} {number}\n");
    nereus
        .wait(&format!("{line} is counted"), |nereus| nereus.get("/metrics").1.contains(&line).then_some(()));
}

#[test]
fn messages_are_taken_as_they_are_cut_and_informs_answered_on_their_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (nereus, tcp) = start(folder.path(), "", "unmatched: store\n");
    let mut stream = connect(tcp);
    // Three in one segment, one octet by octet.
    let together: Vec<u8> = (1..=3).flat_map(|n| trap::link_down(n, "public")).collect();
    stream.write_all(&together).unwrap();
    stream.set_nodelay(true).unwrap();
    for octet in trap::link_down(4, "public") {
        stream.write_all(&[octet]).unwrap();
    }
    stored(&nereus, 4.0);
    let inform = trap::inform(5, "public");
    let mut expected = inform.clone();
    let at = expected.iter().position(|&octet| octet == 0xa6).unwrap();
    expected[at] = 0xa2;
    let mut answer = vec![0; expected.len()];
    for repeat in 0..3 {
        stream.write_all(&inform).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected);
        assert_eq!(nereus.metric("nereus_events_deduplicated_total"), f64::from(repeat));
    }
    stored(&nereus, 5.0);
    let event = &nereus.json("/api/v1/events?limit=1")["events"][0];
    assert_eq!(event["peer"], stream.local_addr().unwrap().to_string());
    assert_eq!(nereus.metric("nereus_connections"), 1.0);
    // A message that is not whole when its connection ends is one that was cut off.
    stream.write_all(&inform[..20]).unwrap();
    drop(stream);
    dropped(&nereus, "truncated", 1);
    assert_eq!(nereus.metric("nereus_traps_received_total"), 8.0);
    assert!(nereus.stop().success());
}

#[test]
fn what_is_no_message_ends_its_connection_and_disturbs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (nereus, tcp) = start(folder.path(), "", "unmatched: store\n");
    let mut good = connect(tcp);
    for (octets, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "unexpected_tag"),
        (&[0x30, 0x80, 0, 0], "bad_length"),
        (&[0x30, 0x83, 1, 0, 0], "message_too_long"),
    ] {
        let mut bad = connect(tcp);
        bad.write_all(octets).unwrap();
        assert!(is_closed(&mut bad), "{reason}");
        dropped(&nereus, reason, 1);
    }
    // A frame that holds nonsense is refused; what follows it is taken.
    good.write_all(&[0x30, 2, 5, 0]).unwrap();
    good.write_all(&trap::link_down(1, "public")).unwrap();
    stored(&nereus, 1.0);
    assert_eq!(nereus.metric("nereus_traps_dropped_total"), 4.0);
    assert!(nereus.stop().success());
}

#[test]
fn connections_are_bounded_in_number_and_time_and_by_who_may_send() {
    let folder = tempfile::tempdir().unwrap();
    let (nereus, tcp) =
        start(folder.path(), ", max_connections: 2, max_connections_per_peer: 2, idle_timeout: 4s", "");
    let (mut one, two) = (connect(tcp), connect(tcp));
    nereus.wait("both are there", |nereus| (nereus.metric("nereus_connections") == 2.0).then_some(()));
    let mut three = connect(tcp);
    assert!(is_closed(&mut three), "one too many");
    assert_eq!(nereus.metric("nereus_connections_refused_total"), 1.0);
    // An idle one is closed, also in the middle of a message.
    one.write_all(&[0x30]).unwrap();
    assert!(is_closed(&mut one));
    drop(two);
    dropped(&nereus, "truncated", 1);
    nereus.wait("there is room", |nereus| (nereus.metric("nereus_connections") == 0.0).then_some(()));
    let mut again = connect(tcp);
    again.write_all(&trap::link_down(1, "public")).unwrap();
    stored(&nereus, 1.0);
    assert!(nereus.stop().success());

    let (nereus, tcp) = start(folder.path(), ", allow: [192.0.2.0/24]", "");
    let mut stranger = connect(tcp);
    assert!(is_closed(&mut stranger));
    assert_eq!(nereus.metric("nereus_connections_refused_total"), 1.0);
    assert!(nereus.stop().success());
}

#[test]
fn a_reload_adds_and_removes_a_listener_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let udp = "{address: '127.0.0.1:0', receivers: 1}";
    let nereus = Nereus::start(folder.path(), &format!("listener: [{udp}]\n"));
    let reload = |listeners: &str| {
        Nereus::configure(folder.path(), &format!("listener: [{listeners}]\n"));
        let (status, body) = program::http(nereus.admin, "POST", "/debug/reload/trigger?type=config", "");
        assert_eq!(status, 200, "{body}");
    };
    // The same number as UDP's is another address.
    reload(&format!("{udp}, {{address: 'tcp://{free}'}}, {{address: '{free}', receivers: 1}}"));
    let mut stream = connect(free);
    let many: Vec<u8> = (1..=500).flat_map(|n| trap::link_down(n, "public")).collect();
    stream.write_all(&many).unwrap();
    stored(&nereus, 500.0);
    stream.write_all(&many).unwrap();
    reload(udp);
    stored(&nereus, 1_000.0);
    assert!(is_closed(&mut stream));
    nereus.wait("nobody listens", |_| TcpStream::connect(free).is_err().then_some(()));
    assert!(nereus.stop().success());
}

#[test]
fn a_full_handoff_slows_senders_down_and_drops_nothing() {
    const SENT: u32 = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let (nereus, tcp) = start(folder.path(), "", "unmatched: store\n");
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut stream = connect(tcp);
                for block in 0..SENT / 4 / 100 {
                    let first = sender * 1_000_000 + block * 100;
                    let many: Vec<u8> =
                        (first + 1..=first + 100).flat_map(|n| trap::link_down(n, "public")).collect();
                    stream.write_all(&many).unwrap();
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    stored(&nereus, f64::from(SENT));
    assert_eq!(nereus.metric("nereus_traps_dropped_total"), 0.0);
    assert!(nereus.stop().success());
}

#[test]
fn net_snmp_speaks_tcp_to_it() {
    let (Some(snmptrap), Some(snmpinform)) = (peers::find(&["snmptrap"]), peers::find(&["snmpinform"]))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let users = "
access:
  communities: [public]
  users: [{name: ops, auth: {protocol: sha1, passphrase: auth-phrase}, privacy: {protocol: aes128, passphrase: priv-phrase}}]
";
    let (nereus, tcp) = start(folder.path(), "", users);
    // It asks for the engine ID, then for the time: Reports come back on the connection too.
    let v3 = [
        "-v3",
        "-u",
        "ops",
        "-l",
        "authPriv",
        "-a",
        "SHA",
        "-A",
        "auth-phrase",
        "-x",
        "AES",
        "-X",
        "priv-phrase",
    ];
    let output = Command::new(&snmpinform)
        .args(v3)
        .args(["-m", "", "-t", "10", "-r", "0", &format!("tcp:{tcp}"), "", "1.3.6.1.6.3.1.1.5.3"])
        .env("SNMP_PERSISTENT_DIR", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (program, version) in [(&snmptrap, "-v1"), (&snmptrap, "-v2c"), (&snmpinform, "-v2c")] {
        let mut command = Command::new(program);
        command.args([version, "-c", "public", "-m", "", "-t", "10", "-r", "0"]).arg(format!("tcp:{tcp}"));
        if version == "-v1" {
            command.args(["1.3.6.1.4.1.8072.3.2.10", "127.0.0.1", "2", "0", ""]);
        } else {
            command.args(["", "1.3.6.1.6.3.1.1.5.3"]);
        }
        command.args(["1.3.6.1.2.1.2.2.1.1.7", "i", "7"]);
        let output = command.env("SNMP_PERSISTENT_DIR", folder.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    stored(&nereus, 4.0);
    let events = nereus.json("/api/v1/events");
    assert!(
        events["events"].as_array().unwrap().iter().all(|event| event["trap_name"] == "IF-MIB::linkDown")
    );
    assert!(nereus.stop().success());
}

#[test]
fn a_stop_takes_what_has_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let (nereus, tcp) = start(folder.path(), "", "unmatched: store\n");
    let mut stream = connect(tcp);
    stream.write_all(&trap::link_down(1, "public")).unwrap();
    stored(&nereus, 1.0);
    let many: Vec<u8> = (2..=100).flat_map(|n| trap::link_down(n, "public")).collect();
    stream.write_all(&many).unwrap();
    assert!(nereus.stop().success());
    assert!(is_closed(&mut stream));
    let (nereus, _) = start(folder.path(), "", "");
    let events = nereus.json("/api/v1/events?limit=1000")["events"].as_array().unwrap().len();
    assert_eq!(events, 100);
    assert!(nereus.stop().success());
}
