//! Whether a NIC that is to stamp does, from what the workers count.

use crate::count::{Told, Way};

/// So many seconds in which frames came and none with a stamp that could be used.
const SILENT_SECONDS: u32 = 5;

/// What is wrong with a NIC's stamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// There are none.
    Missing,
    /// They can't be true.
    Implausible,
    /// Its clock isn't found, or stands still.
    Unplaced,
}

impl Problem {
    /// For the log and the status.
    pub(super) const fn words(self, way: Way) -> &'static str {
        match (self, way) {
            (Self::Missing, Way::Received) => {
                "it has ceased to stamp what comes, and the kernel's stamps are used; `ethtool -T` shows its filter"
            }
            (Self::Missing, Way::Sent) => {
                "it has ceased to stamp what leaves, and the kernel's stamps are used; `ethtool -T` shows its setting"
            }
            (Self::Implausible, Way::Received) => {
                "its stamps of what comes can't be true, and the kernel's are used; is its driver the newest?"
            }
            (Self::Implausible, Way::Sent) => {
                "its stamps of what leaves can't be true, and the kernel's are used; is its driver the newest?"
            }
            (Self::Unplaced, Way::Received) => {
                "nobody knows its clock, and the kernel's stamps of what comes are used"
            }
            (Self::Unplaced, Way::Sent) => {
                "nobody knows its clock, and the kernel's stamps of what leaves are used"
            }
        }
    }
}

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// Its stamps aren't used any more.
    Silent(Problem),
    /// They are again.
    Back,
}

/// One way of a NIC, looked at once a second.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    told: [u64; Told::ALL.len()],
    lately: [u64; Told::ALL.len()],
    /// Of those in a row in which there was something to stamp.
    seconds: u32,
    problem: Option<Problem>,
}

impl Silence {
    /// Takes the counts as they are now.
    pub(super) fn look(&mut self, told: [u64; Told::ALL.len()]) -> Option<News> {
        let before = std::mem::replace(&mut self.told, told);
        let mut since = told;
        since.iter_mut().zip(before).for_each(|(count, before)| *count = count.wrapping_sub(before));
        if since.iter().all(|count| *count == 0) {
            return None;
        }
        self.lately = since;
        let of = |told: Told| since[told as usize];
        if of(Told::Used) > 0 {
            self.seconds = 0;
            return self.problem.take().map(|_| News::Back);
        }
        let causes = [
            (of(Told::Missing), Problem::Missing),
            (of(Told::Implausible), Problem::Implausible),
            (of(Told::Unplaced), Problem::Unplaced),
        ];
        let (frames, problem) = causes.into_iter().max_by_key(|(frames, _)| *frames)?;
        if frames == 0 {
            return None;
        }
        self.seconds += 1;
        if self.seconds < SILENT_SECONDS || self.problem == Some(problem) {
            return None;
        }
        self.problem = Some(problem);
        Some(News::Silent(problem))
    }

    /// The last second's in which there was anything.
    pub(super) const fn lately(&self) -> [u64; Told::ALL.len()] {
        self.lately
    }

    /// What is wrong now.
    pub(super) const fn problem(&self) -> Option<Problem> {
        self.problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a series of seconds brings, each by who told of its frames.
    fn news(seconds: &[(Told, u64)]) -> Vec<(usize, News)> {
        let (mut silence, mut told) = (Silence::default(), [0; Told::ALL.len()]);
        let mut look = |(second, &(by, frames)): (usize, &(Told, u64))| {
            told[by as usize] += frames;
            silence.look(told).map(|news| (second, news))
        };
        seconds.iter().enumerate().filter_map(&mut look).collect()
    }

    #[test]
    fn a_nic_that_ceases_to_stamp_is_told_once_and_when_it_is_back() {
        let used = [(Told::Used, 5)];
        let missing = [(Told::Missing, 9); 9];
        let seconds = [&used[..], &missing, &used, &used].concat();
        assert_eq!(news(&seconds), [(5, News::Silent(Problem::Missing)), (10, News::Back)]);
        assert_eq!(news(&missing[..4]), [], "too few");
    }

    #[test]
    fn seconds_without_frames_say_nothing() {
        let quiet = [(Told::Missing, 0); 20];
        let seconds = [&quiet[..], &[(Told::Missing, 1); 3], &quiet, &[(Told::Missing, 1); 2]].concat();
        assert_eq!(news(&seconds), [(44, News::Silent(Problem::Missing))]);
        assert_eq!(news(&[(Told::Hook, 4); 9]), [], "nobody promised any");
    }

    #[test]
    fn what_cannot_be_true_is_another_problem() {
        let seconds = [[(Told::Implausible, 3); 6], [(Told::Unplaced, 3); 6]].concat();
        let expected = [(4, News::Silent(Problem::Implausible)), (6, News::Silent(Problem::Unplaced))];
        assert_eq!(news(&seconds), expected);
    }
}
