//! The sentences of one source as evidence: do they name seconds, and which?
//!
//! A sentence says which second began, some unknown time ago. Where sentences come anywhere in a second, the pulse
//! before a sentence may be the one that it names or the one after that, and nothing in them tells. So the null
//! hypothesis "they come anywhere" has to be rejected by their phases first; then their claims have to agree.

use super::Need;
use crate::time::Span;
use libm::pow;

/// So many of the last sentences are kept.
const ARRIVALS_MAX: usize = 64;

/// A source isn't believed on fewer sentences, however tidy.
pub(super) const ARRIVALS_MIN: usize = 10;

/// The chance at which "they come anywhere in a second" is rejected, and "half of them come after the next pulse".
const SIGNIFICANCE: f64 = 1e-9;

/// One claim in so many may be corrupt: the others still have to agree on one labelling.
const CORRUPT_ONE_IN: usize = 8;

/// So many sentences in a row that name another second than the label's contradict it.
pub const CONTRADICTING_MIN: usize = 10;

/// A full turn of phase: a second in units of 2⁻³² s.
const TURN: u64 = 1 << 32;

/// Where a stated delay is known to within 0.4 s, phases keep this far from the window's ends.
const STATED_MARGIN: u64 = TURN / 10;

/// When a sentence came, and what it claims.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// The second that it names.
    pub(super) second: i64,
    /// That second less the index of the pulse before it.
    pub(super) offset: i64,
    /// When it came after that pulse, in units of 2⁻³² s.
    pub(super) phase: u32,
}

impl Arrival {
    const NONE: Self = Self { second: 0, offset: 0, phase: 0 };
}

/// The shortest arc of the second in which all arrivals lie.
#[derive(Clone, Copy, Debug)]
struct Arc {
    start: u64,
    length: u64,
}

/// The last sentences of one kind from one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The source, and whether these are messages of the next pulse; none while nobody uses the window.
    pub(super) owner: Option<(usize, bool)>,
    /// Whether phases are counted from half a second before the delay that the operator states.
    pub(super) stated: bool,
    arrivals: [Arrival; ARRIVALS_MAX],
    heard: u64,
}

impl Window {
    pub(super) const NONE: Self =
        Self { owner: None, stated: false, arrivals: [Arrival::NONE; ARRIVALS_MAX], heard: 0 };

    pub(super) const fn clear(&mut self) {
        self.heard = 0;
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.heard).map_or(ARRIVALS_MAX, |heard| heard.min(ARRIVALS_MAX))
    }

    fn kept(&self) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter().take(self.len())
    }

    /// Takes an arrival, unless one has named the same second already: the messages of a burst come together, so the
    /// later ones say nothing new of when messages come.
    pub(super) fn push(&mut self, arrival: Arrival) {
        if self.kept().any(|kept| kept.second == arrival.second) {
            return;
        }
        let next = self.slot(0);
        if let Some(slot) = self.arrivals.get_mut(next) {
            *slot = arrival;
            self.heard = self.heard.saturating_add(1);
        }
    }

    /// Where the arrival `back` before the next one is kept.
    fn slot(&self, back: usize) -> usize {
        let next = usize::try_from(self.heard % (ARRIVALS_MAX as u64)).unwrap_or(0);
        (next + ARRIVALS_MAX - back) % ARRIVALS_MAX
    }

    /// The second of pulse 0 by these sentences, or what is missing.
    pub(super) fn names(&self) -> Result<i64, Need> {
        self.is_clustered()?;
        let (offset, agree) = self.majority();
        let have = self.len();
        if agree < have - have / CORRUPT_ONE_IN {
            return Err(Need::Consistent { agree, have });
        }
        Ok(offset)
    }

    /// Whether the last sentences, one after the other, name another second for pulse 0 than `offset`, and how far off.
    pub(super) fn contradicts(&self, offset: i64) -> Option<i64> {
        let mut last = (1..=CONTRADICTING_MIN).filter_map(|back| self.arrivals.get(self.slot(back)));
        let other = last.next()?.offset;
        let persist = other != offset && last.all(|arrival| arrival.offset == other);
        (persist && self.is_clustered().is_ok()).then(|| other.saturating_sub(offset))
    }

    /// Whether the arrivals lie in one arc between two pulses, and not by chance.
    fn is_clustered(&self) -> Result<(), Need> {
        let have = self.len();
        let arc = self.arc();
        match self.wanted(arc) {
            Some(want) if have >= want => {}
            None if have >= ARRIVALS_MIN => {
                return Err(Need::Narrower { spread: Span::from_raw(i128::from(arc.length) << 32) });
            }
            want => return Err(Need::Sentences { have, want: want.unwrap_or(ARRIVALS_MAX) }),
        }
        let margin = self.margin();
        if arc.start < margin || arc.start + arc.length > TURN - margin {
            return Err(Need::Straddle);
        }
        Ok(())
    }

    const fn margin(&self) -> u64 {
        if self.stated { STATED_MARGIN } else { 0 }
    }

    fn arc(&self) -> Arc {
        let mut phases = [0; ARRIVALS_MAX];
        for (phase, arrival) in phases.iter_mut().zip(self.kept()) {
            *phase = u64::from(arrival.phase);
        }
        let (phases, _) = phases.split_at_mut(self.len());
        phases.sort_unstable();
        let (Some(first), Some(last)) = (phases.first(), phases.last()) else {
            return Arc { start: 0, length: 0 };
        };
        // The gap around the turn's end first, then those between neighbours.
        let (mut gap, mut start) = (first + TURN - last, *first);
        for (earlier, later) in phases.iter().zip(phases.iter().skip(1)) {
            if later - earlier > gap {
                (gap, start) = (later - earlier, *later);
            }
        }
        Arc { start, length: TURN - gap }
    }

    /// How many arrivals it takes to call an arc so long, and so far from the pulse, no chance; none if more than are
    /// kept.
    fn wanted(&self, arc: Arc) -> Option<usize> {
        // Every windowful of arrivals is another try: a window that waits for months must not be lucky once.
        let tries = 1.0 + as_f64(self.heard / (ARRIVALS_MAX as u64));
        let length = as_f64(arc.length);
        let from_pulse = as_f64(arc.start.saturating_sub(self.margin())).max(1.0);
        // The largest of n gaps between points anywhere on a circle exceeds 1 − a with a chance of n aⁿ⁻¹ at most.
        let anywhere = length / as_f64(TURN);
        // If they come as far before the pulse as after it, n of them keep to an arc on one side with ½ aⁿ⁻¹.
        let both_sides = length / (2.0 * (from_pulse + length));
        (ARRIVALS_MIN..=ARRIVALS_MAX).find(|count| {
            let count = as_f64(*count as u64);
            let by_chance = |part: f64| pow(part, count - 1.0) * tries;
            count * by_chance(anywhere) < SIGNIFICANCE && by_chance(both_sides) / 2.0 < SIGNIFICANCE
        })
    }

    /// The most claimed second of pulse 0, if any has a majority, and how many claims agree on it.
    fn majority(&self) -> (i64, usize) {
        let (mut candidate, mut lead) = (0, 0_usize);
        for arrival in self.kept() {
            if lead == 0 {
                candidate = arrival.offset;
            }
            lead = if arrival.offset == candidate { lead + 1 } else { lead - 1 };
        }
        (candidate, self.kept().filter(|arrival| arrival.offset == candidate).count())
    }
}

/// Counts below 2⁵³ are exact.
#[expect(clippy::cast_precision_loss, reason = "what is counted here stays far below")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}
