//! The interfaces that requests are taken from (AF_XDP): the document's part and how it is shown.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::columns::{Columns, section};
use super::units::{count, printable};
use super::{Counters, Status};

/// A network interface that was named.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// The way its requests take: `af-xdp`, or the port of the kernel's own stack that it stepped down to.
    pub rung: String,
    /// Where the XDP program runs: `native` (in the driver) or `generic`; empty where none does.
    pub mode: String,
    /// How frames come to the worker: `zero-copy` or `copy`; empty without AF_XDP.
    pub frames: String,
    /// Who says when a request came: `nic`, or `hook`, the program itself; empty without AF_XDP.
    pub stamps: String,
    /// Why not a better rung, mode, way or stamp.
    pub why: String,
    /// Its queues, where AF_XDP takes them.
    pub queues: Vec<QueueStatus>,
    /// Frames that the XDP program saw, by what it did with them.
    pub verdicts: Counters,
    /// By what requests are dealt to the queues.
    pub rss: String,
    /// The commands that make every client meet one worker, where the NIC isn't set so.
    pub spread: Vec<String>,
}

/// A queue and its AF_XDP socket.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueStatus {
    /// Its number.
    pub queue: u32,
    /// The core of the worker that owns it.
    pub core: usize,
    /// Requests of addresses below this level are dropped in the driver, and those of it in part; 0 while the worker keeps up.
    pub floor: f64,
    /// What the kernel counts of the socket.
    pub events: Counters,
}

/// An interface a line, a queue a line, and what is to be done.
pub(super) fn interface_lines(status: &Status) -> String {
    let mut interfaces = Columns::new(6);
    interfaces.row(["Interface", "Port", "Mode", "Frames", "Stamps", "Why"]);
    let mut queues = Columns::with_words_last(1);
    queues.row(["Queue", "Core", "Events"]);
    for interface in &status.interfaces {
        let InterfaceStatus { name, rung, mode, frames, stamps, why, .. } = interface;
        let or_dash = |word: &String| if word.is_empty() { "-".to_owned() } else { word.clone() };
        interfaces.row([
            name.clone(),
            rung.clone(),
            or_dash(mode),
            or_dash(frames),
            or_dash(stamps),
            why.clone(),
        ]);
        for QueueStatus { queue, core, floor, events } in &interface.queues {
            let events = events.iter().filter(|&(_, &value)| value > 0);
            let events = events.map(|(name, &value)| format!("{name} {}", count(value)));
            let floor = (*floor > 0.0).then(|| format!("drops below level {floor:.2}"));
            let events: Vec<String> = floor.into_iter().chain(events).collect();
            let events = if events.is_empty() { "-".to_owned() } else { events.join(", ") };
            queues.row([format!("{name}:{queue}"), core.to_string(), events]);
        }
    }
    let mut text = interfaces.text();
    if status.interfaces.iter().any(|interface| !interface.queues.is_empty()) {
        text.push('\n');
        text.push_str(&queues.text());
    }
    for InterfaceStatus { name, spread, .. } in &status.interfaces {
        for command in spread {
            // Writing to a string doesn't fail.
            let _ = writeln!(
                text,
                "\n{}: its queues aren't chosen by source address alone, so that a client may meet several workers; set it with:\n  {}",
                printable(name),
                printable(command)
            );
        }
    }
    text
}

/// What the XDP programs did, an interface a section.
pub(super) fn verdict_lines(status: &Status, all: bool) -> String {
    let mut columns = Columns::new(1);
    for InterfaceStatus { name, verdicts, .. } in &status.interfaces {
        section(&mut columns, &format!("XDP {name}"), verdicts, Some(super::sum(verdicts)), all);
    }
    columns.text()
}
