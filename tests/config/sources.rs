//! What the sources' sections come to.

use super::*;

#[test]
fn sources_have_names_and_labels_wherever_they_stand() {
    let text = "[[source]]\ntype = 'pps'\ndevice = '/dev/pps0'\nlabel = ['ntp1', 'roof']\n\
                [[source]]\ntype = 'ntp'\naddress = 'a'\n\
                [[source]]\ntype = 'ntp'\naddress = 'b'\n\
                [[source]]\ntype = 'nmea'\nname = 'roof'\ndevice = '/dev/ttyS0'\n\
                [[source]]\ntype = 'pps'\ndevice = '/dev/pps1'\n";
    let sources = config::parse(text).unwrap().sources;
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["pps0", "ntp0", "ntp1", "roof", "pps1"]);
    let label = |at: usize| {
        let SourceKind::Pps { label, .. } = &sources[at].kind else { panic!("{}", sources[at].kind) };
        label.clone()
    };
    assert_eq!((label(0), label(4)), (vec![2, 3], vec![1, 2, 3]));
}

#[test]
fn a_nics_clock_is_a_time_or_a_channel_with_pulses() {
    let text = "[[source]]\ntype = 'phc'\ndevice = '/dev/ptp0'\nchannel = 3\npin = 'SDP1'\nedge = 'clear'\n\
                [[source]]\ntype = 'phc'\ndevice = '/dev/ptp0'\n\
                [[source]]\ntype = 'phc'\ndevice = '/dev/ptp0'\nchannel = 4\nlabel = ['phc1']\n\
                [[source]]\ntype = 'phc'\ndevice = '/dev/ptp1'\ntimescale = 'utc'\n";
    let config = config::parse(text).unwrap();
    let device = || PathBuf::from("/dev/ptp0");
    let [pulses, tai, channel, utc] = config.sources.as_slice() else { panic!("{config}") };
    let pin = Some("SDP1".to_owned());
    let (edge, label) = (Edge::Clear, vec![1, 3]);
    assert_eq!(pulses.kind, SourceKind::PhcPulses { device: device(), channel: 3, pin, edge, label });
    assert_eq!(tai.kind, SourceKind::Phc { device: device(), timescale: Timescale::Tai });
    let (edge, label) = (Edge::Assert, vec![1]);
    assert_eq!(channel.kind, SourceKind::PhcPulses { device: device(), channel: 4, pin: None, edge, label });
    assert_eq!(utc.kind, SourceKind::Phc { device: "/dev/ptp1".into(), timescale: Timescale::Utc });
    assert_eq!([tai, channel].map(|source| source.served_stratum().unwrap().get()), [1, 1]);
    assert_eq!(config::parse(&config.to_string()), Ok(config), "as it is written");
}

#[test]
fn every_key_of_the_sources_reaches_the_configuration() {
    let config = config::load(&root().join("docs/example-gps.toml")).unwrap();
    assert!(config.server.public);
    let [roof, pulses, first, second, third] = config.sources.as_slice() else { panic!("{config}") };
    let serial = Serial { device: "/dev/ttyACM0".into(), baud: Some(115_200), delay: None };
    assert_eq!((roof.name.as_str(), &roof.kind), ("roof", &SourceKind::Ubx { serial, configure: true }));
    assert_eq!((roof.prefer, pulses.prefer), (false, true));
    let device = "/dev/pps0".into();
    assert_eq!(pulses.kind, SourceKind::Pps { device, edge: Edge::Assert, label: vec![0] });
    assert_eq!((pulses.offset.as_nanos(), pulses.error.as_nanos()), (100, 500));
    assert_eq!(pulses.reference_id, Some(*b"GPS\0"));
    let places: Vec<String> = [first, second, third].map(|source| source.kind.to_string()).into();
    assert_eq!(places, ["192.0.2.10:123", "[2001:db8::10]:123", "ntp.example.net:123"]);
    let polls = |source: &Source| {
        let SourceKind::Ntp { burst: true, interleaved: true, poll_min_log2_s, poll_max_log2_s, .. } =
            source.kind
        else {
            panic!("{}", source.kind)
        };
        (poll_min_log2_s, poll_max_log2_s)
    };
    assert_eq!((polls(first), polls(third)), ((6, 10), (7, 11)));
    assert_eq!((config.clock.root_distance_max.as_nanos(), config.clock.agree_min), (50_000_000, 2));
    assert_eq!(config.clock.leap_file.as_deref(), Some(Path::new(config::LEAP_FILE_USUAL)));
    assert_eq!(config.clock.holdover_max.as_nanos(), 12 * 3_600_000_000_000);
    assert_eq!((config.clock.state, config.smear), (None, None));
}
