//! Kernel modules of our own that stand in for devices (`tests/vm/modules`): loaded for a test, told what to do, unloaded.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peers::host::run;

/// A loaded module. Dropping it unloads it.
pub(crate) struct Double(&'static str);

impl Double {
    /// Loads it with these parameters, as insmod takes them.
    pub(crate) fn load(name: &'static str, parameters: &str) -> Self {
        let modules = PathBuf::from(
            std::env::var_os("MASER_VM_MODULES").expect("tests/vm/guest says where modules are"),
        );
        let file = modules.join(format!("{name}.ko"));
        run(Command::new("insmod").arg(file).args(parameters.split_whitespace())).unwrap();
        Self(name)
    }

    /// A parameter of the module itself.
    pub(crate) fn parameter(&self, name: &str) -> Knob {
        Knob(Path::new("/sys/module").join(self.0).join("parameters").join(name))
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // One that stays fails the next test.
        let _ = run(Command::new("rmmod").arg(self.0));
    }
}

/// What the network interface `mnic0`, `mnic1`, … does.
pub(crate) fn nic(interface: &str, name: &str) -> Knob {
    let number = interface.strip_prefix("mnic").expect("an interface of maser_nic");
    Knob(Path::new("/sys/devices/platform").join(format!("maser_nic.{number}")).join("double").join(name))
}

/// The PTP hardware clock of such an interface.
pub(crate) fn hardware_clock(interface: &str) -> PathBuf {
    named("/sys/class/ptp", "clock_name", interface).expect("each interface has its clock")
}

/// The PPS device of `maser_pps`, while it is plugged.
pub(crate) fn pps_device() -> Option<PathBuf> {
    named("/sys/class/pps", "name", "maser_pps")
}

/// The device of a class whose file `attribute` says `name`: numbers go by the order in which devices came.
fn named(class: &str, attribute: &str, name: &str) -> Option<PathBuf> {
    let mut entries = fs::read_dir(class).unwrap().map(|entry| entry.unwrap());
    // One that goes meanwhile isn't it.
    let is_it = |path: &Path| fs::read_to_string(path.join(attribute)).is_ok_and(|text| text.trim() == name);
    entries.find(|entry| is_it(&entry.path())).map(|entry| Path::new("/dev").join(entry.file_name()))
}

/// A file of sysfs that says what a double does.
pub(crate) struct Knob(PathBuf);

impl Knob {
    pub(crate) fn set(&self, value: impl Copy + Display) {
        let value = value.to_string();
        fs::write(&self.0, &value).unwrap_or_else(|error| panic!("{value} to {}: {error}", self.0.display()));
    }

    pub(crate) fn number(&self) -> i64 {
        let text = fs::read_to_string(&self.0);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
        text.trim().parse().unwrap_or_else(|_| panic!("{}: {text}", self.0.display()))
    }
}
