use super::*;
use maser_core::time::Rate;

fn why(path: &str) -> String {
    Phc::open(Path::new(path)).unwrap_err().to_string()
}

#[test]
fn what_is_no_clock_is_told_apart() {
    assert!(why("/dev/no-such-ptp").starts_with("no such device; `ethtool -T"));
    assert!(why("/dev/null").starts_with("not a NIC's clock; name one of /dev/ptp*"));
    assert!(why("/").starts_with("not a NIC's clock"));
}

fn at(nanos: u32) -> Time {
    Time::new(1_795_000_000, nanos)
}

#[test]
fn the_narrowest_reading_is_taken() {
    let readings = [
        [at(0), Time::new(37, 500), at(900)],
        [at(900), Time::new(37, 1_200), at(1_500)],
        // The machine's clock was stepped back.
        [at(1_500), Time::new(37, 2_000), at(1_400)],
        [at(1_400), Time::new(37, 3_000), at(2_400)],
    ];
    let found = narrowest(readings.into_iter()).unwrap();
    assert_eq!((found.phc_ns, found.after_ns - found.before_ns), (37_000_001_200, 600));
    assert!(narrowest([[at(5), at(0), at(4)]].into_iter()).is_err());
}

/// The machine's clock at `nanos` while the counter, of nanoseconds, stood at `ticks`.
fn bracket(ticks: u64, nanos: i64) -> Bracket {
    Bracket { ticks: Ticks::from_bits(ticks), error_ticks: 30, nanos }
}

#[test]
fn a_reading_is_put_on_the_counter_with_all_that_is_open() {
    let counter = Counter::monotonic_raw();
    assert_eq!(counter.nominal_rate(), Rate::NANOSECOND);
    let between = Between { before_ns: 10_000, phc_ns: 77, after_ns: 11_000 };
    let before = bracket(1_005_000, 5_000);
    let steady = placed(&counter, &before, &between, &bracket(1_015_000, 15_000));
    assert!((steady.at.since(Ticks::from_bits(1_010_500))).abs() <= 1, "{steady:?}");
    assert!((530..=535).contains(&steady.error_ticks), "half of it, and the bracket's: {steady:?}");
    // 20 % slower, or a step back by two microseconds: nobody can tell where in it.
    let slewed = placed(&counter, &before, &between, &bracket(1_017_000, 15_000));
    assert!((2_530..=2_535).contains(&slewed.error_ticks), "{slewed:?}");
    let torn = placed(&counter, &before, &between, &bracket(1_015_000, 5_000_015_000));
    assert_eq!(torn.error_ticks, u32::MAX);
}

#[test]
fn the_best_way_that_works_is_used() {
    let reading = PhcReading { at: Ticks::from_bits(1), error_ticks: 2, phc_ns: 3 };
    for (offered, used) in [(0, CrossRead::Precise), (2, CrossRead::Extended), (3, CrossRead::Plain)] {
        let read =
            |by: CrossRead| if by >= CrossRead::ALL[offered] { Ok(reading) } else { Err(unsupported()) };
        assert_eq!(first_that_works(read).unwrap(), (reading, used));
    }
    let gone = |_: CrossRead| Err(io::Error::from_raw_os_error(libc::ENODEV));
    assert_eq!(first_that_works(gone).unwrap_err().raw_os_error(), Some(libc::ENODEV));
}

#[test]
fn an_event_is_read_and_an_offset_is_none() {
    let event = |flags: u32| {
        let mut octets = [0; size_of::<Event>()];
        octets[..8].copy_from_slice(&1_795_000_037_i64.to_ne_bytes());
        octets[8..12].copy_from_slice(&999_999_999_u32.to_ne_bytes());
        octets[16..20].copy_from_slice(&3_u32.to_ne_bytes());
        octets[20..24].copy_from_slice(&flags.to_ne_bytes());
        Event::of(&octets)
    };
    let edge = PhcEdge { channel: 3, phc_ns: 1_795_000_037_999_999_999 };
    assert_eq!([event(0), event(1), event(1 << 4)], [Some(edge), Some(edge), None]);
}
