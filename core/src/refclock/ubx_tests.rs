//! Frames of u-blox's descriptions and of real receivers, broken ones, and any octets.

use super::*;
use crate::refclock::calendar::{CivilTime, Date, TimeOfDay};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn decode(octets: &[u8]) -> Vec<Result<UbxMessage, UbxFault>> {
    let mut ubx = Ubx::new();
    octets.iter().filter_map(|octet| ubx.push(*octet)).collect()
}
/// A frame with this payload.
fn frame(class: u8, id: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_le_bytes();
    let summed = [&[class, id], length.as_slice(), payload].concat();
    [SYNC.as_slice(), &summed, &ubx_checksum(&summed)].concat()
}
/// 2016-12-31 23:59:60 less 700 µs, time fully resolved, fix 3D and good, 17 satellites, 21 ns.
fn nav_pvt() -> [u8; 92] {
    let mut payload = [0; 92];
    payload[4..11].copy_from_slice(&[0xE0, 0x07, 12, 31, 23, 59, 60]);
    payload[11] = 0x37;
    payload[12] = 21;
    payload[16..20].copy_from_slice(&(-700_000_i32).to_le_bytes());
    payload[20..24].copy_from_slice(&[3, 1, 0xEA, 17]);
    payload
}

#[test]
fn golden_frames() {
    let ack = [0xB5, 0x62, 0x05, 0x01, 0x02, 0x00, 0x06, 0x01, 0x0F, 0x38];
    assert_eq!(decode(&ack), [Ok(UbxMessage::Ack { class: 6, id: 1 })]);
    assert_eq!(decode(&frame(5, 0, &[6, 0x8A])), [Ok(UbxMessage::Nak { class: 6, id: 0x8A })]);
    let poll = [0xB5, 0x62, 0x01, 0x07, 0x00, 0x00, 0x08, 0x19];
    assert_eq!(decode(&poll), [Ok(UbxMessage::Other { class: 1, id: 7 })], "an echo of a poll");
}

#[test]
fn a_receivers_leap_seconds() {
    // A LEA-M8T's of 2023-07-28, 607 days after the eve that its satellites' eight bits of a week make of
    // 2016's.
    let payload = [
        0xE8, 0x93, 0x40, 0x1B, 0, 0, 0, 0, 0x02, 0x12, 0x02, 0x00, 0x11, 0x5F, 0xDF, 0xFC, 0x89, 0x08, 0x07,
        0x00, 0, 0, 0, 0x03,
    ];
    let next = NextLeap { change_s: 0, seconds_to_event: -((607 * 24 + 6) * 3_600 + 59 * 60 + 59) };
    let expected = NavTimeLs { current_s: Some(18), source: LeapSource::Satellites, next: Some(next) };
    assert_eq!(decode(&frame(0x01, 0x26, &payload)), [Ok(UbxMessage::NavTimeLs(expected))]);
    let with = |at: usize, value: u8| {
        let mut payload = payload;
        payload[at] = value;
        match decode(&frame(0x01, 0x26, &payload))[..] {
            [Ok(UbxMessage::NavTimeLs(leap))] => leap,
            ref other => panic!("{other:?}"),
        }
    };
    assert_eq!(with(23, 2).current_s, None);
    assert_eq!(with(23, 1).next, None);
    assert_eq!(with(10, 0).next, None, "nothing is known without a source");
    assert_eq!(with(11, 0xFF).next.map(|next| next.change_s), Some(-1));
    for (source, expected) in [
        (0, LeapSource::Firmware),
        (5, LeapSource::Satellites),
        (6, LeapSource::Told),
        (255, LeapSource::Unknown),
    ] {
        assert_eq!(with(8, source).source, expected);
    }
}

#[test]
fn a_solution_in_a_leap_second() {
    let expected = NavPvt {
        utc: Some(Instant::from_unix(1_483_228_799, 0) - Span::from_nanos(700_000)),
        accuracy: Span::from_nanos(21),
        fix_ok: true,
        fix: Fix::ThreeD,
        satellites: 17,
    };
    for length in [84, 92] {
        assert_eq!(decode(&frame(1, 7, &nav_pvt()[..length])), [Ok(UbxMessage::NavPvt(expected))]);
    }
    for missing in [1, 2, 4] {
        let mut payload = nav_pvt();
        payload[11] ^= missing;
        let [Ok(UbxMessage::NavPvt(solution))] = decode(&frame(1, 7, &payload))[..] else {
            panic!("{missing}")
        };
        assert_eq!(solution, NavPvt { utc: None, ..expected }, "not resolved");
    }
    for (fix, expected) in
        [(0, Fix::None), (1, Fix::None), (2, Fix::TwoD), (4, Fix::ThreeD), (5, Fix::TimeOnly)]
    {
        let mut payload = nav_pvt();
        payload[20] = fix;
        let [Ok(UbxMessage::NavPvt(solution))] = decode(&frame(1, 7, &payload))[..] else { panic!("{fix}") };
        assert_eq!(solution.fix, expected);
    }
    let mut payload = nav_pvt();
    payload[7] = 30;
    assert_eq!(
        decode(&frame(1, 7, &payload)),
        [Err(UbxFault::Date)],
        "no leap second ends the 30th of December"
    );
}

#[test]
fn the_next_pulse() {
    let mut payload = [0; 16];
    payload[..4].copy_from_slice(&457_200_000_u32.to_le_bytes());
    payload[4..8].copy_from_slice(&0x8000_0000_u32.to_le_bytes());
    payload[8..12].copy_from_slice(&(-7_431_i32).to_le_bytes());
    payload[12..14].copy_from_slice(&2_185_u16.to_le_bytes());
    let read = |flags: u8, reference: u8| {
        payload[14..].copy_from_slice(&[flags, reference]);
        match decode(&frame(0x0D, 1, &payload))[..] {
            [Ok(UbxMessage::TimTp(pulse))] => pulse,
            ref other => panic!("{other:?}"),
        }
    };
    let mut read = read;
    let expected = TimTp {
        week: 2_185,
        tow_ms: 457_200_000,
        tow_sub_ms: 0x8000_0000,
        quantisation_ps: Some(-7_431),
        base: TimeBase::Utc,
    };
    assert_eq!(read(0b0_0011, 0x30), expected);
    assert_eq!(read(0b1_0011, 0x30).quantisation_ps, None);
    assert_eq!(read(0b0_0001, 0x30).base, TimeBase::UtcUnknown);
    assert_eq!(read(0b0_0010, 0x30).base, TimeBase::Gps);
    assert_eq!(read(0b0_0010, 0x32).base, TimeBase::Other, "BeiDou's time");
}

#[test]
fn a_broken_frame_is_reported_once_and_the_next_is_read() {
    let good = frame(5, 1, &[6, 1]);
    let read = Ok(UbxMessage::Ack { class: 6, id: 1 });
    let mut wrong = frame(0x0A, 4, b"ROM");
    *wrong.last_mut().unwrap() ^= 1;
    let sum = ubx_checksum(&wrong[2..9]);
    let broken = [
        (wrong, UbxFault::Checksum { found: [sum[0], sum[1] ^ 1], expected: sum }),
        (vec![0xB5, 0x62, 1, 7, 0x01, 0x10], UbxFault::TooLong(4_097)),
        (frame(1, 7, &[0; 83]), UbxFault::TooShort { class: 1, id: 7 }),
        (frame(1, 0x26, &[0; 23]), UbxFault::TooShort { class: 1, id: 0x26 }),
        (frame(0x0D, 1, &[0; 15]), UbxFault::TooShort { class: 0x0D, id: 1 }),
        (frame(5, 0, &[1]), UbxFault::TooShort { class: 5, id: 0 }),
    ];
    for (octets, fault) in broken {
        let stream = [b"\xB5noise\xB5\xB5".as_slice(), &octets[1..], &good].concat();
        assert_eq!(decode(&stream), [Err(fault), read]);
    }
}

#[test]
fn the_longest_frame_is_summed_and_not_kept() {
    let long = frame(2, 0x15, &[0x5A; PAYLOAD_OCTETS_MAX]);
    let mut ubx = Ubx::new();
    let reported: Vec<_> = long.iter().filter_map(|octet| ubx.push(*octet)).collect();
    assert_eq!(reported, [Ok(UbxMessage::Other { class: 2, id: 0x15 })]);
    assert_eq!(ubx.octets(), long.len());
    assert!(size_of::<Ubx>() <= 80);
}

#[test]
fn the_configuration_is_three_messages_on_any_port() {
    let commands: Vec<_> = ubx_configuration().collect();
    assert_eq!(commands.len(), 12);
    let nav_pvt = [0xB5, 0x62, 0x06, 0x01, 0x03, 0x00, 0x01, 0x07, 0x01, 0x13, 0x51];
    assert_eq!(commands[0].as_octets(), nav_pvt);
    let by_key = [
        0xB5, 0x62, 0x06, 0x8A, 0x09, 0x00, 0x00, 0x01, 0x00, 0x00, 0x07, 0x00, 0x91, 0x20, 0x01, 0x53, 0x48,
    ];
    assert_eq!(commands[3].as_octets(), by_key);
    for (at, command) in commands.iter().enumerate() {
        let id = if at < 3 { 0x01 } else { 0x8A };
        assert_eq!(decode(command.as_octets()), [Ok(UbxMessage::Other { class: 6, id })]);
    }
    let keys: Vec<_> = commands[3..].iter().map(|command| command.as_octets()[10..12].to_vec()).collect();
    assert_eq!(keys.concat(), [7, 0, 8, 0, 9, 0, 0x61, 0, 0x62, 0, 0x63, 0, 0x7E, 1, 0x7F, 1, 0x80, 1]);
}

/// Pieces of frames and noise: put together they reach what random octets never would.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let identity =
        prop_oneof![Just((1, 7)), Just((1, 0x26)), Just((0x0D, 1)), Just((5, 1)), any::<(u8, u8)>()];
    let payload = proptest::collection::vec(any::<u8>(), 0..100);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        (identity, payload).prop_map(|((class, id), payload)| frame(class, id, &payload)),
        Just(SYNC.to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_valid_moment_is_read_as_it_was_written(unix_s in 0_i64..4_000_000_000, nanos in -1_000_000_000_i32..1_000_000_000) {
        let civil = CivilTime::of(Instant::from_unix(unix_s, 0)).unwrap();
        let (Date { year, month, day }, TimeOfDay { seconds, .. }) = (civil.date, civil.time);
        let year = u16::try_from(year).unwrap().to_le_bytes();
        let part = |value: u32| u8::try_from(value).unwrap();
        let mut payload = nav_pvt();
        payload[4..6].copy_from_slice(&year);
        let clock = [part(seconds / 3_600), part(seconds / 60 % 60), part(seconds % 60)];
        payload[6..11].copy_from_slice(&[[month, day].as_slice(), &clock].concat());
        payload[16..20].copy_from_slice(&nanos.to_le_bytes());
        let [Ok(UbxMessage::NavPvt(solution))] = decode(&frame(1, 7, &payload))[..] else { panic!() };
        let expected = Instant::from_unix(unix_s, 0) + Span::from_nanos(nanos.into());
        prop_assert_eq!(solution.utc, Some(expected));
    }

    #[test]
    fn no_more_is_reported_than_was_begun(pieces in proptest::collection::vec(piece(), 0..12)) {
        let stream = pieces.concat();
        let begun = stream.windows(2).filter(|pair| **pair == SYNC).count();
        prop_assert!(decode(&stream).len() <= begun);
    }

    #[test]
    fn a_frame_is_read_again_after_any_false_start(start in proptest::collection::vec(any::<u8>(), 0..12)) {
        // However long the frame is that the start seems to begin, it ends within the longest.
        let good = frame(5, 1, &[6, 1]);
        let stream = [start, vec![0; PAYLOAD_OCTETS_MAX + FRAMING_OCTETS], good].concat();
        prop_assert_eq!(decode(&stream).last().copied(), Some(Ok(UbxMessage::Ack { class: 6, id: 1 })));
    }

    #[test]
    fn one_flipped_bit_is_never_read(bit in 0_usize..8, at in 0_usize..100) {
        let mut octets = frame(1, 7, &nav_pvt());
        octets[at] ^= 1 << bit;
        prop_assert!(decode(&octets).iter().all(Result::is_err));
    }
}
