//! A leap second rehearsed: a receiver announces it, the clock lives through it, and a client asks all the way.
//!
//! The replies are made by the code that a server makes them with; what is printed is read from their octets. Every one
//! is held against true time, so that the rehearsal can fail. A listener that smears is rehearsed in the same way.

use crate::cli::LeapArguments;
use crate::random::Random;
use crate::receiver::ReceiverShape;
use crate::world::{World, WorldShape};
use maser_core::discipline::LeapClaim;
use maser_core::refclock::Date;
use maser_core::reply::{ReceiveStamps, Verdict, decide, rewrite, stamp, transmit_after};
use maser_core::time::{
    BUILD_DATE, Instant, LeapIndicator, LeapTable, NtpTimestamp, Smear, Smeared, Span, Tai, Utc,
    is_last_of_month,
};
use maser_core::wire::ntp::{LENGTH, NtpHeader};
use maser_core::wire::{Peer, parse_datagram};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const DAY_S: i64 = 86_400;
/// The world begins so long before the leap second or its smear, s: time enough to lock and to announce.
const BEFORE_S: u64 = 900;
/// Packets are shown from so many seconds before to as many after, s.
const AROUND_S: u64 = 3;
/// From the request's arrival to the reply's departure, s.
const RESIDENCE: f64 = 20e-6;
/// A reply that is further off than this is wrong, s: the clock is locked to a receiver that is good to 100 ns.
const ERROR_MAX: f64 = 1e-5;

/// Why there is no rehearsal.
#[derive(Debug, thiserror::Error)]
pub enum LeapError {
    /// Leap seconds end months.
    #[error("a leap second ends a month: the date must be the last day of one, as 2026-12-31")]
    NotLastOfMonth,
    /// A receiver's date before the program was built is a week rollover.
    #[error(
        "the date must be after the day that this program was built: receivers' earlier dates are taken for GPS \
         week rollovers"
    )]
    Past,
    /// The core refused a request that it answers everybody.
    #[error("the request was not answered: {0}")]
    Unanswered(String),
    /// The output is gone.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// A leap second and who knows of it.
#[derive(Clone, Copy, Debug)]
struct Rehearsal {
    /// The midnight after it, in days since 1970.
    midnight: i64,
    /// 1 inserted, -1 deleted.
    seconds: i32,
    announced: bool,
    /// How many seconds the listener counts while it smears, if it does.
    smear_s: Option<u64>,
    seed: u64,
}

impl Rehearsal {
    fn new(arguments: &LeapArguments) -> Result<Self, LeapError> {
        let LeapArguments { date, delete, smear, seed } = *arguments;
        let day = date.day().filter(|&day| is_last_of_month(day)).ok_or(LeapError::NotLastOfMonth)?;
        if day <= BUILD_DATE.unix_seconds().div_euclid(DAY_S) {
            return Err(LeapError::Past);
        }
        let seconds = if delete { -1 } else { 1 };
        Ok(Self {
            midnight: day + 1,
            seconds,
            announced: true,
            smear_s: smear.map(|hours| hours * 3_600),
            seed,
        })
    }

    fn leaps(&self) -> LeapTable {
        let mut table = LeapTable::built_in();
        // The day is after all that are built in, and there is room.
        let _added = table.add(self.midnight, self.seconds);
        table
    }

    /// The second of the world that would be midnight's without it.
    fn midnight_second(&self) -> u64 {
        BEFORE_S + self.smear_s.unwrap_or(0) / 2
    }

    /// The second of the world that is inserted, or in whose place midnight comes.
    fn second(&self) -> u64 {
        self.midnight_second() - u64::from(self.seconds < 0)
    }

    /// How long the smear takes, s.
    fn smear_takes_s(&self) -> u64 {
        self.smear_s.unwrap_or(0).saturating_add_signed(self.seconds.into())
    }

    fn shape(&self) -> WorldShape {
        let mut world = WorldShape::new();
        let before = Span::from_seconds(self.midnight_second().cast_signed());
        world.start = Instant::from_unix(self.midnight * DAY_S, 0) - before;
        world.oscillator.frequency = 37e-6;
        world.oscillator.wander = 1e-10;
        world.receivers = vec![ReceiverShape::good(1e-7)];
        world.stamp_error = Span::from_nanos(100);
        world.leaps = self.leaps();
        if self.announced {
            let claim = if self.seconds > 0 { LeapClaim::Insert } else { LeapClaim::Delete };
            world.leap_claims = vec![(0, claim), (self.second() + 1, LeapClaim::None)];
        }
        world
    }

    /// When packets are shown: seconds of the world, and the fraction of each.
    fn moments(&self) -> Vec<(u64, f64)> {
        let around = self.second();
        if self.smear_s.is_some() {
            let takes_s = self.smear_takes_s();
            let [quarter, three_quarters, end] =
                [takes_s / 4, takes_s / 4 * 3, takes_s].map(|part| BEFORE_S + part);
            let seconds = [
                BEFORE_S - 1,
                BEFORE_S,
                quarter,
                around - 1,
                around,
                around + 1,
                three_quarters,
                end - 1,
                end,
            ];
            return seconds.map(|second| (second, 0.25)).into();
        }
        let is_near = |second: u64| second + 1 >= around && second <= around + 1;
        let fractions = |second| if is_near(second) { &[0.25, 0.75][..] } else { &[0.25] };
        let seconds = around - AROUND_S..=around + AROUND_S;
        seconds.flat_map(|second| fractions(second).iter().map(move |&fraction| (second, fraction))).collect()
    }

    /// What the listener counts at a moment of true time.
    fn count(&self, truth: Instant<Tai>) -> Instant<Utc> {
        if self.smear_s.is_none() {
            return self.leaps().utc(truth);
        }
        // As if there were no leap second, less what of it has been spread.
        let begun = self.shape().start + Span::from_seconds(BEFORE_S.cast_signed());
        let without = LeapTable::built_in().utc(truth);
        let spread = (without - begun).as_seconds_f64() / crate::float(self.smear_takes_s());
        without - crate::span(f64::from(self.seconds) * spread.clamp(0.0, 1.0))
    }

    /// What the listener announces at a moment of true time.
    fn announces(&self, truth: Instant<Tai>) -> LeapIndicator {
        if self.smear_s.is_some() { LeapIndicator::None } else { self.leaps().window(truth).indicator(truth) }
    }

    fn packets(&self) -> Result<Vec<Packet>, LeapError> {
        let mut world = World::new(self.shape(), self.seed);
        let length = |seconds: u64| Smear::over(Span::from_seconds(seconds.cast_signed()));
        let mut client = Client {
            random: Random::new(self.seed, 60),
            stamps: ReceiveStamps::new(),
            smeared_stamps: ReceiveStamps::new(),
            smear: self.smear_s.map(length),
        };
        let mut packets = Vec::new();
        for (second, fraction) in self.moments() {
            while world.second() < second {
                world.step();
            }
            // Asked of the snapshot that the second begins with, which a reader may have for longer than that.
            let octets = client.ask(&world, fraction)?;
            packets.push(Packet::new(&octets, world.truth(fraction), self));
        }
        Ok(packets)
    }
}

/// Who asks.
#[derive(Debug)]
struct Client {
    random: Random,
    stamps: ReceiveStamps<Tai>,
    smeared_stamps: ReceiveStamps<Smeared>,
    /// How the listener smears that it asks, if that does.
    smear: Option<Smear>,
}

impl Client {
    /// The reply to a request that arrives at `fraction` of the world's second.
    fn ask(&mut self, world: &World, fraction: f64) -> Result<[u8; LENGTH], LeapError> {
        let unanswered = |reason| LeapError::Unanswered(format!("{reason:?}"));
        let mut octets = [0; LENGTH];
        // Version 4, mode 3, and a transmit timestamp that is only a number.
        octets[0] = 0x23;
        octets[LENGTH - 8..].copy_from_slice(&self.random.bits().to_be_bytes());
        let address = |last, port| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port);
        let peer = Peer { source: address(2, 40_123), destination: address(1, 123), unicast: true };
        let request = parse_datagram(&octets, &peer).map_err(unanswered)?;
        let (snapshot, now) = (&world.snapshot, world.ticks(fraction));
        let header = snapshot.header_at(now, Span::ZERO);
        let header = self.smear.map_or(header, |smear| snapshot.smeared(&header, now, &smear));
        let moments = snapshot.line.map(|line| (line.at(now), line.at(world.ticks(fraction + RESIDENCE))));
        let (receive, leaves) = match (moments, self.smear) {
            (None, _) => (NtpTimestamp::ZERO, NtpTimestamp::ZERO),
            (Some((now, leaves)), None) => {
                (snapshot.ntp(self.stamps.hand_out(now, snapshot.generation)), snapshot.ntp(leaves))
            }
            (Some((now, leaves)), Some(smear)) => {
                let [now, leaves] = [now, leaves].map(|tai| smear.at(&snapshot.leap, tai));
                (self.smeared_stamps.hand_out(now, snapshot.generation).ntp(), leaves.ntp())
            }
        };
        let reply = match decide(&request, &header, receive) {
            Verdict::Answer(reply) | Verdict::AnswerUnsynchronised(reply) => reply,
            Verdict::Drop(reason) => return Err(unanswered(reason)),
        };
        let prepared = rewrite(&mut octets, &request, &reply);
        stamp(&mut octets, &prepared, transmit_after(receive, leaves));
        Ok(octets)
    }
}

/// A reply as a client sees it, and the truth.
#[derive(Clone, Debug)]
struct Packet {
    leap: LeapIndicator,
    stratum: u8,
    receive: NtpTimestamp,
    transmit: NtpTimestamp,
    /// The true count of UTC, and the second of the day with its own name.
    utc: Instant<Utc>,
    name: String,
    is_inserted: bool,
    is_smeared: bool,
    fault: Option<String>,
}

impl Packet {
    fn new(octets: &[u8; LENGTH], truth: Instant<Tai>, rehearsal: &Rehearsal) -> Self {
        let [first, stratum, ..] = *octets;
        let leap = LeapIndicator::from_first_octet(first);
        let unread = (NtpTimestamp::ZERO, NtpTimestamp::ZERO);
        let (receive, transmit) =
            NtpHeader::split(octets).map_or(unread, |(header, _)| (header.receive(), header.transmit()));
        let leaps = rehearsal.leaps();
        let utc = leaps.utc(truth);
        let is_inserted = leaps.tai(utc).first() != truth;
        let mut name = time_of_day(utc, 3);
        if is_inserted {
            name.replace_range(6..8, "60");
        }
        let error = receive.since(NtpTimestamp::from_utc(rehearsal.count(truth))).as_seconds_f64();
        let expected = rehearsal.announces(truth);
        let fault = if stratum == 0 {
            Some("it says unsynchronised".to_owned())
        } else if error.abs() > ERROR_MAX {
            Some(format!("it is off by {error:.6} s"))
        } else {
            let wrong = || format!("its leap bits are {}, and should be {}", leap as u8, expected as u8);
            (leap != expected).then(wrong)
        };
        let is_smeared = rehearsal.smear_s.is_some();
        Self { leap, stratum, receive, transmit, utc, name, is_inserted, is_smeared, fault }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let line = |timestamp: NtpTimestamp| {
            let (seconds, fraction) = (timestamp.bits() >> 32, timestamp.bits() & 0xFFFF_FFFF);
            format!("{}  {seconds:08x}.{fraction:08x}", time_of_day(timestamp.to_utc(self.utc), 9))
        };
        let (leap, stratum) = (self.leap as u8, self.stratum);
        let off = self.receive.since(NtpTimestamp::from_utc(self.utc)).as_seconds_f64();
        let off = if self.is_smeared { format!("  UTC {off:+.6} s") } else { String::new() };
        writeln!(out, "{}  leap {leap}  stratum {stratum}  receive   {}", self.name, line(self.receive))?;
        writeln!(out, "{off:33}transmit  {}", line(self.transmit))?;
        self.fault.iter().try_for_each(|fault| writeln!(out, "  FAULT: {fault}"))
    }

    /// What is to be said between `before` and this one.
    fn remark(&self, before: &Self) -> Option<&'static str> {
        if self.is_smeared {
            return None;
        }
        if self.is_inserted && !before.is_inserted {
            return Some("the inserted second: the count of 23:59:59 comes again");
        }
        let midnight = self.leap != before.leap;
        let left_out = self.utc.unix_seconds() > before.utc.unix_seconds() + 1;
        match (midnight, left_out) {
            (true, true) => Some("23:59:59 was left out, and nothing is announced any more"),
            (false, true) => Some("23:59:59 was left out"),
            (true, false) => Some("nothing is announced any more"),
            (false, false) => None,
        }
    }
}

/// The time of day of a count of UTC.
fn time_of_day(utc: Instant<Utc>, digits: usize) -> String {
    let of_day = utc.unix_seconds().rem_euclid(DAY_S);
    let nanos = utc.unix_nanos().rem_euclid(1_000_000_000);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let mut text = format!("{hour:02}:{minute:02}:{second:02}.{nanos:09}");
    text.truncate(9 + digits);
    text
}

/// Rehearses a leap second and prints the packets around it; whether all were right.
///
/// # Errors
/// When there can be no such leap second, or the output is gone.
pub fn leap(out: &mut impl Write, arguments: &LeapArguments) -> Result<bool, LeapError> {
    let rehearsal = Rehearsal::new(arguments)?;
    let packets = rehearsal.packets()?;
    let Date { year, month, day } = arguments.date;
    let (deed, minute) = if arguments.delete { ("deleted", 59) } else { ("inserted", 61) };
    writeln!(
        out,
        "A second is {deed} at the end of {year}-{month:02}-{day:02}, and the receiver announces it."
    )?;
    match arguments.smear {
        Some(hours) => writeln!(out, "The listener smears it over {hours} h and announces nothing.")?,
        None => writeln!(out, "It is announced on that day: its last minute has {minute} seconds.")?,
    }
    writeln!(out, "True UTC, and what a client reads:")?;
    let mut before: Option<&Packet> = None;
    for packet in &packets {
        if let Some(remark) = before.and_then(|before| packet.remark(before)) {
            writeln!(out, "-- {remark}")?;
        }
        packet.print(out)?;
        before = Some(packet);
    }
    Ok(packets.iter().all(|packet| packet.fault.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(delete: bool) -> LeapArguments {
        LeapArguments { date: Date { year: 2026, month: 12, day: 31 }, delete, smear: None, seed: 1 }
    }

    fn rehearsal(delete: bool) -> Rehearsal {
        Rehearsal::new(&arguments(delete)).expect("a day that may end so")
    }

    /// What clients read around the leap second: leap bits and whole second of the day; and how many were wrong.
    fn read(rehearsal: Rehearsal) -> (Vec<(u8, i64)>, usize) {
        let packets = rehearsal.packets().expect("answered");
        let second = |packet: &Packet| packet.receive.to_utc(packet.utc).unix_seconds().rem_euclid(DAY_S);
        let faults = packets.iter().filter(|packet| packet.fault.is_some()).count();
        (packets.iter().map(|packet| (packet.leap as u8, second(packet))).collect(), faults)
    }

    const LAST: i64 = 86_399;

    #[test]
    fn an_inserted_second_is_counted_again() {
        let before = [(1, LAST - 2), (1, LAST - 1), (1, LAST), (1, LAST), (1, LAST), (1, LAST)];
        let expected = [before.as_slice(), &[(0, 0), (0, 0), (0, 1), (0, 2)]].concat();
        assert_eq!(read(rehearsal(false)), (expected, 0));
    }

    #[test]
    fn a_deleted_second_is_left_out() {
        let before = [(2, LAST - 3), (2, LAST - 2), (2, LAST - 1), (2, LAST - 1)];
        let expected = [before.as_slice(), &[(0, 0), (0, 0), (0, 1), (0, 1), (0, 2), (0, 3)]].concat();
        assert_eq!(read(rehearsal(true)), (expected, 0));
    }

    #[test]
    fn a_smeared_second_is_neither_and_never_announced() {
        for delete in [false, true] {
            let (read, faults) = read(Rehearsal { smear_s: Some(7_200), ..rehearsal(delete) });
            assert_eq!(faults, 0);
            assert!(read.iter().all(|&(leap, _)| leap == 0), "{read:?}");
        }
    }

    #[test]
    fn a_clock_that_nobody_told_is_found_wrong() {
        for smear_s in [None, Some(3_600)] {
            for delete in [false, true] {
                let (_, faults) = read(Rehearsal { announced: false, smear_s, ..rehearsal(delete) });
                assert!(faults > 3, "{faults}");
            }
        }
    }

    #[test]
    fn only_the_end_of_a_month_to_come_is_rehearsed() {
        let refused = |year, month, day| {
            Rehearsal::new(&LeapArguments { date: Date { year, month, day }, ..arguments(false) })
        };
        assert!(matches!(refused(2026, 12, 30), Err(LeapError::NotLastOfMonth)));
        assert!(matches!(refused(2016, 12, 31), Err(LeapError::Past)));
    }
}
