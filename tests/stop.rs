//! A stop ends in time, whatever the world around goes on with.

#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nereus::oid::OidRef;
use nereus::value::Value;
use nereus::wire::{Kind, V2Notification, encode_v2c};
use program::Nereus;

/// Peers that never pause are cut off once what had arrived has had its time.
#[test]
fn peers_that_go_on_sending_hold_up_no_stop() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "
listener: [{address: '127.0.0.1:0', receivers: 1}, {address: 'tcp://127.0.0.1:0'}]
unmatched: store
rules: [{name: all, drop: true}]
";
    let nereus = Nereus::start(folder.path(), settings);
    let status = nereus.json("/api/v1/status");
    let address = status["listeners"][1].as_str().unwrap().strip_prefix("tcp://").unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let many: Vec<u8> = (1..=1000).flat_map(|number| trap::link_down(number, "public")).collect();
    let peers: Vec<_> = (0..3)
        .map(|_| {
            let (mut stream, many) = (TcpStream::connect(address).unwrap(), many.clone());
            thread::spawn(move || while stream.write_all(&many).is_ok() {})
        })
        .collect();
    nereus.wait("they send", |nereus| (nereus.metric("nereus_traps_received_total") > 5_000.0).then_some(()));
    assert!(peers.iter().all(|peer| !peer.is_finished()));
    // Which fails if it takes too long.
    assert!(nereus.stop().success());
    peers.into_iter().for_each(|peer| peer.join().unwrap());
}

/// A notification of 60,000 octets.
fn large(notification: &[u32]) -> Vec<u8> {
    let text = vec![b'x'; 60_000];
    let notification = V2Notification {
        community: b"public",
        kind: Kind::Trap,
        request_id: 1,
        uptime: 1,
        trap_oid: OidRef(notification),
        varbinds: &[(OidRef(&[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18, 1]), Value::Octets(&text))],
    };
    let mut out = Vec::new();
    encode_v2c(&notification, &mut out).unwrap();
    out
}

const COLD_START: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 5, 1];
const LINK_DOWN: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 5, 3];
/// So many coldStarts are more than the files may hold.
const COLD_STARTS: u32 = 300;
/// One linkDown has a row, the others are counted.
const SETTINGS: &str = "
unmatched: store
rules: [{name: all, match: {trap: linkDown}, alert: Any, key: [source], deduplicate: 1h, history: first}]
";

/// A Nereus whose disk is full, so that every queue is full up to the receivers. With it how many linkDowns it has
/// taken.
fn full(folder: &Path) -> (Nereus, f64) {
    let file = Nereus::configure(folder, SETTINGS);
    // No file may become longer than some megabytes, and nobody is killed for trying.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 8192; exec \"$0\" run -c \"$1\""]);
    command.arg(env!("CARGO_BIN_EXE_nereus")).arg(file);
    let nereus = Nereus::run_command(folder, command);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let cold = large(COLD_START);
    for number in 1..=COLD_STARTS {
        sender.send_to(&cold, nereus.traps).unwrap();
        if number % 50 == 0 {
            nereus.wait("they are taken", |nereus| {
                (nereus.metric("nereus_traps_processed_total") == f64::from(number)).then_some(())
            });
        }
    }
    let down = large(LINK_DOWN);
    nereus.wait("the queues are full", |nereus| {
        for _ in 0..50 {
            sender.send_to(&down, nereus.traps).unwrap();
        }
        (nereus.metric("nereus_traps_dropped_total") > 0.0).then_some(())
    });
    let taken = nereus.wait("what was received is decided", |nereus| {
        let of = |name: &str| nereus.metric(&format!("nereus_traps_{name}_total"));
        let (processed, dropped, received) = (of("processed"), of("dropped"), of("received"));
        (processed + dropped == received).then_some(processed)
    });
    assert!(nereus.metric("nereus_storage_errors_total") > 0.0, "it is the disk");
    (nereus, taken - f64::from(COLD_STARTS))
}

#[test]
fn a_full_disk_and_full_queues_hold_up_no_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (nereus, _) = full(folder.path());
    // Which fails if it takes too long.
    assert!(nereus.stop().success());
}

/// The writer ends last: whatever still lies before it at a stop comes to the disk.
#[test]
fn a_disk_that_has_room_again_loses_nothing_at_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (nereus, taken) = full(folder.path());
    let pid = nereus.pid().to_string();
    let room = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        let status = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status();
        assert!(status.unwrap().success());
    });
    assert!(nereus.stop().success());
    room.join().unwrap();
    let nereus = Nereus::start(folder.path(), SETTINGS);
    let alerts = nereus.json("/api/v1/alerts")["alerts"].as_array().unwrap().clone();
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["count"].as_f64(), Some(taken), "each is counted on its alert");
}
