//! One observation of the inputs, without their contents, and of the directory entries they depend on.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Shared, Targets};

/// How deep MIB directories may lie in each other, as for reading them.
const DEEPEST: usize = 64;
/// How many symbolic links one path may lead through, as in the kernel.
const MOST_LINKS: usize = 40;
/// How many MIB files are looked at. Past it the rest is not watched, which is told as a problem.
pub(super) const MOST_FILES: usize = 1 << 19;

/// Which list of the targets an input is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    Config,
    Mib,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) class: Class,
    /// As the targets name it.
    pub(super) target: Arc<Path>,
    /// Below it; empty for the target itself.
    pub(super) below: PathBuf,
}

impl Key {
    pub(super) fn of(class: Class, target: &Arc<Path>) -> Self {
        Self { class, target: Arc::clone(target), below: PathBuf::new() }
    }

    pub(super) fn path(&self) -> PathBuf {
        // Joining an empty path would append a slash, which opens no file.
        if self.is_target() { self.target.to_path_buf() } else { self.target.join(&self.below) }
    }

    pub(super) fn is_target(&self) -> bool {
        self.below.as_os_str().is_empty()
    }
}

/// What a stat says of a file's identity and last change. Reading a file leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether nothing was written between the two. An open file's device differs from its path's on some
    /// stacked file systems, hence identity is left out.
    pub(super) fn as_written(&self, other: &Self) -> bool {
        (self.size, self.modified, self.changed) == (other.size, other.modified, other.changed)
    }

    pub(super) fn changed_after(&self, since: SystemTime) -> bool {
        after(self.changed, since)
    }
}

/// Whether a time of the file system is later than `since`, or too close to say: its clock ticks every 10 ms
/// at the slowest.
fn after((seconds, nanoseconds): (i64, i64), since: SystemTime) -> bool {
    let since = since.checked_sub(Duration::from_millis(20)).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
        return false;
    };
    Duration::new(seconds, 0).saturating_add(Duration::from_nanos(nanoseconds.into())) > since
}

/// What was seen of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observed {
    Missing,
    Unreadable(ErrorKind),
    /// Neither file nor directory: a pipe, a socket. It is never opened.
    Special,
    /// A directory among the files, by the hash of its names.
    Names(u64),
    /// A MIB directory; what is in it are inputs of their own.
    Tree,
    File(Stat),
}

impl Observed {
    fn failed(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::Missing,
            kind => Self::Unreadable(kind),
        }
    }
}

/// Why a directory is watched, the least important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// A path leads through it. It may be closed to us without harm.
    Ancestor,
    Mib,
    Config,
}

/// What matters in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) why: Why,
    /// All names that do not begin with a dot.
    everything: bool,
    names: BTreeSet<OsString>,
}

/// The directory entries that the inputs depend on, by the directory's real path: for each input every entry
/// that resolving its path consults, links included, up to the first one that is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Points(BTreeMap<PathBuf, Interest>);

impl Points {
    /// Whether an event about `path` can concern an input.
    pub(super) fn concern(&self, path: &Path) -> bool {
        let entry = || {
            let (interest, name) = (self.0.get(path.parent()?)?, path.file_name()?);
            Some(interest.names.contains(name) || interest.everything && !hidden(name))
        };
        self.0.contains_key(path) || entry().unwrap_or(false)
    }

    /// Whether `path` is one of the directories.
    pub(super) fn watches(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// The directories, the most important first.
    pub(super) fn directories(&self) -> Vec<(&Path, Why)> {
        let mut all: Vec<_> = self.0.iter().map(|(path, interest)| (path.as_path(), interest.why)).collect();
        all.sort_by_key(|(_, why)| std::cmp::Reverse(*why));
        all
    }

    fn at(&mut self, directory: &Path, why: Why) -> &mut Interest {
        // An entry() would need an owned path each time.
        if !self.0.contains_key(directory) {
            let new = Interest { why, everything: false, names: BTreeSet::new() };
            self.0.insert(directory.to_path_buf(), new);
        }
        let interest = self.0.get_mut(directory).expect("it was inserted above");
        interest.why = interest.why.max(why);
        interest
    }

    /// Resolves `path` as the kernel does, and notes every entry on the way.
    fn consult(&mut self, path: &Path, why: Why) {
        let mut at = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = VecDeque::new();
        if path.is_relative() {
            rest.extend(std::env::current_dir().unwrap_or_default().iter().map(OsStr::to_owned));
        }
        rest.extend(path.iter().map(OsStr::to_owned));
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            match Path::new(&name).components().next() {
                Some(Component::Normal(_)) => {}
                Some(Component::ParentDir) => {
                    at.pop();
                    continue;
                }
                Some(Component::RootDir) => {
                    at = PathBuf::from("/");
                    continue;
                }
                _ => continue,
            }
            let entry = at.join(&name);
            let metadata = fs::symlink_metadata(&entry);
            let link = metadata.as_ref().is_ok_and(Metadata::is_symlink);
            let way = metadata.as_ref().is_ok_and(Metadata::is_dir) && !rest.is_empty();
            self.at(&at, if way { Why::Ancestor } else { why }).names.insert(name);
            if link {
                links += 1;
                let Ok(to) = fs::read_link(&entry) else { return };
                if links > MOST_LINKS {
                    return;
                }
                for name in to.iter().rev() {
                    rest.push_front(name.to_owned());
                }
            } else if metadata.is_ok_and(|metadata| metadata.is_dir()) {
                at = entry;
            } else {
                return;
            }
        }
    }

    fn everything(&mut self, directory: &Path, why: Why) {
        self.at(directory, why).everything = true;
    }
}

fn hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// One observation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) inputs: BTreeMap<Key, Observed>,
    pub(super) points: Points,
    /// The latest change of any MIB directory's list of names.
    directories_changed: (i64, i64),
    /// There are more than [`MOST_FILES`] MIB files.
    pub(super) cut: bool,
}

impl Scan {
    /// Observes the targets: a stat for each file, a listing of each directory. `None` when the watcher is
    /// being stopped.
    pub(super) fn take(targets: &Targets, hasher: &RandomState, shared: &Shared) -> Option<Self> {
        let mut scan = Self::default();
        for file in &targets.files {
            scan.file(file, hasher);
        }
        let mut seen = HashSet::new();
        for directory in &targets.mib_directories {
            scan.tree(directory, &mut seen, shared)?;
        }
        Some(scan)
    }

    /// Whether a MIB directory's list of names changed later than `since`.
    pub(super) fn directories_changed_after(&self, since: SystemTime) -> bool {
        after(self.directories_changed, since)
    }

    fn file(&mut self, path: &Path, hasher: &RandomState) {
        self.points.consult(path, Why::Config);
        let observed = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Observed::File(Stat::of(&metadata)),
            Ok(metadata) if metadata.is_dir() => match names(path) {
                Ok(names) => {
                    if let Ok(real) = fs::canonicalize(path) {
                        self.points.everything(&real, Why::Config);
                    }
                    Observed::Names(hasher.hash_one(names))
                }
                Err(error) => Observed::failed(&error),
            },
            Ok(_) => Observed::Special,
            Err(error) => Observed::failed(&error),
        };
        self.inputs.insert(Key::of(Class::Config, &Arc::from(path)), observed);
    }

    /// A MIB directory. Links are followed; a directory that is met again is passed over, so loops end.
    fn tree(&mut self, path: &Path, seen: &mut HashSet<(u64, u64)>, shared: &Shared) -> Option<()> {
        self.points.consult(path, Why::Mib);
        let target: Arc<Path> = Arc::from(path);
        let (root, real) = match fs::metadata(path).and_then(|root| Ok((root, fs::canonicalize(path)?))) {
            Ok((root, real)) if root.is_dir() => (root, real),
            Ok((root, _)) => {
                let file = root.is_file();
                let observed = if file { Observed::File(Stat::of(&root)) } else { Observed::Special };
                self.inputs.insert(Key::of(Class::Mib, &target), observed);
                return Some(());
            }
            Err(error) => {
                self.inputs.insert(Key::of(Class::Mib, &target), Observed::failed(&error));
                return Some(());
            }
        };
        self.inputs.insert(Key::of(Class::Mib, &target), Observed::Tree);
        let mut stack = Vec::new();
        if seen.insert((root.dev(), root.ino())) {
            self.directories_changed = self.directories_changed.max((root.ctime(), root.ctime_nsec()));
            stack.push((PathBuf::new(), real, 0));
        }
        while let Some((below, real, depth)) = stack.pop() {
            if shared.stopping() {
                return None;
            }
            self.points.everything(&real, Why::Mib);
            match self.list(&target, &below, &real, seen) {
                Ok(directories) if depth < DEEPEST => {
                    stack.extend(directories.into_iter().map(|(below, real)| (below, real, depth + 1)));
                }
                Ok(_) => {}
                // It vanished while we looked; its parent's next listing says so.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let key = Key { class: Class::Mib, target: Arc::clone(&target), below };
                    self.inputs.insert(key, Observed::failed(&error));
                }
            }
        }
        Some(())
    }

    /// Takes up the files of one directory, and tells the directories in it.
    fn list(
        &mut self,
        target: &Arc<Path>,
        below: &Path,
        real: &Path,
        seen: &mut HashSet<(u64, u64)>,
    ) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let mut entries = fs::read_dir(real)?.collect::<io::Result<Vec<_>>>()?;
        entries.retain(|entry| !hidden(&entry.file_name()));
        // The order decides under which name a directory with two names is taken up.
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        let mut directories = Vec::new();
        for entry in entries {
            let key =
                Key { class: Class::Mib, target: Arc::clone(target), below: below.join(entry.file_name()) };
            let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let metadata = if link {
                self.points.consult(&entry.path(), Why::Mib);
                fs::metadata(entry.path())
            } else {
                entry.metadata()
            };
            match metadata {
                Ok(metadata) if metadata.is_dir() => {
                    self.directories_changed =
                        self.directories_changed.max((metadata.ctime(), metadata.ctime_nsec()));
                    if seen.insert((metadata.dev(), metadata.ino())) {
                        let real = if link { fs::canonicalize(entry.path()) } else { Ok(entry.path()) };
                        directories.extend(real.ok().map(|real| (key.below, real)));
                    }
                }
                Ok(metadata) if metadata.is_file() => {
                    if self.inputs.len() >= MOST_FILES {
                        self.cut = true;
                        break;
                    }
                    self.inputs.insert(key, Observed::File(Stat::of(&metadata)));
                }
                Ok(_) => {}
                Err(error) if !link && error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    self.inputs.insert(key, Observed::failed(&error));
                }
            }
        }
        directories.reverse();
        Ok(directories)
    }
}

fn names(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .filter(|name| !name.as_ref().is_ok_and(|name| hidden(name)))
        .collect()
}
