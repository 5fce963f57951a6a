//! A simulated server, the way to it and the time that passes; what a test knows and the association doesn't.

use crate::discipline::Exchange;
use crate::snapshot::Growth;
use crate::time::{BUILD_DATE, Instant, NtpTimestamp, Rate, Span, Ticks, Utc};
use crate::upstream::{Action, Association, OWN_REFERENCE_IDS_MAX, Reception, Settings, Stamps};

pub(super) const SECOND_NS: i64 = 1_000_000_000;
pub(super) const START: Instant<Utc> = Instant::from_unix(1_795_000_000, 0);
pub(super) const OWN_ID: [u8; 4] = [192, 0, 2, 1];

pub(super) fn settings() -> Settings {
    let mut own_reference_ids = [[0; 4]; OWN_REFERENCE_IDS_MAX];
    own_reference_ids[0] = OWN_ID;
    Settings {
        burst: true,
        interleaved: false,
        min_poll: 4,
        max_poll: 10,
        rate: Rate::NANOSECOND,
        growth: Growth::PHI,
        own_reference_ids,
    }
}

/// Random numbers that a test can repeat (a step of SplitMix64).
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    pub(super) fn three(&mut self) -> [u64; 3] {
        [self.next(), self.next(), self.next()]
    }
}

/// True time since [`START`], and a counter of nanoseconds that is off by `ppb`.
pub(super) struct World {
    pub(super) true_ns: i64,
    /// True time and the counter when its rate last changed.
    pub(super) since: (i64, i64),
    pub(super) ppb: i64,
    pub(super) numbers: Numbers,
}

impl World {
    pub(super) fn new(ppb: i64, seed: u64) -> Self {
        Self { true_ns: SECOND_NS, since: (0, 0), ppb, numbers: Numbers(seed) }
    }
    pub(super) fn ticks_at(&self, true_ns: i64) -> Ticks {
        let elapsed = true_ns - self.since.0;
        let gained = i128::from(elapsed) * i128::from(self.ppb) / 1_000_000_000;
        Ticks::from_bits((self.since.1 + elapsed + i64::try_from(gained).unwrap()).cast_unsigned())
    }
    pub(super) fn change_rate(&mut self, by_ppb: i64) {
        self.since = (self.true_ns, self.now().bits().cast_signed());
        self.ppb += by_ppb;
    }
    pub(super) fn now(&self) -> Ticks {
        self.ticks_at(self.true_ns)
    }
    pub(super) fn utc_at(&self, ticks: Ticks) -> Instant<Utc> {
        // Each round leaves ten thousandths of the error before.
        let mut true_ns = ticks.bits().cast_signed();
        for _ in 0..4 {
            true_ns += ticks.since(self.ticks_at(true_ns));
        }
        START + Span::from_nanos(true_ns)
    }
    /// Lets time pass until the association wants to send, and gives its request.
    pub(super) fn next_request(&mut self, association: &mut Association) -> [u8; 48] {
        loop {
            let random = self.numbers.three();
            match association.next_action(self.now(), random) {
                Action::Send(request) => return request,
                Action::Wait(until) => {
                    let left = until.since(self.now());
                    assert!(left > 0, "it waits for the future only");
                    self.true_ns += left / 2 + 1;
                }
                Action::Nothing => panic!("the association has ended"),
            }
        }
    }
}

/// A server that keeps perfect time, with a reply that can be spoilt.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) interleaves: bool,
    /// What it says before it really sends, in basic mode.
    pub(super) stamped_early_ns: i64,
    /// Its last reply: receive timestamp, and when it really left.
    pub(super) last: Option<(u64, u64)>,
    pub(super) first_octet: u8,
    pub(super) stratum: u8,
    pub(super) root: [u8; 8],
    pub(super) reference_id: [u8; 4],
}

impl Server {
    pub(super) fn good() -> Self {
        Self {
            interleaves: false,
            stamped_early_ns: 0,
            last: None,
            first_octet: 0x24,
            stratum: 2,
            root: [0, 0, 0, 0x10, 0, 0, 0, 0x20],
            reference_id: [198, 51, 100, 1],
        }
    }
    pub(super) fn kiss(code: &[u8; 4]) -> Self {
        Self { first_octet: 0xE4, stratum: 0, reference_id: *code, ..Self::good() }
    }

    /// The reply to a request that arrives at one moment of true time and leaves at the other.
    pub(super) fn reply(&mut self, request: &[u8; 48], arrives_ns: i64, leaves_ns: i64) -> [u8; 48] {
        let word = |at: usize| u64::from_be_bytes(request[at..at + 8].try_into().unwrap());
        let stamp = |ns: i64| NtpTimestamp::from_utc(START + Span::from_nanos(ns)).bits();
        // Unique, as RFC 9769 has it.
        let receive = stamp(arrives_ns) | 1;
        let known =
            self.last.filter(|(last, _)| self.interleaves && word(24) == *last && word(32) != word(40));
        let (origin, transmit) = match known {
            Some((_, left)) => (word(32), left),
            None => (word(40), stamp(leaves_ns - self.stamped_early_ns)),
        };
        self.last = Some((receive, stamp(leaves_ns)));
        let mut reply = [0; 48];
        reply[0] = self.first_octet;
        reply[1] = self.stratum;
        reply[3] = 0xE8;
        reply[4..12].copy_from_slice(&self.root);
        reply[12..16].copy_from_slice(&self.reference_id);
        for (at, bits) in [(24, origin), (32, receive), (40, transmit)] {
            reply[at..at + 8].copy_from_slice(&bits.to_be_bytes());
        }
        reply
    }
}

/// What happens to a request and its reply on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) there_ns: i64,
    pub(super) spent_ns: i64,
    pub(super) back_ns: i64,
}

pub(super) const WAY: Way = Way { there_ns: 200_000, spent_ns: 30_000, back_ns: 300_000 };

/// A request on its way and back: the reply, and its stamps.
pub(super) fn travel(
    world: &mut World,
    server: &mut Server,
    request: &[u8; 48],
    way: Way,
) -> ([u8; 48], Stamps) {
    let sent_ns = world.true_ns;
    let arrives_ns = sent_ns + way.there_ns;
    let leaves_ns = arrives_ns + way.spent_ns;
    let reply = server.reply(request, arrives_ns, leaves_ns);
    world.true_ns = leaves_ns + way.back_ns;
    let stamps = Stamps { sent: world.ticks_at(sent_ns), received: world.now(), error: Span::from_nanos(1) };
    (reply, stamps)
}

pub(super) fn exchange(
    world: &mut World,
    association: &mut Association,
    server: &mut Server,
    way: Way,
) -> Reception {
    let request = world.next_request(association);
    let (reply, stamps) = travel(world, server, &request, way);
    association.on_reply(&reply, stamps, BUILD_DATE)
}

pub(super) fn error(world: &World, exchange: &Exchange) -> Span {
    exchange.utc - world.utc_at(exchange.at)
}

pub(super) fn bound(exchange: &Exchange) -> Span {
    Span::from_raw(exchange.delay.raw() / 2) + exchange.dispersion
}
