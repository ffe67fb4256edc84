//! What was last reported, and the comparison with an observation: by content.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use super::scan::{Class, Key, Observed, Scan, Stat};
use super::{Shared, Targets};

/// The largest file whose content is hashed, in octets: that of the largest MIB file that is read. Of a larger
/// one a touch is a change.
const LARGEST_HASHED: u64 = crate::mib::LARGEST_FILE;

/// What counts of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Missing,
    Unreadable(ErrorKind),
    Special,
    Names(u64),
    Tree,
    Hash(u64),
    /// Too large to be hashed.
    Large(Stat),
    /// Not hashed yet. As long as the stat stays, it is taken as unchanged.
    Unfilled,
    /// What the engine read is unsure: differs from everything.
    Unsure,
}

impl Content {
    fn equals(self, other: Self) -> bool {
        self == other && self != Self::Unfilled && self != Self::Unsure
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    observed: Observed,
    content: Content,
}

/// Of which inputs the contents are read though their stat is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    None,
    Config,
    All,
}

impl Depth {
    fn covers(self, class: Class) -> bool {
        match class {
            Class::Config => self >= Self::Config,
            Class::Mib => self == Self::All,
        }
    }
}

/// The inputs as they were last reported, or at the start.
#[derive(Debug)]
pub(super) struct Known {
    entries: BTreeMap<Key, Entry>,
    /// Keyed at random, so that a hash of a secret is of no use elsewhere.
    hasher: RandomState,
}

/// An observation with its contents, compared with what is known.
#[derive(Debug)]
pub(super) struct Comparison {
    entries: BTreeMap<Key, Entry>,
    /// What differs by content.
    pub(super) differing: Vec<Key>,
    /// A file was written while it was read.
    pub(super) unstable: bool,
    /// Something is empty or gone that was not: probably it is being written.
    pub(super) held: bool,
}

impl Known {
    /// Knows nothing.
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), hasher: RandomState::new() }
    }

    pub(super) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// Takes `scan`'s inputs of the targets that `added` picks for known as they are. Those that changed later
    /// than `since` says, if it does, will differ from whatever is seen. Files of the configuration are read, MIB files not yet
    /// (see [`Self::fill`]).
    pub(super) fn learn(
        &mut self,
        scan: &Scan,
        since: impl Fn(Class) -> Option<SystemTime>,
        added: impl Fn(Class, &Path) -> bool,
    ) {
        let unsure = since(Class::Mib).is_some_and(|since| scan.directories_changed_after(since));
        for (key, &observed) in scan.inputs.iter().filter(|(key, _)| added(key.class, &key.target)) {
            let content = match observed {
                Observed::File(stat) if since(key.class).is_some_and(|since| stat.changed_after(since)) => {
                    Content::Unsure
                }
                Observed::Tree if unsure => Content::Unsure,
                Observed::File(_) if key.class == Class::Mib => Content::Unfilled,
                Observed::File(stat) => match self.read(&key.path(), stat) {
                    (content, true) => content,
                    (_, false) => Content::Unsure,
                },
                _ => plain(observed),
            };
            self.entries.insert(key.clone(), Entry { observed, content });
        }
    }

    /// Forgets the inputs of targets that are no longer among `targets`.
    pub(super) fn retain(&mut self, targets: &Targets) {
        self.entries.retain(|key, _| targets.contains(key.class, &key.target));
    }

    /// From now on the targets `keys` differ from whatever is seen: which of their contents the engine has
    /// read is unsure.
    pub(super) fn doubt(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.content = Content::Unsure;
            }
        }
    }

    /// Whether `scan` sees everything as it is known, by stat alone.
    pub(super) fn matches(&self, scan: &Scan) -> bool {
        self.entries.len() == scan.inputs.len()
            && self.entries.iter().zip(&scan.inputs).all(|((key, entry), (seen, observed))| {
                key == seen && entry.observed == *observed && entry.content != Content::Unsure
            })
    }

    /// Whether a file that `depth` covers has another content than is known, though nothing else says so.
    pub(super) fn differs_by_content(&self, depth: Depth, shared: &Shared) -> bool {
        self.entries.iter().any(|(key, entry)| match entry.observed {
            Observed::File(stat) if depth.covers(key.class) && !shared.stopping() => {
                entry.content != Content::Unfilled && !self.read(&key.path(), stat).0.equals(entry.content)
            }
            _ => false,
        })
    }

    /// Hashes the files that have not been hashed yet; ends early when the watcher is being stopped. One whose
    /// stat has changed since is left: it will be seen as changed.
    pub(super) fn fill(&mut self, shared: &Shared) {
        let hasher = &self.hasher;
        for (key, entry) in &mut self.entries {
            if shared.stopping() {
                return;
            }
            if let (Content::Unfilled, Observed::File(stat)) = (entry.content, entry.observed)
                && let (content, true) = read(&key.path(), stat, hasher)
            {
                entry.content = content;
            }
        }
    }

    /// Reads the contents of what moved in `scan`, and of what `depth` covers, and compares. `None` when the
    /// watcher is being stopped.
    pub(super) fn compare(&self, scan: &Scan, depth: Depth, shared: &Shared) -> Option<Comparison> {
        let mut comparison =
            Comparison { entries: BTreeMap::new(), differing: Vec::new(), unstable: false, held: false };
        for (key, &observed) in &scan.inputs {
            if shared.stopping() {
                return None;
            }
            let known = self.entries.get(key);
            let same = known.filter(|known| known.observed == observed && !depth.covers(key.class));
            let content = match (same, observed) {
                (Some(known), _) if known.content != Content::Unsure => known.content,
                (_, Observed::File(stat)) => {
                    let (content, stable) = self.read(&key.path(), stat);
                    comparison.unstable |= !stable;
                    content
                }
                _ => plain(observed),
            };
            let unchanged = match known {
                // Its first hash: nothing but the stat is known of it.
                Some(known) if known.content == Content::Unfilled => known.observed == observed,
                Some(known) => known.content.equals(content),
                None => false,
            };
            if !unchanged {
                let empty = matches!(observed, Observed::File(stat) if stat.size == 0);
                let gone = content == Content::Missing && (key.class == Class::Config || key.is_target());
                comparison.held |= (empty || gone) && known.is_none_or(|known| known.observed != observed);
                comparison.differing.push(key.clone());
            }
            comparison.entries.insert(key.clone(), Entry { observed, content });
        }
        for key in self.entries.keys().filter(|key| !scan.inputs.contains_key(*key)) {
            comparison.differing.push(key.clone());
            comparison.held |= !has_files(&scan.inputs, key);
        }
        Some(comparison)
    }

    /// Takes an observation for reported.
    pub(super) fn accept(&mut self, comparison: Comparison) -> Vec<Key> {
        self.entries = comparison.entries;
        comparison.differing
    }

    /// Files of the configuration that may not be read.
    pub(super) fn forbidden(&self) -> impl Iterator<Item = &Key> {
        const FORBIDDEN: ErrorKind = ErrorKind::PermissionDenied;
        self.entries.iter().filter_map(|(key, entry)| {
            let forbidden = entry.content == Content::Unreadable(FORBIDDEN);
            (forbidden && key.class == Class::Config).then_some(key)
        })
    }

    fn read(&self, path: &Path, stat: Stat) -> (Content, bool) {
        read(path, stat, &self.hasher)
    }
}

impl Targets {
    pub(super) fn contains(&self, class: Class, path: &Path) -> bool {
        let list = match class {
            Class::Config => &self.files,
            Class::Mib => &self.mib_directories,
        };
        list.iter().any(|target| target == path)
    }
}

/// Whether the MIB directory that `gone` was in has any file left.
fn has_files(inputs: &BTreeMap<Key, Observed>, gone: &Key) -> bool {
    let first = Key::of(gone.class, &gone.target);
    inputs
        .range(first..)
        .take_while(|(key, _)| key.class == gone.class && key.target == gone.target)
        .any(|(key, _)| !key.is_target())
}

/// The content of what is not a file.
fn plain(observed: Observed) -> Content {
    match observed {
        Observed::Missing => Content::Missing,
        Observed::Unreadable(kind) => Content::Unreadable(kind),
        Observed::Special => Content::Special,
        Observed::Names(names) => Content::Names(names),
        Observed::Tree => Content::Tree,
        Observed::File(_) => Content::Unsure,
    }
}

/// A file's content, and whether it stayed as `stat` says until it was read.
fn read(path: &Path, stat: Stat, hasher: &RandomState) -> (Content, bool) {
    match hash(path, stat, hasher) {
        Ok(read) => read,
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => (Content::Missing, false),
            kind => (Content::Unreadable(kind), true),
        },
    }
}

fn hash(path: &Path, stat: Stat, hasher: &RandomState) -> io::Result<(Content, bool)> {
    // Without O_NONBLOCK, a pipe that took the file's place would hold us until somebody writes to it.
    let mut file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok((Content::Special, false));
    }
    if metadata.len() > LARGEST_HASHED {
        let now = Stat::of(&metadata);
        return Ok((Content::Large(now), now.as_written(&stat)));
    }
    let mut hash = hasher.build_hasher();
    let mut buffer = vec![0; 64 << 10];
    let mut left = LARGEST_HASHED;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hash.write(&buffer[..read]);
                let Some(rest) = left.checked_sub(read as u64) else { break };
                left = rest;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((Content::Hash(hash.finish()), Stat::of(&file.metadata()?).as_written(&stat)))
}
