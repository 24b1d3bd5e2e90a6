//! `cargo xtask crash`: `kill -9` at random moments under load, restart, check every promise.

use crate::run;
use std::time::{SystemTime, UNIX_EPOCH};

/// Kills the release binary so many times. `--seed` repeats the choices of a storm.
pub fn crash(arguments: &[String]) -> anyhow::Result<()> {
    let kills = run::number(arguments, "--kills", 10)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = run::number(arguments, "--seed", now)?;
    run::run("cargo", &["build", "--locked", "--release", "--package", "pillarbox"])?;
    eprintln!("crash: {kills} kills, seed {seed}");
    let tally = peers::storm::run(kills, seed, |line| eprintln!("{line}"))?;
    println!(
        "crash: {} kills, {} messages, {} of them without an answer when the server died; every promise kept; longest restart {} ms",
        tally.kills, tally.acknowledged, tally.unanswered, tally.restart_max_ms
    );
    Ok(())
}
