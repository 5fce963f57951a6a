use super::*;
use crate::config::Key;
use crate::status::tests::{plausible, scratch};
use crate::status::{ClientsStatus, SourceStatus, StatusServer, Tracking};
use clap::CommandFactory;

fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
    Cli::try_parse_from([&["maser"], arguments].concat()).map(|cli| cli.command)
}

fn serve(arguments: &[&str]) -> ServeArguments {
    match parse(&[&["serve"], arguments].concat()).unwrap() {
        Command::Serve(arguments) => arguments,
        Command::Restore
        | Command::Reload(_)
        | Command::CheckConfig(_)
        | Command::Status(_)
        | Command::Sources(_)
        | Command::Tracking(_)
        | Command::Clients(_)
        | Command::Top(_)
        | Command::Doctor(_) => {
            panic!("not serve")
        }
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn without_arguments_it_serves_the_default_run() {
    assert_eq!(serve(&[]).configuration(None).unwrap(), Config::default_run());
}

#[test]
fn every_argument_reaches_the_configuration() {
    let arguments = serve(&[
        "--listen",
        "127.0.0.1:1",
        "-l",
        "[::1]:2",
        "--port",
        "socket",
        "--workers",
        "0,2-3",
        "--idle",
        "spin",
        "--status-socket",
        "/s",
        "--metrics",
        "127.0.0.1:9123",
        "--metrics",
        "[::1]:9123",
    ]);
    let config = arguments.configuration(None).unwrap();
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!((config.server.port, config.server.idle), (PortChoice::Socket, Idle::Spin));
    assert_eq!(config.server.workers, Workers::Cores(vec![0, 2, 3]));
    assert_eq!(config.status.socket, Some("/s".into()));
    assert_eq!(config.metrics.listen, ["127.0.0.1:9123".parse().unwrap(), "[::1]:9123".parse().unwrap()]);
    let twice = serve(&["--metrics", "[::1]:1", "--metrics", "[::1]:1"]).configuration(None).unwrap_err();
    assert_eq!(twice.to_string(), "--metrics [::1]:1 is given twice; leave one out");
    let nine: Vec<String> = (1..10).flat_map(|port| ["--metrics".into(), format!("[::1]:{port}")]).collect();
    let many = serve(&nine.iter().map(String::as_str).collect::<Vec<_>>()).configuration(None).unwrap_err();
    assert_eq!(many.to_string(), "--metrics is given 9 times; 8 is the most");
    assert!(serve(&["--screen"]).screen);
    let limit = |rate| serve(&["--limit", rate]).configuration(None).unwrap().limit;
    assert_eq!((limit("off").rate, limit("0").rate), (0, 0));
    assert_eq!((limit("200").rate, limit("200").prefix_rate), (200, 256));
    assert_eq!((limit("257").rate, limit("257").prefix_rate), (257, 0));
}

#[test]
fn interfaces_reach_the_configuration_and_go_with_their_port_only() {
    let server = |arguments: &[&str]| serve(arguments).configuration(None).map(|config| config.server);
    let told = |arguments: &[&str]| server(arguments).unwrap_err().to_string();
    let both = server(&["--port", "af-xdp", "-i", "eth0", "--interface", "ens1f0np0"]).unwrap();
    assert_eq!(
        (both.port, both.interfaces.as_slice()),
        (PortChoice::AfXdp, &["eth0".to_owned(), "ens1f0np0".to_owned()][..])
    );
    assert_eq!(server(&["--interface", "eth0"]).unwrap().port, PortChoice::Auto);
    let none = told(&["--port", "af-xdp"]);
    assert!(none.contains("no interface is named; name one with --interface DEV"), "{none}");
    for port in ["socket", "io-uring"] {
        let unused = told(&["--port", port, "--interface", "eth0"]);
        assert!(unused.contains(&format!("port = \"{port}\" doesn't use it; leave out")), "{unused}");
    }
    assert!(!both.busy_poll && server(&["-i", "eth0", "--busy-poll"]).unwrap().busy_poll);
    let nothing = told(&["--busy-poll"]);
    assert!(nothing.starts_with("busy polling is of an interface's driver"), "{nothing}");
    assert!(nothing.ends_with("or leave out --busy-poll"), "{nothing}");
    let twice = told(&["-i", "eth0", "-i", "eth0"]);
    assert_eq!(twice, "--interface eth0 is given twice; leave one out");
    let many: Vec<String> = (0..17).flat_map(|n| ["-i".to_owned(), format!("eth{n}")]).collect();
    let many = told(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(many.contains("17 times; 16 is the most"), "{many}");
    for (name, problem) in
        [("", "no name"), ("a/b", "slash"), ("..", "such a name"), ("sixteen-octets--", "15 octets")]
    {
        let error = parse(&["serve", "--interface", name]).unwrap_err().to_string();
        assert!(error.contains(problem), "{name}: {error}");
    }
}

#[test]
fn a_wrong_argument_is_explained() {
    let told = |arguments: &[&str]| parse(arguments).unwrap_err().to_string();
    let port = told(&["serve", "--port", "io_uring"]);
    assert!(port.contains("[possible values: auto, af-xdp, io-uring, socket]"), "{port}");
    let listen = told(&["serve", "--listen", "localhost:123"]);
    assert!(listen.contains("a host name is not an address"), "{listen}");
    let limit = told(&["serve", "--limit", "10001"]);
    assert!(limit.contains("is no rate; expected 0 to 10000 a second, or off"), "{limit}");
    let workers = told(&["serve", "--workers", "0"]);
    assert!(workers.contains("must be from 1 to 256"), "{workers}");
    assert!(told(&["check-config"]).contains("<FILE>"));
    for top in ["0", "1001", "ten"] {
        assert!(told(&["clients", "--top", top]).contains("'--top <N>'"));
    }
    assert!(told(&["clients", "--by", "name"]).contains("[possible values: address, prefix, rate, kiss]"));
    for command in ["status", "sources", "tracking"] {
        assert!(parse(&[command, "--json", "--watch"]).is_err());
    }
}

#[test]
fn every_argument_is_explained() {
    for command in Cli::command().get_subcommands() {
        assert!(command.get_long_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
    }
}

#[test]
fn the_help_tells_the_strata_of_the_default_run() {
    let help = Cli::command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
    let config = Config::default_run();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        help.contains(&format!(
            "of stratum {} while the kernel says",
            config.sources[0].served_stratum().unwrap()
        )),
        "{help}"
    );
    assert!(help.contains(&format!("of stratum {} while it doesn't", config.local.unwrap())), "{help}");
    for address in config.server.listen {
        assert!(help.contains(&address.to_string()), "{help}");
    }
}

#[test]
fn a_running_server_is_asked_for_what_each_command_shows() {
    let path = scratch("asked");
    let server = StatusServer::start(&path, plausible).unwrap();
    let asked = |arguments: &[&str]| {
        let socket = ["--status-socket", path.to_str().unwrap()];
        let (place, mut out) = (Surroundings::of_process(), Vec::new());
        match parse(&[arguments, &socket].concat()).unwrap() {
            Command::Status(arguments) => arguments.run(&place, &mut out, None),
            Command::Sources(arguments) => arguments.run(&place, &mut out, None),
            Command::Tracking(arguments) => arguments.run(&place, &mut out, None),
            Command::Clients(arguments) => arguments.run(&place, &mut out),
            Command::Serve(_)
            | Command::Restore
            | Command::Reload(_)
            | Command::CheckConfig(_)
            | Command::Top(_)
            | Command::Doctor(_) => {
                panic!("they ask nobody")
            }
        }
        .unwrap();
        String::from_utf8(out).unwrap()
    };
    let told = plausible();
    assert_eq!(asked(&["status"]), status::table(&told, false));
    assert_eq!(asked(&["sources"]), status::sources_table(&told, false));
    assert_eq!(asked(&["sources", "--all"]), status::sources_table(&told, true));
    assert_eq!(asked(&["tracking"]), status::tracking_table(&told));
    let sources: Vec<SourceStatus> = serde_json::from_str(&asked(&["sources", "--json"])).unwrap();
    assert_eq!(sources, told.sources);
    let tracking: Tracking = serde_json::from_str(&asked(&["tracking", "--json"])).unwrap();
    assert_eq!(tracking, told.tracking);
    let nobody = ClientsStatus::default();
    assert_eq!(asked(&["clients", "--by", "kiss", "--top", "1000"]), status::clients_table(&nobody));
    let clients: ClientsStatus = serde_json::from_str(&asked(&["clients", "--json"])).unwrap();
    assert_eq!(clients, nobody);
    drop(server);
}

#[test]
fn the_keys_are_told() {
    let mut out = Vec::new();
    CheckConfigArguments { file: None, keys: true }.run(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let told = |key: &&&Key| {
        let name = format!("{}.{}", key.section, key.name);
        text.lines().any(|line| line == name || line.starts_with(&format!("{name} (type ")))
    };
    assert_eq!(KEYS.iter().filter(told).count(), 67);
    assert!(text.contains("\nsource.baud (type nmea, ubx)\n    Takes one of 4800, "), "{text}");
}
