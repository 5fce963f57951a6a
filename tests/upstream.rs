//! The driver of an upstream server, against a real maser and against servers that misbehave on purpose.
//!
//! Everything goes over loopback, to ports of the tests' own; every wait has a limit.

#[path = "upstream/asked.rs"]
mod asked;
#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "of the daemon's tests only what starts and ends a server is used here")]
mod maser;
#[allow(dead_code, reason = "of the peers' rig only what starts and reads processes is used here")]
mod peers;
#[path = "upstream/rig.rs"]
mod rig;
mod support;
