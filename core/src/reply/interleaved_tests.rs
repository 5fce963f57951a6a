use super::*;
use crate::reply::outstanding::{Asked, Outstanding, Slot, Written};
use crate::time::{Span, Ticks};
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::vec::Vec;
use std::{boxed::Box, vec};

type Table = Pairs<Box<[Set]>>;

fn table(clients: usize) -> Table {
    Pairs::new(vec![Set::EMPTY; sets_for(clients)].into_boxed_slice(), 0x1234_5678_9ABC_DEF1)
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0A00_0000 + number).into()
}

/// The `number`th receive timestamp of a second that begins at `second`.
fn receive(second: u64, number: u64) -> NtpTimestamp {
    NtpTimestamp::from_bits(second << 32 | number << 8 | 1)
}

const SECOND: u64 = 0xE6A1_B2C3;
const LEFT: NtpTimestamp = NtpTimestamp::from_bits(0xE6A1_B2C4_0000_0000);

#[test]
fn a_pair_is_told_once_and_only_to_whom_it_belongs() {
    let mut pairs = table(100);
    let client = pairs.client(v4(1), false, 7);
    let stamp = receive(SECOND, 5);
    pairs.keep(&client, stamp, LEFT, false);
    let strangers = [
        pairs.client(v4(2), false, 7),
        pairs.client(v4(1), true, 7),
        pairs.client(v4(1), false, 8),
        pairs.client(Ipv6Addr::from_bits(0x0A00_0001).into(), false, 7),
    ];
    for stranger in strangers {
        assert_eq!(pairs.take(&stranger, stamp), None);
    }
    for other in [stamp.bits() + 2, stamp.bits() - 2, stamp.bits() - 1, 0, 1] {
        assert_eq!(pairs.take(&client, NtpTimestamp::from_bits(other)), None);
    }
    assert_eq!(pairs.take(&client, stamp), Some(LEFT));
    assert_eq!(pairs.take(&client, stamp), None);
    assert_eq!(pairs.evicted(), 0);
}

#[test]
fn what_is_told_is_even_and_later_than_its_receive_timestamp() {
    let mut pairs = table(100);
    let client = pairs.client(v4(1), false, 0);
    let stamp = receive(SECOND, 5);
    for left in [stamp.bits() - 900, stamp.bits(), stamp.bits() + 1, stamp.bits() + 77] {
        pairs.keep(&client, stamp, NtpTimestamp::from_bits(left), false);
        let told = pairs.take(&client, stamp).unwrap();
        assert!(
            told.bits() & 1 == 0 && told.bits() > stamp.bits() && told.bits() <= left.max(stamp.bits() + 1)
        );
    }
}

#[test]
fn without_memory_nobody_interleaves() {
    let mut pairs = table(0);
    let client = pairs.client(v4(1), false, 0);
    assert!(!pairs.is_on());
    pairs.keep(&client, receive(SECOND, 1), LEFT, true);
    assert_eq!(pairs.take(&client, receive(SECOND, 1)), None);
}

/// Rounds of one exchange for each of these clients: how many found their pair in each.
fn rounds(pairs: &mut Table, clients: &[IpAddr], rounds: u64) -> Vec<usize> {
    let mut last: Vec<Option<NtpTimestamp>> = vec![None; clients.len()];
    let exchange = |round: u64, pairs: &mut Table, last: &mut Vec<Option<NtpTimestamp>>| {
        let mut found = 0;
        for (number, (address, last)) in clients.iter().zip(last).enumerate() {
            let client = pairs.client(*address, false, 0);
            let returned = last.is_some_and(|origin| pairs.take(&client, origin).is_some());
            found += usize::from(returned);
            let stamp = receive(SECOND + 64 * round, number as u64);
            pairs.keep(&client, stamp, LEFT, returned);
            *last = Some(stamp);
        }
        found
    };
    (0..rounds).map(|round| exchange(round, pairs, &mut last)).collect()
}

#[test]
fn of_100_000_clients_99_percent_and_more_find_their_pair() {
    let addresses: [Vec<IpAddr>; 3] = [
        (0..100_000).map(v4).collect(),
        // Hosts of 100 networks of IPv6, and each in its own.
        (0..100_000_u128)
            .map(|number| Ipv6Addr::from_bits(0x2001_0DB8 << 96 | (number % 100) << 64 | number).into())
            .collect(),
        (0..100_000_u128)
            .map(|number| Ipv6Addr::from_bits(0x2001_0DB8 << 96 | number << 64 | 1).into())
            .collect(),
    ];
    for addresses in addresses {
        let mut pairs = table(100_000);
        let found = rounds(&mut pairs, &addresses, 6);
        std::println!("of 100,000 in each round: {found:?}");
        assert!(found[1..].iter().all(|found| *found >= 99_000), "{found:?}");
    }
    assert_eq!(sets_for(100_000) * size_of::<Set>(), 6_000_000, "what the documents say");
}

#[test]
fn those_behind_one_address_share_a_few_sets() {
    for (clients, found_min) in [(2, 2), (20, 20), (1_000, 30)] {
        let mut pairs = table(100_000);
        let found = rounds(&mut pairs, &vec![v4(1); clients], 6);
        assert!(found[1..].iter().all(|found| (found_min..=64).contains(found)), "{clients}: {found:?}");
    }
}

#[test]
fn a_flood_from_random_addresses_pushes_out_nobody_that_comes_back() {
    let mut pairs = table(1_000);
    let clients: Vec<IpAddr> = (0..1_000).map(v4).collect();
    assert!(rounds(&mut pairs, &clients, 3)[2] >= 990);
    let mut last: Vec<NtpTimestamp> = (0..1_000).map(|number| receive(SECOND + 128, number)).collect();
    let mut found = Vec::new();
    for round in 0..5_u64 {
        for number in 0..200_000_u32 {
            let spoofed = pairs.client(v4(1 << 20 | number.wrapping_mul(0x9E37_79B9) >> 12), false, 0);
            let stamp = receive(SECOND + 180 + 64 * round, number.into());
            assert_eq!(pairs.take(&spoofed, NtpTimestamp::from_bits(u64::from(number) << 13 | 1)), None);
            pairs.keep(&spoofed, stamp, LEFT, false);
        }
        let mut returned = 0;
        for (number, (address, last)) in clients.iter().zip(&mut last).enumerate() {
            let client = pairs.client(*address, false, 0);
            let came_back = pairs.take(&client, *last).is_some();
            returned += usize::from(came_back);
            *last = receive(SECOND + 192 + 64 * round, number as u64);
            pairs.keep(&client, *last, LEFT, came_back);
        }
        found.push(returned);
    }
    assert!(found.iter().all(|found| *found >= 985), "{found:?}");
    assert!(pairs.evicted() > 900_000);
}

#[test]
fn one_network_that_plays_by_the_rules_takes_its_share_and_no_more() {
    let mut pairs = table(100_000);
    let honest: Vec<IpAddr> = (0..50_000).map(v4).collect();
    let greedy: Vec<IpAddr> = (0..150_000_u128)
        .map(|host| Ipv6Addr::from_bits(0x2001_0DB8_0000_0001 << 64 | host).into())
        .collect();
    let found = rounds(&mut pairs, &[honest, greedy].concat(), 6);
    // The greedy network has at most its quarter of the sets, and the others all else.
    assert!(found[3..].iter().all(|found| (37_500..50_000 + 16 * 3_907).contains(found)), "{found:?}");
    let mut alone = table(100_000);
    let greedy = pairs.client(Ipv6Addr::from_bits(0x2001_0DB8_0000_0001 << 64).into(), false, 0);
    let sets: HashSet<_> = (0..100_000)
        .map(|number| std::ptr::from_ref(alone.set(&greedy, receive(SECOND, number)).unwrap()))
        .collect();
    assert_eq!(sets.len(), 3_907);
}

#[test]
fn where_all_came_back_a_newcomer_finds_no_room_and_one_who_came_back_takes_the_oldests() {
    let mut pairs = Pairs::new([Set::EMPTY; 1], 1);
    let clients: Vec<Client> = (0..18).map(|number| pairs.client(v4(number), false, 0)).collect();
    for (number, client) in clients[..16].iter().enumerate() {
        pairs.keep(client, receive(SECOND, number as u64), LEFT, true);
    }
    assert_eq!(pairs.evicted(), 0);
    // Enough of them for those that may try.
    for number in 0..1_000 {
        pairs.keep(&clients[16], receive(SECOND + 1, number), LEFT, false);
        assert_eq!(pairs.take(&clients[16], receive(SECOND + 1, number)), None);
    }
    pairs.keep(&clients[17], receive(SECOND + 1, 1), LEFT, true);
    assert_eq!(pairs.evicted(), 1_001);
    let found: Vec<usize> = (0..16)
        .filter(|number| pairs.take(&clients[*number], receive(SECOND, *number as u64)).is_some())
        .collect();
    assert_eq!(found, (1..16).collect::<Vec<_>>());
    assert!(pairs.take(&clients[17], receive(SECOND + 1, 1)).is_some());
}

#[test]
fn pairs_from_before_a_step_or_that_nobody_will_ask_for_make_room() {
    for from in [SECOND + 100_000, SECOND - 100_000] {
        let mut pairs = Pairs::new([Set::EMPTY; 1], 1);
        let old = pairs.client(v4(1), false, 0);
        for number in 0..WAYS as u64 {
            pairs.keep(&old, receive(from, number), LEFT, true);
        }
        let newcomer = pairs.client(v4(2), false, 1);
        pairs.keep(&newcomer, receive(SECOND, 1), LEFT, false);
        assert!(pairs.take(&newcomer, receive(SECOND, 1)).is_some());
    }
}

/// What happens at a server, from outside: which of its replies' names a request bears, and when departures are told.
#[derive(Clone, Debug)]
enum Step {
    /// A request of a client, whose origin is the receive timestamp of the `back`th last reply of all, or of none.
    Ask { client: u8, back: Option<u8>, parity: bool, receive_equal: bool },
    /// The last request comes again, whoever repeats it.
    Replay { client: u8 },
    /// The departure of the `back`th last reply is told, perhaps again.
    Told { back: u8 },
    /// The clock is stepped.
    Stepped,
    /// The server starts anew.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0_u8..4, prop::option::weighted(0.9, 0_u8..6), prop::bool::weighted(0.9), prop::bool::weighted(0.1))
            .prop_map(|(client, back, parity, receive_equal)| Step::Ask { client, back, parity, receive_equal }),
        2 => (0_u8..4).prop_map(|client| Step::Replay { client }),
        12 => (0_u8..4).prop_map(|back| Step::Told { back }),
        1 => Just(Step::Stepped),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..200)
}

/// A server as RFC 9769 §2 words it, with memory enough: what it sent to whom, and what it knows of its leaving.
#[derive(Default)]
struct Model {
    saved: HashMap<(u8, u64), Option<u64>>,
    used: HashSet<(u8, u64)>,
}

/// The server under test: what a worker does with these parts.
struct Server {
    pairs: Table,
    outstanding: Outstanding<Vec<Slot>>,
}

impl Server {
    fn new() -> Self {
        Self { pairs: table(1_000), outstanding: Outstanding::new(vec![Slot::EMPTY; 256]) }
    }
}

/// Two pairs of clients, each behind one address.
fn address(client: u8) -> IpAddr {
    v4(u32::from(client / 2))
}

/// The requests of a run, and what became of them.
struct Run {
    server: Server,
    model: Model,
    generation: u32,
    /// Every reply: to which address, and its receive timestamp.
    replies: Vec<(u8, u64)>,
    last: Option<u64>,
}

impl Run {
    fn ask(&mut self, client: u8, origin: u64, receive_equal: bool) -> Result<(), TestCaseError> {
        let number = self.replies.len() as u64;
        let stamp = receive(SECOND, number);
        self.last = Some(origin);
        let named = origin & 1 == 1 && !receive_equal;
        let of_address = client / 2;
        let key = self.server.pairs.client(address(client), false, self.generation);
        let told = named.then(|| self.server.pairs.take(&key, NtpTimestamp::from_bits(origin))).flatten();
        let expected = match self.model.saved.get(&(of_address, origin)) {
            Some(Some(left)) if named && self.model.used.insert((of_address, origin)) => Some(*left),
            _ => None,
        };
        prop_assert_eq!(told.map(NtpTimestamp::bits), expected);
        if named {
            let asked = Asked { receive: stamp, client: Some((key, told.is_some())), sampled: false };
            let slot = self.server.outstanding.ask(asked, Ticks::from_bits(number)).unwrap();
            let timestamp = NtpTimestamp::from_bits(stamp.bits() + 100);
            let written = Written { at: Ticks::from_bits(number), timestamp, ahead: Span::ZERO };
            self.server.outstanding.written(slot, written);
            self.model.saved.insert((of_address, stamp.bits()), None);
        }
        self.replies.push((of_address, stamp.bits()));
        Ok(())
    }

    fn told(&mut self, back: u8) {
        let Some((of_address, stamp)) = self.back(back) else { return };
        // 400 units of 2⁻³² s after it was written: 94 ns; it is told a microsecond later.
        let (since, age) = (Span::from_raw(400 << 32) + Span::from_nanos(1_000), Span::from_nanos(1_000));
        if let Some((asked, written)) = self.server.outstanding.told(stamp) {
            let left = written.left(since, age).unwrap();
            let (client, returned) = asked.client.unwrap();
            self.server.pairs.keep(&client, asked.receive, left.at, returned);
        }
        if let Some(saved @ None) = self.model.saved.get_mut(&(of_address, stamp)) {
            *saved = Some((stamp + 499) & !1);
        }
    }

    fn back(&self, back: u8) -> Option<(u8, u64)> {
        self.replies.iter().rev().nth(back.into()).copied()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a_conversation_goes_as_the_rfc_words_it(steps in steps()) {
        let mut run =
            Run { server: Server::new(), model: Model::default(), generation: 0, replies: Vec::new(), last: None };
        for step in steps {
            match step {
                Step::Ask { client, back, parity, receive_equal } => {
                    let named = back.and_then(|back| run.back(back)).map_or(0, |(_, stamp)| stamp);
                    run.ask(client, named & !u64::from(!parity), receive_equal)?;
                }
                Step::Replay { client } => {
                    if let Some(origin) = run.last {
                        run.ask(client, origin, false)?;
                    }
                }
                Step::Told { back } => run.told(back),
                Step::Stepped => {
                    run.generation += 1;
                    run.model.saved.clear();
                }
                Step::Restart => {
                    run.server = Server::new();
                    run.model.saved.clear();
                }
            }
        }
    }

    #[test]
    fn in_a_table_that_is_too_small_what_is_told_is_right_all_the_same(
        origins in prop::collection::vec((0_u32..40, 0_u64..30, any::<bool>()), 1..500),
    ) {
        let mut pairs = Pairs::new([Set::EMPTY; 2], 99);
        let mut kept: HashMap<(u32, u64), u64> = HashMap::new();
        let mut last: Vec<u64> = Vec::new();
        for (number, (address, back, returned)) in origins.into_iter().enumerate() {
            let client = pairs.client(v4(address), false, 0);
            let back = last.iter().rev().nth(usize::try_from(back).unwrap()).copied().unwrap_or(1);
            let told = pairs.take(&client, NtpTimestamp::from_bits(back));
            let known = kept.remove(&(address, back));
            prop_assert!(told.is_none() || told.map(NtpTimestamp::bits) == known, "{:?} {:?}", told, known);
            let stamp = receive(SECOND, number as u64);
            let left = stamp.bits() + 1 + 2 * number as u64;
            pairs.keep(&client, stamp, NtpTimestamp::from_bits(left), returned);
            kept.insert((address, stamp.bits()), left);
            last.push(stamp.bits());
        }
    }
}

#[test]
fn only_the_requests_that_the_rfc_names_may_interleave() {
    let request = |first: u8, origin: u64, receive: u64, transmit: u64| {
        let mut bytes = [0; 48];
        bytes[0] = first;
        bytes[24..32].copy_from_slice(&origin.to_be_bytes());
        bytes[32..40].copy_from_slice(&receive.to_be_bytes());
        bytes[40..].copy_from_slice(&transmit.to_be_bytes());
        let peer = crate::wire::Peer {
            source: "192.0.2.7:40000".parse().unwrap(),
            destination: "192.0.2.1:123".parse().unwrap(),
            unicast: true,
        };
        may_interleave(&crate::wire::parse_datagram(&bytes, &peer).unwrap())
    };
    assert!(request(0x23, 5, 6, 7));
    assert!(!request(0x23, 4, 6, 7), "it echoes a transmit timestamp");
    assert!(!request(0x23, 5, 7, 7), "receive and transmit are the same");
    assert!(!request(0x1B, 5, 6, 7), "version 3");
    assert!(!request(0x21, 5, 6, 7), "symmetric");
}
