//! Who asks the server, so that the screen answers to keys while it waits: a thread with one question at a time.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use super::now_s;
use super::view::Answer;
use crate::status::{self, ClientError, ClientsQuestion, Order};

/// As many clients are asked for as a large terminal has lines.
const CLIENTS: ClientsQuestion = ClientsQuestion { top: 50, by: Order::Rate, truncated: false };

/// What came of a question.
pub(super) type Told = Result<Answer, ClientError>;

/// The asking thread. It ends with the process: nothing waits for a server that doesn't answer.
pub(super) struct Asking {
    questions: Sender<()>,
    told: Receiver<Told>,
    /// Has an octet for each answer.
    woken: UnixStream,
}

impl Asking {
    /// Starts the thread, which asks at `path`.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let (questions, asked) = channel();
        let (teller, told) = channel();
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let path = path.to_owned();
        let thread = thread::Builder::new().name("asking".to_owned());
        thread.spawn(move || answer(&path, &asked, &teller, &waker))?;
        Ok(Self { questions, told, woken })
    }

    /// Asks once.
    pub(super) fn ask(&self) -> io::Result<()> {
        self.questions.send(()).map_err(|_| gone())
    }

    /// What came of it, if something has.
    pub(super) fn told(&self) -> io::Result<Option<Told>> {
        // More octets than answers do no harm: there are few of either.
        let _woken = (&self.woken).read(&mut [0; 16]);
        match self.told.try_recv() {
            Ok(told) => Ok(Some(told)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }
}

impl AsFd for Asking {
    /// Readable when something was told.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that asks the server has ended")
}

fn answer(path: &Path, asked: &Receiver<()>, teller: &Sender<Told>, mut waker: &UnixStream) {
    while asked.recv().is_ok() {
        let heard = teller.send(ask(path)).is_ok();
        // The screen is gone, and the process soon.
        if !heard || waker.write_all(&[1]).is_err() {
            return;
        }
    }
}

fn ask(path: &Path) -> Told {
    let asked_s = now_s();
    let status = status::fetch(path)?;
    let answered_s = now_s();
    let clients = status::fetch_clients(path, &CLIENTS).map_err(|error| error.to_string());
    Ok(Answer { status, clients, asked_s, answered_s })
}
