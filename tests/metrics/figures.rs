//! What a scrape says is what the status says, and as much of it whoever asks for the time.

use crate::maser::{Client, READY_LIMIT, Server, within};
use crate::scrape::{
    OPENMETRICS, Series, connect, exchange, figure, request, scrape, scraped, series, try_scrape,
};
use crate::support::request as question;
use crate::{OF_VERSION_0, started};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// The figures that don't depend on the moment, as the status has them.
fn expected(status: &Value) -> Series {
    let mut series = Series::new();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number: {value}"));
    for (index, worker) in status["workers"].as_array().unwrap().iter().enumerate() {
        for (group, metric, label) in [
            ("answers", "answers", "kind"),
            ("drops", "drops", "reason"),
            ("events", "worker_events", "event"),
        ] {
            for (name, count) in worker[group].as_object().unwrap() {
                let name = format!("maser_{metric}_total{{worker=\"{index}\",{label}=\"{name}\"}}");
                series.insert(name, number(count));
            }
        }
        let worker_label = format!("{{worker=\"{index}\"}}");
        series.insert(
            format!("maser_residence_seconds_count{worker_label}"),
            number(&worker["residence"]["count"]),
        );
        series.insert(
            format!("maser_transmit_stamp_error_seconds_count{worker_label}"),
            number(&worker["transmit"]["errors"]["count"]),
        );
    }
    let state = status["state"].as_str().unwrap();
    series.insert(format!("maser_state{{state=\"{state}\"}}"), 1.0);
    series.insert(format!("maser_leap{{leap=\"{}\"}}", status["leap"].as_str().unwrap()), 1.0);
    series.insert("maser_stratum".to_owned(), number(&status["stratum"]));
    for (part, places) in status["limit"].as_object().unwrap() {
        series.insert(format!("maser_limiter_places{{part=\"{part}\"}}"), number(&places["places"]));
        series.insert(format!("maser_limiter_taken_ratio{{part=\"{part}\"}}"), number(&places["taken"]));
    }
    series
}

/// Events that happen without a request: readings of clocks, and what waiting workers do.
fn is_of_the_moment(name: &str) -> bool {
    ["readings-torn", "batches", "departures", "snapshot", "stamp_error"]
        .iter()
        .any(|word| name.contains(word))
}

#[test]
fn a_scrape_says_what_the_status_says() {
    let (mut server, metrics) = started(|setting| setting.with(&["--limit", "1000", "--workers", "2"]));
    let client = Client::at(Ipv4Addr::LOCALHOST);
    for _ in 0..20 {
        client.ask(server.address());
    }
    client.send(server.address(), &OF_VERSION_0);
    let sees_it = || {
        let drops = series(&scrape(metrics, OPENMETRICS));
        let versions = drops.iter().filter(|(name, _)| name.contains("reason=\"version\""));
        (versions.map(|(_, count)| count).sum::<f64>() >= 1.0).then_some(())
    };
    assert!(within(READY_LIMIT, sees_it).is_some(), "the drop isn't told");
    let before = server.status();
    let told = scraped(metrics);
    let after = server.status();
    let (before, after) = (expected(&before), expected(&after));
    assert!(before.len() > 100, "{before:#?}");
    for (name, earlier) in &before {
        let (now, later) = (figure(&told, name), after[name]);
        assert!((*earlier..=later).contains(&now), "{name}: {earlier}, then scraped {now}, then {later}");
        assert!(
            earlier == &later || is_of_the_moment(name),
            "{name} doesn't stand still: {earlier}, {later}"
        );
    }
    let requests = |fate: &str| figure(&told, &format!("maser_requests_total{{fate=\"{fate}\"}}"));
    assert!(
        requests("served") + requests("unsynchronised") >= 20.0 && requests("refused") >= 1.0,
        "{told:#?}"
    );
    for bound in ["maser_root_distance_seconds", "maser_root_dispersion_seconds", "maser_uptime_seconds"] {
        assert!(figure(&told, bound) > 0.0, "{bound}");
    }
    // What the source is called and which type it is.
    assert!(
        told.keys()
            .any(|name| name.starts_with("maser_source_info{source=\"") && name.contains("type=\"machine\""))
    );
    server.stop();
}

/// The names of what is told, without the figures.
fn names(metrics: SocketAddr) -> Vec<String> {
    scraped(metrics).into_keys().collect()
}

/// Asks once from each of so many addresses of this machine.
fn ask_from_many(server: &Server, addresses: u32) -> u32 {
    let mut answered = 0;
    for number in 0..addresses {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number);
        let socket = UdpSocket::bind((address, 0)).expect("all of 127.0.0.0/8 is this machine's");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        socket.send_to(&question(u64::from(number) + 1), server.address()).unwrap();
        answered += u32::from(socket.recv(&mut [0; 64]).is_ok());
    }
    answered
}

#[test]
fn a_thousand_clients_make_no_more_series_than_one() {
    // The smallest table, all of whose sets are looked at; loopback is limited only where a list names it.
    let lines = "[limit]\nrate = 1000\nprefix_rate = \"off\"\nmemory = \"64 KiB\"\n\
                 [access]\nallow = [\"127.0.0.0/8\"]\n[[source]]\ntype = \"machine\"\nstratum = 1\n";
    let (mut server, metrics) = started(|setting| {
        let config = setting.scratch.path("maser.toml");
        std::fs::write(&config, lines).unwrap();
        setting.with(&["--config", crate::maser::text(&config)])
    });
    assert_eq!(ask_from_many(&server, 1), 1);
    let of_one = names(metrics);
    let answered = ask_from_many(&server, 1_000);
    assert!(answered > 900, "{answered} of 1,000 were answered: too few to tell");
    let told = scraped(metrics);
    let limiter = |name: &str| figure(&told, &format!("maser_limiter_{name}{{part=\"addresses\"}}"));
    let known = limiter("taken_ratio") * limiter("places");
    assert!((900.0..=1_002.0).contains(&known), "the limiter knows {known} of them");
    let of_many = names(metrics);
    // The lateness of replies is known once enough of them were told of.
    let new: Vec<_> = of_many.iter().filter(|name| !of_one.contains(name)).collect();
    let known_later = |name: &str| name.starts_with("maser_transmit_lateness");
    assert!(new.iter().all(|name| known_later(name)), "{new:?}");
    assert!(
        of_one.len() > 200 && of_many.len() <= of_one.len() + 2 * 8,
        "{} {}",
        of_one.len(),
        of_many.len()
    );
    server.stop();
}

#[test]
fn the_address_outlives_servers() {
    let (mut server, metrics) = started(|setting| setting);
    let began = |series: &Series| figure(series, "process_start_time_seconds");
    let mut last = began(&scraped(metrics));
    for start in 1..=3 {
        let process = server.server_id();
        // Whoever starts too often within a second has to wait.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        server.signal_server(Signal::SIGKILL);
        let scraped = within(READY_LIMIT, || match connect(metrics) {
            Err(error) => panic!("refused while there is no server: {error}"),
            Ok(_) => match try_scrape(metrics, OPENMETRICS) {
                Ok(answer) => (server.server_id() != process).then_some(answer),
                // It had been taken by the server that was killed.
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                    None
                }
            },
        });
        let told =
            series(&scraped.unwrap_or_else(|| panic!("no scrape; the log says:\n{}", server.log())).body);
        assert!(began(&told) > last, "start {start} is told");
        last = began(&told);
    }
    server.stop();
    let gone = exchange(metrics, request("GET", "/metrics", "").as_bytes()).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::ConnectionRefused, "the keeper has gone, and nobody listens");
}

#[test]
fn without_being_asked_for_nobody_listens() {
    let setting = crate::maser::Setting::new();
    let mut server = setting.start();
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", server.process_id())).unwrap();
    let inodes: Vec<&str> =
        sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)).collect();
    for descriptor in std::fs::read_dir(format!("/proc/{}/fd", server.process_id())).unwrap().flatten() {
        let Ok(what) = std::fs::read_link(descriptor.path()) else { continue };
        let what = what.to_string_lossy().into_owned();
        assert!(!inodes.iter().any(|inode| what == format!("socket:[{inode}]")), "a TCP socket: {what}");
    }
    server.stop();
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let setting = crate::maser::Setting::new().with(&["--metrics", &address.to_string()]);
    let told = setting.refused(READY_LIMIT).errors;
    let expected = format!(
        "metrics.listen (or --metrics) {address}: EADDRINUSE: Address already in use: another program listens"
    );
    assert!(told.contains(&expected), "{told}");
}
