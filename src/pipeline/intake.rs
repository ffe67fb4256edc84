//! What every receiver does with a message, whichever transport brought it: decide, answer, gather for the handoff, count.

use std::sync::Arc;
use std::time::Instant;

use prometheus::IntCounter;

use super::inform::{Informs, Met};
use super::process::{Datagram, Scratch, process};
use super::refused::{Refusals, Sampler};
use super::reply::{ReplyKind, WayBack};
use super::usm::{Usm, settle};
use crate::event::{Handed, Queue, Verdict};
use crate::metrics::{DropReason, Metrics};
use crate::snapshot::Snapshot;
use crate::version::Version;

/// The shared counters, resolved once, so that a batch costs additions alone.
pub(super) struct Counters {
    received: [IntCounter; 4],
    dropped: Vec<IntCounter>,
    pub(super) metrics: Arc<Metrics>,
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

    /// Counts messages that were not looked into.
    pub(super) fn unread(&self, reason: DropReason, number: u64) {
        if number > 0 {
            let mut tally = Tally::default();
            tally.received[UNKNOWN] = number;
            tally.drop(reason, number);
            tally.flush(self);
        }
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

/// One receiver's work on messages, batch by batch: [`Intake::take`] each, [`Intake::offer`], [`Intake::finish`].
pub(super) struct Intake {
    pub(super) counters: Counters,
    scratch: Scratch,
    events: Vec<Handed>,
    informs: Informs,
    tally: Tally,
    refusals: Arc<Refusals>,
    sampler: Sampler,
}

impl Intake {
    pub(super) fn new(counters: Counters, usm: Arc<Usm>, refusals: Arc<Refusals>) -> Self {
        Self {
            informs: Informs::new(&counters.metrics),
            counters,
            scratch: Scratch::with(usm),
            events: Vec::new(),
            tally: Tally::default(),
            refusals,
            sampler: Sampler::default(),
        }
    }

    /// Decides on one message. `way` is asked for where something is sent back.
    pub(super) fn take(
        &mut self,
        snapshot: &Snapshot,
        datagram: &Datagram<'_>,
        now: Instant,
        way: impl FnOnce() -> WayBack,
    ) {
        let verdict = process(snapshot, datagram, &mut self.scratch);
        let mut verdict = settle(verdict, datagram.received, &mut self.scratch);
        self.tally.version(self.scratch.version);
        let reply = &self.scratch.reply;
        let mut met = Met::New;
        match (reply.kind(), &mut verdict) {
            (ReplyKind::None, _) => {}
            (ReplyKind::ResponseAfterCommit, Verdict::Accepted(event)) => {
                met = self.informs.meet(event, reply.octets(), way(), now);
            }
            // Nothing will be committed.
            (ReplyKind::ResponseAfterCommit, Verdict::Dropped(_)) => {}
            (kind @ (ReplyKind::Response | ReplyKind::Report), _) => {
                self.informs.send(kind, reply.octets(), &way());
            }
        }
        match verdict {
            Verdict::Accepted(event) => {
                self.tally.accepted += 1;
                self.tally.unresolved += u64::from(self.scratch.unresolved);
                if met == Met::New {
                    self.events.push(Handed::Event(event));
                }
            }
            Verdict::Dropped(reason) => {
                self.tally.drop(reason, 1);
                let Datagram { octets, peer, received, .. } = *datagram;
                if let Some(listener) = snapshot.settings().listeners.get(datagram.listener) {
                    self.sampler.meet(&self.refusals, listener.address, peer, received, reason, octets);
                }
            }
        }
    }

    /// Counts a message that could not even be read as one.
    pub(super) fn refuse(&mut self, reason: DropReason) {
        self.tally.version(None);
        self.tally.drop(reason, 1);
    }

    /// Hands over what there is room for. Says whether nothing is left.
    pub(super) fn offer(&mut self, handoff: &Queue<Handed>) -> bool {
        handoff.offer(&mut self.events);
        self.events.is_empty()
    }

    /// Ends the batch: what is left is dropped, and all of it is counted.
    pub(super) fn finish(&mut self) {
        let refused = self.events.drain(..).map(lost_with).sum();
        self.tally.accepted -= refused;
        self.tally.drop(DropReason::HandoffFull, refused);
        std::mem::take(&mut self.tally).flush(&self.counters);
    }

    /// Nothing has come: lets go of what is too old to be kept.
    pub(super) fn idle(&mut self, now: Instant) {
        self.informs.forget(now);
    }
}

/// How many notifications are lost with what there was no room for: an inform's retransmissions go with it.
fn lost_with(handed: Handed) -> u64 {
    match handed {
        Handed::Event(event) => 1 + event.answer.map_or(0, |answer| answer.refuse()),
        _ => 0,
    }
}
