//! Tells when inputs have changed and have come to rest. It never interprets them: the reload engine does.
//!
//! # What is promised
//! * **Content decides.** File events only wake the watcher; it then observes the inputs and compares them
//!   with what it last reported. A touch, a chmod, an editor's swap file report nothing. An input that became
//!   missing, unreadable, or readable again is a change.
//! * **Rest.** A change is reported once nothing has moved for [`Timing::delay`], at the latest five delays
//!   after it was first seen. A file that is empty or missing, a MIB directory that is gone or emptied, is held
//!   back for the five delays, since something is probably being written; after them it is reported, so that
//!   the engine rejects it loudly.
//! * **Nothing is lost.** Every report is followed by another one if an input changed after it was observed.
//!   File events may be lost, overflow or be unavailable: a sweep observes all inputs every
//!   [`Timing::sweep`], and renews the watches. It also reads and hashes the files of [`Targets::files`]; the
//!   MIB files only every [`DEEP_SWEEP`]th time (and after an overflow), because on a tree of 5,098 files a
//!   stat costs 0.03 s and reading 0.34 s. The files' hashes are made once in the background after the start.
//! * **Bounded.** At most one observation every quarter of the delay, and never more than a fifth of one core;
//!   events are folded into flags, not queued.
//!
//! # Where it lives
//! `scan` observes (stat, directory trees, the directories that resolving each path consults), `known` is
//! what was last reported and the comparison by content, `events` keeps the watches and tells what is wrong
//! with them, `run` is the thread with the rule of rest.

mod events;
mod known;
mod run;
mod scan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use events::Open;
use run::Run;
use scan::Points;

/// How often the sweep looks when nobody says otherwise.
pub const DEFAULT_SWEEP: Duration = Duration::from_secs(30);
/// Every how many sweeps the contents of MIB files whose stat is unchanged are hashed too.
pub const DEEP_SWEEP: u32 = 20;
/// How many delays a change waits at most for its inputs to come to rest.
pub const LONGEST_WAIT: u32 = 5;
/// How many paths a [`Change`] or a [`WatchProblem`] names.
const PATHS_TOLD: usize = 8;
/// The shortest delay that is kept to: below it the clock of a file system does not tell two writes apart.
const SHORTEST_DELAY: Duration = Duration::from_millis(20);

/// What is watched. Nothing of it need exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// The configuration file, its includes, secret files, lookup tables. Their contents count. A directory
    /// among them stands for the list of its names (those that begin with a dot left out), so that an include
    /// pattern notices a new file.
    pub files: Vec<PathBuf>,
    /// MIB directories, recursive, by the rules of [`crate::mib::read_directories`].
    pub mib_directories: Vec<PathBuf>,
}

/// How long the watcher waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long inputs must be at rest (`reload.reload_delay`). Less than 20 ms count as 20 ms.
    pub delay: Duration,
    /// The time between two sweeps; never less than the delay.
    pub sweep: Duration,
}

impl Timing {
    /// With this delay, and a sweep every [`DEFAULT_SWEEP`].
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self { delay, sweep: DEFAULT_SWEEP }
    }

    fn bounded(self) -> Self {
        let delay = self.delay.max(SHORTEST_DELAY);
        Self { delay, sweep: self.sweep.max(delay) }
    }
}

/// When the reading of inputs began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// Of [`Targets::files`]; the epoch where nobody knows.
    pub files: SystemTime,
    /// Of the files below [`Targets::mib_directories`].
    pub mibs: SystemTime,
}

/// Which inputs changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Files of [`Targets::files`].
    Config,
    /// Files below [`Targets::mib_directories`].
    Mib,
    /// Both, at rest together: to be taken over in one reload.
    Both,
}

/// A change that has come to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which inputs.
    pub what: Changed,
    /// The first few changed paths, as the targets name them: for the log and the event's `source`.
    pub paths: Vec<PathBuf>,
    /// How many inputs changed in all.
    pub count: usize,
}

/// What keeps file events from working now. The sweep goes on meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchProblem {
    /// What is wrong, such as `Failed to watch config file: permission denied`.
    pub message: String,
    /// What the operator can do.
    pub remedy: String,
    /// The first few paths concerned; empty when it concerns all.
    pub paths: Vec<PathBuf>,
    /// How many paths are concerned.
    pub count: usize,
}

/// A running watcher: one thread, `watch`, beside that of the event source. Dropping it ends the thread and
/// waits for it, unless it is dropped on that thread.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to watch. What the inputs are at the call is what they are compared with; the calling thread
    /// observes them once (a stat of each, and reading `files`), so do not call it on an asynchronous task's
    /// thread. `on_change` runs on the watcher's thread and should only hand on.
    ///
    /// Never fails: without file events the sweep alone works, and [`Self::problems`] and the log say so.
    pub fn start(targets: Targets, timing: Timing, on_change: impl FnMut(Change) + Send + 'static) -> Self {
        Self::start_with(targets, timing, None, events::native(), Box::new(on_change))
    }

    /// Like [`Self::start`], for inputs that were read from `since` on: what the file system says has changed
    /// later than that is reported as soon as it is at rest, since the reader may have missed it.
    pub fn start_since(
        targets: Targets,
        timing: Timing,
        since: Since,
        on_change: impl FnMut(Change) + Send + 'static,
    ) -> Self {
        Self::start_with(targets, timing, Some(since), events::native(), Box::new(on_change))
    }

    fn start_with(
        targets: Targets,
        timing: Timing,
        since: Option<Since>,
        open: Open,
        on_change: OnChange,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let run = Run::new(Arc::clone(&shared), targets, timing.bounded(), since, open, on_change);
        let thread = match thread::Builder::new().name("watch".to_owned()).spawn(|| run.run()) {
            Ok(thread) => Some(thread),
            Err(error) => {
                let problem = WatchProblem {
                    message: format!("Failed to start the watch thread: {error}"),
                    remedy: "raise the limit of threads and restart; until then reload by SIGHUP, HTTP or \
                             `nereus reload`"
                        .to_owned(),
                    paths: Vec::new(),
                    count: 0,
                };
                events::Problems::default().set(&shared, vec![problem]);
                None
            }
        };
        Self { shared, thread }
    }

    /// Exchanges what is watched. To be called after every published reload, of whatever trigger, even when the
    /// targets are the same: the engine may have read an input while it was being changed, and the input may
    /// have returned to what was last reported, so whatever moved since the last report is reported once more
    /// when it is at rest. Inputs that stay are else compared with what was last reported. Inputs that are new are compared with what they are now; those that changed since the
    /// last report (or the start) are reported once more, as they may have changed after they were read.
    pub fn update(&self, targets: Targets, timing: Timing) {
        self.shared.signal(|signals| signals.update = Some((targets, timing.bounded())));
    }

    /// What keeps file events from working now; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<WatchProblem> {
        self.shared.problems.lock().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.signal(|signals| signals.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic on the thread has been told by the panic hook.
            let _ = thread.join();
        }
    }
}

type OnChange = Box<dyn FnMut(Change) + Send>;

/// What the watcher's thread, the event source's thread and the owner share.
#[derive(Debug, Default)]
struct Shared {
    signals: Mutex<Signals>,
    wake: Condvar,
    /// Says to a long observation that it is in vain.
    stopping: AtomicBool,
    /// Which directory entries matter: events about others wake nobody.
    points: Mutex<Arc<Points>>,
    problems: Mutex<Vec<WatchProblem>>,
}

/// Events folded into what there is to do.
#[derive(Debug, Default)]
struct Signals {
    stop: bool,
    update: Option<(Targets, Timing)>,
    /// Something that matters may have changed.
    dirty: bool,
    /// Events were lost.
    rescan: bool,
    /// A watched directory was moved or removed: watches may be gone.
    renew: bool,
}

impl Signals {
    fn any(&self) -> bool {
        self.stop || self.update.is_some() || self.dirty || self.rescan || self.renew
    }
}

impl Shared {
    /// Changes the signals, and wakes the thread if there were none: a storm of events wakes it once.
    fn signal(&self, change: impl FnOnce(&mut Signals)) {
        let mut signals = self.signals.lock();
        let asleep = !signals.any();
        change(&mut signals);
        if asleep || signals.stop || signals.update.is_some() {
            self.wake.notify_one();
        }
    }

    /// Waits until `deadline`, for an event not before `earliest`, or until told to stop or to watch
    /// something else, and takes the signals.
    fn wait(&self, earliest: Instant, deadline: Instant) -> Signals {
        let mut signals = self.signals.lock();
        loop {
            let now = Instant::now();
            let ready = signals.stop || signals.update.is_some() || now >= deadline;
            if ready || (signals.any() && now >= earliest) {
                return std::mem::take(&mut signals);
            }
            let until = if signals.any() { earliest.min(deadline) } else { deadline };
            self.wake.wait_until(&mut signals, until);
        }
    }

    /// From now on events about `points` matter.
    fn concern(&self, points: &Points) {
        let mut shared = self.points.lock();
        if **shared != *points {
            *shared = Arc::new(points.clone());
        }
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
