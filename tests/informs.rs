//! Informs on the built program and on its listeners: answered once they are on the disk, and not before.

#[path = "common/peers.rs"]
mod peers;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nereus::config::settings::Listener;
use nereus::event::{Handed, Queue};
use nereus::metrics::Metrics;
use nereus::pipeline::{Listeners, Samples, Usm, Wiring};
use nereus::snapshot::{self, Publisher};
use program::{Nereus, PATIENCE};

/// What stands for "no answer": far longer than a commit takes.
const SILENCE: Duration = Duration::from_millis(700);

/// A sender that waits for what comes back.
struct Sender(UdpSocket);

impl Sender {
    fn new(from: &str) -> Self {
        let socket = UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0)).unwrap();
        Self(socket)
    }

    fn send(&self, inform: &[u8], to: SocketAddr) {
        self.0.send_to(inform, to).unwrap();
    }

    /// The next answer and who gave it; none within `patience`.
    fn answer(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 2048];
        let (length, from) = self.0.recv_from(&mut buffer).ok()?;
        Some((buffer[..length].to_vec(), from))
    }

    fn must_be_answered(&self, inform: &[u8], by: SocketAddr) {
        let (answer, from) = self.answer(PATIENCE).expect("an answer");
        assert_eq!((answer, from), (response(inform), by));
    }
}

/// The Response: as the inform, but for the PDU's tag.
fn response(inform: &[u8]) -> Vec<u8> {
    let mut expected = inform.to_vec();
    let at = expected.iter().position(|&octet| octet == 0xa6).unwrap();
    expected[at] = 0xa2;
    expected
}

/// Keeps the writer from committing, as a disk that does not answer would.
fn hold_the_journal(folder: &Path) -> rusqlite::Connection {
    let journal = std::fs::read_dir(folder.join("data"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.extension().is_some_and(|extension| extension == "db") && name(path).starts_with("events-")
        })
        .expect("a journal");
    let connection = rusqlite::Connection::open(journal).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn stored(nereus: &Nereus) -> usize {
    nereus.json("/api/v1/events?limit=10000")["events"].as_array().unwrap().len()
}

#[test]
fn the_answer_follows_the_commit_and_retransmissions_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), "unmatched: store\n");
    let sender = Sender::new("127.0.0.1");
    let inform = trap::inform(1, "public");
    sender.send(&inform, nereus.traps);
    sender.must_be_answered(&inform, nereus.traps);
    assert_eq!(stored(&nereus), 1);

    // While nothing can be committed, nothing is answered; then each retransmission is, once.
    let held = hold_the_journal(folder.path());
    let inform = trap::inform(2, "public");
    for _ in 0..3 {
        sender.send(&inform, nereus.traps);
    }
    assert_eq!(sender.answer(SILENCE), None, "it is not on the disk");
    nereus.wait("all are read", |nereus| (nereus.metric("nereus_traps_received_total") == 4.0).then_some(()));
    drop(held);
    for _ in 0..3 {
        sender.must_be_answered(&inform, nereus.traps);
    }
    sender.send(&inform, nereus.traps);
    sender.must_be_answered(&inform, nereus.traps);
    assert_eq!(sender.answer(SILENCE), None, "no more than there were");
    assert_eq!(stored(&nereus), 2);
    assert_eq!(nereus.metric("nereus_events_deduplicated_total"), 3.0);
    assert_eq!(nereus.metric("nereus_events_stored_total"), 2.0);
    assert_eq!(nereus.metric("nereus_traps_processed_total"), 5.0);
    assert_eq!(nereus.metric("nereus_replies_total"), 5.0);
    assert!(nereus.stop().success());
}

#[test]
fn a_kill_between_receipt_and_commit_leaves_it_unanswered_and_the_retry_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), "unmatched: store\n");
    let traps = nereus.traps;
    let held = hold_the_journal(folder.path());
    let sender = Sender::new("127.0.0.1");
    let inform = trap::inform(1, "public");
    sender.send(&inform, traps);
    nereus.wait("it is accepted", |nereus| {
        (nereus.metric("nereus_traps_processed_total") == 1.0).then_some(())
    });
    nereus.kill();
    drop(held);
    assert_eq!(sender.answer(SILENCE), None);

    let nereus = Nereus::start(folder.path(), "unmatched: store\n");
    assert_eq!(stored(&nereus), 0);
    sender.send(&inform, nereus.traps);
    sender.must_be_answered(&inform, nereus.traps);
    assert_eq!(stored(&nereus), 1);
    assert!(nereus.stop().success());
}

#[test]
fn a_multihomed_host_answers_from_the_address_that_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "listener: [{address: '0.0.0.0:0', receivers: 2}, {address: '[::]:0', receivers: 1}]\n";
    let mut nereus = Nereus::start(folder.path(), settings);
    nereus.read_log();
    let listeners: Vec<SocketAddr> = nereus.json("/api/v1/status")["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| listener.as_str().or(listener["address"].as_str()).unwrap().parse().unwrap())
        .collect();
    for (number, (own, from)) in
        [("127.0.0.1", "127.0.0.1"), ("127.1.2.3", "127.0.0.1"), ("127.0.0.9", "127.9.9.9"), ("::1", "::1")]
            .into_iter()
            .enumerate()
    {
        let own: IpAddr = own.parse().unwrap();
        let port = listeners.iter().find(|listener| listener.is_ipv4() == own.is_ipv4()).unwrap().port();
        let inform = trap::inform(number as u32 + 1, "public");
        let sender = Sender::new(from);
        sender.send(&inform, (own, port).into());
        sender.must_be_answered(&inform, (own, port).into());
    }
    assert!(nereus.stop().success());
}

#[test]
fn who_may_not_send_hears_nothing_and_what_rules_drop_is_answered_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "
access: {communities: [public]}
unmatched: drop
rules: [{name: chatter, match: {trap: IF-MIB::linkDown}, drop: true}]
";
    let nereus = Nereus::start(folder.path(), settings);
    let held = hold_the_journal(folder.path());
    let sender = Sender::new("127.0.0.1");
    sender.send(&trap::inform(1, "secret"), nereus.traps);
    let inform = trap::inform(2, "public");
    sender.send(&inform, nereus.traps);
    // The first that comes back is that of the second.
    sender.must_be_answered(&inform, nereus.traps);
    assert_eq!(sender.answer(SILENCE), None);
    drop(held);
    let (_, text) = nereus.get("/metrics");
    for reason in ["rule", "bad_community"] {
        assert!(text.contains(&format!("nereus_traps_dropped_total{{reason=\"{reason}\"}} 1")), "{text}");
    }
    assert!(nereus.stop().success());
}

#[test]
fn send_waits_for_the_answer_and_tries_again() {
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), "access: {communities: [public]}\n");
    let to = nereus.traps.to_string();
    let send = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nereus"));
        command.args(["send", "--to", &to, "--inform"]).args(arguments).stdin(Stdio::null());
        command
    };
    let output = send(&["coldStart"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("answered after") && text.contains("tries: 1"), "{text}");
    assert_eq!(stored(&nereus), 1, "it is stored by then");

    let refused = ["--community", "wrong", "--timeout", "100ms", "--retries", "2", "--json", "coldStart"];
    let output = send(&refused).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["inform"]["answered"], &answer["inform"]["tries"]), (&false.into(), &3.into()));

    let held = hold_the_journal(folder.path());
    let patient = ["--timeout", "200ms", "--retries", "100", "--json", "warmStart"];
    let child = send(&patient).stdout(Stdio::piped()).spawn().unwrap();
    nereus.wait("it has tried twice", |nereus| {
        (nereus.metric("nereus_traps_received_total") >= 6.0).then_some(())
    });
    drop(held);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["inform"]["answered"], true);
    assert!(answer["inform"]["tries"].as_u64().unwrap() >= 2, "{answer}");
    assert_eq!(stored(&nereus), 2);
    assert!(nereus.stop().success());
}

#[test]
fn snmpinform_is_satisfied() {
    let Some(program) = peers::find(&["snmpinform"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), "");
    let run = |to: String, community: &str| {
        let mut command = Command::new(&program);
        command.args(["-v2c", "-c", community, "-m", "", "-t", "5", "-r", "2"]).arg(to);
        command.args(["", "1.3.6.1.6.3.1.1.5.3", "1.3.6.1.2.1.2.2.1.1.7", "i", "7"]);
        let output = command.env("SNMP_PERSISTENT_DIR", folder.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(format!("udp:{}", nereus.traps), "public");
    run(format!("udp:{}", nereus.traps), "private");
    let events = nereus.json("/api/v1/events")["events"].clone();
    assert_eq!(events.as_array().unwrap().len(), 2, "{events}");
    assert_eq!(events[0]["trap_name"], "IF-MIB::linkDown");
    assert_eq!(nereus.json("/api/v1/alerts")["alerts"].as_array().unwrap().len(), 1);

    // It tries again while the disk does not answer, and is satisfied by the one commit.
    let held = hold_the_journal(folder.path());
    let mut child = Command::new(&program)
        .args(["-v2c", "-c", "public", "-m", "", "-t", "1", "-r", "20"])
        .args([&format!("udp:{}", nereus.traps), "", "1.3.6.1.6.3.1.1.5.1"])
        .env("SNMP_PERSISTENT_DIR", folder.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    nereus.wait("it has tried twice", |nereus| {
        (nereus.metric("nereus_traps_received_total") >= 4.0).then_some(())
    });
    assert_eq!(child.try_wait().unwrap(), None);
    drop(held);
    assert!(child.wait().unwrap().success());
    assert_eq!(stored(&nereus), 3);
    assert!(nereus.metric("nereus_events_deduplicated_total") >= 1.0);
    assert!(nereus.stop().success());
}

/// The listeners alone, so that the test is the rest of Nereus.
#[test]
fn what_was_held_or_found_no_room_or_was_stopped_is_not_answered() {
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener { address, receivers: Some(1), receive_buffer: 1 << 20, ..Listener::default() };
    let settings = nereus::config::Settings { listeners: Arc::new([listener.clone()]), ..Default::default() };
    let publisher =
        Publisher::new(snapshot::build(settings, nereus::mib::Mib::builtin(), None).unwrap(), 1).unwrap();
    let metrics = Arc::new(Metrics::new());
    let listeners = Listeners::bind(&[listener]).unwrap();
    listeners.hold(&metrics).unwrap();
    let to = listeners.addresses()[0];
    let sender = Sender::new("127.0.0.1");
    let dropped = |reason: &str| metrics.traps_dropped.with_label_values(&[reason]).get();
    let until = |what: &str, done: &dyn Fn() -> bool| peers::until(what, done);

    sender.send(&trap::inform(1, "public"), to);
    assert_eq!(sender.answer(SILENCE), None, "it is only held");
    // Room for one event, past which nothing fits.
    let handoff = Arc::new(Queue::new(1));
    listeners
        .start(Wiring {
            snapshot: publisher.handle(),
            handoff: Arc::clone(&handoff),
            metrics: Arc::clone(&metrics),
            samples: Arc::new(Samples::default()),
            usm: Arc::new(Usm::unkept(&metrics)),
            refusals: Arc::default(),
        })
        .unwrap();
    let mut taken = Vec::new();
    while !taken.iter().any(|handed| matches!(handed, Handed::Generation { .. })) {
        handoff.take_all(&mut taken, PATIENCE);
    }
    taken.clear();
    until("it is in the queue", &|| metrics.traps_processed.get() == 1);
    sender.send(&trap::inform(2, "public"), to);
    until("it has found no room", &|| dropped("handoff_full") == 1);
    // A retransmission of the first waits with it.
    sender.send(&trap::inform(1, "public"), to);
    until("it is read", &|| metrics.traps_processed.get() == 2);
    assert_eq!(sender.answer(SILENCE), None);

    handoff.take_all(&mut taken, Duration::ZERO);
    let answer = taken.drain(..).find_map(|handed| match handed {
        Handed::Event(event) => event.answer,
        _ => None,
    });
    answer.unwrap().send();
    for _ in 0..2 {
        sender.must_be_answered(&trap::inform(1, "public"), to);
    }
    assert_eq!(metrics.events_deduplicated.get(), 1);
    // What found no room is new when it comes again; and what is dropped on the way is not answered.
    sender.send(&trap::inform(2, "public"), to);
    sender.send(&trap::inform(2, "public"), to);
    until("they are read", &|| metrics.traps_processed.get() == 4);
    listeners.stop();
    handoff.take_all(&mut taken, Duration::ZERO);
    taken.clear();
    assert_eq!(dropped("stopped"), 1, "the retransmission goes with its inform");
    assert_eq!(sender.answer(SILENCE), None);
}

/// The `part`th of a hundred, from the fastest.
fn percentile(times: &mut [Duration], part: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * part / 100).min(times.len() - 1)]
}

/// An idle collector answers within the disk's own time for a sync and 5 ms. `NEREUS_LATENCY=COUNT` makes it a longer
/// run that has to keep that promise: docs/performance-load.md has the command.
#[test]
#[allow(clippy::print_stderr, reason = "what is measured is said")]
fn an_idle_collector_answers_as_soon_as_the_disk_allows() {
    use std::io::Write;
    use std::time::Instant;

    let long = std::env::var("NEREUS_LATENCY").ok();
    let count: u32 = long.as_deref().unwrap_or("20").parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), "unmatched: store\n");
    let sender = Sender::new("127.0.0.1");
    let mut file = std::fs::File::create(folder.path().join("probe")).unwrap();
    let (mut syncs, mut answers) = (Vec::new(), Vec::new());
    for number in 1..=count {
        // One of each in turn, so that both meet the same disk.
        file.write_all(&[7; 8_192]).unwrap();
        let begun = Instant::now();
        file.sync_data().unwrap();
        syncs.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(10));
        let inform = trap::inform(number, "public");
        let begun = Instant::now();
        sender.send(&inform, nereus.traps);
        sender.must_be_answered(&inform, nereus.traps);
        answers.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    let [sync, answer] = [&mut syncs, &mut answers].map(|times| [50, 99].map(|part| percentile(times, part)));
    eprintln!(
        "{count} informs: fdatasync p50 {:?}, p99 {:?}; answer p50 {:?}, p99 {:?}",
        sync[0], sync[1], answer[0], answer[1]
    );
    if long.is_some() {
        assert!(answer[1] <= sync[1] + Duration::from_millis(5));
    }
    assert!(nereus.stop().success());
}
