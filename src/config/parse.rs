//! From the text of a file to a [`Config`], or to everything that is wrong with it.
//!
//! One function a section; what may stand where, and every range, is said by [`keys`] and [`value`].

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::report::{Problem, Report};
use super::section::{self, Field, Section};
use super::value::{self, LISTEN_MAX, Stratum, Word, Workers};
use super::{Config, Server, Source, Status};

/// Reads a whole file's text; on failure every problem in the order of the file, never none.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut report = Report::new(text);
    for error in &errors {
        report.add_broken(error);
    }
    let document = document.get_ref();
    report_unknown_sections(document, &mut report);

    let server = read_server(document, &mut report);
    let status = read_status(document, &mut report);
    let source = read_source(document, &mut report);
    let local = read_local(document, source.as_ref(), &mut report);

    let problems = report.finish();
    match source {
        Some(source) if problems.is_empty() => Ok(Config { server, status, source, local }),
        _ => Err(problems),
    }
}

fn report_unknown_sections(document: &DeTable<'_>, report: &mut Report<'_>) {
    let names: Vec<&str> = keys::SECTIONS.iter().map(|&(name, _)| name).collect();
    let headers: Vec<&str> = keys::SECTIONS.iter().map(|&(_, header)| header).collect();
    for (name, value) in document.iter().filter(|(name, _)| !names.contains(&name.get_ref().as_ref())) {
        let word = name.get_ref().as_ref();
        let home = keys::KEYS.iter().find(|key| key.name == word).map(|key| key.section);
        let (problem, expected) = match home {
            Some(home) if !is_section(value.get_ref()) => {
                ("a key outside its section".to_owned(), format!("it under {}", section::header_of(home)))
            }
            _ => {
                let nearest = section::nearest(word, &names).map(section::header_of);
                (section::unknown("section", nearest), section::one_of(&headers))
            }
        };
        report.add(name.span().start, word, problem, expected);
    }
}

/// Whether a value at the top of the file is meant as one section or several.
fn is_section(value: &DeValue<'_>) -> bool {
    value.is_table()
        || value.as_array().and_then(|array| array.first()).is_some_and(|first| first.get_ref().is_table())
}

/// The one table of that name, if it is there.
fn table<'t>(name: &'static str, document: &'t DeTable<'t>, report: &mut Report<'_>) -> Option<Section<'t>> {
    Section::open(name, name.to_owned(), document.get(name)?, report)
}

fn read_server(document: &DeTable<'_>, report: &mut Report<'_>) -> Server {
    let mut server = Server::default();
    let Some(section) = table("server", document, report) else {
        return server;
    };
    if let Some(listen) = section.field(&keys::LISTEN).and_then(|field| read_listen(&field, report)) {
        server.listen = listen;
    }
    if let Some(port) = section.field(&keys::PORT).and_then(|field| field.word(report)) {
        server.port = port;
    }
    if let Some(workers) = section.field(&keys::WORKERS).and_then(|field| read_workers(&field, report)) {
        server.workers = workers;
    }
    if let Some(idle) = section.field(&keys::IDLE).and_then(|field| field.word(report)) {
        server.idle = idle;
    }
    let batch = section.field(&keys::BATCH).and_then(|field| field.number(1..=value::BATCH_MAX, report));
    if let Some(batch) = batch.and_then(NonZeroUsize::new) {
        server.batch = batch;
    }
    if let Some(buffer) = section.field(&keys::RECEIVE_BUFFER).and_then(|field| read_size(&field, report)) {
        server.receive_buffer_octets = buffer;
    }
    server
}

fn read_listen(field: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<SocketAddr>> {
    let Some(elements) = field.elements(keys::LISTEN_ELEMENT) else {
        field.refuse_type(report);
        return None;
    };
    if elements.is_empty() {
        field.refuse("an empty list: the server would answer nobody", report);
        return None;
    }
    if elements.len() > LISTEN_MAX {
        field.refuse(format!("{} addresses are too many, {LISTEN_MAX} is the most", elements.len()), report);
        return None;
    }
    let mut addresses = Vec::new();
    for element in &elements {
        let Some(text) = element.text(report) else { continue };
        match value::listen(text) {
            Ok(address) if addresses.contains(&address) => {
                element.refuse(format!("{text:?} is in the list twice"), report);
            }
            Ok(address) => addresses.push(address),
            Err(problem) => element.refuse(format!("{text:?}: {problem}"), report),
        }
    }
    Some(addresses)
}

fn read_workers(field: &Field<'_>, report: &mut Report<'_>) -> Option<Workers> {
    let workers = match field.elements(keys::WORKERS_ELEMENT) {
        Some(elements) => {
            let cores = elements.iter().map(|element| element.number(0..=usize::MAX, report));
            // Each is read, so that each wrong one is told.
            let cores: Vec<Option<usize>> = cores.collect();
            Workers::cores(cores.into_iter().collect::<Option<_>>()?)
        }
        None => Workers::count(field.number(0..=usize::MAX, report)?),
    };
    workers.map_err(|problem| field.refuse(problem.to_string(), report)).ok()
}

fn read_size(field: &Field<'_>, report: &mut Report<'_>) -> Option<NonZeroU32> {
    let (shown, size) = if let DeValue::Integer(integer) = field.value() {
        (integer.to_string(), value::receive_buffer_octets(field.number(0..=u64::MAX, report)?))
    } else {
        let text = field.text(report)?;
        (format!("{text:?}"), value::receive_buffer(text))
    };
    size.map_err(|problem| field.refuse(format!("{shown} {problem}"), report)).ok()
}

fn read_status(document: &DeTable<'_>, report: &mut Report<'_>) -> Status {
    let field = table("status", document, report).and_then(|section| section.field(&keys::SOCKET));
    Status { socket: field.and_then(|field| read_socket(&field, report)) }
}

fn read_socket(field: &Field<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let text = field.text(report)?;
    let problem = if !text.starts_with('/') {
        "not an absolute path"
    } else if text.len() > value::SOCKET_PATH_OCTETS_MAX {
        "too long for a Unix socket"
    } else if text.ends_with('/') {
        "a directory"
    } else if text.contains('\0') {
        "contains a zero octet"
    } else {
        return Some(PathBuf::from(text));
    };
    field.refuse(format!("{text:?}: {problem}"), report);
    None
}

/// The one source there must be.
fn read_source(document: &DeTable<'_>, report: &mut Report<'_>) -> Option<Source> {
    const EXPECTED: &str = "one [[source]] section with type = \"machine\"";
    let Some(value) = document.get("source") else {
        report.add_missing(report.end(), "source", EXPECTED);
        return None;
    };
    let sources: &[Spanned<DeValue<'_>>] = if let DeValue::Array(array) = value.get_ref() {
        array
    } else {
        let expected = "the header in double brackets, [[source]]: it is a list of sections";
        report.add(value.span().start, "source", section::found(value.get_ref()), expected);
        // Its keys are worth reading all the same.
        std::slice::from_ref(value)
    };
    if sources.is_empty() {
        report.add(value.span().start, "source", "an empty list", EXPECTED);
    }
    let mut first = None;
    for (index, source) in sources.iter().enumerate() {
        if !source.get_ref().is_table() && !value.get_ref().is_array() {
            continue;
        }
        let path = format!("source[{index}]");
        let Some(section) = Section::open("source", path.clone(), source, report) else { continue };
        if index > 0 {
            report.add(section.offset(), path, "one source too many", "a single source in this version");
        }
        let read = read_one_source(&section, report);
        first = first.or(read);
    }
    first
}

/// The types of source that there are.
#[derive(Clone, Copy)]
enum SourceType {
    Machine,
}

impl Word for SourceType {
    const WORDS: &'static [(&'static str, Self)] = &[("machine", Self::Machine)];
}

fn read_one_source(section: &Section<'_>, report: &mut Report<'_>) -> Option<Source> {
    // An absent or unknown type's other keys are read as those of the only one that there is.
    let kind = section.required(&keys::TYPE, report).and_then(|field| field.word(report));
    let stratum = section
        .required(&keys::SOURCE_STRATUM, report)
        .and_then(|field| field.number(1..=14, report))
        .and_then(Stratum::new);
    let reference_id = match section.field(&keys::REFERENCE_ID) {
        Some(field) => read_reference_id(&field, report),
        None => Some(Source::LOCAL_CLOCK),
    };
    match kind? {
        SourceType::Machine => Some(Source::Machine { stratum: stratum?, reference_id: reference_id? }),
    }
}

fn read_reference_id(field: &Field<'_>, report: &mut Report<'_>) -> Option<Ipv4Addr> {
    let text = field.text(report)?;
    match text.parse() {
        Ok(Ipv4Addr::UNSPECIFIED) => field.refuse("0.0.0.0 names nothing", report),
        Ok(address) => return Some(address),
        Err(_) if text.parse::<std::net::Ipv6Addr>().is_ok() => {
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

fn read_local(document: &DeTable<'_>, source: Option<&Source>, report: &mut Report<'_>) -> Option<Stratum> {
    let section = table("local", document, report)?;
    let field = section.required(&keys::LOCAL_STRATUM, report)?;
    let stratum = Stratum::new(field.number(3..=15, report)?)?;
    if let Some(served) = source.map(Source::served_stratum).filter(|&served| stratum <= served) {
        // Clients would prefer the unsynchronised clock to the synchronised one.
        field.refuse(format!("{stratum} is not above {served}, at which the source is served"), report);
    }
    Some(stratum)
}
