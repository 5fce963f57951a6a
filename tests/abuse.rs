//! Servers under attack, honest clients beside it, on hosts of their own: what maser-load's floods are, whether its counts are
//! everybody's, and what maser does about floods.
//!
//! | module | what it is |
//! |---|---|
//! | `rig` | two namespaces and a wire; servers on one, attacks from the other |
//! | `suite` | the generator's own check: known servers, planted faults, others' counts |
//! | `limits` | what the limits promise, at rates and times that `MASER_ABUSE_FULL=1` makes whole |

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "abuse/limits.rs"]
mod limits;
#[allow(dead_code, reason = "of the meter's tests only what builds and reads maser-load is used here")]
#[path = "meter/load.rs"]
mod load;
#[allow(dead_code, reason = "of the daemon's tests only what starts a server is used here")]
#[path = "daemon/maser.rs"]
mod maser;
#[allow(dead_code, reason = "of the peers' rig only the hosts are used here")]
mod peers;
#[path = "abuse/rig.rs"]
mod rig;
#[path = "abuse/suite.rs"]
mod suite;
mod support;
