//! The simulated clients' addresses and ports, and which of them interleave.
//!
//! With a prefix, each client has an address of its own, one after the other; without, all share the one that
//! the kernel gives and differ by port. A server answers to these addresses, so only such are taken as belong
//! to nobody on the Internet: see [`target`](crate::target). Nothing here opens a socket.

use crate::cookie::scramble;
use crate::target::is_private;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The first port that a client sends from (RFC 6335 §6): those below are for services, 123 among them.
const PORT_MIN: u16 = 1024;

/// A network: its first address, and how many bits all its addresses share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    network: IpAddr,
    length: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PrefixError {
    /// No address, or no length.
    #[error("a prefix is a network's address, a slash and a number of bits, as in 198.18.0.0/15")]
    Form,
    /// More bits than an address has.
    #[error("an address of this kind has {0} bits: the number behind the slash is 0 to {0}")]
    Length(u8),
    /// The address is of a host in it.
    #[error("the address is of a host inside {0}: write that, or make the number behind the slash larger")]
    HostBits(Prefix),
}

/// Why there can't be these clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClientsError {
    /// Replies would go to strangers.
    #[error(
        "{0} isn't a private, documentation or benchmarking network, and replies would go to strangers: \
         take a part of 198.18.0.0/15 or of 2001:2::/48"
    )]
    Public(Prefix),
    /// Too many clients for the prefix.
    #[error(
        "{prefix} has room for {capacity} clients, not for {count}: take a shorter prefix or fewer clients"
    )]
    TooMany {
        /// The prefix.
        prefix: Prefix,
        /// How many clients it has room for.
        capacity: u128,
        /// How many were asked for.
        count: u32,
    },
    /// Nobody to send.
    #[error("at least one client has to send")]
    None,
}

impl Prefix {
    /// The network of `length` bits that `address` belongs to.
    pub(crate) const fn around(address: IpAddr, length: u8) -> Self {
        let network = match address {
            IpAddr::V4(address) => {
                let host_bits = Ipv4Addr::BITS - length as u32;
                let network = (address.to_bits() as u64 >> host_bits) << host_bits;
                let [_, _, _, _, a, b, c, d] = network.to_be_bytes();
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            IpAddr::V6(address) => {
                let network = match Ipv6Addr::BITS - length as u32 {
                    Ipv6Addr::BITS => 0,
                    host_bits => (address.to_bits() >> host_bits) << host_bits,
                };
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        };
        Self { network, length }
    }

    /// An IPv4 network; bits of `octets` beyond the first `length` don't count.
    pub(crate) const fn v4(octets: [u8; 4], length: u8) -> Self {
        let [a, b, c, d] = octets;
        Self::around(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length)
    }

    /// An IPv6 network, by its first 48 bits; bits beyond the first `length` don't count.
    pub(crate) const fn v6(segments: [u16; 3], length: u8) -> Self {
        let [a, b, c] = segments;
        Self::around(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), length)
    }

    /// Whether an address belongs to it.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && Self::around(address, self.length) == *self
    }

    /// Whether all addresses of `other` belong to it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.length >= self.length && self.contains(other.network)
    }

    /// How many addresses a client can have. IPv4's first and last are the network's and broadcast, but for
    /// those of 31 and 32 bits (RFC 3021); IPv6's first is the routers' (RFC 4291 §2.6.1), but for those of
    /// 127 and 128 bits (RFC 6164).
    pub fn capacity(&self) -> u128 {
        let addresses = 1_u128.checked_shl(self.host_bits()).unwrap_or(u128::MAX);
        let kept_free = match (self.network, self.host_bits()) {
            (_, 0 | 1) => 0,
            (IpAddr::V4(_), _) => 2,
            (IpAddr::V6(_), _) => 1,
        };
        addresses - kept_free
    }

    /// The word that tells clients apart where a client of IPv6 is a /64, of the first, and how many there can be: IPv4's
    /// address, of IPv6 bits 32 to 63. None of an IPv6 network that isn't 32 to 64 bits long.
    pub(crate) fn client_words(&self) -> Option<(u32, u64)> {
        match self.first() {
            IpAddr::V4(first) => Some((first.to_bits(), u64::try_from(self.capacity()).ok()?)),
            IpAddr::V6(first) => {
                let [_, _, _, _, a, b, c, d, ..] = first.octets();
                (32..=64)
                    .contains(&self.length)
                    .then(|| (u32::from_be_bytes([a, b, c, d]), 1 << (64 - self.length)))
            }
        }
    }

    /// The address of the client with this word.
    pub(crate) fn with_client_word(&self, word: u32) -> IpAddr {
        match self.first() {
            IpAddr::V4(_) => Ipv4Addr::from_bits(word).into(),
            IpAddr::V6(first) => {
                let kept = first.to_bits() & !(u128::from(u32::MAX) << 64);
                Ipv6Addr::from_bits(kept | u128::from(word) << 64).into()
            }
        }
    }

    /// Whether it is of an address's family.
    pub(crate) const fn contains_family(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4()
    }

    fn host_bits(&self) -> u32 {
        u32::from(bits(self.network) - self.length)
    }

    /// The address of the first client.
    fn first(&self) -> IpAddr {
        offset(self.network, u32::from(self.host_bits() > 1))
    }
}

/// How many bits an address of this kind has.
const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address that is so many after `first`; the caller knows that it is of the same network.
#[inline]
fn offset(first: IpAddr, by: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(by)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(u128::from(by))).into(),
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = text.split_once('/').ok_or(PrefixError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Form)?;
        let length: u8 = length.parse().map_err(|_| PrefixError::Form)?;
        if length > bits(address) {
            return Err(PrefixError::Length(bits(address)));
        }
        let prefix = Self::around(address, length);
        if prefix.network == address { Ok(prefix) } else { Err(PrefixError::HostBits(prefix)) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.length)
    }
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clients {
    first: Option<IpAddr>,
    count: u32,
    interleaving: u32,
}

impl Clients {
    /// `count` clients with addresses of `prefix`, or with the kernel's one.
    ///
    /// # Errors
    /// [`ClientsError`].
    pub fn new(prefix: Option<Prefix>, count: u32) -> Result<Self, ClientsError> {
        if count == 0 {
            return Err(ClientsError::None);
        }
        if let Some(prefix) = prefix {
            if !is_private(&prefix) {
                return Err(ClientsError::Public(prefix));
            }
            let capacity = prefix.capacity();
            if u128::from(count) > capacity {
                return Err(ClientsError::TooMany { prefix, capacity, count });
            }
        }
        Ok(Self { first: prefix.map(|prefix| prefix.first()), count, interleaving: 0 })
    }

    /// The same, of whom this share interleaves; at least one, unless the share is 0.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float conversions saturate")]
    pub fn with_interleaving(self, share: f64) -> Self {
        let interleaving = (f64::from(self.count) * share).round() as u32;
        Self { interleaving: interleaving.clamp(u32::from(share > 0.0), self.count), ..self }
    }

    /// How many of them interleave.
    #[must_use]
    pub const fn interleaving(&self) -> u32 {
        self.interleaving
    }

    /// The place of a client among those that interleave, who are spread evenly over all; none if it doesn't.
    #[inline]
    #[must_use]
    pub fn interleaving_place(&self, client: u32) -> Option<u32> {
        if self.interleaving == 0 {
            return None;
        }
        let (share, all) = (u64::from(self.interleaving), u64::from(self.count));
        let scaled = u64::from(client) * share;
        // Below its own count where the scaled number has just passed a multiple of all.
        (scaled % all < share)
            .then(|| u32::try_from(scaled / all).expect("below the number that interleaves"))
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The first client's address, which those of the others follow without a gap; none where the kernel
    /// chooses.
    #[must_use]
    pub const fn first(&self) -> Option<IpAddr> {
        self.first
    }

    /// The address of a client, counted from 0; none where the kernel chooses.
    #[inline]
    #[must_use]
    pub fn address(&self, client: u32) -> Option<IpAddr> {
        debug_assert!(client < self.count, "client {client} of {}", self.count);
        self.first.map(|first| offset(first, client))
    }

    /// Whether an address is a client's; any is where the kernel chooses.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let count = u128::from(self.count);
        match (self.first, address) {
            (None, _) => true,
            (Some(IpAddr::V4(first)), IpAddr::V4(address)) => {
                u128::from(address.to_bits().wrapping_sub(first.to_bits())) < count
            }
            (Some(IpAddr::V6(first)), IpAddr::V6(address)) => {
                address.to_bits().wrapping_sub(first.to_bits()) < count
            }
            _ => false,
        }
    }

    /// The port that a request leaves from: another one each time, as RFC 9109 asks of clients.
    #[inline]
    #[must_use]
    pub fn port(&self, number: u64) -> u16 {
        let ports = u64::from(u16::MAX - PORT_MIN) + 1;
        // The upper 32 bits as a fraction of all ports.
        let port = u64::from(PORT_MIN) + (((scramble(number) >> 32) * ports) >> 32);
        u16::try_from(port).expect("at most 65535")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    fn ends(text: &str, count: u32) -> Result<[String; 2], ClientsError> {
        let clients = Clients::new(Some(prefix(text)), count)?;
        assert_eq!(clients.first(), clients.address(0));
        Ok([0, count - 1].map(|client| clients.address(client).expect("an address").to_string()))
    }

    #[test]
    fn clients_fill_their_prefix_but_for_its_reserved_addresses() {
        for (text, count, first, last) in [
            ("198.18.0.0/15", 131_070, "198.18.0.1", "198.19.255.254"),
            ("10.0.0.0/8", 16_777_214, "10.0.0.1", "10.255.255.254"),
            ("192.0.2.4/30", 2, "192.0.2.5", "192.0.2.6"),
            ("192.0.2.4/31", 2, "192.0.2.4", "192.0.2.5"),
            ("192.0.2.4/32", 1, "192.0.2.4", "192.0.2.4"),
            ("2001:2::/48", u32::MAX, "2001:2::1", "2001:2::ffff:ffff"),
            ("fd00::/126", 3, "fd00::1", "fd00::3"),
            ("fd00::/127", 2, "fd00::", "fd00::1"),
            ("::1/128", 1, "::1", "::1"),
        ] {
            assert_eq!(ends(text, count), Ok([first.to_owned(), last.to_owned()]), "{text}");
            if let Some(more) = count.checked_add(1) {
                let capacity = u128::from(count);
                let error = ClientsError::TooMany { prefix: prefix(text), capacity, count: more };
                assert_eq!(ends(text, more), Err(error), "{text}");
            }
        }
    }

    #[test]
    fn a_client_of_ipv6_is_a_64() {
        for (text, first, count, last) in [
            ("10.0.0.0/8", "10.0.0.1", 16_777_214_u64, "10.255.255.254"),
            ("fd00:1::/33", "fd00:1::1", 1 << 31, "fd00:1:7fff:ffff::1"),
            ("fd00:1:ffff::/48", "fd00:1:ffff::1", 1 << 16, "fd00:1:ffff:ffff::1"),
        ] {
            let (word, capacity) = prefix(text).client_words().expect("long enough");
            let address = |number| prefix(text).with_client_word(word + number).to_string();
            let last_number = u32::try_from(count - 1).expect("32 bits");
            assert_eq!(
                (capacity, address(0), address(last_number)),
                (count, first.to_owned(), last.to_owned())
            );
        }
        assert_eq!((prefix("fd00::/31").client_words(), prefix("fd00::/65").client_words()), (None, None));
    }

    #[test]
    fn replies_never_go_to_strangers() {
        for text in
            ["0.0.0.0/0", "8.8.8.0/24", "198.16.0.0/14", "192.0.0.0/8", "::/0", "2001:2::/47", "2000::/3"]
        {
            assert_eq!(ends(text, 1), Err(ClientsError::Public(prefix(text))), "{text}");
        }
    }

    #[test]
    fn what_is_no_prefix_says_why() {
        for text in
            ["", "10.0.0.0", "10.0.0/8", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1", "10.0.0.0/8/9", "host/8"]
        {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError::Form), "{text}");
        }
        assert_eq!("10.0.0.0/33".parse::<Prefix>(), Err(PrefixError::Length(32)));
        assert_eq!("fd00::/129".parse::<Prefix>(), Err(PrefixError::Length(128)));
        let error = "198.18.0.1/15".parse::<Prefix>().expect_err("a host's address");
        assert!(error.to_string().contains(" 198.18.0.0/15:"), "{error}");
    }

    #[test]
    fn those_that_interleave_are_the_share_and_spread_evenly() {
        for (count, share, wanted) in [
            (10, 0.0, 0),
            (10, 0.3, 3),
            (10, 1.0, 10),
            (7, 0.5, 4),
            (100_000, 1e-9, 1),
            (u32::MAX, 1.0, u32::MAX),
        ] {
            let clients = Clients::new(None, count).expect("clients").with_interleaving(share);
            assert_eq!(clients.interleaving(), wanted, "{share} of {count}");
            let places: Vec<u32> =
                (0..count.min(100_000)).filter_map(|client| clients.interleaving_place(client)).collect();
            assert!(places.iter().copied().eq(0..wanted.min(100_000)), "{share} of {count}: {places:?}");
        }
        let clients = Clients::new(None, 10).expect("clients").with_interleaving(0.5);
        let which: Vec<u32> =
            (0..10).filter(|client| clients.interleaving_place(*client).is_some()).collect();
        assert_eq!(which, [0, 2, 4, 6, 8]);
    }

    #[test]
    fn without_a_prefix_the_kernel_chooses() {
        let clients = Clients::new(None, 1_000_000).expect("clients");
        assert_eq!((clients.first(), clients.address(999_999), clients.count()), (None, None, 1_000_000));
        assert_eq!(Clients::new(None, 0), Err(ClientsError::None));
    }

    #[test]
    fn ports_are_all_those_that_clients_have_and_evenly_so() {
        let clients = Clients::new(None, 1).expect("a client");
        let mut counts = vec![0_u32; 1 << 16];
        for number in 0..64 * 64_512 {
            counts[usize::from(clients.port(number))] += 1;
        }
        let (services, ports) = counts.split_at(1024);
        assert!(services.iter().all(|count| *count == 0));
        // 64 each on average, with a standard deviation of 8: six of them either way.
        assert!(ports.iter().all(|count| (16..=112).contains(count)), "{:?}", ports.iter().max());
    }
}
