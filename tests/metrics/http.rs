//! Who asks otherwise than Prometheus does: slowly, in pieces, without an end, or for something else.

use crate::maser::{END_LIMIT, READY_LIMIT, now};
use crate::scrape::{Answer, OPENMETRICS, connect, exchange, request, scrape, series, try_scrape};
use crate::started;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request's head is given so long, and a second more for a busy machine each.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

fn answer(metrics: SocketAddr, request: &[u8]) -> Answer {
    let received = exchange(metrics, request).unwrap();
    let (answer, rest) = Answer::first(&received, true).unwrap_or_else(|| panic!("no answer: {received}"));
    assert_eq!(rest, "", "one answer");
    answer
}

#[test]
fn both_formats_and_nothing_else_are_given() {
    let (mut server, metrics) = started(|setting| setting);
    let newer = try_scrape(metrics, OPENMETRICS).unwrap();
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((newer.status, newer.field("Content-Type")), (200, Some(openmetrics)));
    assert!(newer.body.ends_with("\n# EOF\n") && newer.body.contains("\n# TYPE maser_answers counter\n"));
    let older = try_scrape(metrics, "*/*").unwrap();
    assert_eq!(older.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!older.body.contains("# EOF") && older.body.contains("\n# TYPE maser_answers_total counter\n"));
    let names = |body: &str| series(body).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&newer.body), names(&older.body));

    let close = "Connection: close\r\n";
    let elsewhere = answer(metrics, request("GET", "/", close).as_bytes());
    assert_eq!(
        (elsewhere.status, elsewhere.body.as_str()),
        (404, "The metrics of this maser are at /metrics.\n")
    );
    let posted = request("POST", "/metrics", "Content-Length: 7\r\n") + "a=1&b=2";
    let posted = answer(metrics, posted.as_bytes());
    assert_eq!((posted.status, posted.field("Allow")), (405, Some("GET, HEAD")));
    let received = exchange(metrics, request("HEAD", "/metrics", close).as_bytes()).unwrap();
    let (head, rest) = Answer::first(&received, false).unwrap();
    assert_eq!((head.status, rest), (200, ""));
    assert!(head.field("Content-Length").unwrap().parse::<usize>().unwrap() > 1_000);
    assert_eq!(answer(metrics, b"GET /metrics HTTP/1.0\r\n\r\n").status, 200);
    server.stop();
}

#[test]
fn rubbish_is_refused_and_the_next_is_answered() {
    let (mut server, metrics) = started(|setting| setting);
    let long = format!("GET /metrics HTTP/1.1\r\nHost: maser\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = request("GET", "/metrics", &"X: y\r\n".repeat(100));
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00";
    let cases: [(&[u8], u16); 8] = [
        (b"\0\0\0\0\r\n\r\n", 400),
        (tls, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: maser\r\nbad header\r\n\r\n", 400),
        (many.as_bytes(), 431),
        (long.as_bytes(), 431),
    ];
    for (rubbish, status) in cases {
        let told = String::from_utf8_lossy(&rubbish[..rubbish.len().min(60)]).into_owned();
        let mut stream = connect(metrics).unwrap();
        // What is too long may be cut off in the middle.
        let sent = stream.write_all(rubbish);
        assert!(sent.is_ok() || status == 431, "{told}: {sent:?}");
        let mut received = [0; 64];
        match stream.read(&mut received) {
            Ok(_) => {
                let start = format!("HTTP/1.1 {status} ");
                assert!(
                    received.starts_with(start.as_bytes()),
                    "{told}: {}",
                    String::from_utf8_lossy(&received)
                );
            }
            Err(error) => {
                assert!(status == 431 && error.kind() == ErrorKind::ConnectionReset, "{told}: {error}")
            }
        }
        assert_eq!(try_scrape(metrics, OPENMETRICS).unwrap().status, 200, "after {told}");
    }
    server.stop();
}

#[test]
fn requests_may_come_together_and_in_pieces() {
    let (mut server, metrics) = started(|setting| setting);
    let last = request("GET", "/metrics", "Connection: close\r\n");
    let together = [
        request("GET", "/metrics", ""),
        request("HEAD", "/metrics", ""),
        request("GET", "/none", ""),
        last.clone(),
    ];
    let received = exchange(metrics, together.concat().as_bytes()).unwrap();
    let mut rest = received.as_str();
    for (has_body, status) in [(true, 200), (false, 200), (true, 404), (true, 200)] {
        let (answer, after) = Answer::first(rest, has_body).unwrap_or_else(|| panic!("cut off: {rest}"));
        assert_eq!(answer.status, status);
        if has_body && status == 200 {
            assert!(answer.body.contains("\nmaser_stratum "), "{}", answer.body);
        }
        rest = after;
    }
    assert_eq!(rest, "", "four answers to four requests");

    let mut stream = connect(metrics).unwrap();
    for octet in last.as_bytes() {
        stream.write_all(&[*octet]).unwrap();
    }
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    let (answer, rest) = Answer::first(&received, true).unwrap();
    assert_eq!((answer.status, rest), (200, ""));

    // Who has said all shuts its end, and is answered all the same.
    let mut stream = connect(metrics).unwrap();
    stream.write_all(request("GET", "/metrics", "").repeat(2).as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    let (first, rest) = Answer::first(&received, true).unwrap();
    let (second, rest) = Answer::first(rest, true).unwrap();
    assert_eq!((first.status, second.status, rest), (200, 200, ""));
    server.stop();
}

#[test]
fn who_asks_in_a_loop_waits() {
    /// The thread rests for so long between rounds, and answers one request of a connection in each.
    const REST: Duration = Duration::from_millis(10);
    const REQUESTS: u32 = 60;
    let (mut server, metrics) = started(|setting| setting);
    for path in ["/metrics", "/none"] {
        let several = request("GET", path, "").repeat(REQUESTS as usize - 1);
        let begin = now();
        let received =
            exchange(metrics, (several + &request("GET", path, "Connection: close\r\n")).as_bytes());
        let taken = begin.elapsed();
        assert_eq!(received.unwrap().matches("HTTP/1.1 ").count(), REQUESTS as usize, "{path}");
        assert!(taken >= REST * (REQUESTS - 1), "{path}: {REQUESTS} answers within {taken:?}");
    }
    server.stop();
}

/// Whether the server closes within the limit.
fn is_closed(stream: &mut TcpStream, limit: Duration) -> bool {
    let begin = now();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while begin.elapsed() < limit {
        match stream.read(&mut [0; 4_096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

#[test]
fn who_is_slow_or_silent_is_in_nobodys_way() {
    let (mut server, metrics) = started(|setting| setting);
    let part = request("GET", "/metrics", "");
    let hold = |count: usize, sends: &[u8]| -> Vec<TcpStream> {
        let stream = || {
            let mut stream = connect(metrics).unwrap();
            stream.write_all(sends).unwrap();
            stream
        };
        (0..count).map(|_| stream()).collect()
    };
    // A few that leave room, silent and in the middle of a head: closed in their time.
    let mut silent = hold(2, b"");
    let mut partial = hold(2, &part.as_bytes()[..20]);
    scrape(metrics, OPENMETRICS);
    for stream in silent.iter_mut().chain(&mut partial) {
        assert!(is_closed(stream, HEAD_LIMIT + READY_LIMIT), "a connection that asks for nothing stays");
    }
    // As many as there is room for and more, one kind after the other; then some who ask and take nothing.
    for sends in [&b""[..], &part.as_bytes()[..20], part.repeat(200).as_bytes()] {
        let held = hold(24, sends);
        for _ in 0..3 {
            scrape(metrics, OPENMETRICS);
        }
        drop(held);
    }
    scrape(metrics, OPENMETRICS);
    server.stop();
}

#[test]
fn a_connection_rests_between_scrapes_and_none_keeps_a_server() {
    let (mut server, metrics) = started(|setting| setting);
    let mut stream = connect(metrics).unwrap();
    for _ in 0..3 {
        stream.write_all(request("GET", "/metrics", "").as_bytes()).unwrap();
        let mut received = String::new();
        while Answer::first(&received, true).is_none() {
            let mut octets = [0; 4_096];
            let length = stream.read(&mut octets).unwrap();
            assert_ne!(length, 0, "closed in the middle: {received}");
            received.push_str(std::str::from_utf8(&octets[..length]).unwrap());
        }
        // Longer than a head may take.
        std::thread::sleep(Duration::from_millis(300));
    }
    server.stop();
    assert!(is_closed(&mut stream, END_LIMIT));
}
