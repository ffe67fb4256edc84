//! Any octets under several Snapshots: a Verdict that holds what is promised of it.
#![no_main]

#[path = "../../tests/process_oracle/mod.rs"]
mod process_oracle;

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    process_oracle::check(datagram);
});
