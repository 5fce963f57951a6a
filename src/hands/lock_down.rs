//! The server gives up what it no longer needs, for good, on all threads.

use maser_sys::privileges;
use maser_sys::seccomp::{self, Needs};
use tracing::{info, warn};

/// Drops every capability and puts the filter on. What can't be done is warned of, and the server serves all the same: in
/// a container the rest may be somebody else's to forbid.
pub(super) fn lock_down(needs: &Needs) {
    let capabilities = privileges::drop_all();
    match &capabilities {
        Ok(left) if left.bounding_set_empty => {}
        Ok(_) => info!(
            "the capability bounding set stays: this user may not change it; no_new_privs makes it idle"
        ),
        Err(error) => warn!("the server keeps capabilities: {error}"),
    }
    match seccomp::confine(needs) {
        Ok(calls) => {
            let capabilities = if capabilities.is_ok() { "no capabilities" } else { "capabilities left" };
            info!("locked down: {capabilities}, no_new_privs, {calls} system calls");
        }
        Err(error) => warn!(
            "no filter of system calls: {error}; a kernel with CONFIG_SECCOMP_FILTER has them, unless a container's profile \
             forbids"
        ),
    }
}
