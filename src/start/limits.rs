//! What the workers and the programs in front of them limit by: one table, one key, one set of rules.

use crate::config;
use crate::worker::Limits;
use maser_core::limit::hash::Key;
use maser_core::limit::{Bucket, Rules};
use maser_sys::limit_table::SharedTable;
use std::num::NonZeroU32;

/// Kisses that may be sent at once, as a part of those of a second.
const KISSES_AT_ONCE: u32 = 8;

/// The workers' limits, over the table that was handed over; none where nobody is limited.
pub(super) fn made(limit: &config::Limit, table: Option<&SharedTable>, key: Key) -> Option<Limits> {
    let (rules, table) = rules(limit).zip(table)?;
    Some(Limits { table: table.clone(), key, rules, driver: limit.driver })
}

/// The rules of a configuration, none for a rate of 0. It has seen to it that every bucket fills in time.
fn rules(limit: &config::Limit) -> Option<Rules> {
    let bucket = |rate: u32, burst: NonZeroU32| {
        let fills = |rate: NonZeroU32| Bucket::per_second(rate.get(), burst.get()).expect("it fills in time");
        NonZeroU32::new(rate).map(fills)
    };
    let kisses = limit.kisses_per_second;
    Some(Rules {
        address: bucket(limit.rate, limit.burst)?,
        prefix: bucket(limit.prefix_rate, limit.prefix_burst),
        prefix_ip4: limit.prefix_ip4,
        prefix_ip6: limit.prefix_ip6,
        kiss: limit.kiss,
        kisses: bucket(kisses.get(), NonZeroU32::new(kisses.get().div_ceil(KISSES_AT_ONCE))?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FILL_SECONDS_MAX, Limit, RATE_MAX};

    #[test]
    fn the_usual_limits_are_those_of_the_core() {
        assert_eq!(rules(&Limit::default()), Some(Rules::USUAL));
        assert_eq!(rules(&Limit { rate: 0, ..Limit::default() }), None);
        assert_eq!(rules(&Limit { prefix_rate: 0, ..Limit::default() }).unwrap().prefix, None);
    }

    #[test]
    fn whatever_a_configuration_may_say_can_be_had() {
        let count = |number| NonZeroU32::new(number).unwrap();
        for rate in [1, 7, 8, 9_999, RATE_MAX] {
            for burst in [1, (rate * FILL_SECONDS_MAX).min(100_000)] {
                let limit =
                    Limit { rate, burst: count(burst), kisses_per_second: count(rate), ..Limit::default() };
                assert!(rules(&limit).is_some(), "{limit:?}");
            }
        }
    }
}
