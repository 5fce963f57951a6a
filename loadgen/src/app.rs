//! What each command does: checks what was asked, runs it, and writes the results where they were asked for.

use crate::cli::{Cli, Command, Common, CompareArguments, FixedArguments, Output};
use crate::clients::{Clients, ClientsError};
use crate::modes::{self, Done, Plan, Watcher};
use crate::report::{compare, hgrm, plot, svg, table};
use crate::session::{Session, SessionError, Setting, Step};
use crate::summary::{self, Document, FORMAT, Summary};
use crate::target::{self, TargetError};
use maser_sys::kernel_clock::{KernelClock, read};
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

/// Clients that are simulated unless told: ports of one address, or addresses of a prefix.
const CLIENTS_BY_PORT: u32 = 16;
const CLIENTS_BY_ADDRESS: u32 = 10_000;
/// The width of a plot where the terminal doesn't say.
const PLOT_WIDTH: u16 = 80;

/// Why a command came to nothing; its text is for the operator.
#[derive(Debug, Error)]
pub enum AppError {
    /// That server may not be asked, or isn't found.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There can't be such clients.
    #[error(transparent)]
    Clients(#[from] ClientsError),
    /// The clients' network is of another family than the server.
    #[error("--from {from} and the server {target} aren't of one address family")]
    Family {
        /// The network.
        from: String,
        /// The server.
        target: String,
    },
    /// The closed loop is for the senders that see each reply.
    #[error(
        "--closed-loop needs --sender udp or packet: the sender inside the kernel doesn't wait for replies"
    )]
    ClosedLoop,
    /// No core can be had.
    #[error("no core can be found to send from; name one with --cores")]
    Cores,
    /// The run has failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A run can't be compared.
    #[error(transparent)]
    Compare(#[from] compare::CompareError),
    /// A result can't be written.
    #[error("{path}: can't be written: {error}")]
    Write {
        /// Where to.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// Carries a command out; `stop` ends a run before its time, with what was measured until then.
///
/// # Errors
/// What is in the way, and what to do about it.
pub fn execute(cli: Cli, stop: &Arc<AtomicBool>) -> Result<(), AppError> {
    let (common, plan, closed_loop) = match cli.command {
        Command::Compare(arguments) => return compare_runs(&arguments),
        Command::Fixed(FixedArguments { common, rate, time, closed_loop }) => {
            (common, Plan::Fixed(Step { rate_per_s: rate, duration: time }), closed_loop)
        }
        Command::Soak(FixedArguments { common, rate, time, closed_loop }) => {
            (common, Plan::Soak(Step { rate_per_s: rate, duration: time }), closed_loop)
        }
        Command::Ladder(arguments) => {
            (arguments.common, Plan::Ladder(arguments.rates, arguments.time), false)
        }
        Command::Knee(arguments) => {
            let (rate_min, rate_max) = (arguments.rate_min, arguments.rate_max.max(arguments.rate_min));
            let plan = Plan::Knee { losses: arguments.loss, rate_min, rate_max, time: arguments.time };
            (arguments.common, plan, false)
        }
    };
    let setting = setting(&common, &plan, closed_loop)?;
    let begun_unix_s = read(KernelClock::Realtime) / 1_000_000_000;
    let mut session = Session::open(setting.clone(), Arc::clone(stop))?;
    let mut screen = Screen::new(&common.output);
    screen.begin();
    let done = modes::run(&plan, &mut session, stop, &mut screen)?;
    let coverage = session.coverage();
    session.close()?;
    let document = Document {
        format: FORMAT,
        program: format!("maser-load {}", env!("CARGO_PKG_VERSION")),
        command: std::env::args().skip(1).collect(),
        begun_unix_s,
        kernel: kernel_release(),
        interrupted: stop.load(Ordering::Relaxed),
        setting: summary::Setting {
            mode: plan.word().to_owned(),
            target: setting.target.to_string(),
            sender: setting.sender.word().to_owned(),
            mix: setting.mix.name().to_owned(),
            threads: setting.cores.len(),
            coverage,
            closed_loop,
        },
        result: done.result.clone(),
        steps: done.steps.clone(),
        knees: done.knees.clone(),
    };
    screen.end(&document);
    write_results(&common.output, &document, &done)
}

fn compare_runs(arguments: &CompareArguments) -> Result<(), AppError> {
    let (a, b) = (compare::load(&arguments.a)?, compare::load(&arguments.b)?);
    let names = [&arguments.a, &arguments.b].map(|path| path.display().to_string());
    let text = compare::compare((&names[0], &a), (&names[1], &b))?;
    print(&text)
}

fn setting(common: &Common, plan: &Plan, closed_loop: bool) -> Result<Setting, AppError> {
    use crate::session::SenderName;
    let target = target::resolve(&common.target, common.i_operate_this_target)?;
    let count = common.clients.unwrap_or_else(|| match &common.from {
        None => CLIENTS_BY_PORT,
        Some(prefix) => {
            u32::try_from(prefix.capacity()).map_or(CLIENTS_BY_ADDRESS, |all| all.min(CLIENTS_BY_ADDRESS))
        }
    });
    let clients = Clients::new(common.from, count)?;
    if let (Some(address), Some(from)) = (clients.address(0), &common.from)
        && address.is_ipv4() != target.is_ipv4()
    {
        return Err(AppError::Family { from: from.to_string(), target: target.to_string() });
    }
    if closed_loop && common.sender == SenderName::Live {
        return Err(AppError::ClosedLoop);
    }
    let cores = match &common.cores {
        Some(cores) => cores.0.clone(),
        None => {
            vec![core_affinity::get_core_ids().and_then(|ids| ids.last().copied()).ok_or(AppError::Cores)?.id]
        }
    };
    Ok(Setting {
        target,
        sender: common.sender,
        mix: common.mix,
        key: common.key.clone(),
        clients,
        cores,
        echo: common.expect == "echo",
        closed_loop,
        stamps_per_s: common.stamps,
        timeout: common.timeout,
        rate_per_s_max: plan.rate_max(),
        seed: common.seed.unwrap_or_else(|| RandomState::new().hash_one("maser-load")),
    })
}

/// The table on the standard output, and progress on the standard error.
struct Screen {
    table: bool,
    to_stderr: bool,
    live_line: bool,
}

impl Screen {
    fn new(output: &Output) -> Self {
        let to_stderr = output.json.as_deref() == Some(Path::new("-"));
        Self { table: !output.quiet, to_stderr, live_line: !output.quiet && io::stderr().is_terminal() }
    }

    fn line(&self, text: &str) {
        if self.table {
            // A closed output is found out by the results, which matter.
            let _ = if self.to_stderr {
                writeln!(io::stderr(), "{text}")
            } else {
                writeln!(io::stdout(), "{text}")
            };
        }
    }

    fn begin(&self) {
        self.line(table::header().trim_end());
    }

    fn end(&self, document: &Document) {
        self.line(table::footer(document).trim_end());
    }
}

impl Watcher for Screen {
    fn second(&mut self, second: &Summary) {
        if self.live_line {
            let _ = write!(io::stderr(), "\r{}\r", table::row(second).trim_end());
        }
    }

    fn step(&mut self, step: &Summary) {
        self.line(table::row(step).trim_end());
    }
}

fn write_results(output: &Output, document: &Document, done: &Done) -> Result<(), AppError> {
    if let Some(path) = &output.json {
        let text = serde_json::to_string_pretty(document).expect("plain data is JSON") + "\n";
        if path == Path::new("-") { print(&text)? } else { write_file(path, &text)? }
    }
    if let Some(path) = &output.hgrm {
        write_file(path, &hgrm::text(&done.whole.latency_ns, 1e3))?;
    }
    if let Some(path) = &output.svg {
        write_file(path, &svg::svg(&[(&document.setting.target, document)]))?;
    }
    if output.plot {
        let width = terminal_size::terminal_size().map_or(PLOT_WIDTH, |(width, _)| width.0);
        print(&plot::plot(document, width))?;
    }
    Ok(())
}

fn print(text: &str) -> Result<(), AppError> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| AppError::Write { path: "the standard output".to_owned(), error })
}

fn write_file(path: &PathBuf, text: &str) -> Result<(), AppError> {
    fs::write(path, text).map_err(|error| AppError::Write { path: path.display().to_string(), error })
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
