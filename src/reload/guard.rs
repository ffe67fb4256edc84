//! The rehearsal: a sample of recent datagrams through the old and the candidate Snapshot, and what
//! would change. Pure but for the reading of the sample.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::event::{Effect, EffectKind, Event, Timestamp, Verdict};
use crate::metrics::DropReason;
use crate::pipeline::{Datagram, Sample, Scratch, process};
use crate::snapshot::Snapshot;

/// What a candidate would change for the recent datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rehearsal {
    /// How many datagrams were processed again.
    pub samples: usize,
    /// Accepted before, dropped now.
    pub newly_dropped: usize,
    /// Dropped before, accepted now.
    pub newly_accepted: usize,
    /// Notifications with another name.
    pub names: usize,
    /// Notifications with another severity.
    pub severities: usize,
    /// Notifications with another rule, alert, key or set of webhooks.
    pub routes: usize,
    /// Notifications that no MIB names, before.
    pub unresolved_before: usize,
    /// Notifications that no MIB names, now.
    pub unresolved_after: usize,
}

impl Rehearsal {
    /// By how many hundredths of a percentage point the share of unresolved notifications grows; 0 if it
    /// does not.
    #[must_use]
    pub fn unresolved_increase(&self) -> u32 {
        let more = self.unresolved_after.saturating_sub(self.unresolved_before);
        // At most 10,000: a share of the samples.
        (more * 10_000).checked_div(self.samples).unwrap_or(0) as u32
    }
}

/// How long it may take. Keys that are lengthened by Reeder's draft cost a millisecond for each engine, which a large
/// network of them would make seconds.
const BUDGET: Duration = Duration::from_secs(1);

/// Processes `samples` under both generations and compares. Some microseconds a sample; those that are left after a
/// second are left out.
pub(super) fn rehearse(old: &Snapshot, new: &Snapshot, samples: &[Sample<'_>]) -> Rehearsal {
    let mut found = Rehearsal::default();
    let started = Instant::now();
    let mut scratch = Scratch::offline(new.settings().access.engine_id);
    let mut run = |snapshot: &Snapshot, sample: &Sample<'_>| {
        // Where the address is not listened on any more, nothing can come.
        let Some(listener) = snapshot.listener(sample.listener) else {
            return (Verdict::Dropped(DropReason::NotAllowed), false);
        };
        let datagram =
            Datagram { octets: sample.octets, peer: sample.peer, listener, received: Timestamp::default() };
        let verdict = process(snapshot, &datagram, &mut scratch);
        (verdict, scratch.unresolved)
    };
    for sample in samples {
        if started.elapsed() > BUDGET {
            break;
        }
        found.samples += 1;
        let (before, unresolved_before) = run(old, sample);
        let (after, unresolved_after) = run(new, sample);
        found.unresolved_before += usize::from(unresolved_before);
        found.unresolved_after += usize::from(unresolved_after);
        match (&before, &after) {
            (Verdict::Accepted(before), Verdict::Accepted(after)) => compare(before, after, &mut found),
            (Verdict::Accepted(_), Verdict::Dropped(_)) => found.newly_dropped += 1,
            (Verdict::Dropped(_), Verdict::Accepted(_)) => found.newly_accepted += 1,
            (Verdict::Dropped(_), Verdict::Dropped(_)) => {}
        }
    }
    found
}

fn compare(before: &Event, after: &Event, found: &mut Rehearsal) {
    found.names += usize::from(before.trap_name != after.trap_name);
    let severity = |event: &Event| event.effects.iter().map(|effect| effect.kind).find_map(raised);
    found.severities += usize::from(severity(before) != severity(after));
    let same = before.effects.len() == after.effects.len()
        && before.effects.iter().zip(&after.effects).all(|(before, after)| same_route(before, after));
    found.routes += usize::from(!same);
}

fn raised(kind: EffectKind) -> Option<crate::severity::Severity> {
    match kind {
        EffectKind::Raise(severity) => Some(severity),
        _ => None,
    }
}

fn same_route(before: &Effect, after: &Effect) -> bool {
    before.key == after.key
        && before.rule.rule == after.rule.rule
        && before.rule.notify == after.rule.notify
        && std::mem::discriminant(&before.kind) == std::mem::discriminant(&after.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_increase_is_a_share_of_the_samples() {
        let rehearsal = |samples, unresolved_before, unresolved_after| {
            Rehearsal { samples, unresolved_before, unresolved_after, ..Rehearsal::default() }
                .unresolved_increase()
        };
        assert_eq!(rehearsal(0, 0, 0), 0);
        assert_eq!(rehearsal(100, 10, 15), 500);
        assert_eq!(rehearsal(100, 15, 10), 0);
        assert_eq!(rehearsal(3, 0, 3), 10_000);
    }
}
