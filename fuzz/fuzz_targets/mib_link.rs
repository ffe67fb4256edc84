//! Modules that import from and stand on each other in any way: each definition has the OID that a resolver by the
//! rules gives it.
#![no_main]

#[path = "../../tests/link_oracle/mod.rs"]
mod link_oracle;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    link_oracle::World::of(octets).check();
});
