//! Two hosts and a wire between them: a server on one, honest clients and a flood on the other.
//!
//! The hosts are network namespaces without a way out. Their own addresses are private ones, so that no server takes them for
//! nobody's (RFC 6890). Whatever the clients' networks are, the server's host sends what is for them down the wire.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::load::{document, faulty, maser_load};
use crate::maser::{READY_LIMIT, Server, Setting, serving_process, text};
use crate::peers::host::{Output, deadline_after, end, ip, on_host, remove_leftovers, run};
use crate::peers::skip;

pub(crate) const INTERFACE: &str = "eth0";
const NAME_PREFIX: &str = "maser-abuse-";
/// Of the client's host; the server has 1 in the place of 2.
const CLIENT_V4: &str = "172.31.0.2";
const CLIENT_V6: &str = "fd00:2::2";
/// The networks of maser-load's honest clients and floods, and of what is denied in these tests.
const NETWORKS: [&str; 3] = ["198.18.0.0/15", "10.0.0.0/8", "fd00:1::/32"];
pub(crate) const DENIED: &str = "10.66.0.0/16";

static RIGS: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

/// How maser takes packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Port {
    Socket,
    AfXdp,
}

/// The two namespaces and a directory. Dropping it removes them.
pub(crate) struct Rig {
    server: String,
    client: String,
    directory: PathBuf,
    pub(crate) family: Family,
}

impl Rig {
    /// Makes the hosts, or says loudly that this machine or this user can't.
    pub(crate) fn or_skip(name: &str, family: Family) -> Option<Self> {
        Self::new(family).inspect_err(|reason| skip(name, reason)).ok()
    }

    fn new(family: Family) -> Result<Self, String> {
        if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            return Err("network namespaces and XDP programs take root".to_owned());
        }
        remove_leftovers(NAME_PREFIX)?;
        let number = RIGS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME_PREFIX}{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        let rig =
            Self { server: format!("{name}-server"), client: format!("{name}-client"), directory, family };
        fs::create_dir_all(&rig.directory).map_err(|error| error.to_string())?;
        let Self { server, client, .. } = &rig;
        ip(&format!("netns add {server}"))?;
        ip(&format!("netns add {client}"))?;
        ip(&format!("-n {server} link add {INTERFACE} type veth peer name {INTERFACE} netns {client}"))?;
        for (host, end) in [(server, 1), (client, 2)] {
            ip(&format!("-n {host} address add 172.31.0.{end}/24 dev {INTERFACE}"))?;
            ip(&format!("-n {host} address add fd00:2::{end}/64 dev {INTERFACE} nodad"))?;
            // Frames as they would be on a wire, and a NAPI that takes redirected ones.
            let whole =
                ["ethtool", "-K", INTERFACE, "tx", "off", "txvlan", "off", "rxvlan", "off", "gro", "on"];
            run(&mut on_host(host, &whole))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} link set {INTERFACE} up"))?;
        }
        for network in NETWORKS {
            let via = if network.contains(':') { CLIENT_V6 } else { CLIENT_V4 };
            ip(&format!("-n {server} route add {network} via {via}"))?;
        }
        Ok(rig)
    }

    pub(crate) fn address(&self) -> &'static str {
        match self.family {
            Family::V4 => "172.31.0.1",
            Family::V6 => "[fd00:2::1]",
        }
    }

    /// `maser serve` on its host with these workers and these lines in its configuration.
    pub(crate) fn maser(&self, port: Port, workers: &str, limits: &str) -> Server {
        let configuration = self.directory.join("maser.toml");
        let lines = format!("[[source]]\ntype = \"machine\"\nstratum = 1\n[local]\nstratum = 10\n{limits}");
        fs::write(&configuration, lines).unwrap();
        let way: &[&str] = match port {
            Port::Socket => &["--port", "socket"],
            Port::AfXdp => &["--port", "af-xdp", "--interface", INTERFACE],
        };
        let host = Setting::nowhere().under(&["ip", "netns", "exec", &self.server]);
        let host =
            host.listening_at(self.address()).with(&["--workers", workers, "--config", text(&configuration)]);
        host.with(way).start()
    }

    /// chronyd with these lines in its configuration; none, said loudly, where it isn't there.
    pub(crate) fn chronyd(&self, name: &str, lines: &str) -> Option<Running> {
        let home = std::env::var("HOME").unwrap();
        let cache = std::env::var("MASER_CACHE").unwrap_or_else(|_| format!("{home}/.cache/maser"));
        let chronyd = PathBuf::from(cache).join("peers/chrony/usr/sbin/chronyd");
        if !chronyd.exists() {
            skip(name, "there is no chronyd in the cache; tests/peers/setup.sh puts it there");
            return None;
        }
        let (configuration, pid) = (self.directory.join("chrony.conf"), self.directory.join("pid"));
        let common = "local stratum 1\nallow\nport 123\ncmdport 0\nbindcmdaddress /\n";
        fs::write(&configuration, format!("{common}pidfile {}\n{lines}\n", text(&pid))).unwrap();
        // It says nothing when it serves; its port does. The wait ends with the namespace, or with who reads its word.
        let script = "(until grep -q ':007B ' /proc/net/udp; do sleep 0.1; done; echo ready) & exec \"$@\"";
        let options = ["-x", "-d", "-u", "root", "-f", text(&configuration)];
        Some(self.serve(&[&["sh", "-c", script, "sh", text(&chronyd)], options.as_slice()].concat(), 123))
    }

    /// A server that loses, repeats and spoils by exact shares, as the example `faulty` says.
    pub(crate) fn faulty(&self, faults: &str) -> Running {
        let (program, listen) = (faulty(), format!("{}:123", self.address()));
        let command = [&[text(&program), &listen], faults.split(' ').collect::<Vec<_>>().as_slice()].concat();
        self.serve(&command, 123)
    }

    fn serve(&self, command: &[&str], port: u16) -> Running {
        let command = [&["taskset", "-c", "0"], command].concat();
        let errors = fs::File::create(self.directory.join("server.log")).unwrap();
        let mut process = on_host(&self.server, &command);
        let mut process = process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let output = Output::of(&mut process);
        let running = Running { process, output, port };
        assert_eq!(running.output.next_line(deadline_after(READY_LIMIT)).as_deref(), Some("ready"));
        running
    }

    /// What `maser-load attack` with these words, which are separated by spaces, comes to.
    pub(crate) fn attack(&self, port: u16, words: &str) -> Value {
        let (program, target) = (maser_load(), format!("{}:{port}", self.address()));
        let command = [text(&program), "attack", &target, "--json", "--quiet"];
        let words: Vec<&str> = command.into_iter().chain(words.split_whitespace()).collect();
        document(on_host(&self.client, &words))
    }

    /// Gives the client's host the networks of the clients, so that sockets may send from them.
    pub(crate) fn own_networks(&self) {
        for network in NETWORKS {
            ip(&format!("-n {} route add local {network} dev lo", self.client)).unwrap();
        }
    }

    /// Datagrams that found the server's sockets full.
    pub(crate) fn overflowed(&self) -> u64 {
        let read = |path| run(&mut on_host(&self.server, &["cat", path])).unwrap();
        let (snmp, snmp6) = (read("/proc/net/snmp"), read("/proc/net/snmp6"));
        // A line of names, and one of counts in their order.
        let mut udp = snmp.lines().filter(|line| line.starts_with("Udp: ")).map(|line| line.split(' '));
        let (names, counts) = (udp.next().unwrap(), udp.next().unwrap());
        let of_v4 = names.zip(counts).find_map(|(name, count)| (name == "RcvbufErrors").then_some(count));
        let of_v6 = snmp6.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors"));
        [of_v4, of_v6].map(|count| count.unwrap().trim().parse::<u64>().unwrap()).iter().sum()
    }

    /// Frames that the server's interface has received.
    pub(crate) fn received(&self) -> u64 {
        let path = format!("/sys/class/net/{INTERFACE}/statistics/rx_packets");
        run(&mut on_host(&self.server, &["cat", &path])).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for host in [&self.server, &self.client] {
            // The next run removes what is left.
            let _ = ip(&format!("netns delete {host}"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A server that isn't maser. Dropping it kills it.
pub(crate) struct Running {
    process: Child,
    output: Output,
    pub(crate) port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// What a maser's processes hold: pages in memory, and the ranges of addresses that they have.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) pages: Vec<u64>,
    pub(crate) ranges: Vec<Vec<String>>,
}

impl Held {
    pub(crate) fn by(server: &Server) -> Self {
        let processes = [server.process_id(), serving_process(server.process_id())];
        let read = |process: u32, name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
        let pages = |process| read(process, "statm").split(' ').nth(1).unwrap().parse().unwrap();
        let ranges = |process| {
            let maps = read(process, "maps");
            maps.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
        };
        Self { pages: processes.map(pages).to_vec(), ranges: processes.map(ranges).to_vec() }
    }
}

/// Adds up a counter's parts, over all workers.
pub(crate) fn sum(status: &Value, counter: &str) -> u64 {
    let workers = status["workers"].as_array().unwrap();
    workers
        .iter()
        .flat_map(|worker| worker[counter].as_object().unwrap().values())
        .filter_map(Value::as_u64)
        .sum()
}

/// A phase of an attack by its name.
pub(crate) fn phase<'a>(attack: &'a Value, name: &str) -> &'a Value {
    let phases = attack["phases"].as_array().unwrap();
    phases.iter().find(|phase| phase["name"] == name).unwrap_or_else(|| panic!("no phase {name} in {attack}"))
}

/// Waits for what is counted late.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(200));
}

/// A command of maser's that prints JSON, on this machine: status sockets are files.
pub(crate) fn maser_says(server: &Server, words: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maser"));
    command.args(words).arg("--json").arg("--status-socket").arg(server.setting.status_socket());
    document(command)
}
