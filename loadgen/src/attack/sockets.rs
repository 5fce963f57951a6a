//! Both parts through UDP sockets, at the same time, each by a session of its own: for servers on this machine, at low rates.

use super::report::{Part, Phase};
use super::{AttackError, Plan, Step, mix_of};
use crate::clients::Clients;
use crate::mix::MixName;
use crate::session::{self, SenderName, Session, SessionError};
use crate::summary::Summary;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

/// Two sessions on one core.
pub(super) struct SocketAttack {
    honest: Session,
    flood: Session,
}

impl SocketAttack {
    /// Opens the sockets of both.
    pub(super) fn open(plan: &Plan, stop: &Arc<AtomicBool>) -> Result<Self, AttackError> {
        let mix = mix_of(plan.flood.kind).ok_or(AttackError::Sockets(plan.flood.kind.name()))?;
        let open = |clients, mix, rate_per_s_max, seed| {
            let setting = session::Setting {
                target: plan.target,
                sender: SenderName::Udp,
                mix,
                key: None,
                clients,
                cores: vec![plan.core],
                echo: false,
                closed_loop: false,
                stamps_per_s: 0.0,
                timeout: plan.timeout,
                rate_per_s_max,
                seed,
            };
            Session::open(setting, Arc::clone(stop))
        };
        let mix_of_honest = if plan.iburst { MixName::Iburst } else { MixName::Ntpv4 };
        let honest = Clients::new(Some(plan.honest.prefix), plan.honest.count)?;
        let flood = Clients::new(Some(plan.flood.range.prefix), plan.flood.range.count)?;
        Ok(Self {
            honest: open(honest, mix_of_honest, plan.honest_per_s, plan.seed)?,
            flood: open(flood, mix, plan.flood_per_s, plan.seed ^ 1)?,
        })
    }

    /// Runs a phase.
    pub(super) fn phase(&mut self, plan: &Plan, step: Step) -> Result<Phase, SessionError> {
        let order = |rate_per_s| session::Step { rate_per_s, duration: step.time, by_second: false };
        let Self { honest, flood } = self;
        let (honest, flood) = thread::scope(|scope| {
            let flooding = step.flood.then(|| scope.spawn(|| flood.step(order(plan.flood_per_s), |_| ())));
            let honest = honest.step(order(plan.honest_per_s), |_| ());
            let flood = flooding.map(|flood| flood.join().unwrap_or(Err(SessionError::Panicked)));
            (honest, flood)
        });
        let (honest, flood) = (part(&honest?.1), flood.transpose()?.map(|flood| part(&flood.1)));
        let duration_s = step.time.as_secs_f64();
        Ok(Phase {
            name: step.name.to_owned(),
            duration_s,
            generator_kept_up: honest.kept_up(duration_s)
                && flood.as_ref().is_none_or(|flood| flood.kept_up(duration_s)),
            honest,
            flood,
        })
    }
}

/// A session's step as a part. Sockets say nothing of what the other end had no room for: `refused` is this end's own.
fn part(summary: &Summary) -> Part {
    let made = summary.sent + summary.unsent;
    Part {
        rate_requested: summary.rate_requested,
        due: made,
        made,
        sent: summary.sent,
        refused: summary.unsent,
        answered: summary.basic + summary.interleaved,
        unsynchronised: summary.faults.get("unsynchronised").copied().unwrap_or(0),
        silent: summary.lost + summary.silence_expected,
        kissed: summary.kod,
        kisses: summary.kisses.clone(),
        faults: summary.faults.clone(),
        duplicate: summary.duplicate,
        longer: 0,
        octets_sent: summary.octets_sent,
        octets_received: summary.octets_received,
        latency_ns: summary.latency_ns,
        lag_ns: summary.lag_ns,
        clients: None,
    }
}
