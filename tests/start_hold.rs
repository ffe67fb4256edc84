//! What comes in before there is a generation is held, decided on in its order, and counted where it is too much.

#[path = "common/trap.rs"]
mod trap;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nereus::config::settings::Listener;
use nereus::event::{Handed, Queue, Timestamp};
use nereus::metrics::Metrics;
use nereus::pipeline::{Listeners, Samples, Usm, Wiring};
use nereus::snapshot::{self, Publisher};

struct Bed {
    listeners: Listeners,
    publisher: Publisher,
    metrics: Arc<Metrics>,
    handoff: Arc<Queue<Handed>>,
    sender: UdpSocket,
}

impl Bed {
    /// Bound and holding, with next to no room in the kernel and `handoff` octets behind.
    fn new(receive_buffer: u64, handoff: usize) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener { address, receivers: Some(1), receive_buffer, ..Listener::default() };
        let settings =
            nereus::config::Settings { listeners: Arc::new([listener.clone()]), ..Default::default() };
        let candidate = snapshot::build(settings, nereus::mib::Mib::builtin(), None).unwrap();
        let metrics = Arc::new(Metrics::new());
        let listeners = Listeners::bind(&[listener]).unwrap();
        listeners.hold(&metrics).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(listeners.addresses()[0]).unwrap();
        let publisher = Publisher::new(candidate, 1).unwrap();
        Self { listeners, publisher, metrics, handoff: Arc::new(Queue::new(handoff)), sender }
    }

    fn start(&self) {
        let wiring = Wiring {
            snapshot: self.publisher.handle(),
            handoff: Arc::clone(&self.handoff),
            metrics: Arc::clone(&self.metrics),
            samples: Arc::new(Samples::default()),
            usm: Arc::new(Usm::unkept(&self.metrics)),
            refusals: Arc::default(),
        };
        self.listeners.start(wiring).unwrap();
    }

    fn received(&self) -> u64 {
        let of = |version| self.metrics.traps_received.with_label_values(&[version]).get();
        ["v1", "v2c", "v3", "unknown"].into_iter().map(of).sum()
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.metrics.traps_dropped.with_label_values(&[reason]).get()
    }

    fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn what_was_held_is_decided_on_in_its_order_with_its_time() {
    const SENT: u64 = 5_000;
    // The queue behind takes a part at a time: what was held waits for room and is not dropped.
    let bed = Bed::new(64 << 10, 64 << 10);
    for interface in 1..=SENT {
        bed.sender.send(&trap::link_down(interface as u32, "public")).unwrap();
        if interface % 20 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(bed.received(), 0, "nothing is decided on yet");
    let before = Timestamp::now();
    bed.start();
    let mut interfaces = Vec::new();
    let mut taken = Vec::new();
    let mut early = 0;
    bed.until("all of it comes", |bed| {
        bed.handoff.take_all(&mut taken, Duration::from_millis(20));
        for handed in taken.drain(..) {
            if let Handed::Event(event) = handed {
                early += u64::from(event.time < before);
                interfaces.push(event.datagram.to_vec());
            }
        }
        interfaces.len() as u64 + bed.listeners.count_kernel_drops(&bed.metrics) >= SENT
    });
    let drops = bed.listeners.count_kernel_drops(&bed.metrics);
    assert_eq!(interfaces.len() as u64 + drops, SENT);
    assert_eq!((bed.received(), bed.dropped("handoff_full"), bed.dropped("hold_full")), (SENT - drops, 0, 0));
    // More than the kernel had room for was held, under the time at which it came.
    assert!(early > 1_000, "{early}");
    let sent: Vec<Vec<u8>> = (1..=SENT).map(|n| trap::link_down(n as u32, "public").to_vec()).collect();
    let mut rest = sent.iter();
    assert!(interfaces.iter().all(|got| rest.any(|sent| sent == got)), "in the order in which it was sent");
    // And live ones go on.
    bed.sender.send(&trap::link_down(9, "public")).unwrap();
    bed.until("a live one comes", |bed| {
        bed.handoff.take_all(&mut taken, Duration::from_millis(20));
        taken.drain(..).any(|handed| matches!(handed, Handed::Event(_)))
    });
    bed.listeners.stop();
}

#[test]
fn what_is_too_much_is_counted() {
    let bed = Bed::new(8 << 20, 1 << 20);
    let mut sent = 0;
    let large = [0xff; 60_000];
    bed.until("there is no more room", |bed| {
        for _ in 0..20 {
            bed.sender.send(&large).unwrap();
            sent += 1;
        }
        bed.dropped("hold_full") > 0
    });
    bed.start();
    bed.until("what was held is decided on", |bed| {
        bed.received() + bed.listeners.count_kernel_drops(&bed.metrics) == sent
    });
    let dropped: u64 =
        nereus::metrics::DropReason::ALL.iter().map(|reason| bed.dropped(reason.as_str())).sum();
    assert_eq!(dropped, bed.received(), "junk is refused, the rest had no room");
    assert!(bed.dropped("hold_full") < dropped);
    bed.listeners.stop();
}

#[test]
fn a_start_that_comes_to_nothing_ends_the_holding() {
    let bed = Bed::new(64 << 10, 1 << 20);
    bed.sender.send(&trap::link_down(1, "public")).unwrap();
    bed.listeners.stop();
    assert!(bed.listeners.addresses().is_empty());
}

#[test]
fn the_admin_address_tells_that_it_is_starting() {
    use std::io::{Read, Write};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = nereus::admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let served = runtime.spawn(nereus::admin::serve_starting(listener, Arc::default(), stopped));
    let get = |path: &str, host: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(get("/health", "localhost").starts_with("HTTP/1.1 200"));
    for path in ["/ready", "/api/v1/status", "/metrics"] {
        let answer = get(path, "localhost");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(r#""phase":"compiling""#), "{answer}");
    }
    assert!(
        get("/ready", "elsewhere.example").starts_with("HTTP/1.1 421")
            || !get("/ready", "elsewhere.example").contains("503")
    );
    stop.send_replace(true);
    runtime.block_on(served).unwrap().unwrap();
}
