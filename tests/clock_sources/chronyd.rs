//! chronyd as a client of the server under test: it asks a few times, says how far the machine's clock is off, sets nothing
//! and ends.

use crate::maser::{Server, is_root_or_skip, text};
use crate::peers::rig::end;
use crate::peers::skip;
use crate::truth::{Moment, Truth};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// chronyd gives up by itself after so many seconds.
const LIMIT_S: &str = "20";
/// Stands before what it finds, in seconds.
const WRONG_BY: &str = "System clock wrong by ";

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
    command.args(["-Q", "-t", LIMIT_S, "-u", "root", "cmdport 0", "bindcmdaddress /"]);
    command.arg(format!("server 127.0.0.1 port {} iburst", server.setting.port));
    command.arg(format!("pidfile {}", text(&server.setting.scratch.path("chronyd.pid"))));
    let (told, writer) = std::io::pipe().unwrap();
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    // It holds the pipe open.
    drop(command);
    let (mut lines, mut found) = (Vec::new(), None);
    for line in BufReader::new(told).lines().map_while(Result::ok) {
        // True time moves away from the machine's clock, all the more while chronyd takes its time to end.
        let now = Moment::now();
        found = line.split_once(WRONG_BY).map(|(_, wrong)| (wrong.to_owned(), now)).or(found);
        lines.push(line);
    }
    end(&mut process);
    let (wrong, now) = found.unwrap_or_else(|| panic!("chronyd: {lines:#?}"));
    let wrong_s: f64 = wrong.split_whitespace().next()?.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
    let wrong_ns = (wrong_s * 1e9) as i64;
    Some(wrong_ns - truth.ahead_ns(now))
}
