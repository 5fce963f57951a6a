//! When a server that ended unexpectedly is started again.

use std::time::Duration;

/// A server that lived no longer died at its start.
const BRIEF: Duration = Duration::from_secs(1);
/// So many such ends in a row are enough.
pub(super) const BRIEF_MAX: u32 = 5;
/// The pause after the first of them; twice as long after each.
const PAUSE_FIRST: Duration = Duration::from_millis(125);

/// The ends in a row that came at a start.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    brief: u32,
}

impl Restarts {
    /// How long to wait after a server that lived so long; none when it makes no sense any more.
    pub(super) fn after(&mut self, lived: Duration) -> Option<Duration> {
        self.brief = if lived < BRIEF { self.brief + 1 } else { 0 };
        match self.brief {
            0 => Some(Duration::ZERO),
            BRIEF_MAX.. => None,
            brief => Some(PAUSE_FIRST * 2_u32.pow(brief - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_at_once_and_the_fifth_in_vain() {
        let mut restarts = Restarts::default();
        let ms = |pause: Option<Duration>| pause.map(|pause| pause.as_millis());
        assert_eq!(ms(restarts.after(Duration::from_secs(60))), Some(0));
        let quick = || Duration::from_millis(200);
        let pauses = [(); 5].map(|()| ms(restarts.after(quick())));
        assert_eq!(pauses, [Some(125), Some(250), Some(500), Some(1_000), None]);
        assert_eq!(ms(restarts.after(BRIEF)), Some(0), "one that lived makes good");
        assert_eq!(ms(restarts.after(quick())), Some(125));
    }
}
