//! Load on the built program: every datagram that the kernel took for sent is accounted for.
//! The long run and its figures stand in docs/performance-load.md.
#![allow(clippy::print_stderr, reason = "what is skipped or measured is said")]

#[path = "common/nereus.rs"]
mod program;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::{Nereus, metric_sum};
use serde_json::Value;

/// sent = stored + deduplicated + dropped by reason + kernel drops.
#[derive(Debug, Default, Clone, Copy)]
struct Account {
    received: u64,
    processed: u64,
    stored: u64,
    deduplicated: u64,
    dropped: u64,
    kernel: u64,
}

impl Account {
    fn read(nereus: &Nereus) -> Self {
        let (status, text) = nereus.get("/metrics");
        assert_eq!(status, 200);
        let sum = |name: &str| metric_sum(&text, name) as u64;
        Self {
            received: sum("nereus_traps_received_total"),
            processed: sum("nereus_traps_processed_total"),
            stored: sum("nereus_events_stored_total"),
            deduplicated: sum("nereus_events_deduplicated_total"),
            dropped: sum("nereus_traps_dropped_total"),
            kernel: sum("nereus_kernel_drops_total"),
        }
    }

    fn sum(&self) -> u64 {
        self.stored + self.deduplicated + self.dropped + self.kernel
    }
}

/// Sends with the project's own generator; gives what it says the kernel has accepted.
fn send(nereus: &Nereus, arguments: &[&str]) -> u64 {
    send_to(nereus.traps, arguments)
}

fn send_to(to: SocketAddr, arguments: &[&str]) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(["send", "--to", &to.to_string(), "--json"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&sent["refused"], &sent["errors"]), (&0.into(), &0.into()), "{sent}");
    sent["sent"].as_u64().unwrap()
}

#[test]
fn every_trap_of_a_burst_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    // The embedded rules: the first 2,000 interfaces are alerts, everything after is a repeat of one.
    let nereus = Nereus::start(folder.path(), "");
    let varbinds = ["linkDown", "ifIndex.1=1", "ifAdminStatus.1=up", "ifOperStatus.1=down"];
    let load = ["--rate", "5000", "--duration", "2s", "--sources", "8", "--vary", "ifIndex=1..250"];
    let sent = send(&nereus, &[&load[..], &varbinds[..]].concat());
    assert!(sent >= 5_000, "only {sent} were sent in two seconds");

    let account = nereus.wait("every datagram is accounted for", |nereus| {
        let account = Account::read(nereus);
        assert!(account.sum() <= sent, "more than was sent ({sent}): {account:?}");
        (account.sum() == sent).then_some(account)
    });
    eprintln!("sent {sent}: {account:?}");
    assert_eq!(account.received + account.kernel, sent);
    assert_eq!(account.processed, account.received);
    assert_eq!(account.dropped, 0, "nothing that was received was dropped");
    // The generator steps through interfaces and sources together: lcm(250, 8) resources.
    let alerts = nereus.json("/api/v1/alerts?limit=10000")["alerts"].as_array().unwrap().clone();
    if account.kernel == 0 {
        assert_eq!(alerts.len(), 1000);
    } else {
        eprintln!(
            "the kernel dropped {}: the receive buffer or the processors did not suffice",
            account.kernel
        );
    }
    let counted: u64 = alerts.iter().map(|alert| alert["count"].as_u64().unwrap()).sum();
    // Counts of repeats reach the disk every half minute, and at the end.
    assert!(counted <= account.received);
    assert!(nereus.stop().success());

    let nereus = Nereus::start(folder.path(), "");
    let alerts = nereus.json("/api/v1/alerts?limit=10000")["alerts"].as_array().unwrap().clone();
    let counted: u64 = alerts.iter().map(|alert| alert["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, account.received, "the alerts count every notification, across a stop");
}

/// What a Nereus holds resident, in KiB, and what it held at most.
fn resident(nereus: &Nereus) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", nereus.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// A storm from thousands of addresses. `NEREUS_STORM="RATE DURATION SOURCES"` makes it another one, which then has to keep
/// its promise about time as well: docs/performance-load.md has the command.
#[test]
fn a_storm_leaves_memory_bounded_and_every_trap_accounted_for() {
    let long = std::env::var("NEREUS_STORM").ok();
    let storm = long.as_deref().unwrap_or("40000 2s 2000");
    let [rate, duration, sources] = storm.split(' ').collect::<Vec<_>>()[..] else {
        panic!("NEREUS_STORM is RATE DURATION SOURCES")
    };
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), "");
    let load = ["--rate", rate, "--duration", duration, "--sources", sources, "--vary", "ifIndex=1..4"];
    let varbinds = ["linkDown", "ifIndex.1=1", "ifAdminStatus.1=up", "ifOperStatus.1=down"];
    let arguments = &*[&load[..], &varbinds[..]].concat();
    let (sent, slowest, asked) = std::thread::scope(|scope| {
        let to = nereus.traps;
        let sending = scope.spawn(move || send_to(to, arguments));
        let (mut slowest, mut asked) = (Duration::ZERO, 0);
        while !sending.is_finished() {
            let begun = Instant::now();
            assert_eq!(nereus.get("/api/v1/status").0, 200);
            slowest = slowest.max(begun.elapsed());
            asked += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        (sending.join().unwrap(), slowest, asked)
    });
    let account = nereus.wait("every datagram is accounted for", |nereus| {
        let account = Account::read(nereus);
        assert!(account.sum() <= sent, "more than was sent ({sent}): {account:?}");
        (account.sum() == sent).then_some(account)
    });
    let (now, most) = resident(&nereus);
    eprintln!(
        "sent {sent}: {account:?}; resident {now} KiB, at most {most} KiB; the slowest of {asked} answers took {slowest:?}"
    );
    assert_eq!(account.received + account.kernel, sent);
    assert!(asked > 5);
    // The queues' 96 MiB, what the allocator keeps beside them, 2 x 4 alerts an address and the program itself.
    assert!(most < 400 << 10, "{most} KiB");
    if long.is_some() {
        assert!(slowest < Duration::from_millis(100), "{slowest:?}");
    }
    assert!(nereus.stop().success());
}

#[test]
fn drops_by_rule_and_by_community_balance_the_account_too() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "
access: {communities: [public]}
unmatched: store
rules:
  - {name: chatter, match: {trap: SNMPv2-MIB::coldStart}, drop: true}
";
    let nereus = Nereus::start(folder.path(), settings);
    let load = ["--rate", "2000", "--count", "1000"];
    let mut sent = send(&nereus, &[&load[..], &["coldStart"]].concat());
    sent += send(&nereus, &[&load[..], &["--community", "wrong", "warmStart"]].concat());
    sent += send(&nereus, &[&load[..], &["warmStart"]].concat());
    sent += send(&nereus, &[&load[..], &["--v1", "warmStart"]].concat());
    let account = nereus.wait("every datagram is accounted for", |nereus| {
        let account = Account::read(nereus);
        (account.sum() == sent).then_some(account)
    });
    assert_eq!(account.deduplicated, 0);
    if account.kernel == 0 {
        let (_, text) = nereus.get("/metrics");
        for reason in ["rule", "bad_community"] {
            let line = format!("nereus_traps_dropped_total{{reason=\"{reason}\"}} 1000");
            assert!(text.contains(&line), "{text}");
        }
        assert_eq!((account.dropped, account.stored), (2000, 2000));
    }
}
