//! Replies judged, timed and counted where the driver hands them over.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::bpf::{Attached, io_error};

use super::object::{FIRST, Programs, words_of};
use super::{AttachMode, Interval, LiveError};

/// Sub-buckets of an octave, as a power of 2.
const SUB_BITS: u32 = 5;
const LATENCY_BITS: u32 = 34;
pub(super) const LATENCY_BUCKETS: usize = ((LATENCY_BITS - SUB_BITS + 1) << SUB_BITS) as usize;
pub(super) const KINDS: usize = 16;
/// Where the histogram begins in `struct reply_counts`, behind the counts and two words more.
const LATENCY: usize = KINDS + 2;
const WORDS: usize = LATENCY + LATENCY_BUCKETS;

/// Which replies to count, and what to expect of them.
#[derive(Clone, Copy, Debug)]
pub struct CountSetting {
    /// The index of the interface that they arrive at.
    pub interface: u32,
    /// Whom the requests go to.
    pub target: SocketAddr,
    /// The secret of the requests' cookies.
    pub key: u64,
    /// The target is a bare echo server: the cookie stands where the request had it, and nothing else is looked at.
    pub echo: bool,
    /// One valid reply in so many goes on to the network stack, so that a packet socket sees it whole; 0: none.
    pub sample: u32,
    /// The interval between all requests to the target.
    pub interval: Interval,
    /// The versions that a reply may have: bit n for version n.
    pub versions: u8,
    /// The modes that a reply may have: bit 4 for what answers clients, bit 2 for what answers symmetric peers.
    pub modes: u8,
}

/// What came back: each reply counts as the first of these that it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReplyCounts {
    /// Longer than the request: an amplifier.
    pub longer: u64,
    /// Shorter than the request.
    pub shorter: u64,
    /// No answer to a request of the last 17 s: its origin timestamp is none of our cookies.
    pub origin: u64,
    /// Another answer to a request.
    pub duplicate: u64,
    /// Of a mode that wasn't expected.
    pub mode: u64,
    /// Of a version that wasn't expected.
    pub version: u64,
    /// Kisses: `RATE`.
    pub kiss_rate: u64,
    /// Kisses: `DENY`.
    pub kiss_deny: u64,
    /// Kisses: `RSTR`.
    pub kiss_rstr: u64,
    /// Kisses of any other code.
    pub kiss_other: u64,
    /// The server says that it has no time.
    pub unsynchronised: u64,
    /// Stratum above 15.
    pub stratum: u64,
    /// It left before its request came, by its own timestamps.
    pub order: u64,
    /// Nothing wrong.
    pub valid: u64,
    /// Valid ones that went on to the network stack.
    pub sampled: u64,
}

impl ReplyCounts {
    /// From a program's counts, in the order of `enum kind`.
    pub(super) fn of_words(words: &[u64]) -> Self {
        Self {
            longer: words[0],
            shorter: words[1],
            origin: words[2],
            duplicate: words[3],
            mode: words[4],
            version: words[5],
            kiss_rate: words[6],
            kiss_deny: words[7],
            kiss_rstr: words[8],
            kiss_other: words[9],
            unsynchronised: words[10],
            stratum: words[11],
            order: words[12],
            valid: words[13],
            sampled: 0,
        }
    }
}

/// Counts replies on an interface for as long as it lives, however the process ends.
pub struct ReplyCounter {
    attached: Attached,
    counts: MapHandle,
}

impl ReplyCounter {
    /// Begins to count: in the driver, or behind it where that can't be ([`mode`](Self::mode)).
    ///
    /// # Errors
    /// What this process or kernel lacks, or that the interface has another program, which stays.
    pub fn attach(setting: &CountSetting) -> Result<Self, LiveError> {
        let words = setting_words(setting);
        let programs = Programs::load(
            &["count_replies"],
            &[(".rodata.count", Some(&words)), ("replies", None), ("seen", None)],
        )?;
        let counts = programs.map("replies")?;
        assert_eq!(counts.value_size() as usize, WORDS * 8, "the counts are laid out as the program's");
        Ok(Self { attached: programs.attach("count_replies", setting.interface)?, counts })
    }

    /// Where the program runs.
    #[must_use]
    pub const fn mode(&self) -> AttachMode {
        self.attached.mode
    }

    /// What came back so far.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn counts(&self) -> io::Result<ReplyCounts> {
        let words = sum_over_cores(&self.counts, FIRST, WORDS)?;
        Ok(ReplyCounts { sampled: words[KINDS], ..ReplyCounts::of_words(&words) })
    }

    /// How long after their due time valid and unsynchronised replies came: `each` gets the middle of a bucket in
    /// nanoseconds, which is within 1/64 of its values, and how many there are, from short to long.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn latency(&self, mut each: impl FnMut(u64, u64)) -> io::Result<()> {
        each_latency(&sum_over_cores(&self.counts, FIRST, WORDS)?[LATENCY..], &mut each);
        Ok(())
    }

    /// Begins anew. What arrives meanwhile counts before or after, and a few may be lost.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn reset(&self) -> io::Result<()> {
        let cores = libbpf_rs::num_possible_cpus().map_err(io_error)?;
        self.counts.update_percpu(FIRST, &vec![vec![0; WORDS * 8]; cores], MapFlags::ANY).map_err(io_error)
    }
}

/// A histogram's buckets that hold anything, from short to long: their middle in nanoseconds, and how many.
pub(super) fn each_latency(buckets: &[u64], each: &mut impl FnMut(u64, u64)) {
    for (bucket, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        each(middle_of(bucket), *count);
    }
}

/// A map's value, its words added up over the cores.
pub(super) fn sum_over_cores(map: &MapHandle, key: &[u8], words: usize) -> io::Result<Vec<u64>> {
    let mut sums = vec![0_u64; words];
    for core in map.lookup_percpu(key, MapFlags::ANY).map_err(io_error)?.unwrap_or_default() {
        sums.iter_mut().zip(words_of(&core)).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
    }
    Ok(sums)
}

/// The middle of a latency's bucket.
fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let Some(octave) = (bucket >> SUB_BITS).checked_sub(1) else { return bucket };
    let sub = bucket % (1 << SUB_BITS) + (1 << SUB_BITS);
    (sub << octave) + (1 << octave) / 2
}

/// `count_setting`.
fn setting_words(setting: &CountSetting) -> [u64; 10] {
    let [first, second] = address_words(setting.target.ip());
    [
        first,
        second,
        u64::from(setting.target.is_ipv6()),
        u64::from(setting.target.port().to_be()),
        setting.key,
        u64::from(setting.echo),
        u64::from(setting.modes),
        u64::from(setting.versions),
        u64::from(setting.sample),
        u64::from(setting.interval.ns().ilog2()),
    ]
}

/// An address as it lies in a frame; IPv4's stands in the low half of the first word, whatever the order of this machine.
pub(super) fn address_words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(ip) => [u64::from(u32::from_ne_bytes(ip.octets())), 0],
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let mut halves = words_of(&octets);
            std::array::from_fn(|_| halves.next().unwrap_or(0))
        }
    }
}

impl fmt::Debug for ReplyCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyCounter").field("attached", &self.attached).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_lie_end_to_end_up_to_17_seconds() {
        let narrow: Vec<u64> = (0..64).map(middle_of).collect();
        assert_eq!(narrow, (0..64).collect::<Vec<u64>>());
        assert_eq!((middle_of(64), middle_of(65), middle_of(96)), (65, 67, 130));
        let last = middle_of(LATENCY_BUCKETS - 1);
        assert!(last < 1 << LATENCY_BITS && last > (1 << LATENCY_BITS) / 64 * 63, "{last}");
    }
}
