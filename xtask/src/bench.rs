//! `cargo xtask bench`: pillarbox beside the reference stack (Postfix and Dovecot) on the same machine in one run.
//!
//! The reference and the load generators lie outside this repository, in the folder that `PILLARBOX_REFERENCE` names:
//! `baseline/` (setup, start, stop) and `load/` (one JSON line a result). Mail that leaves (`outbound`) needs neither,
//! only an installed Postfix. Figures are medians with their spread, and ratios; never a test that can fail.

mod outbound;
mod report;
mod subject;

use crate::run::{self, Arguments};
use anyhow::{Context, ensure};
use report::Results;
use std::path::{Path, PathBuf};
use subject::Subject;

/// Where the reference lies unless the environment says otherwise.
const REFERENCE: &str = "../shared";

/// Where the figures go.
const PAGE: &str = "docs/book/performance.md";

/// Runs both servers in turn under the same load and writes `docs/book/performance.md`. A group, `inbound` or `outbound`,
/// may be named; its part of the page alone is written then.
pub fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let valued = ["--runs", "--only", "--big", "--messages", "--queue"];
    let arguments = Arguments::read(arguments, &["--quick"], &valued)?;
    let group = arguments.word();
    ensure!(group.is_none_or(|group| ["inbound", "outbound"].contains(&group)), "the groups are inbound and outbound");
    let quick = arguments.has("--quick");
    let runs = arguments.number("--runs", if quick { 1 } else { 3 })?;
    let only = arguments.value("--only");
    ensure!(
        only.is_none_or(|only| ["reference", "pillarbox"].contains(&only)),
        "the servers are reference and pillarbox"
    );
    if std::env::var_os("PILLARBOX_BIN").is_none() {
        run::run("cargo", &["build", "--locked", "--release", "--package", "pillarbox"])?;
    }
    let lab = std::env::temp_dir().join(format!("pillarbox-bench-{}", std::process::id()));
    std::fs::create_dir_all(&lab)?;
    let mut page = std::fs::read_to_string(PAGE)?;
    if group != Some("outbound") {
        let big = arguments.number("--big", if quick { 2_000 } else { 100_000 })?;
        let sections = report::section(&page, outbound::HEADING).map(str::to_owned);
        page = inbound(&lab, runs, big, only)?;
        if let Some(section) = sections {
            page = report::with_section(&page, outbound::HEADING, &section);
        }
    }
    if group != Some("inbound") {
        let size = outbound_size(&arguments, quick, runs)?;
        let section = outbound::section(&outbound::measure(&lab, size, only)?, size);
        page = report::with_section(&page, outbound::HEADING, &section);
    }
    match group {
        Some("outbound") => print!("{}", report::section(&page, outbound::HEADING).unwrap_or_default()),
        _ => print!("{page}"),
    }
    if only.is_none() && !quick {
        std::fs::write(PAGE, page)?;
    }
    eprintln!("raw results: {}", lab.display());
    Ok(())
}

/// How much of what leaves is measured; `quick` only shows that it can be.
fn outbound_size(arguments: &Arguments, quick: bool, runs: u64) -> anyhow::Result<outbound::Size> {
    Ok(outbound::Size {
        runs,
        messages: arguments.number("--messages", if quick { 200 } else { 6_000 })?,
        rate: 50,
        seconds: if quick { 2 } else { 10 },
        queue: arguments.number("--queue", if quick { 1_000 } else { 100_000 })?,
        queue_reference: if quick { 200 } else { 10_000 },
    })
}

/// Mail that comes in and is read: the whole reference stack beside pillarbox.
fn inbound(lab: &Path, runs: u64, big: u64, only: Option<&str>) -> anyhow::Result<String> {
    let reference = PathBuf::from(std::env::var_os("PILLARBOX_REFERENCE").unwrap_or_else(|| REFERENCE.into()));
    let reference = reference.canonicalize().unwrap_or(reference);
    ensure!(
        reference.join("load/build").exists(),
        "the reference stack is not at {}; name its folder in PILLARBOX_REFERENCE",
        reference.display()
    );
    script(&reference, "load/build", &[], &[])?;
    let load = Load { reference: reference.clone(), results: lab.to_owned(), runs, big };
    let mut all = Vec::new();
    if only.is_none_or(|only| only == "reference") {
        let stack = subject::Stack::start(&reference)?;
        all.push(load.measure(&stack)?);
    }
    if only.is_none_or(|only| only == "pillarbox") {
        let pillarbox = subject::Pillarbox::start(lab)?;
        all.push(load.measure(&pillarbox)?);
    }
    Ok(report::page(&all, runs, big))
}

/// The load generators.
struct Load {
    reference: PathBuf,
    results: PathBuf,
    runs: u64,
    big: u64,
}

impl Load {
    /// Everything, in an order that gives both servers the same history.
    fn measure(&self, subject: &dyn Subject) -> anyhow::Result<Results> {
        let mut results = Results::new(subject.name());
        results.set("start_ms", subject.start_ms());
        results.set("rest_mib", subject.memory_mib()?);
        // Before any load: afterwards, connections would live in memory that the load left free.
        self.idle(subject, &mut results)?;
        self.imap_mix(subject, &mut results)?;
        self.throughput(subject, &mut results)?;
        self.big_mailbox(subject, &mut results)?;
        self.pop3(subject, &mut results)?;
        if let Some(ms) = subject.restart_after_kill_ms()? {
            results.set("restart_ms", ms);
        }
        if let Some(ratio) = subject.disk_per_octet()? {
            results.set("disk_ratio", ratio);
        }
        Ok(results)
    }

    fn out(&self, subject: &dyn Subject, what: &str) -> PathBuf {
        self.results.join(format!("{}-{what}.jsonl", subject.name()))
    }

    fn load(
        &self,
        subject: &dyn Subject,
        script_name: &str,
        what: &str,
        arguments: &[&str],
        more: &[(&str, &str)],
    ) -> anyhow::Result<PathBuf> {
        let out = self.out(subject, what);
        let (out_text, runs) = (out.display().to_string(), self.runs.to_string());
        let roots = subject.roots();
        let mut environment = vec![("OUT", out_text.as_str()), ("RUNS", runs.as_str()), ("LAB_ROOTS", roots.as_str())];
        environment.extend_from_slice(more);
        script(&self.reference, &format!("load/{script_name}"), arguments, &environment)?;
        Ok(out)
    }

    fn imap_mix(&self, subject: &dyn Subject, results: &mut Results) -> anyhow::Result<()> {
        let port = subject.imaps().to_string();
        let out =
            self.load(subject, "imap-mix", "imap", &[&port, subject::PASSWORD, subject.name()], &[("SECONDS_", "12")])?;
        results.take(&out)
    }

    fn throughput(&self, subject: &dyn Subject, results: &mut Results) -> anyhow::Result<()> {
        let (smtp, imaps) = (subject.smtp().to_string(), subject.imaps().to_string());
        let counts = [("COUNT_1", "1500"), ("COUNT_10", "4000"), ("COUNT_50", "6000")];
        let out = self.load(
            subject,
            "smtp-throughput",
            "smtp",
            &[&smtp, &imaps, subject::PASSWORD, subject.name()],
            &counts,
        )?;
        results.take(&out)
    }

    fn idle(&self, subject: &dyn Subject, results: &mut Results) -> anyhow::Result<()> {
        let port = subject.imaps().to_string();
        let mut command = std::process::Command::new(self.reference.join("load/idle-memory"));
        command.args([&port, "1000"]).args(subject.roots().split_whitespace()).args([
            "--",
            "--pass",
            subject::PASSWORD,
        ]);
        let output = command.env("HOLD", "8").output().context("idle-memory")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        eprint!("{text}");
        let line = text.lines().rfind(|line| line.contains("pss_kib_per_conn")).unwrap_or_default();
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(line)
            && let Some(per_connection) = value["pss_kib_per_conn"].as_f64()
        {
            results.set("idle_kib", per_connection);
        }
        Ok(())
    }

    fn big_mailbox(&self, subject: &dyn Subject, results: &mut Results) -> anyhow::Result<()> {
        let (port, count) = (subject.imaps().to_string(), self.big.to_string());
        let arguments = [port.as_str(), "big@example.net", subject::PASSWORD, subject.name()];
        let out = self.load(subject, "big-mailbox", "big", &arguments, &[("COUNT", &count)])?;
        results.take(&out)
    }

    fn pop3(&self, subject: &dyn Subject, results: &mut Results) -> anyhow::Result<()> {
        let (pop3s, imaps) = (subject.pop3s().to_string(), subject.imaps().to_string());
        let arguments = [pop3s.as_str(), imaps.as_str(), "notbrian@example.net", subject::PASSWORD, subject.name()];
        let out = self.load(subject, "pop3-download", "pop3", &arguments, &[])?;
        results.take(&out)
    }
}

fn script(reference: &Path, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let path = reference.join(name).display().to_string();
    run::run_with(&path, arguments, environment)
}
