//! The thread that makes reloads: reads, builds, rehearses, prepares, publishes, commits.
//!
//! Whatever fails before the publication changes nothing: no generation, no socket, no worker. After it
//! nothing can fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::guard::{Rehearsal, rehearse};
use super::history::{
    GenerationInfo, MAX_DIAGNOSTICS, MibReport, Phases, Receipt, ReloadEvent, ReloadOutcome, human,
};
use super::plan::{Attempt, Built, Failure, Plan};
use super::trigger::{ReloadType, Request, Wanted};
use super::watch::{Targets, Timing, Watcher};
use super::{Automatic, Shared};
use crate::config::{ContentHash, Input};
use crate::diagnostic::{Diagnostic, Level};
use crate::event::{Generation, Timestamp};
use crate::snapshot::{Candidate, Prepared, Publisher, Snapshot};

/// The longest pause before a transient failure is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The engine's own state. It owns the Publisher: nobody else publishes.
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) publisher: Publisher,
    pub(super) plan: Arc<Plan>,
    pub(super) watcher: Option<Watcher>,
    /// What the files held when they were last read, taken or refused.
    pub(super) seen: Seen,
    /// Inputs that file events do not bring again: refused ones, and all after a rollback.
    pub(super) passed_over: Option<Seen>,
    /// A build that ran out of time and still has to notice.
    pub(super) cancelled: Option<JoinHandle<()>>,
    pub(super) traps_at_publish: u64,
}

/// The inputs as they were read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub(super) inputs: Vec<Input>,
    pub(super) mibs: Option<ContentHash>,
}

/// What one attempt came to.
struct Attempted {
    outcome: ReloadOutcome,
    failure: Option<Failure>,
    changes: Vec<String>,
    pending: Vec<String>,
    components: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    phases: Phases,
    mib: Option<MibReport>,
    rehearsal: Option<Rehearsal>,
}

impl Attempted {
    fn new() -> Self {
        Self {
            outcome: ReloadOutcome::Rejected,
            failure: None,
            changes: Vec::new(),
            pending: Vec::new(),
            components: Vec::new(),
            diagnostics: Vec::new(),
            phases: Phases::default(),
            mib: None,
            rehearsal: None,
        }
    }

    fn rejected(mut self, failure: Failure) -> Self {
        self.diagnostics.extend(failure.diagnostics.iter().cloned());
        self.failure = Some(failure);
        self
    }
}

/// What a reload is, once it is decided what it does.
struct Change {
    candidate: Candidate,
    plan: Option<Plan>,
    source: String,
    kind: &'static str,
    force: bool,
}

impl Engine {
    pub(super) fn run(mut self) {
        self.watch();
        while let Some(request) = self.shared.mailbox.next() {
            let kind = match request.wanted {
                Wanted::Reload(kind) => kind.as_str(),
                Wanted::Rollback(_) => "rollback",
            };
            if request.automatic && self.is_passed_over() {
                continue;
            }
            let event = self.serve(&request, kind);
            self.shared.record(&event);
            for reply in request.replies {
                // Who asked may be gone.
                let _ = reply.try_send(event.clone());
            }
        }
        // The watcher's thread posts to the mailbox, which is closed: it ends without waiting.
        drop(self.watcher.take());
    }

    fn serve(&mut self, request: &Request, kind: &'static str) -> ReloadEvent {
        let time = Timestamp::now();
        let started = Instant::now();
        let previous = self.publisher.current().generation();
        let traps_before = self.shared.metrics.traps_processed.get();
        let drops_before = (self.shared.kernel_drops)();
        let settings = Arc::clone(&self.publisher.current().settings().reload);
        let tries = settings.max_reload_attempts.max(1);
        let mut attempts = 0;
        let attempted = loop {
            attempts += 1;
            let attempted = match &request.wanted {
                Wanted::Reload(reload) => self.reload(*reload, request),
                Wanted::Rollback(generation) => self.roll_back(*generation, request),
            };
            let transient = attempted.failure.as_ref().is_some_and(|failure| failure.transient);
            if !transient || attempts >= tries || self.shared.mailbox.is_closed() {
                break attempted;
            }
            thread::sleep(settings.reload_delay.min(LONGEST_PAUSE));
        };
        let published = attempted.outcome == ReloadOutcome::Published;
        let traps = self.shared.metrics.traps_processed.get();
        let receipt = Receipt {
            old_generation_traps: if published {
                self.shared.traps_of(previous)
            } else {
                traps - self.traps_at_publish
            },
            new_generation_traps: if published { traps - self.traps_at_publish } else { 0 },
            traps_during_reload: traps - traps_before,
            kernel_drops: (self.shared.kernel_drops)().saturating_sub(drops_before),
        };
        let duration = started.elapsed();
        let mut diagnostics = attempted.diagnostics;
        diagnostics.truncate(MAX_DIAGNOSTICS);
        ReloadEvent {
            r#type: kind,
            source: request.source.clone(),
            time,
            success: attempted.outcome != ReloadOutcome::Rejected,
            outcome: attempted.outcome,
            error: attempted.failure.map(|failure| failure.error),
            duration: human(duration),
            duration_seconds: duration.as_secs_f64(),
            generation: self.publisher.current().generation(),
            previous_generation: previous,
            attempts,
            changes: attempted.changes,
            pending: attempted.pending,
            components: attempted.components,
            diagnostics,
            phases: attempted.phases,
            mib: attempted.mib,
            rehearsal: attempted.rehearsal,
            receipt: Some(receipt),
        }
    }

    /// Whether the files are what was refused already, or what was there when somebody rolled back.
    fn is_passed_over(&self) -> bool {
        let Some(passed_over) = &self.passed_over else { return false };
        let read_again = |input: &Input| {
            let hash = std::fs::read(&input.path).ok().map(|octets| ContentHash::of(&octets));
            hash == input.hash
        };
        passed_over.inputs.iter().all(read_again) && passed_over.mibs == self.plan.mib_state()
    }

    fn reload(&mut self, kind: ReloadType, request: &Request) -> Attempted {
        let mut attempted = Attempted::new();
        let mut built = match self.build(kind) {
            Ok(built) => built,
            Err(failure) => {
                self.passed_over = Some(self.seen.clone());
                self.watch();
                return attempted.rejected(failure);
            }
        };
        attempted.phases.read = built.read_seconds;
        attempted.phases.build = built.build_seconds;
        attempted.mib = built.mib;
        attempted.changes = std::mem::take(&mut built.changes);
        attempted.pending = std::mem::take(&mut built.pending);
        attempted.diagnostics = std::mem::take(&mut built.diagnostics);
        self.shared.note_mib_problems(built.mib, &built.mib_problems);
        if built.mib.is_some_and(|mib| !mib.unchanged) {
            attempted.changes.push("mib".to_owned());
            let told = built.mib_problems.into_iter().filter(|problem| problem.level > Level::Note);
            attempted.diagnostics.extend(told.take(MAX_DIAGNOSTICS));
        }
        if built.candidate.is(self.publisher.current()) {
            self.plan = Arc::new(built.plan);
            self.passed_over = None;
            self.watch();
            attempted.outcome = ReloadOutcome::Unchanged;
            return attempted;
        }
        let change = Change {
            candidate: built.candidate,
            plan: Some(built.plan),
            source: request.source.clone(),
            kind: kind.as_str(),
            force: request.force,
        };
        let attempted = self.put_in_force(change, attempted);
        self.passed_over = (attempted.outcome == ReloadOutcome::Rejected).then(|| self.seen.clone());
        attempted
    }

    fn roll_back(&mut self, wanted: Option<Generation>, request: &Request) -> Attempted {
        let attempted = Attempted::new();
        let kept: Vec<u64> = self.publisher.kept().map(|snapshot| snapshot.generation().0).collect();
        let found = match wanted {
            Some(generation) => self.publisher.kept().find(|snapshot| snapshot.generation() == generation),
            None => self.publisher.kept().rev().nth(1),
        };
        let Some(target) = found.cloned() else {
            let list = kept.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            let error = match wanted {
                Some(generation) => format!("generation {generation} is not kept; these are: {list}"),
                None => format!("there is no generation before {list}"),
            };
            return attempted.rejected(Failure::lasting(error));
        };
        let candidate = target.candidate();
        if candidate.is(self.publisher.current()) {
            return Attempted { outcome: ReloadOutcome::Unchanged, ..attempted };
        }
        let change =
            Change { candidate, plan: None, source: request.source.clone(), kind: "rollback", force: true };
        let attempted = self.put_in_force(change, attempted);
        if attempted.outcome == ReloadOutcome::Published {
            // What is on the disk now was just undone: file events bring it back only once it differs.
            self.seen.mibs = self.plan.mib_state();
            self.passed_over = Some(self.seen.clone());
        }
        attempted
    }

    /// Reads and builds on a thread of its own, so that an attempt past `reload_timeout` can be left behind.
    fn build(&mut self, kind: ReloadType) -> Result<Built, Failure> {
        let current = Arc::clone(self.publisher.current());
        let timeout = current.settings().reload.reload_timeout;
        if let Some(old) = self.cancelled.take()
            && !finished_within(&old, timeout)
        {
            self.cancelled = Some(old);
            return Err(Failure::lasting("the reload that ran out of time before is still being cancelled"));
        }
        let cancel = Arc::new(AtomicBool::new(false));
        let (sender, answer) = sync_channel(1);
        let worker = {
            let (plan, cancel) = (Arc::clone(&self.plan), Arc::clone(&cancel));
            thread::Builder::new().name("reload-build".into()).spawn(move || {
                let mut inputs = Vec::new();
                let built = plan.read(&Attempt { kind, current: &current, cancel: &cancel }, &mut inputs);
                // Nobody waits any more for one that took too long.
                let _ = sender.send((built, inputs));
            })
        };
        let worker = worker.map_err(|error| Failure::lasting(format!("no thread for the build: {error}")))?;
        match answer.recv_timeout(timeout) {
            Ok((built, inputs)) => {
                self.seen = Seen { inputs, mibs: self.plan.mib_state() };
                built
            }
            Err(RecvTimeoutError::Timeout) => {
                cancel.store(true, Ordering::Relaxed);
                self.cancelled = Some(worker);
                let error = format!("the reload took longer than reload_timeout ({})", human(timeout));
                Err(Failure::lasting(error))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Failure::lasting("the build has panicked; the log says where"))
            }
        }
    }

    /// Rehearses, prepares, publishes, commits.
    fn put_in_force(&mut self, change: Change, mut attempted: Attempted) -> Attempted {
        let old = Arc::clone(self.publisher.current());
        let staged = self.publisher.stage(change.candidate);
        let reload = &old.settings().reload;
        if reload.validate_before_reload {
            let started = Instant::now();
            let mut samples = self.shared.samples.recent();
            let surplus = samples.len().saturating_sub(reload.guard.samples);
            samples.drain(..surplus);
            let found = rehearse(&old, staged.snapshot(), &samples);
            attempted.phases.rehearse = started.elapsed().as_secs_f64();
            attempted.rehearsal = Some(found);
            let increase = found.unresolved_increase();
            if !change.force && increase > reload.guard.max_unresolved_increase {
                return attempted.rejected(Failure::lasting(format!(
                    "the guard refuses it: of {} recent notifications {} would have no name, {} have none now \
                     (max_unresolved_increase); `nereus reload --force` takes it all the same",
                    found.samples, found.unresolved_after, found.unresolved_before
                )));
            }
        }
        let started = Instant::now();
        let mut prepared = match self.prepare(&old, staged.snapshot()) {
            Ok(prepared) => prepared,
            Err(failure) => return attempted.rejected(failure),
        };
        attempted.phases.prepare = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let traps_of_old = self.shared.metrics.traps_processed.get() - self.traps_at_publish;
        for (_, component) in &mut prepared {
            component.about_to_publish();
        }
        let snapshot = self.publisher.publish_staged(staged);
        attempted.phases.publish = started.elapsed().as_secs_f64();
        self.traps_at_publish = self.shared.metrics.traps_processed.get();
        let started = Instant::now();
        for (name, component) in prepared {
            component.commit();
            attempted.components.push(name.to_string());
        }
        attempted.phases.commit = started.elapsed().as_secs_f64();
        self.publisher.keep(snapshot.settings().reload.keep_generations);
        if let Some(plan) = change.plan {
            self.plan = Arc::new(plan);
        }
        let kept: Vec<Generation> = self.publisher.kept().map(|snapshot| snapshot.generation()).collect();
        let info = GenerationInfo::new(&snapshot, change.kind, change.source);
        self.shared.published(old.generation(), traps_of_old, info, &kept);
        self.shared.samples.set_limit(snapshot.settings().reload.guard.samples);
        self.watch();
        attempted.outcome = ReloadOutcome::Published;
        attempted
    }

    /// Every component that the change concerns, ready. What was prepared before one fails is let go.
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Result<Vec<(Arc<str>, Box<dyn Prepared>)>, Failure> {
        let mut prepared = Vec::new();
        for (name, component) in self.shared.registered() {
            match component.prepare(old, new) {
                Ok(Some(ready)) => prepared.push((name, ready)),
                Ok(None) => {}
                Err(error) => {
                    return Err(Failure {
                        error: format!("Failed to reload component {name}: {}", error.message),
                        diagnostics: Vec::new(),
                        transient: error.transient,
                    });
                }
            }
        }
        Ok(prepared)
    }

    /// Watches what the running settings and the last reading name.
    fn watch(&mut self) {
        let settings = &self.publisher.current().settings().reload;
        let mut targets = Targets::default();
        if settings.enabled && settings.watch_config_file {
            // A refused file may name others than the running one: both count.
            let inputs = self.plan.inputs.iter().chain(&self.seen.inputs).map(|input| &input.path);
            for path in self.plan.origin.iter().chain(inputs) {
                if !targets.files.contains(path) {
                    targets.files.push(path.clone());
                }
            }
        }
        if settings.enabled && settings.watch_mib_directories {
            targets.mib_directories = self.publisher.current().settings().mib.directories.clone();
        }
        let timing = Timing { delay: settings.reload_delay, sweep: self.shared.sweep };
        if targets.files.is_empty() && targets.mib_directories.is_empty() {
            self.watcher = None;
            return;
        }
        match &self.watcher {
            Some(watcher) => watcher.update(targets, timing),
            None => {
                let post = Automatic { shared: Arc::downgrade(&self.shared) };
                let since = self.shared.started;
                self.watcher =
                    Some(Watcher::start_since(targets, timing, since, move |change| post.post(change)));
            }
        }
        *self.shared.watching.lock() = self.watcher.as_ref().map(Watcher::problems).unwrap_or_default();
    }
}

fn finished_within(thread: &JoinHandle<()>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while !thread.is_finished() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Seconds since the epoch, for a gauge.
pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
