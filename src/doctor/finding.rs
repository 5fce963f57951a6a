//! What the doctor found: verdicts, their order, and how they are told to people and to programs.

use serde::Serialize;
use std::fmt::{self, Write as _};

/// How a check came out, the worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The server won't start, or clients get nothing, or the wrong time.
    Broken,
    /// It works, and costs accuracy or safety that can be had.
    Should,
    /// It would be a little better.
    Better,
    /// It couldn't be looked at.
    Unknown,
    /// Nothing is to be done.
    Ok,
}

impl Verdict {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Broken, Self::Should, Self::Better, Self::Unknown, Self::Ok];

    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Should => "should be done",
            Self::Better => "could be better",
            Self::Unknown => "couldn't look",
            Self::Ok => "ok",
        }
    }
}

macro_rules! checks {
    ($($check:ident $name:literal $about:literal,)*) => {
        /// What is checked, in the order of how much it matters: what keeps clients from being answered first, then
        /// what makes the time wrong, then microseconds, then what only helps under load.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Check { $(#[doc = $about] $check,)* }

        impl Check {
            /// All, in order.
            pub const ALL: &[Self] = &[$(Self::$check,)*];

            /// The name that documents and programs know.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$check => $name,)* }
            }
        }
    };
}

checks! {
    Port "port" "whether somebody else has the port",
    Firewall "firewall" "whether a packet filter drops requests or replies",
    Rights "rights" "what this process may do",
    Source "source" "each configured source",
    TimeOfDay "time-of-day" "whether the machine's clock can be right",
    Daemons "daemons" "who else sets the clock",
    LeapFile "leap-file" "the list of leap seconds",
    State "state" "where the state is kept",
    Pps "pps" "pulse devices, and whether they pulse",
    Phc "phc" "NICs' clocks",
    Interface "interface" "whether requests can be taken from an interface",
    Offloads "offloads" "what a NIC does to packets",
    NicStamps "nic-stamps" "whether a NIC stamps packets",
    Xdp "xdp" "where the XDP program can run",
    ZeroCopy "zero-copy" "whether packets needn't be copied",
    Queues "queues" "as many queues as cores",
    Rings "rings" "how many packets a queue holds",
    Coalescing "coalescing" "whether interrupts are held back",
    Rss "rss" "by what the queue is chosen",
    Affinity "affinity" "which cores take interrupts",
    Clocksource "clocksource" "what the kernel's clock counts by",
    Tsc "tsc" "whether the TSC runs evenly",
    Conntrack "conntrack" "whether requests are tracked",
    Sockets "sockets" "socket buffers and backlog",
    Polling "polling" "busy polling",
    Cpu "cpu" "sleep and frequency of the cores",
    Isolation "isolation" "cores of maser's own",
    Hugepages "hugepages" "huge pages",
    Kernel "kernel" "what the kernel's version has",
    Memlock "memlock" "how much memory may be locked",
    Bypass "bypass" "what AF_XDP goes past",
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Which check's.
    #[serde(serialize_with = "by_name")]
    pub check: Check,
    /// Of what: an interface, a source, a device; empty where there is but one.
    pub subject: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What is, in a sentence.
    pub what: String,
    /// Why that matters here.
    pub why: String,
    /// What to do; none where nothing is.
    #[serde(rename = "do")]
    pub remedy: Option<String>,
}

fn by_name<S: serde::Serializer>(check: &Check, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(check.name())
}

impl Finding {
    /// Nothing to do.
    pub(super) fn ok(check: Check, what: impl Into<String>, why: &str) -> Self {
        Self {
            check,
            subject: String::new(),
            verdict: Verdict::Ok,
            what: what.into(),
            why: why.to_owned(),
            remedy: None,
        }
    }

    /// Something to do.
    pub(super) fn to_do(
        check: Check,
        verdict: Verdict,
        what: impl Into<String>,
        why: &str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict, remedy: Some(remedy.into()), ..Self::ok(check, what, why) }
    }

    /// Of this.
    pub(super) fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), ..self }
    }
}

/// Everything that was found, by benefit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    findings: Vec<Finding>,
}

/// The report as programs get it.
#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    exit_status: u8,
    counts: Counts,
    findings: &'a [Finding],
}

/// Findings of each verdict.
#[derive(Serialize)]
struct Counts {
    broken: usize,
    should: usize,
    better: usize,
    unknown: usize,
    ok: usize,
}

impl Report {
    /// Puts findings in order: the worst first, and of the same verdict what matters more.
    #[must_use]
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| (a.verdict, a.check, &a.subject).cmp(&(b.verdict, b.check, &b.subject)));
        Self { findings }
    }

    /// In order.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many came out so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// 1 if something should be done, else 2 if something couldn't be looked at, else 0. What could be better is no
    /// reason to stop anybody.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        if self.count(Verdict::Broken) + self.count(Verdict::Should) > 0 {
            1
        } else if self.count(Verdict::Unknown) > 0 {
            2
        } else {
            0
        }
    }

    /// For programs: a document of one line.
    ///
    /// # Errors
    /// None that can come.
    pub fn json(&self) -> serde_json::Result<String> {
        let count = |verdict| self.count(verdict);
        serde_json::to_string(&Document {
            version: env!("CARGO_PKG_VERSION"),
            exit_status: self.exit_status(),
            counts: Counts {
                broken: count(Verdict::Broken),
                should: count(Verdict::Should),
                better: count(Verdict::Better),
                unknown: count(Verdict::Unknown),
                ok: count(Verdict::Ok),
            },
            findings: &self.findings,
        })
    }
}

/// Text from elsewhere without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// For people: a line of verdict each, why, and what to do; at the end a count.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let Finding { check, subject, verdict, what, why, remedy } = finding;
            let mut name = check.name().to_owned();
            if !subject.is_empty() {
                write!(name, " {}", printable(subject))?;
            }
            writeln!(f, "{:<16} {name}: {}", verdict.words(), printable(what))?;
            if *verdict != Verdict::Ok {
                writeln!(f, "{:<16}   {}", "", printable(why))?;
            }
            if let Some(remedy) = remedy {
                writeln!(f, "{:<16}   do: {}", "", printable(remedy))?;
            }
        }
        let counts = Verdict::ALL.map(|verdict| format!("{} {}", self.count(verdict), verdict.words()));
        writeln!(f, "{} findings: {}", self.findings.len(), counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: Check, verdict: Verdict) -> Finding {
        Finding::to_do(check, verdict, "what\x1b is", "why", "command")
    }

    #[test]
    fn the_worst_is_first_and_then_what_matters_more() {
        let report = Report::new(vec![
            finding(Check::Cpu, Verdict::Ok),
            finding(Check::Hugepages, Verdict::Should),
            finding(Check::LeapFile, Verdict::Should),
            finding(Check::Bypass, Verdict::Broken),
        ]);
        let order: Vec<_> = report.findings().iter().map(|finding| finding.check.name()).collect();
        assert_eq!(order, ["bypass", "leap-file", "hugepages", "cpu"]);
        let text = report.to_string();
        assert!(text.starts_with("broken           bypass: what? is\n"), "{text}");
        assert!(text.contains("                   do: command\n"), "{text}");
        assert!(
            text.ends_with(
                "4 findings: 1 broken, 2 should be done, 0 could be better, 0 couldn't look, 1 ok\n"
            )
        );
    }

    #[test]
    fn the_exit_status_is_for_automation() {
        let of = |verdicts: &[Verdict]| {
            Report::new(verdicts.iter().map(|verdict| finding(Check::Port, *verdict)).collect()).exit_status()
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[Verdict::Ok, Verdict::Better]), 0);
        assert_eq!(of(&[Verdict::Ok, Verdict::Unknown]), 2);
        assert_eq!(of(&[Verdict::Unknown, Verdict::Should]), 1);
        assert_eq!(of(&[Verdict::Broken]), 1);
    }

    #[test]
    fn every_check_is_documented() {
        let text = include_str!("../../docs/doctor.md");
        let (checks, _) = text.split_once("## The document").unwrap();
        let rows: Vec<_> = checks.lines().filter_map(|line| line.strip_prefix("| `")).collect();
        let named: Vec<_> = rows.iter().filter_map(|row| row.split('`').next()).collect();
        let checks: Vec<_> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(named, checks, "docs/doctor.md has a row for each check, in their order");
    }
}
