//! Informs: the Response follows the commit, and a retransmission is answered without becoming a second event.
//!
//! A retransmission is what comes again from the same address and port with the same request-id and the same
//! notification, within [`WINDOW`], and whose sysUpTime is the first one's or has gone on with the clock: a device that
//! has booted again counts its requests from the same number, and what it says is new. Each receiver knows its own: the kernel gives what comes from one address to one
//! socket of a group. The table is bounded by time and by number; what it has forgotten is stored again, never lost.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::reply::{ReplyCounters, ReplyKind, WayBack};
use crate::event::{Answer, Event, Timestamp};
use crate::metrics::{DropReason, Metrics};
use crate::wire;

/// How long an inform is remembered. The slowest senders that are known try four times, half a minute apart.
const WINDOW: Duration = Duration::from_secs(300);
/// How far a renewed sysUpTime may be from the time that has passed: senders read it some time before they send, and
/// the network holds up one datagram more than another.
const UPTIME_SLACK: Duration = Duration::from_secs(5);
/// How many informs a receiver remembers.
const MOST: usize = 65_536;
/// What retransmissions that wait for a commit may hold, for each receiver. One above it stays unanswered.
const WAITING_OCTETS: usize = 4 << 20;
/// So many empty places of a table are kept, whatever is used of it.
const KEEP: usize = 1024;

/// The informs that one receiver has met.
#[derive(Debug)]
pub(super) struct Informs {
    known: HashMap<Key, Known>,
    /// The oldest first; an entry whose number is not the known one's was replaced.
    order: VecDeque<(Instant, u64, Key)>,
    next: u64,
    digests: RandomState,
    shared: Arc<Shared>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    peer: SocketAddr,
    request_id: i32,
}

#[derive(Debug)]
struct Known {
    number: u64,
    /// Of the notification: a request-id that is used again for another one is a new inform.
    digest: u64,
    /// Its sysUpTime, if it says one.
    uptime: Option<u32>,
    /// When it came.
    time: Timestamp,
    inform: Arc<Inform>,
}

impl Known {
    /// Whether this is the same inform once more.
    fn is_repeated_by(&self, again: &Identity, time: Timestamp) -> bool {
        self.digest == again.digest
            && match (self.uptime, again.uptime) {
                (Some(first), Some(now)) if first != now => {
                    // It wraps after 497 days; one that was set back has gone on by nearly as much.
                    let gone_on = Duration::from_millis(u64::from(now.wrapping_sub(first)) * 10);
                    gone_on.abs_diff(time.since(self.time)) <= UPTIME_SLACK
                }
                (first, now) => first == now,
            }
    }
}

/// What an inform is known by.
struct Identity {
    key: Key,
    digest: u64,
    uptime: Option<u32>,
}

#[derive(Debug)]
struct Shared {
    replies: ReplyCounters,
    metrics: Arc<Metrics>,
    /// What waiting retransmissions hold.
    waiting: AtomicUsize,
}

/// One inform, known to the table and to its answer.
#[derive(Debug)]
struct Inform {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Not committed yet. The first reply is that of the inform itself; `repeats` counts the retransmissions.
    Waiting { replies: Vec<Waiting>, repeats: u64 },
    /// On the disk: whatever comes again is answered at once.
    Committed,
    /// It will not be committed: whatever comes again is a new one.
    Lost,
}

/// A Response that waits.
#[derive(Debug)]
struct Waiting {
    way: WayBack,
    /// `None`: the same as the first.
    octets: Option<Box<[u8]>>,
}

/// What an inform is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// New: its event goes on, with the way to answer it.
    New,
    /// A retransmission: it was answered or waits for the first one's commit, and is no event.
    Repeat,
}

impl Informs {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        let shared = Shared {
            replies: ReplyCounters::new(metrics),
            metrics: Arc::clone(metrics),
            waiting: AtomicUsize::new(0),
        };
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            digests: RandomState::new(),
            shared: Arc::new(shared),
        }
    }

    /// Tells what an accepted inform is, whose Response is `octets`; a new one gets the way to answer it.
    pub(super) fn meet(&mut self, event: &mut Event, octets: &[u8], way: WayBack, now: Instant) -> Met {
        let Some(identity) = self.identify(event) else {
            // Not an inform: nothing that could be known again, but it is answered.
            event.answer = Some(Box::new(AfterCommit::new(octets, way, &self.shared)));
            return Met::New;
        };
        if let Some(known) = self.known.get(&identity.key)
            && known.is_repeated_by(&identity, event.time)
            && known.inform.repeat(octets, &way, &self.shared)
        {
            return Met::Repeat;
        }
        let answer = AfterCommit::new(octets, way, &self.shared);
        self.next += 1;
        let Identity { key, digest, uptime } = identity;
        let inform = Arc::clone(&answer.inform);
        let known = Known { number: self.next, digest, uptime, time: event.time, inform };
        self.known.insert(key, known);
        self.order.push_back((now, self.next, key));
        self.forget(now);
        event.answer = Some(Box::new(answer));
        Met::New
    }

    /// Sends a reply at once.
    pub(super) fn send(&self, kind: ReplyKind, octets: &[u8], way: &WayBack) {
        self.shared.replies.send(kind, octets, way);
    }

    /// Lets go of what is too old or too much. Cheap when there is nothing.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some(&(since, number, key)) = self.order.front() {
            if self.order.len() <= MOST && now.saturating_duration_since(since) < WINDOW {
                break;
            }
            self.order.pop_front();
            if self.known.get(&key).is_some_and(|known| known.number == number) {
                self.known.remove(&key);
            }
        }
        if self.known.capacity() > KEEP.max(4 * self.known.len()) {
            self.known.shrink_to(KEEP.max(2 * self.known.len()));
            self.order.shrink_to(KEEP.max(2 * self.order.len()));
        }
    }

    /// What a retransmission has in common with its inform. The uptime is apart: some senders renew it.
    fn identify(&self, event: &Event) -> Option<Identity> {
        let notification = wire::decode_pdu(event.version, event.pdu()).ok()?;
        if notification.kind != wire::Kind::Inform {
            return None;
        }
        let mut digest = self.digests.build_hasher();
        event.version.hash(&mut digest);
        event.trap_oid.arcs().hash(&mut digest);
        event.community.hash(&mut digest);
        for varbind in notification.varbinds {
            varbind.name.octets().hash(&mut digest);
            varbind.value.hash(&mut digest);
        }
        let key = Key { peer: event.peer, request_id: notification.request_id };
        Some(Identity { key, digest: digest.finish(), uptime: notification.uptime })
    }
}

impl Inform {
    /// Answers a retransmission, or lets it wait. False if the inform was lost.
    fn repeat(&self, octets: &[u8], way: &WayBack, shared: &Shared) -> bool {
        match &mut *self.state.lock() {
            State::Lost => return false,
            State::Waiting { replies, repeats } => {
                *repeats += 1;
                let first = replies.first().and_then(|first| first.octets.as_deref());
                let octets = (first != Some(octets)).then(|| Box::from(octets));
                let waiting = Waiting { way: way.clone(), octets };
                let size = waiting.size();
                if shared.waiting.fetch_add(size, Ordering::Relaxed) + size > WAITING_OCTETS {
                    shared.waiting.fetch_sub(size, Ordering::Relaxed);
                    shared.replies.gave_up();
                } else {
                    replies.push(waiting);
                }
                return true;
            }
            State::Committed => {}
        }
        shared.metrics.events_deduplicated.inc();
        shared.replies.send(ReplyKind::Response, octets, way);
        true
    }
}

impl Waiting {
    fn size(&self) -> usize {
        size_of::<Self>() + self.octets.as_ref().map_or(0, |octets| octets.len())
    }
}

/// The [`Answer`] of an inform.
#[derive(Debug)]
struct AfterCommit {
    inform: Arc<Inform>,
    shared: Arc<Shared>,
    octets: usize,
}

impl AfterCommit {
    fn new(octets: &[u8], way: WayBack, shared: &Arc<Shared>) -> Self {
        let first = Waiting { way, octets: Some(octets.into()) };
        let size = first.size() + size_of::<Inform>();
        let state = State::Waiting { replies: vec![first], repeats: 0 };
        Self {
            inform: Arc::new(Inform { state: Mutex::new(state) }),
            shared: Arc::clone(shared),
            octets: size,
        }
    }

    /// Ends the waiting: what waited, and how many retransmissions there were.
    fn end(&self, state: State) -> (Vec<Waiting>, u64) {
        let mut now = self.inform.state.lock();
        if !matches!(*now, State::Waiting { .. }) {
            return (Vec::new(), 0);
        }
        match mem::replace(&mut *now, state) {
            State::Waiting { replies, repeats } => {
                let freed = replies.iter().skip(1).map(Waiting::size).sum();
                self.shared.waiting.fetch_sub(freed, Ordering::Relaxed);
                (replies, repeats)
            }
            State::Committed | State::Lost => (Vec::new(), 0),
        }
    }
}

impl Answer for AfterCommit {
    fn send(self: Box<Self>) {
        let (replies, repeats) = self.end(State::Committed);
        self.shared.metrics.events_deduplicated.inc_by(repeats);
        let first = replies.first().and_then(|first| first.octets.as_deref()).unwrap_or_default();
        for reply in &replies {
            let octets = reply.octets.as_deref().unwrap_or(first);
            self.shared.replies.send(ReplyKind::ResponseAfterCommit, octets, &reply.way);
        }
    }

    fn refuse(self: Box<Self>) -> u64 {
        self.end(State::Lost).1
    }

    fn octets(&self) -> usize {
        self.octets
    }
}

impl Drop for AfterCommit {
    fn drop(&mut self) {
        let (_, repeats) = self.end(State::Lost);
        if repeats > 0 {
            self.shared.metrics.dropped(DropReason::Stopped, repeats);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::super::batch::Origin;
    use super::*;
    use crate::event::{Timestamp, Verdict};
    use crate::oid::OidRef;
    use crate::pipeline::{Datagram, Scratch, process};
    use crate::snapshot::{Candidate, Publisher};
    use crate::value::Value;
    use crate::wire::{Kind, V2Notification, encode_v2c};

    /// A table, and a sender that hears what it is answered.
    struct Bed {
        informs: Informs,
        metrics: Arc<Metrics>,
        own: Arc<UdpSocket>,
        sender: UdpSocket,
        publisher: Publisher,
        now: Instant,
        /// When the next one arrives, in seconds.
        at: i64,
    }

    impl Bed {
        fn new() -> Self {
            let metrics = Arc::new(Metrics::new());
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.set_nonblocking(true).unwrap();
            Self {
                informs: Informs::new(&metrics),
                metrics,
                own: Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap()),
                sender,
                publisher: Publisher::new(Candidate::embedded_default(), 1).unwrap(),
                now: Instant::now(),
                at: 1,
            }
        }

        /// An inform arrives. `marked` is what its Response says, for telling them apart.
        fn arrives(&mut self, request_id: i32, value: i32, uptime: u32, marked: &[u8]) -> (Met, Event) {
            let mut datagram = Vec::new();
            let inform = V2Notification {
                community: b"public",
                kind: Kind::Inform,
                request_id,
                uptime,
                trap_oid: OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]),
                varbinds: &[(OidRef(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 1, 1]), Value::Integer(value))],
            };
            encode_v2c(&inform, &mut datagram).unwrap();
            let peer = self.sender.local_addr().unwrap();
            let datagram =
                Datagram { octets: &datagram, peer, listener: 0, received: Timestamp(self.at * 1_000_000) };
            let mut scratch = Scratch::default();
            let Verdict::Accepted(mut event) = process(self.publisher.current(), &datagram, &mut scratch)
            else {
                panic!("it is accepted")
            };
            assert_eq!(scratch.reply.kind(), ReplyKind::ResponseAfterCommit);
            let way = WayBack::Datagram { socket: Arc::clone(&self.own), origin: Origin::of(peer) };
            (self.informs.meet(&mut event, marked, way, self.now), event)
        }

        fn heard(&self) -> Vec<Vec<u8>> {
            let mut all = Vec::new();
            let mut buffer = [0; 100];
            while let Ok(length) = self.sender.recv(&mut buffer) {
                all.push(buffer[..length].to_vec());
            }
            all
        }

        fn deduplicated(&self) -> u64 {
            self.metrics.events_deduplicated.get()
        }
    }

    #[test]
    fn every_retransmission_is_answered_once_and_none_before_the_commit() {
        let mut bed = Bed::new();
        let (met, mut event) = bed.arrives(1, 1, 10, b"first");
        assert_eq!(met, Met::New);
        // Uptime renewed: still the same notification. Its Response is its own.
        let (met, repeat) = bed.arrives(1, 1, 11, b"second");
        assert_eq!((met, repeat.answer.is_some()), (Met::Repeat, false));
        assert_eq!(bed.arrives(1, 1, 11, b"first").0, Met::Repeat);
        assert_eq!((bed.heard().len(), bed.deduplicated()), (0, 0), "nothing is on the disk");
        event.answer.take().unwrap().send();
        assert_eq!(bed.heard(), [&b"first"[..], b"second", b"first"]);
        assert_eq!(bed.deduplicated(), 2);
        assert_eq!(bed.arrives(1, 1, 12, b"third").0, Met::Repeat);
        assert_eq!((bed.heard(), bed.deduplicated()), (vec![b"third".to_vec()], 3));
        assert_eq!(bed.informs.shared.waiting.load(Ordering::Relaxed), 0);
        let sent = bed.metrics.replies.with_label_values(&["response", "sent"]);
        assert_eq!(sent.get(), 4);
    }

    #[test]
    fn what_is_lost_comes_again_as_a_new_one() {
        let mut bed = Bed::new();
        for refused in [true, false] {
            let (_, mut event) = bed.arrives(1, 1, 1, b"a");
            assert_eq!(bed.arrives(1, 1, 1, b"b").0, Met::Repeat);
            let answer = event.answer.take().unwrap();
            if refused {
                assert_eq!(answer.refuse(), 1, "the retransmission goes with it");
            } else {
                drop(answer);
                let stopped = bed.metrics.traps_dropped.with_label_values(&["stopped"]);
                assert_eq!(stopped.get(), 1);
            }
        }
        let (met, mut event) = bed.arrives(1, 1, 1, b"a");
        assert_eq!((met, bed.deduplicated()), (Met::New, 0));
        event.answer.take().unwrap().send();
        assert_eq!(bed.heard(), [b"a"]);
    }

    #[test]
    fn a_number_that_is_used_again_for_something_else_is_a_new_inform() {
        let mut bed = Bed::new();
        for value in [1, 2, 1] {
            let (met, mut event) = bed.arrives(7, value, 1, b"x");
            assert_eq!(met, Met::New);
            event.answer.take().unwrap().send();
        }
        assert_eq!(bed.arrives(8, 1, 1, b"x").0, Met::New);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        bed.sender = peer;
        assert_eq!(bed.arrives(8, 1, 1, b"x").0, Met::New, "from another port");
    }

    #[test]
    fn a_device_that_has_booted_again_is_not_taken_for_its_former_self() {
        // Seconds later, hundredths of uptime: whether it is the same inform as the one at 100 s of uptime.
        for (later, uptime, repeat) in [
            (0, 10_000, true),
            (30, 10_000, true),
            (30, 13_000, true),
            (30, 12_600, true),
            (2, 10_650, true),
            // Booted again, for the second time even at nearly the same uptime.
            (30, 9_999, false),
            (30, 0, false),
            (60, 10_002, false),
            (60, 30_000, false),
        ] {
            let mut bed = Bed::new();
            let (_, mut event) = bed.arrives(1, 1, 10_000, b"x");
            event.answer.take().unwrap().send();
            bed.at += later;
            let expected = if repeat { Met::Repeat } else { Met::New };
            assert_eq!(bed.arrives(1, 1, uptime, b"x").0, expected, "{uptime} after {later} s");
        }
        // The counter's end is no boot.
        let mut bed = Bed::new();
        let (_, mut event) = bed.arrives(1, 1, u32::MAX - 100, b"x");
        event.answer.take().unwrap().send();
        bed.at += 10;
        assert_eq!(bed.arrives(1, 1, 899, b"x").0, Met::Repeat);
    }

    #[test]
    fn the_table_is_bounded_by_time_number_and_octets() {
        let mut bed = Bed::new();
        let (_, first) = bed.arrives(1, 1, 1, b"x");
        bed.now += WINDOW - Duration::from_secs(1);
        assert_eq!(bed.arrives(1, 1, 1, b"x").0, Met::Repeat);
        bed.now += Duration::from_secs(1);
        bed.informs.forget(bed.now);
        assert_eq!(bed.arrives(1, 1, 1, b"x").0, Met::New);
        drop(first);

        let (_, mut event) = bed.arrives(2, 1, 1, b"x");
        let large = vec![0; WAITING_OCTETS / 4];
        for _ in 0..6 {
            assert_eq!(bed.arrives(2, 1, 1, &large).0, Met::Repeat);
        }
        assert!(bed.informs.shared.waiting.load(Ordering::Relaxed) <= WAITING_OCTETS);
        let failed = bed.metrics.replies.with_label_values(&["response", "failed"]);
        assert_eq!(failed.get(), 3, "those for which there was no room stay unanswered");
        event.answer.take().unwrap().send();
        assert_eq!(bed.deduplicated(), 6, "and are counted");

        let key = Key { peer: "192.0.2.1:1".parse().unwrap(), request_id: 0 };
        for number in 0..(MOST as i32 + 10) {
            let key = Key { request_id: number, ..key };
            let inform = Arc::new(Inform { state: Mutex::new(State::Committed) });
            bed.informs.next += 1;
            let known =
                Known { number: bed.informs.next, digest: 0, uptime: None, time: Timestamp(0), inform };
            bed.informs.known.insert(key, known);
            bed.informs.order.push_back((bed.now, bed.informs.next, key));
            bed.informs.forget(bed.now);
        }
        assert_eq!((bed.informs.known.len(), bed.informs.order.len()), (MOST, MOST));
        bed.informs.forget(bed.now + WINDOW);
        assert_eq!((bed.informs.known.len(), bed.informs.order.len()), (0, 0));
        assert!(bed.informs.known.capacity() <= 4 * KEEP);
    }
}
