//! `cargo xtask fuzz`: the fuzz targets, for a while each. What they find is replayed by `cargo test` ever after.

use crate::run;
use anyhow::Context;

/// Runs one target, or each in turn.
pub fn fuzz(arguments: &[String]) -> anyhow::Result<()> {
    let seconds = run::number(arguments, "--seconds", 60)?;
    let wanted = arguments.first().filter(|argument| !argument.starts_with("--"));
    for target in targets()? {
        if wanted.is_none_or(|wanted| *wanted == target) {
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
