//! The commands, one file a subject. Each returns the exit status; an error is printed by `main`.

mod account;
mod check;
mod demo;
mod dkim;
mod dns;
mod fsck;
mod init;
mod password;
mod prompt;
mod queue;
mod quota;
pub mod sendmail;
mod server;
mod setup;
mod tls_report;
mod why;

use crate::cli::{Cli, Command, ConfigCommand};
use crate::config::{self, Config, Finding, Loaded};
use crate::output::Output;
use anyhow::{anyhow, bail};
use clap::CommandFactory;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Runs the command that was typed.
pub fn run(cli: &Cli, output: &Output) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Demo(demo) => demo::demo(demo, output)?,
        Command::Init(init) => init::init(cli, init, output)?,
        Command::Serve => return serve(cli, output),
        Command::Reload => server::reload(&load(cli)?, output)?,
        Command::Status => server::status(&load(cli)?, output)?,
        Command::Stop => server::stop(&load(cli)?, output)?,
        Command::Check => return check::check(cli, output),
        Command::Config(command) => config_command(cli, command, output)?,
        Command::Account(command) => account::account(&load(cli)?, command, output)?,
        Command::Alias(command) => account::alias(&load(cli)?, command, output)?,
        Command::Domain(command) => account::domain(&load(cli)?, command, output)?,
        Command::Dkim(command) => dkim::dkim(&load(cli)?, command, output)?,
        Command::Dns(command) => return dns::dns(&load(cli)?, command, output),
        Command::Password(command) => password::password(command, output)?,
        Command::Quota(command) => quota::quota(&load(cli)?, command, output)?,
        Command::Queue(command) => return queue::queue(&load(cli)?, command, output),
        Command::Sendmail(options) => {
            let config = sendmail::ConfigFile { path: &cli.config, is_named: cli.is_config_named };
            return Ok(sendmail::sendmail(sendmail::Name::Pillarbox, &options.words(), config, output));
        }
        Command::TlsReport(command) => tls_report::tls_report(command, output)?,
        Command::Why(options) => return why::why(&load(cli)?, options, output),
        Command::Fsck(options) => return fsck::fsck(&load(cli)?, options, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "pillarbox", &mut script);
            let _ = std::io::stdout().write_all(&script);
        }
        Command::Man { folder } => manual(folder)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the configuration that the command line names.
fn load(cli: &Cli) -> anyhow::Result<Loaded> {
    load_file(&cli.config)
}

fn load_file(file: &Path) -> anyhow::Result<Loaded> {
    config::load(file).map_err(|findings| anyhow!("{}", joined(&findings)))
}

fn joined(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn serve(cli: &Cli, output: &Output) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(&cli.config) {
        Ok(loaded) => loaded,
        Err(findings) => {
            output.findings(&findings);
            return Ok(ExitCode::FAILURE);
        }
    };
    crate::serve::serve(loaded, || ())?;
    Ok(ExitCode::SUCCESS)
}

fn config_command(cli: &Cli, command: &ConfigCommand, output: &Output) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show { changed } => {
            let loaded = load(cli)?;
            // What was changed is shown as it was written; what holds, with every path in full.
            let table = if *changed { config::changed(&loaded.written) } else { config::table(&loaded.config) };
            if !output.json(&table) {
                output.lines(toml::to_string(&table)?.lines());
            }
            Ok(())
        }
        ConfigCommand::Explain { key } => explain(cli, key.as_deref().unwrap_or_default(), output),
    }
}

/// Manual, default and, where a configuration can be read, the present value of settings.
fn explain(cli: &Cli, key: &str, output: &Output) -> anyhow::Result<()> {
    let settings = config::explain(key);
    if settings.is_empty() {
        bail!("there is no setting `{key}`; `pillarbox config explain` lists all");
    }
    let present = config::load(&cli.config).ok().and_then(|loaded| toml::Value::try_from(&loaded.written).ok());
    let value_of = |key: &str| {
        key.split('.').try_fold(present.clone()?, |value, part| value.get(part).cloned()).map(|value| value.to_string())
    };
    if output.json {
        let objects: Vec<serde_json::Value> = settings
            .iter()
            .map(|setting| {
                serde_json::json!({
                    "key": setting.key, "manual": setting.manual, "default": setting.default, "value": value_of(&setting.key),
                })
            })
            .collect();
        output.json(&objects);
        return Ok(());
    }
    for setting in settings {
        output.say(output.paint("1", &setting.key));
        for line in setting.manual.lines() {
            output.say(format!("    {line}"));
        }
        if let Some(default) = &setting.default {
            output.say(format!("    default: {default}"));
        }
        if let Some(value) = value_of(&setting.key).filter(|value| Some(value) != setting.default.as_ref()) {
            output.say(format!("    here:    {value}"));
        }
        output.say("");
    }
    Ok(())
}

/// Writes pillarbox(8), a page for each command, and pillarbox.toml(5).
fn manual(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let command = Cli::command();
    clap_mangen::generate_to(command, folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // The command belongs to section 8: it is for administrators.
        if path.extension().is_some_and(|extension| extension == "1") {
            let text = std::fs::read_to_string(&path)?.replacen(" 1 ", " 8 ", 1);
            std::fs::write(path.with_extension("8"), text)?;
            std::fs::remove_file(path)?;
        }
    }
    std::fs::write(folder.join("pillarbox.toml.5"), config::manual_page())?;
    Ok(())
}

/// The directory as the configuration names it, for commands that work on files.
fn open_directory(config: &Config) -> anyhow::Result<directory::Directory> {
    crate::serve::open_directory(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_pages_are_fresh() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man");
        if std::env::var_os("UPDATE").is_some() {
            manual(&kept).unwrap();
        }
        let made = tempfile::tempdir().unwrap();
        manual(made.path()).unwrap();
        for entry in std::fs::read_dir(made.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            let present = std::fs::read_to_string(kept.join(name)).unwrap_or_default();
            let wanted = std::fs::read_to_string(&path).unwrap();
            assert!(present == wanted, "docs/man/{} is stale: UPDATE=1 cargo test -p pillarbox", name.display());
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
