//! `dns`: the records that our mail needs, and whether they are there (R1–R8).
//!
//! [`facts`] reads what decides, [`wanted`] makes records of it, [`ask`] looks them up; [`hosts`] and
//! [`texts`] judge what is there.

mod ask;
mod blocklists;
mod facts;
mod finding;
mod hosts;
#[cfg(test)]
mod testing;
mod texts;
mod wanted;

use crate::cli::DnsCommand;
use crate::config::{Config, Loaded, Severity};
use crate::output::Output;
use crate::serve::sending;
use anyhow::Context;
use dns::{Lookup, Name};
use facts::{Facts, Wish};
use finding::Finding;
use relay::policy_fetch::Policies;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;
use wanted::{Line, Section};

/// Policies that one check remembers; each is asked for once.
const POLICIES_MAX: usize = 16;

/// `dns ...`
pub fn dns(loaded: &Loaded, command: &DnsCommand, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        DnsCommand::Records { domains, next_keys } => {
            let facts = Facts::gather(&loaded.config, &Wish { domains, next_keys })?;
            records(&facts, output)?;
            Ok(ExitCode::SUCCESS)
        }
        DnsCommand::Check { domains, next_keys, blocklists, servers } => {
            let mut config = loaded.config.clone();
            if !servers.is_empty() {
                config.dns.servers = servers.iter().map(ToString::to_string).collect();
            }
            let facts = Facts::gather(&config, &Wish { domains, next_keys })?;
            let lists = blocklists.iter().map(|list| Name::parse(list).with_context(|| format!("the list {list}")));
            let lists = lists.collect::<anyhow::Result<Vec<_>>>()?;
            let findings = check(&config, &facts, &lists)?;
            Ok(tell(&findings, output))
        }
    }
}

/// The records of a new configuration, as lines of a zone file with their notes.
pub fn zone_lines(config: &Config, domain: &str) -> anyhow::Result<Vec<String>> {
    let wish = Wish { domains: &[domain.to_owned()], next_keys: &[] };
    let sections = wanted::wanted(&Facts::gather(config, &wish)?)?;
    Ok(sections.iter().flat_map(|section| &section.lines).map(Line::told).collect())
}

fn records(facts: &Facts, output: &Output) -> anyhow::Result<()> {
    let sections = wanted::wanted(facts)?;
    let policies = facts.domains.iter().filter_map(|hosted| Some((&hosted.name, wanted::policy_file(facts, hosted)?)));
    let policies: Vec<_> = policies.collect();
    let objects: Vec<Value> = sections.iter().flat_map(|section| &section.lines).map(json_of).collect();
    let texts: Vec<Value> = policies
        .iter()
        .map(|(domain, file)| json!({ "domain": domain.as_str(), "url": file.url, "text": file.text }))
        .collect();
    if output.json(&json!({ "records": objects, "policies": texts })) {
        return Ok(());
    }
    sections.iter().for_each(|section| output.say(zone_text(section)));
    output.say("; The name of each address (PTR) is set by whoever lends it:");
    match facts.addresses.as_slice() {
        [] => output.say(format!("; <address backwards>  PTR {}.", facts.host)),
        known => known.iter().for_each(|a| output.say(format!("; {}.  PTR {}.", Name::reverse(*a), facts.host))),
    }
    for (domain, file) in &policies {
        output.say(format!("\n; MTA-STS policy of {domain}, for a web server with a valid certificate to hand out at"));
        output.say(format!("; {}", file.url));
        file.text.lines().for_each(|line| output.say(format!(";   {line}")));
    }
    Ok(())
}

fn zone_text(section: &Section) -> String {
    let mut text = format!("; {}\n", section.title);
    section.lines.iter().for_each(|line| text.push_str(&(line.told() + "\n")));
    text
}

fn json_of(line: &Line) -> Value {
    json!({
        "name": line.name.as_str(),
        "type": line.kind().as_str(),
        "data": line.record().map(wanted::presentation),
        "zone": line.to_string(),
        "is_placeholder": line.record().is_none(),
        "note": line.note,
    })
}

/// Asks through the resolver of the configuration.
fn check(config: &Config, facts: &Facts, blocklists: &[Name]) -> anyhow::Result<Vec<Finding>> {
    let (trust, anchors) = (sending::trust(config)?, sending::trust_anchors(config)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let resolver = sending::resolver(config, anchors)?;
        let can_prove = resolver.probe(&Name::root()).await.can_prove();
        let lookup: Arc<dyn Lookup> = Arc::new(resolver);
        let client = sending::https(config, &lookup, &trust);
        let (policies, _) = Policies::new(lookup.clone(), client, POLICIES_MAX, None);
        let questions = ask::Questions { lookup: &lookup, can_prove, blocklists, policies: Some(&policies) };
        Ok(ask::ask(facts, &questions).await?)
    })
}

/// Prints findings in their order; fails when one of them is an error.
fn tell(findings: &[Finding], output: &Output) -> ExitCode {
    let count = |severity| findings.iter().filter(|finding| finding.severity == Some(severity)).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if !output.json(&json!({ "findings": findings, "errors": errors, "warnings": warnings })) {
        for finding in findings {
            let colour = match finding.severity {
                None => "32",
                Some(Severity::Warning) => "33;1",
                Some(Severity::Error) => "31;1",
            };
            // The padding is outside of the colour, whose signs take no room.
            let word = finding.word();
            let padding = " ".repeat("warning".len() - word.len());
            output.say(format!("{}{padding}  {}", output.paint(colour, word), finding.told()));
        }
        output.say(format!("\n{errors} errors, {warnings} warnings"));
    }
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
