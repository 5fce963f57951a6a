//! What every driver of a device does around its own work: opens, says so, works, and tries again.
//!
//! A device that is missing, refused or lost is told once, with what to do about it, and tried again until the driver
//! is to end. What the work is, and what comes of it, is the driver's own.

use super::{RETRY, Teller, Word};

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
    while !teller.is_stopped() {
        let failed = match open() {
            Ok((device, opened)) => {
                teller.tell(Word::Working(opened));
                told = None;
                work(device, teller).err()
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
