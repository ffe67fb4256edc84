//! The anomalies of tests/wire_anomalies.rs at the socket of a running Nereus, with valid traps between: each is counted,
//! and none of the valid ones is lost.
#![allow(clippy::print_stderr, reason = "what was done is said")]

#[path = "common/anomalies.rs"]
mod anomalies;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;
#[path = "common/v3.rs"]
mod v3;

use std::net::UdpSocket;

use nereus::security::{AuthProtocol, PrivacyProtocol};
use program::{Nereus, metric_sum};

/// One of so many faults is sent: all of them take their time through a socket.
const EACH: usize = 3;
/// The valid ones come from an address of their own, one behind so many faults.
const VALID_FROM: &str = "127.0.9.9";
const FAULTS_BETWEEN: usize = 50;
/// So much is under way at most, which the receive buffer holds.
const AT_ONCE: u64 = 1_000;

struct Account {
    received: u64,
    processed: u64,
    dropped: u64,
    kernel: u64,
    settled: u64,
}

fn account(nereus: &Nereus) -> Account {
    let (status, text) = nereus.get("/metrics");
    assert_eq!(status, 200);
    let sum = |name: &str| metric_sum(&text, name) as u64;
    Account {
        received: sum("nereus_traps_received_total"),
        processed: sum("nereus_traps_processed_total"),
        dropped: sum("nereus_traps_dropped_total"),
        kernel: sum("nereus_kernel_drops_total"),
        settled: sum("nereus_events_stored_total") + sum("nereus_events_deduplicated_total"),
    }
}

/// Users as settings; the anomalies' own user, `ops`, has keys that none of them knows.
const USERS: &str = "
  users:
    - {name: ops, auth: {protocol: sha1, passphrase: not-this-one}}
    - {name: myuser, auth: {protocol: sha256, passphrase: mypassword}, privacy: {protocol: aes128, passphrase: myprivacy}}
";

/// The valid traps of SNMPv3.
fn authenticated() -> v3::Sender {
    let engine = [0x80, 0, 0x1f, 0x88, 0x80, 9, 9, 9, 9];
    let auth = Some((AuthProtocol::Sha256, "mypassword"));
    v3::Sender::new(&engine, "myuser", auth, Some((PrivacyProtocol::Aes128, "myprivacy")))
}

/// Sends the faults that `offset` chooses under these settings, and traps that `valid_trap` makes between them.
fn run(settings: &str, offset: usize, valid_trap: impl Fn(u32) -> Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let mut nereus = Nereus::start(folder.path(), &format!("{settings}\nunmatched: store\n"));
    let faulty = UdpSocket::bind("127.0.0.1:0").unwrap();
    let valid = UdpSocket::bind((VALID_FROM, 0)).unwrap();
    let (mut number, mut sent, mut interfaces) = (0usize, 0u64, 0u32);
    anomalies::every_fault(|datagram| {
        number += 1;
        if number % EACH != offset {
            return;
        }
        faulty.send_to(datagram, nereus.traps).unwrap();
        sent += 1;
        if (number / EACH).is_multiple_of(FAULTS_BETWEEN) {
            interfaces += 1;
            valid.send_to(&valid_trap(interfaces), nereus.traps).unwrap();
            sent += 1;
        }
        if sent.is_multiple_of(AT_ONCE) {
            nereus.wait("they are read", |nereus| (account(nereus).received >= sent).then_some(()));
        }
    });
    let last = nereus.wait("each one is counted", |nereus| {
        let account = account(nereus);
        assert!(account.processed + account.dropped <= sent);
        (account.processed + account.dropped == sent && account.settled == account.processed)
            .then_some(account)
    });
    assert_eq!((last.received, last.kernel), (sent, 0));
    assert!(last.dropped > sent / 2, "{} of {sent}", last.dropped);
    eprintln!("{settings}: {sent} sent, {} dropped, {interfaces} valid ones", last.dropped);
    let path = format!("/api/v1/events?source={VALID_FROM}&limit=10000");
    let events = nereus.json(&path)["events"].as_array().unwrap().clone();
    let mut stored: Vec<u32> =
        events.iter().map(|event| event["varbinds"][0]["index"].as_str().unwrap().parse().unwrap()).collect();
    stored.sort_unstable();
    assert!(interfaces > 50);
    assert_eq!(stored, (1..=interfaces).collect::<Vec<_>>(), "every valid one, once");
    nereus.read_log();
    for line in &nereus.log {
        assert!(!line.contains("panicked") && !line.chars().any(|c| c.is_control()), "{line:?}");
    }
    assert_eq!(nereus.get("/ready").0, 200);
    assert!(nereus.stop().success());
}

fn community(interface: u32) -> Vec<u8> {
    trap::link_down(interface, "public")
}

#[test]
fn with_communities() {
    run("access: {communities: [public, other]}", 0, community);
}

#[test]
fn with_any_community() {
    run("", 1, community);
}

#[test]
fn with_users_alone() {
    let sender = authenticated();
    run(&format!("access:{USERS}"), 2, |interface| sender.link_down(interface));
}

#[test]
fn with_communities_and_users() {
    let sender = authenticated();
    run(&format!("access:\n  communities: [public]{USERS}"), 0, |interface| {
        if interface.is_multiple_of(2) { sender.link_down(interface) } else { community(interface) }
    });
}
