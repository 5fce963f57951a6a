//! Receivers on a serial line: NMEA 0183 or u-blox's UBX.
//!
//! A chunk of octets is stamped as soon as it is read; from that follows when each of its octets began on the wire, and
//! a message is told with the moment of its first one. Which second a message makes of which pulse, how late it is and
//! whether it is right are judged in the core.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use maser_core::discipline::{Observation, Sawtooth};
use maser_core::refclock::{
    NmeaFault, NmeaReceiver, ReceiverFault, ReceiverMessage, ReceiverStream, UbxFault, UbxReceiver, UbxTold,
    ubx_configuration,
};
use maser_core::time::{Span, Ticks};
use maser_sys::counter::Counter;
use maser_sys::serial::{Heard, SerialLine};

use super::attempt::keep_working;
use super::{RETRY, STOP_LOOKED_AT, Teller, Word};

/// What a receiver is asked to speak. Messages of the other protocol may come on the same line and are passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Sentences.
    Nmea,
    /// u-blox's binary messages.
    Ubx,
}

/// A receiver on a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SerialSettings {
    /// The line.
    pub device: PathBuf,
    /// Its speed; none for a line without one (USB, a pty), or to leave it as it is.
    pub baud: Option<u32>,
    /// What the receiver speaks.
    pub protocol: Protocol,
    /// Whether to switch on the messages that are needed (UBX only; lost when the receiver loses power, and sent again
    /// when they stay away).
    pub configure: bool,
}

const WAIT: Duration = STOP_LOOKED_AT;
/// A receiver that takes no octet of its configuration for this long never will.
const WRITE_WAIT: Duration = STOP_LOOKED_AT;
/// A receiver to be configured that names no second for this long is configured again.
const UNCONFIGURED: Duration = RETRY;

/// More than a line delivers at once: a tty's own buffer.
const CHUNK_OCTETS_MAX: usize = 4_096;
/// Chunks that are remembered: a message that came in more of them was read octet by octet, and is longer than any that
/// names a second.
const CHUNKS_MAX: usize = 256;
/// A start bit, eight of data, a stop bit.
const BITS_PER_OCTET: i64 = 10;

/// Tells of every message that names a second until the driver is to end.
pub fn run(settings: &SerialSettings, counter: Counter, teller: &mut Teller<'_>) {
    let name = settings.device.display();
    let (hands, source) = (teller.hands(), teller.source());
    let open = || {
        let file = hands.open_line(source, &settings.device).map_err(|error| format!("{name}: {error}"))?;
        let line = SerialLine::of_file(file, settings.baud).map_err(|error| format!("{name}: {error}"))?;
        Ok((line, format!("{name}: open")))
    };
    keep_working(teller, open, |line, teller| {
        listen(line, settings, &counter, teller).map_err(|error| format!("{name}: {error}"))
    });
}

fn listen(
    mut line: SerialLine,
    settings: &SerialSettings,
    counter: &Counter,
    teller: &mut Teller<'_>,
) -> Result<(), String> {
    let mut receiver = Receiver::new(settings.protocol);
    let mut arrivals = Arrivals::new(octet_ticks(settings.baud, counter), counter.now());
    let mut chunk = [0; CHUNK_OCTETS_MAX];
    let configures = settings.configure && settings.protocol == Protocol::Ubx;
    let mut sound_since: Option<Ticks> = None;
    while !teller.is_stopped() {
        if configures && sound_since.is_none_or(|since| is_long(counter, since)) {
            configure(&mut line)?;
            sound_since = Some(counter.now());
        }
        let heard = line.read(&mut chunk, WAIT).map_err(|error| format!("reading failed: {error}"))?;
        let arrived = counter.now();
        let octets = match heard {
            Heard::Octets(count) => chunk.get(..count).unwrap_or_default(),
            Heard::Silence => continue,
            Heard::HungUp => return Err("hung up; is the receiver still connected?".to_owned()),
        };
        arrivals.chunk(octets.len(), arrived);
        for (place, octet) in octets.iter().enumerate() {
            match receiver.push(*octet, |message_octets| arrivals.began(place, message_octets)) {
                Some(Ok(observations)) => {
                    sound_since = Some(arrived);
                    for observation in observations.into_iter().flatten() {
                        teller.tell(Word::Observed(observation));
                    }
                }
                Some(Err(refusal)) => teller.tell(Word::Refused(refusal)),
                None => {}
            }
        }
    }
    Ok(())
}

fn configure(line: &mut SerialLine) -> Result<(), String> {
    for command in ubx_configuration() {
        line.write(command.as_octets(), WRITE_WAIT).map_err(|error| {
            format!("the receiver doesn't take its configuration: {error}; is its input connected?")
        })?;
    }
    Ok(())
}

/// How long an octet takes; nothing on a line without a speed.
fn octet_ticks(baud: Option<u32>, counter: &Counter) -> i64 {
    let octet_ns = baud.map_or(0, |baud| BITS_PER_OCTET * 1_000_000_000 / i64::from(baud.max(1)));
    counter.nominal_rate().ticks_in(Span::from_nanos(octet_ns))
}

fn is_long(counter: &Counter, since: Ticks) -> bool {
    let ticks = counter.now().since(since);
    u128::try_from(counter.nominal_rate().span_of(ticks).as_nanos()).unwrap_or(0) >= UNCONFIGURED.as_nanos()
}

/// The decoder of either protocol, and what its messages say together.
#[derive(Debug)]
struct Receiver {
    stream: ReceiverStream,
    speaks: Speaks,
}

/// What a message says: at most of a second and of the next pulse's sawtooth.
type Said = [Option<Observation>; 2];

#[derive(Debug)]
enum Speaks {
    Nmea(NmeaReceiver),
    Ubx(UbxReceiver),
}

impl Receiver {
    fn new(protocol: Protocol) -> Self {
        let speaks = match protocol {
            Protocol::Nmea => Speaks::Nmea(NmeaReceiver::new()),
            Protocol::Ubx => Speaks::Ubx(UbxReceiver::new()),
        };
        Self { stream: ReceiverStream::new(), speaks }
    }

    /// Takes an octet; `began` tells when a message of so many octets began of which this is the last.
    fn push(&mut self, octet: u8, began: impl Fn(usize) -> Ticks) -> Option<Result<Said, String>> {
        let told = self.stream.push(octet)?;
        let at = began(self.stream.octets());
        match (&mut self.speaks, told) {
            (Speaks::Nmea(receiver), Ok(ReceiverMessage::Nmea(message))) => {
                receiver.take(&message, at).map(|sentence| Ok([Some(Observation::Sentence(sentence)), None]))
            }
            (Speaks::Ubx(receiver), Ok(ReceiverMessage::Ubx(message))) => {
                let UbxTold { sentence, quantisation } = receiver.take(&message, at);
                let sawtooth = quantisation.map(|quantisation| Sawtooth { at, quantisation });
                let said = [sentence.map(Observation::Sentence), sawtooth.map(Observation::Sawtooth)];
                said.iter().any(Option::is_some).then_some(Ok(said))
            }
            (Speaks::Nmea(_), Err(ReceiverFault::Nmea(fault))) => Some(Err(why_no_sentence(fault))),
            (Speaks::Ubx(_), Err(ReceiverFault::Ubx(fault))) => Some(Err(why_no_frame(fault))),
            (Speaks::Nmea(_), Ok(ReceiverMessage::Ubx(_)) | Err(ReceiverFault::Ubx(_)))
            | (Speaks::Ubx(_), Ok(ReceiverMessage::Nmea(_)) | Err(ReceiverFault::Nmea(_))) => None,
        }
    }
}

/// When the octets came, chunk by chunk.
#[derive(Debug)]
struct Arrivals {
    octet_ticks: i64,
    /// The oldest first.
    chunks: VecDeque<Chunk>,
    /// When the chunk before the oldest remembered was read, or the line opened.
    before: Ticks,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    octets: usize,
    arrived: Ticks,
}

impl Arrivals {
    fn new(octet_ticks: i64, opened: Ticks) -> Self {
        Self { octet_ticks, chunks: VecDeque::with_capacity(CHUNKS_MAX), before: opened }
    }

    fn chunk(&mut self, octets: usize, arrived: Ticks) {
        if self.chunks.len() == CHUNKS_MAX
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.before = oldest.arrived;
        }
        self.chunks.push_back(Chunk { octets, arrived });
    }

    /// When the message of `octets` octets began whose last one is at `place` of the newest chunk.
    ///
    /// The last octet of a chunk has ended when the chunk is read, and those before it came one after another, if not
    /// earlier: buffers, interrupts and the scheduler only delay. What was read later wasn't complete before the chunk
    /// before was read, so an octet began then at the earliest, or at most an octet's length sooner.
    fn began(&self, place: usize, octets: usize) -> Ticks {
        let mut newer_chunks = self.chunks.iter().enumerate().rev();
        let Some((mut index, mut chunk)) = newer_chunks.next() else { return self.before };
        let mut wanted = octets;
        let mut up_to = place + 1;
        while wanted > up_to
            && let Some(older) = newer_chunks.next()
        {
            wanted -= up_to;
            (index, chunk) = older;
            up_to = chunk.octets;
        }
        let until_end = (chunk.octets - up_to).saturating_add(wanted);
        let began = chunk.arrived.offset(-self.octet_ticks * i64::try_from(until_end).unwrap_or(i64::MAX));
        let before = index.checked_sub(1).and_then(|index| self.chunks.get(index));
        let before = before.map_or(self.before, |chunk| chunk.arrived);
        if began.since(before) < 0 { before } else { began }
    }
}

/// Why a sentence isn't used, for people.
fn why_no_sentence(fault: NmeaFault) -> String {
    match fault {
        NmeaFault::TooLong => "a sentence longer than any".to_owned(),
        NmeaFault::Truncated => "a sentence without an end".to_owned(),
        NmeaFault::NotAscii(octet) => format!("a sentence with the octet {octet:#04x}; is the speed right?"),
        NmeaFault::NoChecksum => "a sentence without a checksum".to_owned(),
        NmeaFault::Checksum { found, expected } => {
            format!("a sentence with the checksum {found:02X} instead of {expected:02X}")
        }
        NmeaFault::Field(field) => format!("a sentence in which the {field:?} makes no sense").to_lowercase(),
    }
}

/// Why a UBX frame isn't used, for people.
fn why_no_frame(fault: UbxFault) -> String {
    match fault {
        UbxFault::TooLong(length) => format!("a UBX frame that would have {length} octets"),
        UbxFault::Checksum { found, expected } => {
            format!("a UBX frame with the checksum {found:02x?} instead of {expected:02x?}")
        }
        UbxFault::TooShort { class, id } => format!("a UBX frame {class:02X} {id:02X} that is too short"),
        UbxFault::Date => "a UBX solution with a date that isn't one".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(bits: u64) -> Ticks {
        Ticks::from_bits(bits)
    }

    #[test]
    fn a_message_began_where_its_first_octet_did() {
        let mut arrivals = Arrivals::new(100, ticks(1_000));
        arrivals.chunk(10, ticks(5_000));
        // Its last octet is the chunk's eighth: two more octets came after it.
        assert_eq!(arrivals.began(7, 4), ticks(5_000 - 2 * 100 - 4 * 100));
        arrivals.chunk(6, ticks(7_000));
        assert_eq!(arrivals.began(5, 3), ticks(6_700));
        assert_eq!(arrivals.began(2, 3), ticks(6_400));
        // One octet of the chunk before, then two.
        assert_eq!(arrivals.began(2, 4), ticks(4_900));
        assert_eq!(arrivals.began(0, 3), ticks(4_800));
        arrivals.chunk(2, ticks(7_500));
        assert_eq!(arrivals.began(0, 1 + 6 + 10), ticks(4_000), "over three chunks");
    }

    #[test]
    fn no_octet_came_before_the_chunk_before() {
        let mut arrivals = Arrivals::new(100, ticks(1_000));
        arrivals.chunk(50, ticks(2_000));
        assert_eq!(arrivals.began(49, 50), ticks(1_000), "the line was opened then");
        arrivals.chunk(50, ticks(2_400));
        assert_eq!(arrivals.began(49, 50), ticks(2_000));
        assert_eq!(arrivals.began(49, 3), ticks(2_100));
    }

    #[test]
    fn forgotten_chunks_bound_what_is_remembered() {
        let mut arrivals = Arrivals::new(0, ticks(0));
        for chunk in 1..=1_000 {
            arrivals.chunk(1, ticks(chunk * 10));
        }
        assert_eq!(arrivals.chunks.len(), CHUNKS_MAX);
        assert_eq!(arrivals.began(0, 256), ticks(7_450));
        assert_eq!(arrivals.began(0, 900), ticks(7_450), "longer than what is remembered");
    }

    #[test]
    fn an_octet_lasts_ten_bits() {
        let counter = Counter::monotonic_raw();
        assert_eq!(octet_ticks(Some(9_600), &counter), 1_041_666);
        assert_eq!(octet_ticks(None, &counter), 0);
    }
}
