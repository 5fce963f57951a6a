//! `maser doctor`: its arguments, and what it does.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use maser_sys::netlink::dump;

use super::{CliError, print};
use crate::config;
use crate::doctor::{Machine, Question, examine};
use crate::status::Surroundings;

/// `maser doctor`.
#[derive(Clone, Debug, Default, Args)]
pub struct DoctorArguments {
    /// Judge by this configuration: its sources, addresses, interfaces and files; else by what any server wants
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Look at this network interface; may be given several times. Else at those of the configuration, else at those of
    /// the default routes
    #[arg(long, short, value_name = "DEV", value_parser = config::interface)]
    pub interface: Vec<String>,
    /// The findings as a document, JSON, which docs/doctor.md describes
    #[arg(long)]
    pub json: bool,
}

impl DoctorArguments {
    /// The exit status when there is nothing to tell for want of a configuration or an interface, and when something
    /// couldn't be looked at.
    pub const COULD_NOT_LOOK: u8 = 2;

    /// Looks, and tells; the exit status.
    pub fn run(&self, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, CliError> {
        let configured =
            self.config.as_ref().map(|path| config::load(path).map(|config| (path.clone(), config)));
        // Where the kernel can't be asked the report says so.
        if let Ok(tables) = dump()
            && let Some(name) = self.interface.iter().find(|name| tables.link_named(name).is_none())
        {
            let there: Vec<_> = tables.links.iter().map(|link| link.name.clone()).collect();
            return Err(CliError::NoInterface { name: name.clone(), there: there.join(", ") });
        }
        let question = Question {
            config: configured.transpose()?,
            interfaces: self.interface.clone(),
            surroundings: surroundings.clone(),
        };
        let report = examine(&question, &Machine::of_process());
        let text = if self.json { json(&report)? } else { report.to_string() };
        print(out, &text)?;
        Ok(report.exit_status())
    }
}

fn json(report: &crate::doctor::Report) -> Result<String, CliError> {
    Ok(report.json().map_err(|error| CliError::Output(error.into()))? + "\n")
}
