//! maser-load: an open-loop load generator for NTP servers, which also measures the accuracy of their timestamps.
//!
//! Requests leave by a schedule, whether or not replies come, and a reply's latency counts from the moment when its
//! request was due: a server that stands still for 100 ms shows as such (no coordinated omission).
//!
//! ```text
//! mode → steps → [ schedule → mix → link out … link in → ledger → check → outcome ] → summary → report
//!                          one pinned thread each
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`], [`app`] | the command line and what it does |
//! | [`modes`] | which steps a run is made of |
//! | [`session`] | the threads that run a step |
//! | [`schedule`] | when each request is due |
//! | [`target`], [`clients`] | whom to ask, and who asks |
//! | [`mix`], [`key`] | what the requests are, and what signs them |
//! | [`link`] | how they leave and replies come in |
//! | [`open_loop`] | a thread's loop |
//! | [`live`] | the same inside the kernel |
//! | [`attack`] | honest clients and a flood beside them |
//! | [`cookie`], [`ledger`] | which request a reply is a reply to |
//! | [`reply`] | what a valid reply is |
//! | [`conversations`] | what clients that interleave remember |
//! | [`accuracy`] | how far a server's timestamps are from the truth |
//! | [`outcome`], [`summary`] | what is measured while it runs, and plain data afterwards |
//! | [`report`] | tables, files and pictures made of it |

pub mod accuracy;
pub mod app;
pub mod attack;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod conversations;
pub mod cookie;
pub mod key;
pub mod ledger;
pub mod link;
pub mod live;
pub mod mix;
pub mod modes;
pub mod open_loop;
pub mod outcome;
pub mod reply;
pub mod report;
pub mod schedule;
pub mod session;
pub mod summary;
pub mod target;
pub mod units;
