//! The interfaces that were named, as the log and the status tell them.

use crate::config::PortChoice;
use crate::interface::InterfaceFacts;
use crate::port::ladder::{InterfaceFooting, Rung};
use crate::status::{Counters, InterfaceStatus, QueueStatus};
use maser_sys::af_xdp::{XskCounts, XskStatistics};
use maser_sys::driver_limits::Floor;
use maser_sys::xdp_program::XdpCounts;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// An interface that the program was attached to.
#[derive(Debug)]
pub struct InterfaceView {
    /// What the keeper found out about it.
    pub facts: InterfaceFacts,
    /// What it stands on, and why.
    pub footing: InterfaceFooting,
    /// Its queues; none without AF_XDP.
    pub queues: Vec<QueueView>,
    /// What the program counts.
    pub counts: XdpCounts,
}

/// A queue as the status sees it.
#[derive(Debug)]
pub struct QueueView {
    /// Its number.
    pub number: u32,
    /// The core of the worker that owns it.
    pub core: usize,
    /// What the kernel counts of its socket; none once it is left.
    pub statistics: Mutex<Option<XskStatistics>>,
    /// Below which level its requests are dropped.
    pub floor: Floor,
}

/// What isn't as good as it could be, in words.
fn why(facts: &InterfaceFacts, footing: &InterfaceFooting) -> String {
    let copied = match footing {
        InterfaceFooting::AfXdp { why_copied, .. } => why_copied.map(|error| error.to_string()),
        InterfaceFooting::Stack { why } => Some(why.clone()),
    };
    let parts = [Some(facts.why.clone()).filter(|why| !why.is_empty()), copied];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

const fn frames(zero_copy: bool) -> &'static str {
    if zero_copy { "zero-copy" } else { "copy" }
}

/// Whose receive stamps the workers use: the program's, or the NIC's where these come with them and can be placed.
const STAMPS: &str = "hook";
const NIC_STAMPS: &str = "nic";

impl InterfaceView {
    /// Lets go of its queues: their sockets close with the last who has them.
    pub(crate) fn leave_queues(&self) {
        for queue in &self.queues {
            *queue.statistics.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// As of now; `rung` is that of the kernel's own stack, and `by_nic` whether the NIC's stamps were used lately.
    pub(super) fn status(&self, rung: Rung, by_nic: bool) -> InterfaceStatus {
        let Self { facts, footing, queues, counts } = self;
        let standing = match footing {
            InterfaceFooting::AfXdp { zero_copy, .. } => InterfaceStatus {
                rung: PortChoice::AfXdp.word().to_owned(),
                frames: frames(*zero_copy).to_owned(),
                stamps: if by_nic { NIC_STAMPS } else { STAMPS }.to_owned(),
                ..InterfaceStatus::default()
            },
            InterfaceFooting::Stack { .. } => {
                InterfaceStatus { rung: rung.to_string(), ..InterfaceStatus::default() }
            }
        };
        let verdicts = counts.read();
        InterfaceStatus {
            name: facts.name.clone(),
            driver: facts.driver.clone(),
            mode: facts.mode.to_string(),
            why: why(facts, footing),
            queues: queues.iter().map(queue).collect(),
            verdicts: verdicts.iter().map(|(reason, frames)| (reason.name().to_owned(), frames)).collect(),
            rss: facts.rss.clone(),
            spread: facts.spread.clone(),
            ..standing
        }
    }
}

/// An interface that the program isn't on; `rung` is that of the kernel's own stack.
pub(super) fn refused(name: &str, why: &str, rung: Rung) -> InterfaceStatus {
    InterfaceStatus {
        name: name.to_owned(),
        rung: rung.to_string(),
        why: format!("a step down: {why}"),
        ..InterfaceStatus::default()
    }
}

fn queue(view: &QueueView) -> QueueStatus {
    // Without figures rather than without the rest of the status.
    let statistics = view.statistics.lock().unwrap_or_else(PoisonError::into_inner);
    let events = statistics.as_ref().and_then(|statistics| statistics.read().ok()).map(events);
    let floor = f64::from(view.floor.get()) / f64::from(1_u32 << 16);
    QueueStatus { queue: view.number, core: view.core, floor, events: events.unwrap_or_default() }
}

fn events(counts: XskCounts) -> Counters {
    let XskCounts {
        rx_dropped,
        rx_invalid_descs,
        tx_invalid_descs,
        rx_ring_full,
        rx_fill_ring_empty_descs,
        // It counts how often the kernel found nothing more to send, which is no event.
        tx_ring_empty_descs: _,
    } = counts;
    let named = [
        ("rx-dropped", rx_dropped),
        ("rx-ring-full", rx_ring_full),
        ("rx-no-frame", rx_fill_ring_empty_descs),
        ("rx-invalid", rx_invalid_descs),
        ("tx-invalid", tx_invalid_descs),
    ];
    named.map(|(name, count)| (name.to_owned(), count)).into()
}

impl fmt::Display for InterfaceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { facts, footing, queues, .. } = self;
        match footing {
            InterfaceFooting::AfXdp { zero_copy, .. } => write!(
                f,
                "{}: af-xdp, {}, {}, {} queues",
                facts.name,
                facts.mode,
                frames(*zero_copy),
                queues.len()
            )?,
            InterfaceFooting::Stack { .. } => write!(f, "{}: not af-xdp", facts.name)?,
        }
        let why = why(facts, footing);
        if why.is_empty() { Ok(()) } else { write!(f, "; {why}") }
    }
}
