//! The configuration as an operator meets it: the examples are in order, and every mistake is told, at its place.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use maser::config::{
    self, Absent, Config, Edge, GpsdPlace, Idle, KEYS, Key, NicStamps, Overrides, PortChoice, Problem,
    SECTIONS, Serial, Source, SourceKind, SourceType, Timescale, Upstream, Workers, WorkersError,
};
use maser_core::time::Span;
use proptest::prelude::*;

#[path = "config/limits.rs"]
mod limits;
#[path = "config/sources.rs"]
mod sources;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn toml_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    files
}

/// What a file's check prints, with the file's name alone.
fn told(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    match config::load(path) {
        Ok(_) => String::new(),
        Err(error) => format!("{error}\n").replace(&format!("{}:", path.display()), &format!("{name}:")),
    }
}

#[test]
fn every_bad_file_is_told_exactly_so() {
    let files = toml_files(&root().join("tests/config"));
    assert!(files.len() >= 22, "the bad files are gone");
    for path in files {
        let expected = fs::read_to_string(path.with_extension("errors")).unwrap_or_default();
        let told = told(&path);
        assert!(!told.is_empty(), "{} is accepted", path.display());
        assert_eq!(told, expected, "\n{} is told as:\n{told}", path.display());
    }
}

#[test]
fn every_example_is_in_order() {
    let files = toml_files(&root().join("docs"));
    assert!(files.len() >= 3, "the examples are gone");
    for path in files {
        assert_eq!(told(&path), "");
    }
}

/// What the example shows commented out is in order as well.
#[test]
fn the_example_shows_every_key_with_its_default() {
    let text = fs::read_to_string(root().join("docs/example.toml")).unwrap();
    // A key or a section that is commented out has no space after the hash; prose has one.
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    config::parse(&uncommented.join("\n")).unwrap();
    for key in KEYS {
        let prefix = format!("{} = ", key.name);
        let line = uncommented.iter().find(|line| line.starts_with(&prefix));
        assert!(line.is_some(), "{}.{} is not in the example", key.section, key.name);
        if let Absent::Value(value) = key.absent {
            // A line that isn't commented out shows another value than the default.
            let commented = format!("#{prefix}{value}");
            let shown = text.lines().any(|line| line == commented);
            assert!(shown || text.contains(&format!("\n{prefix}")), "{commented} is not in the example");
        }
    }
}

const SOURCE: &str = "[[source]]\ntype = \"machine\"\nstratum = 1\n";

/// A file with the least that a key's section can do with.
fn least(key: &Key) -> String {
    let kind = key.types.first().copied().unwrap_or(SourceType::Machine);
    let source = match kind {
        SourceType::Gpsd => "shm = 1",
        SourceType::Nmea | SourceType::Ubx => "device = \"/dev/ttyS0\"",
        SourceType::Pps => "device = \"/dev/pps0\"",
        SourceType::Phc if key.name == "pin" => "device = \"/dev/ptp0\"\nchannel = 1",
        SourceType::Phc => "device = \"/dev/ptp0\"",
        SourceType::Ntp => "address = \"ntp.example.net\"",
        SourceType::Machine => "stratum = 1",
    };
    let before = if kind == SourceType::Pps { SOURCE } else { "" };
    let source = format!("{before}[[source]]\ntype = \"{}\"\n{source}\n", kind.word());
    match key.section {
        "source" => source,
        "smear" => format!("{source}[smear]\nlisten = [\"192.0.2.1:1123\"]\n"),
        _ => format!("{source}{}\n", SECTIONS.iter().find(|(name, _)| *name == key.section).unwrap().1),
    }
}

#[test]
fn the_defaults_that_are_told_are_those_that_hold() {
    for key in KEYS {
        if let Absent::Value(value) = key.absent {
            let least = least(key);
            let short = config::parse(&least).unwrap();
            let written = config::parse(&format!("{least}{} = {value}\n", key.name));
            assert_eq!(written, Ok(short), "{}.{}", key.section, key.name);
        }
    }
    assert_eq!(config::parse(SOURCE).unwrap().server, Config::default_run().server);
}

#[test]
fn the_defaults_that_depend_are_those_that_are_told() {
    let source =
        |text: &str| config::parse(&format!("{SOURCE}[[source]]\n{text}")).unwrap().sources.remove(1);
    let error = |text: &str| source(text).error.as_nanos();
    assert_eq!(error("type = 'pps'\ndevice = '/dev/pps0'"), 1_000);
    assert_eq!(error("type = 'phc'\ndevice = '/dev/ptp0'"), 1_000);
    assert_eq!(error("type = 'phc'\ndevice = '/dev/ptp0'\nchannel = 0"), 1_000);
    assert_eq!(error("type = 'gpsd'\nsocket = '/run/gps.sock'"), 10_000);
    assert_eq!(error("type = 'gpsd'\nshm = 1"), 10_000);
    assert_eq!(error("type = 'gpsd'\nshm = 2"), 100_000_000);
    assert_eq!(error("type = 'ubx'\ndevice = '/dev/ttyS0'"), 1_000_000);
    assert_eq!(error("type = 'ntp'\naddress = 'a'"), 0);
    assert_eq!(source("type = 'pps'\ndevice = '/dev/pps0'").reference_id, Some(*b"PPS\0"));
    assert_eq!(source("type = 'phc'\ndevice = '/dev/ptp0'").reference_id, Some(*b"PHC\0"));
    assert_eq!(source("type = 'phc'\ndevice = '/dev/ptp0'\nchannel = 0").reference_id, Some(*b"PPS\0"));
    assert_eq!(source("type = 'nmea'\ndevice = '/dev/ttyS0'").reference_id, Some(*b"GPS\0"));
    assert_eq!(source("type = 'ntp'\naddress = 'a'").reference_id, None);
    let distance =
        |text: &str| config::parse(&format!("{SOURCE}{text}")).unwrap().clock.root_distance_max.as_nanos();
    assert_eq!(distance(""), 1_000_000_000);
    assert_eq!(distance("[[source]]\ntype = 'ntp'\naddress = 'a'"), 1_000_000_000);
    assert_eq!(distance("[[source]]\ntype = 'gpsd'\nshm = 1"), 10_000_000);
}

#[test]
fn every_key_reaches_the_configuration() {
    let config = config::load(&root().join("docs/example-isolated.toml")).unwrap();
    assert_eq!(
        config.server.listen,
        ["192.0.2.10:123".parse().unwrap(), "[2001:db8::10]:123".parse().unwrap()]
    );
    assert_eq!(config.server.port, PortChoice::Socket);
    assert_eq!(config.server.workers, Workers::Cores(vec![2, 3]));
    assert_eq!(config.server.idle, Idle::Spin);
    assert_eq!(config.server.batch.get(), 128);
    assert_eq!(config.server.receive_buffer_octets.get(), 16 << 20);
    assert_eq!(config.status.socket.as_deref(), Some(Path::new("/run/maser/status.sock")));
    let [source] = config.sources.as_slice() else { panic!("one source: {config}") };
    let stratum = config::Stratum::new(2).unwrap();
    assert_eq!((&source.kind, source.reference_id), (&SourceKind::Machine { stratum }, Some([192, 0, 2, 1])));
    assert_eq!(source.served_stratum().unwrap().get(), 3);
    assert_eq!(config.local.map(config::Stratum::get), Some(10));
}

/// What no example has, every value away from its default.
const ODD: &str = "
[server]
port = 'af-xdp'
interface = ['eth0', 'ens1f0np0']
nic_stamps = ['eth1']
busy_poll = true
workers = 3
interleaved_clients = 0
transmit_correction = false
[status]
socket = '/a\"b\\c'
[[source]]
type = 'nmea'
device = '/dev/ttyS0'
baud = 4800
delay = '0.1205 s'
offset = '-3 ns'
[[source]]
type = 'pps'
device = '/dev/pps0'
edge = 'clear'
reference_id = 'DCFa'
label = ['ntp0', 'nmea0']
[[source]]
type = 'ntp'
address = '[2001:db8::1]:1123'
burst = false
interleaved = false
poll_min = '2 s'
poll_max = '131072 s'
[[source]]
type = 'gpsd'
socket = '/run/gps.sock'
prefer = true
[[source]]
type = 'gpsd'
shm = 255
error = '12.5 us'
[[source]]
type = 'machine'
stratum = 14
reference_id = '192.0.2.9'
[clock]
state = '/var/lib/odd'
agree_min = 6
[smear]
listen = ['127.0.0.2:1123', '[::1]:1123']
length = '90 min'
";

#[test]
fn nics_that_stamp_are_named_or_all_or_none() {
    let of =
        |line: &str| config::parse(&format!("[server]\n{line}\n[[source]]\ntype = 'machine'\nstratum = 1\n"));
    for (line, nics) in [
        ("", NicStamps::OfInterfaces),
        ("nic_stamps = ['*']", NicStamps::Every),
        ("nic_stamps = []", NicStamps::Named(Vec::new())),
    ] {
        let config = of(line).unwrap();
        assert_eq!(config.server.nic_stamps, nics);
        assert_eq!(config::parse(&config.to_string()).unwrap(), config, "written out");
    }
    for (line, told) in [
        ("nic_stamps = ['eth0', '*']", "\"*\" beside others"),
        ("nic_stamps = ['eth0', 'eth0']", "is in the list twice"),
        ("nic_stamps = 'eth0'", "found a string"),
    ] {
        let problems = of(line).unwrap_err();
        assert!(problems[0].to_string().contains(told), "{}", problems[0]);
    }
}

#[test]
fn odd_values_reach_the_configuration() {
    let config = config::parse(ODD).unwrap();
    assert_eq!(config.server.port, PortChoice::AfXdp);
    assert_eq!(config.server.interfaces, ["eth0", "ens1f0np0"]);
    assert_eq!(config.server.nic_stamps, NicStamps::Named(vec!["eth1".to_owned()]));
    assert!(config.server.busy_poll);
    assert_eq!((config.server.interleaved_clients, config.server.transmit_correction), (0, false));
    let [nmea, pps, ntp, socket, shm, machine] = config.sources.as_slice() else { panic!("{config}") };
    let SourceKind::Nmea(serial) = &nmea.kind else { panic!("{config}") };
    assert_eq!((serial.baud, serial.delay.map(Span::as_nanos)), (Some(4_800), Some(120_500_000)));
    assert_eq!((nmea.offset.as_nanos(), nmea.reference_id), (-3, Some(*b"GPS\0")));
    let device = "/dev/pps0".into();
    assert_eq!(pps.kind, SourceKind::Pps { device, edge: Edge::Clear, label: vec![2, 0] });
    assert_eq!(pps.reference_id, Some(*b"DCFa"));
    let address = Upstream { host: "2001:db8::1".to_owned(), port: 1_123 };
    let (burst, interleaved, poll_min_log2_s, poll_max_log2_s) = (false, false, 1, 17);
    let asked = SourceKind::Ntp { address, burst, interleaved, poll_min_log2_s, poll_max_log2_s };
    assert_eq!(ntp.kind, asked);
    assert_eq!(socket.kind, SourceKind::Gpsd(GpsdPlace::Socket("/run/gps.sock".into())));
    assert!(socket.prefer);
    assert_eq!(shm.kind, SourceKind::Gpsd(GpsdPlace::SharedMemory(255)));
    assert_eq!(shm.error.as_nanos(), 12_500);
    assert_eq!(machine.served_stratum().map(config::Stratum::get), Some(15));
    assert_eq!(config.clock.state.as_deref(), Some(Path::new("/var/lib/odd")));
    assert_eq!(config.clock.agree_min, 6);
    let smear = config.smear.unwrap();
    assert_eq!(smear.listen, ["127.0.0.2:1123".parse().unwrap(), "[::1]:1123".parse().unwrap()]);
    assert_eq!(smear.length, Span::from_seconds(5_400));
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let mut all = vec![Config::default_run()];
    all.extend(toml_files(&root().join("docs")).iter().map(|path| config::load(path).unwrap()));
    all.push(config::parse(ODD).unwrap());
    let steered = "[[source]]\ntype = 'gpsd'\nshm = 1\n[clock]\nsteer = true\nfirst_step_unlimited = true\n";
    let steered = config::parse(steered).unwrap();
    assert!(steered.clock.steer && steered.clock.first_step_unlimited);
    all.push(steered);
    for config in all {
        assert_eq!(config::parse(&config.to_string()), Ok(config.clone()), "{config}");
    }
}

#[test]
fn a_file_that_has_no_text_says_why() {
    let directory = std::env::temp_dir().join(format!("maser-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str, octets: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, octets).unwrap();
        told(&path)
    };
    assert_eq!(
        file("latin1.toml", b"[server]\n# Z\xfcrich\n"),
        "latin1.toml:2:4: octet 0xFC isn't UTF-8; expected TOML saved as UTF-8 (iconv converts)\n"
    );
    assert_eq!(
        file("long.toml", &vec![b'\n'; config::CONFIG_OCTETS_MAX + 1]),
        "long.toml: longer than 1048576 octets; this can't be a configuration, check the path\n"
    );
    assert_eq!(
        file("marked.toml", format!("\u{feff}{SOURCE}").as_bytes()),
        "",
        "a byte order mark is allowed"
    );
    let missing = config::load(&directory.join("missing.toml")).unwrap_err().to_string();
    assert!(missing.contains("missing.toml: no such file; give"), "{missing}");
    let not_a_file = config::load(&directory).unwrap_err().to_string();
    assert!(not_a_file.contains(": a directory; give"), "{not_a_file}");
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_command_line_overrides_the_file() {
    let file = config::load(&root().join("docs/example-isolated.toml")).unwrap();
    assert_eq!(file.clone().overridden(Overrides::default()), Ok(file.clone()));
    let address = config::listen("127.0.0.1:1123").unwrap();
    let overrides = Overrides {
        listen: vec![address],
        port: Some(PortChoice::IoUring),
        interfaces: Vec::new(),
        workers: Some("1".parse().unwrap()),
        idle: Some(Idle::Block),
        busy_poll: false,
        limit: Some(9),
        status_socket: Some("here.sock".into()),
        metrics: vec![address],
    };
    let config = file.clone().overridden(overrides).unwrap();
    assert_eq!(
        (config.server.listen.as_slice(), config.server.port),
        ([address].as_slice(), PortChoice::IoUring)
    );
    assert_eq!((config.server.idle, config.server.batch.get()), (Idle::Block, 128));
    assert_eq!((config.limit.rate, file.limit.rate), (9, 8));
    assert_eq!(config.status.socket.as_deref(), Some(Path::new("here.sock")));
    assert_eq!(config.metrics.listen, [address]);
    assert_eq!((config.sources, config.local), (file.sources.clone(), file.local));
    let twice = Overrides { listen: vec![address, address], ..Overrides::default() };
    let error = file.overridden(twice).unwrap_err().to_string();
    assert_eq!(error, "--listen 127.0.0.1:1123 is given twice; leave one out");
    let smeared = config::listen("[::1]:1123").unwrap();
    let smeared = Overrides { listen: vec![smeared], ..Overrides::default() };
    let error = config::parse(ODD).unwrap().overridden(smeared).unwrap_err().to_string();
    assert_eq!(error, "--listen [::1]:1123 is in smear.listen, too; an address smears or it doesn't");
}

#[test]
fn workers_are_placed_on_cores_that_there_are() {
    let available: Vec<usize> = vec![1, 3, 5];
    assert_eq!(Workers::Auto.place(&available), Ok(available.clone()));
    assert_eq!(Workers::Auto.place(&(0..64).collect::<Vec<_>>()), Ok((0..8).collect()));
    let workers = |text: &str| text.parse::<Workers>().and_then(|workers| workers.place(&available));
    assert_eq!(workers("2"), Ok(vec![1, 3]));
    assert_eq!(workers("4"), Err(WorkersError::TooFewCores { asked: 4, available: 3 }));
    assert_eq!(workers("5,1"), Ok(vec![5, 1]));
    assert_eq!(workers("3-3"), Ok(vec![3]));
    assert_eq!(workers("1-3"), Err(WorkersError::NotAvailable(2)));
    assert_eq!(workers("1,1"), Err(WorkersError::Twice(1)));
    assert_eq!(workers("0"), Err(WorkersError::Number));
    assert_eq!(workers("0-18446744073709551615"), Err(WorkersError::Core(usize::MAX)));
    for bad in ["", "two", "1,", "-1", "3-1", "1 2", "+2", "0-18446744073709551616"] {
        assert_eq!(workers(bad), Err(WorkersError::NotWorkers), "{bad:?}");
    }
}

/// Every problem stands within the file, in order, and says something.
fn check_problems(text: &str, problems: &[Problem]) {
    assert!(!problems.is_empty());
    let lines: Vec<&str> = text.split('\n').collect();
    let mut last = 0;
    for problem in problems {
        assert!(last <= problem.offset && problem.offset <= text.len(), "{problem}");
        last = problem.offset;
        let line = lines[problem.line - 1];
        assert!(problem.column >= 1 && problem.column <= line.chars().count() + 1, "{problem}");
        assert!(!problem.problem.is_empty());
    }
}

/// Scraps that make text which is nearly a configuration.
const SCRAPS: &[&str] = &[
    "[server]",
    "[limit]",
    "[access]",
    "[status]",
    "[[source]]",
    "[source]",
    "[local]",
    "[clock]",
    "[smear]",
    "[",
    "]",
    "[[",
    "]]",
    "\n",
    "\n",
    "\n",
    "\r\n",
    " ",
    "#",
    "=",
    " = ",
    ".",
    ",",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\",
    "listen",
    "port",
    "workers",
    "idle",
    "batch",
    "receive_buffer",
    "socket",
    "type",
    "stratum",
    "reference_id",
    "name",
    "device",
    "shm",
    "label",
    "address",
    "poll_min",
    "offset",
    "agree_min",
    "server",
    "source",
    "local",
    "1",
    "-1",
    "0x",
    "99999999999999999999",
    "1.5",
    "true",
    "1979-05-27",
    "\"auto\"",
    "\"machine\"",
    "\"pps\"",
    "\"ntp\"",
    "\"gpsd\"",
    "\"-1.5 us\"",
    "[\"machine0\"]",
    "rate",
    "memory",
    "deny",
    "[\"10.0.0.0/8\"]",
    "\"0.0.0.0:123\"",
    "[]",
    "[0, 1]",
    "{}",
    "{ a = 1 }",
    "µ",
    "\u{0}",
    "\u{feff}",
    "\u{1f550}",
];

proptest! {
    #[test]
    fn no_text_panics_and_every_problem_has_its_place(text in any::<String>()) {
        if let Err(problems) = config::parse(&text) {
            check_problems(&text, &problems);
        }
    }

    #[test]
    fn nor_does_a_text_of_scraps(scraps in proptest::collection::vec(proptest::sample::select(SCRAPS), 0..60)) {
        let text = scraps.concat();
        if let Err(problems) = config::parse(&text) {
            check_problems(&text, &problems);
        }
    }

    #[test]
    fn nor_does_an_example_with_a_piece_replaced(
        at in 0_usize..1200,
        length in 0_usize..40,
        scrap in proptest::sample::select(SCRAPS),
        example in proptest::sample::select(&["isolated", "gps"]),
    ) {
        let mut text = fs::read_to_string(root().join(format!("docs/example-{example}.toml"))).unwrap();
        let start = text.floor_char_boundary(at);
        let end = text.floor_char_boundary(start + length);
        text.replace_range(start..end, scrap);
        if let Err(problems) = config::parse(&text) {
            check_problems(&text, &problems);
        }
    }
}
