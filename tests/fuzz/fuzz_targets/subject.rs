//! Fuzzes the rules of `bodies::wire::subject`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::wire::subject(data));
