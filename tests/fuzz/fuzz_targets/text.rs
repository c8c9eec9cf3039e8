//! Fuzzes the rules of `bodies::wire::text`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::wire::text(data));
