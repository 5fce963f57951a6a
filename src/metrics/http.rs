//! HTTP/1.1 (RFC 9112), as much as one document takes: the head of a request, and what is answered.

use super::text::Format;
use httparse::{EMPTY_HEADER, Error, Header, Status};

/// A longer head isn't read.
pub(super) const HEAD_OCTETS_MAX: usize = 8 << 10;
/// A head with more fields isn't read either.
const FIELDS_MAX: usize = 64;

/// Where the figures are.
const PATH: &str = "/metrics";

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// The figures, in this format.
    Figures(Format),
    /// Something that there isn't, or that can't be read.
    Nothing(Refusal),
}

/// Why there are no figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// The head isn't HTTP/1.
    Malformed,
    /// It is too long.
    TooLarge,
    /// There is nothing at that path.
    Elsewhere,
    /// Figures can only be got.
    Method,
}

/// A request's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) wanted: Wanted,
    /// The body is left out of the answer.
    pub(super) head_only: bool,
    /// Another request may follow on this connection.
    pub(super) keeps: bool,
    /// More may come that isn't read as a request, and the answer mustn't be lost over it.
    pub(super) lingers: bool,
    /// How long the head was.
    pub(super) octets: usize,
}

/// The first request of what was received; none while its head isn't complete.
pub(super) fn request(received: &[u8]) -> Option<Request> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let refuse = |refusal| {
        let octets = received.len();
        Some(Request {
            wanted: Wanted::Nothing(refusal),
            head_only: false,
            keeps: false,
            lingers: true,
            octets,
        })
    };
    match head.parse(received) {
        Ok(Status::Complete(octets)) if octets <= HEAD_OCTETS_MAX => {
            let is_newer = head.version == Some(1);
            let method = head.method.unwrap_or_default();
            if is_newer && of(head.headers, "Host").count() != 1 {
                return refuse(Refusal::Malformed);
            }
            // What comes after a head with a body isn't read as a request.
            let lingers = has_body(head.headers);
            let keeps = is_newer && !is_closing(head.headers) && !lingers;
            let wanted = wanted(method, head.path.unwrap_or_default(), head.headers);
            Some(Request { wanted, head_only: method == "HEAD", keeps, lingers, octets })
        }
        Ok(Status::Partial) if received.len() < HEAD_OCTETS_MAX => None,
        Ok(Status::Complete(_) | Status::Partial) | Err(Error::TooManyHeaders) => refuse(Refusal::TooLarge),
        Err(_) => refuse(Refusal::Malformed),
    }
}

fn wanted(method: &str, target: &str, fields: &[Header<'_>]) -> Wanted {
    // A proxy's request has the whole of it (RFC 9112 section 3.2.2).
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/"),
        None => target,
    };
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    match method {
        _ if path != PATH => Wanted::Nothing(Refusal::Elsewhere),
        "GET" | "HEAD" => Wanted::Figures(format(fields)),
        _ => Wanted::Nothing(Refusal::Method),
    }
}

/// The values of the fields of this name.
fn of<'h>(fields: &'h [Header<'_>], name: &'h str) -> impl Iterator<Item = &'h str> {
    let named = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| std::str::from_utf8(field.value).unwrap_or_default())
}

fn is_closing(fields: &[Header<'_>]) -> bool {
    of(fields, "Connection")
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("close"))
}

fn has_body(fields: &[Header<'_>]) -> bool {
    of(fields, "Transfer-Encoding").next().is_some()
        || of(fields, "Content-Length").any(|length| length.trim() != "0")
}

/// OpenMetrics where it is asked for by its name, and not less than the older one (RFC 9110 section 12.5.1).
fn format(fields: &[Header<'_>]) -> Format {
    let (mut newer, mut older) = (0.0, 0.0);
    for range in of(fields, "Accept").flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        let best = match name {
            "application/openmetrics-text" => &mut newer,
            "text/plain" => &mut older,
            _ => continue,
        };
        *best = f64::max(*best, weight);
    }
    if newer > 0.0 && newer >= older { Format::OpenMetrics } else { Format::Older }
}

/// An answer with these figures, which take the rest of `document`'s octets from `Content-Length` on.
pub(super) fn figures(format: Format, document: &str, request: &Request) -> Vec<u8> {
    // Caches between know that another format is another answer.
    answer("200 OK", "Vary: Accept\r\n", format.content_type(), document, request)
}

/// An answer that says why there are none.
pub(super) fn refusal(refusal: Refusal, request: &Request) -> Vec<u8> {
    let (status, fields, text) = match refusal {
        Refusal::Malformed => ("400 Bad Request", "", "This is no request of HTTP/1.1.\n"),
        Refusal::TooLarge => (
            "431 Request Header Fields Too Large",
            "",
            "The head is longer than 8 KiB or has more than 64 fields.\n",
        ),
        Refusal::Elsewhere => ("404 Not Found", "", "The metrics of this maser are at /metrics.\n"),
        Refusal::Method => {
            ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "Metrics can only be got: GET or HEAD.\n")
        }
    };
    answer(status, fields, "text/plain; charset=utf-8", text, request)
}

fn answer(status: &str, fields: &str, content_type: &str, body: &str, request: &Request) -> Vec<u8> {
    let close = if request.keeps { "" } else { "Connection: close\r\n" };
    let length = body.len();
    let body = if request.head_only { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{fields}{close}\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &str) -> Option<Request> {
        request(text.replace('\n', "\r\n").as_bytes())
    }

    #[test]
    fn a_request_is_told_from_what_is_none() {
        let wanted = |text: &str| of_text(text).unwrap().wanted;
        let figures = Wanted::Figures(Format::Older);
        assert_eq!(wanted("GET /metrics HTTP/1.1\nHost: a\n\n"), figures);
        assert_eq!(wanted("GET http://a:9123/metrics?x=1 HTTP/1.1\nHost: a\n\n"), figures);
        assert_eq!(wanted("GET /metrics HTTP/1.0\n\n"), figures);
        assert_eq!(wanted("HEAD /metrics HTTP/1.1\nhost: a\n\n"), figures);
        assert_eq!(wanted("GET / HTTP/1.1\nHost: a\n\n"), Wanted::Nothing(Refusal::Elsewhere));
        assert_eq!(wanted("GET http://a HTTP/1.1\nHost: a\n\n"), Wanted::Nothing(Refusal::Elsewhere));
        assert_eq!(wanted("POST /metrics HTTP/1.1\nHost: a\n\n"), Wanted::Nothing(Refusal::Method));
        for malformed in [
            "GET /metrics HTTP/1.1\n\n",
            "GET /metrics HTTP/1.1\nHost: a\nHost: b\n\n",
            "\u{16}\u{3}\n\n",
            "GET /metrics HTTP/2.0\n\n",
        ] {
            assert_eq!(wanted(malformed), Wanted::Nothing(Refusal::Malformed), "{malformed}");
        }
    }

    #[test]
    fn a_head_is_waited_for_and_not_for_ever() {
        let whole = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(request(&whole.as_bytes()[..length]), None, "{length}");
        }
        let two = whole.repeat(2);
        assert_eq!(request(two.as_bytes()).unwrap().octets, whole.len());
        let long = format!("GET /metrics HTTP/1.1\r\nHost: {}", "a".repeat(HEAD_OCTETS_MAX));
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "Host: a\r\n".repeat(FIELDS_MAX + 1));
        for large in [long, many] {
            assert_eq!(request(large.as_bytes()).unwrap().wanted, Wanted::Nothing(Refusal::TooLarge));
        }
    }

    #[test]
    fn a_connection_is_kept_where_more_may_follow() {
        let keeps = |text: &str| of_text(text).unwrap().keeps;
        assert!(keeps("GET /metrics HTTP/1.1\nHost: a\nContent-Length: 0\n\n"));
        assert!(keeps("GET /none HTTP/1.1\nHost: a\n\n"));
        assert!(!keeps("GET /metrics HTTP/1.0\n\n"));
        for field in ["Connection: keep-alive, Close", "Transfer-Encoding: chunked", "Content-Length: 7"] {
            assert!(!keeps(&format!("GET /metrics HTTP/1.1\nHost: a\n{field}\n\n")), "{field}");
        }
    }

    #[test]
    fn the_format_is_the_one_that_is_wanted_most() {
        let wanted = |accept: &str| of_text(&format!("GET /metrics HTTP/1.1\nHost: a\nAccept: {accept}\n\n"));
        let wanted = |accept: &str| wanted(accept).unwrap().wanted;
        let of_prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                             text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for newer in
            [of_prometheus, "application/openmetrics-text", "text/plain, application/openmetrics-text"]
        {
            assert_eq!(wanted(newer), Wanted::Figures(Format::OpenMetrics), "{newer}");
        }
        let less = "application/openmetrics-text;q=0.1, text/plain;q=0.5";
        for older in ["*/*", "text/html", less, "application/openmetrics-text;q=0", ";q=x"] {
            assert_eq!(wanted(older), Wanted::Figures(Format::Older), "{older}");
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let ask = |text: &str| of_text(text).unwrap();
        let whole = figures(Format::Older, "maser_é 1\n", &ask("GET /metrics HTTP/1.1\nHost: a\n\n"));
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 11\r\n\
                        Vary: Accept\r\n\r\nmaser_é 1\n";
        assert_eq!(String::from_utf8(whole).unwrap(), expected);
        let head = figures(Format::Older, "maser_x 1\n", &ask("HEAD /metrics HTTP/1.0\n\n"));
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 10\r\n\
                        Vary: Accept\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(head).unwrap(), expected);
        let refused = refusal(Refusal::Method, &ask("PUT /metrics HTTP/1.1\nHost: a\n\n"));
        assert!(String::from_utf8(refused).unwrap().starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    }
}
