use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

fn asked(name: u64) -> Asked {
    Asked { receive: NtpTimestamp::from_bits(name), client: None, sampled: true }
}

fn written(at: u64) -> Written {
    Written { at: Ticks::from_bits(at), timestamp: NtpTimestamp::from_bits(at << 8), ahead: Span::ZERO }
}

#[test]
fn each_is_told_once_and_what_was_never_written_isnt() {
    let mut outstanding = Outstanding::new(vec![Slot::EMPTY; 64]);
    let slot = outstanding.ask(asked(5), Ticks::from_bits(1)).unwrap();
    assert_eq!(outstanding.ask(asked(5), Ticks::from_bits(2)), None, "the name is taken");
    outstanding.written(slot, written(9));
    assert!(!outstanding.is_empty());
    assert_eq!(outstanding.told(7), None);
    assert_eq!(outstanding.told(5), Some((asked(5), written(9))));
    assert_eq!(outstanding.told(5), None);
    assert!(outstanding.is_empty());
    outstanding.ask(asked(11), Ticks::from_bits(3)).unwrap();
    assert_eq!(outstanding.told(11), None);
    outstanding.ask(asked(13), Ticks::from_bits(3)).unwrap();
    outstanding.forget();
    assert!(outstanding.is_empty());
    assert_eq!(outstanding.told(13), None);
}

#[test]
fn what_cant_be_is_not_believed() {
    let written = written(1_000);
    let ms = |ms: i64| Span::from_nanos(ms * 1_000_000);
    let us = |us: i64| Span::from_nanos(us * 1_000);
    assert_eq!(written.left(us(50), us(45)).unwrap().late, us(5));
    assert!(written.left(us(50), us(52)).is_some(), "within the errors of the readings");
    assert_eq!(written.left(us(50), us(53)), None, "it left before it was written");
    assert_eq!(written.left(ms(1_002), ms(1)), None, "it took a second");
    assert_eq!(written.left(ms(22), ms(21)), None, "it is told too late");
    assert_eq!(written.left(Span::MAX, Span::ZERO), None);
    let ahead = Written { ahead: us(3), ..written };
    let left = ahead.left(us(50), us(45)).unwrap();
    assert_eq!(left.late, us(2));
    // 5 µs in units of 2⁻³² s.
    assert_eq!(left.at.bits() - ahead.timestamp.bits(), 21_474);
}

proptest! {
    #[test]
    fn it_never_tells_what_a_map_wouldnt(
        steps in prop::collection::vec((any::<bool>(), 0_u64..60), 1..600),
    ) {
        // Few slots, so that some make room.
        let mut outstanding = Outstanding::new(vec![Slot::EMPTY; 16]);
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut told: Vec<u64> = Vec::new();
        for (number, (ask, name)) in steps.into_iter().enumerate() {
            let now = number as u64;
            if ask {
                if let Some(slot) = outstanding.ask(asked(name), Ticks::from_bits(now)) {
                    outstanding.written(slot, written(now));
                    model.insert(name, now);
                }
            } else if let Some((asked, at)) = outstanding.told(name) {
                prop_assert_eq!(asked.receive.bits(), name);
                prop_assert_eq!(model.remove(&name), Some(at.at.bits()));
                told.push(name);
            }
            prop_assert!(outstanding.is_empty() || !model.is_empty());
        }
    }

    #[test]
    fn a_batch_that_is_told_together_is_told_whole(names in prop::collection::hash_set(any::<u64>(), 64)) {
        let mut outstanding = Outstanding::new(vec![Slot::EMPTY; 4 * 64 * 4]);
        for name in &names {
            let slot = outstanding.ask(asked(*name), Ticks::from_bits(1)).unwrap();
            outstanding.written(slot, written(2));
        }
        let told = names.iter().filter(|name| outstanding.told(**name).is_some()).count();
        // Five in a set of four are rare, and eight are not seen.
            prop_assert!(told >= 60, "{}", told);
    }
}
