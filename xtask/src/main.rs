//! The longer tasks of the house: `cargo xtask test | tidy | crash | bench | fuzz`.

mod bench;
mod crash;
mod fuzz;
mod packages;
mod run;
mod sink;
mod test;

use anyhow::bail;

const USAGE: &str = "cargo xtask TASK

  test                 everything: format, lints, tidy, all tests, then the tests against real programs
                       (installs the Debian packages it needs and says so; root only for that)
    --quick            only what needs no other program
  tidy                 the rules of layout, imports and citations; lists the longest functions and files
  crash [outbound] [--kills N] [--seed N]
                       kill -9 at random moments under load, restart, check (default 10); a seed repeats the choices
  bench [GROUP] [--runs N]
                       pillarbox beside Postfix and Dovecot in one run; writes docs/book/performance.md, or the part of
                       one group: inbound, outbound
    --quick            little of everything, to see that it works; writes nothing
    --only SERVER      reference or pillarbox alone; writes nothing
    --big N            inbound: messages in the big mailbox
    --messages N       outbound: messages of one run
    --queue N          outbound: messages of the long queue
  fuzz [TARGET] [--seconds N]
                       fuzz one target or all (needs a nightly toolchain and cargo-fuzz)";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    std::env::set_current_dir(run::repository()?)?;
    if arguments.iter().any(|argument| ["--help", "-h", "help"].contains(&argument.as_str())) {
        println!("{USAGE}");
        return Ok(());
    }
    match arguments.first().map(String::as_str) {
        Some("test") => test::test(rest),
        Some("tidy") => test::tidy(),
        Some("crash") => crash::crash(rest),
        Some("bench") => bench::bench(rest),
        Some("fuzz") => fuzz::fuzz(rest),
        _ => bail!("{USAGE}"),
    }
}
