//! Where the time comes from, as the operator states it: one [`Source`] for each `[[source]]` section.
//!
//! Plain data in which every value has been checked; whether a device or a server is there is found out by the
//! drivers.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use maser_core::time::Span;

use super::address::Upstream;
use super::value::{Stratum, Word};

/// The speeds that a serial line can be told, in bits a second.
pub const BAUDS: [u32; 9] = [4_800, 9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];

/// A source of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// What the status, the log and other sources' `label` call it; no two sources have the same.
    pub name: String,
    /// Whether it is followed for as long as it agrees with the majority.
    pub prefer: bool,
    /// Added to its time.
    pub offset: Span,
    /// How far it can be off in a way that averaging doesn't remove, beyond what it says itself.
    pub error: Span,
    /// What replies name as their reference while it is followed: four characters at a reference clock, an address at
    /// the machine's clock, none at an upstream server, which is named by its own address.
    pub reference_id: Option<[u8; 4]>,
    /// What it is.
    pub kind: SourceKind,
}

/// What a source is, and how it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// gpsd hands over complete samples.
    Gpsd(GpsdPlace),
    /// A receiver that speaks NMEA 0183 on a serial line.
    Nmea(Serial),
    /// A u-blox receiver that speaks UBX on a serial line.
    Ubx {
        /// Its line.
        serial: Serial,
        /// Whether it is sent the settings that it needs.
        configure: bool,
    },
    /// Pulses that the kernel stamps (RFC 2783).
    Pps {
        /// The device, as `/dev/pps0`.
        device: PathBuf,
        /// Which end of the pulse begins the second.
        edge: Edge,
        /// Which sources may say which second a pulse began, by their places in [`super::Config::sources`]: at least
        /// one, in the order given, none of them itself or another of this kind.
        label: Vec<usize>,
    },
    /// A NIC's own clock, which another daemon or the NIC itself keeps.
    Phc {
        /// The device, as `/dev/ptp0`.
        device: PathBuf,
        /// What it keeps.
        timescale: Timescale,
    },
    /// Pulses that a NIC's clock stamps on one of its channels; what that clock itself says doesn't matter.
    PhcPulses {
        /// The device, as `/dev/ptp0`.
        device: PathBuf,
        /// The channel, from 0.
        channel: u32,
        /// The pin that is to lead there, by its name or its number; none where one does or can't but.
        pin: Option<String>,
        /// Which end of the pulse begins the second.
        edge: Edge,
        /// Which sources may say which second a pulse began, as for [`Pps`](Self::Pps).
        label: Vec<usize>,
    },
    /// An upstream NTP server.
    Ntp {
        /// Where it is asked.
        address: Upstream,
        /// Whether it is asked several times in a row at the start.
        burst: bool,
        /// Whether interleaved mode is offered to it (RFC 9769).
        interleaved: bool,
        /// log₂ of the least seconds between two questions; not above the greatest.
        poll_min_log2_s: u8,
        /// log₂ of the greatest seconds between two questions.
        poll_max_log2_s: u8,
    },
    /// The machine's own clock, kept by another daemon; at most one source is of this kind, and beside others it is
    /// the last resort.
    Machine {
        /// The stratum of that daemon, 1 to 14, as the operator states it.
        stratum: Stratum,
    },
}

/// Where gpsd hands over its samples.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GpsdPlace {
    /// A Unix socket that we make and gpsd writes to (chrony's SOCK protocol).
    Socket(PathBuf),
    /// A segment of shared memory, by its unit number (ntpd's SHM protocol).
    SharedMemory(u8),
}

/// A receiver's serial line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Serial {
    /// The device, as `/dev/ttyS0`.
    pub device: PathBuf,
    /// Its speed, one of [`BAUDS`].
    pub baud: Option<u32>,
    /// From the beginning of a second to the first octet of the message that names it; none to learn it.
    pub delay: Option<Span>,
}

/// Which end of a pulse begins the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Edge {
    /// The kernel's "assert", mostly the rising one.
    #[default]
    Assert,
    /// The kernel's "clear", mostly the falling one.
    Clear,
}

/// What a clock's count of seconds since 1970 is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Timescale {
    /// TAI, as PTP counts it.
    #[default]
    Tai,
    /// UTC, as the machine's clock has it.
    Utc,
}

impl Word for Timescale {
    const WORDS: &'static [(&'static str, Self)] = &[("tai", Self::Tai), ("utc", Self::Utc)];
}

impl Timescale {
    /// As it is written in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tai => "tai",
            Self::Utc => "utc",
        }
    }
}

/// The types of source that there are, as a section names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceType {
    /// [`SourceKind::Gpsd`].
    Gpsd,
    /// [`SourceKind::Nmea`].
    Nmea,
    /// [`SourceKind::Ubx`].
    Ubx,
    /// [`SourceKind::Pps`].
    Pps,
    /// [`SourceKind::Phc`] and [`SourceKind::PhcPulses`].
    Phc,
    /// [`SourceKind::Ntp`].
    Ntp,
    /// [`SourceKind::Machine`].
    Machine,
}

impl Word for SourceType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("gpsd", Self::Gpsd),
        ("nmea", Self::Nmea),
        ("ubx", Self::Ubx),
        ("pps", Self::Pps),
        ("phc", Self::Phc),
        ("ntp", Self::Ntp),
        ("machine", Self::Machine),
    ];
}

impl SourceType {
    /// As it is written in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gpsd => "gpsd",
            Self::Nmea => "nmea",
            Self::Ubx => "ubx",
            Self::Pps => "pps",
            Self::Phc => "phc",
            Self::Ntp => "ntp",
            Self::Machine => "machine",
        }
    }

    /// Whether it is a reference clock, which is served at stratum 1.
    #[must_use]
    pub const fn is_reference_clock(self) -> bool {
        match self {
            Self::Gpsd | Self::Nmea | Self::Ubx | Self::Pps | Self::Phc => true,
            Self::Ntp | Self::Machine => false,
        }
    }
}

impl Word for Edge {
    const WORDS: &'static [(&'static str, Self)] = &[("assert", Self::Assert), ("clear", Self::Clear)];
}

impl Edge {
    /// As it is written in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Assert => "assert",
            Self::Clear => "clear",
        }
    }
}

impl SourceKind {
    /// Its type, without what belongs to this one.
    #[must_use]
    pub const fn of_type(&self) -> SourceType {
        match self {
            Self::Gpsd(_) => SourceType::Gpsd,
            Self::Nmea(_) => SourceType::Nmea,
            Self::Ubx { .. } => SourceType::Ubx,
            Self::Pps { .. } => SourceType::Pps,
            Self::Phc { .. } | Self::PhcPulses { .. } => SourceType::Phc,
            Self::Ntp { .. } => SourceType::Ntp,
            Self::Machine { .. } => SourceType::Machine,
        }
    }
}

/// Where it is: the device, the socket, the segment or the address, for people.
impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpsd(GpsdPlace::Socket(path)) => path.display().fmt(f),
            Self::Gpsd(GpsdPlace::SharedMemory(unit)) => write!(f, "SHM {unit}"),
            Self::Nmea(serial) | Self::Ubx { serial, .. } => serial.device.display().fmt(f),
            Self::Pps { device, .. } | Self::Phc { device, .. } => device.display().fmt(f),
            Self::PhcPulses { device, channel, .. } => write!(f, "{} channel {channel}", device.display()),
            Self::Ntp { address, .. } => address.fmt(f),
            Self::Machine { .. } => f.write_str("this machine's clock"),
        }
    }
}

impl Source {
    /// The reference id of a clock that names no server, as chrony sends it.
    pub const LOCAL_CLOCK: Ipv4Addr = Ipv4Addr::new(127, 127, 1, 1);

    /// The machine's own clock, beside no other.
    #[must_use]
    pub fn machine(stratum: Stratum, reference_id: Ipv4Addr) -> Self {
        Self {
            name: "machine0".to_owned(),
            prefer: false,
            offset: Span::ZERO,
            error: Span::ZERO,
            reference_id: Some(reference_id.octets()),
            kind: SourceKind::Machine { stratum },
        }
    }

    /// The stratum of a reply while the source is followed: one above its own. None for an upstream server, which
    /// tells its own.
    #[must_use]
    pub const fn served_stratum(&self) -> Option<Stratum> {
        match &self.kind {
            SourceKind::Gpsd(_)
            | SourceKind::Nmea(_)
            | SourceKind::Ubx { .. }
            | SourceKind::Pps { .. }
            | SourceKind::Phc { .. }
            | SourceKind::PhcPulses { .. } => Stratum::new(1),
            SourceKind::Ntp { .. } => None,
            // 15 can't be exceeded: its own is at most 14.
            SourceKind::Machine { stratum } => stratum.above(),
        }
    }
}
