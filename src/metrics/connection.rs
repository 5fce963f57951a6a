//! One connection of somebody who asks for figures: what has come, what is still to be sent, and until when.

use super::http::{self, HEAD_OCTETS_MAX, Request, Wanted};
use super::text::Format;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A head must be complete so soon after the connection was made, or after the head's first octet.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// An answer must be taken within this.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Between requests a connection may rest for so long: longer than scrapes usually are apart.
const IDLE_MAX: Duration = Duration::from_secs(150);
/// How long what a client still sends is taken after its last answer, since to close on it would take the answer back.
const LINGER: Duration = Duration::from_millis(500);

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waits {
    /// The client, to send.
    Octets,
    /// The client, to take what it asked for.
    Room,
    /// Nothing: another request has come already.
    Nothing,
}

pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    sending: Vec<u8>,
    sent: usize,
    /// No request is read any more.
    is_last: bool,
    lingers: bool,
    is_heard_out: bool,
    until: Duration,
    /// When it was made, or last answered.
    pub(super) since: Duration,
}

impl Connection {
    /// A new one at `now`, which doesn't block.
    pub(super) fn new(stream: TcpStream, now: Duration) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            sending: Vec::new(),
            sent: 0,
            is_last: false,
            lingers: false,
            is_heard_out: false,
            until: now + HEAD_WITHIN,
            since: now,
        })
    }

    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// When it has had its time.
    pub(super) const fn until(&self) -> Duration {
        self.until
    }

    pub(super) fn waits(&self) -> Waits {
        if self.sent < self.sending.len() {
            Waits::Room
        } else if !self.is_last && http::request(&self.received).is_some() {
            Waits::Nothing
        } else {
            Waits::Octets
        }
    }

    /// Does at `now` what can be done without waiting: takes what has come, answers one request, sends. Whether it goes on.
    pub(super) fn turn(&mut self, now: Duration, figures: &mut impl FnMut(Format) -> String) -> bool {
        self.try_turn(now, figures).unwrap_or(false)
    }

    fn try_turn(&mut self, now: Duration, figures: &mut impl FnMut(Format) -> String) -> io::Result<bool> {
        if self.sent == self.sending.len() {
            self.receive(now)?;
            if !self.is_last
                && let Some(request) = http::request(&self.received)
            {
                self.answer(&request, figures);
                self.until = now + TAKEN_WITHIN;
            }
        }
        let was_sending = self.sent < self.sending.len();
        self.send()?;
        let is_sent = self.sent == self.sending.len();
        if was_sending && is_sent {
            self.since = now;
            self.sending.clear();
            self.sent = 0;
            let may_rest = if self.received.is_empty() { IDLE_MAX } else { HEAD_WITHIN };
            self.until = now + if self.is_last { LINGER } else { may_rest };
        }
        let is_done = is_sent && (self.is_heard_out || self.is_last && !self.lingers);
        Ok(!is_done && self.until > now)
    }

    /// Takes what has come, up to a head's length.
    fn receive(&mut self, now: Duration) -> io::Result<()> {
        let before = self.received.len();
        if self.is_last {
            self.received.clear();
        }
        let mut octets = [0; 2_048];
        while self.received.len() < HEAD_OCTETS_MAX {
            let room = octets.len().min(HEAD_OCTETS_MAX - self.received.len());
            match self.stream.read(octets.get_mut(..room).unwrap_or_default()) {
                Ok(0) => {
                    // It may wait for what it has asked for.
                    self.is_heard_out = self.is_last || http::request(&self.received).is_none();
                    break;
                }
                Ok(length) => self.received.extend_from_slice(octets.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if before == 0 && !self.received.is_empty() && !self.is_last {
            self.until = now + HEAD_WITHIN;
        }
        Ok(())
    }

    /// Prepares the answer.
    fn answer(&mut self, request: &Request, figures: &mut impl FnMut(Format) -> String) {
        self.sending = match request.wanted {
            Wanted::Figures(format) => http::figures(format, &figures(format), request),
            Wanted::Nothing(refusal) => http::refusal(refusal, request),
        };
        self.is_last = !request.keeps;
        self.lingers = request.lingers;
        self.received.drain(..request.octets.min(self.received.len()));
    }

    fn send(&mut self) -> io::Result<()> {
        while let Some(rest) = self.sending.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
