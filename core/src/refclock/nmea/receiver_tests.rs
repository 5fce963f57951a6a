//! Bursts of sentences, whole and with gaps.

use super::*;
use std::vec::Vec;

fn utc(second: i64) -> Instant<Utc> {
    Instant::from_unix(1_795_320_000 + second, 0)
}
fn rmc(second: i64, valid: bool) -> NmeaMessage {
    NmeaMessage::Rmc { utc: Some(utc(second)), valid }
}
fn zda(second: i64) -> NmeaMessage {
    NmeaMessage::Zda { utc: Some(utc(second)) }
}
fn gga(quality: u8) -> NmeaMessage {
    NmeaMessage::Gga { time_of_day: None, quality, satellites: 7 }
}
/// The seconds named, each with the place of its message in the stream.
fn named(receiver: &mut NmeaReceiver, messages: &[NmeaMessage]) -> Vec<(u64, i64)> {
    (0..)
        .zip(messages)
        .filter_map(|(place, message)| receiver.take(message, Ticks::from_bits(place)))
        .map(|sentence| (sentence.at.bits(), sentence.utc.unix_seconds() - 1_795_320_000))
        .collect()
}

#[test]
fn the_first_of_a_burst_names_its_second() {
    let burst = |second| [rmc(second, true), gga(1), zda(second)];
    let messages = [burst(0), burst(1), burst(2)].concat();
    assert_eq!(named(&mut NmeaReceiver::new(), &messages), [(0, 0), (3, 1), (6, 2)]);
    let unknown = NmeaMessage::Rmc { utc: None, valid: false };
    let again = [rmc(0, true), unknown, rmc(0, true)];
    assert_eq!(named(&mut NmeaReceiver::new(), &again), [(0, 0)], "the same second is no news");
}

#[test]
fn a_receiver_joined_within_a_burst_changes_over_once() {
    let burst = |second| [rmc(second, true), zda(second)];
    let messages = [[zda(-1)].as_slice(), &burst(0), &burst(1), &burst(2), &burst(3), &burst(4)].concat();
    let places = [(0, -1), (2, 0), (4, 1), (5, 2), (7, 3), (9, 4)];
    assert_eq!(named(&mut NmeaReceiver::new(), &messages), places);
}

#[test]
fn a_lost_sentence_is_not_replaced_by_another_that_comes_later() {
    let messages = [rmc(0, true), zda(0), zda(1), rmc(2, true), zda(2), zda(3), rmc(4, true), zda(4), zda(5)];
    assert_eq!(named(&mut NmeaReceiver::new(), &messages), [(0, 0), (3, 2), (6, 4)]);
}

#[test]
fn the_other_takes_over_for_one_that_stays_away() {
    let messages = [rmc(0, true), zda(0), zda(1), zda(2), zda(3), zda(4)];
    assert_eq!(named(&mut NmeaReceiver::new(), &messages), [(0, 0), (4, 3), (5, 4)]);
}

#[test]
fn several_solutions_a_second_are_one() {
    let tenth = |tenth: i64| NmeaMessage::Rmc {
        utc: Some(Instant::from_unix_nanos(tenth * 100_000_000)),
        valid: true,
    };
    let messages: Vec<_> = (0..30).map(tenth).collect();
    let mut receiver = NmeaReceiver::new();
    let told: Vec<_> =
        messages.iter().filter_map(|message| receiver.take(message, Ticks::from_bits(0))).collect();
    assert_eq!(
        told.iter().map(|sentence| sentence.utc).collect::<Vec<_>>(),
        [0, 1, 2].map(|s| Instant::from_unix(s, 0))
    );
}

#[test]
fn a_date_is_as_valid_as_the_fix_that_was_said_shortly_before() {
    let valid = |receiver: &mut NmeaReceiver, second| {
        receiver.take(&zda(second), Ticks::from_bits(0)).map(|sentence| sentence.valid)
    };
    let mut receiver = NmeaReceiver::new();
    assert_eq!(valid(&mut receiver, 0), Some(false), "nothing vouches for it");
    for (second, word, expected) in [
        (1, gga(1), true),
        (2, gga(6), false),
        (3, NmeaMessage::Gsa { fix: Fix::TwoD }, true),
        (4, gga(0), false),
        (5, NmeaMessage::Rmc { utc: None, valid: true }, true),
        (6, NmeaMessage::Gsa { fix: Fix::None }, false),
    ] {
        assert_eq!(receiver.take(&word, Ticks::from_bits(0)), None);
        assert_eq!(valid(&mut receiver, second), Some(expected), "{word:?}");
    }
    receiver.take(&gga(1), Ticks::from_bits(0));
    let held = (10..30).filter(|second| valid(&mut receiver, *second) == Some(true)).count();
    assert_eq!(held, usize::from(FIX_HOLDS_ZDA_MAX), "then the word is too old");
}

#[test]
fn the_status_adds_up_the_systems() {
    let mut receiver = NmeaReceiver::new();
    assert_eq!(receiver.status(), ReceiverStatus::default());
    let gsv = |talker: &[u8; 2], in_view| NmeaMessage::Gsv { talker: *talker, in_view };
    let burst = [
        rmc(0, true),
        gga(1),
        NmeaMessage::Gsa { fix: Fix::ThreeD },
        gsv(b"GP", 9),
        gsv(b"GP", 4),
        gsv(b"GL", 7),
        rmc(1, true),
    ];
    named(&mut receiver, &burst);
    let status = ReceiverStatus { fix: Some(Fix::ThreeD), used: Some(7), in_view: Some(16) };
    assert_eq!(receiver.status(), status);
    named(&mut receiver, &[rmc(2, true)]);
    assert_eq!(receiver.status(), status, "a burst without them changes nothing");
    let many: Vec<_> = (0..=u8::MAX).map(|system| gsv(&[b'A', system], u8::MAX)).collect();
    named(&mut receiver, &[many.as_slice(), &[rmc(3, true)]].concat());
    assert_eq!(receiver.status().in_view, Some(8 * 255), "no more systems than there is room for");
}
