//! Reading the inputs: configuration and MIB directories, by content, and the Candidate that they make.
//!
//! A [`Plan`] is what is known of the inputs that were read last. It is immutable: an attempt makes another one,
//! which replaces it once the attempt was published.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::history::MibReport;
use super::trigger::ReloadType;
use crate::config::diff::{Section, diff, restart_needed};
use crate::config::settings::MibSettings;
use crate::config::{self, ContentHash, Input, Memory, Settings, hash_of};
use crate::diagnostic::{Diagnostic, Level, Part};
use crate::mib::{self, CacheError, Collection, Making, Mib, Progress, Scan};
use crate::pipeline::give_back_memory;
use crate::snapshot::{self, Candidate, Snapshot};

/// Why an attempt cannot go on.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// In one line, as the founding document words it.
    pub(super) error: String,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// It may go away by itself: a file that vanished or is being written, an address in use.
    pub(super) transient: bool,
}

impl Failure {
    pub(super) fn lasting(error: impl Into<String>) -> Self {
        Self { error: error.into(), diagnostics: Vec::new(), transient: false }
    }
}

/// What was read last, and where from.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The configuration file; `None` with the embedded default or settings made by a program.
    pub(super) origin: Option<PathBuf>,
    /// The configuration and all files that it names.
    pub(super) inputs: Vec<Input>,
    /// What reading them left for the next time.
    memory: Option<Arc<Memory>>,
    mibs: Mibs,
    /// What a start did not wait for any longer, once it is done.
    late: Arc<Mutex<Option<Arc<Collection>>>>,
}

/// MIB directories that are still being compiled while the built-in names stand in for theirs.
pub(super) struct Late {
    done: Receiver<Mibs>,
    /// Set, the compile ends soon.
    pub(super) cancel: Arc<AtomicBool>,
    slot: Arc<Mutex<Option<Arc<Collection>>>>,
}

impl Late {
    /// Waits for the end of the compile; false if it was cancelled.
    pub(super) fn wait(self) -> bool {
        let collection = self.done.recv().ok().and_then(|mibs| mibs.collection);
        let done = collection.is_some();
        *self.slot.lock() = collection;
        done
    }
}

/// The MIB directories as they were read, and what they compile to.
#[derive(Debug, Clone)]
struct Mibs {
    directories: Vec<PathBuf>,
    /// Their stat, if it tells every later change.
    stat: Option<ContentHash>,
    /// Every file as it was parsed; `None` without directories.
    collection: Option<Arc<Collection>>,
    mib: Arc<Mib>,
    report: MibReport,
}

/// A Candidate and what it was made from.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) candidate: Candidate,
    pub(super) plan: Plan,
    /// Warnings and notes of the configuration.
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) mib: Option<MibReport>,
    pub(super) mib_problems: Arc<[Diagnostic]>,
    /// What is applied, by the names of the configuration.
    pub(super) changes: Vec<String>,
    /// What differs and was not asked for.
    pub(super) pending: Vec<String>,
    pub(super) read_seconds: f64,
    pub(super) build_seconds: f64,
}

/// The inputs as they were read, taken or refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub(super) inputs: Vec<Input>,
    pub(super) mib_directories: Vec<PathBuf>,
    /// The directories' stat before they were read: what changes while they are read makes a difference.
    pub(super) mibs: Option<ContentHash>,
}

impl Seen {
    /// Whether the files on the disk are these, by content; the MIB files by their stat.
    pub(super) fn is_on_disk(&self) -> bool {
        self.inputs_are_on_disk() && self.mibs == Some(stat_of(&Scan::of(&self.mib_directories)))
    }

    /// Whether the configuration and what it names are these on the disk.
    pub(super) fn inputs_are_on_disk(&self) -> bool {
        self.inputs.iter().all(Input::is_on_disk)
    }

    /// Takes what is on the disk now for seen.
    pub(super) fn look_again(&mut self) {
        for input in &mut self.inputs {
            input.hash = hash_of(&input.path);
        }
        self.mibs = Some(stat_of(&Scan::of(&self.mib_directories)));
    }
}

/// What an attempt is asked to read.
pub(super) struct Attempt<'a> {
    pub(super) kind: ReloadType,
    /// Contents are read though their stat says that they are unchanged.
    pub(super) everything: bool,
    /// The watcher has seen a change.
    pub(super) automatic: bool,
    pub(super) current: &'a Snapshot,
    pub(super) cancel: &'a AtomicBool,
}

impl Plan {
    /// The first one: settings that were read from `origin` as `inputs`, and the MIB directories that they
    /// name. A directory that cannot be read keeps nothing from starting; it is among the problems.
    pub(super) fn first(
        origin: Option<PathBuf>,
        inputs: Vec<Input>,
        settings: Settings,
    ) -> (Result<(Candidate, Self), Vec<Diagnostic>>, Arc<[Diagnostic]>) {
        let mibs = Mibs::first(&settings.mib, &AtomicBool::new(false));
        Self::with(origin, inputs, settings, mibs)
    }

    fn with(
        origin: Option<PathBuf>,
        inputs: Vec<Input>,
        settings: Settings,
        mibs: Mibs,
    ) -> (Result<(Candidate, Self), Vec<Diagnostic>>, Arc<[Diagnostic]>) {
        let problems = mibs.problems();
        let built = build(settings, Arc::clone(&mibs.mib), None);
        let located = |mut problems: Vec<Diagnostic>| {
            if let Some(origin) = &origin {
                config::locate(origin, &mut problems);
            }
            problems
        };
        let built = built.map_err(located);
        let late = Arc::default();
        (built.map(|candidate| (candidate, Self { origin, inputs, memory: None, mibs, late })), problems)
    }

    /// Reads the configuration once more, so that the first reload costs no more than the later ones: who made the
    /// first plan handed settings over, and no memory of reading them.
    pub(super) fn remember(&mut self, current: &Settings) {
        let Some(origin) = &self.origin else { return };
        let memory = config::load_again(origin, None, &current.lookups).ok();
        self.memory = memory.filter(|memory| memory.loaded().inputs == self.inputs);
    }

    /// As [`first`](Self::first), but waits for the MIB directories no longer than `patience`: then the built-in names
    /// do for the beginning, unless the rules name something else.
    pub(super) fn first_within(
        origin: Option<PathBuf>,
        inputs: Vec<Input>,
        settings: Settings,
        patience: Duration,
    ) -> (Result<(Candidate, Self), Vec<Diagnostic>>, Arc<[Diagnostic]>, Option<Late>) {
        let (sender, done) = sync_channel(1);
        let cancel = Arc::new(AtomicBool::new(false));
        let compile = {
            let (mib, cancel) = (Arc::clone(&settings.mib), Arc::clone(&cancel));
            move || {
                // Nobody waits any more when the program is ending.
                let _ = sender.send(Mibs::first(&mib, &cancel));
            }
        };
        if std::thread::Builder::new().name("mib_start".into()).spawn(compile).is_err() {
            let (built, problems) = Self::first(origin, inputs, settings);
            return (built, problems, None);
        }
        let mibs = match done.recv_timeout(patience) {
            Ok(mibs) => mibs,
            // A panic, which the panic hook has told.
            Err(RecvTimeoutError::Disconnected) => Mibs::none(),
            Err(RecvTimeoutError::Timeout) => {
                let (built, problems) =
                    Self::with(origin.clone(), inputs.clone(), settings.clone(), Mibs::none());
                if let Ok((candidate, plan)) = built {
                    tracing::warn!(
                        component = "mib_loader",
                        patience_seconds = patience.as_secs_f64(),
                        "The MIB directories take longer than reload_timeout; the built-in names do until they are \
                         compiled, which comes as a reload of the type `mib`"
                    );
                    let late = Late { done, cancel, slot: Arc::clone(&plan.late) };
                    return (Ok((candidate, plan)), problems, Some(late));
                }
                tracing::warn!(
                    component = "mib_loader",
                    patience_seconds = patience.as_secs_f64(),
                    "The MIB directories take longer than reload_timeout; the rules have names that are not built in, \
                     so the start goes on waiting"
                );
                done.recv().unwrap_or_else(|_| Mibs::none())
            }
        };
        let (built, problems) = Self::with(origin, inputs, settings, mibs);
        (built, problems, None)
    }

    /// Reads what `attempt` asks for and builds a Candidate of it. No side effects.
    ///
    /// `seen`, which holds what was read before, is given what is read now as soon as it is known, also where
    /// it is refused.
    pub(super) fn read(&self, attempt: &Attempt<'_>, seen: &mut Seen) -> Result<Built, Failure> {
        let started = std::time::Instant::now();
        let current = attempt.current;
        let mut plan = self.clone();
        let mut diagnostics = Vec::new();
        let mut settings = Settings::clone(current.settings());
        let mut pending = Vec::new();
        if let (true, Some(origin)) = (attempt.kind.reads_config(), &self.origin) {
            let memory = load(origin, self.memory.as_ref(), current.settings(), &mut seen.inputs)?;
            let loaded = memory.loaded().clone();
            plan.memory = Some(memory);
            plan.inputs = loaded.inputs;
            diagnostics = loaded.diagnostics;
            if attempt.kind == ReloadType::Webhook {
                pending = others(current.settings(), &loaded.settings);
                settings.webhooks.clone_from(&loaded.settings.webhooks);
                check_routes(&settings)?;
            } else {
                settings = loaded.settings;
            }
        }
        let changes = diff(current.settings(), &settings);
        let restart = restart_needed(&changes);
        if !restart.is_empty() {
            let keys = restart.join(", ");
            return Err(Failure::lasting(format!(
                "{keys} can only be changed by a restart; nothing of this reload is applied"
            )));
        }
        let directories = &settings.mib.directories;
        let mut mib = Arc::clone(current.mib());
        let mut mib_report = None;
        let mut mib_problems: Arc<[Diagnostic]> = Arc::default();
        // By the running settings: after a rollback the directories that were read last are others.
        if attempt.kind.reads_mibs() || *directories != current.settings().mib.directories {
            seen.mib_directories.clone_from(directories);
            // Taken before the reading: what changes meanwhile differs the next time.
            let scan = Scan::of(directories);
            seen.mibs = Some(stat_of(&scan));
            // Told before anything is read: compiling without a directory would take all its names away.
            let missing = self.missing_directories(&settings);
            if let Some(first) = missing.first() {
                let error = format!("Failed to reload component mib_loader: {}", first.message);
                return Err(Failure { error, diagnostics: missing, transient: true });
            }
            let before = self.mibs.collection.clone();
            let late = if before.is_some() { self.late.lock().take() } else { self.late.lock().clone() };
            let mibs = Mibs::read(&settings.mib, scan, before.or(late).as_deref(), attempt)?;
            mib = Arc::clone(&mibs.mib);
            // What is told may change though no name does.
            let told = |collection: &Arc<Collection>| *collection.diagnostics() == mibs.problems();
            let unchanged = Arc::ptr_eq(&mib, current.mib())
                && (mibs.report.unchanged || self.mibs.collection.as_ref().is_none_or(told));
            if mibs.report.read > 0 {
                mibs.write_cache(&settings.mib.cache);
            }
            mib_report = Some(MibReport { unchanged, ..mibs.report });
            if !unchanged {
                mib_problems = mibs.problems();
            }
            plan.mibs = mibs;
        }
        let read_seconds = started.elapsed().as_secs_f64();
        if attempt.cancel.load(Ordering::Relaxed) {
            return Err(Failure::lasting("cancelled"));
        }
        let started = std::time::Instant::now();
        let changes = changes.into_iter().map(|change| change.key).collect();
        let candidate = build(settings, mib, Some(current)).map_err(|mut problems| {
            if let Some(origin) = &self.origin {
                config::locate(origin, &mut problems);
            }
            Failure { error: validation_failed(&problems), diagnostics: problems, transient: false }
        })?;
        Ok(Built {
            candidate,
            plan,
            diagnostics,
            mib: mib_report,
            mib_problems,
            changes,
            pending,
            read_seconds,
            build_seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// The MIB directories of `settings` that cannot be read, with their places.
    pub(super) fn missing_directories(&self, settings: &Settings) -> Vec<Diagnostic> {
        let mut missing = missing(&settings.mib.directories);
        if let Some(origin) = &self.origin {
            config::locate(origin, &mut missing);
        }
        missing
    }

    /// What was seen when this was read. Costs a stat of every MIB file.
    pub(super) fn seen(&self) -> Seen {
        let mib_directories = self.mibs.directories.clone();
        Seen { inputs: self.inputs.clone(), mib_directories, mibs: self.mibs.stat }
    }

    /// Where the settings come from, for people.
    pub(super) fn describe(&self) -> String {
        self.origin
            .as_ref()
            .map_or_else(|| "embedded default".to_owned(), |origin| origin.display().to_string())
    }

    /// What a start leaves to be done for the MIBs: the cache is written if any file had to be read.
    pub(super) fn finish_mibs(&self, cache: &Path) {
        if self.mibs.report.read > 0 {
            self.mibs.write_cache(cache);
        } else if let Some(collection) = self.mibs.collection.clone() {
            let ready = move || mib::standing_back(|| collection.make_ready_for_edits());
            // Without it the first edit takes longer.
            let _ = std::thread::Builder::new().name("mib_room".into()).spawn(ready);
        }
    }

    /// What the MIB directories came to.
    pub(super) fn mib_report(&self) -> MibReport {
        self.mibs.report
    }
}

fn load(
    origin: &Path,
    memory: Option<&Arc<Memory>>,
    current: &Settings,
    noted: &mut Vec<Input>,
) -> Result<Arc<Memory>, Failure> {
    match config::load_again(origin, memory, &current.lookups) {
        Ok(memory) => {
            noted.clone_from(&memory.loaded().inputs);
            Ok(memory)
        }
        Err(problems) => {
            *noted = problems.inputs;
            let errors = problems.diagnostics.iter().filter(|problem| problem.level == Level::Error);
            // A file that is gone or empty is most likely being written.
            let transient =
                errors.clone().all(|problem| matches!(problem.code, "config-read" | "config-empty"));
            Err(Failure {
                error: validation_failed(&problems.diagnostics),
                diagnostics: problems.diagnostics,
                transient,
            })
        }
    }
}

fn validation_failed(problems: &[Diagnostic]) -> String {
    let mut errors = problems.iter().filter(|problem| problem.level == Level::Error);
    let Some(first) = errors.next() else { return "Configuration validation failed".to_owned() };
    let place = first.place.as_ref().map(|place| format!("{}:{}:{}: ", place.file, place.line, place.column));
    let more = match errors.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!("Configuration validation failed: {}{}{more}", place.unwrap_or_default(), first.message)
}

/// Builds a Candidate whose webhook templates have been tried out.
fn build(
    settings: Settings,
    mib: Arc<Mib>,
    current: Option<&Snapshot>,
) -> Result<Candidate, Vec<Diagnostic>> {
    let wrong = crate::delivery::format::rehearse(&settings);
    match snapshot::build(settings, mib, current) {
        Ok(candidate) if wrong.is_empty() => Ok(candidate),
        Ok(_) => Err(wrong),
        Err(mut problems) => {
            problems.extend(wrong);
            Err(problems)
        }
    }
}

/// What differs besides the webhooks and outputs.
fn others(current: &Settings, loaded: &Settings) -> Vec<String> {
    let changes = diff(current, loaded);
    changes
        .into_iter()
        .filter(|change| !matches!(change.section, Section::Webhooks | Section::Outputs))
        .map(|change| change.key)
        .collect()
}

/// The running rules with the new webhooks: every webhook that a rule names must be there.
fn check_routes(settings: &Settings) -> Result<(), Failure> {
    use crate::config::settings::RuleActionSettings;
    for rule in &settings.rules {
        let RuleActionSettings::Alert(alert) = &rule.action else { continue };
        for name in alert.notify.iter().flatten() {
            if settings.webhooks.iter().all(|webhook| webhook.name != *name) {
                return Err(Failure::lasting(format!(
                    "Configuration validation failed: the running rule `{}` notifies webhook `{name}`, which is \
                     not in the file any more; reload the type `config`, which takes the rules too",
                    rule.name
                )));
            }
        }
    }
    Ok(())
}

/// The configured directories that cannot be read; a reload is refused for them.
fn missing(directories: &[PathBuf]) -> Vec<Diagnostic> {
    let missing = directories.iter().filter_map(|directory| {
        let error = fs::read_dir(directory).err()?;
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "file not found".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        let word = directory.display().to_string();
        let message = format!("{reason}: {word}");
        let problem = Diagnostic::error("mib-directory", message)
            .help("create it, let Nereus read it, or take it out of `mib.directories`");
        let part = Part { rule: None, key: "mib.directories".into(), word: word.into() };
        Some(Diagnostic { part: Some(Box::new(part)), ..problem })
    });
    missing.collect()
}

impl Mibs {
    /// Nothing but the built-in names.
    fn none() -> Self {
        let mib = Mib::builtin();
        let (modules, nodes) = (mib.modules().count(), mib.nodes().len());
        let report = MibReport { modules, nodes, ..MibReport::default() };
        Self { directories: Vec::new(), stat: None, collection: None, mib, report }
    }

    /// Takes what the cache holds, where the files are still those, and else reads and compiles all.
    fn first(settings: &MibSettings, cancel: &AtomicBool) -> Self {
        let MibSettings { directories, cache } = settings;
        if directories.is_empty() {
            return Self::none();
        }
        let path = cache.display();
        // The one waits for the disk while the other works.
        let (scan, read) = std::thread::scope(|scope| {
            let look = || Scan::of(directories);
            let looking = std::thread::Builder::new().name("mib_scan".into()).spawn_scoped(scope, look);
            let read = Collection::read_cache(cache, directories);
            let scan = looking.ok().and_then(|looking| looking.join().ok()).unwrap_or_else(look);
            (scan, read)
        });
        let cached = match read {
            Ok(cached) => Some(cached),
            Err(CacheError::Absent) => None,
            Err(error) => {
                tracing::warn!(
                    component = "mib_loader", cache = %path, reason = %error,
                    "The MIB cache is not used; the directories are compiled anew"
                );
                None
            }
        };
        let made = Self::made(settings, scan, cached.as_ref(), false, cancel)
            .unwrap_or_else(|mib::Cancelled| Self::none());
        if made.report.unchanged {
            tracing::info!(component = "mib_loader", cache = %path, files = made.report.files, "The MIB cache is used");
        } else if cached.is_some() {
            tracing::info!(
                component = "mib_loader", cache = %path,
                "MIB files have changed since the cache was written; the directories are compiled anew"
            );
        }
        // For a first generation there is no generation before it.
        let report = MibReport { unchanged: false, ..made.report };
        Self { report, ..made }
    }

    /// Has what was compiled written to the cache, which nothing waits for: without it the next start takes longer.
    fn write_cache(&self, path: &Path) {
        let Some(collection) = self.collection.clone() else { return };
        let (path, directories) = (path.to_owned(), self.directories.clone());
        let write = move || {
            /// Octets of records that are worth a walk through what the allocator has.
            const WORTH: usize = 16 << 20;
            let started = std::time::Instant::now();
            let (size, held) = (collection.mib().size(), collection.size());
            match mib::standing_back(|| collection.write_cache(&path, &directories)) {
                Ok(()) => tracing::debug!(
                    component = "mib_loader", cache = %path.display(), size,
                    duration_seconds = started.elapsed().as_secs_f64(), "The MIB cache is written"
                ),
                Err(error) => tracing::warn!(
                    component = "mib_loader", cache = %path.display(), error = %error,
                    "The MIB cache cannot be written; the next start compiles the directories again"
                ),
            }
            // After a cold start nothing grows any more, so that nobody else would look for what was freed.
            if held.saturating_sub(collection.size()) > WORTH {
                give_back_memory();
            }
            mib::standing_back(|| collection.make_ready_for_edits());
        };
        if let Err(error) = std::thread::Builder::new().name("mib_cache".into()).spawn(write) {
            tracing::warn!(component = "mib_loader", error = %error, "No thread to write the MIB cache with");
        }
    }

    /// Reads and compiles what differs from `before`.
    fn read(
        settings: &MibSettings,
        scan: Scan,
        before: Option<&Collection>,
        attempt: &Attempt<'_>,
    ) -> Result<Self, Failure> {
        if settings.directories.is_empty() {
            return Ok(Self::none());
        }
        // The sweep hashes contents too: a change that no stat tells is found by reading them.
        let unseen = || attempt.automatic && before.is_some_and(|before| !before.differs(&scan));
        let everything = attempt.everything || unseen();
        Self::made(settings, scan, before, everything, attempt.cancel)
            .map_err(|mib::Cancelled| Failure::lasting("cancelled"))
    }

    fn made(
        settings: &MibSettings,
        scan: Scan,
        before: Option<&Collection>,
        everything: bool,
        cancel: &AtomicBool,
    ) -> Result<Self, mib::Cancelled> {
        // A file that was written just now may be written once more without another stamp.
        let settled = scan.files.iter().all(|file| file.settled);
        let stat = settled.then(|| stat_of(&scan));
        let making = Making { cancel, progress: &Progress::default(), cache: Some(&settings.cache) };
        let (collection, collected) = Collection::make_with(scan, before, everything, &making)?;
        let stats = collection.stats();
        let report = MibReport {
            files: stats.files,
            modules: stats.modules,
            nodes: stats.nodes,
            problems: stats.problems,
            read: collected.read,
            parsed: collected.parsed,
            reused: collected.reused,
            linked: collected.linked,
            new_problems: collected.new_problems,
            gone_problems: collected.gone_problems,
            unchanged: collected.unchanged,
        };
        let mib = Arc::clone(collection.mib());
        let (directories, collection) = (settings.directories.clone(), Some(Arc::new(collection)));
        Ok(Self { directories, stat, collection, mib, report })
    }

    fn problems(&self) -> Arc<[Diagnostic]> {
        self.collection.as_ref().map(|collection| Arc::clone(collection.diagnostics())).unwrap_or_default()
    }
}

/// Over path and stamp of every file, and what cannot be looked at.
fn stat_of(scan: &Scan) -> ContentHash {
    let mut text = Vec::new();
    for file in &scan.files {
        let mib::Stamp { inode, size, modified, changed } = file.stamp;
        text.extend(file.path.as_os_str().as_encoded_bytes());
        text.push(0);
        for number in [inode.0, inode.1, size] {
            text.extend(number.to_le_bytes());
        }
        for number in [modified.0, modified.1, changed.0, changed.1] {
            text.extend(number.to_le_bytes());
        }
    }
    for problem in &scan.problems {
        text.extend(problem.message.as_bytes());
        text.push(0);
    }
    ContentHash::of(&text)
}
