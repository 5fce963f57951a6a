//! What a worker sees of more than it can answer, and how it has the driver drop some of it.

use maser_sys::datagram::Wait;
use maser_sys::driver_limits::{DriverLimits, DriverSettings};
use maser_sys::xdp_program::{Reason, XdpCounts};

use crate::rig::{FRAMES, MODES, SHORT, answer, request, with_rig};

const BATCH: usize = 32;
/// Behind Ethernet, IPv4 and UDP.
const MESSAGE_AT: usize = 14 + 20 + 8;

#[test]
fn what_waits_is_told_and_strangers_are_dropped_below_the_floor() {
    for mode in MODES {
        with_rig("an overload", 2, mode, |rig| {
            let limits = DriverLimits::from_fd(rig.program.limits_map().unwrap()).unwrap();
            let counts = XdpCounts::from_fd(rig.program.counts_map().unwrap()).unwrap();
            let floors: Vec<_> = (0..2).map(|queue| limits.floor_of(queue)).collect();
            let mut port = rig.port(2, BATCH).dropping(floors.clone());
            assert_eq!(port.backlog(), (0, FRAMES));
            let ask = |count: u64| {
                for number in 0..count {
                    let mut frame = request(number, 40_000);
                    // A client's, NTPv4.
                    frame[MESSAGE_AT] = 0x23;
                    assert!(rig.client.send(&frame));
                }
            };
            ask(100);
            assert_eq!(port.receive(SHORT).unwrap(), BATCH);
            assert_eq!(port.datagram(0).0.weight, 1);
            assert_eq!(port.backlog(), (68, FRAMES), "{mode:?}");
            port.set_floor(1 << 16);
            assert!(floors.iter().all(|floor| floor.get() == 1 << 16));
            // Nothing is dropped unless it is switched on.
            ask(10);
            assert_eq!(port.backlog(), (78, FRAMES));
            limits.set(Some(&DriverSettings { key: [1, 2], address_sets: 1, rate: None, lists: false }));
            ask(10);
            assert_eq!((port.backlog(), counts.read().of(Reason::DroppedOverload)), ((78, FRAMES), 10));
            port.set_floor(0);
            ask(10);
            assert_eq!((port.backlog(), counts.read().of(Reason::DroppedOverload)), ((88, FRAMES), 10));
            let mut came = BATCH;
            answer(&mut port, BATCH, |_| false);
            while came < 120 {
                came += port.receive(Wait::Poll).unwrap();
            }
            assert_eq!((came, port.backlog()), (120, (0, FRAMES)));
        });
    }
}
