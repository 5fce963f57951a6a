//! The daemon as an operator meets it: the program itself, started from the command line, asked over its sockets and
//! stopped by signals.
//!
//! Every wait has a limit, every server a port and a directory of its own, and none of them could set the clock:
//! `daemon/maser.rs` sees to that.

#[path = "daemon/journal.rs"]
mod journal;
#[path = "daemon/ladder.rs"]
mod ladder;
#[path = "daemon/life.rs"]
mod life;
#[path = "daemon/maser.rs"]
mod maser;
#[path = "daemon/packets.rs"]
mod packets;
#[allow(dead_code, reason = "of the peers' rig only what starts and reads processes is used here")]
mod peers;
#[path = "daemon/refusals.rs"]
mod refusals;
#[path = "daemon/screen.rs"]
mod screen;
mod support;
