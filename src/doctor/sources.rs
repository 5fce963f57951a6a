//! Where the time comes from: each configured source, pulse devices and whether they pulse, NICs' clocks.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use super::machine::Machine;
use super::processes::{Process, Processes};
use crate::config::{Config, Edge, GpsdPlace, Source, SourceKind, Upstream};
use maser_core::wire::ntp::{LENGTH, Mode, NtpHeader};
use maser_sys::random;
use nix::unistd::{AccessFlags, access};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A pulse comes once a second: two and a half are enough for one that is there.
const LOOKS: u32 = 25;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A server is asked so often, and waited for so long each time.
const QUESTIONS: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(1);
const RESOLVER_PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams looked at for the answer to a question.
const DATAGRAMS_MAX: u32 = 8;

/// A client's request of version 4, by its first octet.
const CLIENT_V4: u8 = 0x23;
/// Where its transmit timestamp is, which comes back as the reply's origin.
const TRANSMIT_AT: usize = 40;
const LEAP_UNSYNCHRONISED: u8 = 3;

const PPS_WHY: &str = "a pulse says when a second begins, to some microseconds or better; without one there is no \
    stratum 1 of that kind";
const PHC_WHY: &str =
    "a NIC's own clock stamps packets where they leave and come, past all that the kernel has to do first";
const SOURCE_WHY: &str = "maser serves what its sources say, and says unsynchronised without them";

/// What asking a server came to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    NoAddress(String),
    NoRoute(String),
    Silent,
    Refused,
    Unsynchronised,
    Answers { stratum: u8 },
}

/// What was found of a device.
#[derive(Debug)]
struct Device {
    /// Whether it is there, is a character device, and may be opened.
    usable: Result<(), io::Error>,
    /// Who else has it open.
    held: Option<Process>,
}

/// The sources of the configuration, and the devices of the machine.
pub(super) fn findings(question: &Question, machine: &Machine, processes: &Processes) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(config) = question.config() {
        // Servers are waited for beside each other.
        thread::scope(|scope| {
            let asked: Vec<_> = config
                .sources
                .iter()
                .map(|source| scope.spawn(move || of_source(source, processes)))
                .collect();
            findings.extend(asked.into_iter().filter_map(|thread| thread.join().ok()));
        });
    }
    findings.extend(pulses(question.config(), machine));
    findings.extend(clocks(question.config(), machine));
    findings
}

fn of_source(source: &Source, processes: &Processes) -> Finding {
    let place = source.kind.to_string();
    let finding = match &source.kind {
        SourceKind::Machine { .. } => {
            Finding::ok(Check::Source, "this machine's clock; see time-of-day", SOURCE_WHY)
        }
        SourceKind::Ntp { address, .. } => judge_server(&address.host, &ask(address)),
        SourceKind::Gpsd(GpsdPlace::SharedMemory(_)) => {
            let runs = processes.named("gpsd").is_some() || processes.named("chronyd").is_some();
            judge_gpsd(&place, runs)
        }
        SourceKind::Gpsd(GpsdPlace::Socket(path)) => judge_socket(path, processes.named("gpsd").is_some()),
        SourceKind::Nmea(serial) | SourceKind::Ubx { serial, .. } => {
            judge_device(&serial.device, &look(&serial.device, processes), true)
        }
        SourceKind::Pps { device, .. } => judge_device(device, &look(device, processes), false),
        SourceKind::Phc { device, .. } | SourceKind::PhcPulses { device, .. } => {
            judge_device(device, &look(device, processes), false)
        }
    };
    finding.of(&source.name)
}

fn look(path: &Path, processes: &Processes) -> Device {
    let usable = path.metadata().and_then(|metadata| {
        if metadata.file_type().is_char_device() {
            Ok(access(path, AccessFlags::R_OK | AccessFlags::W_OK)?)
        } else {
            Err(ErrorKind::InvalidInput.into())
        }
    });
    // Descriptors lead to the device itself, whatever link it is configured by.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let real = real.to_string_lossy();
    let held = processes.holders(&real).find(|process| !process.name.starts_with("maser")).cloned();
    Device { usable, held }
}

/// `exclusive`: two readers would take each other's octets.
fn judge_device(path: &Path, device: &Device, exclusive: bool) -> Finding {
    let shown = path.display();
    let quoted = super::quoted(&path.to_string_lossy());
    let broken = |what, remedy| Finding::to_do(Check::Source, Verdict::Broken, what, SOURCE_WHY, remedy);
    match (&device.usable, &device.held) {
        (Err(error), _) if error.kind() == ErrorKind::InvalidInput => {
            broken(format!("{shown} is no device"), format!("ls -l {quoted}"))
        }
        (Err(error), _) if error.kind() == ErrorKind::NotFound => {
            let find = if shown.to_string().contains("pps") {
                "ls -l /dev/pps*; for a receiver on a serial line: ldattach 18 /dev/ttyS0 (its PPS on DCD)"
                    .to_owned()
            } else {
                "dmesg | grep -iE 'tty|pps|ptp'; ls -l /dev/ttyACM* /dev/ttyUSB* /dev/ttyS* /dev/ptp*"
                    .to_owned()
            };
            broken(format!("{shown} isn't there"), find)
        }
        (Err(error), _) => {
            broken(format!("{shown} can't be opened: {error}"), format!("sudo chmod a+rw {quoted}"))
        }
        (Ok(()), Some(holder)) if exclusive => {
            let what =
                format!("{shown} is read by {}, too, and each gets a part of what comes", holder.named());
            broken(what, holder.stopped_by())
        }
        (Ok(()), _) => Finding::ok(Check::Source, format!("{shown} is there and may be opened"), SOURCE_WHY),
    }
}

fn judge_gpsd(place: &str, runs: bool) -> Finding {
    if runs {
        return Finding::ok(Check::Source, format!("{place}: gpsd runs"), SOURCE_WHY);
    }
    let what = format!("{place}: gpsd doesn't run, so that nobody writes there");
    Finding::to_do(
        Check::Source,
        Verdict::Should,
        what,
        SOURCE_WHY,
        "systemctl enable --now gpsd (with -n in its options)",
    )
}

fn judge_socket(path: &Path, runs: bool) -> Finding {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        let what = format!("{}: the directory of the socket isn't there", path.display());
        let remedy = format!("sudo install -d {}", super::quoted(&directory.to_string_lossy()));
        return Finding::to_do(Check::Source, Verdict::Broken, what, SOURCE_WHY, remedy);
    }
    judge_gpsd(&path.display().to_string(), runs)
}

fn judge_server(host: &str, asked: &Asked) -> Finding {
    let quoted = super::quoted(host);
    let should = |what, remedy| Finding::to_do(Check::Source, Verdict::Should, what, SOURCE_WHY, remedy);
    match asked {
        Asked::NoAddress(error) => {
            should(format!("{host} has no address: {error}"), format!("getent ahosts {quoted}"))
        }
        Asked::NoRoute(error) => {
            should(format!("{host} can't be asked: {error}"), format!("ip route get {quoted}"))
        }
        Asked::Silent => should(
            format!("{host} doesn't answer NTP"),
            format!("ping -c 3 {quoted}; is UDP port 123 let out, and back in? (nft list ruleset)"),
        ),
        Asked::Refused => should(
            format!("{host} refuses: nothing listens there"),
            format!("chronyd -Q 'server {host} iburst'"),
        ),
        Asked::Unsynchronised => should(
            format!("{host} answers that it isn't synchronised"),
            "name another server as a source until it is".to_owned(),
        ),
        Asked::Answers { stratum } => {
            Finding::ok(Check::Source, format!("{host} answers at stratum {stratum}"), SOURCE_WHY)
        }
    }
}

/// A server's first address. The resolver may take its time, and isn't waited for longer than anybody would.
fn resolve(upstream: &Upstream) -> Result<SocketAddr, String> {
    let (tell, hear) = mpsc::channel();
    let place = (upstream.host.clone(), upstream.port);
    thread::spawn(move || tell.send(place.to_socket_addrs().map(|mut addresses| addresses.next())));
    match hear.recv_timeout(RESOLVER_PATIENCE) {
        Ok(Ok(Some(target))) => Ok(target),
        Ok(Ok(None)) => Err("the resolver knows none".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the resolver said nothing for {} s", RESOLVER_PATIENCE.as_secs())),
    }
}

/// Asks a server what any client would.
fn ask(upstream: &Upstream) -> Asked {
    let target = match resolve(upstream) {
        Ok(target) => target,
        Err(error) => return Asked::NoAddress(error),
    };
    let mut outcome = Asked::Silent;
    for _ in 0..QUESTIONS {
        outcome = match exchange(target) {
            Ok(answer) => answer,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Asked::Refused,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Asked::Silent
            }
            Err(error) => return Asked::NoRoute(error.to_string()),
        };
        if matches!(outcome, Asked::Answers { .. }) {
            break;
        }
    }
    outcome
}

fn exchange(target: SocketAddr) -> io::Result<Asked> {
    let any: SocketAddr =
        if target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; LENGTH];
    request[0] = CLIENT_V4;
    // Nothing of this machine's clock: what comes back is compared and not used.
    random::fill(&mut request[TRANSMIT_AT..])?;
    socket.send(&request)?;
    let mut reply = [0; 1 << 10];
    for _ in 0..DATAGRAMS_MAX {
        let length = socket.recv(&mut reply)?;
        if let Some(asked) = answer(&request, &reply[..length]) {
            return Ok(asked);
        }
    }
    Ok(Asked::Silent)
}

/// What a datagram answers to the request; none if it is to another.
fn answer(request: &[u8; LENGTH], reply: &[u8]) -> Option<Asked> {
    let (sent, _) = NtpHeader::split(request)?;
    let (header, _) = NtpHeader::split(reply)?;
    let &[first, stratum, ..] = reply else { return None };
    if Mode::from_first_octet(first) != Mode::Server || header.origin() != sent.transmit() {
        return None;
    }
    let synchronised = first >> 6 != LEAP_UNSYNCHRONISED && (1..=15).contains(&stratum);
    Some(if synchronised { Asked::Answers { stratum } } else { Asked::Unsynchronised })
}

/// A pulse device: how many pulses of each edge the kernel has counted, as far as it says.
type Counts = [Option<u64>; 2];

fn pulses(config: Option<&Config>, machine: &Machine) -> Vec<Finding> {
    let devices = machine.sys_names("class/pps");
    let wanted = |device: &str| {
        let path = Path::new("/dev").join(device);
        config.into_iter().flat_map(|config| &config.sources).find_map(|source| {
            let SourceKind::Pps { device, edge, .. } = &source.kind else { return None };
            let real = device.canonicalize().unwrap_or_else(|_| device.clone());
            (real == path).then_some(*edge)
        })
    };
    if devices.is_empty() {
        let asked = config.is_some_and(|config| {
            config.sources.iter().any(|source| matches!(source.kind, SourceKind::Pps { .. }))
        });
        return vec![no_pulses(asked, config.is_some())];
    }
    let counts = |device: &String| {
        ["assert", "clear"].map(|edge| sequence(&machine.sys(&format!("class/pps/{device}/{edge}"))?))
    };
    let first: Vec<Counts> = devices.iter().map(counts).collect();
    let mut pulsed = vec![[false; 2]; devices.len()];
    for _ in 0..LOOKS {
        thread::sleep(LOOK_EVERY);
        for ((device, first), pulsed) in devices.iter().zip(&first).zip(&mut pulsed) {
            for ((now, before), pulsed) in counts(device).iter().zip(first).zip(pulsed) {
                *pulsed |= now.is_some() && now != before;
            }
        }
        let is_seen = |(device, pulsed): (&String, &[bool; 2])| match wanted(device) {
            Some(edge) => pulsed[place(edge)],
            None => pulsed.contains(&true),
        };
        if devices.iter().zip(&pulsed).all(is_seen) {
            break;
        }
    }
    let judged = devices.iter().zip(&pulsed);
    judged
        .map(|(device, pulsed)| judge_pulses(*pulsed, wanted(device)).of(format!("/dev/{device}")))
        .collect()
}

const fn place(edge: Edge) -> usize {
    match edge {
        Edge::Assert => 0,
        Edge::Clear => 1,
    }
}

/// The number after a stamp, as in `1763941234.000000123#77`.
fn sequence(text: &str) -> Option<u64> {
    text.split_once('#')?.1.trim().parse().ok()
}

fn no_pulses(asked: bool, configured: bool) -> Finding {
    let what = "no PPS device";
    let attach = "for a receiver on a serial line: ldattach 18 /dev/ttyS0 (its PPS on DCD); on a pin: \
        dtoverlay=pps-gpio; then ppstest /dev/pps0";
    match (asked, configured) {
        (true, _) => Finding::to_do(
            Check::Pps,
            Verdict::Broken,
            "no PPS device, and the configuration has one",
            PPS_WHY,
            attach,
        ),
        (false, true) => Finding::ok(Check::Pps, "no PPS device, and the configuration has none", PPS_WHY),
        (false, false) => Finding::to_do(Check::Pps, Verdict::Better, what, PPS_WHY, attach),
    }
}

/// `wanted`: the edge that the configuration takes.
fn judge_pulses(pulsed: [bool; 2], wanted: Option<Edge>) -> Finding {
    let check = "ppstest; is the antenna in the open, and the receiver set to pulse?";
    match (pulsed, wanted) {
        ([false, false], wanted) => {
            let verdict = if wanted.is_some() { Verdict::Broken } else { Verdict::Should };
            Finding::to_do(Check::Pps, verdict, "no pulse came in 2.5 s", PPS_WHY, check)
        }
        (pulsed, Some(edge)) if !pulsed[place(edge)] => {
            let other = if edge == Edge::Assert { Edge::Clear } else { Edge::Assert };
            let what = format!("pulses come, and not by the edge {} that is configured", edge.word());
            Finding::to_do(
                Check::Pps,
                Verdict::Broken,
                what,
                PPS_WHY,
                format!("edge = \"{}\" in the [[source]]", other.word()),
            )
        }
        _ => Finding::ok(Check::Pps, "pulses come", PPS_WHY),
    }
}

fn clocks(config: Option<&Config>, machine: &Machine) -> Vec<Finding> {
    let devices = machine.sys_names("class/ptp");
    let named = devices.iter().map(|device| {
        let name = machine.sys(&format!("class/ptp/{device}/clock_name")).unwrap_or_default();
        Finding::ok(Check::Phc, format!("a clock called {name:?}"), PHC_WHY).of(format!("/dev/{device}"))
    });
    let found: Vec<_> = named.collect();
    if !found.is_empty() {
        return found;
    }
    let is_phc =
        |source: &Source| matches!(source.kind, SourceKind::Phc { .. } | SourceKind::PhcPulses { .. });
    let nic = "ethtool -T DEV shows a NIC's; igb, igc, ixgbe, i40e, ice, mlx5 and others have one";
    vec![if config.is_some_and(|config| config.sources.iter().any(is_phc)) {
        Finding::to_do(
            Check::Phc,
            Verdict::Broken,
            "no PTP hardware clock, and the configuration has one",
            PHC_WHY,
            nic,
        )
    } else {
        Finding::to_do(Check::Phc, Verdict::Better, "no PTP hardware clock", PHC_WHY, nic)
    }]
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
