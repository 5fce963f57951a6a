//! What every driver of a device does around its own work: opens, says so, works, and tries again.
//!
//! A device that is missing, refused or lost is told once, with what to do about it, and tried again until the driver
//! is to end. What the work is, and what comes of it, is the driver's own.

use super::{RETRY, Teller, Word};
use maser_sys::kernel_clock::{self, KernelClock};

/// Work that ends sooner hasn't worked.
const BRIEF_NS: i64 = 20_000_000_000;

/// So often in a row the same quick failure is told.
const REPEATED_TOLD: u32 = 2;

/// Opens with `open` and works with `work` until the driver is to end.
///
/// `open` returns the device and what to say of it; both return why they can't, with the device's name and what to do
/// about it. `work` returns in good time once the driver is to end, and otherwise only when the device is lost.
pub(super) fn keep_working<D>(
    teller: &mut Teller<'_>,
    mut open: impl FnMut() -> Result<(D, String), String>,
    mut work: impl FnMut(D, &mut Teller<'_>) -> Result<(), String>,
) {
    let mut told = None;
    // How often in a row the device has opened and failed at once, and of what.
    let (mut repeated, mut last) = (0, None);
    while !teller.is_stopped() {
        let failed = match open() {
            Ok((device, opened)) => {
                // What opens and fails again and again is one failure, not many.
                if repeated < REPEATED_TOLD {
                    teller.tell(Word::Working(opened));
                    told = None;
                }
                let begun_ns = kernel_clock::read(KernelClock::Monotonic);
                let ended = work(device, teller).err();
                let brief = kernel_clock::read(KernelClock::Monotonic) - begun_ns < BRIEF_NS;
                repeated = if brief && ended == last { repeated + 1 } else { 0 };
                last.clone_from(&ended);
                ended
            }
            Err(failure) => Some(failure),
        };
        // The same failure again is no news.
        if failed.is_some() && failed != told {
            teller.tell(Word::Failed(failed.clone().unwrap_or_default()));
            told = failed;
        }
        teller.pause(RETRY);
    }
}
