//! maser's pure core.
//!
//! Everything a reply is made of is decided here: time scales and their arithmetic ([`time`]), packets and
//! what they prove ([`wire`]), who is answered how often ([`limit`]), the answer ([`reply`]), what a reference clock
//! says ([`refclock`]), which of the references are right and how the clock follows them ([`discipline`]), how other
//! servers are asked ([`upstream`]), the value in which the packet flow meets the pulse flow ([`snapshot`]), how the
//! machine's clock follows it ([`steer`]), and who asks the most ([`heavy`]).
//!
//! Nothing in this crate reads a clock, a random source, a file or the environment, and nothing allocates: time
//! and bytes come in through parameters, decisions go out as values. `maser-sys` and the daemon do what is
//! decided here.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

pub mod discipline;
pub mod hash;
pub mod heavy;
pub mod limit;
pub mod refclock;
pub mod reply;
pub mod snapshot;
pub mod steer;
pub mod time;
pub mod upstream;
pub mod wire;
