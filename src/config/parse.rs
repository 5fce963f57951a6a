//! From the text of a file to a [`Config`], or to everything that is wrong with it.
//!
//! One function a section (the sources' are in `read_sources`, limits and access in files of their own); what may stand where, and every range, is said by [`keys`] and [`value`].

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};

use toml::de::{DeTable, DeValue};

use super::report::{Problem, Report};
use super::section::{self, Field, Section, table};
use super::source::SourceType;
use super::value::{self, INTERFACES_MAX, LISTEN_MAX, NicStamps, Stratum, WayError, Workers};
use super::{
    Clock, Config, Server, Smear, Source, Status, access, keys, limit, metrics, paths, read_sources, span,
};

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
    let limit = limit::read(document, &mut report);
    let access = access::read(document, &mut report);
    let status = read_status(document, &mut report);
    let metrics = metrics::read(document, &mut report);
    let sources = read_sources::read(document, &mut report).unwrap_or_default();
    let clock = read_clock(document, &sources, &mut report);
    let smear = read_smear(document, &server, &mut report);
    let local = read_local(document, &sources, &mut report);

    let problems = report.finish();
    // Without a source there is a problem that says so.
    if problems.is_empty() && !sources.is_empty() {
        Ok(Config { server, limit, access, status, metrics, sources, clock, smear, local })
    } else {
        Err(problems)
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

fn read_server(document: &DeTable<'_>, report: &mut Report<'_>) -> Server {
    let mut server = Server::default();
    let Some(section) = table("server", document, report) else {
        return server;
    };
    if let Some(listen) = section.field(&keys::LISTEN).and_then(|field| read_listen(&field, report)) {
        server.listen = listen;
    }
    server.public = section.read(&keys::PUBLIC, report, Field::boolean).unwrap_or(server.public);
    if let Some(port) = section.field(&keys::PORT).and_then(|field| field.word(report)) {
        server.port = port;
    }
    if let Some(interfaces) = section.read(&keys::INTERFACE, report, read_interfaces) {
        server.interfaces = interfaces;
    }
    if let Some(nics) = section.read(&keys::NIC_STAMPS, report, read_nic_stamps) {
        server.nic_stamps = nics;
    }
    server.busy_poll = section.read(&keys::BUSY_POLL, report, Field::boolean).unwrap_or(server.busy_poll);
    check_way(&section, &server, report);
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
    let read_buffer =
        |field: &Field<'_>, report: &mut Report<'_>| field.size(&value::RECEIVE_BUFFER_OCTETS, report);
    let buffer = section.read(&keys::RECEIVE_BUFFER, report, read_buffer);
    if let Some(buffer) = buffer.and_then(|octets| u32::try_from(octets).ok()).and_then(NonZeroU32::new) {
        server.receive_buffer_octets = buffer;
    }
    let clients = 0..=value::INTERLEAVED_CLIENTS_MAX;
    let clients =
        section.read(&keys::INTERLEAVED_CLIENTS, report, |field, report| field.number(clients, report));
    server.interleaved_clients = clients.unwrap_or(server.interleaved_clients);
    let correction = section.read(&keys::TRANSMIT_CORRECTION, report, Field::boolean);
    server.transmit_correction = correction.unwrap_or(server.transmit_correction);
    server
}

fn read_listen(field: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<SocketAddr>> {
    if field.elements(keys::LISTEN_ELEMENT).is_some_and(|elements| elements.is_empty()) {
        field.refuse("an empty list: the server would answer nobody", report);
        return None;
    }
    field.addresses(LISTEN_MAX, report)
}

fn read_interfaces(field: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    field.list(keys::INTERFACE_ELEMENT, (INTERFACES_MAX, "interfaces", ""), value::interface, report)
}

/// A list as [`read_interfaces`] reads it, or the one word that stands for all.
fn read_nic_stamps(field: &Field<'_>, report: &mut Report<'_>) -> Option<NicStamps> {
    let every = |element: &Field<'_>| element.is_text(NicStamps::EVERY);
    match field.elements(keys::INTERFACE_ELEMENT).as_deref() {
        Some([one]) if every(one) => Some(NicStamps::Every),
        Some(elements) if elements.iter().any(every) => {
            field.refuse("\"*\" beside others", report);
            None
        }
        Some(_) | None => read_interfaces(field, report).map(NicStamps::Named),
    }
}

/// Whether the port, the interfaces that the section names and busy polling go together, told at the key that is at fault.
fn check_way(section: &Section<'_>, server: &Server, report: &mut Report<'_>) {
    // A list is told as it stands, whether or not each of its elements is right.
    let interfaces = section.field(&keys::INTERFACE);
    let named = match &interfaces {
        Some(field) => field.elements(keys::INTERFACE_ELEMENT).map(|elements| elements.len()),
        None => Some(0),
    };
    let way = named.map(|named| value::check_way(server.port, named, server.busy_poll));
    let Some(Err(problem)) = way else { return };
    match (problem, section.field(&keys::PORT), interfaces) {
        (WayError::NoInterface, Some(port), _) => {
            let expected = "interface = [\"eth0\"] or another name beside it, or port = \"auto\"";
            report.add(port.offset(), section.path_of(keys::PORT.name), problem.to_string(), expected);
        }
        (WayError::Unused(_), _, Some(interfaces)) => {
            let path = section.path_of(keys::INTERFACE.name);
            let expected = "port = \"af-xdp\" or \"auto\" beside it, or no interface";
            report.add(interfaces.offset(), path, problem.to_string(), expected);
        }
        (WayError::NothingToPoll, _, _) => {
            if let Some(busy_poll) = section.field(&keys::BUSY_POLL) {
                let path = section.path_of(keys::BUSY_POLL.name);
                let expected = "interface = [\"eth0\"] or another name beside it, or false";
                report.add(busy_poll.offset(), path, problem.to_string(), expected);
            }
        }
        (WayError::NoInterface | WayError::Unused(_), _, _) => {}
    }
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

fn read_status(document: &DeTable<'_>, report: &mut Report<'_>) -> Status {
    let field = table("status", document, report).and_then(|section| section.field(&keys::SOCKET));
    Status { socket: field.and_then(|field| paths::socket(&field, report)) }
}

fn read_clock(document: &DeTable<'_>, sources: &[Source], report: &mut Report<'_>) -> Clock {
    let mut clock = Clock::unstated(sources);
    let Some(section) = table("clock", document, report) else {
        return clock;
    };
    let read_distance = |field: &Field<'_>, report: &mut Report<'_>| field.span(&span::ROOT_DISTANCE, report);
    if let Some(distance) = section.read(&keys::ROOT_DISTANCE_MAX, report, read_distance) {
        clock.root_distance_max = distance;
    }
    if let Some(field) = section.field(&keys::AGREE_MIN)
        && let Some(number) = field.number(1..=value::AGREE_MIN_MAX, report)
    {
        // Where a source couldn't be read, how many there are isn't known.
        if !sources.is_empty() && number > sources.len() {
            field.refuse(
                format!("{number} are more than the sources that there are, {}", sources.len()),
                report,
            );
        }
        clock.agree_min = number;
    }
    clock.leap_file = section.read(&keys::LEAP_FILE, report, paths::file);
    clock.state = section.read(&keys::STATE, report, paths::directory);
    let read_holdover = |field: &Field<'_>, report: &mut Report<'_>| field.span(&span::HOLDOVER, report);
    if let Some(holdover) = section.read(&keys::HOLDOVER_MAX, report, read_holdover) {
        clock.holdover_max = holdover;
    }
    read_steering(&section, &mut clock, sources, report);
    clock
}

fn read_steering(section: &Section<'_>, clock: &mut Clock, sources: &[Source], report: &mut Report<'_>) {
    if let Some(field) = section.field(&keys::STEER) {
        clock.steer = field.boolean(report).unwrap_or(clock.steer);
        let is_machine = |source: &Source| source.kind.of_type() == SourceType::Machine;
        if clock.steer
            && let Some(machine) = sources.iter().find(|source| is_machine(source))
        {
            let name = &machine.name;
            field.refuse(
                format!("the machine's clock would follow itself: source {name:?} is of type machine"),
                report,
            );
        }
    }
    if let Some(field) = section.field(&keys::FIRST_STEP_UNLIMITED) {
        clock.first_step_unlimited = field.boolean(report).unwrap_or(clock.first_step_unlimited);
        if clock.first_step_unlimited && !clock.steer {
            field.refuse("nobody steps the clock, since clock.steer isn't true", report);
        }
    }
}

fn read_smear(document: &DeTable<'_>, server: &Server, report: &mut Report<'_>) -> Option<Smear> {
    let section = table("smear", document, report)?;
    if server.public {
        let problem = "a public server must not smear leap seconds (RFC 8633 section 3.7.1)";
        report.add(section.offset(), section.path(), problem, "no such section where server.public is true");
    }
    let length = section.read(&keys::SMEAR_LENGTH, report, |field, report| field.span(&span::SMEAR, report));
    let field = section.required(&keys::SMEAR_LISTEN, report)?;
    let listen = read_listen(&field, report)?;
    if let Some(shared) = listen.iter().find(|address| server.listen.contains(address)) {
        let problem = format!("{shared} is in server.listen, too: an address smears or it doesn't");
        field.refuse(problem, report);
    }
    Some(Smear { listen, length: length.unwrap_or(Smear::LENGTH_UNSTATED) })
}

fn read_local(document: &DeTable<'_>, sources: &[Source], report: &mut Report<'_>) -> Option<Stratum> {
    let section = table("local", document, report)?;
    let field = section.required(&keys::LOCAL_STRATUM, report)?;
    let stratum = Stratum::new(field.number(3..=15, report)?)?;
    let served = sources.iter().filter_map(Source::served_stratum).max();
    if let Some(served) = served.filter(|&served| stratum <= served) {
        // Clients would prefer the unsynchronised clock to the synchronised one.
        field.refuse(
            format!("{stratum} is not above {served}, at which this machine's clock is served"),
            report,
        );
    }
    Some(stratum)
}
