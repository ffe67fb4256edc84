//! File events: which directories are watched, and what keeps them from being watched.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::known::Known;
use super::scan::{MOST_FILES, Points, Scan, Why};
use super::{PATHS_TOLD, Shared, WatchProblem};

/// Why something cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// It is not there (any more): the next observation knows.
    Missing,
    Permission,
    /// EMFILE or ENFILE: no file descriptor, or no inotify instance, is to be had.
    Files,
    /// ENOSPC of inotify: the user's watches are used up.
    Watches,
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Self::Files,
            Some(libc::ENOSPC) => Self::Watches,
            Some(libc::EACCES | libc::EPERM) => Self::Permission,
            Some(libc::ENOENT | libc::ENOTDIR) => Self::Missing,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<notify::Error> for Failure {
    fn from(error: notify::Error) -> Self {
        match error.kind {
            notify::ErrorKind::MaxFilesWatch => Self::Watches,
            notify::ErrorKind::PathNotFound | notify::ErrorKind::WatchNotFound => Self::Missing,
            notify::ErrorKind::Io(error) => error.into(),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// A source of file events; they go to [`Shared`].
pub(super) trait Source: Send {
    /// Watches one directory, not what is below. Watching again renews.
    fn watch(&mut self, directory: &Path) -> Result<(), Failure>;
    fn unwatch(&mut self, directory: &Path);
    /// It cannot go on and must be opened again.
    fn dead(&self) -> bool;
}

/// Opens a source of events.
pub(super) type Open = Box<dyn FnMut(&Arc<Shared>) -> Result<Box<dyn Source>, Failure> + Send>;

/// The operating system's.
pub(super) fn native() -> Open {
    Box::new(|shared| {
        let shared = Arc::clone(shared);
        let handler = move |event: notify::Result<notify::Event>| handle(&shared, event);
        // notify's own thread panics when poll fails, and its handle when that thread is gone; the sweep has
        // to outlive both.
        match catch_unwind(AssertUnwindSafe(|| notify::recommended_watcher(handler))) {
            Ok(Ok(watcher)) => Ok(Box::new(Native { watcher: Some(watcher) }) as Box<dyn Source>),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::Other("the event source has panicked".to_owned())),
        }
    })
}

/// Folds an event into the signals.
fn handle(shared: &Shared, event: notify::Result<notify::Event>) {
    let Ok(event) = event else {
        shared.signal(|signals| signals.rescan = true);
        return;
    };
    if event.need_rescan() {
        shared.signal(|signals| signals.rescan = true);
        return;
    }
    let renames = match event.kind {
        // Reading raises events too, ours and the engine's.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => return,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
        _ => false,
    };
    let points = Arc::clone(&*shared.points.lock());
    if event.paths.iter().any(|path| points.concern(path)) {
        // The source forgets a directory that goes away after it told us so, by path; the watch on a new one
        // in its place goes with it.
        let renew = renames && event.paths.iter().any(|path| points.watches(path));
        shared.signal(|signals| {
            signals.dirty = true;
            signals.renew |= renew;
        });
    }
}

struct Native {
    /// `None` once its thread is gone.
    watcher: Option<RecommendedWatcher>,
}

impl Native {
    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut RecommendedWatcher) -> notify::Result<T>,
    ) -> Result<T, Failure> {
        let gone = || Failure::Other("the event source has ended".to_owned());
        let watcher = self.watcher.as_mut().ok_or_else(gone)?;
        match catch_unwind(AssertUnwindSafe(|| call(watcher))) {
            Ok(result) => result.map_err(Failure::from),
            Err(_) => {
                // Dropping it would panic again.
                std::mem::forget(self.watcher.take());
                Err(gone())
            }
        }
    }
}

impl Source for Native {
    fn watch(&mut self, directory: &Path) -> Result<(), Failure> {
        self.call(|watcher| watcher.watch(directory, RecursiveMode::NonRecursive))
    }

    fn unwatch(&mut self, directory: &Path) {
        // Not watched any more is what we want.
        let _ = self.call(|watcher| watcher.unwatch(directory));
    }

    fn dead(&self) -> bool {
        self.watcher.is_none()
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let watcher = self.watcher.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(watcher)));
    }
}

/// The watches that are kept.
pub(super) struct Watches {
    open: Open,
    source: Option<Box<dyn Source>>,
    /// Device and inode of each watched directory.
    installed: HashMap<PathBuf, (u64, u64)>,
    /// What could not be watched, with how many and the first few paths.
    failures: BTreeMap<(Failure, Why), (usize, Vec<PathBuf>)>,
    tried: bool,
}

impl Watches {
    pub(super) fn new(open: Open) -> Self {
        Self { open, source: None, installed: HashMap::new(), failures: BTreeMap::new(), tried: false }
    }

    /// Brings the watches in line with `points`; with `renew` each is set again, as it may have been lost, and
    /// a source that failed is opened again. True when a directory is watched that was not: what happened in
    /// it before has to be looked for. One watch costs about 20 µs.
    pub(super) fn align(&mut self, shared: &Arc<Shared>, points: &Points, renew: bool) -> bool {
        // A source that cannot be had is asked for again by the sweep alone.
        if self.source.is_none() && self.tried && !renew {
            return false;
        }
        self.tried = true;
        self.failures.clear();
        let source = match &mut self.source {
            Some(source) => source,
            none => match (self.open)(shared) {
                Ok(source) => {
                    self.installed.clear();
                    none.insert(source)
                }
                Err(failure) => {
                    self.failures.insert((failure, Why::Config), (0, Vec::new()));
                    return false;
                }
            },
        };
        self.installed.retain(|directory, _| {
            let keep = points.watches(directory);
            if !keep {
                source.unwatch(directory);
            }
            keep
        });
        let mut fresh = false;
        let mut exhausted = None;
        for (directory, why) in points.directories() {
            let identity = fs::metadata(directory).ok().map(|found| (found.dev(), found.ino()));
            let installed = self.installed.get(directory).copied();
            if installed.is_some() && (identity == installed && !renew) {
                continue;
            }
            if installed.is_some() && identity != installed {
                source.unwatch(directory);
                self.installed.remove(directory);
            }
            let Some(identity) = identity else { continue };
            let result = match &exhausted {
                Some(failure) => Err(Failure::clone(failure)),
                None => source.watch(directory),
            };
            match result {
                Ok(()) => {
                    fresh |= self.installed.insert(directory.to_path_buf(), identity) != Some(identity);
                }
                Err(Failure::Missing) => {}
                Err(failure) => {
                    self.installed.remove(directory);
                    if failure == Failure::Watches {
                        exhausted = Some(failure.clone());
                    }
                    // A path may lead through directories that are closed to us.
                    if why != Why::Ancestor {
                        let (count, paths) = self.failures.entry((failure, why)).or_default();
                        *count += 1;
                        if paths.len() < PATHS_TOLD {
                            paths.push(directory.to_path_buf());
                        }
                    }
                }
            }
        }
        if source.dead() {
            self.source = None;
            self.installed.clear();
        }
        fresh
    }
}

/// The current problems, each told once in the log for as long as it lasts.
#[derive(Debug, Default)]
pub(super) struct Problems {
    told: Vec<String>,
}

impl Problems {
    /// Gathers what is wrong, tells what is new, and shows it to [`super::Watcher::problems`].
    pub(super) fn gather(&mut self, shared: &Shared, watches: &Watches, known: &Known, scan: &Scan) {
        let mut problems: Vec<WatchProblem> = Vec::new();
        let mut add = |message: String, remedy: String, paths: Vec<PathBuf>, count: usize| {
            // Two reasons can have one message, such as a directory and a file in it that are closed to us.
            if let Some(same) = problems.iter_mut().find(|problem| problem.message == message) {
                same.count += count;
                same.paths.extend(paths);
                same.paths.truncate(PATHS_TOLD);
            } else {
                problems.push(WatchProblem { message, remedy, paths, count });
            }
        };
        for ((failure, why), (count, paths)) in &watches.failures {
            let (message, remedy) = describe(failure, *why);
            add(message, remedy, paths.clone(), *count);
        }
        let forbidden: Vec<PathBuf> = known.forbidden().map(|key| key.path()).collect();
        if !forbidden.is_empty() {
            let (message, remedy) = describe(&Failure::Permission, Why::Config);
            let count = forbidden.len();
            add(message, remedy, forbidden.into_iter().take(PATHS_TOLD).collect(), count);
        }
        if scan.cut {
            add(
                format!("Failed to watch MIB directories: they hold more than {MOST_FILES} files"),
                "name directories that hold MIB files alone; the files past the limit are not watched"
                    .to_owned(),
                Vec::new(),
                0,
            );
        }
        self.set(shared, problems);
    }

    pub(super) fn set(&mut self, shared: &Shared, problems: Vec<WatchProblem>) {
        for problem in problems.iter().filter(|problem| !self.told.contains(&problem.message)) {
            tracing::error!(
                component = "reload",
                paths = ?problem.paths,
                count = problem.count,
                remedy = problem.remedy,
                "{}",
                problem.message
            );
        }
        let over = |told: &&String| !problems.iter().any(|problem| problem.message == **told);
        for message in self.told.iter().filter(over) {
            tracing::info!(component = "reload", was = message, "File watching has recovered");
        }
        self.told = problems.iter().map(|problem| problem.message.clone()).collect();
        *shared.problems.lock() = problems;
    }
}

/// The founding document's words, and what helps.
pub(super) fn describe(failure: &Failure, why: Why) -> (String, String) {
    let what = if why == Why::Mib { "MIB directory" } else { "config file" };
    let sweep = "meanwhile the sweep notices changes";
    match failure {
        Failure::Permission => (
            format!("Failed to watch {what}: permission denied"),
            format!("give the user of Nereus read access to the file and to its directory; {sweep}"),
        ),
        Failure::Files => (
            "Failed to add file watcher: too many open files".to_owned(),
            format!(
                "raise the limit of open files (ulimit -n, LimitNOFILE=) or fs.inotify.max_user_instances{}; {sweep}",
                limit("max_user_instances")
            ),
        ),
        Failure::Watches => (
            "Failed to add file watcher: no inotify watches left".to_owned(),
            format!(
                "raise fs.inotify.max_user_watches{} or reduce the number of watched directories; {sweep}",
                limit("max_user_watches")
            ),
        ),
        Failure::Missing => (
            format!("Failed to watch {what}: no such file or directory"),
            format!("create it, or take it out of the configuration; {sweep}"),
        ),
        Failure::Other(error) => (
            format!("Failed to watch {what}: {error}"),
            format!("see whether its file system supports inotify; {sweep}"),
        ),
    }
}

/// An inotify limit of this system, as ` (now 128)`.
fn limit(name: &str) -> String {
    match fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(name)) {
        Ok(value) => format!(" (now {})", value.trim()),
        Err(_) => String::new(),
    }
}
