//! The queues of the interfaces that were handed over: who owns which, their AF_XDP sockets, and what becomes of an
//! interface that can't have them.

use super::HandedInterface;
use super::deal::{self, Hand};
use super::{ServeError, system};
use crate::config::{PortChoice, Server};
use crate::interface::InterfaceFacts;
use crate::port::ladder::InterfaceFooting;
use crate::report::{InterfaceView, QueueView};
use core_affinity::CoreId;
use maser_sys::af_xdp::{BusyPoll, CopyChoice, FRAMES_MAX, Xsk, XskError, XskPort, XskSetting};
use maser_sys::driver_limits::Floor;
use maser_sys::xdp_program::{SocketsMap, XdpCounts};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread;
use tracing::{info, warn};

/// Frames of a queue, 2 KiB each, for each packet that a batch may hold: for what came while the worker was busy, for the
/// batch, and for what is being sent.
const FRAMES_PER_BATCHED: usize = 64;
/// At least so many: 8 ms of 500,000 requests a second, and more than the drivers' own rings have by default.
const FRAMES_MIN: usize = 4_096;

/// A busy poll takes as much as the kernel takes of a queue without a privilege, and then looks at the rings. The time is
/// no wait, since the port polls without one; it is only there to be above 0.
const BUSY_POLL: BusyPoll = BusyPoll { microseconds: 20, budget: 64 };

/// A queue with its socket, on the way to its worker.
pub(super) struct OwnedQueue {
    pub(super) interface: String,
    pub(super) number: u32,
    socket: Xsk,
    map: Arc<SocketsMap>,
    floor: Floor,
}

/// What became of the interfaces.
pub(super) struct Queues {
    /// The cores that own queues, and which.
    pub(super) shares: Vec<(usize, Vec<OwnedQueue>)>,
    /// The interfaces, in the order of the configuration.
    pub(super) views: Vec<InterfaceView>,
}

/// Where a queue goes.
struct Place {
    share: usize,
    core: usize,
    queue: u32,
}

impl Queues {
    /// Deals the queues over `cores` and opens their sockets. With `auto` an interface that can't is left, with all its
    /// queues, to the kernel's own stack.
    ///
    /// # Errors
    /// What an interface lacks when AF_XDP was asked for by name.
    pub(super) fn open(
        server: &Server,
        interfaces: Vec<HandedInterface>,
        cores: &[usize],
    ) -> Result<Self, ServeError> {
        let hands: Vec<Hand> = interfaces.iter().map(|interface| hand(&interface.facts)).collect();
        let dealt = deal::deal(cores, &hands);
        let mut shares: Vec<_> = dealt.iter().map(|&(core, _)| (core, Vec::new())).collect();
        let mut views = Vec::with_capacity(interfaces.len());
        for (at, interface) in interfaces.into_iter().enumerate() {
            let places = places_of(at, &dealt);
            let (view, opened) = open_interface(server, interface, &places)?;
            for (place, queue) in places.iter().zip(opened) {
                shares[place.share].1.push(queue);
            }
            views.push(view);
        }
        shares.retain(|(_, owned)| !owned.is_empty());
        Ok(Self { shares, views })
    }
}

fn hand(facts: &InterfaceFacts) -> Hand {
    Hand { queues: facts.queues, near: facts.numa_node.map(deal::cores_of_node).unwrap_or_default() }
}

/// Where the queues of one interface go, in their order.
fn places_of(interface: usize, dealt: &[(usize, Vec<deal::Place>)]) -> Vec<Place> {
    let mut places = Vec::new();
    for (share, (core, owned)) in dealt.iter().enumerate() {
        let own = owned.iter().filter(|place| place.interface == interface);
        places.extend(own.map(|place| Place { share, core: *core, queue: place.queue }));
    }
    places.sort_by_key(|place| place.queue);
    places
}

/// The sockets of an interface's queues, all or none, in the order of `places`.
fn open_interface(
    server: &Server,
    interface: HandedInterface,
    places: &[Place],
) -> Result<(InterfaceView, Vec<OwnedQueue>), ServeError> {
    let HandedInterface { facts, sockets_map, counts_map, limits } = interface;
    let counts = XdpCounts::from_fd(counts_map).map_err(system("no counts of the XDP program"))?;
    let open = |place: &Place| open_near(place.core, &setting(server, &facts, place.queue));
    let sockets = match places.iter().map(open).collect::<Result<Vec<Xsk>, XskError>>() {
        Ok(sockets) => sockets,
        Err(error) if server.port == PortChoice::AfXdp => {
            return Err(ServeError::Queues { interface: facts.name, error });
        }
        Err(error) => {
            warn!("port: {}: a step down: {error}", facts.name);
            let footing = InterfaceFooting::Stack { why: format!("a step down: {error}") };
            let view = InterfaceView { facts, footing, queues: Vec::new(), counts };
            return Ok((view, Vec::new()));
        }
    };
    let map = Arc::new(SocketsMap::from_fd(sockets_map));
    let footing = InterfaceFooting::AfXdp {
        zero_copy: sockets.iter().all(Xsk::is_zero_copy),
        why_copied: sockets.iter().find_map(Xsk::why_copied),
    };
    let mut queues = Vec::with_capacity(sockets.len());
    let mut owned = Vec::with_capacity(sockets.len());
    for (place, socket) in places.iter().zip(sockets) {
        let statistics = socket.statistics().map_err(system("no statistics of an AF_XDP socket"))?;
        let floor = limits.floor_of(place.queue);
        queues.push(QueueView {
            number: place.queue,
            core: place.core,
            statistics: Mutex::new(Some(statistics)),
            floor: floor.clone(),
        });
        let (interface, map) = (facts.name.clone(), Arc::clone(&map));
        owned.push(OwnedQueue { interface, number: place.queue, socket, map, floor });
    }
    let view = InterfaceView { facts, footing, queues, counts };
    info!("port: {view}");
    Ok((view, owned))
}

fn setting(server: &Server, facts: &InterfaceFacts, queue: u32) -> XskSetting {
    let (interface, frames) = (facts.index, frames(server.batch.get(), facts.rx_ring));
    let busy_poll = server.busy_poll.then_some(BUSY_POLL);
    XskSetting { interface, queue, frames, copy: CopyChoice::Auto, busy_poll }
}

/// A power of two. In zero-copy mode a driver keeps its whole ring of `rx_ring` filled: as many again are for the rest.
fn frames(batch: usize, rx_ring: Option<u32>) -> u32 {
    let frames = (batch * FRAMES_PER_BATCHED).max(FRAMES_MIN);
    let frames = u32::try_from(frames).expect("bounded by BATCH_MAX");
    let twice_the_ring = rx_ring.unwrap_or(0).min(FRAMES_MAX / 2) * 2;
    frames.max(twice_the_ring).next_power_of_two()
}

/// Opens a queue's socket on the core that will own it, so that its frames lie on that core's node.
fn open_near(core: usize, setting: &XskSetting) -> Result<Xsk, XskError> {
    let open = || {
        // A core that can't be had is told of when its worker is started.
        core_affinity::set_for_current(CoreId { id: core });
        Xsk::open(setting)
    };
    thread::scope(|scope| scope.spawn(open).join()).expect("opening a socket doesn't panic")
}

/// The port over a worker's queues, for which the programs are told to take frames from now on.
pub(super) fn port(queues: Vec<OwnedQueue>, batch: usize) -> Result<XskPort, ServeError> {
    let (mut sockets, mut slots, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for OwnedQueue { interface, number, socket, map, floor } in queues {
        let again = socket.as_fd().try_clone_to_owned().map_err(system("no descriptor is left"))?;
        floors.push(floor);
        slots.push((number, map, again));
        sockets.push((interface, socket));
    }
    let interface = sockets.first().map(|(interface, _)| interface.clone()).unwrap_or_default();
    let sockets = sockets.into_iter().map(|(_, socket)| socket).collect();
    let port = XskPort::new(sockets, batch).map_err(|error| ServeError::Queues { interface, error })?;
    for (number, map, socket) in slots {
        map.insert(number, socket.as_fd()).map_err(system("no place in the map of AF_XDP sockets"))?;
    }
    Ok(port.dropping(floors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BATCH_MAX;
    use maser_sys::af_xdp::FRAMES_MIN;

    #[test]
    fn every_batch_has_its_frames() {
        for batch in 1..=BATCH_MAX {
            let frames = frames(batch, None);
            assert!(frames.is_power_of_two() && (FRAMES_MIN..=FRAMES_MAX).contains(&frames), "{batch}");
            assert!(frames as usize >= 64 * batch);
        }
        let of = |batch| frames(batch, None);
        assert_eq!((of(1), of(64), of(65)), (4_096, 4_096, 8_192));
    }

    #[test]
    fn the_nics_ring_leaves_as_many_frames() {
        let of = |ring| frames(64, Some(ring));
        assert_eq!((of(0), of(512), of(2_048)), (4_096, 4_096, 4_096));
        assert_eq!((of(2_049), of(4_096), of(8_192)), (8_192, 8_192, 16_384));
        assert_eq!((of(FRAMES_MAX), of(u32::MAX)), (FRAMES_MAX, FRAMES_MAX));
    }
}
