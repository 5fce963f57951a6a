//! What nobody has to say: sources that can't be anybody's, and this machine's own.

use maser_core::limit::access::{Prefix, Standing};

/// Sources that no host on the Internet or in a private network has, by IANA's registries of special-purpose addresses
/// (RFC 6890) and of IPv6 address space. Private (RFC 1918, fc00::/7), shared (100.64.0.0/10), link-local and benchmarking
/// (198.18.0.0/15) addresses aren't here: one's own clients may have those.
const BOGONS: [&str; 20] = [
    // "This network": RFC 791.
    "0.0.0.0/8",
    // Documentation: RFC 5737.
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    // Multicast is never a source, and what is above is reserved (RFC 1112 §4).
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Unspecified, IPv4-compatible, IPv4-mapped and unassigned: all of ::/8 but 64::/16, where translators' prefixes lie, by
    // which servers of IPv6 see hosts of IPv4 (64:ff9b::/96, RFC 6052; 64:ff9b:1::/48, RFC 8215).
    "::/10",
    "40::/11",
    "60::/14",
    "65::/16",
    "66::/15",
    "68::/13",
    "70::/12",
    "80::/9",
    // Discard-only: RFC 6666.
    "100::/64",
    // Documentation: RFC 3849 and RFC 9637.
    "2001:db8::/32",
    "3fff::/20",
    // Segment identifiers, which are no hosts': RFC 9602.
    "5f00::/16",
    // Site-local, deprecated by RFC 3879.
    "fec0::/10",
    // Multicast.
    "ff00::/8",
];

/// This machine's own, over loopback, whom nobody limits. By a wire they can't come: the kernel drops them there, and
/// [`maser_core::wire::parse_frame`] refuses them.
const OWN: [&str; 2] = ["127.0.0.0/8", "::1"];

/// Every source there is.
const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Nobody.
pub(super) fn all_denied() -> impl Iterator<Item = (Prefix, Standing)> {
    of(&ALL, Standing::Denied)
}

/// This machine's own sources.
pub(super) fn own() -> impl Iterator<Item = (Prefix, Standing)> {
    of(&OWN, Standing::Exempt)
}

/// Sources that can't be anybody's.
pub(super) fn bogons() -> impl Iterator<Item = (Prefix, Standing)> {
    of(&BOGONS, Standing::Bogon)
}

fn of(texts: &'static [&str], standing: Standing) -> impl Iterator<Item = (Prefix, Standing)> {
    texts.iter().map(move |text| (text.parse().expect("the tables hold prefixes"), standing))
}
