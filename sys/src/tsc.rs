//! The instructions that read the TSC, and who vouches for it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// The clock sources that the kernel would use, one line. It stays open, so that it can be read by a process that may not
/// open files any more.
static CLOCKSOURCES: OnceLock<Option<File>> = OnceLock::new();
const CLOCKSOURCES_PATH: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
const CLOCKSOURCES_OCTETS_MAX: usize = 512;

/// What the kernel thinks of the TSC, as far as this process may see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KernelView {
    /// The clock sources that the kernel would use: one that its watchdog caught straying isn't among them.
    pub available_clocksources: Option<String>,
    /// The text of `/proc/cpuinfo`; a flag that the kernel cleared isn't in it.
    pub cpuinfo: Option<String>,
}

/// The flags (of the kernel's own) that say that the TSC neither changes its rate nor stops.
const STEADY_FLAGS: [&str; 2] = ["constant_tsc", "nonstop_tsc"];

impl KernelView {
    /// Reads all of it. The processor flags are long on a machine with many cores, and older kernels interrupt each
    /// core to write them: once, at the start.
    #[must_use]
    pub fn read() -> Self {
        Self { cpuinfo: fs::read_to_string("/proc/cpuinfo").ok(), ..Self::read_clocksources() }
    }

    /// Reads what may change while a server runs.
    #[must_use]
    pub fn read_clocksources() -> Self {
        let file = CLOCKSOURCES.get_or_init(|| File::open(CLOCKSOURCES_PATH).ok()).as_ref();
        let mut text = [0; CLOCKSOURCES_OCTETS_MAX];
        let length = file.and_then(|file| file.read_at(&mut text, 0).ok());
        let read = length.and_then(|length| str::from_utf8(text.get(..length)?).ok());
        Self { available_clocksources: read.map(str::to_owned), cpuinfo: None }
    }

    /// Whether something that could be read speaks against the TSC; what can't be read (a container's mounts)
    /// doesn't.
    #[must_use]
    pub fn distrusts_tsc(&self) -> bool {
        let withdrawn = self
            .available_clocksources
            .as_ref()
            .is_some_and(|names| !names.split_whitespace().any(|name| name == "tsc"));
        let unsteady = self.cpuinfo.as_ref().is_some_and(|text| {
            text.lines().filter(|line| line.starts_with("flags")).any(|line| {
                STEADY_FLAGS.iter().any(|wanted| !line.split_whitespace().any(|flag| flag == *wanted))
            })
        });
        withdrawn || unsteady
    }
}

#[cfg(target_arch = "x86_64")]
mod instructions {
    use core::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};

    /// CPUID's leaf of power management features, and its bit for an invariant TSC in EDX.
    const POWER_LEAF: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;

    pub(crate) fn is_present() -> bool {
        true
    }

    pub(crate) fn is_invariant() -> bool {
        __cpuid(0x8000_0000).eax >= POWER_LEAF && __cpuid(POWER_LEAF).edx & INVARIANT_TSC != 0
    }

    #[inline]
    pub(crate) fn read() -> u64 {
        // SAFETY: every x86-64 processor has RDTSC, and nothing in this process forbids it (PR_SET_TSC).
        unsafe { _rdtsc() }
    }

    /// LFENCE lets no later instruction start before all earlier ones have completed (Linux sees to it on AMD), so
    /// the reading is after all that comes before it. It needs no fence behind it to be before a store, which
    /// retires in order, nor before a read through the vDSO, which begins with a fence of its own.
    #[inline]
    pub(crate) fn read_ordered() -> u64 {
        // SAFETY: every x86-64 processor has SSE2, of which LFENCE is part.
        unsafe { _mm_lfence() };
        read()
    }
}

/// Without a TSC no counter of that kind is ever made; it would read `CLOCK_MONOTONIC_RAW`.
#[cfg(not(target_arch = "x86_64"))]
mod instructions {
    use crate::kernel_clock::{self, KernelClock};

    pub(crate) fn is_present() -> bool {
        false
    }

    pub(crate) fn is_invariant() -> bool {
        false
    }

    pub(crate) fn read() -> u64 {
        kernel_clock::read(KernelClock::MonotonicRaw).cast_unsigned()
    }

    pub(crate) fn read_ordered() -> u64 {
        read()
    }
}

pub(crate) use instructions::{is_invariant, is_present, read, read_ordered};

#[cfg(test)]
mod tests {
    use super::*;

    fn view(clocksources: &str, flags: &str) -> KernelView {
        KernelView {
            available_clocksources: Some(clocksources.into()),
            cpuinfo: Some(format!(
                "processor\t: 0\nflags\t\t: fpu {flags} sse2\n\nprocessor\t: 1\nflags\t\t: fpu {flags}\n"
            )),
        }
    }

    #[test]
    fn a_kernel_that_lists_it_and_its_flags_trusts_it() {
        assert!(!view("tsc kvm-clock hpet acpi_pm \n", "constant_tsc nonstop_tsc").distrusts_tsc());
        assert!(!KernelView::default().distrusts_tsc(), "what can't be read says nothing");
    }

    #[test]
    fn a_withdrawn_clock_source_or_a_cleared_flag_is_distrust() {
        assert!(view("kvm-clock hpet acpi_pm \n", "constant_tsc nonstop_tsc").distrusts_tsc());
        assert!(view("tsc-early hpet\n", "constant_tsc nonstop_tsc").distrusts_tsc());
        assert!(view("tsc hpet\n", "constant_tsc").distrusts_tsc());
        assert!(view("tsc hpet\n", "nonstop_tsc").distrusts_tsc());
    }
}
