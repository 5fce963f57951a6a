//! Packets: what arrives, and what it proves.
//!
//! Each header has a module with its bit diagram, a view whose constructor checks what the view then proves, and,
//! where a reply keeps the header, a function that turns it around in place. [`parse_frame`] and
//! [`parse_datagram`] go through them from the outside in and end in a [`Request`] or in a [`DropReason`]; nothing
//! behind them looks at a request's octets again.
//!
//! | module | header |
//! |---|---|
//! | [`ethernet`] | Ethernet II, VLAN tags |
//! | [`ip4`], [`ip6`] | IP without options and extension headers |
//! | [`udp`] | UDP |
//! | [`ntp`] | NTP |
//! | [`extension`], [`mac`] | what may follow an NTP header |
//! | [`checksum`] | the Internet checksum |
//!
//! Hostile octets never panic here, and nothing here knows a clock or a limit.

pub mod checksum;
mod drop_reason;
pub mod ethernet;
pub mod extension;
mod field;
pub mod ip4;
pub mod ip6;
pub mod mac;
pub mod ntp;
mod request;
pub mod udp;

pub use drop_reason::DropReason;
pub use ntp::{Mode, Version};
pub(crate) use request::Envelope;
pub use request::{DATAGRAM_LENGTH_MAX, Peer, Request, RequestMode, parse_datagram, parse_frame};

/// UDP's protocol number, in both versions of IP.
const PROTOCOL_UDP: u8 = 17;
/// The time to live and hop limit of a reply: the default that IANA's list of IP parameters names.
const HOP_LIMIT: u8 = 64;
