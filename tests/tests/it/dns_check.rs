//! `dns records` and `dns check` against a signed zone in a simulated internet.

use anyhow::{Context, ensure};
use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::policy::Page;
use peers::internet::zone::Zone;
use peers::server::binary;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

/// Runs the binary; gives what it printed, and whether it succeeded.
fn run(config: &Path, words: &[&str]) -> anyhow::Result<(bool, String)> {
    let output = Command::new(binary()).arg("--config").arg(config).args(words).output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

fn json(config: &Path, words: &[&str]) -> anyhow::Result<(bool, Value)> {
    let (succeeded, text) = run(config, &[words, &["--json"]].concat())?;
    Ok((succeeded, serde_json::from_str(&text).context(text)?))
}

/// Findings of `dns check` that are not as they should be: the record, and how bad. That hosts are at loopback, and the
/// test machine may have an address of its own, is left out.
fn wrong(checked: &Value) -> Vec<String> {
    let findings = checked["findings"].as_array().cloned().unwrap_or_default();
    let is_wrong = |finding: &&Value| {
        !finding["severity"].is_null() && !finding["cause"].as_str().is_some_and(|cause| cause.contains("this machine"))
    };
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let told = |f: &Value| format!("{} {} {}", word(f, "severity"), word(f, "name"), word(f, "type"));
    findings.iter().filter(is_wrong).map(told).collect()
}

/// The zone as it was told to be published, with one text in it replaced.
fn zone(records: &Value, host: Ipv4Addr, site: Ipv4Addr, from: &str, to: &str) -> Zone {
    let mut zone = Zone::secure("example.net").a("mx.example.net", host).a("mta-sts.example.net", site);
    for record in records["records"].as_array().into_iter().flatten() {
        let (Some(name), Some(kind), Some(data)) =
            (record["name"].as_str(), record["type"].as_str(), record["data"].as_str())
        else {
            continue;
        };
        let line = format!("{name} {kind} {data}").replace(from, to);
        if !matches!(kind, "A" | "AAAA")
            && let Some((name, data)) = line.split_once(' ')
        {
            zone = zone.record(name, data);
        }
    }
    zone
}

/// R8: what is told to be published is found right, and each record that is wrong is named.
#[test]
fn r8_dns_check_names_the_record_that_is_wrong() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let folder = internet.scratch("house");
    let config = folder.join("pillarbox.toml");
    let storage = folder.join("mail").to_string_lossy().into_owned();
    let (made, told) = run(&config, &["init", "example.net", "-p", "b", "--storage", &storage])?;
    ensure!(made, "{told}");
    let text = format!(
        "{}\n[dns]\nservers = [\"{}\"]\n[outbound]\nca_file = \"{}\"\nmta_sts_port = {}\nmta_sts_private_hosts = true\n",
        std::fs::read_to_string(&config)?,
        internet.resolver(),
        internet.ca_file().display(),
        internet.https_port(),
    );
    std::fs::write(&config, text)?;
    ensure!(run(&config, &["dkim", "key", "example.net", "--selector", "s"])?.0);
    let records = json(&config, &["dns", "records"])?.1;

    let host = internet.address();
    let certificate = internet.authority().issue(&Leaf::of("mta-sts.example.net"))?;
    let site = internet.policy_host(Page::policy(&certificate, "enforce", &["mx.example.net"], 86_400))?;
    let site_address = *site.address().ip();
    internet.set_zone(zone(&records, host, site_address, "\0", ""))?;
    let (succeeded, checked) = json(&config, &["dns", "check"])?;
    assert_eq!((succeeded, wrong(&checked)), (true, Vec::new()), "{checked:#}");

    let pin = records["records"].as_array().into_iter().flatten().find(|record| record["type"] == "TLSA");
    let pin = pin.and_then(|record| record["data"].as_str()).context("a TLSA record")?;
    for (from, to, named) in [
        (
            pin,
            "3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "error _25._tcp.mx.example.net TLSA",
        ),
        ("MX 10 mx.", "MX 10 ns.", "error example.net MX"),
        ("v=spf1 mx", "v=spf1 xm", "error example.net TXT"),
        ("s-rsa._domainkey", "t._domainkey", "error s-rsa._domainkey.example.net TXT"),
        ("p=none", "p=nothing", "error _dmarc.example.net TXT"),
        ("SRV 0 1 993", "SRV 0 1 143", "warning _imaps._tcp.example.net SRV"),
    ] {
        internet.set_zone(zone(&records, host, site_address, from, to))?;
        let (succeeded, checked) = json(&config, &["dns", "check", "example.net"])?;
        assert_eq!(succeeded, named.starts_with("warning"), "{named}: {checked:#}");
        assert!(wrong(&checked).contains(&named.to_owned()), "{named}: {checked:#}");
    }
    Ok(())
}
