//! The NICs whose stamps a worker uses: which of them a packet went by, and whether its stamp says when.
//!
//! Whatever is wrong with a NIC's stamp, the kernel's or the program's stands in for it, and the reason is counted under the
//! NIC: [`crate::nics`] notices by that when one has ceased to stamp.

use crate::count::{Counts, Told, Way};
use maser_core::time::{NicClock, Rate, Span, Stamp, StampClock, Ticks};
use maser_sys::datagram::{Arrival, Departed};
use maser_sys::phc_cell::PhcReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A NIC, as a worker is told of it.
#[derive(Clone, Debug)]
pub struct WorkerNic {
    /// Its interface's index.
    pub interface: u32,
    /// Whether it is to stamp what comes.
    pub receives: bool,
    /// Whether it is to stamp what leaves.
    pub sends: bool,
    /// Where its clock stands.
    pub line: PhcReader,
    /// Its link's speed in megabits a second; 0 while nobody knows.
    pub link_mbps: Arc<AtomicU32>,
}

/// One, with what this worker has seen of it.
struct Nic {
    given: WorkerNic,
    clock: NicClock,
    /// Whether it stamped anything that came, or left.
    has_received: bool,
    has_sent: bool,
}

/// All of them.
pub(super) struct Nics(Box<[Nic]>);

impl Nics {
    /// In the places under which they are counted.
    pub(super) fn new(nics: Vec<WorkerNic>) -> Self {
        let nic = |given| Nic { given, clock: NicClock::new(), has_received: false, has_sent: false };
        Self(nics.into_iter().map(nic).collect())
    }

    /// Looks where their clocks stand now.
    #[inline]
    pub(super) fn refresh(&mut self) {
        for Nic { given, clock, .. } in &mut self.0 {
            clock.set(given.line.read(), given.link_mbps.load(Ordering::Relaxed));
        }
    }

    /// How long before `now` a request was there, if its NIC says so; `beside` is what others say.
    #[inline]
    pub(super) fn received(
        &mut self,
        arrival: &Arrival,
        now: (Ticks, Rate),
        beside: Span,
        counts: &Counts,
    ) -> Option<Span> {
        if self.0.is_empty() {
            return None;
        }
        let Some(stamp) = arrival.nic_stamp else {
            let (place, nic) = self.of(arrival.interface).filter(|(_, nic)| nic.given.receives)?;
            counts.nic(Some(place), Way::Received, untold(arrival.stamp, nic.has_received));
            return None;
        };
        let Some((place, nic)) = self.of_stamp(stamp.interface) else {
            counts.nic(None, Way::Received, Told::Unplaced);
            return None;
        };
        nic.has_received = true;
        let age = nic.clock.received((stamp.nanos, stamp.frame_octets), now, beside);
        counts.nic(Some(place), Way::Received, age.map_or_else(Told::from, |_| Told::Used));
        age.ok()
    }

    /// How long before `now` a reply left, if its NIC says so; `beside` is what others say, if anybody does.
    pub(super) fn sent(
        &mut self,
        departed: &Departed,
        now: (Ticks, Rate),
        beside: Option<Span>,
        counts: &Counts,
    ) -> Option<Span> {
        if self.0.is_empty() {
            return None;
        }
        let Some(stamp) = departed.nic_stamp else {
            let (place, nic) = self.of(departed.interface).filter(|(_, nic)| nic.given.sends)?;
            counts.nic(Some(place), Way::Sent, untold(departed.stamp, nic.has_sent));
            return None;
        };
        let Some((place, nic)) = self.of_stamp(stamp.interface) else {
            counts.nic(None, Way::Sent, Told::Unplaced);
            return None;
        };
        nic.has_sent = true;
        let age = nic.clock.sent(stamp.nanos, now, beside);
        counts.nic(Some(place), Way::Sent, age.map_or_else(Told::from, |_| Told::Used));
        age.ok()
    }

    fn of(&mut self, interface: u32) -> Option<(usize, &mut Nic)> {
        self.0.iter_mut().enumerate().find(|(_, nic)| nic.given.interface == interface)
    }

    /// The NIC of a stamp; where nobody says whose it is and there is but one, it is that one's.
    fn of_stamp(&mut self, interface: u32) -> Option<(usize, &mut Nic)> {
        let (is_unsaid, are_many) = (interface == 0, self.0.len() > 1);
        let is_it = |nic: &Nic| if is_unsaid { !are_many } else { nic.given.interface == interface };
        self.0.iter_mut().enumerate().find(|(_, nic)| is_it(nic))
    }
}

/// Who said when in the place of a NIC: past the kernel's stack only drivers that have stamped there before are to.
const fn untold(stamp: Option<Stamp>, has_stamped: bool) -> Told {
    match stamp {
        Some(Stamp { clock: StampClock::Monotonic, .. }) if !has_stamped => Told::Hook,
        _ => Told::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maser_core::time::PhcLine;
    use maser_core::wire::Peer;
    use maser_sys::datagram::{Carried, NicStamp};
    use maser_sys::phc_cell::{PhcWriter, phc_cell};

    const NOW: (Ticks, Rate) = (Ticks::from_bits(1_000_000_000), Rate::NANOSECOND);
    const AGE: Span = Span::from_nanos(50_000);

    fn nic(interface: u32, receives: bool) -> (WorkerNic, PhcWriter) {
        let (mut writer, line) = phc_cell();
        // Its clock says the interface's number in seconds when the counter is at NOW.
        let mut known = PhcLine::through(NOW.0, i64::from(interface) * 1_000_000_000, 1_000, 1_000).unwrap();
        (known.error_ticks, known.valid_until) = (0, NOW.0.offset(1_000));
        writer.publish(&known);
        let link_mbps = Arc::new(AtomicU32::new(0));
        (WorkerNic { interface, receives, sends: receives, line, link_mbps }, writer)
    }

    fn nics(given: &[&WorkerNic]) -> Nics {
        let mut nics = Nics::new(given.iter().map(|&nic| nic.clone()).collect());
        nics.refresh();
        nics
    }

    /// What came by `interface` a tenth of a millisecond ago, stamped by that of the number `stamped_by`.
    fn arrival(interface: u32, stamped_by: Option<u32>, clock: StampClock) -> Arrival {
        let nic_stamp = stamped_by.map(|by| NicStamp {
            nanos: i64::from(if by == 0 { interface } else { by }) * 1_000_000_000 - 100_000,
            interface: by,
            frame_octets: 90,
        });
        let peer = "192.0.2.1:123".parse().unwrap();
        Arrival {
            socket: 0,
            carried: Carried::Datagram(Peer { source: peer, destination: peer, unicast: true }),
            whole: true,
            stamp: Some(Stamp { clock, nanos: 1 }),
            interface,
            nic_stamp,
            weight: 1,
        }
    }

    #[test]
    fn a_stamp_is_placed_by_the_clock_of_the_nic_that_made_it() {
        let ((first, _a), (second, _b)) = (nic(3, true), nic(7, true));
        let counts = Counts::default();
        let mut both = nics(&[&first, &second]);
        let realtime = StampClock::Realtime;
        for (interface, by, age_ns) in [(3, 3, Some(100_000)), (7, 7, Some(100_000)), (9, 7, None)] {
            let age = both.received(&arrival(interface, Some(by), realtime), NOW, AGE, &counts);
            assert_eq!(age.map(Span::as_nanos), age_ns, "{interface} {by}; the third repeats the second");
        }
        assert_eq!(both.received(&arrival(3, Some(0), realtime), NOW, AGE, &counts), None, "whose?");
        assert_eq!(both.received(&arrival(8, Some(8), realtime), NOW, AGE, &counts), None, "nobody's");
        assert_eq!(counts.of_nic(0, Way::Received), [1, 0, 0, 0, 0]);
        assert_eq!(counts.of_nic(1, Way::Received), [1, 0, 1, 0, 0]);
        assert_eq!(counts.of(crate::count::Event::NicStampUnplaced), 2);
        let mut alone = nics(&[&first]);
        assert!(
            alone.received(&arrival(3, Some(0), realtime), NOW, AGE, &counts).is_some(),
            "there is but one"
        );
    }

    #[test]
    fn a_missing_stamp_is_missed_where_there_is_to_be_one() {
        let ((stamps, _a), (leaves, _b)) = (nic(3, true), nic(7, false));
        let counts = Counts::default();
        let mut nics = nics(&[&stamps, &leaves]);
        for interface in [3, 7, 9, 0] {
            assert_eq!(
                nics.received(&arrival(interface, None, StampClock::Realtime), NOW, AGE, &counts),
                None
            );
        }
        assert_eq!(counts.of_nic(0, Way::Received), [0, 1, 0, 0, 0]);
        assert_eq!(counts.of_nic(1, Way::Received), [0; 5]);
        // Past the kernel's stack, before its driver has stamped anything and after.
        let hook = StampClock::Monotonic;
        nics.received(&arrival(3, None, hook), NOW, AGE, &counts);
        nics.received(&arrival(3, Some(3), hook), NOW, AGE, &counts);
        nics.received(&arrival(3, None, hook), NOW, AGE, &counts);
        assert_eq!(counts.of_nic(0, Way::Received), [1, 2, 0, 0, 1]);
    }

    #[test]
    fn a_departure_is_the_nics_the_kernels_or_the_ports() {
        let (given, _writer) = nic(3, true);
        let counts = Counts::default();
        let mut nics = nics(&[&given]);
        let departed = |clock, age_ns: Option<i64>| Departed {
            name: 1,
            stamp: Some(Stamp { clock, nanos: 1 }),
            interface: 3,
            nic_stamp: age_ns.map(|age_ns| NicStamp {
                nanos: 3_000_000_000 - age_ns,
                interface: 3,
                frame_octets: 0,
            }),
        };
        let mut sent = |clock, age_ns| nics.sent(&departed(clock, age_ns), NOW, Some(AGE), &counts);
        assert_eq!(sent(StampClock::Monotonic, None), None);
        assert_eq!(sent(StampClock::Realtime, None), None);
        assert_eq!(sent(StampClock::Realtime, Some(40_000)), Some(Span::from_nanos(40_000)));
        assert_eq!(sent(StampClock::Realtime, Some(90_000)), None, "before the driver had it");
        assert_eq!(counts.of_nic(0, Way::Sent), [1, 1, 1, 0, 1]);
    }
}
