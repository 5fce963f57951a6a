use super::*;
use crate::interface::{InterfaceFacts, Mode, Refusal};
use maser_sys::netlink::Link;

fn facts() -> Facts {
    let link = Link { name: "eth0".to_owned(), up: true, carrier: true, mtu: 1500, ..Link::default() };
    let about = InterfaceFacts {
        name: "eth0".to_owned(),
        index: 2,
        queues: 4,
        mode: Mode::Generic,
        nic_stamps: false,
        why: String::new(),
        numa_node: None,
        mtu: 1500,
        driver: "igb".to_owned(),
        rx_ring: Some(2048),
        rss: "one queue".to_owned(),
        spread: Vec::new(),
    };
    let ring = RxRing { descriptors: 2048, descriptors_max: 4096 };
    Facts {
        look: Look {
            link,
            facts: about,
            left_out: None,
            features: Features::default(),
            another: None,
            in_the_way: None,
            warnings: Vec::new(),
        },
        xdp: Some(XdpFeatures { native: true, zero_copy: true, ..XdpFeatures::default() }),
        offered: Offered::new(Some(0), 0b11, 0b11),
        stamping: None,
        rings: Some([ring, ring]),
        channels: Some(Channels { rx: 0, tx: 0, combined: 4, most: [0, 0, 8] }),
        coalescing: Some(Coalescing { rx_usecs: 0, adaptive_rx: false }),
        energy_efficient: Some(false),
    }
}

const WANTED: Wanted = Wanted { af_xdp: true, stamps: true, cores: 4, served: false };

/// The verdict of a check on changed facts, where AF_XDP is wanted and where it isn't.
fn verdicts(check: Check, change: impl Fn(&mut Facts)) -> [Verdict; 2] {
    [true, false].map(|af_xdp| {
        let mut facts = facts();
        change(&mut facts);
        let found = judge(&facts, Wanted { af_xdp, stamps: af_xdp, ..WANTED }, |script| {
            format!("tuning/{script} apply")
        });
        found.into_iter().find(|finding| finding.check == check).unwrap().verdict
    })
}

#[test]
fn a_fit_nic_has_nothing_to_do() {
    let findings = judge(&facts(), WANTED, |_| "script".to_owned());
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:?}");
    assert_eq!(findings.len(), 9);
}

#[test]
fn the_command_of_an_offload_that_is_refused_is_the_refusals() {
    let tags = Refusal::TagOffload {
        name: "eth0".to_owned(),
        vlans: vec!["eth0.5".to_owned()],
        features: vec!["rxvlan"],
    };
    let told =
        offloads(&Facts { look: Look { in_the_way: Some(tags), ..facts().look }, ..facts() }, WANTED, "");
    assert_eq!((told.verdict, told.remedy.as_deref()), (Verdict::Broken, Some("ethtool -K eth0 rxvlan off")));
    assert!(told.what.contains("eth0.5"), "{told:?}");
}

#[test]
fn each_fault_is_found_and_matters_more_where_it_is_in_use() {
    use Verdict::{Better, Broken, Ok, Should, Unknown};
    let lro = Refusal::LargeReceive { name: "eth0".to_owned() };
    let other = Refusal::AnotherProgram { name: "eth0".to_owned(), program: 3 };
    let on = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Features>();
    assert_eq!(
        verdicts(Check::Offloads, |facts| facts.look.in_the_way = Some(lro.clone())),
        [Broken, Better]
    );
    assert_eq!(
        verdicts(Check::Offloads, |facts| facts.look.features = on(&["rx-vlan-hw-parse"])),
        [Should, Better]
    );
    assert_eq!(verdicts(Check::Offloads, |facts| facts.look.features = on(&["rx-gro"])), [Ok, Ok]);
    assert_eq!(verdicts(Check::Offloads, |facts| facts.energy_efficient = Some(true)), [Should, Better]);
    assert_eq!(
        verdicts(Check::Interface, |facts| facts.look.another = Some(other.clone())),
        [Broken, Better]
    );
    assert_eq!(
        verdicts(Check::Interface, |facts| facts.look.warnings.push("mtu `ip link`".to_owned())),
        [Better, Better]
    );
    assert_eq!(
        verdicts(Check::Interface, |facts| {
            facts.look.link.carrier = false;
            facts.look.warnings.push("no carrier".to_owned());
        }),
        [Should, Better]
    );
    assert_eq!(verdicts(Check::NicStamps, |facts| facts.offered = Offered::default()), [Better, Better]);
    assert_eq!(
        verdicts(Check::NicStamps, |facts| facts.offered = Offered::new(Some(0), 1, 1)),
        [Should, Better]
    );
    assert_eq!(verdicts(Check::NicStamps, |_| ()), [Ok, Better]);
    assert_eq!(verdicts(Check::Xdp, |facts| facts.xdp = None), [Unknown, Unknown]);
    assert_eq!(verdicts(Check::Xdp, |facts| facts.xdp = Some(XdpFeatures::default())), [Should, Better]);
    assert_eq!(verdicts(Check::ZeroCopy, |facts| facts.xdp = Some(XdpFeatures::default())), [Better, Better]);
    assert_eq!(
        verdicts(Check::Queues, |facts| facts.look.left_out = Some("few".to_owned())),
        [Should, Better]
    );
    let channels = |combined, most| Some(Channels { rx: 1, tx: 1, combined, most });
    assert_eq!(verdicts(Check::Queues, |facts| facts.channels = channels(2, [0, 0, 8])), [Better, Better]);
    assert_eq!(verdicts(Check::Queues, |facts| facts.channels = channels(2, [0, 0, 2])), [Ok, Ok]);
    assert_eq!(verdicts(Check::Queues, |facts| facts.channels = channels(0, [2, 2, 0])), [Better, Better]);
    assert_eq!(verdicts(Check::Queues, |facts| facts.channels = None), [Ok, Ok]);
    let ring = |descriptors, descriptors_max| RxRing { descriptors, descriptors_max };
    assert_eq!(
        verdicts(Check::Rings, |facts| facts.rings = Some([ring(256, 4096), ring(4096, 4096)])),
        [Better, Better]
    );
    assert_eq!(
        verdicts(Check::Rings, |facts| facts.rings = Some([ring(256, 256), ring(256, 256)])),
        [Ok, Ok]
    );
    let held = |rx_usecs, adaptive_rx| Some(Coalescing { rx_usecs, adaptive_rx });
    assert_eq!(verdicts(Check::Coalescing, |facts| facts.coalescing = held(3, false)), [Better, Better]);
    assert_eq!(verdicts(Check::Coalescing, |facts| facts.coalescing = held(0, true)), [Better, Better]);
    assert_eq!(verdicts(Check::Coalescing, |facts| facts.coalescing = None), [Ok, Ok]);
    assert_eq!(
        verdicts(Check::Rss, |facts| facts.look.facts.spread.push("command".to_owned())),
        [Should, Better]
    );
}

#[test]
fn a_servers_own_program_is_no_strangers() {
    let mut facts = facts();
    facts.look.another = Some(Refusal::AnotherProgram { name: "eth0".to_owned(), program: 3 });
    assert_eq!(interface(&facts, Wanted { served: true, ..WANTED }).verdict, Verdict::Ok);
}

#[test]
fn what_af_xdp_goes_past_is_told() {
    for (af_xdp, guarded, verdict) in [
        (true, Some(true), Verdict::Better),
        (true, None, Verdict::Unknown),
        (true, Some(false), Verdict::Ok),
        (false, Some(true), Verdict::Ok),
        (false, None, Verdict::Ok),
    ] {
        assert_eq!(bypass(af_xdp, guarded).verdict, verdict);
    }
}

#[test]
fn a_refusals_own_command_is_taken() {
    assert_eq!(command_of("eth0: off; `ip link set eth0 up`"), "ip link set eth0 up");
    assert_eq!(command_of("eth0: no carrier"), "ip -d link");
}
