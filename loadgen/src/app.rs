//! What each command does: checks what was asked, runs it, and writes the results where they were asked for.

use crate::attack;
use crate::cli::{AttackArguments, Cli, Command, Common, CompareArguments, FixedArguments, Output};
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
    /// Without a network, clients are ports.
    #[error(
        "{0} clients need addresses of their own: give them a network with --from; without, there are up to 16 ports"
    )]
    Ports(u32),
    /// The closed loop is for the senders that see each reply.
    #[error(
        "--closed-loop needs --sender udp or packet: the sender inside the kernel doesn't wait for replies"
    )]
    ClosedLoop,
    /// No core can be had.
    #[error("no core can be found to send from; name one with --cores")]
    Cores,
    /// An attack has failed.
    #[error(transparent)]
    Attack(#[from] attack::AttackError),
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
        Command::Attack(arguments) => return attack(&arguments, stop),
        Command::Fixed(FixedArguments { common, rate, time, closed_loop }) => {
            (common, Plan::Fixed(Step { rate_per_s: rate, duration: time, by_second: false }), closed_loop)
        }
        Command::Soak(FixedArguments { common, rate, time, closed_loop }) => {
            (common, Plan::Soak(Step { rate_per_s: rate, duration: time, by_second: true }), closed_loop)
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
    let files = Files::create(&common.output)?;
    let mut session = Session::open(setting.clone(), Arc::clone(stop))?;
    let mut screen = Screen::new(&common.output);
    screen.begin();
    let done = modes::run(&plan, &mut session, stop, &mut screen);
    let coverage = session.coverage();
    let closed = session.close();
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
            interleaving_clients: setting.clients.interleaving(),
            threads: setting.cores.len(),
            coverage,
            closed_loop,
        },
        result: done.result.clone(),
        steps: done.steps.clone(),
        knees: done.knees.clone(),
    };
    screen.end(&document);
    // What was measured is written, whatever ended the run.
    files.write(&common.output, &document, &done)?;
    done.error.map_or(closed, Err).map_err(Into::into)
}

fn compare_runs(arguments: &CompareArguments) -> Result<(), AppError> {
    let (a, b) = (compare::load(&arguments.a)?, compare::load(&arguments.b)?);
    let names = [&arguments.a, &arguments.b].map(|path| path.display().to_string());
    let text = compare::compare((&names[0], &a), (&names[1], &b))?;
    print(&text)
}

/// Attacks, and writes what came of it.
fn attack(arguments: &AttackArguments, stop: &Arc<AtomicBool>) -> Result<(), AppError> {
    let output = Output { json: arguments.json.clone(), quiet: arguments.quiet, ..Output::default() };
    // Made before the run, as other results are.
    let files = Files::create(&output)?;
    let document = attack::run(arguments, stop)?;
    Screen::new(&output).line(attack::report::table(&document).trim_end());
    let json = serde_json::to_string_pretty(&document).expect("plain data is JSON") + "\n";
    if let Some((path, mut file)) = files.json {
        let refused = |error| AppError::Write { path: path.display().to_string(), error };
        file.write_all(json.as_bytes()).map_err(refused)?;
    }
    if output.json.as_deref() == Some(Path::new("-")) { print(&json) } else { Ok(()) }
}

fn setting(common: &Common, plan: &Plan, closed_loop: bool) -> Result<Setting, AppError> {
    use crate::session::SenderName;
    let target = target::resolve(&common.target, common.i_operate_this_target)?;
    if let Some(clients) = common.clients.filter(|clients| *clients > CLIENTS_BY_PORT)
        && common.from.is_none()
    {
        return Err(AppError::Ports(clients));
    }
    let count = common.clients.unwrap_or_else(|| match &common.from {
        None => CLIENTS_BY_PORT,
        Some(prefix) => {
            u32::try_from(prefix.capacity()).map_or(CLIENTS_BY_ADDRESS, |all| all.min(CLIENTS_BY_ADDRESS))
        }
    });
    let clients = Clients::new(common.from, count)?.with_interleaving(common.interleaved);
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
            // What goes on in a second is the first line; what went wrong is told with the step.
            let row = table::row(second);
            let _ = write!(io::stderr(), "\r{}\r", row.lines().next().unwrap_or_default());
        }
    }

    fn step(&mut self, step: &Summary) {
        self.line(table::row(step).trim_end());
    }
}

/// The files of the results, made before the run so that an hour's work doesn't end at a directory that isn't there.
struct Files {
    json: Option<(PathBuf, fs::File)>,
    hgrm: Option<(PathBuf, fs::File)>,
    svg: Option<(PathBuf, fs::File)>,
}

impl Files {
    fn create(output: &Output) -> Result<Self, AppError> {
        let create = |path: &Option<PathBuf>| {
            let Some(path) = path.as_ref().filter(|path| path.as_os_str() != "-") else { return Ok(None) };
            let refused = |error| AppError::Write { path: path.display().to_string(), error };
            fs::File::create(path).map(|file| Some((path.clone(), file))).map_err(refused)
        };
        Ok(Self { json: create(&output.json)?, hgrm: create(&output.hgrm)?, svg: create(&output.svg)? })
    }

    /// Writes each, whatever becomes of the others; the first error.
    fn write(self, output: &Output, document: &Document, done: &Done) -> Result<(), AppError> {
        let write = |file: Option<(PathBuf, fs::File)>, text: &dyn Fn() -> String| {
            let Some((path, mut file)) = file else { return Ok(()) };
            let refused = |error| AppError::Write { path: path.display().to_string(), error };
            file.write_all(text().as_bytes()).map_err(refused)
        };
        let json = || serde_json::to_string_pretty(document).expect("plain data is JSON") + "\n";
        let mut written = write(self.json, &json);
        written = written.and(write(self.hgrm, &|| hgrm::text(&done.latency_ns, hgrm::MICROSECOND_NS)));
        written = written.and(write(self.svg, &|| svg::svg(&[(&document.setting.target, document)])));
        if output.json.as_deref() == Some(Path::new("-")) {
            written = written.and(print(&json()));
        }
        if output.plot {
            let width = terminal_size::terminal_size().map_or(PLOT_WIDTH, |(width, _)| width.0);
            written = written.and(print(&plot::plot(document, width)));
        }
        written
    }
}

fn print(text: &str) -> Result<(), AppError> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| AppError::Write { path: "the standard output".to_owned(), error })
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
