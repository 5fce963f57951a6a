//! Two hosts, made of network namespaces and a veth pair, with a server running on one of them.
//!
//! Nothing here touches the machine's own network: the pair is born inside the namespaces, which have no route out.
//! Nothing here can touch the machine's clock: every process is started without `CAP_SYS_TIME`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) use super::host::{Output, can_set_clock, deadline_after, end};
use super::host::{Server, ip, on_host, remove_leftovers, run};

/// A private network (RFC 1918) and a unique local one (RFC 4193), short enough for the clients' tables.
const SERVER_V4: &str = "10.55.2.1";
const SERVER_V6: &str = "fd6d:61::1";

/// The server's end of the veth pair, and the clients'.
pub(crate) const INTERFACE: &str = "eth0";
/// Known beforehand, so that clients in a VLAN needn't ask for it.
const SERVER_HARDWARE: &str = "02:00:00:00:00:01";

const VLAN: &str = "5";
const VLAN_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/vlan.py");

/// A veth end takes no program into the driver while the other end may send longer packets than a page holds.
const MTU_TOO_LARGE: &str = "9000";

const NAME_PREFIX: &str = "maser-peers-";

static RIGS: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// The two namespaces and a directory for the server's files. Dropping it removes them all.
pub(crate) struct Rig {
    server_host: String,
    client_host: String,
    directory: PathBuf,
    family: Family,
}

impl Rig {
    /// Makes the hosts, or says why this machine or this user can't.
    pub(crate) fn new(family: Family) -> Result<Self, String> {
        let owner = fs::metadata("/proc/self").map_err(|error| error.to_string())?;
        if owner.uid() != 0 {
            return Err("network namespaces need root".to_owned());
        }
        remove_leftovers(NAME_PREFIX)?;
        let number = RIGS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME_PREFIX}{}-{number}", std::process::id());
        let rig = Self {
            server_host: format!("{name}-server"),
            client_host: format!("{name}-client"),
            directory: std::env::temp_dir().join(&name),
            family,
        };
        fs::create_dir_all(&rig.directory).map_err(|error| error.to_string())?;
        let (server, client) = (&rig.server_host, &rig.client_host);
        ip(&format!("netns add {server}"))?;
        ip(&format!("netns add {client}"))?;
        ip(&format!(
            "-n {server} link add {INTERFACE} address {SERVER_HARDWARE} type veth peer name {INTERFACE} netns {client}"
        ))?;
        for (host, end) in [(server, 1), (client, 2)] {
            ip(&format!("-n {host} address add 10.55.2.{end}/24 dev {INTERFACE}"))?;
            // Without nodad the address could not be used for the first two seconds.
            ip(&format!("-n {host} address add fd6d:61::{end}/64 dev {INTERFACE} nodad"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} link set {INTERFACE} up"))?;
        }
        Ok(rig)
    }

    /// Has the clients' frames leave as they would on a wire, the checksum in its place: what an XDP program sees.
    pub(crate) fn send_whole_frames(&self) -> Result<(), String> {
        run(&mut on_host(&self.client_host, &["ethtool", "-K", INTERFACE, "tx", "off", "txvlan", "off"]))
            .map(drop)
    }

    /// Leaves generic mode alone to XDP programs on the server's interface.
    pub(crate) fn refuse_native(&self) -> Result<(), String> {
        ip(&format!("-n {} link set {INTERFACE} mtu {MTU_TOO_LARGE}", self.client_host)).map(drop)
    }

    /// Puts the clients into a VLAN for as long as the returned process runs: what they send is tagged, and they see nothing
    /// but what is.
    ///
    /// The server's host has no VLAN device, so its kernel answers nothing there, not even who has an address.
    pub(crate) fn tag(&self) -> Result<Server, String> {
        let host = &self.client_host;
        for address in [SERVER_V4, SERVER_V6] {
            ip(&format!("-n {host} neighbour replace {address} lladdr {SERVER_HARDWARE} dev {INTERFACE}"))?;
        }
        let command = ["python3", VLAN_SCRIPT, "tag", INTERFACE, VLAN];
        let tagger = Server::start(host, &command, self.directory.join("tagger.log"))?;
        tagger.wait_until_ready()?;
        Ok(tagger)
    }

    /// Tells the server's XDP program that the VLAN is the server's, in place of a VLAN device.
    pub(crate) fn admit_vlan(&self) -> Result<(), String> {
        run(&mut on_host(&self.server_host, &["python3", VLAN_SCRIPT, "admit", INTERFACE, VLAN])).map(drop)
    }

    /// Sends the server a datagram from the clients' host, to which it owes no answer.
    pub(crate) fn send_datagram(&self) -> Result<(), String> {
        let script = format!("echo >/dev/udp/{}/123", self.server_address());
        run(on_host(&self.client_host, &["bash", "-c", &script]).stdin(Stdio::null())).map(drop)
    }

    /// The address that the clients are told.
    pub(crate) fn server_address(&self) -> &'static str {
        match self.family {
            Family::Ipv4 => SERVER_V4,
            Family::Ipv6 => SERVER_V6,
        }
    }

    /// The address and port to listen on, as `--listen` wants it.
    pub(crate) fn listen(&self) -> String {
        match self.family {
            Family::Ipv4 => format!("{SERVER_V4}:123"),
            Family::Ipv6 => format!("[{SERVER_V6}]:123"),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a server on the server's host and waits until it prints `ready`.
    pub(crate) fn serve(&self, command: &[&str]) -> Result<Server, String> {
        let server = Server::start(&self.server_host, command, self.directory.join("server.log"))?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// A command that will run on the client's host in a mount and a PID namespace of its own: what it mounts nobody
    /// else sees, and nothing that it starts outlives it.
    pub(crate) fn on_client_host(&self, command: &[&str]) -> Command {
        let own_namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
        on_host(&self.client_host, &[&own_namespaces, command].concat())
    }

    /// Fails if a process on either host could set the machine's clock, or if no process is there to look at.
    pub(crate) fn check_clock_is_out_of_reach(&self) -> Result<(), String> {
        let mut looked_at = 0;
        for host in [&self.server_host, &self.client_host] {
            for process in ip(&format!("netns pids {host}"))?.split_whitespace() {
                // One that has ended in the meantime is no danger.
                let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { continue };
                if can_set_clock(&status) {
                    return Err(format!("process {process} on {host} holds CAP_SYS_TIME:\n{status}"));
                }
                looked_at += 1;
            }
        }
        if looked_at == 0 { Err("no server and no client is running".to_owned()) } else { Ok(()) }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for host in [&self.server_host, &self.client_host] {
            // A rig that was only half made has nothing to remove.
            let _ = ip(&format!("netns delete {host}"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
