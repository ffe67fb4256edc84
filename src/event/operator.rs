//! What operators ask of the correlator while it runs, and how they hear what became of it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::{AlertId, AlertState, Handed, Mute, Queue};

/// Requests that may wait for the correlator at once: they pass the handoff's bound.
const WAITING: usize = 64;
/// The longest name of an operator, in characters.
const LONGEST_NAME: usize = 64;

/// What is to be done with an open alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Somebody has taken it; it stays open.
    Acknowledge,
    /// It ends.
    Close,
}

/// What the correlator said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The alert stands so now; `changed` is false where it had been acknowledged before.
    Done {
        /// Where it stands.
        state: AlertState,
        /// Whether this request brought it there.
        changed: bool,
    },
    /// No open alert has this number and key (any more).
    NotOpen,
}

/// Why there is no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Nereus stops.
    Stopping,
    /// As many requests as may wait do.
    Crowded,
    /// Not committed in time. It may still be done: the correlator or the disk is behind.
    Late,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopping => "nereus stops",
            Self::Crowded => "too many requests wait; ask again",
            Self::Late => {
                "it is not on the disk yet and may still come to be done; look at the alert and at the log"
            }
        })
    }
}

/// A request as it lies in the handoff.
#[derive(Debug)]
pub struct OperatorRequest {
    /// The alert.
    pub alert: AlertId,
    /// Its key, by which it is found.
    pub key: Box<str>,
    /// What to do.
    pub deed: Deed,
    /// Who asks, as they say it.
    pub by: Arc<str>,
    /// Told first: what was decided.
    pub outcome: SyncSender<Outcome>,
    /// Told once the decision is on the disk.
    pub committed: SyncSender<()>,
    /// Counted while the request waits.
    pub place: Arc<()>,
}

/// The way to the correlator.
#[derive(Debug, Clone)]
pub struct Operators {
    handoff: Arc<Queue<Handed>>,
    places: Arc<()>,
}

impl Operators {
    /// Requests go through `handoff`, in order with the events.
    #[must_use]
    pub fn new(handoff: Arc<Queue<Handed>>) -> Self {
        Self { handoff, places: Arc::new(()) }
    }

    /// Asks, and waits until the outcome is on the disk. Blocks for up to `patience`.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub fn ask(
        &self,
        alert: AlertId,
        key: Box<str>,
        deed: Deed,
        by: Arc<str>,
        patience: Duration,
    ) -> Result<Outcome, Unanswered> {
        let until = Instant::now() + patience;
        // Handles count as well; there is one.
        if Arc::strong_count(&self.places) > WAITING {
            return Err(Unanswered::Crowded);
        }
        let place = Arc::clone(&self.places);
        let (outcome, decided) = sync_channel(1);
        let (committed, on_disk) = sync_channel(1);
        let request = OperatorRequest { alert, key, deed, by, outcome, committed, place };
        self.handoff.push_control(Handed::Operator(Box::new(request))).map_err(|_| Unanswered::Stopping)?;
        let outcome = wait(&decided, until)?;
        if outcome != Outcome::NotOpen {
            wait(&on_disk, until)?;
        }
        Ok(outcome)
    }
}

impl Operators {
    /// Tells the correlator all mutes that are not over, in order with the events: whatever comes in after this is
    /// compared with them.
    ///
    /// # Errors
    /// [`Unanswered::Stopping`].
    pub fn mute(&self, mutes: Arc<[Mute]>) -> Result<(), Unanswered> {
        self.handoff.push_control(Handed::Mutes(mutes)).map_err(|_| Unanswered::Stopping)
    }
}

fn wait<T>(channel: &Receiver<T>, until: Instant) -> Result<T, Unanswered> {
    channel.recv_timeout(until.saturating_duration_since(Instant::now())).map_err(|error| match error {
        RecvTimeoutError::Timeout => Unanswered::Late,
        RecvTimeoutError::Disconnected => Unanswered::Stopping,
    })
}

/// Who asks, as it may be stored and shown: without control characters, at most 64 characters, never empty.
#[must_use]
pub fn operator_name(given: &str, otherwise: &str) -> Arc<str> {
    let name: String = given.trim().chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    if name.is_empty() { otherwise.into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_wait_are_bounded_and_a_stop_is_told() {
        let handoff = Arc::new(Queue::new(1 << 20));
        let operators = Operators::new(Arc::clone(&handoff));
        let ask = || operators.ask(AlertId(1), "a".into(), Deed::Close, "me".into(), Duration::ZERO);
        let answers: Vec<_> = (0..200).map(|_| ask()).collect();
        assert_eq!(answers[0], Err(Unanswered::Late));
        assert_eq!(answers[199], Err(Unanswered::Crowded));
        let mut waiting = Vec::new();
        handoff.take_all(&mut waiting, Duration::ZERO);
        assert!(waiting.len() <= WAITING, "{}", waiting.len());
        waiting.clear();
        assert_eq!(ask(), Err(Unanswered::Late), "there is room again");
        handoff.close();
        assert_eq!(ask(), Err(Unanswered::Stopping));
    }

    #[test]
    fn names_are_bounded_and_break_no_line() {
        assert_eq!(&*operator_name(" a\nb\u{1b} ", "http"), "ab");
        assert_eq!(&*operator_name("\u{7}", "http"), "http");
        assert_eq!(operator_name(&"x".repeat(1000), "http").len(), 64);
    }
}
