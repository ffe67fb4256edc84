//! SNMPv3 from outside: net-snmp's snmptrap and snmpinform over every protocol that both speak, replays over
//! reloads and kill -9, the own engine over restarts, and that no secret is shown.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

#[path = "common/peers.rs"]
mod peers;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/v3.rs"]
mod v3;

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;

use nereus::security::{AuthProtocol, PrivacyProtocol};
use nereus::wire::usm::V3Pdu;
use nereus::wire::{self, Message, ScopedData};
use program::{Nereus, PATIENCE};

const AUTH: &str = "Pl4nted-auth";
const PRIV: &str = "Pl4nted-priv";
/// What net-snmp calls the protocols.
const AUTHS: [(&str, &str); 6] = [
    ("md5", "MD5"),
    ("sha1", "SHA"),
    ("sha224", "SHA-224"),
    ("sha256", "SHA-256"),
    ("sha384", "SHA-384"),
    ("sha512", "SHA-512"),
];
const PRIVS: [(&str, &str); 6] = [
    ("des", "DES"),
    ("aes128", "AES"),
    ("aes192", "AES-192"),
    ("aes256", "AES-256"),
    ("aes192c", "AES-192-C"),
    ("aes256c", "AES-256-C"),
];

fn user_name(auth: &str, privacy: &str) -> String {
    format!("{auth}-{privacy}")
}

/// A user for each pair, and one without protocols.
fn settings() -> String {
    let mut text = "unmatched: store\naccess:\n  users:\n    - {name: plain}\n".to_owned();
    for (auth, _) in AUTHS {
        for privacy in std::iter::once("none").chain(PRIVS.map(|(privacy, _)| privacy)) {
            let name = user_name(auth, privacy);
            let _ = write!(text, "    - {{name: {name}, auth: {{protocol: {auth}, passphrase: {AUTH}}}");
            if privacy != "none" {
                let _ = write!(text, ", privacy: {{protocol: {privacy}, passphrase: {PRIV}}}");
            }
            text.push_str("}\n");
        }
    }
    text
}

/// The sum of one reason of refusal.
fn dropped(nereus: &Nereus, reason: &str) -> u64 {
    let (_, text) = nereus.get("/metrics");
    let line = format!("nereus_traps_dropped_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap()
}

/// One of net-snmp's programs with this user; whether it was content.
fn peer(program: &Path, home: &Path, to: SocketAddr, user: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(["-v3", "-r0", "-t5"])
        .args(user)
        .arg(to.to_string())
        .args(["", "1.3.6.1.6.3.1.1.5.1", "1.3.6.1.2.1.1.5.0", "s", "name"])
        .env("SNMP_PERSISTENT_DIR", home)
        .env("SNMPCONFPATH", home)
        .env("MIBS", "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn net_snmp_is_understood_over_every_protocol_that_it_speaks() {
    let (Some(trap), Some(inform)) = (peers::find(&["snmptrap"]), peers::find(&["snmpinform"])) else {
        return;
    };
    let work = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(work.path(), &settings());
    let home = work.path().join("net-snmp");
    fs::create_dir(&home).unwrap();
    let mut pairs = vec![vec!["-u", "plain", "-l", "noAuthNoPriv"]];
    let names: Vec<Vec<String>> = AUTHS
        .iter()
        .map(|(auth, _)| PRIVS.iter().map(|(privacy, _)| user_name(auth, privacy)).collect())
        .collect();
    let plain: Vec<String> = AUTHS.iter().map(|(auth, _)| user_name(auth, "none")).collect();
    for (at, (_, auth)) in AUTHS.iter().enumerate() {
        pairs.push(vec!["-u", &plain[at], "-l", "authNoPriv", "-a", auth, "-A", AUTH]);
        for (of, (_, privacy)) in PRIVS.iter().enumerate() {
            let user = &names[at][of];
            pairs.push(vec!["-u", user, "-l", "authPriv", "-a", auth, "-A", AUTH, "-x", privacy, "-X", PRIV]);
        }
    }
    let (mut spoken, mut traps, mut informs) = (Vec::new(), 0, 0);
    for pair in &pairs {
        // Informs first: what this net-snmp does not speak is told by its usage.
        match peer(&inform, &home, nereus.traps, pair) {
            Ok(()) => informs += 1,
            Err(said) if said.contains("USAGE") => {
                eprintln!("not spoken by this net-snmp: {pair:?}");
                continue;
            }
            Err(said) => panic!("snmpinform {pair:?}: {said}"),
        }
        let engine = ["-e", "0x80001f8880aabbccdd00112233"];
        let answer = peer(&trap, &home, nereus.traps, &[&pair[..], &engine].concat());
        assert_eq!(answer, Ok(()), "snmptrap {pair:?}");
        traps += 1;
        spoken.push(pair[1]);
    }
    assert!(spoken.len() >= 1 + 6 * 3, "{spoken:?}");
    let all = traps + informs;
    nereus.wait("all are stored", |nereus| {
        (nereus.metric("nereus_events_stored_total") as u64 == all).then_some(())
    });
    // Every inform begins with a question; nothing else was refused.
    let (_, text) = nereus.get("/metrics");
    let refused = program::metric_sum(&text, "nereus_traps_dropped_total") as u64;
    assert_eq!(refused, dropped(&nereus, "discovery"), "{text}");
    assert!(refused >= informs);
    let events = nereus.json("/api/v1/events?limit=1000")["events"].as_array().unwrap().clone();
    assert!(events.iter().all(|event| event["version"] == "v3" && event["varbinds"][0]["text"] == "name"));

    // Wrong passphrases: the counters tell which.
    let wrong = |user: &[&str], reason: &str| {
        let before = dropped(&nereus, reason);
        let said = peer(&inform, &home, nereus.traps, user).unwrap_err();
        assert!(dropped(&nereus, reason) > before, "{reason}: {said}");
    };
    wrong(&["-u", "sha1-none", "-l", "authNoPriv", "-a", "SHA", "-A", "another one"], "wrong_digests");
    wrong(&["-u", "nobody", "-l", "noAuthNoPriv"], "unknown_user_names");
    wrong(&["-u", "sha1-none", "-l", "noAuthNoPriv"], "below_minimum_level");
    wrong(
        &["-u", "sha1-aes128", "-l", "authPriv", "-a", "SHA", "-A", AUTH, "-x", "AES", "-X", "another one"],
        "decryption_errors",
    );
    wrong(
        &["-u", "sha1-none", "-l", "authPriv", "-a", "SHA", "-A", AUTH, "-x", "AES", "-X", PRIV],
        "unsupported_sec_levels",
    );
    let (_, status) = nereus.get("/api/v1/status");
    assert!(!status.contains("Pl4nted"));
    assert!(nereus.stop().success());
}

/// `nereus send` against Nereus: traps and informs at every level, and what a wrong passphrase is told.
#[test]
fn send_speaks_v3() {
    let work = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(work.path(), &settings());
    let to = nereus.traps.to_string();
    let secret = work.path().join("secret");
    fs::write(&secret, format!("{PRIV}\n")).unwrap();
    let send = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nereus"));
        let arguments = ["send", "--to", &to, "--v3", "--timeout", "5s", "coldStart"];
        let inform = more.contains(&"--inform");
        let arguments = arguments.iter().filter(|word| inform || !["--timeout", "5s"].contains(*word));
        command.args(arguments).args(more).env("NEREUS_AUTH_PASSPHRASE", AUTH);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let secret = secret.display().to_string();
    let private =
        ["--user", "sha512-aes256", "--auth", "sha512", "--privacy", "aes256", "--privacy-passphrase-file"];
    let private = [&private[..], &[&secret]].concat();
    let mut number = 0;
    for user in [&["--user", "plain"][..], &["--user", "md5-none", "--auth", "md5"], &private] {
        for kind in [&[][..], &["--inform"], &["--rate", "1000", "--count", "20"]] {
            let (code, said) = send(&[user, kind].concat());
            assert_eq!(code, Some(0), "{user:?} {kind:?}: {said}");
            assert_eq!(said.contains("answered after"), kind == ["--inform"], "{said}");
            number += if kind.len() > 1 { 20 } else { 1 };
        }
    }
    let engine = ["--engine-id", "0x8000000001020304", "--level", "auth_no_priv"];
    let (code, said) = send(&[&["--user", "md5-none", "--auth", "md5"][..], &engine].concat());
    assert_eq!(code, Some(0), "{said}");
    accepted(&nereus, number + 1);
    assert_eq!(nereus.metric("nereus_usm_engines") as u64, 2);

    let (code, said) = send(&["--inform", "--user", "sha1-none", "--auth", "md5"]);
    assert!(code == Some(3) && said.contains("usmStatsWrongDigests"), "{code:?} {said}");
    let (code, said) = send(&["--inform", "--user", "nobody", "--auth", "md5"]);
    assert!(code == Some(3) && said.contains("usmStatsUnknownUserNames"), "{code:?} {said}");
    let (code, said) = send(&["--user", "md5-none", "--level", "auth_priv", "--auth", "md5"]);
    assert!(code == Some(2) && said.contains("--privacy"), "{code:?} {said}");
    let (code, said) = send(&["--user", "a", "--auth", "md5", "--privacy", "des"]);
    assert!(code == Some(2) && said.contains("NEREUS_PRIVACY_PASSPHRASE"), "{code:?} {said}");

    // Both are told who and why.
    let mut nereus = nereus;
    let line = nereus.wait_for_log("Messages were refused; the last one is shown");
    assert_eq!(line["component"], "listener");
    let refused = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(["events", "--refused", "--json", "--admin", &format!("http://{}", nereus.admin)])
        .output()
        .unwrap();
    let refused = String::from_utf8(refused.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        refused.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|one| (one["reason"].as_str().unwrap(), one["user"].as_str().unwrap())).collect();
    assert_eq!(told, [("unknown_user_names", "nobody"), ("wrong_digests", "sha1-none")]);
    assert_eq!(lines[0]["engine_id"], nereus.json("/api/v1/status")["engine_id"]);
    let (_, by_reason) = nereus.get("/api/v1/refused?reason=wrong_digests");
    assert!(by_reason.contains("sha1-none") && !by_reason.contains("nobody"));
    nereus.read_log();
    assert!(!nereus.log.join("").contains("Pl4nted") && !refused.contains("Pl4nted"));
    assert!(nereus.stop().success());
}

struct Device {
    socket: UdpSocket,
    sender: v3::Sender,
    to: SocketAddr,
}

impl Device {
    fn new(to: SocketAddr) -> Self {
        let engine = [0x80, 0, 0, 0, 9, 8, 7];
        let auth = Some((AuthProtocol::Sha256, AUTH));
        let sender = v3::Sender::new(&engine, "sha256-aes128", auth, Some((PrivacyProtocol::Aes128, PRIV)));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, sender, to }
    }

    fn send(&self, boots: u32, time: u32) {
        let sender = v3::Sender { boots, time, ..self.sender.clone() };
        self.socket.send_to(&sender.link_down(7), self.to).unwrap();
    }
}

fn accepted(nereus: &Nereus, number: u64) {
    nereus.wait("it is accepted", |nereus| {
        (nereus.metric("nereus_traps_processed_total") as u64 == number).then_some(())
    });
}

fn refused(nereus: &Nereus, number: u64) {
    nereus.wait("it is refused", |nereus| (dropped(nereus, "not_in_time_windows") == number).then_some(()));
}

#[test]
fn replays_are_refused_after_a_reload_and_after_kill_9() {
    let work = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(work.path(), &settings());
    let device = Device::new(nereus.traps);
    device.send(3, 1_000);
    accepted(&nereus, 1);
    device.send(4, 500);
    accepted(&nereus, 2);
    device.send(3, 1_000);
    refused(&nereus, 1);

    // Another generation, in which the user has other neighbours.
    let file = work.path().join("nereus.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("name: plain", "name: other")).unwrap();
    let (status, answer) = program::http(nereus.admin, "POST", "/reload", "");
    assert_eq!(status, 200, "{answer}");
    device.send(3, 9_000);
    refused(&nereus, 2);
    device.send(4, 349);
    refused(&nereus, 3);
    device.send(4, 501);
    accepted(&nereus, 3);

    // What is stored was heard for good: it is killed as soon as the event of another boot is on the disk.
    device.send(5, 400);
    nereus.wait("it is stored", |nereus| {
        (nereus.metric("nereus_events_stored_total") as u64 == 4).then_some(())
    });
    nereus.kill();
    let nereus = Nereus::start(work.path(), &settings());
    let device = Device { to: nereus.traps, ..device };
    for (number, (boots, time)) in (1..).zip([(3, 1_000), (4, 9_000), (5, 249), (0, 0)]) {
        device.send(boots, time);
        refused(&nereus, number);
    }
    device.send(5, 401);
    accepted(&nereus, 1);
    assert!(nereus.stop().success());
}

/// Boots and ID of the engine, as it answers who asks.
fn discover(nereus: &Nereus) -> (Vec<u8>, u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let question = v3::Sender { boots: 0, time: 0, ..v3::Sender::new(b"", "", None, None) };
    socket.send_to(&question.encode(&V3Pdu::Discovery { request_id: 4 }), nereus.traps).unwrap();
    let mut buffer = [0; 2_000];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, nereus.traps);
    let Ok(Message::V3(report)) = wire::decode(&buffer[..length]) else { panic!("a Report") };
    let ScopedData::Plain(scoped) = report.data else { panic!() };
    assert_eq!((scoped.pdu[0], scoped.request_id(), report.message_id), (0xa8, Some(4), 77));
    (report.security.engine_id.to_vec(), report.security.boots)
}

#[test]
fn the_own_engine_is_the_same_after_kill_9_with_one_more_boot() {
    let work = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(work.path(), &settings());
    let (id, boots) = discover(&nereus);
    assert_eq!((id.len(), boots), (17, 1));
    nereus.kill();
    let nereus = Nereus::start(work.path(), &settings());
    assert_eq!(discover(&nereus), (id.clone(), 2));
    assert!(nereus.stop().success());

    // The database is set aside; the engine is not in it.
    fs::write(work.path().join("data/state.db"), b"damaged").unwrap();
    let nereus = Nereus::start(work.path(), &settings());
    assert_eq!(discover(&nereus), (id, 3));
    // A configured ID needs a restart.
    let file = work.path().join("nereus.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("  users:", "  engine_id: 0x8000000005010203\n  users:")).unwrap();
    let (status, answer) = program::http(nereus.admin, "POST", "/reload", "");
    assert!(status == 422 && answer.contains("access.engine_id"), "{answer}");
    assert!(nereus.stop().success());
    let nereus = Nereus::run(work.path(), &["-c".to_owned(), file.display().to_string()]);
    assert_eq!(discover(&nereus), (vec![0x80, 0, 0, 0, 5, 1, 2, 3], 4));
    assert!(nereus.stop().success());
}

/// Forged messages from made-up engines between valid ones: none of these is lost, and nothing grows.
#[test]
fn a_flood_of_forged_messages_costs_no_valid_one() {
    let work = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(work.path(), &settings());
    let device = Device::new(nereus.traps);
    device.send(3, 1_000);
    accepted(&nereus, 1);
    let mut forged = device.sender.link_down(7);
    let place = forged.windows(7).position(|window| window == &device.sender.engine[..]).unwrap() + 3;
    let (mut valid, mut sent) = (1, 0_u64);
    for number in 0..20_000_u32 {
        forged[place..place + 4].copy_from_slice(&number.to_be_bytes());
        device.socket.send_to(&forged, device.to).unwrap();
        sent += 1;
        if number % 200 == 0 {
            valid += 1;
            device.send(3, 1_000 + number / 100);
            // Not faster than it is taken: what the kernel drops says nothing.
            accepted(&nereus, valid);
        }
    }
    nereus.wait("all are counted", |nereus| (dropped(nereus, "wrong_digests") == sent).then_some(()));
    assert_eq!(nereus.metric("nereus_usm_engines") as u64, 1);
    assert_eq!(nereus.metric("nereus_kernel_drops_total") as u64, 0);
    assert!(nereus.stop().success());
}
