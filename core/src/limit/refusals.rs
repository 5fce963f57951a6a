//! Whether so many are refused that a program in front had better look everybody up.
//!
//! A look-up in front costs each request some of its time, and spares a refused one most of it. So all are looked up once a sixteenth of what comes is refused, and no more once it is under half of that. Bursts are seen in hundreds
//! of requests; that one is over, in thousands, since few of those that are dropped in front are let through to be counted.

/// So many are asked at least before everybody is looked up, and before nobody is any more.
const ASKED_FOR_MANY: u32 = 256;
const ASKED_FOR_FEW: u32 = 4096;
/// Of so many one refused is many, or no longer.
const PER_REFUSED_FOR_MANY: u64 = 16;
const PER_REFUSED_FOR_FEW: u64 = 32;

/// What a worker counts. At first many are refused: nobody knows better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusals {
    asked: u32,
    refused: u32,
    many: bool,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { asked: 0, refused: 0, many: true }
    }
}

impl Refusals {
    /// So many asked, and so many of them were refused, or would have been in front.
    #[inline]
    pub fn count(&mut self, asked: u16, refused: u16) {
        self.asked = self.asked.saturating_add(asked.into());
        self.refused = self.refused.saturating_add(refused.into());
    }

    /// Whether they are many, by what was counted until now.
    #[inline]
    pub fn are_many(&mut self) -> bool {
        let (asked, refused) = (u64::from(self.asked), u64::from(self.refused));
        if self.asked >= ASKED_FOR_MANY && refused * PER_REFUSED_FOR_MANY >= asked {
            *self = Self { asked: 0, refused: 0, many: true };
        } else if self.asked >= ASKED_FOR_FEW {
            *self = Self { asked: 0, refused: 0, many: self.many && refused * PER_REFUSED_FOR_FEW >= asked };
        }
        self.many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many requests, of which one in `per` is refused and counts for `weight`.
    fn after(refusals: &mut Refusals, requests: u16, per: u16, weight: u16) -> bool {
        for number in 1..=requests {
            if number.is_multiple_of(per) {
                refusals.count(weight, weight);
            } else {
                refusals.count(1, 0);
            }
            refusals.are_many();
        }
        refusals.are_many()
    }

    #[test]
    fn everybody_is_looked_up_until_few_are_refused() {
        let mut refusals = Refusals::default();
        assert!(after(&mut refusals, 4095, u16::MAX, 1));
        assert!(!after(&mut refusals, 1, u16::MAX, 1));
    }

    #[test]
    fn a_burst_is_seen_at_once_and_stays_many_while_it_lasts() {
        let mut refusals = Refusals::default();
        after(&mut refusals, 4096, u16::MAX, 1);
        assert!(after(&mut refusals, 256, 16, 1));
        // All but one in 64 are dropped in front: of 16,384 asked 1,024 are refused, and 16 of these are seen.
        assert!(after(&mut refusals, 15_376, 961, 64));
        assert!(!after(&mut refusals, 8192, u16::MAX, 1));
    }

    #[test]
    fn between_the_two_it_stays() {
        for many in [true, false] {
            let mut refusals = Refusals::default();
            after(&mut refusals, 4096, if many { 16 } else { u16::MAX }, 1);
            assert_eq!(after(&mut refusals, 20_480, 24, 1), many);
        }
    }

    #[test]
    fn nothing_overflows() {
        let mut refusals = Refusals::default();
        for _ in 0..70_000 {
            refusals.count(u16::MAX, u16::MAX);
        }
        assert!(refusals.are_many());
        for _ in 0..70_000 {
            refusals.count(u16::MAX, 0);
        }
        assert!(!refusals.are_many());
    }
}
