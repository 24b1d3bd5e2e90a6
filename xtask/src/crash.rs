//! `cargo xtask crash`: `kill -9` at random moments under load, restart, check every promise.

mod outbound;

use crate::run::{self, Arguments};
use anyhow::bail;
use std::time::{SystemTime, UNIX_EPOCH};

/// Kills the release binary, or that of `PILLARBOX_BIN`, so many times. `--seed` repeats the choices of a storm;
/// `outbound` storms mail that leaves instead of mailboxes.
pub fn crash(arguments: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::read(arguments, &[], &["--kills", "--seed"])?;
    let kills = arguments.number("--kills", 10)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = arguments.number("--seed", now)?;
    if std::env::var_os("PILLARBOX_BIN").is_none() {
        run::run("cargo", &["build", "--locked", "--release", "--package", "pillarbox"])?;
    }
    eprintln!("crash: {kills} kills, seed {seed}");
    match arguments.word() {
        Some("outbound") => {
            let tally = outbound::run(kills, seed, |line| eprintln!("{line}"))?;
            println!(
                "crash outbound: {kills} kills, {} recipients acknowledged, every one reached the sink, {} more than once; \
                 mail is conserved; longest restart {} ms",
                tally.acknowledged, tally.repeated, tally.restart_max_ms
            );
        }
        Some(group) => bail!("crash knows no `{group}`, only `outbound`"),
        None => {
            let tally = peers::storm::run(kills, seed, |line| eprintln!("{line}"))?;
            println!(
                "crash: {} kills, {} messages, {} of them without an answer when the server died; every promise kept; longest restart {} ms",
                tally.kills, tally.acknowledged, tally.unanswered, tally.restart_max_ms
            );
        }
    }
    Ok(())
}
