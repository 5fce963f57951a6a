//! What the operator configured, as the core's clock takes it.

use crate::config::{Config, Source, SourceKind};
use crate::leaps::Leaps;
use maser_core::discipline::{ClockSettings, SOURCES_MAX, Saved, SourceKind as Kind, SourceSettings};
use maser_core::time::{BUILD_DATE, Span};
use maser_sys::counter::Counter;

/// A clock is wrong, and not merely another time zone's, when it says a date so long before the build.
pub const BUILD_DATE_MARGIN: Span = Span::from_seconds(86_400);

/// For the clock over all of the configuration's sources.
///
/// # Panics
/// If there are more than [`SOURCES_MAX`], which the configuration excludes.
#[must_use]
pub fn clock_settings(
    config: &Config,
    counter: &Counter,
    leaps: &Leaps,
    saved: Option<Saved>,
) -> ClockSettings {
    assert!(config.sources.len() <= SOURCES_MAX, "the configuration has checked it");
    ClockSettings {
        sources: std::array::from_fn(|place| config.sources.get(place).map(source_settings)),
        rate: counter.nominal_rate(),
        precision: counter.precision(),
        root_distance_max: config.clock.root_distance_max,
        holdover_max: config.clock.holdover_max,
        agree_min: config.clock.agree_min,
        not_before: BUILD_DATE - BUILD_DATE_MARGIN,
        leaps: leaps.table(),
        leaps_complete_until: leaps.complete_until(),
        saved,
    }
}

fn source_settings(source: &Source) -> SourceSettings {
    let (kind, delay, named_by, stratum) = match &source.kind {
        SourceKind::Gpsd(_) | SourceKind::Phc { .. } => (Kind::Sampled, None, 0, 0),
        SourceKind::Nmea(line) | SourceKind::Ubx { serial: line, .. } => (Kind::Receiver, line.delay, 0, 0),
        SourceKind::Pps { label, .. } | SourceKind::PhcPulses { label, .. } => {
            (Kind::Pulse, None, bits(label), 0)
        }
        SourceKind::Ntp { .. } => (Kind::Network, None, 0, 0),
        SourceKind::Machine { stratum } => (Kind::Machine, None, 0, stratum.get()),
    };
    SourceSettings {
        kind,
        prefer: source.prefer,
        correction: source.offset,
        error: source.error,
        delay,
        named_by,
        // A server is named by its address, which its driver finds out.
        reference_id: source.reference_id.unwrap_or_default(),
        stratum,
    }
}

/// A bit each, the first place's the lowest.
fn bits(places: &[usize]) -> u16 {
    places.iter().filter(|&&place| place < SOURCES_MAX).fold(0, |bits, place| bits | 1 << place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn every_source_comes_through_with_what_the_operator_states() {
        let text = "[server]\nlisten = [\"127.0.0.1:11123\"]\n\
            [[source]]\ntype = \"pps\"\ndevice = \"/dev/pps0\"\noffset = \"-150 ns\"\nprefer = true\n\
            [[source]]\ntype = \"nmea\"\ndevice = \"/dev/ttyS0\"\ndelay = \"140 ms\"\nerror = \"2 ms\"\n\
            [[source]]\ntype = \"ntp\"\naddress = \"192.0.2.1\"\n\
            [[source]]\ntype = \"machine\"\nstratum = 4\n";
        let config = parse(text).unwrap();
        let counter = Counter::monotonic_raw();
        let settings = clock_settings(&config, &counter, &Leaps::built_in(), None);
        let [Some(pps), Some(nmea), Some(ntp), Some(machine), None, ..] = settings.sources else {
            panic!("{:?}", settings.sources)
        };
        assert_eq!((pps.kind, pps.prefer, pps.correction), (Kind::Pulse, true, Span::from_nanos(-150)));
        // Whoever names seconds may name the pulses': all but itself.
        assert_eq!((pps.named_by, &pps.reference_id), (0b1110, b"PPS\0"));
        assert_eq!((nmea.kind, nmea.error), (Kind::Receiver, Span::from_nanos(2_000_000)));
        assert_eq!(nmea.delay, Some(Span::from_nanos(140_000_000)));
        assert_eq!((ntp.kind, ntp.reference_id), (Kind::Network, [0; 4]));
        assert_eq!(
            (machine.kind, machine.stratum, machine.reference_id),
            (Kind::Machine, 4, [127, 127, 1, 1])
        );
        assert_eq!(settings.root_distance_max, config.clock.root_distance_max);
    }
}
