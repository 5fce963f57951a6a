//! What the scripts of `tuning/` set, judged as their `check` does: the same settings and values, by the same files.
//! `tests/doctor.rs` holds the two against each other.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use super::firewall::Filter;
use super::machine::{Machine, as_list};
use super::processes::Processes;
use crate::config::{Config, WORKERS_AUTO_MAX, Workers};
use std::path::Path;

/// Where packages put the scripts; else they are in the tree.
const SCRIPT_PLACES: [&str; 3] =
    ["/usr/share/maser/tuning", "/usr/local/share/maser/tuning", "/usr/lib/maser/tuning"];

/// maser's send buffer; the kernel doubles what it is asked for.
const SEND_BUFFER_OCTETS: u64 = 1 << 20;

/// The least wake-up latency that leaves the processor its first idle state, us.
const LATENCY_US: &str = "2";

/// What is set for it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wanted {
    /// One of these, the first of which is best.
    OneOf(Vec<String>),
    /// This or more.
    Least(u64),
}

/// A setting: where it is, what is wanted, and what it is; none where this machine hasn't it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Setting {
    name: String,
    wanted: Wanted,
    now: Option<String>,
}

/// Settings that go together.
struct Group {
    check: Check,
    script: &'static str,
    verdict: Verdict,
    why: &'static str,
    settings: Vec<Setting>,
}

/// The command that sets what a script is about.
pub(super) fn command(script: &str, arguments: &str) -> String {
    let place = SCRIPT_PLACES.into_iter().find(|place| Path::new(place).join(script).exists());
    format!("sudo {}/{script} apply{arguments}", place.unwrap_or("tuning"))
}

pub(super) fn findings(
    question: &Question,
    machine: &Machine,
    processes: &Processes,
    filter: &Filter,
) -> Vec<Finding> {
    let cores = cores(question.config(), machine);
    let interfaces = question.interfaces(machine);
    let look = Looker { machine, interfaces: &interfaces, cores: &cores };
    let arguments = question.script_arguments();
    let mut findings: Vec<_> = [
        look.sockets(question.config()),
        look.polling(),
        look.affinity(processes),
        look.cpu(),
        look.hugepages(),
    ]
    .into_iter()
    .map(|group| judge(&group, &command(group.script, &arguments)))
    .collect();
    findings.push(isolation(look.isolation(question.named_cores())));
    findings.push(conntrack(machine, question, filter, &command("conntrack", &arguments)));
    findings
}

/// maser's cores, as its workers and the scripts take them.
fn cores(config: Option<&Config>, machine: &Machine) -> Vec<usize> {
    let mut online = machine.cores();
    match config.map(|config| &config.server.workers) {
        Some(Workers::Cores(cores)) => {
            let mut cores = cores.clone();
            cores.sort_unstable();
            return cores;
        }
        Some(Workers::Count(number)) => online.truncate(number.get()),
        Some(Workers::Auto) | None => online.truncate(WORKERS_AUTO_MAX),
    }
    online
}

/// Of a choice, as `always [madvise] never`, what is chosen.
fn chosen(text: &str) -> String {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inner, _)| inner);
    inner.map_or_else(|| text.split_whitespace().collect::<Vec<_>>().join(" "), str::to_owned)
}

impl Setting {
    fn is_fit(&self) -> bool {
        let Some(now) = &self.now else { return true };
        match &self.wanted {
            Wanted::OneOf(values) => values.contains(now),
            Wanted::Least(least) => now.parse::<u64>().is_ok_and(|now| now >= *least),
        }
    }

    /// For people.
    fn told(&self) -> String {
        let wanted = match &self.wanted {
            Wanted::OneOf(values) => values.join(" or "),
            Wanted::Least(least) => format!("{least} or more"),
        };
        let now = self.now.as_deref().filter(|now| !now.is_empty()).unwrap_or("nothing");
        format!("{} is {now}, wanted {wanted}", self.name)
    }
}

fn one_of(values: &[&str]) -> Wanted {
    Wanted::OneOf(values.iter().map(|value| (*value).to_owned()).collect())
}

/// Many settings of a kind are told by the first of them.
const TOLD_MAX: usize = 3;

fn told(unfit: &[&Setting]) -> String {
    let mut words: Vec<_> = unfit.iter().take(TOLD_MAX).map(|setting| setting.told()).collect();
    if unfit.len() > TOLD_MAX {
        words.push(format!("and {} more", unfit.len() - TOLD_MAX));
    }
    words.join("; ")
}

fn judge(group: &Group, command: &str) -> Finding {
    let unfit: Vec<_> = group.settings.iter().filter(|setting| !setting.is_fit()).collect();
    let here = group.settings.iter().filter(|setting| setting.now.is_some()).count();
    if !unfit.is_empty() {
        return Finding::to_do(group.check, group.verdict, told(&unfit), group.why, command);
    }
    let what = match here {
        0 => "this machine has no such settings".to_owned(),
        1 => "the one setting is as wanted".to_owned(),
        _ => format!("all {here} settings are as wanted"),
    };
    Finding::ok(group.check, what, group.why)
}

/// Reads settings.
struct Looker<'a> {
    machine: &'a Machine,
    interfaces: &'a [String],
    cores: &'a [usize],
}

impl Looker<'_> {
    fn sysctl(&self, name: &str, wanted: Wanted) -> Setting {
        let now = self.machine.proc(&format!("sys/{}", name.replace('.', "/"))).as_deref().map(chosen);
        Setting { name: name.to_owned(), wanted, now }
    }

    fn sys(&self, path: &str, wanted: Wanted) -> Setting {
        Setting { name: format!("/sys/{path}"), wanted, now: self.machine.sys(path).as_deref().map(chosen) }
    }

    fn mask(&self, path: &str, cores: &[usize]) -> Setting {
        let trim = |text: String| {
            let digits = text.trim_start_matches(['0', ',']);
            if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
        };
        let wanted = Wanted::OneOf(vec![mask_of(cores)]);
        Setting { name: format!("/sys/{path}"), wanted, now: self.machine.sys(path).map(trim) }
    }

    fn sockets(&self, config: Option<&Config>) -> Group {
        let asked = config.map_or(4 << 20, |config| u64::from(config.server.receive_buffer_octets.get()));
        Group {
            check: Check::Sockets,
            script: "sockets",
            verdict: Verdict::Better,
            why: "while a worker doesn't run, requests wait in its socket's buffer and in the core's queue; what \
                doesn't fit is lost",
            settings: vec![
                self.sysctl("net.core.rmem_max", Wanted::Least(asked / 2)),
                self.sysctl("net.core.wmem_max", Wanted::Least(SEND_BUFFER_OCTETS / 2)),
                self.sysctl("net.core.netdev_max_backlog", Wanted::Least(4096)),
                self.sysctl("net.core.netdev_tstamp_prequeue", one_of(&["1"])),
            ],
        }
    }

    fn polling(&self) -> Group {
        let mut settings = vec![
            self.sysctl("net.core.busy_read", one_of(&["50"])),
            self.sysctl("net.core.busy_poll", one_of(&["50"])),
        ];
        settings.extend(
            self.interfaces
                .iter()
                .map(|name| self.sys(&format!("class/net/{name}/threaded"), one_of(&["0"]))),
        );
        Group {
            check: Check::Polling,
            script: "polling",
            verdict: Verdict::Better,
            why: "a worker that sleeps is woken by an interrupt and the scheduler; one that polls looks into the \
                queue itself",
            settings,
        }
    }

    fn affinity(&self, processes: &Processes) -> Group {
        let runs = if processes.named("irqbalance").is_some() { "runs" } else { "stopped" };
        let mut settings = vec![Setting {
            name: "irqbalance (systemctl disable --now irqbalance)".to_owned(),
            wanted: one_of(&["stopped"]),
            now: Some(runs.to_owned()),
        }];
        let core = |queue: usize| self.cores.get(queue % self.cores.len().max(1)).copied().unwrap_or(0);
        for name in self.interfaces {
            for (irq, queue) in self.queue_interrupts(name) {
                let now = self.machine.proc(&format!("irq/{irq}/smp_affinity_list"));
                let wanted = Wanted::OneOf(vec![core(queue).to_string()]);
                settings.push(Setting { name: format!("interrupt {irq} of {name}"), wanted, now });
            }
            for queue in self.machine.sys_names(&format!("class/net/{name}/queues")) {
                if let Some(number) = queue.strip_prefix("tx-").and_then(|digits| digits.parse().ok()) {
                    settings.push(
                        self.mask(&format!("class/net/{name}/queues/{queue}/xps_cpus"), &[core(number)]),
                    );
                }
            }
        }
        Group {
            check: Check::Affinity,
            script: "affinity",
            verdict: Verdict::Better,
            why: "a request that is received, answered and sent on one core finds that core's caches warm",
            settings,
        }
    }

    /// An interface's queues' interrupts, each with the queue's number.
    fn queue_interrupts(&self, name: &str) -> Vec<(u32, usize)> {
        let places = ["device/msi_irqs", "device/../msi_irqs"];
        // virtio's belong to the device above.
        let own = places.map(|place| self.machine.sys_names(&format!("class/net/{name}/{place}")));
        let Some(own) = own.into_iter().find(|irqs| !irqs.is_empty()) else { return Vec::new() };
        let table = self.machine.proc("interrupts").unwrap_or_default();
        let mut found: Vec<_> = table
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let irq = words.next()?.strip_suffix(':')?;
                let queue = queue_of(words.next_back()?)?;
                own.iter().any(|own| own == irq).then(|| irq.parse().ok().map(|irq| (irq, queue)))?
            })
            .collect();
        found.sort_unstable_by_key(|&(irq, queue)| (queue, irq));
        found
    }

    fn cpu(&self) -> Group {
        let mut settings = vec![self.sysctl("kernel.numa_balancing", one_of(&["0"]))];
        for core in self.cores {
            let path = |file: &str| format!("devices/system/cpu/cpu{core}/{file}");
            settings.extend([
                self.sys(&path("power/pm_qos_resume_latency_us"), one_of(&[LATENCY_US])),
                self.sys(&path("cpufreq/scaling_governor"), one_of(&["performance"])),
                self.sys(&path("cpufreq/energy_performance_preference"), one_of(&["performance"])),
            ]);
        }
        Group {
            check: Check::Cpu,
            script: "cpu",
            verdict: Verdict::Better,
            why: "a core that sleeps deeply or runs slowly answers late, and stamps late",
            settings,
        }
    }

    /// Where cores are named and others are left: the kernel's work off them, and its command line.
    fn isolation(&self, named: Option<&[usize]>) -> Option<(Setting, Vec<Setting>)> {
        named?;
        let others: Vec<_> =
            self.machine.cores().into_iter().filter(|core| !self.cores.contains(core)).collect();
        if others.is_empty() {
            return None;
        }
        let list = as_list(self.cores);
        let boot = |file: &str| {
            let now = self.machine.sys(&format!("devices/system/cpu/{file}"));
            now.map(|text| text.replace("(null)", ""))
        };
        let settings = [("isolcpus", "isolated"), ("nohz_full", "nohz_full")].map(|(name, file)| Setting {
            name: name.to_owned(),
            wanted: one_of(&[&list]),
            now: boot(file),
        });
        Some((self.mask("devices/virtual/workqueue/cpumask", &others), settings.into()))
    }

    fn hugepages(&self) -> Group {
        let path = |file: &str| format!("kernel/mm/transparent_hugepage/{file}");
        Group {
            check: Check::Hugepages,
            script: "hugepages",
            verdict: Verdict::Better,
            why: "maser asks for no huge pages, and threads whose pages the kernel moves about to make some wait",
            settings: vec![
                self.sys(&path("enabled"), one_of(&["madvise", "never"])),
                self.sys(&path("defrag"), one_of(&["madvise", "defer+madvise", "never"])),
                self.sys(&path("khugepaged/defrag"), one_of(&["0"])),
                self.sysctl("vm.compaction_proactiveness", one_of(&["0"])),
            ],
        }
    }
}

/// The queue of an interrupt by its name, as `eth0-TxRx-3` or `virtio0-input.0`; none of another's.
fn queue_of(name: &str) -> Option<usize> {
    const WORDS: [&str; 9] = ["rx", "tx", "txrx", "input", "output", "comp", "queue", "q", "fp"];
    let name = name.split('@').next()?.to_lowercase();
    let before = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name.strip_prefix(before)?.parse().ok()?;
    let word = before.strip_suffix(['-', '.', '_']).unwrap_or(before);
    WORDS.iter().any(|known| word.ends_with(known)).then_some(number)
}

/// A set of cores in hexadecimal, in groups of 32 bits.
fn mask_of(cores: &[usize]) -> String {
    let top = cores.iter().max().map_or(0, |core| core / 32);
    let group = |group: usize| {
        cores.iter().filter(|core| *core / 32 == group).fold(0_u32, |set, core| set | 1 << (core % 32))
    };
    let rest = (0..top).rev().map(|place| format!(",{:08x}", group(place)));
    format!("{:x}{}", group(top), rest.collect::<String>())
}

fn isolation(settings: Option<(Setting, Vec<Setting>)>) -> Finding {
    const WHY: &str =
        "other programs, the tick and the kernel's deferred work each take a core away from its worker";
    let Some((work, boot)) = settings else {
        return Finding::ok(
            Check::Isolation,
            "no cores are maser's alone: workers = [CORES] would name some",
            WHY,
        );
    };
    let unfit: Vec<_> = std::iter::once(&work).chain(&boot).filter(|setting| !setting.is_fit()).collect();
    if unfit.is_empty() {
        return Finding::ok(Check::Isolation, "the cores of the workers are theirs alone", WHY);
    }
    let words: Vec<_> = boot
        .iter()
        .filter(|setting| !setting.is_fit())
        .map(|setting| {
            let Wanted::OneOf(values) = &setting.wanted else { return setting.name.clone() };
            format!("{}={}", setting.name, values.join(","))
        })
        .collect();
    let remedy = if words.is_empty() {
        command("cpu", "")
    } else {
        format!(
            "add {} to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot)",
            words.join(" ")
        )
    };
    Finding::to_do(Check::Isolation, Verdict::Better, told(&unfit), WHY, remedy)
}

fn conntrack(machine: &Machine, question: &Question, filter: &Filter, command: &str) -> Finding {
    const WHY: &str = "an exchange of NTP has no state, and tracking makes an entry for each client in a table that \
        fills up";
    if machine.proc("sys/net/netfilter/nf_conntrack_max").is_none() {
        return Finding::ok(Check::Conntrack, "the kernel tracks no connections", WHY);
    }
    let ports = question.ports();
    match filter.untracked() {
        None => {
            let what = "whether requests are tracked can't be seen: see firewall";
            Finding::to_do(Check::Conntrack, Verdict::Unknown, what, WHY, command)
        }
        Some(untracked) if untracked == ports => {
            Finding::ok(Check::Conntrack, "requests and replies pass untracked", WHY)
        }
        Some(_) => {
            let what = "the kernel can track connections, and NTP isn't exempt";
            Finding::to_do(Check::Conntrack, Verdict::Better, what, WHY, command)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_judged_as_the_scripts_do() {
        let fit = |now: Option<&str>, wanted| {
            Setting { name: "n".to_owned(), wanted, now: now.map(chosen) }.is_fit()
        };
        assert!(fit(Some("4096"), Wanted::Least(4096)) && !fit(Some("4095"), Wanted::Least(4096)));
        assert!(!fit(Some("many"), Wanted::Least(0)));
        assert!(fit(Some("always [madvise] never"), one_of(&["madvise", "never"])));
        assert!(!fit(Some("[always] madvise never"), one_of(&["madvise", "never"])));
        // What this machine hasn't is no fault.
        assert!(fit(None, one_of(&["1"])));
    }

    #[test]
    fn masks_are_the_kernels() {
        assert_eq!(mask_of(&[0]), "1");
        assert_eq!(mask_of(&[2, 3]), "c");
        assert_eq!(mask_of(&[32]), "1,00000000");
        assert_eq!(mask_of(&[0, 40]), "100,00000001");
    }

    #[test]
    fn interrupts_of_queues_are_known_by_their_names() {
        for (name, queue) in [
            ("eth0-TxRx-3", Some(3)),
            ("virtio0-input.0", Some(0)),
            ("mlx5_comp7@pci:0000:01:00.0", Some(7)),
            ("eth0-rx-12", Some(12)),
            ("eth0", None),
            ("eth0-misc-1", None),
            ("", None),
        ] {
            assert_eq!(queue_of(name), queue, "{name}");
        }
    }
}
