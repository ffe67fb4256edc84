//! Any octets in a message with a right digest: the first octets choose protocols and fields, the rest is what was
//! encrypted. So a fuzzer gets behind the digest, where the sender is believed to be who it says.
#![no_main]

#[path = "../../tests/usm_oracle/mod.rs"]
mod usm_oracle;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    usm_oracle::check(octets);
});
