//! How often the processing of a datagram asks for memory, counted by an allocator of this test: a
//! datagram that becomes no event never does, an accepted one for its event alone, whatever the number of rules.

#![allow(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

#[path = "../benches/common/traffic.rs"]
mod traffic;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use nereus::config::Settings;
use nereus::config::settings::{Access, Community, Listener, Secret};
use nereus::event::Verdict;
use nereus::metrics::DropReason;
use nereus::mib::Mib;
use nereus::pipeline::{Scratch, process};
use nereus::snapshot::{Candidate, Publisher, Snapshot, build};

/// Counts what the calling thread asks for; tests run on threads of their own.
struct Counting;

thread_local! {
    // Constant and without a destructor, so that reading it never allocates.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ASKED.with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local integer alone.
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

/// What `octets` become, and how often memory was asked for on the way, once the scratch has grown.
fn cost(snapshot: &Snapshot, octets: &[u8]) -> (Verdict, u64) {
    let mut scratch = Scratch::default();
    drop(process(snapshot, &traffic::received(octets), &mut scratch));
    let before = ASKED.get();
    let verdict = process(snapshot, &traffic::received(octets), &mut scratch);
    (verdict, ASKED.get() - before)
}

/// Asserts that `octets` become no event for `reason` and ask for no memory.
fn assert_free(candidate: Candidate, octets: &[u8], reason: DropReason) {
    let publisher = Publisher::new(candidate, 1).unwrap();
    let (verdict, asked) = cost(publisher.current(), octets);
    assert!(matches!(verdict, Verdict::Dropped(told) if told == reason), "{verdict:?}, not {reason:?}");
    assert_eq!(asked, 0, "{reason:?}");
}

#[test]
fn the_counter_counts() {
    let before = ASKED.get();
    let mut made = std::hint::black_box(Vec::<u8>::with_capacity(1));
    made.extend_from_slice(&[0; 100]);
    drop(std::hint::black_box(made));
    assert_eq!(ASKED.get() - before, 2);
}

#[test]
fn a_datagram_that_rules_refuse_asks_for_no_memory() {
    for rules in [1, 100, 10_000] {
        let unknown = traffic::trap(traffic::UNKNOWN, 24);
        assert_free(traffic::candidate(rules), &unknown, DropReason::Unmatched);
    }
    let chatter = traffic::trap(traffic::CHATTER, 24);
    assert_free(traffic::candidate(100), &chatter, DropReason::Rule);
}

#[test]
fn a_datagram_that_is_refused_before_the_rules_asks_for_no_memory() {
    let link_down = traffic::link_down(24);
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        build(settings, Mib::builtin(), None).unwrap()
    };
    let elsewhere = with(&|settings| {
        let allow = Some(Arc::from(["192.0.2.0/24".parse().unwrap()]));
        settings.listeners = Arc::new([Listener { allow, ..Listener::default() }]);
    });
    assert_free(elsewhere, &link_down, DropReason::NotAllowed);
    let secret = with(&|settings| {
        let community = Community { name: None, community: Secret::new(b"other".to_vec()) };
        settings.access = Arc::new(Access { communities: Some(vec![community]), ..Access::default() });
    });
    assert_free(secret, &link_down, DropReason::BadCommunity);
    assert_free(Candidate::embedded_default(), &link_down[..120], DropReason::Truncated);
    assert_free(Candidate::embedded_default(), &[0xff; 200], DropReason::UnexpectedTag);
}

/// The event owns its datagram, its trap OID, the trap's name and, for each effect, the alert's key.
const EVENT: u64 = 4;

#[test]
fn an_accepted_datagram_asks_for_the_parts_of_its_event() {
    let link_down = traffic::link_down(24);
    let link_up = traffic::trap("1.3.6.1.6.3.1.1.5.4", 24);
    for rules in [1, 100, 10_000] {
        let publisher = Publisher::new(traffic::candidate(rules), 1).unwrap();
        for octets in [&link_down, &link_up] {
            let (verdict, asked) = cost(publisher.current(), octets);
            let Verdict::Accepted(event) = verdict else { panic!("{verdict:?}") };
            assert_eq!(event.effects.len(), 1);
            assert_eq!(asked, EVENT, "with {rules} rules");
        }
    }
}

#[test]
fn the_embedded_default_asks_for_no_more() {
    let publisher = Publisher::new(Candidate::embedded_default(), 1).unwrap();
    let (_, asked) = cost(publisher.current(), &traffic::link_down(24));
    assert_eq!(asked, EVENT);
    // A trap that the MIBs do not know has no name of its own.
    let (verdict, asked) = cost(publisher.current(), &traffic::trap(traffic::UNKNOWN, 24));
    assert!(matches!(verdict, Verdict::Accepted(_)));
    assert_eq!(asked, EVENT - 1);
}
