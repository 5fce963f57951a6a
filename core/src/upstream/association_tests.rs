//! The association against a simulated server: every way in which a reply can be late, lost, doubled, forged or wrong.

use super::world::*;
use super::*;
use crate::discipline::LeapClaim;
use crate::snapshot::Growth;
use crate::time::{BUILD_DATE, Span};
use proptest::prelude::*;
use std::vec::Vec;

#[test]
fn a_request_says_nothing_but_that_it_is_one() {
    let mut world = World::new(0, 1);
    let mut association = Association::new(settings(), world.now());
    let first = world.next_request(&mut association);
    let second = world.next_request(&mut association);
    for request in [first, second] {
        assert_eq!(request[..4], [0x23, 0, 4, 0]);
        assert_eq!(request[4..40], [0; 36]);
        assert_ne!(request[40..], [0; 8]);
    }
    assert_ne!(first[40..], second[40..]);
}

#[test]
fn a_good_reply_makes_the_sample_that_it_should() {
    let mut world = World::new(0, 2);
    let mut server = Server { first_octet: 0x64, ..Server::good() };
    let mut association = Association::new(settings(), world.now());
    let Reception::Accepted(sample) = exchange(&mut world, &mut association, &mut server, WAY) else {
        panic!("a good reply is a sample")
    };
    assert_eq!(sample.delay.as_nanos() / 10, 500_000 / 10);
    // The ways differ by 100 µs, of which half is the error that nobody can see.
    assert_eq!(error(&world, &sample).as_nanos() / 10, -50_000 / 10);
    assert_eq!(sample.stratum, 2);
    assert_eq!(sample.reference_id, [198, 51, 100, 1]);
    assert_eq!(sample.leap, LeapClaim::Insert);
    assert_eq!(sample.root_delay, Span::from_raw(0x10 << 48));
    assert_eq!(sample.root_dispersion, Span::from_raw(0x20 << 48));
    assert_eq!(association.reach(), 1);
}

#[test]
fn every_fault_of_a_reply_is_refused_by_its_name() {
    let spoil = |change: fn(&mut Server)| {
        let mut server = Server::good();
        change(&mut server);
        let mut world = World::new(0, 3);
        let mut association = Association::new(settings(), world.now());
        exchange(&mut world, &mut association, &mut server, WAY)
    };
    let refused = |reason| Reception::Refused(reason);
    assert!(matches!(spoil(|_| {}), Reception::Accepted(_)));
    assert!(matches!(spoil(|server| server.first_octet = 0x1C), Reception::Accepted(_)), "version 3");
    assert_eq!(spoil(|server| server.first_octet = 0x23), refused(Refusal::Mode));
    assert_eq!(spoil(|server| server.first_octet = 0x2C), refused(Refusal::Version));
    assert_eq!(spoil(|server| server.first_octet = 0xE4), refused(Refusal::Unsynchronised));
    assert_eq!(spoil(|server| server.stratum = 0), refused(Refusal::Unsynchronised));
    assert_eq!(spoil(|server| server.stratum = 16), refused(Refusal::Unsynchronised));
    assert!(matches!(spoil(|server| server.stratum = 15), Reception::Accepted(_)));
    assert_eq!(spoil(|server| server.root[1] = 32), refused(Refusal::RootDistance));
    assert_eq!(spoil(|server| server.root[5] = 16), refused(Refusal::RootDistance));
    assert!(matches!(spoil(|server| server.root[5] = 15), Reception::Accepted(_)));
    assert_eq!(spoil(|server| server.reference_id = OWN_ID), refused(Refusal::Loop));
    let at_stratum_1 = spoil(|server| {
        server.reference_id = OWN_ID;
        server.stratum = 1;
    });
    assert!(matches!(at_stratum_1, Reception::Accepted(_)), "a name at stratum 1, not an address");
    assert_eq!(spoil(|server| server.stamped_early_ns = 40_000_000), refused(Refusal::Backwards));
    assert_eq!(spoil(|server| server.stamped_early_ns = -40_000_000), refused(Refusal::Backwards));
}

#[test]
fn stamps_that_cant_be_are_refused() {
    for (change, reason) in [
        (Some(32..40), Refusal::ZeroTimestamp),
        (Some(40..48), Refusal::ZeroTimestamp),
        (None, Refusal::Late),
    ] {
        let mut world = World::new(0, 4);
        let mut association = Association::new(settings(), world.now());
        let request = world.next_request(&mut association);
        let way = if change.is_none() { Way { back_ns: 3 * SECOND_NS, ..WAY } } else { WAY };
        let (mut reply, stamps) = travel(&mut world, &mut Server::good(), &request, way);
        if let Some(octets) = change {
            reply[octets].fill(0);
        }
        assert_eq!(association.on_reply(&reply, stamps, BUILD_DATE), Reception::Refused(reason));
        assert_eq!(association.reach(), 0);
    }
}

#[test]
fn a_second_reply_to_one_request_is_refused_and_changes_nothing() {
    let mut world = World::new(0, 5);
    let mut association = Association::new(settings(), world.now());
    let request = world.next_request(&mut association);
    let (reply, stamps) = travel(&mut world, &mut Server::good(), &request, WAY);
    assert!(matches!(association.on_reply(&reply, stamps, BUILD_DATE), Reception::Accepted(_)));
    let known = association.clone();
    assert_eq!(association.on_reply(&reply, stamps, BUILD_DATE), Reception::Refused(Refusal::Duplicate));
    assert_eq!(association, known);
    world.next_request(&mut association);
    assert_eq!(association.on_reply(&reply, stamps, BUILD_DATE), Reception::Refused(Refusal::Duplicate));
    world.next_request(&mut association);
    assert_eq!(association.on_reply(&request, stamps, BUILD_DATE), Reception::Refused(Refusal::Mode));
}

#[test]
fn a_burst_is_four_requests_and_then_the_poll_interval() {
    let mut world = World::new(0, 6);
    let mut association = Association::new(settings(), world.now());
    let mut moments = Vec::new();
    for _ in 0..7 {
        exchange(&mut world, &mut association, &mut Server::good(), WAY);
        moments.push(world.true_ns);
    }
    let gaps: Vec<i64> = moments.windows(2).map(|pair| (pair[1] - pair[0]) / SECOND_NS).collect();
    assert_eq!(gaps[..3], [2, 2, 2]);
    assert!(gaps[3..].iter().all(|gap| (16..=18).contains(gap)), "{gaps:?}");
    let mut plain = Association::new(Settings { burst: false, ..settings() }, world.now());
    world.next_request(&mut plain);
    let before = world.true_ns;
    world.next_request(&mut plain);
    assert!(world.true_ns - before >= 16 * SECOND_NS);
}

#[test]
fn a_server_that_is_back_is_asked_in_a_burst() {
    let mut world = World::new(0, 7);
    let mut association = Association::new(settings(), world.now());
    for _ in 0..30 {
        world.next_request(&mut association);
    }
    assert_eq!((association.reach(), association.poll()), (0, 6), "once a minute while it is silent");
    assert_eq!(association.silent(), 30);
    let mut moments = Vec::new();
    for _ in 0..6 {
        exchange(&mut world, &mut association, &mut Server::good(), WAY);
        moments.push(world.true_ns);
    }
    let gaps: Vec<i64> = moments.windows(2).map(|pair| (pair[1] - pair[0]) / SECOND_NS).collect();
    assert_eq!(gaps[..4], [2, 2, 2, 2]);
    assert!(gaps[4] >= 16, "{gaps:?}");
    assert_eq!(association.silent(), 0);
}

#[test]
fn a_rate_kiss_doubles_the_interval_for_good() {
    let mut world = World::new(0, 8);
    let mut association = Association::new(settings(), world.now());
    for expected in [5, 6] {
        let kissed = exchange(&mut world, &mut association, &mut Server::kiss(b"RATE"), WAY);
        assert_eq!(kissed, Reception::Refused(Refusal::AskedLessOften));
        assert_eq!(association.poll(), expected);
        let at = world.true_ns;
        world.next_request(&mut association);
        assert!(world.true_ns - at >= (1 << expected) * SECOND_NS, "the burst has ended");
    }
    for _ in 0..40 {
        world.next_request(&mut association);
        assert!(association.poll() >= 6, "never shorter again");
    }
    let mut limited = Association::new(Settings { max_poll: 4, ..settings() }, world.now());
    exchange(&mut world, &mut limited, &mut Server::kiss(b"RATE"), WAY);
    assert_eq!(limited.poll(), 5, "the server's word counts more than our maximum");
}

#[test]
fn a_server_that_refuses_us_is_never_asked_again() {
    for code in [b"DENY", b"RSTR"] {
        let mut world = World::new(0, 9);
        let mut association = Association::new(settings(), world.now());
        let denied = exchange(&mut world, &mut association, &mut Server::kiss(code), WAY);
        assert_eq!(denied, Reception::Refused(Refusal::Denied));
        for _ in 0..10 {
            world.true_ns += 100_000 * SECOND_NS;
            let random = world.numbers.three();
            assert_eq!(association.next_action(world.now(), random), Action::Nothing);
        }
    }
}

#[test]
fn a_kiss_that_echoes_no_request_is_nobodys() {
    let mut world = World::new(0, 10);
    let mut association = Association::new(settings(), world.now());
    let request = world.next_request(&mut association);
    let (mut kiss, stamps) = travel(&mut world, &mut Server::kiss(b"DENY"), &request, WAY);
    kiss[31] ^= 1;
    let known = association.clone();
    assert_eq!(association.on_reply(&kiss, stamps, BUILD_DATE), Reception::Refused(Refusal::NotAsked));
    assert_eq!(association, known);
}

#[test]
fn the_filter_gives_the_quick_sample_and_never_one_twice() {
    let mut world = World::new(0, 11);
    let mut server = Server::good();
    let mut association =
        Association::new(Settings { growth: Growth::from_ppb(100), ..settings() }, world.now());
    let mut ask = |there_ns: i64| {
        let reception = exchange(&mut world, &mut association, &mut server, Way { there_ns, ..WAY });
        (reception, world.true_ns)
    };
    assert!(matches!(ask(200_000).0, Reception::Accepted(_)));
    for slower in 0..7 {
        assert_eq!(ask(2_000_000 + slower * 1_000_000).0, Reception::Filtered);
    }
    // The quick one is forgotten now: the next best is an older one, and it is newer than what was given.
    let (reception, now_ns) = ask(20_000_000);
    let Reception::Accepted(sample) = reception else { panic!("{reception:?}") };
    assert_eq!(sample.delay.as_nanos() / 1_000, 2_300);
    let age = (START + Span::from_nanos(now_ns)) - sample.utc;
    assert!(age > Span::from_seconds(60), "it is some polls old: {age:?}");
    assert!(sample.dispersion > Growth::from_ppb(100).over(Span::from_seconds(60)), "and says so");
    let (reception, _) = ask(20_000_000);
    let Reception::Accepted(next) = reception else { panic!("{reception:?}") };
    assert_eq!(next.delay.as_nanos() / 1_000, 3_300);
    assert!(next.at.since(sample.at) > 0);
}

#[test]
fn a_steady_server_is_asked_less_often_and_an_unsteady_one_more_often() {
    let mut world = World::new(40_000, 12);
    let mut server = Server::good();
    let mut association = Association::new(settings(), world.now());
    let jittered = |numbers: &mut Numbers, most_ns: u64| Way {
        there_ns: 200_000 + (numbers.next() % most_ns).cast_signed(),
        ..WAY
    };
    for _ in 0..200 {
        let way = jittered(&mut world.numbers, 20_000);
        exchange(&mut world, &mut association, &mut server, way);
    }
    assert_eq!(association.poll(), 10, "a rate that is off is no unsteadiness");
    let jitter = association.jitter().unwrap();
    assert!(jitter < Span::from_nanos(20_000), "{jitter:?}");
    for _ in 0..200 {
        // The oscillator's frequency walks by 100 ppb a poll, which no line foretells.
        let step = if world.numbers.next().is_multiple_of(2) { 100 } else { -100 };
        world.change_rate(step);
        let way = jittered(&mut world.numbers, 20_000);
        exchange(&mut world, &mut association, &mut server, way);
    }
    assert!((4..9).contains(&association.poll()), "{}", association.poll());
}

#[test]
fn interleaved_replies_take_the_servers_transmit_error_away() {
    let mut world = World::new(0, 13);
    // It says 100 µs too early when it sends, as one does that can't know.
    let mut server = Server { interleaves: true, stamped_early_ns: 100_000, ..Server::good() };
    let way = Way { there_ns: 300_000, spent_ns: 400_000, ..WAY };
    let mut association = Association::new(Settings { interleaved: true, ..settings() }, world.now());
    let first = exchange(&mut world, &mut association, &mut server, way);
    let Reception::Accepted(basic) = first else { panic!("{first:?}") };
    assert_eq!(error(&world, &basic).as_nanos() / 10, -50_000 / 10);
    assert!(!association.is_interleaved());
    let second = exchange(&mut world, &mut association, &mut server, way);
    assert_eq!(second, Reception::Filtered, "the exchange before was given already");
    for _ in 0..20 {
        let next = exchange(&mut world, &mut association, &mut server, way);
        assert!(association.is_interleaved());
        if let Reception::Accepted(sample) = next {
            assert!(error(&world, &sample).abs() < Span::from_nanos(10), "{:?}", error(&world, &sample));
            assert!((sample.delay - Span::from_nanos(600_000)).abs() < Span::from_nanos(10));
        }
    }
    // A lost reply: the server's memory may be gone, so the next request is a basic one.
    world.next_request(&mut association);
    let request = world.next_request(&mut association);
    assert_eq!(request[24..40], [0; 16]);
}

#[test]
fn a_server_that_doesnt_interleave_answers_all_the_same() {
    let mut world = World::new(0, 14);
    let mut server = Server::good();
    let mut association = Association::new(Settings { interleaved: true, ..settings() }, world.now());
    for _ in 0..5 {
        let request = world.next_request(&mut association);
        let (reply, stamps) = travel(&mut world, &mut server, &request, WAY);
        assert!(matches!(association.on_reply(&reply, stamps, BUILD_DATE), Reception::Accepted(_)));
        assert!(!association.is_interleaved());
    }
}

#[test]
fn an_interleaved_reply_that_wasnt_asked_for_is_refused() {
    let mut world = World::new(0, 15);
    let mut association = Association::new(settings(), world.now());
    let request = world.next_request(&mut association);
    let (mut reply, stamps) = travel(&mut world, &mut Server::good(), &request, WAY);
    // Origin = the receive timestamp of a request in basic mode: zero, which anybody knows.
    reply[24..32].fill(0);
    assert_eq!(association.on_reply(&reply, stamps, BUILD_DATE), Reception::Refused(Refusal::NotAsked));
}

/// What may befall a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    Doubled,
    RequestLost,
    ReplyLost,
    Forged(u64),
    Zeroed,
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::Doubled),
        1 => Just(Fate::RequestLost),
        1 => Just(Fate::ReplyLost),
        1 => any::<u64>().prop_map(Fate::Forged),
        1 => Just(Fate::Zeroed),
    ]
}

fn ways() -> impl Strategy<Value = Way> {
    (1_000_i64..900_000_000, 0_i64..2_000_000, 1_000_i64..900_000_000)
        .prop_map(|(there_ns, spent_ns, back_ns)| Way { there_ns, spent_ns, back_ns })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_error_is_within_half_the_delay_and_the_dispersion(
        journeys in prop::collection::vec((fates(), ways()), 1..40),
        ppb in -90_000_i64..90_000,
        seed in any::<u64>(),
        interleaved in any::<bool>(),
        interleaves in any::<bool>(),
    ) {
        let mut world = World::new(ppb, seed);
        let mut server = Server { interleaves, ..Server::good() };
        let mut association = Association::new(Settings { interleaved, ..settings() }, world.now());
        let mut last = None;
        for (fate, way) in journeys {
            let request = world.next_request(&mut association);
            if matches!(fate, Fate::RequestLost) {
                continue;
            }
            let (mut reply, stamps) = travel(&mut world, &mut server, &request, way);
            let origin_at = 24..32;
            match fate {
                Fate::ReplyLost => continue,
                Fate::Forged(bits) if reply[origin_at.clone()] != bits.to_be_bytes() => {
                    reply[origin_at].copy_from_slice(&bits.to_be_bytes());
                    let known = association.clone();
                    let refused = association.on_reply(&reply, stamps, BUILD_DATE);
                    prop_assert!(matches!(refused, Reception::Refused(Refusal::NotAsked | Refusal::Duplicate)));
                    prop_assert!(association == known, "a reply that echoes nothing changes nothing");
                    continue;
                }
                Fate::Zeroed => reply[40..].fill(0),
                Fate::Answered | Fate::Doubled | Fate::RequestLost | Fate::Forged(_) => {}
            }
            let reception = association.on_reply(&reply, stamps, BUILD_DATE);
            if let Reception::Accepted(sample) = reception {
                prop_assert!(!matches!(fate, Fate::Zeroed));
                let error = error(&world, &sample).abs();
                prop_assert!(error <= bound(&sample), "{:?} > {:?}", error, bound(&sample));
                prop_assert!(last.is_none_or(|last| sample.at.since(last) > 0), "newer than the last");
                last = Some(sample.at);
            }
            if matches!(fate, Fate::Doubled) {
                let again = association.on_reply(&reply, stamps, BUILD_DATE);
                prop_assert_eq!(again, Reception::Refused(Refusal::Duplicate));
            }
        }
    }

    #[test]
    fn any_octets_are_refused_and_change_nothing(
        octets in prop::collection::vec(any::<u8>(), 0..100),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(0, seed);
        let mut association = Association::new(settings(), world.now());
        world.next_request(&mut association);
        let known = association.clone();
        let stamps = Stamps { sent: world.now(), received: world.now(), error: Span::ZERO };
        prop_assert!(matches!(association.on_reply(&octets, stamps, BUILD_DATE), Reception::Refused(_)));
        prop_assert!(association == known);
    }
}
