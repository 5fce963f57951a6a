//! The UDP sockets: a group for each address, a socket of each for every worker.

use crate::config::Config;
use maser_sys::udp_socket::{OpenError, SocketOptions, Steering, UdpSocket};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// How often a port that is in use is tried, and how long apart: 1 s in all.
const OPEN_TRIES: u32 = 11;
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// One list of sockets a worker: its share of every listen address, those that smear leap seconds last.
///
/// An address that no interface has is a mistake at the first start. When a server starts `again` its interface may have
/// gone with it for a while, and what else there is is served meanwhile. With `nic_stamps` they ask for those of NICs.
pub(super) fn open(
    config: &Config,
    workers: usize,
    nic_stamps: bool,
    again: bool,
) -> Result<Vec<Vec<UdpSocket>>, OpenError> {
    let asked = config.server.receive_buffer_octets.get() as usize;
    let options = SocketOptions { receive_buffer: asked, nic_stamps, ..SocketOptions::default() };
    let mut shares: Vec<Vec<UdpSocket>> = (0..workers).map(|_| Vec::new()).collect();
    let smearing = config.smear.iter().flat_map(|smear| &smear.listen);
    for &address in config.server.listen.iter().chain(smearing) {
        // Nobody outside can choose addresses that all meet one worker without knowing this number.
        let steering = Steering::new(random_u32());
        let group = match open_group_patiently(address, workers, steering, options) {
            Err(error @ OpenError::AddressNotHere(_)) if again => {
                warn!("{error}; requests to it are answered once one has it");
                let options = SocketOptions { anywhere: true, ..options };
                open_group_patiently(address, workers, steering, options)?
            }
            outcome => outcome?,
        };
        if let Some(socket) = group.first().filter(|socket| socket.receive_buffer() < asked) {
            warn!(
                "{address}: the receive buffer is {} octets, not {asked}: raise net.core.rmem_max (sysctl)",
                socket.receive_buffer()
            );
        }
        info!("listening on {address}");
        for (share, socket) in shares.iter_mut().zip(group) {
            share.push(socket);
        }
    }
    Ok(shares)
}

/// The kernel lets go of a killed server's io_uring sockets a moment after the process: a restart waits for that.
fn open_group_patiently(
    address: SocketAddr,
    workers: usize,
    steering: Steering,
    options: SocketOptions,
) -> Result<Vec<UdpSocket>, OpenError> {
    for _ in 1..OPEN_TRIES {
        match UdpSocket::open_group(address, workers, steering, options) {
            Err(OpenError::PortInUse(_)) => thread::sleep(OPEN_PAUSE),
            outcome => return outcome,
        }
    }
    UdpSocket::open_group(address, workers, steering, options)
}

/// From the standard library's randomly keyed hasher: all that is needed of a secret that lives as long as we do.
#[expect(clippy::cast_possible_truncation, reason = "any 32 of its bits will do")]
fn random_u32() -> u32 {
    RandomState::new().hash_one(0_u8) as u32
}
