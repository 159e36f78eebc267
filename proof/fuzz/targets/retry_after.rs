#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cognigy_fuzz_checks::retry_after(input));
