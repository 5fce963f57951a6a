//! Conversations at random: clients behind one address, requests lost, repeated and out of order, departures late, never
//! and twice. What the server says is held against what happened.

use super::{Event, MS, Rig, V4_CLIENT, client, request};
use crate::support::{ReplyView, error_ns};
use maser::count::Counts;
use maser_sys::datagram::{Departed, Wait};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client asks, with the receive timestamp of the reply that it saw last; the reply may be lost.
    Ask {
        client: u8,
        lost: bool,
    },
    /// One of the last requests is repeated by the network.
    Repeat {
        back: u8,
    },
    /// So many departures are told, from the latest or from the earliest, the first of them twice.
    Tell {
        count: u8,
        latest: bool,
        wrong_name: bool,
    },
    /// Departures are told no more.
    Lose,
    Restart,
    /// The clock is stepped.
    Stepped,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0_u8..6, prop::bool::weighted(0.15)).prop_map(|(client, lost)| Step::Ask { client, lost }),
        2 => (0_u8..8).prop_map(|back| Step::Repeat { back }),
        10 => (0_u8..4, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(count, latest, wrong_name)| Step::Tell { count, latest, wrong_name }),
        1 => Just(Step::Lose),
        1 => Just(Step::Restart),
        1 => Just(Step::Stepped),
    ];
    prop::collection::vec(step, 1..120)
}

/// What is known from outside: who was sent what, and what the server heard of its leaving.
struct World<'a> {
    rig: Rig<'a>,
    /// The reply that each client saw last, and so names.
    seen: HashMap<u8, ReplyView>,
    /// By address and receipt: whether the departure was told in a way to be believed.
    known: HashMap<(u8, u64), bool>,
    used: HashSet<(u8, u64)>,
    requests: Vec<(u8, [u8; 48])>,
    number: u64,
}

impl World<'_> {
    fn exchange(&mut self, client_number: u8, bytes: [u8; 48], lost: bool) -> Result<(), TestCaseError> {
        // Three clients share an address; their ports differ and mean nothing.
        let address = client_number / 3;
        let mut from = client(address.into());
        from.set_port(1_000 + u16::from(client_number));
        let origin = u64::from_be_bytes(bytes[24..32].try_into().unwrap());
        let reply = self.rig.ask(from, bytes);
        let is_known = self.known.get(&(address, origin)) == Some(&true);
        let expected = is_known && self.used.insert((address, origin));
        let interleaved = reply.origin.to_be_bytes() == bytes[32..40];
        prop_assert_eq!(interleaved, expected, "origin {:x}", origin);
        if interleaved {
            let off = error_ns(reply.transmit, self.rig.left_ns(origin));
            prop_assert!(off.abs() <= 2, "{} ns off", off);
        } else {
            prop_assert_eq!(&reply.origin.to_be_bytes()[..], &bytes[40..48]);
        }
        if self.rig.wires.0.borrow().left_ns.contains_key(&reply.receive) {
            self.known.insert((address, reply.receive), false);
        }
        if !lost {
            self.seen.insert(client_number, reply);
        }
        Ok(())
    }

    fn ask(&mut self, client_number: u8, lost: bool) -> Result<(), TestCaseError> {
        self.number += 1;
        let origin = self.seen.get(&client_number).map_or(0, |seen| seen.receive);
        let bytes = request(V4_CLIENT, origin, 0xAAAA << 48 | self.number, 0xBBBB << 48 | self.number);
        self.requests.push((client_number, bytes));
        self.exchange(client_number, bytes, lost)
    }

    fn tell(&mut self, count: u8, latest: bool, wrong_name: bool) {
        let all: Vec<Departed> = self.rig.wires.0.borrow_mut().to_tell.drain(..).collect();
        let (earlier, later) = all.split_at(if latest {
            all.len().saturating_sub(count.into())
        } else {
            all.len().min(count.into())
        });
        let (mut now, rest) = if latest { (later, earlier) } else { (earlier, later) };
        let now_ns = self.rig.machine.realtime_ns();
        let mut told = Vec::new();
        if wrong_name && let Some((first, others)) = now.split_first() {
            told.push(Departed { name: first.name ^ 0xFF00, ..*first });
            now = others;
        }
        for departed in now {
            // Older than 20 ms they aren't believed.
            if now_ns + 1_000 - self.rig.left_ns(departed.name) <= 20 * MS {
                for ((_, receive), known) in &mut self.known {
                    *known |= *receive == departed.name;
                }
            }
            told.push(*departed);
        }
        told.extend(now.first().copied());
        {
            let mut state = self.rig.wires.0.borrow_mut();
            state.to_tell = told;
            state.tells_at_once = true;
        }
        self.rig.worker.batch(Wait::Poll).unwrap();
        let mut state = self.rig.wires.0.borrow_mut();
        state.tells_at_once = false;
        state.to_tell = rest.to_vec();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_conversation_is_never_wrong_and_interleaved_whenever_it_can_be(steps in steps()) {
        let counts = Counts::default();
        let mut rig = Rig::new(&counts);
        rig.beat();
        rig.wires.0.borrow_mut().tells_at_once = false;
        let mut world = World {
            rig,
            seen: HashMap::new(),
            known: HashMap::new(),
            used: HashSet::new(),
            requests: Vec::new(),
            number: 0,
        };
        for step in steps {
            match step {
                Step::Ask { client, lost } => world.ask(client, lost)?,
                Step::Repeat { back } => {
                    if let Some((client, bytes)) = world.requests.iter().rev().nth(back.into()).copied() {
                        world.exchange(client, bytes, true)?;
                    }
                }
                Step::Tell { count, latest, wrong_name } => world.tell(count, latest, wrong_name),
                Step::Lose => world.rig.wires.0.borrow_mut().to_tell.clear(),
                Step::Restart => {
                    world.rig.restart();
                    world.known.clear();
                }
                Step::Stepped => {
                    // To where no earlier stamp was; a second later kernel stamps are believed again.
                    world.rig.machine.step_ns(3_000 * MS);
                    world.rig.beat();
                    world.rig.ask(client(99), request(V4_CLIENT, 0, 0, 1));
                    world.rig.machine.pass_ns(1_100 * MS);
                    world.rig.beat();
                    world.known.clear();
                    world.rig.wires.0.borrow_mut().to_tell.clear();
                }
            }
            world.rig.machine.pass_ns(MS / 2);
            world.rig.beat();
        }
        prop_assert_eq!(world.rig.count(Event::PairEvicted), 0);
    }
}
