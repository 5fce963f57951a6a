//! The keys of the `[limit]` section.

use super::{Absent, Key};

const SECTION: &str = "limit";

const fn key(
    name: &'static str,
    expected: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { section: SECTION, types: &[], name, expected, absent: Absent::Value(default), meaning }
}

pub(in crate::config) const RATE: Key = key(
    "rate",
    "a number of requests a second from 0 to 10000, or \"off\"",
    "8",
    "How many requests a second of one address are answered in the long run; of IPv6, where a host has a network of its \
     own, of one /64. 0 and \"off\" turn all limits off. 8 is what 4,000 clients behind one address ask that poll every \
     512 s. docs/limits.md has the reasons for this and what follows.",
);

pub(in crate::config) const BURST: Key = key(
    "burst",
    "a number of requests from 1 to 100000",
    "32",
    "How many requests of one address are answered at once, after it has been silent for burst / rate seconds.",
);

pub(in crate::config) const PREFIX_RATE: Key = key(
    "prefix_rate",
    "a number of requests a second from 0 to 10000, not below rate, or \"off\"",
    "256",
    "The same for all addresses of one prefix together, but for those that come back as honest clients do. 0 and \
     \"off\" turn the limit of prefixes off.",
);

pub(in crate::config) const PREFIX_BURST: Key = key(
    "prefix_burst",
    "a number of requests from 1 to 100000, not below burst",
    "1024",
    "How many requests of one prefix are answered at once.",
);

pub(in crate::config) const PREFIX_IP4: Key =
    key("prefix_ip4", "a number of bits from 8 to 31", "24", "How long a prefix of IPv4 addresses is.");

pub(in crate::config) const PREFIX_IP6: Key =
    key("prefix_ip6", "a number of bits from 16 to 63", "48", "How long a prefix of IPv6 addresses is.");

pub(in crate::config) const MEMORY: Key = key(
    "memory",
    "a size from 64 KiB to 16 GiB, as \"64 MiB\"",
    r#""64 MiB""#,
    "How much memory the table of addresses takes, whether they come or not; it never grows. Each address takes 8 octets. \
     Under a flood of made-up addresses those stay in it that ask regularly.",
);

pub(in crate::config) const KISS: Key = key(
    "kiss",
    "a number of requests from 0 to 1000",
    "4",
    "One in so many requests over the limit, and none within a second of the last to that address, is answered with a \
     kiss of death (RATE, RFC 5905 section 7.4); the others get silence. 0: all do.",
);

pub(in crate::config) const KISSES_PER_SECOND: Key = key(
    "kisses_per_second",
    "a number of kisses a second from 1 to 10000",
    "1000",
    "How many kisses a second the whole server sends at most, RATE and DENY together.",
);

pub(in crate::config) const DRIVER: Key = key(
    "driver",
    "true or false",
    "true",
    "Whether the XDP program on the interfaces of server.interface drops what is denied, hopeless or far over its limit \
     before it reaches the server. What it drops is counted. It answers nobody itself.",
);
