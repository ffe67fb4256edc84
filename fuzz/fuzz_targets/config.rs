//! Any octets as a configuration in either language: no panic, no hang, and a rejection says why.
#![no_main]
use nereus::config::{System, parse};

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    for name in ["fuzz.yaml", "fuzz.toml"] {
        if let Err(problems) = parse(name, octets, &System) {
            assert!(!problems.to_string().is_empty() && !problems.diagnostics.is_empty());
        }
    }
});
