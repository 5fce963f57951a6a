//! What the driver asks, believes and tells.

use std::net::UdpSocket;
use std::time::Duration;

use maser::source::Word;
use maser::source::ntp::NtpSettings;
use maser_core::discipline::{Exchange, Observation};
use maser_core::time::Span;
use maser_sys::counter::Counter;
use nix::ifaddrs::getifaddrs;

use crate::maser::Setting;
use crate::peers;
use crate::rig::{Driver, Fake, LIMIT, error, settings};

/// The exchanges that a driver tells next, each judged at once, and the other words before the last of them.
fn exchanges(driver: &Driver, counter: &Counter, count: usize) -> (Vec<(Span, Exchange)>, Vec<Word>) {
    let (mut exchanges, mut others) = (Vec::new(), Vec::new());
    while exchanges.len() < count {
        match driver.word(LIMIT) {
            Some(Word::Observed(Observation::Exchange(exchange))) => {
                let error = judge(counter, &exchange);
                exchanges.push((error, exchange));
            }
            Some(word) => others.push(word),
            None => panic!("{} exchanges, and then nothing but {others:?}", exchanges.len()),
        }
    }
    (exchanges, others)
}

/// Whatever a busy machine did to the round trip, what it leaves open covers the error.
fn judge(counter: &Counter, exchange: &Exchange) -> Span {
    let error = error(counter, exchange).abs();
    let bound = Span::from_raw(exchange.delay.raw() / 2) + exchange.dispersion;
    // The machine's clock and the counter are read a moment later, and a slew may be under way.
    assert!(error <= bound + Span::from_nanos(50_000), "{error:?} in {exchange:?}");
    println!("delay {:?}, error {error:?}, dispersion {:?}", exchange.delay, exchange.dispersion);
    error
}

#[test]
fn a_maser_of_this_machine_says_what_its_clock_says() {
    let server = Setting::new().start();
    let counter = Counter::monotonic_raw();
    let driver = Driver::start(NtpSettings { iburst: true, ..settings(server.address()) }, counter);
    let (found, others) = exchanges(&driver, &counter, 3);
    assert!(matches!(others.as_slice(), [Word::Working(_)]), "{others:?}");
    let best = found.iter().map(|(error, _)| *error).min().expect("three of them");
    assert!(best < Span::from_nanos(1_000_000), "{found:?}");
    driver.stop();
}

#[test]
fn each_request_comes_from_a_port_of_its_own_and_has_a_nonce() {
    let fake = Fake::new();
    let counter = Counter::monotonic_raw();
    let driver = Driver::start(NtpSettings { iburst: true, ..settings(fake.address()) }, counter);
    let first = fake.asked(LIMIT).expect("a request");
    fake.send(&first, &first.reply());
    let second = fake.asked(LIMIT).expect("another");
    fake.send(&second, &second.reply());
    assert_ne!(first.client.port(), second.client.port());
    assert_ne!(first.request[40..], second.request[40..]);
    assert_eq!(first.request[4..40], [0; 36]);
    exchanges(&driver, &counter, 1);
    driver.stop();
}

#[test]
fn what_wasnt_asked_is_refused_and_the_answer_believed() {
    let fake = Fake::new();
    let counter = Counter::monotonic_raw();
    let driver = Driver::start(settings(fake.address()), counter);
    let asked = fake.asked(LIMIT).expect("a request");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    stranger.send_to(&asked.reply(), asked.client).expect("loopback takes datagrams");
    let mut forged = asked.reply();
    forged[31] ^= 1;
    fake.send(&asked, &forged);
    fake.send(&asked, &forged[..40]);
    fake.send(&asked, &asked.reply());
    let (_, others) = exchanges(&driver, &counter, 1);
    let mut refused = 0;
    for word in &others {
        match word {
            Word::Refused(_) => refused += 1,
            Word::Working(text) => assert!(text.contains("stratum 2"), "{text}"),
            Word::Observed(_) | Word::Failed(_) | Word::Noted(_) | Word::Detail(_) => panic!("{word:?}"),
        }
    }
    assert_eq!(refused, 3, "{others:?}");
    driver.stop();
}

#[test]
fn a_rate_kiss_is_obeyed() {
    let fake = Fake::new();
    let driver = Driver::start(settings(fake.address()), Counter::monotonic_raw());
    let first = fake.asked(LIMIT).expect("a request");
    let second = fake.asked(LIMIT).expect("the next one a second later");
    fake.send(&second, &second.kiss(b"RATE"));
    assert!(matches!(driver.word(LIMIT), Some(Word::Refused(text)) if text.contains("RATE")));
    let third = fake.asked(LIMIT).expect("one more");
    let fourth = fake.asked(LIMIT).expect("and another");
    assert!(second.at - first.at < Duration::from_secs(2), "once a second, before");
    // A request may be noticed a little late by a busy machine, so that the next seems a little early.
    let twice = Duration::from_millis(1_900);
    assert!(third.at - second.at > twice && fourth.at - third.at > twice, "half as often, after");
    driver.stop();
}

fn failed(driver: &Driver) -> String {
    match driver.word(LIMIT) {
        Some(Word::Failed(text)) => text,
        word => panic!("{word:?}"),
    }
}

#[test]
fn a_server_that_denies_is_left_alone_for_long_and_then_asked_once() {
    let rest = Duration::from_secs(3);
    let still = Duration::from_secs(2);
    let fake = Fake::new();
    let counter = Counter::monotonic_raw();
    let asking = NtpSettings { iburst: true, denied_rest: rest, ..settings(fake.address()) };
    let driver = Driver::start(asking, counter);
    let mut last = fake.asked(LIMIT).expect("a request");
    for code in [b"DENY", b"RSTR"] {
        fake.send(&last, &last.kiss(code));
        assert!(matches!(driver.word(LIMIT), Some(Word::Refused(_))));
        let why = failed(&driver);
        assert!(why.contains("DENY or RSTR") && why.contains("asked again at 2"), "{why}");
        assert!(fake.asked(still).is_none(), "it isn't asked");
        let next = fake.asked(LIMIT).expect("a single request");
        assert!(next.at - last.at >= rest, "{:?}", next.at - last.at);
        last = next;
    }
    // One that says nothing has taken nothing back; a burst or the next poll would be there within 2.5 s.
    let unanswered = last;
    assert!(fake.asked(Duration::from_millis(2_900)).is_none(), "a single one");
    failed(&driver);
    let last = fake.asked(LIMIT).expect("after another rest");
    assert!(last.at - unanswered.at >= rest);
    fake.send(&last, &last.reply());
    let (_, others) = exchanges(&driver, &counter, 1);
    assert!(matches!(others.as_slice(), [Word::Working(_)]), "{others:?}");
    let next = fake.asked(LIMIT).expect("it is asked as before");
    assert!(next.at - last.at < still);
    driver.stop();
}

/// What the driver says of a reply at stratum 2 whose reference is `reference_id`.
fn judged(fake: &Fake, listen: &[&str], reference_id: [u8; 4]) -> Word {
    let listen = listen.iter().map(|address| address.parse().expect("an address")).collect();
    let driver = Driver::start(NtpSettings { listen, ..settings(fake.address()) }, Counter::monotonic_raw());
    let asked = fake.asked(LIMIT).expect("a request");
    let mut reply = asked.reply();
    reply[12..16].copy_from_slice(&reference_id);
    fake.send(&asked, &reply);
    let word = driver.word(LIMIT).expect("a word");
    driver.stop();
    word
}

fn is_loop(word: &Word) -> bool {
    matches!(word, Word::Refused(text) if text.contains("synchronised to this one"))
}

#[test]
fn a_server_that_follows_any_of_our_addresses_is_a_loop() {
    let fake = Fake::new();
    let listened_on = [192, 0, 2, 9];
    let word = judged(&fake, &[], listened_on);
    assert!(matches!(word, Word::Working(_)), "{word:?}");
    assert!(is_loop(&judged(&fake, &[], [127, 0, 0, 1])), "the route's");
    assert!(is_loop(&judged(&fake, &["192.0.2.9"], listened_on)), "one that is listened on");
    let outside = getifaddrs().expect("the kernel tells").find_map(|interface| {
        let address = interface.address?;
        address.as_sockaddr_in().map(|name| name.ip()).filter(|ip| !ip.is_loopback())
    });
    match outside {
        Some(ip) => {
            assert!(!is_loop(&judged(&fake, &["::"], ip.octets())), "of the other family");
            assert!(is_loop(&judged(&fake, &["0.0.0.0"], ip.octets())), "an interface's");
        }
        None => peers::skip("loops by an interface's address", "there is none but the loopback's"),
    }
}

#[test]
fn a_server_that_follows_us_over_ipv6_is_a_loop() {
    let Ok(fake) = Fake::at("[::1]:0") else {
        peers::skip("loops over IPv6", "there is no ::1");
        return;
    };
    // The first octets of the MD5 of ::1, from another program.
    assert!(is_loop(&judged(&fake, &[], [207, 64, 77, 200])));
    let word = judged(&fake, &[], [0, 0, 0, 1]);
    assert!(matches!(word, Word::Working(_)), "{word:?}");
}

#[test]
fn a_name_that_cant_be_looked_up_is_told_once() {
    let nowhere = NtpSettings { host: "a".repeat(300), ..settings(Fake::new().address()) };
    let driver = Driver::start(nowhere, Counter::monotonic_raw());
    let failed = driver.word(LIMIT);
    assert!(matches!(&failed, Some(Word::Failed(text)) if text.contains("looked up")), "{failed:?}");
    assert_eq!(driver.word(Duration::from_secs(6)), None);
    driver.stop();
}

#[test]
fn a_name_is_looked_up() {
    let fake = Fake::new();
    let named = NtpSettings { host: "localhost".to_owned(), ..settings(fake.address()) };
    let counter = Counter::monotonic_raw();
    let driver = Driver::start(named, counter);
    // Where the name means ::1 first, nobody answers there, and that takes a while: 127.0.0.1 is the usual meaning.
    if std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1))
        .is_ok_and(|mut addresses| addresses.next().is_some_and(|address| address.is_ipv4()))
    {
        let asked = fake.asked(LIMIT).expect("a request");
        fake.send(&asked, &asked.reply());
        exchanges(&driver, &counter, 1);
    }
    driver.stop();
}
