//! What the correlator allocates: nothing of its own for a silent repeat, little for an open alert, and
//! everything back once alerts have ended. One test, since the allocator counts for the whole program.
#![allow(unsafe_code, reason = "an allocator that counts has to be one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::time::Duration;

use nereus::correlator::{Correlator, Limits, Restored, Routes};
use nereus::event::{
    AlertText, ClearedBy, Command, Effect, EffectKind, Event, Generation, KEY_SEPARATOR, Rendered,
    RuleAction, Timestamp, Version,
};
use nereus::oid::Oid;
use nereus::severity::Severity;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static OCTETS: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came; the counters are atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        OCTETS.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        OCTETS.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Debug)]
struct Text;

impl AlertText for Text {
    fn render(&self, event: &Event, _: Severity) -> Rendered {
        Rendered {
            labels: Vec::new(),
            annotations: vec![("summary".into(), format!("{} is down", event.source))],
        }
    }

    fn constant_labels(&self) -> Option<Vec<(Arc<str>, String)>> {
        None
    }
}

fn rule() -> Arc<RuleAction> {
    Arc::new(RuleAction {
        rule: "link".into(),
        alert: "InterfaceDown".into(),
        key_names: Box::new(["source".into(), "ifIndex".into()]),
        deduplicate: Some(Duration::from_secs(300)),
        store_repeats: true,
        expire: Some(Duration::from_secs(3600)),
        flapping: None,
        notify: None,
        text: Box::new(Text),
    })
}

fn event(rule: &Arc<RuleAction>, key: usize, kind: EffectKind, time: Timestamp) -> Event {
    let key = format!("InterfaceDown{KEY_SEPARATOR}10.0.0.1{KEY_SEPARATOR}{key}").into();
    Event {
        time,
        generation: Generation(1),
        listener: 0,
        peer: "10.0.0.1:50000".parse().unwrap(),
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)).into(),
        version: Version::V2c,
        community: None,
        trap_oid: Oid::new([1, 3, 6, 1, 6, 3, 1, 1, 5, 3]).unwrap(),
        trap_name: None,
        datagram: Box::from([0x30, 0]),
        pdu: 0..2,
        effects: [Effect { rule: Arc::clone(rule), kind, key }].into_iter().collect(),
        answer: None,
    }
}

#[test]
fn repeats_allocate_nothing_and_open_alerts_are_small() {
    const ALERTS: usize = 20_000;
    let raise = EffectKind::Raise(Severity::Major);
    let (rule, routes) = (rule(), Routes::default());
    let mut correlator = Correlator::new(Limits::default(), Restored::default(), &[0]);
    let mut out: Vec<Command> = Vec::with_capacity(64);
    let mut time = Timestamp(1_000_000);

    let before = OCTETS.load(Ordering::Relaxed);
    for key in 0..ALERTS {
        time.0 += 1;
        correlator.event(event(&rule, key, raise, time), time, &routes, &mut out);
        out.clear();
    }
    let each = (OCTETS.load(Ordering::Relaxed) - before) / ALERTS as isize;
    assert!(each < 1200, "{each} octets an open alert");

    let mut allocated = 0;
    for repeat in 0..1_000 {
        time.0 += 1;
        let event = event(&rule, repeat * 7 % ALERTS, raise, time);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        correlator.event(event, time, &routes, &mut out);
        allocated += ALLOCATIONS.load(Ordering::Relaxed) - before;
        out.clear();
    }
    assert_eq!(allocated, 1_000, "the command's own box, nothing else");

    for key in 0..ALERTS {
        time.0 += 1;
        correlator.event(
            event(&rule, key, EffectKind::Clear(ClearedBy::Trap), time),
            time,
            &routes,
            &mut out,
        );
        out.clear();
    }
    for _ in 0..2 {
        correlator.tick(time, &routes, &mut out);
        out.clear();
        time = time.after(Duration::from_secs(30));
    }
    let left = OCTETS.load(Ordering::Relaxed) - before;
    assert_eq!(correlator.open_alerts(), 0);
    assert!(left < 128 << 10, "{left} octets are left of {ALERTS} alerts that have ended");
}
