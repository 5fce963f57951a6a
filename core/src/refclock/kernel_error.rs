//! How far the machine's clock may be off, from the kernel's own figures.

use crate::time::Span;

/// What the kernel says of its clock's error (`adjtimex(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelError {
    /// The largest error that the clock's keeper admits.
    pub maximum: Span,
    /// The error that it estimates.
    pub estimated: Span,
    /// What is known to be wrong and is still to be slewed, whoever slews it.
    pub left_to_slew: Span,
}

/// The kernel raises the maximum once a second, by 500 ppm: it can be a second old.
const STALENESS: Span = Span::from_nanos(500_000);

/// systemd-timesyncd and OpenNTPD tell the kernel an error of 0, which is no bound but none stated. What they follow
/// from afar is seldom further off than this.
const UNSTATED: Span = Span::from_nanos(50_000_000);

impl KernelError {
    /// The bound on the clock's error that follows.
    #[must_use]
    pub fn bound(&self) -> Span {
        let stated =
            if self.is_stated() { self.maximum.max(self.estimated) } else { self.maximum + UNSTATED };
        stated + self.left_to_slew.abs() + STALENESS
    }

    /// A keeper that states no error begins the estimate and the maximum at 0, and the kernel raises the latter from
    /// there. (chrony's estimate is 0 too where it is below a microsecond, but not its maximum.)
    fn is_stated(&self) -> bool {
        self.estimated != Span::ZERO || self.maximum.as_nanos() % STALENESS.as_nanos() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: KernelError = KernelError {
        maximum: Span::from_nanos(3_000_000),
        estimated: Span::from_nanos(20_000),
        left_to_slew: Span::ZERO,
    };

    #[test]
    fn the_bound_holds_what_is_still_to_be_slewed() {
        let ms = |ms: i64| Span::from_nanos(ms * 1_000_000);
        assert_eq!(KEPT.bound(), ms(3) + STALENESS);
        assert_eq!(KernelError { left_to_slew: -ms(400), ..KEPT }.bound(), ms(403) + STALENESS);
        assert_eq!(KernelError { estimated: ms(8), ..KEPT }.bound(), ms(8) + STALENESS);
    }

    #[test]
    fn an_error_of_zero_is_none_stated() {
        for seconds in 0..4 {
            let maximum = Span::from_nanos(seconds * 500_000);
            let unstated = KernelError { maximum, estimated: Span::ZERO, ..KEPT };
            assert!(unstated.bound() >= UNSTATED);
        }
        let by_a_pulse = KernelError { maximum: Span::from_nanos(1_523_000), estimated: Span::ZERO, ..KEPT };
        assert!(by_a_pulse.bound() < UNSTATED);
    }
}
