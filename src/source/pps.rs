//! Pulses of a kernel device (`/dev/ppsN`).
//!
//! The kernel stamps an edge with `CLOCK_REALTIME` when its interrupt comes; the stamp is put on the counter as soon as
//! the edge woke this thread. Every edge is told once, by the kernel's number; which of them are missing, doubled or
//! wrong is judged in the core.

use std::path::PathBuf;
use std::time::Duration;

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

/// A silent device is opened again after this long: the kernel doesn't say that one was removed.
const SILENCE: Duration = RETRY;
const WAIT: Duration = STOP_LOOKED_AT;

/// Tells of every pulse until the driver is to end.
pub fn run(settings: &PpsSettings, counter: Counter, teller: &mut Teller<'_>) {
    let name = settings.device.display();
    let open = || match PpsDevice::open(&settings.device, settings.edge) {
        Ok(device) => Ok((device, format!("{name}: {} edges", settings.edge))),
        Err(error) => Err(format!("{name}: {error}")),
    };
    keep_working(teller, open, |device, teller| {
        follow(device, settings, counter, teller).map_err(|error| format!("{name}: {error}"))
    });
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
            device = PpsDevice::open(&settings.device, settings.edge).map_err(|error| error.to_string())?;
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
