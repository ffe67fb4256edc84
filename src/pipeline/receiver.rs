//! The receiver thread: one batch, one Snapshot load, one handoff.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::batch::{Batch, Origin};
use super::hold::{Held, Part};
use super::inform::{Informs, Met};
use super::process::{Datagram, Scratch, process};
use super::reply::{ReplyKind, WayBack};
use super::samples::Samples;
use super::usm::{Usm, settle};
use crate::event::{Generation, Handed, Queue, Timestamp, Verdict};
use crate::metrics::{DropReason, Metrics};
use crate::snapshot::{Snapshot, SnapshotReader};
use crate::version::Version;

/// How long a receiver whose socket is closed to newcomers may take for what had arrived. A full receive
/// buffer takes a second on a busy machine; the bound is for a socket that could not be closed.
const DRAIN: Duration = Duration::from_secs(10);

/// What one receiver thread owns.
pub(super) struct Receiver {
    /// Its number over all listeners, from 0.
    pub(super) number: u32,
    /// The listener's address as the settings have it.
    pub(super) listener: SocketAddr,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) snapshot: SnapshotReader,
    pub(super) handoff: Arc<Queue<Handed>>,
    pub(super) samples: Arc<Samples>,
    pub(super) usm: Arc<Usm>,
    pub(super) counters: Counters,
    pub(super) stop: Arc<AtomicBool>,
}

/// The shared counters, resolved once, so that a batch costs additions alone.
pub(super) struct Counters {
    received: [IntCounter; 4],
    dropped: Vec<IntCounter>,
    metrics: Arc<Metrics>,
}

impl Counters {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        let received = |version: &str| metrics.traps_received.with_label_values(&[version]);
        Self {
            received: [received("v1"), received("v2c"), received("v3"), received("unknown")],
            dropped: DropReason::ALL
                .iter()
                .map(|reason| metrics.traps_dropped.with_label_values(&[reason.as_str()]))
                .collect(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Counts datagrams that there was no room to hold for. They were not looked into.
    pub(super) fn held_too_many(&self, number: u64) {
        let mut tally = Tally::default();
        tally.received[UNKNOWN] = number;
        tally.drop(DropReason::HoldFull, number);
        tally.flush(self);
    }
}

/// The place of what has no version that could be told.
const UNKNOWN: usize = 3;

/// What one batch came to, in plain integers.
struct Tally {
    received: [u64; 4],
    dropped: [u64; DropReason::ALL.len()],
    accepted: u64,
    unresolved: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { received: [0; 4], dropped: [0; DropReason::ALL.len()], accepted: 0, unresolved: 0 }
    }
}

impl Tally {
    fn version(&mut self, version: Option<Version>) {
        self.received[version.map_or(UNKNOWN, |version| version as usize)] += 1;
    }

    fn drop(&mut self, reason: DropReason, number: u64) {
        self.dropped[reason as usize] += number;
    }

    fn flush(&self, counters: &Counters) {
        let add = |counter: &IntCounter, number: u64| {
            if number > 0 {
                counter.inc_by(number);
            }
        };
        counters.received.iter().zip(self.received).for_each(|(counter, number)| add(counter, number));
        counters.dropped.iter().zip(self.dropped).for_each(|(counter, number)| add(counter, number));
        add(&counters.metrics.traps_processed, self.accepted);
        add(&counters.metrics.unresolved_oids, self.unresolved);
    }
}

impl Receiver {
    /// Takes what was `held`, then receives until told to stop, or until the settings have the address no longer;
    /// then takes what the socket still holds and ends.
    pub(super) fn run(mut self, mut held: Held) {
        let mut batch = Batch::new();
        let mut scratch = Scratch::with(Arc::clone(&self.usm));
        let mut events = Vec::new();
        let mut informs = Informs::new(&self.counters.metrics);
        // The generation that this receiver works under. A receiver whose address is gone stays at the
        // last one that had it, for what had arrived by then.
        let mut working: Option<(Arc<Snapshot>, usize)> = None;
        let mut newest = Generation(0);
        let mut end_by = None;
        let mut turn = 0usize;
        loop {
            // What waits in the socket is taken before the end.
            let gone = working.as_ref().is_some_and(|(snapshot, _)| snapshot.generation() != newest);
            let ending = gone || self.stop.load(Ordering::Acquire);
            if ending && Instant::now() > *end_by.get_or_insert_with(|| Instant::now() + DRAIN) {
                break;
            }
            let part = held.pop();
            let read = match part.as_ref().map_or_else(|| batch.receive(&self.socket), |part| Ok(part.len()))
            {
                Ok(read) => read,
                // Idle. The load below still happens: it lets go of a retired Snapshot.
                Err(error) if is_idle(&error) => 0,
                Err(error) => {
                    // An ICMP error of an earlier send, or memory: the next call tells whether it lasts.
                    tracing::warn!(component = "listener", listener = %self.listener, error = %error, "Receiving failed");
                    std::thread::sleep(Duration::from_millis(10));
                    0
                }
            };
            let started = Instant::now();
            let snapshot = self.snapshot.load();
            if snapshot.generation() != newest {
                newest = snapshot.generation();
                if let Some(place) = snapshot.listener(self.listener) {
                    working = Some((Arc::clone(snapshot), place));
                    // From here on this receiver hands over nothing older.
                    let marker = Handed::Generation { receiver: self.number, generation: newest };
                    let _ = self.handoff.push_control(marker);
                }
            }
            let Some((snapshot, listener)) = &working else { break };
            if read > 0 {
                let mut tally = Tally::default();
                let received = part.as_ref().map_or_else(Timestamp::now, Part::received);
                for (octets, origin) in datagrams(part.as_ref(), &batch) {
                    let datagram = Datagram {
                        octets,
                        peer: origin.peer,
                        listener: *listener,
                        received: origin.arrived.unwrap_or(received),
                    };
                    let verdict = process(snapshot, &datagram, &mut scratch);
                    let mut verdict = settle(verdict, datagram.received, &mut scratch);
                    let reply = &scratch.reply;
                    let way = || WayBack::Datagram { socket: Arc::clone(&self.socket), origin };
                    let mut met = Met::New;
                    match (reply.kind(), &mut verdict) {
                        (ReplyKind::None, _) => {}
                        (ReplyKind::ResponseAfterCommit, Verdict::Accepted(event)) => {
                            met = informs.meet(event, reply.octets(), way(), started);
                        }
                        // Nothing will be committed.
                        (ReplyKind::ResponseAfterCommit, Verdict::Dropped(_)) => {}
                        (kind @ (ReplyKind::Response | ReplyKind::Report), _) => {
                            informs.send(kind, reply.octets(), &way());
                        }
                    }
                    match verdict {
                        Verdict::Accepted(event) => {
                            tally.accepted += 1;
                            tally.unresolved += u64::from(scratch.unresolved);
                            if met == Met::New {
                                events.push(Handed::Event(event));
                            }
                        }
                        Verdict::Dropped(reason) => tally.drop(reason, 1),
                    }
                    tally.version(scratch.version);
                }
                self.handoff.offer(&mut events);
                // What was held comes all at once: it waits for room, while what comes in meanwhile is held too.
                while part.is_some() && !events.is_empty() && !ending && !self.stop.load(Ordering::Acquire) {
                    held.receive(&self.socket, &mut batch, &self.counters);
                    self.handoff.offer(&mut events);
                }
                let refused = events.drain(..).map(refuse).sum();
                tally.accepted -= refused;
                tally.drop(DropReason::HandoffFull, refused);
                tally.flush(&self.counters);
                turn = turn.wrapping_add(1);
                if let Some((octets, origin)) = datagrams(part.as_ref(), &batch).nth(turn % read) {
                    self.samples.offer(octets, origin.peer, self.listener);
                }
                let mean = started.elapsed().as_secs_f64() / read as f64;
                self.counters.metrics.trap_processing_duration.observe(mean);
            } else if ending {
                break;
            } else {
                informs.forget(started);
            }
        }
        let left = held.len() as u64;
        if left > 0 {
            let mut tally = Tally::default();
            tally.received[UNKNOWN] = left;
            tally.drop(DropReason::Stopped, left);
            tally.flush(&self.counters);
        }
        let _ = self.handoff.push_control(Handed::Left { receiver: self.number });
    }
}

/// How many notifications are lost with what there was no room for: an inform's retransmissions go with it.
fn refuse(handed: Handed) -> u64 {
    match handed {
        Handed::Event(event) => 1 + event.answer.map_or(0, |answer| answer.refuse()),
        _ => 0,
    }
}

/// Those of `part`, or else of what was read just now.
fn datagrams<'d>(part: Option<&'d Part>, batch: &'d Batch) -> impl Iterator<Item = (&'d [u8], Origin)> + 'd {
    let held = part.into_iter().flat_map(Part::datagrams);
    held.chain(part.is_none().then_some(batch).into_iter().flat_map(Batch::datagrams))
}

pub(super) fn is_idle(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
