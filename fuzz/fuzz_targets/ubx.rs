//! Any octets of a serial line as UBX and NMEA mixed: what is reported must be what the oracle finds in them.
//!
//! The control octet says whether the checksums, and the frames' lengths, are made right before they are decoded,
//! without which hardly any mutation would get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maser_fuzz::{nmea, ubx};

fuzz_target!(|input: &[u8]| {
    let Some((control, stream)) = input.split_first() else { return };
    let mut stream = stream.to_vec();
    if control % 4 < 3 {
        nmea::seal(&mut stream);
        ubx::seal(&mut stream, control % 4 == 1);
    }
    ubx::judge(&stream);
});
