//! Any octets as `leap-seconds.list`: what is accepted must be what the lines say, and damage to a hashed one is found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maser_fuzz::leap_file::judge;

fuzz_target!(|input: &[u8]| judge(input));
