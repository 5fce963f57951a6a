//! The server's way to what it may not open itself any more.

pub(crate) mod ask;
pub(crate) mod fault;
pub(crate) mod gpsd_socket;
pub(crate) mod kept_state;
mod lock_down;
pub(crate) mod lookup;
pub(crate) mod opener;
pub(crate) mod steering;

pub use ask::{FileIdentity, Kept, PhcFacts};
pub use fault::Fault;
pub use lookup::found;
pub use steering::Past;

use crate::config::AccessKind;
use crate::interface::NicNow;
use crate::status::LoadStatus;
use ask::{Answer, Ask, Turn, receive, send};
use maser_core::steer::Order;
use maser_sys::handover::Channel;
use maser_sys::pps::Edge;
use maser_sys::seccomp::Needs;
use opener::{Opener, interface_addresses};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use steering::Ordered;

/// Opens for the server: itself, or the keeper for it, which then takes what it opens from its own configuration rather
/// than from what is named here. A clone is the same.
#[derive(Clone, Debug)]
pub struct Hands(Arc<Mutex<Whose>>);

#[derive(Debug)]
enum Whose {
    Own(Opener),
    Keepers(Channel),
}

impl Hands {
    /// For a server without a keeper, as tests start it: everything is opened by this process, which isn't locked down.
    #[must_use]
    pub fn own() -> Self {
        Self(Arc::new(Mutex::new(Whose::Own(Opener::default()))))
    }

    /// For a server at the other end of a keeper's channel.
    pub(crate) fn of_keeper(channel: Channel) -> Self {
        Self(Arc::new(Mutex::new(Whose::Keepers(channel))))
    }

    /// Locks all threads of this process down for good, if there is a keeper that opens for it. How far that went is
    /// logged.
    pub fn lock_down(&self, needs: &Needs) {
        if let Whose::Keepers(_) = *self.whose() {
            lock_down::lock_down(needs);
        }
    }

    /// Says that requests are answered, and waits until a server that has answered before has ended: what only one may have
    /// is this one's from then on.
    ///
    /// # Errors
    /// When the keeper doesn't answer.
    pub fn ready(&self) -> Result<(), Fault> {
        self.do_or_ask(|_| Ok(None), &Ask::Turn(Turn::Ready)).map(drop)
    }

    /// Waits until a server that answers meanwhile has left the interfaces' queues.
    ///
    /// # Errors
    /// When the keeper doesn't answer.
    pub fn queues(&self) -> Result<(), Fault> {
        self.do_or_ask(|_| Ok(None), &Ask::Turn(Turn::Queues)).map(drop)
    }

    /// Says that the interfaces' queues are left.
    pub(crate) fn queues_left(&self) -> Result<(), Fault> {
        self.do_or_ask(|_| Ok(None), &Ask::Turn(Turn::QueuesLeft)).map(drop)
    }

    /// Says what is in the way of a server that was to take over.
    pub(crate) fn failed(&self, why: String) -> Result<(), Fault> {
        self.do_or_ask(|_| Ok(None), &Ask::Turn(Turn::Failed(why))).map(drop)
    }

    /// What became of the configuration; none without a keeper.
    #[must_use]
    pub fn load(&self) -> Option<LoadStatus> {
        match &*self.whose() {
            Whose::Own(_) => None,
            Whose::Keepers(keeper) => match ask(keeper, &Ask::Load) {
                Ok((Answer::Load(load), _)) => Some(load),
                Ok(_) | Err(_) => None,
            },
        }
    }

    /// A serial line, as [`maser_sys::serial::open_file`] opens it.
    ///
    /// # Errors
    /// Why it can't be opened, and what to do about it.
    pub fn open_line(&self, source: usize, path: &Path) -> Result<File, Fault> {
        self.descriptor(|_| Opener::line(path), &Ask::Line(source)).map(File::from)
    }

    /// A PPS device, as [`maser_sys::pps::open_file`] opens it.
    ///
    /// # Errors
    /// Why it can't be used, and what to do about it.
    pub fn open_pps(&self, source: usize, path: &Path, edge: Edge) -> Result<File, Fault> {
        self.descriptor(|_| Opener::pps(path, edge), &Ask::Pps(source)).map(File::from)
    }

    /// A NIC's clock, as [`maser_sys::phc::open_file`] opens it, and what it is; with a channel its edges are stamped.
    ///
    /// # Errors
    /// Why it can't be used, and what to do about it.
    pub fn open_phc(
        &self,
        source: usize,
        path: &Path,
        channel: Option<&maser_sys::phc::Channel>,
    ) -> Result<(File, PhcFacts), Fault> {
        match &mut *self.whose() {
            Whose::Own(opener) => opener.phc(path, channel),
            Whose::Keepers(keeper) => match ask(keeper, &Ask::Phc(source))? {
                (Answer::Phc(facts), Some(file)) => Ok((file.into(), facts)),
                (answer, _) => Err(unexpected(&answer)),
            },
        }
    }

    /// The socket that gpsd writes to.
    ///
    /// # Errors
    /// Why there can be none, and what to do about it.
    pub fn bind_gpsd(&self, source: usize, path: &Path) -> Result<UnixDatagram, Fault> {
        self.descriptor(|opener| opener.gpsd(path), &Ask::Gpsd(source)).map(UnixDatagram::from)
    }

    /// Whether the file of the socket that gpsd writes to still leads to it.
    #[must_use]
    pub fn is_gpsd_current(&self, source: usize, path: &Path) -> bool {
        match &*self.whose() {
            Whose::Own(opener) => opener.is_gpsd_current(path),
            Whose::Keepers(keeper) => {
                matches!(ask(keeper, &Ask::IsGpsdCurrent(source)), Ok((Answer::Is(true), _)))
            }
        }
    }

    /// Takes the place for what is kept across restarts, and gives what is there.
    ///
    /// # Errors
    /// Why nothing can be kept.
    pub fn state(&self, named: Option<&Path>) -> Result<Kept, Fault> {
        match &mut *self.whose() {
            Whose::Own(opener) => opener.state(named),
            Whose::Keepers(keeper) => match ask(keeper, &Ask::State)? {
                (Answer::State(kept), _) => Ok(kept),
                (answer, _) => Err(unexpected(&answer)),
            },
        }
    }

    /// Has `document` written in the place of what was kept before; a disk that doesn't take it is told by the log.
    ///
    /// # Errors
    /// Why it isn't; what was before still is.
    pub fn save_state(&self, document: String) -> Result<(), Fault> {
        match &mut *self.whose() {
            Whose::Own(opener) => opener.save(&document),
            Whose::Keepers(keeper) => ask(keeper, &Ask::Save(document)).map(drop),
        }
    }

    /// Leaves something for the server that takes this one's place, or none; without a keeper nobody does.
    ///
    /// # Errors
    /// Why it isn't left.
    pub fn leave(&self, legacy: Option<String>) -> Result<(), Fault> {
        self.do_or_ask(|_| Ok(None), &Ask::Leave(legacy)).map(drop)
    }

    /// The list of leap seconds as it is now, and what tells it from another.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn leap_file(&self, path: &Path) -> io::Result<(File, FileIdentity)> {
        self.file(path, &Ask::LeapFile)
    }

    /// The file of one of the lists of who may ask, as it is now, and what tells it from another.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn access_file(&self, kind: AccessKind, path: &Path) -> io::Result<(File, FileIdentity)> {
        self.file(path, &Ask::AccessFile(kind))
    }

    /// Starts to look up the name of a source's server; what is found is read from what is returned, as
    /// [`found`] understands it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn resolve(&self, source: usize, host: &str, port: u16) -> io::Result<File> {
        let found = self.descriptor(|_| Ok(lookup::in_thread(host, port)?), &Ask::Resolve(source))?;
        Ok(found.into())
    }

    /// The addresses of this machine's interfaces; none where they can't be had.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        match &*self.whose() {
            Whose::Own(_) => interface_addresses(),
            Whose::Keepers(keeper) => match ask(keeper, &Ask::OwnAddresses) {
                Ok((Answer::Addresses(addresses), _)) => addresses,
                Ok(_) | Err(_) => Vec::new(),
            },
        }
    }

    /// Has the machine's clock steered so. Without a keeper nobody does: there are no bounds then.
    ///
    /// # Errors
    /// Why it isn't, and what to do about it.
    pub fn steer(&self, order: &Order) -> Result<(), Fault> {
        let nobody = |_: &mut Opener| Err(Fault::new("the clock is steered by a keeper only"));
        self.do_or_ask(nobody, &Ask::Steer(Ordered::of(order))).map(drop)
    }

    /// Leaves the machine's clock to somebody else until the keeper is started again.
    ///
    /// # Errors
    /// When the keeper doesn't answer.
    pub fn leave_clock(&self) -> Result<(), Fault> {
        self.do_or_ask(|_| Ok(None), &Ask::Contested).map(drop)
    }

    /// What the kernel says now of the NICs that the keeper handed over; their `names` are for a server without one.
    ///
    /// # Errors
    /// When the keeper doesn't say.
    pub fn nics<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<Vec<NicNow>, Fault> {
        match &*self.whose() {
            Whose::Own(_) => Ok(names.map(NicNow::of).collect()),
            Whose::Keepers(keeper) => match ask(keeper, &Ask::Nics)? {
                (Answer::Nics(now), _) => Ok(now),
                (answer, _) => Err(unexpected(&answer)),
            },
        }
    }

    fn file(&self, path: &Path, asked: &Ask) -> io::Result<(File, FileIdentity)> {
        match &*self.whose() {
            Whose::Own(_) => Opener::file(path),
            Whose::Keepers(keeper) => match ask(keeper, asked)? {
                (Answer::File(identity), Some(file)) => Ok((file.into(), identity)),
                (answer, _) => Err(unexpected(&answer).into()),
            },
        }
    }

    fn descriptor(
        &self,
        own: impl FnOnce(&mut Opener) -> Result<OwnedFd, Fault>,
        asked: &Ask,
    ) -> Result<OwnedFd, Fault> {
        self.do_or_ask(|opener| own(opener).map(Some), asked)?.ok_or_else(|| Fault::new("no descriptor came"))
    }

    fn do_or_ask(
        &self,
        own: impl FnOnce(&mut Opener) -> Result<Option<OwnedFd>, Fault>,
        asked: &Ask,
    ) -> Result<Option<OwnedFd>, Fault> {
        match &mut *self.whose() {
            Whose::Own(opener) => own(opener),
            Whose::Keepers(keeper) => ask(keeper, asked).map(|(_, descriptor)| descriptor),
        }
    }

    /// One at a time: each answer belongs to the question before it. A keeper always answers, and takes this process
    /// along when it dies.
    fn whose(&self) -> MutexGuard<'_, Whose> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask(keeper: &Channel, asked: &Ask) -> Result<(Answer, Option<OwnedFd>), Fault> {
    send(keeper, asked, None)?;
    let (answer, descriptor): (Result<Answer, Fault>, _) = receive(keeper)?;
    Ok((answer?, descriptor))
}

fn unexpected(answer: &Answer) -> Fault {
    Fault::new(format!("the keeper answered something else: {answer:?}"))
}
