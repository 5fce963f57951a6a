//! Who is right?
//!
//! Every source says where reference time is and how far it can be off: an interval. The largest group of sources
//! whose intervals share a moment has the majority, or nobody has (RFC 5905 §11.2.1); those outside are named with
//! how far they are off. Among those inside a reference clock is followed before a network source, and network
//! sources are thinned out and averaged (§11.2.2, §11.2.3). Nothing here remembers: the caller says whom it follows
//! now, so that equals aren't hopped between.

mod agreement;
mod cluster;
mod verdict;

pub use verdict::{Nobody, Unusable, Verdict};

use super::SOURCES_MAX;
use agreement::{Agreement, agreement};
use cluster::{combine, thin_out};

/// Another source of the same rank is followed only if its distance is below this part of the present one's.
const CLEARLY_BETTER: f64 = 2.0 / 3.0;

/// What a source is to selection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It tells the whole time by itself: a receiver's sentences, gpsd, a PHC that somebody keeps.
    Reference,
    /// It tells when seconds begin; somebody else has said which. It doesn't vote, since it would vote for the one
    /// that it has its second from.
    Pulse,
    /// A server in the network.
    Network,
}

/// A source's word, carried on to a moment that is the same for all candidates.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Candidate {
    /// What it is.
    pub kind: Kind,
    /// Reference time by this source, less that of a line common to all, in seconds.
    pub offset_s: f64,
    /// How far that can be off: its root distance, in seconds.
    pub distance_s: f64,
    /// How much its word jumps about, in seconds.
    pub jitter_s: f64,
    /// Whether the operator prefers it to others of its rank.
    pub prefer: bool,
    /// Whether it votes and no more: something better is made from it, or the clock is better than it.
    pub only_votes: bool,
    /// Why it can't be used, if so.
    pub unusable: Option<Unusable>,
}

/// What selection goes by.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rules {
    /// So many sources have to agree, one at least; pulses aren't counted.
    pub agree_min: usize,
    /// A source that can be further off has no say, in seconds.
    pub distance_max_s: f64,
    /// Whom the clock follows now, by its place among the candidates.
    pub current: Option<usize>,
}

/// The network sources' common word.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Combined {
    /// Their offset, the nearest weighing most, in seconds.
    pub offset_s: f64,
    /// How far they are from each other and from themselves before, in seconds.
    pub jitter_s: f64,
    /// How far the combined offset can be off: never less than what it takes to cover every one of them, in seconds.
    pub distance_s: f64,
}

/// Who is right, and who is followed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Selection {
    /// What became of each candidate, in their order.
    pub verdicts: [Verdict; SOURCES_MAX],
    /// The one that is followed: the reference of the reply.
    pub followed: Option<usize>,
    /// Why nobody is.
    pub nobody: Option<Nobody>,
    /// What to follow where the followed one is a network source.
    pub combined: Option<Combined>,
    /// Where the truth lies if more than half of the voters are right, whatever the others say: lowest and highest
    /// offset, in seconds.
    pub interval: Option<(f64, f64)>,
    /// How many voters agree.
    pub agree: usize,
}

impl Selection {
    const fn nobody(verdicts: [Verdict; SOURCES_MAX], nobody: Nobody) -> Self {
        Self { verdicts, followed: None, nobody: Some(nobody), combined: None, interval: None, agree: 0 }
    }
}

/// A candidate's interval.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Reach {
    low: f64,
    high: f64,
}

impl Reach {
    fn of(candidate: &Candidate) -> Self {
        let Candidate { offset_s, distance_s, .. } = *candidate;
        Self { low: offset_s - distance_s, high: offset_s + distance_s }
    }

    /// How far it is from another one; none if they share a moment.
    fn apart(&self, other: &Self) -> Option<f64> {
        let apart = (other.low - self.high).max(self.low - other.high);
        (apart > 0.0).then_some(apart)
    }

    fn covers(&self, other: &Self) -> bool {
        self.low <= other.low && other.high <= self.high
    }
}

/// Says who of the candidates (the first [`SOURCES_MAX`] of them) is right.
#[must_use]
pub fn select(candidates: &[Candidate], rules: &Rules) -> Selection {
    let mut verdicts = [Verdict::Absent; SOURCES_MAX];
    let mut voters: [Option<Reach>; SOURCES_MAX] = [None; SOURCES_MAX];
    for ((candidate, verdict), voter) in candidates.iter().zip(&mut verdicts).zip(&mut voters) {
        *verdict = fitness(candidate, rules);
        if *verdict == Verdict::Agrees && candidate.kind != Kind::Pulse {
            *voter = Some(Reach::of(candidate));
        }
    }
    let agreement = agreement(&voters);
    for ((candidate, verdict), voter) in candidates.iter().zip(&mut verdicts).zip(&voters) {
        if *verdict == Verdict::Agrees {
            *verdict = standing(candidate, voter.is_some(), agreement.as_ref());
        }
    }
    let Some(agreement) = agreement else {
        let any = voters.iter().any(Option::is_some);
        return Selection::nobody(verdicts, if any { Nobody::NoMajority } else { Nobody::NoVoter });
    };
    let agree = count(candidates, &verdicts, |candidate| candidate.kind != Kind::Pulse);
    let want = rules.agree_min.max(1);
    let interval = Some((agreement.majority.low, agreement.majority.high));
    if agree < want {
        let nobody = Nobody::TooFew { have: agree, want };
        return Selection { interval, agree, ..Selection::nobody(verdicts, nobody) };
    }
    let mut selection = Selection { verdicts, followed: None, nobody: None, combined: None, interval, agree };
    follow(&mut selection, candidates, rules);
    selection
}

/// Whether a candidate has a say: then it agrees, until the others have been heard.
fn fitness(candidate: &Candidate, rules: &Rules) -> Verdict {
    let Candidate { offset_s, distance_s, jitter_s, .. } = *candidate;
    let numbers = offset_s.is_finite() && distance_s.is_finite() && jitter_s.is_finite();
    if let Some(why) = candidate.unusable {
        Verdict::Unusable(why)
    } else if !numbers || distance_s < 0.0 || jitter_s < 0.0 {
        Verdict::Unusable(Unusable::NoNumber)
    } else if distance_s > rules.distance_max_s {
        Verdict::TooDistant { distance_s, most_s: rules.distance_max_s }
    } else {
        Verdict::Agrees
    }
}

/// What the majority makes of a candidate that has a say.
fn standing(candidate: &Candidate, is_voter: bool, agreement: Option<&Agreement>) -> Verdict {
    let Some(agreement) = agreement else {
        return if is_voter { Verdict::NoMajority } else { Verdict::PulseWithoutSecond };
    };
    let reach = Reach::of(candidate);
    if let Some(off_s) = reach.apart(&agreement.agreed) {
        Verdict::Falseticker { off_s }
    } else if is_voter && !reach.covers(&agreement.agreed) {
        Verdict::NoMajority
    } else {
        Verdict::Agrees
    }
}

/// How many of those who agree are such.
fn count(candidates: &[Candidate], verdicts: &[Verdict], such: impl Fn(&Candidate) -> bool) -> usize {
    let agreeing = candidates.iter().zip(verdicts).filter(|(_, verdict)| **verdict == Verdict::Agrees);
    agreeing.filter(|(candidate, _)| such(candidate)).count()
}

/// Chooses among those who agree.
fn follow(selection: &mut Selection, candidates: &[Candidate], rules: &Rules) {
    for (candidate, verdict) in candidates.iter().zip(&mut selection.verdicts) {
        if *verdict == Verdict::Agrees && candidate.only_votes {
            *verdict = Verdict::Votes;
        }
    }
    let is_reference = |candidate: &Candidate| candidate.kind != Kind::Network;
    let has_reference = count(candidates, &selection.verdicts, is_reference) > 0;
    if !has_reference {
        thin_out(candidates, &mut selection.verdicts);
    }
    let followed =
        best(candidates, &selection.verdicts, rules, |candidate| is_reference(candidate) == has_reference);
    let Some((place, best)) = followed else {
        selection.nobody = Some(Nobody::AllTooDistant);
        return;
    };
    if !has_reference {
        // A preferred server is followed alone (RFC 5905 appendix A.5.5.3 leaves the average out as well).
        if !best.prefer {
            for verdict in selection.verdicts.iter_mut().filter(|verdict| **verdict == Verdict::Agrees) {
                *verdict = Verdict::Combined;
            }
        }
        if let Some(verdict) = selection.verdicts.get_mut(place) {
            *verdict = Verdict::Followed;
        }
        selection.combined = Some(combine(candidates, &selection.verdicts, best));
    } else if let Some(verdict) = selection.verdicts.get_mut(place) {
        *verdict = Verdict::Followed;
    }
    selection.followed = Some(place);
}

/// The nearest of the preferred ones, or of all if none is preferred; the present one unless another is clearly better.
fn best<'c>(
    candidates: &'c [Candidate],
    verdicts: &[Verdict],
    rules: &Rules,
    such: impl Fn(&Candidate) -> bool,
) -> Option<(usize, &'c Candidate)> {
    let mut best: Option<(usize, &Candidate)> = None;
    let counts_as_s = |place: usize, candidate: &Candidate| {
        let handicap = if rules.current == Some(place) { CLEARLY_BETTER } else { 1.0 };
        candidate.distance_s * handicap
    };
    for (place, (candidate, verdict)) in candidates.iter().zip(verdicts).enumerate() {
        if *verdict != Verdict::Agrees || !such(candidate) {
            continue;
        }
        let better = best.is_none_or(|(other, than)| {
            let nearer = counts_as_s(place, candidate) < counts_as_s(other, than);
            if candidate.prefer == than.prefer { nearer } else { candidate.prefer }
        });
        if better {
            best = Some((place, candidate));
        }
    }
    best
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
