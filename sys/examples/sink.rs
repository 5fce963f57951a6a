//! The far end of a generator's check: counts the UDP datagrams to a port inside the driver and drops all but the first.
//!
//! `sink INTERFACE PORT` prints `ready` and stays until it is killed; the interface's own counters say what arrived.

#![expect(clippy::print_stdout, reason = "who started it waits for its word")]

use maser_sys::live_frames::Sink;
use std::error::Error;
use std::thread;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, interface, port] = arguments.as_slice() else { return Err("usage: sink INTERFACE PORT".into()) };
    let _sink = Sink::attach(nix::net::if_::if_nametoindex(interface.as_str())?, port.parse()?)?;
    println!("ready");
    loop {
        thread::park();
    }
}
