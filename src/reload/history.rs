//! What reloads came to: events, statistics, and the generations behind them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::guard::Rehearsal;
use crate::diagnostic::Diagnostic;
use crate::event::{Generation, Timestamp};
use crate::snapshot::Snapshot;

/// How many events are kept.
const KEPT: usize = 100;

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadOutcome {
    /// A new generation is in force.
    Published,
    /// Nothing had changed: no new generation.
    Unchanged,
    /// Refused: the generation before goes on, and nothing of it has changed.
    Rejected,
}

/// One reload. Its JSON is what `POST /reload`, `/debug/reload/events` and `nereus reload --json` show.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadEvent {
    /// `config`, `mib`, `webhook`, `all` or `rollback`.
    pub r#type: &'static str,
    /// What asked for it: a changed file's path, `SIGHUP`, `http`, `cli`, or what a program said.
    pub source: String,
    /// When it began.
    pub time: Timestamp,
    /// Whether it was not rejected.
    pub success: bool,
    /// How it ended.
    pub outcome: ReloadOutcome,
    /// Why it was rejected, in one line.
    pub error: Option<String>,
    /// How long it took, for people: `150ms`.
    pub duration: String,
    /// How long it took.
    pub duration_seconds: f64,
    /// The generation in force afterwards.
    pub generation: Generation,
    /// The generation in force before.
    pub previous_generation: Generation,
    /// How often it was tried; more than once after transient failures alone.
    pub attempts: u32,
    /// What changed, by the names of the configuration.
    pub changes: Vec<String>,
    /// What differs in the file and was not asked for (type `webhook`), or needs a restart.
    pub pending: Vec<String>,
    /// The components that took part.
    pub components: Vec<String>,
    /// Every problem that was found, warnings too; at most [`MAX_DIAGNOSTICS`].
    pub diagnostics: Vec<Diagnostic>,
    /// How long each phase took, in seconds.
    pub phases: Phases,
    /// What the MIB directories came to, if they were read.
    pub mib: Option<MibReport>,
    /// What the rehearsal found, if there was one.
    pub rehearsal: Option<Rehearsal>,
    /// What became of the traps meanwhile.
    pub receipt: Option<Receipt>,
}

/// The most diagnostics of one event.
pub const MAX_DIAGNOSTICS: usize = 100;

/// Seconds of each phase of the last attempt.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[allow(missing_docs, reason = "the phases of the way of a change, in their order")]
pub struct Phases {
    pub read: f64,
    pub build: f64,
    pub rehearse: f64,
    pub prepare: f64,
    pub publish: f64,
    pub commit: f64,
}

/// The loss receipt: what happened to traps between the request and the commit.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Receipt {
    /// Notifications that the old generation accepted in its life.
    pub old_generation_traps: u64,
    /// Notifications that were accepted since the publication.
    pub new_generation_traps: u64,
    /// Notifications that were accepted while the reload ran.
    pub traps_during_reload: u64,
    /// Datagrams that the kernel dropped while the reload ran.
    pub kernel_drops: u64,
}

/// What reading the MIB directories came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MibReport {
    /// Files in the directories.
    pub files: usize,
    /// Files whose contents were read: new ones, and those whose stat had changed.
    pub read: usize,
    /// Files that were parsed, for their contents were new.
    pub parsed: usize,
    /// Files that were taken over as they had been parsed before.
    pub reused: usize,
    /// Files whose names and OIDs were found anew: those that changed, and those that use what changed.
    pub linked: usize,
    /// Modules in them.
    pub modules: usize,
    /// Named nodes, built-in ones included.
    pub nodes: usize,
    /// Problems that were found: warnings and errors.
    pub problems: usize,
    /// Of these, the ones that were not there before.
    pub new_problems: usize,
    /// Problems that were there before and are no longer.
    pub gone_problems: usize,
    /// Whether the files are those of the generation before, to the octet.
    pub unchanged: bool,
}

/// A kept generation, as `/debug/reload/generations` and `nereus generations` show it.
#[derive(Debug, Clone, Serialize)]
pub struct GenerationInfo {
    /// Its number.
    pub generation: Generation,
    /// Whether it is in force.
    pub current: bool,
    /// When it was published.
    pub published: Timestamp,
    /// The type of reload that made it; `start` for the first.
    pub r#type: &'static str,
    /// Who asked for that.
    pub source: String,
    /// Notifications that it has accepted.
    pub traps: u64,
    /// Its rules, the built-in ones included.
    pub rules: usize,
    /// Its webhooks.
    pub webhooks: usize,
    /// Its named MIB nodes.
    pub mib_nodes: usize,
    /// Notifications that were accepted before it was published.
    #[serde(skip)]
    pub(super) traps_before: u64,
}

impl GenerationInfo {
    pub(super) fn new(snapshot: &Snapshot, kind: &'static str, source: String) -> Self {
        Self {
            generation: snapshot.generation(),
            current: true,
            published: Timestamp::now(),
            r#type: kind,
            source,
            traps: 0,
            rules: snapshot.rules().len(),
            webhooks: snapshot.routes().len(),
            mib_nodes: snapshot.mib().nodes().len(),
            traps_before: 0,
        }
    }
}

/// Counts over all reloads since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ReloadStatistics {
    /// All that ended.
    pub total_reloads: u64,
    /// Published or unchanged.
    pub successful_reloads: u64,
    /// Rejected.
    pub failed_reloads: u64,
    /// Share of the successful ones, in percent; 100 before the first.
    pub success_rate: f64,
    /// The mean duration in seconds.
    pub average_duration_seconds: f64,
    /// When the last one began.
    pub last_reload: Option<Timestamp>,
}

/// Keeps the last events and the statistics.
#[derive(Debug, Default)]
pub(super) struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Arc<ReloadEvent>>,
    total: u64,
    failed: u64,
    seconds: f64,
    last: Option<Timestamp>,
}

impl History {
    pub(super) fn add(&self, event: &ReloadEvent) {
        let mut inner = self.inner.lock();
        inner.total += 1;
        inner.failed += u64::from(!event.success);
        inner.seconds += event.duration_seconds;
        inner.last = Some(event.time);
        if inner.events.len() == KEPT {
            inner.events.pop_front();
        }
        inner.events.push_back(Arc::new(event.clone()));
    }

    /// The last `number` events, newest first.
    pub(super) fn recent(&self, number: usize) -> Vec<Arc<ReloadEvent>> {
        self.inner.lock().events.iter().rev().take(number).cloned().collect()
    }

    pub(super) fn statistics(&self) -> ReloadStatistics {
        let inner = self.inner.lock();
        let successful = inner.total - inner.failed;
        let share = |part: f64, of: u64, none: f64| if of == 0 { none } else { part / of as f64 };
        ReloadStatistics {
            total_reloads: inner.total,
            successful_reloads: successful,
            failed_reloads: inner.failed,
            success_rate: share(100.0 * successful as f64, inner.total, 100.0),
            average_duration_seconds: share(inner.seconds, inner.total, 0.0),
            last_reload: inner.last,
        }
    }
}

/// A duration as the founding document prints it: `150ms`, `2.5s`, `800us`.
pub(super) fn human(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros}us"),
        1_000..10_000 => format!("{:.1}ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{}ms", micros / 1000),
        _ => format!("{:.1}s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_the_founding_document() {
        for (micros, text) in [(80, "80us"), (1_500, "1.5ms"), (150_000, "150ms"), (2_540_000, "2.5s")] {
            assert_eq!(human(Duration::from_micros(micros)), text);
        }
    }
}
