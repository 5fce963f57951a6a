//! What a reference says, and what follows for the snapshot.

mod calendar;
mod gpsd;
mod kernel_error;
mod leap_file;
mod machine;
mod nmea;
mod phc;
mod receiver;
mod stream;
mod ubx;
mod week;

pub use calendar::{CivilTime, Date, TimeOfDay};
pub use gpsd::{GpsdFault, GpsdSample, SHM_LENGTH, SOCK_LENGTH, ShmMode, ShmSample, parse_shm, parse_sock};
pub use kernel_error::KernelError;
pub use leap_file::{
    EXPIRY_WARNED_DAYS, Expiry, LEAP_FILE_LENGTH_MAX, LeapFile, LeapFileError, LeapFileFault,
};
pub use machine::{
    LOCAL_REFERENCE_ID, MachineClock, MachineReading, MachineSettings, MachineUpdate, PendingLeap, Standing,
};
pub use nmea::{Nmea, NmeaFault, NmeaField, NmeaMessage, NmeaReceiver, nmea_checksum};
pub use phc::{PhcEvent, PhcFitter, PhcReading};
pub use receiver::{Fix, ReceiverStatus};
pub use stream::{ReceiverFault, ReceiverMessage, ReceiverStream};
pub use ubx::{
    LeapSource, NavPvt, NavTimeLs, NextLeap, PAYLOAD_OCTETS_MAX, TimTp, TimeBase, Ubx, UbxCommand, UbxFault,
    UbxMessage, UbxReceiver, UbxTold, ubx_checksum, ubx_configuration,
};
pub use week::{ROLLOVER_WEEKS, later_by_weeks, weeks_missing, weeks_off};
