//! Whom to send to, and who may not be sent to.
//!
//! A load generator is a weapon, so it aims only at machines that are surely the user's own, unless the user
//! says that they operate the target. The check is made on addresses after a name was resolved, and on all of
//! them. Nothing is sent here.

use crate::clients::Prefix;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// The flag that says so.
pub const FLAG: &str = "--i-operate-this-target";
/// NTP's port.
const PORT: u16 = 123;

/// The networks that belong to nobody on the Internet: a packet to them reaches a machine of one's own, or
/// nothing.
const PRIVATE: [Prefix; 15] = [
    Prefix::v4([127, 0, 0, 0], 8),     // loopback (RFC 1122 §3.2.1.3)
    Prefix::v4([10, 0, 0, 0], 8),      // private (RFC 1918), three
    Prefix::v4([172, 16, 0, 0], 12),   //
    Prefix::v4([192, 168, 0, 0], 16),  //
    Prefix::v4([169, 254, 0, 0], 16),  // link-local (RFC 3927)
    Prefix::v4([192, 0, 2, 0], 24),    // documentation (RFC 5737), three
    Prefix::v4([198, 51, 100, 0], 24), //
    Prefix::v4([203, 0, 113, 0], 24),  //
    Prefix::v4([198, 18, 0, 0], 15),   // benchmarking (RFC 2544)
    Prefix::around(IpAddr::V6(Ipv6Addr::LOCALHOST), 128), // loopback (RFC 4291 §2.5.3)
    Prefix::v6([0xFE80, 0, 0], 10),    // link-local (RFC 4291 §2.5.6)
    Prefix::v6([0xFC00, 0, 0], 7),     // unique local (RFC 4193)
    Prefix::v6([0x2001, 0x0DB8, 0], 32), // documentation (RFC 3849)
    Prefix::v6([0x3FFF, 0, 0], 20),    // documentation (RFC 9637)
    Prefix::v6([0x2001, 2, 0], 48),    // benchmarking (RFC 5180)
];

/// Whether a network is part of one that belongs to nobody on the Internet.
pub(crate) fn is_private(prefix: &Prefix) -> bool {
    PRIVATE.iter().any(|private| private.covers(prefix))
}

/// Why a target is none.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not an address or a name, or a port that is none.
    #[error("`{0}` is no target: write ADDRESS, ADDRESS:PORT, [IPV6]:PORT, NAME or NAME:PORT")]
    Form(String),
    /// No address for the name.
    #[error("`{name}` could not be resolved ({error}): check the name, or give an address")]
    Unresolved {
        /// The name.
        name: String,
        /// The resolver's.
        error: std::io::Error,
    },
    /// It may be somebody else's.
    #[error(
        "{0} isn't a loopback, private, link-local, documentation or benchmarking address, and a stranger's \
         server isn't to be loaded: if you operate this one, say so with {FLAG}"
    )]
    Public(IpAddr),
    /// No server has it.
    #[error("{address} is {what}, which no server has: give the address of one machine")]
    Never {
        /// The address.
        address: IpAddr,
        /// What it is.
        what: &'static str,
    },
}

/// The address and port of a target: `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT` or a name in place of the
/// address; the port is 123 if none is given. Of a name's addresses, which must all be allowed, the first is
/// taken.
///
/// # Errors
/// [`TargetError`]; [`TargetError::Public`] is overruled by `i_operate_it`.
pub fn resolve(text: &str, i_operate_it: bool) -> Result<SocketAddr, TargetError> {
    let (host, port) = split(text).ok_or_else(|| TargetError::Form(text.to_owned()))?;
    let unresolved = |error| TargetError::Unresolved { name: host.to_owned(), error };
    let mut first = None;
    for address in (host, port).to_socket_addrs().map_err(unresolved)? {
        check(address.ip(), i_operate_it)?;
        // What is written as IPv4 inside IPv6 is IPv4.
        let canonical = match address.ip().to_canonical() {
            IpAddr::V4(inner) => SocketAddr::new(inner.into(), port),
            IpAddr::V6(_) => address,
        };
        first = first.or(Some(canonical));
    }
    first.ok_or_else(|| unresolved(std::io::ErrorKind::NotFound.into()))
}

/// Host and port.
fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']')?;
        // Only IPv6 is written so.
        host.contains(':').then_some(())?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
    } else {
        match text.split_once(':') {
            // More than one colon: IPv6 without a port.
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    (!host.is_empty()).then_some((host, port))
}

/// Whether load may be sent to an address.
fn check(address: IpAddr, i_operate_it: bool) -> Result<(), TargetError> {
    let never = |what| Err(TargetError::Never { address, what });
    let canonical = address.to_canonical();
    match canonical {
        _ if canonical.is_multicast() => return never("a multicast address"),
        _ if canonical.is_unspecified() => return never("the unspecified address"),
        IpAddr::V4(inner) if inner.is_broadcast() => return never("the broadcast address"),
        IpAddr::V4(inner) if inner.octets()[0] == 0 => return never("an address of \"this network\""),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    if PRIVATE.iter().any(|private| private.contains(canonical)) && !is_isatap(canonical) {
        Ok(())
    } else if canonical != address {
        never("an IPv4 address written as IPv6")
    } else if i_operate_it {
        Ok(())
    } else {
        Err(TargetError::Public(address))
    }
}

/// Whether an IPv6 address may be tunnelled to the IPv4 address in its last 32 bits (RFC 5214 §6.1), private
/// or not. Of all embeddings it is the only one that a private prefix can have: 6to4, Teredo and NAT64 have
/// prefixes of their own.
fn is_isatap(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => matches!(address.segments(), [_, _, _, _, 0 | 0x0200, 0x5EFE, _, _]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of an address without the flag, and with it: `-` refused, `+` taken.
    fn fate(address: &str) -> String {
        let address = address.parse().expect("an address");
        [false, true].map(|flag| if check(address, flag).is_ok() { '+' } else { '-' }).iter().collect()
    }

    #[test]
    fn private_ranges_end_where_their_rfcs_say() {
        for (before, first, last, after) in [
            ("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"),
            ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
            ("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"),
            ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"),
            ("169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"),
            ("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"),
            ("198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"),
            ("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"),
            ("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"),
            ("::2", "::1", "::1", "::2"),
            ("fe7f:ffff::", "fe80::", "febf:ffff::", "fec0::"),
            ("fbff:ffff::", "fc00::", "fdff:ffff::", "fe00::"),
            ("2001:db7:ffff::", "2001:db8::", "2001:db8:ffff:ffff::", "2001:db9::"),
            ("3ffe:ffff::", "3fff::", "3fff:fff:ffff::", "3fff:1000::"),
            ("2001:1:ffff::", "2001:2::", "2001:2:0:ffff::", "2001:2:1::"),
        ] {
            for (address, wanted) in [(before, "-+"), (first, "++"), (last, "++"), (after, "-+")] {
                assert_eq!(fate(address), wanted, "{address}");
            }
        }
    }

    #[test]
    fn what_no_server_has_is_refused_whatever_the_user_says() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "224.0.1.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "ff02::101",
            "ff0e::101",
            "::ffff:0.0.0.0",
            "::ffff:224.0.1.1",
            "::ffff:255.255.255.255",
        ] {
            assert_eq!(fate(address), "--", "{address}");
        }
    }

    #[test]
    fn an_embedded_address_is_no_way_around() {
        for (address, wanted) in [
            ("::ffff:8.8.8.8", "--"),
            ("::ffff:10.0.0.1", "++"),
            ("::8.8.8.8", "-+"),
            ("::10.0.0.1", "-+"),
            ("::127.0.0.1", "-+"),
            ("2002:0808:0808::1", "-+"),
            ("2002:0a00:0001::1", "-+"),
            ("64:ff9b::8.8.8.8", "-+"),
            ("64:ff9b:1::8.8.8.8", "-+"),
            ("2001:0:808:808::", "-+"),
            ("fe80::5efe:8.8.8.8", "-+"),
            ("fd00::200:5efe:8.8.8.8", "-+"),
            ("fd00::200:5eff:8.8.8.8", "++"),
        ] {
            assert_eq!(fate(address), wanted, "{address}");
        }
    }

    #[test]
    fn addresses_ports_and_names_in_all_their_forms() {
        for (text, wanted) in [
            ("127.0.0.1", "127.0.0.1:123"),
            ("127.0.0.1:11123", "127.0.0.1:11123"),
            ("::1", "[::1]:123"),
            ("[::1]", "[::1]:123"),
            ("[::1]:11123", "[::1]:11123"),
            ("[fe80::1%3]:5", "[fe80::1%3]:5"),
            ("::ffff:10.0.0.1", "10.0.0.1:123"),
            ("[::ffff:10.0.0.1]:7", "10.0.0.1:7"),
            // The resolver reads this as it always has: a number of 32 bits.
            ("2130706433:5", "127.0.0.1:5"),
        ] {
            assert_eq!(resolve(text, false).expect(text).to_string(), wanted, "{text}");
        }
        assert!(resolve("localhost:5", false).is_ok_and(|address| address.ip().is_loopback()));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            ":123",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "10.0.0.1:x",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[10.0.0.1]:5",
        ] {
            assert!(matches!(resolve(text, true), Err(TargetError::Form(_))), "{text}");
        }
        // A label of more than 63 octets is no name, which the resolver knows without asking anybody.
        let name = "x".repeat(64);
        assert!(matches!(resolve(&name, true), Err(TargetError::Unresolved { .. })));
        // 134744072 is 8.8.8.8 to the resolver.
        assert!(matches!(resolve("134744072", false), Err(TargetError::Public(_))));
    }

    #[test]
    fn the_error_names_the_address_and_the_flag() {
        let error = resolve("192.0.3.9:123", false).expect_err("public").to_string();
        assert!(error.contains("192.0.3.9 ") && error.contains("--i-operate-this-target"), "{error}");
    }
}
