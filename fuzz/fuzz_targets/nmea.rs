//! Any octets of a serial line as NMEA: what is reported must be what the oracle finds in them.
//!
//! The control octet says whether the sentences' checksums are made right before they are decoded, without which
//! hardly any mutation would get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maser_fuzz::nmea::{judge, seal};

fuzz_target!(|input: &[u8]| {
    let Some((control, stream)) = input.split_first() else { return };
    let mut stream = stream.to_vec();
    if control % 4 < 3 {
        seal(&mut stream);
    }
    judge(&stream);
});
