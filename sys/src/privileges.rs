//! Capabilities of all threads of this process, given up for good, and the right to get others (`no_new_privs`).
//!
//! The kernel keeps both by thread and lets a thread change its own alone, so every other one is told to by a
//! signal, as the C library does for user ids. What the kernel says of each thread afterwards decides, not what was
//! asked for.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

/// Ignored where nobody handles it, and sent by nobody to a program without TCP's urgent data.
const SIGNAL: Signal = Signal::SIGURG;

/// Threads are looked at so often, so long apart: 1 s in all.
const LOOKS_MAX: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// More than the kernel has; the first that it doesn't know ends the row.
const CAPABILITY_MAX: libc::c_ulong = 63;

/// What a process is left with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// What could come back by starting another program is empty, too; it stays for one who may not change it, to whom
    /// `no_new_privs` denies the same.
    pub bounding_set_empty: bool,
}

/// Gives up all capabilities of all threads: effective, permitted, inheritable, ambient, and the bounding set where that
/// may be changed. Sets `no_new_privs` of all of them.
///
/// # Errors
/// When a thread still has some after a second, or `/proc` isn't there to tell.
pub fn drop_all() -> io::Result<Left> {
    drop_own();
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler makes system calls and touches nothing else.
    let before = unsafe { sigaction(SIGNAL, &action) }?;
    let dropped = tell_others();
    // SAFETY: this is what was there before.
    unsafe { sigaction(SIGNAL, &before) }?;
    dropped?;
    let bounding_set_empty = status(&own_task())?.is_empty(&["CapBnd:"]);
    Ok(Left { bounding_set_empty })
}

/// Gives up the calling thread's, and its right to get others by starting a program: for a process with one thread.
///
/// # Errors
/// When it still has some.
pub fn drop_all_of_one_thread() -> io::Result<()> {
    drop_own();
    if status(&own_task())?.is_harmless() { Ok(()) } else { Err(still_held()) }
}

fn own_task() -> String {
    format!("/proc/self/task/{}", nix::unistd::gettid())
}

fn still_held() -> io::Error {
    io::Error::other("a thread still has capabilities, or could get some")
}

fn tell_others() -> io::Result<()> {
    for _ in 0..LOOKS_MAX {
        let mut all_empty = true;
        for task in fs::read_dir("/proc/self/task")? {
            let task = task?;
            // A thread that has ended in the meantime has nothing left.
            let Ok(status) = status(&task.path().to_string_lossy()) else { continue };
            if !status.is_harmless()
                && let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok())
            {
                all_empty = false;
                tell(thread);
            }
        }
        if all_empty {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(still_held())
}

fn tell(thread: libc::pid_t) {
    let process = nix::unistd::getpid().as_raw();
    // SAFETY: the call takes three numbers. What it says doesn't matter: the thread is looked at again.
    let _ = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL as libc::c_int) };
}

const HELD: [&str; 4] = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"];

/// The kernel's account of a thread.
struct Status(String);

fn status(task: &str) -> io::Result<Status> {
    fs::read_to_string(format!("{task}/status")).map(Status)
}

impl Status {
    fn is_harmless(&self) -> bool {
        self.value("NoNewPrivs:") == Some("1") && self.is_empty(&HELD)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }

    fn is_empty(&self, sets: &[&str]) -> bool {
        sets.iter().all(|set| self.value(set).is_some_and(|bits| bits.chars().all(|digit| digit == '0')))
    }
}

extern "C" fn on_signal(_signal: libc::c_int) {
    // SAFETY: the C library gives the address of this thread's own variable.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid for as long as the thread lives.
    let before = unsafe { place.read() };
    drop_own();
    // SAFETY: as above.
    unsafe { place.write(before) };
}

/// System calls alone, so that a signal handler may call it. Whether it worked is seen in `/proc`.
fn drop_own() {
    for capability in 0..=CAPABILITY_MAX {
        // SAFETY: the call takes numbers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    // SAFETY: the call takes numbers.
    let _ = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let (set, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the call takes numbers.
    let _ = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, set, unused, unused, unused) };
    // `struct __user_cap_header_struct`: _LINUX_CAPABILITY_VERSION_3, the calling thread.
    let header: [u32; 2] = [0x2008_0522, 0];
    // Two of `struct __user_cap_data_struct`: effective, permitted, inheritable.
    let none = [0_u32; 6];
    // SAFETY: the kernel reads a header of two words and, for this version, six words of data; both live until it
    // returns.
    let _ = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
}
