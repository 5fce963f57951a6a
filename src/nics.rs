//! The NICs whose stamps are used, while the server runs: their clocks followed, their links' speeds asked for, and whether
//! they stamp watched.
//!
//! One thread for all of them. Workers find a clock's line in its cell; what they counted tells whose stamps they use.

mod silence;

use crate::count::{Counts, Told, Way};
use crate::hands::Hands;
use crate::interface::{NicFacts, NicNow};
use crate::phc::{PhcFollower, READ_EVERY};
use crate::worker::WorkerNic;
use maser_core::refclock::PhcEvent;
use maser_sys::counter::Counter;
use maser_sys::phc::Phc;
use maser_sys::phc_cell::{PhcReader, PhcWriter, phc_cell};
use silence::{News, Silence};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use tracing::{info, warn};

/// The NICs are looked at once in so many readings of their clocks: once a second.
const LOOKED_EVERY: u32 = 8;

/// A NIC as the status sees it.
#[derive(Debug)]
pub struct NicView {
    /// What the keeper found out about it.
    pub facts: NicFacts,
    /// Where its clock stands.
    pub line: PhcReader,
    /// Under which place workers count it; none if none of its stamps are used.
    pub place: Option<usize>,
    link_mbps: Arc<AtomicU32>,
    seen: Mutex<Seen>,
}

/// What is looked up once a second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// What the kernel says of it.
    pub now: NicNow,
    /// Who said lately when frames came and when they left: the last second's with any, by [`Told`].
    pub lately: [[u64; Told::ALL.len()]; 2],
    /// What is wrong with its stamps, in words.
    pub problems: [Option<&'static str>; 2],
}

impl NicView {
    fn new(facts: NicFacts, line: PhcReader, place: Option<usize>) -> Self {
        let link_mbps = Arc::new(AtomicU32::new(facts.now.link_mbps.unwrap_or(0)));
        let seen = Mutex::new(Seen { now: facts.now.clone(), ..Seen::default() });
        Self { facts, line, place, link_mbps, seen }
    }

    /// As of the last look.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Whether lately its stamps were used of frames that came.
    #[must_use]
    pub fn says_when_frames_come(&self) -> bool {
        self.lock().lately[Way::Received as usize][Told::Used as usize] > 0
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self) -> Option<WorkerNic> {
        let NicFacts { index: interface, receives, sends, .. } = self.facts;
        let (line, link_mbps) = (self.line.clone(), Arc::clone(&self.link_mbps));
        self.place.map(|_| WorkerNic { interface, receives, sends, line, link_mbps })
    }
}

/// All of them, before the thread runs.
#[derive(Debug, Default)]
pub struct Nics {
    /// For the status, in the order of the configuration.
    pub views: Arc<[NicView]>,
    followed: Vec<Followed>,
}

/// One whose clock is followed.
#[derive(Debug)]
struct Followed {
    /// In the list of views.
    view: usize,
    follower: PhcFollower,
    /// Where workers find its line.
    cell: PhcWriter,
    /// Whether the clock can be read.
    is_read: bool,
    silences: [Silence; 2],
}

impl Nics {
    /// From what the keeper handed over.
    #[must_use]
    pub fn new(handed: Vec<(NicFacts, Option<OwnedFd>)>, counter: Counter) -> Self {
        let (mut views, mut followed) = (Vec::new(), Vec::new());
        for (view, (mut facts, clock)) in handed.into_iter().enumerate() {
            let (cell, line) = phc_cell();
            let stamps = facts.receives || facts.sends;
            let place = match clock.filter(|_| stamps).map(|clock| Phc::of_file(File::from(clock))) {
                Some(Ok(phc)) => {
                    let follower = PhcFollower::new(phc, counter);
                    followed.push(Followed {
                        view,
                        follower,
                        cell,
                        is_read: true,
                        silences: <[Silence; 2]>::default(),
                    });
                    Some(followed.len() - 1)
                }
                Some(Err(error)) => {
                    facts.why = format!("its clock can't be used: {error}");
                    warn!("{}: {}", facts.name, facts.why);
                    None
                }
                None => None,
            };
            views.push(NicView::new(facts, line, place));
        }
        Self { views: views.into(), followed }
    }

    /// Whether sockets are to ask for NICs' stamps.
    #[must_use]
    pub const fn are_used(&self) -> bool {
        !self.followed.is_empty()
    }

    /// For each worker, in the places under which it counts them.
    #[must_use]
    pub fn for_worker(&self) -> Vec<WorkerNic> {
        self.views.iter().filter_map(NicView::worker).collect()
    }

    /// Follows the clocks until `stop`; `counts` are the workers'.
    pub fn run(mut self, counts: &[Arc<Counts>], hands: &Hands, stop: &AtomicBool) {
        for look in 0_u32.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.followed
                .iter_mut()
                .for_each(|followed| followed.look(&self.views[followed.view].facts.name));
            if look.is_multiple_of(LOOKED_EVERY) {
                self.ask(hands);
                self.watch(counts);
            }
            thread::sleep(READ_EVERY);
        }
    }

    /// What the kernel says of them may have changed.
    fn ask(&self, hands: &Hands) {
        let names = || self.views.iter().map(|view| view.facts.name.as_str());
        let Ok(now) = hands.nics(names()) else { return };
        for (view, now) in self.views.iter().zip(now) {
            view.link_mbps.store(now.link_mbps.unwrap_or(0), Ordering::Relaxed);
            let mut seen = view.lock();
            if now != seen.now {
                let (filter, transmit) = (&now.receive_filter, &now.transmit_type);
                let speed = now.link_mbps.map_or("unknown".to_owned(), |mbps| format!("{mbps} Mb/s"));
                info!(
                    "{}: stamps what comes by the filter {filter}, what leaves: {transmit}; its link's speed is {speed}",
                    view.facts.name
                );
                seen.now = now;
            }
        }
    }

    /// Whether they stamp.
    fn watch(&mut self, counts: &[Arc<Counts>]) {
        for (place, followed) in self.followed.iter_mut().enumerate() {
            let view = &self.views[followed.view];
            for way in [Way::Received, Way::Sent] {
                let silence = &mut followed.silences[way as usize];
                let mut told = [0; Told::ALL.len()];
                for counts in counts {
                    let of_worker = counts.of_nic(place, way);
                    told.iter_mut().zip(of_worker).for_each(|(sum, count)| *sum += count);
                }
                let news = silence.look(told);
                match news {
                    Some(News::Silent(problem)) => warn!("{}: {}", view.facts.name, problem.words(way)),
                    Some(News::Back) => {
                        info!("{}: its stamps of {} are used again", view.facts.name, what(way));
                    }
                    None => {}
                }
                let mut seen = view.lock();
                seen.lately[way as usize] = silence.lately();
                seen.problems[way as usize] = silence.problem().map(|problem| problem.words(way));
            }
        }
    }
}

const fn what(way: Way) -> &'static str {
    match way {
        Way::Received => "what comes",
        Way::Sent => "what leaves",
    }
}

impl Followed {
    /// Reads the clock, and says what has become of it.
    fn look(&mut self, name: &str) {
        let look = self.follower.look();
        self.cell.publish(&self.follower.line());
        match look {
            Ok(look) => {
                if !std::mem::replace(&mut self.is_read, true) {
                    info!("{name}: its clock can be read again");
                }
                match look.event {
                    Some(PhcEvent::Jumped { by_ns }) => info!("{name}: its clock was set, by {by_ns} ns"),
                    Some(PhcEvent::Stopped) => {
                        warn!("{name}: its clock stands still, and its stamps aren't used")
                    }
                    Some(PhcEvent::Found) | None => {}
                }
            }
            Err(error) if std::mem::replace(&mut self.is_read, false) => {
                warn!("{name}: its clock can't be read, and its stamps aren't used: {error}");
            }
            Err(_) => {}
        }
    }
}
