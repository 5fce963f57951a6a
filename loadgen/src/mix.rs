//! What the requests are: the mixes by name, and the octets of each request by its number.
//!
//! A [`Mix`] is made once; from then on the octets of a request follow from its number and the seed alone, so
//! that a run can be repeated and nothing about a request but its [`Expectation`] needs to be kept. Writing
//! one doesn't allocate.
//!
//! | module | what it is |
//! |---|---|
//! | `variants` | the kinds of requests, as their octets |
//! | `garbage` | octets that are no request |
//!
//! What clients really send is in RFC 5905, RFC 8633 and the packets of the programs named; the shares of the
//! blends are our own choice. Nothing here reads a clock: whoever sends gives the transmit timestamp.

mod garbage;
mod variants;

#[cfg(test)]
mod tests;

use crate::cookie::scramble;
use crate::key::Key;
use crate::reply::Expectation;
use clap::ValueEnum;
use maser_core::wire::ntp::LENGTH as HEADER_LENGTH;
use std::ops::Range;
use variants::Variant;

/// The longest request of any mix, in octets.
pub const LENGTH_MAX: usize = 200;
/// How many variants a mix has at most: what a sender inside the kernel has room for.
pub const VARIANTS_MAX: usize = 64;
/// The header up to its transmit timestamp, which a sender fills in.
pub const HEAD_LENGTH: usize = 40;
/// Where the timestamps of a request are.
const ORIGIN: Range<usize> = 24..32;
const RECEIVE: Range<usize> = 32..40;
const TRANSMIT: Range<usize> = HEAD_LENGTH..HEADER_LENGTH;

/// How many requests a client of `iburst` sends (ntpd's and chronyd's manuals).
const BURST_REQUESTS: u64 = 8;
/// How far apart they are, in seconds.
const BURST_INTERVAL_S: f64 = 2.0;

/// What the requests are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum MixName {
    /// Simple clients of versions 1 to 4: nothing but a first octet and a transmit timestamp
    Sntp,
    /// chronyd and ntpd, version 4, with and without a synchronised clock of their own
    Ntpv4,
    /// ntpv4 in bursts: each client sends 8 requests 2 s apart, one group of clients after the other; closer together where
    /// --clients are fewer than 2 s of the rate
    Iburst,
    /// Windows: version 3, modes 3 and 1; a quarter asks for a domain's signature, which expects silence
    W32time,
    /// Peers: mode 1, which mode 2 answers
    Symmetric,
    /// Version 4 signed with the key of --key
    Mac,
    /// Phones' apps: version 4, poll 4, precision -6, root delay and dispersion 1 s
    Phone,
    /// A blend as a public server might see it, in 64ths of our own choosing: simple clients 28, ntpd 12,
    /// chronyd 10, phones 10, Windows 3, peers 1
    Pool,
    /// Attack: all requests from one address
    Flood,
    /// Attack: requests from every address of --clients in turn, up to millions
    Spoofed,
    /// Attack: the amplifiers' probes, monlist of mode 7 and readvar of mode 6; expects silence
    Monlist,
    /// Attack: random octets of random lengths, cut headers, wrong versions and modes; expects silence
    Garbage,
}

impl MixName {
    /// As it is written on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sntp => "sntp",
            Self::Ntpv4 => "ntpv4",
            Self::Iburst => "iburst",
            Self::W32time => "w32time",
            Self::Symmetric => "symmetric",
            Self::Mac => "mac",
            Self::Phone => "phone",
            Self::Pool => "pool",
            Self::Flood => "flood",
            Self::Spoofed => "spoofed",
            Self::Monlist => "monlist",
            Self::Garbage => "garbage",
        }
    }
}

/// Why there is no such mix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MixError {
    /// Nothing to sign with.
    #[error("the mix `mac` signs its requests: give a key that the server has with --key ID:TYPE:HEX")]
    KeyMissing,
    /// Nothing to be signed.
    #[error("the mix `{0}` signs nothing: leave --key out, or use --mix mac")]
    KeyUnused(&'static str),
    /// Nobody to send.
    #[error("a mix needs at least one client")]
    NoClients,
    /// Nothing to be sent.
    #[error("a rate is a number above 0, in requests a second")]
    Rate,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Whatever the mix has: its client doesn't interleave.
    Mix,
    /// Basic mode, by a client that interleaves and has had no reply.
    Basic,
    /// Interleaved mode.
    Interleaved {
        /// The receive timestamp of the server's last reply.
        server_receive: u64,
    },
}

/// What stands for the client's own stamps in a request; another for each, since replies have one of them as their origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamps {
    /// When the request leaves.
    pub transmit: u64,
    /// When the server's last reply arrived.
    pub receive: u64,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Octets of the request.
    pub length: usize,
    /// What its reply must be like.
    pub expectation: Expectation,
}

/// The requests of a run.
#[derive(Clone, Debug)]
pub struct Mix {
    name: MixName,
    clients: u32,
    /// How many clients send at a time: those of one burst, else all.
    cohort: u32,
    /// In the order in which they are sent, again and again; none where every request is made up.
    variants: Vec<Variant>,
    key: Option<Key>,
    seed: u64,
}

impl Mix {
    /// The mix `name` of `clients` clients, who send `rate_per_s` requests a second together.
    ///
    /// # Errors
    /// [`MixError`].
    pub fn new(
        name: MixName,
        clients: u32,
        rate_per_s: f64,
        key: Option<Key>,
        seed: u64,
    ) -> Result<Self, MixError> {
        if clients == 0 {
            return Err(MixError::NoClients);
        }
        if !(rate_per_s > 0.0 && rate_per_s.is_finite()) {
            return Err(MixError::Rate);
        }
        match (&key, name == MixName::Mac) {
            (None, true) => return Err(MixError::KeyMissing),
            (Some(_), false) => return Err(MixError::KeyUnused(name.name())),
            _ => {}
        }
        let cohort = if name == MixName::Iburst { burst_cohort(clients, rate_per_s) } else { clients };
        Ok(Self { name, clients, cohort, variants: variants::of(name, seed), key, seed })
    }

    /// Who sends a request, from 0 on: all in turn; those of a burst 8 times in turn, then the next; in a
    /// flood only the first.
    #[inline]
    #[must_use]
    pub fn client(&self, number: u64) -> u32 {
        let (clients, cohort) = (u64::from(self.clients), u64::from(self.cohort));
        let client = if self.name == MixName::Flood {
            0
        } else if self.name == MixName::Iburst {
            number / (BURST_REQUESTS * cohort) * cohort + number % cohort
        } else {
            number
        };
        u32::try_from(client % clients).expect("below a number of 32 bits")
    }

    /// Writes a request into `into`, which has room for [`LENGTH_MAX`] octets.
    ///
    /// Also basic requests that have a receive timestamp have their own: who answers them interleaved is found out.
    ///
    /// # Panics
    /// If there isn't room.
    #[inline]
    pub fn write(&self, number: u64, stamps: Stamps, ask: Ask, into: &mut [u8]) -> Written {
        let into: &mut [u8; LENGTH_MAX] = into.first_chunk_mut().expect("room for the longest request");
        let variant = match ask {
            Ask::Mix => in_turn(&self.variants, number),
            Ask::Basic | Ask::Interleaved { .. } => in_turn(&variants::CHRONYD, number),
        };
        let Some(variant) = variant else {
            return garbage::write(scramble(number ^ self.seed), stamps.transmit, into);
        };
        let octets = variant.octets();
        into[..octets.len()].copy_from_slice(octets);
        if octets.len() >= HEADER_LENGTH {
            into[TRANSMIT].copy_from_slice(&stamps.transmit.to_be_bytes());
        }
        let mut written = Written { length: octets.len(), expectation: variant.expectation() };
        if let Ask::Interleaved { server_receive } = ask {
            into[ORIGIN].copy_from_slice(&server_receive.to_be_bytes());
            written.expectation.interleaved = true;
        }
        if written.expectation.interleaved || variant.has_receive() {
            into[RECEIVE].copy_from_slice(&stamps.receive.to_be_bytes());
        }
        if let Some(key) = &self.key {
            written.length = key.sign(into, octets.len());
            written.expectation.mac = true;
            written.expectation.length = u16::try_from(written.length).expect("at most LENGTH_MAX");
        }
        written
    }

    /// The key that signs the requests, and must sign the replies.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// All requests, for a sender that only fills in transmit timestamps and takes its clients in turn: at
    /// most [`VARIANTS_MAX`] headers up to that field. None where the mix has requests of another length, or
    /// that expect silence, or that don't come in turn.
    #[must_use]
    pub fn live_variants(&self) -> Option<Vec<[u8; HEAD_LENGTH]>> {
        let in_turn = self.name != MixName::Iburst && self.key.is_none();
        let alike = !self.variants.is_empty()
            && self
                .variants
                .iter()
                .all(|variant| variant.octets().len() == HEADER_LENGTH && !variant.expectation().silence);
        (in_turn && alike).then(|| {
            let head = |variant: &Variant| *variant.octets().first_chunk().expect("a whole header");
            self.variants.iter().map(head).collect()
        })
    }
}

/// The variants one after the other, again and again; none of none.
#[inline]
fn in_turn(variants: &[Variant], number: u64) -> Option<&Variant> {
    // At most VARIANTS_MAX, so that both are small numbers.
    let index = number.checked_rem(variants.len() as u64)?;
    variants.get(usize::try_from(index).ok()?)
}

/// How many clients fill a burst's interval at this rate.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded on both sides before")]
fn burst_cohort(clients: u32, rate_per_s: f64) -> u32 {
    (rate_per_s * BURST_INTERVAL_S).clamp(1.0, f64::from(clients)) as u32
}
