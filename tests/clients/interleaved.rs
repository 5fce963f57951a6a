//! A chronyd with `xleave` in its `server` line: does it say that this server interleaves (RFC 9769)?
//!
//! What it says of the offsets is printed for each port, with a chronyd that serves beside them; `ONLY=interleaved make bench`
//! measures these properly.

use std::path::Path;
use std::time::Duration;

use maser::interface::Mode;

use crate::peers::client::{CHRONYD_XLEAVE, program};
use crate::peers::rig::{Family, Rig};
use crate::peers::{log, skip};
use crate::{Way, rig_for, serve};

/// It asks four times a second, and is listened to until it has had twenty replies.
const PATIENCE: Duration = Duration::from_secs(30);
/// By then it would have said so.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(12);

#[test]
fn chronyd_interleaves_with_the_socket_port() {
    interleaves(Way::Socket, Family::Ipv4);
    interleaves(Way::Socket, Family::Ipv6);
}

#[test]
fn chronyd_interleaves_with_the_io_uring_port() {
    interleaves(Way::IoUring, Family::Ipv4);
    interleaves(Way::IoUring, Family::Ipv6);
}

#[test]
fn chronyd_interleaves_with_the_af_xdp_port() {
    interleaves(Way::AfXdp(Mode::Native), Family::Ipv4);
    interleaves(Way::AfXdp(Mode::Native), Family::Ipv6);
}

#[test]
fn chronyd_interleaves_with_the_generic_af_xdp_port() {
    interleaves(Way::AfXdp(Mode::Generic), Family::Ipv4);
    interleaves(Way::AfXdp(Mode::Generic), Family::Ipv6);
}

/// What the others are compared with.
#[test]
fn chronyd_interleaves_with_chronyd() {
    let name = "xleave/chronyd";
    let Some(rig) = rig(name) else { return };
    let (program, configuration) = (program("chrony/usr/sbin/chronyd"), rig.directory().join("chrony.conf"));
    let lines = format!(
        "local stratum 1\nallow\nport 123\ncmdport 0\nbindcmdaddress /\npidfile {}/pid\n",
        rig.directory().display()
    );
    std::fs::write(&configuration, lines).expect("the directory is ours");
    // It says nothing when it serves; requests that come before are repeated.
    let [program, configuration] = [&program, &configuration].map(|path| text(path));
    let script = "sleep 1; echo ready & exec \"$@\"";
    let command = ["sh", "-c", script, "sh", &program, "-x", "-d", "-u", "root", "-f", &configuration];
    let _server = rig.serve(&command).unwrap_or_else(|error| panic!("{name}: {error}"));
    follow(&rig, name);
}

/// Shows that the others can fail: of a server that only knows basic mode it says no.
#[test]
fn chronyd_says_no_of_a_server_without_interleaved_mode() {
    let name = "xleave/basic server";
    let Some(rig) = rig(name) else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/liar.py");
    let command = ["python3", script, rig.server_address(), "0"];
    let _server = rig.serve(&command).unwrap_or_else(|error| panic!("{name}: {error}"));
    let said = CHRONYD_XLEAVE.ask(&rig, REFUSAL_PATIENCE).expect_err("it doesn't interleave");
    assert!(said.contains("Interleaved : No "), "{said}");
    assert!(!said.contains("Interleaved : Yes "), "{said}");
}

fn rig(name: &str) -> Option<Rig> {
    match CHRONYD_XLEAVE.missing().map_or_else(|| Rig::new(Family::Ipv4), Err) {
        Ok(rig) => Some(rig),
        Err(reason) => {
            skip(name, &reason);
            None
        }
    }
}

fn interleaves(way: Way, family: Family) {
    let name = format!("xleave/{way:?}/{family:?}");
    let hosts = CHRONYD_XLEAVE.missing().map_or_else(|| rig_for(way, family), Err);
    let (rig, _tagger) = match hosts {
        Ok(hosts) => hosts,
        Err(reason) => return skip(&name, &reason),
    };
    let status_socket = rig.directory().join("status.sock");
    let server = serve(&rig, way, &status_socket).unwrap_or_else(|error| panic!("{name}: {error}"));
    follow(&rig, &name);
    let status = server.stop().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(status.success(), "{name}: the server ended with {status}");
}

/// Has it follow the server until it says that replies are interleaved.
fn follow(rig: &Rig, name: &str) {
    match CHRONYD_XLEAVE.ask(rig, PATIENCE) {
        Ok(evidence) => log(&format!("{name}: {evidence}")),
        Err(said) => panic!("{name}: chronyd doesn't say that replies are interleaved; it said:\n{said}"),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
