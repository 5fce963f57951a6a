//! What a valid reply is: the rules of RFC 5905 and RFC 9769 as a client checks them, and a name for each
//! breach.
//!
//! Whose reply it is, the ledger tells by the origin; here only the octets are judged. Nothing here keeps
//! state.

use crate::key::Key;
use maser_core::time::NtpTimestamp;
use maser_core::wire::ntp::LENGTH as HEADER_LENGTH;

/// One line a fault, so that number, name and meaning can't drift apart.
macro_rules! faults {
    ($($variant:ident $name:literal $meaning:literal,)+) => {
        /// What is wrong with a reply: one counter for each variant.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(usize)]
        pub enum Fault {
            $(#[doc = $meaning] $variant,)+
        }

        /// Every fault and its meaning, in the order of their numbers.
        pub const FAULTS: [(Fault, &str); [$($name),+].len()] = [$((Fault::$variant, $meaning)),+];

        impl Fault {
            /// The stable name, for counters and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

faults! {
    Sender "sender" "It came from another address or port than the one that was asked.",
    Length "length" "It is shorter than a header, longer than its request, or no multiple of 4 octets.",
    Origin "origin" "Its origin timestamp is no request's transmit timestamp.",
    Version "version" "Its version isn't the request's.",
    Mode "mode" "Its mode isn't the one that answers the request's.",
    Leap "leap" "Its leap indicator says unsynchronised, though its stratum is that of a set clock.",
    Stratum "stratum" "Its stratum is above 15, or 0 without the leap indicator that says why.",
    Unsynchronised "unsynchronised" "The server says that its clock isn't set: stratum 0 and no kiss.",
    ZeroTimestamp "zero-timestamp" "Its receive or transmit timestamp is 0, which means unknown.",
    TransmitBeforeReceive "transmit-before-receive" "It says that it left before its request arrived; if interleaved, that the reply before it did.",
    TransmitAfterReceive "transmit-after-receive" "It is interleaved, and its transmit timestamp isn't of the past.",
    Interleaved "interleaved" "It is interleaved, and its request asked for basic mode.",
    Mac "mac" "Its request was signed, and it isn't, or not with this key, or the signature is wrong.",
    CryptoNak "crypto-nak" "The server can't check the request's signature: it doesn't have this key.",
    Checksum "checksum" "Its UDP or IP checksum is wrong.",
    Unexpected "unexpected" "It answers what no server should answer.",
}

/// Why a server won't tell the time (RFC 5905 §7.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum Kiss {
    /// The client asks too often.
    Rate,
    /// The client isn't served at all.
    Deny,
    /// The client isn't served by policy.
    Rstr,
    /// Any other code of the registry, and codes of experiments, which begin with X.
    Other,
}

impl Kiss {
    /// Every kiss, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [Self::Rate, Self::Deny, Self::Rstr, Self::Other];
    /// How many there are.
    pub const COUNT: usize = 4;

    /// The code as it travels; that of no other kind is `other`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Rate => "RATE",
            Self::Deny => "DENY",
            Self::Rstr => "RSTR",
            Self::Other => "other",
        }
    }

    /// By a reference id at stratum 0. INIT and STEP are in RFC 5905's table, too, but a server says them of
    /// its own clock and not to a client: they are no kisses.
    const fn from_reference_id(id: [u8; 4]) -> Option<Self> {
        match &id {
            b"RATE" => Some(Self::Rate),
            b"DENY" => Some(Self::Deny),
            b"RSTR" => Some(Self::Rstr),
            b"ACST"
            | b"AUTH"
            | b"AUTO"
            | b"BCST"
            | b"CRYP"
            | b"DROP"
            | b"MCST"
            | b"NKEY"
            | b"NTSN"
            | b"RMOT"
            | [b'X', ..] => Some(Self::Other),
            _ => None,
        }
    }
}

/// What a reply must be like, by its request. A million of them are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expectation {
    /// The request's version.
    pub version: u8,
    /// The mode that answers the request's: 4, or 2 after 1.
    pub mode: u8,
    /// No server should reply.
    pub silence: bool,
    /// The request was signed, and so must the reply be.
    pub mac: bool,
    /// The request asked for interleaved mode; the reply may be basic all the same.
    pub interleaved: bool,
    /// The request's length in octets: a reply is never longer.
    pub length: u16,
}

const _: () = assert!(size_of::<Expectation>() <= 8, "a million expectations fit 8 MB");

impl Expectation {
    /// Of a plain request of `length` octets that starts with `first_octet` and should be answered.
    #[must_use]
    pub const fn of_answered(first_octet: u8, length: u16) -> Self {
        let mode = if first_octet & 7 == 1 { 2 } else { 4 };
        let version = (first_octet >> 3) & 7;
        Self { version, mode, silence: false, mac: false, interleaved: false, length }
    }

    /// Of a request that no server should answer.
    #[must_use]
    pub const fn of_silence(length: u16) -> Self {
        Self { version: 0, mode: 0, silence: true, mac: false, interleaved: false, length }
    }
}

/// What a valid reply says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// The time.
    Time {
        /// When the request arrived, by the server's clock.
        receive: NtpTimestamp,
        /// When the reply left, by the server's clock; if interleaved, when the reply before did.
        transmit: NtpTimestamp,
    },
    /// That it won't tell.
    Kiss(Kiss),
}

/// A reply's origin timestamp, which names its request; none where it is too short.
#[inline]
#[must_use]
pub fn origin(payload: &[u8]) -> Option<u64> {
    payload.first_chunk::<HEADER_LENGTH>().map(|header| word(header, ORIGIN))
}

/// The transmit timestamp, by which a request, or an echo of it, is known; none where it is too short.
#[inline]
#[must_use]
pub fn transmit(payload: &[u8]) -> Option<u64> {
    payload.first_chunk::<HEADER_LENGTH>().map(|header| word(header, TRANSMIT))
}

/// Checks a reply to a request that expects `expectation`; `interleaved` if the reply's origin is the
/// request's receive timestamp (RFC 9769 §2). `key` is the one that the mix signs with.
///
/// # Errors
/// The first rule that the reply breaks.
///
/// # Panics
/// If the request was signed and `key` is missing.
pub fn check(
    payload: &[u8],
    expectation: &Expectation,
    interleaved: bool,
    key: Option<&Key>,
) -> Result<Content, Fault> {
    if expectation.silence {
        return Err(Fault::Unexpected);
    }
    let header = payload.first_chunk::<HEADER_LENGTH>().ok_or(Fault::Length)?;
    if payload.len() > usize::from(expectation.length) || !payload.len().is_multiple_of(4) {
        return Err(Fault::Length);
    }
    if (header[FIRST] >> 3) & 7 != expectation.version {
        return Err(Fault::Version);
    }
    if header[FIRST] & 7 != expectation.mode {
        return Err(Fault::Mode);
    }
    if expectation.mac {
        check_mac(payload, key.expect("a mix that signs has a key"))?;
    }
    if interleaved && !expectation.interleaved {
        return Err(Fault::Interleaved);
    }
    check_header(header, interleaved)
}

/// Checks a reply of a server that only sends back what it gets: its length.
///
/// # Errors
/// [`Fault::Length`].
pub fn check_echo(payload: &[u8], expectation: &Expectation) -> Result<(), Fault> {
    if payload.len() == usize::from(expectation.length) { Ok(()) } else { Err(Fault::Length) }
}

const FIRST: usize = 0;
const STRATUM: usize = 1;
const REFERENCE_ID: usize = 12;
const ORIGIN: usize = 24;
const RECEIVE: usize = 32;
const TRANSMIT: usize = 40;
/// The highest stratum of a synchronised server.
const STRATUM_MAX: u8 = 15;
const LEAP_UNSYNCHRONISED: u8 = 3;

#[inline]
fn word(header: &[u8; HEADER_LENGTH], at: usize) -> u64 {
    u64::from_be_bytes(header[at..at + 8].try_into().expect("eight octets"))
}

fn check_mac(payload: &[u8], key: &Key) -> Result<(), Fault> {
    if payload[HEADER_LENGTH..] == [0; 4] {
        Err(Fault::CryptoNak)
    } else if key.verify(payload) {
        Ok(())
    } else {
        Err(Fault::Mac)
    }
}

/// Stratum, leap indicator and timestamps.
fn check_header(header: &[u8; HEADER_LENGTH], interleaved: bool) -> Result<Content, Fault> {
    let unsynchronised = header[FIRST] >> 6 == LEAP_UNSYNCHRONISED;
    match header[STRATUM] {
        0 => {
            let id = header[REFERENCE_ID..REFERENCE_ID + 4].try_into().expect("four octets");
            return match Kiss::from_reference_id(id) {
                Some(kiss) => Ok(Content::Kiss(kiss)),
                None if unsynchronised => Err(Fault::Unsynchronised),
                None => Err(Fault::Stratum),
            };
        }
        1..=STRATUM_MAX if unsynchronised => return Err(Fault::Leap),
        1..=STRATUM_MAX => {}
        _ => return Err(Fault::Stratum),
    }
    let (receive, transmit) = (word(header, RECEIVE), word(header, TRANSMIT));
    if receive == 0 || transmit == 0 {
        return Err(Fault::ZeroTimestamp);
    }
    let (receive, transmit) = (NtpTimestamp::from_bits(receive), NtpTimestamp::from_bits(transmit));
    let turnaround = transmit.since(receive).raw();
    if interleaved && turnaround > 0 {
        Err(Fault::TransmitAfterReceive)
    } else if !interleaved && turnaround < 0 {
        Err(Fault::TransmitBeforeReceive)
    } else {
        Ok(Content::Time { receive, transmit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Expectation = Expectation::of_answered(0x23, 48);
    const RECEIVE_BITS: u64 = 0xEE00_0000_8000_0001;

    /// A valid reply to [`PLAIN`] with some octets written over it.
    fn reply(at: usize, octets: &[u8]) -> Vec<u8> {
        let mut reply = vec![0; 48];
        reply[..2].copy_from_slice(&[0x24, 1]);
        reply[12..15].copy_from_slice(b"PPS");
        reply[24..32].fill(7);
        reply[32..40].copy_from_slice(&RECEIVE_BITS.to_be_bytes());
        reply[40..48].copy_from_slice(&(RECEIVE_BITS + 1).to_be_bytes());
        reply[at..at + octets.len()].copy_from_slice(octets);
        reply
    }

    fn fault(at: usize, octets: &[u8]) -> Option<Fault> {
        check(&reply(at, octets), &PLAIN, false, None).err()
    }

    #[test]
    fn names_are_kebab_case_and_meanings_are_sentences() {
        for (at, (fault, meaning)) in FAULTS.into_iter().enumerate() {
            assert_eq!(fault as usize, at);
            assert!(
                fault.name().bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-'),
                "{fault:?}"
            );
            assert!(FAULTS[at + 1..].iter().all(|(other, _)| other.name() != fault.name()), "{fault:?}");
            assert!(meaning.starts_with("It") || meaning.starts_with("The"), "{fault:?}");
            assert!(meaning.ends_with('.'), "{fault:?}");
        }
        assert!(Kiss::ALL.iter().enumerate().all(|(at, kiss)| *kiss as usize == at));
    }

    #[test]
    fn a_valid_reply_tells_the_time() {
        let (receive, transmit) =
            (NtpTimestamp::from_bits(RECEIVE_BITS), NtpTimestamp::from_bits(RECEIVE_BITS + 1));
        assert_eq!(check(&reply(0, &[]), &PLAIN, false, None), Ok(Content::Time { receive, transmit }));
        assert_eq!(origin(&reply(0, &[])), Some(0x0707_0707_0707_0707));
        assert_eq!(origin(&reply(0, &[])[..47]), None);
    }

    #[test]
    fn each_rule_has_its_fault() {
        assert_eq!(fault(0, &[0x1C]), Some(Fault::Version));
        assert_eq!(fault(0, &[0x23]), Some(Fault::Mode));
        assert_eq!(fault(0, &[0x22]), Some(Fault::Mode));
        assert_eq!(fault(0, &[0xE4]), Some(Fault::Leap));
        assert_eq!(fault(0, &[0x64]), None, "a leap second is to come");
        assert_eq!(fault(0, &[0x24, 0]), Some(Fault::Stratum));
        assert_eq!(fault(0, &[0x24, 15]), None);
        assert_eq!(fault(0, &[0x24, 16]), Some(Fault::Stratum));
        assert_eq!(fault(0, &[0xE4, 0]), Some(Fault::Unsynchronised));
        assert_eq!(fault(32, &[0; 8]), Some(Fault::ZeroTimestamp));
        assert_eq!(fault(40, &[0; 8]), Some(Fault::ZeroTimestamp));
        assert_eq!(fault(40, &(RECEIVE_BITS - 1).to_be_bytes()), Some(Fault::TransmitBeforeReceive));
        assert_eq!(fault(40, &RECEIVE_BITS.to_be_bytes()), None);
    }

    #[test]
    fn timestamps_are_compared_across_an_era() {
        let mut reply = reply(32, &u64::MAX.to_be_bytes());
        reply[40..48].copy_from_slice(&1_u64.to_be_bytes());
        assert!(check(&reply, &PLAIN, false, None).is_ok());
        reply[32..40].copy_from_slice(&1_u64.to_be_bytes());
        reply[40..48].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(check(&reply, &PLAIN, false, None), Err(Fault::TransmitBeforeReceive));
    }

    #[test]
    fn an_interleaved_transmit_timestamp_is_of_the_past() {
        let asked = Expectation { interleaved: true, ..PLAIN };
        let judge = |transmit: u64| check(&reply(40, &transmit.to_be_bytes()), &asked, true, None).err();
        assert_eq!(judge(RECEIVE_BITS - 1), None);
        assert_eq!(judge(RECEIVE_BITS + 1), Some(Fault::TransmitAfterReceive));
        assert_eq!(judge(0), Some(Fault::ZeroTimestamp));
        let past = reply(40, &(RECEIVE_BITS - 1).to_be_bytes());
        assert_eq!(check(&past, &PLAIN, true, None), Err(Fault::Interleaved), "nobody asked for it");
        assert!(check(&reply(0, &[]), &asked, false, None).is_ok(), "a basic reply is always right");
    }

    #[test]
    fn a_reply_is_as_long_as_a_header_and_no_longer_than_its_request() {
        let judge = |length: usize, longest: u16| {
            let mut octets = reply(0, &[]);
            octets.resize(length, 0);
            check(&octets, &Expectation { length: longest, ..PLAIN }, false, None).err()
        };
        assert_eq!([judge(0, 48), judge(47, 48), judge(52, 48), judge(49, 68)], [Some(Fault::Length); 4]);
        assert_eq!([judge(48, 48), judge(48, 68), judge(68, 68)], [None; 3]);
    }

    #[test]
    fn kisses_are_told_from_clocks_that_are_not_set() {
        let kiss = |code: &[u8; 4]| {
            let mut octets = reply(12, code);
            octets[..2].copy_from_slice(&[0xE4, 0]);
            octets[32..48].fill(0);
            check(&octets, &PLAIN, false, None)
        };
        for (code, wanted) in [
            (b"RATE", Kiss::Rate),
            (b"DENY", Kiss::Deny),
            (b"RSTR", Kiss::Rstr),
            (b"NTSN", Kiss::Other),
            (b"XXYZ", Kiss::Other),
        ] {
            assert_eq!(kiss(code), Ok(Content::Kiss(wanted)));
            assert!(wanted == Kiss::Other || wanted.code().as_bytes() == code);
        }
        for code in [b"INIT", b"STEP", b"PPS\0", b"\0\0\0\0", b"\x7F\x7F\x01\x01"] {
            assert_eq!(kiss(code), Err(Fault::Unsynchronised), "{code:?}");
        }
    }

    #[test]
    fn a_peer_is_answered_in_mode_2() {
        let peer = Expectation::of_answered(0x21, 48);
        assert!(check(&reply(0, &[0x22]), &peer, false, None).is_ok());
        assert_eq!(check(&reply(0, &[0x24]), &peer, false, None), Err(Fault::Mode));
    }

    #[test]
    fn any_reply_to_what_expects_silence_is_a_fault() {
        let silence = Expectation::of_silence(12);
        assert_eq!(check(&reply(0, &[]), &silence, false, None), Err(Fault::Unexpected));
        assert_eq!(check(&[], &silence, false, None), Err(Fault::Unexpected));
    }

    #[test]
    fn an_echo_is_as_long_as_what_was_sent() {
        assert_eq!(check_echo(&[0; 48], &PLAIN), Ok(()));
        assert_eq!(check_echo(&[0; 47], &PLAIN), Err(Fault::Length));
    }
}
