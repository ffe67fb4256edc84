//! The way of a change: triggers, reading, building, rehearsal, two-phase components, publication, history.
//!
//! ```text
//! SIGHUP, HTTP, CLI, a program ─┐
//! file watch (at rest) ─────────┴▶ one mailbox: ≤1 running, ≤1 pending
//!   ─▶ read by content ─▶ build ─▶ rehearse ─▶ every component prepares
//!   ─▶ publish: one swap ─▶ every component commits ─▶ ReloadEvent with its receipt
//! ```
//! Anything that fails before the publication changes nothing, and says why: event, log, metric, answer.
//!
//! | file | lives there |
//! |---|---|
//! | `trigger.rs` | the types of reload, requests, the mailbox |
//! | `plan.rs` | reading the inputs and what they make |
//! | `guard.rs` | the rehearsal |
//! | `engine.rs` | the thread that does it |
//! | `history.rs` | events, statistics, generations |
//! | `watch/` | file events and the sweep |

mod engine;
mod guard;
mod history;
mod plan;
mod trigger;
pub mod watch;

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};

pub use guard::Rehearsal;
pub use history::{
    GenerationInfo, MAX_DIAGNOSTICS, MibReport, Phases, Receipt, ReloadEvent, ReloadOutcome, ReloadStatistics,
};
pub use trigger::ReloadType;

use crate::config::{self, Input, Settings};
use crate::diagnostic::{Diagnostic, Level, Part};
use crate::event::Generation;
use crate::metrics::Metrics;
use crate::pipeline::Samples;
use crate::snapshot::{
    Candidate, ComponentReloader, Explanation, Publisher, ReloadStats, Snapshot, SnapshotHandle,
};
use engine::{Engine, unix_seconds};
use history::History;
use plan::{Late, Plan};
use trigger::{Mailbox, Request, Wanted};
use watch::{Change, Changed, WatchProblem, Watcher};

/// The settings of a start and where they come from, with their MIBs compiled and their rules bound: what
/// `check` validates, and what a [`ReloadManager`] begins with.
pub struct FirstPlan {
    candidate: Candidate,
    plan: Plan,
    /// MIB directories that follow as a reload.
    late: Option<Late>,
    /// Before anything of it was read: what changes later is not part of it.
    begun: SystemTime,
}

impl FirstPlan {
    /// Compiles and builds. `origin` and `inputs` are where `settings` were read from, if anywhere. The second
    /// part are the problems of the MIB files, which keep nothing from starting.
    pub fn make(
        origin: Option<PathBuf>,
        inputs: Vec<Input>,
        settings: Settings,
    ) -> (Result<Self, Vec<Diagnostic>>, Arc<[Diagnostic]>) {
        let begun = SystemTime::now();
        let (built, mib_problems) = Plan::first(origin, inputs, settings);
        (built.map(|(candidate, plan)| Self { candidate, plan, late: None, begun }), mib_problems)
    }

    /// As [`make`](Self::make), but waits for the MIB directories no longer than `patience`. Then the built-in names do
    /// for the first generation, and the directories follow as a reload of the type `mib`, once they are compiled;
    /// unless the rules have names that are not built in: then it waits.
    pub fn make_within(
        origin: Option<PathBuf>,
        inputs: Vec<Input>,
        settings: Settings,
        patience: Duration,
    ) -> (Result<Self, Vec<Diagnostic>>, Arc<[Diagnostic]>) {
        let begun = SystemTime::now();
        let (built, mib_problems, late) = Plan::first_within(origin, inputs, settings, patience);
        (built.map(|(candidate, plan)| Self { candidate, plan, late, begun }), mib_problems)
    }

    /// What would be published, for asking it without a running Nereus.
    #[must_use]
    pub fn into_candidate(self) -> Candidate {
        self.candidate
    }

    /// What a reload of these settings would be refused for though a start goes on: MIB directories that cannot be
    /// read.
    #[must_use]
    pub fn refused_by_a_reload(&self) -> Vec<Diagnostic> {
        self.plan.missing_directories(self.candidate.settings())
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        self.candidate.settings()
    }
}

/// Why a reload that was asked for is not in force.
#[derive(Debug)]
pub enum ReloadError {
    /// It was rejected: the event says why, and nothing has changed.
    Rejected(Box<ReloadEvent>),
    /// The engine has ended, or too many requests wait.
    Unavailable,
}

impl std::fmt::Display for ReloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rejected(event) => f.write_str(event.error.as_deref().unwrap_or("rejected")),
            Self::Unavailable => f.write_str("the reload engine has ended, or too many requests wait"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// A component as it is shown.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ComponentReport {
    /// The name under which it was registered.
    pub component: Arc<str>,
    /// How often it took part in a reload.
    pub reload_count: u64,
    /// When the last one was.
    pub last_reload: Option<crate::event::Timestamp>,
    /// The generation that it follows.
    pub config_version: u64,
}

/// What the engine needs of the rest of the program.
pub struct Wiring {
    /// Where reloads are counted.
    pub metrics: Arc<Metrics>,
    /// The recent datagrams, for the rehearsal.
    pub samples: Arc<Samples>,
    /// All datagrams that the kernel has dropped so far.
    pub kernel_drops: Box<dyn Fn() -> u64 + Send + Sync>,
    /// How often the inputs are looked at though no file event came.
    pub sweep: Duration,
}

/// Asks for reloads and tells of them. Cheap to clone; all clones speak to one engine, which owns the one
/// Publisher.
#[derive(Clone)]
pub struct ReloadManager {
    shared: Arc<Shared>,
}

/// The engine's thread. Dropped, the engine ends once the reload at hand is done.
pub struct ReloadEngine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What manager and engine have in common.
struct Shared {
    mailbox: Mailbox,
    history: History,
    components: RwLock<Vec<(Arc<str>, Arc<dyn ComponentReloader>)>>,
    generations: Mutex<BTreeMap<Generation, GenerationInfo>>,
    /// The kept generations themselves; whoever asks for one holds it for a moment, the publisher for good.
    kept: Mutex<Vec<Weak<Snapshot>>>,
    /// The configuration file, if there is one.
    origin: Option<PathBuf>,
    mib_problems: Mutex<Arc<[Diagnostic]>>,
    watcher: Mutex<Option<Watcher>>,
    snapshot: SnapshotHandle,
    metrics: Arc<Metrics>,
    samples: Arc<Samples>,
    kernel_drops: Box<dyn Fn() -> u64 + Send + Sync>,
    sweep: Duration,
    /// The built-in names stand in for those of the MIB directories.
    mibs_pending: AtomicBool,
    /// When the reading for generation 1 began.
    begun: SystemTime,
}

impl ReloadManager {
    /// Publishes `first` as generation 1. The engine starts with [`ReloadManager::start`], once the components
    /// are registered.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(
        first: FirstPlan,
        mib_problems: &Arc<[Diagnostic]>,
        wiring: Wiring,
    ) -> io::Result<(Self, NotStarted)> {
        let FirstPlan { candidate, plan, late, begun } = first;
        let reload = Arc::clone(&candidate.settings().reload);
        wiring.samples.set_limit(reload.guard.samples);
        let publisher = Publisher::new(candidate, reload.keep_generations)?;
        let shared = Arc::new(Shared {
            mailbox: Mailbox::default(),
            history: History::default(),
            components: RwLock::default(),
            generations: Mutex::default(),
            kept: Mutex::new(vec![Arc::downgrade(publisher.current())]),
            origin: plan.origin.clone(),
            mib_problems: Mutex::new(Arc::new([])),
            watcher: Mutex::default(),
            snapshot: publisher.handle(),
            metrics: wiring.metrics,
            samples: wiring.samples,
            kernel_drops: wiring.kernel_drops,
            sweep: wiring.sweep,
            mibs_pending: AtomicBool::new(false),
            begun,
        });
        // What runs was valid when it started.
        shared.metrics.config_last_reload_successful.set(1);
        shared.note_mib_problems(Some(plan.mib_report()), mib_problems);
        plan.finish_mibs(&publisher.current().settings().mib.cache);
        shared.mibs_pending.store(late.is_some(), Ordering::Relaxed);
        let info = GenerationInfo::new(publisher.current(), "start", plan.describe());
        shared.published(Generation(0), 0, info, &[Generation(1)]);
        let seen = plan.seen();
        let engine = Engine {
            shared: Arc::clone(&shared),
            publisher,
            plan: Arc::new(plan),
            seen,
            passed_over: None,
            cancelled: None,
            traps_at_publish: 0,
            cancel_late: late.as_ref().map(|late| Arc::clone(&late.cancel)),
        };
        Ok((Self { shared }, NotStarted(engine, late)))
    }

    /// Registers a component: from the next reload on it prepares and commits with the others, in the order of
    /// registration. Another one of that name is replaced. One that panics fails the reload (in *prepare*) or is
    /// told in the log (in *commit*, where nothing can be undone); neither may wait for another reload, which
    /// would wait for it.
    pub fn register_component(&self, name: &str, component: Arc<dyn ComponentReloader>) {
        let mut components = self.shared.components.write();
        components.retain(|(known, _)| **known != *name);
        components.push((name.into(), component));
    }

    /// Asks for a reload and waits for its outcome. `source` says who asks, in the event and the log.
    ///
    /// # Errors
    /// [`ReloadError::Rejected`] with the event; nothing has changed then. [`ReloadError::Unavailable`] once the
    /// engine has ended.
    pub fn trigger_reload(&self, kind: ReloadType, source: &str) -> Result<ReloadEvent, ReloadError> {
        self.ask(Wanted::Reload(kind), source, false)
    }

    /// As [`trigger_reload`](Self::trigger_reload), without the guard, and also for an input that was rejected before.
    ///
    /// # Errors
    /// As [`trigger_reload`](Self::trigger_reload).
    pub fn force_reload(&self, kind: ReloadType, source: &str) -> Result<ReloadEvent, ReloadError> {
        self.ask(Wanted::Reload(kind), source, true)
    }

    /// Asks for a reload without waiting. False if the engine has ended.
    pub fn request_reload(&self, kind: ReloadType, source: &str) -> bool {
        self.shared.mailbox.post(Request {
            wanted: Wanted::Reload(kind),
            source: source.to_owned(),
            force: false,
            automatic: false,
            replies: Vec::new(),
        })
    }

    /// Publishes the parts of a kept generation again, under a new number; `None` is the one before the current.
    /// File changes that were made before are not taken in again until a file differs or a reload is asked for.
    ///
    /// # Errors
    /// [`ReloadError::Rejected`]: it is not kept, or a component cannot follow.
    pub fn rollback(&self, generation: Option<Generation>, source: &str) -> Result<ReloadEvent, ReloadError> {
        self.ask(Wanted::Rollback(generation), source, true)
    }

    fn ask(&self, wanted: Wanted, source: &str, force: bool) -> Result<ReloadEvent, ReloadError> {
        let (reply, answer) = sync_channel(1);
        let source = source.to_owned();
        let request = Request { wanted, source, force, automatic: false, replies: vec![reply] };
        if !self.shared.mailbox.post(request) {
            return Err(ReloadError::Unavailable);
        }
        let event = answer.recv().map_err(|_| ReloadError::Unavailable)?;
        if event.success { Ok(event) } else { Err(ReloadError::Rejected(Box::new(event))) }
    }

    /// Counts over all reloads.
    #[must_use]
    pub fn stats(&self) -> ReloadStatistics {
        self.shared.history.statistics()
    }

    /// The last `number` reloads, newest first.
    #[must_use]
    pub fn recent_events(&self, number: usize) -> Vec<Arc<ReloadEvent>> {
        self.shared.history.recent(number)
    }

    /// The kept generations, oldest first.
    #[must_use]
    pub fn generations(&self) -> Vec<GenerationInfo> {
        let current = self.shared.snapshot.current().generation();
        let traps = self.shared.metrics.traps_processed.get();
        let generations = self.shared.generations.lock();
        let before: u64 = generations.values().map(|info| info.traps_before).max().unwrap_or(0);
        generations
            .values()
            .cloned()
            .map(|mut info| {
                info.current = info.generation == current;
                if info.current {
                    info.traps = traps.saturating_sub(before);
                }
                info
            })
            .collect()
    }

    /// A generation that is kept, as long as it is. Hold it no longer than a request.
    #[must_use]
    pub fn kept(&self, generation: Generation) -> Option<Arc<Snapshot>> {
        let kept = self.shared.kept.lock();
        kept.iter().filter_map(Weak::upgrade).find(|snapshot| snapshot.generation() == generation)
    }

    /// Says where the rules of an explanation stand in the configuration file, as it is now.
    pub fn locate(&self, explained: &mut Explanation) {
        if let Some(origin) = &self.shared.origin {
            locate_rules(origin, explained);
        }
    }

    /// The components and their part in reloads.
    #[must_use]
    pub fn components(&self) -> Vec<ComponentReport> {
        let report = |(name, component): (Arc<str>, Arc<dyn ComponentReloader>)| {
            let stats = catch_unwind(AssertUnwindSafe(|| component.reload_stats()));
            let ReloadStats { reload_count, last_reload, config_version } = stats.unwrap_or_default();
            ComponentReport {
                component: name,
                reload_count,
                last_reload: last_reload.map(Into::into),
                config_version,
            }
        };
        self.shared.registered().into_iter().map(report).collect()
    }

    /// The problems of the MIB files that were read last.
    #[must_use]
    pub fn mib_problems(&self) -> Arc<[Diagnostic]> {
        Arc::clone(&self.shared.mib_problems.lock())
    }

    /// Whether the built-in names stand in for those of the MIB directories, which are still being compiled since the
    /// start.
    #[must_use]
    pub fn mibs_pending(&self) -> bool {
        self.shared.mibs_pending.load(Ordering::Relaxed)
    }

    /// What keeps file events from working now; the sweep goes on meanwhile.
    #[must_use]
    pub fn watch_problems(&self) -> Vec<WatchProblem> {
        self.shared.watcher.lock().as_ref().map(Watcher::problems).unwrap_or_default()
    }

    /// Makes readers of the current Snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &SnapshotHandle {
        &self.shared.snapshot
    }
}

/// An engine whose components are still being registered.
pub struct NotStarted(Engine, Option<Late>);

impl NotStarted {
    /// Starts the engine's thread, and the watching of files.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(self) -> io::Result<ReloadEngine> {
        let Self(engine, late) = self;
        let shared = Arc::clone(&engine.shared);
        let thread = thread::Builder::new().name("reload".into()).spawn(move || engine.run())?;
        if let Some(late) = late {
            let waiting = Arc::downgrade(&shared);
            thread::Builder::new().name("mib_late".into()).spawn(move || {
                if late.wait()
                    && let Some(shared) = waiting.upgrade()
                {
                    shared.mailbox.post(Request {
                        wanted: Wanted::Reload(ReloadType::Mib),
                        source: "start".to_owned(),
                        force: false,
                        automatic: false,
                        replies: Vec::new(),
                    });
                }
            })?;
        }
        Ok(ReloadEngine { shared, thread: Some(thread) })
    }
}

impl Drop for ReloadEngine {
    fn drop(&mut self) {
        self.shared.mailbox.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(component = "reload", "The reload thread has panicked");
        }
    }
}

/// Posts what the watcher has seen.
struct Automatic {
    shared: Weak<Shared>,
}

impl Automatic {
    fn post(&self, change: Change) {
        let Some(shared) = self.shared.upgrade() else { return };
        let kind = match change.what {
            Changed::Config => ReloadType::Config,
            Changed::Mib => ReloadType::Mib,
            Changed::Both => ReloadType::All,
        };
        let source =
            change.paths.first().map_or_else(|| "file".to_owned(), |path| path.display().to_string());
        shared.mailbox.post(Request {
            wanted: Wanted::Reload(kind),
            source,
            force: false,
            automatic: true,
            replies: Vec::new(),
        });
    }
}

impl Shared {
    fn registered(&self) -> Vec<(Arc<str>, Arc<dyn ComponentReloader>)> {
        self.components.read().clone()
    }

    /// A generation is in force: `old` has handled `traps`, and only `kept` can be rolled back to.
    fn published(&self, old: Generation, traps: u64, info: GenerationInfo, kept: &[Generation]) {
        let mut generations = self.generations.lock();
        if let Some(old) = generations.get_mut(&old) {
            old.traps = traps;
        }
        let before = self.metrics.traps_processed.get();
        generations.insert(info.generation, GenerationInfo { traps_before: before, ..info });
        generations.retain(|generation, _| kept.contains(generation));
        drop(generations);
        let snapshot = self.snapshot.current();
        self.metrics.snapshot_generation.set(snapshot.generation().0 as i64);
        self.metrics.mib_modules.set(snapshot.mib().modules().count() as i64);
        self.metrics.mib_nodes.set(snapshot.mib().nodes().len() as i64);
    }

    /// MIB problems go to the log as a sum and at `debug` one by one: a vendor's tree has thousands.
    fn note_mib_problems(&self, report: Option<MibReport>, problems: &Arc<[Diagnostic]>) {
        if report.is_none_or(|report| report.unchanged) {
            return;
        }
        self.mibs_pending.store(false, Ordering::Relaxed);
        for (level, name) in [(Level::Note, "note"), (Level::Warning, "warning"), (Level::Error, "error")] {
            let number = problems.iter().filter(|problem| problem.level == level).count();
            self.metrics.mib_problems.with_label_values(&[name]).set(number as i64);
        }
        let errors = problems.iter().filter(|problem| problem.level == Level::Error).count();
        if errors > 0 {
            tracing::warn!(
                component = "mib_loader",
                errors,
                problems = problems.len(),
                "Some MIB definitions are not in force; `nereus mib lint` shows them"
            );
        }
        for problem in &**problems {
            tracing::debug!(component = "mib_loader", "{problem}");
        }
        *self.mib_problems.lock() = Arc::clone(problems);
    }

    /// Log, metrics, history: the same everywhere.
    fn record(&self, event: &ReloadEvent) {
        let (kind, source) = (event.r#type, &*event.source);
        let (duration, generation) = (&*event.duration, event.generation.0);
        if event.success {
            let outcome = if event.outcome == ReloadOutcome::Unchanged { "unchanged" } else { "published" };
            let changes = event.changes.join(", ");
            tracing::info!(
                component = "reload",
                r#type = kind,
                source,
                duration,
                success = true,
                outcome,
                generation,
                changes,
                "Reload completed successfully"
            );
            if !event.pending.is_empty() {
                let pending = event.pending.join(", ");
                tracing::warn!(
                    component = "reload",
                    r#type = kind,
                    source,
                    pending,
                    "Other changes of the file are pending"
                );
            }
        } else {
            let error = event.error.as_deref().unwrap_or_default();
            tracing::error!(
                component = "reload",
                r#type = kind,
                source,
                duration,
                success = false,
                error,
                generation,
                "Reload failed"
            );
        }
        for problem in &event.diagnostics {
            let level = problem.level;
            if level == Level::Error || !event.success {
                tracing::warn!(component = "reload", r#type = kind, "{problem}");
            } else {
                tracing::debug!(component = "reload", r#type = kind, "{problem}");
            }
        }
        let metrics = &self.metrics;
        let result = if event.success { "success" } else { "failure" };
        metrics.reload_events.with_label_values(&[kind, result]).inc();
        metrics.reload_duration.with_label_values(&[kind]).set(event.duration_seconds);
        // A rollback that cannot be made says nothing about the configuration.
        if event.success || kind != engine::ROLLBACK {
            metrics.config_last_reload_successful.set(i64::from(event.success));
        }
        if event.success {
            metrics.config_last_reload_success_timestamp.set(unix_seconds(SystemTime::now()));
        }
        let phases = &event.phases;
        let ran = [
            ("read", phases.read),
            ("build", phases.build),
            ("rehearse", phases.rehearse),
            ("prepare", phases.prepare),
            ("publish", phases.publish),
            ("commit", phases.commit),
        ];
        // One that was not come to takes no time at all.
        for (phase, seconds) in ran.into_iter().filter(|(_, seconds)| *seconds > 0.0) {
            metrics.reload_phase.with_label_values(&[phase]).observe(seconds);
        }
        for component in &event.components {
            metrics.component_reloads.with_label_values(&[component]).inc();
        }
        self.history.add(event);
    }
}

/// Says where the rules of an explanation stand in the configuration file at `path`. Reads it once.
pub fn locate_rules(path: &Path, explained: &mut Explanation) {
    let mut rules: Vec<_> =
        explained.clears.iter_mut().chain(&mut explained.rules).filter(|rule| !rule.builtin).collect();
    let part = |rule: &str| Part { rule: Some(rule.into()), key: "name".into(), word: rule.into() };
    let mut wanted: Vec<_> = rules
        .iter()
        .map(|rule| {
            let part = Some(Box::new(part(&rule.rule)));
            Diagnostic { part, ..Diagnostic::warning("rule", String::new()) }
        })
        .collect();
    config::locate(path, &mut wanted);
    for (rule, found) in rules.iter_mut().zip(wanted) {
        rule.defined = found.place.map(|place| format!("{}:{}", place.file, place.line));
    }
}
