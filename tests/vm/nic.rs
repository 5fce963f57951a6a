//! Stamps of NICs, from the wire to the reply, on a NIC of our own whose clock is 37 s and 5 ppm off (`modules/`).

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;

use maser_sys::clock;
use maser_sys::ethtool::Ethtool;
use maser_sys::hwtstamp::{ReceiveFilter, Stamping, TransmitType};
use nix::sys::signal::Signal;

use crate::double::{Double, hardware_clock, nic};
use crate::heard::{
    ASKED, BETWEEN, Frames, NAMED, OFF_NS_MAX, Oracle, PORTS, ask, await_clock, client, is_interleaved,
    nic_status, serve, stamping, worst,
};
use crate::maser::{READY_LIMIT, Server, within};
use crate::packets::{CLIENT, CLIENT_HOST, SERVER, Wire, at_the_client};
use crate::peers::host::{ip, run};
use crate::support::{ReplyView, error_ns};
use crate::{is_counted_or_skip, measured, stop};

const STAMPS: Stamping = Stamping { transmit: TransmitType::ON, receive: ReceiveFilter::ALL };
const NO_STAMPS: Stamping = Stamping { transmit: TransmitType::OFF, receive: ReceiveFilter::NONE };

/// With its headers and its check sequence a request has 94 octets.
const FRAME_BITS: i64 = 94 * 8;

/// mnic0 with maser, mnic1 with the client.
struct Pair {
    _wire: Wire,
    server: Oracle,
    client: Oracle,
    requests: Frames,
    replies: Frames,
    socket: UdpSocket,
    _double: Double,
}

impl Pair {
    fn new() -> Self {
        let double = Double::load("maser_nic", "");
        nic("mnic0", "phc_jump_ns").set(37_000_000_000_i64);
        nic("mnic0", "phc_ppb").set(5_000);
        let (server, client_clock) = (hardware_clock("mnic0"), hardware_clock("mnic1"));
        let wire = Wire::between("mnic0", "mnic1");
        at_the_client(|| Ethtool::new("mnic1").unwrap().set_stamping(STAMPS).map(drop)).unwrap();
        Self {
            _wire: wire,
            server: Oracle::of(&server, 5_000),
            client: Oracle::of(&client_clock, 0),
            requests: Frames::open(),
            replies: at_the_client(Frames::open),
            socket: client(CLIENT),
            _double: double,
        }
    }

    /// Asks so often, each time naming the reply before; how far off the receive and the transmit timestamps are.
    fn ask(&self, server: &Server, frame_ns: i64) -> [Vec<i64>; 2] {
        let address = server.at(SERVER);
        let (mut received, mut left) = (Vec::new(), Vec::new());
        let mut last: Option<(ReplyView, i64)> = None;
        for _ in 0..ASKED {
            let named = last.map_or(0, |(reply, _)| reply.receive);
            let reply = ask(&self.socket, address, named).expect("a reply");
            let came_ns =
                self.server.realtime_ns(self.requests.stamp_of(40, reply.origin & !NAMED)) + frame_ns;
            let left_ns = self.client.realtime_ns(self.replies.stamp_of(32, reply.receive));
            received.push(error_ns(reply.receive, came_ns));
            if let Some((_, left_ns)) = last.filter(|_| is_interleaved(&reply)) {
                left.push(error_ns(reply.transmit, left_ns));
            }
            last = Some((reply, left_ns));
            thread::sleep(BETWEEN);
        }
        [received, left]
    }
}

#[test]
fn a_nic_that_is_37_s_and_5_ppm_off_stamps_requests_and_replies() {
    if !is_counted_or_skip("NIC stamps of maser_nic") {
        return;
    }
    let pair = Pair::new();
    for port in PORTS {
        let mut server = serve(port, 1123, "nic_stamps = [\"mnic0\"]");
        await_clock(&server, "mnic0");
        assert_eq!(stamping("mnic0"), STAMPS);
        for (mbps, frame_ns) in [(1_000, FRAME_BITS), (100, FRAME_BITS * 10)] {
            nic("mnic0", "link_mbps").set(mbps);
            nic("mnic1", "link_mbps").set(mbps);
            let told = || Some(()).filter(|()| nic_status(&server, "mnic0")["link_mbps"] == mbps);
            within(READY_LIMIT, told).expect("the new speed is told");
            let [received, left] = pair.ask(&server, frame_ns);
            measured(&format!(
                "{port}, {mbps} Mb/s: receive timestamps at most {} ns off, transmit timestamps of {} interleaved replies {} ns",
                worst(&received),
                left.len(),
                worst(&left)
            ));
            assert!(worst(&received) <= OFF_NS_MAX && worst(&left) <= OFF_NS_MAX, "{received:?}\n{left:?}");
            // The first of all isn't interleaved.
            assert!(left.len() as u64 >= ASKED - 2, "{} of {ASKED}: {}", left.len(), server.status());
        }
        check_status(&server, &pair);
        stop(&mut server);
        assert_eq!(stamping("mnic0"), NO_STAMPS, "put back; the log says:\n{}", server.log());
    }
}

/// What the status says of the NIC against the kernel, ethtool and the clock itself.
fn check_status(server: &Server, pair: &Pair) {
    let status = nic_status(server, "mnic0");
    assert_eq!(
        (&status["received"]["lately"], &status["sent"]["lately"]),
        (&"nic".into(), &"nic".into()),
        "{status}"
    );
    let Stamping { transmit, receive } = stamping("mnic0");
    assert_eq!(status["receive_filter"], receive.to_string());
    assert_eq!(status["transmit_type"], transmit.to_string());
    assert_eq!(status["clock_name"], "mnic0");
    assert_eq!(status["clock"], *hardware_clock("mnic0").file_name().unwrap().to_str().unwrap());
    let shown = run(Command::new("ethtool").args(["-T", "mnic0"])).unwrap();
    let clock = shown.lines().find_map(|line| {
        let (label, number) = line.split_once(':')?;
        label.to_lowercase().contains("hardware").then_some(())?;
        label.to_lowercase().contains("clock").then(|| number.trim().to_owned())
    });
    assert_eq!(clock.map(|number| format!("ptp{number}")).as_deref(), status["clock"].as_str(), "{shown}");
    assert!(shown.split_whitespace().any(|word| word == receive.to_string()), "{shown}");
    // What is set, by another program.
    let set = run(Command::new("hwstamp_ctl").args(["-i", "mnic0"])).unwrap();
    assert!(set.contains(&format!("tx_type {}", transmit.0)), "{set}");
    assert!(set.contains(&format!("rx_filter {}", receive.0)), "{set}");
    let (read, _) = pair.server.phc.cross_read(&pair.server.counter).unwrap();
    let offset_s = (read.phc_ns - pair.server.realtime_ns(read.phc_ns)) as f64 * 1e-9 - 37.0;
    let (told_s, rate_ppm) = (status["offset_s"].as_f64().unwrap(), status["rate_ppm"].as_f64().unwrap());
    assert!((told_s - offset_s).abs() < 1e-3, "{told_s} and not {offset_s}");
    assert!((rate_ppm - 5.0).abs() < 1.0, "{rate_ppm} ppm");
    measured(&format!(
        "the status says of mnic0: {told_s:+.9} s to TAI, {rate_ppm:+.3} ppm, error {:.0} ns",
        status["error_s"].as_f64().unwrap() * 1e9
    ));
    let table = server.ask_status(&[]).output;
    assert!(table.lines().any(|line| line.starts_with("mnic0 ") && line.contains(" nic")), "{table}");
}

#[test]
fn a_nic_that_ceases_to_stamp_or_lies_is_noticed_and_said() {
    if !is_counted_or_skip("NIC stamps that are missing or wrong") {
        return;
    }
    let pair = Pair::new();
    let mut server = serve("socket", 1123, "nic_stamps = [\"mnic0\"]");
    await_clock(&server, "mnic0");
    let problem = |way: &str| nic_status(&server, "mnic0")[way]["problem"].as_str().map(str::to_owned);
    // By knob and value: what is said, and of which way.
    for (knob, value, good, way, words) in [
        ("rx_stamps", "none", "good", "received", "ceased to stamp what comes"),
        ("rx_stamps", "zero", "good", "received", "ceased to stamp what comes"),
        ("rx_stamps", "last", "good", "received", "can't be true"),
        ("rx_error_ns", "1000000000", "0", "received", "can't be true"),
        ("rx_error_ns", "-1000000000", "0", "received", "can't be true"),
        ("tx_stamps", "none", "good", "sent", "ceased to stamp what leaves"),
        ("tx_error_ns", "1000000000", "0", "sent", "can't be true"),
    ] {
        pair.ask(&server, FRAME_BITS);
        nic("mnic0", knob).set(value);
        let noticed = within(READY_LIMIT * 2, || {
            let [received, left] = pair.unheard(&server);
            // Whoever says when, it stays right to what the kernel can.
            assert!(received <= 100_000 && left <= 100_000, "{knob} {value}: {received} ns, {left} ns");
            problem(way).filter(|told| told.contains(words))
        });
        assert!(noticed.is_some(), "{knob} {value}: {:?}; {}", problem(way), nic_status(&server, "mnic0"));
        assert!(server.log().contains(words), "{}", server.log());
        nic("mnic0", knob).set(good);
        let back = within(READY_LIMIT, || {
            pair.ask(&server, FRAME_BITS);
            problem(way).is_none().then_some(())
        });
        assert!(back.is_some(), "{knob} {value}: {:?}", problem(way));
    }
    assert!(server.log().contains("are used again"), "{}", server.log());
    stop(&mut server);
}

impl Pair {
    /// As [`ask`](Self::ask) by the client's NIC alone; the worst of each.
    fn unheard(&self, server: &Server) -> [i64; 2] {
        let address = server.at(SERVER);
        let (mut received, mut left, mut last) = (0, 0, None::<(ReplyView, i64)>);
        for _ in 0..ASKED / 4 {
            let begun_ns = self.client_now_ns();
            let named = last.map_or(0, |(reply, _)| reply.receive);
            let reply = ask(&self.socket, address, named).expect("a reply");
            // Taken off the queue, though it may have no stamp.
            self.requests.stamp_of(40, reply.origin & !NAMED);
            let left_ns = self.client.realtime_ns(self.replies.stamp_of(32, reply.receive));
            let since_ns = error_ns(reply.receive, begun_ns);
            assert!(since_ns > 0, "it came before it was sent: {since_ns} ns");
            received = received.max(since_ns);
            if let Some((_, left_ns)) = last.filter(|_| is_interleaved(&reply)) {
                left = left.max(error_ns(reply.transmit, left_ns).abs());
            }
            last = Some((reply, left_ns));
            thread::sleep(BETWEEN);
        }
        [received, left]
    }

    fn client_now_ns(&self) -> i64 {
        clock::reading(&self.client.counter).realtime_ns
    }
}

#[test]
fn two_nics_have_a_clock_each() {
    if !is_counted_or_skip("NIC stamps of two NICs") {
        return;
    }
    let double = Double::load("maser_nic", "pairs=2");
    nic("mnic0", "phc_jump_ns").set(37_000_000_000_i64);
    nic("mnic2", "phc_jump_ns").set(-500_000_000_000_i64);
    nic("mnic2", "phc_ppb").set(-80_000);
    let clocks = [("mnic0", 0), ("mnic2", -80_000)].map(|(name, ppb)| Oracle::of(&hardware_clock(name), ppb));
    let wire = Wire::between("mnic0", "mnic1");
    for command in [
        format!("link set mnic3 netns {CLIENT_HOST}"),
        "address add 10.55.3.1/24 dev mnic2".to_owned(),
        format!("-n {CLIENT_HOST} address add 10.55.3.2/24 dev mnic3"),
        "link set mnic2 up".to_owned(),
        format!("-n {CLIENT_HOST} link set mnic3 up"),
    ] {
        ip(&command).unwrap();
    }
    // Every one that has a clock; the igb is one, too.
    let mut server = serve("socket", 1123, "nic_stamps = [\"*\"]");
    let requests = Frames::open();
    let ways = [(CLIENT, SERVER), (Ipv4Addr::new(10, 55, 3, 2), Ipv4Addr::new(10, 55, 3, 1))];
    for (number, ((from, to), name)) in ways.into_iter().zip(["mnic0", "mnic2"]).enumerate() {
        await_clock(&server, name);
        let socket = client(from);
        let mut received = Vec::new();
        for _ in 0..ASKED {
            let reply = ask(&socket, server.at(to), 0).expect("a reply");
            let came_ns = clocks[number].realtime_ns(requests.stamp_of(40, reply.origin)) + FRAME_BITS;
            received.push(error_ns(reply.receive, came_ns));
        }
        measured(&format!("{name} of two: receive timestamps at most {} ns off", worst(&received)));
        assert!(worst(&received) <= OFF_NS_MAX, "{name}: {received:?}");
        let counts = nic_status(&server, name)["received"]["counts"].clone();
        assert_eq!(counts["nic"], ASKED, "{name}: {counts}");
    }
    stop(&mut server);
    assert_eq!(["mnic0", "mnic2"].map(stamping), [NO_STAMPS; 2]);
    let _gone = ip("address flush dev mnic2");
    drop(wire);
    drop(double);
}

#[test]
fn what_was_set_before_is_put_back_however_the_keeper_ends() {
    if !is_counted_or_skip("NIC stamps put back") {
        return;
    }
    let _double = Double::load("maser_nic", "");
    let _wire = Wire::between("mnic0", "mnic1");
    let serve = || serve("socket", 1123, "nic_stamps = [\"mnic0\"]");
    // A keeper that is killed.
    let mut server = serve();
    server.signal(Signal::SIGKILL);
    within(READY_LIMIT, || server.has_ended()).expect("it is killed");
    assert_eq!(stamping("mnic0"), STAMPS, "nobody is left to put it back");
    let said = run(Command::new(env!("CARGO_BIN_EXE_maser")).arg("restore")).unwrap();
    assert_eq!(stamping("mnic0"), NO_STAMPS, "{said}");
    // Another program's setting, which the driver can't widen.
    nic("mnic0", "rx_filters").set("ptp");
    let others = Stamping { transmit: TransmitType::OFF, receive: ReceiveFilter(12) };
    Ethtool::new("mnic0").unwrap().set_stamping(others).unwrap();
    let mut server = serve();
    assert_eq!(stamping("mnic0"), Stamping { transmit: TransmitType::ON, ..others });
    let status = nic_status(&server, "mnic0");
    assert!(
        status["why"].as_str().unwrap().contains("ptpv2-event, which it can't have together"),
        "{status}"
    );
    assert!(server.log().contains("stop that program"), "{}", server.log());
    stop(&mut server);
    assert_eq!(stamping("mnic0"), others);
    // One that is enough is nobody's to put back.
    nic("mnic0", "rx_filters").set("all");
    Ethtool::new("mnic0").unwrap().set_stamping(STAMPS).unwrap();
    let mut server = serve();
    stop(&mut server);
    assert_eq!(stamping("mnic0"), STAMPS);
}

#[test]
fn a_nic_that_goes_and_comes_back_stamps_again() {
    if !is_counted_or_skip("a NIC that goes") {
        return;
    }
    let pair = Pair::new();
    let mut server = serve("socket", 1123, "nic_stamps = [\"mnic0\"]");
    await_clock(&server, "mnic0");
    ip(&format!("link set mnic0 netns {CLIENT_HOST}")).unwrap();
    let told = |words: &str| {
        // The socket is another server's for a moment.
        let status = server.ask_status(&[]);
        Some(()).filter(|()| status.code == Some(0) && status.output.contains(words))
    };
    within(READY_LIMIT, || told("there is no such interface")).unwrap_or_else(|| panic!("{}", server.log()));
    for command in [
        format!("-n {CLIENT_HOST} link set mnic0 netns 1"),
        format!("address add {SERVER}/24 dev mnic0"),
        "link set mnic0 up".to_owned(),
    ] {
        ip(&command).unwrap();
    }
    within(READY_LIMIT, || told("all")).unwrap_or_else(|| panic!("{}", server.log()));
    await_clock(&server, "mnic0");
    assert!(within(READY_LIMIT, || ask(&pair.socket, server.at(SERVER), 0)).is_some(), "{}", server.log());
    let [received, left] = pair.ask(&server, FRAME_BITS);
    assert!(worst(&received) <= OFF_NS_MAX && worst(&left) <= OFF_NS_MAX, "{received:?}\n{left:?}");
    stop(&mut server);
    assert_eq!(stamping("mnic0"), NO_STAMPS);
}
