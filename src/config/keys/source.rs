//! The keys of a `[[source]]` section: those of every type, then type by type.

use super::{Absent, Key};
use crate::config::source::SourceType::{self, Gpsd, Machine, Nmea, Ntp, Phc, Pps, Ubx};

const SECTION: &str = "source";
const CLOCKS: &[SourceType] = &[Gpsd, Nmea, Ubx, Pps, Phc];
/// The machine's clock is served as it is.
const CORRECTED: &[SourceType] = &[Gpsd, Nmea, Ubx, Pps, Phc, Ntp];
const SERIAL: &[SourceType] = &[Nmea, Ubx];
const PULSES: &[SourceType] = &[Pps, Phc];

pub(in crate::config) const TYPE: Key = Key {
    section: SECTION,
    types: &[],
    name: "type",
    expected: "\"gpsd\", \"nmea\", \"ubx\", \"pps\", \"phc\", \"ntp\" or \"machine\"",
    absent: Absent::Required,
    meaning: "Where the time comes from. \"gpsd\": samples that gpsd hands over. \"nmea\" and \"ubx\": a receiver on a \
              serial line that speaks NMEA 0183, or UBX as u-blox receivers do. \"pps\": pulses that the kernel stamps; \
              they say when a second begins and never which, so another source has to. \"phc\": a NIC's own clock, either the \
              time that it keeps (by PTP or a receiver on the card) or, with `channel`, pulses that it stamps. \"ntp\": an upstream server, \
              as cross-check, as label for pulses, as fallback. \"machine\": this machine's own clock, which another \
              daemon (chronyd, ntpd, ptp4l with phc2sys) keeps right; maser reads what the kernel says of it and never \
              steers it. At most one source is \"machine\", and beside others it is the last resort.",
};

pub(in crate::config) const NAME: Key = Key {
    section: SECTION,
    types: &[],
    name: "name",
    expected: "1 to 32 letters, digits, dots, hyphens or underscores, as \"roof\"",
    absent: Absent::Meaning("the type and its number among the sources of that type, from 0, as nmea0"),
    meaning: "What the status, the log and other sources' `label` call this source. No two have the same.",
};

pub(in crate::config) const PREFER: Key = Key {
    section: SECTION,
    types: CORRECTED,
    name: "prefer",
    expected: "true or false",
    absent: Absent::Value("false"),
    meaning: "Whether this source is followed for as long as it agrees with the majority, though others may look better.",
};

pub(in crate::config) const OFFSET: Key = Key {
    section: SECTION,
    types: CORRECTED,
    name: "offset",
    expected: "a span from \"-1 s\" to \"1 s\", as \"12.5 us\"",
    absent: Absent::Value(r#""0 s""#),
    meaning: "A correction that is added to this source's time: positive for a source that is late, as by the delay of \
              an antenna cable (some 5 ns a metre). Units here and elsewhere: ns, us, ms, s, min, h.",
};

pub(in crate::config) const ERROR: Key = Key {
    section: SECTION,
    types: CORRECTED,
    name: "error",
    expected: "a span from \"0 s\" to \"1 s\", as \"100 ns\"",
    absent: Absent::Meaning(
        "1 us for pps and phc; 10 us for gpsd, but 100 ms for its segments of even number, which hold the time of sentences; \
         1 ms for nmea and ubx; 0 s for ntp, whose servers state their own",
    ),
    meaning: "How far this source can be off in a way that averaging doesn't remove: cables, the receiver, the way of \
              the interrupt. What reading a NIC's clock leaves open, half of the time that it takes, is added to it. It is part of the root distance that replies state, so it has to be true.",
};

pub(in crate::config) const REFERENCE_NAME: Key = Key {
    section: SECTION,
    types: CLOCKS,
    name: "reference_id",
    expected: "1 to 4 printable ASCII characters, as \"GPS\"",
    absent: Absent::Meaning(
        "\"PPS\" for pps and for phc with `channel`, \"PHC\" for phc without, \"GPS\" for gpsd, nmea and ubx",
    ),
    meaning: "What replies name as their reference while this source is followed, which is at stratum 1 (RFC 5905 \
              section 7.3): GPS, GAL, PPS, DCFa and the like.",
};

pub(in crate::config) const GPSD_SOCKET: Key = Key {
    section: SECTION,
    types: &[Gpsd],
    name: "socket",
    expected: "an absolute path of at most 107 octets",
    absent: Absent::Meaning("there is `shm` instead; one of the two has to be"),
    meaning: "The Unix socket that maser makes for gpsd to write samples to. gpsd looks for it when it starts, so it \
              starts after maser: /run/chrony.DEVICE.sock as root, as /run/chrony.ttyS0.sock for /dev/ttyS0.",
};

pub(in crate::config) const SHM: Key = Key {
    section: SECTION,
    types: &[Gpsd],
    name: "shm",
    expected: "a unit number from 0 to 255",
    absent: Absent::Meaning("there is `socket` instead; one of the two has to be"),
    meaning: "The segment of shared memory that gpsd writes to. It gives each receiver two: the even number has the time \
              of sentences, the odd one after it that of pulses; 0 and 1 are the first receiver's if gpsd started as root, \
              else 2 and 3. A PPS device that gpsd was given by itself (`gpsd /dev/ttyS0 /dev/pps0`) writes to an even \
              number: state its `error`, as \"10 us\".",
};

pub(in crate::config) const DEVICE: Key = Key {
    section: SECTION,
    types: &[Nmea, Ubx, Pps, Phc],
    name: "device",
    expected: "the absolute path of a device, as \"/dev/ttyS0\" or \"/dev/pps0\"",
    absent: Absent::Required,
    meaning: "The receiver's serial line, for pps the kernel's pulse device, for phc the clock, as \"/dev/ptp0\" (`ethtool \
              -T INTERFACE` says which one an interface has). One that is missing or goes away is tried \
              again every few seconds.",
};

pub(in crate::config) const BAUD: Key = Key {
    section: SECTION,
    types: SERIAL,
    name: "baud",
    expected: "one of 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600",
    absent: Absent::Meaning("the speed that the line has; right for receivers on USB, which have none"),
    meaning: "The serial line's speed in bits a second. Where it is stated, a message is taken to have begun as long ago \
              as its octets take.",
};

pub(in crate::config) const DELAY: Key = Key {
    section: SECTION,
    types: SERIAL,
    name: "delay",
    expected: "a span from \"0 s\" to \"2 s\", as \"120 ms\"",
    absent: Absent::Meaning(
        "it is learnt from pulses or from other sources; a lone receiver waits for one of these",
    ),
    meaning: "From the beginning of a second to the first octet of the message that names it.",
};

pub(in crate::config) const CONFIGURE: Key = Key {
    section: SECTION,
    types: &[Ubx],
    name: "configure",
    expected: "true or false",
    absent: Absent::Value("false"),
    meaning: "Whether maser sends the receiver the settings that it needs at each opening: the messages NAV-PVT, \
              NAV-TIMELS and TIM-TP. They are not saved in the receiver.",
};

pub(in crate::config) const TIMESCALE: Key = Key {
    section: SECTION,
    types: &[Phc],
    name: "timescale",
    expected: "\"tai\" or \"utc\"",
    absent: Absent::Value(r#""tai""#),
    meaning: "What the clock keeps: \"tai\" as PTP has it and ptp4l and ts2phc set it, 37 s ahead of UTC since 2017; \"utc\" \
              where it was set to the machine's time; never beside clock.steer where that machine is this one: they would follow \
              each other. A clock that nobody sets keeps neither: name other sources beside \
              it, which outvote it then.",
};

pub(in crate::config) const CHANNEL: Key = Key {
    section: SECTION,
    types: &[Phc],
    name: "channel",
    expected: "the number of a channel from 0 to 255",
    absent: Absent::Meaning("the clock's own time is taken, and no pulses"),
    meaning: "The channel of the clock on which a receiver's pulses are stamped (external timestamps). The source is these \
              pulses then, as with pps, and what time the clock itself keeps doesn't matter: it may run free. Of NICs that \
              stamp both ends of a pulse (Intel i210) an edge that follows another within half a second is taken for the \
              other end: pulses have to be shorter. Afterwards the channel is off.",
};

pub(in crate::config) const PIN: Key = Key {
    section: SECTION,
    types: &[Phc],
    name: "pin",
    expected: "the name or the number of a pin, as \"SDP0\"",
    absent: Absent::Meaning(
        "the pin that leads to the channel already, or the only one of a NIC that can't program them",
    ),
    meaning: "The pin that has the pulses; the keeper programs it for `channel`, which takes the right to write to the device, \
              and puts it back at its end. /sys/class/ptp/ptp0/pins lists them.",
};

pub(in crate::config) const EDGE: Key = Key {
    section: SECTION,
    types: PULSES,
    name: "edge",
    expected: "\"assert\" or \"clear\"",
    absent: Absent::Value(r#""assert""#),
    meaning: "Which end of the pulse begins the second, as the kernel names them: mostly the rising one is \"assert\", \
              and with phc always.",
};

pub(in crate::config) const LABEL: Key = Key {
    section: SECTION,
    types: PULSES,
    name: "label",
    expected: "a list of names of sources that name seconds, as [\"nmea0\"]",
    absent: Absent::Meaning("every source that gives no pulses itself"),
    meaning: "The sources that may say which second a pulse began.",
};

/// What each element of [`LABEL`] is.
pub(in crate::config) const LABEL_ELEMENT: &str =
    "the name of a source of type gpsd, nmea, ubx, phc without `channel`, ntp or machine";

pub(in crate::config) const ADDRESS: Key = Key {
    section: SECTION,
    types: &[Ntp],
    name: "address",
    expected: "a server, as \"ntp.example.net\", \"192.0.2.1:123\" or \"[2001:db8::1]:123\"",
    absent: Absent::Required,
    meaning: "The server to ask. Without a port it is 123. A name is looked up when the server is first asked, and again \
              when it doesn't answer.",
};

pub(in crate::config) const BURST: Key = Key {
    section: SECTION,
    types: &[Ntp],
    name: "burst",
    expected: "true or false",
    absent: Absent::Value("true"),
    meaning: "Whether the first questions are asked 2 s apart, so that the server is of use within seconds.",
};

pub(in crate::config) const INTERLEAVED: Key = Key {
    section: SECTION,
    types: &[Ntp],
    name: "interleaved",
    expected: "true or false",
    absent: Absent::Value("true"),
    meaning: "Whether interleaved mode (RFC 9769) is offered, which brings better stamps from servers that take it.",
};

pub(in crate::config) const POLL_MIN: Key = Key {
    section: SECTION,
    types: &[Ntp],
    name: "poll_min",
    expected: "a power of two seconds from \"2 s\" to \"131072 s\", not above poll_max",
    absent: Absent::Value(r#""64 s""#),
    meaning: "The least time between two questions. Below \"64 s\" only for servers of your own.",
};

pub(in crate::config) const POLL_MAX: Key = Key {
    section: SECTION,
    types: &[Ntp],
    name: "poll_max",
    expected: "a power of two seconds from \"2 s\" to \"131072 s\"",
    absent: Absent::Value(r#""1024 s""#),
    meaning: "The greatest time between two questions; between the two it adapts to the noise.",
};

pub(in crate::config) const STRATUM: Key = Key {
    section: SECTION,
    types: &[Machine],
    name: "stratum",
    expected: "a stratum from 1 to 14",
    absent: Absent::Required,
    meaning: "The stratum of what keeps the machine's clock, as that daemon reports it (`chronyc tracking`, \
              `ntpq -c rv`). Nothing in the kernel tells, so the operator must; replies say one above.",
};

pub(in crate::config) const REFERENCE_ADDRESS: Key = Key {
    section: SECTION,
    types: &[Machine],
    name: "reference_id",
    expected: "an IPv4 address, as \"192.0.2.1\"",
    absent: Absent::Value(r#""127.127.1.1""#),
    meaning: "What replies name as their reference: the IPv4 address of the server that the machine's clock follows, \
              so that this server can tell a loop when it asks us. Replies here are of stratum 2 or above, where \
              the reference id is an address and never a name such as GPS (RFC 5905 section 7.3); for an IPv6 \
              address write the first four octets of its MD5 as an IPv4 address. The default says \"a local clock\".",
};
