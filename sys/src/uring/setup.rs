//! Opens a ring: its size, its sockets, its buffers, and all that it may do.

use std::os::fd::{AsRawFd, RawFd};

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode};

use super::error::UringError;
use super::{GROUP, small};
use crate::datagram::SEND_CHUNK;
use crate::udp_socket::UdpSocket;

/// `IORING_REGISTER_SYNC_CANCEL` and `IORING_UNREGISTER_FILES`: the only changes that an enabled ring accepts.
const SYNC_CANCEL: u8 = 24;
const UNREGISTER_FILES: u8 = 3;

/// A disabled ring of the right size is given its sockets, its buffers and its restrictions, then enabled.
pub(super) fn open_ring(
    sockets: &[UdpSocket],
    receiving: usize,
    buffers: usize,
    ring_address: u64,
) -> Result<IoUring, UringError> {
    let submissions = (SEND_CHUNK + receiving).next_power_of_two();
    // Every buffer can have one completion outstanding, and every receive one that says it ended. The kernel wants
    // at least as many completions as submissions.
    let completions = (buffers + receiving).next_power_of_two().max(submissions);
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_r_disabled()
        .setup_cqsize(small(completions))
        .dontfork();
    // One indirection less a submission, from Linux 6.6 on.
    let direct = builder.clone().setup_no_sqarray().build(small(submissions));
    let ring = direct
        .or_else(|_| builder.build(small(submissions)))
        .map_err(UringError::of("deferred task running", "6.1"))?;
    let submitter = ring.submitter();
    let files: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    submitter.register_files(&files).map_err(UringError::of("registered files", "5.1"))?;
    let entries = u16::try_from(buffers).map_err(|_| UringError::Size)?;
    // SAFETY: the address is that of page-aligned memory with an entry for each buffer, which outlives the ring.
    unsafe { submitter.register_buf_ring_with_flags(ring_address, entries, GROUP, 0) }
        .map_err(UringError::of("ring of provided buffers", "5.19"))?;
    submitter.register_restrictions(&mut restrictions()).map_err(UringError::of("restrictions", "5.10"))?;
    submitter.register_enable_rings().map_err(UringError::of("enabling", "5.10"))?;
    Ok(ring)
}

/// Receive from and send to the registered sockets; cancel all and let go of them at the end.
fn restrictions() -> [Restriction; 7] {
    [
        Restriction::sqe_op(opcode::RecvMsgMulti::CODE),
        Restriction::sqe_op(opcode::SendMsg::CODE),
        Restriction::sqe_op(opcode::Send::CODE),
        Restriction::sqe_flags_required(FIXED_FILE),
        Restriction::sqe_flags_allowed(Flags::BUFFER_SELECT.bits()),
        Restriction::register_op(SYNC_CANCEL),
        Restriction::register_op(UNREGISTER_FILES),
    ]
}

/// `IOSQE_FIXED_FILE`: the descriptor is an index of the registered ones.
const FIXED_FILE: u8 = 1;
