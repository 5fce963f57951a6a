//! Every key of the configuration, in one place: what it takes, what it is when absent and what it means.
//!
//! The reader's messages, the list of known keys, `maser check-config --keys` and the test of the example file all
//! come from this table.

use std::fmt;

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
pub const SECTIONS: &[(&str, &str)] =
    &[("server", "[server]"), ("status", "[status]"), ("source", "[[source]]"), ("local", "[local]")];

pub(super) const LISTEN: Key = Key {
    section: "server",
    name: "listen",
    expected: "a list of \"ADDRESS:PORT\" strings, as [\"0.0.0.0:123\", \"[::]:123\"]",
    absent: Absent::Value(r#"["127.0.0.1:11123", "[::1]:11123"]"#),
    meaning: "The addresses to answer at, at most 64. An IPv6 address stands in brackets and takes IPv6 only, so \
              \"[::]:123\" and \"0.0.0.0:123\" go together. Ports below 1024 need CAP_NET_BIND_SERVICE. The \
              default answers this machine only.",
};

/// What each element of [`LISTEN`] is.
pub(super) const LISTEN_ELEMENT: &str = "an address and port, as \"192.0.2.1:123\" or \"[2001:db8::1]:123\"";

pub(super) const PORT: Key = Key {
    section: "server",
    name: "port",
    expected: "\"auto\", \"io-uring\" or \"socket\"",
    absent: Absent::Value(r#""auto""#),
    meaning: "How packets come in and go out. \"auto\" takes the best that this machine offers and says in the \
              status which and why; asking for one by name makes its absence an error.",
};

pub(super) const WORKERS: Key = Key {
    section: "server",
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
    name: "idle",
    expected: "\"block\" or \"spin\"",
    absent: Absent::Value(r#""block""#),
    meaning: "What a worker does when no packet waits: \"block\" sleeps until the next one; \"spin\" looks again at \
              once, which takes the whole core and answers sooner.",
};

pub(super) const BATCH: Key = Key {
    section: "server",
    name: "batch",
    expected: "a number of packets from 1 to 256",
    absent: Absent::Value("64"),
    meaning: "How many packets a worker takes at once, at most.",
};

pub(super) const RECEIVE_BUFFER: Key = Key {
    section: "server",
    name: "receive_buffer",
    expected: "a size from 4 KiB to 1 GiB, as \"4 MiB\"",
    absent: Absent::Value(r#""4 MiB""#),
    meaning: "How much may wait in each socket while its worker is busy or the machine stalls. The kernel holds it \
              to net.core.rmem_max unless the server has CAP_NET_ADMIN. Units: B, kB, MB, GB, KiB, MiB, GiB; a \
              number without quotes is octets.",
};

pub(super) const SOCKET: Key = Key {
    section: "status",
    name: "socket",
    expected: "an absolute path of at most 107 octets",
    absent: Absent::Meaning(
        "$RUNTIME_DIRECTORY/status.sock (systemd sets it); else for root /run/maser/status.sock; else \
         $XDG_RUNTIME_DIR/maser.sock; else maser-UID/status.sock in the directory for temporary files",
    ),
    meaning: "The Unix socket at which `maser status` asks; only the server's own user and group may.",
};

pub(super) const TYPE: Key = Key {
    section: "source",
    name: "type",
    expected: "\"machine\"",
    absent: Absent::Required,
    meaning: "Where the time comes from. \"machine\" is this machine's own clock, which another daemon (chronyd, \
              ntpd, ptp4l with phc2sys) keeps right; maser reads what the kernel says of it and never steers it.",
};

pub(super) const SOURCE_STRATUM: Key = Key {
    section: "source",
    name: "stratum",
    expected: "a stratum from 1 to 14",
    absent: Absent::Required,
    meaning: "The stratum of what keeps the machine's clock, as that daemon reports it (`chronyc tracking`, \
              `ntpq -c rv`). Nothing in the kernel tells, so the operator must; replies say one above.",
};

pub(super) const REFERENCE_ID: Key = Key {
    section: "source",
    name: "reference_id",
    expected: "an IPv4 address, as \"192.0.2.1\"",
    absent: Absent::Value(r#""127.127.1.1""#),
    meaning: "What replies name as their reference: the IPv4 address of the server that the machine's clock follows, \
              so that this server can tell a loop when it asks us. Replies here are of stratum 2 or above, where \
              the reference id is an address and never a name such as GPS (RFC 5905 section 7.3); for an IPv6 \
              address write the first four octets of its MD5 as an IPv4 address. The default says \"a local clock\".",
};

pub(super) const LOCAL_STRATUM: Key = Key {
    section: "local",
    name: "stratum",
    expected: "a stratum from 3 to 15, above the one that the source is served at",
    absent: Absent::Required,
    meaning: "The stratum of replies while no source is synchronised, so that an isolated network keeps a common \
              time. Without the section such replies say \"unsynchronised\" and no client follows them, which is \
              right for a public server.",
};

/// Every key, in the order of the example file.
pub const KEYS: &[&Key] = &[
    &LISTEN,
    &PORT,
    &WORKERS,
    &IDLE,
    &BATCH,
    &RECEIVE_BUFFER,
    &SOCKET,
    &TYPE,
    &SOURCE_STRATUM,
    &REFERENCE_ID,
    &LOCAL_STRATUM,
];

/// The keys of one section.
pub(super) fn of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().copied().filter(move |key| key.section == section)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}.{}", self.section, self.name)?;
        writeln!(f, "    Takes {}.", self.expected)?;
        match self.absent {
            Absent::Value(value) => writeln!(f, "    Default: {value}")?,
            Absent::Meaning(meaning) => writeln!(f, "    Default: {meaning}")?,
            Absent::Required => writeln!(f, "    Required.")?,
        }
        writeln!(f, "    {}", self.meaning)
    }
}
