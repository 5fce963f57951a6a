//! Which counter is used, and why: the TSC if it keeps the same time on all cores, else `CLOCK_MONOTONIC_RAW`.

mod check;

use crate::counter::{Counter, CounterKind};
use std::fmt;

pub use crate::tsc::KernelView;
pub use check::{Agreement, CoreError};

/// Which counter was chosen, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// What to read.
    pub counter: Counter,
    /// What was measured of the TSC, or why it isn't used.
    pub tsc: Result<Agreement, Refusal>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tsc {
            Ok(agreement) => write!(f, "counter: TSC: {agreement}"),
            Err(refusal) => write!(f, "counter: CLOCK_MONOTONIC_RAW: the TSC isn't used: {refusal}"),
        }
    }
}

/// Why the TSC isn't used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This processor has none.
    Absent,
    /// CPUID doesn't call it invariant (leaf 0x8000_0007, EDX bit 8): it may stop or change its rate.
    NotInvariant,
    /// The kernel withdrew it as a clock source, or its processor flags lack what makes it steady.
    KernelDistrusts,
    /// Its rate is none that a counter can have.
    NoRate,
    /// On this core something was measured that rules it out.
    Core {
        /// The core's number.
        core: usize,
        /// What was found there.
        error: CoreError,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("this processor has none"),
            Self::NotInvariant => f.write_str("the processor doesn't call it invariant"),
            Self::KernelDistrusts => f.write_str("the kernel doesn't trust it (clocksource0, /proc/cpuinfo)"),
            Self::NoRate => f.write_str("no rate could be measured"),
            Self::Core { core, error } => write!(f, "on core {core} {error}"),
        }
    }
}

/// The TSC if it keeps the same time on all of `cores` (none named: all that this process may run on), else
/// `CLOCK_MONOTONIC_RAW`. Takes about 50 ms, on threads of its own pinned to the cores; at most 0.3 s a core where
/// they are busy.
#[must_use]
pub fn choose(cores: &[usize]) -> Choice {
    let tsc = check::tsc_agreement(cores);
    let counter = match &tsc {
        Ok(agreement) => Counter::new(CounterKind::Tsc, agreement.rate),
        Err(_) => Counter::monotonic_raw(),
    };
    Choice { counter, tsc }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_core_and_what_was_found() {
        let error = CoreError::Ahead { nanos: -3_000, known_within_ns: 40 };
        let choice = Choice { counter: Counter::monotonic_raw(), tsc: Err(Refusal::Core { core: 3, error }) };
        assert_eq!(
            choice.to_string(),
            "counter: CLOCK_MONOTONIC_RAW: the TSC isn't used: on core 3 it is ahead of the first core's by -3000 ns (known within 40 ns)"
        );
    }
}
