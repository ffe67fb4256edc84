//! A stop ends in time, whatever the world around goes on with.

#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

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

/// A linkDown of 60,000 octets.
fn large() -> Vec<u8> {
    let text = vec![b'x'; 60_000];
    let notification = V2Notification {
        community: b"public",
        kind: Kind::Trap,
        request_id: 1,
        uptime: 1,
        trap_oid: OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]),
        varbinds: &[(OidRef(&[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18, 1]), Value::Octets(&text))],
    };
    let mut out = Vec::new();
    encode_v2c(&notification, &mut out).unwrap();
    out
}

/// Every queue is full up to the receivers, and the writer cannot empty them any more.
#[test]
fn a_full_disk_and_full_queues_hold_up_no_stop() {
    let folder = tempfile::tempdir().unwrap();
    let file = Nereus::configure(folder.path(), "unmatched: store\n");
    // No file may become longer than some megabytes, and nobody is killed for trying.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" run -c \"$1\""]);
    command.arg(env!("CARGO_BIN_EXE_nereus")).arg(file);
    let nereus = Nereus::run_command(folder.path(), command);
    let (sender, octets) = (UdpSocket::bind("127.0.0.1:0").unwrap(), large());
    nereus.wait("the queues are full", |nereus| {
        for _ in 0..50 {
            sender.send_to(&octets, nereus.traps).unwrap();
        }
        let (_, metrics) = nereus.get("/metrics");
        let full = "nereus_traps_dropped_total{reason=\"handoff_full\"} ";
        let dropped = metrics.lines().find_map(|line| line.strip_prefix(full));
        dropped.is_some_and(|number| number != "0").then_some(())
    });
    assert!(nereus.metric("nereus_storage_errors_total") > 0.0, "it is the disk");
    // Which fails if it takes too long.
    assert!(nereus.stop().success());
}
