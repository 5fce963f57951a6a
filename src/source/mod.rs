//! Drivers: one thread a source, each turning what a device, a socket or a server says into observations.
//!
//! A driver reads, stamps with the counter and parses; what an observation is worth is decided in the core. It
//! opens its device again and again when that is missing or goes away, says so once, and never ends before it is
//! told to.

mod attempt;
pub mod drivers;
pub mod gpsd;
pub mod ntp;
pub mod phc;
pub mod pps;
mod realtime;
pub mod serial;

use crate::hands::Hands;
use maser_core::discipline::Observation;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

/// So many reports may wait for the pulse thread; more are lost, and counted by the driver's [`Teller`].
pub const REPORTS_MAX: usize = 1024;

/// A device that is missing is tried again after this long.
pub const RETRY: Duration = Duration::from_secs(5);

/// The stop flag is looked at this often at least.
pub const STOP_LOOKED_AT: Duration = Duration::from_millis(200);

/// What a driver tells the pulse thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// An observation.
    Observed(Observation),
    /// The driver works again: its device is open, its peer answers.
    Working(String),
    /// The driver can't work, and why, and what to do about it; it goes on trying.
    Failed(String),
    /// Something happened that the operator should know, and the driver goes on.
    Noted(String),
    /// What the device is and how it is read, for the status.
    Detail(String),
    /// Something was received that is no observation: a bad checksum, a reply to nobody's question.
    Refused(String),
}

/// A word and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The source's place in the configuration, from 0.
    pub source: usize,
    /// What it tells.
    pub word: Word,
    /// The server that it asks, once it has an address.
    pub server: Option<IpAddr>,
    /// How many reports of this source were lost before this one.
    pub lost: u64,
}

/// A driver's end of the channel to the pulse thread, and who opens for it.
#[derive(Debug)]
pub struct Teller<'s> {
    source: usize,
    reports: SyncSender<Report>,
    stop: &'s AtomicBool,
    server: Option<IpAddr>,
    lost: u64,
    hands: Hands,
}

impl<'s> Teller<'s> {
    /// For the source at this place in the configuration, until `stop`; a driver opens for itself.
    #[must_use]
    pub fn new(source: usize, reports: SyncSender<Report>, stop: &'s AtomicBool) -> Self {
        Self { source, reports, stop, server: None, lost: 0, hands: Hands::own() }
    }

    /// The same, with somebody else to open for it.
    #[must_use]
    pub fn with_hands(self, hands: Hands) -> Self {
        Self { hands, ..self }
    }

    /// Who opens.
    #[must_use]
    pub fn hands(&self) -> Hands {
        self.hands.clone()
    }

    /// The source's place in the configuration.
    #[must_use]
    pub const fn source(&self) -> usize {
        self.source
    }

    /// Tells; when too many reports wait already, this one is lost and counted: an old observation is worth little.
    pub fn tell(&mut self, word: Word) {
        let report = Report { source: self.source, word, server: self.server, lost: self.lost };
        match self.reports.try_send(report) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost += 1,
        }
    }

    /// What is told from now on comes from this server.
    pub const fn set_server(&mut self, server: IpAddr) {
        self.server = Some(server);
    }

    /// How many reports were lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether the driver is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps for so long, or until the driver is to end.
    pub fn pause(&self, pause: Duration) {
        let mut left = pause;
        while !left.is_zero() && !self.is_stopped() {
            let nap = left.min(STOP_LOOKED_AT);
            thread::sleep(nap);
            left -= nap;
        }
    }
}
