//! What the program did with a frame, and why.

/// One line a reason, so that name, meaning, doc and count can't drift apart.
macro_rules! reasons {
    ($($variant:ident $name:literal $meaning:literal,)+) => {
        /// What the program counts a frame as: the first of these that holds, in the order of the headers. All but the
        /// first, and those called dropped, went on to the kernel. `xdp/redirect.bpf.c` has the same names in the same order.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The stable name, for counters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Whether the program dropped the frame.
            #[must_use]
            pub const fn is_drop(self) -> bool {
                matches!(
                    self,
                    Self::DroppedShort
                        | Self::DroppedVersion
                        | Self::DroppedMode
                        | Self::DroppedDenied
                        | Self::DroppedBogon
                        | Self::DroppedLimited
                        | Self::DroppedOverload
                )
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

reasons! {
    Steered "steered" "The program handed the frame to the AF_XDP socket of its queue; what was dropped behind it is in the queue's events.",
    Truncated "truncated" "A length field says more than there is, or less than its own header.",
    Group "group" "The frame was sent to a group of stations: broadcast or multicast, as ARP and neighbour discovery are.",
    AnotherStation "another-station" "The frame was sent to a hardware address that isn't this interface's.",
    Tags "tags" "The frame has more than two VLAN tags.",
    Vlan "vlan" "The frame is of a VLAN that this machine doesn't have on this interface.",
    NotIp "not-ip" "The frame carries no IP.",
    BadIpHeader "bad-ip-header" "The IP header's version isn't its Ethernet type's, or its length is below 20 octets.",
    Ip4Options "ip4-options" "The IPv4 header has options.",
    Fragment "fragment" "The packet is a fragment.",
    Ip6Extension "ip6-extension" "The IPv6 header is followed by an extension header.",
    NotUdp "not-udp" "The packet is IP but not UDP.",
    NotServed "not-served" "The datagram was sent to an address or port that isn't served.",
    PartialChecksum "partial-checksum" "The UDP checksum covers the pseudo-header only: a sender on the same host left the rest to a NIC.",
    TooLong "too-long" "The frame is longer than any that carries a request.",
    DroppedShort "dropped-short" "Dropped in the driver: the datagram is shorter than the 48 octets of an NTP header.",
    DroppedVersion "dropped-version" "Dropped in the driver: the version is 0 or above 4.",
    DroppedMode "dropped-mode" "Dropped in the driver: the mode is none that is answered.",
    DroppedDenied "dropped-denied" "Dropped in the driver: the source is denied.",
    DroppedBogon "dropped-bogon" "Dropped in the driver: the source is nobody's address.",
    DroppedLimited "dropped-limited" "Dropped in the driver: the address is over its limit.",
    DroppedOverload "dropped-overload" "Dropped in the driver: there was more than could be answered, and others came first.",
    NoSocket "no-socket" "No AF_XDP socket takes the frames of this queue.",
    NoRoom "no-room" "There is no room right in front of the frame to say when it came.",
}

/// Reasons: the words of `struct counts`.
pub(super) const REASONS: usize = Reason::ALL.len();

/// How many frames there were for each reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct XdpReasons(pub(super) [u64; REASONS]);

impl XdpReasons {
    /// The frames of one reason.
    #[must_use]
    pub const fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its frames.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names between `enum reason {` and `REASONS`.
    fn names_of(source: &str) -> Vec<String> {
        let (_, names) = source.split_once("enum reason {").unwrap();
        let (names, _) = names.split_once("REASONS").unwrap();
        names.split(',').map(|name| name.trim().to_lowercase().replace('_', "-")).collect()
    }

    #[test]
    fn the_program_has_the_same_reasons_in_the_same_order() {
        let source = include_str!("../../../xdp/redirect.bpf.c");
        let ours = || Reason::ALL.map(|reason| reason.name().to_owned()).into_iter().chain([String::new()]);
        assert_eq!(names_of(source), ours().collect::<Vec<_>>());
        // Two that changed places are found.
        let swapped = source
            .replacen("\tVLAN,", "\tX,", 1)
            .replacen("\tTAGS,", "\tVLAN,", 1)
            .replacen("\tX,", "\tTAGS,", 1);
        assert_ne!(names_of(&swapped), ours().collect::<Vec<_>>());
    }

    #[test]
    fn every_meaning_is_a_sentence() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            assert!(reason.meaning().starts_with(|first: char| first.is_uppercase()), "{reason:?}");
            assert!(reason.meaning().ends_with('.'), "{reason:?}");
        }
    }
}
