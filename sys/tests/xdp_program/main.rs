//! The XDP program: what it steers, what it lets by and what it counts, run over frames by `BPF_PROG_TEST_RUN`; and how
//! it is put on interfaces and taken off them.
//!
//! Each test has a network namespace of its own, in its own thread, which is gone with the thread. `rig` makes it. It
//! takes root, and says so when it is skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agreement;
mod attaching;
#[allow(dead_code, reason = "its messages are wanted, and what becomes of them is not")]
#[path = "../../../core/tests/corpus/mod.rs"]
mod corpus;
mod figures;
mod limits;
mod lists;
#[allow(dead_code, reason = "what makes frames is wanted, and what judges replies is not")]
#[path = "../../../core/tests/oracle/mod.rs"]
mod oracle;
mod rig;
mod sets;
mod sharing;
mod verdicts;
