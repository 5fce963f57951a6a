//! The program on interfaces: how it gets there, what keeps it off, and that it goes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use maser_sys::xdp_program::{AttachMode, NicStamps, Reason, SocketsMap, XdpCounts, XdpError, XdpProgram};

use crate::rig::{
    DESTINATIONS, LOOPBACK, STATION, index_of, ip, ip4, keep_capabilities, namespace, programs_on, send_from,
    xdp_socket,
};

const CAP_NET_ADMIN: u32 = 12;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn in_time(what: &str, mut done: impl FnMut() -> bool) {
    let end = deadline();
    while !done() {
        assert!(is_before(end), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline of the test itself")]
fn deadline() -> Instant {
    Instant::now() + LIMIT
}

#[expect(clippy::disallowed_methods, reason = "as for `deadline`")]
fn is_before(end: Instant) -> bool {
    Instant::now() < end
}

/// A process that another test starts has our descriptors until it is on its own program.
fn is_gone_from(name: &str) {
    in_time("the program goes with its last descriptor", || programs_on(name).is_empty());
}

#[test]
fn a_driver_with_metadata_is_asked_for_its_stamps() {
    if !namespace() {
        return;
    }
    let near = index_of("near");
    let mut program = XdpProgram::attach(near, AttachMode::Native).unwrap();
    let footing = program.footing();
    assert_eq!((footing.mode, footing.nic_stamps), (AttachMode::Native, NicStamps::Asked));
    assert_eq!(programs_on("near").len(), 1);
    // It really runs there: what arrives for us finds no socket.
    program.set_hardware_addresses(&[STATION]).unwrap();
    program.set_destinations(&DESTINATIONS).unwrap();
    let counts = XdpCounts::from_fd(program.counts_map().unwrap()).unwrap();
    send_from(index_of("far"), &ip4(), 3);
    in_time("three requests are counted", || counts.read().of(Reason::NoSocket) == 3);
    // A socket that isn't bound gets nothing, but the program's way to it is gone through: the driver's stamp, metadata.
    let sockets = SocketsMap::from_fd(program.sockets_map().unwrap());
    let socket = xdp_socket();
    (0..4).for_each(|queue| sockets.insert(queue, std::os::fd::AsFd::as_fd(&socket)).unwrap());
    send_from(index_of("far"), &ip4(), 5);
    in_time("five requests are steered", || counts.read().of(Reason::Steered) == 5);
    drop(program);
    is_gone_from("near");
    // The counts stay readable.
    assert_eq!(counts.read().of(Reason::Steered), 5);
}

#[test]
fn where_the_driver_has_no_place_the_caller_is_told() {
    if !namespace() {
        return;
    }
    let error = XdpProgram::attach(LOOPBACK, AttachMode::Native).unwrap_err();
    assert_eq!(error, XdpError::NotNative { errno: libc::EOPNOTSUPP });
    assert!(error.to_string().contains("generic mode"), "{error}");
    let generic = XdpProgram::attach(LOOPBACK, AttachMode::Generic).unwrap();
    assert_eq!(
        (generic.footing().mode, generic.footing().nic_stamps),
        (AttachMode::Generic, NicStamps::Generic)
    );
    // A driver that knows XDP and no metadata: it is asked in vain, or the kernel refuses the question.
    ip("tuntap add tap mode tap");
    let tap = XdpProgram::attach(index_of("tap"), AttachMode::Native).unwrap();
    assert_eq!(tap.footing().mode, AttachMode::Native);
    assert_ne!(tap.footing().nic_stamps, NicStamps::Generic);
    // Frames too long for a page with XDP.
    for end in ["near", "far"] {
        ip(&format!("link set {end} mtu 9000"));
    }
    let error = XdpProgram::attach(index_of("near"), AttachMode::Native).unwrap_err();
    assert!(matches!(error, XdpError::NotNative { .. }) && error.to_string().contains("MTU"), "{error}");
    XdpProgram::attach(index_of("near"), AttachMode::Generic).unwrap();
    let error = XdpProgram::attach(9_999, AttachMode::Native).unwrap_err();
    assert_eq!(error, XdpError::NoInterface);
    assert!(error.to_string().contains("`ip link`"), "{error}");
}

#[test]
fn another_program_stays_and_is_named() {
    if !namespace() {
        return;
    }
    let near = index_of("near");
    for theirs in [AttachMode::Native, AttachMode::Generic] {
        let kept = XdpProgram::attach(near, theirs).unwrap();
        let ids = programs_on("near");
        let id = ids.first().copied();
        assert!(id.is_some());
        for ours in [AttachMode::Native, AttachMode::Generic] {
            let error = XdpProgram::attach(near, ours).unwrap_err();
            assert_eq!(error, XdpError::AnotherProgram { id }, "{ours:?} beside {theirs:?}");
            let said = error.to_string();
            let number = id.unwrap().to_string();
            assert!(
                ["ip link show", "bpftool net", &number].iter().all(|word| said.contains(word)),
                "{said}"
            );
        }
        assert_eq!(programs_on("near"), ids);
        drop(kept);
        is_gone_from("near");
    }
    XdpProgram::attach(near, AttachMode::Native).unwrap();
}

#[test]
fn three_capabilities_are_enough_and_fewer_are_named() {
    if !namespace() {
        return;
    }
    let near = index_of("near");
    let attach_with = |kept: &'static [u32], mode| {
        let attached = thread::spawn(move || {
            keep_capabilities(kept);
            XdpProgram::attach(near, mode).map(drop)
        });
        attached.join().unwrap()
    };
    for mode in [AttachMode::Native, AttachMode::Generic] {
        for fewer in
            [&[][..], &[CAP_BPF, CAP_PERFMON], &[CAP_NET_ADMIN, CAP_PERFMON], &[CAP_BPF, CAP_NET_ADMIN]]
        {
            let error = attach_with(fewer, mode).unwrap_err();
            assert_eq!(error, XdpError::Forbidden, "{fewer:?}");
            assert!(error.to_string().contains("CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"), "{error}");
        }
        assert_eq!(attach_with(&[CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON], mode), Ok(()), "{mode:?}");
        is_gone_from("near");
    }
}

/// Puts the program on `far` until it is killed, for the test below.
#[test]
#[ignore = "a process that the next test starts and kills"]
fn holds_the_program() {
    let Ok(name) = std::env::var("MASER_HOLD_XDP_PROGRAM_ON") else { return };
    let _program = XdpProgram::attach(index_of(&name), AttachMode::Native).unwrap();
    println!("attached");
    thread::sleep(LIMIT);
}

/// That process, killed in any case.
struct Holder(Child);

impl Holder {
    /// Starts it in this thread's namespace and waits until it has the program on `name`.
    fn on(name: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "attaching::holds_the_program", "--ignored", "--nocapture"]);
        command.env("MASER_HOLD_XDP_PROGRAM_ON", name).stdout(Stdio::piped());
        let mut holder = Self(command.spawn().unwrap());
        let lines = BufReader::new(holder.0.stdout.take().unwrap()).lines();
        // It ends by itself after `LIMIT`, and so do its lines.
        assert!(lines.map_while(Result::ok).any(|line| line.contains("attached")), "the holder attaches");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SIGKILL. Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_is_killed_leaves_no_program() {
    if !namespace() {
        return;
    }
    let holder = Holder::on("far");
    assert_eq!(programs_on("far").len(), 1);
    let error = XdpProgram::attach(index_of("far"), AttachMode::Native).unwrap_err();
    assert_eq!(error, XdpError::AnotherProgram { id: programs_on("far").first().copied() });
    drop(holder);
    is_gone_from("far");
    XdpProgram::attach(index_of("far"), AttachMode::Native).unwrap();
}
