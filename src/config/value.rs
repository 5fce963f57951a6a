//! The values that the configuration file and the command line both take, each parsed once into a type that proves
//! it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::str::FromStr;

use thiserror::Error;

/// The most workers that can be asked for.
pub const WORKERS_MAX: usize = 256;
/// The most workers that are started when nobody says how many: more cores than this are left to other work.
pub const WORKERS_AUTO_MAX: usize = 8;
/// The highest number of a core: the kernel's `cpu_set_t` holds 1024.
pub const CORE_MAX: usize = 1023;
/// The most addresses to answer at.
pub const LISTEN_MAX: usize = 64;
/// The most interfaces that can be named.
pub const INTERFACES_MAX: usize = 16;
/// The longest name of an interface: the kernel's `IFNAMSIZ` less its final zero.
pub const INTERFACE_OCTETS_MAX: usize = 15;
/// The most sources that can be asked to agree.
pub const AGREE_MIN_MAX: usize = 8;
/// The largest batch.
pub const BATCH_MAX: usize = 256;
/// The least and the most that a socket may hold; the kernel doubles the figure and keeps it in an `int`.
pub const RECEIVE_BUFFER_OCTETS: RangeInclusive<u64> = 4 << 10..=1 << 30;
/// The most clients that a worker can be told to interleave with: 600 MB.
pub const INTERLEAVED_CLIENTS_MAX: usize = 10_000_000;
/// The longest path of a Unix socket: `sun_path` less its final zero.
pub const SOCKET_PATH_OCTETS_MAX: usize = 107;

/// A stratum that may be claimed in a reply: 1 to 15.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stratum(u8);

impl Stratum {
    /// None outside 1 to 15.
    #[must_use]
    pub const fn new(stratum: u8) -> Option<Self> {
        if stratum >= 1 && stratum <= 15 { Some(Self(stratum)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The stratum of one that follows this one; none below 15.
    #[must_use]
    pub const fn above(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

impl fmt::Display for Stratum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How packets come in and go out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PortChoice {
    /// The best that the machine offers.
    #[default]
    Auto,
    /// AF_XDP on every interface that is named, or nothing.
    AfXdp,
    /// io_uring or nothing.
    IoUring,
    /// `recvmmsg`/`sendmmsg` or nothing.
    Socket,
}

/// What a worker does when no packet waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Idle {
    /// Sleep until the next one.
    #[default]
    Block,
    /// Look again at once.
    Spin,
}

/// A value that is one of a few words.
pub trait Word: Copy + Sized + 'static {
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The value that a word stands for.
    #[must_use]
    fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| *name == word).map(|&(_, value)| value)
    }

    /// The words, for help and suggestions.
    fn words() -> impl Iterator<Item = &'static str> {
        Self::WORDS.iter().map(|&(word, _)| word)
    }
}

impl Word for PortChoice {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("af-xdp", Self::AfXdp),
        ("io-uring", Self::IoUring),
        ("socket", Self::Socket),
    ];
}

impl Word for Idle {
    const WORDS: &'static [(&'static str, Self)] = &[("block", Self::Block), ("spin", Self::Spin)];
}

impl PortChoice {
    /// As it is written in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::AfXdp => "af-xdp",
            Self::IoUring => "io-uring",
            Self::Socket => "socket",
        }
    }
}

impl Idle {
    /// As it is written in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Spin => "spin",
        }
    }
}

/// Why a text is no address to answer at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum ListenError {
    #[error("no port is given")]
    NoPort,
    #[error("an IPv6 address must stand in brackets")]
    NoBrackets,
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    #[error("a host name is not an address")]
    Name,
    #[error("not an address")]
    NotAnAddress,
    #[error("requests to a multicast address are never answered")]
    Multicast,
    #[error("requests to the broadcast address are never answered")]
    Broadcast,
    #[error("an IPv6 socket here takes IPv6 only, so an IPv4 address must be written as one")]
    Mapped,
}

/// An address and port to answer at.
pub fn listen(text: &str) -> Result<SocketAddr, ListenError> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Err(why_not_an_address(text));
    };
    if address.port() == 0 {
        return Err(ListenError::BadPort);
    }
    match address.ip() {
        ip if ip.is_multicast() => Err(ListenError::Multicast),
        IpAddr::V4(ip) if ip.is_broadcast() => Err(ListenError::Broadcast),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Err(ListenError::Mapped),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(address),
    }
}

/// What would help most to say of a text that is no address.
fn why_not_an_address(text: &str) -> ListenError {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<Ipv4Addr>().is_ok() || (bare != text && bare.parse::<IpAddr>().is_ok()) {
        return ListenError::NoPort;
    }
    if text.matches(':').count() > 1 && !text.starts_with('[') {
        return ListenError::NoBrackets;
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => ListenError::BadPort,
        Some((host, _)) if host.chars().any(char::is_alphabetic) && !host.starts_with('[') => {
            ListenError::Name
        }
        _ => ListenError::NotAnAddress,
    }
}

/// Why a text is no interface's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum InterfaceError {
    #[error("no name")]
    Empty,
    #[error("longer than the {INTERFACE_OCTETS_MAX} octets that Linux gives an interface's name")]
    TooLong,
    #[error(
        "no interface can have such a name: it takes no slash, no colon, no blank, and not \".\" or \"..\""
    )]
    NotAName,
}

/// The name of an interface, by the kernel's own rule (`dev_valid_name`).
pub fn interface(text: &str) -> Result<String, InterfaceError> {
    let forbidden =
        |octet: u8| matches!(octet, b'/' | b':' | 0) || octet.is_ascii_whitespace() || octet == 0x0B;
    if text.is_empty() {
        Err(InterfaceError::Empty)
    } else if text.len() > INTERFACE_OCTETS_MAX {
        Err(InterfaceError::TooLong)
    } else if text == "." || text == ".." || text.bytes().any(forbidden) {
        Err(InterfaceError::NotAName)
    } else {
        Ok(text.to_owned())
    }
}

/// The interfaces whose own clocks stamp packets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum NicStamps {
    /// Those whose requests are taken from the driver.
    #[default]
    OfInterfaces,
    /// Every one that has a clock.
    Every,
    /// These: none twice, at most [`INTERFACES_MAX`].
    Named(Vec<String>),
}

impl NicStamps {
    /// The list that stands for [`Every`](Self::Every).
    pub(super) const EVERY: &str = "*";
}

/// Why port and interfaces don't go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WayError {
    /// AF_XDP takes packets from interfaces.
    #[error("\"af-xdp\" takes packets from an interface's driver, and no interface is named")]
    NoInterface,
    /// The ports of the kernel's own stack take packets from all interfaces alike.
    #[error("an interface is named for AF_XDP, and port = \"{}\" doesn't use it", .0.word())]
    Unused(PortChoice),
    /// Only the drivers of interfaces that are named are polled.
    #[error("busy polling is of an interface's driver, and no interface is named")]
    NothingToPoll,
}

/// Whether a port, so many interfaces and busy polling go together.
pub(super) const fn check_way(port: PortChoice, interfaces: usize, busy_poll: bool) -> Result<(), WayError> {
    match port {
        PortChoice::AfXdp if interfaces == 0 => Err(WayError::NoInterface),
        PortChoice::IoUring | PortChoice::Socket if interfaces > 0 => Err(WayError::Unused(port)),
        PortChoice::Auto | PortChoice::IoUring | PortChoice::Socket if busy_poll && interfaces == 0 => {
            Err(WayError::NothingToPoll)
        }
        PortChoice::Auto | PortChoice::AfXdp | PortChoice::IoUring | PortChoice::Socket => Ok(()),
    }
}

/// Why a text is no size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum SizeError {
    #[error("is not a size")]
    NotASize,
    #[error("has no unit that is known (B, kB, MB, GB, KiB, MiB, GiB)")]
    Unit,
    #[error("is out of range")]
    Range,
}

const UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// A size in octets from its number and unit, as `4 MiB`.
pub(super) fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, SizeError> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::NotASize);
    }
    let unit = unit.trim_start();
    let (_, octets) = UNITS.into_iter().find(|&(name, _)| name == unit).ok_or(SizeError::Unit)?;
    let octets = number.parse::<u64>().ok().and_then(|number| number.checked_mul(octets));
    octets.filter(|octets| range.contains(octets)).ok_or(SizeError::Range)
}

/// How many workers, or on which cores.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Workers {
    /// One on each core that the process may run on, at most [`WORKERS_AUTO_MAX`].
    #[default]
    Auto,
    /// This many, on the first of those cores.
    Count(NonZeroUsize),
    /// One on each of these: at least one, in the order given, none twice.
    Cores(Vec<usize>),
}

/// Why workers can't be as they were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WorkersError {
    /// The text is neither a number nor a list.
    #[error("neither a number of workers nor a list of cores such as 0,2-5")]
    NotWorkers,
    /// More or fewer than can be.
    #[error("the number of workers must be from 1 to {WORKERS_MAX}")]
    Number,
    /// No kernel numbers a core so high.
    #[error("there is no core {0}: the highest number that Linux takes is {CORE_MAX}")]
    Core(usize),
    /// A core is named twice, and two workers on it would only wait for each other.
    #[error("core {0} is named twice")]
    Twice(usize),
    /// More workers than cores.
    #[error(
        "{asked} workers were asked for, but this process may run on {available} cores only; \
         ask for fewer, or widen the process's CPU affinity"
    )]
    TooFewCores {
        /// How many were asked for.
        asked: usize,
        /// How many cores there are for them.
        available: usize,
    },
    /// A core that the process may not run on.
    #[error(
        "this process may not run on core {0}; name another, or widen the process's CPU affinity \
         (taskset, systemd's CPUAffinity=, the container's cpuset)"
    )]
    NotAvailable(usize),
}

impl Workers {
    /// A number of workers.
    pub fn count(number: usize) -> Result<Self, WorkersError> {
        NonZeroUsize::new(number)
            .filter(|number| number.get() <= WORKERS_MAX)
            .map(Self::Count)
            .ok_or(WorkersError::Number)
    }

    /// A list of cores.
    pub fn cores(cores: Vec<usize>) -> Result<Self, WorkersError> {
        if cores.is_empty() || cores.len() > WORKERS_MAX {
            return Err(WorkersError::Number);
        }
        for (index, &core) in cores.iter().enumerate() {
            if core > CORE_MAX {
                return Err(WorkersError::Core(core));
            }
            if cores.iter().take(index).any(|&earlier| earlier == core) {
                return Err(WorkersError::Twice(core));
            }
        }
        Ok(Self::Cores(cores))
    }

    /// The core of each worker, given the cores that the process may run on.
    pub fn place(&self, available: &[usize]) -> Result<Vec<usize>, WorkersError> {
        match self {
            Self::Auto => Ok(available.iter().copied().take(WORKERS_AUTO_MAX).collect()),
            Self::Count(number) if number.get() > available.len() => {
                Err(WorkersError::TooFewCores { asked: number.get(), available: available.len() })
            }
            Self::Count(number) => Ok(available.iter().copied().take(number.get()).collect()),
            Self::Cores(cores) => match cores.iter().find(|core| !available.contains(core)) {
                Some(&core) => Err(WorkersError::NotAvailable(core)),
                None => Ok(cores.clone()),
            },
        }
    }
}

/// As on the command line: `4` is a number of workers; `0,2-5` is a list of cores, and `3-3` a list of one.
impl FromStr for Workers {
    type Err = WorkersError;

    fn from_str(text: &str) -> Result<Self, WorkersError> {
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '-') {
            return Err(WorkersError::NotWorkers);
        }
        if !text.contains([',', '-']) {
            return Self::count(text.parse().map_err(|_| WorkersError::Number)?);
        }
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse::<usize>().map_err(|_| WorkersError::NotWorkers);
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(WorkersError::NotWorkers);
            }
            // Refused before the range is written out: it may be a very long one.
            if last > CORE_MAX {
                return Err(WorkersError::Core(last));
            }
            cores.extend(first..=last);
            if cores.len() > WORKERS_MAX {
                return Err(WorkersError::Number);
            }
        }
        Self::cores(cores)
    }
}
