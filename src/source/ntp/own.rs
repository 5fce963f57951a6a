//! What an upstream that follows us says of its reference: the ids of this machine's addresses.

use crate::hands::Hands;
use maser_core::upstream::OWN_REFERENCE_IDS_MAX;
use md5::{Digest, Md5};
use std::net::IpAddr;

/// A server as others name it when they follow it (RFC 5905 §7.3): its IPv4 address, or the first octets of the MD5 of
/// its IPv6 address.
pub(crate) fn reference_id(server: IpAddr) -> [u8; 4] {
    match server {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = <[u8; 16]>::from(Md5::digest(address.octets()));
            [a, b, c, d]
        }
    }
}

/// The ids of the addresses that others can know us by: the one that the upstream is asked from, and those that are
/// listened on, for a wildcard those that the interfaces have now. What there is no room for isn't noticed.
pub(super) fn own_reference_ids(
    asked_from: IpAddr,
    listen: &[IpAddr],
    hands: &Hands,
) -> [[u8; 4]; OWN_REFERENCE_IDS_MAX] {
    let any = listen.iter().any(IpAddr::is_unspecified);
    ids(asked_from, listen, if any { hands.own_addresses() } else { Vec::new() })
}

fn ids(asked_from: IpAddr, listen: &[IpAddr], interfaces: Vec<IpAddr>) -> [[u8; 4]; OWN_REFERENCE_IDS_MAX] {
    let is_listened_on = |address: &IpAddr| {
        listen.iter().any(|any| any.is_unspecified() && any.is_ipv4() == address.is_ipv4())
    };
    let listened_on = listen.iter().copied().chain(interfaces.into_iter().filter(is_listened_on));
    // Every machine has the loopback addresses: an upstream elsewhere that names them means itself.
    let listened_on = listened_on.filter(|address| !address.is_loopback());
    let known = [asked_from].into_iter().chain(listened_on).filter(|address| !address.is_unspecified());
    let mut ids = [[0; 4]; OWN_REFERENCE_IDS_MAX];
    for (id, address) in ids.iter_mut().zip(known) {
        *id = reference_id(address);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(asked_from: &str, listen: &[&str], interfaces: &[&str]) -> Vec<[u8; 4]> {
        let parse = |text: &&str| text.parse().unwrap();
        let (listen, interfaces): (Vec<IpAddr>, _) = (
            listen.iter().map(parse).collect(),
            interfaces.iter().map(|text| text.parse().unwrap()).collect(),
        );
        let ids = ids(asked_from.parse().unwrap(), &listen, interfaces);
        ids.into_iter().take_while(|id| *id != [0; 4]).collect()
    }

    #[test]
    fn a_server_is_named_by_its_address() {
        assert_eq!(reference_id("192.0.2.1".parse().unwrap()), [192, 0, 2, 1]);
        // The first octets of the MD5 of 2001:db8::1, from another program.
        assert_eq!(reference_id("2001:db8::1".parse().unwrap()), [57, 171, 155, 55]);
    }

    #[test]
    fn what_is_listened_on_is_ours() {
        let interfaces = ["127.0.0.1", "192.0.2.7", "198.51.100.7", "::1", "2001:db8::1"];
        let hash = [57, 171, 155, 55];
        let (route, other) = ([192, 0, 2, 7], [198, 51, 100, 7]);
        assert_eq!(used("192.0.2.7", &[], &interfaces), [route]);
        assert_eq!(used("2001:db8::1", &[], &interfaces), [hash]);
        assert_eq!(used("192.0.2.7", &["198.51.100.7", "2001:db8::1"], &[]), [route, other, hash]);
        assert_eq!(used("192.0.2.7", &["0.0.0.0"], &interfaces), [route, route, other]);
        assert_eq!(used("192.0.2.7", &["::"], &interfaces), [route, hash]);
        // A loopback address is ours only for who is asked over it.
        assert_eq!(used("127.0.0.1", &["127.0.0.1"], &[]), [[127, 0, 0, 1]]);
        assert_eq!(used("0.0.0.0", &["127.0.0.1", "::1"], &[]), [[0; 4]; 0]);
    }
}
