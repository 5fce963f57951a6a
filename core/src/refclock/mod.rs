//! What a reference says, and what follows for the snapshot.

mod machine;

pub use machine::{
    LOCAL_REFERENCE_ID, MachineClock, MachineReading, MachineSettings, MachineUpdate, PendingLeap, Standing,
    VALIDITY,
};
