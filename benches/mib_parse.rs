//! `NEREUS_MIB_CORPUS=DIR cargo bench --bench mib_parse`: lexing and parsing every file of a tree, and linking them.
//!
//! Prints MB/s and seconds of CPU of one thread, the least of some rounds. Wanted: `parse` of LibreNMS' tree (333 MB)
//! within 2 s (docs/performance.md). A measurement of its own, since a round takes seconds. Skips, and
//! says so, without a tree.

#![expect(clippy::print_stderr, reason = "a bench prints")]

use std::time::{Duration, Instant};

/// What this thread has had of a CPU, so that other processes do not count; without /proc the time of day.
fn cpu(begun: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| begun.elapsed(), Duration::from_nanos)
}

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
    let begun = Instant::now();
    let least = |run: &dyn Fn() -> usize| {
        let round = || {
            let before = cpu(begun);
            std::hint::black_box(run());
            cpu(begun).saturating_sub(before)
        };
        std::iter::repeat_with(round).take(ROUNDS).min().unwrap_or_default()
    };
    tell("parse", least(&|| Mib::parse_only(&files)));
    tell("compile", least(&|| Mib::compile(&files).mib.nodes().len()));
}
