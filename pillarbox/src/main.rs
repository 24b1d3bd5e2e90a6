//! pillarbox: a whole mail server in one program.
//!
//! This file is the table of contents: a command line comes in, one command runs, its exit status goes out. Commands
//! are in [`command`], the running server in [`serve`], the configuration in [`config`].

mod cli;
mod command;
mod config;
mod output;
mod serve;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: a reload may be asked for before the server knows how to do one.
    serve::hold_hangup();
    let cli = cli::Cli::parse();
    if !cli.command.serves() {
        serve::release_hangup();
    }
    let output = output::Output::new(cli.json);
    match command::run(&cli, &output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}
