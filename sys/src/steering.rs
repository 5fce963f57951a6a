//! The kernel's clock, steered: the only module that writes it.
//!
//! `clock_adjtime(2)` on `CLOCK_REALTIME`, with what [`maser_core::steer`] has decided. Every figure that goes to the kernel is
//! made by functions that call nothing, so that they can be looked at where no clock may be set. This module must not decide.

use libc::{c_int, timex};
use maser_core::steer::{KernelWord, LeapSecond, Order};
use maser_core::time::Span;
use std::io;

/// `adjtime(3)`'s rest is replaced (`ADJ_OFFSET_SINGLESHOT` in linux/timex.h; libc has it for some platforms only).
const ADJ_OFFSET_SINGLESHOT: libc::c_uint = 0x8001;
/// A clock at its hardware's rate adds 10,000 µs every hundredth of a second.
const NOMINAL_TICK_US: i64 = 10_000;
/// Past it the kernel calls its clock unsynchronised (`NTP_PHASE_LIMIT`).
const ERROR_US_MAX: i64 = 16_000_000;

/// Does what the order says, in at most three calls.
///
/// # Errors
/// What the kernel said; the first calls may have been obeyed. `EPERM` without `CAP_SYS_TIME`.
pub fn obey(order: &Order) -> io::Result<()> {
    if order.takes_over {
        for mut ended in taking_over() {
            adjust(&mut ended)?;
        }
    }
    adjust(&mut timex_of(order))
}

/// Why an order wasn't obeyed, in words for an operator.
#[must_use]
pub fn because(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "the kernel doesn't let maser set the clock: it takes CAP_SYS_TIME, which containers and systemd's \
             ProtectClock= withhold; grant it, or leave out clock.steer"
                .to_owned()
        }
        Some(libc::ENOSYS | libc::EOPNOTSUPP) => {
            "this kernel's clock can't be adjusted; leave out clock.steer".to_owned()
        }
        Some(_) | None => format!("clock_adjtime: {error}"),
    }
}

fn adjust(timex: &mut timex) -> io::Result<()> {
    // SAFETY: the pointer is to a `timex` of our own, which the kernel reads and fills.
    let state = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, timex) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn nothing() -> timex {
    // SAFETY: `timex` is integers only, for which zeroes are valid.
    unsafe { std::mem::zeroed() }
}

/// Ends what others have left: the rest of an `adjtime`, then the loop's (which takes an offset only while it runs) and the
/// tick.
fn taking_over() -> [timex; 2] {
    let singleshot = timex { modes: ADJ_OFFSET_SINGLESHOT, ..nothing() };
    let idle = timex {
        modes: libc::ADJ_STATUS | libc::ADJ_OFFSET | libc::ADJ_TICK,
        // The frequency isn't to be moved by it.
        status: libc::STA_PLL | libc::STA_FREQHOLD | libc::STA_UNSYNC,
        tick: NOMINAL_TICK_US,
        ..nothing()
    };
    [singleshot, idle]
}

/// What the kernel is told.
fn timex_of(order: &Order) -> timex {
    let KernelWord { error, tai_offset_s, .. } = order.word;
    let mut timex = timex {
        modes: libc::ADJ_FREQUENCY | libc::ADJ_STATUS,
        freq: order.total().units(),
        status: status(&order.word),
        ..nothing()
    };
    if let Some((maximum, estimated)) = error {
        timex.modes |= libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
        timex.maxerror = micros_up(maximum);
        timex.esterror = micros_up(estimated);
    }
    if let Some(offset_s) = tai_offset_s {
        timex.modes |= libc::ADJ_TAI;
        timex.constant = offset_s.into();
    }
    if let Some(step) = order.step {
        timex.modes |= libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        // The kernel takes a part of a second that isn't negative.
        let nanos = step.as_nanos();
        timex.time.tv_sec = nanos.div_euclid(1_000_000_000);
        timex.time.tv_usec = nanos.rem_euclid(1_000_000_000);
    }
    timex
}

/// Without `STA_PLL`: nothing but what is ordered moves the clock.
fn status(word: &KernelWord) -> c_int {
    let leap = match word.leap {
        None => 0,
        Some(LeapSecond::Inserted) => libc::STA_INS,
        Some(LeapSecond::Deleted) => libc::STA_DEL,
    };
    leap | if word.synchronised { 0 } else { libc::STA_UNSYNC }
}

/// Microseconds, rounded up, as far as the kernel counts.
fn micros_up(span: Span) -> i64 {
    let nanos = span.as_nanos().clamp(0, ERROR_US_MAX * 1_000 - 1);
    (nanos + 1).div_euclid(1_000) + i64::from((nanos + 1).rem_euclid(1_000) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use maser_core::steer::Frequency;

    fn order() -> Order {
        Order {
            frequency: Frequency::from_units(-37 << 16),
            phase: Frequency::from_units(5),
            step: None,
            word: KernelWord {
                synchronised: true,
                error: Some((Span::from_nanos(1_234_500), Span::ZERO)),
                leap: None,
                tai_offset_s: Some(37),
            },
            takes_over: false,
        }
    }

    #[test]
    fn an_order_sets_frequency_and_status_and_moves_nothing() {
        let timex = timex_of(&order());
        assert_eq!((timex.freq, timex.status, timex.constant), ((-37 << 16) + 5, 0, 37));
        assert_eq!((timex.maxerror, timex.esterror), (1_235, 1));
        let modes = libc::ADJ_FREQUENCY | libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
        assert_eq!(timex.modes, modes | libc::ADJ_TAI);
    }

    #[test]
    fn a_step_backwards_is_a_second_more_and_a_part_forwards() {
        for (step_ns, seconds, nanos) in [
            (-500_000_000, -1, 500_000_000),
            (1_000_000_001, 1, 1),
            (-1, -1, 999_999_999),
            (-2_000_000_000, -2, 0),
        ] {
            let timex = timex_of(&Order { step: Some(Span::from_nanos(step_ns)), ..order() });
            assert_eq!((timex.time.tv_sec, timex.time.tv_usec), (seconds, nanos), "{step_ns}");
            assert_eq!(
                timex.modes & (libc::ADJ_SETOFFSET | libc::ADJ_NANO),
                libc::ADJ_SETOFFSET | libc::ADJ_NANO
            );
        }
    }

    #[test]
    fn what_isnt_known_is_left_and_what_is_coming_is_told() {
        let word = KernelWord {
            synchronised: false,
            error: None,
            leap: Some(LeapSecond::Deleted),
            tai_offset_s: None,
        };
        let timex = timex_of(&Order { word, ..order() });
        assert_eq!(timex.modes, libc::ADJ_FREQUENCY | libc::ADJ_STATUS);
        assert_eq!(timex.status, libc::STA_UNSYNC | libc::STA_DEL);
        let word = KernelWord { leap: Some(LeapSecond::Inserted), ..order().word };
        assert_eq!(timex_of(&Order { word, ..order() }).status, libc::STA_INS);
    }

    #[test]
    fn whoever_takes_over_ends_slews_the_loop_and_the_tick() {
        let [singleshot, idle] = taking_over();
        assert_eq!((singleshot.modes, singleshot.offset), (0x8001, 0));
        assert_eq!((idle.offset, idle.tick), (0, 10_000));
        assert!(idle.status & libc::STA_PLL != 0, "or the kernel ignores the offset");
        assert!(idle.modes & libc::ADJ_FREQUENCY == 0);
    }

    #[test]
    fn errors_fit_the_kernels_count() {
        assert_eq!(micros_up(Span::from_nanos(-5)), 1);
        assert_eq!(micros_up(Span::MAX), 16_000_000);
        let refused = because(&io::Error::from_raw_os_error(libc::EPERM));
        assert!(refused.contains("CAP_SYS_TIME") && refused.contains("clock.steer"), "{refused}");
    }
}
