//! The keeper's side of the channels: which servers there are, what they ask, what they are answered.

use super::process::Running;
use super::{Keeper, LOGGED_OCTETS_MAX, now, say_ready};
use crate::hands::ask::{self, Answer, Ask, Turn};
use crate::hands::fault::{Fault, shortened};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tracing::{error, warn};

/// What a server is to the keeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// It answers, or is to as soon as it can.
    Serving,
    /// It is to take over from that one.
    Next,
    /// Another has taken over from it.
    Retiring,
}

impl Keeper {
    pub(super) fn running(&self, role: Role) -> Option<&Running> {
        match role {
            Role::Serving => self.server.as_ref(),
            Role::Next => self.reload.as_ref().map(|reload| &reload.server),
            Role::Retiring => self.retiring.as_ref().map(|retiring| &retiring.server),
        }
    }

    pub(super) fn running_mut(&mut self, role: Role) -> Option<&mut Running> {
        match role {
            Role::Serving => self.server.as_mut(),
            Role::Next => self.reload.as_mut().map(|reload| &mut reload.server),
            Role::Retiring => self.retiring.as_mut().map(|retiring| &mut retiring.server),
        }
    }

    /// Takes a question, if it is one, and answers.
    pub(super) fn answer(&mut self, role: Role) {
        let Some(server) = self.running_mut(role) else { return };
        let Some(channel) = &server.channel else { return };
        let ask = match ask::receive_ask(channel) {
            Ok(ask) => ask,
            Err(error) => {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    let error = shortened(&error, LOGGED_OCTETS_MAX);
                    error!("the server asks for something unknown: {error}; it is killed");
                    server.kill();
                }
                server.channel = None;
                return;
            }
        };
        let loaded = Rc::clone(&server.loaded);
        let answered = if let Ask::Turn(turn) = ask {
            return self.take_turn(role, turn);
        } else if matches!(ask, Ask::Load) {
            Ok((Answer::Load(self.loads.status()), None))
        } else if matches!(ask, Ask::Nics) {
            Ok((Answer::Nics(self.nics.now()), None))
        } else {
            self.broker.answer(&loaded.config, ask)
        };
        self.reply(role, answered);
        self.renew_if_wanted();
    }

    fn take_turn(&mut self, role: Role, turn: Turn) {
        match turn {
            Turn::Ready => self.ready(role),
            Turn::Queues if role == Role::Next => self.have_queues_left(),
            Turn::Queues => self.done(role),
            Turn::QueuesLeft => self.queues_left(role),
            Turn::Failed(why) => self.failed(role, why),
        }
    }

    /// Says what is answered to a question.
    pub(super) fn reply(&self, role: Role, answered: Result<(Answer, Option<OwnedFd>), Fault>) {
        let Some(channel) = self.running(role).and_then(|server| server.channel.as_ref()) else { return };
        let (answer, descriptor) = match answered {
            Ok((answer, descriptor)) => (Ok(answer), descriptor),
            Err(fault) => (Err(fault), None),
        };
        let answer: Result<Answer, Fault> = answer;
        let sent = match ask::send(channel, &answer, descriptor.as_ref().map(AsFd::as_fd)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                ask::send(channel, &Err::<Answer, _>(Fault::new("the answer is too long")), None)
            }
            sent => sent,
        };
        if let Err(error) = sent {
            warn!("the server doesn't take an answer: {error}");
        }
    }

    /// Something is done.
    pub(super) fn done(&self, role: Role) {
        self.reply(role, Ok((Answer::Done, None)));
    }

    /// A server answers from now on.
    pub(super) fn ready(&mut self, role: Role) {
        match role {
            Role::Serving => {
                if let Some(server) = &mut self.server
                    && server.ready.replace(now()).is_none()
                {
                    say_ready(!std::mem::replace(&mut self.has_been_ready, true), server.process);
                }
                // It has to wait until it is alone.
                if self.retiring.is_none() {
                    self.done(role);
                }
                self.renew_if_wanted();
            }
            // One that is being killed takes over nothing.
            Role::Next if self.stopping.is_some() => {}
            Role::Next => self.take_over(),
            Role::Retiring => self.done(role),
        }
    }
}
