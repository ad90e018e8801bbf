#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chatledger::fuzzing::json_field(bytes));
