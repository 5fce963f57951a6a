//! The threads of a run: one a core, each with its own link, ledger and clients; steps are sent to all and merged.

use crate::accuracy::Accuracy;
use crate::clients::Clients;
use crate::clock::Moment;
use crate::conversations::Conversations;
use crate::cookie::Cookies;
use crate::key::Key;
use crate::ledger::Ledger;
use crate::link::{Link, PacketLink, PacketLinkError, UdpLink, UdpLinkError};
use crate::live::LiveSession;
use crate::mix::{Mix, MixError, MixName};
use crate::open_loop::{Books, Judge, Part, Sender};
use crate::outcome::Outcome;
use crate::schedule::Schedule;
use crate::summary::{Coverage, Summary};
use core_affinity::CoreId;
use maser_sys::live_frames::LiveError;
use maser_sys::packet_socket::{PacketError, Way, WayError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use thiserror::Error;

/// From the order to the first request: time for the threads to wake up.
const LEAD: Duration = Duration::from_millis(20);
/// Outcomes in circulation per thread: one is filled, one is read, one waits.
const OUTCOMES: usize = 3;
/// Outcomes are handed over so often: a line of a soak.
const SLICE: Duration = Duration::from_secs(1);

/// Interleaving clients, whose last exchange is kept: some 100 octets each.
const INTERLEAVING_MAX: u32 = 1 << 20;

/// Which way requests leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum SenderName {
    /// Plain UDP sockets: no privilege, up to some 350,000 requests a second and core. With --from, the network must be
    /// this machine's: `ip route add local PREFIX dev lo`
    Udp,
    /// A packet socket past the network stack, from any address of --from: CAP_NET_RAW, up to some 900,000
    Packet,
    /// Frames sent and replies counted inside the kernel (BPF): CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, Linux 5.18; millions.
    /// It takes every reply of this server that comes by the interface, also those to other programs
    Live,
}

impl SenderName {
    /// As on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Packet => "packet",
            Self::Live => "live",
        }
    }
}

/// What stays the same through all steps of a run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Whom to ask.
    pub target: SocketAddr,
    /// Which way.
    pub sender: SenderName,
    /// What to ask.
    pub mix: MixName,
    /// The key of authenticated requests.
    pub key: Option<Key>,
    /// Who asks.
    pub clients: Clients,
    /// The cores of the sending threads; one thread each.
    pub cores: Vec<usize>,
    /// Replies are echoes.
    pub echo: bool,
    /// Requests wait for replies.
    pub closed_loop: bool,
    /// Samples a second of the accuracy of stamps; 0 for none.
    pub stamps_per_s: f64,
    /// How long replies are waited for.
    pub timeout: Duration,
    /// The highest rate of any step.
    pub rate_per_s_max: f64,
    /// What transmit timestamps and random choices are made from.
    pub seed: u64,
}

/// Why a run can't begin, or had to end.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A link of sockets could not be opened.
    #[error(transparent)]
    UdpLink(#[from] UdpLinkError),
    /// A packet socket could not be opened.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A packet link could not be opened.
    #[error(transparent)]
    PacketLink(#[from] PacketLinkError),
    /// The kernel drops such frames.
    #[error(
        "frames to {0} would be taken for forgeries by this machine's kernel, which gives 127.0.0.0/8 to sockets only; \
         use --sender udp"
    )]
    Loopback(SocketAddr),
    /// The way to the server could not be learnt.
    #[error(transparent)]
    Way(#[from] WayError),
    /// The programs inside the kernel could not be used.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// This mix can't be sent so.
    #[error(transparent)]
    Mix(#[from] MixError),
    /// The sender inside the kernel sends constant requests only.
    #[error("the mix {0} can't be sent from inside the kernel; use --sender packet")]
    MixNotLive(&'static str),
    /// One thread is the sender inside the kernel.
    #[error("the sender inside the kernel has one thread; name one core")]
    LiveThreads,
    /// The exchanges of so many clients would take gigabytes.
    #[error(
        "of interleaving clients the last exchange is kept: at most {INTERLEAVING_MAX} clients interleave, not {0}"
    )]
    Interleaving(u32),
    /// A client's requests leave from all threads, and its exchanges are known to one.
    #[error("clients that interleave are of one thread; name one core with --cores, not {0}")]
    InterleavingThreads(usize),
    /// An interleaved request follows from the reply before.
    #[error("the sender inside the kernel can't interleave; use --sender udp or packet")]
    InterleavingLive,
    /// The sender inside the kernel counts nanoseconds to the next request in 32 bits.
    #[error("the sender inside the kernel sends at least a request every 4 s; use --sender udp for less")]
    LiveRate,
    /// Threads tell their replies apart by the low bits of the port.
    #[error("a number of threads that is a power of two is needed for the packet sender, not {0}")]
    PacketThreads(usize),
    /// Sending or receiving failed for good.
    #[error("the {sender} sender has failed: {error}")]
    Io {
        /// Which one.
        sender: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A thread has panicked: a bug.
    #[error("a sending thread has panicked: please report this, with the lines above")]
    Panicked,
}

/// What a step is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    /// Requests a second.
    pub rate_per_s: f64,
    /// For so long.
    pub duration: Duration,
    /// Somebody wants to see each second.
    pub by_second: bool,
}

/// An order to a thread.
type Order = Part;

/// What a thread hands over: an outcome of a slice, or the end of the step.
enum Report {
    Slice(Box<Outcome>),
    Done(io::Result<()>),
}

struct Worker {
    orders: Channel<Order>,
    reports: Receiver<Report>,
    /// Empty outcomes on their way back.
    empties: Channel<Box<Outcome>>,
    thread: JoinHandle<()>,
}

/// The threads, waiting for a step.
pub struct Session {
    setting: Setting,
    stop: Arc<AtomicBool>,
    kind: Kind,
}

enum Kind {
    Workers(Vec<Worker>),
    Live(Box<LiveSession>),
}

impl Session {
    /// Opens the links and starts the threads. `stop` ends a step before its time.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(setting: Setting, stop: Arc<AtomicBool>) -> Result<Self, SessionError> {
        check_interleaving(&setting)?;
        let kind = match setting.sender {
            SenderName::Udp => Kind::Workers(Self::udp(&setting, &stop)?),
            SenderName::Packet => Kind::Workers(Self::packet(&setting, &stop)?),
            SenderName::Live => Kind::Live(Box::new(LiveSession::open(&setting, Arc::clone(&stop))?)),
        };
        Ok(Self { setting, stop, kind })
    }

    fn udp(setting: &Setting, stop: &Arc<AtomicBool>) -> Result<Vec<Worker>, SessionError> {
        let mut workers = Vec::new();
        for (index, core) in setting.cores.iter().enumerate() {
            let alike = setting.clients.interleaving() == 0 && setting.mix != MixName::Flood;
            let link = UdpLink::open(setting.target, setting.clients, alike)?;
            workers.push(Worker::start(link, setting, index, *core, stop));
        }
        Ok(workers)
    }

    fn packet(setting: &Setting, stop: &Arc<AtomicBool>) -> Result<Vec<Worker>, SessionError> {
        refuse_loopback(setting.target)?;
        let threads = setting.cores.len();
        let turns = u16::try_from(threads)
            .ok()
            .filter(|turns| turns.is_power_of_two())
            .ok_or(SessionError::PacketThreads(threads))?;
        let way = way_to(setting)?;
        let mut workers = Vec::new();
        for (turn, (index, core)) in (0..).zip(setting.cores.iter().enumerate()) {
            let link = PacketLink::open(setting.target, &way, setting.clients, turn, turns)?;
            workers.push(Worker::start(link, setting, index, *core, stop));
        }
        Ok(workers)
    }

    /// Runs a step; `each_second` sees what each second of it came to, if the step is long or asks for that.
    ///
    /// # Errors
    /// What ended the step.
    pub fn step(
        &mut self,
        step: Step,
        mut each_second: impl FnMut(&Summary),
    ) -> Result<(Outcome, Summary), SessionError> {
        let begun = Moment::now().after(LEAD);
        let schedule = Schedule::new(begun, step.rate_per_s, step.duration);
        // Handing over takes the core from the sender for a moment; a short step has nobody to look at it meanwhile.
        let long = step.by_second || step.duration > 2 * SLICE;
        let slice = if long { SLICE } else { step.duration };
        let clients = u64::from(self.setting.clients.count());
        let mut whole = Outcome::new();
        let stop = &self.stop;
        let mut slice_begun = begun;
        let mut seconds = |outcome: &Outcome| {
            let lost_before = whole.counts.lost();
            whole.merge(outcome);
            // The last is as long as sending went on.
            let mut length = slice.min(schedule.end().since(slice_begun));
            if stop.load(Ordering::Relaxed) {
                length = outcome.last_left.map_or(Duration::ZERO, |left| left.since(slice_begun)).min(slice);
            }
            slice_begun = slice_begun.after(slice);
            let mut second = outcome.summary(step.rate_per_s, clients, length);
            // What is given up now may be what came unmatched a second ago.
            second.lost = whole.counts.lost().saturating_sub(lost_before);
            each_second(&second);
        };
        match &mut self.kind {
            Kind::Live(live) => live.step(schedule, slice, &mut seconds)?,
            Kind::Workers(workers) => {
                run_workers(workers, &self.setting, schedule, step, slice, &mut seconds)?
            }
        }
        let last_left = whole.last_left.map_or(Duration::ZERO, |left| left.since(begun));
        let sent_for = if self.setting.closed_loop || self.stop.load(Ordering::Relaxed) {
            last_left
        } else {
            // A sender that is late goes on for a moment, and its rate isn't higher for that.
            last_left.max(schedule.end().since(begun))
        };
        let summary = whole.summary(step.rate_per_s, clients, sent_for);
        Ok((whole, summary))
    }

    /// Who validates the replies.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        match &self.kind {
            Kind::Workers(_) => Coverage::All,
            Kind::Live(live) => Coverage::SampleOneIn(live.sample_one_in()),
        }
    }

    /// Ends the threads.
    ///
    /// # Errors
    /// If one has panicked.
    pub fn close(self) -> Result<(), SessionError> {
        if let Kind::Workers(workers) = self.kind {
            for Worker { orders, thread, .. } in workers {
                drop(orders);
                thread.join().map_err(|_| SessionError::Panicked)?;
            }
        }
        Ok(())
    }
}

/// Whether this many clients can interleave, this way.
fn check_interleaving(setting: &Setting) -> Result<(), SessionError> {
    match (setting.clients.interleaving(), setting.sender, setting.cores.len()) {
        (0, _, _) => Ok(()),
        (_, SenderName::Live, _) => Err(SessionError::InterleavingLive),
        (clients, _, _) if clients > INTERLEAVING_MAX => Err(SessionError::Interleaving(clients)),
        (_, _, threads) if threads > 1 => Err(SessionError::InterleavingThreads(threads)),
        _ => Ok(()),
    }
}

/// Frames on the loopback interface with addresses of 127.0.0.0/8 never reach a socket (`route_localnet` is off).
pub(crate) fn refuse_loopback(target: SocketAddr) -> Result<(), SessionError> {
    let is_refused = target.is_ipv4() && target.ip().is_loopback();
    if is_refused { Err(SessionError::Loopback(target)) } else { Ok(()) }
}

/// Asks the server once, the plain way, to learn by which interface and through whom it is reached.
pub(crate) fn way_to(setting: &Setting) -> Result<Way, WayError> {
    let mut request = [0; 48];
    request[0] = 0x23;
    request[40..].copy_from_slice(&Cookies::new(setting.seed).of(0).to_be_bytes());
    maser_sys::packet_socket::way_to(setting.target, &request, setting.timeout.max(Duration::from_secs(1)))
}

impl Worker {
    fn start<L: Link + Send + 'static>(
        link: L,
        setting: &Setting,
        index: usize,
        core: usize,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let (orders, coming_orders) = channel::<Order>();
        let (reports, coming_reports) = channel();
        let (empties, coming_empties) = channel();
        for _ in 0..OUTCOMES {
            let _ = empties.send(Box::new(Outcome::new()));
        }
        let threads = setting.cores.len();
        let rate_per_s = setting.rate_per_s_max / share_of(threads);
        let cookies = Cookies::new(setting.seed.wrapping_add(index as u64));
        let ledger = Ledger::new(cookies, rate_per_s, setting.timeout);
        let judge = if setting.echo { Judge::Echo } else { Judge::Ntp(setting.key.clone()) };
        let conversations = Conversations::new(setting.clients);
        let mut sender = Sender::new(link, judge, Books { ledger, conversations, accuracy: Accuracy::new() });
        let stop = Arc::clone(stop);
        let thread = thread::spawn(move || {
            core_affinity::set_for_current(CoreId { id: core });
            for order in coming_orders {
                let done = sender.run(&order, &stop, |outcome| {
                    if let Some(outcome) = outcome {
                        let _ = reports.send(Report::Slice(outcome));
                    }
                    // If the other side is slow a new one is made: late is better than never.
                    coming_empties.try_recv().unwrap_or_default()
                });
                if reports.send(Report::Done(done)).is_err() {
                    break;
                }
            }
        });
        Self { orders, reports: coming_reports, empties, thread }
    }
}

/// Sends a step to all threads and merges what they report, slice by slice.
fn run_workers(
    workers: &[Worker],
    setting: &Setting,
    schedule: Schedule,
    step: Step,
    slice: Duration,
    seconds: &mut impl FnMut(&Outcome),
) -> Result<(), SessionError> {
    let threads = workers.len() as u64;
    for (index, worker) in (0..).zip(workers) {
        let part = schedule.part(index, threads);
        let rate_per_s = step.rate_per_s / share_of(workers.len());
        let mix = Mix::new(
            setting.mix,
            setting.clients.count(),
            rate_per_s,
            setting.key.clone(),
            setting.seed.wrapping_add(index),
        )?;
        let stamps_per_s = setting.stamps_per_s / share_of(workers.len());
        let order = Part {
            mix,
            stamps_per_s,
            schedule: part,
            timeout: setting.timeout,
            slice,
            closed_loop: setting.closed_loop,
        };
        worker.orders.send(order).map_err(|_| SessionError::Panicked)?;
    }
    let mut running = vec![true; workers.len()];
    while running.contains(&true) {
        let mut merged: Option<Outcome> = None;
        for (worker, running) in workers.iter().zip(&mut running) {
            if !*running {
                continue;
            }
            match worker.reports.recv().map_err(|_| SessionError::Panicked)? {
                Report::Slice(mut outcome) => {
                    merged.get_or_insert_default().merge(&outcome);
                    outcome.clear();
                    let _ = worker.empties.send(outcome);
                }
                Report::Done(done) => {
                    *running = false;
                    done.map_err(|error| SessionError::Io { sender: setting.sender.word(), error })?;
                }
            }
        }
        if let Some(merged) = merged {
            seconds(&merged);
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a handful of threads")]
fn share_of(threads: usize) -> f64 {
    threads as f64
}
