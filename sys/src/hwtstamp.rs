//! Which frames a NIC stamps with its own clock, asked and set: `SIOCGHWTSTAMP` and `SIOCSHWTSTAMP`, and what it offers,
//! `ETHTOOL_GET_TS_INFO` (Linux, `Documentation/networking/timestamping.rst`, 3).
//!
//! The setting is the interface's, shared by all who use its stamps, and stays when they have gone.

use std::error::Error;
use std::fmt;
use std::io;

use crate::ethtool::Ethtool;

/// `ETHTOOL_GET_TS_INFO`, and the words of its structure.
const TIMESTAMPING: u32 = 0x41;
const TIMESTAMPING_WORDS: usize = 11;
/// Of it: the clock's number, the transmit types, the receive filters.
const CLOCK: usize = 2;
const TRANSMIT_TYPES: usize = 3;
const RECEIVE_FILTERS: usize = 7;

/// Whether frames that leave are stamped: `HWTSTAMP_TX_…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransmitType(pub u32);

impl TransmitType {
    /// None are.
    pub const OFF: Self = Self(libc::HWTSTAMP_TX_OFF);
    /// Those whose sender asks for it.
    pub const ON: Self = Self(libc::HWTSTAMP_TX_ON);

    /// Its name, as `ethtool -T` has it.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            libc::HWTSTAMP_TX_OFF => "off",
            libc::HWTSTAMP_TX_ON => "on",
            libc::HWTSTAMP_TX_ONESTEP_SYNC => "onestep-sync",
            libc::HWTSTAMP_TX_ONESTEP_P2P => "onestep-p2p",
            _ => return None,
        })
    }
}

/// Which frames that come are stamped: `HWTSTAMP_FILTER_…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReceiveFilter(pub u32);

impl ReceiveFilter {
    /// None are.
    pub const NONE: Self = Self(libc::HWTSTAMP_FILTER_NONE);
    /// All are.
    pub const ALL: Self = Self(libc::HWTSTAMP_FILTER_ALL);
    /// NTP's are.
    pub const NTP_ALL: Self = Self(libc::HWTSTAMP_FILTER_NTP_ALL);

    /// Its name, as `ethtool -T` has it.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            libc::HWTSTAMP_FILTER_NONE => "none",
            libc::HWTSTAMP_FILTER_ALL => "all",
            libc::HWTSTAMP_FILTER_SOME => "some",
            libc::HWTSTAMP_FILTER_PTP_V1_L4_EVENT => "ptpv1-l4-event",
            libc::HWTSTAMP_FILTER_PTP_V1_L4_SYNC => "ptpv1-l4-sync",
            libc::HWTSTAMP_FILTER_PTP_V1_L4_DELAY_REQ => "ptpv1-l4-delay-req",
            libc::HWTSTAMP_FILTER_PTP_V2_L4_EVENT => "ptpv2-l4-event",
            libc::HWTSTAMP_FILTER_PTP_V2_L4_SYNC => "ptpv2-l4-sync",
            libc::HWTSTAMP_FILTER_PTP_V2_L4_DELAY_REQ => "ptpv2-l4-delay-req",
            libc::HWTSTAMP_FILTER_PTP_V2_L2_EVENT => "ptpv2-l2-event",
            libc::HWTSTAMP_FILTER_PTP_V2_L2_SYNC => "ptpv2-l2-sync",
            libc::HWTSTAMP_FILTER_PTP_V2_L2_DELAY_REQ => "ptpv2-l2-delay-req",
            libc::HWTSTAMP_FILTER_PTP_V2_EVENT => "ptpv2-event",
            libc::HWTSTAMP_FILTER_PTP_V2_SYNC => "ptpv2-sync",
            libc::HWTSTAMP_FILTER_PTP_V2_DELAY_REQ => "ptpv2-delay-req",
            libc::HWTSTAMP_FILTER_NTP_ALL => "ntp-all",
            _ => return None,
        })
    }
}

macro_rules! shown {
    ($kind:ty) => {
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "number {}", self.0),
                }
            }
        }
    };
}
shown!(TransmitType);
shown!(ReceiveFilter);

/// What an interface is set to stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamping {
    /// Of what leaves.
    pub transmit: TransmitType,
    /// Of what comes.
    pub receive: ReceiveFilter,
}

/// What an interface can stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offered {
    /// The number of its clock, as in `/dev/ptp0`; none if it has no clock that can be read.
    pub clock: Option<u32>,
    transmit: u32,
    receive: u32,
}

impl Offered {
    /// From bits by the numbers of types and filters.
    #[must_use]
    pub const fn new(clock: Option<u32>, transmit: u32, receive: u32) -> Self {
        Self { clock, transmit, receive }
    }

    /// Whether this type can be set.
    #[must_use]
    pub const fn transmits(&self, kind: TransmitType) -> bool {
        is_set(self.transmit, kind.0)
    }

    /// Whether this filter can be set.
    #[must_use]
    pub const fn receives(&self, filter: ReceiveFilter) -> bool {
        is_set(self.receive, filter.0)
    }
}

const fn is_set(bits: u32, number: u32) -> bool {
    number < u32::BITS && bits >> number & 1 != 0
}

/// Why stamping can't be asked for or set.
#[derive(Debug)]
pub enum HwtstampError {
    /// The driver has none, or doesn't say what is set.
    Unsupported(&'static str),
    /// A privilege is missing.
    NotPermitted,
    /// Anything else.
    Refused {
        /// What was asked.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for HwtstampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(what) => write!(
                f,
                "its driver doesn't stamp frames ({what}: EOPNOTSUPP); `ethtool -T` shows which interfaces can"
            ),
            Self::NotPermitted => f.write_str(
                "telling a NIC to stamp takes CAP_NET_ADMIN (SIOCSHWTSTAMP: EPERM); start maser as root",
            ),
            Self::Refused { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl Error for HwtstampError {}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> HwtstampError {
    move |error| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => HwtstampError::Unsupported(what),
        Some(libc::EPERM) => HwtstampError::NotPermitted,
        _ => HwtstampError::Refused { what, error },
    }
}

impl Ethtool {
    /// What the interface can stamp.
    ///
    /// # Errors
    /// No such interface.
    pub fn stamping_offered(&self) -> Result<Offered, HwtstampError> {
        let mut words = [0; TIMESTAMPING_WORDS];
        words[0] = TIMESTAMPING;
        let told = self.ask(&mut words).map_err(refused("ETHTOOL_GET_TS_INFO"))?;
        // −1 for no clock.
        let clock = i32::from_ne_bytes(words[CLOCK].to_ne_bytes());
        let offered = Offered::new(u32::try_from(clock).ok(), words[TRANSMIT_TYPES], words[RECEIVE_FILTERS]);
        Ok(if told { offered } else { Offered::default() })
    }

    /// What the interface is set to stamp.
    ///
    /// # Errors
    /// [`HwtstampError::Unsupported`] of a driver that doesn't say; no such interface.
    pub fn stamping(&self) -> Result<Stamping, HwtstampError> {
        let mut words = [0; 3];
        self.request(libc::SIOCGHWTSTAMP, &mut words).map_err(refused("SIOCGHWTSTAMP"))?;
        Ok(of_words(words))
    }

    /// Sets what the interface stamps; what it stamps then, which may be more (never less, says the kernel's document).
    ///
    /// # Errors
    /// What is in the way.
    pub fn set_stamping(&self, stamping: Stamping) -> Result<Stamping, HwtstampError> {
        // `struct hwtstamp_config`: flags, transmit type, receive filter.
        let mut words = [0, stamping.transmit.0, stamping.receive.0];
        self.request(libc::SIOCSHWTSTAMP, &mut words).map_err(refused("SIOCSHWTSTAMP"))?;
        Ok(of_words(words))
    }
}

const fn of_words([_, transmit, receive]: [u32; 3]) -> Stamping {
    Stamping { transmit: TransmitType(transmit), receive: ReceiveFilter(receive) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_offers_nothing_and_says_so() {
        let loopback = Ethtool::new("lo").unwrap();
        let offered = loopback.stamping_offered().unwrap();
        assert_eq!(offered.clock, None);
        assert!(!offered.receives(ReceiveFilter::ALL) && !offered.transmits(TransmitType::ON), "{offered:?}");
        assert!(matches!(loopback.stamping(), Err(HwtstampError::Unsupported("SIOCGHWTSTAMP"))));
        let gone = Ethtool::new("no-such-dev").unwrap();
        assert!(matches!(gone.stamping_offered(), Err(HwtstampError::Refused { .. })));
    }

    #[test]
    fn offers_are_bits_by_number() {
        let offered = Offered::new(Some(3), 0b11, 1 << 15 | 1);
        assert!(offered.receives(ReceiveFilter::NTP_ALL) && offered.receives(ReceiveFilter::NONE));
        assert!(!offered.receives(ReceiveFilter::ALL) && !offered.receives(ReceiveFilter(32)));
        assert!(offered.transmits(TransmitType::ON) && !offered.transmits(TransmitType(2)));
    }

    #[test]
    fn numbers_have_the_names_of_ethtool() {
        let named = (0..=15).filter_map(|number| ReceiveFilter(number).name()).count();
        assert_eq!(named, 16);
        assert_eq!(ReceiveFilter::NTP_ALL.to_string(), "ntp-all");
        assert_eq!(ReceiveFilter(99).to_string(), "number 99");
        assert_eq!([TransmitType::OFF, TransmitType::ON].map(|kind| kind.to_string()), ["off", "on"]);
    }
}
