//! The receiver thread: one batch, one Snapshot load, one handoff.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::batch::{Batch, Origin};
use super::hold::{Held, Part};
use super::intake::{Counters, Intake};
use super::process::Datagram;
use super::refused::Refusals;
use super::reply::WayBack;
use super::samples::Samples;
use super::seldom::Seldom;
use super::usm::Usm;
use crate::config::settings::Endpoint;
use crate::event::{Generation, Handed, Queue, Timestamp};
use crate::metrics::DropReason;
use crate::snapshot::{Snapshot, SnapshotReader};

/// How long a receiver whose socket is closed to newcomers may take for what had arrived. A full receive
/// buffer takes a second on a busy machine; the bound is for a socket that could not be closed.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// What one receiver thread owns.
pub(super) struct Receiver {
    /// Its number over all listeners, from 0.
    pub(super) number: u32,
    /// The listener's address as the settings have it.
    pub(super) listener: Endpoint,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) snapshot: SnapshotReader,
    pub(super) handoff: Arc<Queue<Handed>>,
    pub(super) samples: Arc<Samples>,
    pub(super) usm: Arc<Usm>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) counters: Counters,
    pub(super) stop: Arc<AtomicBool>,
    /// Whether another program keeps the socket open: what it still holds at a stop waits for the next run.
    pub(super) inherited: bool,
}

impl Receiver {
    /// Takes what was `held`, then receives until told to stop, or until the settings have the address no longer;
    /// then takes what the socket still holds and ends.
    pub(super) fn run(mut self, mut held: Held) {
        let mut batch = Batch::new();
        let mut intake = Intake::new(self.counters, self.usm, self.refusals);
        // The generation that this receiver works under. A receiver whose address is gone stays at the
        // last one that had it, for what had arrived by then.
        let mut working: Option<(Arc<Snapshot>, usize)> = None;
        let mut newest = Generation(0);
        let mut end_by = None;
        let mut turn = 0usize;
        let mut complaints = Seldom::default();
        loop {
            if self.inherited && self.stop.load(Ordering::Acquire) && held.len() == 0 {
                break;
            }
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
                    if let Some(untold) = complaints.may_tell(Instant::now()) {
                        tracing::warn!(component = "listener", listener = %self.listener, error = %error, untold, "Receiving failed");
                    }
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
                let received = part.as_ref().map_or_else(Timestamp::now, Part::received);
                for (octets, origin) in datagrams(part.as_ref(), &batch) {
                    let datagram = Datagram {
                        octets,
                        peer: origin.peer,
                        listener: *listener,
                        received: origin.arrived.unwrap_or(received),
                    };
                    let way = || WayBack::Datagram { socket: Arc::clone(&self.socket), origin };
                    intake.take(snapshot, &datagram, started, way);
                }
                let mut all = intake.offer(&self.handoff);
                // What was held comes all at once: it waits for room, while what comes in meanwhile is held too.
                while part.is_some() && !all && !ending && !self.stop.load(Ordering::Acquire) {
                    held.receive(&self.socket, &mut batch, &intake.counters);
                    all = intake.offer(&self.handoff);
                }
                intake.finish();
                turn = turn.wrapping_add(1);
                if let Some((octets, origin)) = datagrams(part.as_ref(), &batch).nth(turn % read) {
                    self.samples.offer(octets, origin.peer, self.listener);
                }
                let mean = started.elapsed().as_secs_f64() / read as f64;
                intake.counters.metrics.trap_processing_duration.observe(mean);
            } else if ending {
                break;
            } else {
                intake.idle(started);
            }
        }
        intake.counters.unread(DropReason::Stopped, held.len() as u64);
        let _ = self.handoff.push_control(Handed::Left { receiver: self.number });
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
