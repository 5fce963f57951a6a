use super::*;

fn holder() -> Process {
    Process { id: 9, name: "gpsd".to_owned(), ..Process::default() }
}

#[test]
fn a_device_is_there_and_ours_or_it_is_told() {
    let of =
        |usable, held, exclusive| judge_device(Path::new("/dev/ttyS0"), &Device { usable, held }, exclusive);
    assert_eq!(of(Ok(()), None, true).verdict, Verdict::Ok);
    let shared = of(Ok(()), Some(holder()), true);
    assert_eq!((shared.verdict, shared.remedy.as_deref()), (Verdict::Broken, Some("kill 9")));
    // Pulses are anybody's to read.
    assert_eq!(of(Ok(()), Some(holder()), false).verdict, Verdict::Ok);
    for kind in [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::InvalidInput] {
        assert_eq!(of(Err(kind.into()), None, false).verdict, Verdict::Broken, "{kind}");
    }
    let file = std::env::current_exe().unwrap();
    assert_eq!(look(&file, &Processes::default()).usable.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(look(Path::new("/dev/null"), &Processes::default()).usable.is_ok());
}

#[test]
fn pulses_are_wanted_by_the_edge_that_is_configured() {
    for (pulsed, wanted, verdict) in [
        ([true, false], None, Verdict::Ok),
        ([true, false], Some(Edge::Assert), Verdict::Ok),
        ([true, false], Some(Edge::Clear), Verdict::Broken),
        ([false, true], Some(Edge::Assert), Verdict::Broken),
        ([false, false], Some(Edge::Assert), Verdict::Broken),
        ([false, false], None, Verdict::Should),
    ] {
        assert_eq!(judge_pulses(pulsed, wanted).verdict, verdict, "{pulsed:?} {wanted:?}");
    }
    assert_eq!(no_pulses(true, true).verdict, Verdict::Broken);
    assert_eq!(no_pulses(false, true).verdict, Verdict::Ok);
    assert_eq!(no_pulses(false, false).verdict, Verdict::Better);
    assert_eq!(sequence("1763941234.000000123#77"), Some(77));
    assert_eq!(sequence(""), None);
}

#[test]
fn gpsd_has_to_run() {
    assert_eq!(judge_gpsd("SHM 0", true).verdict, Verdict::Ok);
    assert_eq!(judge_gpsd("SHM 0", false).verdict, Verdict::Should);
    assert_eq!(judge_socket(Path::new("/no-such-directory/s"), true).verdict, Verdict::Broken);
    assert_eq!(judge_socket(&std::env::temp_dir().join("s"), true).verdict, Verdict::Ok);
}

#[test]
fn a_server_that_answers_is_told_from_those_that_do_not() {
    let mut request = [0; LENGTH];
    request[0] = CLIENT_V4;
    request[TRANSMIT_AT..].fill(7);
    let mut reply = [0; LENGTH];
    (reply[0], reply[1]) = (0x24, 2);
    reply[24..32].fill(7);
    assert_eq!(answer(&request, &reply), Some(Asked::Answers { stratum: 2 }));
    let with = |change: &dyn Fn(&mut [u8; LENGTH])| {
        let mut changed = reply;
        change(&mut changed);
        answer(&request, &changed)
    };
    assert_eq!(with(&|reply| reply[0] = 0xE4), Some(Asked::Unsynchronised));
    assert_eq!(with(&|reply| reply[1] = 0), Some(Asked::Unsynchronised));
    // Another's reply, another mode, half a reply.
    assert_eq!(with(&|reply| reply[24] = 8), None);
    assert_eq!(with(&|reply| reply[0] = 0x23), None);
    assert_eq!(answer(&request, &reply[..47]), None);
    for asked in [
        Asked::NoAddress("why".to_owned()),
        Asked::NoRoute("why".to_owned()),
        Asked::Silent,
        Asked::Refused,
        Asked::Unsynchronised,
    ] {
        assert_eq!(judge_server("ntp.example.net", &asked).verdict, Verdict::Should, "{asked:?}");
    }
    assert_eq!(judge_server("a", &Asked::Answers { stratum: 1 }).verdict, Verdict::Ok);
}

#[test]
fn a_server_on_this_machine_is_asked() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let upstream = |port| Upstream { host: "127.0.0.1".to_owned(), port };
    let answering = thread::spawn(move || {
        let mut octets = [0; LENGTH];
        let (_, client) = server.recv_from(&mut octets).unwrap();
        let mut reply = octets;
        (reply[0], reply[1]) = (0x24, 1);
        reply.copy_within(TRANSMIT_AT.., 24);
        server.send_to(&reply, client).unwrap();
    });
    assert_eq!(ask(&upstream(port)), Asked::Answers { stratum: 1 });
    answering.join().unwrap();
    // It is gone now.
    assert_eq!(ask(&upstream(port)), Asked::Refused);
}
