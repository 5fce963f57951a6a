//! Two hosts and a wire between them: maser with AF_XDP on one, clients and generators on the other.
//!
//! The hosts are network namespaces without a way out; the wire is a veth pair with one queue, so that one core owns it.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::maser::{Setting, now, text};
use crate::peers::host::{ip, on_host, remove_leftovers, run};
use crate::support::{ReplyView, request};

/// Of a private network (RFC 1918).
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 55, 2, 1);
/// One more, which comes and goes.
pub(crate) const ANOTHER: Ipv4Addr = Ipv4Addr::new(10, 55, 2, 9);
pub(crate) const INTERFACE: &str = "eth0";
const CLIENT: &str = "10.55.2.2";
/// Whose addresses simulated clients have.
pub(crate) const CLIENTS: &str = "10.0.0.0/8";

const NAME_PREFIX: &str = "maser-wire-";
const REQUEST_LENGTH: usize = 48;
/// An answer that takes longer counts as none.
const ASK_LIMIT: Duration = Duration::from_millis(20);

static WIRES: AtomicU32 = AtomicU32::new(0);

/// The two namespaces. Dropping it removes them.
pub(crate) struct Wire {
    server: String,
    client: String,
}

impl Wire {
    /// Makes the hosts, or says why this machine or this user can't.
    pub(crate) fn new() -> Result<Self, String> {
        if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            return Err("network namespaces and XDP programs take root".to_owned());
        }
        remove_leftovers(NAME_PREFIX)?;
        let number = WIRES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME_PREFIX}{}-{number}", std::process::id());
        let wire = Self { server: format!("{name}-server"), client: format!("{name}-client") };
        let Self { server, client } = &wire;
        ip(&format!("netns add {server}"))?;
        ip(&format!("netns add {client}"))?;
        ip(&format!("-n {server} link add {INTERFACE} type veth peer name {INTERFACE} netns {client}"))?;
        let server_address = ADDRESS.to_string();
        for (host, address) in [(server, server_address.as_str()), (client, CLIENT)] {
            ip(&format!("-n {host} address add {address}/24 dev {INTERFACE}"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} link set {INTERFACE} up"))?;
            // Frames as they would be on a wire, the checksum in its place.
            let whole = ["ethtool", "-K", INTERFACE, "tx", "off", "txvlan", "off", "rxvlan", "off"];
            run(&mut on_host(host, &whole))?;
        }
        wire.route_to_clients()?;
        Ok(wire)
    }

    fn route_to_clients(&self) -> Result<(), String> {
        ip(&format!("-n {} route replace {CLIENTS} via {CLIENT}", self.server)).map(drop)
    }

    /// `maser serve` on its host, over AF_XDP, at all addresses that the host has.
    pub(crate) fn setting(&self) -> Setting {
        self.setting_at(Ipv4Addr::UNSPECIFIED)
    }

    /// The same, at one address.
    pub(crate) fn setting_at(&self, address: Ipv4Addr) -> Setting {
        self.host_setting().listening_at(&address.to_string()).with(&[
            "--port",
            "af-xdp",
            "--interface",
            INTERFACE,
        ])
    }

    /// `maser serve` on its host, told nothing else.
    pub(crate) fn host_setting(&self) -> Setting {
        Setting::nowhere().under(&["ip", "netns", "exec", &self.server])
    }

    /// The number of the XDP program on the server's interface, by the kernel.
    pub(crate) fn program(&self) -> Option<u32> {
        let shown =
            ip(&format!("-details -n {} link show dev {INTERFACE}", self.server)).expect("it is there");
        let (_, number) = shown.split_once("prog/xdp id ")?;
        number.split_whitespace().next()?.parse().ok()
    }

    /// Takes the server's end down and up again.
    pub(crate) fn flap(&self, down: Duration) {
        ip(&format!("-n {} link set {INTERFACE} down", self.server)).expect("it is ours");
        thread::sleep(down);
        ip(&format!("-n {} link set {INTERFACE} up", self.server)).expect("it is ours");
        self.route_to_clients().expect("it was there before");
    }

    /// `add` or `delete`s [`ANOTHER`] address.
    pub(crate) fn another_address(&self, verb: &str) {
        ip(&format!("-n {} address {verb} {ANOTHER}/24 dev {INTERFACE}", self.server)).expect("it is ours");
    }

    /// maser-load on the clients' host with these words, which are separated by spaces.
    pub(crate) fn load(&self, words: &str) -> Command {
        let program = maser_load();
        let words: Vec<_> = [text(&program)].into_iter().chain(words.split_whitespace()).collect();
        on_host(&self.client, &words)
    }

    /// A client with a port of its own.
    pub(crate) fn asker(&self) -> Asker {
        let host = fs::File::open(format!("/run/netns/{}", self.client)).expect("it was made");
        let socket = thread::spawn(move || {
            setns(host, CloneFlags::CLONE_NEWNET).expect("root may");
            UdpSocket::bind("0.0.0.0:0").expect("a port is free")
        });
        let socket = socket.join().expect("it doesn't panic");
        socket.set_nonblocking(true).expect("a socket may");
        Asker { socket, asked: 0, open: HashSet::new(), answered: 0, faults: Vec::new() }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for host in [&self.server, &self.client] {
            // The next run removes what is left.
            let _ = ip(&format!("netns delete {host}"));
        }
    }
}

/// The load generator of this workspace, in the test's own profile: cargo builds a test's own package only.
fn maser_load() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut command = Command::new(env!("CARGO"));
        command.args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "maser-load",
            "-p",
            "maser",
            "--bin",
            "maser-load",
        ]);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        let built = command.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.expect("cargo runs").success(), "maser-load is built");
    });
    Path::new(env!("CARGO_BIN_EXE_maser")).with_file_name("maser-load")
}

/// A client that judges every reply.
pub(crate) struct Asker {
    socket: UdpSocket,
    asked: u64,
    /// Requests that no reply came to.
    open: HashSet<(SocketAddr, u64)>,
    pub(crate) answered: u64,
    pub(crate) faults: Vec<String>,
}

impl Asker {
    pub(crate) fn send(&mut self, to: SocketAddr) {
        self.asked += 1;
        self.open.insert((to, self.asked));
        // While the link is down there is no way.
        let _ = self.socket.send_to(&request(self.asked), to);
    }

    /// Takes what has come; whether that was anything.
    pub(crate) fn take(&mut self) -> bool {
        let before = self.answered;
        let mut bytes = [0; 2_048];
        while let Ok((length, from)) = self.socket.recv_from(&mut bytes) {
            self.answered += 1;
            if let Err(fault) = judge(&bytes[..length], from, &mut self.open) {
                self.faults.push(fault);
            }
        }
        self.answered > before
    }

    /// Whether the server answers within [`ASK_LIMIT`].
    pub(crate) fn ask(&mut self, to: SocketAddr) -> bool {
        self.send(to);
        let begin = now();
        while begin.elapsed() < ASK_LIMIT {
            if self.take() {
                return true;
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

/// What is wrong with a reply, given what was asked of whom and has no reply yet.
pub(crate) fn judge(
    reply: &[u8],
    from: SocketAddr,
    open: &mut HashSet<(SocketAddr, u64)>,
) -> Result<(), String> {
    if reply.len() != REQUEST_LENGTH {
        return Err(format!("{} octets from {from} to a request of {REQUEST_LENGTH}", reply.len()));
    }
    let view = ReplyView::of(reply);
    if !open.remove(&(from, view.origin)) {
        return Err(format!("{from} wasn't asked number {}, or has answered: {view:?}", view.origin));
    }
    let is_sane = match view.leap {
        0..=2 => (1..=15).contains(&view.stratum),
        _ => matches!(view.stratum, 0 | 16),
    };
    if (view.version, view.mode, is_sane) != (4, 4, true) || view.transmit < view.receive {
        return Err(format!("from {from}: {view:?}"));
    }
    Ok(())
}
