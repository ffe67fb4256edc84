//! The compiled MIBs over restarts: used where the files are the same, and refused with a reason where it is not what
//! was written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nereus::mib::{CacheError, Collected, Collection, Scan};
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
    // The cache has no records: all files are parsed once.
    assert_eq!(collected.parsed, warm.stats().files);
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
    // What lies in its way is not followed and not replaced.
    let beside = bed.root.path().join("mib.cache.new");
    std::os::unix::fs::symlink(bed.root.path().join("target"), &beside).unwrap();
    assert!(made.write_cache(&bed.cache, &bed.directories).is_err());
    assert!(!bed.cache.exists() && !bed.root.path().join("target").exists());
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
            assert!(octets == *whole || read.is_err());
        });
    }
}
