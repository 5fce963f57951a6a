//! Starts a driver for every source that has one, each in a thread of its own that bears the source's name.
//!
//! The machine's own clock has none: the pulse thread reads it.

use super::gpsd::{self, GpsdSettings};
use super::ntp::{self, NtpSettings};
use super::phc;
use super::pps::{self, PpsSettings};
use super::serial::{self, Protocol, SerialSettings};
use super::{Report, Teller};
use crate::config::{Config, GpsdPlace, Serial, SourceKind};
use crate::hands::Hands;
use maser_sys::counter::Counter;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use std::thread::{Builder, JoinHandle};

/// A driver that runs.
#[derive(Debug)]
pub struct Driver {
    /// The source that it is of.
    pub name: String,
    /// It ends when it is told to, and never before.
    pub thread: JoinHandle<()>,
}

/// The kernel keeps so many octets of a thread's name.
const THREAD_NAME_OCTETS_MAX: usize = 15;

/// Starts the drivers of all sources; each tells until `stop`.
///
/// # Errors
/// When a thread can't be had.
pub fn start(
    config: &Config,
    counter: Counter,
    reports: &SyncSender<Report>,
    hands: &Hands,
    stop: &Arc<AtomicBool>,
) -> io::Result<Vec<Driver>> {
    let listen: Vec<_> = config.listeners().map(|address| address.ip()).collect();
    let mut drivers = Vec::with_capacity(config.sources.len());
    for (place, source) in config.sources.iter().enumerate() {
        if let SourceKind::Machine { .. } = source.kind {
            continue;
        }
        let (kind, reports, stop) = (source.kind.clone(), reports.clone(), Arc::clone(stop));
        let (listen, hands) = (listen.clone(), hands.clone());
        // Names are ASCII.
        let name = source.name.chars().take(THREAD_NAME_OCTETS_MAX).collect();
        let thread = Builder::new().name(name).spawn(move || {
            let mut teller = Teller::new(place, reports, &stop).with_hands(hands);
            drive(&kind, listen, counter, &mut teller);
        })?;
        drivers.push(Driver { name: source.name.clone(), thread });
    }
    Ok(drivers)
}

fn drive(kind: &SourceKind, listen: Vec<IpAddr>, counter: Counter, teller: &mut Teller<'_>) {
    match kind {
        SourceKind::Gpsd(GpsdPlace::Socket(path)) => {
            gpsd::run(&GpsdSettings::Socket(path.clone()), counter, teller);
        }
        SourceKind::Gpsd(GpsdPlace::SharedMemory(unit)) => {
            gpsd::run(&GpsdSettings::Shm(*unit), counter, teller);
        }
        SourceKind::Nmea(line) => serial::run(&serial_settings(line, Protocol::Nmea, false), counter, teller),
        SourceKind::Ubx { serial: line, configure } => {
            serial::run(&serial_settings(line, Protocol::Ubx, *configure), counter, teller);
        }
        SourceKind::Pps { device, edge, .. } => {
            let edge = pps::edge(*edge);
            pps::run(&PpsSettings { device: device.clone(), edge }, counter, teller);
        }
        SourceKind::Phc { device, timescale } => phc::run_time(device, *timescale, counter, teller),
        SourceKind::PhcPulses { device, .. } => {
            if let Some((_, Some(channel))) = phc::place(kind) {
                phc::run_pulses(device, &channel, counter, teller);
            }
        }
        SourceKind::Ntp { address, burst, interleaved, poll_min_log2_s, poll_max_log2_s } => {
            let settings = NtpSettings {
                host: address.host.clone(),
                port: address.port,
                iburst: *burst,
                interleaved: *interleaved,
                min_poll: poll_min_log2_s.cast_signed(),
                max_poll: poll_max_log2_s.cast_signed(),
                listen,
                denied_rest: ntp::DENIED_REST,
            };
            ntp::run(&settings, counter, teller);
        }
        SourceKind::Machine { .. } => {}
    }
}

fn serial_settings(line: &Serial, protocol: Protocol, configure: bool) -> SerialSettings {
    SerialSettings { device: line.device.clone(), baud: line.baud, protocol, configure }
}
