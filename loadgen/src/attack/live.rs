//! Both parts from inside the kernel.
//!
//! The kernel's program looks at the length, the origin and the head of every reply; nothing goes on to user space.

use super::report::{ByClient, Client, Part, Phase, Spread};
use super::{AttackError, BURST_REQUESTS, Plan, Range, Step};
use crate::clock::Moment;
use crate::link::Framer;
use crate::live::firsts;
use crate::mix::{Mix, MixName};
use crate::outcome::{approximate, percentiles, times};
use crate::reply::{Fault, Kiss};
use crate::schedule::Schedule;
use crate::session::{SessionError, refuse_loopback};
use core_affinity::CoreId;
use maser_sys::live_frames::attack::{
    AnswerCounter, AnswerSetting, Answers, AttackSender, AttackSetting, AttackVariant, COUNTED_MAX, PARTS,
    PartCounts, PartSchedule, PartSetting,
};
use maser_sys::live_frames::{Interval, ReplyCounts};
use maser_sys::packet_socket::Way;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The longest interval is 2³² ns.
pub(super) const RATE_MIN: f64 = 0.25;
/// From the order to the first request.
const LEAD: Duration = Duration::from_millis(20);
/// How often it is looked whether all has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Versions 1 to 4, and the modes that answer clients and peers.
const VERSIONS: u8 = 0b1_1110;
const MODES: u8 = 1 << 4 | 1 << 2;
/// Clients that are named.
const TOP: usize = 10;

/// The programs, loaded and attached.
pub(super) struct LiveAttack {
    sender: AttackSender,
    counter: AnswerCounter,
    stop: Arc<AtomicBool>,
}

impl LiveAttack {
    /// Learns the way, loads and attaches everything.
    pub(super) fn open(plan: &Plan, stop: &Arc<AtomicBool>) -> Result<Self, AttackError> {
        refuse_loopback(plan.target)?;
        let mut request = [0; 48];
        request[0] = 0x23;
        request[40..].copy_from_slice(&plan.seed.to_be_bytes());
        let patience = plan.timeout.max(Duration::from_secs(1));
        let way = maser_sys::packet_socket::way_to(plan.target, &request, patience)?;
        let frames = [plan.honest, plan.flood.range].map(|range| frame(plan, &way, range.address(0)));
        let counted = if plan.flood.range.count <= COUNTED_MAX { plan.flood.range.count } else { 0 };
        let intervals = [plan.honest_per_s, plan.flood_per_s].map(interval);
        let counter = AnswerCounter::attach(&AnswerSetting {
            interface: way.interface,
            target: plan.target,
            key: plan.seed,
            versions: VERSIONS,
            modes: MODES,
            first: [plan.honest.first, plan.flood.range.first],
            clients: [plan.honest.count, plan.flood.range.count],
            interval: intervals,
            counted,
        })?;
        let honest = honest_variants(plan)?;
        let sender = AttackSender::new(&AttackSetting {
            interface: way.interface,
            key: plan.seed,
            honest: PartSetting {
                frame: &frames[0],
                clients: plan.honest.count,
                rows: &[],
                variants: &honest,
            },
            flood: PartSetting {
                frame: &frames[1],
                clients: plan.flood.range.count,
                rows: &plan.flood.rows,
                variants: &plan.flood.variants,
            },
            counted,
        })?;
        Ok(Self { sender, counter, stop: Arc::clone(stop) })
    }

    /// Runs a phase.
    pub(super) fn phase(&mut self, plan: &Plan, step: Step) -> Result<Phase, SessionError> {
        let io = |error| SessionError::Io { sender: "live", error };
        self.counter.reset().map_err(io)?;
        let begun = Moment::now().after(LEAD);
        let flood_begun = begun.after(Duration::from_secs_f64(0.5 / plan.honest_per_s));
        let schedules = [
            Schedule::new(begun, plan.honest_per_s, step.time),
            Schedule::new(flood_begun, plan.flood_per_s, step.time),
        ];
        let [honest, flood] = schedules.map(part_schedule);
        let bursts = PartSchedule { cohort: plan.cohort(), rounds: BURST_REQUESTS, ..honest };
        let in_turn = PartSchedule { cohort: plan.honest.count, ..honest };
        let flood = PartSchedule {
            cohort: plan.flood.range.count,
            count: if step.flood { flood.count } else { 0 },
            ..flood
        };
        self.sender.schedule([if step.bursts { bursts } else { in_turn }, flood]).map_err(io)?;
        let end = schedules[1].end();
        let Self { sender, stop, .. } = self;
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                core_affinity::set_for_current(CoreId { id: plan.core });
                // What is due at the end is made by then, or never.
                while !sender.run()? && Moment::now() < end && !stop.load(Ordering::Relaxed) {}
                Ok(())
            });
            sending.join().map_err(|_| SessionError::Panicked)?.map_err(io)
        })?;
        let stopped_at = Moment::now().min(end);
        let sent = self.sender.counts().map_err(io)?;
        let give_up = Moment::now().after(plan.timeout);
        while Moment::now() < give_up && !is_complete(&sent, &self.counter.answers().map_err(io)?) {
            thread::sleep(LOOK_EVERY);
        }
        let duration_s = stopped_at.since(begun).as_secs_f64();
        let due = |part: usize| schedules[part].due_by(stopped_at);
        let honest = self.part(0, &sent[0], due(0), plan.honest_per_s).map_err(io)?;
        let flood = step.flood.then(|| {
            let mut flood = self.part(1, &sent[1], due(1), plan.flood_per_s)?;
            flood.clients = self.by_client(&plan.flood.range, duration_s)?;
            Ok(flood)
        });
        let flood = flood.transpose().map_err(io)?;
        Ok(Phase {
            name: step.name.to_owned(),
            duration_s,
            generator_kept_up: honest.kept_up(duration_s)
                && flood.as_ref().is_none_or(|flood| flood.kept_up(duration_s)),
            honest,
            flood,
        })
    }

    fn part(&self, part: usize, sent: &PartCounts, due: u64, rate_requested: f64) -> io::Result<Part> {
        let Answers { replies, octets } = self.counter.answers()?[part];
        let mut latency_ns = times();
        self.counter.latency(part, |middle_ns, count| {
            let _ = latency_ns.record_n(middle_ns.max(1), count);
        })?;
        let mut lag_ns = times();
        for (bucket, count) in (0..).zip(sent.lag) {
            // The middle of what lies between two powers of 2, but never beyond the latest.
            let _ = lag_ns.record_n(((3_u64 << bucket) / 2).clamp(1, sent.lag_ns_max.max(1)), count);
        }
        let answered = replies.valid + replies.unsynchronised;
        let kisses = [
            (Kiss::Rate, replies.kiss_rate),
            (Kiss::Deny, replies.kiss_deny),
            (Kiss::Rstr, replies.kiss_rstr),
            (Kiss::Other, replies.kiss_other),
        ];
        let kissed = kisses.iter().map(|(_, count)| count).sum();
        Ok(Part {
            rate_requested,
            due,
            made: sent.made,
            sent: sent.sent,
            refused: sent.made.saturating_sub(sent.sent),
            answered,
            unsynchronised: replies.unsynchronised,
            silent: sent.sent.saturating_sub(firsts(&replies)),
            kissed,
            kisses: named(kisses.map(|(kiss, count)| (kiss.code(), count))),
            faults: named(faults(&replies)),
            duplicate: replies.duplicate,
            longer: replies.longer,
            octets_sent: sent.octets,
            octets_received: octets,
            latency_ns: percentiles(&latency_ns),
            lag_ns: percentiles(&lag_ns),
            clients: None,
        })
    }

    /// What each client of the flood got, if they were counted.
    fn by_client(&self, range: &Range, duration_s: f64) -> io::Result<Option<ByClient>> {
        let (asked, got) = (self.sender.asked()?, self.counter.by_client()?);
        let mut all: Vec<_> = (0..).zip(asked).zip(got).filter(|((_, asked), _)| *asked > 0).collect();
        if all.is_empty() {
            return Ok(None);
        }
        let per_s = |count: u64| approximate(count) / duration_s;
        let mut by_client = ByClient {
            asked: all.len() as u64,
            asked_per_s: Spread::of(all.iter().map(|((_, asked), _)| per_s(*asked)).collect()),
            answered_per_s: Spread::of(all.iter().map(|(_, got)| per_s(got.answered)).collect()),
            kissed: Spread::of(all.iter().map(|(_, got)| approximate(got.kissed)).collect()),
            top: Vec::new(),
        };
        all.sort_by_key(|((client, asked), _)| (std::cmp::Reverse(*asked), *client));
        by_client.top = all
            .iter()
            .take(TOP)
            .map(|((client, asked), got)| Client {
                address: range.address(*client).to_string(),
                sent: *asked,
                answered: got.answered,
                kissed: got.kissed,
            })
            .collect();
        Ok(Some(by_client))
    }
}

/// A request's headers.
fn frame(plan: &Plan, way: &Way, from: IpAddr) -> Vec<u8> {
    let mut frame = vec![0; 128];
    let length = Framer::new(way, plan.target).write(Some(from), 1024, &mut frame, |payload| {
        payload[..48].fill(0);
        48
    });
    frame.truncate(length);
    frame
}

/// What chronyd and ntpd send.
fn honest_variants(plan: &Plan) -> Result<Vec<AttackVariant>, AttackError> {
    let mix = Mix::new(MixName::Ntpv4, plan.honest.count, plan.honest_per_s, None, plan.seed)?;
    let heads = mix.live_variants().expect("ntpv4 is of headers alone");
    Ok(heads.into_iter().map(|head| AttackVariant { head, tail: [0; 8], length: 48 }).collect())
}

fn interval(per_s: f64) -> Interval {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float conversions saturate")]
    let bits = (1e9 / per_s * 2.0_f64.powi(32)) as u64;
    Interval::from_bits(bits).expect("rates are bounded on the command line")
}

fn part_schedule(schedule: Schedule) -> PartSchedule {
    PartSchedule {
        start_ns: schedule.start().nanos(),
        interval: u64::try_from(schedule.interval())
            .ok()
            .and_then(Interval::from_bits)
            .unwrap_or(interval(RATE_MIN)),
        count: schedule.count(),
        cohort: 1,
        rounds: 1,
    }
}

/// Whether each request that was sent has had its reply.
fn is_complete(sent: &[PartCounts; PARTS], answers: &[Answers; PARTS]) -> bool {
    sent.iter().zip(answers).all(|(sent, answers)| firsts(&answers.replies) >= sent.sent)
}

fn faults(replies: &ReplyCounts) -> [(&'static str, u64); 6] {
    [
        (Fault::Length, replies.longer + replies.shorter),
        (Fault::Origin, replies.origin),
        (Fault::Mode, replies.mode),
        (Fault::Version, replies.version),
        (Fault::Stratum, replies.stratum),
        (Fault::TransmitBeforeReceive, replies.order),
    ]
    .map(|(fault, count)| (fault.name(), count))
}

/// Those that happened.
fn named<const N: usize>(counts: [(&'static str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}
