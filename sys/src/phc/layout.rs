//! The structures of `linux/ptp_clock.h`.

use super::PhcEdge;
use libc::{c_char, c_int, c_uint, clockid_t};

/// `PTP_MAX_SAMPLES`.
pub(super) const SAMPLES_MAX: usize = 25;

/// `struct ptp_clock_time`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
    reserved: u32,
}

impl Time {
    #[cfg(test)]
    pub(super) const fn new(seconds: i64, nanos: u32) -> Self {
        Self { seconds, nanos, reserved: 0 }
    }

    /// Saturates beyond the year 2262.
    pub(super) fn nanos(self) -> i64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(self.nanos.into())
    }
}

/// `struct ptp_clock_caps`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CapabilitiesTold {
    pub(super) adjusted_ppb_max: c_int,
    alarms: c_int,
    pub(super) external_stamps: c_int,
    periodic_outputs: c_int,
    pps: c_int,
    pub(super) pins: c_int,
    pub(super) cross_timestamping: c_int,
    reserved: [c_int; 13],
}

/// `struct ptp_sys_offset_precise`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Precise {
    pub(super) device: Time,
    realtime: Time,
    pub(super) monotonic_raw: Time,
    reserved: [c_uint; 4],
}

/// `struct ptp_sys_offset_extended`: the system's clock, the device's, the system's again.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Extended {
    samples: c_uint,
    /// Reserved, and 0, before Linux 6.12, which is `CLOCK_REALTIME`.
    clock: clockid_t,
    reserved: [c_uint; 2],
    pub(super) times: [[Time; 3]; SAMPLES_MAX],
}

impl Extended {
    pub(super) fn new(samples: u32, clock: clockid_t) -> Self {
        Self { samples, clock, reserved: [0; 2], times: [[Time::default(); 3]; SAMPLES_MAX] }
    }
}

/// `struct ptp_sys_offset`: the system's clock and the device's by turns, the system's first and last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    samples: c_uint,
    reserved: [c_uint; 3],
    pub(super) times: [Time; 2 * SAMPLES_MAX + 1],
}

impl Plain {
    pub(super) fn new(samples: u32) -> Self {
        Self { samples, reserved: [0; 3], times: [Time::default(); 2 * SAMPLES_MAX + 1] }
    }
}

/// `struct ptp_extts_request`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StampsRequest {
    pub(super) channel: c_uint,
    pub(super) flags: c_uint,
    pub(super) reserved: [c_uint; 2],
}

/// `struct ptp_pin_desc`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Pin {
    name: [c_char; 64],
    pub(super) index: c_uint,
    pub(super) function: c_uint,
    pub(super) channel: c_uint,
    reserved: [c_uint; 5],
}

impl Pin {
    pub(super) const fn new(index: u32) -> Self {
        Self { name: [0; 64], index, function: 0, channel: 0, reserved: [0; 5] }
    }

    /// The same, of another function.
    pub(super) const fn with(mut self, function: c_uint, channel: u32) -> Self {
        self.function = function;
        self.channel = channel;
        self
    }

    #[cfg(test)]
    pub(super) fn named(index: u32, name: &str) -> Self {
        let mut pin = Self::new(index);
        for (to, from) in pin.name.iter_mut().zip(name.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
        pin
    }

    pub(super) fn name(&self) -> String {
        // Signed or not by the processor; names are ASCII.
        let octets = self.name.iter().map(|octet| octet.to_ne_bytes()[0]);
        octets.take_while(|octet| *octet != 0).map(char::from).collect()
    }
}

/// `struct ptp_extts_event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Event {
    time: Time,
    channel: c_uint,
    flags: c_uint,
    reserved: [c_uint; 2],
}

/// The event is an offset and no time (`PTP_EXT_OFFSET`): nobody asked for that.
const IS_OFFSET: u32 = 1 << 4;

impl Event {
    /// From what a read gives.
    pub(super) fn of(octets: &[u8; size_of::<Self>()]) -> Option<PhcEdge> {
        let (seconds, rest) = octets.split_first_chunk()?;
        let (nanos, rest) = rest.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let (channel, rest) = rest.split_first_chunk()?;
        let (flags, _) = rest.split_first_chunk()?;
        if u32::from_ne_bytes(*flags) & IS_OFFSET != 0 {
            return None;
        }
        let time =
            Time { seconds: i64::from_ne_bytes(*seconds), nanos: u32::from_ne_bytes(*nanos), reserved: 0 };
        Some(PhcEdge { channel: u32::from_ne_bytes(*channel), phc_ns: time.nanos() })
    }
}

/// What the ioctls take: structures of integers, as `linux/ptp_clock.h` lays them out.
pub(super) trait Argument {}
impl Argument for CapabilitiesTold {}
impl Argument for Precise {}
impl Argument for Extended {}
impl Argument for Plain {}
impl Argument for StampsRequest {}
impl Argument for Pin {}
impl Argument for c_uint {}

const _: () = {
    assert!(size_of::<Time>() == 16 && size_of::<CapabilitiesTold>() == 80 && size_of::<Precise>() == 64);
    assert!(size_of::<Extended>() == 1_216 && size_of::<Plain>() == 832 && size_of::<Event>() == 32);
    assert!(size_of::<StampsRequest>() == 16 && size_of::<Pin>() == 96);
};
