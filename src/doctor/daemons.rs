//! Who else sets the machine's clock.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use super::processes::{Process, Processes};
use crate::config::SourceKind;

/// Programs that set the machine's clock, by the 15 octets that the kernel keeps of their names: chrony, ntpd of several
/// houses, ntpd-rs, systemd's, linuxptp's (ptp4l and ts2phc keep the NIC's clock instead), and one that asks web servers.
const CLOCK_SETTERS: [&str; 6] = ["chronyd", "ntpd", "ntp-daemon", "systemd-timesyn", "phc2sys", "htpdate"];

const WHY: &str =
    "a clock that two programs set follows neither, and a clock that nobody sets is wrong by seconds a day";

/// Whether who sets the clock fits what is to be served.
pub(super) fn finding(question: &Question, processes: &Processes) -> Finding {
    let is_setter = |process: &&Process| CLOCK_SETTERS.contains(&process.name.as_str());
    let setters: Vec<_> = processes.all.iter().filter(is_setter).collect();
    let steered = question.config().is_some_and(|config| config.clock.steer);
    let served = question.config().is_none_or(|config| {
        config.sources.iter().any(|source| matches!(source.kind, SourceKind::Machine { .. }))
    });
    judge(&setters, steered, served)
}

/// `steered`: maser is to set the clock; `served`: it serves the clock that another sets.
fn judge(setters: &[&Process], steered: bool, served: bool) -> Finding {
    // One without the capability (chronyd -x) only looks. A parent and its child, as chronyd's, are one daemon.
    let setting: Vec<_> = setters.iter().filter(|process| process.may_set_clock).collect();
    let programs = super::unique(setting.iter().map(|process| process.name.as_str()));
    let named = setting.iter().map(|process| process.named()).collect::<Vec<_>>().join(", ");
    let stop = |process: Option<&&&Process>| process.map_or_else(String::new, |process| process.stopped_by());
    match (steered, programs.len()) {
        (true, 1..) => Finding::to_do(
            Check::Daemons,
            Verdict::Broken,
            format!("clock.steer is set, and {named} may set the clock, too"),
            WHY,
            stop(setting.first()),
        ),
        (false, 2..) => Finding::to_do(
            Check::Daemons,
            Verdict::Should,
            format!("several programs may set the clock: {named}"),
            WHY,
            stop(setting.last()),
        ),
        (true, 0) => Finding::ok(Check::Daemons, "nobody else sets the clock", WHY),
        (false, 1) => Finding::ok(
            Check::Daemons,
            format!("{named} may set the machine's clock, and maser doesn't"),
            WHY,
        ),
        (false, _) if served => Finding::to_do(
            Check::Daemons,
            Verdict::Better,
            "nobody sets the machine's clock: no such daemon runs here",
            WHY,
            "systemctl enable --now chrony, or clock.steer = true beside sources of maser's own",
        ),
        (false, _) => {
            Finding::ok(Check::Daemons, "nobody sets the machine's clock, and maser doesn't serve by it", WHY)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_may_set_the_clock() {
        let process = |name: &str, may_set_clock| Process {
            id: 3,
            name: name.to_owned(),
            may_set_clock,
            ..Process::default()
        };
        let (chronyd, looking, ntpd) =
            (process("chronyd", true), process("chronyd", false), process("ntpd", true));
        for (setters, steered, served, verdict) in [
            (vec![], false, true, Verdict::Better),
            (vec![], false, false, Verdict::Ok),
            (vec![], true, false, Verdict::Ok),
            (vec![&chronyd], false, true, Verdict::Ok),
            (vec![&chronyd], true, false, Verdict::Broken),
            // chronyd and its helper are one.
            (vec![&chronyd, &chronyd], false, true, Verdict::Ok),
            (vec![&chronyd, &ntpd], false, true, Verdict::Should),
            // Without the capability it sets nothing.
            (vec![&looking], true, false, Verdict::Ok),
            (vec![&looking], false, true, Verdict::Better),
        ] {
            let found = judge(&setters, steered, served);
            assert_eq!(found.verdict, verdict, "{setters:?} {steered} {served} {found:?}");
        }
        assert_eq!(judge(&[&chronyd], true, false).remedy.as_deref(), Some("kill 3"));
    }
}
