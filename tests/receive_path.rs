//! The receive path: order by source, and what a datagram costs that no rule wants.

#![allow(unsafe_code, reason = "a counting allocator implements an unsafe trait")]
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

#[path = "common/peers.rs"]
mod peers;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nereus::config::Settings;
use nereus::config::settings::{Listener, Unmatched};
use nereus::event::{Handed, Queue};
use nereus::metrics::Metrics;
use nereus::pipeline::{Listeners, Samples, Usm, Wiring};
use nereus::snapshot::{self, Publisher};
use parking_lot::{Mutex, MutexGuard};

/// Counts what threads named `receiver-…` ask for.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

/// Asks the system for the thread's name, since the standard library's own answer may allocate.
fn is_receiver() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: the buffer is as long as a thread's name can be, and alive for the call.
    let done = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    done == 0 && name.starts_with(b"receiver-")
}

fn count() {
    if is_receiver() {
        ASKED.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting is a system call and an atomic addition.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `pointer` came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Receivers of tests that run at the same time would count for each other.
static ONE: Mutex<()> = Mutex::new(());

struct Bed {
    _alone: MutexGuard<'static, ()>,
    listeners: Listeners,
    handoff: Arc<Queue<Handed>>,
    metrics: Arc<Metrics>,
    /// Its name is what receivers read.
    _publisher: Publisher,
    to: SocketAddr,
}

impl Bed {
    fn start(receivers: u16, unmatched: Unmatched) -> Self {
        let alone = ONE.lock();
        let listener = Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            receivers: Some(receivers),
            receive_buffer: 64 << 20,
            ..Listener::default()
        };
        let settings = Settings { listeners: Arc::new([listener.clone()]), unmatched, ..Settings::default() };
        let candidate = snapshot::build(settings, nereus::mib::Mib::builtin(), None).unwrap();
        let publisher = Publisher::new(candidate, 1).unwrap();
        let metrics = Arc::new(Metrics::new());
        let handoff = Arc::new(Queue::new(1 << 30));
        let listeners = Listeners::bind(&[listener]).unwrap();
        let to = listeners.addresses()[0];
        let wiring = Wiring {
            snapshot: publisher.handle(),
            handoff: Arc::clone(&handoff),
            metrics: Arc::clone(&metrics),
            samples: Arc::new(Samples::default()),
            usm: Arc::new(Usm::unkept(&metrics)),
            refusals: Arc::default(),
        };
        listeners.start(wiring).unwrap();
        Self { _alone: alone, listeners, handoff, metrics, _publisher: publisher, to }
    }

    fn received(&self) -> u64 {
        let of = |version| self.metrics.traps_received.with_label_values(&[version]).get();
        ["v1", "v2c", "v3", "unknown"].into_iter().map(of).sum()
    }

    fn until_received(&self, number: u64) {
        let begun = Instant::now();
        while self.received() + self.listeners.count_kernel_drops(&self.metrics) < number {
            assert!(begun.elapsed() < program::PATIENCE, "{} of {number}", self.received());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn link_down_and_link_up_of_one_device_are_never_inverted() {
    const PAIRS: u32 = 20_000;
    let bed = Bed::start(2, Unmatched::Store);
    // Loopback has a backlog for each processor: a sender that moves between the two lets the kernel itself invert them.
    let mut here = rustix::thread::CpuSet::new();
    here.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &here).unwrap();
    for pair in 1..=PAIRS {
        // Each from a port of its own: by ports the two would go to either receiver.
        for datagram in [trap::link_down(pair, "public"), trap::link_up(pair, "public")] {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&datagram, bed.to).unwrap();
        }
        if pair % 1000 == 0 {
            bed.until_received(2 * u64::from(pair));
        }
    }
    assert_eq!(bed.listeners.count_kernel_drops(&bed.metrics), 0, "the sender waited for the receivers");
    bed.listeners.stop();
    bed.handoff.close();
    let (mut place, mut next, mut batch) = (HashMap::new(), 0u32, Vec::new());
    while bed.handoff.take_all(&mut batch, Duration::ZERO) {
        for handed in batch.drain(..) {
            if let Handed::Event(event) = handed {
                place.insert(event.datagram, next);
                next += 1;
            }
        }
    }
    assert_eq!(next, 2 * PAIRS);
    let inverted = (1..=PAIRS)
        .filter(|&pair| place[&*trap::link_down(pair, "public")] > place[&*trap::link_up(pair, "public")])
        .count();
    assert_eq!(inverted, 0);
}

#[test]
fn what_no_rule_wants_costs_its_receiver_no_memory() {
    let bed = Bed::start(1, Unmatched::Drop);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let trap = trap::link_down(1, "public");
    let inform = trap::inform(1, "public");
    let send = |number: u64| {
        for _ in 0..number / 2 {
            sender.send_to(&trap, bed.to).unwrap();
            // It is answered, and that costs no memory either.
            sender.send_to(&inform, bed.to).unwrap();
        }
    };
    // Buffers grow to their sizes; the ring of samples is full of datagrams as large as these.
    send(20_000);
    bed.until_received(20_000);
    let (before, asked) = (bed.received(), ASKED.load(Ordering::Relaxed));
    send(20_000);
    bed.until_received(40_000);
    let (received, asked) = (bed.received() - before, ASKED.load(Ordering::Relaxed) - asked);
    assert!(received > 1_000, "{received}");
    assert_eq!(bed.metrics.traps_processed.get(), 0);
    // The way back of an inform is a handle on the socket: counted, not copied.
    assert_eq!(asked, 0, "for {received} datagrams");
    bed.listeners.stop();
}

/// The system calls of threads by their names, from `strace -f -o`.
fn system_calls(log: &Path, thread_of: impl Fn(&str) -> bool) -> HashMap<String, u64> {
    let text = std::fs::read_to_string(log).unwrap();
    let mut calls = HashMap::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        // The second half of a call that another thread's line came between.
        if call.starts_with("<...") || !thread_of(thread) {
            continue;
        }
        if let Some((name, _)) = call.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

#[test]
fn a_batch_costs_one_system_call_and_its_datagrams_none() {
    const SENT: u64 = 20_000;
    let Some(strace) = peers::find_tool(&["strace"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = "listener: [{address: '127.0.0.1:0', receivers: 1}]\nunmatched: drop\n";
    let nereus = program::Nereus::start(folder.path(), settings);
    let task = format!("/proc/{}/task", nereus.pid());
    let receiver = std::fs::read_dir(task)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read_to_string(path.join("comm")).unwrap().starts_with("receiver-"))
        .and_then(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .unwrap();
    let log = folder.path().join("calls");
    let mut tracer = Command::new(strace)
        .args(["-f", "-qq", "-o"])
        .arg(&log)
        .args(["-p", &receiver])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Once it traces, the receiver's ticks are in the log.
    let attached = Instant::now();
    while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
        if tracer.try_wait().unwrap().is_some() {
            eprintln!("skipped: strace may not trace here");
            return;
        }
        assert!(attached.elapsed() < program::PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = trap::link_down(1, "public");
    for _ in 0..SENT {
        sender.send_to(&datagram, nereus.traps).unwrap();
    }
    let done = nereus.wait("all are counted", |nereus| {
        let received = nereus.metric("nereus_traps_received_total");
        (received + nereus.metric("nereus_kernel_drops_total") == SENT as f64).then_some(received)
    });
    program::signal(tracer.id(), "INT");
    tracer.wait().unwrap();
    let calls = system_calls(&log, |thread| thread == receiver);
    let batches = calls.get("recvmmsg").copied().unwrap_or(0);
    let others: u64 = calls.iter().filter(|(name, _)| *name != "recvmmsg").map(|(_, number)| number).sum();
    // Full batches are 64; the ones of a sender that is slower than the receiver are smaller.
    assert!(batches > 0 && (batches as f64) < done, "{calls:?}");
    // A thread's first memory and first random numbers, once; neither one a batch nor one a datagram.
    assert!(others <= 16 && others < batches, "{calls:?} for {done} datagrams");
    assert!(nereus.stop().success());
}

#[test]
fn the_status_tells_what_the_kernel_granted() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "listener: [{address: '127.0.0.1:0', receivers: 2, receive_buffer: 64KiB}]\n";
    let nereus = program::Nereus::start(folder.path(), settings);
    let status = nereus.json("/api/v1/status");
    let address = nereus.traps.to_string();
    // So little is granted to anyone.
    assert_eq!(status["receive_buffer"][&address], 64 << 10, "{status}");
    assert_eq!(status["kernel_drops"][&address], 0);
    assert_eq!(nereus.metric("nereus_receive_buffer_bytes"), f64::from(64 << 10));
    assert!(nereus.stop().success());
}

/// Sources of a device network, so that receivers share the work.
#[test]
fn many_sources_spread_over_the_receivers() {
    let bed = Bed::start(2, Unmatched::Store);
    for device in 1..=64u8 {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 5, device), 0)).unwrap();
        socket.send_to(&trap::link_down(device.into(), "public"), bed.to).unwrap();
    }
    bed.until_received(64);
    let status = bed.listeners.status();
    assert_eq!((status.len(), status[0].kernel_drops), (1, Some(0)));
    bed.listeners.stop();
    assert_eq!(bed.metrics.traps_processed.get(), 64);
}

#[test]
fn receivers_run_where_the_settings_want_them() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "listener: [{address: '127.0.0.1:0', receivers: 2, cores: [0]}, {address: 'tcp://127.0.0.1:0', cores: 1023}]\n";
    let mut nereus = program::Nereus::start(folder.path(), settings);
    let pinned = |nereus: &program::Nereus| {
        std::fs::read_dir(format!("/proc/{}/task", nereus.pid()))
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok())
            .filter(|status| status.contains("Cpus_allowed_list:\t0\n"))
            .map(|status| status.lines().next().unwrap().replace("Name:\t", ""))
            .collect::<Vec<_>>()
    };
    // On a machine of one processor everything is.
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        let mut names =
            nereus.wait("they are", |nereus| Some(pinned(nereus)).filter(|names| names.len() == 2));
        names.sort_unstable();
        assert_eq!(names, ["receiver-0", "receiver-1"]);
    }
    assert!(
        nereus.log.iter().any(|line| line.contains("cannot be pinned to its processor")) || {
            nereus.wait_for_log("A receiver cannot be pinned to its processor");
            true
        }
    );
    assert!(nereus.stop().success());
}
