//! `cargo xtask fuzz`: the fuzz targets, for a while each. What they find is replayed by `cargo test` ever after.

use crate::run::{self, Arguments};
use anyhow::{Context, bail};

/// Runs one target, or each in turn.
pub fn fuzz(arguments: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::read(arguments, &[], &["--seconds"])?;
    let seconds = arguments.number("--seconds", 60)?;
    let wanted = arguments.word();
    let targets = targets()?;
    if let Some(wanted) = wanted.filter(|wanted| !targets.iter().any(|target| target == wanted)) {
        bail!("there is no target `{wanted}`, only {}", targets.join(", "));
    }
    for target in targets {
        if wanted.is_none_or(|wanted| wanted == target) {
            let limit = format!("-max_total_time={seconds}");
            run::run("cargo", &["+nightly", "fuzz", "run", &target, "--", &limit, "-max_len=65536", "-timeout=10"])?;
        }
    }
    Ok(())
}

fn targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("fuzz/fuzz_targets").context("fuzz/fuzz_targets")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
