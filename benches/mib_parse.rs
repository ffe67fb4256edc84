//! `NEREUS_MIB_CORPUS=DIR cargo bench --bench mib_parse`: lexing and parsing every file of a tree, and linking them.
//!
//! Prints MB/s and seconds of one thread, the least of some rounds. Wanted: `parse` of LibreNMS' tree (333 MB)
//! within 2 s of CPU (docs/performance.md). A measurement of its own, since a round takes seconds. Skips, and
//! says so, without a tree.

#![expect(clippy::print_stderr, reason = "a bench prints")]

use std::time::{Duration, Instant};

use nereus::mib::{Mib, read_directories};

const ROUNDS: usize = 5;

fn main() {
    let Some(corpus) = std::env::var_os("NEREUS_MIB_CORPUS") else {
        eprintln!("skipped: NEREUS_MIB_CORPUS names no tree of MIB files");
        return;
    };
    let (files, unread) = read_directories(&[corpus.into()]);
    let octets: usize = files.iter().map(|file| file.bytes.len()).sum();
    eprintln!("{} files, {:.1} MB, {} unread", files.len(), octets as f64 / 1e6, unread.len());
    let tell = |what: &str, took: Duration| {
        eprintln!(
            "{what}: {:.3} s, {:.0} MB/s",
            took.as_secs_f64(),
            octets as f64 / 1e6 / took.as_secs_f64()
        );
    };
    let least = |run: &dyn Fn() -> usize| {
        let round = || {
            let begun = Instant::now();
            std::hint::black_box(run());
            begun.elapsed()
        };
        std::iter::repeat_with(round).take(ROUNDS).min().unwrap_or_default()
    };
    tell("parse", least(&|| Mib::parse_only(&files)));
    tell("compile", least(&|| Mib::compile(&files).mib.nodes().len()));
}
