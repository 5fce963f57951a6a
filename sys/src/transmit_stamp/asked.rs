//! Which replies' stamps are still to come.
//!
//! Names are kept for one to two seconds. Time is counted in periods: a name of the period before last is forgotten
//! without being looked for.

/// Places for names that have the same hash.
const WAYS: usize = 8;
/// All places: more than leave in the time that a stamp takes.
const PLACES: usize = 4096;
const SETS: usize = PLACES / WAYS;
const _: () = assert!(SETS.is_power_of_two());

/// A period's length in nanoseconds.
const PERIOD_NS: i64 = 1_000_000_000;

/// Where a name is kept; it is none if its period is over.
#[derive(Clone, Copy, Default)]
struct Place {
    name: u64,
    period: u32,
    socket: u16,
    /// Two replies were given the name, so neither is ever told.
    twice: bool,
}

/// How many of a socket's are still to come: of this period, of the last.
#[derive(Clone, Copy, Default)]
struct Awaited {
    now: u32,
    before: u32,
}

/// The names that were asked for.
pub(super) struct Asked {
    places: Box<[Place]>,
    sockets: Box<[Awaited]>,
    /// The period now; those of places that were never used are over.
    period: u32,
    begun_ns: i64,
}

impl Asked {
    pub(super) fn new(sockets: usize) -> Self {
        Self {
            places: vec![Place::default(); PLACES].into(),
            sockets: vec![Awaited::default(); sockets].into(),
            period: 2,
            begun_ns: i64::MIN,
        }
    }

    /// How many stamps of a socket are still to come.
    pub(super) fn awaited(&self, socket: usize) -> u32 {
        let Awaited { now, before } = self.sockets[socket];
        now + before
    }

    /// Keeps a name. Where there is no room, or with a name that another still waits under, it will never be told.
    pub(super) fn insert(&mut self, socket: u16, name: u64) {
        let period = self.period;
        let set = self.set(name);
        let places = &mut self.places[set..set + WAYS];
        if let Some(place) = places.iter_mut().find(|place| place.is_awaited(period) && place.name == name) {
            place.twice = true;
        } else if let Some(place) = places.iter_mut().find(|place| !place.is_awaited(period)) {
            *place = Place { name, period, socket, twice: false };
            self.sockets[usize::from(socket)].now += 1;
        }
    }

    /// Forgets a name; whether it was kept for this socket, and for one reply alone.
    pub(super) fn remove(&mut self, socket: u16, name: u64) -> bool {
        let period = self.period;
        let set = self.set(name);
        let mut places = self.places[set..set + WAYS].iter_mut();
        let found = places.find(|place| {
            place.is_awaited(period) && place.name == name && place.socket == socket && !place.twice
        });
        let Some(place) = found else { return false };
        let awaited = &mut self.sockets[usize::from(socket)];
        *(if place.period == period { &mut awaited.now } else { &mut awaited.before }) -= 1;
        place.period = 0;
        true
    }

    /// Forgets what has waited for a period at least, once a period.
    pub(super) fn pass(&mut self, now_ns: i64) {
        if now_ns.saturating_sub(self.begun_ns) >= PERIOD_NS {
            self.begun_ns = now_ns;
            self.period += 1;
            for Awaited { now, before } in &mut self.sockets {
                *before = std::mem::take(now);
            }
        }
    }

    /// The first of the places where a name may be: by the upper bits of its product with 2⁶⁴ over the golden ratio.
    fn set(&self, name: u64) -> usize {
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        let hash = name.wrapping_mul(FACTOR) >> (u64::BITS - SETS.trailing_zeros());
        usize::try_from(hash).map_or(0, |set| set * WAYS) & (self.places.len() - 1)
    }
}

impl Place {
    const fn is_awaited(&self, period: u32) -> bool {
        self.period == period || self.period == period - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_once_and_only_for_its_socket() {
        let mut asked = Asked::new(2);
        for name in 0..64 {
            asked.insert(u16::from(name % 2 == 1), name << 32);
        }
        assert_eq!([asked.awaited(0), asked.awaited(1)], [32, 32]);
        assert!(!asked.remove(1, 0) && !asked.remove(0, 7), "another's, and nobody's");
        for name in 0..64 {
            let socket = u16::from(name % 2 == 1);
            assert!(asked.remove(socket, name << 32) && !asked.remove(socket, name << 32), "{name}");
        }
        assert_eq!([asked.awaited(0), asked.awaited(1)], [0, 0]);
    }

    #[test]
    fn a_name_is_kept_for_one_to_two_periods() {
        let mut asked = Asked::new(1);
        asked.pass(0);
        asked.insert(0, 1);
        asked.pass(PERIOD_NS - 1);
        asked.insert(0, 2);
        asked.insert(0, 3);
        asked.pass(PERIOD_NS);
        assert_eq!(asked.awaited(0), 3);
        assert!(asked.remove(0, 2));
        asked.insert(0, 4);
        asked.pass(2 * PERIOD_NS - 1);
        assert_eq!(asked.awaited(0), 3);
        asked.pass(2 * PERIOD_NS);
        assert_eq!(asked.awaited(0), 1);
        assert!(!asked.remove(0, 1) && !asked.remove(0, 3) && asked.remove(0, 4));
        assert_eq!(asked.awaited(0), 0);
        // However long nobody looked, what was asked since is kept.
        asked.insert(0, 5);
        asked.pass(100 * PERIOD_NS);
        assert!(asked.remove(0, 5));
    }

    #[test]
    fn a_name_that_two_replies_have_is_never_found() {
        let mut asked = Asked::new(1);
        asked.insert(0, 9);
        asked.insert(0, 9);
        assert!(!asked.remove(0, 9) && !asked.remove(0, 9));
        asked.pass(0);
        asked.pass(PERIOD_NS);
        assert_eq!(asked.awaited(0), 0);
        asked.insert(0, 9);
        assert!(asked.remove(0, 9));
    }

    #[test]
    fn what_finds_no_room_is_not_kept_and_nothing_else_is_lost() {
        let mut asked = Asked::new(1);
        let names = 0..2 * PLACES as u64;
        names.clone().for_each(|name| asked.insert(0, name));
        let kept = asked.awaited(0);
        assert!((PLACES / 2..=PLACES).contains(&(kept as usize)), "{kept}");
        let found = names.filter(|name| asked.remove(0, *name)).count();
        assert_eq!((found, asked.awaited(0)), (kept as usize, 0));
    }
}
