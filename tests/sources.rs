//! The drivers of sources, each run as the server runs it, fed by the other end of what it reads.
//!
//! Sentences over ptys, gpsd's two ways of handing over time by writers of our own, and the real gpsd, this one as far as
//! the daemon's replies, too. What a driver tells is compared with the machine's clocks, read by the test at the moment in
//! question. Nothing here touches a clock.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a test that can't go on has failed, and its own arithmetic is small"
)]

#[path = "receivers/bench.rs"]
mod bench;
#[path = "receivers/gpsd.rs"]
mod gpsd;
#[path = "receivers/gpsd_daemon.rs"]
mod gpsd_daemon;
#[path = "receivers/gpsd_rig.rs"]
mod gpsd_rig;
#[path = "receivers/lines.rs"]
mod lines;
#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod maser;
#[path = "receivers/messages.rs"]
mod messages;
#[allow(dead_code, reason = "of the peers' rig only what skips, starts and reads processes is used here")]
mod peers;
#[path = "receivers/samples.rs"]
mod samples;
mod support;
