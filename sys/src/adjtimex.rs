//! What the kernel says of its own clock: read, never written.
//!
//! `adjtimex(2)` reads when `modes` is 0 or `ADJ_OFFSET_SS_READ` and writes otherwise. The only calls in this module
//! pass these two, and nothing in its interface leads to another value.

use maser_core::steer::Frequency;
use maser_core::time::Span;
use std::io;

/// A leap second in the kernel's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelLeap {
    /// None that the kernel knows of.
    None,
    /// One will be inserted at the end of the UTC day (`TIME_INS`).
    Insert,
    /// One will be deleted at the end of the UTC day (`TIME_DEL`).
    Delete,
    /// The inserted second is running (`TIME_OOP`).
    InProgress,
    /// It is over, and whoever announced it hasn't taken that back yet (`TIME_WAIT`).
    Over,
}

/// The kernel's clock as the kernel describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelState {
    /// Whether somebody keeps the clock: neither `STA_UNSYNC` nor `STA_CLOCKERR` is set.
    ///
    /// The state `TIME_ERROR` isn't the question: the kernel reports that also when only its pulse discipline
    /// complains (`is_error_status` in kernel/time/ntp.c), which is [`pps_fault`](Self::pps_fault).
    pub synchronised: bool,
    /// The kernel's pulse discipline was asked for and lacks a good signal.
    pub pps_fault: bool,
    /// The largest error that the clock's keeper admits.
    pub maxerror: Span,
    /// The error that it estimates.
    pub esterror: Span,
    /// A leap second, pending or running. Under `TIME_ERROR` the kernel hides how far one has got, and this is what
    /// was announced.
    pub leap: KernelLeap,
    /// TAI − UTC as somebody told the kernel; none if nobody did.
    pub tai_offset_s: Option<i32>,
    /// How much faster the clock runs than its hardware, by `freq` and `tick` together.
    pub frequency: Frequency,
    /// What is left of the last correction, to be slewed by the kernel's phase-locked loop.
    pub offset: Span,
    /// What is left of the last `adjtime(3)`, as OpenNTPD slews.
    pub adjtime_left: Span,
}

/// A clock at its hardware's rate adds 10,000 µs every hundredth of a second (`USER_HZ` is 100 on all that we run on).
const NOMINAL_TICK_US: i64 = 10_000;
/// A microsecond in every 10,000 is 100 ppm; the scale of `freq` is 2⁻¹⁶ ppm.
const UNITS_PER_TICK_US: i64 = 100 << 16;

impl KernelState {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When the call is refused, as seccomp profiles do.
    pub fn read() -> io::Result<Self> {
        // SAFETY: `timex` is integers only, for which zeroes are valid; `modes` 0 asks to read.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a `timex` of our own, which the kernel fills.
        let state = unsafe { libc::adjtimex(&raw mut timex) };
        if state < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { adjtime_left: adjtime_left()?, ..Self::from_timex(&timex, state) })
    }

    fn from_timex(timex: &libc::timex, state: libc::c_int) -> Self {
        let set = |flags: libc::c_int| timex.status & flags != 0;
        let offset_ns = if set(libc::STA_NANO) { timex.offset } else { timex.offset.saturating_mul(1_000) };
        let micros = |count: i64| Span::from_nanos(count.saturating_mul(1_000));
        Self {
            synchronised: !set(libc::STA_UNSYNC | libc::STA_CLOCKERR),
            pps_fault: pps_fault(timex.status),
            maxerror: micros(timex.maxerror),
            esterror: micros(timex.esterror),
            leap: match state {
                libc::TIME_INS => KernelLeap::Insert,
                libc::TIME_DEL => KernelLeap::Delete,
                libc::TIME_OOP => KernelLeap::InProgress,
                libc::TIME_WAIT => KernelLeap::Over,
                libc::TIME_ERROR if set(libc::STA_INS) => KernelLeap::Insert,
                libc::TIME_ERROR if set(libc::STA_DEL) => KernelLeap::Delete,
                _ => KernelLeap::None,
            },
            tai_offset_s: (timex.tai != 0).then_some(timex.tai),
            frequency: Frequency::from_units((timex.tick - NOMINAL_TICK_US) * UNITS_PER_TICK_US + timex.freq),
            offset: Span::from_nanos(offset_ns),
            adjtime_left: Span::ZERO,
        }
    }
}

/// What is left of the last `adjtime(3)`, in its microseconds.
fn adjtime_left() -> io::Result<Span> {
    // SAFETY: `timex` is integers only, for which zeroes are valid.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = libc::ADJ_OFFSET_SS_READ;
    // SAFETY: the pointer is to a `timex` of our own, which the kernel fills; this mode reads.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(Span::from_nanos(timex.offset.saturating_mul(1_000)))
    }
}

/// The part of the kernel's `is_error_status` that is about its pulse discipline.
fn pps_fault(status: libc::c_int) -> bool {
    let set = |flags: libc::c_int| status & flags != 0;
    let no_signal = set(libc::STA_PPSFREQ | libc::STA_PPSTIME) && !set(libc::STA_PPSSIGNAL);
    let jitter = set(libc::STA_PPSTIME) && set(libc::STA_PPSJITTER);
    let wander = set(libc::STA_PPSFREQ) && set(libc::STA_PPSWANDER | libc::STA_PPSERROR);
    no_signal || jitter || wander
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of(status: libc::c_int, state: libc::c_int) -> KernelState {
        // SAFETY: `timex` is integers only, for which zeroes are valid.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        timex.status = status;
        timex.tick = NOMINAL_TICK_US;
        timex.maxerror = 1_500;
        KernelState::from_timex(&timex, state)
    }

    #[test]
    fn a_kept_clock_is_synchronised() {
        let state = state_of(libc::STA_PLL | libc::STA_NANO, libc::TIME_OK);
        assert!(state.synchronised && !state.pps_fault);
        assert_eq!(
            (state.leap, state.tai_offset_s, state.frequency),
            (KernelLeap::None, None, Frequency::ZERO)
        );
        assert_eq!(state.maxerror, Span::from_nanos(1_500_000));
    }

    #[test]
    fn nobodys_clock_or_a_broken_one_is_not() {
        assert!(!state_of(libc::STA_UNSYNC, libc::TIME_ERROR).synchronised);
        assert!(!state_of(libc::STA_CLOCKERR, libc::TIME_ERROR).synchronised);
    }

    #[test]
    fn a_missing_pulse_alone_leaves_the_clock_synchronised() {
        for status in [
            libc::STA_PPSTIME,
            libc::STA_PPSTIME | libc::STA_PPSSIGNAL | libc::STA_PPSJITTER,
            libc::STA_PPSFREQ | libc::STA_PPSSIGNAL | libc::STA_PPSWANDER,
        ] {
            let state = state_of(status | libc::STA_INS, libc::TIME_ERROR);
            assert!(state.synchronised && state.pps_fault, "{status:#x}");
            assert_eq!(state.leap, KernelLeap::Insert, "hidden by TIME_ERROR");
        }
        assert!(!state_of(libc::STA_PPSTIME | libc::STA_PPSSIGNAL, libc::TIME_OK).pps_fault);
    }

    #[test]
    fn every_stage_of_a_leap_second_is_told() {
        let stages = [libc::TIME_INS, libc::TIME_OOP, libc::TIME_WAIT, libc::TIME_DEL, libc::TIME_OK];
        let told = stages.map(|state| state_of(libc::STA_INS, state).leap);
        use KernelLeap::{Delete, InProgress, Insert, None, Over};
        assert_eq!(told, [Insert, InProgress, Over, Delete, None]);
    }

    #[test]
    fn both_ways_to_steer_the_rate_count_and_units_follow_the_flag() {
        // SAFETY: `timex` is integers only, for which zeroes are valid.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        (timex.tick, timex.freq, timex.offset, timex.tai) = (9_999, -3 << 15, 7, 37);
        let state = KernelState::from_timex(&timex, libc::TIME_OK);
        assert_eq!(
            (state.frequency, state.offset, state.tai_offset_s),
            (Frequency::nearest(-101.5e-6), Span::from_nanos(7_000), Some(37))
        );
        timex.status = libc::STA_NANO;
        assert_eq!(KernelState::from_timex(&timex, libc::TIME_OK).offset, Span::from_nanos(7));
    }

    #[test]
    fn this_kernel_answers() {
        let state = KernelState::read().unwrap();
        assert!(state.maxerror >= Span::ZERO);
        assert!(state.frequency.fraction().abs() <= 0.100_5, "{state:?}");
    }
}
