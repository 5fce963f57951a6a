//! A NIC's own clock (`/dev/ptpN`): the time that it keeps, or pulses that it stamps.
//!
//! Its time is told once a second, as the narrowest reading of that second has it: a reading is a bracket, and half of its width
//! is the error that is told along. Pulses are stamped in the clock's own time, whatever that is, and put on the counter by
//! the line through its readings before and after. A clock that jumps has its stamps from before disbelieved; what the new
//! time is worth is judged in the core. One that stands still tells nothing.

use super::attempt::keep_working;
use super::{RETRY, Teller, Word};
use crate::config::{SourceKind, Timescale};
use crate::hands::PhcFacts;
use crate::phc::{Look, PhcFollower, READ_EVERY};
use crate::pulse::settings::BUILD_DATE_MARGIN;
use maser_core::discipline::{LeapClaim, Observation, Pulse, TaiSample, TimeSample};
use maser_core::refclock::{PhcEvent, PhcReading};
use maser_core::time::{BUILD_DATE, Instant, Span, Ticks};
use maser_sys::counter::Counter;
use maser_sys::phc::{Channel, CrossRead, Phc, PhcEdge};
use maser_sys::pps::Edge;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many readings make a sample: those of a second.
const READINGS_A_SAMPLE: u32 = 8;
const _: () = assert!(READ_EVERY.as_millis() * READINGS_A_SAMPLE as u128 == 1_000);

/// An edge so soon after another is the other end of a pulse, of NICs that can't stamp one kind alone.
const PULSE_NS_MAX: i64 = 500_000_000;

/// A stamp that is older is placed by no line.
const AGE_MAX: Span = Span::from_nanos(500_000_000);

/// After so long without an edge the operator is told.
const SILENCE: Duration = RETRY;

/// Edges from before the driver came: the kernel keeps 128.
const STALE_EDGES_MAX: usize = 256;

/// The device that a source is, and the channel that it has its pulses from; nothing for a source of another kind.
pub(crate) fn place(kind: &SourceKind) -> Option<(PathBuf, Option<Channel>)> {
    match kind {
        SourceKind::Phc { device, .. } => Some((device.clone(), None)),
        SourceKind::PhcPulses { device, channel, pin, edge, .. } => {
            let channel = Channel { number: *channel, pin: pin.clone(), edge: super::pps::edge(*edge) };
            Some((device.clone(), Some(channel)))
        }
        SourceKind::Gpsd(_)
        | SourceKind::Nmea(_)
        | SourceKind::Ubx { .. }
        | SourceKind::Pps { .. }
        | SourceKind::Ntp { .. }
        | SourceKind::Machine { .. } => None,
    }
}

/// Tells what time the clock keeps until the driver is to end.
pub fn run_time(device: &Path, timescale: Timescale, counter: Counter, teller: &mut Teller<'_>) {
    run(device, None, counter, teller, |clock, teller| clock.follow_time(timescale, teller));
}

/// Tells of every pulse on a channel until the driver is to end.
pub fn run_pulses(device: &Path, channel: &Channel, counter: Counter, teller: &mut Teller<'_>) {
    run(device, Some(channel), counter, teller, |clock, teller| clock.follow_pulses(channel, teller));
}

fn run(
    device: &Path,
    channel: Option<&Channel>,
    counter: Counter,
    teller: &mut Teller<'_>,
    mut follow: impl FnMut(&mut Clock, &mut Teller<'_>) -> io::Result<()>,
) {
    let path = device.display();
    let (hands, source) = (teller.hands(), teller.source());
    let open = || {
        let clock = || -> Result<Clock, String> {
            let (file, facts) = hands.open_phc(source, device, channel).map_err(|error| error.to_string())?;
            let PhcFacts { name, stamps_both_edges } = facts;
            let phc = Phc::of_file(file).map_err(|error| error.to_string())?;
            let follower = PhcFollower::new(phc, counter);
            Ok(Clock { follower, counter, stamps_both_edges, about: About { name, by: None, jumps: 0 } })
        };
        let clock = clock().map_err(|error| format!("{path}: {error}"))?;
        let opened = format!("{path}: {}", clock.about);
        Ok((clock, opened))
    };
    keep_working(teller, open, |mut clock, teller| {
        follow(&mut clock, teller)
            .map_err(|error| format!("{path}: reading the clock failed: {error}; is the device still there?"))
    });
}

/// What the status says of a clock.
#[derive(Clone, PartialEq, Eq, Debug)]
struct About {
    /// Its driver's name for it.
    name: String,
    by: Option<CrossRead>,
    jumps: u64,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clock {:?}", self.name)?;
        if let Some(by) = self.by {
            write!(f, ", {by} readings")?;
        }
        match self.jumps {
            0 => Ok(()),
            1 => f.write_str(", 1 jump"),
            jumps => write!(f, ", {jumps} jumps"),
        }
    }
}

/// An open clock.
struct Clock {
    follower: PhcFollower,
    counter: Counter,
    stamps_both_edges: bool,
    about: About,
}

impl Clock {
    fn follow_time(&mut self, timescale: Timescale, teller: &mut Teller<'_>) -> io::Result<()> {
        let (mut narrowest, mut readings) = (None::<PhcReading>, 0);
        while !teller.is_stopped() {
            let Look { reading, event, .. } = self.look(teller)?;
            if event.is_some() || !self.is_found() {
                (narrowest, readings) = (None, 0);
            } else {
                narrowest = narrowest.into_iter().chain([reading]).min_by_key(|reading| reading.error_ticks);
                readings += 1;
            }
            if let Some(reading) = narrowest.filter(|_| readings == READINGS_A_SAMPLE) {
                teller.tell(told(&reading, timescale, &self.counter));
                (narrowest, readings) = (None, 0);
            }
            teller.pause(READ_EVERY);
        }
        Ok(())
    }

    fn follow_pulses(&mut self, channel: &Channel, teller: &mut Teller<'_>) -> io::Result<()> {
        // What was stamped before we came is old.
        for _ in 0..STALE_EDGES_MAX {
            if self.follower.device().edge(Duration::ZERO)?.is_none() {
                break;
            }
        }
        let (mut last, mut is_silent) = (None::<PhcEdge>, false);
        // When an edge was told of, when any came, when the clock was read.
        let [mut heard, mut came, mut looked] = [self.counter.now(); 3];
        while !teller.is_stopped() {
            let left = self.left_of(READ_EVERY, looked);
            let edge = self.follower.device().edge(left)?.filter(|edge| edge.channel == channel.number);
            // A reading after each edge: its stamp is then between two.
            if edge.is_some() || self.left_of(READ_EVERY, looked).is_zero() {
                looked = self.counter.now();
                self.look(teller)?;
            }
            came = edge.map_or(came, |_| looked);
            let before = edge.and_then(|edge| last.replace(edge));
            if let Some(edge) =
                edge.filter(|&edge| !self.stamps_both_edges || is_asked(before, edge, channel.edge))
            {
                (heard, is_silent) = (self.counter.now(), false);
                teller.tell(self.placed(edge));
            } else if !is_silent && self.left_of(SILENCE, heard).is_zero() {
                is_silent = true;
                let why = silent_because(!self.left_of(SILENCE, came).is_zero(), channel.edge);
                teller.tell(Word::Failed(format!("channel {}: {why}", channel.number)));
            }
        }
        Ok(())
    }

    /// What is left of a while that began then.
    fn left_of(&self, whole: Duration, begun: Ticks) -> Duration {
        let passed = self.counter.nominal_rate().span_of(self.counter.now().since(begun)).as_nanos();
        whole.saturating_sub(Duration::from_nanos(u64::try_from(passed).unwrap_or(0)))
    }

    /// Reads the clock, and says what happened to it.
    fn look(&mut self, teller: &mut Teller<'_>) -> io::Result<Look> {
        let look = self.follower.look()?;
        match look.event {
            Some(PhcEvent::Jumped { by_ns }) => {
                let by = Span::from_nanos(by_ns).as_seconds_f64();
                teller.tell(Word::Noted(format!(
                    "the clock jumped by {by:+.9} s (or its rate was changed by more than in the last minute)"
                )));
            }
            Some(PhcEvent::Stopped) => teller.tell(Word::Failed(
                "the clock stands still; is the NIC in use (some stop while their interface is down)?"
                    .to_owned(),
            )),
            Some(PhcEvent::Found) | None => {}
        }
        let about = About { by: Some(look.by), jumps: self.follower.jumps(), ..self.about.clone() };
        if about != self.about {
            self.about = about;
            teller.tell(Word::Detail(self.about.to_string()));
        }
        Ok(look)
    }

    fn is_found(&self) -> bool {
        self.follower.line().is_good_at(self.counter.now())
    }

    fn placed(&self, edge: PhcEdge) -> Word {
        let (line, now) = (self.follower.line(), self.counter.now());
        if !line.is_good_at(now) {
            return Word::Refused(
                "a pulse: the clock that stamped it isn't found on the counter yet".to_owned(),
            );
        }
        let at = line.ticks_at(edge.phc_ns);
        let span_of = |ticks: i64| self.counter.nominal_rate().span_of(ticks);
        let (age, error) = (span_of(now.since(at)), span_of(line.error_ticks.into()));
        if age < -error || age > AGE_MAX {
            let age = age.as_seconds_f64();
            return Word::Refused(format!(
                "a pulse: by its stamp it is {age:.9} s old; was the clock set meanwhile?"
            ));
        }
        Word::Observed(Observation::Pulse(Pulse { at, error }))
    }
}

/// Whether of a pulse's two ends, both of which are stamped, this is the one that was asked for.
fn is_asked(before: Option<PhcEdge>, edge: PhcEdge, asked: Edge) -> bool {
    let is_other_end = before.is_some_and(|before| is_other_end(before, edge));
    is_other_end == (asked == Edge::Clear)
}

const fn silent_because(are_edges: bool, asked: Edge) -> &'static str {
    match (are_edges, asked) {
        (false, _) => "no edge comes; is the pulse on this pin, and is it the pin of this channel?",
        (true, Edge::Assert) => {
            "edges come, but none half a second after another; are there more pulses than one a second?"
        }
        (true, Edge::Clear) => {
            "edges come, but none within half a second of another; is the pulse longer, or does the NIC stamp the other edge \
             alone (edge = \"assert\")?"
        }
    }
}

const fn is_other_end(before: PhcEdge, edge: PhcEdge) -> bool {
    let apart = edge.phc_ns.saturating_sub(before.phc_ns);
    apart >= 0 && apart < PULSE_NS_MAX
}

/// What a reading says of the time.
fn told(reading: &PhcReading, timescale: Timescale, counter: &Counter) -> Word {
    let (at, error) = (reading.at, counter.nominal_rate().span_of(reading.error_ticks.into()));
    let utc = Instant::from_unix_nanos(reading.phc_ns);
    // By half a minute it doesn't matter which timescale it is.
    if utc < BUILD_DATE - BUILD_DATE_MARGIN {
        let days = reading.phc_ns / 86_400_000_000_000;
        return Word::Failed(format!(
            "the clock says day {days} since 1970, before this program was built: nobody has set it (ptp4l, ts2phc or \
             phc_ctl does)"
        ));
    }
    Word::Observed(match timescale {
        Timescale::Tai => {
            Observation::Tai(TaiSample { at, tai: Instant::from_unix_nanos(reading.phc_ns), error })
        }
        Timescale::Utc => {
            Observation::Time(TimeSample { at, utc, error, valid: true, leap: LeapClaim::Unknown })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET_NS: i64 = 2_000_000_000_123_456_789;

    fn reading(phc_ns: i64) -> PhcReading {
        PhcReading { at: Ticks::from_bits(77), error_ticks: 500, phc_ns }
    }

    #[test]
    fn a_reading_is_told_in_the_scale_of_its_clock_with_half_of_its_width() {
        let counter = Counter::monotonic_raw();
        let (at, error) = (Ticks::from_bits(77), counter.nominal_rate().span_of(500));
        let tai = TaiSample { at, tai: Instant::from_unix_nanos(SET_NS), error };
        assert_eq!(told(&reading(SET_NS), Timescale::Tai, &counter), Word::Observed(Observation::Tai(tai)));
        let utc = Instant::from_unix_nanos(SET_NS);
        let utc = TimeSample { at, utc, error, valid: true, leap: LeapClaim::Unknown };
        assert_eq!(told(&reading(SET_NS), Timescale::Utc, &counter), Word::Observed(Observation::Time(utc)));
        for timescale in [Timescale::Tai, Timescale::Utc] {
            let Word::Failed(why) = told(&reading(86_400_000_000_001), timescale, &counter) else {
                panic!("a clock that nobody has set is believed")
            };
            assert!(why.starts_with("the clock says day 1 since 1970"), "{why}");
        }
    }

    #[test]
    fn the_other_end_of_a_pulse_is_told_from_the_next_pulse() {
        let edge = |phc_ns| PhcEdge { channel: 0, phc_ns };
        assert!(is_other_end(edge(SET_NS), edge(SET_NS + 100_000_000)));
        assert!(!is_other_end(edge(SET_NS), edge(SET_NS + 900_000_000)));
        assert!(!is_other_end(edge(SET_NS), edge(SET_NS - 100_000_000)), "the clock was set back");
    }

    #[test]
    fn of_both_ends_that_are_stamped_the_one_asked_for_is_told() {
        let edges: Vec<_> = (0..8).map(|k| SET_NS + k / 2 * 1_000_000_000 + k % 2 * 100_000_000).collect();
        for (asked, first) in [(Edge::Assert, 0), (Edge::Clear, 1)] {
            let mut last = None;
            let edges = edges.iter().map(|&phc_ns| PhcEdge { channel: 0, phc_ns });
            let told: Vec<_> = edges.filter(|&edge| is_asked(last.replace(edge), edge, asked)).collect();
            let expected = (0..4).map(|k| SET_NS + k * 1_000_000_000 + first * 100_000_000);
            assert_eq!(told.iter().map(|edge| edge.phc_ns).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_status_says_what_it_is() {
        let mut about = About { name: "igb".to_owned(), by: None, jumps: 0 };
        assert_eq!(about.to_string(), "clock \"igb\"");
        about.by = Some(CrossRead::ExtendedRaw);
        assert_eq!(about.to_string(), "clock \"igb\", extended readings");
        about.jumps = 2;
        assert_eq!(about.to_string(), "clock \"igb\", extended readings, 2 jumps");
    }

    #[test]
    fn a_source_names_its_device_and_channel() {
        let text = "[[source]]\ntype = \"phc\"\ndevice = \"/dev/ptp0\"\n\
            [[source]]\ntype = \"phc\"\ndevice = \"/dev/ptp1\"\nchannel = 1\npin = \"SDP0\"\nedge = \"clear\"\n";
        let config = crate::config::parse(text).unwrap();
        let channel = Channel { number: 1, pin: Some("SDP0".to_owned()), edge: Edge::Clear };
        let places = config.sources.iter().map(|source| place(&source.kind));
        let expected = [(PathBuf::from("/dev/ptp0"), None), (PathBuf::from("/dev/ptp1"), Some(channel))];
        assert_eq!(places.collect::<Vec<_>>(), expected.map(Some));
    }
}
