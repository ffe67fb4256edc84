//! Any octets as a MIB file: the compiler neither panics nor hangs, and yields no more than it was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nereus::mib::{Mib, SourceFile};

fuzz_target!(|data: &[u8]| {
    let compiled = Mib::compile(&[SourceFile::new("fuzz", data)]);
    let builtin = Mib::builtin().nodes().len();
    assert!(compiled.mib.nodes().len() <= builtin + data.len());
    assert!(compiled.diagnostics.len() <= 3 * data.len() + 3);
});
