//! Asking other servers for the time: the client's half of RFC 5905, pure.
//!
//! ```text
//! moment, random numbers → when to ask, 48 octets          association.rs
//! octets, stamps → was it asked for, does it make sense?   reply.rs
//!                → sample → the best of the last eight      clock_filter.rs
//!                → how often to ask                         poll.rs
//! ```
//!
//! An [`Association`] is one server at one address. It tells nobody our time: a request's transmit timestamp is a
//! random number, which makes a reply worth reading, and all else that a request could say is left out.
//!
//! Sockets, stamps, names and random numbers belong to the driver. Who is right of several servers is decided by
//! selection, never here.

mod association;
mod clock_filter;
mod poll;
mod reply;

pub use association::{Action, Association, OWN_REFERENCE_IDS_MAX, Settings, Stamps};
pub use clock_filter::STAGES;
pub use poll::{POLL_MAX, POLL_MIN};
pub use reply::{ROOT_DISTANCE_MAX, ROUND_TRIP_MAX, Reception, Refusal};

#[cfg(test)]
mod association_tests;
#[cfg(test)]
mod world;
