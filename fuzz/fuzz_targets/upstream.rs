//! Any datagrams in reply to an association's requests: nothing is believed that doesn't echo the request.
//!
//! The control octet chooses the association's settings; the rest is replies, each with how it is to be completed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maser_fuzz::upstream::judge;

fuzz_target!(|input: &[u8]| {
    let Some((control, replies)) = input.split_first() else { return };
    judge(*control, replies);
});
