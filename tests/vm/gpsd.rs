//! The real gpsd between the receiver and the server: it reads the serial line and the PPS device and hands over what it makes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use maser_sys::kernel_clock::{KernelClock, read};

use crate::maser::{Server, Setting, text, within};
use crate::peers::host::end;
use crate::pulses::device;
use crate::receiver::{LINE, Reader, Receiver};
use crate::served::{
    LOCK_LIMIT, PPM, SETTLED, expect_honest, is_held_but_for_round_trips, micros, offset_micros, offsets,
};
use crate::{is_counted_or_skip, measured, stop};

/// A running gpsd. Dropping it kills it.
struct Gpsd {
    process: Child,
    said: PathBuf,
}

impl Gpsd {
    /// On the line and on the pulses, with what it says in `directory`.
    fn start(directory: &Path) -> Self {
        let tree = PathBuf::from(std::env::var_os("MASER_CACHE").unwrap()).join("peers/gpsd");
        let libraries = fs::read_dir(tree.join("usr/lib")).unwrap().map(|entry| entry.unwrap().path());
        let libraries: Vec<_> = libraries.map(|path| path.display().to_string()).collect();
        let said = directory.join("gpsd");
        let output = fs::File::create(&said).unwrap();
        // In the foreground, at once, saying what it does; it writes nothing to the receiver.
        let process = Command::new(tree.join("usr/sbin/gpsd"))
            .args(["-N", "-n", "-b", "-D", "4", "-s", "9600", LINE])
            .arg(device())
            .env("LD_LIBRARY_PATH", libraries.join(":"))
            .stdin(Stdio::null())
            .stderr(output.try_clone().unwrap())
            .stdout(output)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("gpsd of {}: {error}; tests/peers/setup.sh fetches it", tree.display())
            });
        Self { process, said }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Gpsd {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// A server whose only source is `lines` of gpsd.
fn serve(lines: &str) -> Server {
    let setting = Setting::nowhere();
    let (config, state) = (setting.scratch.path("maser.toml"), setting.scratch.path("state"));
    let config_lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\n\n[[source]]\ntype = \"gpsd\"\nname = \"roof\"\n{lines}\n\n\
         [clock]\nstate = \"{state}\"\n",
        port = setting.port,
        state = text(&state),
    );
    fs::write(&config, config_lines).unwrap();
    setting.with(&["--config", text(&config)]).start()
}

fn serves_what_gpsd_hands_over(what: &str, lines: &str) {
    let receiver = Receiver::start(PPM);
    // gpsd looks for the socket when it starts.
    let mut server = serve(lines);
    let gpsd = Gpsd::start(&server.setting.scratch.path(""));
    let begun_ns = read(KernelClock::Monotonic);
    let locked = within(LOCK_LIMIT, || {
        thread::sleep(Duration::from_millis(250));
        (server.status()["state"] == "locked").then_some(())
    });
    assert!(locked.is_some(), "{:#}\n{}\ngpsd said:\n{}", server.status(), server.log(), gpsd.said());
    let took_s = (read(KernelClock::Monotonic) - begun_ns) as f64 / 1e9;
    thread::sleep(SETTLED);
    let reader = Reader::start(&device(), receiver.truth);
    let (offsets, unsynchronised) = offsets(&server, &receiver.truth, 20);
    measured(&format!(
        "gpsd's {what}: locked after {took_s:.1} s, off by {}; {unsynchronised} unsynchronised; the kernel's stamps are late by {}",
        offset_micros(&offsets),
        micros(&reader.late_ns())
    ));
    assert_eq!(unsynchronised, 0);
    expect_honest(what, &server, &offsets);
    assert!(is_held_but_for_round_trips(&offsets), "{offsets:?}");
    stop(&mut server);
}

#[test]
fn its_socket_is_as_good_as_the_device() {
    if is_counted_or_skip("gpsd's socket in the VM") {
        let name = device().file_name().unwrap().to_str().unwrap().to_owned();
        serves_what_gpsd_hands_over("socket", &format!("socket = \"/run/chrony.{name}.sock\""));
    }
}

#[test]
fn its_segment_is_as_good_as_the_device() {
    if is_counted_or_skip("gpsd's segment in the VM") {
        // The line has two, of its sentences and its pulses; then comes the pulses' own device. That it holds pulses maser can't know.
        serves_what_gpsd_hands_over("segment", "shm = 2\nerror = \"10 us\"");
    }
}
