//! The interfaces that requests are taken from: what is refused, what is told to the program, and how it follows the kernel.
//!
//! On hosts that are network namespaces of the test's own, with the real program on a veth pair. Whether a request would be
//! taken is seen from what the program counts: there is no AF_XDP socket here, so it passes it on for want of one.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "interface/following.rs"]
mod following;
#[allow(dead_code, reason = "of the peers' rig only how commands are run and tests left out is used here")]
mod peers;
#[path = "interface/refusals.rs"]
mod refusals;
#[path = "interface/rig.rs"]
mod rig;
#[path = "interface/settings.rs"]
mod settings;
