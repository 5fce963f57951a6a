//! The bare server that maser's AF_XDP port is measured against: it sends each frame back and knows nothing of NTP.
//!
//! `xdp_echo {native|generic} INTERFACE ADDRESS:PORT [CORE]` prints `ready` and runs until a signal ends it, on that core
//! if one is named. maser's own program redirects the requests, so that the kernel does for both what it does for one;
//! from the socket on it is the fastest loop that we can write: one queue in copy mode, four rings, 64 frames a turn,
//! one system call a turn, and of a frame only the addresses and ports are touched. It shares no ring with
//! maser's port, so that a fault there can't be in both. All rings have room for all frames: no push can fail.

#![expect(clippy::print_stdout, reason = "whoever starts it waits for the word")]

use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io, ptr};

use libc::{c_int, c_void, off_t, sockaddr_xdp, xdp_desc, xdp_mmap_offsets, xdp_ring_offset, xdp_umem_reg};
use maser_sys::xdp_program::{AttachMode, Destination, SocketsMap, XdpProgram};

/// A power of two: the frames, as many as maser has by default, and the places of each ring.
const FRAMES: u32 = 4096;
/// Octets of a frame, the least that the kernel takes.
const FRAME_LENGTH: u32 = 2048;
const BATCH: u32 = 64;
const QUEUE: u32 = 0;
/// `XDP_MAX_TX_SKB_BUDGET` of `linux/if_xdp.h`: how many frames a `sendto` takes in copy mode.
const TX_BUDGET: c_int = 9;
/// A queue's last socket may still be on its way out.
const BIND_TRIES_MAX: u32 = 200;
const ETHERTYPE_IP6: [u8; 2] = [0x86, 0xDD];

const USAGE: &str = "usage: xdp_echo {native|generic} INTERFACE ADDRESS:PORT [CORE]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([mode, name, address] | [mode, name, address, _]) = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let mode = match mode.as_str() {
        "native" => AttachMode::Native,
        "generic" => AttachMode::Generic,
        _ => return Err(USAGE.into()),
    };
    if let Some(core) = arguments.get(3) {
        core_affinity::set_for_current(core_affinity::CoreId { id: core.parse()? });
    }
    let address: SocketAddr = address.parse()?;
    let interface = nix::net::if_::if_nametoindex(name.as_str())?;
    let mut program = XdpProgram::attach(interface, mode)?;
    program.set_hardware_addresses(&[hardware_address(name)?])?;
    program.set_destinations(&[Destination { address: address.ip(), port: address.port(), listener: 0 }])?;
    let mut echo = Echo::open(interface)?;
    SocketsMap::from_fd(program.sockets_map()?).insert(QUEUE, echo.socket.as_fd())?;
    println!("ready");
    Err(echo.run().into())
}

/// What the kernel says of an interface: six octets in hexadecimal, with colons.
fn hardware_address(name: &str) -> Result<[u8; 6], Box<dyn Error>> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/address"))?;
    let octets: Vec<u8> =
        text.trim().split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<_, _>>()?;
    Ok(octets.as_slice().try_into()?)
}

/// One side of a ring that is shared with the kernel, for as long as the process lives.
struct Ring<T> {
    /// What the kernel has come to, and what we have.
    theirs: &'static AtomicU32,
    ours: &'static AtomicU32,
    entries: *mut T,
    /// The place that we read or write next, modulo 2³².
    next: u32,
}

impl<T: Copy> Ring<T> {
    /// Maps a ring whose two ends are ours to fill (`we_produce`) and theirs to empty, or the other way round.
    fn map(fd: RawFd, at: &xdp_ring_offset, page: off_t, we_produce: bool) -> io::Result<Self> {
        let length = usize_of(at.desc) + frames() * size_of::<T>();
        let base = map(length, libc::MAP_SHARED | libc::MAP_POPULATE, fd, page)?;
        let word = |offset: u64| {
            // SAFETY: the kernel's offset of a 32-bit word that it keeps aligned, inside the mapping just made.
            let place = unsafe { base.byte_add(usize_of(offset)) };
            // SAFETY: the mapping is never removed, and the word is only used as an atomic from here on.
            unsafe { AtomicU32::from_ptr(place.cast()) }
        };
        let (producer, consumer) = (word(at.producer), word(at.consumer));
        let (theirs, ours) = if we_produce { (consumer, producer) } else { (producer, consumer) };
        // SAFETY: the entries begin there, and as many as were asked for follow, inside the mapping.
        let entries = unsafe { base.byte_add(usize_of(at.desc)) }.cast();
        Ok(Self { theirs, ours, entries, next: 0 })
    }

    /// How many entries wait for the kernel.
    fn pending(&self) -> u32 {
        self.next.wrapping_sub(self.theirs.load(Ordering::Relaxed))
    }

    /// How many entries wait for us. Acquire pairs with the kernel's release after it wrote them.
    fn ready(&self) -> u32 {
        self.theirs.load(Ordering::Acquire).wrapping_sub(self.next)
    }

    fn place(&self) -> *mut T {
        // SAFETY: a ring has FRAMES places, which is a power of two.
        unsafe { self.entries.add(usize_of((self.next % FRAMES).into())) }
    }

    /// The next entry, of those that are ready.
    fn take(&mut self) -> T {
        // SAFETY: the kernel has published this entry, and writes it no more before we say that it is read.
        let entry = unsafe { self.place().read() };
        self.next = self.next.wrapping_add(1);
        entry
    }

    fn put(&mut self, entry: T) {
        // SAFETY: the place is inside the ring, and no more entries are in it than there are frames, so the kernel
        // has read what was here before.
        unsafe { self.place().write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    /// Tells the kernel what we took or put. Release pairs with its acquire: our reads and writes come before.
    fn publish(&self) {
        self.ours.store(self.next, Ordering::Release);
    }
}

struct Echo {
    socket: OwnedFd,
    /// All frames, one after the other.
    memory: *mut u8,
    fill: Ring<u64>,
    completion: Ring<u64>,
    receive: Ring<xdp_desc>,
    transmit: Ring<xdp_desc>,
}

impl Echo {
    fn open(interface: u32) -> io::Result<Self> {
        // SAFETY: the call takes numbers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let length = frames() * usize_of(FRAME_LENGTH.into());
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let memory: *mut u8 = map(length, private, -1, 0)?.cast();
        // SAFETY: zero is a value of each field.
        let mut umem: xdp_umem_reg = unsafe { std::mem::zeroed() };
        umem.addr = u64::try_from(memory.expose_provenance()).expect("64 bits");
        umem.len = u64::try_from(length).expect("64 bits");
        umem.chunk_size = FRAME_LENGTH;
        set(fd, libc::XDP_UMEM_REG, &umem)?;
        for ring in
            [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING, libc::XDP_TX_RING]
        {
            set(fd, ring, &FRAMES)?;
        }
        // Older kernels take 32 frames a call, whatever they are told.
        let _ = set(fd, TX_BUDGET, &FRAMES);
        let at = offsets(fd)?;
        let mut fill = Ring::map(fd, &at.fr, page(libc::XDP_UMEM_PGOFF_FILL_RING), true)?;
        let completion = Ring::map(fd, &at.cr, page(libc::XDP_UMEM_PGOFF_COMPLETION_RING), false)?;
        let receive = Ring::map(fd, &at.rx, libc::XDP_PGOFF_RX_RING, false)?;
        let transmit = Ring::map(fd, &at.tx, libc::XDP_PGOFF_TX_RING, true)?;
        bind(fd, interface)?;
        for frame in 0..FRAMES {
            fill.put(u64::from(frame) * u64::from(FRAME_LENGTH));
        }
        fill.publish();
        Ok(Self { socket, memory, fill, completion, receive, transmit })
    }

    /// Echoes until a system call fails, and returns why it did.
    fn run(&mut self) -> io::Error {
        let fd = self.socket.as_raw_fd();
        loop {
            // What has left may be filled again.
            let left = self.completion.ready();
            for _ in 0..left {
                let frame = self.completion.take();
                self.fill.put(frame);
            }
            self.completion.publish();
            self.fill.publish();
            let arrived = self.receive.ready().min(BATCH);
            for _ in 0..arrived {
                let frame = self.receive.take();
                self.turn(&frame);
                self.transmit.put(xdp_desc { options: 0, ..frame });
            }
            self.receive.publish();
            self.transmit.publish();
            let done = if self.transmit.pending() > 0 {
                // SAFETY: nothing is pointed to: what is to be sent is in the ring.
                let sent = unsafe { libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
                if sent < 0 { -1 } else { 0 }
            } else if arrived == 0 {
                let mut wanted = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                // SAFETY: the kernel reads and writes one entry.
                unsafe { libc::poll(&raw mut wanted, 1, -1) }
            } else {
                0
            };
            // A frame that the device has no room for is lost, as a server's reply would be, and ends the call: the
            // rest waits for the next one. Waiting for requests meanwhile would be for ever, with all frames in that ring.
            if done < 0 && !matches!(errno(), libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) {
                return io::Error::last_os_error();
            }
        }
    }

    /// Swaps hardware addresses, addresses and ports. The program has seen that they are there, without a tag.
    fn turn(&self, frame: &xdp_desc) {
        // SAFETY: the kernel gave us this frame, whose octets are inside our memory.
        let start = unsafe { self.memory.add(usize_of(frame.addr)) };
        // SAFETY: its octets are nobody else's until it is in the transmit ring.
        let octets = unsafe { std::slice::from_raw_parts_mut(start, usize_of(frame.len.into())) };
        swap::<6>(octets, 0);
        if octets[12..14] == ETHERTYPE_IP6 {
            swap::<16>(octets, 22);
            swap::<2>(octets, 54);
        } else {
            swap::<4>(octets, 26);
            swap::<2>(octets, 34);
        }
    }
}

/// Swaps two neighbours of so many octets.
fn swap<const LENGTH: usize>(octets: &mut [u8], at: usize) {
    let (first, second) = octets[at..at + 2 * LENGTH].split_at_mut(LENGTH);
    first.swap_with_slice(second);
}

/// New memory, or a part of what is behind a descriptor; it stays until the process ends.
fn map(length: usize, flags: c_int, fd: RawFd, at: off_t) -> io::Result<*mut c_void> {
    // SAFETY: the kernel chooses a place where nothing is.
    let place =
        unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, at) };
    if place == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(place) }
}

fn set<T>(fd: RawFd, option: c_int, value: &T) -> io::Result<()> {
    let place: *const T = value;
    // SAFETY: the kernel reads the value, whose length is given, before the call returns.
    let failed = unsafe { libc::setsockopt(fd, libc::SOL_XDP, option, place.cast(), length_of::<T>()) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn offsets(fd: RawFd) -> io::Result<xdp_mmap_offsets> {
    // SAFETY: zero is a value of each field.
    let mut at: xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    let mut length = length_of::<xdp_mmap_offsets>();
    let place = (&raw mut at).cast();
    // SAFETY: the kernel writes no more than the length given, which is the value's.
    let failed =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, place, &raw mut length) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(at) }
}

fn bind(fd: RawFd, interface: u32) -> io::Result<()> {
    let address = sockaddr_xdp {
        sxdp_family: u16::try_from(libc::AF_XDP).expect("44"),
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: interface,
        sxdp_queue_id: QUEUE,
        sxdp_shared_umem_fd: 0,
    };
    let place = (&raw const address).cast();
    for _ in 0..BIND_TRIES_MAX {
        // SAFETY: the kernel reads the address, whose length is given, before the call returns.
        if unsafe { libc::bind(fd, place, length_of::<sockaddr_xdp>()) } == 0 {
            return Ok(());
        }
        if errno() != libc::EBUSY {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(io::Error::last_os_error())
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a small structure")
}

fn page(offset: u64) -> off_t {
    off_t::try_from(offset).expect("64 bits, as the kernel's")
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("a place in memory")
}

fn frames() -> usize {
    usize_of(FRAMES.into())
}
