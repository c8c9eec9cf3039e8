//! Fuzzes the rules of `bodies::wire::connect`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::wire::connect(data));
