//! pillarbox: a whole mail server in one program.
//!
//! This file is the table of contents: a command line comes in, one command runs, its exit status goes out. Commands
//! are in [`command`], the running server in [`serve`], the configuration in [`config`].

mod cli;
mod command;
mod config;
mod output;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: a reload may be asked for before the server knows how to do one.
    serve::hold_hangup();
    let mut words = std::env::args_os();
    if let Some(name) = words.next().as_ref().and_then(command::sendmail::Name::of) {
        serve::release_hangup();
        let config = std::env::var_os(cli::CONFIG_VARIABLE).unwrap_or_else(|| cli::CONFIG.into());
        let words: Vec<std::ffi::OsString> = words.collect();
        let config = command::sendmail::ConfigFile { path: config.as_ref(), is_named: false };
        return command::sendmail::sendmail(name, &words, config, &output::Output::new(false));
    }
    let cli = cli::Cli::read();
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
