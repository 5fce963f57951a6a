//! The command `maser`: parses the command line, does one thing, and says what went wrong in words.

use clap::Parser;
use maser::cli::{Cli, CliError, Command, DoctorArguments, ReloadArguments, ServeArguments};
use maser::keeper;
use maser::status::Surroundings;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // Nobody may be there to read it.
        let priority = if maser::log::is_journal() { "<3>" } else { "" };
        let _told = writeln!(io::stderr(), "{priority}maser: {error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    if keeper::serve_as_part(serve_arguments)? {
        return Ok(ExitCode::SUCCESS);
    }
    match Cli::parse().command {
        Command::Serve(arguments) => return keeper::serve(&arguments),
        Command::Restore => restore(&mut io::stdout())?,
        Command::CheckConfig(arguments) => arguments.run(&mut io::stdout())?,
        Command::Status(arguments) => asked(|place, out, width| arguments.run(place, out, width))?,
        Command::Sources(arguments) => asked(|place, out, width| arguments.run(place, out, width))?,
        Command::Tracking(arguments) => asked(|place, out, width| arguments.run(place, out, width))?,
        Command::Clients(arguments) => asked(|place, out, _| arguments.run(place, out))?,
        Command::Top(arguments) => arguments.run(&Surroundings::of_process())?,
        Command::Doctor(arguments) => return doctor(&arguments),
        Command::Reload(arguments) => return reload(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

/// The keeper gives its server its own command line.
fn serve_arguments() -> Option<ServeArguments> {
    match Cli::parse().command {
        Command::Serve(arguments) => Some(arguments),
        Command::Restore
        | Command::Reload(_)
        | Command::CheckConfig(_)
        | Command::Status(_)
        | Command::Sources(_)
        | Command::Tracking(_)
        | Command::Clients(_)
        | Command::Top(_)
        | Command::Doctor(_) => None,
    }
}

/// Puts back what a killed keeper left, and says what.
fn restore(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let restored = keeper::records::restore(&keeper::records::place()?)?;
    if restored.is_empty() {
        writeln!(out, "nothing to put back")?;
    }
    for line in restored {
        writeln!(out, "put back: {line}")?;
    }
    Ok(())
}

/// Looks at the machine. For automation a wrong configuration is told from a machine that wants something.
fn doctor(arguments: &DoctorArguments) -> Result<ExitCode, Box<dyn Error>> {
    match arguments.run(&Surroundings::of_process(), &mut io::stdout()) {
        Ok(status) => Ok(ExitCode::from(status)),
        Err(error) => {
            writeln!(io::stderr(), "maser: {error}")?;
            Ok(ExitCode::from(DoctorArguments::COULD_NOT_LOOK))
        }
    }
}

/// Has a running server read its configuration again. For automation a refusal is told from a server that isn't there.
fn reload(arguments: &ReloadArguments) -> Result<ExitCode, Box<dyn Error>> {
    match arguments.run(&Surroundings::of_process(), &mut io::stdout(), &mut io::stderr()) {
        Ok(status) => Ok(status),
        Err(error) => {
            writeln!(io::stderr(), "maser: {error}")?;
            Ok(ExitCode::from(ReloadArguments::UNKNOWN))
        }
    }
}

/// A command that asks a running server.
fn asked(
    run: impl FnOnce(&Surroundings, &mut dyn Write, Option<usize>) -> Result<(), CliError>,
) -> Result<(), CliError> {
    run(&Surroundings::of_process(), &mut io::stdout(), keeper::terminal_width())
}
