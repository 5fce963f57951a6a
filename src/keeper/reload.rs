//! Reading the configuration again: a second server is started beside the first, and takes over once it can serve by it.
//!
//! ```text
//! SIGHUP ─> read, checked ─> next server started ─> it asks for the queues ─> it is ready ─> the first one drains ─> ends
//!           ╰──────────────── refused: everything is as before ──────────────╯               both answer       alone
//! ```
//!
//! Until the next server is ready the first one serves as it did, and whatever is wrong (the text, a file that it names, an
//! address, a port that can't be had) refuses the reload. Then both take requests from the same sockets, so that none waits
//! or is lost, while the first drains and ends; what only one may have (receivers, the machine's clock) is the next one's
//! after that. The queues of interfaces can't be shared: where there are any the programs pass requests on to the sockets
//! while they change hands.

use super::loaded::Loaded;
use super::process::{Ended, Running};
use super::table::Table;
use super::{Keeper, Role, STOP_MAX, now, tell_systemd};
use crate::hands::fault::shortened;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sd_notify::NotifyState;
use std::rc::Rc;
use std::time::Duration;
use tracing::{error, info};

/// So much is told of why a reload is refused: a few dozen problems of a file.
pub(super) const WHY_OCTETS_MAX: usize = 4_000;

/// A server that is to take over.
pub(super) struct Reload {
    /// When the configuration began to be read.
    began: Duration,
    pub(super) server: Running,
    /// The table that it was given in the place of the one before; none for the same.
    table: Option<Option<Table>>,
    /// What it said is in its way.
    why: Option<String>,
    /// The first one was told to leave the queues, and the next one waits for that.
    waits_for_queues: bool,
    /// They are left.
    has_queues: bool,
}

/// A server that another has taken over from.
pub(super) struct Retiring {
    /// When the configuration began to be read by which the other one serves.
    began: Duration,
    pub(super) server: Running,
    /// When it has had its time.
    pub(super) until: Duration,
}

impl Keeper {
    /// Begins, if that is wanted and there is a server to take over from.
    pub(super) fn reload_if_wanted(&mut self) {
        let is_idle = self.reload.is_none()
            && self.retiring.is_none()
            && self.renewing.is_none()
            && self.stopping.is_none()
            && self.server.as_ref().is_some_and(|server| server.ready.is_some());
        if !is_idle || !std::mem::take(&mut self.reload_wanted) {
            return;
        }
        let began = now();
        let began_us = i128::try_from(began.as_micros()).unwrap_or_default();
        tell_systemd(&NotifyState::Reloading);
        tell_systemd(&NotifyState::MonotonicUsec(began_us));
        match self.begin(began) {
            Ok(reload) => {
                info!("reload: process {} is to take over", reload.server.process);
                self.reload = Some(reload);
            }
            Err(why) => self.refused(began, &why),
        }
    }

    fn begin(&mut self, began: Duration) -> Result<Reload, String> {
        let loaded = Rc::new(Loaded::read(&self.arguments).map_err(|error| error.to_string())?);
        let needed = self.loaded.config.restart_needed(&loaded.config);
        if !needed.is_empty() {
            let needed = needed.join(", ");
            return Err(format!("{needed}: a reload doesn't take another value; restart the server"));
        }
        let config = &loaded.config;
        self.sockets.extend(config, loaded.cores.len()).map_err(|error| error.to_string())?;
        self.outlets.extend(config)?;
        let suits = self.table.as_ref().is_some_and(|table| table.suits(config));
        let table = if suits { Ok(None) } else { Table::wanted(config).map(Some) };
        let table = table.map_err(|error| format!("no memory for the limits' table: {error}"))?;
        let given = table.as_ref().map_or(self.table.as_ref(), Option::as_ref);
        let server = self.start(&loaded, given, true).map_err(|error| format!("no process: {error}"))?;
        Ok(Reload { began, server, table, why: None, waits_for_queues: false, has_queues: false })
    }

    /// Nothing has changed but what the status says, in a message that has to hold it.
    fn refused(&mut self, began: Duration, why: &str) {
        let mut told = shortened(&why, WHY_OCTETS_MAX);
        if told.len() < why.len() {
            told += "…\nand more: `maser check-config` tells all that is wrong with a file";
        }
        error!("reload refused: {told}");
        self.loads.refused(began, told);
        self.close_others();
        tell_systemd(&NotifyState::Ready);
    }

    /// Closes what servers of this configuration don't have.
    fn close_others(&mut self) {
        let config = &self.loaded.config;
        self.sockets.close_others(config);
        self.outlets.close_others(config);
    }

    /// The next server wants the interfaces' queues: has the first one leave them.
    pub(super) fn have_queues_left(&mut self) {
        let are_any = self.interfaces.leave_queues();
        match (&mut self.reload, &self.server) {
            (Some(reload), Some(server)) if are_any => {
                reload.waits_for_queues = true;
                let _gone = kill(server.process, Signal::SIGUSR1);
            }
            _ => self.done(Role::Next),
        }
    }

    /// The first one has left them.
    pub(super) fn queues_left(&mut self, role: Role) {
        self.done(role);
        if let Some(reload) = &mut self.reload
            && std::mem::take(&mut reload.waits_for_queues)
        {
            reload.has_queues = true;
            self.done(Role::Next);
        }
    }

    /// Notes why a server ends that was to take over.
    pub(super) fn failed(&mut self, role: Role, why: String) {
        if let (Role::Next, Some(reload)) = (role, &mut self.reload) {
            reload.why = Some(why);
        }
        self.done(role);
    }

    /// The next server answers: the first one drains.
    pub(super) fn take_over(&mut self) {
        let Some(Reload { began, mut server, table, .. }) = self.reload.take() else { return };
        server.ready = Some(now());
        self.loaded = Rc::clone(&server.loaded);
        let Loaded { config, cores, .. } = &*self.loaded;
        if let Some(table) = table {
            self.table = table;
        }
        if let Err(error) = self.sockets.turn_to(config, cores.len()) {
            error!("requests come as before the reload: {error}");
        }
        self.interfaces.turn_to(config);
        self.follow_interfaces();
        info!("reload: process {} has taken over", server.process);
        if let Some(before) = self.server.replace(server) {
            let _gone = kill(before.process, Signal::SIGTERM);
            self.retiring = Some(Retiring { began, server: before, until: now() + STOP_MAX });
        } else {
            self.alone(began);
        }
    }

    /// The server that answers is the only one.
    fn alone(&mut self, began: Duration) {
        self.loads.applied(began);
        tell_systemd(&NotifyState::Ready);
        self.close_others();
        self.broker.turn_to(&self.loaded.config);
        if self.server.as_ref().is_some_and(|server| server.ready.is_some()) {
            self.done(Role::Serving);
        }
        self.renew_if_wanted();
    }

    /// Whether the process that has ended is the one that was to take over.
    pub(super) fn next_has_ended(&mut self, process: Pid, ended: Ended) -> bool {
        let Some(reload) = self.reload.take_if(|reload| reload.server.process == process) else {
            return false;
        };
        // It may have died of what it was left.
        self.broker.drop_legacy();
        let why = reload.why.unwrap_or_else(|| {
            format!("the server that was to take over has ended by {ended}: see the lines above")
        });
        self.refused(reload.began, &why);
        if reload.waits_for_queues || reload.has_queues {
            // The one that serves has none any more.
            self.renew_wanted = true;
            self.renew_if_wanted();
        }
        true
    }

    /// Whether the process that has ended is the one that was taken over from.
    pub(super) fn retiring_has_ended(&mut self, process: Pid) -> bool {
        let Some(Retiring { began, .. }) =
            self.retiring.take_if(|retiring| retiring.server.process == process)
        else {
            return false;
        };
        self.broker.settle(Duration::MAX);
        self.alone(began);
        true
    }

    /// There is nobody left to take over from.
    pub(super) fn give_up_reload(&mut self, why: &str) {
        if let Some(reload) = &mut self.reload {
            reload.why.get_or_insert_with(|| why.to_owned());
            reload.server.kill();
        }
    }
}
