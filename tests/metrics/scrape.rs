//! A client of HTTP that sees every octet, and what figures it reads.

use crate::maser::READY_LIMIT;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// What Prometheus asks for.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// A server's answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The first of what was received, whose body is as long as it says; and the rest.
    pub(crate) fn first(received: &str, has_body: bool) -> Option<(Self, &str)> {
        let (head, rest) = received.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
        let mut answer = Self { status, head: head.to_owned(), body: String::new() };
        let length = if has_body { answer.field("Content-Length")?.parse().ok()? } else { 0 };
        answer.body = rest.get(..length)?.to_owned();
        Some((answer, rest.get(length..)?))
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }
}

/// A connection on which nothing takes longer than a busy machine does.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, READY_LIMIT)?;
    stream.set_read_timeout(Some(READY_LIMIT))?;
    stream.set_write_timeout(Some(READY_LIMIT))?;
    Ok(stream)
}

/// All that comes after `request` was sent, until the server closes.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<String> {
    let mut stream = connect(address)?;
    stream.write_all(request)?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    Ok(String::from_utf8_lossy(&received).into_owned())
}

pub(crate) fn request(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: maser\r\n{fields}\r\n")
}

/// One scrape.
pub(crate) fn try_scrape(address: SocketAddr, accept: &str) -> io::Result<Answer> {
    let request = request("GET", "/metrics", &format!("Accept: {accept}\r\nConnection: close\r\n"));
    let received = exchange(address, request.as_bytes())?;
    match Answer::first(&received, true) {
        Some((answer, "")) => Ok(answer),
        Some(_) | None => Err(io::Error::new(io::ErrorKind::InvalidData, received)),
    }
}

pub(crate) fn scrape(address: SocketAddr, accept: &str) -> String {
    let answer =
        try_scrape(address, accept).unwrap_or_else(|error| panic!("no scrape of {address}: {error}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// Figures by their names with labels, as `maser_drops_total{worker="0",reason="version"}`.
pub(crate) type Series = BTreeMap<String, f64>;

pub(crate) fn series(text: &str) -> Series {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    let all: Vec<(String, f64)> = samples.map(sample).collect();
    let count = all.len();
    let series = Series::from_iter(all);
    assert_eq!(series.len(), count, "a series is told twice:\n{text}");
    series
}

pub(crate) fn scraped(address: SocketAddr) -> Series {
    series(&scrape(address, OPENMETRICS))
}

/// One of them.
pub(crate) fn figure(series: &Series, name: &str) -> f64 {
    *series.get(name).unwrap_or_else(|| panic!("no {name} in {series:#?}"))
}
