//! What an interface's driver can do with XDP, as the kernel says without a program being attached: the generic netlink
//! family `netdev` (Linux 6.3, `Documentation/netlink/specs/netdev.yaml`, `linux/netdev.h`).
//!
//! Read only, and asked once: a question for the family's number, and one for the interface.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlasIterator};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

/// `GENL_ID_CTRL`, its `CTRL_CMD_GETFAMILY`, and the attributes of name and number.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `NETDEV_CMD_DEV_GET`, and the attributes of its question and answer.
const GET_DEVICE: u8 = 1;
const INTERFACE: u16 = 1;
const FEATURES: u16 = 3;
const ZERO_COPY_SEGMENTS: u16 = 4;
const METADATA: u16 = 5;
const SOCKET_FEATURES: u16 = 6;

/// Bits of the answers.
const BASIC: u64 = 1;
const REDIRECT: u64 = 1 << 1;
const ZERO_COPY: u64 = 1 << 3;
const METADATA_STAMP: u64 = 1;
const SOCKET_STAMP: u64 = 1;

/// `struct nlmsghdr`, `struct genlmsghdr`, `struct nlattr`.
const HEADER_OCTETS: usize = 16;
const GENERIC_OCTETS: usize = 4;
const ATTRIBUTE_OCTETS: usize = 4;
/// The kernel's answers are shorter by far; a family's description has some hundred.
const ANSWER_OCTETS: usize = 1 << 14;
/// Datagrams looked at for the answer to a question; it is the first.
const DATAGRAMS_MAX: u32 = 16;
const PATIENCE_S: i64 = 1;

/// What the driver can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct XdpFeatures {
    /// A program runs in the driver, and may send packets to sockets.
    pub native: bool,
    /// The NIC writes into a socket's memory, and sends from it.
    pub zero_copy: bool,
    /// The most pieces of a packet for that; 0 where the kernel doesn't say.
    pub zero_copy_segments_max: u32,
    /// A program can ask for the NIC's stamp of a packet that came.
    pub receive_stamps: bool,
    /// A socket can ask for the NIC's stamp of a packet that left.
    pub transmit_stamps: bool,
}

impl XdpFeatures {
    /// Of the interface of this number in this network namespace; none where the kernel doesn't tell (before Linux
    /// 6.3).
    ///
    /// # Errors
    /// No such interface (`ENODEV`), no descriptor left, or an answer that isn't one.
    pub fn of(interface: u32) -> io::Result<Option<Self>> {
        let socket = open()?;
        let name = ask(&socket, CONTROL, GET_FAMILY, 1, &attribute(FAMILY_NAME, b"netdev\0"));
        let family = match name {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            answer => family_number(&answer?)?,
        };
        let question = attribute(INTERFACE, &interface.to_ne_bytes());
        Ok(Some(Self::of_attributes(&ask(&socket, family, GET_DEVICE, 2, &question)?)))
    }

    fn of_attributes(octets: &[u8]) -> Self {
        let mut features = Self::default();
        for (kind, value) in attributes(octets) {
            let bits = || value.first_chunk().map_or(0, |octets| u64::from_ne_bytes(*octets));
            match kind {
                FEATURES => {
                    features.native = bits() & (BASIC | REDIRECT) == BASIC | REDIRECT;
                    features.zero_copy = bits() & ZERO_COPY != 0;
                }
                ZERO_COPY_SEGMENTS => {
                    features.zero_copy_segments_max =
                        value.first_chunk().map_or(0, |octets| u32::from_ne_bytes(*octets));
                }
                METADATA => features.receive_stamps = bits() & METADATA_STAMP != 0,
                SOCKET_FEATURES => features.transmit_stamps = bits() & SOCKET_STAMP != 0,
                _ => {}
            }
        }
        features
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0))?;
    Ok(socket)
}

/// An attribute, padded to the next word.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE_OCTETS + value.len()).unwrap_or(u16::MAX);
    let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// Sends a question with its attributes; the attributes of the answer.
fn ask(socket: &OwnedFd, family: u16, command: u8, sequence: u32, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut question = vec![0; HEADER_OCTETS];
    // `struct genlmsghdr`: the command, the version, and two octets that are reserved.
    question.extend([command, 1, 0, 0]);
    question.extend(body);
    let length = u32::try_from(question.len()).map_err(|_| malformed())?;
    let mut message = NetlinkBuffer::new(&mut question);
    message.set_length(length);
    message.set_message_type(family);
    message.set_flags(NLM_F_REQUEST);
    message.set_sequence_number(sequence);
    sendto(socket.as_raw_fd(), &question, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut buffer = vec![0; ANSWER_OCTETS];
    for _ in 0..DATAGRAMS_MAX {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let octets = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = answer(octets, sequence)? {
            return Ok(answer.to_vec());
        }
    }
    Err(malformed())
}

/// The attributes of an answer to question `sequence`; none if it is to another.
fn answer(octets: &[u8], sequence: u32) -> io::Result<Option<&[u8]>> {
    let message = NetlinkBuffer::new_checked(octets).map_err(|_| malformed())?;
    let payload = message.payload();
    if message.sequence_number() != sequence {
        return Ok(None);
    }
    if message.message_type() == NLMSG_ERROR {
        let errno = payload.first_chunk().ok_or_else(malformed)?;
        return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(*errno).wrapping_neg()));
    }
    payload.get(GENERIC_OCTETS..).ok_or_else(malformed).map(Some)
}

fn attributes(octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(octets).map_while(Result::ok).filter_map(|attribute| {
        let (from, length) = (attribute.into_inner(), attribute.value_length());
        Some((attribute.kind(), from.get(ATTRIBUTE_OCTETS..)?.get(..length)?))
    })
}

fn family_number(octets: &[u8]) -> io::Result<u16> {
    let number = attributes(octets).find(|(kind, _)| *kind == FAMILY_ID);
    let number = number.and_then(|(_, value)| value.first_chunk()).ok_or_else(malformed)?;
    Ok(u16::from_ne_bytes(*number))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "generic netlink: an answer that isn't as it should be")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_no_place_for_a_program() {
        let index = crate::netlink::dump().unwrap().link_named("lo").unwrap().index;
        // A kernel before 6.3 doesn't tell; all others say that there is nothing.
        assert_eq!(XdpFeatures::of(index).unwrap().unwrap_or_default(), XdpFeatures::default());
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        match XdpFeatures::of(u32::MAX >> 1) {
            Ok(None) => {}
            outcome => assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::ENODEV)),
        }
    }

    #[test]
    fn bits_are_read_by_the_header() {
        let octets = [
            attribute(FEATURES, &0b10_1011_u64.to_ne_bytes()),
            attribute(ZERO_COPY_SEGMENTS, &17_u32.to_ne_bytes()),
            attribute(METADATA, &0b11_u64.to_ne_bytes()),
            attribute(SOCKET_FEATURES, &0b10_u64.to_ne_bytes()),
            attribute(99, b"of a later kernel"),
        ]
        .concat();
        let read = XdpFeatures::of_attributes(&octets);
        let expected = XdpFeatures {
            native: true,
            zero_copy: true,
            zero_copy_segments_max: 17,
            receive_stamps: true,
            transmit_stamps: false,
        };
        assert_eq!(read, expected);
        // A program that may not send packets on to sockets is of no use here.
        let basic = attribute(FEATURES, &BASIC.to_ne_bytes());
        assert_eq!(XdpFeatures::of_attributes(&basic), XdpFeatures::default());
        assert_eq!(XdpFeatures::of_attributes(&octets[..7]), XdpFeatures::default());
    }

    #[test]
    fn what_is_no_answer_is_told() {
        assert!(answer(&[0; 7], 1).is_err());
        let mut refused = vec![0; HEADER_OCTETS];
        refused.extend((-libc::ENOENT).to_ne_bytes());
        let mut message = NetlinkBuffer::new(&mut refused);
        message.set_length(20);
        message.set_message_type(NLMSG_ERROR);
        message.set_sequence_number(1);
        assert_eq!(answer(&refused, 1).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(answer(&refused, 2).unwrap(), None);
    }
}
