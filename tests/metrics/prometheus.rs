//! Prometheus itself: its promtool judges the formats, the rules and their tests, and it scrapes a server and evaluates every
//! query of the dashboard.

use crate::maser::{Client, READY_LIMIT, Scratch, Server, Setting, is_root_or_skip, text, within};
use crate::peers::client::program;
use crate::peers::rig::end;
use crate::peers::skip;
use crate::queries::{docs, of_alerts, of_dashboard, selected};
use crate::scrape::{OPENMETRICS, scrape, scraped, series};
use crate::{OF_VERSION_0, free_address, started};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long Prometheus may take to start on a busy machine, and to scrape a few times.
const PROMETHEUS_LIMIT: Duration = Duration::from_secs(60);

/// A program of Prometheus' package; says so in the log if a test must be left out without it.
fn of_prometheus(name: &str, test: &str) -> Option<PathBuf> {
    let path = program(&format!("prometheus/usr/bin/{name}"));
    if !path.exists() {
        skip(test, &format!("{} isn't there; tests/peers/setup.sh gets it", path.display()));
        return None;
    }
    Some(path)
}

/// What promtool says of `input`, where that is in order.
fn promtool(words: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(program("prometheus/usr/bin/promtool"));
    command.args(words).current_dir(docs("prometheus"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

#[test]
fn promtool_accepts_the_metrics() {
    if of_prometheus("promtool", "promtool_accepts_the_metrics").is_none() {
        return;
    }
    let (mut server, metrics) = started(|setting| setting.with(&["--limit", "1000"]));
    let older = scrape(metrics, "text/plain");
    // It reads the older format, and says what isn't named as others name it.
    assert_eq!(promtool(&["check", "metrics"], &older).as_deref(), Ok(""));
    let wrong = older.replace("maser_answers_total", "maser_answers");
    let told = promtool(&["check", "metrics"], &wrong).unwrap_err();
    assert!(told.contains("maser_answers counter metrics should have \"_total\" suffix"), "{told}");
    server.stop();
}

#[test]
fn promtool_accepts_the_alerts_and_their_tests() {
    if of_prometheus("promtool", "promtool_accepts_the_alerts_and_their_tests").is_none() {
        return;
    }
    let told = promtool(&["check", "rules", "alerts.yml"], "").unwrap();
    assert!(told.contains(&format!("SUCCESS: {} rules found", of_alerts().len())), "{told}");
    let told = promtool(&["test", "rules", "alerts_test.yml"], "").unwrap();
    assert!(told.contains("SUCCESS"), "{told}");
}

/// Each alert is seen firing, and seen silent.
#[test]
fn every_alert_has_both_its_tests() {
    let tests = fs::read_to_string(docs("prometheus/alerts_test.yml")).unwrap();
    for alert in of_alerts() {
        let silent = tests.contains(&format!("alertname: {}}}", alert.place));
        let firing = tests.contains(&format!("alertname: {}\n        exp_alerts:\n", alert.place));
        assert!(silent && firing, "{}: seen silent: {silent}, seen firing: {firing}", alert.place);
    }
}

/// A Prometheus that scrapes one server each second and knows the alerts. Dropping it ends it.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl Prometheus {
    fn start(metrics: SocketAddr) -> Self {
        let (scratch, address) = (Scratch::new(), free_address());
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs:\n- job_name: maser\n  static_configs: [{{targets: ['{metrics}']}}]\n",
            text(&docs("prometheus/alerts.yml"))
        );
        fs::write(scratch.path("prometheus.yml"), config).unwrap();
        let log = fs::File::create(scratch.path("prometheus.log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=KILL", "--", text(&program("prometheus/usr/bin/prometheus"))]);
        command.arg("--log.level=warn").arg(format!("--web.listen-address={address}"));
        command.arg(format!("--config.file={}", text(&scratch.path("prometheus.yml"))));
        command.arg(format!("--storage.tsdb.path={}", text(&scratch.path("tsdb"))));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { process, address, scratch }
    }

    /// What its interface says at a path; none if it can't be had.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect_timeout(&self.address, READY_LIMIT).ok()?;
        stream.set_read_timeout(Some(READY_LIMIT)).ok()?;
        // So that the answer comes in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// How many series a query has; what is wrong with it, if anything is.
    fn query(&self, query: &str) -> Result<usize, String> {
        let octets = query.bytes().map(|octet| format!("%{octet:02X}")).collect::<String>();
        let told = self.get(&format!("/api/v1/query?query={octets}")).ok_or("no answer")?;
        if told["status"] != "success" {
            return Err(told.to_string());
        }
        Ok(told["data"]["result"].as_array().map_or(0, Vec::len))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scratch.path("prometheus.log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// A query with the dashboard's variables filled in, and without a condition that mostly isn't met.
fn filled(query: &str) -> String {
    let filled = query.replace("$__rate_interval", "20s").replace("$job", "maser").replace("$instance", ".*");
    filled.strip_suffix(" > 0").unwrap_or(&filled).to_owned()
}

/// Lets clients ask, some of them wrongly, until there is what is waited for.
fn while_asking<T>(server: &Server, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let client = Client::at(Ipv4Addr::LOCALHOST);
    within(PROMETHEUS_LIMIT, || {
        for _ in 0..10 {
            client.ask(server.address());
        }
        client.send(server.address(), &OF_VERSION_0);
        std::thread::sleep(Duration::from_millis(50));
        look()
    })
}

#[test]
fn prometheus_evaluates_every_query() {
    let test = "prometheus_evaluates_every_query";
    if of_prometheus("prometheus", test).is_none() || !is_root_or_skip(test) {
        return;
    }
    // A clock of one's own has more figures than the machine's; it follows another maser.
    let source = Setting::new().start();
    let setting = Setting::nowhere();
    let (config, metrics) = (setting.scratch.path("maser.toml"), free_address());
    let lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{}\"]\nworkers = 1\n[limit]\nrate = 1000\nprefix_rate = \"off\"\n\
         [metrics]\nlisten = [\"{metrics}\"]\n[clock]\nstate = \"{}\"\n\
         [[source]]\ntype = \"ntp\"\nname = \"other\"\naddress = \"127.0.0.1:{}\"\nburst = true\npoll_min = \"2 s\"\n",
        setting.port,
        text(&setting.scratch.path("state")),
        source.setting.port,
    );
    fs::write(&config, lines).unwrap();
    let server = setting.with(&["--config", text(&config)]).start();
    let prometheus = Prometheus::start(metrics);
    let has_scraped = || {
        let followed = prometheus.query("maser_source_selected == 1 and on () maser_jitter_seconds").ok()?;
        let scrapes = prometheus.query("count_over_time(maser_uptime_seconds[1m]) > 5").ok()?;
        let stamped = prometheus.query("rate(maser_transmit_lateness_seconds[20s])").ok()?;
        (followed > 0 && scrapes > 0 && stamped > 0).then_some(())
    };
    let told = while_asking(&server, has_scraped);
    assert!(told.is_some(), "{}\n{}\n{:#?}", prometheus.log(), server.log(), scraped(metrics));
    let names: BTreeSet<String> = scraped(metrics)
        .into_keys()
        .map(|name| name.split('{').next().unwrap_or_default().to_owned())
        .collect();
    let is_there =
        |name: &str| name == "up" || names.contains(name) || names.contains(&format!("{name}_count"));
    let (mut evaluated, mut absent, mut faults) = (0, Vec::new(), Vec::new());
    for query in of_dashboard() {
        let missing = selected(&query.text).into_iter().find(|(name, _)| !is_there(name));
        match (prometheus.query(&filled(&query.text)), missing) {
            (Err(error), _) => faults.push(format!("{}: {}: {error}", query.place, query.text)),
            // Without a NIC, an interface or a machine's clock to be steered there are none.
            (Ok(_), Some((name, _))) => absent.push(name),
            // A share of something that hasn't happened, and events that are rare.
            (Ok(0), None) if query.place == "annotation" => {}
            (Ok(0), None) => faults.push(format!("{}: nothing of {}", query.place, query.text)),
            (Ok(_), None) => evaluated += 1,
        }
    }
    crate::peers::log(&format!("{evaluated} queries evaluated; without series here: {}", absent.join(", ")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(evaluated > 35 && absent.len() < 15, "{evaluated} {absent:?}");
    let healthy = || {
        let rules = prometheus.get("/api/v1/rules")?;
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        let well = rules.iter().filter(|rule| rule["health"] == "ok").count();
        (well == of_alerts().len()).then_some(rules)
    };
    let rules =
        within(READY_LIMIT, healthy).unwrap_or_else(|| panic!("{:?}", prometheus.get("/api/v1/rules")));
    let down = rules.iter().find(|rule| rule["name"] == "MaserDown").unwrap();
    assert_eq!(down["state"], "inactive", "{down}");
    // Prometheus has taken the newer format, all of it.
    let target = prometheus.get("/api/v1/targets").unwrap();
    assert_eq!(target["data"]["activeTargets"][0]["lastError"], "", "{target}");
    let told = series(&scrape(metrics, OPENMETRICS)).len();
    let kept = prometheus.query("scrape_samples_scraped").unwrap();
    assert!(kept == 1 && told > 100, "{kept} {told}");
}
