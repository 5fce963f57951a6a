//! The limit of the rig: turns the UDP datagrams to a port round inside the driver and sends them back.
//!
//! `reflect INTERFACE PORT PEER` prints `ready` and stays until it is killed. What a server answers, this answers
//! without one. A veth whose peer has no XDP program of its own delivers what `XDP_TX` sends only with the next socket
//! buffer (`veth_xdp_flush` asks for the program, not for NAPI), so one goes to the address PEER now and then: the
//! question by which a generator learns the way comes back before its program is there.

#![expect(clippy::print_stdout, reason = "who started it waits for its word")]

use maser_sys::live_frames::Reflector;
use std::error::Error;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

/// The discard port.
const DISCARD: u16 = 9;
const EVERY: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, interface, port, peer] = arguments.as_slice() else {
        return Err("usage: reflect INTERFACE PORT PEER".into());
    };
    let peer: IpAddr = peer.parse()?;
    let socket = UdpSocket::bind(if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    let _reflector = Reflector::attach(nix::net::if_::if_nametoindex(interface.as_str())?, port.parse()?)?;
    println!("ready");
    loop {
        // Whether there is a way to the peer shows in the answers.
        let _ = socket.send_to(&[0], (peer, DISCARD));
        thread::sleep(EVERY);
    }
}
