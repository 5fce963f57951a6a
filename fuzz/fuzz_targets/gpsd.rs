//! Any octets as a record of gpsd's socket or of a shared memory segment: what is accepted must be what they hold.
//!
//! The control octet chooses the record, and whether its length and magic number are made right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maser_fuzz::gpsd::judge;

fuzz_target!(|input: &[u8]| {
    let Some((control, record)) = input.split_first() else { return };
    judge(*control, record);
});
