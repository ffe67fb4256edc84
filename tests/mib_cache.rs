//! The compiled MIBs over restarts: used where the files are the same, and refused with a reason where it is not what
//! was written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nereus::mib::{CacheError, Collected, Collection, Making, Mib, Progress, Scan};
use proptest::prelude::*;

struct Bed {
    root: tempfile::TempDir,
    directories: Vec<PathBuf>,
    cache: PathBuf,
}

impl Bed {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mibs = root.path().join("mibs");
        fs::create_dir(&mibs).unwrap();
        for folder in ["valid", "problems"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs").join(folder);
            for entry in
                fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file())
            {
                fs::copy(entry.path(), mibs.join(entry.file_name())).unwrap();
            }
        }
        let cache = root.path().join("mib.cache");
        Self { directories: vec![mibs], cache, root }
    }

    fn make(&self, before: Option<&Collection>) -> (Collection, Collected) {
        Collection::make(Scan::of(&self.directories), before, false, &AtomicBool::new(false)).unwrap()
    }

    fn read(&self) -> Result<Collection, CacheError> {
        Collection::read_cache(&self.cache, &self.directories)
    }
}

#[test]
fn a_warm_start_parses_nothing_and_knows_the_same() {
    let bed = Bed::new();
    assert!(matches!(bed.read(), Err(CacheError::Absent)));
    let (cold, _) = bed.make(None);
    cold.write_cache(&bed.cache, &bed.directories).unwrap();
    assert_eq!(fs::metadata(&bed.cache).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(bed.root.path()).unwrap().count(), 2, "nothing is left beside it");
    let cached = bed.read().unwrap();
    let (warm, collected) = bed.make(Some(&cached));
    assert!(collected.unchanged && collected.parsed == 0);
    assert_eq!(warm.mib().image(), cold.mib().image());
    assert_eq!((warm.diagnostics(), warm.stats()), (cold.diagnostics(), cold.stats()));
    // It replaces itself while it is mapped.
    warm.write_cache(&bed.cache, &bed.directories).unwrap();
    assert_eq!(warm.mib().image(), cold.mib().image());
    assert_eq!(bed.read().unwrap().diagnostics(), cold.diagnostics());
}

#[test]
fn after_a_warm_start_changes_are_taken_in() {
    let bed = Bed::new();
    bed.make(None).0.write_cache(&bed.cache, &bed.directories).unwrap();
    let cached = bed.read().unwrap();
    let added = bed.directories[0].join("NEW-MIB");
    fs::write(&added, "NEW-MIB DEFINITIONS ::= BEGIN newRoot OBJECT IDENTIFIER ::= { enterprises 1 } END")
        .unwrap();
    let (warm, collected) = bed.make(Some(&cached));
    assert!(!collected.unchanged);
    // The records are in the cache: only what is new is parsed.
    assert_eq!((collected.parsed, collected.reused), (1, warm.stats().files - 1));
    let (fresh, _) = bed.make(None);
    assert_eq!(warm.mib().image(), fresh.mib().image());
    assert_eq!(warm.diagnostics(), fresh.diagnostics());
    fs::remove_file(&added).unwrap();
    let (without, collected) = bed.make(Some(&warm));
    assert_eq!(collected.parsed, 0);
    assert_eq!(without.mib().image(), cached.mib().image());
}

#[test]
fn what_others_could_have_written_is_not_used() {
    let bed = Bed::new();
    bed.make(None).0.write_cache(&bed.cache, &bed.directories).unwrap();
    fs::set_permissions(&bed.cache, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(matches!(bed.read(), Err(CacheError::Exposed)));
    fs::set_permissions(&bed.cache, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(bed.read().is_ok());
    let other = Collection::read_cache(&bed.cache, &["/elsewhere".into()]);
    assert!(matches!(other, Err(CacheError::OtherDirectories)));
    for text in ["", "x", "#!/bin/sh\nexec something of another kind altogether\n"] {
        fs::write(&bed.cache, text).unwrap();
        assert!(matches!(bed.read(), Err(CacheError::Foreign)), "{text}");
    }
    let folder = Collection::read_cache(&bed.directories[0], &bed.directories);
    assert!(matches!(folder, Err(CacheError::Foreign | CacheError::Io(_))));
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_and_no_more() {
    let bed = Bed::new();
    let (made, _) = bed.make(None);
    assert!(made.write_cache(&bed.root.path().join("missing/cache"), &bed.directories).is_err());
    // What another name leads to is left alone.
    let target = bed.root.path().join("target");
    std::os::unix::fs::symlink(&target, &bed.cache).unwrap();
    made.write_cache(&bed.cache, &bed.directories).unwrap();
    assert!(!target.exists() && fs::symlink_metadata(&bed.cache).unwrap().is_file());
}

fn with_cache(bed: &Bed, before: Option<&Collection>) -> Collection {
    let (cancel, progress) = (AtomicBool::new(false), Progress::default());
    let making = Making { cancel: &cancel, progress: &progress, cache: Some(&bed.cache) };
    Collection::make_with(Scan::of(&bed.directories), before, false, &making).unwrap().0
}

fn beside(bed: &Bed) -> usize {
    let names = fs::read_dir(bed.root.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(".new-")).count()
}

#[test]
fn a_compile_takes_no_memory_once_it_is_in_the_cache() {
    let bed = Bed::new();
    let in_memory = bed.make(None).0;
    let made = with_cache(&bed, None);
    assert_eq!(made.mib().image(), in_memory.mib().image());
    assert!(made.size() > in_memory.size() / 2);
    assert_eq!((beside(&bed), bed.cache.exists()), (1, false));
    made.write_cache(&bed.cache, &bed.directories).unwrap();
    assert_eq!((beside(&bed), bed.cache.exists()), (0, true));
    assert!(made.size() < in_memory.size() / 4, "{} of {}", made.size(), in_memory.size());
    // What is never asked for leaves nothing behind.
    drop(with_cache(&bed, None));
    assert_eq!(beside(&bed), 0);
    // Nor does a process that was killed, once the next one writes.
    let left = bed.root.path().join("mib.cache.new-1-1");
    fs::write(&left, "half").unwrap();
    drop(with_cache(&bed, None));
    assert!(!left.exists() && bed.cache.exists());
    // A record that is lost is made again.
    let octets = fs::read(&bed.cache).unwrap();
    let mut damaged = octets.clone();
    let image = made.mib().image().len();
    damaged[4096 + image + 100] ^= 1;
    fs::remove_file(&bed.cache).unwrap();
    fs::write(&bed.cache, damaged).unwrap();
    fs::set_permissions(&bed.cache, fs::Permissions::from_mode(0o600)).unwrap();
    let warm = bed.read().unwrap();
    fs::write(
        bed.directories[0].join("NEW-MIB"),
        "NEW-MIB DEFINITIONS ::= BEGIN n OBJECT IDENTIFIER ::= { enterprises 1 } END",
    )
    .unwrap();
    let (next, collected) = bed.make(Some(&warm));
    // The names of that file are in the image: nobody asks for its record.
    assert_eq!(collected.parsed, 1);
    assert!(collected.linked < next.stats().files);
    assert_eq!(next.mib().image(), bed.make(None).0.mib().image());
    // Until all files are linked.
    let root = "SNMPv2-SMI DEFINITIONS ::= BEGIN enterprises OBJECT IDENTIFIER ::= { iso 7 } END";
    fs::write(bed.directories[0].join("ROOT"), root).unwrap();
    let (next, collected) = bed.make(Some(&next));
    assert_eq!((collected.parsed, collected.linked), (2, next.stats().files));
    assert_eq!(next.mib().image(), bed.make(None).0.mib().image());
}

#[test]
fn edits_that_change_no_name_share_what_is_mapped() {
    let bed = Bed::new();
    let text = |comment: &str, description: &str, line: &str| {
        format!(
            "{comment}E-MIB DEFINITIONS ::= BEGIN\nIMPORTS gone FROM NOWHERE-MIB;\n{line}e OBJECT IDENTIFIER ::= {{ enterprises 9 }}\n\
             f OBJECT-TYPE SYNTAX Gone MAX-ACCESS read-only STATUS current DESCRIPTION \"{description}\" ::= {{ e 1 }}\nEND\n"
        )
    };
    let path = bed.directories[0].join("E-MIB");
    fs::write(&path, text("", "one", "")).unwrap();
    let mut kept = with_cache(&bed, None);
    kept.write_cache(&bed.cache, &bed.directories).unwrap();
    for (comment, description, line) in
        [("-- x\n", "one", ""), ("", "another one", "\n\n"), ("", "x", ""), ("-- a\n-- b\n", "y", "\n")]
    {
        fs::write(&path, text(comment, description, line)).unwrap();
        let next = with_cache(&bed, Some(&kept));
        assert_eq!(beside(&bed), 0, "it went the whole way");
        let fresh = bed.make(None).0;
        assert!(next.mib().image() == fresh.mib().image());
        assert_eq!(next.diagnostics(), fresh.diagnostics());
        kept = next;
    }
    // Also from a cache, and into one.
    kept.write_cache(&bed.cache, &bed.directories).unwrap();
    let warm = bed.read().unwrap();
    assert!(warm.mib().image() == kept.mib().image());
    fs::write(&path, text("-- again\n", "z", "")).unwrap();
    let next = with_cache(&bed, Some(&warm));
    assert_eq!(beside(&bed), 0);
    assert!(next.mib().image() == bed.make(None).0.mib().image());
    assert_eq!(next.diagnostics(), bed.make(None).0.diagnostics());
    // A name goes another way.
    fs::write(&path, text("", "z", "g OBJECT IDENTIFIER ::= { enterprises 10 }\n")).unwrap();
    let next = with_cache(&bed, Some(&next));
    assert_eq!(beside(&bed), 0);
    assert!(next.mib().image() == bed.make(None).0.mib().image());
}

/// The octets of the image that no file holds.
fn anonymous(mib: &Mib) -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut of_image = false;
    for line in maps.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or_default();
        if let Some((start, end)) = first.split_once('-')
            && let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        {
            of_image = (start..end).contains(&mib.image().as_ptr().addr());
        } else if of_image && first == "Anonymous:" {
            return rest.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024;
        }
    }
    panic!("the image is mapped nowhere");
}

#[test]
fn what_an_edit_made_in_memory_is_given_back_once_it_is_in_the_cache() {
    let bed = Bed::new();
    // Large enough to be told from what the other tests take meanwhile: 200,000 names.
    for module in 0..20 {
        let mut text = format!(
            "BIG{module}-MIB DEFINITIONS ::= BEGIN big{module} OBJECT IDENTIFIER ::= {{ enterprises {module} }}\n"
        );
        for name in 0..10_000 {
            text += &format!(
                "aRatherLongNameOfANode{module}x{name} OBJECT IDENTIFIER ::= {{ big{module} {name} }}\n"
            );
        }
        fs::write(bed.directories[0].join(format!("BIG{module}-MIB")), text + "END\n").unwrap();
    }
    let cold = with_cache(&bed, None);
    cold.write_cache(&bed.cache, &bed.directories).unwrap();
    let path = bed.directories[0].join("E-MIB");
    fs::write(&path, "E-MIB DEFINITIONS ::= BEGIN e OBJECT IDENTIFIER ::= { enterprises 9999 } END").unwrap();
    let next = with_cache(&bed, Some(&cold));
    assert!(next.mib().size() > 20 << 20, "{}", next.mib().size());
    let (node, image) = (next.mib().resolve("E-MIB::e").unwrap(), next.mib().image().to_vec());
    let before = anonymous(next.mib());
    assert!(before >= next.mib().size(), "{before}");
    // It is read meanwhile.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(next.mib().image() == image);
            }
        });
        next.write_cache(&bed.cache, &bed.directories).unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(anonymous(next.mib()), 0, "{before} before");
    assert!(next.mib().image() == image);
    assert_eq!(next.mib().resolve("E-MIB::e").unwrap(), node);
    assert!(bed.read().unwrap().mib().image() == image);
    // The next edit begins with it.
    fs::write(&path, "E-MIB DEFINITIONS ::= BEGIN ee OBJECT IDENTIFIER ::= { enterprises 9999 } END")
        .unwrap();
    let again = with_cache(&bed, Some(&next));
    drop(next);
    assert!(again.mib().image() == bed.make(None).0.mib().image());
}

/// Where the records lie in a cache.
fn records_of(cache: &[u8]) -> std::ops::Range<usize> {
    let number = |at: usize| u64::from_le_bytes(cache[at..at + 8].try_into().unwrap()) as usize;
    4096 + number(12)..number(28)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_refused(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8.., any::<bool>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local! {
            static WHOLE: (Bed, Vec<u8>) = {
                let bed = Bed::new();
                bed.make(None).0.write_cache(&bed.cache, &bed.directories).unwrap();
                let octets = fs::read(&bed.cache).unwrap();
                (bed, octets)
            };
        }
        WHOLE.with(|(bed, whole)| {
            let mut octets = whole.clone();
            for (at, with, early) in flips {
                let reach = if early { 2048 } else { octets.len() };
                octets[at.index(reach)] ^= with;
            }
            if let Some(cut) = cut {
                octets.truncate(cut.index(octets.len()));
            }
            let path = bed.root.path().join("damaged");
            // As a new file each time: what is mapped is never written to.
            let _ = fs::remove_file(&path);
            fs::write(&path, &octets).unwrap();
            let read = Collection::read_cache(&path, &bed.directories);
            // The image and the account tell any damage; a record tells it when it is read.
            let records = records_of(whole);
            let outside = |octets: &[u8]| [&octets[..records.start], &octets[records.end..]].concat();
            let same = octets.len() == whole.len() && outside(&octets) == outside(whole);
            assert_eq!(same, read.is_ok());
        });
    }
}
