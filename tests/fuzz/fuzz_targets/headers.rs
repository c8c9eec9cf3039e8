//! Fuzzes the rules of `bodies::wire::headers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::wire::headers(data));
