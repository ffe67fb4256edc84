//! Any octets are refused, or walk to their end and survive re-decoding and re-encoding.
#![no_main]

#[path = "../../tests/wire_oracle/mod.rs"]
mod wire_oracle;

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    let _ = wire_oracle::check(datagram);
});
