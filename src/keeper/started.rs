//! Starting servers, and handing them what they need.

use super::handover::Handover;
use super::loaded::Loaded;
use super::process::{self, Part, Running};
use super::table::Table;
use super::{Keeper, now};
use maser_sys::handover::Channel;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::error::Error;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::rc::Rc;
use tracing::{error, warn};

impl Keeper {
    pub(super) fn start_if_due(&mut self) -> Result<(), Box<dyn Error>> {
        if self.start_at.take_if(|due| *due <= now()).is_none() {
            return Ok(());
        }
        // What has changed since the last look is handed over as it is.
        if let Err(error) = self.look_at_interfaces() {
            error!("the interfaces can't be followed: {error}");
        }
        self.renew_wanted = false;
        match self.start(&self.loaded, self.table.as_ref(), false) {
            Ok(server) => self.server = Some(server),
            Err(error) if self.has_been_ready => {
                let pause = self.restarts.after_none();
                let pause = pause.ok_or_else(|| format!("the server can't be started: {error}"))?;
                error!("no process for the server: {error}; the next try is in {} ms", pause.as_millis());
                self.start_at = Some(now() + pause);
            }
            Err(error) => {
                return Err(format!("the server can't be started: {error}; is /proc mounted?").into());
            }
        }
        Ok(())
    }

    pub(super) fn start(
        &self,
        loaded: &Rc<Loaded>,
        table: Option<&Table>,
        takes_over: bool,
    ) -> io::Result<Running> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = process::again(Part::Server);
        command.args(std::env::args_os().skip(1)).stdin(Stdio::from(OwnedFd::from(theirs)));
        let started = now();
        let child = command.spawn()?;
        // So that the end of the child closes the channel.
        drop(command);
        let process = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        if let Err(error) = self.hand_over(&ours, loaded, table, takes_over) {
            // It has ended already, which its end will tell, or it never will have what it waits for.
            warn!("nothing can be handed to the server: {error}");
            let _gone = kill(process, Signal::SIGKILL);
        }
        let (loaded, channel) = (Rc::clone(loaded), Some(ours));
        Ok(Running { process, loaded, channel, started, ready: None, is_killed: false })
    }

    pub(super) fn hand_over(
        &self,
        to: &Channel,
        loaded: &Loaded,
        table: Option<&Table>,
        takes_over: bool,
    ) -> io::Result<()> {
        let Loaded { text, config, cores } = loaded;
        let (interfaces, maps) = self.interfaces.handed()?;
        let sockets = self.sockets.descriptors(config, cores.len());
        let handover = Handover {
            config: text.clone(),
            cores: cores.clone(),
            sockets: sockets.len() / cores.len().max(1),
            key: self.key,
            table: table.is_some(),
            outlets: self.outlets.which(config),
            interfaces,
            refused: self.interfaces.refused(),
            nics: self.nics.facts(),
            legacy: self.broker.legacy(),
            steering: self.broker.steering(),
            takes_over,
        };
        let mut descriptors: Vec<_> = self.outlets.descriptors(config).collect();
        descriptors.extend(sockets);
        descriptors.extend(table.map(Table::as_fd));
        descriptors.extend(maps.iter().map(AsFd::as_fd));
        descriptors.extend(self.nics.clocks());
        handover.send(to, &descriptors)
    }
}
