//! The kinds of requests, as their octets without the transmit timestamp.
//!
//! A mix is a list of up to 64 of them, which come in turn: a variant that is listed three times has three
//! shares. The seed shuffles the list. What needs more than a filled-in timestamp, the mix adds.

use super::{MixName, RECEIVE, VARIANTS_MAX};
use crate::cookie::scramble;
use crate::reply::Expectation;
use maser_core::wire::ntp::LENGTH as HEADER_LENGTH;

/// The longest variant: W32Time's extended authenticator behind a header.
const LENGTH_MAX: usize = HEADER_LENGTH + 72;

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    octets: [u8; LENGTH_MAX],
    length: u16,
    silence: bool,
}

impl Variant {
    /// A header alone, whose first 16 octets are these words: first octet, stratum, poll and precision; root
    /// delay; root dispersion; reference id.
    const fn header(words: [u32; 4]) -> Self {
        let mut octets = [0; LENGTH_MAX];
        let mut at = 0;
        while at < 16 {
            octets[at] = words[at / 4].to_be_bytes()[at % 4];
            at += 1;
        }
        Self { octets, length: 48, silence: false }
    }

    /// A client that sends zeros but for its first octet.
    const fn simple(first_octet: u8) -> Self {
        Self::header([u32::from_be_bytes([first_octet, 0, 0, 0]), 0, 0, 0])
    }

    /// With reference, origin and receive timestamps, as a clock that is synchronised has them. Nobody should
    /// read them, so chance will do.
    fn with_timestamps(mut self, random: u64) -> Self {
        for (at, chunk) in (1..).zip(self.octets[16..40].chunks_mut(8)) {
            chunk.copy_from_slice(&scramble(random.wrapping_add(at)).to_be_bytes());
        }
        self
    }

    /// W32Time asks for a signature of a domain's key; `length` is that of the authenticator (\[MS-SNTP\]
    /// §2.2).
    const fn with_empty_signature(mut self, length: u16) -> Self {
        self.octets[HEADER_LENGTH] = 0x51;
        self.octets[HEADER_LENGTH + 1] = 0x04;
        self.length += length;
        self.silence = true;
        self
    }

    /// A probe of mode 6 or 7: its first 12 octets, and its whole length.
    const fn probe(words: [u32; 3], length: u16) -> Self {
        let mut probe = Self::header([words[0], words[1], words[2], 0]);
        probe.length = length;
        probe.silence = true;
        probe
    }

    /// The request as it is before its transmit timestamp is filled in.
    #[inline]
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }

    /// Whether it has a receive timestamp, as an interleaved request has and simple ones haven't.
    #[inline]
    pub(super) fn has_receive(&self) -> bool {
        self.length >= 48 && self.octets[RECEIVE].iter().any(|octet| *octet != 0)
    }

    /// What its reply must be like.
    #[inline]
    pub(super) const fn expectation(&self) -> Expectation {
        if self.silence {
            Expectation::of_silence(self.length)
        } else {
            Expectation::of_answered(self.octets[0], self.length)
        }
    }
}

/// The reference id of a program that has none yet.
const INIT: u32 = u32::from_be_bytes(*b"INIT");
/// A server in the network that is for documentation.
const REFERENCE_ID: u32 = u32::from_be_bytes([192, 0, 2, 123]);

/// chronyd tells nothing but its poll interval; its precision is always 32.
pub(super) const CHRONYD: [Variant; 3] = [
    Variant::header([0x2300_0620, 0, 0, 0]),
    Variant::header([0x2300_0820, 0, 0, 0]),
    Variant::header([0x2300_0A20, 0, 0, 0]),
];
/// ntpd as it starts.
const NTPD_STARTING: Variant = Variant::header([0xE300_06E9, 0, 0x0000_0050, INIT]);
/// ntpd once it is synchronised, at poll intervals of 64 s and 1024 s; it has timestamps.
const NTPD: [Variant; 2] = [
    Variant::header([0x2302_06E9, 0x0000_0A3D, 0x0000_0C8B, REFERENCE_ID]),
    Variant::header([0x2303_0AE9, 0x0000_1EB8, 0x0000_2F1B, REFERENCE_ID]),
];
/// Root delay and dispersion of 1.0 s, poll 4, precision −6: what small programs have copied from each other
/// for decades.
const PHONES: [Variant; 2] = [
    Variant::header([0xE300_04FA, 0x0001_0000, 0x0001_0000, 0]),
    Variant::header([0x2300_04FA, 0x0001_0000, 0x0001_0000, 0]),
];
/// W32Time as it starts, and once it is synchronised, as a client.
const W32TIME: [Variant; 2] = [
    Variant::header([0xDB00_11E9, 0, 0x0001_0290, 0]),
    Variant::header([0x1B03_0FE9, 0x0000_0C00, 0x0000_4A00, REFERENCE_ID]),
];
/// W32Time as a peer.
const W32TIME_PEER: [Variant; 2] = [
    Variant::header([0xD900_11E9, 0, 0x0001_0290, 0]),
    Variant::header([0x1903_0FE9, 0x0000_0C00, 0x0000_4A00, REFERENCE_ID]),
];
/// Peers of versions 4, 3 and 2.
const PEERS: [Variant; 4] = [
    Variant::header([0x2102_06E9, 0x0000_0A3D, 0x0000_0C8B, REFERENCE_ID]),
    Variant::header([0xE100_06E9, 0, 0x0000_0050, INIT]),
    Variant::header([0x1902_06E9, 0x0000_0A3D, 0x0000_0C8B, REFERENCE_ID]),
    Variant::header([0x1102_06E9, 0x0000_0A3D, 0x0000_0C8B, REFERENCE_ID]),
];
/// ntpdc's monlist (version 2, mode 7, implementation 3, request 42) bare and padded, and ntpq's readvar
/// (mode 6, operation 2) in versions 2 to 4.
const PROBES: [Variant; 5] = [
    Variant::probe([0x1700_032A, 0, 0], 8),
    Variant::probe([0x1700_032A, 0, 0], 48),
    Variant::probe([0x1602_0001, 0, 0], 12),
    Variant::probe([0x1E02_0001, 0, 0], 12),
    Variant::probe([0x2602_0001, 0, 0], 12),
];

/// The variants of a mix, as often as they have shares, in the order in which they are sent; none for
/// garbage.
pub(super) fn of(name: MixName, seed: u64) -> Vec<Variant> {
    let mut variants: Vec<Variant> = shares(name, seed)
        .into_iter()
        .flat_map(|(shares, variant)| std::iter::repeat_n(variant, shares))
        .collect();
    assert!(variants.len() <= VARIANTS_MAX, "a mix has at most {VARIANTS_MAX} shares");
    // The shuffle of Fisher and Yates.
    for last in (1..variants.len()).rev() {
        let places = last as u64 + 1;
        let other = scramble(seed.wrapping_add(places)) % places;
        variants.swap(last, usize::try_from(other).expect("below VARIANTS_MAX"));
    }
    variants
}

/// The variants of a mix, and how many shares each has.
fn shares(name: MixName, seed: u64) -> Vec<(usize, Variant)> {
    let each = |shares: usize, variants: &[Variant]| -> Vec<_> {
        variants.iter().map(|variant| (shares, *variant)).collect()
    };
    let ntpd = |shares| each(shares, &NTPD.map(|variant| variant.with_timestamps(seed)));
    let simple = |shares, first_octet| vec![(shares, Variant::simple(first_octet))];
    match name {
        MixName::Sntp => each(1, &[0x08, 0x13, 0x1B, 0x23, 0xDB, 0xE3].map(Variant::simple)),
        MixName::Ntpv4 | MixName::Iburst => [each(2, &CHRONYD), ntpd(2), each(2, &[NTPD_STARTING])].concat(),
        MixName::Mac => each(1, &CHRONYD),
        MixName::W32time => [
            each(18, &W32TIME),
            each(6, &W32TIME_PEER),
            each(5, &W32TIME.map(|variant| variant.with_empty_signature(20))),
            each(2, &W32TIME_PEER.map(|variant| variant.with_empty_signature(20))),
            each(1, &W32TIME.map(|variant| variant.with_empty_signature(72))),
        ]
        .concat(),
        MixName::Symmetric => each(1, &PEERS),
        MixName::Phone => each(1, &PHONES),
        // simple clients 28, ntpd 12, chronyd 10, phones 10, Windows 3, peers 1
        MixName::Pool => [
            simple(16, 0x23),
            simple(8, 0x1B),
            simple(2, 0xDB),
            simple(2, 0xE3),
            ntpd(5),
            each(2, &[NTPD_STARTING]),
            each(3, &CHRONYD[..2]),
            each(4, &CHRONYD[2..]),
            each(5, &PHONES),
            each(2, &W32TIME[..1]),
            each(1, &W32TIME[1..]),
            each(1, &W32TIME_PEER[..1]),
        ]
        .concat(),
        MixName::Flood | MixName::Spoofed => simple(1, 0x23),
        MixName::Monlist => each(1, &PROBES),
        MixName::Garbage => Vec::new(),
    }
}
