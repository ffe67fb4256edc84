//! What is written is read back as it was: SNMPv1, SNMPv2c and SNMPv3 messages made of any octets.
#![no_main]

#[path = "../../tests/roundtrip_oracle/mod.rs"]
mod roundtrip_oracle;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    roundtrip_oracle::check(octets);
});
