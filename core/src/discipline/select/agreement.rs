//! Where intervals overlap (Marzullo's algorithm; RFC 5905 §11.2.1).

use super::Reach;
use crate::discipline::SOURCES_MAX;

/// What the voters agree on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreement {
    /// Where the most of them overlap. If that is at several places, their span: whoever doesn't cover it is in
    /// dispute, and at least one does, since the first place and the last are held by more than half each.
    pub(super) agreed: Reach,
    /// The span of all places where more than half overlap. The truth is in there if more than half are right.
    pub(super) majority: Reach,
}

/// What more than half of the voters agree on; none without a majority.
pub(super) fn agreement(voters: &[Option<Reach>; SOURCES_MAX]) -> Option<Agreement> {
    let all = voters.iter().flatten();
    let majority_min = all.clone().count() / 2 + 1;
    let most = all.map(|voter| overlap(voters, voter.low)).max().filter(|most| *most >= majority_min)?;
    Some(Agreement { agreed: span_where(voters, most)?, majority: span_where(voters, majority_min)? })
}

/// How many intervals hold this moment. Their number is the greatest at one's lower end.
fn overlap(voters: &[Option<Reach>; SOURCES_MAX], moment: f64) -> usize {
    voters.iter().flatten().filter(|voter| voter.low <= moment && moment <= voter.high).count()
}

/// From the first moment that so many intervals hold to the last.
fn span_where(voters: &[Option<Reach>; SOURCES_MAX], count: usize) -> Option<Reach> {
    let held = |moment: &f64| overlap(voters, *moment) >= count;
    let low = voters.iter().flatten().map(|voter| voter.low).filter(held).reduce(f64::min)?;
    let high = voters.iter().flatten().map(|voter| voter.high).filter(held).reduce(f64::max)?;
    Some(Reach { low, high })
}
