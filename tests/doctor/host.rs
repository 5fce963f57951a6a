//! A host in a network namespace, with a veth pair to another, on which faults are planted.
//!
//! It has no way out, and nothing on it can touch the machine's clock.

use super::directory::Directory;
use crate::peers::host::{end, ip, on_host, remove_leftovers, run};
use maser_core::time::{LeapTable, UNIX_TO_NTP_S};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) const NEAR: &str = "near";
const NAME_PREFIX: &str = "maser-doctor-";
const DAY_S: i64 = 86_400;

static HOSTS: AtomicU32 = AtomicU32::new(0);

/// The two namespaces and a directory for files. Dropping it removes them.
pub(crate) struct Host {
    name: String,
    far: String,
    directory: PathBuf,
    config: String,
}

/// A daemon that is killed in the end.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// The peers' chronyd, if it is in the cache.
pub(crate) fn chronyd() -> Option<PathBuf> {
    let cache = std::env::var_os("MASER_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/maser")))?;
    Some(cache.join("peers/chrony/usr/sbin/chronyd")).filter(|program| program.exists())
}

/// All leap seconds that are known, in a list that expires after so many days.
pub(crate) fn fresh_list(days: i64) -> String {
    // The file's own time, so that no clock need be asked: the directory of temporary files is as new as what is made
    // in it.
    let probe = std::env::temp_dir().join(format!(
        "{NAME_PREFIX}probe-{}-{}",
        std::process::id(),
        HOSTS.fetch_add(1, Ordering::Relaxed)
    ));
    fs::write(&probe, "").unwrap();
    let now = fs::metadata(&probe).unwrap().mtime() + UNIX_TO_NTP_S;
    fs::remove_file(&probe).unwrap();
    let mut text =
        format!("#$ {}\n#@ {}\n2272060800 10\n", now - 200 * DAY_S, now + days * DAY_S + DAY_S / 2);
    // The new offset holds from the leap second on, which is counted by the old one.
    let mut offset_s = 10;
    for leap in LeapTable::built_in().known() {
        let at = leap.at.unix_seconds() - i64::from(offset_s) + UNIX_TO_NTP_S;
        offset_s = leap.offset_after_s;
        text.push_str(&format!("{at} {offset_s}\n"));
    }
    text
}

impl Host {
    /// Makes it, or says why this machine or this user can't.
    pub(crate) fn new() -> Result<Self, String> {
        if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            return Err("network namespaces take root".to_owned());
        }
        run(Command::new("nft").arg("--version"))?;
        remove_leftovers(NAME_PREFIX)?;
        let name = format!("{NAME_PREFIX}{}-{}", std::process::id(), HOSTS.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&name);
        let mut host = Self { far: format!("{name}-far"), config: String::new(), name, directory };
        fs::create_dir_all(&host.directory).map_err(|error| error.to_string())?;
        let Self { name, far, .. } = &host;
        ip(&format!("netns add {name}"))?;
        ip(&format!("netns add {far}"))?;
        ip(&format!("-n {name} link add {NEAR} type veth peer name far netns {far}"))?;
        for (host, device, end) in [(name, NEAR, 1), (far, "far", 2)] {
            ip(&format!("-n {host} address add 10.77.0.{end}/24 dev {device}"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} link set {device} up"))?;
        }
        host.run("ethtool -K near rxvlan off txvlan off");
        host.write_list(&fresh_list(200));
        let machine = format!("interface = [\"{NEAR}\"]\n[[source]]\ntype = \"machine\"\nstratum = 3\n");
        host.config = host.write_config(&machine);
        Ok(host)
    }

    fn list(&self) -> PathBuf {
        self.directory.join("leap-seconds.list")
    }

    pub(crate) fn write_list(&self, text: &str) {
        fs::write(self.list(), text).unwrap();
    }

    /// A configuration with these keys of `[server]` and these sources; its path.
    pub(crate) fn write_config(&self, rest: &str) -> String {
        let path = self.directory.join(format!("{}.toml", HOSTS.fetch_add(1, Ordering::Relaxed)));
        let text = format!(
            "[clock]\nleap_file = \"{}\"\nstate = \"{}\"\n[server]\nlisten = [\"10.77.0.1:123\"]\n{rest}",
            self.list().display(),
            self.directory.join("state").display()
        );
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// One that takes requests from the interface and serves this machine's clock.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    pub(crate) fn doctor(&self, arguments: &[&str]) -> Output {
        let command = [&[super::PROGRAM, "doctor", "--json"], arguments].concat();
        on_host(&self.name, &command).output().unwrap()
    }

    /// The same, with the files of another machine.
    pub(crate) fn doctor_of(&self, directory: &Directory, arguments: &[&str]) -> Output {
        directory.put("proc/net/route", "Iface Destination Gateway\nnear 00000000 010200C0");
        let command = [&[super::PROGRAM, "doctor", "--json"], arguments].concat();
        on_host(&self.name, &command).envs(directory.places()).output().unwrap()
    }

    pub(crate) fn run(&self, command: &str) {
        let words: Vec<_> = command.split(' ').collect();
        run(&mut on_host(&self.name, &words)).unwrap();
    }

    /// Whether this kernel has VLAN devices; one is there then.
    pub(crate) fn can_add_vlan(&self) -> bool {
        let command = "ip link add link near name near.5 type vlan id 5";
        on_host(&self.name, &command.split(' ').collect::<Vec<_>>()).output().unwrap().status.success()
    }

    pub(crate) fn nft(&self, rules: &str) {
        run(&mut on_host(&self.name, &["nft", rules])).unwrap();
    }

    /// Does what a finding says to do: as root, from the tree, with the scripts' records in the host's own directory.
    pub(crate) fn run_remedy(&self, remedy: &str) {
        let command = remedy.strip_prefix("sudo ").unwrap_or(remedy);
        let mut shell = on_host(&self.name, &["bash", "-c", command]);
        shell.current_dir(env!("CARGO_MANIFEST_DIR")).env("MASER_TUNING_ROOT", &self.directory);
        let output = shell.output().unwrap();
        // A script's 1 is that something else of its subject isn't to be had here.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command}: {output:?}");
    }

    /// Whether a datagram to port 123 of the host comes to a socket there.
    pub(crate) fn is_reached(&self) -> bool {
        let listen = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.77.0.1', 123)); \
                      print('ready', flush=True); s.settimeout(2); s.recv(1)";
        let mut listening = on_host(&self.name, &["python3", "-c", listen])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = [0; 5];
        std::io::Read::read_exact(listening.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let script = "for n in 1 2 3; do echo x >/dev/udp/10.77.0.1/123; done";
        run(&mut on_host(&self.far, &["bash", "-c", script])).unwrap();
        listening.wait().unwrap().success()
    }

    /// A chronyd that has the port, sets no clock, and asks nobody.
    pub(crate) fn start_chronyd(&self, program: &Path) -> Daemon {
        let config = self.directory.join("chrony.conf");
        let pid = self.directory.join("chronyd.pid");
        let text = format!(
            "port 123\nbindaddress 10.77.0.1\nallow all\nlocal stratum 5\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
            pid.display()
        );
        fs::write(&config, text).unwrap();
        let (program, config) = (program.to_str().unwrap(), config.to_str().unwrap());
        let child = on_host(&self.name, &[program, "-x", "-d", "-u", "root", "-f", config])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut daemon = Daemon(child);
        // It has the port once it has written its number: 10 s at most.
        for _ in 0..200 {
            if pid.exists() || daemon.0.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert!(daemon.0.try_wait().unwrap().is_none(), "chronyd ended");
        daemon
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for name in [&self.name, &self.far] {
            let _ = ip(&format!("netns delete {name}"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
