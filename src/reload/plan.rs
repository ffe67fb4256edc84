//! Reading the inputs: configuration and MIB directories, by content, and the Candidate that they make.
//!
//! A [`Plan`] is what is known of the inputs that were read last. It is immutable: an attempt makes another one,
//! which replaces it once the attempt was published.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::history::MibReport;
use super::trigger::ReloadType;
use crate::config::diff::{Section, diff, restart_needed};
use crate::config::{self, ContentHash, Input, Memory, Settings, hash_of};
use crate::diagnostic::{Diagnostic, Level, Part};
use crate::mib::{self, Mib};
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
}

/// The MIB directories as they were read, and what they compile to.
#[derive(Debug, Clone)]
struct Mibs {
    directories: Vec<PathBuf>,
    /// Their [`Stat`], if it tells every later change.
    stat: Option<ContentHash>,
    /// Over path and contents of every file.
    content: Option<ContentHash>,
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
    pub(super) mib_problems: Vec<Diagnostic>,
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
        self.inputs_are_on_disk()
            && self.mibs == stat_directories(&self.mib_directories).ok().map(|stat| stat.hash)
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
        self.mibs = stat_directories(&self.mib_directories).ok().map(|stat| stat.hash);
    }
}

/// What an attempt is asked to read.
pub(super) struct Attempt<'a> {
    pub(super) kind: ReloadType,
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
    ) -> (Result<(Candidate, Self), Vec<Diagnostic>>, Vec<Diagnostic>) {
        let (mibs, problems) = Mibs::read(&settings.mib.directories, None);
        let built = snapshot::build(settings, Arc::clone(&mibs.mib), None);
        let located = |mut problems: Vec<Diagnostic>| {
            if let Some(origin) = &origin {
                config::locate(origin, &mut problems);
            }
            problems
        };
        let built = built.map_err(located);
        (built.map(|candidate| (candidate, Self { origin, inputs, memory: None, mibs })), problems)
    }

    /// Reads the configuration once more, so that the first reload costs no more than the later ones: who made the
    /// first plan handed settings over, and no memory of reading them.
    pub(super) fn remember(&mut self, current: &Settings) {
        let Some(origin) = &self.origin else { return };
        let memory = config::load_again(origin, None, &current.lookups).ok();
        self.memory = memory.filter(|memory| memory.loaded().inputs == self.inputs);
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
        let mut mib_problems = Vec::new();
        // By the running settings: after a rollback the directories that were read last are others.
        if attempt.kind.reads_mibs() || *directories != current.settings().mib.directories {
            seen.mib_directories.clone_from(directories);
            seen.mibs = stat_directories(directories).ok().map(|stat| stat.hash);
            // Told before anything is read: compiling without a directory would take all its names away.
            let missing = self.missing_directories(&settings);
            if let Some(first) = missing.first() {
                let error = format!("Failed to reload component mib_loader: {}", first.message);
                return Err(Failure { error, diagnostics: missing, transient: true });
            }
            let (mibs, problems) = Mibs::read(directories, Some(&self.mibs));
            mib = Arc::clone(&mibs.mib);
            mib_report = Some(MibReport { unchanged: Arc::ptr_eq(&mib, current.mib()), ..mibs.report });
            mib_problems = problems;
            plan.mibs = mibs;
        }
        let read_seconds = started.elapsed().as_secs_f64();
        if attempt.cancel.load(Ordering::Relaxed) {
            return Err(Failure::lasting("cancelled"));
        }
        let started = std::time::Instant::now();
        let changes = changes.into_iter().map(|change| change.key).collect();
        let candidate = snapshot::build(settings, mib, Some(current)).map_err(|mut problems| {
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

/// What differs besides the webhooks.
fn others(current: &Settings, loaded: &Settings) -> Vec<String> {
    let changes = diff(current, loaded);
    changes
        .into_iter()
        .filter(|change| change.section != Section::Webhooks)
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
    /// Reads and compiles, unless the files are those of `before`.
    fn read(directories: &[PathBuf], before: Option<&Self>) -> (Self, Vec<Diagnostic>) {
        if directories.is_empty() {
            let mib = Mib::builtin();
            let report = MibReport {
                modules: mib.modules().count(),
                nodes: mib.nodes().len(),
                unchanged: before.is_some_and(|before| before.directories.is_empty()),
                ..MibReport::default()
            };
            let none = Self { directories: Vec::new(), stat: None, content: None, mib, report };
            return (none, Vec::new());
        }
        let before = before.filter(|before| before.directories == directories);
        // Taken before the reading: what changes meanwhile differs the next time.
        let found = stat_directories(directories).ok();
        if let (Some(before), Some(found)) = (before, &found)
            && before.stat == Some(found.hash)
        {
            return (before.again(), Vec::new());
        }
        // A file that was written just now may be written once more without another stamp.
        let stat = found.filter(|found| found.settled).map(|found| found.hash);
        let (files, mut problems) = mib::read_directories(directories);
        let content = content_of(&files);
        if let Some(before) = before
            && problems.is_empty()
            && before.content == Some(content)
        {
            return (Self { stat, ..before.again() }, Vec::new());
        }
        let compiled = Mib::compile(&files);
        problems.extend(compiled.diagnostics);
        let report = MibReport {
            files: compiled.stats.files,
            modules: compiled.stats.modules,
            nodes: compiled.stats.nodes,
            problems: problems.iter().filter(|problem| problem.level > Level::Note).count(),
            unchanged: false,
        };
        let mib = Arc::new(compiled.mib);
        (Self { directories: directories.to_vec(), stat, content: Some(content), mib, report }, problems)
    }

    fn again(&self) -> Self {
        Self { report: MibReport { unchanged: true, ..self.report }, ..self.clone() }
    }
}

fn content_of(files: &[mib::SourceFile]) -> ContentHash {
    // A hash over hashes, so that no second copy of all files is made.
    let mut hashes = Vec::new();
    for file in files {
        hashes.extend(file.path.as_bytes());
        hashes.push(0);
        hashes.extend(ContentHash::of(&file.bytes).octets());
    }
    ContentHash::of(&hashes)
}

/// How deep directories may lie in each other, as for reading them.
const DEEPEST: usize = 64;

/// How old a change must be for its stamp to tell it from a later one: file systems count in ticks of 10 ms, in
/// seconds, or in two of them.
const SETTLED: Duration = Duration::from_secs(2);

/// The files of directories, by their stat alone.
struct Stat {
    /// Over path, device, inode, size, mtime and ctime of every file.
    hash: ContentHash,
    /// Whether no file changed just now.
    settled: bool,
}

fn stat_directories(directories: &[PathBuf]) -> io::Result<Stat> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let limit = now.saturating_sub(SETTLED).as_secs() as i64;
    let mut settled = true;
    let mut seen = std::collections::HashSet::new();
    let mut text = Vec::new();
    let mut stack: Vec<(PathBuf, usize)> = directories.iter().map(|path| (path.clone(), 0)).collect();
    while let Some((path, depth)) = stack.pop() {
        let Ok(metadata) = fs::metadata(&path) else {
            text.extend(path.as_os_str().as_encoded_bytes());
            continue;
        };
        if metadata.is_dir() {
            if depth <= DEEPEST && seen.insert((metadata.dev(), metadata.ino())) {
                let mut below: Vec<PathBuf> = fs::read_dir(&path)?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<io::Result<_>>()?;
                below.sort_unstable();
                stack.extend(below.into_iter().map(|path| (path, depth + 1)));
            }
            continue;
        }
        settled &= metadata.ctime() < limit;
        text.extend(path.as_os_str().as_encoded_bytes());
        text.push(0);
        for number in [
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.mtime() as u64,
            metadata.mtime_nsec() as u64,
            metadata.ctime() as u64,
            metadata.ctime_nsec() as u64,
        ] {
            text.extend(number.to_le_bytes());
        }
    }
    Ok(Stat { hash: ContentHash::of(&text), settled })
}
