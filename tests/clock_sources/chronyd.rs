//! chronyd as a client of the server under test: it asks a few times, says how far the machine's clock is off, sets nothing
//! and ends.

use crate::maser::{Server, finish, is_root_or_skip, text};
use crate::peers::skip;
use crate::truth::{Moment, Truth};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// How far off chronyd finds the machine's clock, less how far off it is; none where there is no chronyd.
pub(crate) fn error_ns(server: &Server, truth: Truth) -> Option<i64> {
    let name = "chronyd as a client";
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("MASER_CACHE").unwrap_or_else(|_| format!("{home}/.cache/maser"));
    let program = PathBuf::from(cache).join("peers/chrony/usr/sbin/chronyd");
    if !program.exists() {
        skip(name, "there is no chronyd in the cache; tests/peers/setup.sh puts it there");
        return None;
    }
    if !is_root_or_skip(name) {
        return None;
    }
    // Whatever it does, it can't set the clock.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig=KILL", "--inh-caps=-sys_time", "--bounding-set=-sys_time", "--"]).arg(program);
    command.args(["-Q", "-t", "20", "-u", "root", "cmdport 0", "bindcmdaddress /"]);
    command.arg(format!("server 127.0.0.1 port {} iburst", server.setting.port));
    command.arg(format!("pidfile {}", text(&server.setting.scratch.path("chronyd.pid"))));
    let finished = finish(command, &server.setting.scratch, LIMIT);
    let now = Moment::now();
    let told = finished.errors + &finished.output;
    let (_, wrong) = told.split_once("System clock wrong by ").unwrap_or_else(|| panic!("chronyd: {told}"));
    let wrong_s: f64 = wrong.split_whitespace().next()?.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
    let wrong_ns = (wrong_s * 1e9) as i64;
    let ahead_ns = truth.at_realtime(now.realtime_ns, now) - now.realtime_ns;
    Some(wrong_ns - ahead_ns)
}
