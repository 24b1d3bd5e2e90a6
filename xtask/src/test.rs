//! `cargo xtask test`: everything that must hold.

use crate::run::Arguments;
use crate::{crash, packages, run};
use testkit::tidy;

/// Format, lints, tidy, all tests, then the tests against real programs and ten kills.
pub fn test(arguments: &[String]) -> anyhow::Result<()> {
    let quick = Arguments::read(arguments, &["--quick"], &[])?.has("--quick");
    run::run("cargo", &["fmt", "--all", "--check"])?;
    run::run("cargo", &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    run::run("cargo", &["test", "--locked"])?;
    run::run("cargo", &["test", "--locked", "--package", "powercut"])?;
    if quick {
        return Ok(());
    }
    packages::install(&packages::PEERS)?;
    packages::unpack_exim()?;
    run::run("cargo", &["build", "--locked", "--release", "--package", "pillarbox"])?;
    run::run("cargo", &["test", "--locked", "--package", "peers", "--", "--test-threads", "2"])?;
    crash::crash(&[])
}

/// Prints what is out of order, and the longest functions and files.
pub fn tidy() -> anyhow::Result<()> {
    let report = tidy::inspect(&run::repository()?)?;
    print!("{report}");
    if report.faults.is_empty() { Ok(()) } else { anyhow::bail!("{} faults", report.faults.len()) }
}
