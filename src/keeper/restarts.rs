//! When a server that ended unexpectedly is started again.

use std::time::Duration;

/// A server that answered no longer than this, or never, died at its start.
const BRIEF: Duration = Duration::from_secs(1);
/// So many such ends in a row are enough.
pub(super) const BRIEF_MAX: u32 = 5;
/// The pause after the first of them; twice as long after each.
const PAUSE_FIRST: Duration = Duration::from_millis(125);
/// A kernel that has no process left to give is asked so often, once a second: whatever took them all may end.
const UNSTARTED_MAX: u32 = 300;
const UNSTARTED_PAUSE: Duration = Duration::from_secs(1);

/// The ends in a row that came at a start.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    brief: u32,
    unstarted: u32,
}

impl Restarts {
    /// How long to wait after a server that answered for so long, if it ever did; none when it makes no sense any more.
    pub(super) fn after(&mut self, answered: Option<Duration>) -> Option<Duration> {
        self.unstarted = 0;
        self.brief = if answered.is_none_or(|answered| answered < BRIEF) { self.brief + 1 } else { 0 };
        match self.brief {
            0 => Some(Duration::ZERO),
            BRIEF_MAX.. => None,
            brief => Some(PAUSE_FIRST * 2_u32.pow(brief - 1)),
        }
    }

    /// How long to wait where no process could be started; none when it makes no sense any more.
    pub(super) fn after_none(&mut self) -> Option<Duration> {
        self.unstarted += 1;
        (self.unstarted < UNSTARTED_MAX).then_some(UNSTARTED_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_at_once_and_the_fifth_in_vain() {
        let mut restarts = Restarts::default();
        let ms = |pause: Option<Duration>| pause.map(|pause| pause.as_millis());
        assert_eq!(ms(restarts.after(Some(Duration::from_secs(60)))), Some(0));
        let quick = || Some(Duration::from_millis(200));
        let pauses = [(); 5].map(|()| ms(restarts.after(quick())));
        assert_eq!(pauses, [Some(125), Some(250), Some(500), Some(1_000), None]);
        assert_eq!(ms(restarts.after(Some(BRIEF))), Some(0), "one that lived makes good");
        assert_eq!(ms(restarts.after(quick())), Some(125));
        assert_eq!(ms(restarts.after(None)), Some(250), "it never answered, however long it tried");
    }

    #[test]
    fn a_kernel_without_processes_is_asked_for_minutes() {
        let mut restarts = Restarts::default();
        assert!((0..120).all(|_| restarts.after_none() == Some(Duration::from_secs(1))));
        assert_eq!(restarts.after(Some(BRIEF)), Some(Duration::ZERO));
        assert_eq!((0..1_000).take_while(|_| restarts.after_none().is_some()).count(), 299);
    }
}
