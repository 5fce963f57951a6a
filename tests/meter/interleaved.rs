//! Interleaved mode (RFC 9769) against a server of plain sockets that does it right, or wrong in one known way.
//!
//! The server stamps a reply as it is written and sends it [`EARLY_NS`] later, so that basic transmit timestamps are early by
//! at least this much, and what the clock said just before it left, which an interleaved reply tells, is right.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use core_affinity::CoreId;
use maser_core::time::{Instant, NtpTimestamp, Utc};
use maser_sys::kernel_clock::{KernelClock, read};
use serde_json::Value;

use crate::load::{count, measure, number, settles};

const EARLY_NS: i64 = 50_000;
const MS: i64 = 1_000_000;
/// A client asks every 99 ms; a late reply comes after its next request.
const ASK: &str = "--from 127.1.0.0/16 --clients 99 --rate 1k --time 3";
const LATE_NS: i64 = 150 * MS;
/// Servers and generators spin: one pair of them at a time.
static ALONE: Mutex<()> = Mutex::new(());
/// Pairs that are kept of a client.
const KEPT: usize = 8;

const ORIGIN: usize = 24;
const RECEIVE: usize = 32;
const TRANSMIT: usize = 40;

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Plant {
    Nothing,
    /// An interleaved reply has the transmit timestamp of the exchange before the one that was named.
    OlderPair,
    /// It has that of the newest reply to anybody.
    NewestPair,
    /// It is off by so many nanoseconds.
    Off(i64),
    /// Basic requests are answered interleaved.
    Unasked,
    /// Nothing is wrong but the way: of twenty replies one is lost, one comes twice and one comes late.
    RoughWay,
}

struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(plant: Plant) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket can be so");
        let address = socket.local_addr().expect("it is bound");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            // The generator has the last core.
            core_affinity::set_for_current(CoreId { id: 0 });
            let mut state =
                State { socket, plant, pairs: HashMap::new(), newest: 0, late: VecDeque::new(), served: 0 };
            while !told.load(Ordering::Relaxed) {
                state.turn();
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    fn measured(plant: Plant, words: &str) -> Value {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let server = Self::start(plant);
        measure(&format!("fixed {} {ASK} {words}", server.address))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

struct Reply {
    octets: [u8; 48],
    to: SocketAddr,
    /// It leaves no earlier, by the machine's clock in nanoseconds since 1970.
    due_ns: i64,
}

struct State {
    socket: UdpSocket,
    plant: Plant,
    /// By client: receive timestamp handed out, and when its reply left, the newest last.
    pairs: HashMap<SocketAddr, VecDeque<(u64, i64)>>,
    /// When the newest reply to anybody left.
    newest: i64,
    late: VecDeque<Reply>,
    served: u32,
}

impl State {
    /// Answers what has come, and sends what was held back.
    fn turn(&mut self) {
        let mut request = [0; 48];
        if let Ok((48, from)) = self.socket.recv_from(&mut request) {
            self.answer(&request, from);
        }
        if self.late.front().is_some_and(|reply| reply.due_ns <= now_ns()) {
            let reply = self.late.pop_front().expect("the first");
            self.send(&reply, 1);
        }
    }

    fn answer(&mut self, request: &[u8; 48], from: SocketAddr) {
        let receive_ns = now_ns();
        let (origin, receive) = (word(request, ORIGIN), word(request, RECEIVE));
        let kept = self.pairs.entry(from).or_default();
        let place = kept.iter().position(|(handed_out, _)| *handed_out == origin);
        let is_asked = receive != 0 && receive != word(request, TRANSMIT);
        let (named, older) = (
            place.map(|place| kept[place].1),
            place.and_then(|place| Some(kept.get(place.checked_sub(1)?)?.1)),
        );
        let interleaved = match self.plant {
            Plant::Unasked if place.is_none() => kept.back().map(|(_, left_ns)| *left_ns),
            Plant::OlderPair => older.filter(|_| is_asked),
            Plant::NewestPair => named.filter(|_| is_asked).map(|_| self.newest),
            Plant::Off(off_ns) => named.filter(|_| is_asked).map(|left_ns| left_ns + off_ns),
            Plant::Nothing | Plant::Unasked | Plant::RoughWay => named.filter(|_| is_asked),
        };
        let mut octets = [0; 48];
        octets[..3].copy_from_slice(&[0x24, 1, request[2]]);
        octets[12..16].copy_from_slice(b"TEST");
        let (origin_from, transmit_ns) =
            interleaved.map_or((TRANSMIT, now_ns()), |left_ns| (RECEIVE, left_ns));
        octets[ORIGIN..RECEIVE].copy_from_slice(&request[origin_from..origin_from + 8]);
        octets[RECEIVE..TRANSMIT].copy_from_slice(&ntp(receive_ns).to_be_bytes());
        octets[TRANSMIT..].copy_from_slice(&ntp(transmit_ns).to_be_bytes());
        self.served += 1;
        let mut reply = Reply { octets, to: from, due_ns: now_ns() + EARLY_NS };
        match self.served % 20 {
            7 if self.plant == Plant::RoughWay => {}
            13 if self.plant == Plant::RoughWay => self.send(&reply, 2),
            17 if self.plant == Plant::RoughWay => {
                reply.due_ns += LATE_NS;
                self.late.push_back(reply);
            }
            _ => self.send(&reply, 1),
        }
    }

    /// Sends a reply once it is due, so many times, and keeps when it left first.
    fn send(&mut self, reply: &Reply, times: u32) {
        while now_ns() < reply.due_ns {
            std::hint::spin_loop();
        }
        let left_ns = now_ns();
        for _ in 0..times {
            self.socket.send_to(&reply.octets, reply.to).expect("loopback takes it");
        }
        self.newest = left_ns;
        let kept = self.pairs.entry(reply.to).or_default();
        kept.push_back((word(&reply.octets, RECEIVE), left_ns));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
}

fn now_ns() -> i64 {
    read(KernelClock::Realtime)
}

fn ntp(unix_ns: i64) -> u64 {
    let nanos = u32::try_from(unix_ns.rem_euclid(1_000_000_000)).expect("below 10⁹");
    NtpTimestamp::from_utc(Instant::<Utc>::from_unix(unix_ns.div_euclid(1_000_000_000), nanos)).bits()
}

fn word(octets: &[u8; 48], at: usize) -> u64 {
    u64::from_be_bytes(octets[at..at + 8].try_into().expect("eight octets"))
}

const BASIC: &str = "transmit_error_ns";
const INTERLEAVED: &str = "interleaved_transmit_error_ns";

/// A figure of the transmit errors of a kind, in microseconds.
fn error_us(run: &Value, kind: &str, figure: &str) -> f64 {
    number(run, &format!("{kind}.{figure}")) / 1e3
}

fn counts<const N: usize>(run: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| count(run, name))
}

/// No reply is invalid, and those that were asked to be are interleaved: all, but where the machine stalled.
fn interleaves(run: &Value) -> bool {
    let [received, basic, interleaved, asked] =
        counts(run, ["received", "basic", "interleaved", "interleaving"]);
    assert_eq!(received, basic + interleaved, "{run}");
    interleaved > asked * 9 / 10 && interleaved > 0
}

fn verdict(is_right: bool, run: &Value) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(run.to_string()) }
}

#[test]
fn a_server_that_interleaves_right_is_said_to() {
    settles(|| {
        let run = Server::measured(Plant::Nothing, "--interleaved");
        let [sent, interleaved, measured] =
            counts(&run, ["sent", "interleaved", "interleaved_transmit_error_ns.count"]);
        let [basic_us, p50_us] = [BASIC, INTERLEAVED].map(|kind| error_us(&run, kind, "p50"));
        crate::peers::log(&format!(
            "stamped 50 µs early: basic {basic_us:.1} µs, interleaved {p50_us:.1} µs (p50)"
        ));
        // All but the first replies, and where the machine stalls those to requests that overtook a reply.
        let most = interleaved > sent * 9 / 10 && measured > sent * 8 / 10;
        verdict(interleaves(&run) && most && basic_us >= 50.0 && p50_us < 25.0, &run)
    });
}

#[test]
fn a_share_of_the_clients_interleaves_and_the_others_dont() {
    settles(|| {
        let run = Server::measured(Plant::Nothing, "--interleaved=33.34%");
        assert_eq!(count(&run, "setting.interleaving_clients"), 33, "{run}");
        let share = number(&run, "interleaved") / number(&run, "received");
        let [basic_us, p50_us] = [BASIC, INTERLEAVED].map(|kind| error_us(&run, kind, "p50"));
        verdict(
            interleaves(&run) && (0.3..1.0 / 3.0).contains(&share) && basic_us >= 50.0 && p50_us < 25.0,
            &run,
        )
    });
}

#[test]
fn a_transmit_timestamp_that_is_late_is_told_to_the_microsecond() {
    settles(|| {
        let run = Server::measured(Plant::Off(MS), "--interleaved");
        let (p50_us, mean_us) = (error_us(&run, INTERLEAVED, "p50"), error_us(&run, INTERLEAVED, "mean"));
        crate::peers::log(&format!("1 ms late: {mean_us:.1} µs, p50 of the magnitude {p50_us:.1} µs"));
        verdict(interleaves(&run) && (975.0..1_001.0).contains(&p50_us) && mean_us < 0.0, &run)
    });
}

/// No clock need be shared to see that it is of before the request which it is said to have answered.
#[test]
fn a_transmit_timestamp_that_is_early_is_invalid() {
    settles(|| {
        let run = Server::measured(Plant::Off(-MS), "--interleaved --stamps 0");
        let [interleaved, wrong] = counts(&run, ["interleaved", "faults.transmit-before-receive"]);
        verdict(wrong > 1_000 && wrong > interleaved * 9, &run)
    });
}

#[test]
fn the_wrong_pair_is_found_whosever_it_is() {
    settles(|| {
        let run = Server::measured(Plant::OlderPair, "--interleaved --stamps 0");
        let [interleaved, wrong] = counts(&run, ["interleaved", "faults.transmit-before-receive"]);
        verdict(wrong > 500 && wrong > interleaved * 9, &run)
    });
    settles(|| {
        // What left last did so some 99 ms after what was named.
        let run = Server::measured(Plant::NewestPair, "--interleaved");
        let (p50_us, mean_us) = (error_us(&run, INTERLEAVED, "p50"), error_us(&run, INTERLEAVED, "mean"));
        verdict(interleaves(&run) && p50_us > 50_000.0 && mean_us < 0.0, &run)
    });
}

#[test]
fn an_interleaved_reply_that_nobody_asked_for_is_invalid() {
    settles(|| {
        let run = Server::measured(Plant::Unasked, "--mix ntpv4");
        let [sent, basic, interleaved, asked] =
            counts(&run, ["sent", "basic", "interleaved", "interleaving"]);
        assert_eq!((interleaved, asked), (0, 0), "{run}");
        // Of requests without a receive timestamp only the origin is wrong.
        let [named, nameless] = counts(&run, ["faults.interleaved", "faults.origin"]);
        verdict(basic < sent / 5 && named > sent / 5 && nameless > sent / 5, &run)
    });
}

#[test]
fn replies_lost_doubled_and_late_are_not_mixed_up() {
    // With the shorter timeout, what is late is given up.
    for (timeout, given_up) in [("500ms", 1.0), ("60ms", 2.0)] {
        settles(|| {
            let words = format!("--interleaved --timeout {timeout}");
            let run = Server::measured(Plant::RoughWay, &words);
            assert_eq!(count(&run, "invalid"), 0, "{run}");
            let [sent, lost, twice, asked, interleaved] =
                ["sent", "lost", "duplicate", "interleaving", "interleaved"].map(|part| number(&run, part));
            let [p50_us, p99_us] = ["p50", "p99"].map(|figure| error_us(&run, INTERLEAVED, figure));
            crate::peers::log(&format!(
                "of 20 one lost, twice, late: {lost} lost and {twice} twice of {sent}, {interleaved} of {asked} interleaved, \
                 p50 {p50_us:.1} µs, p99 {p99_us:.1} µs"
            ));
            let planted = lost > given_up * sent / 25.0 && twice > sent / 100.0 && interleaved > asked * 0.9;
            // Of another exchange of the client it would be 99 ms.
            verdict(planted && p50_us < 25.0 && p99_us < 50_000.0, &run)
        });
    }
}
