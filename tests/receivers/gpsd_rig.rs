//! The real gpsd and its own gpsfake, in network, IPC and PID namespaces of a test's own: gpsd finds neither the machine's
//! segments nor its ports, and everything ends with the test. `tests/peers/setup.sh` fetches gpsd; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::peers::host::{end, ip, run};
use super::peers::{log, skip};

/// Set for the run inside the namespaces: where gpsd's tree is.
const INSIDE: &str = "MASER_TEST_GPSD";

/// Where gpsd listens for its clients.
pub(crate) const GPSD_PORT: u16 = 2_947;

/// Runs the test `name` once more in the namespaces, where it gives `test` gpsd's tree.
pub(crate) fn in_namespaces(name: &str, test: impl FnOnce(&Path)) {
    if let Ok(tree) = std::env::var(INSIDE) {
        ip("link set lo up").unwrap();
        return test(Path::new(&tree));
    }
    let tree = tree();
    if !tree.join("usr/bin/gpsfake").exists() {
        return skip(name, &format!("no gpsd in {}; tests/peers/setup.sh fetches it", tree.display()));
    }
    let namespaces = ["unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child"];
    if let Err(reason) = run(Command::new(namespaces[0]).args(&namespaces[1..]).arg("true")) {
        return skip(name, &reason);
    }
    let mut again = Command::new("setpriv");
    again
        .args(["--pdeathsig", "KILL", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, &tree);
    let ended = again.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "inside the namespaces:\n{said}");
    assert!(said.contains("1 passed"), "inside the namespaces nothing was tested:\n{said}");
    said.lines().filter(|line| line.starts_with("gpsd: ")).for_each(log);
}

fn tree() -> PathBuf {
    let cache = std::env::var_os("MASER_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/maser"));
    cache.join("peers/gpsd")
}

/// A gpsfake that plays a log to a gpsd. Dropping it kills it; gpsd then hears nothing more.
pub(crate) struct Gpsfake {
    process: Child,
    directory: PathBuf,
}

impl Gpsfake {
    /// Plays these sentences, a pause in seconds before each, with its files in `directory`.
    pub(crate) fn start(tree: &Path, directory: &Path, sentences: &str, pause_s: &str) -> Self {
        let output = fs::File::create(directory.join("output")).unwrap();
        let played = directory.join("receiver.nmea");
        fs::write(&played, sentences).unwrap();
        let libraries = fs::read_dir(tree.join("usr/lib")).unwrap().map(|entry| entry.unwrap().path());
        let libraries: Vec<_> = libraries.map(|path| path.display().to_string()).collect();
        let process = Command::new("python3")
            .arg(tree.join("usr/bin/gpsfake"))
            .args(["-t", "-1", "-n", "-q", "-P", &GPSD_PORT.to_string(), "-c", pause_s])
            .arg(played)
            .env("LD_LIBRARY_PATH", libraries.join(":"))
            .env("PYTHONPATH", tree.join("usr/lib/python3/dist-packages"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("GPSD_HOME", tree.join("usr/sbin"))
            .env("TMPDIR", directory)
            .stdin(Stdio::null())
            .stderr(output.try_clone().unwrap())
            .stdout(output)
            .spawn()
            .unwrap();
        Self { process, directory: directory.to_owned() }
    }

    /// What it has printed.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.directory.join("output")).unwrap_or_default()
    }
}

impl Drop for Gpsfake {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}
