//! The filter that the server's threads work under: the system calls that it makes once it serves, and no other.
//!
//! Everything that isn't named here fails with `EPERM`: opening files, starting processes, making any socket but a UDP
//! one, mapping memory that can be executed, setting a clock. A filter can't be taken off again. io_uring's operations
//! pass by it, which is why rings are restricted when they are made ([`uring`](crate::uring)) and no new one can be.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::SeccompAction::{Allow, Errno};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BpfProgram, Error, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter_all_threads,
};

use crate::{access_tries, ntp_shm, phc, pps};

/// What a server needs beyond what every one does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Workers wait in io_uring.
    pub io_uring: bool,
    /// The shared memory segments that it attaches again when somebody replaced them, by their units.
    pub segments: Vec<u8>,
    /// It replaces what the XDP programs know of sources ([`access_tries`]), in maps that it has open.
    pub access_tries: bool,
}

/// What the filters of both processors let through whatever the arguments.
const CALLS: [c_long; 58] = [
    // Memory and threads.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Refused by the filter beneath with ENOSYS, for which the C library has `clone`.
    libc::SYS_clone3,
    // Signals, also those of an end by `abort`.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time. Setting it takes a capability that is gone.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Descriptors that are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_ppoll,
    libc::SYS_getrandom,
    // Sockets.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_uname,
    libc::SYS_getuid,
    libc::SYS_geteuid,
];

/// What only the older table of calls has.
#[cfg(target_arch = "x86_64")]
const OWN_CALLS: [c_long; 2] = [libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const OWN_CALLS: [c_long; 0] = [];

/// What terminals are asked: whether they are one, their size, and a serial line's settings.
const TERMINAL_REQUESTS: [libc::Ioctl; 8] = [
    libc::TCGETS,
    libc::TCSETS,
    libc::TCFLSH,
    libc::TIOCGWINSZ,
    libc::TIOCEXCL,
    libc::TIOCNXCL,
    libc::FIONBIO,
    libc::FIONREAD,
];

const DESCRIPTOR_COMMANDS: [libc::c_int; 5] =
    [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// What is set of sockets: of those to upstream servers, and how long a call may wait.
const SOCKET_OPTIONS: [(libc::c_int, libc::c_int); 8] = [
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPING),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
];

/// The bits of a socket's type that aren't flags.
const SOCKET_TYPE_MASK: u64 = 0xf;

/// Puts all threads of this process, and those that they start, under the filter for good, and sets `no_new_privs`; how
/// many system calls it lets through.
///
/// # Errors
/// When the kernel has no filters, or another one forbids this one.
pub fn confine(needs: &Needs) -> io::Result<usize> {
    let fall_back = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let fall_back = program(fall_back, Allow, Errno(number(libc::ENOSYS)))?;
    let rules = rules(needs).map_err(|error| told(error.into()))?;
    let calls = rules.len();
    let filter = program(rules, Errno(number(libc::EPERM)), Allow)?;
    apply_filter_all_threads(&fall_back).map_err(told)?;
    apply_filter_all_threads(&filter).map_err(told)?;
    Ok(calls)
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;
type Built<T> = Result<T, seccompiler::BackendError>;

fn program(
    rules: Rules,
    otherwise: seccompiler::SeccompAction,
    matched: seccompiler::SeccompAction,
) -> io::Result<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH);
    let filter = architecture.and_then(|arch| SeccompFilter::new(rules, otherwise, matched, arch));
    filter.and_then(BpfProgram::try_from).map_err(|error| told(error.into()))
}

fn rules(needs: &Needs) -> Built<Rules> {
    let mut rules: Rules = CALLS.iter().chain(&OWN_CALLS).map(|call| (*call, Vec::new())).collect();
    let thread = number(libc::CLONE_THREAD).into();
    rules.insert(libc::SYS_clone, vec![when([(0, MaskedEq(thread), thread)])?]);
    let execute = number(libc::PROT_EXEC).into();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![when([(2, MaskedEq(execute), 0)])?]);
    }
    rules.insert(libc::SYS_prctl, vec![when([(0, Eq, number(libc::PR_SET_NAME).into())])?]);
    let this_process = number(nix::unistd::getpid().as_raw()).into();
    rules.insert(libc::SYS_tgkill, vec![when([(0, Eq, this_process)])?]);
    let requests = TERMINAL_REQUESTS.into_iter().chain(pps::REQUESTS).chain(phc::REQUESTS);
    let requests = requests.map(|request| when([(1, Eq, u64::from(request_number(request)))]));
    rules.insert(libc::SYS_ioctl, requests.collect::<Built<_>>()?);
    let commands = DESCRIPTOR_COMMANDS.into_iter().map(|command| when([(1, Eq, number(command).into())]));
    rules.insert(libc::SYS_fcntl, commands.collect::<Built<_>>()?);
    let options = SOCKET_OPTIONS
        .into_iter()
        .map(|(level, option)| when([(1, Eq, number(level).into()), (2, Eq, number(option).into())]));
    rules.insert(libc::SYS_setsockopt, options.collect::<Built<_>>()?);
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        // No protocol named is UDP, too; others (ICMP, UDP-Lite) have datagrams as well.
        for protocol in [0, libc::IPPROTO_UDP] {
            let family = (0, Eq, number(family).into());
            let datagrams = (1, MaskedEq(SOCKET_TYPE_MASK), number(libc::SOCK_DGRAM).into());
            sockets.push(when([family, datagrams, (2, Eq, number(protocol).into())])?);
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    if needs.io_uring {
        for call in [libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
            rules.insert(call, Vec::new());
        }
    }
    if !needs.segments.is_empty() {
        let keys = needs.segments.iter().map(|unit| when([(0, Eq, number(ntp_shm::key(*unit)).into())]));
        rules.insert(libc::SYS_shmget, keys.collect::<Built<_>>()?);
        // As data to read and write: `SHM_EXEC` would make it a program.
        rules.insert(libc::SYS_shmat, vec![when([(2, Eq, 0)])?]);
        rules.insert(libc::SYS_shmdt, Vec::new());
    }
    if needs.access_tries {
        let commands = access_tries::COMMANDS.into_iter().map(|command| when([(0, Eq, command.into())]));
        rules.insert(libc::SYS_bpf, commands.collect::<Built<_>>()?);
    }
    Ok(rules)
}

/// All of these arguments, by their places, are such.
fn when<const N: usize>(arguments: [(u8, SeccompCmpOp, u64); N]) -> Built<SeccompRule> {
    let conditions =
        arguments.into_iter().map(|(place, is, value)| SeccompCondition::new(place, Dword, is, value));
    SeccompRule::new(conditions.collect::<Built<_>>()?)
}

/// The 32 bits that the kernel compares.
const fn number(value: libc::c_int) -> u32 {
    value.cast_unsigned()
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel takes 32 bits of a request")]
const fn request_number(request: libc::Ioctl) -> u32 {
    request as u32
}

fn told(error: Error) -> io::Error {
    match error {
        Error::Prctl(error) | Error::Seccomp(error) => error,
        other @ (Error::Backend(_) | Error::EmptyFilter | Error::ThreadSync(_)) => io::Error::other(other),
    }
}
