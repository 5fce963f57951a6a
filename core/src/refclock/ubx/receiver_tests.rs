//! A receiver's second: solution, leap seconds, next pulse.

use super::*;

const AT: Ticks = Ticks::from_bits(7);
/// 2016-12-31 23:00:00.
const EVE_S: i64 = 1_483_225_200;

fn solution(utc: Option<Instant<Utc>>) -> UbxMessage {
    let accuracy = Span::from_nanos(20);
    UbxMessage::NavPvt(NavPvt { utc, accuracy, fix_ok: true, fix: Fix::TimeOnly, satellites: 9 })
}
fn at(unix_s: i64) -> UbxMessage {
    solution(Some(Instant::from_unix(unix_s, 0)))
}
fn leap(source: LeapSource, change_s: i8, seconds_to_event: i64) -> UbxMessage {
    let next = NextLeap { change_s, seconds_to_event: i32::try_from(seconds_to_event).unwrap() };
    UbxMessage::NavTimeLs(NavTimeLs { current_s: Some(17), source, next: Some(next) })
}
fn pulse(base: TimeBase) -> UbxMessage {
    // Saturday 23:00:01 of the week of 2016-12-25.
    let tow_ms = (6 * 86_400 + 23 * 3_600 + 1) * 1_000;
    UbxMessage::TimTp(TimTp { week: 1_929, tow_ms, tow_sub_ms: 0, quantisation_ps: Some(-12_500), base })
}
fn claim(receiver: &mut UbxReceiver, unix_s: i64) -> LeapClaim {
    receiver.take(&at(unix_s), AT).sentence.unwrap().leap
}

#[test]
fn a_solution_names_the_second_that_has_begun() {
    let mut receiver = UbxReceiver::new();
    let utc = Instant::from_unix(EVE_S, 0) - Span::from_nanos(300);
    let told = receiver.take(&solution(Some(utc)), AT);
    let leap = LeapClaim::Unknown;
    assert_eq!(told.sentence, Some(Sentence { at: AT, utc, valid: true, of_next_pulse: false, leap }));
    assert_eq!(told.quantisation, None);
    assert_eq!(receiver.take(&solution(None), AT), UbxTold::default());
    let fifth = Instant::from_unix(EVE_S, 200_000_000);
    assert_eq!(receiver.take(&solution(Some(fifth)), AT), UbxTold::default(), "five solutions a second");
    assert_eq!(receiver.status(), ReceiverStatus { fix: Some(Fix::TimeOnly), used: Some(9), in_view: None });
}

#[test]
fn a_pulse_is_named_in_utc_only_where_that_is_known() {
    let mut receiver = UbxReceiver::new();
    receiver.take(&at(EVE_S), AT);
    let told = receiver.take(&pulse(TimeBase::Utc), AT);
    let sentence = told.sentence.unwrap();
    assert_eq!(sentence.utc, Instant::from_unix(EVE_S + 1, 0));
    assert!(sentence.of_next_pulse && sentence.valid);
    assert_eq!(told.quantisation.map(|span| (span.raw() * 1_000_000) >> 64), Some(-1), "-12.5 ns");
    assert_eq!(told.quantisation.map(Span::as_nanos), Some(-13), "rounded down");
    let named =
        |receiver: &mut UbxReceiver, base| receiver.take(&pulse(base), AT).sentence.map(|told| told.utc);
    for base in [TimeBase::Gps, TimeBase::Other, TimeBase::UtcUnknown] {
        assert_eq!(named(&mut receiver, base), None, "{base:?}");
    }
    receiver.take(&leap(LeapSource::Firmware, 0, 0), AT);
    assert_eq!(named(&mut receiver, TimeBase::Gps), None, "the firmware's number may be outdated");
    receiver.take(&leap(LeapSource::Satellites, 0, 0), AT);
    assert_eq!(named(&mut receiver, TimeBase::Gps), Some(Instant::from_unix(EVE_S + 1 - 17, 0)));
    assert_eq!(named(&mut receiver, TimeBase::Other), None);
}

#[test]
fn a_pulse_is_as_valid_as_the_last_solution() {
    let mut receiver = UbxReceiver::new();
    assert!(!receiver.take(&pulse(TimeBase::Utc), AT).sentence.unwrap().valid);
    receiver.take(&at(EVE_S), AT);
    assert!(receiver.take(&pulse(TimeBase::Utc), AT).sentence.unwrap().valid);
    let lost = NavPvt { utc: None, accuracy: Span::ZERO, fix_ok: false, fix: Fix::ThreeD, satellites: 0 };
    receiver.take(&UbxMessage::NavPvt(lost), AT);
    assert!(!receiver.take(&pulse(TimeBase::Utc), AT).sentence.unwrap().valid);
}

#[test]
fn a_leap_second_is_claimed_in_its_own_month() {
    for (change_s, expected) in [(1, LeapClaim::Insert), (-1, LeapClaim::Delete)] {
        let mut receiver = UbxReceiver::new();
        assert_eq!(claim(&mut receiver, EVE_S - 40 * DAY_S), LeapClaim::Unknown);
        // The receiver's countdown may run in GPS time, 17 s off.
        receiver.take(&leap(LeapSource::Satellites, change_s, 40 * DAY_S + 3_600 - 17), AT);
        assert_eq!(claim(&mut receiver, EVE_S - 40 * DAY_S), LeapClaim::None, "it is November");
        assert_eq!(claim(&mut receiver, EVE_S - 30 * DAY_S), expected, "it is the first of December");
        assert_eq!(claim(&mut receiver, EVE_S + 3_599), expected);
        assert_eq!(claim(&mut receiver, EVE_S + 3_600), LeapClaim::Unknown, "it is over");
    }
}

#[test]
fn an_event_that_cannot_be_is_not_claimed() {
    for (change_s, seconds) in [(1, 3_600 + 61), (1, 3_600 + DAY_S), (1, -82_800), (2, 3_600), (-128, 3_600)]
    {
        let mut receiver = UbxReceiver::new();
        claim(&mut receiver, EVE_S);
        receiver.take(&leap(LeapSource::Satellites, change_s, seconds), AT);
        assert_eq!(claim(&mut receiver, EVE_S), LeapClaim::Unknown, "{change_s} in {seconds} s");
    }
    let mut receiver = UbxReceiver::new();
    receiver.take(&leap(LeapSource::Satellites, 1, 3_600), AT);
    assert_eq!(claim(&mut receiver, EVE_S), LeapClaim::Unknown, "no date was known");
    receiver.take(&leap(LeapSource::Satellites, 0, -100), AT);
    assert_eq!(claim(&mut receiver, EVE_S), LeapClaim::None);
}
