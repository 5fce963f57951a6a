//! maser's only unsafe code.
//!
//! One file per kernel object, each with a safe API and no policy: what to listen on, when to wait and what to
//! answer is decided elsewhere. The snapshot's cell lives here too, since it is about memory order rather than
//! about time.
//!
//! | module | kernel object |
//! |---|---|
//! | [`counter`] | the TSC, else `CLOCK_MONOTONIC_RAW` |
//! | [`calibration`] | the choice between the two, measured on the cores used |
//! | [`kernel_clock`] | the kernel's clocks |
//! | [`clock`] | both, read together |
//! | [`adjtimex`] | what the kernel says of its clock, read and never written |
//! | [`steering`] | the kernel's clock, written |
//! | [`clock_watch`] | a timer that notices steps of `CLOCK_REALTIME` |
//! | [`pps`] | pulses that the kernel stamps (RFC 2783) |
//! | [`phc`] | a NIC's own clock: readings beside the counter, stamps of its pins |
//! | [`serial`] | ttys and ptys, raw |
//! | [`ntp_shm`] | the shared memory segments of gpsd and ntpd |
//! | [`handover`] | messages with descriptors between two processes |
//! | [`random`] | random numbers |
//! | [`privileges`] | capabilities, given up by all threads |
//! | [`seccomp`] | the filter of system calls that the server works under |
//! | [`udp_socket`] | UDP sockets with receive stamps, packet info and steering by source address |
//! | [`datagram`] | what both datagram ports deliver |
//! | [`mmsg`] | batches through `recvmmsg`/`sendmmsg` |
//! | [`uring`] | batches through io_uring |
//! | [`af_xdp`] | batches from an interface's queues, past the network stack |
//! | [`outbox`] | what a generator sends with one `sendmmsg` |
//! | [`udp_client`] | a client's UDP socket, with stamps of both directions |
//! | [`packet_socket`] | whole frames past the queueing discipline, replies from a shared ring, the way to a target |
//! | [`netlink`] | links and addresses, and word of their changes (rtnetlink) |
//! | [`ethtool`] | what an interface is and how it is set |
//! | [`hwtstamp`] | what an interface stamps with its own clock |
//! | [`live_frames`] | BPF programs that send by a schedule and count replies in the driver |
//! | [`xdp_features`] | what a driver can do with XDP (generic netlink) |
//! | [`xdp_program`] | the BPF program that steers requests to AF_XDP sockets |
//! | [`driver_limits`] | what that program is told of limits and overload |
//! | [`access_tries`] | what it is told of sources |
//! | [`limit_table`] | the limiter's table, which it looks into |
//! | [`snapshot_cell`] | none: the two-copy latch |
//! | [`phc_cell`] | none: the same latch, for a NIC's clock |
//! | [`alloc_count`] | none: an allocator that counts, for tests |

pub mod access_tries;
pub mod adjtimex;
pub mod af_xdp;
pub mod alloc_count;
mod bpf;
pub mod calibration;
pub mod clock;
pub mod clock_watch;
pub mod counter;
pub mod datagram;
pub mod driver_limits;
pub mod ethtool;
pub mod handover;
pub mod hwtstamp;
pub mod kernel_clock;
pub mod limit_table;
pub mod live_frames;
pub mod mmsg;
pub mod netlink;
pub mod ntp_shm;
pub mod outbox;
pub mod packet_socket;
pub mod phc;
pub mod phc_cell;
pub mod pps;
pub mod privileges;
pub mod random;
pub mod seccomp;
pub mod serial;
mod shared_words;
pub mod snapshot_cell;
pub mod steering;
mod transmit_stamp;
mod tsc;
pub mod udp_client;
pub mod udp_socket;
pub mod uring;
pub mod xdp_features;
pub mod xdp_program;
