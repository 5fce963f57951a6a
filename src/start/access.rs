//! The thread that looks after the files of who may ask.

use super::threads::Threads;
use super::{DriverSide, ServeError, system};
use crate::access::Watch;

impl Threads {
    /// Where the configuration names files. New lists go to the programs in front of the workers, too.
    pub(super) fn start_access(&mut self, watch: Watch, mut driver: DriverSide) -> Result<(), ServeError> {
        let thread = watch
            .start(move |prefixes| driver.turn_to(prefixes), &self.stop_drivers)
            .map_err(system("no thread for the access lists"))?;
        self.keepers.extend(thread);
        Ok(())
    }
}
