//! A machine that is a directory: `/proc` and `/sys` as far as the doctor and the scripts of `tuning/` read them. Four
//! cores, a NIC with two queues that no kernel has.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// Dropping it removes it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// A machine of which nothing that is there should be done.
    pub(crate) fn fit() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("maser-doctor-machine-{}-{number}", std::process::id());
        let directory = Self(std::env::temp_dir().join(name));
        for (path, text) in [
            ("proc/net/udp", "sl local_address"),
            ("proc/net/udp6", "sl local_address"),
            ("proc/net/route", "Iface Destination Gateway\nfake7 00000000 010200C0"),
            ("proc/self/status", "CapEff:\t000001ffffffffff"),
            ("proc/sys/kernel/osrelease", "6.12.1"),
            ("proc/sys/kernel/random/boot_id", "first"),
            ("proc/cpuinfo", "flags\t: fpu constant_tsc nonstop_tsc"),
            ("proc/77/comm", "gpsd"),
            ("proc/77/status", "CapEff:\t0000000000000000"),
            (
                "proc/interrupts",
                "  CPU0 CPU1\n 40: 0 0 0-edge fake7\n 41: 0 0 1-edge fake7-TxRx-0\n 42: 0 0 2-edge fake7-TxRx-1\n",
            ),
            ("sys/class/net/fake7/device/msi_irqs/40", "msix"),
            ("sys/class/net/fake7/device/msi_irqs/41", "msix"),
            ("sys/class/net/fake7/device/msi_irqs/42", "msix"),
            ("sys/devices/system/cpu/online", "0-3"),
            ("sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet tsc"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ] {
            directory.put(path, text);
        }
        directory
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.0.join(path)).unwrap();
    }

    /// Where it is, for the doctor and for the scripts.
    pub(crate) fn places(&self) -> [(&'static str, PathBuf); 5] {
        [
            ("MASER_DOCTOR_PROC", self.0.join("proc")),
            ("MASER_DOCTOR_SYS", self.0.join("sys")),
            ("MASER_TUNING_PROC", self.0.join("proc")),
            ("MASER_TUNING_SYS", self.0.join("sys")),
            ("MASER_TUNING_ROOT", self.0.join("root")),
        ]
    }

    pub(crate) fn doctor(&self, arguments: &[&str]) -> Output {
        Command::new(super::PROGRAM).args(arguments).envs(self.places()).output().unwrap()
    }

    /// What a script finds.
    pub(crate) fn script(&self, name: &str) -> Output {
        let script = format!("{}/tuning/{name}", env!("CARGO_MANIFEST_DIR"));
        Command::new(script).arg("check").envs(self.places()).output().unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
