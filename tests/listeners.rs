//! The listeners by themselves: what had arrived is handed over, whatever comes after.

#[path = "common/trap.rs"]
mod trap;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nereus::config::settings::Listener;
use nereus::event::{Handed, Queue};
use nereus::metrics::Metrics;
use nereus::pipeline::{Listeners, Samples, Usm, Wiring};
use nereus::snapshot::{self, Publisher};

#[test]
fn a_stop_takes_what_had_arrived_and_ends_though_senders_never_pause() {
    let listener = Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        receivers: Some(2),
        receive_buffer: 64 << 20,
        ..Listener::default()
    };
    // The Snapshot knows the listener by the address that the settings have.
    let settings = nereus::config::Settings { listeners: Arc::new([listener.clone()]), ..Default::default() };
    let candidate = snapshot::build(settings, nereus::mib::Mib::builtin(), None).unwrap();
    let publisher = Publisher::new(candidate, 1).unwrap();
    let metrics = Arc::new(Metrics::new());
    let handoff = Arc::new(Queue::new(1 << 30));
    let listeners = Listeners::bind(&[listener]).unwrap();
    let to = listeners.addresses()[0];

    // As much as the kernel takes while nobody reads; it says what it did not take.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for interface in 1..=40_000 {
        sender.send_to(&trap::link_down(interface, "public"), to).unwrap();
    }
    let waiting = 40_000 - listeners.count_kernel_drops(&metrics);
    assert!(waiting > 50);

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
    let flood = Arc::new(AtomicBool::new(true));
    let flooding = Arc::clone(&flood);
    let flooder = thread::spawn(move || {
        let datagram = trap::link_down(1_000_000, "public");
        while flooding.load(Ordering::Relaxed) {
            let _ = sender.send_to(&datagram, to);
        }
    });
    let began = Instant::now();
    listeners.stop();
    assert!(began.elapsed() < Duration::from_secs(9), "it ended since the sockets were empty");
    flood.store(false, Ordering::Relaxed);
    flooder.join().unwrap();

    handoff.close();
    let (mut taken, mut batch) = (0, Vec::new());
    while handoff.take_all(&mut batch, Duration::ZERO) {
        for entry in batch.drain(..) {
            if let Handed::Event(event) = entry
                && !event.datagram.windows(3).any(|octets| octets == [0x0f, 0x42, 0x40])
            {
                taken += 1;
            }
        }
    }
    assert_eq!(taken, waiting, "each one that the kernel had taken");
}
