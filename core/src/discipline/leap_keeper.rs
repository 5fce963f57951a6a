//! Which leap seconds there are, and whom to believe about the next.
//!
//! In the order of trust: leap-seconds.list while it hasn't expired, the receiver that is followed, the majority of
//! the upstream servers that agree. A claim counts on the last day of a month only, since that is what it speaks of;
//! one that has passed becomes history.

use super::observation::{LeapClaim, SOURCES_MAX};
use crate::time::{Instant, LeapTable, Tai, Utc, is_last_of_month};

/// Who says what the next leap second is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeapAuthority {
    /// Only the table that was built in.
    BuiltIn,
    /// leap-seconds.list, not yet expired.
    File,
    /// The receiver that is followed.
    Receiver,
    /// The majority of upstream servers.
    Upstream,
}

/// The leap seconds known, and what sources claim of the next.
#[derive(Clone, Debug)]
pub struct LeapKeeper {
    table: LeapTable,
    /// Until when the table is complete by the file's own word.
    complete_until: Option<Instant<Utc>>,
    claims: [LeapClaim; SOURCES_MAX],
    armed: Option<(i64, i32)>,
    authority: LeapAuthority,
}

const DAY_S: i64 = 86_400;

impl LeapKeeper {
    /// With a table that is complete until a moment by its own word (leap-seconds.list), or as far as it was built in.
    #[must_use]
    pub const fn new(table: LeapTable, complete_until: Option<Instant<Utc>>) -> Self {
        Self {
            table,
            complete_until,
            claims: [LeapClaim::Unknown; SOURCES_MAX],
            armed: None,
            authority: LeapAuthority::BuiltIn,
        }
    }

    /// A newer file's word in the place of what is known; `now` is that of a clock that runs. Refused where TAI - UTC would
    /// change for the present: that would step the UTC that is served.
    #[must_use]
    pub fn renew(
        &mut self,
        table: LeapTable,
        complete_until: Option<Instant<Utc>>,
        now: Option<Instant<Tai>>,
    ) -> bool {
        let known = self.with_armed();
        if now.is_some_and(|now| table.offset_at(now) != known.offset_at(now)) {
            return false;
        }
        (self.table, self.complete_until, self.armed) = (table, complete_until, None);
        true
    }

    /// A source says something of the next leap second.
    pub fn claim(&mut self, source: usize, claim: LeapClaim) {
        if let Some(kept) = self.claims.get_mut(source) {
            *kept = claim;
        }
    }

    /// Decides at `now`: `receivers` are those that name the seconds which are followed, `servers` the upstream servers that
    /// agree, a bit each.
    pub fn decide(&mut self, now: Instant<Tai>, receivers: u16, servers: u16) {
        let armed = self.with_armed();
        if armed.known().last().is_some_and(|leap| now >= leap.at) {
            self.table = armed;
        }
        let day = self.table.utc(now).unix_seconds().div_euclid(DAY_S);
        let (authority, claim) = self.believed(now, receivers, servers);
        self.authority = authority;
        let ends_month = is_last_of_month(day);
        self.armed = match claim {
            // Silence takes nothing back.
            LeapClaim::Unknown if authority != LeapAuthority::File => {
                self.armed.filter(|&(on, _)| on == day + 1)
            }
            LeapClaim::Unknown | LeapClaim::None => None,
            LeapClaim::Insert => ends_month.then_some((day + 1, 1)),
            LeapClaim::Delete => ends_month.then_some((day + 1, -1)),
        };
    }

    fn believed(&self, now: Instant<Tai>, receivers: u16, servers: u16) -> (LeapAuthority, LeapClaim) {
        if self.complete_until.is_some_and(|until| self.table.utc(now) < until) {
            return (LeapAuthority::File, LeapClaim::Unknown);
        }
        let spoken = self.claims.iter().enumerate().filter(|(_, claim)| **claim != LeapClaim::Unknown);
        let spoken = spoken.fold(0, |bits, (source, _)| bits | 1 << source);
        if let Some(claim) = self.majority(receivers & spoken) {
            return (LeapAuthority::Receiver, claim);
        }
        self.majority(servers)
            .map_or((LeapAuthority::BuiltIn, LeapClaim::Unknown), |claim| (LeapAuthority::Upstream, claim))
    }

    /// What more than half of these claim.
    fn majority(&self, voters: u16) -> Option<LeapClaim> {
        let votes = |wanted: LeapClaim| {
            let claims = self.claims.iter().enumerate();
            claims.filter(|&(source, claim)| voters >> source & 1 != 0 && *claim == wanted).count()
        };
        let voters = voters.count_ones() as usize;
        [LeapClaim::None, LeapClaim::Insert, LeapClaim::Delete]
            .into_iter()
            .find(|&claim| 2 * votes(claim) > voters)
    }

    fn with_armed(&self) -> LeapTable {
        let mut table = self.table.clone();
        if let Some((day, seconds)) = self.armed {
            // Refused where it is known already or the table is full: then what is known stands.
            let _known = table.add(day, seconds);
        }
        table
    }

    /// Every leap second known, the one that is armed included.
    #[must_use]
    pub fn table(&self) -> LeapTable {
        self.with_armed()
    }

    /// Who says what the next leap second is.
    #[must_use]
    pub const fn authority(&self) -> LeapAuthority {
        self.authority
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    /// 2026-12-31 00:00:00 UTC, the last day of a month.
    const EVE: i64 = 1_798_675_200;

    fn keeper(until: Option<i64>) -> LeapKeeper {
        LeapKeeper::new(LeapTable::built_in(), until.map(|s| Instant::from_unix(s, 0)))
    }

    fn tai(unix_s: i64) -> Instant<Tai> {
        Instant::from_unix(unix_s + 37, 0)
    }

    #[test]
    fn a_claim_counts_on_the_last_day_and_becomes_history() {
        let mut keeper = keeper(None);
        keeper.claim(2, LeapClaim::Insert);
        keeper.decide(tai(EVE - 86_400), 0b100, 0);
        assert_eq!(keeper.table().known().len(), 27);
        keeper.decide(tai(EVE + 5), 0b100, 0);
        assert_eq!(keeper.table().known().len(), 28);
        let after = tai(EVE + 86_400) + Span::from_seconds(2);
        keeper.decide(after, 0b100, 0);
        keeper.claim(2, LeapClaim::None);
        keeper.decide(after, 0b100, 0);
        assert_eq!(keeper.table().offset_at(after), 38);
        assert_eq!(keeper.table().known().len(), 28);
    }

    #[test]
    fn the_file_is_believed_before_any_claim_until_it_expires() {
        let mut keeper = keeper(Some(EVE + 86_400 * 10));
        keeper.claim(0, LeapClaim::Insert);
        keeper.decide(tai(EVE + 5), 1, 0);
        assert_eq!((keeper.authority(), keeper.table().known().len()), (LeapAuthority::File, 27));
        let mut keeper = self::keeper(Some(EVE));
        keeper.claim(0, LeapClaim::Insert);
        keeper.decide(tai(EVE + 5), 1, 0);
        assert_eq!((keeper.authority(), keeper.table().known().len()), (LeapAuthority::Receiver, 28));
    }

    #[test]
    fn a_newer_file_changes_the_future_only() {
        let mut keeper = keeper(None);
        keeper.claim(0, LeapClaim::Insert);
        keeper.decide(tai(EVE + 5), 1, 0);
        let (day, until) = (EVE / 86_400 + 1, Some(Instant::from_unix(EVE + 86_400 * 180, 0)));
        let mut newer = LeapTable::built_in();
        // What the receiver claims the file takes back.
        assert!(keeper.renew(newer.clone(), until, Some(tai(EVE + 5))));
        assert_eq!(keeper.table().known().len(), 27);
        keeper.decide(tai(EVE + 5), 1, 0);
        assert_eq!((keeper.authority(), keeper.table().known().len()), (LeapAuthority::File, 27));
        newer.add(day, 1).unwrap();
        assert!(keeper.renew(newer.clone(), until, Some(tai(EVE + 5))));
        let after = tai(EVE + 86_400) + Span::from_seconds(2);
        assert_eq!(keeper.table().offset_at(after), 38);
        assert!(!keeper.renew(LeapTable::built_in(), until, Some(after)), "it would step");
        assert_eq!(keeper.table().offset_at(after), 38);
        assert!(keeper.renew(LeapTable::built_in(), until, None), "nothing is served");
    }

    #[test]
    fn upstreams_need_a_majority_of_those_in_use() {
        let mut keeper = keeper(None);
        for source in 0..2 {
            keeper.claim(source, LeapClaim::Delete);
        }
        keeper.claim(2, LeapClaim::None);
        keeper.claim(3, LeapClaim::None);
        keeper.decide(tai(EVE + 5), 0, 0b1111);
        assert_eq!(keeper.table().known().len(), 27, "two of four are no majority");
        keeper.decide(tai(EVE + 5), 0, 0b0111);
        assert_eq!(keeper.authority(), LeapAuthority::Upstream);
        assert_eq!(keeper.table().offset_at(tai(EVE + 86_400)), 36);
    }
}
