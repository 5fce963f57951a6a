//! Every key of the configuration, in one place: what it takes, what it is when absent and what it means.
//!
//! The reader's messages, the list of known keys, `maser check-config --keys` and the test of the example file all
//! come from this table.

pub(super) mod access;
pub(super) mod limit;
pub(super) mod metrics;
pub(super) mod source;

use std::fmt;

use super::source::SourceType;

/// What holds when a key is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// This value, as it would be written in the file.
    Value(&'static str),
    /// Something that isn't a value of the key, said in words.
    Meaning(&'static str),
    /// The section can't do without it.
    Required,
}

/// One key of the configuration.
#[derive(PartialEq, Eq, Debug)]
pub struct Key {
    /// The section that it stands in.
    pub section: &'static str,
    /// The types of source that take it; empty for all of them, and outside `[[source]]`.
    pub types: &'static [SourceType],
    /// Its name within the section.
    pub name: &'static str,
    /// What it takes; the text after "expected" in a message.
    pub expected: &'static str,
    /// What holds when it is absent.
    pub absent: Absent,
    /// What it means, for an operator.
    pub meaning: &'static str,
}

/// The sections, and how each is written.
pub const SECTIONS: &[(&str, &str)] = &[
    ("server", "[server]"),
    ("limit", "[limit]"),
    ("access", "[access]"),
    ("status", "[status]"),
    ("metrics", "[metrics]"),
    ("source", "[[source]]"),
    ("clock", "[clock]"),
    ("smear", "[smear]"),
    ("local", "[local]"),
];

pub(super) const LISTEN: Key = Key {
    section: "server",
    types: &[],
    name: "listen",
    expected: "a list of \"ADDRESS:PORT\" strings, as [\"0.0.0.0:123\", \"[::]:123\"]",
    absent: Absent::Value(r#"["127.0.0.1:11123", "[::1]:11123"]"#),
    meaning: "The addresses to answer at, at most 64. An IPv6 address stands in brackets and takes IPv6 only, so \
              \"[::]:123\" and \"0.0.0.0:123\" go together. Ports below 1024 need CAP_NET_BIND_SERVICE. The \
              default answers this machine only.",
};

/// What each element of [`LISTEN`] is.
pub(super) const LISTEN_ELEMENT: &str = "an address and port, as \"192.0.2.1:123\" or \"[2001:db8::1]:123\"";

pub(super) const PUBLIC: Key = Key {
    section: "server",
    types: &[],
    name: "public",
    expected: "true or false",
    absent: Absent::Value("false"),
    meaning: "Whether anyone may ask. What RFC 8633 forbids to public servers is refused then: smearing leap seconds.",
};

pub(super) const PORT: Key = Key {
    section: "server",
    types: &[],
    name: "port",
    expected: "\"auto\", \"af-xdp\", \"io-uring\" or \"socket\"",
    absent: Absent::Value(r#""auto""#),
    meaning: "How packets come in and go out. \"auto\" takes the best that this machine offers and says in the \
              status which and why; asking for one by name makes its absence an error. \"af-xdp\" is for the \
              interfaces that are named in `interface`, past the kernel's network stack.",
};

pub(super) const INTERFACE: Key = Key {
    section: "server",
    types: &[],
    name: "interface",
    expected: "a list of interfaces' names, as [\"eth0\"]",
    absent: Absent::Value("[]"),
    meaning: "The network interfaces whose requests are taken from the driver (AF_XDP), at most 16; bonds name their \
              members. Replies leave by the interface that the request came by and pass neither routing nor packet \
              filters. It takes CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, which only the keeper's process retains. With \
              port = \"auto\" an interface that can't do it is served through sockets, and the status says why.",
};

pub(super) const NIC_STAMPS: Key = Key {
    section: "server",
    types: &[],
    name: "nic_stamps",
    expected: "a list of interfaces' names, as [\"eth0\"], or [\"*\"] for every one that has a clock",
    absent: Absent::Meaning("those of `interface`"),
    meaning: "The network interfaces whose own clocks stamp requests and replies, at most 16. The keeper tells each to \
              (SIOCSHWTSTAMP), which takes CAP_NET_ADMIN, and puts it back at its end; what another program has set stays \
              where it is enough, and where it can't be widened. [] leaves all stamps to the kernel. What is named and \
              can't stamp is a warning. `maser status` shows whose stamps are used.",
};

/// What each element of [`INTERFACE`] and of [`NIC_STAMPS`] is.
pub(super) const INTERFACE_ELEMENT: &str = "the name of an interface, of 1 to 15 octets";

pub(super) const WORKERS: Key = Key {
    section: "server",
    types: &[],
    name: "workers",
    expected: "a number of workers from 1 to 256, or a list of cores such as [0, 1]",
    absent: Absent::Meaning("a worker on each core that this process may run on, at most 8"),
    meaning: "The workers, each pinned to a core of its own: a number takes the first of the cores that this \
              process may run on, a list names them.",
};

/// What each element of a list of [`WORKERS`] is.
pub(super) const WORKERS_ELEMENT: &str = "the number of a core";

pub(super) const IDLE: Key = Key {
    section: "server",
    types: &[],
    name: "idle",
    expected: "\"block\" or \"spin\"",
    absent: Absent::Value(r#""block""#),
    meaning: "What a worker does when no packet waits: \"block\" sleeps until the next one; \"spin\" looks again at \
              once, which takes the whole core and answers sooner.",
};

pub(super) const BUSY_POLL: Key = Key {
    section: "server",
    types: &[],
    name: "busy_poll",
    expected: "true or false",
    absent: Absent::Value("false"),
    meaning: "Whether the workers over queues of `interface` poll the driver themselves, so that it needs no interrupts. \
              They spin then, whatever `idle` says, and take their cores whole. The keeper sets napi_defer_hard_irqs to 2 \
              and gro_flush_timeout to 200 us on each interface, for all of its traffic, and puts them back at its end.",
};

pub(super) const BATCH: Key = Key {
    section: "server",
    types: &[],
    name: "batch",
    expected: "a number of packets from 1 to 256",
    absent: Absent::Value("64"),
    meaning: "How many packets a worker takes at once, at most.",
};

pub(super) const RECEIVE_BUFFER: Key = Key {
    section: "server",
    types: &[],
    name: "receive_buffer",
    expected: "a size from 4 KiB to 1 GiB, as \"4 MiB\"",
    absent: Absent::Value(r#""4 MiB""#),
    meaning: "How much may wait in each socket while its worker is busy or the machine stalls. The kernel holds it \
              to net.core.rmem_max unless the server has CAP_NET_ADMIN. Units: B, kB, MB, GB, KiB, MiB, GiB; a \
              number without quotes is octets.",
};

pub(super) const INTERLEAVED_CLIENTS: Key = Key {
    section: "server",
    types: &[],
    name: "interleaved_clients",
    expected: "a number of clients from 0 to 10000000",
    absent: Absent::Value("100000"),
    meaning: "With how many clients at a time each worker interleaves (RFC 9769): they are told when the reply before \
              really left, as far as the port knows. Each takes 60 octets at every worker, whether it comes or not. \
              0 turns it off.",
};

pub(super) const TRANSMIT_CORRECTION: Key = Key {
    section: "server",
    types: &[],
    name: "transmit_correction",
    expected: "true or false",
    absent: Absent::Value("true"),
    meaning: "Whether transmit timestamps say when a reply is likely to leave, rather than when it was written: the \
              median of what the last replies took is added, where the port tells when they left. `maser status` \
              shows it with its spread.",
};

pub(super) const SOCKET: Key = Key {
    section: "status",
    types: &[],
    name: "socket",
    expected: "an absolute path of at most 107 octets",
    absent: Absent::Meaning(
        "$RUNTIME_DIRECTORY/status.sock (systemd sets it); else for root /run/maser/status.sock; else \
         $XDG_RUNTIME_DIR/maser.sock; else maser-UID/status.sock in the directory for temporary files",
    ),
    meaning: "The Unix socket at which `maser status` asks; only the server's own user and group may.",
};

pub(super) const ROOT_DISTANCE_MAX: Key = Key {
    section: "clock",
    types: &[],
    name: "root_distance_max",
    expected: "a span from \"1 us\" to \"16 s\", as \"10 ms\"",
    absent: Absent::Meaning("\"10 ms\" if there is a source of type gpsd, nmea, ubx or pps, else \"1 s\""),
    meaning: "Past this root distance (the greatest error that the served time can have) replies say \
              \"unsynchronised\".",
};

pub(super) const AGREE_MIN: Key = Key {
    section: "clock",
    types: &[],
    name: "agree_min",
    expected: "a number of sources from 1 to 8, and not more than there are",
    absent: Absent::Value("1"),
    meaning: "How many sources have to agree before any is followed.",
};

pub(super) const LEAP_FILE: Key = Key {
    section: "clock",
    types: &[],
    name: "leap_file",
    expected: "the absolute path of a leap-seconds.list",
    absent: Absent::Meaning("/usr/share/zoneinfo/leap-seconds.list if it exists"),
    meaning: "The list of leap seconds as IERS and NIST publish it. Its hash and its expiry are checked, and it is read \
              again when it changes; it is trusted above receivers, and these above upstream servers.",
};

pub(super) const STATE: Key = Key {
    section: "clock",
    types: &[],
    name: "state",
    expected: "the absolute path of a directory",
    absent: Absent::Meaning(
        "$STATE_DIRECTORY (systemd sets it); else for root /var/lib/maser; else $XDG_STATE_HOME/maser; else \
         .local/state/maser in the home directory",
    ),
    meaning: "Where the oscillator's frequency, its wander and the sources' jitter are kept across restarts, so that the \
              next start is a warm one.",
};

pub(super) const HOLDOVER_MAX: Key = Key {
    section: "clock",
    types: &[],
    name: "holdover_max",
    expected: "a span from \"1 s\" to \"8760 h\", as \"24 h\"",
    absent: Absent::Value(r#""24 h""#),
    meaning: "How long the clock may run without any source before replies say \"unsynchronised\", though its root \
              distance may not be spent by then.",
};

pub(super) const STEER: Key = Key {
    section: "clock",
    types: &[],
    name: "steer",
    expected: "true or false; true not beside a source of type machine",
    absent: Absent::Value("false"),
    meaning: "Whether this machine's clock is steered to the served one: its frequency by up to 500 ppm, a step at the \
              start if it is more than 128 ms off, later only if it stays so for 900 s; leap seconds, TAI - UTC and the \
              hardware clock with it. No other daemon may set the clock then (chronyd, ntpd, systemd-timesyncd). It \
              takes CAP_SYS_TIME. No source may stand on this clock: not a NIC's that phc2sys sets to it (-s \
              CLOCK_REALTIME), which nobody can tell.",
};

pub(super) const FIRST_STEP_UNLIMITED: Key = Key {
    section: "clock",
    types: &[],
    name: "first_step_unlimited",
    expected: "true or false; true only where clock.steer is true",
    absent: Absent::Value("false"),
    meaning: "Whether the first step after the start may be more than 1000 s, as on a machine without a battery.",
};

pub(super) const SMEAR_LISTEN: Key = Key {
    section: "smear",
    types: &[],
    name: "listen",
    expected: "a list of \"ADDRESS:PORT\" strings that aren't in server.listen",
    absent: Absent::Required,
    meaning: "More addresses to answer at, at most 64, where leap seconds are spread over time and never announced. \
              Clients of these must not ask any server that doesn't smear in the same way.",
};

pub(super) const SMEAR_LENGTH: Key = Key {
    section: "smear",
    types: &[],
    name: "length",
    expected: "a span from \"1 h\" to \"48 h\", as \"24 h\"",
    absent: Absent::Value(r#""24 h""#),
    meaning: "Over how long a leap second is spread, evenly, its middle at the leap: \"24 h\" is from noon to noon UTC.",
};

pub(super) const LOCAL_STRATUM: Key = Key {
    section: "local",
    types: &[],
    name: "stratum",
    expected: "a stratum from 3 to 15, above the one that this machine's clock is served at",
    absent: Absent::Required,
    meaning: "The stratum of replies while no source is synchronised, so that an isolated network keeps a common \
              time. Without the section such replies say \"unsynchronised\" and no client follows them, which is \
              right for a public server.",
};

/// Every key, in the order of the example file.
pub const KEYS: &[&Key] = &[
    &LISTEN,
    &PUBLIC,
    &PORT,
    &INTERFACE,
    &NIC_STAMPS,
    &WORKERS,
    &IDLE,
    &BUSY_POLL,
    &BATCH,
    &RECEIVE_BUFFER,
    &INTERLEAVED_CLIENTS,
    &TRANSMIT_CORRECTION,
    &limit::RATE,
    &limit::BURST,
    &limit::PREFIX_RATE,
    &limit::PREFIX_BURST,
    &limit::PREFIX_IP4,
    &limit::PREFIX_IP6,
    &limit::MEMORY,
    &limit::KISS,
    &limit::KISSES_PER_SECOND,
    &limit::DRIVER,
    &access::DEFAULT,
    &access::ALLOW,
    &access::DENY,
    &access::EXEMPT,
    &access::ALLOW_FILE,
    &access::DENY_FILE,
    &access::EXEMPT_FILE,
    &access::DENY_KISS,
    &access::BOGONS,
    &SOCKET,
    &metrics::LISTEN,
    &source::TYPE,
    &source::NAME,
    &source::PREFER,
    &source::OFFSET,
    &source::ERROR,
    &source::REFERENCE_NAME,
    &source::GPSD_SOCKET,
    &source::SHM,
    &source::DEVICE,
    &source::BAUD,
    &source::DELAY,
    &source::CONFIGURE,
    &source::TIMESCALE,
    &source::CHANNEL,
    &source::PIN,
    &source::EDGE,
    &source::LABEL,
    &source::ADDRESS,
    &source::BURST,
    &source::INTERLEAVED,
    &source::POLL_MIN,
    &source::POLL_MAX,
    &source::STRATUM,
    &source::REFERENCE_ADDRESS,
    &ROOT_DISTANCE_MAX,
    &AGREE_MIN,
    &LEAP_FILE,
    &STATE,
    &HOLDOVER_MAX,
    &STEER,
    &FIRST_STEP_UNLIMITED,
    &SMEAR_LISTEN,
    &SMEAR_LENGTH,
    &LOCAL_STRATUM,
];

/// The keys of one section, in the table's order.
pub(super) fn of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().copied().filter(move |key| key.section == section)
}

impl Key {
    /// Whether a source of this type takes the key; one whose type isn't known takes any.
    #[must_use]
    pub fn is_of(&self, kind: Option<SourceType>) -> bool {
        self.types.is_empty() || kind.is_none_or(|kind| self.types.contains(&kind))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.name)?;
        if !self.types.is_empty() {
            let types: Vec<&str> = self.types.iter().map(|kind| kind.word()).collect();
            write!(f, " (type {})", types.join(", "))?;
        }
        writeln!(f)?;
        writeln!(f, "    Takes {}.", self.expected)?;
        match self.absent {
            Absent::Value(value) => writeln!(f, "    Default: {value}")?,
            Absent::Meaning(meaning) => writeln!(f, "    Default: {meaning}")?,
            Absent::Required => writeln!(f, "    Required.")?,
        }
        if self.needs_restart() {
            writeln!(f, "    Another value takes a restart.")?;
        }
        writeln!(f, "    {}", self.meaning)
    }
}
