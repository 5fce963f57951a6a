//! The clocks that the kernel keeps, each read by itself.
//!
//! Read, never set. A reading together with the counter is [`clock`](crate::clock)'s.

use nix::time::{ClockId, clock_gettime};

/// A clock that the kernel keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelClock {
    /// `CLOCK_REALTIME`: UTC as the kernel has it; anyone privileged steps and slews it.
    Realtime,
    /// `CLOCK_MONOTONIC`: slewed with the former, never stepped.
    Monotonic,
    /// `CLOCK_MONOTONIC_RAW`: the hardware's own rate; nobody steers it.
    MonotonicRaw,
    /// `CLOCK_BOOTTIME`: `CLOCK_MONOTONIC`, and the time that the machine was suspended.
    Boottime,
    /// `CLOCK_TAI`: `CLOCK_REALTIME` and an offset that is 0 until somebody tells the kernel.
    Tai,
}

impl KernelClock {
    const fn id(self) -> ClockId {
        match self {
            Self::Realtime => ClockId::CLOCK_REALTIME,
            Self::Monotonic => ClockId::CLOCK_MONOTONIC,
            Self::MonotonicRaw => ClockId::CLOCK_MONOTONIC_RAW,
            Self::Boottime => ClockId::CLOCK_BOOTTIME,
            Self::Tai => ClockId::CLOCK_TAI,
        }
    }
}

/// What `clock` says, in nanoseconds since its epoch.
///
/// # Panics
/// Never on Linux 3.10 or newer, which has all of these clocks.
#[inline]
#[must_use]
pub fn read(clock: KernelClock) -> i64 {
    let time = clock_gettime(clock.id()).expect("Linux has this clock");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}
