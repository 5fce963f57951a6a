//! A server whose replies are lost, repeated, spoilt and late by exact shares: what a meter must find.
//!
//! `faulty ADDRESS:PORT LOSS DUPLICATES CORRUPT DELAY_US`, the shares from 0 to 1. It prints `ready` and serves the
//! machine's clock, spinning, until it is killed.

#![expect(clippy::print_stdout, reason = "who started it waits for its word")]

use maser::config::Idle;
use maser::count::Counts;
use maser::port::faulty::{Faults, FaultyPort};
use maser::pulse::Pulse;
use maser::worker::Worker;
use maser_core::refclock::{MachineClock, MachineSettings};
use maser_core::snapshot::Snapshot;
use maser_core::time::{BUILD_DATE, LeapTable, Span};
use maser_sys::calibration;
use maser_sys::mmsg::MmsgPort;
use maser_sys::snapshot_cell::snapshot_cell;
use maser_sys::udp_socket::{SocketOptions, UdpSocket};
use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

const BATCH: usize = 64;
/// The stratum that is served while nobody keeps the machine's clock.
const LOCAL_STRATUM: u8 = 10;
/// Eight times a second, as the daemon's pulse.
const BEAT: Duration = Duration::from_millis(125);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, loss, duplicates, corrupt, delay_us] = arguments.as_slice() else {
        return Err("usage: faulty ADDRESS:PORT LOSS DUPLICATES CORRUPT DELAY_US".into());
    };
    let faults = Faults {
        loss: loss.parse()?,
        duplicates: duplicates.parse()?,
        corrupt: corrupt.parse()?,
        delay: Duration::from_micros(delay_us.parse()?),
    };
    let counter = calibration::choose(&[]).counter;
    let settings = MachineSettings {
        stratum: 3,
        reference_id: *b"SYS\0",
        local_stratum: Some(LOCAL_STRATUM),
        precision: counter.precision(),
        nominal_rate: counter.nominal_rate(),
        not_before: BUILD_DATE - Span::from_seconds(86_400),
    };
    let mut clock = MachineClock::new(settings, LeapTable::built_in());
    let (mut writer, reader) = snapshot_cell(&Snapshot::UNKNOWN);
    let pulse = Pulse::default();
    pulse.beat(&mut clock, counter, &mut writer);
    thread::spawn(move || {
        loop {
            thread::sleep(BEAT);
            pulse.beat(&mut clock, counter, &mut writer);
        }
    });
    let socket = UdpSocket::open(address.parse()?, SocketOptions::default())?;
    let port = FaultyPort::new(MmsgPort::new(vec![socket], BATCH)?, faults, BATCH);
    let counts = Counts::default();
    println!("ready");
    Ok(Worker::new(port, reader, counter, &counts, BATCH).run(Idle::Spin, &AtomicBool::new(false))?)
}
