//! Where an upstream server is asked: a host name or an address, and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// NTP's own port.
const PORT: u16 = 123;
/// The longest host name (RFC 1035 section 2.3.4), and the longest part of one.
const NAME_OCTETS_MAX: usize = 253;
const LABEL_OCTETS_MAX: usize = 63;

/// A server to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// A host name or an address, the latter without brackets.
    pub host: String,
    /// Its port, not 0.
    pub port: u16,
}

/// Why a text is no server's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum UpstreamError {
    #[error("an IPv6 address must stand in brackets")]
    NoBrackets,
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    #[error("neither an address nor a host name")]
    NotAHost,
    #[error("no server has such an address")]
    NoServer,
}

impl Upstream {
    /// From `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
    pub(super) fn parse(text: &str) -> Result<Self, UpstreamError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or(UpstreamError::NotAHost)?;
            let address = host.parse::<Ipv6Addr>().map_err(|_| UpstreamError::NotAHost)?;
            check_address(address.into())?;
            (host, port)
        } else if text.matches(':').count() > 1 {
            return Err(UpstreamError::NoBrackets);
        } else {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            match host.parse::<Ipv4Addr>() {
                Ok(address) => check_address(address.into())?,
                Err(_) if is_host_name(host) => {}
                Err(_) => return Err(UpstreamError::NotAHost),
            }
            (host, port)
        };
        let port = match port.strip_prefix(':') {
            // The standard library would take a sign.
            Some(digits) if digits.bytes().all(|octet| octet.is_ascii_digit()) => {
                digits.parse().ok().filter(|&port| port != 0).ok_or(UpstreamError::BadPort)?
            }
            None if port.is_empty() => PORT,
            Some(_) | None => return Err(UpstreamError::BadPort),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

fn check_address(address: IpAddr) -> Result<(), UpstreamError> {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || is_broadcast {
        return Err(UpstreamError::NoServer);
    }
    Ok(())
}

/// Letters, digits, hyphens and underscores between dots. A last part of digits only is meant as an IPv4 address.
fn is_host_name(name: &str) -> bool {
    let mut labels = name.strip_suffix('.').unwrap_or(name).split('.');
    let is_label = |label: &str| {
        let known = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        (1..=LABEL_OCTETS_MAX).contains(&label.len())
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|octet| octet.is_ascii_digit());
    name.len() <= NAME_OCTETS_MAX
        && labels.clone().all(is_label)
        && labels.next_back().is_some_and(|last| !is_number(last))
}

/// As it is written in the file, the port always.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_in_four_ways() {
        for (text, host, port) in [
            ("ntp.example.net", "ntp.example.net", 123),
            ("ntp.example.net.:1123", "ntp.example.net.", 1123),
            ("localhost", "localhost", 123),
            ("192.0.2.1", "192.0.2.1", 123),
            ("192.0.2.1:65535", "192.0.2.1", 65_535),
            ("[2001:db8::1]", "2001:db8::1", 123),
            ("[2001:db8::1]:1", "2001:db8::1", 1),
        ] {
            let upstream = Upstream::parse(text).unwrap();
            assert_eq!((upstream.host.as_str(), upstream.port), (host, port), "{text}");
            assert_eq!(Upstream::parse(&upstream.to_string()), Ok(upstream));
        }
    }

    #[test]
    fn what_is_no_server_is_told_apart() {
        use UpstreamError::{BadPort, NoBrackets, NoServer, NotAHost};
        let long = format!("{}.net", "a".repeat(64));
        for (text, why) in [
            ("", NotAHost),
            (":123", NotAHost),
            ("-a.net", NotAHost),
            ("a..net", NotAHost),
            ("a b", NotAHost),
            ("300.0.2.1", NotAHost),
            ("192.0.2", NotAHost),
            (long.as_str(), NotAHost),
            ("[ntp.example.net]", NotAHost),
            ("[2001:db8::1", NotAHost),
            ("2001:db8::1", NoBrackets),
            ("ntp.example.net:", BadPort),
            ("ntp.example.net:0", BadPort),
            ("ntp.example.net:+1", BadPort),
            ("192.0.2.1:65536", BadPort),
            ("[2001:db8::1]123", BadPort),
            ("0.0.0.0", NoServer),
            ("[::]", NoServer),
            ("224.0.1.1", NoServer),
            ("255.255.255.255", NoServer),
            ("[ff02::101]:123", NoServer),
        ] {
            assert_eq!(Upstream::parse(text), Err(why), "{text:?}");
        }
    }
}
