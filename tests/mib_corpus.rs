//! The MIB compiler on a tree of vendors' files: `NEREUS_MIB_CORPUS` names it. Skips, and says so, without.
//!
//! With `NEREUS_MIB_ORACLE` naming a table of OIDs with net-snmp's answers (kind, oid, source, `-OSb`, …), the
//! names are compared; `NEREUS_MIB_DISAGREEMENTS` takes the number that is accepted.

#![expect(clippy::print_stderr, reason = "a test that skips says so, and a measurement prints")]

use std::time::Instant;

use nereus::diagnostic::Level;
use nereus::mib::{Kind, Mib, read_directories};

#[test]
fn the_corpus_compiles() {
    let Some(corpus) = std::env::var_os("NEREUS_MIB_CORPUS") else {
        eprintln!("skipped: NEREUS_MIB_CORPUS names no folder of MIB files");
        return;
    };
    let (files, unread) = read_directories(&[corpus.into()]);
    assert!(!files.is_empty(), "NEREUS_MIB_CORPUS is empty: {unread:?}");
    let octets: usize = files.iter().map(|file| file.bytes.len()).sum();
    let begun = Instant::now();
    let compiled = Mib::compile(&files);
    let took = begun.elapsed();
    let mib = &compiled.mib;
    let notifications = mib.nodes().filter(|node| node.kind() == Kind::Notification).count();
    let errors = compiled.diagnostics.iter().filter(|told| told.level == Level::Error).count();
    eprintln!(
        "{:?}, {} MB in {took:.2?}; {notifications} notifications, {errors} errors, {} diagnostics, image {} KiB",
        compiled.stats,
        octets / 1_000_000,
        compiled.diagnostics.len(),
        mib.size() >> 10,
    );
    measure(mib);
    // Every node is found by its OID and by its name.
    for node in mib.nodes() {
        let found = mib.lookup(node.oid().arcs()).unwrap();
        assert_eq!(mib.node(found.node).oid(), node.oid());
    }
    if std::env::var_os("NEREUS_MIB_TELL").is_some() {
        for told in &compiled.diagnostics {
            eprintln!("{told}");
        }
    }
    if let Some(oracle) = std::env::var_os("NEREUS_MIB_ORACLE") {
        compare(mib, &std::fs::read_to_string(oracle).unwrap());
    }
}

/// Prints what a lookup takes: of one instance again and again, and of instances all over the tree.
fn measure(mib: &Mib) {
    let mut oids: Vec<Vec<u32>> = mib.nodes().map(|node| [node.oid().arcs(), &[7]].concat()).collect();
    // The same order each time, and no order that a cache likes.
    oids.sort_by_key(|oid| {
        oid.iter().fold(0u64, |hash, &arc| (hash ^ u64::from(arc)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    });
    oids.truncate(10_000);
    let one = vec![oids[0].clone(); oids.len()];
    for (kind, oids) in [("hot", one), ("all over the tree", oids)] {
        let mut matched = 0;
        // The least of many rounds: other processes only ever add.
        let round = || {
            let begun = Instant::now();
            matched = oids.iter().filter_map(|oid| mib.lookup(oid)).map(|found| found.matched).sum::<usize>();
            begun.elapsed() / oids.len() as u32
        };
        let least = std::iter::repeat_with(round).take(50).min().unwrap_or_default();
        eprintln!("lookup, {kind}: {least:?} for {} arcs", matched / oids.len());
    }
}

fn compare(mib: &Mib, oracle: &str) {
    let accepted =
        std::env::var("NEREUS_MIB_DISAGREEMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut wrong = 0;
    for line in oracle.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (oid, theirs) = (fields[1].trim_start_matches('.'), fields[4]);
        let arcs: Vec<u32> = oid.split('.').map(|arc| arc.parse().unwrap()).collect();
        let mut ours = String::new();
        mib.write_name(&arcs, &mut ours);
        if ours != theirs {
            wrong += 1;
            eprintln!("{oid}: {ours}, net-snmp {theirs}");
        }
    }
    eprintln!("{wrong} disagreements");
    assert!(wrong <= accepted, "{wrong} disagreements with the oracle");
}
