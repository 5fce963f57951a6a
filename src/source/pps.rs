//! Pulses of a kernel device (`/dev/ppsN`).
//!
//! The kernel stamps an edge with `CLOCK_REALTIME` when its interrupt comes; the stamp is put on the counter as soon as
//! the edge woke this thread. Every edge is told once, by the kernel's number; which of them are missing, doubled or
//! wrong is judged in the core.

use std::path::PathBuf;
use std::time::Duration;

use crate::hands::Hands;
use maser_core::discipline::{Observation, Pulse};
use maser_core::time::Ticks;
use maser_sys::counter::Counter;
use maser_sys::pps::{PpsDevice, PpsEvent};

use super::attempt::keep_working;
use super::realtime::{RealtimeStamps, refusal};
use super::{RETRY, STOP_LOOKED_AT, Teller, Word};

pub use maser_sys::pps::Edge;

/// Where pulses come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PpsSettings {
    /// The device.
    pub device: PathBuf,
    /// The edge that begins a second.
    pub edge: Edge,
}

/// The edge that the configuration names.
pub(crate) const fn edge(configured: crate::config::Edge) -> Edge {
    match configured {
        crate::config::Edge::Assert => Edge::Assert,
        crate::config::Edge::Clear => Edge::Clear,
    }
}

/// A silent device is opened again after this long: the kernel doesn't say that one was removed.
const SILENCE: Duration = RETRY;
const WAIT: Duration = STOP_LOOKED_AT;

/// Tells of every pulse until the driver is to end.
pub fn run(settings: &PpsSettings, counter: Counter, teller: &mut Teller<'_>) {
    let name = settings.device.display();
    let (hands, source) = (teller.hands(), teller.source());
    let open = || match reopen(&hands, source, settings) {
        Ok(device) => Ok((device, format!("{name}: {} edges", settings.edge))),
        Err(error) => Err(format!("{name}: {error}")),
    };
    keep_working(teller, open, |device, teller| {
        follow(device, settings, counter, teller).map_err(|error| format!("{name}: {error}"))
    });
}

fn reopen(hands: &Hands, source: usize, settings: &PpsSettings) -> Result<PpsDevice, String> {
    let file = hands.open_pps(source, &settings.device, settings.edge).map_err(|error| error.to_string())?;
    PpsDevice::of_file(file, settings.edge).map_err(|error| error.to_string())
}

fn follow(
    mut device: PpsDevice,
    settings: &PpsSettings,
    counter: Counter,
    teller: &mut Teller<'_>,
) -> Result<(), String> {
    let gone = |error| format!("reading pulses failed: {error}; is the device still there?");
    let mut stamps = RealtimeStamps::new(counter);
    // What was captured before we came is old.
    let mut last = device.fetch(Duration::ZERO).map_err(gone)?;
    let mut heard = counter.now();
    while !teller.is_stopped() {
        let event = device.fetch(WAIT).map_err(gone)?;
        stamps.look();
        if let Some(event) = event.filter(|event| Some(*event) != last) {
            last = Some(event);
            heard = counter.now();
            teller.tell(told(event, &stamps));
        } else if is_long(&counter, heard) {
            device = reopen(&teller.hands(), teller.source(), settings)?;
            heard = counter.now();
        }
    }
    Ok(())
}

fn told(event: PpsEvent, stamps: &RealtimeStamps) -> Word {
    match stamps.place(event.realtime_ns) {
        Ok(placed) => Word::Observed(Observation::Pulse(Pulse { at: placed.at, error: placed.error })),
        Err(fault) => Word::Refused(format!("pulse {}: {}", event.sequence, refusal(fault))),
    }
}

fn is_long(counter: &Counter, since: Ticks) -> bool {
    let silence = counter.nominal_rate().span_of(counter.now().since(since));
    u128::try_from(silence.as_nanos()).unwrap_or(0) >= SILENCE.as_nanos()
}
