//! The command `maser-documents`: writes man pages, shell completions and the configuration reference from the code.

mod reference;

use clap::{Command, CommandFactory, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Writes maser's man pages, shell completions and configuration reference.
#[derive(Debug, Parser)]
#[command(name = "maser-documents")]
struct Arguments {
    /// Print the configuration reference in Markdown instead (docs/configuration.md)
    #[arg(long, conflicts_with = "directory")]
    reference: bool,
    /// Where they go: man/, bash/, zsh/ and fish/ under it
    #[arg(required_unless_present = "reference")]
    directory: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.directory {
        Some(directory) => write_all(directory).map_err(|error| format!("{}: {error}", directory.display())),
        None => io::stdout().write_all(reference::markdown().as_bytes()).map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maser-documents: {error}; give a directory that can be written to");
            ExitCode::FAILURE
        }
    }
}

fn write_all(directory: &Path) -> io::Result<()> {
    let man = directory.join("man");
    fs::create_dir_all(&man)?;
    for program in [maser::cli::Cli::command(), maser_load::cli::Cli::command()] {
        let name = program.get_name().to_owned();
        for (shell, folder) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let folder = directory.join(folder);
            fs::create_dir_all(&folder)?;
            clap_complete::generate_to(shell, &mut program.clone(), &name, folder)?;
        }
        pages(&program, &man)?;
    }
    fs::write(man.join("maser.toml.5"), reference::page())
}

/// A page for the program and one for each of its commands, as maser-serve(1).
fn pages(program: &Command, into: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    page(program.clone().disable_help_subcommand(true), &name, into)?;
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        let title = format!("{name}-{}", command.get_name());
        let spoken = format!("{name} {}", command.get_name());
        page(
            command.clone().display_name(&title).bin_name(spoken).version(env!("CARGO_PKG_VERSION")),
            &title,
            into,
        )?;
    }
    Ok(())
}

fn page(command: Command, title: &str, into: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    let mut command = command;
    command.build();
    Man::new(command).title(title.to_uppercase()).manual("maser").render(&mut text)?;
    fs::write(into.join(format!("{title}.1")), text)
}
