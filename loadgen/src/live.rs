//! Sending from inside the kernel: BPF makes the requests when they are due, and counts, judges and times the replies.
//!
//! The kernel looks at every reply but not at all of it; one in 257 goes on to a packet socket and is validated like any
//! other sender's. A request's cookie is its due time, so nothing is kept per request, and a reply that comes in the time
//! of the ring of cookies (seconds) is valid however late it is.

use crate::clock::Moment;
use crate::link::{Framer, udp_payload};
use crate::mix::Mix;
use crate::open_loop::PATIENCE_AFTER_STOP;
use crate::outcome::{Counts, Outcome};
use crate::reply::{self, Content, Expectation, Fault, Kiss};
use crate::schedule::Schedule;
use crate::session::{SessionError, Setting, refuse_loopback, way_to};
use core_affinity::CoreId;
use maser_sys::live_frames::{
    CountSetting, Interval, LAG_BUCKETS, LiveSender, LiveSetting, ReplyCounter, ReplyCounts, SendCounts,
};
use maser_sys::packet_socket::{Checksum, PacketSocket, Ports};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Of so many valid replies one is validated in user space: a prime, so that all variants of a mix are met.
const SAMPLE_ONE_IN: u32 = 257;
/// The longest interval is 2³² ns.
const LIVE_RATE_MIN: f64 = 0.25;
/// Sampled replies that may wait.
const RING_FRAMES: usize = 1 << 13;
/// How often the counters are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The programs, loaded and attached.
pub struct LiveSession {
    sender: LiveSender,
    counter: ReplyCounter,
    /// What of the replies goes on.
    samples: PacketSocket,
    /// What replies may look like: one for each version and mode that is asked with.
    expectations: Vec<Expectation>,
    echo: bool,
    core: usize,
    timeout: Duration,
    stop: Arc<AtomicBool>,
}

impl LiveSession {
    /// Learns the way, loads and attaches everything.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(setting: &Setting, stop: Arc<AtomicBool>) -> Result<Self, SessionError> {
        let &[core] = setting.cores.as_slice() else { return Err(SessionError::LiveThreads) };
        refuse_loopback(setting.target)?;
        if setting.rate_per_s_max < LIVE_RATE_MIN {
            return Err(SessionError::LiveRate);
        }
        let clients = setting.clients.count();
        let mix = Mix::new(setting.mix, clients, setting.rate_per_s_max, setting.key.clone(), setting.seed)?;
        let variants = mix.live_variants().ok_or(SessionError::MixNotLive(setting.mix.name()))?;
        let way = way_to(setting)?;
        let mut frame = vec![0; 128];
        let length = Framer::new(&way, setting.target).write(
            setting.clients.address(0),
            setting.clients.port(0),
            &mut frame,
            |payload| {
                payload[..40].copy_from_slice(&variants[0]);
                payload[40..48].fill(0);
                48
            },
        );
        frame.truncate(length);
        // A mix of one client sends from the first address, whatever the others are.
        let senders =
            if mix.client(1) == mix.client(0) || setting.clients.address(0).is_none() { 1 } else { clients };
        let counter = ReplyCounter::attach(&CountSetting {
            interface: way.interface,
            target: setting.target,
            key: setting.seed,
            echo: setting.echo,
            sample: SAMPLE_ONE_IN,
            interval: interval(1e9 / setting.rate_per_s_max),
            versions: variants.iter().fold(0, |bits, variant| bits | 1 << expectation(variant).version),
            modes: variants.iter().fold(0, |bits, variant| bits | 1 << expectation(variant).mode),
        })?;
        let samples = PacketSocket::open(way.interface, setting.target, Ports::ALL, RING_FRAMES)?;
        let sender = LiveSender::new(&LiveSetting {
            interface: way.interface,
            frame: &frame,
            clients: senders,
            variants: &variants,
            key: setting.seed,
        })?;
        Ok(Self {
            sender,
            counter,
            samples,
            expectations: variants.iter().map(expectation).collect(),
            echo: setting.echo,
            core,
            timeout: setting.timeout,
            stop,
        })
    }

    /// One in how many replies is validated in user space.
    #[must_use]
    pub const fn sample_one_in(&self) -> u32 {
        SAMPLE_ONE_IN
    }

    /// Runs a step; `seconds` takes what each slice came to.
    ///
    /// # Errors
    /// What ended the step.
    pub fn step(
        &mut self,
        schedule: Schedule,
        slice: Duration,
        seconds: &mut impl FnMut(&Outcome),
    ) -> Result<(), SessionError> {
        let io = |error| SessionError::Io { sender: "live", error };
        let bits = u64::try_from(schedule.interval()).unwrap_or(u64::MAX);
        self.counter.reset().map_err(io)?;
        let interval = Interval::from_bits(bits).unwrap_or(interval(1.0));
        self.sender.schedule(schedule.start().nanos(), interval, schedule.count()).map_err(io)?;
        let mut tally = Tally::default();
        let so_far = Mutex::new(None);
        let Self { sender, counter, samples, expectations, echo, core, timeout, stop } = self;
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                core_affinity::set_for_current(CoreId { id: *core });
                send(sender, counter, &schedule, stop, &so_far)
            });
            let mut slice_end = schedule.start().after(slice);
            let mut faults = [0_u64; reply::FAULTS.len()];
            let mut give_up = None;
            loop {
                thread::sleep(LOOK_EVERY);
                validate(samples, expectations, *echo, &mut faults);
                let now = Moment::now();
                if sending.is_finished() {
                    let patience = if stop.load(Ordering::Relaxed) { PATIENCE_AFTER_STOP } else { *timeout };
                    let give_up = *give_up.get_or_insert_with(|| now.after(patience.min(*timeout)));
                    if now >= give_up || is_complete(&so_far, &counter.counts().map_err(io)?) {
                        break;
                    }
                } else if now >= slice_end && slice_end < schedule.end() {
                    slice_end = slice_end.after(slice);
                    seconds(&tally.slice(&so_far, false, counter, &faults).map_err(io)?);
                }
            }
            sending.join().map_err(|_| SessionError::Panicked)?.map_err(io)?;
            validate(samples, expectations, *echo, &mut faults);
            seconds(&tally.slice(&so_far, true, counter, &faults).map_err(io)?);
            Ok(())
        })
    }
}

/// What was sent, what was due and not sent, until when, and how many valid replies had come by then.
#[derive(Clone, Copy)]
struct Sent {
    counts: SendCounts,
    unsent: u64,
    last_left: Moment,
    answered: u64,
}

/// Whether each request that was sent has had its reply, once sending is over.
fn is_complete(so_far: &Mutex<Option<Sent>>, replies: &ReplyCounts) -> bool {
    let sent = so_far.lock().map_or(None, |sent| *sent);
    sent.is_some_and(|sent| firsts(replies) >= sent.counts.sent)
}

/// Runs the schedule to its end, or to `stop`, and tells after each call into the kernel what was done so far.
fn send(
    sender: &mut LiveSender,
    counter: &ReplyCounter,
    schedule: &Schedule,
    stop: &AtomicBool,
    so_far: &Mutex<Option<Sent>>,
) -> io::Result<()> {
    loop {
        let done = sender.run()?;
        let last_left = Moment::now();
        let (answered, counts) = (counter.counts()?.valid, sender.counts()?);
        let due = schedule.due_by(last_left.min(schedule.end()));
        let sent = Sent { counts, unsent: due.saturating_sub(counts.sent), last_left, answered };
        if let Ok(mut so_far) = so_far.lock() {
            *so_far = Some(sent);
        }
        if done || last_left >= schedule.end() || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

/// Validates what was let through of the replies.
fn validate(
    samples: &mut PacketSocket,
    expectations: &[Expectation],
    echo: bool,
    faults: &mut [u64; reply::FAULTS.len()],
) {
    samples.receive(|frame| {
        let checked = udp_payload(frame.octets, frame.checksum == Checksum::LeftOut).and_then(|payload| {
            let first = payload.first().copied().unwrap_or(0);
            let (version, mode) = ((first >> 3) & 7, first & 7);
            let mut alike = expectations.iter().filter(|expectation| expectation.version == version);
            let exact = alike.clone().find(|expectation| expectation.mode == mode);
            let expectation = exact.or(alike.next()).or(expectations.first()).ok_or(Fault::Unexpected)?;
            if echo {
                reply::check_echo(payload, expectation).map(|()| None)
            } else {
                reply::check(payload, expectation, false, None).map(Some)
            }
        });
        match checked {
            Err(fault) => faults[fault as usize] += 1,
            // The kernel's program counts kisses and doesn't let them through; here they'd be a fault of it.
            Ok(Some(Content::Kiss(_))) => faults[Fault::Unexpected as usize] += 1,
            Ok(_) => {}
        }
    });
}

/// What was already handed over, so that slices are differences.
struct Tally {
    counts: Counts,
    latencies: Vec<(u64, u64)>,
    lags: [u64; LAG_BUCKETS],
}

impl Default for Tally {
    fn default() -> Self {
        Self { counts: Counts::default(), latencies: Vec::new(), lags: [0; LAG_BUCKETS] }
    }
}

impl Tally {
    /// What came since the last slice; what has had no reply is given up when all is over.
    fn slice(
        &mut self,
        so_far: &Mutex<Option<Sent>>,
        over: bool,
        counter: &ReplyCounter,
        faults: &[u64; reply::FAULTS.len()],
    ) -> io::Result<Outcome> {
        let replies = counter.counts()?;
        let mut now = counts(&replies, faults);
        let mut outcome = Outcome::new();
        now.answered_while_sending = now.basic;
        if let Some(sent) = so_far.lock().map_or(None, |sent| *sent) {
            outcome.last_left = Some(sent.last_left);
            now.sent = sent.counts.sent;
            // What is due and not made yet may still be sent; what was refused never will be.
            now.unsent = if over { sent.unsent } else { sent.counts.refused };
            now.octets_sent = 48 * now.sent;
            if over {
                now.answered_while_sending = sent.answered.saturating_sub(replies.valid - now.basic);
                now.given_up = now.sent.saturating_sub(firsts(&replies));
            }
            for ((bucket, count), before) in (0..).zip(sent.counts.lag).zip(&mut self.lags) {
                // The middle of what lies between two powers of 2, but never beyond the latest.
                let lag_ns = ((3_u64 << bucket) / 2).clamp(1, sent.counts.lag_ns_max.max(1));
                let _ = outcome.lag_ns.record_n(lag_ns, count - *before);
                *before = count;
            }
        }
        let mut latencies = Vec::with_capacity(self.latencies.len());
        counter.latency(|middle_ns, count| latencies.push((middle_ns, count)))?;
        for (middle_ns, count) in &latencies {
            let before = self.latencies.iter().find(|(ns, _)| ns == middle_ns).map_or(0, |(_, count)| *count);
            let _ = outcome.latency_ns.record_n((*middle_ns).max(1), count.saturating_sub(before));
        }
        self.latencies = latencies;
        outcome.counts = now.since(&self.counts);
        self.counts = now;
        Ok(outcome)
    }
}

/// Replies that are the first to their request.
pub(crate) const fn firsts(replies: &ReplyCounts) -> u64 {
    replies.valid
        + replies.unsynchronised
        + replies.stratum
        + replies.order
        + replies.mode
        + replies.version
        + replies.kiss_rate
        + replies.kiss_deny
        + replies.kiss_rstr
        + replies.kiss_other
}

/// The kernel's counts in this program's words.
fn counts(replies: &ReplyCounts, faults: &[u64; reply::FAULTS.len()]) -> Counts {
    let mut counts = Counts { faults: *faults, ..Counts::default() };
    // What user space found wrong the kernel had taken for valid.
    counts.basic = replies.valid.saturating_sub(counts.invalid());
    for (fault, count) in [
        (Fault::Length, replies.longer + replies.shorter),
        (Fault::Origin, replies.origin),
        (Fault::Mode, replies.mode),
        (Fault::Version, replies.version),
        (Fault::Unsynchronised, replies.unsynchronised),
        (Fault::Stratum, replies.stratum),
        (Fault::TransmitBeforeReceive, replies.order),
    ] {
        counts.faults[fault as usize] += count;
    }
    counts.unmatched = replies.longer + replies.shorter + replies.origin;
    counts.duplicate = replies.duplicate;
    for (kiss, count) in [
        (Kiss::Rate, replies.kiss_rate),
        (Kiss::Deny, replies.kiss_deny),
        (Kiss::Rstr, replies.kiss_rstr),
        (Kiss::Other, replies.kiss_other),
    ] {
        counts.kisses[kiss as usize] = count;
    }
    // Replies of another length aren't measured by the kernel's program.
    counts.octets_received = 48 * (firsts(replies) + replies.duplicate + replies.origin);
    counts
}

fn expectation(variant: &[u8; 40]) -> Expectation {
    Expectation::of_answered(variant[0], 48)
}

fn interval(nanos: f64) -> Interval {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float conversions saturate")]
    let bits = (nanos.max(1.0) * 2.0_f64.powi(32)) as u64;
    Interval::from_bits(bits).expect("at least a nanosecond")
}
