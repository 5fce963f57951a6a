//! From the `[[source]]` sections to a list of [`Source`]s: each by itself, then what holds between them.
//!
//! Types and names of all sections are read first, since a pulse's `label` may name a section further down.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use maser_core::discipline::SOURCES_MAX;
use maser_core::time::Span;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address::Upstream;
use super::keys::source as keys;
use super::report::Report;
use super::section::{self, Field, Section};
use super::source::{BAUDS, Edge, GpsdPlace, Serial, Source, SourceKind, SourceType, Timescale};
use super::value::Stratum;
use super::{paths, span};

const EXPECTED: &str = "at least one [[source]] section, of type gpsd, nmea, ubx, pps, phc, ntp or machine";
const NAME_OCTETS_MAX: usize = 32;
/// The kernel's names of pins have room for 64 with the zero at their end.
const PIN_OCTETS_MAX: usize = 63;
/// As RFC 5905 and every other server have them.
const POLL_MIN_LOG2_S_UNSTATED: u8 = 6;
const POLL_MAX_LOG2_S_UNSTATED: u8 = 10;

/// A section of which type and name have been read.
struct Head<'t> {
    section: Section<'t>,
    kind: Option<SourceType>,
    name: String,
}

impl Head<'_> {
    /// Whether it says which second it is; a pulse alone doesn't, and a section of no known type may.
    fn names_seconds(&self) -> bool {
        match self.kind {
            Some(SourceType::Pps) => false,
            Some(SourceType::Phc) => self.section.field(&keys::CHANNEL).is_none(),
            Some(
                SourceType::Gpsd | SourceType::Nmea | SourceType::Ubx | SourceType::Ntp | SourceType::Machine,
            )
            | None => true,
        }
    }
}

/// Every source; none if there is a problem with any.
pub(super) fn read(document: &DeTable<'_>, report: &mut Report<'_>) -> Option<Vec<Source>> {
    let Some(value) = document.get("source") else {
        report.add_missing(report.end(), "source", EXPECTED);
        return None;
    };
    let sections: &[Spanned<DeValue<'_>>] = if let DeValue::Array(array) = value.get_ref() {
        array
    } else {
        let expected = "the header in double brackets, [[source]]: it is a list of sections";
        report.add(value.span().start, "source", section::found(value.get_ref()), expected);
        // Its keys are worth reading all the same.
        std::slice::from_ref(value)
    };
    if sections.is_empty() {
        report.add(value.span().start, "source", "an empty list", EXPECTED);
    }
    if let Some(one_more) = sections.get(SOURCES_MAX) {
        let problem = format!("{} sources are too many", sections.len());
        report.add(one_more.span().start, "source", problem, format!("at most {SOURCES_MAX}"));
        // What else is wrong with so many would fill a screen for every mistake.
        return None;
    }
    let mut heads: Vec<Head<'_>> = Vec::new();
    for (index, source) in sections.iter().enumerate() {
        if source.get_ref().is_table() || value.get_ref().is_array() {
            heads.extend(read_head(index, source, &heads, report));
        }
    }
    report_names(&heads, report);
    let read: Vec<_> = heads.iter().map(|head| read_source(head, &heads, report)).collect();
    report_twice(&heads, &read, report);
    read.into_iter().collect()
}

fn read_head<'t>(
    index: usize,
    value: &'t Spanned<DeValue<'t>>,
    earlier: &[Head<'_>],
    report: &mut Report<'_>,
) -> Option<Head<'t>> {
    let section = Section::open("source", format!("source[{index}]"), value, report)?;
    let kind: Option<SourceType> = section.required(&keys::TYPE, report).and_then(|field| field.word(report));
    section.report_unknown(kind, report);
    let name = section.read(&keys::NAME, report, read_name).unwrap_or_else(|| {
        let number = earlier.iter().filter(|head| head.kind == kind).count();
        format!("{}{number}", kind.map_or("source", SourceType::word))
    });
    Some(Head { section, kind, name })
}

fn read_name(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text(report)?;
    let known = |octet: u8| octet.is_ascii_alphanumeric() || b".-_".contains(&octet);
    if !(1..=NAME_OCTETS_MAX).contains(&text.len()) || !text.bytes().all(known) {
        field.refuse(format!("{text:?} is no name"), report);
        return None;
    }
    Some(text.to_owned())
}

/// A name that was given and that another source has: an earlier one, or a later one by default.
fn report_names(heads: &[Head<'_>], report: &mut Report<'_>) {
    for (index, head) in heads.iter().enumerate() {
        let Some(field) = head.section.field(&keys::NAME) else { continue };
        let other = heads.iter().enumerate().find(|(other, another)| {
            let is_given = another.section.field(&keys::NAME).is_some();
            another.name == head.name && (*other < index || (*other > index && !is_given))
        });
        if let Some((other, _)) = other {
            let problem = format!("{:?} is the name of source[{other}]", head.name);
            let path = head.section.path_of(keys::NAME.name);
            report.add(field.offset(), path, problem, "a name that no other source has");
        }
    }
}

/// A device or a server that two sources have, and a second source for the machine's own clock.
fn report_twice(heads: &[Head<'_>], read: &[Option<Source>], report: &mut Report<'_>) {
    let places: Vec<Option<String>> =
        read.iter().map(|source| source.as_ref().map(|source| source.kind.to_string())).collect();
    for (index, (head, place)) in heads.iter().zip(&places).enumerate() {
        let earlier = places.iter().take(index).position(|earlier| place.is_some() && earlier == place);
        if let (Some(earlier), Some(place)) = (earlier, place) {
            let problem = format!("{place} is source[{earlier}] already");
            let expected = "each device, socket, segment, server and this machine's clock once";
            report.add(head.section.offset(), head.section.path(), problem, expected);
        }
    }
}

fn read_source(head: &Head<'_>, heads: &[Head<'_>], report: &mut Report<'_>) -> Option<Source> {
    let section = &head.section;
    let kind = head.kind?;
    let place = match kind {
        SourceType::Gpsd => read_gpsd(section, report).map(SourceKind::Gpsd),
        SourceType::Nmea => read_serial(section, report).map(SourceKind::Nmea),
        SourceType::Ubx => {
            let configure = section.read(&keys::CONFIGURE, report, Field::boolean).unwrap_or(false);
            read_serial(section, report).map(|serial| SourceKind::Ubx { serial, configure })
        }
        SourceType::Pps => read_pps(head, heads, report),
        SourceType::Phc => read_phc(head, heads, report),
        SourceType::Ntp => read_ntp(section, report),
        SourceType::Machine => {
            let stratum = section.required(&keys::STRATUM, report);
            let stratum = stratum.and_then(|field| field.number(1..=14, report)).and_then(Stratum::new);
            stratum.map(|stratum| SourceKind::Machine { stratum })
        }
    };
    let prefer = section.read(&keys::PREFER, report, Field::boolean);
    let offset = section.read(&keys::OFFSET, report, |field, report| field.span(&span::OFFSET, report));
    let error = section.read(&keys::ERROR, report, |field, report| field.span(&span::ERROR, report));
    let reference_id = read_reference_id(kind, section, report);
    let kind = place?;
    Some(Source {
        name: head.name.clone(),
        prefer: prefer.unwrap_or(false),
        offset: offset.unwrap_or(Span::ZERO),
        error: error.unwrap_or_else(|| error_unstated(&kind)),
        reference_id,
        kind,
    })
}

/// What averaging doesn't remove where nobody says: the way of an interrupt, and for sentences what is left of their
/// jitter. gpsd's segments of even number hold the time of sentences, with all of their delay.
fn error_unstated(kind: &SourceKind) -> Span {
    match kind {
        SourceKind::Gpsd(GpsdPlace::SharedMemory(unit)) if unit.is_multiple_of(2) => {
            Span::from_nanos(100_000_000)
        }
        SourceKind::Gpsd(_) => Span::from_nanos(10_000),
        SourceKind::Nmea(_) | SourceKind::Ubx { .. } => Span::from_nanos(1_000_000),
        SourceKind::Pps { .. } | SourceKind::Phc { .. } | SourceKind::PhcPulses { .. } => {
            Span::from_nanos(1_000)
        }
        SourceKind::Ntp { .. } | SourceKind::Machine { .. } => Span::ZERO,
    }
}

fn read_gpsd(section: &Section<'_>, report: &mut Report<'_>) -> Option<GpsdPlace> {
    let socket = section.field(&keys::GPSD_SOCKET);
    let unit = section.field(&keys::SHM);
    match (&socket, &unit) {
        (Some(_), Some(unit)) => unit.refuse("there is `socket` already", report),
        (None, None) => {
            let expected = "`socket = \"/PATH\"` or `shm = UNIT`: where gpsd hands over its samples";
            report.add_missing(section.offset(), section.path(), expected);
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    let socket = socket.and_then(|field| paths::socket(&field, report)).map(GpsdPlace::Socket);
    let unit = unit.and_then(|field| field.number(0..=u8::MAX, report)).map(GpsdPlace::SharedMemory);
    socket.or(unit)
}

fn read_device(section: &Section<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    section.required(&keys::DEVICE, report).and_then(|field| paths::file(&field, report))
}

fn read_serial(section: &Section<'_>, report: &mut Report<'_>) -> Option<Serial> {
    let baud = section.read(&keys::BAUD, report, read_baud);
    let delay = section.read(&keys::DELAY, report, |field, report| field.span(&span::DELAY, report));
    Some(Serial { device: read_device(section, report)?, baud, delay })
}

fn read_baud(field: &Field<'_>, report: &mut Report<'_>) -> Option<u32> {
    let baud = field.number(0..=u32::MAX, report)?;
    if !BAUDS.contains(&baud) {
        field.refuse(format!("{baud} is no speed of a serial line"), report);
    }
    Some(baud)
}

fn read_pps(head: &Head<'_>, heads: &[Head<'_>], report: &mut Report<'_>) -> Option<SourceKind> {
    let (edge, label) = read_pulses(head, heads, report);
    Some(SourceKind::Pps { device: read_device(&head.section, report)?, edge, label })
}

fn read_phc(head: &Head<'_>, heads: &[Head<'_>], report: &mut Report<'_>) -> Option<SourceKind> {
    let section = &head.section;
    let Some(channel) = section.field(&keys::CHANNEL) else {
        for key in [&keys::PIN, &keys::EDGE, &keys::LABEL] {
            if let Some(field) = section.field(key) {
                field.refuse("it is for pulses, and there is no `channel` that stamps them", report);
            }
        }
        let timescale: Option<Timescale> =
            section.field(&keys::TIMESCALE).and_then(|field| field.word(report));
        let device = read_device(section, report)?;
        return Some(SourceKind::Phc { device, timescale: timescale.unwrap_or_default() });
    };
    if let Some(field) = section.field(&keys::TIMESCALE) {
        field.refuse("it is for the clock's own time, and `channel` takes pulses", report);
    }
    let (edge, label) = read_pulses(head, heads, report);
    let pin = section.read(&keys::PIN, report, read_pin);
    let channel = channel.number(0..=u8::MAX, report);
    Some(SourceKind::PhcPulses {
        device: read_device(section, report)?,
        channel: channel?.into(),
        pin,
        edge,
        label,
    })
}

fn read_pin(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text(report)?;
    if !(1..=PIN_OCTETS_MAX).contains(&text.len()) || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
        field.refuse(format!("{text:?} is no name of a pin"), report);
    }
    Some(text.to_owned())
}

/// Which edge begins a second, and who may say which second.
fn read_pulses(head: &Head<'_>, heads: &[Head<'_>], report: &mut Report<'_>) -> (Edge, Vec<usize>) {
    let section = &head.section;
    let edge: Option<Edge> = section.field(&keys::EDGE).and_then(|field| field.word(report));
    let label = match section.field(&keys::LABEL) {
        Some(field) => read_label(&field, heads, report),
        // A section whose type isn't known yet may turn out to name seconds.
        None => {
            let named = heads.iter().enumerate();
            named.filter(|(_, head)| head.names_seconds()).map(|(at, _)| at).collect()
        }
    };
    if label.is_empty() && section.field(&keys::LABEL).is_none() {
        let problem = "a pulse says when a second begins, and no source says which";
        let expected = "another [[source]], of type gpsd, nmea, ubx, phc without `channel`, ntp or machine";
        report.add(section.offset(), section.path(), problem, expected);
    }
    (edge.unwrap_or_default(), label)
}

fn read_label(field: &Field<'_>, heads: &[Head<'_>], report: &mut Report<'_>) -> Vec<usize> {
    let Some(elements) = field.elements(keys::LABEL_ELEMENT) else {
        field.refuse_type(report);
        return Vec::new();
    };
    if elements.is_empty() {
        field.refuse("an empty list: the pulses would never be of use", report);
    }
    let mut label = Vec::new();
    for element in &elements {
        let Some(name) = element.text(report) else { continue };
        let Some(at) = heads.iter().position(|head| head.name == name) else {
            let names: Vec<&str> = heads.iter().map(|head| head.name.as_str()).collect();
            let problem = section::unknown(&format!("source {name:?}"), section::nearest(name, &names));
            element.refuse(problem, report);
            continue;
        };
        let names_seconds = heads.get(at).is_none_or(Head::names_seconds);
        if !names_seconds {
            element.refuse(format!("{name:?} gives pulses, too, and no seconds"), report);
        } else if label.contains(&at) {
            element.refuse(format!("{name:?} is in the list twice"), report);
        } else {
            label.push(at);
        }
    }
    label
}

fn read_ntp(section: &Section<'_>, report: &mut Report<'_>) -> Option<SourceKind> {
    let burst = section.read(&keys::BURST, report, Field::boolean).unwrap_or(true);
    let interleaved = section.read(&keys::INTERLEAVED, report, Field::boolean).unwrap_or(true);
    let least = section.read(&keys::POLL_MIN, report, read_poll).unwrap_or(POLL_MIN_LOG2_S_UNSTATED);
    let greatest = section.read(&keys::POLL_MAX, report, read_poll).unwrap_or(POLL_MAX_LOG2_S_UNSTATED);
    if least > greatest {
        let seconds = |log2: u8| 1_u64 << log2;
        match section.field(&keys::POLL_MIN) {
            Some(field) => {
                field.refuse(
                    format!("{} s is above poll_max, {} s", seconds(least), seconds(greatest)),
                    report,
                );
            }
            None => {
                let problem =
                    format!("its default, {} s, is above poll_max, {} s", seconds(least), seconds(greatest));
                let path = section.path_of(keys::POLL_MIN.name);
                report.add(section.offset(), path, problem, keys::POLL_MIN.expected);
            }
        }
    }
    let address = section.required(&keys::ADDRESS, report).and_then(|field| {
        let text = field.text(report)?;
        Upstream::parse(text).map_err(|problem| field.refuse(format!("{text:?}: {problem}"), report)).ok()
    });
    Some(SourceKind::Ntp {
        address: address?,
        burst,
        interleaved,
        poll_min_log2_s: least,
        poll_max_log2_s: greatest,
    })
}

fn read_poll(field: &Field<'_>, report: &mut Report<'_>) -> Option<u8> {
    let poll = field.span(&span::POLL, report)?;
    let log2 = (0..=span::POLL_LOG2_S_MAX).find(|&log2| Span::from_seconds(1 << log2) == poll);
    if log2.is_none() {
        field.refuse(format!("{:?} is not a power of two seconds", field.text(report)?), report);
    }
    log2
}

fn read_reference_id(kind: SourceType, section: &Section<'_>, report: &mut Report<'_>) -> Option<[u8; 4]> {
    match kind {
        SourceType::Machine => {
            let address = section.read(&keys::REFERENCE_ADDRESS, report, reference_address);
            Some(address.unwrap_or(Source::LOCAL_CLOCK).octets())
        }
        SourceType::Ntp => None,
        SourceType::Pps => {
            Some(section.read(&keys::REFERENCE_NAME, report, reference_name).unwrap_or(*b"PPS\0"))
        }
        SourceType::Phc => {
            let unstated = if section.field(&keys::CHANNEL).is_some() { b"PPS\0" } else { b"PHC\0" };
            Some(section.read(&keys::REFERENCE_NAME, report, reference_name).unwrap_or(*unstated))
        }
        SourceType::Gpsd | SourceType::Nmea | SourceType::Ubx => {
            Some(section.read(&keys::REFERENCE_NAME, report, reference_name).unwrap_or(*b"GPS\0"))
        }
    }
}

fn reference_address(field: &Field<'_>, report: &mut Report<'_>) -> Option<Ipv4Addr> {
    let text = field.text(report)?;
    match text.parse() {
        Ok(Ipv4Addr::UNSPECIFIED) => field.refuse("0.0.0.0 names nothing", report),
        Ok(address) => return Some(address),
        Err(_) if text.parse::<Ipv6Addr>().is_ok() => {
            let problem = format!(
                "{text:?} is an IPv6 address, and a reference id has room for the first 4 octets of its MD5"
            );
            field.refuse(problem, report);
        }
        Err(_) => {
            let problem = format!("{text:?} is not an address, and only stratum 1 takes a name");
            field.refuse(problem, report);
        }
    }
    None
}

/// Left-justified and zero-padded (RFC 5905 §7.3).
fn reference_name(field: &Field<'_>, report: &mut Report<'_>) -> Option<[u8; 4]> {
    let text = field.text(report)?;
    let mut id = [0; 4];
    let fits = id.get_mut(..text.len()).filter(|id| !id.is_empty());
    if let Some(fits) = fits.filter(|_| text.bytes().all(|octet| octet.is_ascii_graphic())) {
        fits.copy_from_slice(text.as_bytes());
        return Some(id);
    }
    field.refuse(format!("{text:?} is not 1 to 4 printable ASCII characters"), report);
    None
}
