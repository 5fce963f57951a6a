//! What only real devices show: run inside the VM that `make test-vm` boots (`tests/vm/README.md`), left out elsewhere.
//!
//! The VM has a PPS device whose edges the test makes, a serial line whose other end the test has, an igb with a hardware
//! clock on one wire with a virtio-net, and a clock of its own, that may be set.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a test that can't go on has failed, and its own arithmetic is small"
)]

#[path = "receivers/bench.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod bench;
#[path = "vm/devices.rs"]
mod devices;
#[path = "vm/double.rs"]
mod double;
#[path = "vm/doubles.rs"]
mod doubles;
#[path = "vm/faults.rs"]
mod faults;
#[path = "vm/gpsd.rs"]
mod gpsd;
#[path = "vm/heard.rs"]
mod heard;
#[path = "vm/igb.rs"]
mod igb;
#[path = "vm/leap_seconds.rs"]
mod leap_seconds;
#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod maser;
#[path = "receivers/messages.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod messages;
#[path = "vm/nic.rs"]
mod nic;
#[path = "vm/packets.rs"]
mod packets;
#[allow(dead_code, reason = "of the peers' rig only what starts and reads processes is used here")]
mod peers;
#[path = "vm/phc.rs"]
mod phc;
#[path = "vm/phc_double.rs"]
mod phc_double;
#[path = "vm/pulses.rs"]
mod pulses;
#[path = "vm/receiver.rs"]
mod receiver;
#[path = "vm/served.rs"]
mod served;
#[path = "vm/steering.rs"]
mod steering;
mod support;

use maser::{READY_LIMIT, Server, within};
use nix::sys::signal::Signal;
use std::fs;

/// Whether this is the VM, by what its kernel was told, which nobody else's is; says so in the log where it isn't.
fn is_vm_or_skip(name: &str) -> bool {
    was_told_or_skip(name, "maser.guest=", "it takes the VM's devices; `make test-vm` boots it")
}

/// Whether time passes here by the instructions executed, so that figures are the program's and not those of a busy machine.
fn is_counted_or_skip(name: &str) -> bool {
    was_told_or_skip(name, "maser.boot=counted", "it takes the VM's boot `counted`; `make test-vm` boots it")
}

/// Whether this is the boot with the newer kernel.
fn is_new() -> bool {
    was_told("maser.boot=new")
}

fn was_told(beginning: &str) -> bool {
    let told = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    told.split_whitespace().any(|word| word.starts_with(beginning))
}

fn was_told_or_skip(name: &str, beginning: &str, reason: &str) -> bool {
    let was_told = was_told(beginning);
    if !was_told {
        peers::skip(name, reason);
    }
    was_told
}

/// Ends it as a service manager would, in the time that a busy emulator takes.
fn stop(server: &mut Server) {
    server.signal(Signal::SIGTERM);
    let ended = within(READY_LIMIT, || server.has_ended());
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}; the log says:\n{}", server.log());
}

/// Says a figure that `tests/vm/run` shows.
fn measured(text: &str) {
    peers::log(&format!("measured: {text}"));
}
