//! The machine's clock: whether its time can be right, what it counts by, and whether the TSC can be trusted.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use super::machine::Machine;
use crate::config::{Config, LEAP_FILE_USUAL, SourceKind};
use crate::leaps::date;
use maser_core::time::{BUILD_DATE, Instant, Span, Utc};
use maser_sys::adjtimex::KernelState;
use maser_sys::kernel_clock::{KernelClock, read};

/// Nobody runs this build so long after it was made: 20 years.
const BUILD_AGE_MAX: Span = Span::from_seconds(20 * 365 * 86_400);

const DIRECTORY: &str = "devices/system/clocksource/clocksource0";

/// What bears on the time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Facts {
    now: Instant<Utc>,
    /// When the list of leap seconds was published.
    list_updated: Option<Instant<Utc>>,
    /// Whether the kernel says that somebody keeps its clock, and how far off it may be; none if it doesn't say.
    kept: Option<(bool, Span)>,
    /// Whether maser serves this very clock.
    served: Option<bool>,
}

/// The time of day, the clock source, the TSC.
pub(super) fn findings(question: &Question, machine: &Machine) -> Vec<Finding> {
    let config = question.config();
    let list =
        config.and_then(|config| config.clock.leap_file.clone()).unwrap_or_else(|| LEAP_FILE_USUAL.into());
    let list = super::leaps::load(&list).ok().and_then(Result::ok);
    let is_machine = |config: &Config| {
        config.sources.iter().any(|source| matches!(source.kind, SourceKind::Machine { .. }))
    };
    let facts = Facts {
        now: Instant::<Utc>::from_unix(0, 0) + Span::from_nanos(read(KernelClock::Realtime)),
        list_updated: list.map(|list| list.updated),
        kept: KernelState::read().ok().map(|state| (state.synchronised, state.maxerror)),
        served: config.map(is_machine),
    };
    let offered = machine.sys(&format!("{DIRECTORY}/available_clocksource"));
    let current = machine.sys(&format!("{DIRECTORY}/current_clocksource"));
    let script = super::tuning::command("clocksource", "");
    vec![
        time_of_day(&facts),
        clocksource(offered.as_deref(), current.as_deref(), &script),
        tsc(machine.proc("cpuinfo").as_deref(), offered.as_deref()),
    ]
}

fn time_of_day(facts: &Facts) -> Finding {
    const WHY: &str = "certificates, logs and labels without a year go by this clock, and maser serves it where it is \
        a source";
    let set = "chronyd -q 'pool pool.ntp.org iburst', or date -u -s 'YYYY-MM-DD hh:mm:ss' by a watch";
    let shown = date(facts.now);
    let wrong = |what| Finding::to_do(Check::TimeOfDay, Verdict::Broken, what, WHY, set);
    if facts.now < BUILD_DATE {
        return wrong(format!(
            "the machine's clock says {shown}, before maser was built on {}",
            date(BUILD_DATE)
        ));
    }
    if let Some(updated) = facts.list_updated.filter(|updated| facts.now < *updated) {
        return wrong(format!(
            "the machine's clock says {shown}, before its list of leap seconds of {}",
            date(updated)
        ));
    }
    if facts.now > BUILD_DATE + BUILD_AGE_MAX {
        return wrong(format!("the machine's clock says {shown}, twenty years after maser was built"));
    }
    match (facts.kept, facts.served) {
        (None, _) => {
            let what =
                format!("the clock says {shown}, and the kernel doesn't tell whether anybody keeps it");
            Finding::to_do(Check::TimeOfDay, Verdict::Unknown, what, WHY, "timedatectl")
        }
        (Some((false, _)), served) if served != Some(false) => {
            let verdict = if served.is_some() { Verdict::Should } else { Verdict::Better };
            let what =
                format!("the clock says {shown}, and the kernel says that nobody keeps it synchronised");
            let daemon = "systemctl enable --now chrony (with rtcsync in its configuration)";
            Finding::to_do(Check::TimeOfDay, verdict, what, WHY, daemon)
        }
        (Some((true, error)), _) => {
            let off = error.as_seconds_f64();
            Finding::ok(
                Check::TimeOfDay,
                format!("the clock says {shown}, synchronised to {off:.6} s at worst"),
                WHY,
            )
        }
        (Some((false, _)), _) => {
            Finding::ok(Check::TimeOfDay, format!("the clock says {shown}; maser doesn't serve by it"), WHY)
        }
    }
}

/// The script of this name calls a machine without a TSC fine, since nothing can be set there; so does this.
fn clocksource(offered: Option<&str>, current: Option<&str>, script: &str) -> Finding {
    const WHY: &str =
        "the kernel stamps every packet by its clock source, and the TSC is read by one instruction";
    let has_tsc = offered.is_some_and(|offered| offered.split_whitespace().any(|word| word == "tsc"));
    match current {
        None => Finding::to_do(
            Check::Clocksource,
            Verdict::Unknown,
            "the kernel doesn't show its clock source",
            WHY,
            "mount -t sysfs sysfs /sys",
        ),
        Some(current) if has_tsc && current != "tsc" => Finding::to_do(
            Check::Clocksource,
            Verdict::Should,
            format!("the kernel counts by {current}, and offers the TSC"),
            WHY,
            script,
        ),
        Some(current) => Finding::ok(Check::Clocksource, format!("the kernel counts by {current}"), WHY),
    }
}

fn tsc(cpuinfo: Option<&str>, offered: Option<&str>) -> Finding {
    const WHY: &str =
        "maser counts by the TSC where it is invariant; else each reading is a system call, and slower";
    const FLAGS: [&str; 2] = ["constant_tsc", "nonstop_tsc"];
    let Some(flags) = cpuinfo.and_then(|text| text.lines().find_map(|line| line.strip_prefix("flags")))
    else {
        return Finding::to_do(
            Check::Tsc,
            Verdict::Unknown,
            "the processor's flags aren't shown",
            WHY,
            "cat /proc/cpuinfo",
        );
    };
    let lacks: Vec<_> =
        FLAGS.into_iter().filter(|flag| !flags.split_whitespace().any(|word| word == *flag)).collect();
    if !lacks.is_empty() {
        let what = format!("the TSC isn't invariant: the processor lacks {}", lacks.join(" and "));
        let remedy = "another machine; on a virtual one have the hypervisor offer invtsc (-cpu host,+invtsc)";
        return Finding::to_do(Check::Tsc, Verdict::Better, what, WHY, remedy);
    }
    if offered.is_some_and(|offered| !offered.split_whitespace().any(|word| word == "tsc")) {
        let what = "the processor's TSC is invariant, and the kernel doesn't offer it";
        return Finding::to_do(Check::Tsc, Verdict::Better, what, WHY, "dmesg | grep -i tsc");
    }
    Finding::ok(Check::Tsc, "the TSC is invariant", WHY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_is_told() {
        let day = Span::from_seconds(86_400);
        let facts = Facts {
            now: BUILD_DATE + day,
            list_updated: Some(BUILD_DATE),
            kept: Some((true, Span::ZERO)),
            served: Some(true),
        };
        let of = |facts: Facts| time_of_day(&facts).verdict;
        assert_eq!(of(facts), Verdict::Ok);
        assert_eq!(of(Facts { now: BUILD_DATE - day, ..facts }), Verdict::Broken);
        assert_eq!(of(Facts { list_updated: Some(BUILD_DATE + day + day), ..facts }), Verdict::Broken);
        assert_eq!(of(Facts { now: BUILD_DATE + BUILD_AGE_MAX + day, ..facts }), Verdict::Broken);
        let lost = Facts { kept: Some((false, Span::ZERO)), ..facts };
        assert_eq!(of(lost), Verdict::Should);
        assert_eq!(of(Facts { served: None, ..lost }), Verdict::Better);
        assert_eq!(of(Facts { served: Some(false), ..lost }), Verdict::Ok);
        assert_eq!(of(Facts { kept: None, ..facts }), Verdict::Unknown);
    }

    #[test]
    fn the_tsc_is_wanted_where_it_is_offered() {
        let of = |offered, current| clocksource(offered, current, "do").verdict;
        assert_eq!(of(Some("tsc hpet"), Some("hpet")), Verdict::Should);
        assert_eq!(of(Some("tsc hpet"), Some("tsc")), Verdict::Ok);
        assert_eq!(of(Some("hpet"), Some("hpet")), Verdict::Ok);
        assert_eq!(of(None, None), Verdict::Unknown);
        let flags = |text: &str| format!("processor\t: 0\nflags\t\t: fpu {text} x\n");
        let of = |text: &str, offered| tsc(Some(&flags(text)), offered).verdict;
        assert_eq!(of("constant_tsc nonstop_tsc", Some("tsc")), Verdict::Ok);
        assert_eq!(of("constant_tsc", Some("tsc")), Verdict::Better);
        assert_eq!(of("constant_tsc nonstop_tsc", Some("hpet")), Verdict::Better);
        assert_eq!(tsc(None, None).verdict, Verdict::Unknown);
    }
}
