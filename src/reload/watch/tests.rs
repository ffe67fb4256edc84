//! Real files, real events; waits are for conditions, with time-outs that only a hang reaches.

mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::events::{Failure, Open, Problems, Source, describe, native};
use super::run::{Unrest, Verdict};
use super::scan::Why;
use super::*;

const DELAY: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(60);

type Contents = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What the reports were, each with the contents that a reader found right after it.
#[derive(Default)]
struct Reports {
    all: Mutex<Vec<(Change, Contents)>>,
    more: Condvar,
}

struct Fixture {
    directory: tempfile::TempDir,
    reports: Arc<Reports>,
    watcher: Option<Watcher>,
    /// Whether each report is answered by `update`, as the engine does.
    publishes: bool,
    targets: Targets,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (reports, targets) = Default::default();
        Self { directory, reports, watcher: None, publishes: false, targets }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn targets(&self, files: &[&str], mibs: &[&str]) -> Targets {
        let paths = |names: &[&str]| names.iter().map(|name| self.path(name)).collect();
        Targets { files: paths(files), mib_directories: paths(mibs) }
    }

    /// Watches by events; the sweep is too rare to help.
    fn watch(self, files: &[&str], mibs: &[&str]) -> Self {
        self.watch_with(files, mibs, Timing { delay: DELAY, sweep: LONG * 60 }, native())
    }

    fn watch_with(mut self, files: &[&str], mibs: &[&str], timing: Timing, open: Open) -> Self {
        self.targets = self.targets(files, mibs);
        let (reports, targets) = (Arc::clone(&self.reports), self.targets.clone());
        let (publishes, slot) = (self.publishes, Arc::new(OnceLock::<Arc<Shared>>::new()));
        let shared = Arc::clone(&slot);
        let on_change = move |change| {
            let contents = read_all(&targets);
            reports.all.lock().push((change, contents));
            reports.more.notify_all();
            if publishes {
                slot.wait().signal(|signals| signals.update = Some((targets.clone(), timing)));
            }
        };
        self.watcher =
            Some(Watcher::start_with(self.targets.clone(), timing, None, open, Box::new(on_change)));
        let _ = shared.set(Arc::clone(&self.watcher.as_ref().unwrap().shared));
        self
    }

    fn wait(&self, what: &str, mut until: impl FnMut(&[(Change, Contents)]) -> bool) {
        let mut all = self.reports.all.lock();
        let limit = Instant::now() + LONG;
        while !until(&all) {
            assert!(!self.reports.more.wait_until(&mut all, limit).timed_out(), "{what}: {:?}", *all);
        }
    }

    /// Waits until the last report was followed by reading what is there now.
    fn converges(&self) {
        let now = read_all(&self.targets);
        self.wait("the last report has the final content", |all| {
            all.last().is_some_and(|(_, contents)| *contents == now)
        });
    }

    fn count(&self) -> usize {
        self.reports.all.lock().len()
    }

    fn last(&self) -> Change {
        self.reports.all.lock().last().expect("a report").0.clone()
    }

    /// Asserts that nothing but `expected` reports come: a change of a sentinel file, made last, is reported
    /// after everything before it.
    fn quiet_but(&self, expected: usize) {
        self.write("sentinel", &format!("{:?}", Instant::now()));
        let sentinel = self.path("sentinel");
        self.wait("the sentinel", |all| {
            all.len() > expected && all.last().is_some_and(|(change, _)| change.paths.contains(&sentinel))
        });
        let all = self.reports.all.lock();
        let changes: Vec<_> = all.iter().map(|(change, _)| change).collect();
        assert_eq!(all.len(), expected + 1, "{changes:?}");
        assert_eq!(changes.last().unwrap().paths, [sentinel], "{changes:?}");
    }
}

fn read_all(targets: &Targets) -> Contents {
    let mut contents: Contents = targets.files.iter().map(|path| (path.clone(), read(path))).collect();
    // Each path counts, unlike for the reader, which takes a file with two names once.
    let mut stack = targets.mib_directories.clone();
    let mut seen = BTreeSet::new();
    while let Some(path) = stack.pop() {
        if path.is_file() {
            contents.insert(path.clone(), read(&path));
        } else if let (Ok(real), Ok(below)) = (fs::canonicalize(&path), fs::read_dir(&path))
            && seen.insert(real)
        {
            stack.extend(below.flatten().map(|entry| entry.path()));
        }
    }
    contents
}

/// Never a pipe: reading one would wait for a writer.
fn read(path: &Path) -> Option<Vec<u8>> {
    fs::metadata(path).ok()?.is_file().then(|| fs::read(path).ok())?
}

fn off() -> Open {
    Box::new(|_| Err(Failure::Files))
}

/// Lets the file system's clock tick.
fn pause() {
    thread::sleep(DELAY / 2);
}

#[test]
fn a_write_in_place_is_reported_once() {
    let t = Fixture::new();
    t.write("config.yml", "a: 1");
    let t = t.watch(&["config.yml", "sentinel"], &[]);
    t.write("config.yml", "a: 2");
    t.converges();
    let change = t.last();
    assert_eq!(change.what, Changed::Config);
    assert_eq!(change.paths, [t.path("config.yml")]);
    assert_eq!(change.count, 1);
    t.quiet_but(1);
    assert_eq!(t.watcher.as_ref().unwrap().problems(), []);
}

#[test]
fn renaming_over_is_seen_again_and_again() {
    let t = Fixture::new();
    t.write("config.yml", "0");
    let t = t.watch(&["config.yml"], &[]);
    for n in 1..=3 {
        t.write("config.yml.new", &n.to_string());
        fs::rename(t.path("config.yml.new"), t.path("config.yml")).unwrap();
        t.converges();
        assert_eq!(t.count(), n);
    }
}

#[test]
fn delete_and_create_is_one_change() {
    let t = Fixture::new();
    t.write("config.yml", "old");
    let t = t.watch(&["config.yml", "sentinel"], &[]);
    fs::remove_file(t.path("config.yml")).unwrap();
    thread::sleep(DELAY * 2);
    t.write("config.yml", "new");
    t.converges();
    t.quiet_but(1);
}

#[test]
fn a_deleted_file_that_returns_as_it_was_is_no_change() {
    let t = Fixture::new();
    t.write("config.yml", "same");
    let t = t.watch(&["config.yml", "sentinel"], &[]);
    fs::remove_file(t.path("config.yml")).unwrap();
    pause();
    t.write("config.yml", "same");
    t.quiet_but(0);
}

#[test]
fn a_file_that_stays_missing_is_reported_and_its_return_too() {
    let t = Fixture::new();
    t.write("config.yml", "old");
    let t = t.watch(&["config.yml"], &[]);
    let removed = Instant::now();
    fs::remove_file(t.path("config.yml")).unwrap();
    t.converges();
    assert!(removed.elapsed() >= DELAY * LONGEST_WAIT, "it is held back for the longest wait");
    t.write("config.yml", "new");
    t.converges();
    assert_eq!(t.count(), 2);
}

/// The reload of an empty file must not happen, however long the editor takes within the longest wait.
#[test]
fn truncate_then_write_is_one_report_of_the_final_content() {
    for after in [0, 30, 150] {
        let t = Fixture::new();
        t.write("config.yml", "old");
        let timing = Timing { delay: Duration::from_millis(100), sweep: LONG * 60 };
        let t = t.watch_with(&["config.yml", "sentinel"], &[], timing, native());
        t.write("config.yml", "");
        thread::sleep(Duration::from_millis(after));
        t.write("config.yml", "new");
        t.converges();
        t.quiet_but(1);
    }
}

/// `reload_delay: 2s`, as shipped, with a pause of two seconds between truncating and writing.
#[test]
fn truncate_then_write_two_seconds_later() {
    let t = Fixture::new();
    t.write("config.yml", "old");
    let timing = Timing::new(Duration::from_secs(2));
    let t = t.watch_with(&["config.yml"], &[], timing, native());
    t.write("config.yml", "");
    thread::sleep(Duration::from_millis(2_000));
    t.write("config.yml", "new");
    t.converges();
    assert_eq!(t.count(), 1);
}

#[test]
fn an_emptied_file_is_reported_after_the_longest_wait() {
    let t = Fixture::new();
    t.write("config.yml", "old");
    let t = t.watch(&["config.yml"], &[]);
    let emptied = Instant::now();
    t.write("config.yml", "");
    t.converges();
    assert!(emptied.elapsed() >= DELAY * LONGEST_WAIT);
    assert_eq!(t.last().paths, [t.path("config.yml")]);
}

/// As Kubernetes projects ConfigMaps: `config.yml -> ..data/config.yml`, `..data -> ..1`, renamed over.
#[test]
fn a_data_directory_swap_is_seen() {
    let t = Fixture::new();
    t.write("etc/..1/config.yml", "1");
    symlink("..1", t.path("etc/..data")).unwrap();
    symlink("..data/config.yml", t.path("etc/config.yml")).unwrap();
    let t = t.watch(&["etc/config.yml"], &[]);
    for n in 2..=4 {
        t.write(&format!("etc/..{n}/config.yml"), &n.to_string());
        symlink(format!("..{n}"), t.path("etc/..data_tmp")).unwrap();
        fs::rename(t.path("etc/..data_tmp"), t.path("etc/..data")).unwrap();
        fs::remove_dir_all(t.path(&format!("etc/..{}", n - 1))).unwrap();
        t.converges();
        assert_eq!(t.count(), n - 1);
    }
}

#[test]
fn an_edit_behind_links_is_seen() {
    let t = Fixture::new();
    t.write("far/away/real.yml", "old");
    fs::create_dir(t.path("etc")).unwrap();
    symlink(t.path("far"), t.path("near")).unwrap();
    symlink("../near/away/real.yml", t.path("etc/config.yml")).unwrap();
    let t = t.watch(&["etc/config.yml"], &[]);
    t.write("far/away/real.yml", "new");
    t.converges();
    assert_eq!(t.last().paths, [t.path("etc/config.yml")]);
    // The way itself may be turned elsewhere.
    t.write("other/away/real.yml", "other");
    fs::remove_file(t.path("near")).unwrap();
    symlink(t.path("other"), t.path("near")).unwrap();
    t.converges();
    t.write("other/away/real.yml", "edited");
    t.converges();
    assert_eq!(t.count(), 3);
}

#[test]
fn directories_that_do_not_exist_yet_vanish_and_return() {
    let t = Fixture::new().watch(&["a/b/c/config.yml"], &[]);
    t.write("a/b/c/config.yml", "first");
    t.converges();
    fs::rename(t.path("a"), t.path("moved")).unwrap();
    t.converges();
    t.write("a/b/c/config.yml", "second");
    t.converges();
    // The very directory that was watched comes back from where it was moved to.
    fs::rename(t.path("a/b"), t.path("a/away")).unwrap();
    fs::rename(t.path("moved/b"), t.path("a/b")).unwrap();
    t.converges();
    t.write("a/b/c/config.yml", "third");
    t.converges();
    assert_eq!(t.last().what, Changed::Config);
}

/// A directory removed and made again at once: the source forgets the new one's watch with the old one's.
#[test]
fn a_directory_replaced_at_once_stays_watched() {
    let t = Fixture::new();
    t.write("etc/config.yml", "0");
    let t = t.watch(&["etc/config.yml"], &[]);
    for n in 1..=10 {
        fs::remove_dir_all(t.path("etc")).unwrap();
        t.write("etc/config.yml", &format!("{n}a"));
        t.converges();
        t.write("etc/config.yml", &format!("{n}b"));
        t.converges();
    }
}

#[test]
fn what_does_not_change_content_reports_nothing() {
    let t = Fixture::new();
    t.write("config.yml", "same");
    t.write("mibs/A.mib", "same");
    let t = t.watch(&["config.yml", "sentinel"], &["mibs"]);
    // The MIB file's hash is made in the background.
    pause();
    for name in ["config.yml", "mibs/A.mib"] {
        let path = t.path(name);
        fs::File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        t.write("copy", "same");
        fs::rename(t.path("copy"), &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"same");
    }
    t.write(".config.yml.swp", "x");
    t.write("mibs/.A.mib.swp", "x");
    t.write("4913", "x");
    fs::create_dir(t.path("mibs/empty")).unwrap();
    t.quiet_but(0);
}

#[test]
fn mib_directories_gone_and_back_and_new_ones() {
    let t = Fixture::new();
    t.write("mibs/A.mib", "A");
    let t = t.watch(&["sentinel"], &["mibs", "late/mibs"]);
    t.write("mibs/vendor/deep/B.mib", "B");
    t.converges();
    assert_eq!(t.last().what, Changed::Mib);
    assert_eq!(t.last().paths, [t.path("mibs/vendor/deep/B.mib")]);
    t.write("mibs/vendor/deep/B.mib", "B2");
    t.converges();
    t.write("late/mibs/C.mib", "C");
    t.converges();
    fs::remove_file(t.path("mibs/A.mib")).unwrap();
    t.converges();
    // Gone and back within the longest wait: nothing to tell.
    let before = t.count();
    fs::rename(t.path("mibs"), t.path("away")).unwrap();
    thread::sleep(DELAY * 2);
    fs::rename(t.path("away"), t.path("mibs")).unwrap();
    t.quiet_but(before);
    // Gone for longer.
    fs::rename(t.path("mibs"), t.path("away")).unwrap();
    t.converges();
    assert_eq!(t.last().paths[0], t.path("mibs"));
    fs::rename(t.path("away"), t.path("mibs")).unwrap();
    t.converges();
    t.write("mibs/vendor/deep/B.mib", "B3");
    t.converges();
}

#[test]
fn links_in_mib_directories_are_followed_and_loops_end() {
    let t = Fixture::new();
    t.write("vendor/A.mib", "A");
    t.write("other/B.mib", "B");
    fs::create_dir(t.path("mibs")).unwrap();
    symlink(t.path("vendor"), t.path("mibs/vendor")).unwrap();
    symlink(t.path("mibs"), t.path("vendor/loop")).unwrap();
    symlink("../other/B.mib", t.path("mibs/B.mib")).unwrap();
    symlink("nowhere", t.path("mibs/C.mib")).unwrap();
    symlink("self", t.path("mibs/self")).unwrap();
    let t = t.watch(&[], &["mibs"]);
    t.write("vendor/A.mib", "A2");
    t.converges();
    assert_eq!(t.last().paths, [t.path("mibs/vendor/A.mib")]);
    t.write("other/B.mib", "B2");
    t.converges();
    assert_eq!(t.last().paths, [t.path("mibs/B.mib")]);
    t.write("mibs/nowhere", "C");
    t.converges();
    assert_eq!(t.count(), 3);
}

#[test]
fn files_and_mibs_at_rest_together_are_one_report() {
    let t = Fixture::new();
    t.write("config.yml", "1");
    fs::create_dir(t.path("mibs")).unwrap();
    let t = t.watch(&["config.yml"], &["mibs"]);
    t.write("mibs/A.mib", "A");
    t.write("config.yml", "2");
    t.converges();
    assert_eq!((t.last().what, t.count()), (Changed::Both, 1));
}

#[test]
fn a_directory_among_the_files_stands_for_its_names() {
    let t = Fixture::new();
    t.write("conf.d/a.yaml", "a");
    let t = t.watch(&["conf.d", "conf.d/a.yaml", "sentinel"], &[]);
    t.write("conf.d/b.yaml", "b");
    t.wait("the new name", |all| !all.is_empty());
    assert_eq!(t.last().paths, [t.path("conf.d")]);
    t.write("conf.d/.a.yaml.swp", "x");
    t.quiet_but(1);
}

#[test]
fn a_pipe_is_never_opened() {
    let t = Fixture::new();
    t.write("config.yml", "1");
    let t = t.watch(&["config.yml"], &[]);
    fs::remove_file(t.path("config.yml")).unwrap();
    let status = std::process::Command::new("mkfifo").arg(t.path("config.yml")).status().unwrap();
    assert!(status.success());
    t.wait("a pipe in the file's place", |all| all.len() == 1);
    fs::remove_file(t.path("config.yml")).unwrap();
    t.write("config.yml", "2");
    t.converges();
}

#[test]
fn a_storm_gives_few_reports_and_ends_with_the_final_content() {
    let t = Fixture::new();
    t.write("config.yml", "0");
    fs::create_dir(t.path("mibs")).unwrap();
    let t = t.watch(&["config.yml"], &["mibs"]);
    let begun = Instant::now();
    for n in 0..10_000 {
        let name = if n % 2 == 0 { "config.yml".to_owned() } else { format!("mibs/{}.mib", n % 100) };
        t.write(&name, &n.to_string());
    }
    t.write("config.yml", "final");
    let storm = begun.elapsed();
    t.converges();
    // One for each longest wait, and the one at rest.
    let most = storm.as_secs_f64() / (DELAY * LONGEST_WAIT).as_secs_f64() + 2.0;
    assert!((t.count() as f64) <= most, "{} reports in {storm:?}", t.count());
}

#[test]
fn touches_without_end_do_not_keep_a_change_back() {
    let t = Fixture::new();
    t.write("config.yml", "old");
    t.write("mibs/A.mib", "A");
    let t = t.watch(&["config.yml"], &["mibs"]);
    let ended = Arc::new(AtomicUsize::new(0));
    let toucher = {
        let (ended, path) = (Arc::clone(&ended), t.path("mibs/A.mib"));
        thread::spawn(move || {
            while ended.load(Ordering::Relaxed) == 0 {
                fs::write(&path, format!("{:?}", Instant::now())).unwrap();
                thread::sleep(DELAY / 6);
            }
        })
    };
    t.write("config.yml", "new");
    let config = t.path("config.yml");
    t.wait("the config while the MIBs move", |all| {
        all.iter().any(|(change, contents)| {
            change.paths.contains(&config) && contents[&config].as_deref() == Some(b"new")
        })
    });
    ended.store(1, Ordering::Relaxed);
    toucher.join().unwrap();
    t.converges();
}

#[test]
fn the_sweep_alone_finds_everything_and_the_reason_is_told() {
    let t = Fixture::new();
    t.write("config.yml", "1");
    t.write("mibs/A.mib", "A");
    let timing = Timing { delay: DELAY, sweep: DELAY * 2 };
    let t = t.watch_with(&["config.yml", "sentinel"], &["mibs"], timing, off());
    t.write("config.yml", "2");
    t.converges();
    t.write("mibs/new/B.mib", "B");
    t.converges();
    fs::remove_dir_all(t.path("mibs")).unwrap();
    t.converges();
    t.write("mibs/A.mib", "A");
    t.converges();
    let problems = t.watcher.as_ref().unwrap().problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "Failed to add file watcher: too many open files");
    assert!(problems[0].remedy.contains("max_user_instances"), "{problems:?}");
    t.quiet_but(4);
}

/// A write that leaves size and times as they were, as a coarse or distant clock shows it.
#[test]
fn the_sweep_reads_the_configuration_though_its_stat_is_unchanged() {
    let scan = |t: &Fixture, known: &known::Known| {
        scan::Scan::take(&t.targets(&["config.yml"], &["mibs"]), known.hasher(), &Shared::default()).unwrap()
    };
    let t = Fixture::new();
    let shared = Shared::default();
    t.write("config.yml", "1");
    t.write("mibs/A.mib", "1");
    let mut known = known::Known::new();
    let before = scan(&t, &known);
    known.learn(&before, |_| None, |_, _| true);
    known.fill(&shared);
    assert!(known.matches(&before));
    for (name, depth) in [("config.yml", known::Depth::Config), ("mibs/A.mib", known::Depth::All)] {
        assert!(!known.differs_by_content(depth, &shared));
        t.write(name, "2");
        assert!(known.differs_by_content(depth, &shared), "{name}");
        let comparison = known.compare(&scan(&t, &known), depth, &shared).unwrap();
        assert_eq!(comparison.differing.len(), 1);
        known.accept(comparison);
    }
}

/// Refuses what `refuses` says, and counts.
struct Refusing {
    refuses: fn(&Path) -> Option<Failure>,
    watched: Arc<AtomicUsize>,
}

impl Source for Refusing {
    fn watch(&mut self, directory: &Path) -> Result<(), Failure> {
        (self.refuses)(directory).map_or_else(
            || {
                self.watched.fetch_add(1, Ordering::Relaxed);
                Ok(())
            },
            Err,
        )
    }

    fn unwatch(&mut self, _: &Path) {}

    fn dead(&self) -> bool {
        false
    }
}

fn refusing(refuses: fn(&Path) -> Option<Failure>) -> (Open, Arc<AtomicUsize>) {
    let watched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&watched);
    let open: Open =
        Box::new(move |_| Ok(Box::new(Refusing { refuses, watched: Arc::clone(&count) }) as Box<dyn Source>));
    (open, watched)
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < limit, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn directories_that_cannot_be_watched_are_told_and_swept() {
    let t = Fixture::new();
    t.write("config/config.yml", "1");
    t.write("mibs/b/B.mib", "1");
    let (open, watched) = refusing(|path| {
        if path.ends_with("config") {
            Some(Failure::Permission)
        } else {
            path.ends_with("b").then_some(Failure::Watches)
        }
    });
    let t = t.watch_with(&["config/config.yml"], &["mibs"], Timing { delay: DELAY, sweep: DELAY * 2 }, open);
    let watcher = t.watcher.as_ref().unwrap();
    wait_for("both problems", || watcher.problems().len() == 2);
    let problems = watcher.problems();
    let about = |message: &str| problems.iter().find(|problem| problem.message == message).cloned();
    let config = about("Failed to watch config file: permission denied").expect("told");
    assert_eq!(config.paths, [fs::canonicalize(t.path("config")).unwrap()]);
    let mibs = about("Failed to add file watcher: no inotify watches left").expect("told");
    assert!(mibs.remedy.contains("max_user_watches"), "{mibs:?}");
    assert!(watched.load(Ordering::Relaxed) >= 1);
    t.write("config/config.yml", "2");
    t.write("mibs/b/B.mib", "2");
    t.converges();
}

#[test]
fn lost_watches_are_set_again_by_the_sweep() {
    let t = Fixture::new();
    t.write("config.yml", "1");
    let (open, watched) = refusing(|_| None);
    let t = t.watch_with(&["config.yml"], &[], Timing { delay: DELAY, sweep: DELAY }, open);
    wait_for("the first watches", || watched.load(Ordering::Relaxed) > 0);
    let first = watched.load(Ordering::Relaxed);
    wait_for("they are set again", || watched.load(Ordering::Relaxed) > first * 3);
    assert_eq!(t.count(), 0);
}

#[test]
fn the_founding_documents_errors_are_told_once_until_they_change() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let (shared, mut problems) = (Shared::default(), Problems::default());
    let problem = |failure: io::Error| {
        let (message, remedy) = describe(&Failure::from(failure), Why::Config);
        WatchProblem { message, remedy, paths: vec![PathBuf::from("/etc/nereus/config.yml")], count: 1 }
    };
    let raw = io::Error::from_raw_os_error;
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            problems.set(&shared, vec![problem(raw(libc::EACCES)), problem(raw(libc::EMFILE))]);
        }
        problems.set(&shared, vec![problem(raw(libc::ENOSPC))]);
        problems.set(&shared, vec![problem(raw(libc::EACCES))]);
    });
    assert_eq!(shared.problems.lock().len(), 1);
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    let count = |what: &str| text.matches(what).count();
    assert_eq!(count("\"message\":\"Failed to watch config file: permission denied\""), 2, "{text}");
    assert_eq!(count("\"message\":\"Failed to add file watcher: too many open files\""), 1, "{text}");
    assert_eq!(count("\"message\":\"File watching has recovered\""), 3, "{text}");
    assert_eq!(count("\"component\":\"reload\""), text.lines().count(), "{text}");
    assert_eq!(count("\"remedy\":\""), 4, "{text}");
    assert_eq!(count("\"level\":\"ERROR\""), 4, "{text}");
}

#[test]
fn update_watches_the_new_targets_and_leaves_the_old() {
    let t = Fixture::new();
    t.write("a.yml", "1");
    t.write("b.yml", "1");
    t.write("mibs/A.mib", "1");
    // Later than the files by more than the clock's tick, so that they count as read.
    pause();
    let mut t = t.watch(&["a.yml"], &[]);
    t.targets = t.targets(&["b.yml", "sentinel"], &["mibs"]);
    t.watcher.as_ref().unwrap().update(t.targets.clone(), Timing { delay: DELAY, sweep: LONG });
    t.write("a.yml", "2");
    let before = t.count();
    let all = |t: &Fixture| t.reports.all.lock().iter().map(|(change, _)| change.clone()).collect::<Vec<_>>();
    t.write("b.yml", "2");
    let b = t.path("b.yml");
    t.wait("the new file", |all| all.iter().any(|(change, _)| change.paths.contains(&b)));
    t.write("mibs/A.mib", "2");
    let mib = t.path("mibs/A.mib");
    t.wait("the new directory", |all| all.iter().any(|(change, _)| change.paths.contains(&mib)));
    let old = t.path("a.yml");
    let told: Vec<_> =
        all(&t).into_iter().skip(before).filter(|change| change.paths.contains(&old)).collect();
    assert_eq!(told, []);
}

/// Changed, taken over by a signal, and changed back before it came to rest: what was last reported is on
/// disk, but something else is running.
#[test]
fn what_returned_after_it_was_published_is_reported() {
    let t = Fixture::new();
    t.write("config.yml", "first");
    let timing = Timing { delay: DELAY * 4, sweep: LONG };
    let t = t.watch_with(&["config.yml", "sentinel"], &[], timing, native());
    t.write("config.yml", "second");
    t.watcher.as_ref().unwrap().update(t.targets.clone(), timing);
    t.write("config.yml", "first");
    t.converges();
    assert_eq!(t.last().paths, [t.path("config.yml")]);
    t.watcher.as_ref().unwrap().update(t.targets.clone(), timing);
    t.quiet_but(1);
}

/// The engine reads an include, somebody changes it, and only then is it watched.
#[test]
fn an_input_that_changed_before_it_was_watched_is_reported() {
    let t = Fixture::new();
    t.write("config.yml", "1");
    let t = t.watch(&["config.yml"], &[]);
    t.write("include.yml", "changed after it was read");
    let targets = t.targets(&["config.yml", "include.yml"], &[]);
    t.watcher.as_ref().unwrap().update(targets, Timing { delay: DELAY, sweep: LONG });
    t.wait("the include", |all| all.len() == 1);
    assert_eq!(t.last().paths, [t.path("include.yml")]);

    let reports = Arc::new(Reports::default());
    let told = Arc::clone(&reports);
    let since = SystemTime::now() - Duration::from_secs(60);
    let timing = Timing { delay: DELAY, sweep: LONG };
    let _watcher = Watcher::start_since(
        t.targets(&["config.yml"], &[]),
        timing,
        Since { files: since, mibs: since },
        move |change| {
            told.all.lock().push((change, Contents::new()));
        },
    );
    wait_for("a start with inputs read before they changed", || reports.all.lock().len() == 1);
}

#[test]
fn dropping_ends_the_thread_even_from_its_own_callback() {
    let t = Fixture::new();
    t.write("config.yml", "1");
    let slot: Arc<Mutex<Option<Watcher>>> = Arc::default();
    let (inside, dropped) = (Arc::clone(&slot), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&dropped);
    let targets = t.targets(&["config.yml"], &[]);
    let watcher = Watcher::start(targets, Timing { delay: DELAY, sweep: LONG }, move |_| {
        drop(inside.lock().take());
        count.fetch_add(1, Ordering::Relaxed);
    });
    let shared = Arc::downgrade(&watcher.shared);
    *slot.lock() = Some(watcher);
    t.write("config.yml", "2");
    wait_for("the callback", || dropped.load(Ordering::Relaxed) == 1);
    wait_for("the threads let go of what they share", || shared.strong_count() == 0);
}

#[test]
fn the_rule_of_rest() {
    let (delay, start) = (Duration::from_secs(2), Instant::now());
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let mut unrest = Unrest::new(start, known::Depth::None);
    assert_eq!(unrest.verdict(at(1_999), delay), Verdict::Wait);
    assert_eq!(unrest.verdict(at(2_000), delay), Verdict::Rested);
    unrest.moved(at(1_500));
    assert_eq!(unrest.verdict(at(3_499), delay), Verdict::Wait);
    unrest.hold();
    assert_eq!(unrest.verdict(at(9_999), delay), Verdict::Wait);
    assert_eq!(unrest.verdict(at(10_000), delay), Verdict::Overdue);
    unrest.moved(at(9_000));
    assert_eq!(unrest.verdict(at(9_500), delay), Verdict::Wait);
    assert_eq!(unrest.verdict(at(10_000), delay), Verdict::Overdue);
}

/// Asserts no times, but prints them.
#[test]
#[allow(clippy::print_stderr)]
fn a_whole_corpus_is_observed() {
    let Some(corpus) = std::env::var_os("NEREUS_MIB_CORPUS") else {
        eprintln!("skipped: NEREUS_MIB_CORPUS names no tree of MIB files");
        return;
    };
    let targets = Targets { files: Vec::new(), mib_directories: vec![PathBuf::from(corpus)] };
    let shared = Shared::default();
    let mut known = known::Known::new();
    let begun = Instant::now();
    let scan = scan::Scan::take(&targets, known.hasher(), &shared).unwrap();
    let observed = begun.elapsed();
    known.learn(&scan, |_| None, |_, _| true);
    let begun = Instant::now();
    known.fill(&shared);
    let filled = begun.elapsed();
    let (files, directories) = (scan.inputs.len(), scan.points.directories().len());
    eprintln!("{files} inputs, {directories} watches: observed in {observed:?}, hashed in {filled:?}");
    assert!(!known.differs_by_content(known::Depth::All, &shared));
    assert!(known.compare(&scan, known::Depth::All, &shared).unwrap().differing.is_empty());
}
