//! Forged SNMPv3 under load, at the built program: it costs no derivation, no memory and no valid trap.
//! The long run and its figures stand in docs/performance-load.md.
#![allow(clippy::print_stderr, reason = "what is measured is said")]

#[path = "common/nereus.rs"]
mod program;
#[path = "common/v3.rs"]
mod v3;

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nereus::security::{AuthProtocol, PrivacyProtocol};
use program::{Nereus, metric_sum};

const SETTINGS: &str = "
unmatched: store
access:
  users:
    - name: ops
      auth: {protocol: sha256, passphrase: authentication}
      privacy: {protocol: aes128, passphrase: confidential}
";
/// How many devices send what is valid.
const DEVICES: usize = 10;

fn device(number: usize, phrase: &str) -> v3::Sender {
    let engine = [0x80, 0, 0x1f, 0x88, 4, u8::try_from(number).unwrap(), 1, 2, 3];
    let auth = Some((AuthProtocol::Sha256, phrase));
    v3::Sender::new(&engine, "ops", auth, Some((PrivacyProtocol::Aes128, "confidential")))
}

/// Calls `send` with 0, 1, 2 … at this rate for so long, in batches of a millisecond; gives how many there were.
fn pace(rate: u64, duration: Duration, mut send: impl FnMut(u64)) -> u64 {
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < duration {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        (sent..due).for_each(&mut send);
        sent = due.max(sent);
        thread::sleep(Duration::from_millis(1));
    }
    sent
}

fn resident(nereus: &Nereus) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", nereus.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `NEREUS_FORGED="RATE SECONDS"` makes it a longer one: docs/performance-load.md has the command.
#[test]
fn forged_messages_cost_no_memory_and_no_valid_trap() {
    let long = std::env::var("NEREUS_FORGED").ok();
    let (rate, seconds) = long.as_deref().unwrap_or("5000 2").split_once(' ').expect("RATE SECONDS");
    let (rate, duration) = (rate.parse().unwrap(), Duration::from_secs(seconds.parse().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let nereus = Nereus::start(folder.path(), SETTINGS);
    let to: SocketAddr = nereus.traps;

    let valid: Vec<Vec<u8>> =
        (0..DEVICES).map(|number| device(number, "authentication").link_down(7)).collect();
    let known = UdpSocket::bind("127.0.0.1:0").unwrap();
    for octets in &valid {
        known.send_to(octets, to).unwrap();
    }
    let sum = |name: &str| metric_sum(&nereus.get("/metrics").1, name) as u64;
    nereus.wait("every device is known", |_| {
        (sum("nereus_events_stored_total") == DEVICES as u64).then_some(())
    });
    let before = resident(&nereus);

    let mut forged = device(0, "another passphrase").link_down(7);
    let engine = forged.windows(9).position(|window| window == [0x80, 0, 0x1f, 0x88, 4, 0, 1, 2, 3]).unwrap();
    let (forgeries, valids) = thread::scope(|scope| {
        let forger = scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.9:0").unwrap();
            // Engine IDs that nobody has had before, as random as a multiplication makes them.
            pace(rate, duration, |number| {
                let made_up = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                forged[engine + 5..engine + 9].copy_from_slice(&made_up[..4]);
                socket.send_to(&forged, to).unwrap();
            })
        });
        let valids = pace(1_000, duration, |number| {
            known.send_to(&valid[number as usize % DEVICES], to).unwrap();
        });
        (forger.join().unwrap(), valids)
    });
    let sent = forgeries + valids + DEVICES as u64;
    let (stored, dropped, kernel) = nereus.wait("every datagram is accounted for", |_| {
        let [stored, dropped, kernel] =
            ["nereus_events_stored_total", "nereus_traps_dropped_total", "nereus_kernel_drops_total"]
                .map(sum);
        (stored + dropped + kernel == sent).then_some((stored, dropped, kernel))
    });
    let (after, engines) = (resident(&nereus), sum("nereus_usm_engines"));
    eprintln!(
        "{forgeries} forged and {valids} valid in {duration:?}: stored {stored}, refused {dropped}, kernel drops {kernel}; \
         {engines} engines; resident {before} KiB before, {after} KiB after"
    );
    let wrong = format!("nereus_traps_dropped_total{{reason=\"wrong_digests\"}} {dropped}\n");
    assert!(nereus.get("/metrics").1.contains(&wrong), "each one for its digest");
    assert_eq!(engines, DEVICES as u64, "none that was made up is remembered");
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    if long.is_some() || kernel == 0 {
        let taken = stored - DEVICES as u64;
        assert!(taken * 1_000 >= valids * 999, "{taken} of {valids} valid ones");
    }
    assert!(nereus.stop().success());
}
