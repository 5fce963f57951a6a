//! An upstream server and the way to it, asked by the client that the daemon uses.

use crate::random::Random;
use maser_core::discipline::{Exchange, LeapClaim};
use maser_core::snapshot::Growth;
use maser_core::time::{Instant, NtpShort, NtpTimestamp, Rate, Span, Ticks, Utc};
use maser_core::upstream::{Action, Association, OWN_REFERENCE_IDS_MAX, Reception, Settings, Stamps};

/// What a server and the way to it are like.
#[derive(Clone, Debug)]
pub struct NetworkShape {
    /// The least that a packet takes one way, s.
    pub delay: f64,
    /// What queues add on the average, s, each way.
    pub queue: f64,
    /// How much longer the way back is, s.
    pub asymmetry: f64,
    /// A share of packets is lost.
    pub lost: f64,
    /// The server is off by this, s.
    pub lie: f64,
    /// It says of itself that it can be off by this, s.
    pub root_dispersion: f64,
    /// Its stratum.
    pub stratum: u8,
    /// What it says of leap seconds: the first leap bits of its replies (0 to 2).
    pub leap: u8,
    /// Poll intervals, log₂ s, least and greatest.
    pub poll: (i8, i8),
}

impl NetworkShape {
    /// An honest one, `delay` seconds away each way.
    #[must_use]
    pub const fn honest(delay: f64) -> Self {
        Self {
            delay,
            queue: delay / 10.0,
            asymmetry: 0.0,
            lost: 0.01,
            lie: 0.0,
            root_dispersion: 20e-6,
            stratum: 1,
            leap: 0,
            poll: (4, 6),
        }
    }
}

/// A request that has just been sent and will be answered.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    request: [u8; 48],
    /// From the true second's beginning, s: when it left and when the reply comes.
    pub sent: f64,
    /// See `sent`.
    pub received: f64,
    /// When it was at the server.
    served: f64,
}

/// A server and the association with it.
#[derive(Clone, Debug)]
pub struct Network {
    shape: NetworkShape,
    random: Random,
    association: Association,
    /// Where in the second it is asked.
    moment: f64,
}

/// The server takes so long to answer, s.
const SERVICE: f64 = 20e-6;

impl Network {
    /// Asked from `now` on.
    #[must_use]
    pub fn new(shape: NetworkShape, rate: Rate, now: Ticks, mut random: Random) -> Self {
        let settings = Settings {
            burst: true,
            interleaved: false,
            min_poll: shape.poll.0,
            max_poll: shape.poll.1,
            rate,
            growth: Growth::PHI,
            own_reference_ids: [[0; 4]; OWN_REFERENCE_IDS_MAX],
        };
        let moment = random.between(0.2, 0.6);
        Self { shape, association: Association::new(settings, now), random, moment }
    }

    /// Where in a second it is asked, s.
    #[must_use]
    pub const fn moment(&self) -> f64 {
        self.moment
    }

    /// What it is like; a scenario may change it.
    pub const fn shape_mut(&mut self) -> &mut NetworkShape {
        &mut self.shape
    }

    /// Asks if it is time, `now` being the counter at [`moment`](Self::moment).
    pub fn ask(&mut self, now: Ticks) -> Option<Asked> {
        let numbers = [self.random.bits(), self.random.bits(), self.random.bits()];
        let there = self.shape.delay + self.random.exponential(self.shape.queue);
        let back = self.shape.delay + self.shape.asymmetry + self.random.exponential(self.shape.queue);
        let lost = self.random.chance(self.shape.lost);
        match self.association.next_action(now, numbers) {
            Action::Send(request) if !lost => {
                let served = self.moment + there;
                Some(Asked { request, sent: self.moment, served, received: served + SERVICE + back })
            }
            Action::Send(_) | Action::Wait(_) | Action::Nothing => None,
        }
    }

    /// The reply comes; `utc` is true UTC at the true second's beginning.
    pub fn reply(
        &mut self,
        asked: &Asked,
        sent: Ticks,
        received: Ticks,
        utc: Instant<Utc>,
    ) -> Option<Exchange> {
        let moment = |at: f64| NtpTimestamp::from_utc(utc + crate::span(at + self.shape.lie));
        let mut reply = [0; 48];
        let [_, _, poll, ..] = asked.request;
        reply[..4].copy_from_slice(&[self.shape.leap << 6 | 0x24, self.shape.stratum, poll, 0xEC]);
        let dispersion = NtpShort::from_span_up(crate::span(self.shape.root_dispersion));
        reply[8..12].copy_from_slice(&dispersion.bits().to_be_bytes());
        reply[12..16].copy_from_slice(b"SIM\0");
        reply[16..24].copy_from_slice(&moment(0.0).bits().to_be_bytes());
        reply[24..32].copy_from_slice(&asked.request[40..48]);
        reply[32..40].copy_from_slice(&moment(asked.served).bits().to_be_bytes());
        reply[40..48].copy_from_slice(&moment(asked.served + SERVICE).bits().to_be_bytes());
        let stamps = Stamps { sent, received, error: Span::from_nanos(100) };
        match self.association.on_reply(&reply, stamps, utc) {
            Reception::Accepted(exchange) => Some(exchange),
            Reception::Filtered | Reception::Refused(_) => None,
        }
    }

    /// What it says of leap seconds.
    #[must_use]
    pub const fn leap(&self) -> LeapClaim {
        match self.shape.leap {
            1 => LeapClaim::Insert,
            2 => LeapClaim::Delete,
            _ => LeapClaim::None,
        }
    }
}
