//! Tests of the mixes against maser's own parser: what should be answered is, and what expects silence gets
//! it.

use super::*;
use crate::reply::{Content, Fault, check};
use maser_core::reply::{Verdict, decide, rewrite, stamp, transmit_after};
use maser_core::snapshot::ClockHeader;
use maser_core::time::{LeapIndicator, NtpShort, NtpTimestamp};
use maser_core::wire::{DropReason, Peer, Request, parse_datagram};
use std::collections::{BTreeMap, BTreeSet};

const REQUESTS: u64 = 20_000;
const SEED: u64 = 7;
const ARRIVAL: NtpTimestamp = NtpTimestamp::from_bits(0xEE00_0000_1234_5679);

fn mix(name: MixName) -> Mix {
    let key = (name == MixName::Mac).then(|| "7:SHA1:0123456789abcdef".parse().expect("a key"));
    Mix::new(name, 1000, 10_000.0, key, SEED).expect("a mix")
}

/// Number `number` of a mix, and what is expected of its reply.
fn request(mix: &Mix, number: u64) -> (Vec<u8>, Expectation) {
    let mut octets = [0xAA; LENGTH_MAX];
    let written = mix.write(number, stamps(number), Ask::Mix, &mut octets);
    (octets[..written.length].to_vec(), written.expectation)
}

fn cookie(number: u64) -> u64 {
    crate::cookie::Cookies::new(SEED).of(number)
}

fn stamps(number: u64) -> Stamps {
    Stamps { transmit: cookie(number << 1), receive: cookie(number << 1 | 1) }
}

fn parse(octets: &[u8]) -> Result<Request, DropReason> {
    let source = "198.18.0.1:40000".parse().expect("an address");
    let destination = "198.18.0.2:123".parse().expect("an address");
    parse_datagram(octets, &Peer { source, destination, unicast: true })
}

/// What maser answers.
fn reply(octets: &[u8], parsed: &Request) -> Vec<u8> {
    let clock = ClockHeader {
        leap: LeapIndicator::None,
        stratum: 1,
        precision: -24,
        root_delay: NtpShort::from_bits(0),
        root_dispersion: NtpShort::from_bits(1),
        reference_id: *b"PPS\0",
        reference_time: ARRIVAL,
    };
    let Verdict::Answer(reply) = decide(parsed, &clock, ARRIVAL) else { panic!("no answer") };
    let mut octets = octets.to_vec();
    let prepared = rewrite(&mut octets, parsed, &reply);
    stamp(&mut octets, &prepared, transmit_after(ARRIVAL, ARRIVAL));
    octets.truncate(prepared.length());
    octets
}

fn names() -> impl Iterator<Item = MixName> {
    MixName::value_variants().iter().copied()
}

/// Why maser refuses the requests of a mix.
fn refusals(name: MixName) -> BTreeSet<&'static str> {
    let mix = mix(name);
    (0..REQUESTS).filter_map(|number| parse(&request(&mix, number).0).err()).map(DropReason::name).collect()
}

#[test]
fn maser_answers_what_expects_an_answer_and_nothing_else() {
    for name in names().filter(|name| *name != MixName::Mac) {
        let mix = mix(name);
        for number in 0..REQUESTS {
            let (octets, expectation) = request(&mix, number);
            assert_eq!(usize::from(expectation.length), octets.len(), "{name:?} {number}");
            let parsed = parse(&octets);
            assert_eq!(
                parsed.is_err(),
                expectation.silence,
                "{name:?} {number}: {parsed:?} of {octets:02X?}"
            );
            let Ok(parsed) = parsed else { continue };
            assert_eq!(parsed.version as u8, expectation.version, "{name:?}");
            assert_eq!(parsed.transmit.bits(), stamps(number).transmit);
            let reply = reply(&octets, &parsed);
            let content = check(&reply, &expectation, false, None);
            assert!(matches!(content, Ok(Content::Time { receive: ARRIVAL, .. })), "{name:?}: {content:?}");
            assert_eq!(crate::reply::origin(&reply), Some(stamps(number).transmit));
        }
    }
}

#[test]
fn what_expects_silence_is_refused_for_what_it_is() {
    assert_eq!(refusals(MixName::Monlist), BTreeSet::from(["mode-control", "mode-private"]));
    assert_eq!(refusals(MixName::W32time), BTreeSet::from(["mssntp"]));
    assert_eq!(refusals(MixName::Mac), BTreeSet::from(["unknown-key"]));
    let garbage = refusals(MixName::Garbage);
    for reason in
        ["too-short", "unaligned", "version", "mode-server", "mode-control", "mode-symmetric-passive"]
    {
        assert!(garbage.contains(reason), "no {reason} in {garbage:?}");
    }
    let lengths: BTreeSet<usize> =
        (0..REQUESTS).map(|number| request(&mix(MixName::Garbage), number).0.len()).collect();
    assert_eq!((lengths.first(), lengths.last()), (Some(&0), Some(&LENGTH_MAX)));
}

#[test]
fn a_mix_repeats_itself_by_its_seed() {
    for name in names() {
        let (first, second) = (mix(name), mix(name));
        for number in [0, 1, 63, 64, 1_000_003] {
            assert_eq!(request(&first, number), request(&second, number), "{name:?}");
        }
    }
    let other = Mix::new(MixName::Garbage, 1, 1.0, None, SEED + 1).expect("a mix");
    assert_ne!(request(&other, 0).0, request(&mix(MixName::Garbage), 0).0);
}

#[test]
fn first_octets_come_in_the_shares_that_the_help_names() {
    let shares = |name| {
        let mix = mix(name);
        let mut shares = BTreeMap::new();
        for number in 0..64 {
            let (octets, _) = request(&mix, number);
            *shares.entry((octets[0], octets.len())).or_insert(0) += 1;
        }
        shares
    };
    let phones_and_ntpd_starting = 5 + 2;
    assert_eq!(
        shares(MixName::Pool),
        BTreeMap::from([
            ((0x23, 48), 16 + 10 + 10 + 5),
            ((0x1B, 48), 8 + 1),
            ((0xDB, 48), 2 + 2),
            ((0xE3, 48), 2 + phones_and_ntpd_starting),
            ((0xD9, 48), 1),
        ])
    );
    let w32time = shares(MixName::W32time);
    let of_length =
        |length| w32time.iter().filter(|(kind, _)| kind.1 == length).map(|(_, count)| count).sum::<u32>();
    assert_eq!((of_length(48), of_length(68), of_length(120)), (48, 14, 2));
    let sntp: Vec<u8> = shares(MixName::Sntp).into_keys().map(|(first_octet, _)| first_octet).collect();
    assert_eq!(sntp, [0x08, 0x13, 0x1B, 0x23, 0xDB, 0xE3]);
}

#[test]
fn a_burst_is_eight_requests_of_each_client_two_seconds_apart() {
    let (clients, rate_per_s) = (1000, 100.0);
    let mix = Mix::new(MixName::Iburst, clients, rate_per_s, None, SEED).expect("a mix");
    let mut sent: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for number in 0..8 * u64::from(clients) {
        sent.entry(mix.client(number)).or_default().push(number);
    }
    assert_eq!(sent.len(), 1000);
    for (client, numbers) in sent {
        assert_eq!(numbers.len(), 8, "{client}");
        assert!(numbers.windows(2).all(|pair| pair[1] - pair[0] == 200), "{client}: {numbers:?}");
    }
    assert_eq!(mix.client(8000), 0);
    assert_eq!(Mix::new(MixName::Iburst, 3, 0.01, None, SEED).expect("a mix").cohort, 1);
    assert_eq!(Mix::new(MixName::Iburst, 3, 1e12, None, SEED).expect("a mix").cohort, 3);
}

#[test]
fn clients_come_in_turn_but_for_floods() {
    let of = |name, number| mix(name).client(number);
    assert_eq!([0, 1, 999, 1000, 1001].map(|number| of(MixName::Spoofed, number)), [0, 1, 999, 0, 1]);
    assert_eq!([0, 1, 999, u64::MAX].map(|number| of(MixName::Flood, number)), [0; 4]);
    let all = Mix::new(MixName::Spoofed, u32::MAX, 1.0, None, SEED).expect("a mix");
    assert_eq!(all.client(u64::from(u32::MAX) - 1), u32::MAX - 1);
}

#[test]
fn an_interleaved_request_names_the_exchange_before_whatever_the_mix_is() {
    for mix in names().map(mix) {
        let mut octets = [0; LENGTH_MAX];
        let mut asked = |ask| {
            let written = mix.write(6, stamps(6), ask, &mut octets);
            let header = octets.first_chunk::<48>().expect("a header").to_vec();
            assert_eq!(mix.key().is_none(), written.length == 48);
            (parse(&header).expect("a request"), written.expectation)
        };
        let (basic, expectation) = asked(Ask::Basic);
        assert_eq!((basic.origin.bits(), basic.receive.bits()), (0, 0));
        assert!(!expectation.interleaved && !expectation.silence);
        let (interleaved, expectation) = asked(Ask::Interleaved { server_receive: 11 });
        assert_eq!((interleaved.origin.bits(), interleaved.receive.bits()), (11, stamps(6).receive));
        assert_eq!(interleaved.transmit.bits(), stamps(6).transmit);
        assert!(expectation.interleaved && !expectation.silence);
    }
}

/// Else a server that answered them interleaved would go unnoticed.
#[test]
fn basic_requests_that_have_a_receive_timestamp_have_their_own() {
    let mix = mix(MixName::Ntpv4);
    let receives: BTreeSet<u64> =
        (0..64).map(|number| parse(&request(&mix, number).0).expect("a request").receive.bits()).collect();
    assert!(receives.len() > 10 && receives.contains(&0), "{receives:?}");
    assert!((0..64).all(|number| !request(&mix, number).1.interleaved));
}

#[test]
fn signed_requests_verify_and_unsigned_replies_to_them_do_not() {
    for (key, length) in
        [("7:MD5:00ff", 68), ("8:sha1:00ff", 72), ("9:AES128:000102030405060708090a0b0c0d0e0f", 68)]
    {
        let mix = Mix::new(MixName::Mac, 1, 1.0, Some(key.parse().expect("a key")), SEED).expect("a mix");
        let (mut octets, expectation) = request(&mix, 3);
        assert_eq!((octets.len(), expectation.mac, usize::from(expectation.length)), (length, true, length));
        assert!(mix.key().expect("a key").verify(&octets));
        assert_eq!(parse(&octets[..48]).map(|parsed| parsed.transmit.bits()), Ok(stamps(3).transmit));
        // As a server with the key would answer: time first, then the digest of it.
        octets[0] = 0x24;
        octets[1] = 1;
        octets[32..48].fill(1);
        let judge = |octets: &[u8]| check(octets, &expectation, false, mix.key());
        assert_eq!(judge(&octets), Err(Fault::Mac), "the digest of the request");
        mix.key().expect("a key").sign(&mut octets, 48);
        assert!(judge(&octets).is_ok());
        assert_eq!(judge(&octets[..48]), Err(Fault::Mac), "no digest");
        assert_eq!(judge(&[&octets[..48], &[0; 4]].concat()), Err(Fault::CryptoNak));
        *octets.last_mut().expect("octets") ^= 1;
        assert_eq!(judge(&octets), Err(Fault::Mac));
    }
}

#[test]
fn a_sender_in_the_kernel_gets_every_request_of_the_mixes_that_it_can_send() {
    let sendable: Vec<&str> =
        names().filter(|name| mix(*name).live_variants().is_some()).map(MixName::name).collect();
    assert_eq!(sendable, ["sntp", "ntpv4", "symmetric", "phone", "pool", "flood", "spoofed"]);
    for mix in names().map(mix) {
        let Some(heads) = mix.live_variants() else { continue };
        assert!((1..=VARIANTS_MAX).contains(&heads.len()));
        for (number, head) in (0..).zip(&heads) {
            let (octets, expectation) = request(&mix, number);
            // A sender in the kernel has no receive timestamps to fill in.
            assert_eq!(octets[..RECEIVE.start], head[..RECEIVE.start]);
            assert_eq!(octets[RECEIVE] == [0; 8], head[RECEIVE] == [0; 8]);
            assert_eq!(expectation, Expectation::of_answered(head[0], 48));
        }
    }
}

#[test]
fn what_is_no_mix_says_so() {
    let key: Option<Key> = "7:MD5:00".parse().ok();
    let error = |name, clients, rate, key| Mix::new(name, clients, rate, key, 0).err();
    assert_eq!(error(MixName::Mac, 1, 1.0, None), Some(MixError::KeyMissing));
    assert_eq!(error(MixName::Pool, 1, 1.0, key), Some(MixError::KeyUnused("pool")));
    assert_eq!(error(MixName::Pool, 0, 1.0, None), Some(MixError::NoClients));
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(error(MixName::Pool, 1, rate, None), Some(MixError::Rate));
    }
}

#[test]
fn names_are_those_of_the_command_line() {
    for name in names() {
        let value = name.to_possible_value().expect("no hidden mix");
        assert_eq!(value.get_name(), name.name());
        assert!(value.get_help().is_some_and(|help| help.to_string().len() > 20), "{name:?}");
    }
}
