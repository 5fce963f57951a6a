//! How many system calls a packet costs: a worker of each port answers bursts under strace, and each of its calls is
//! counted. `tests/system-calls` prints the table of a longer run.
//!
//! The worker and its client take turns in one thread, so that a burst waits as a whole when the worker looks and the
//! count is the same in every run. The client's calls are told from the worker's by their descriptor.

#[allow(dead_code, reason = "only the word for what is left out is used here")]
mod peers;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket as Client;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use maser::count::{Counts, Event};
use maser::port::Port;
use maser::worker::Worker;
use maser_core::snapshot::Snapshot;
use maser_sys::calibration;
use maser_sys::datagram::Wait;
use maser_sys::mmsg::MmsgPort;
use maser_sys::snapshot_cell::snapshot_cell;
use maser_sys::udp_socket::{SocketOptions, UdpSocket};
use maser_sys::uring::UringPort;
use support::request;

const BURSTS: [usize; 4] = [1, 4, 16, 64];
/// The largest batch, as in a server without a configuration.
const BATCH: usize = 64;
/// Packets to each combination; `MASER_PACKETS` says otherwise.
const PACKETS_USUAL: usize = 1_920;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// All that a worker's loop may ask of the kernel; clocks are read without a call.
const PERMITTED: [&str; 4] = ["recvmmsg", "sendmmsg", "ppoll", "io_uring_enter"];

/// The most calls a packet at the largest burst, by the number of listen addresses. The socket port receives a burst
/// of 64 at once and sends it in four chunks; with a second address it looks there, too. io_uring takes two receives
/// for as many, since the kernel completes at most 32 of a multishot receive at a time.
const CALLS_PER_PACKET_MAX: [(&str, usize, f64); 4] =
    [("socket", 1, 0.10), ("socket", 2, 0.12), ("io-uring", 1, 0.12), ("io-uring", 2, 0.12)];

/// The words that stand in the trace where a run begins and ends: names of files that aren't there.
const BEGIN: &str = "maser-burst-begin";
const END: &str = "maser-burst-end";
/// A run whose loop makes a call that it may not.
const PLANTED: &str = "planted";

/// One run: what was asked of the port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Run {
    port: String,
    addresses: usize,
    burst: usize,
}

/// What it took.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Cost {
    packets: u64,
    batches: u64,
    calls: BTreeMap<String, u64>,
}

impl Cost {
    fn calls_per_packet(&self) -> f64 {
        ratio(self.calls.values().sum(), self.packets)
    }

    fn not_permitted(&self) -> Vec<&str> {
        self.calls.keys().map(String::as_str).filter(|call| !PERMITTED.contains(call)).collect()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    let double = |count: u64| f64::from(u32::try_from(count).expect("a short run"));
    double(part) / double(whole)
}

fn packets() -> usize {
    std::env::var("MASER_PACKETS")
        .map_or(PACKETS_USUAL, |number| number.parse().expect("a number of packets"))
}

/// A system call that does nothing but stand in the trace.
fn mark(word: &str, label: &str) {
    assert!(!Path::new(&format!("/{word}/{label}")).exists());
}

/// Lets a worker answer `packets()` requests in bursts; the trace says what that took.
fn answer_bursts<P: Port>(run: &Run, open: impl FnOnce(Vec<UdpSocket>) -> P) {
    let counter = calibration::choose(&[]).counter;
    // Nothing is known of the time, so replies say so: the calls are the same, and no clock is needed.
    let (_writer, reader) = snapshot_cell(&Snapshot::UNKNOWN);
    let open_one = || UdpSocket::open(([127, 0, 0, 1], 0).into(), SocketOptions::default());
    let sockets: Vec<_> = (0..run.addresses).map(|_| open_one().expect("loopback has a free port")).collect();
    let server = sockets[0].address();
    let counts = Counts::default();
    let mut worker = Worker::new(open(sockets), reader, counter, &counts, BATCH);
    let client = Client::bind("127.0.0.1:0").expect("loopback has a free port");
    client.connect(server).expect("an address of loopback");
    client.set_read_timeout(Some(ANSWER_LIMIT)).expect("a limit above zero");

    let mut exchange = || {
        for number in 0..run.burst {
            client.send(&request(number as u64)).expect("loopback takes datagrams");
        }
        let mut answered = 0;
        while answered < run.burst {
            let batch = worker.batch(Wait::Until(ANSWER_LIMIT)).expect("the port works");
            assert!(batch > 0, "{run:?}: {answered} of a burst came in");
            answered += batch;
        }
        let mut reply = [0; 64];
        for _ in 0..run.burst {
            assert_eq!(client.recv(&mut reply).expect("a reply"), 48);
        }
        if run.port == PLANTED {
            assert_ne!(std::os::unix::process::parent_id(), 0);
        }
    };
    // What a port does once, such as setting its timeout, isn't a cost of packets.
    exchange();
    let before = counts.of(Event::Batch);
    let label = format!("{}/{}/{}/{}", run.port, run.addresses, run.burst, client.as_raw_fd());
    let bursts = packets() / run.burst;
    mark(BEGIN, &label);
    for _ in 0..bursts {
        exchange();
    }
    let batches = counts.of(Event::Batch) - before;
    mark(END, &format!("{}/{batches}", bursts * run.burst));
}

/// The runs themselves; what they cost is only seen when strace looks on, as the other test has it do.
#[test]
fn bursts_are_answered() {
    let socket = |sockets| MmsgPort::new(sockets, BATCH).expect("recvmmsg is permitted");
    let io_uring = |sockets| UringPort::new(sockets, Vec::new(), BATCH).expect("io_uring is permitted");
    for addresses in [1, 2] {
        for burst in BURSTS {
            answer_bursts(&Run { port: "socket".to_owned(), addresses, burst }, socket);
            answer_bursts(&Run { port: "io-uring".to_owned(), addresses, burst }, io_uring);
        }
    }
    answer_bursts(&Run { port: PLANTED.to_owned(), addresses: 1, burst: 64 }, socket);
}

/// The costs that the trace of a thread tells.
fn costs(trace: &str) -> BTreeMap<Run, Cost> {
    let mut costs = BTreeMap::new();
    let mut current: Option<(Run, String, Cost)> = None;
    for line in trace.lines().filter(|line| !line.starts_with(['-', '+'])) {
        let Some((call, arguments)) = line.split_once('(') else { continue };
        if let Some(label) = after(arguments, BEGIN) {
            let [port, addresses, burst, client] = words(label);
            let run = Run { port, addresses: number(&addresses), burst: number(&burst) };
            current = Some((run, client, Cost::default()));
        } else if let Some(label) = after(arguments, END) {
            let (run, _, mut cost) = current.take().expect("a run ends after it has begun");
            let [packets, batches] = words(label);
            (cost.packets, cost.batches) = (number(&packets), number(&batches));
            costs.insert(run, cost);
        } else if let Some((_, client, cost)) = &mut current {
            let is_clients = arguments.split(',').next() == Some(client.as_str());
            if !is_clients {
                *cost.calls.entry(call.to_owned()).or_default() += 1;
            }
        }
    }
    costs
}

/// The path behind a mark.
fn after<'l>(arguments: &'l str, word: &str) -> Option<&'l str> {
    let (_, rest) = arguments.split_once(&format!("\"/{word}/"))?;
    rest.split('"').next()
}

fn words<const N: usize>(label: &str) -> [String; N] {
    let words: Vec<_> = label.split('/').map(str::to_owned).collect();
    words.try_into().unwrap_or_else(|words| panic!("{N} words in a mark: {words:?}"))
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("a number: {word}"))
}

/// Runs [`bursts_are_answered`] under strace, each thread's trace in a file of its own; the trace of its thread.
fn traced(directory: &Path) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let status = Command::new("strace")
        .args(["-ff", "-qq", "-e", "signal=none", "-s", "120", "-o"])
        .arg(directory.join("trace"))
        .arg(program)
        .args(["--exact", "bursts_are_answered", "--test-threads=1"])
        .stdout(Stdio::null())
        .status()
        .expect("strace is there");
    assert!(status.success(), "bursts are answered under strace, too: {status}");
    let files = fs::read_dir(directory).expect("our own directory").flatten();
    let traces = files.map(|file| fs::read_to_string(file.path()).expect("strace writes text"));
    traces.into_iter().find(|trace| trace.contains(BEGIN)).expect("a thread ran the bursts")
}

fn strace_works() -> bool {
    let tried = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn print_table(costs: &BTreeMap<Run, Cost>) {
    println!("port      addresses  burst  batches  calls/packet  calls");
    for (Run { port, addresses, burst }, cost) in costs {
        let calls: Vec<_> = cost.calls.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let Cost { batches, .. } = cost;
        let per_packet = cost.calls_per_packet();
        let calls = calls.join(", ");
        println!("{port:<8}  {addresses:>9}  {burst:>5}  {batches:>7}  {per_packet:>12.4}  {calls}");
    }
}

fn assert_bounds(costs: &BTreeMap<Run, Cost>) {
    for (port, addresses, most) in CALLS_PER_PACKET_MAX {
        let of = |burst| {
            let run = Run { port: port.to_owned(), addresses, burst };
            costs.get(&run).unwrap_or_else(|| panic!("no trace of {run:?}"))
        };
        let per_packet = BURSTS.map(|burst| of(burst).calls_per_packet());
        assert!(per_packet.is_sorted_by(|small, large| small > large), "{port}, {addresses}: {per_packet:?}");
        assert!(per_packet[3] <= most, "{port}, {addresses}: {per_packet:?}, at most {most} wanted");
        for burst in BURSTS {
            let cost @ Cost { packets, batches, .. } = of(burst);
            assert_eq!(cost.not_permitted(), [""; 0], "{port}, {addresses}, bursts of {burst}");
            // A worker that took packets one by one would be far beyond that.
            assert!(batches * (burst as u64) <= packets * 3, "{port}: {batches} batches of {burst}");
        }
    }
}

#[test]
fn system_calls_a_packet_fall_with_the_burst() {
    if !strace_works() {
        return peers::skip("system_calls_a_packet_fall_with_the_burst", "strace doesn't work here");
    }
    let directory = std::env::temp_dir().join(format!("maser-system-calls-{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory can be made for temporary files");
    let mut costs = costs(&traced(&directory));
    // What can't be removed does no harm there.
    let _ = fs::remove_dir_all(&directory);
    let planted = Run { port: PLANTED.to_owned(), addresses: 1, burst: 64 };
    let planted = costs.remove(&planted).expect("the run with the planted call");
    print_table(&costs);
    assert_bounds(&costs);
    assert_eq!(planted.not_permitted(), ["getppid"], "the planted call is seen");
}
