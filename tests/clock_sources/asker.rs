//! A client that asks many times a second and compares every reply with the truth.
//!
//! Both of its own moments are the kernel's stamps, so that on loopback the served receive timestamp and the client's
//! transmit stamp are of nearly one moment, and so are the served transmit timestamp and the client's receive stamp, as
//! long as nobody preempts the server between its stamp and its sending.

use crate::support::{ReplyView, error_ns, request};
use crate::truth::{Moment, Truth};
use maser_sys::outbox::Outbox;
use maser_sys::udp_client::UdpClient;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const ASKED_EVERY: Duration = Duration::from_millis(40);
const LOOKS_MAX: usize = 60;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A reply beside the truth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) reply: ReplyView,
    /// The served receive timestamp less the truth when the request was sent.
    pub(crate) receive_error_ns: i64,
    /// The served transmit timestamp less the truth when the reply came.
    pub(crate) transmit_error_ns: i64,
    /// How far off the server says that it can be.
    pub(crate) distance_ns: i64,
}

impl Seen {
    /// What a client that keeps true time would find the server to be off: RFC 5905 §8.
    pub(crate) fn offset_error_ns(&self) -> i64 {
        self.receive_error_ns.midpoint(self.transmit_error_ns)
    }
}

/// Asks until `end`.
pub(crate) fn ask(server: SocketAddr, truth: Truth, end: &AtomicBool) -> Vec<Seen> {
    let mut client = UdpClient::open(Ipv4Addr::LOCALHOST.into(), server, 4).expect("a socket can be had");
    let mut outbox = Outbox::new(1);
    let mut seen = Vec::new();
    for number in 1_u64.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        seen.extend(ask_once(&mut client, &mut outbox, number, truth));
        thread::sleep(ASKED_EVERY);
    }
    seen
}

fn ask_once(client: &mut UdpClient, outbox: &mut Outbox, number: u64, truth: Truth) -> Option<Seen> {
    let octets = request(number);
    outbox.push(None, true, |slot| {
        slot[..octets.len()].copy_from_slice(&octets);
        octets.len()
    });
    client.send(outbox).expect("loopback takes datagrams");
    let (mut sent, mut came) = (None, None);
    for _ in 0..LOOKS_MAX {
        let stamps = client.transmit_stamps(|payload, stamp| {
            if payload.ends_with(&number.to_be_bytes()) {
                sent = Some(stamp.nanos);
            }
        });
        stamps.expect("stamps can be read");
        let replies = client.receive(|reply| {
            if reply.payload.len() == 48 {
                let view = ReplyView::of(reply.payload);
                came = Some(view).filter(|view| view.origin == number).zip(reply.stamp).or(came);
            }
        });
        replies.expect("replies can be read");
        if let (Some(sent_ns), Some((reply, came_stamp))) = (sent, came) {
            let now = Moment::now();
            return Some(Seen {
                reply,
                receive_error_ns: error_ns(reply.receive, truth.at_realtime(sent_ns, now)),
                transmit_error_ns: error_ns(reply.transmit, truth.at_realtime(came_stamp.nanos, now)),
                distance_ns: reply.distance_ns(),
            });
        }
        thread::sleep(LOOK_EVERY);
    }
    None
}
