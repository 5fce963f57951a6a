//! The UDP sockets: a group for each address, a socket of each for every worker.
//!
//! They are the keeper's and outlive servers: what comes while one takes another's place waits in them. A group keeps its
//! place as long as its address is served. It grows at its end, and never shrinks: while one of its sockets is being closed the
//! kernel may still find it for a datagram, which goes with it then (about one for thirty sockets at 100,000 a second). What
//! nobody is steered to costs nothing, and serves when workers come again.

use crate::config::Config;
use maser_sys::udp_socket::{OpenError, SocketOptions, Steering, UdpSocket};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use thiserror::Error;
use tracing::{info, warn};

/// Why requests can't be taken at an address.
#[derive(Debug, Error)]
pub enum SocketsError {
    /// The kernel says no.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A service manager hands over what isn't asked for.
    #[error(
        "a socket for {0} was handed over (LISTEN_FDS), and neither server.listen nor smear.listen has this address: add it \
         there, or take it out of the .socket unit"
    )]
    NotListed(SocketAddr),
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sockets(Vec<Group>);

/// Those of an address, the first for the first worker.
#[derive(Debug)]
struct Group {
    address: SocketAddr,
    steering: Steering,
    sockets: Vec<UdpSocket>,
    /// A service manager opened them: there are no more of them, and they are dealt among the workers.
    given: bool,
}

fn options(config: &Config) -> SocketOptions {
    let receive_buffer = config.server.receive_buffer_octets.get() as usize;
    SocketOptions { receive_buffer, ..SocketOptions::default() }
}

impl Sockets {
    /// Those for this configuration and so many workers; of an address that is `given` none is opened.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(config: &Config, workers: usize, given: Vec<OwnedFd>) -> Result<Self, SocketsError> {
        let mut sockets = Self::default();
        for fd in given {
            sockets.take(config, UdpSocket::of_fd(fd, false)?)?;
        }
        sockets.0.extend(sockets.missing(config, workers)?);
        sockets.turn_to(config, workers)?;
        Ok(sockets)
    }

    fn take(&mut self, config: &Config, socket: UdpSocket) -> Result<(), SocketsError> {
        let address = socket.address();
        if !config.listeners().any(|listed| listed == address) {
            return Err(SocketsError::NotListed(address));
        }
        match self.0.iter_mut().find(|group| group.address == address) {
            Some(group) => group.sockets.push(socket),
            None => self.0.push(Group { given: true, ..Group::new(address, vec![socket]) }),
        }
        Ok(())
    }

    /// Groups for those addresses that there are none of.
    fn missing(&self, config: &Config, workers: usize) -> Result<Vec<Group>, SocketsError> {
        let options = options(config);
        let mut opened = Vec::new();
        for address in config.listeners() {
            if self.group(address).is_some() {
                continue;
            }
            // A wildcard in the place of addresses that it covers, or the other way round: nobody else has the port. Beside
            // each other they would be refused at a start, too.
            let is_beside = self.0.iter().filter(|group| !group.is_of(config)).any(|group| {
                let has_wildcard = group.address.ip().is_unspecified() || address.ip().is_unspecified();
                has_wildcard
                    && group.address.port() == address.port()
                    && group.address.is_ipv4() == address.is_ipv4()
            });
            let group = Group::new(address, Vec::new());
            let sockets = if is_beside {
                (0..workers).map(|_| UdpSocket::join(address, options)).collect::<Result<_, _>>()?
            } else {
                UdpSocket::open_group(address, workers, group.steering, options)?
            };
            opened.push(Group { sockets, ..group });
        }
        Ok(opened)
    }

    /// Opens what another configuration needs besides; requests come as before until [`turn_to`](Self::turn_to).
    ///
    /// # Errors
    /// What is in the way, and what to do about it: nothing has been opened then.
    pub fn extend(&mut self, config: &Config, workers: usize) -> Result<(), SocketsError> {
        let missing = self.missing(config, workers)?;
        let options = options(config);
        let mut more = Vec::new();
        for (place, group) in self.0.iter().enumerate() {
            let lacks = if group.given || !group.is_of(config) {
                0
            } else {
                workers.saturating_sub(group.sockets.len())
            };
            for _ in 0..lacks {
                more.push((place, UdpSocket::join(group.address, options)?));
            }
        }
        for (place, socket) in more {
            self.0[place].sockets.push(socket);
        }
        self.0.extend(missing);
        Ok(())
    }

    /// From now on so many workers get what comes to this configuration's addresses; its buffers hold.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn turn_to(&mut self, config: &Config, workers: usize) -> Result<(), OpenError> {
        let options = options(config);
        for group in self.0.iter_mut().filter(|group| group.is_of(config)) {
            for socket in &mut group.sockets {
                socket.set_buffers(options)?;
            }
            if let Some(socket) =
                group.sockets.first().filter(|socket| socket.receive_buffer() < options.receive_buffer)
            {
                let (address, granted, asked) =
                    (group.address, socket.receive_buffer(), options.receive_buffer);
                warn!(
                    "{address}: the receive buffer is {granted} octets, not {asked}: raise net.core.rmem_max (sysctl)"
                );
            }
            let served = group.sockets.get(..workers).unwrap_or(&group.sockets);
            // A single one that was given may be of no group.
            if served.len() > 1 || !group.given {
                group.steering.steer(served)?;
            }
            info!("listening on {}", group.address);
        }
        Ok(())
    }

    /// Closes those of addresses that this configuration hasn't.
    pub fn close_others(&mut self, config: &Config) {
        self.0.retain(|group| {
            let stays = group.is_of(config);
            if !stays {
                info!("no longer listening on {}", group.address);
            }
            stays
        });
    }

    /// For each of so many workers a socket of every address of this configuration, in the order of the addresses.
    pub fn descriptors(&self, config: &Config, workers: usize) -> Vec<BorrowedFd<'_>> {
        let groups: Vec<&Group> = config.listeners().filter_map(|address| self.group(address)).collect();
        let of_worker = |worker: usize| {
            let shared = groups.iter().filter_map(move |group| group.sockets.iter().cycle().nth(worker));
            shared.map(UdpSocket::as_fd)
        };
        (0..workers).flat_map(of_worker).collect()
    }

    fn group(&self, address: SocketAddr) -> Option<&Group> {
        self.0.iter().find(|group| group.address == address)
    }
}

/// Each worker's share of what [`Sockets::descriptors`] gave for as many, which report NICs' stamps if they are to.
///
/// # Errors
/// When one of them is none of ours.
pub fn shares(
    descriptors: impl IntoIterator<Item = OwnedFd>,
    workers: usize,
    nic_stamps: bool,
) -> Result<Vec<Vec<UdpSocket>>, OpenError> {
    let adopt = |fd| UdpSocket::of_fd(fd, nic_stamps);
    let mut sockets = descriptors.into_iter().map(adopt).collect::<Result<Vec<_>, _>>()?.into_iter();
    let each = sockets.len() / workers.max(1);
    Ok((0..workers).map(|_| sockets.by_ref().take(each).collect()).collect())
}

impl Group {
    fn new(address: SocketAddr, sockets: Vec<UdpSocket>) -> Self {
        // Nobody outside can choose addresses that all meet one worker without knowing this number.
        Self { address, steering: Steering::new(random_u32()), sockets, given: false }
    }

    fn is_of(&self, config: &Config) -> bool {
        config.listeners().any(|address| address == self.address)
    }
}

/// From the standard library's randomly keyed hasher: all that is needed of a secret that lives as long as we do.
#[expect(clippy::cast_possible_truncation, reason = "any 32 of its bits will do")]
fn random_u32() -> u32 {
    RandomState::new().hash_one(0_u8) as u32
}

/// What a service manager has handed to this process, which has opened nothing yet (`LISTEN_FDS`, sd_listen_fds(3)).
///
/// # Errors
/// When what it says of them makes no sense.
pub fn given() -> io::Result<Vec<OwnedFd>> {
    // From 3 on, without a gap, and each is open: this has been looked at.
    let numbers = sd_notify::listen_fds()?;
    let count = i32::try_from(numbers.len()).map_err(io::Error::other)?;
    const FIRST: i32 = 3;
    Ok(maser_sys::handover::started_with(FIRST..FIRST + count))
}
