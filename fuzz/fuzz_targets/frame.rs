//! Any frame: parse, decide, rewrite, stamp; every answer must pass the oracles.
//!
//! The control octet says whether the frame's checksums are made right before it is parsed, without which hardly
//! any mutation would get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maser_fuzz::oracle::Form;
use maser_fuzz::oracle::frame::seal;
use maser_fuzz::{judge, split};

fuzz_target!(|input: &[u8]| {
    let Some((control, transmit, packet)) = split(input) else { return };
    let mut frame = packet.to_vec();
    match control % 4 {
        0 | 1 => seal(&mut frame, true),
        2 => seal(&mut frame, false),
        _ => {}
    }
    judge(Form::Frame, &frame, transmit);
});
