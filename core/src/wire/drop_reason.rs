//! Why a packet gets no answer.

/// One line a reason, so that name, meaning, doc and count can't drift apart.
macro_rules! drop_reasons {
    ($($variant:ident $name:literal $meaning:literal,)+) => {
        /// Why a packet gets no answer: one variant for each distinct reason, one counter for each variant.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $meaning] $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The stable name, for counters and configuration.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }
        }
    };
}

drop_reasons! {
    TooShort "too-short" "The datagram is shorter than the 48 octets of an NTP header.",
    TooLong "too-long" "The datagram is longer than any request, above 1280 octets.",
    Unaligned "unaligned" "The datagram's length is no multiple of 4 octets.",
    Version "version" "The version is 0 or above 4.",
    ModeReserved "mode-reserved" "The mode is 0, which only NTPv1 clients on a port other than 123 may send.",
    ModeSymmetricPassive "mode-symmetric-passive" "The mode is 2, an answer to a peer.",
    ModeServer "mode-server" "The mode is 4, an answer to a client.",
    ModeBroadcast "mode-broadcast" "The mode is 5, which asks for nothing.",
    ModeControl "mode-control" "The mode is 6, control messages, which are never answered because they amplify.",
    ModePrivate "mode-private" "The mode is 7, ntpdc's private messages, which are never answered because they amplify.",
    NotUnicastDestination "not-unicast-destination" "The packet was sent to a broadcast, multicast or unspecified address.",
    BadSource "bad-source" "The source address is broadcast, multicast or unspecified, or in a frame loopback, reserved or the destination itself, or the source port is 0.",
    ReflectionLoop "reflection-loop" "The source is the very address and port that the packet was sent to.",
    UnknownKey "unknown-key" "The packet is authenticated with a symmetric key that this server doesn't have.",
    CryptoNak "crypto-nak" "The packet says that authentication failed, which is an answer and no request.",
    Mssntp "mssntp" "A Windows domain member asks for a signature, and there is no signing service.",
    NtsUnknownKey "nts-unknown-key" "The packet asks for Network Time Security, and there are no cookie keys.",
    BadExtensionField "bad-extension-field" "An NTPv4 extension field has a length that RFC 7822 doesn't allow.",
    BadMac "bad-mac" "What follows the header has the length of no message authentication code.",
    NotEthernetIp "not-ethernet-ip" "The frame carries no IP under at most two VLAN tags.",
    BadIpHeader "bad-ip-header" "The IP header's version isn't its Ethernet type's, or its length is below 20 octets.",
    IpOptions "ip-options" "The IPv4 header has options.",
    Fragment "fragment" "The packet is a fragment.",
    Ipv6Extension "ipv6-extension" "The IPv6 header is followed by an extension header.",
    BadIpChecksum "bad-ip-checksum" "The IPv4 header's checksum is wrong.",
    NotUdp "not-udp" "The packet is IP but not UDP.",
    Truncated "truncated" "A length field says more than there is, or less than its own header.",
    WrongPort "wrong-port" "The packet was sent to another port than the service's.",
    MissingUdpChecksum "missing-udp-checksum" "The UDP checksum is 0 over IPv6, where it is required.",
    BadUdpChecksum "bad-udp-checksum" "The UDP checksum is wrong.",
    RateLimited "rate-limited" "The address, or its IPv6 /64, asks more often than it may; a few of these are told so by a kiss and count under it.",
    PrefixLimited "prefix-limited" "Addresses of the prefix that aren't known as regulars ask more often than they may together.",
    StrangersLimited "strangers-limited" "The table has no place for the address, and those without one ask more often than they may together.",
    LimitContended "limit-contended" "Other workers changed the address's entry each time that this one tried to.",
    Denied "denied" "The access list denies the address.",
    BogonSource "bogon-source" "The address can be nobody's: reserved, for documentation or for loopback.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_differ() {
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            assert!(
                reason
                    .name()
                    .bytes()
                    .all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-')
            );
            assert!(DropReason::ALL.iter().skip(at + 1).all(|other| other.name() != reason.name()));
        }
    }

    #[test]
    fn every_meaning_is_a_sentence() {
        for reason in DropReason::ALL {
            assert!(reason.meaning().starts_with(|first: char| first.is_uppercase()), "{reason:?}");
            assert!(reason.meaning().ends_with('.'), "{reason:?}");
        }
    }
}
