//! The thread that makes reloads: reads, builds, rehearses, prepares, publishes, commits.
//!
//! Whatever fails before the publication changes nothing: no generation, no socket, no worker. After it
//! nothing can fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::guard::{Rehearsal, rehearse};
use super::history::{
    GenerationInfo, MAX_DIAGNOSTICS, MibReport, Phases, Receipt, ReloadEvent, ReloadOutcome, human,
};
use super::plan::{Attempt, Built, Failure, Plan, Seen};
use super::trigger::{ReloadType, Request, Wanted};
use super::watch::{Since, Targets, Timing, Watcher};
use super::{Automatic, Shared};
use crate::diagnostic::{Diagnostic, Level};
use crate::event::{Generation, Timestamp};
use crate::mib::Mib;
use crate::snapshot::{Candidate, PrepareError, Prepared, Publisher, Snapshot};

/// The type of event that a rollback makes, beside those of reloads.
pub(super) const ROLLBACK: &str = "rollback";
/// The longest pause before a transient failure is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How soon a build is left behind when the program ends.
const LOOK_WHETHER_CLOSED: Duration = Duration::from_millis(50);

/// The engine's own state. It owns the Publisher: nobody else publishes.
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) publisher: Publisher,
    pub(super) plan: Arc<Plan>,
    /// What the files held when they were last read, taken or refused.
    pub(super) seen: Seen,
    /// Inputs that file events do not bring again: refused ones, and all after a rollback.
    pub(super) passed_over: Option<Seen>,
    /// A build that ran out of time and still has to notice.
    pub(super) cancelled: Option<JoinHandle<()>>,
    pub(super) traps_at_publish: u64,
    /// Ends the compile that the start did not wait for.
    pub(super) cancel_late: Option<Arc<AtomicBool>>,
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
    /// What the old generation had accepted when it was replaced.
    old_traps: u64,
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
            old_traps: 0,
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
        Arc::make_mut(&mut self.plan).remember(self.publisher.current().settings());
        while let Some(request) = self.shared.mailbox.next() {
            let kind = match request.wanted {
                Wanted::Reload(kind) => kind.as_str(),
                Wanted::Rollback(_) => ROLLBACK,
            };
            // What was refused already, or was there when somebody rolled back.
            if request.automatic && self.passed_over.as_ref().is_some_and(Seen::is_on_disk) {
                continue;
            }
            // A refused configuration may have waited for directories that the running one does not name.
            let waited = request.automatic
                && request.wanted == Wanted::Reload(ReloadType::Mib)
                && self.passed_over.as_ref().is_some_and(|seen| {
                    seen.mib_directories != self.publisher.current().settings().mib.directories
                });
            let event = self.serve(&request, kind);
            if waited {
                let wanted = Wanted::Reload(ReloadType::Config);
                let (force, automatic) = (false, true);
                let again =
                    Request { wanted, source: request.source.clone(), force, automatic, replies: Vec::new() };
                self.shared.mailbox.post(again);
            }
            // After a refusal too: its inputs are read again once they change.
            self.watch();
            self.shared.record(&event);
            for reply in request.replies {
                // Who asked may be gone.
                let _ = reply.try_send(event.clone());
            }
            if event.outcome == ReloadOutcome::Published {
                // Also where each generation has MIBs of its own, those of two take memory.
                for mib in older_images(self.publisher.kept().rev().map(|snapshot| snapshot.mib())) {
                    mib.page_out();
                }
            }
        }
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
            old_generation_traps: if published { attempted.old_traps } else { traps - self.traps_at_publish },
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

    fn reload(&mut self, kind: ReloadType, request: &Request) -> Attempted {
        let mut attempted = Attempted::new();
        let mut built = match self.build(kind, request) {
            Ok(built) => built,
            Err(failed) => {
                let (failure, seen) = *failed;
                // One that was left behind has told nothing of what it read: it may be tried again.
                self.passed_over.clone_from(&seen);
                self.seen = seen.unwrap_or_else(|| std::mem::take(&mut self.seen));
                return attempted.rejected(failure);
            }
        };
        attempted.phases.read = built.read_seconds;
        attempted.phases.build = built.build_seconds;
        attempted.mib = built.mib;
        attempted.changes = std::mem::take(&mut built.changes);
        attempted.pending = std::mem::take(&mut built.pending);
        attempted.diagnostics = std::mem::take(&mut built.diagnostics);
        if built.mib.is_some_and(|mib| !mib.unchanged) {
            if !attempted.changes.iter().any(|change| change == "mib") {
                attempted.changes.push("mib".to_owned());
            }
            let told = built.mib_problems.iter().filter(|problem| problem.level > Level::Note);
            attempted.diagnostics.extend(told.take(MAX_DIAGNOSTICS).cloned());
        }
        if built.candidate.is(self.publisher.current()) {
            self.plan = Arc::new(built.plan);
            self.passed_over = None;
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
        let rejected = attempted.outcome == ReloadOutcome::Rejected;
        self.passed_over = rejected.then(|| self.seen.clone());
        if !rejected {
            self.shared.note_mib_problems(built.mib, &built.mib_problems);
        }
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
        // Whoever processes a notification does not wait for the disk.
        target.mib().map_pages(&AtomicBool::new(false));
        let change =
            Change { candidate, plan: None, source: request.source.clone(), kind: ROLLBACK, force: true };
        let attempted = self.put_in_force(change, attempted);
        if attempted.outcome == ReloadOutcome::Published {
            // What is on the disk now was just undone: file events bring it back only once it differs.
            self.seen.look_again();
            self.passed_over = Some(self.seen.clone());
        }
        attempted
    }

    /// Reads and builds on a thread of its own, so that an attempt past `reload_timeout` can be left behind. A
    /// failure comes with what it was found in, as far as that was told.
    fn build(&mut self, kind: ReloadType, request: &Request) -> Result<Built, Box<(Failure, Option<Seen>)>> {
        let lasting = |error: String| Box::new((Failure::lasting(error), None));
        let current = Arc::clone(self.publisher.current());
        let timeout = current.settings().reload.reload_timeout;
        if let Some(old) = self.cancelled.take()
            && !self.finished_within(&old, timeout)
        {
            self.cancelled = Some(old);
            return Err(lasting(
                "the reload that ran out of time before is still being cancelled".to_owned(),
            ));
        }
        let (everything, automatic) = (request.force, request.automatic);
        let cancel = Arc::new(AtomicBool::new(false));
        let (sender, answer) = sync_channel(1);
        let worker = {
            let (plan, cancel) = (Arc::clone(&self.plan), Arc::clone(&cancel));
            let mut seen = self.seen.clone();
            thread::Builder::new().name("reload-build".into()).spawn(move || {
                let built = plan.read(
                    &Attempt { kind, everything, automatic, current: &current, cancel: &cancel },
                    &mut seen,
                );
                // Who waits for the outcome may count on it that nothing holds the old generation.
                drop((current, plan));
                // Nobody waits any more for one that took too long.
                let _ = sender.send((built, seen));
            })
        };
        let worker = worker.map_err(|error| lasting(format!("no thread for the build: {error}")))?;
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match answer.recv_timeout(left.min(LOOK_WHETHER_CLOSED)) {
                Ok((Ok(built), seen)) => {
                    self.seen = seen;
                    return Ok(built);
                }
                Ok((Err(failure), seen)) => return Err(Box::new((failure, Some(seen)))),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() && !self.shared.mailbox.is_closed() => {}
                Err(RecvTimeoutError::Timeout) => {
                    cancel.store(true, Ordering::Relaxed);
                    self.cancelled = Some(worker);
                    return Err(lasting(if left.is_zero() {
                        format!("the reload took longer than reload_timeout ({})", human(timeout))
                    } else {
                        "Nereus is being stopped".to_owned()
                    }));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(lasting("the build has panicked; the log says where".to_owned()));
                }
            }
        }
    }

    fn finished_within(&self, thread: &JoinHandle<()>, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while !thread.is_finished() {
            if Instant::now() > until || self.shared.mailbox.is_closed() {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Rehearses, prepares, publishes, commits.
    fn put_in_force(&mut self, change: Change, mut attempted: Attempted) -> Attempted {
        let old = Arc::clone(self.publisher.current());
        let staged = self.publisher.stage(change.candidate);
        let reload = &old.settings().reload;
        if reload.validate_before_reload {
            let started = Instant::now();
            let recent = self.shared.samples.recent();
            let samples = recent.newest(reload.guard.samples);
            let found = caught(|| rehearse(&old, staged.snapshot(), &samples));
            let Some(found) = found else {
                return attempted
                    .rejected(Failure::lasting("the rehearsal has panicked; the log says where"));
            };
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
        for (name, component) in &mut prepared {
            if caught(|| component.about_to_publish()).is_none() {
                // Others have been told already that it comes: it does.
                tracing::error!(
                    component = "reload",
                    name = &**name,
                    "A component has panicked before a publication"
                );
            }
        }
        let snapshot = self.publisher.publish_staged(staged);
        attempted.phases.publish = started.elapsed().as_secs_f64();
        self.traps_at_publish = self.shared.metrics.traps_processed.get();
        let started = Instant::now();
        for (name, component) in prepared {
            match caught(|| component.commit()) {
                Some(()) => attempted.components.push(name.to_string()),
                // The generation is in force: there is no way back, and the others have to follow.
                None => tracing::error!(
                    component = "reload",
                    name = &*name,
                    "A component has panicked in its commit"
                ),
            }
        }
        attempted.phases.commit = started.elapsed().as_secs_f64();
        self.publisher.keep(snapshot.settings().reload.keep_generations);
        if let Some(plan) = change.plan {
            self.plan = Arc::new(plan);
        }
        let kept: Vec<Generation> = self.publisher.kept().map(|snapshot| snapshot.generation()).collect();
        *self.shared.kept.lock() = self.publisher.kept().map(Arc::downgrade).collect();
        let info = GenerationInfo::new(&snapshot, change.kind, change.source);
        self.shared.published(old.generation(), traps_of_old, info, &kept);
        self.shared.samples.set_limit(snapshot.settings().reload.guard.samples);
        attempted.old_traps = traps_of_old;
        attempted.outcome = ReloadOutcome::Published;
        attempted
    }

    /// Every component that the change concerns, ready. What was prepared before one fails is let go.
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Result<Vec<(Arc<str>, Box<dyn Prepared>)>, Failure> {
        let mut prepared = Vec::new();
        for (name, component) in self.shared.registered() {
            let ready = caught(|| component.prepare(old, new))
                .unwrap_or_else(|| Err(PrepareError::lasting("it has panicked; the log says where")));
            match ready {
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
        let current = self.publisher.current().settings();
        let settings = &current.reload;
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
            targets.mib_directories.clone_from(&current.mib.directories);
            for path in &self.seen.mib_directories {
                if !targets.mib_directories.contains(path) {
                    targets.mib_directories.push(path.clone());
                }
            }
        }
        let timing = Timing { delay: settings.reload_delay, sweep: self.shared.sweep };
        let mut watcher = self.shared.watcher.lock();
        if targets.files.is_empty() && targets.mib_directories.is_empty() {
            *watcher = None;
            return;
        }
        match &*watcher {
            Some(watcher) => watcher.update(targets, timing),
            None => {
                let post = Automatic { shared: Arc::downgrade(&self.shared) };
                // When exactly the settings were read before a start, nobody knows: if the files are others
                // on the disk, all of them are new to us. The MIB files were read for generation 1.
                let mibs = self.shared.begun;
                let files = if self.seen.inputs_are_on_disk() { mibs } else { UNIX_EPOCH };
                let since = Since { files, mibs };
                *watcher =
                    Some(Watcher::start_since(targets, timing, since, move |change| post.post(change)));
            }
        }
    }
}

impl Drop for Engine {
    /// Also if a panic ends it, or it never started: nobody waits for an answer that does not come.
    fn drop(&mut self) {
        self.shared.mailbox.close();
        if let Some(cancel) = &self.cancel_late {
            cancel.store(true, Ordering::Relaxed);
        }
        // The watcher's thread posts to the mailbox, which is closed: it ends without waiting.
        let watcher = self.shared.watcher.lock().take();
        drop(watcher);
    }
}

/// All but the first two of some compiled MIBs, each once.
fn older_images<'a>(all: impl Iterator<Item = &'a Arc<Mib>>) -> Vec<&'a Arc<Mib>> {
    const STAY: usize = 2;
    let mut images: Vec<&Arc<Mib>> = Vec::new();
    for mib in all {
        if !images.iter().any(|known| Arc::ptr_eq(known, mib)) {
            images.push(mib);
        }
    }
    images.split_off(images.len().min(STAY))
}

/// `None` after a panic, which the panic hook has told.
fn caught<T>(act: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(act)).ok()
}

/// Seconds since the epoch, for a gauge.
pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_images_stay_however_many_generations_share_them() {
        let make = || Arc::new(Mib::compile(&[]).mib);
        let all: Vec<Arc<Mib>> = (0..4).map(|_| make()).collect();
        let older = |order: &[usize]| -> Vec<usize> {
            let images = older_images(order.iter().map(|&at| &all[at]));
            let number = |mib: &Arc<Mib>| all.iter().position(|known| Arc::ptr_eq(known, mib)).unwrap();
            images.into_iter().map(number).collect()
        };
        assert_eq!(older(&[]), [0; 0]);
        assert_eq!(older(&[3, 3, 2, 3, 2]), [0; 0]);
        assert_eq!(older(&[3, 2, 2, 1, 3, 0, 1]), [1, 0]);
    }
}
