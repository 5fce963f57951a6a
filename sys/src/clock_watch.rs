//! Notices that somebody stepped `CLOCK_REALTIME`.
//!
//! A timer on that clock, set far into the future with `TFD_TIMER_CANCEL_ON_SET`: it never rings, but the kernel
//! cancels it whenever the clock is set (also on resuming from a suspension, and at a leap second). What to do about a
//! step is decided elsewhere.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// The time was up, or a signal came: the caller looks at its clock anyway.
    Timeout,
    /// `CLOCK_REALTIME` was set.
    ClockStepped,
}

/// The watch. Its descriptor becomes readable when the clock is set, so it can also be polled along with others.
#[derive(Debug)]
pub struct ClockWatch {
    timer: TimerFd,
}

/// When the timer would ring: in the year 2242, just before the kernel's time ends.
const FAR_FUTURE_UNIX_S: i64 = 1 << 33;

/// One wait is never longer than this, whatever the caller asks.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

impl ClockWatch {
    /// Starts watching.
    ///
    /// # Errors
    /// When the kernel has no descriptor left to give, or no timers (`CONFIG_TIMERFD`).
    pub fn new() -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let watch = Self { timer };
        watch.arm()?;
        Ok(watch)
    }

    /// Waits until the clock is set, but no longer than `timeout` nor [`WAIT_MAX`].
    ///
    /// # Errors
    /// When the kernel refuses to wait or to arm the timer again.
    pub fn wait(&self, timeout: Duration) -> io::Result<Woken> {
        let mut descriptors = [PollFd::new(self.timer.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut descriptors, Some(TimeSpec::from_duration(timeout.min(WAIT_MAX))), None) {
            Ok(0) | Err(Errno::EINTR) => Ok(Woken::Timeout),
            Ok(_) => self.acknowledge(),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the clock was set since the last call; doesn't wait. For callers that poll the descriptor themselves.
    ///
    /// # Errors
    /// When the kernel refuses to arm the timer again.
    pub fn acknowledge(&self) -> io::Result<Woken> {
        let mut rings = [0; 8];
        let woken = woken_by(read(&self.timer, &mut rings))?;
        if woken == Woken::ClockStepped {
            self.arm()?;
        }
        Ok(woken)
    }

    fn arm(&self) -> io::Result<()> {
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        match self.timer.set(Expiration::OneShot(TimeSpec::new(FAR_FUTURE_UNIX_S, 0)), flags) {
            // The clock was set since the last look: the timer is armed all the same, and the step is already told.
            Ok(()) | Err(Errno::ECANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// What reading the timer's descriptor means.
fn woken_by(read: Result<usize, Errno>) -> io::Result<Woken> {
    match read {
        // Cancelled; or it rang, so that the clock was set to the far future and back before we looked.
        Err(Errno::ECANCELED) | Ok(_) => Ok(Woken::ClockStepped),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Woken::Timeout),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_clock::{self, KernelClock};

    #[test]
    fn an_undisturbed_clock_only_times_out() {
        let watch = ClockWatch::new().unwrap();
        let before_ns = kernel_clock::read(KernelClock::Monotonic);
        assert_eq!(watch.wait(Duration::from_millis(20)).unwrap(), Woken::Timeout);
        let waited_ns = kernel_clock::read(KernelClock::Monotonic) - before_ns;
        assert!((20_000_000..5_000_000_000).contains(&waited_ns), "{waited_ns}");
        assert_eq!(watch.acknowledge().unwrap(), Woken::Timeout);
    }

    #[test]
    fn the_timer_is_armed_for_the_far_future_and_can_be_armed_again() {
        let watch = ClockWatch::new().unwrap();
        for _ in 0..2 {
            assert!(
                matches!(watch.timer.get().unwrap(), Some(Expiration::OneShot(left)) if left.tv_sec() > 1 << 32)
            );
            watch.arm().unwrap();
        }
    }

    #[test]
    fn a_timer_that_rings_is_a_step() {
        // The clock mustn't be set here, so the other way to a readable descriptor is taken: a moment long past.
        let watch = ClockWatch::new().unwrap();
        watch
            .timer
            .set(Expiration::OneShot(TimeSpec::new(1, 0)), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            .unwrap();
        assert_eq!(watch.wait(Duration::from_secs(5)).unwrap(), Woken::ClockStepped);
        assert_eq!(watch.wait(Duration::from_millis(1)).unwrap(), Woken::Timeout, "armed again");
    }

    #[test]
    fn a_cancelled_timer_is_a_step_and_nothing_else_is() {
        assert_eq!(woken_by(Err(Errno::ECANCELED)).unwrap(), Woken::ClockStepped);
        assert_eq!(woken_by(Err(Errno::EAGAIN)).unwrap(), Woken::Timeout);
        assert!(woken_by(Err(Errno::EBADF)).is_err());
    }
}
