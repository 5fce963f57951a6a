//! The two hosts of the rig: network namespaces and a veth pair, with the receive work of each end on a core of our
//! choice.
//!
//! The server has core 0 and the generator core 1. On veth a receiver's softirq runs on the core of the sender unless
//! its NAPI is threaded, so a [`Placement`] says where the requests are received, and the NAPI threads are pinned. GRO
//! gives each end the NAPI that threads and redirected frames need; one queue an end gives it one thread; without
//! `tx off` the replies' checksums would be left to a NIC that isn't there.
//!
//! Nothing here touches the machine's own network, and no process here can touch its clock (`tests/peers/host.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::host::{self, Server, ip, on_host, remove_leftovers, run};

/// Where the server answers (RFC 1918).
pub(crate) const SERVER: &str = "172.29.2.1";
pub(crate) const GENERATOR: &str = "172.29.2.2";
/// The network that the clients' addresses are from (RFC 2544).
pub(crate) const CLIENTS: &str = "198.18.0.0/15";

/// The core of the server and, in [`Placement::ServerCore`], of the thread that receives its requests.
pub(crate) const SERVER_CORE: &str = "0";
/// The core of the generator and of the thread that receives the replies.
pub(crate) const GENERATOR_CORE: &str = "1";

const NAME_PREFIX: &str = "maser-bench-";
/// What else runs on the machine must not decide who is the faster: everything here runs at this priority.
const NICE: &str = "-19";
/// Replies must be stamped when they arrive, not when the generator next sleeps.
const REPLY_PRIORITY: &str = "50";
/// How often moderated replies are looked for: at a million a second some 50 wait, of the 256 that a veth's ring holds.
const MODERATION_NS: u32 = 50_000;
/// And for so many times without any before the next one has to wake the thread again.
const MODERATION_POLLS: u32 = 100;
/// Ethernet's, and one whose packets don't fit the page that a driver gives an XDP program.
const MTU: u32 = 1500;
const MTU_TOO_LARGE: u32 = 9000;
/// A NAPI thread appears after its interface is told to have one.
const THREAD_TRIES_MAX: u32 = 50;

/// Which core receives the requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Placement {
    /// The server's, as with a NIC queue steered to it: its time goes into driver and network stack too.
    ServerCore,
    /// The generator's, as with a NIC queue steered elsewhere: the server's core does the server's own work only.
    GeneratorCore,
}

impl Placement {
    pub(crate) const ALL: [Self; 2] = [Self::ServerCore, Self::GeneratorCore];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ServerCore => "receive on the server's core",
            Self::GeneratorCore => "receive on the generator's core",
        }
    }

    /// Short enough for the table.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::ServerCore => "on the server's core",
            Self::GeneratorCore => "on the generator's",
        }
    }
}

/// Where an XDP program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// In the driver.
    Native,
    /// Behind it.
    Generic,
}

impl Mode {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// How the generator's end takes replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replies {
    /// By a thread of the generator's core, every [`MODERATION_NS`], as a NIC that moderates its interrupts: waking it up for
    /// each reply would take the server's time and the generator's.
    Moderated,
    /// By the same thread at once.
    Threaded,
    /// By the core that sends them, within the server's own call: no wake-up of the rig's stands between a reply's leaving and
    /// its stamp. For latency at low rates, where the time that this takes the server's core doesn't matter, and for stamps.
    Direct,
}

/// Both hosts and a directory for files. Dropping it removes them all.
pub(crate) struct Hosts {
    pub(crate) placement: Placement,
    server: String,
    generator: String,
    /// The generator's interface, and the server's.
    pub(crate) interface: String,
    pub(crate) server_interface: String,
    directory: PathBuf,
    /// The thread that receives the requests, where there is one.
    receiver: Option<u32>,
}

impl Hosts {
    /// Makes the hosts, or says why this machine or this user can't.
    pub(crate) fn new(placement: Placement) -> Result<Self, String> {
        let mut hosts = Self::with(placement, u8::from(placement == Placement::GeneratorCore))?;
        hosts.connect(1)?;
        hosts.place()?;
        Ok(hosts)
    }

    /// Hosts with so many queues an end, whose receive work runs wherever it is sent from: for who gets what, not for
    /// how fast. The clients' network is the generator's own.
    pub(crate) fn with_queues(queues: u32) -> Result<Self, String> {
        let hosts = Self::with(Placement::GeneratorCore, 2)?;
        hosts.connect(queues)?;
        ip(&format!("-n {} route add local {CLIENTS} dev lo", hosts.generator))?;
        Ok(hosts)
    }

    fn with(placement: Placement, digit: u8) -> Result<Self, String> {
        remove_leftovers(NAME_PREFIX)?;
        let process = std::process::id();
        let name = format!("{NAME_PREFIX}{process}-{digit}");
        // Threads of the kernel are found by the name of their interface, which must be unique and short.
        let interface = format!("mg{process}{digit}");
        let hosts = Self {
            placement,
            server: format!("{name}-server"),
            generator: format!("{name}-generator"),
            interface,
            server_interface: format!("ms{process}{digit}"),
            directory: std::env::temp_dir().join(&name),
            receiver: None,
        };
        fs::create_dir_all(&hosts.directory).map_err(|error| error.to_string())?;
        Ok(hosts)
    }

    fn connect(&self, queues: u32) -> Result<(), String> {
        let Self { server, generator, interface: generator_end, server_interface: server_end, .. } = self;
        ip(&format!("netns add {server}"))?;
        ip(&format!("netns add {generator}"))?;
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
        ip(&format!(
            "-n {server} link add {server_end} {queues} type veth peer name {generator_end} {queues} netns {generator}"
        ))?;
        let ends = [(server, server_end, SERVER, "01"), (generator, generator_end, GENERATOR, "02")];
        for (host, end, address, mac) in ends {
            // No router solicitation, no address resolution: the requests and the replies are all that is on the wire.
            in_namespace(host, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")?;
            in_namespace(host, &format!("ethtool -K {end} tx off gro on"))?;
            ip(&format!("-n {host} link set {end} address 02:00:00:00:00:{mac}"))?;
            ip(&format!("-n {host} address add {address}/24 dev {end}"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} link set {end} up"))?;
        }
        for (host, end, peer, mac) in
            [(server, server_end, GENERATOR, "02"), (generator, generator_end, SERVER, "01")]
        {
            ip(&format!(
                "-n {host} neigh replace {peer} lladdr 02:00:00:00:00:{mac} nud permanent dev {end}"
            ))?;
        }
        ip(&format!("-n {server} route add {CLIENTS} via {GENERATOR}")).map(drop)
    }

    /// Puts the receive work of both ends where the placement says.
    fn place(&mut self) -> Result<(), String> {
        self.place_reply_thread()?;
        if self.placement == Placement::ServerCore {
            let requests = thread_of(&self.server, &self.server_interface)?;
            run(Command::new("taskset").args(["-pc", SERVER_CORE, &requests.to_string()]))?;
            // As the server itself, so that they share the core evenly.
            run(Command::new("renice").args(["-n", NICE, "-p", &requests.to_string()]))?;
            self.receiver = Some(requests);
        }
        Ok(())
    }

    /// Sets how the generator's end takes replies.
    pub(crate) fn take_replies(&self, how: Replies) -> Result<(), String> {
        let (polls, pause_ns) =
            if how == Replies::Moderated { (MODERATION_POLLS, MODERATION_NS) } else { (0, 0) };
        let settings = format!("/sys/class/net/{}", self.interface);
        let threaded = u8::from(how != Replies::Direct);
        let script = format!(
            "echo {polls} > {settings}/napi_defer_hard_irqs && echo {pause_ns} > {settings}/gro_flush_timeout &&
             echo {threaded} > {settings}/threaded"
        );
        in_namespace(&self.generator, &script)?;
        if how != Replies::Direct { self.place_reply_thread() } else { Ok(()) }
    }

    /// Has requests received as a NIC's interrupts do: moderated, and taking the core from the server at once, however long it
    /// has computed. Else the thread that receives waits for the server's turn to end, some milliseconds, while a veth's ring
    /// holds 256. For as long as the hosts are there.
    pub(crate) fn interrupt(&self) -> Result<(), String> {
        let settings = format!("/sys/class/net/{}", self.server_interface);
        let script = format!(
            "echo {MODERATION_POLLS} > {settings}/napi_defer_hard_irqs &&
             echo {MODERATION_NS} > {settings}/gro_flush_timeout"
        );
        in_namespace(&self.server, &script)?;
        self.receiver.ok_or("there is no thread that receives requests")?;
        self.receive_at_once(true)
    }

    /// Has the thread that receives requests take the core from the server at once, as a NIC's interrupt does, or share it evenly,
    /// as interrupts do when there is more to receive than there is time for (ksoftirqd).
    pub(crate) fn receive_at_once(&self, at_once: bool) -> Result<(), String> {
        let Some(thread) = self.receiver else { return Ok(()) };
        let (policy, priority) = if at_once { ("-f", REPLY_PRIORITY) } else { ("-o", "0") };
        run(Command::new("chrt").args([policy, "-p", priority, &thread.to_string()])).map(drop)
    }

    /// Has both ends take packets as they are sent, without a NAPI between (an XDP program on one brings its own): what a
    /// stamp is late by is then its maker's doing, not the rig's. For as long as the hosts are there.
    pub(crate) fn take_at_once(&self) -> Result<(), String> {
        self.take_replies(Replies::Direct)?;
        for (host, end) in [(&self.server, &self.server_interface), (&self.generator, &self.interface)] {
            in_namespace(host, &format!("ethtool -K {end} gro off"))?;
        }
        Ok(())
    }

    /// Has the server's interface take XDP programs in its driver, or refuse them there: a veth does when its peer may send
    /// what its driver couldn't pass to one.
    pub(crate) fn allow_native(&self, is_allowed: bool) -> Result<(), String> {
        let octets = if is_allowed { MTU } else { MTU_TOO_LARGE };
        ip(&format!("-n {} link set {} mtu {octets}", self.generator, self.interface)).map(drop)
    }

    /// Where the program on the server's interface runs, if there is one.
    pub(crate) fn mode(&self) -> Result<Option<Mode>, String> {
        let shown = ip(&format!("-n {} link show dev {}", self.server, self.server_interface))?;
        let is = |word: &str| shown.split_whitespace().any(|shown| shown == word);
        Ok(if is("xdp") { Some(Mode::Native) } else { is("xdpgeneric").then_some(Mode::Generic) })
    }

    /// The thread that takes the replies is new each time that its interface is told to have one.
    fn place_reply_thread(&self) -> Result<(), String> {
        let replies = thread_of(&self.generator, &self.interface)?;
        run(Command::new("taskset").args(["-pc", GENERATOR_CORE, &replies.to_string()]))?;
        run(Command::new("chrt").args(["-f", "-p", REPLY_PRIORITY, &replies.to_string()])).map(drop)
    }

    /// For the files of servers and measurements.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a server on its core.
    pub(crate) fn serve(&self, command: &[&str]) -> Result<Server, String> {
        Server::start(&self.server, &pinned(SERVER_CORE, command), self.directory.join("server.log"))
    }

    /// Starts a server that places its threads itself.
    pub(crate) fn serve_unpinned(&self, command: &[&str]) -> Result<Server, String> {
        Server::start(&self.server, command, self.directory.join("server.log"))
    }

    /// What a short command on the server's host prints.
    pub(crate) fn on_server(&self, command: &[&str]) -> Result<String, String> {
        run(&mut on_host(&self.server, command))
    }

    /// Runs a command on the generator's core to its end, or kills it.
    pub(crate) fn generate(&self, command: &[&str], patience: Duration) -> Result<(), String> {
        self.generate_into(command, patience, Path::new("/dev/null"))
    }

    /// The same with its standard output in a file.
    pub(crate) fn generate_into(
        &self,
        command: &[&str],
        patience: Duration,
        output: &Path,
    ) -> Result<(), String> {
        let errors = self.directory.join("generator.log");
        let mut process = on_host(&self.generator, &pinned(GENERATOR_CORE, command))
            .stdin(std::process::Stdio::null())
            .stdout(fs::File::create(output).map_err(|error| error.to_string())?)
            .stderr(fs::File::create(&errors).map_err(|error| error.to_string())?)
            .spawn()
            .map_err(|error| format!("{}: {error}", command.join(" ")))?;
        let deadline = host::deadline_after(patience);
        let failure = loop {
            match process.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => break status.to_string(),
                None if host::time_left(deadline).is_zero() => break format!("no end after {patience:?}"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        host::end(&mut process);
        let said = fs::read_to_string(&errors).unwrap_or_default();
        Err(format!("{}: {failure}; it said:\n{said}", command.join(" ")))
    }

    /// Frames that the server's interface has received, and those that the generator's dropped since that was full.
    pub(crate) fn received_and_dropped(&self) -> Result<(u64, u64), String> {
        let counter = |host: &str, interface: &str, name: &str| {
            let read = format!("cat /sys/class/net/{interface}/statistics/{name}");
            in_namespace(host, &read)?.trim().parse::<u64>().map_err(|error| format!("{read}: {error}"))
        };
        let received = counter(&self.server, &self.server_interface, "rx_packets")?;
        Ok((received, counter(&self.generator, &self.interface, "tx_dropped")?))
    }

    /// Has the server send what is for a network to the generator, which clients with its addresses are behind.
    pub(crate) fn route(&self, network: &str) -> Result<(), String> {
        ip(&format!("-n {} route replace {network} via {GENERATOR}", self.server)).map(drop)
    }

    /// Pages of memory that the processes of a server hold.
    pub(crate) fn pages(&self, server: &Server) -> u64 {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|process| process.path());
        let own = processes.filter(|process| session_of(process) == Some(server.id()));
        let texts = own.filter_map(|process| fs::read_to_string(process.join("statm")).ok());
        texts.filter_map(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    }

    /// Nanoseconds that the threads of a server's processes, and the thread that receives for it, have had of a core.
    pub(crate) fn busy_ns(&self, server: &Server) -> u64 {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let own = processes.filter(|process| session_of(&process.path()) == Some(server.id()));
        let tasks = own.flat_map(|process| fs::read_dir(process.path().join("task"))).flatten().flatten();
        let of_server: u64 = tasks.map(|task| run_time_ns(&task.path())).sum();
        of_server + self.receiver.map_or(0, |thread| run_time_ns(&PathBuf::from(format!("/proc/{thread}"))))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [&self.server, &self.generator] {
            // Hosts that were only half made have nothing to remove.
            let _ = ip(&format!("netns delete {host}"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The command on one core and ahead of everything else on the machine. With autogroups the kernel weighs sessions, not
/// processes, so it gets a session of its own, with that priority.
fn pinned<'a>(core: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    const START: &str = "priority=$1 core=$2; shift 2
        [ ! -e /proc/self/autogroup ] || echo $priority > /proc/self/autogroup
        exec nice -n $priority taskset -c $core \"$@\"";
    [&["setsid", "sh", "-c", START, "sh", NICE, core], command].concat()
}

/// Gives the interface a NAPI thread and finds it.
fn thread_of(host: &str, interface: &str) -> Result<u32, String> {
    in_namespace(host, &format!("echo 1 > /sys/class/net/{interface}/threaded"))?;
    let wanted = format!("napi/{interface}-");
    for _ in 0..THREAD_TRIES_MAX {
        let processes = fs::read_dir("/proc").map_err(|error| error.to_string())?;
        for process in processes.flatten() {
            let is_it = fs::read_to_string(process.path().join("comm"))
                .is_ok_and(|name| name.trim_end().starts_with(&wanted));
            if is_it && let Ok(number) = process.file_name().to_string_lossy().parse() {
                return Ok(number);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(format!("no thread {wanted}… appeared: this kernel has no threaded NAPI (5.12 or newer is needed)"))
}

fn in_namespace(host: &str, script: &str) -> Result<String, String> {
    run(Command::new("ip").args(["netns", "exec", host, "sh", "-c", script]))
}

/// The session of a process; a server's has the number of the process that was started ([`pinned`]), also where that
/// has started others.
fn session_of(process: &Path) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // Behind the name, which may hold anything: state, parent, process group, session.
    stat.rsplit_once(')')?.1.split_whitespace().nth(3)?.parse().ok()
}

/// The first figure of `schedstat`; nothing of a thread that has ended.
fn run_time_ns(task: &Path) -> u64 {
    let figures = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    figures.split_whitespace().next().and_then(|figure| figure.parse().ok()).unwrap_or(0)
}
