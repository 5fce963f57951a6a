//! What a good TSC and bad ones look like to the judge.

use super::*;

const HERTZ: i64 = 2_500_000_000;

/// A core whose TSC began `ahead_ns` early, runs `ppb` fast, and whose kernel clock strays by `strays_ns`.
fn core(core: usize, ahead_ns: i64, ppb: i64, strays_ns: i64) -> CoreReadings {
    let at = |nanos: i64, strays_ns: i64| Bracket {
        ticks: Ticks::from_bits(
            (7 << 40) + ((nanos + nanos * ppb / 1_000_000_000) * HERTZ / 1_000_000_000).unsigned_abs(),
        ),
        error_ticks: 60,
        nanos: 5_000_000_000 + nanos - strays_ns,
    };
    let start_ns = 10_000 * i64::try_from(core).unwrap();
    let ahead = Offset { ticks: ahead_ns * HERTZ / 1_000_000_000, half_ticks: 150 };
    CoreReadings {
        core,
        start: at(start_ns, strays_ns),
        end: at(start_ns + 45_000_000, strays_ns),
        ahead: (core > 0).then_some(ahead),
    }
}

fn judged_with(other: CoreReadings) -> Result<Agreement, Refusal> {
    judge(&[core(0, 0, 0, 0), core(1, 5, 0, 0), other])
}

fn refused(error: CoreError) -> Result<Agreement, Refusal> {
    Err(Refusal::Core { core: 2, error })
}

#[test]
fn cores_that_agree_within_the_measurement_are_accepted() {
    let agreement = judged_with(core(2, -40, 500, 30)).unwrap();
    assert_eq!((agreement.cores, agreement.core_distance_ns, agreement.known_within_ns), (3, 40, 61));
    assert!((agreement.rate.ticks_in(Span::from_seconds(1)) - HERTZ).abs() < 100, "{agreement}");
    assert!((450..550).contains(&agreement.rate_spread_ppb), "{agreement}");
}

#[test]
fn an_offset_between_cores_is_found_though_the_kernels_clock_follows_it() {
    for ahead_ns in [-10_000, -200, 200, 10_000] {
        assert_eq!(
            judged_with(core(2, ahead_ns, 0, 0)),
            refused(CoreError::Ahead { nanos: ahead_ns, known_within_ns: 61 })
        );
    }
}

#[test]
fn a_core_with_another_rate_is_found() {
    assert!(matches!(
        judged_with(core(2, 0, 50_000, 0)),
        Err(Refusal::Core { core: 2, error: CoreError::Rate { ppb: 49_900..50_100 } })
    ));
    assert!(matches!(
        judged_with(core(2, 0, -50_000, 0)),
        Err(Refusal::Core { core: 2, error: CoreError::Rate { .. } })
    ));
}

#[test]
fn a_core_that_strays_from_the_kernels_clock_is_found() {
    for nanos in [-1_000, 1_000] {
        assert_eq!(
            judged_with(core(2, 0, 0, nanos)),
            refused(CoreError::Strays { nanos, known_within_ns: 97 })
        );
    }
}

#[test]
fn a_slow_exchange_proves_nothing() {
    let mut slow = core(2, 0, 0, 0);
    slow.ahead = Some(Offset { ticks: 0, half_ticks: 10_000 });
    assert_eq!(judged_with(slow), refused(CoreError::Unanswered));
}

#[test]
fn a_counter_that_stands_still_has_no_rate() {
    let mut still = core(2, 0, 0, 0);
    still.end.ticks = still.start.ticks;
    assert_eq!(judged_with(still), Err(Refusal::NoRate));
    assert_eq!(judge(&[]), Err(Refusal::NoRate));
}

#[test]
fn a_core_that_does_not_exist_is_unavailable() {
    assert_eq!(on_core(1_000_000, || ()), None);
    assert!(exchange(0, 1_000_000).is_none());
}

#[test]
fn the_deadline_ends_a_wait() {
    assert_eq!(Deadline::start().wait(|| false), None);
}

#[test]
fn an_exchange_the_other_way_round_says_the_opposite() {
    let cores = core_affinity::get_core_ids().unwrap();
    let [first, second, ..] = cores.as_slice() else { return };
    let there = exchange(first.id, second.id).unwrap();
    let back = exchange(second.id, first.id).unwrap();
    let allowed = there.half_ticks + back.half_ticks;
    assert!((there.ticks + back.ticks).abs() <= allowed, "{there:?} {back:?}");
}
