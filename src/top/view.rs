//! What is shown: the last answer, what came of the ones before it, and what the keys have set.

use std::time::Duration;

use super::history::{History, POINTS, Point};
use super::rates::Rates;
use crate::status::{ClientsStatus, State, Status};

/// What the server said, and when it was asked and had answered, by the asking side's own clock.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answer {
    /// How it is.
    pub(super) status: Status,
    /// Who asks it the most, or why it doesn't say.
    pub(super) clients: Result<ClientsStatus, String>,
    /// When it was asked.
    pub(super) asked_s: f64,
    /// When it had answered.
    pub(super) answered_s: f64,
}

/// Since when there has been no answer, and why.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Lost {
    /// Since when.
    pub(super) since_s: f64,
    /// Why.
    pub(super) reason: String,
}

/// A key that means something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// Leaves.
    Quit,
    /// Stops asking, or begins again.
    Pause,
    /// Scales the plot to the offset alone, or to the error bound again.
    Scale,
    /// Explains the screen, or stops explaining.
    Help,
    /// Stops explaining.
    Back,
    /// Stops the process, as a shell wants it.
    Suspend,
}

/// All that a frame is drawn from.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct View {
    /// How often the server is asked.
    pub(super) interval: Duration,
    /// What it said last.
    pub(super) answer: Option<Answer>,
    /// What it did between the last two answers.
    pub(super) rates: Option<Rates>,
    /// The last minutes.
    pub(super) history: History,
    /// Set while it doesn't answer.
    pub(super) lost: Option<Lost>,
    /// The moment that is shown.
    pub(super) now_s: f64,
    /// Whether nothing is asked and nothing changes.
    pub(super) is_paused: bool,
    /// Whether the screen is explained.
    pub(super) is_explained: bool,
    /// Whether the plot is scaled to the offset alone.
    pub(super) is_scaled_to_offset: bool,
    /// Whether answers are missing since the last one.
    gap: bool,
}

impl View {
    /// Of a server that hasn't answered yet.
    #[must_use]
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            answer: None,
            rates: None,
            history: History::default(),
            lost: None,
            now_s: 0.0,
            is_paused: false,
            is_explained: false,
            is_scaled_to_offset: false,
            gap: false,
        }
    }

    /// Over how long the plots reach.
    #[must_use]
    pub(super) fn window_s(&self) -> f64 {
        self.interval.as_secs_f64() * f64::from(POINTS)
    }

    /// The server answered.
    pub(super) fn heard(&mut self, answer: Answer) {
        // What was asked for before the pause began isn't wanted any more.
        if self.is_paused {
            return;
        }
        let earlier = self.answer.as_ref().filter(|_| !self.gap);
        let Answer { status, asked_s, answered_s, .. } = &answer;
        self.rates =
            earlier.and_then(|earlier| Rates::between(&earlier.status, status, asked_s - earlier.answered_s));
        let tracking = &status.tracking;
        self.history.push(Point {
            at_s: *answered_s,
            requests: self.rates.as_ref().map(|rates| rates.requests),
            offset_s: tracking.offset_s.filter(|_| has_source(status.state)),
            bound_s: Some(tracking.root_distance_s).filter(|_| status.state.is_followable()),
            after_gap: self.answer.is_some() && self.rates.is_none(),
        });
        self.now_s = *answered_s;
        self.lost = None;
        self.gap = false;
        self.answer = Some(answer);
    }

    /// It didn't.
    pub(super) fn failed(&mut self, reason: String, now_s: f64) {
        if self.is_paused {
            return;
        }
        self.rates = None;
        self.gap = true;
        self.now_s = now_s;
        let since_s = self.lost.as_ref().map_or(now_s, |lost| lost.since_s);
        self.lost = Some(Lost { since_s, reason });
    }

    /// A key was pressed that changes what is shown.
    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Pause => {
                self.is_paused = !self.is_paused;
                self.gap = true;
            }
            Key::Scale => self.is_scaled_to_offset = !self.is_scaled_to_offset,
            Key::Help => self.is_explained = !self.is_explained,
            Key::Back => self.is_explained = false,
            Key::Quit | Key::Suspend => {}
        }
    }

    /// When the server is to be asked next, if it was asked last at `asked_s`; none while nothing is to be asked.
    #[must_use]
    pub(super) fn next_ask_s(&self, asked_s: Option<f64>) -> Option<f64> {
        let next = asked_s.map_or(0.0, |asked_s| asked_s + self.interval.as_secs_f64());
        (!self.is_paused).then_some(next)
    }
}

/// Whether a source is followed now. Without one the offset is that of the last sample, however old.
pub(super) const fn has_source(state: State) -> bool {
    match state {
        State::Acquiring | State::Locked | State::Synchronised | State::Local => true,
        State::Cold | State::Holdover | State::Unsynchronised => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::plausible;

    /// So many requests a second from the first answer on, told at that uptime.
    fn answer(at_s: f64, uptime_s: f64, rate: u32) -> Answer {
        let mut status = plausible();
        status.uptime_s = uptime_s;
        let answered = 60.0 * f64::from(rate) + uptime_s * f64::from(rate);
        status.workers[0].answers.insert("server".to_owned(), crate::status::whole(answered));
        Answer { status, clients: Ok(ClientsStatus::default()), asked_s: at_s, answered_s: at_s + 0.01 }
    }

    fn view() -> View {
        View::new(Duration::from_secs(1))
    }

    fn gaps(view: &View) -> Vec<bool> {
        view.history.points().map(|point| point.after_gap).collect()
    }

    #[test]
    fn the_first_answer_has_no_rate_and_the_second_has() {
        let mut view = view();
        view.heard(answer(1.0, 100.0, 50));
        assert_eq!(view.rates, None);
        view.heard(answer(2.0, 101.0, 50));
        assert_eq!(view.rates.as_ref().unwrap().requests, 50.0);
        assert_eq!(gaps(&view), [false, false]);
    }

    #[test]
    fn a_restarted_server_leaves_a_gap_and_never_a_rate() {
        let mut view = view();
        view.heard(answer(1.0, 100.0, 50));
        view.heard(answer(2.0, 101.0, 50));
        view.heard(answer(3.0, 0.2, 50));
        assert_eq!(view.rates, None);
        view.heard(answer(4.0, 1.2, 50));
        assert_eq!(view.rates.as_ref().unwrap().requests, 50.0);
        assert_eq!(gaps(&view), [false, false, true, false]);
        let rates: Vec<_> = view.history.points().map(|point| point.requests).collect();
        assert_eq!(rates, [None, Some(50.0), None, Some(50.0)]);
    }

    #[test]
    fn a_server_that_does_not_answer_is_waited_for_and_the_history_stays() {
        let mut view = view();
        view.heard(answer(1.0, 100.0, 50));
        view.failed("gone".to_owned(), 2.0);
        view.failed("still gone".to_owned(), 3.0);
        assert_eq!(view.lost, Some(Lost { since_s: 2.0, reason: "still gone".to_owned() }));
        // The same run: it was only silent.
        view.heard(answer(4.0, 103.0, 50));
        assert_eq!((view.lost.as_ref(), view.rates.as_ref()), (None, None));
        assert_eq!(gaps(&view), [false, true]);
    }

    #[test]
    fn a_pause_asks_nothing_and_changes_nothing() {
        let mut view = view();
        view.heard(answer(1.0, 100.0, 50));
        view.heard(answer(2.0, 101.0, 50));
        assert_eq!(view.next_ask_s(None), Some(0.0));
        assert_eq!(view.next_ask_s(Some(2.0)), Some(3.0));
        view.press(Key::Pause);
        assert_eq!(view.next_ask_s(Some(2.0)), None);
        let before = view.clone();
        view.heard(answer(3.0, 102.0, 50));
        view.failed("gone".to_owned(), 4.0);
        assert_eq!(view, before);
        view.press(Key::Pause);
        view.heard(answer(60.0, 159.0, 50));
        assert_eq!((view.rates.as_ref(), gaps(&view)), (None, vec![false, false, true]));
    }

    #[test]
    fn a_clock_in_holdover_has_a_bound_and_no_offset() {
        let mut view = view();
        let mut alone = answer(1.0, 100.0, 50);
        alone.status.state = State::Holdover;
        view.heard(alone);
        let point = view.history.points().next().unwrap();
        assert_eq!((point.offset_s, point.bound_s), (None, Some(1.21e-6)));
    }

    #[test]
    fn nobody_may_follow_a_clock_without_a_bound() {
        let mut view = view();
        let mut lost = answer(1.0, 100.0, 50);
        lost.status.state = State::Unsynchronised;
        view.heard(lost);
        assert_eq!(view.history.points().next().unwrap().bound_s, None);
    }
}
