//! `check`: everything that can be wrong before a start, line by line (R196).

use crate::cli::Cli;
use crate::config::{self, Config, Finding, Severity};
use crate::output::Output;
use directory::Directory;
use net::{PairFiles, ServerTls, TlsSettings};
use std::process::ExitCode;

/// Prints all findings; fails when one of them is an error.
pub fn check(cli: &Cli, output: &Output) -> anyhow::Result<ExitCode> {
    let findings = match config::load(&cli.config) {
        Ok(loaded) => all(&loaded.config),
        Err(findings) => findings,
    };
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    output.findings(&findings);
    if findings.is_empty() {
        output.say("nothing wrong");
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong with tables and certificates.
pub fn all(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = match Directory::open(config.directory_settings()) {
        Ok(directory) => directory.check().into_iter().map(Finding::from).collect(),
        Err(errors) => errors.into_iter().map(|error| Finding::from(directory::Finding::from(error))).collect(),
    };
    for set in &config.certificates {
        let pairs = set.chains.iter().zip(&set.keys);
        let pairs = pairs.map(|(chain, key)| PairFiles { chain: chain.clone(), key: key.clone() }).collect();
        if let Err(error) = ServerTls::load(TlsSettings { pairs, tickets: false }) {
            let file = set.chains.first().cloned().unwrap_or_default();
            findings.push(Finding {
                severity: Severity::Error,
                file,
                line: None,
                cause: format!("set `{}`: {error}", set.name),
                cure: String::new(),
            });
        }
    }
    findings.sort_by_key(|finding| finding.severity != Severity::Error);
    findings
}
