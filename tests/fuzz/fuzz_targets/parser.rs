//! Fuzzes the rules of `bodies::wire::parser`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::wire::parser(data));
