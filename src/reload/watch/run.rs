//! The watcher's thread: when to look, and when what is seen has come to rest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::events::{Open, Problems, Watches};
use super::known::{Comparison, Depth, Known};
use super::scan::{Class, Key, Scan};
use super::{
    Change, Changed, DEEP_SWEEP, LONGEST_WAIT, OnChange, PATHS_TOLD, Shared, Signals, Since, Targets, Timing,
};

/// How often one look observes again because directories came to be watched meanwhile.
const MOST_ROUNDS: usize = 3;

/// A change that has not come to rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unrest {
    /// When it was first seen.
    first: Instant,
    /// Since when nothing has moved.
    since: Instant,
    /// At rest, but something is empty or gone: kept back until it moves or the longest wait is over.
    held: bool,
    depth: Depth,
}

/// What the rule of rest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    /// Nothing has moved for the delay.
    Rested,
    /// The longest wait is over.
    Overdue,
}

impl Unrest {
    pub(super) fn new(now: Instant, depth: Depth) -> Self {
        Self { first: now, since: now, held: false, depth }
    }

    pub(super) fn moved(&mut self, now: Instant) {
        self.since = now;
        self.held = false;
    }

    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    pub(super) fn verdict(&self, now: Instant, delay: Duration) -> Verdict {
        if now.saturating_duration_since(self.first) >= delay.saturating_mul(LONGEST_WAIT) {
            Verdict::Overdue
        } else if !self.held && now.saturating_duration_since(self.since) >= delay {
            Verdict::Rested
        } else {
            Verdict::Wait
        }
    }

    /// When the verdict changes if nothing moves.
    fn deadline(&self, delay: Duration) -> Option<Instant> {
        let overdue = self.first.checked_add(delay.checked_mul(LONGEST_WAIT)?)?;
        if self.held { Some(overdue) } else { Some(self.since.checked_add(delay)?.min(overdue)) }
    }
}

pub(super) struct Run {
    shared: Arc<Shared>,
    targets: Targets,
    timing: Timing,
    on_change: OnChange,
    watches: Watches,
    problems: Problems,
    known: Known,
    /// The latest observation.
    last: Scan,
    unrest: Option<Unrest>,
    /// What moved since the last report: the engine may have read it in any state.
    stirred: BTreeSet<Key>,
    /// Whether MIB files may be left whose content has never been read.
    unfilled: bool,
    /// The engine reads after a report: what changed before this moment, it has seen.
    reported: SystemTime,
    /// No look before: keeps the share of a core bounded.
    earliest: Instant,
    next_sweep: Instant,
    sweeps: u32,
}

impl Run {
    /// Takes the inputs as they are for known. Observes once, on the calling thread.
    pub(super) fn new(
        shared: Arc<Shared>,
        targets: Targets,
        timing: Timing,
        since: Option<Since>,
        open: Open,
        on_change: OnChange,
    ) -> Self {
        // What either was read from.
        let reported = since.map_or_else(SystemTime::now, |since| since.mibs.max(since.files));
        let mut known = Known::new();
        let last = Scan::take(&targets, known.hasher(), &shared).unwrap_or_default();
        let of = |class| {
            since.map(|since| match class {
                Class::Config => since.files,
                Class::Mib => since.mibs,
            })
        };
        known.learn(&last, of, |_, _| true);
        // The first look is due at once: nothing was watched while the above observed.
        shared.signal(|signals| signals.dirty = true);
        let now = Instant::now();
        Self {
            shared,
            targets,
            timing,
            on_change,
            watches: Watches::new(open),
            problems: Problems::default(),
            known,
            last,
            unrest: None,
            stirred: BTreeSet::new(),
            unfilled: true,
            reported,
            earliest: now,
            next_sweep: later(now, timing.sweep),
            sweeps: 0,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let settle = self.unrest.and_then(|unrest| unrest.deadline(self.timing.delay));
            let deadline = settle.map_or(self.next_sweep, |settle| settle.min(self.next_sweep));
            let mut signals = self.shared.wait(self.earliest, deadline);
            if signals.stop {
                return;
            }
            if let Some((targets, timing)) = signals.update.take() {
                self.retarget(targets, timing);
            }
            if self.look(&signals).is_none() {
                return;
            }
            if self.unfilled && self.unrest.is_none() {
                self.known.fill(&self.shared);
                self.unfilled = false;
            }
        }
    }

    /// Observes, and reports what has come to rest. `None` when the watcher is being stopped.
    fn look(&mut self, signals: &Signals) -> Option<()> {
        let begun = Instant::now();
        let sweep = begun >= self.next_sweep;
        let mut depth = if signals.rescan { Depth::All } else { Depth::None };
        if sweep {
            self.next_sweep = later(begun, self.timing.sweep);
            self.sweeps = self.sweeps.wrapping_add(1);
            let deep = self.sweeps.is_multiple_of(DEEP_SWEEP);
            depth = depth.max(if deep { Depth::All } else { Depth::Config });
        }
        let scan = self.observe(sweep || signals.renew || signals.rescan)?;
        let moved = self.saw(scan);
        let now = Instant::now();
        match &mut self.unrest {
            Some(unrest) => {
                unrest.depth = unrest.depth.max(depth);
                if moved {
                    unrest.moved(now);
                }
            }
            None if !self.known.matches(&self.last) => self.unrest = Some(Unrest::new(now, depth)),
            // After an overflow the contents are compared once there is rest: there may be a storm.
            None if signals.rescan => self.unrest = Some(Unrest::new(now, depth)),
            None if self.known.differs_by_content(depth, &self.shared) => {
                self.unrest = Some(Unrest::new(now, depth));
            }
            None => {}
        }
        if let Some(unrest) = self.unrest {
            // Measured from the beginning of this look: what it saw was so then.
            match unrest.verdict(begun, self.timing.delay) {
                Verdict::Wait => {}
                verdict => self.settle(unrest, verdict)?,
            }
        }
        self.problems.gather(&self.shared, &self.watches, &self.known, &self.last);
        let pause = (self.timing.delay / 4).max(begun.elapsed().saturating_mul(4));
        self.earliest = later(Instant::now(), pause);
        Some(())
    }

    /// Takes up an observation. True when an input moved.
    fn saw(&mut self, scan: Scan) -> bool {
        let moved = scan.inputs != self.last.inputs;
        self.stirred.extend(scan.moved(&self.last));
        self.last = scan;
        moved
    }

    /// Observes with all watches in place: what changes after the observation raises an event.
    fn observe(&mut self, renew: bool) -> Option<Scan> {
        if renew {
            self.watches.align(&self.shared, &self.last.points, true);
        }
        let mut rounds = 0;
        loop {
            let scan = Scan::take(&self.targets, self.known.hasher(), &self.shared)?;
            // Before the watches, else the first events of a new one would concern nobody.
            self.shared.concern(&scan.points);
            rounds += 1;
            if !self.watches.align(&self.shared, &scan.points, false) {
                return Some(scan);
            }
            if rounds == MOST_ROUNDS {
                self.shared.signal(|signals| signals.dirty = true);
                return Some(scan);
            }
        }
    }

    /// Compares by content, and reports.
    fn settle(&mut self, unrest: Unrest, verdict: Verdict) -> Option<()> {
        let overdue = verdict == Verdict::Overdue;
        let comparison = self.known.compare(&self.last, unrest.depth, &self.shared)?;
        let Comparison { unstable, held, .. } = comparison;
        if !overdue && (unstable || held) {
            if let Some(unrest) = &mut self.unrest {
                if unstable { unrest.moved(Instant::now()) } else { unrest.hold() }
            }
            return Some(());
        }
        // What was not at rest goes on being waited for.
        let now = Instant::now();
        let moving = unstable || now.saturating_duration_since(unrest.since) < self.timing.delay;
        self.unrest = (overdue && moving).then(|| Unrest::new(now, Depth::None));
        let differing = self.known.accept(comparison);
        if let Some(change) = describe(&differing) {
            tracing::debug!(component = "reload", paths = ?change.paths, count = change.count, "Inputs have changed");
            self.reported = SystemTime::now();
            self.stirred.clear();
            (self.on_change)(change);
        }
        Some(())
    }

    fn retarget(&mut self, targets: Targets, timing: Timing) {
        let now = Instant::now();
        if self.timing != timing {
            self.timing = timing;
            self.next_sweep = later(now, timing.sweep);
        }
        // With the old targets, for what moved since the last look.
        let Some(scan) = Scan::take(&self.targets, self.known.hasher(), &self.shared) else { return };
        if self.saw(scan)
            && let Some(unrest) = &mut self.unrest
        {
            unrest.moved(Instant::now());
        }
        self.known.doubt(&std::mem::take(&mut self.stirred));
        if self.targets == targets {
            return;
        }
        let before = std::mem::replace(&mut self.targets, targets);
        self.known.retain(&self.targets);
        let Some(scan) = Scan::take(&self.targets, self.known.hasher(), &self.shared) else { return };
        self.known.learn(&scan, |_| Some(self.reported), |class, target| !before.contains(class, target));
        // What stays was observed above; a move since then is for the next look to see.
        let old = std::mem::replace(&mut self.last, scan).inputs;
        let stays = old.into_iter().filter(|(key, _)| self.targets.contains(key.class, &key.target));
        self.last.inputs.extend(stays);
        self.unfilled = true;
    }
}

fn describe(differing: &[Key]) -> Option<Change> {
    let classes: BTreeSet<Class> = differing.iter().map(|key| key.class).collect();
    let what = match (classes.contains(&Class::Config), classes.contains(&Class::Mib)) {
        (true, true) => Changed::Both,
        (true, false) => Changed::Config,
        (false, true) => Changed::Mib,
        (false, false) => return None,
    };
    let paths = differing.iter().take(PATHS_TOLD).map(Key::path).collect();
    Some(Change { what, paths, count: differing.len() })
}

fn later(now: Instant, by: Duration) -> Instant {
    // A duration that the clock cannot hold means never; a day comes near enough.
    now.checked_add(by).unwrap_or_else(|| now + Duration::from_secs(86_400))
}
