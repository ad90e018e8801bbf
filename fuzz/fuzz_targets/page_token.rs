#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chatledger::fuzzing::page_token(bytes));
