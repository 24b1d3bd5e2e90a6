//! `fsck`: every message read, every checksum checked, every counter counted anew (P7).

use crate::cli::Fsck;
use crate::config::Loaded;
use crate::output::Output;
use anyhow::anyhow;
use std::process::ExitCode;
use store::embedded::{Report, fsck as check_store};

/// Checks the store, and mends it if asked to. Fails when something is wrong and was not mended.
pub fn fsck(loaded: &Loaded, options: &Fsck, output: &Output) -> anyhow::Result<ExitCode> {
    crate::serve::become_owner_of_mail(&loaded.config)?;
    let mut progress = output.progress("messages");
    let folder = &loaded.config.storage.folder;
    let report = check_store(folder, options.repair, &mut |step| progress.at(step.records_done, step.records))
        .map_err(|error| anyhow!("{error}"))?;
    drop(progress);
    let wrong = !report.database.is_empty() || report.lost_count > 0 || !report.contradictions.is_empty();
    if !output.json(&json(&report)) {
        tell(&report, options.repair, wrong, output);
    }
    Ok(if wrong && !report.repaired { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn tell(report: &Report, repair: bool, wrong: bool, output: &Output) {
    for line in &report.database {
        output.say(format!("{} {line}", output.paint("31;1", "database:")));
    }
    for lost in &report.lost {
        let what = format!("{} {} UID {}: {}", lost.account, lost.mailbox, lost.uid, lost.cause);
        output.say(format!("{} {what}", output.paint("31;1", "lost:")));
    }
    for line in &report.contradictions {
        output.say(format!("{} {line}", output.paint("33;1", "contradiction:")));
    }
    for orphan in &report.orphans {
        output.say(format!("orphan: {} (harmless, the next start removes it)", orphan.display()));
    }
    output.say(format!("{} messages read, {} octets, {} lost", report.records, report.octets, report.lost_count));
    match (wrong, repair) {
        (false, _) => output.say("everything is in order"),
        (true, true) if report.repaired => {
            output.say("repaired; messages listed as lost are gone from their mailboxes")
        }
        (true, true) => output.say("not everything could be repaired; restore a backup"),
        (true, false) => output.say("run `pillarbox fsck --repair` to mend it"),
    }
}

fn json(report: &Report) -> serde_json::Value {
    let lost: Vec<serde_json::Value> = report
        .lost
        .iter()
        .map(|lost| {
            serde_json::json!({ "account": lost.account, "mailbox": lost.mailbox, "uid": lost.uid, "cause": lost.cause })
        })
        .collect();
    serde_json::json!({
        "records": report.records, "octets": report.octets, "database": report.database, "lost": lost,
        "lost_count": report.lost_count, "contradictions": report.contradictions, "orphans": report.orphans,
        "repaired": report.repaired,
    })
}
