//! A whole server over the queues of an interface: who owns which, what the status says, and the step down.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use maser::config::{Config, PortChoice, Workers};
use maser::hands::{Hands, Past};
use maser::interface::Interface;

use maser::sockets::Sockets;
use maser::start::{Handed, HandedInterface, ServeError, Server};
use maser::status::{Status, WorkerStatus};
use maser_core::limit::hash::Key;
use maser_sys::af_xdp::{CopyChoice, Xsk, XskSetting};
use maser_sys::driver_limits::{DriverLimits, DriverSettings};
use maser_sys::netlink;
use maser_sys::xdp_program::QUEUES_MAX;

use crate::peers::skip;
use crate::support::request;
use crate::wire::{INTERFACE, SERVER_V4, Wire, listeners};

const QUEUES: u32 = 4;
const REQUESTS: u64 = 64;

fn config(port: PortChoice, listen: SocketAddr) -> Config {
    let mut config = Config::default_run();
    config.server.listen = vec![listen];
    config.server.port = port;
    config.server.interfaces = vec![INTERFACE.to_owned()];
    config.server.workers = Workers::Cores(vec![0, 1]);
    config.limit.rate = 0;
    config
}

/// Starts a server as a keeper would that has the program on the interface. A server before it has died in overload: the
/// program drops everything until this one is there.
fn start(port: PortChoice, listen: SocketAddr, interface: &Interface) -> Result<Server, ServeError> {
    let limits = DriverLimits::from_fd(interface.limits_map().unwrap()).unwrap();
    limits.set(Some(&DriverSettings { key: [7; 2], address_sets: 1, rate: None, lists: true }));
    (0..QUEUES_MAX).for_each(|queue| limits.floor_of(queue).set(u32::MAX));
    let handed = HandedInterface {
        facts: interface.facts().clone(),
        sockets_map: interface.sockets_map().unwrap(),
        counts_map: interface.counts_map().unwrap(),
        limits,
    };
    let (config, cores) = (config(port, listen), vec![0, 1]);
    let opened = Sockets::open(&config, cores.len(), Vec::new()).unwrap();
    let sockets = opened.descriptors(&config, cores.len());
    let sockets = sockets.iter().map(|socket| socket.try_clone_to_owned().unwrap()).collect();
    Server::start(
        config,
        Handed {
            cores,
            sockets,
            table: None,
            key: Key { k0: 0, k1: 0 },
            interfaces: vec![handed],
            sources: None,
            refused: Vec::new(),
            nics: Vec::new(),
            hands: Hands::own(),
            legacy: None,
            steering: Past::default(),
        },
    )
}

/// Asks from so many ports of one address, one after the other; each must be answered.
fn ask_all(server: SocketAddr) {
    for number in 0..REQUESTS {
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        client.send_to(&request(number + 1), server).unwrap();
        let mut reply = [0; 64];
        assert_eq!(client.recv(&mut reply).unwrap(), 48, "request {number}");
    }
}

fn answered(status: &Status, port: &str) -> u64 {
    status.workers.iter().filter(|worker| worker.port == port).map(WorkerStatus::answered).sum()
}

#[test]
fn queues_are_dealt_over_the_cores_and_a_client_of_all_of_them_is_told() {
    const NAME: &str = "queues_are_dealt_over_the_cores_and_a_client_of_all_of_them_is_told";
    if core_affinity::get_core_ids().is_none_or(|cores| cores.len() < 2) {
        return skip(NAME, "it needs two cores");
    }
    let Some(wire) = Wire::new(NAME, QUEUES) else { return };
    wire.server.run(|| {
        let listen = listeners(SERVER_V4.into())[0];
        let interface = Interface::attach(INTERFACE, vec![listen], None, &netlink::dump().unwrap()).unwrap();
        let server = start(PortChoice::AfXdp, listen, &interface).unwrap();
        wire.client.run(|| ask_all(listen));
        let status = server.view().status();
        let [told] = status.interfaces.as_slice() else { panic!("{status:?}") };
        let footing = [&told.rung, &told.mode, &told.frames, &told.stamps].map(String::as_str);
        assert_eq!(footing, ["af-xdp", "native", "copy", "hook"], "{told:?}");
        assert!(told.why.contains("zero-copy"), "{}", told.why);
        let queues: Vec<_> = told.queues.iter().map(|queue| (queue.queue, queue.core)).collect();
        assert_eq!(queues, [(0, 0), (1, 1), (2, 0), (3, 1)]);
        let workers = status.workers.iter().map(|worker| (worker.port.as_str(), worker.queues.join(" ")));
        let workers: Vec<_> = workers.collect();
        let queues = |names: &str| ("af-xdp", names.to_owned());
        let sockets = ("socket", String::new());
        assert_eq!(workers, [queues("wire:0 wire:2"), queues("wire:1 wire:3"), sockets.clone(), sockets]);
        assert_eq!(told.verdicts["steered"], REQUESTS);
        assert_eq!((answered(&status, "af-xdp"), answered(&status, "socket")), (REQUESTS, 0));
        // The client's kernel chooses the queue by the ports, so that both workers meet its one address.
        let splits = status.total(|worker| &worker.events)["split-clients"];
        assert!((1..REQUESTS).contains(&splits), "{splits}");
        assert!(status.workers.iter().all(|worker| worker.frames_missing == 0));
        server.stop().unwrap();
    });
}

#[test]
fn a_queue_that_is_taken_is_a_step_down_or_a_refusal() {
    let Some(wire) = Wire::new("a_queue_that_is_taken_is_a_step_down_or_a_refusal", 1) else { return };
    wire.server.run(|| {
        let listen = listeners(SERVER_V4.into())[0];
        let interface = Interface::attach(INTERFACE, vec![listen], None, &netlink::dump().unwrap()).unwrap();
        let index = interface.facts().index;
        let setting =
            XskSetting { interface: index, queue: 0, frames: 64, copy: CopyChoice::Auto, busy_poll: None };
        let taken = Xsk::open(&setting).unwrap();
        let refused = start(PortChoice::AfXdp, listen, &interface).unwrap_err().to_string();
        assert!(refused.contains("interface wire: another socket has queue 0"), "{refused}");
        let server = start(PortChoice::Auto, listen, &interface).unwrap();
        wire.client.run(|| ask_all(listen));
        let status = server.view().status();
        let [told] = status.interfaces.as_slice() else { panic!("{status:?}") };
        assert_eq!((told.rung.as_str(), told.queues.len()), ("socket", 0));
        assert!(told.why.contains("a step down: ") && told.why.contains("another socket"), "{}", told.why);
        assert_eq!((told.verdicts["no-socket"], answered(&status, "socket")), (REQUESTS, REQUESTS));
        server.stop().unwrap();
        drop(taken);
    });
}
