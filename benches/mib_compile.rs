//! `NEREUS_MIB_CORPUS=DIR cargo bench --bench mib_compile`: a tree of MIB files from the disk to names, cold, with
//! nothing changed, and with one file edited.
//!
//! Prints seconds of wall clock, the least of some rounds. With `NEREUS_MIB_PEERS=1` it runs `snmptranslate` (net-snmp)
//! and mib-rs over the same tree in the same run, once each, and prints the ratios; mib-rs takes 5 GiB for
//! LibreNMS' tree. A measurement of its own, since a round takes seconds. Skips, and says so, without a tree.

#![expect(clippy::print_stderr, reason = "a bench prints")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nereus::mib::{Collection, Scan};

const ROUNDS: usize = 5;
/// How many of the files are edited.
const EDITED: usize = 40;

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
    // In the middle of the file, so that what stands behind it is on other lines.
    edit(&directories, &mut kept, "a comment more", |text, round| {
        text.replacen("BEGIN", &format!("BEGIN -- {round}\n"), 1)
    });
    edit(&directories, &mut kept, "a name more", |text, round| {
        text.replacen(
            "\nEND",
            &format!("\nbench OBJECT IDENTIFIER ::= {{ enterprises 99999 {round} }}\nEND"),
            1,
        )
    });
}

/// Edits each of some files of the tree, one after the other, and prints what a reload took.
fn edit(
    directories: &[PathBuf; 1],
    kept: &mut Collection,
    what: &str,
    edited: impl Fn(&str, usize) -> String,
) {
    let files = Scan::of(directories).files;
    let (mut took, mut linked) = (Vec::new(), Vec::new());
    for (round, file) in files.iter().step_by(files.len().div_ceil(EDITED).max(1)).enumerate() {
        let text = fs::read(&file.path).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        fs::remove_file(&file.path).unwrap();
        fs::write(&file.path, edited(&text, round)).unwrap();
        let begun = Instant::now();
        let (next, collected) =
            Collection::make(Scan::of(directories), Some(kept), false, &AtomicBool::new(false)).unwrap();
        took.push(begun.elapsed());
        linked.push(collected.linked);
        assert!(collected.parsed <= 1);
        *kept = next;
    }
    let fresh = Collection::make(Scan::of(directories), None, false, &AtomicBool::new(false)).unwrap().0;
    assert!(kept.mib().image() == fresh.mib().image() && kept.diagnostics() == fresh.diagnostics());
    took.sort();
    linked.sort_unstable();
    let middle = took.len() / 2;
    eprintln!(
        "one of {} files edited, {what}: {:.3?} least, {:.3?} median, {:.3?} most; linked {} files, {} at the most",
        took.len(),
        took[0],
        took[middle],
        took[took.len() - 1],
        linked[middle],
        linked[linked.len() - 1],
    );
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
