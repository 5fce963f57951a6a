//! Messages between two processes of one program, with descriptors: a pair of Unix `SOCK_SEQPACKET` sockets.
//!
//! A message arrives whole or not at all, in order, together with the descriptors that were sent with it
//! (`SCM_RIGHTS`, unix(7)), which belong to the receiver from then on and close on `exec`.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A message with more descriptors isn't ours.
pub const DESCRIPTORS_MAX: usize = 128;

/// The kernel lets nobody send more descriptors (`SCM_MAX_FD`): room for all, so that none is left without an owner.
const DESCRIPTORS_KERNEL_MAX: usize = 253;

/// A message that is longer isn't ours; the sockets' buffers hold several of this length.
pub const MESSAGE_OCTETS_MAX: usize = 96 << 10;

/// One end of the pair.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// A pair; both ends close on `exec`.
    ///
    /// # Errors
    /// When the kernel has no descriptor left to give.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that this process was started with as its standard input.
    ///
    /// # Errors
    /// When there is none.
    pub fn of_standard_input() -> io::Result<Self> {
        io::stdin().as_fd().try_clone_to_owned().map(Self)
    }

    /// Sends a message; never waits.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a message that is empty or has more than [`MESSAGE_OCTETS_MAX`] octets
    /// or [`DESCRIPTORS_MAX`] descriptors; when the other end is gone or doesn't read.
    pub fn send(&self, octets: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if !(1..=MESSAGE_OCTETS_MAX).contains(&octets.len()) || descriptors.len() > DESCRIPTORS_MAX {
            return Err(ErrorKind::InvalidInput.into());
        }
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() { &[][..] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(octets)], control, flags, None)?;
        Ok(())
    }

    /// Waits for a message: what it says and what came with it.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) when the other end is gone; [`InvalidData`](ErrorKind::InvalidData)
    /// for a message that isn't ours; what the kernel says.
    pub fn receive(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let (octets, descriptors) = self.take(Some(&mut cmsg_space!([RawFd; DESCRIPTORS_KERNEL_MAX])))?;
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok((octets, descriptors))
    }

    /// Waits for a message that nothing comes with: no descriptor is taken, whatever was sent.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_octets(&self) -> io::Result<Vec<u8>> {
        self.take(None).map(|(octets, _)| octets)
    }

    fn take(&self, mut control: Option<&mut [u8]>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut octets = vec![0; MESSAGE_OCTETS_MAX];
        let is_with_control = control.is_some();
        let (length, descriptors, flags) = {
            let mut into = [IoSliceMut::new(&mut octets)];
            let received = loop {
                let flags = MsgFlags::MSG_CMSG_CLOEXEC;
                match recvmsg::<()>(self.0.as_raw_fd(), &mut into, control.as_deref_mut(), flags) {
                    Err(Errno::EINTR) => {}
                    outcome => break outcome?,
                }
            };
            let mut descriptors = Vec::new();
            if is_with_control {
                for message in received.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(numbers) = message {
                        descriptors.extend(numbers.into_iter().map(owned));
                    }
                }
            }
            (received.bytes, descriptors, received.flags)
        };
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(ErrorKind::InvalidData.into());
        }
        octets.truncate(length);
        Ok((octets, descriptors))
    }
}

/// Closes what a process was started with besides standard input, output and error: whatever those above it left open. For
/// a process that has opened nothing yet. A kernel before 5.9 can't, and they stay.
pub fn close_inherited() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the caller has opened nothing, so that nobody uses or owns a descriptor from the first on.
    let _closed = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
}

/// The descriptors of these numbers, which a service manager has opened for this process: for one that has opened nothing
/// yet, once.
#[must_use]
pub fn started_with(numbers: Range<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: the caller has opened nothing, so that nobody else owns a descriptor of these numbers.
    numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()
}

/// A descriptor that has just come with a message.
fn owned(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for the message that was just received, and nobody else was told its number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        one.send(b"first", &[writer.as_fd(), reader.as_fd()]).unwrap();
        one.send(b"second", &[]).unwrap();
        drop(writer);
        let (octets, mut descriptors) = other.receive().unwrap();
        assert_eq!((octets.as_slice(), descriptors.len()), (&b"first"[..], 2));
        File::from(descriptors.remove(0)).write_all(b"through").unwrap();
        drop(descriptors);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        let (octets, descriptors) = other.receive().unwrap();
        assert_eq!((octets.as_slice(), descriptors.len()), (&b"second"[..], 0));
    }

    #[test]
    fn a_message_that_is_not_ours_is_refused_and_leaves_no_descriptor_open() {
        let (one, other) = Channel::pair().unwrap();
        let refused = |octets: &[u8], descriptors: &[BorrowedFd<'_>]| {
            assert_eq!(one.send(octets, descriptors).unwrap_err().kind(), ErrorKind::InvalidInput);
        };
        refused(&[1; MESSAGE_OCTETS_MAX + 1], &[]);
        refused(b"", &[]);
        let (reader, writer) = std::io::pipe().unwrap();
        refused(b"?", &[writer.as_fd(); DESCRIPTORS_MAX + 1]);
        let send = |count: usize| {
            let numbers = vec![writer.as_raw_fd(); count];
            let rights = [ControlMessage::ScmRights(&numbers)];
            let octets = [IoSlice::new(b"?")];
            sendmsg::<()>(one.0.as_raw_fd(), &octets, &rights, MsgFlags::empty(), None).unwrap();
        };
        for count in [1, DESCRIPTORS_MAX + 1, DESCRIPTORS_KERNEL_MAX] {
            send(count);
            assert_eq!(other.receive_octets().unwrap_err().kind(), ErrorKind::InvalidData, "{count}");
        }
        for count in [DESCRIPTORS_MAX + 1, DESCRIPTORS_KERNEL_MAX] {
            send(count);
            assert_eq!(other.receive().unwrap_err().kind(), ErrorKind::InvalidData, "{count}");
        }
        one.send(b"more", &[]).unwrap();
        assert_eq!(other.receive_octets().unwrap(), b"more");
        drop(writer);
        let mut reader = File::from(OwnedFd::from(reader));
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "somebody still holds the other end");
    }

    #[test]
    fn an_end_that_is_gone_or_does_not_read_is_told() {
        let (one, other) = Channel::pair().unwrap();
        let full = (0..100).find_map(|_| one.send(&[1; MESSAGE_OCTETS_MAX], &[]).err()).unwrap();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        drop(one);
        while other.receive().is_ok() {}
        assert_eq!(other.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(other.send(b"?", &[]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
