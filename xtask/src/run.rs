//! Running other programs and saying so.

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The root of the repository.
pub fn repository() -> anyhow::Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask lies in the repository")?.to_owned())
}

/// Runs a command and fails if it fails.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    run_with(program, arguments, &[])
}

/// The same, with additions to the environment.
pub fn run_with(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    eprintln!("$ {program} {}", arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .with_context(|| format!("{program} cannot be run"))?;
    if !status.success() {
        bail!("{program} {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}

/// A command that runs when this is dropped, or when this program ends in whatever way, `kill -9` included: to stop servers
/// that go on by themselves.
pub struct Afterwards(Child);

impl Afterwards {
    /// Keeps a command for later.
    pub fn run(program: &Path, arguments: &[&str]) -> anyhow::Result<Afterwards> {
        // The shell waits for the end of its input, which nobody else holds open. Ctrl-C must not reach it.
        let shell = Command::new("sh")
            .args(["-c", "read _; exec \"$0\" \"$@\""])
            .arg(program)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .context("sh cannot be run")?;
        Ok(Afterwards(shell))
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Nobody is left to be told of a failure; what it printed is seen.
        let _ = self.0.wait();
    }
}

/// What follows the name of a task: a word at most, then options.
pub struct Arguments {
    word: Option<String>,
    options: BTreeMap<String, String>,
}

impl Arguments {
    /// Reads them. Options are `--name VALUE`, or `--name` alone for those in `flags`; an unknown one is an error, so that
    /// none is passed over in silence.
    pub fn read(arguments: &[String], flags: &[&str], valued: &[&str]) -> anyhow::Result<Arguments> {
        let mut read = Arguments { word: None, options: BTreeMap::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let name = argument.as_str();
            if flags.contains(&name) {
                read.options.insert(name.to_owned(), String::new());
            } else if valued.contains(&name) {
                let value = rest.next().with_context(|| format!("{name} needs a value"))?;
                read.options.insert(name.to_owned(), value.clone());
            } else if read.word.is_none() && !name.starts_with('-') {
                read.word = Some(name.to_owned());
            } else {
                bail!("`{name}` is not known here; `cargo xtask help` says what is");
            }
        }
        Ok(read)
    }

    /// The word.
    pub fn word(&self) -> Option<&str> {
        self.word.as_deref()
    }

    /// Whether a flag is there.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// The value of an option.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// The same as a number.
    pub fn number(&self, name: &str, default: u64) -> anyhow::Result<u64> {
        let Some(value) = self.value(name) else { return Ok(default) };
        value.parse().with_context(|| format!("{name} needs a number, not `{value}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Arguments> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Arguments::read(&words, &["--quick"], &["--runs"])
    }

    #[test]
    fn what_is_for_afterwards_runs_then() {
        let path = std::env::temp_dir().join(format!("xtask-afterwards-{}", std::process::id()));
        let later = Afterwards::run(Path::new("touch"), &[path.to_str().unwrap()]).unwrap();
        assert!(!path.exists());
        drop(later);
        assert!(path.exists());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn arguments_are_known_or_refused() {
        let good = read("inbound --runs 4 --quick").unwrap();
        assert_eq!((good.word(), good.number("--runs", 3).unwrap(), good.has("--quick")), (Some("inbound"), 4, true));
        assert_eq!(read("--quick").unwrap().number("--runs", 3).unwrap(), 3);
        for bad in ["--fast", "-h", "inbound outbound", "--runs"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("--runs many").unwrap().number("--runs", 3).is_err());
    }
}
