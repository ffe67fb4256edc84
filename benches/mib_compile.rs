//! `NEREUS_MIB_CORPUS=DIR cargo bench --bench mib_compile`: a tree of MIB files from the disk to names, cold, with
//! nothing changed, and with one file edited.
//!
//! Prints seconds of wall clock, the least of some rounds. With `NEREUS_MIB_PEERS=1` it runs `snmptranslate` (net-snmp)
//! and mib-rs over the same tree in the same run, once each, and prints the ratios; mib-rs takes 5 GiB for
//! LibreNMS' tree. A measurement of its own, since a round takes seconds. Skips, and says so, without a tree.

#![expect(clippy::print_stderr, reason = "a bench prints")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nereus::mib::{Collection, Scan};

const ROUNDS: usize = 5;

fn main() {
    let Some(corpus) = std::env::var_os("NEREUS_MIB_CORPUS") else {
        eprintln!("skipped: NEREUS_MIB_CORPUS names no tree of MIB files");
        return;
    };
    // Links to the files, so that one can be edited.
    let root = tempfile::tempdir().unwrap();
    let corpus = fs::canonicalize(corpus).unwrap();
    for file in Scan::of(std::slice::from_ref(&corpus)).files {
        let link = root.path().join(file.path.strip_prefix(&corpus).unwrap());
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&file.path, link).unwrap();
    }
    let directories = [root.path().to_owned()];
    let make = |before: Option<&Collection>| {
        Collection::make(Scan::of(&directories), before, false, &AtomicBool::new(false)).unwrap()
    };
    let (mut kept, _) = make(None);
    eprintln!(
        "{} files, {:.1} MB, {} nodes, {} problems; records {:.1} MB, names {:.1} MB",
        kept.stats().files,
        kept.octets() as f64 / 1e6,
        kept.stats().nodes,
        kept.stats().problems,
        kept.size() as f64 / 1e6,
        kept.mib().size() as f64 / 1e6
    );
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        kept = make(None).0;
        least = least.min(begun.elapsed());
    }
    eprintln!("cold: {least:.3?}");
    if std::env::var_os("NEREUS_MIB_PEERS").is_some() {
        for (name, took) in [("net-snmp", net_snmp(&corpus)), ("mib-rs", mib_rs(&corpus))] {
            match took {
                Some((took, names)) => eprintln!(
                    "{name}: {took:.3?}, {names} names; {:.1} times as long as Nereus, cold",
                    took.as_secs_f64() / least.as_secs_f64()
                ),
                None => eprintln!("{name}: does not run here"),
            }
        }
    }
    // Until every stamp is old enough to count.
    while Scan::of(&directories).files.iter().any(|file| !file.settled) {
        std::thread::sleep(Duration::from_millis(100));
    }
    kept = make(Some(&kept)).0;
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let (_, collected) = make(Some(&kept));
        least = least.min(begun.elapsed());
        assert!(collected.unchanged && collected.read == 0);
    }
    eprintln!("nothing changed: {least:.3?}");
    let edited = edited(root.path());
    let text = fs::read(&edited).unwrap();
    fs::remove_file(&edited).unwrap();
    let mut least = Duration::MAX;
    for round in 0..ROUNDS {
        let mut text = text.clone();
        text.extend(format!("-- {round}\n").bytes());
        fs::write(&edited, text).unwrap();
        let begun = Instant::now();
        let (next, collected) = make(Some(&kept));
        least = least.min(begun.elapsed());
        assert_eq!(collected.parsed, 1);
        kept = next;
    }
    eprintln!("one file edited: {least:.3?}");
}

/// All modules of all folders, to a list of their names.
fn net_snmp(corpus: &Path) -> Option<(Duration, usize)> {
    let mut folders: Vec<_> = Scan::of(&[corpus.to_owned()])
        .files
        .iter()
        .filter_map(|file| Some(file.path.parent()?.to_str()?.to_owned()))
        .collect();
    folders.sort();
    folders.dedup();
    let begun = Instant::now();
    let output = Command::new("snmptranslate")
        .args(["-m", "ALL", "-M", &folders.join(":"), "-Pu", "-Tz"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let took = begun.elapsed();
    output.status.success().then(|| (took, output.stdout.iter().filter(|&&octet| octet == b'\n').count()))
}

/// All modules that it finds, on as many threads as it likes.
fn mib_rs(corpus: &Path) -> Option<(Duration, usize)> {
    let begun = Instant::now();
    let source = mib_rs::source::dir(corpus).ok()?;
    let loader =
        mib_rs::Loader::new().source(source).resolver_strictness(mib_rs::ResolverStrictness::Permissive);
    // By default it refuses a tree with severe problems, after all the work.
    let loaded = loader.diagnostic_config(mib_rs::DiagnosticConfig::silent()).load().ok()?;
    Some((begun.elapsed(), loaded.nodes().filter(|node| !node.name().is_empty()).count()))
}

/// A file in the middle of the tree.
fn edited(root: &Path) -> std::path::PathBuf {
    let files = Scan::of(&[root.to_owned()]).files;
    files[files.len() / 2].path.clone()
}
