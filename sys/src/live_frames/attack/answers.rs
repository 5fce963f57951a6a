//! Replies judged, timed and counted by part and client where the driver hands them over.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::bpf::{Attached, io_error};
use crate::live_frames::object::{ATTACK, Programs};
use crate::live_frames::replies::{KINDS, LATENCY_BUCKETS, address_words, each_latency, sum_over_cores};
use crate::live_frames::{AttachMode, Interval, LiveError, ReplyCounts};

use super::{PARTS, read_all, write_all};

/// Where the octets, and behind them the histogram, begin in `struct answer_counts`.
const OCTETS: usize = KINDS;
const LATENCY: usize = OCTETS + 1;
const WORDS: usize = LATENCY + LATENCY_BUCKETS;

/// Which replies to count, and what to expect of them. Honest clients first, then the flood's.
#[derive(Clone, Copy, Debug)]
pub struct AnswerSetting {
    /// The index of the interface that they arrive at.
    pub interface: u32,
    /// Whom the requests go to.
    pub target: SocketAddr,
    /// The secret of the requests' cookies.
    pub key: u64,
    /// The versions that a reply may have: bit n for version n.
    pub versions: u8,
    /// The modes that a reply may have: bit n for mode n.
    pub modes: u8,
    /// The word that tells clients apart, of each part's first.
    pub first: [u32; PARTS],
    /// How many clients each part has, whose addresses follow the first's without a gap.
    pub clients: [u32; PARTS],
    /// The least interval between a part's requests.
    pub interval: [Interval; PARTS],
    /// So many of the flood's first clients are counted one by one.
    pub counted: u32,
}

/// What a part got back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answers {
    /// By kind.
    pub replies: ReplyCounts,
    /// UDP payload octets of all of them.
    pub octets: u64,
}

/// What a client got back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClientAnswers {
    /// Replies with the time, and those that say there is none.
    pub answered: u64,
    /// Kisses of any code.
    pub kissed: u64,
}

/// Counts replies on an interface for as long as it lives, however the process ends.
pub struct AnswerCounter {
    attached: Attached,
    counts: MapHandle,
    by_client: MapHandle,
    counted: u32,
}

impl AnswerCounter {
    /// Begins to count: in the driver, or behind it where that can't be ([`mode`](Self::mode)).
    ///
    /// # Errors
    /// What this process or kernel lacks, or that the interface has another program, which stays.
    pub fn attach(setting: &AnswerSetting) -> Result<Self, LiveError> {
        let words = setting_words(setting);
        let programs = Programs::load_sized(
            ATTACK,
            &["count_parts"],
            &[
                (".rodata.answers", Some(&words)),
                ("answers", None),
                ("answered_cookies", None),
                ("by_client", None),
            ],
            &[("by_client", setting.counted.max(1))],
        )?;
        let counts = programs.map("answers")?;
        assert_eq!(counts.value_size() as usize, WORDS * 8, "the counts are laid out as the program's");
        Ok(Self {
            attached: programs.attach("count_parts", setting.interface)?,
            counts,
            by_client: programs.map("by_client")?,
            counted: setting.counted,
        })
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
    pub fn answers(&self) -> io::Result<[Answers; PARTS]> {
        let words = [self.words(0)?, self.words(1)?];
        Ok(words.map(|words| Answers { replies: ReplyCounts::of_words(&words), octets: words[OCTETS] }))
    }

    /// A part's latencies, as [`ReplyCounter::latency`](crate::live_frames::ReplyCounter::latency) has them.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn latency(&self, part: usize, mut each: impl FnMut(u64, u64)) -> io::Result<()> {
        each_latency(&self.words(part)?[LATENCY..], &mut each);
        Ok(())
    }

    /// What each of the flood's clients that are counted got.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn by_client(&self) -> io::Result<Vec<ClientAnswers>> {
        let words = read_all(&self.by_client, self.counted, 2)?;
        let (pairs, _) = words.as_chunks();
        Ok(pairs.iter().map(|&[answered, kissed]| ClientAnswers { answered, kissed }).collect())
    }

    /// Begins anew. What arrives meanwhile counts before or after, and a few may be lost.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn reset(&self) -> io::Result<()> {
        let cores = libbpf_rs::num_possible_cpus().map_err(io_error)?;
        let zeros = vec![vec![0; WORDS * 8]; cores];
        for part in 0..PARTS {
            self.counts.update_percpu(&key(part), &zeros, MapFlags::ANY).map_err(io_error)?;
        }
        write_all(&self.by_client, &vec![0; 2 * self.counted as usize])
    }

    fn words(&self, part: usize) -> io::Result<Vec<u64>> {
        sum_over_cores(&self.counts, &key(part), WORDS)
    }
}

fn key(part: usize) -> [u8; 4] {
    u32::try_from(part).expect("one of two parts").to_ne_bytes()
}

/// `answers_setting`.
fn setting_words(setting: &AnswerSetting) -> [u64; 14] {
    let [address, rest] = address_words(setting.target.ip());
    let [first, clients] = [setting.first, setting.clients].map(|words| words.map(u64::from));
    let shift = setting.interval.map(|interval| u64::from(interval.ns().ilog2()));
    [
        address,
        rest,
        u64::from(setting.target.is_ipv6()),
        u64::from(setting.target.port().to_be()),
        setting.key,
        u64::from(setting.modes),
        u64::from(setting.versions),
        first[0],
        first[1],
        clients[0],
        clients[1],
        shift[0],
        shift[1],
        u64::from(setting.counted),
    ]
}

impl fmt::Debug for AnswerCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerCounter").field("attached", &self.attached).finish_non_exhaustive()
    }
}
