//! What the server is told of a NIC whose stamps are used, and what is asked of it again and again.

use maser_sys::ethtool::Ethtool;
use maser_sys::hwtstamp::Stamping;
use serde::{Deserialize, Serialize};

/// A NIC that was named for its stamps, or has a clock where all such were asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NicFacts {
    /// Its interface's name.
    pub name: String,
    /// The kernel's number of that; 0 if there is none.
    pub index: u32,
    /// The driver's name; empty if it doesn't say.
    pub driver: String,
    /// Its clock's number, as in `/dev/ptp0`, if that is handed over: without one no stamp is used.
    pub clock: Option<u32>,
    /// What the driver calls the clock.
    pub clock_name: String,
    /// Whether it is to stamp requests.
    pub receives: bool,
    /// Whether it is to stamp replies.
    pub sends: bool,
    /// What isn't had, and why; empty where all is.
    pub why: String,
    /// What the kernel says of it.
    pub now: NicNow,
}

/// What the kernel says of a NIC at a moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NicNow {
    /// What of that which leaves is stamped, as `ethtool -T` calls it; empty if the kernel doesn't say.
    pub transmit_type: String,
    /// What of that which comes is.
    pub receive_filter: String,
    /// The link's speed in megabits a second; none while it is down, or if the driver doesn't say.
    pub link_mbps: Option<u32>,
}

impl NicNow {
    /// Of the interface of this name.
    pub(crate) fn of(name: &str) -> Self {
        let Ok(ethtool) = Ethtool::new(name) else { return Self::default() };
        let told = |stamping: Stamping| (stamping.transmit.to_string(), stamping.receive.to_string());
        let (transmit_type, receive_filter) = ethtool.stamping().map(told).unwrap_or_default();
        Self { transmit_type, receive_filter, link_mbps: ethtool.link_speed().ok().flatten() }
    }
}
