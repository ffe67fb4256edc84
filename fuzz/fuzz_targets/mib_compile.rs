//! Any octets as a MIB file: the compiler does not panic, yields no more than it was given, and takes time that
//! is linear in it.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nereus::mib::{Mib, SourceFile};
use rustix::time::{ClockId, clock_gettime};

/// The processor's time that this thread has used: a busy machine adds nothing to it.
fn used() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fuzz_target!(|data: &[u8]| {
    // Once, and not the file's doing.
    let _ = Mib::builtin();
    let begun = used();
    let compiled = Mib::compile(&[SourceFile::new("fuzz", data)]);
    // A hundred times what it takes without the sanitizer; the built-in names are linked along.
    let (taken, bound) =
        (used().saturating_sub(begun), Duration::from_micros(200_000 + 10 * data.len() as u64));
    assert!(taken < bound, "{taken:?} for {} octets", data.len());
    let builtin = Mib::builtin().nodes().len();
    assert!(compiled.mib.nodes().len() <= builtin + data.len());
    assert!(compiled.diagnostics.len() <= 3 * data.len() + 3);
});
