//! The correlator's thread: takes what the receivers hand over, lets [`Correlator`] decide, and hands the
//! decisions to the writer, for which it waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};

use super::alert::How;
use super::route::Routes;
use super::state::Correlator;
use crate::event::{Command, Handed, Queue, Timestamp};
use crate::metrics::{DropReason, Metrics};
use crate::severity::Severity;

/// How many entries are decided between two looks at the clock, two ticks and two handovers to the writer.
const CHUNK: usize = 256;
/// The longest wait for events: what is due is done so late at most, also where the clock is set.
const PATIENCE: Duration = Duration::from_secs(1);
/// Under load, small batches begin no closer together than this, unless somebody waits: to wake the thread costs more than
/// the few events that it would find.
const PACE: Duration = Duration::from_millis(5);
/// So many octets of them are taken sooner.
const PLENTY: usize = 256 << 10;
/// A batch of so many entries is worth its waking.
const WORTHWHILE: usize = 64;
/// Buffers up to so many entries are kept, whatever is used of them.
const KEEP: usize = 1024;

/// Why [`run`] has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The handoff was closed, and everything from it is with the writer.
    Drained,
    /// The writer takes nothing any more. So many events were lost, each counted as dropped (`stopped`); their
    /// informs stay unanswered. The handoff was closed.
    WriterClosed {
        /// Events that were accepted and are not stored.
        lost: u64,
    },
}

/// Correlates until `handoff` is closed and drained, or `writer` is closed. The caller's thread is the
/// correlator's.
///
/// `routes` is asked once for each batch; what it returns is let go before the next wait, so that no old
/// generation is kept. The writer is waited for: a slow disk fills the handoff, at which receivers drop and
/// count. On an orderly end the counts that the writer does not know yet are the last command.
pub fn run(
    mut correlator: Correlator,
    handoff: &Queue<Handed>,
    writer: &Queue<Command>,
    mut routes: impl FnMut() -> Arc<Routes>,
    clock: impl Fn() -> Timestamp,
    metrics: &Metrics,
) -> Ended {
    let counters = Counters::new(metrics);
    let (mut batch, mut out) = (Vec::new(), Vec::new());
    let mut more = false;
    counters.publish(&mut correlator);
    let mut paced_from: Option<Instant> = None;
    loop {
        if let Some(from) = paced_from {
            handoff.rest(PACE.saturating_sub(from.elapsed()), PLENTY);
        }
        if !handoff.take_all(&mut batch, patience(&correlator, more, clock())) {
            break;
        }
        let used = batch.len();
        paced_from = (1..WORTHWHILE).contains(&used).then(Instant::now);
        let routes = routes();
        let mut entries = batch.drain(..);
        loop {
            let now = clock();
            for entry in entries.by_ref().take(CHUNK) {
                match entry {
                    Handed::Event(event) => correlator.event(event, now, &routes, &mut out),
                    Handed::Generation { receiver, generation } => correlator.mark(receiver, generation),
                    Handed::Left { receiver } => correlator.leave(receiver),
                    Handed::Reloaded(changes) => correlator.reloaded(changes),
                    Handed::Watch(watch) => {
                        let mut changes = Vec::new();
                        correlator.watch(&watch, now, &routes, &mut changes);
                        if !changes.is_empty() {
                            out.push(Command::Changes(changes));
                        }
                    }
                    Handed::Mutes(mutes) => correlator.mute(mutes, now),
                    Handed::Operator(request) => correlator.operate(*request, now, &routes, &mut out),
                }
            }
            more = correlator.tick(now, &routes, &mut out);
            counters.publish(&mut correlator);
            if let Err(lost) = hand_over(writer, &mut out) {
                let left = entries.filter(is_event).count() as u64;
                return give_up(handoff, lost + left, metrics);
            }
            if entries.len() == 0 {
                break;
            }
        }
        drop(entries);
        shrink(&mut batch, used);
    }
    correlator.finish(&mut out);
    match hand_over(writer, &mut out) {
        Ok(()) => Ended::Drained,
        Err(lost) => give_up(handoff, lost, metrics),
    }
}

/// How long to wait for events before the next tick.
fn patience(correlator: &Correlator, more: bool, now: Timestamp) -> Duration {
    if more {
        return Duration::ZERO;
    }
    correlator.wake_at().map_or(PATIENCE, |at| at.since(now).min(PATIENCE))
}

/// Gives everything to the writer: what fits under one lock, the rest one by one as there is room. Returns
/// how many events a closed queue has refused.
fn hand_over(writer: &Queue<Command>, out: &mut Vec<Command>) -> Result<(), u64> {
    writer.offer(out);
    let mut lost = 0;
    let mut closed = false;
    for command in out.drain(..) {
        let refused = if closed { Err(command) } else { writer.push(command) };
        if let Err(command) = refused {
            closed = true;
            lost += u64::from(matches!(command, Command::Event(_)));
        }
    }
    if closed { Err(lost) } else { Ok(()) }
}

fn give_up(handoff: &Queue<Handed>, mut lost: u64, metrics: &Metrics) -> Ended {
    handoff.close();
    let mut rest = Vec::new();
    while handoff.take_all(&mut rest, Duration::ZERO) {
        lost += rest.drain(..).filter(is_event).count() as u64;
    }
    metrics.dropped(DropReason::Stopped, lost);
    Ended::WriterClosed { lost }
}

fn is_event(entry: &Handed) -> bool {
    matches!(entry, Handed::Event(_))
}

/// Gives a buffer back that a burst has made large, once it comes round nearly empty: it and the handoff's own
/// swap places at each wait.
fn shrink<T>(buffer: &mut Vec<T>, used: usize) {
    debug_assert!(buffer.is_empty());
    if buffer.capacity() > KEEP.max(used.saturating_mul(4)) {
        *buffer = Vec::with_capacity(KEEP.min(2 * used));
    }
}

/// The metrics' children, looked up once.
struct Counters {
    open: [IntGauge; Severity::ALL.len()],
    fired: IntCounter,
    refused: IntCounter,
    acknowledged: IntCounter,
    muted: IntGauge,
    mutes: IntGauge,
    resolved: [IntCounter; How::ALL.len()],
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        Self {
            open: Severity::ALL.map(|severity| metrics.alerts_open.with_label_values(&[severity.as_str()])),
            fired: metrics.alerts_fired.clone(),
            refused: metrics.alerts_refused.clone(),
            acknowledged: metrics.alerts_acknowledged.clone(),
            muted: metrics.alerts_muted.clone(),
            mutes: metrics.mutes_active.clone(),
            resolved: How::ALL.map(|how| metrics.alerts_resolved.with_label_values(&[how.as_str()])),
        }
    }

    fn publish(&self, correlator: &mut Correlator) {
        let tally = correlator.take_tally();
        self.fired.inc_by(tally.fired);
        self.refused.inc_by(tally.refused);
        self.acknowledged.inc_by(tally.acknowledged);
        if tally.forgotten > 0 {
            tracing::warn!(
                component = "correlator",
                clears = tally.forgotten,
                "Too many alerts were cleared while a reload was applied: some that it moves may stay open until they are cleared again or expire"
            );
        }
        for (counter, number) in self.resolved.iter().zip(tally.resolved) {
            counter.inc_by(number);
        }
        let (muted, mutes) = correlator.muted();
        self.muted.set(i64::try_from(muted).unwrap_or(i64::MAX));
        self.mutes.set(i64::try_from(mutes).unwrap_or(i64::MAX));
        for (gauge, number) in self.open.iter().zip(correlator.open_by_severity()) {
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Limits, Restored};
    use super::super::tests::{record, seconds};
    use super::*;

    #[test]
    fn the_wait_ends_when_something_is_due() {
        let mut alert = record(1, "a");
        alert.expires_at = Some(seconds(10));
        let restored = Restored::of([alert]);
        let correlator = Correlator::new(Limits::default(), restored, &[]);
        assert_eq!(
            patience(&correlator, false, seconds(2)),
            PATIENCE,
            "a clock that is set must not matter long"
        );
        assert_eq!(patience(&correlator, false, Timestamp(9_900_000)), Duration::from_millis(100));
        assert_eq!(patience(&correlator, false, seconds(11)), Duration::ZERO);
        assert_eq!(patience(&correlator, true, seconds(2)), Duration::ZERO);
        let idle = Correlator::new(Limits::default(), Restored::default(), &[]);
        assert_eq!(patience(&idle, false, seconds(2)), PATIENCE);
    }

    #[test]
    fn a_buffer_outlives_its_burst_but_not_its_use() {
        let mut buffer: Vec<u64> = Vec::with_capacity(100_000);
        shrink(&mut buffer, 90_000);
        assert!(buffer.capacity() >= 100_000, "the burst may go on");
        shrink(&mut buffer, 10);
        assert!(buffer.capacity() <= KEEP);
        let mut small: Vec<u64> = Vec::with_capacity(KEEP);
        shrink(&mut small, 0);
        assert!(small.capacity() >= KEEP, "a usual one is kept");
    }
}
