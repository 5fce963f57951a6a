//! The program in the kernel that steers requests to AF_XDP sockets, past the network stack.
//!
//! `xdp/redirect.bpf.c`, put on an interface for as long as its [`XdpProgram`] lives, however the process ends. What it
//! steers, and to whom, is told as whole sets; at first nothing is. What it counts is read without a system call
//! ([`XdpCounts`]); the sockets' map may be handed to another process ([`SocketsMap`]), and so may what says whom it drops
//! ([`DriverLimits`](crate::driver_limits::DriverLimits), [`SharedMaps`]). No policy: which addresses are served, who is
//! dropped and what to do without the driver's help is decided elsewhere.

mod counts;
mod entries;
mod error;
mod object;
mod reasons;
mod shared;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_rs::libbpf_sys::{bpf_map_delete_elem, bpf_map_update_elem, bpf_xdp_query_id};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use maser_core::wire::{DATAGRAM_LENGTH_MAX, ethernet, ip6, udp};

pub use crate::bpf::AttachMode;
pub use crate::driver_limits::QUEUES_MAX;
pub use counts::XdpCounts;
pub use error::{NicStamps, XdpError};
pub use reasons::{Reason, XdpReasons};
pub use shared::SharedMaps;

use crate::bpf::{Attached, io_error, is_interface};
use entries::Entries;
use object::{Loaded, Variant};

/// The longest frame that is steered, in octets, without the [`Metadata`] in front of it.
pub const FRAME_LENGTH_MAX: usize = ethernet::LENGTH
    + ethernet::TAGS_MAX * ethernet::TAG_LENGTH
    + ip6::LENGTH
    + udp::LENGTH
    + DATAGRAM_LENGTH_MAX;

/// `struct destination` and a VLAN's key.
const DESTINATION_OCTETS: usize = 20;
const VLAN_OCTETS: usize = 4;
/// Words of `stations`.
const STATIONS: usize = 8;
/// VLANs' numbers have 12 bits; the last is reserved (IEEE 802.1Q §9.6).
const VLAN_MAX: u16 = 4094;

/// An address and port that are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    /// An address of the interface: no wildcard.
    pub address: IpAddr,
    /// UDP port.
    pub port: u16,
    /// Which listen address it belongs to: [`Metadata::listener`] of what is sent to it.
    pub listener: u16,
}

impl Destination {
    fn key(&self) -> Vec<u8> {
        let mut key = [0; DESTINATION_OCTETS];
        let version: u16 = match self.address {
            IpAddr::V4(address) => {
                key[..4].copy_from_slice(&address.octets());
                4
            }
            IpAddr::V6(address) => {
                key[..16].copy_from_slice(&address.octets());
                6
            }
        };
        key[16..18].copy_from_slice(&self.port.to_be_bytes());
        key[18..].copy_from_slice(&version.to_ne_bytes());
        key.into()
    }
}

/// A VLAN, or one inside another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vlan {
    /// The number in the first tag.
    pub outer: u16,
    /// The number in the second tag; 0 where there is one tag only.
    pub inner: u16,
}

/// What stands in front of a frame that was steered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// When the driver handed it over, by `CLOCK_MONOTONIC`.
    pub hook_ns: i64,
    /// When the NIC saw it, by the NIC's own clock.
    pub nic_ns: Option<i64>,
    /// Which listen address it was sent to ([`Destination::listener`]).
    pub listener: u16,
    /// The port that it was sent to.
    pub service_port: u16,
    /// How many datagrams it stands for, itself and those that were dropped in the driver: more than 1 if it was drawn from
    /// those of a source that is denied or over its limit.
    pub weight: u16,
}

impl Metadata {
    /// Octets: `struct metadata`.
    pub const LENGTH: usize = 24;

    /// From the octets right in front of a frame.
    #[inline]
    #[must_use]
    pub fn of(octets: &[u8; Self::LENGTH]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *octets;
        let hook_ns = i64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let [a, b, c, d, e, f, g, h, rest @ ..] = rest;
        let nic_ns = i64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let [a, b, c, d, e, f, g, h] = rest;
        Self {
            hook_ns,
            nic_ns: (nic_ns != 0).then_some(nic_ns),
            // The program gets a listener of 16 bits, and writes what it got.
            listener: u16::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(u16::MAX),
            service_port: u16::from_ne_bytes([e, f]),
            weight: u16::from_ne_bytes([g, h]),
        }
    }
}

/// Where the program runs, and what it can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footing {
    /// In the driver or behind it.
    pub mode: AttachMode,
    /// Whether it asks for the NIC's stamps, or why not.
    pub nic_stamps: NicStamps,
}

/// The program on an interface, until it is dropped.
#[derive(Debug)]
pub struct XdpProgram {
    attached: Attached,
    program: OwnedFd,
    nic_stamps: NicStamps,
    destinations: Entries,
    vlans: Entries,
    stations: MapHandle,
    sockets: MapHandle,
    counts: MapHandle,
    limits: MapHandle,
}

impl XdpProgram {
    /// Puts the program on the interface of this index. In native mode it asks for the NIC's stamps where the kernel lets
    /// it.
    ///
    /// # Errors
    /// What this process, kernel or driver lacks ([`XdpError::NotNative`]: generic mode may do), or that the interface has
    /// another program, which stays.
    pub fn attach(interface: u32, mode: AttachMode) -> Result<Self, XdpError> {
        Self::attach_as(interface, mode, None)
    }

    /// The same, with maps that it shares with other interfaces' programs.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_sharing(interface: u32, mode: AttachMode, shared: &SharedMaps) -> Result<Self, XdpError> {
        Self::attach_as(interface, mode, Some(shared))
    }

    fn attach_as(interface: u32, mode: AttachMode, shared: Option<&SharedMaps>) -> Result<Self, XdpError> {
        if !is_interface(interface) {
            return Err(XdpError::NoInterface);
        }
        match mode {
            AttachMode::Generic => {
                Self::with(Loaded::new(Variant::Plain, shared)?, interface, mode, NicStamps::Generic)
            }
            AttachMode::Native => {
                let asking = Loaded::new(Variant::Nic(interface), shared)
                    .and_then(|loaded| Self::with(loaded, interface, mode, NicStamps::Asked));
                let errno = match asking {
                    Err(XdpError::Refused { errno, .. } | XdpError::NotNative { errno }) => errno,
                    done => return done,
                };
                let loaded = Loaded::new(Variant::Plain, shared)?;
                Self::with(loaded, interface, mode, NicStamps::Refused { errno })
            }
        }
    }

    fn with(
        loaded: Loaded,
        interface: u32,
        mode: AttachMode,
        nic_stamps: NicStamps,
    ) -> Result<Self, XdpError> {
        let attached = Attached::new(loaded.program.as_fd(), interface, mode);
        let attached = attached.map_err(|errno| refusal(errno, interface, mode))?;
        Ok(Self {
            attached,
            program: loaded.program,
            nic_stamps,
            destinations: Entries::new(loaded.destinations),
            vlans: Entries::new(loaded.vlans),
            stations: loaded.stations,
            sockets: loaded.sockets,
            counts: loaded.counts,
            limits: loaded.limits,
        })
    }

    /// Where the program runs.
    #[must_use]
    pub const fn footing(&self) -> Footing {
        Footing { mode: self.attached.mode, nic_stamps: self.nic_stamps }
    }

    /// Says what is served: the whole set. What is gone is removed before anything is added. Of two entries for the same
    /// address and port the last counts.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for too many; else none that isn't the kernel's fault.
    pub fn set_destinations(&mut self, destinations: &[Destination]) -> io::Result<()> {
        let wanted = destinations.iter().map(|to| (to.key(), u32::from(to.listener)));
        self.destinations.set(&wanted.collect())
    }

    /// Says which tagged frames are this machine's: the whole set. Untagged ones always are.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for what is no VLAN's number, or too many; else none that isn't the kernel's fault.
    pub fn set_vlans(&mut self, vlans: &[Vlan]) -> io::Result<()> {
        let mut wanted = BTreeMap::new();
        for Vlan { outer, inner } in vlans {
            if *outer > VLAN_MAX || *inner > VLAN_MAX {
                let message = format!("VLANs {outer}, {inner}: the numbers end at {VLAN_MAX}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            let key = u32::from(*outer) << 16 | u32::from(*inner);
            wanted.insert(key.to_ne_bytes().into(), 0);
        }
        self.vlans.set(&wanted)
    }

    /// Says which hardware addresses are this interface's: the whole set.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for too many; else none that isn't the kernel's fault.
    pub fn set_hardware_addresses(&mut self, addresses: &[[u8; 6]]) -> io::Result<()> {
        if addresses.len() > STATIONS {
            let message = format!(
                "{} hardware addresses, and the XDP program knows at most {STATIONS} an interface",
                addresses.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut words = [[0; 8]; STATIONS];
        for (word, address) in words.iter_mut().zip(addresses) {
            word[..6].copy_from_slice(address);
        }
        self.stations.update(&[0; 4], words.as_flattened(), MapFlags::ANY).map_err(io_error)
    }

    /// The map of the queues' sockets, for [`SocketsMap`].
    ///
    /// # Errors
    /// No descriptor left.
    pub fn sockets_map(&self) -> io::Result<OwnedFd> {
        self.sockets.as_fd().try_clone_to_owned()
    }

    /// The map of the counts, for [`XdpCounts`].
    ///
    /// # Errors
    /// No descriptor left.
    pub fn counts_map(&self) -> io::Result<OwnedFd> {
        self.counts.as_fd().try_clone_to_owned()
    }

    /// The map of what it drops by, for [`DriverLimits`](crate::driver_limits::DriverLimits).
    ///
    /// # Errors
    /// No descriptor left.
    pub fn limits_map(&self) -> io::Result<OwnedFd> {
        self.limits.as_fd().try_clone_to_owned()
    }
}

/// The program itself, for `BPF_PROG_TEST_RUN`.
impl AsFd for XdpProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

/// What the refusal to attach means.
fn refusal(errno: i32, interface: u32, mode: AttachMode) -> XdpError {
    match (errno, mode) {
        (libc::EPERM, _) => XdpError::Forbidden,
        (libc::EBUSY | libc::EEXIST, _) => XdpError::AnotherProgram { id: program_of(interface) },
        (libc::ENODEV, _) => XdpError::NoInterface,
        (errno, AttachMode::Native) => XdpError::NotNative { errno },
        (errno, AttachMode::Generic) => XdpError::Refused { what: "attaching the XDP program", errno },
    }
}

/// The kernel's number for the program on an interface.
fn program_of(interface: u32) -> Option<u32> {
    let interface = interface.try_into().ok()?;
    let mut id = 0;
    // SAFETY: the call writes the number to where it is told, and nothing else.
    let result = unsafe { bpf_xdp_query_id(interface, 0, &raw mut id) };
    (result == 0 && id != 0).then_some(id)
}

/// Which socket gets the frames of which queue.
#[derive(Debug)]
pub struct SocketsMap(OwnedFd);

impl SocketsMap {
    /// Of what [`XdpProgram::sockets_map`] gave.
    #[must_use]
    pub const fn from_fd(map: OwnedFd) -> Self {
        Self(map)
    }

    /// Has the frames of `queue` go to `socket`, which must be bound to it, in the place of the last one. It is taken out
    /// when it is closed.
    ///
    /// # Errors
    /// `E2BIG` for a queue from [`QUEUES_MAX`] on; `ENOTSOCK` or `EOPNOTSUPP` for what is no AF_XDP socket.
    pub fn insert(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let socket = socket.as_raw_fd();
        let (key, value) = ((&raw const queue).cast(), (&raw const socket).cast());
        // SAFETY: the map's keys and values have four octets, as those that the pointers lead to.
        let result = unsafe { bpf_map_update_elem(self.0.as_raw_fd(), key, value, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-result)) }
    }

    /// Has the frames of `queue` go on to the kernel, if they don't yet.
    ///
    /// # Errors
    /// `EINVAL` for a queue from [`QUEUES_MAX`] on.
    pub fn remove(&self, queue: u32) -> io::Result<()> {
        // SAFETY: the map's keys have four octets, as that which the pointer leads to.
        let result = unsafe { bpf_map_delete_elem(self.0.as_raw_fd(), (&raw const queue).cast()) };
        if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-result)) }
    }
}
