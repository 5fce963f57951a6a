//! What a reference says, and what follows for the snapshot.

mod kernel_error;
mod machine;

pub use kernel_error::KernelError;
pub use machine::{
    LOCAL_REFERENCE_ID, MachineClock, MachineReading, MachineSettings, MachineUpdate, PendingLeap, Standing,
    VALIDITY,
};
