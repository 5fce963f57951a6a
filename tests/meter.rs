//! The check of the meter: maser-load against servers whose faults are known, and its counts against everybody else's.
//!
//! What is planted must be reported, and what the server, the kernel and maser-load count must be the same.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "meter/agreement.rs"]
mod agreement;
#[path = "meter/interleaved.rs"]
mod interleaved;
#[path = "meter/life.rs"]
mod life;
#[path = "meter/load.rs"]
mod load;
#[allow(dead_code, reason = "of the daemon's tests only what starts a server is used here")]
#[path = "daemon/maser.rs"]
mod maser;
#[path = "meter/modes_of_chronyd.rs"]
mod modes_of_chronyd;
#[allow(dead_code, reason = "of the peers' rig only the hosts are used here")]
mod peers;
#[path = "meter/planted.rs"]
mod planted;
#[path = "meter/stalls.rs"]
mod stalls;
mod support;
