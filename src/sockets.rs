//! The UDP sockets: a group for each address, a socket of each for every worker.
//!
//! They are the keeper's and outlive servers: what comes while one takes another's place waits in them. A group keeps its
//! place as long as its address is served. It grows at its end, and never shrinks: while one of its sockets is being closed the
//! kernel may still find it for a datagram, which goes with it then (about one for thirty sockets at 100,000 a second). What
//! nobody is steered to costs nothing, and serves when workers come again.
//!
//! Behind those that requests come to, a group has as many for io_uring that replies leave by whose departure is to be told:
//! the kernel wakes who waits at a socket for each stamp in its error queue, between taking the stamp and sending the packet
//! on, and where a ring's receive waits there that takes 0.2 µs, by which the stamp is early.

use crate::config::{Config, PortChoice};
use maser_sys::udp_socket::{GROUP_SIZE_MAX, OpenError, SocketOptions, Steering, UdpSocket};
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

/// Those of an address, the first for the first worker; then as many by which stamped replies leave.
#[derive(Debug)]
struct Group {
    address: SocketAddr,
    steering: Steering,
    sockets: Vec<UdpSocket>,
    /// A service manager opened them: there are no more of them, and they are dealt among the workers.
    given: bool,
}

/// A worker's sockets: of every address one.
#[derive(Debug)]
pub struct Share {
    /// What comes to these is for the worker.
    pub receiving: Vec<UdpSocket>,
    /// Replies leave by these whose departure is to be told; none where they leave by the others.
    pub departing: Vec<UdpSocket>,
}

/// Whether stamped replies leave by sockets of their own. Where a group would grow too large they don't.
fn departs_apart(config: &Config, workers: usize) -> bool {
    config.server.port == PortChoice::IoUring && 2 * workers <= GROUP_SIZE_MAX
}

/// How many sockets of an address so many workers use.
fn used(config: &Config, workers: usize) -> usize {
    if departs_apart(config, workers) { 2 * workers } else { workers }
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
            let mut group = Group::new(address, Vec::new());
            if is_beside {
                group.grow(workers, options)?;
                group.steering.steer(&group.sockets)?;
            } else {
                group.sockets = UdpSocket::open_group(address, workers, group.steering, options)?;
            }
            group.grow(used(config, workers), options)?;
            opened.push(group);
        }
        Ok(opened)
    }

    /// Opens what another configuration needs besides; requests come as before until [`turn_to`](Self::turn_to).
    ///
    /// # Errors
    /// What is in the way, and what to do about it: requests come as before all the same.
    pub fn extend(&mut self, config: &Config, workers: usize) -> Result<(), SocketsError> {
        let missing = self.missing(config, workers)?;
        let options = options(config);
        for group in self.0.iter_mut().filter(|group| !group.given && group.is_of(config)) {
            group.grow(used(config, workers), options)?;
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

    /// For each of so many workers a socket of every address of this configuration, in the order of the addresses, and where
    /// replies leave apart one more of every address.
    pub fn descriptors(&self, config: &Config, workers: usize) -> Vec<BorrowedFd<'_>> {
        let groups: Vec<&Group> = config.listeners().filter_map(|address| self.group(address)).collect();
        let of_worker = |worker: usize| {
            let receiving = groups.iter().filter_map(move |group| group.at(worker));
            // Of what was given there is nothing apart.
            let behind = move |group: &Group| if group.given { worker } else { workers + worker };
            let departing = groups.iter().filter_map(move |group| group.at(behind(group)));
            receiving.chain(departing.filter(move |_| departs_apart(config, workers)))
        };
        (0..workers).flat_map(of_worker).map(UdpSocket::as_fd).collect()
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
    config: &Config,
    descriptors: impl IntoIterator<Item = OwnedFd>,
    workers: usize,
    nic_stamps: bool,
) -> Result<Vec<Share>, OpenError> {
    let adopt = |fd| UdpSocket::of_fd(fd, nic_stamps);
    let mut sockets = descriptors.into_iter().map(adopt).collect::<Result<Vec<_>, _>>()?.into_iter();
    let each = sockets.len() / workers.max(1);
    let share = |_| {
        let mut receiving: Vec<_> = sockets.by_ref().take(each).collect();
        let departing = receiving.split_off(config.listeners().count().min(each));
        Share { receiving, departing }
    };
    Ok((0..workers).map(share).collect())
}

impl Group {
    fn new(address: SocketAddr, sockets: Vec<UdpSocket>) -> Self {
        // Nobody outside can choose addresses that all meet one worker without knowing this number.
        Self { address, steering: Steering::new(random_u32()), sockets, given: false }
    }

    /// The socket in this place; where there are fewer they are dealt round.
    fn at(&self, place: usize) -> Option<&UdpSocket> {
        self.sockets.iter().cycle().nth(place)
    }

    /// Opens sockets until it has so many. Nothing comes to these before it is steered with them.
    fn grow(&mut self, sockets: usize, options: SocketOptions) -> Result<(), OpenError> {
        // Port 0 stands for the one that the kernel has chosen for the first.
        let address = self.sockets.first().map_or(self.address, UdpSocket::address);
        while self.sockets.len() < sockets {
            self.sockets.push(UdpSocket::join(address, options)?);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::os::fd::AsRawFd;

    fn config(port: PortChoice, addresses: usize) -> Config {
        let mut config = Config::default_run();
        config.server.port = port;
        // A free port each, once it is known which.
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let free = (0..addresses).map(|_| UdpSocket::open(any, SocketOptions::default()).unwrap());
        config.server.listen = free.collect::<Vec<_>>().iter().map(UdpSocket::address).collect();
        config
    }

    /// What each worker gets of a server with so many, by the numbers of the descriptors: to receive at, and to send from.
    fn dealt(sockets: &Sockets, config: &Config, workers: usize) -> Vec<(Vec<i32>, Vec<i32>)> {
        let descriptors = sockets.descriptors(config, workers);
        let each = descriptors.len() / workers;
        let numbers: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let owned = descriptors.iter().map(|fd| fd.try_clone_to_owned().unwrap());
        let shares = shares(config, owned, workers, false).unwrap();
        let split = |(share, numbers): (&Share, &[i32])| {
            let (receiving, departing) = numbers.split_at(share.receiving.len());
            let addresses: Vec<_> = share.receiving.iter().map(UdpSocket::address).collect();
            assert_eq!(addresses, config.listeners().collect::<Vec<_>>());
            let theirs = share.departing.iter().map(UdpSocket::address);
            assert!(share.departing.is_empty() || theirs.eq(addresses));
            assert_eq!(share.departing.len(), departing.len());
            (receiving.to_vec(), departing.to_vec())
        };
        shares.iter().zip(numbers.chunks(each)).map(split).collect()
    }

    #[test]
    fn stamped_replies_leave_an_io_uring_by_sockets_that_nobody_receives_at() {
        let config = config(PortChoice::IoUring, 2);
        let mut sockets = Sockets::open(&config, 2, Vec::new()).unwrap();
        for workers in [2, 3, 1] {
            sockets.extend(&config, workers).unwrap();
            sockets.turn_to(&config, workers).unwrap();
            let dealt = dealt(&sockets, &config, workers);
            let all: Vec<i32> = dealt.iter().flat_map(|(to, from)| to.iter().chain(from)).copied().collect();
            assert_eq!(all.len(), workers * 4);
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "each has one use: {dealt:?}");
        }
    }

    #[test]
    fn other_ports_have_none_and_what_was_given_serves_both_ways() {
        let plain = config(PortChoice::Auto, 2);
        let sockets = Sockets::open(&plain, 2, Vec::new()).unwrap();
        assert!(dealt(&sockets, &plain, 2).iter().all(|(to, from)| (to.len(), from.len()) == (2, 0)));
        let uring = config(PortChoice::IoUring, 1);
        let given = UdpSocket::open(uring.server.listen[0], SocketOptions::default()).unwrap();
        let given = given.as_fd().try_clone_to_owned().unwrap();
        let sockets = Sockets::open(&uring, 2, vec![given]).unwrap();
        let dealt = dealt(&sockets, &uring, 2);
        assert!(dealt.iter().all(|(to, from)| to == from && to.len() == 1), "{dealt:?}");
    }
}
