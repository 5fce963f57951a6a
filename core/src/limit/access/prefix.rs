//! A prefix of IP addresses, as an operator writes it.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::Bits;

/// The addresses that share their first bits; an address alone is a prefix of its whole length. The bits behind are zero, and
/// IPv4 is never written as IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text or a pair is no prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrefixError {
    /// What stands before the slash.
    NotAnAddress,
    /// What stands behind it isn't a number of bits up to that of the address.
    Length {
        /// The bits of the address.
        most: u8,
    },
    /// It has bits beyond its length; this is the prefix that it lies in.
    BitsBehind(Prefix),
    /// It is IPv4 in IPv6's clothes (RFC 4291 §2.5.5.2), from which no packet comes.
    Mapped,
}

impl Prefix {
    /// The prefix that begins with `address` and has `length` bits.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let (most, first) = match address {
            IpAddr::V4(ip) => (32, IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().first(length)))),
            IpAddr::V6(ip) if length >= 96 && ip.to_ipv4_mapped().is_some() => {
                return Err(PrefixError::Mapped);
            }
            IpAddr::V6(ip) => (128, IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().first(length)))),
        };
        if length > most {
            return Err(PrefixError::Length { most });
        }
        let prefix = Self { address: first, length };
        if first == address { Ok(prefix) } else { Err(PrefixError::BitsBehind(prefix)) }
    }

    /// Its first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits its addresses share: up to 32, or 128.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(prefix), IpAddr::V4(ip)) => ip.to_bits().first(self.length) == prefix.to_bits(),
            (IpAddr::V6(prefix), IpAddr::V6(ip)) => ip.to_bits().first(self.length) == prefix.to_bits(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// As `192.0.2.0/24`, or an address alone.
impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::NotAnAddress)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            // Nothing that `parse` takes beside digits.
            Some(length) if length.starts_with('+') => return Err(PrefixError::Length { most }),
            Some(length) => length.parse().map_err(|_| PrefixError::Length { most })?,
        };
        Self::new(address, length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, length } = self;
        let is_whole = *length == if address.is_ipv4() { 32 } else { 128 };
        if is_whole { address.fmt(f) } else { write!(f, "{address}/{length}") }
    }
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAddress => f.write_str("not an address"),
            Self::Length { most } => write!(f, "the length must be a number of bits from 0 to {most}"),
            Self::BitsBehind(prefix) => write!(f, "has bits beyond its length; {prefix} is what it lies in"),
            Self::Mapped => f.write_str("IPv4 must be written as IPv4"),
        }
    }
}

impl core::error::Error for PrefixError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    fn error(text: &str) -> PrefixError {
        text.parse::<Prefix>().unwrap_err()
    }

    #[test]
    fn prefixes_and_addresses_are_read() {
        for (text, shown) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0:0::/32", "2001:db8::/32"),
            ("::1", "::1"),
            ("::/0", "::/0"),
            ("::/8", "::/8"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_none_is_told_apart() {
        for text in ["", "/", "/24", "192.0.2", "192.0.2.0.0/24", "[::1]", "example.net", " ::1", "010.0.0.1"]
        {
            assert_eq!(error(text), PrefixError::NotAnAddress, "{text:?}");
        }
        for text in ["192.0.2.0/", "192.0.2.0/33", "192.0.2.0/+24", "192.0.2.0/-1", "192.0.2.0/24/24"] {
            assert_eq!(error(text), PrefixError::Length { most: 32 }, "{text:?}");
        }
        assert_eq!(error("::/129"), PrefixError::Length { most: 128 });
        assert_eq!(error("::/256"), PrefixError::Length { most: 128 });
        assert_eq!(error("::ffff:192.0.2.1"), PrefixError::Mapped);
        assert_eq!(error("::ffff:0:0/96"), PrefixError::Mapped);
        let told = error("192.0.2.1/24").to_string();
        assert_eq!(told, "has bits beyond its length; 192.0.2.0/24 is what it lies in");
        assert_eq!(error("2001:db8::1/0"), PrefixError::BitsBehind("::/0".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bits in any::<u128>(), length in 0_u8..=128, v4 in any::<bool>()) {
            let address = if v4 {
                IpAddr::V4(Ipv4Addr::from_bits((bits >> 96).try_into().unwrap()))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            };
            let prefix = match Prefix::new(address, length) {
                Ok(prefix) | Err(PrefixError::BitsBehind(prefix)) => prefix,
                Err(PrefixError::Length { most: 32 }) if length > 32 => return Ok(()),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            prop_assert_eq!(prefix.to_string().parse::<Prefix>(), Ok(prefix));
            prop_assert!(prefix.contains(address) && prefix.contains(prefix.address()));
            // One bit within the prefix makes another of it.
            if length > 0 && !v4 {
                let flipped = Ipv6Addr::from_bits(bits ^ (1 << (128 - length)));
                prop_assert!(!prefix.contains(flipped.into()));
            }
        }
    }
}
