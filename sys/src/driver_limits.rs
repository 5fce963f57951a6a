//! What the XDP program of one interface is told about whom to drop: the limits, and how much is dropped in overload.
//!
//! Written by the server while the program runs, without a system call. The words that the program reads one after the
//! other may be of two settings when these are being changed: a packet or two are then judged by neither.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::shared_words::{Access, SharedWords};

/// So many queues of an interface can have a socket.
pub const QUEUES_MAX: u32 = 1024;

/// Words of `struct limits`, and of `struct floor` behind the settings.
const SETTINGS: usize = 8;
const FLOOR: usize = 8;
/// Of its words: whether few are refused.
const FEW_REFUSED: usize = 1;
/// The map's value.
pub(crate) const WORDS: usize = SETTINGS + QUEUES_MAX as usize * FLOOR;

/// The settings' places.
const KEY: [usize; 2] = [0, 1];
const OWED_MAX: usize = 2;
const OWED_POSSIBLE: usize = 3;
const SETS: usize = 4;
const ON: usize = 5;
const LISTS: usize = 6;

/// The table's unit of time, 4,096 ns.
const UNIT_SHIFT: u32 = 12;
/// What is over its limit by so much is dropped here, 8 ms or half of the interval, whichever is less: a worker that reads
/// the clock later might allow it.
const MARGIN_UNITS: u64 = 8_000_000 >> UNIT_SHIFT;

/// The limits, as the program has to know them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriverSettings {
    /// The hash's key.
    pub key: [u64; 2],
    /// Sets of the table, from the first on, that are addresses'.
    pub address_sets: u32,
    /// What an address may ask; none: as much as it likes.
    pub rate: Option<DriverRate>,
    /// Whether the lists of sources hold ([`AccessTries`](crate::access_tries::AccessTries)).
    pub lists: bool,
}

/// An address's limit, in units of 4,096 ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriverRate {
    /// From one request to the next.
    pub interval: u64,
    /// So much an address may owe: the interval times the burst.
    pub burst: u64,
}

/// The words, mapped. A clone is the same.
#[derive(Clone, Debug)]
pub struct DriverLimits(Arc<SharedWords>);

impl DriverLimits {
    /// Of what [`limits_map`](crate::xdp_program::XdpProgram::limits_map) gave, with what is in it. Closes it: the mapping
    /// keeps it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for another map; else none that isn't the kernel's fault.
    pub fn from_fd(map: OwnedFd) -> io::Result<Self> {
        SharedWords::of_map(map, WORDS, Access::Write).map(|words| Self(Arc::new(words)))
    }

    /// From now on the program drops by these; without any, nothing. The floors stay.
    pub fn set(&self, settings: Option<&DriverSettings>) {
        // Whoever sees it on has mostly seen the rest: the program reads it first, and orders nothing.
        self.0[ON].store(0, Ordering::Release);
        let Some(settings) = settings else { return };
        let (owed_max, owed_possible) = match settings.rate {
            Some(DriverRate { interval, burst }) => {
                let margin = MARGIN_UNITS.min(interval / 2);
                ((burst + margin).saturating_sub(interval), burst + MARGIN_UNITS)
            }
            // Nobody owes that much.
            None => (i64::MAX.cast_unsigned(), 0),
        };
        let words = [
            (KEY[0], settings.key[0]),
            (KEY[1], settings.key[1]),
            (OWED_MAX, owed_max),
            (OWED_POSSIBLE, owed_possible),
            (SETS, settings.address_sets.into()),
            (LISTS, settings.lists.into()),
        ];
        for (place, word) in words {
            self.0[place].store(word, Ordering::Relaxed);
        }
        self.0[ON].store(1, Ordering::Release);
    }

    /// How much is dropped of what comes by a queue; all queues' are 0 at first.
    ///
    /// # Panics
    /// For a queue from [`QUEUES_MAX`] on.
    #[must_use]
    pub fn floor_of(&self, queue: u32) -> Floor {
        assert!(queue < QUEUES_MAX, "queue {queue}, and the XDP program knows {QUEUES_MAX}");
        Floor { words: Arc::clone(&self.0), place: SETTINGS + queue as usize * FLOOR }
    }

    /// Nothing is dropped for overload, and everybody is looked up, whatever a server before this one has left.
    pub fn clear_floors(&self) {
        for word in &self.0[SETTINGS..] {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// How much is dropped of what comes by one queue while there is more than can be answered, and whether sources are looked up
/// while there isn't.
#[derive(Clone, Debug)]
pub struct Floor {
    words: Arc<SharedWords>,
    place: usize,
}

impl Floor {
    /// Whole levels in the upper 16 bits: addresses of lower ones are dropped. In the lower 16 bits the part of 65,536 that
    /// is dropped of those of this level. An address that isn't in the table has level 0.
    #[inline]
    pub fn set(&self, floor: u32) {
        self.write(self.place, floor.into());
    }

    /// While few are refused, and the floor is 0, nobody is looked up: the server refuses them.
    #[inline]
    pub fn set_few_refused(&self, few: bool) {
        self.write(self.place + FEW_REFUSED, few.into());
    }

    /// The line is the driver's to read: it is left alone while nothing changes.
    fn write(&self, place: usize, value: u64) {
        let word: &AtomicU64 = &self.words[place];
        if word.load(Ordering::Relaxed) != value {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What was set.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u32 {
        u32::try_from(self.words[self.place].load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }
}
