//! A server under attack: honest clients, and a flood beside them, from one process, their replies counted apart.
//!
//! ```text
//! warm-up (honest clients begin, with bursts) → alone (the same without bursts) → attacked (and the flood beside them)
//! ```
//!
//! The honest clients' loss while alone is the baseline for what the flood does to them. In every phase the generator's own
//! lateness and shortfall are told, for each part: a flood that wasn't offered proves nothing.
//!
//! | module | what it is |
//! |---|---|
//! | [`floods`] | the kinds of floods: their octets and whose addresses they have |
//! | [`collisions`] | addresses that share a place in a server's table, under a key that the attacker guesses |
//! | `live` | both parts from inside the kernel |
//! | `sockets` | both parts through sockets, at low rates |
//! | [`report`] | the results: JSON and a table |

pub mod collisions;
pub mod floods;
mod live;
pub mod report;
mod sockets;

use crate::cli::AttackArguments;
use crate::clients::{ClientsError, Prefix};
use crate::mix::MixError;
use crate::session::{SenderName, SessionError};
use crate::target::{self, TargetError};
use floods::{Flood, FloodKind};
use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::live_frames::LiveError;
use maser_sys::packet_socket::WayError;
use report::{AttackDocument, Phase, Setting};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;

/// The requests of a client that has just started (ntpd's and chronyd's `iburst`).
pub const BURST_REQUESTS: u32 = 8;
/// How far apart they are, in seconds.
const BURST_INTERVAL_S: f64 = 2.0;
/// Whose addresses clients have unless told: benchmarking (RFC 2544) and private (RFC 1918) networks; for IPv6 parts of a
/// unique local one (RFC 4193).
const NETWORKS: [[&str; 2]; 2] = [["198.18.0.0/15", "10.0.0.0/8"], ["fd00:1:ffff::/48", "fd00:1::/33"]];

/// Why an attack came to nothing; its text is for the operator.
#[derive(Debug, Error)]
pub enum AttackError {
    /// That server may not be asked, or isn't found.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There can't be such clients.
    #[error(transparent)]
    Clients(#[from] ClientsError),
    /// A network that has no room for clients as floods have them.
    #[error(
        "{0} can't be: a network of the server's address family is needed, of IPv6 32 to 64 bits long, since a client is a /64"
    )]
    Network(Prefix),
    /// A reply must tell whose it is.
    #[error(
        "{honest} and {flood} overlap, of IPv6 in bits 32 to 63: give honest clients and the flood networks of their own"
    )]
    Overlap {
        /// The honest clients'.
        honest: Prefix,
        /// The flood's.
        flood: Prefix,
    },
    /// The mix of the honest clients is known to be right, so this is a rate.
    #[error(transparent)]
    Mix(#[from] MixError),
    /// Sockets can't send such a flood.
    #[error("the flood {0} takes --sender live: sockets have neither its addresses nor its octets")]
    Sockets(&'static str),
    /// There is one sending thread.
    #[error("one core sends both parts; name one with --cores")]
    Cores,
    /// No way but these.
    #[error("an attack is sent by --sender live or udp, not packet")]
    Packet,
    /// The sender inside the kernel counts nanoseconds to the next request in 32 bits.
    #[error("both rates must be at least 0.25 a second; use a lower number of clients for less")]
    Rate,
    /// The way to the server could not be learnt.
    #[error(transparent)]
    Way(#[from] WayError),
    /// The programs inside the kernel could not be used.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The run has failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Fewer colliding addresses than were asked for.
    #[error(
        "{found} addresses of {prefix} collide as asked, not {wanted}: take a shorter prefix or fewer --flood-clients"
    )]
    Collisions {
        /// How many there are.
        found: usize,
        /// How many were asked for.
        wanted: u32,
        /// Where they were looked for.
        prefix: Prefix,
    },
}

/// Clients that follow each other, told apart by one word of their addresses: IPv4's address, of IPv6 bits 32 to 63.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The network that they are from.
    pub prefix: Prefix,
    /// The first client's word.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl Range {
    fn new(prefix: Prefix, target: SocketAddr, count: u32) -> Result<Self, AttackError> {
        if !target::is_private(&prefix) {
            return Err(ClientsError::Public(prefix).into());
        }
        let (first, capacity) = prefix
            .client_words()
            .filter(|_| prefix.contains_family(target.ip()))
            .ok_or(AttackError::Network(prefix))?;
        if u64::from(count) > capacity {
            let capacity = u128::from(capacity);
            return Err(ClientsError::TooMany { prefix, capacity, count }.into());
        }
        Ok(Self { prefix, first, count })
    }

    /// The address of a client, counted from 0.
    #[must_use]
    pub fn address(&self, client: u32) -> IpAddr {
        self.prefix.with_client_word(self.first.wrapping_add(client))
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (one, two) = (u64::from(self.first), u64::from(other.first));
        one < two + u64::from(other.count) && two < one + u64::from(self.count)
    }
}

/// What stays the same through all phases.
#[derive(Clone, Debug)]
struct Plan {
    target: SocketAddr,
    core: usize,
    honest: Range,
    /// Of all honest clients, a second.
    honest_per_s: f64,
    iburst: bool,
    flood: Flood,
    flood_per_s: f64,
    timeout: Duration,
    seed: u64,
}

impl Plan {
    fn new(arguments: &AttackArguments) -> Result<Self, AttackError> {
        let target = target::resolve(&arguments.target, arguments.i_operate_this_target)?;
        let networks = NETWORKS[usize::from(target.is_ipv6())];
        let [from, flood_from] =
            networks.map(|network| network.parse().expect("a constant that is a prefix"));
        let seed = arguments.seed.unwrap_or_else(|| RandomState::new().hash_one("maser-load"));
        let honest = Range::new(arguments.from.unwrap_or(from), target, arguments.regulars)?;
        let range = Range::new(
            arguments.flood_from.unwrap_or(flood_from),
            target,
            arguments.flood_clients.unwrap_or(arguments.flood.clients()),
        )?;
        let flood = Flood::new(arguments.flood, range, arguments.guess(), seed)?;
        if honest.overlaps(&flood.range) {
            return Err(AttackError::Overlap { honest: honest.prefix, flood: flood.range.prefix });
        }
        if arguments.rate < live::RATE_MIN || arguments.flood_rate < live::RATE_MIN {
            return Err(AttackError::Rate);
        }
        let core = match &arguments.cores {
            Some(cores) => *cores.0.first().filter(|_| cores.0.len() == 1).ok_or(AttackError::Cores)?,
            None => {
                core_affinity::get_core_ids()
                    .and_then(|ids| ids.last().copied())
                    .ok_or(AttackError::Cores)?
                    .id
            }
        };
        Ok(Self {
            target,
            core,
            honest,
            honest_per_s: arguments.rate,
            iburst: arguments.iburst,
            flood,
            flood_per_s: arguments.flood_rate,
            timeout: arguments.timeout,
            seed,
        })
    }

    /// Clients that send their bursts at a time, so that a client's requests are 2 s apart if there are enough of them.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded on both sides before"
    )]
    fn cohort(&self) -> u32 {
        (self.honest_per_s * BURST_INTERVAL_S).clamp(1.0, f64::from(self.honest.count)) as u32
    }
}

/// A phase: who sends, and for how long.
#[derive(Clone, Copy, Debug)]
struct Step {
    name: &'static str,
    time: Duration,
    bursts: bool,
    flood: bool,
}

fn steps(arguments: &AttackArguments) -> Vec<Step> {
    let step = |name, time, flood| Step { name, time, bursts: false, flood };
    let warm_up =
        arguments.warm_up.map(|time| Step { bursts: arguments.iburst, ..step("warm-up", time, false) });
    let alone = step("alone", arguments.alone.unwrap_or(arguments.time), false);
    warm_up.into_iter().chain([alone, step("attacked", arguments.time, true)]).collect()
}

/// Attacks as asked; `stop` ends it before its time, with what was measured until then.
///
/// # Errors
/// What is in the way, and what to do about it.
pub fn run(arguments: &AttackArguments, stop: &Arc<AtomicBool>) -> Result<AttackDocument, AttackError> {
    let plan = Plan::new(arguments)?;
    let begun_unix_s = read(KernelClock::Realtime) / 1_000_000_000;
    let mut phases: Vec<Phase> = Vec::new();
    match arguments.sender {
        SenderName::Live => {
            let mut live = live::LiveAttack::open(&plan, stop)?;
            for step in steps(arguments) {
                phases.push(live.phase(&plan, step)?);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        SenderName::Udp => {
            let mut sockets = sockets::SocketAttack::open(&plan, stop)?;
            for step in steps(arguments) {
                phases.push(sockets.phase(&plan, step)?);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        SenderName::Packet => return Err(AttackError::Packet),
    }
    Ok(AttackDocument {
        format: report::FORMAT,
        program: format!("maser-load {}", env!("CARGO_PKG_VERSION")),
        command: std::env::args().skip(1).collect(),
        begun_unix_s,
        interrupted: stop.load(Ordering::Relaxed),
        setting: Setting {
            target: plan.target.to_string(),
            sender: arguments.sender.word().to_owned(),
            flood: plan.flood.kind.name().to_owned(),
            flood_from: plan.flood.range.prefix.to_string(),
            flood_clients: plan.flood.clients(),
            from: plan.honest.prefix.to_string(),
            regulars: plan.honest.count,
        },
        phases,
    })
}

/// Whether a flood is one that sockets can send.
const fn mix_of(kind: FloodKind) -> Option<crate::mix::MixName> {
    use crate::mix::MixName;
    match kind {
        FloodKind::OneAddress => Some(MixName::Flood),
        FloodKind::Many | FloodKind::KodIgnorers | FloodKind::Denied => Some(MixName::Spoofed),
        FloodKind::Monlist => Some(MixName::Monlist),
        FloodKind::Garbage => Some(MixName::Garbage),
        FloodKind::Spoofed | FloodKind::Collisions | FloodKind::Oversize | FloodKind::Zipf => None,
    }
}
