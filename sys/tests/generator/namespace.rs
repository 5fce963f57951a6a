//! Two hosts out of network namespaces that threads of this process have made, joined by a veth pair.
//!
//! Nothing here touches the machine's own network, and a namespace goes with the last thread and socket in it.

use std::io::Write as _;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::Echo;

pub(crate) const NEAR_V4: &str = "192.0.2.2";
pub(crate) const FAR_V4: &str = "192.0.2.1";
pub(crate) const FAR_V6: &str = "fd6d:61::1";
pub(crate) const PORT: u16 = 123;

/// What the far host runs: an echo on both of its addresses.
pub(crate) struct Far {
    pub(crate) v4: Echo,
    pub(crate) v6: Echo,
    thread_id: libc::pid_t,
}

impl Far {
    /// Runs `ip` there.
    pub(crate) fn ip(&self, arguments: &str) {
        let namespace = format!("--net=/proc/{}/ns/net", self.thread_id);
        run("nsenter", &format!("{namespace} ip {arguments}"));
    }
}

/// Runs `ip` in the namespace of the calling thread.
pub(crate) fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Runs a program in the namespace of the calling thread.
pub(crate) fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "{program} {arguments}");
}

/// Runs `test` in a namespace with a loopback interface, or skips it loudly.
pub(crate) fn alone(name: &str, test: impl FnOnce() + Send + 'static) {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{name} must not be skipped in CI: it takes root"
        );
        // The harness swallows what `eprintln!` says, but not what is written to the stream itself.
        writeln!(std::io::stderr().lock(), "SKIPPED: {name}: network namespaces take root").unwrap();
        return;
    }
    let thread = thread::spawn(move || {
        leave_namespace();
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `test` on a host whose interface `near` leads to one with an echo on port [`PORT`], or skips it loudly.
pub(crate) fn with_far(name: &str, test: fn(&Far)) {
    alone(name, move || {
        let (to_far, from_near) = channel();
        let (to_near, from_far) = channel();
        let far = thread::spawn(move || far_host(&to_near, &from_near));
        let Ok(Progress::Born(thread_id)) = from_far.recv() else { panic!("the far host has no namespace") };
        ip(&format!("link add near type veth peer name far netns {thread_id}"));
        ip(&format!("address add {NEAR_V4}/24 dev near"));
        // Without nodad the address could not be used for the first two seconds.
        ip("address add fd6d:61::2/64 dev near nodad");
        ip("link set near up");
        to_far.send(()).unwrap();
        let Ok(Progress::Ready(echoes)) = from_far.recv() else { panic!("the far host isn't up") };
        test(&echoes);
        drop(echoes);
        drop(to_far);
        far.join().unwrap();
    });
}

enum Progress {
    Born(libc::pid_t),
    Ready(Far),
}

fn far_host(progress: &Sender<Progress>, linked: &Receiver<()>) {
    leave_namespace();
    // SAFETY: the call takes nothing and only returns a number.
    let thread_id = unsafe { libc::gettid() };
    progress.send(Progress::Born(thread_id)).unwrap();
    linked.recv().unwrap();
    ip("link set lo up");
    ip(&format!("address add {FAR_V4}/24 dev far"));
    ip(&format!("address add {FAR_V6}/64 dev far nodad"));
    ip("link set far up");
    let (v4, v6) = (Echo::at(&format!("{FAR_V4}:{PORT}")), Echo::at(&format!("[{FAR_V6}]:{PORT}")));
    let far = Far { v4, v6, thread_id };
    progress.send(Progress::Ready(far)).unwrap();
    // Until the test is over.
    let _over = linked.recv();
}

/// Gives the calling thread a namespace of its own.
fn leave_namespace() {
    // SAFETY: only this thread's view of the network changes.
    let failed = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(failed, 0, "unshare: {}", std::io::Error::last_os_error());
}
