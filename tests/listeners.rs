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
use nereus::snapshot::{self, ComponentReloader, Publisher};

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

/// The drops that a reload's receipt shows are those of its time, whatever address comes or goes with it.
#[test]
fn kernel_drops_neither_fall_nor_jump_when_an_address_comes_or_goes() {
    let listener = |address: &str| Listener {
        address: address.parse().unwrap(),
        receivers: Some(1),
        receive_buffer: 4 << 10,
        ..Listener::default()
    };
    let candidate = |listeners: &[Listener]| {
        let settings = nereus::config::Settings { listeners: listeners.into(), ..Default::default() };
        snapshot::build(settings, nereus::mib::Mib::builtin(), None).unwrap()
    };
    // A second address that nobody else takes meanwhile.
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (stays, goes) = (listener("127.0.0.1:0"), listener(&free));
    let both = [stays.clone(), goes.clone()];
    let mut publisher = Publisher::new(candidate(&both), 1).unwrap();
    let metrics = Arc::new(Metrics::new());
    let listeners = Arc::new(Listeners::bind(&both).unwrap());

    // Nobody reads yet.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for interface in 1..=1_000 {
        sender.send_to(&trap::link_down(interface, "public"), &free).unwrap();
    }
    let dropped = listeners.status()[1].kernel_drops.unwrap();
    assert!(dropped > 500);
    listeners
        .start(Wiring {
            snapshot: publisher.handle(),
            handoff: Arc::new(Queue::new(1 << 30)),
            metrics: Arc::clone(&metrics),
            samples: Arc::new(Samples::default()),
            usm: Arc::new(Usm::unkept(&metrics)),
            refusals: Arc::default(),
        })
        .unwrap();
    // A reload's way, without the others.
    let mut reload = |to: &[Listener]| {
        let staged = publisher.stage(candidate(to));
        let prepared = listeners.prepare(publisher.current(), staged.snapshot()).unwrap().unwrap();
        publisher.publish_staged(staged);
        prepared.commit();
        listeners.count_kernel_drops(&metrics)
    };
    // Nothing was counted before this: it is counted though the address goes.
    assert_eq!(reload(std::slice::from_ref(&stays)), dropped);
    let gone = || UdpSocket::bind(&free).map(drop);
    let end = Instant::now() + Duration::from_secs(30);
    while gone().is_err() {
        assert!(Instant::now() < end, "the address is not given back");
        thread::sleep(Duration::from_millis(5));
    }
    // It comes again: its former drops are none of this reload.
    assert_eq!(reload(&both), dropped);
    let of_it = metrics.kernel_drops.with_label_values(&[&free]);
    assert_eq!(of_it.get(), dropped);
    listeners.stop();
}
