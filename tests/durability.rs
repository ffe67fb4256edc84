//! Acknowledged means durable: what the disk holds for sure at each answer, whatever it drops that was not synced.
//!
//! A child stores events under `strace`. From its system calls a simulated file system is made that keeps of each
//! file what was synced alone, and of its names either all (data may then be older than its name) or those of the
//! last sync of the directory. At answers, such a disk is opened: everything that was answered must be there. The
//! control leaves out the syncs of one kind, each in turn, and must find something missing.

#[path = "common/peers.rs"]
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nereus::config::settings::StorageSettings;
use nereus::event::{
    Answer, Command as Order, Decided, Event, EventId, Generation, Matchers, Queue, Timestamp, Version,
};
use nereus::metrics::Metrics;
use nereus::oid::Oid;
use nereus::store::{self, EventQuery, NewMute, Store};

const CHILD: &str = "NEREUS_TEST_DURABILITY";
/// Enough for several journal files: they are closed at 1 MiB here.
const EVENTS: u64 = 300;
const PDU: usize = 12 << 10;
/// Answers between two looks at the disk.
const STRIDE: usize = 12;

fn settings(path: &Path) -> StorageSettings {
    StorageSettings { path: path.into(), max_size: 16 << 20, ..StorageSettings::default() }
}

/// Tells its event's number once it is sent.
#[derive(Debug)]
struct Line(Arc<fs::File>, EventId);

impl Answer for Line {
    fn send(self: Box<Self>) {
        (&*self.0).write_all(format!("event {}\n", self.1).as_bytes()).unwrap();
    }
}

fn event(answer: Line) -> Event {
    Event {
        time: Timestamp::now(),
        generation: Generation(1),
        listener: 0,
        peer: "10.0.0.1:162".parse().unwrap(),
        source: "10.0.0.1".parse().unwrap(),
        version: Version::V2c,
        community: None,
        trap_oid: Oid::new([1, 3, 6, 1]).unwrap(),
        trap_name: None,
        datagram: vec![7; PDU].into(),
        pdu: 0..PDU,
        effects: std::iter::empty().collect(),
        answer: Some(Box::new(answer)),
    }
}

/// The child of the test below.
#[test]
#[ignore = "run under strace by the test below"]
fn stores_and_answers() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let answers = Arc::new(fs::File::create(folder.join("answers")).unwrap());
    let metrics = Arc::new(Metrics::new());
    let opened = Store::open(&settings(&folder.join("data")), Arc::clone(&metrics)).unwrap();
    let queue = Arc::new(Queue::new(64 << 20));
    let (applied, _) = tokio::sync::watch::channel(0);
    let writer = store::spawn_writer(opened.store, Arc::clone(&queue), applied, metrics).unwrap();
    let flush = || {
        let (told, done) = mpsc::sync_channel(1);
        queue.push(Order::Flush(told)).unwrap();
        done.recv_timeout(Duration::from_secs(60)).unwrap();
    };
    // Numbers tell when: retention takes away what is old.
    let first = u64::try_from(Timestamp::now().0).unwrap();
    for number in 1..=EVENTS {
        let id = EventId(first + number);
        let event = event(Line(Arc::clone(&answers), id));
        let decided = Decided { id, event, row: true, alert: None, changes: Vec::new() };
        queue.push(Order::Event(Box::new(decided))).unwrap();
        if number % 3 == 0 {
            flush();
        }
    }
    flush();
    for number in 0..3 {
        let now = Timestamp::now();
        let mute = NewMute {
            matchers: Matchers { alert: vec![format!("A{number}")], ..Matchers::default() },
            from: now,
            until: now.after(Duration::from_secs(86_400)),
            comment: String::new(),
            by: "ann".into(),
        };
        let made = opened.mutes.add(mute, now, |_| {}).unwrap();
        (&*answers).write_all(format!("mute {}\n", made.id).as_bytes()).unwrap();
    }
    queue.push(Order::Stop).unwrap();
    writer.join().unwrap();
}

/// What a process did to files, in its order.
#[derive(Debug)]
enum Call {
    /// Opened for writing, and made if it was not there.
    Create {
        path: String,
        truncate: bool,
    },
    Write {
        path: String,
        /// At the end, if it does not say.
        offset: Option<usize>,
        octets: Vec<u8>,
    },
    Truncate {
        path: String,
        length: usize,
    },
    Sync(String),
    Rename(String, String),
    Unlink(String),
}

/// Text as `strace -xx` writes it: each octet as `\xNN`.
fn unhex(text: &str) -> Vec<u8> {
    let octet = |part: &str| u8::from_str_radix(&part[..2], 16).unwrap();
    text.split("\\x").skip(1).map(octet).collect()
}

fn text(hex: &str) -> String {
    String::from_utf8(unhex(hex)).unwrap()
}

/// The calls of a log of `strace -f -y -xx`. One that another thread interrupts stands where it ends.
fn calls(log: &str) -> Vec<Call> {
    let mut unfinished: BTreeMap<&str, &str> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((thread, line)) = line.split_once(' ') else { continue };
        let line = line.trim_start();
        if let Some(begun) = line.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, begun);
            continue;
        }
        let joined = line
            .strip_prefix("<... ")
            .and_then(|rest| rest.split_once(" resumed>"))
            .map(|(_, rest)| format!("{}{rest}", unfinished.remove(thread).unwrap_or_default()));
        calls.extend(call(joined.as_deref().unwrap_or(line)));
    }
    calls
}

fn call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ")?;
    if result.starts_with('-') {
        return None;
    }
    // The path of a descriptor stands behind it.
    let of_descriptor = || {
        let (_, path) = arguments.split_once('<')?;
        Some(text(path.split_once('>')?.0))
    };
    let quoted: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
    let last = || arguments.rsplit(", ").next()?.parse().ok();
    Some(match name {
        "openat" if arguments.contains("O_WRONLY") || arguments.contains("O_RDWR") => {
            Call::Create { path: text(quoted.first()?), truncate: arguments.contains("O_TRUNC") }
        }
        "write" => Call::Write { path: of_descriptor()?, offset: None, octets: unhex(quoted.first()?) },
        "pwrite64" => {
            Call::Write { path: of_descriptor()?, offset: Some(last()?), octets: unhex(quoted.first()?) }
        }
        "ftruncate" => Call::Truncate { path: of_descriptor()?, length: last()? },
        "fsync" | "fdatasync" => Call::Sync(of_descriptor()?),
        "rename" => Call::Rename(text(quoted.first()?), text(quoted.get(1)?)),
        "unlink" => Call::Unlink(text(quoted.first()?)),
        _ => return None,
    })
}

#[derive(Debug, Default, Clone)]
struct File {
    now: Vec<u8>,
    /// As of its last sync.
    synced: Vec<u8>,
}

/// A directory whose disk keeps what was synced.
#[derive(Debug)]
struct Disk {
    root: String,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    /// As of the directory's last sync.
    synced_names: BTreeMap<String, usize>,
    /// Names and lengths are kept at once, though nothing was synced; else with the next sync.
    eager: bool,
}

impl Disk {
    fn new(root: &Path, eager: bool) -> Self {
        let root = root.display().to_string();
        Self { root, files: Vec::new(), names: BTreeMap::new(), synced_names: BTreeMap::new(), eager }
    }

    fn named(&mut self, change: impl Fn(&mut BTreeMap<String, usize>)) {
        change(&mut self.names);
        if self.eager {
            change(&mut self.synced_names);
        }
    }

    fn apply(&mut self, call: &Call) {
        match call {
            Call::Create { path, truncate } if path.starts_with(&self.root) => {
                if !self.names.contains_key(path) {
                    self.files.push(File::default());
                    let file = self.files.len() - 1;
                    self.named(|names| {
                        names.insert(path.clone(), file);
                    });
                }
                if *truncate {
                    self.resize(path, 0);
                }
            }
            Call::Write { path, offset, octets } => {
                let Some(&file) = self.names.get(path) else { return };
                let now = &mut self.files[file].now;
                let offset = offset.unwrap_or(now.len());
                now.resize(now.len().max(offset + octets.len()), 0);
                now[offset..offset + octets.len()].copy_from_slice(octets);
            }
            Call::Truncate { path, length } => self.resize(path, *length),
            Call::Sync(path) if *path == self.root => self.synced_names = self.names.clone(),
            Call::Sync(path) => {
                let Some(&file) = self.names.get(path) else { return };
                let file = &mut self.files[file];
                file.synced.clone_from(&file.now);
            }
            Call::Rename(from, to) if self.names.contains_key(from) => {
                self.named(|names| {
                    if let Some(file) = names.remove(from) {
                        names.insert(to.clone(), file);
                    }
                });
            }
            Call::Unlink(path) => self.named(|names| {
                names.remove(path);
            }),
            Call::Create { .. } | Call::Rename(..) => {}
        }
    }

    fn resize(&mut self, path: &str, length: usize) {
        let Some(&file) = self.names.get(path) else { return };
        let file = &mut self.files[file];
        file.now.resize(length, 0);
        if self.eager {
            file.synced.truncate(length);
        }
    }

    /// The disk after a loss of power, as a directory. SQLite makes the index of a WAL anew.
    fn write(&self, folder: &Path) {
        for (name, &file) in self.synced_names.iter().filter(|(name, _)| !name.ends_with("-shm")) {
            let name = Path::new(name).file_name().unwrap();
            fs::write(folder.join(name), &self.files[file].synced).unwrap();
        }
    }
}

/// Which syncs are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Of the journals' WALs: at each commit.
    Commits,
    /// Of the journals themselves: when a WAL is moved into one.
    Checkpoints,
    /// Of the directory: when a file is made or renamed.
    Names,
    /// Of the mutes.
    Mutes,
}

impl Without {
    fn drops(self, call: &Call, root: &str) -> bool {
        let Call::Sync(path) = call else { return false };
        let journal = path.contains("/events-");
        match self {
            Self::Nothing => false,
            Self::Commits => journal && path.ends_with("-wal"),
            Self::Checkpoints => journal && path.ends_with(".db"),
            Self::Names => path == root,
            Self::Mutes => path.contains("mutes.json"),
        }
    }
}

/// What was answered and is not on the disk that a loss of power leaves, at the first look that misses something.
fn missing(calls: &[Call], root: &Path, without: Without, eager: bool) -> Option<String> {
    let mut disk = Disk::new(root, eager);
    let mut answered = BTreeSet::new();
    for call in calls {
        if without.drops(call, &root.display().to_string()) {
            continue;
        }
        disk.apply(call);
        let Call::Write { path, octets, .. } = call else { continue };
        if !path.ends_with("/answers") {
            continue;
        }
        answered.extend(String::from_utf8_lossy(octets).lines().map(str::to_owned));
        let mute = octets.starts_with(b"mute");
        if answered.len().is_multiple_of(STRIDE) || mute {
            let folder = tempfile::tempdir().unwrap();
            disk.write(folder.path());
            let opened = Store::open(&settings(folder.path()), Arc::new(Metrics::new()));
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) => return Some(format!("the store does not open: {error}")),
            };
            let query = EventQuery { limit: usize::MAX, ..EventQuery::default() };
            let mut there = BTreeSet::new();
            let reader = opened.store.reader();
            let mut before = None;
            loop {
                let page = reader.events(&EventQuery { before, ..query.clone() }).unwrap();
                there.extend(page.events.iter().map(|event| format!("event {}", event.id)));
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            there.extend(opened.mutes.all().iter().map(|mute| format!("mute {}", mute.id)));
            let gone: Vec<_> = answered.difference(&there).cloned().collect();
            if !gone.is_empty() {
                return Some(format!("{} of {}: {}", gone.len(), answered.len(), gone[0]));
            }
        }
    }
    assert_eq!(answered.len() as u64, EVENTS + 3, "the child has answered everything");
    None
}

#[test]
fn what_was_answered_survives_a_loss_of_power_and_every_sync_is_needed() {
    let Some(strace) = peers::find(&["strace"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("data");
    fs::create_dir(&root).unwrap();
    let log = folder.path().join("log");
    let traced = "trace=openat,write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink";
    let output = Command::new(strace)
        .args(["-f", "-y", "-xx", "-s", "1000000", "-e", traced, "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["stores_and_answers", "--exact", "--ignored"])
        .env(CHILD, root.parent().unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.to_ascii_lowercase().contains("ptrace") && !peers::required() {
        peers::skipped("this machine lets nobody be traced");
        return;
    }
    assert!(output.status.success(), "{said}");
    let calls = calls(&fs::read_to_string(&log).unwrap());
    let journals: BTreeSet<_> = calls
        .iter()
        .filter_map(|call| match call {
            Call::Create { path, .. } if path.contains("/events-") && path.ends_with(".db") => Some(path),
            _ => None,
        })
        .collect();
    assert!(journals.len() > 2, "journals were closed and begun: {journals:?}");
    for eager in [true, false] {
        assert_eq!(missing(&calls, &root, Without::Nothing, eager), None, "eager: {eager}");
    }
    for without in [Without::Commits, Without::Checkpoints, Without::Names, Without::Mutes] {
        let found = [true, false].into_iter().find_map(|eager| missing(&calls, &root, without, eager));
        assert!(found.is_some(), "without {without:?} nothing is missing: the test would not see it go");
    }
}
