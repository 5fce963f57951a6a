//! `maser top`: its arguments, and what it does.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{CliError, socket};
use crate::status::{self, Surroundings};
use crate::top::{self, Paint};

/// A question more often than that would cost the server more than it tells.
const INTERVAL_S_MIN: f64 = 0.2;
/// Above it nothing is live.
const INTERVAL_S_MAX: f64 = 3_600.0;

/// `maser top`.
#[derive(Clone, Debug, Args)]
pub struct TopArguments {
    /// Seconds from one question to the next; from 0.2 to 3600
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// The server's status socket, if it isn't at a usual place
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .filter(|seconds| (INTERVAL_S_MIN..=INTERVAL_S_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| {
            format!("expected seconds from {INTERVAL_S_MIN} to {INTERVAL_S_MAX}, such as 1 or 0.5")
        })
}

impl TopArguments {
    /// Asks the server again and again and shows what it says, until somebody leaves.
    pub fn run(&self, surroundings: &Surroundings) -> Result<(), CliError> {
        let path = socket(self.status_socket.as_deref(), surroundings)?;
        // A server that isn't there at all is told as by the other commands.
        let _status = status::fetch(&path)?;
        // As https://no-color.org has it: set to anything.
        let has_colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(top::run(&path, self.interval, Paint { has_colours })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_within_its_bounds() {
        assert_eq!(interval("1"), Ok(Duration::from_secs(1)));
        assert_eq!(interval("0.2"), Ok(Duration::from_millis(200)));
        for wrong in ["0", "0.1", "-1", "1e9", "nan", "inf", "", "1s"] {
            assert!(interval(wrong).is_err_and(|error| error.contains("from 0.2 to 3600")), "{wrong}");
        }
    }
}
