//! Signals at awkward moments.

use crate::commands::init;
use crate::program::{Server, command, free_addresses, until};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, mkfifo};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};

/// A server that reads its configuration from a pipe stands still at its very start, and hears the signal there.
#[test]
fn a_hangup_while_the_server_starts_is_a_reload() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let address = free_addresses(1)[0];
    let written = std::fs::read_to_string(&config).unwrap();
    let (head, _) = written.split_once("\n[[listener]]").unwrap();
    let log = config.with_file_name("log");
    let text = format!(
        "{head}\n[log]\nfile = \"log\"\n\n[[listener]]\nname = \"mx\"\naddress = \"{address}\"\ncertificates = \"smtp\"\n"
    );
    std::fs::remove_file(&config).unwrap();
    mkfifo(&config, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut server = Server::begin(&config);
    // Opens when the server has opened the other end.
    let mut pipe = OpenOptions::new().write(true).open(&config).unwrap();
    server.signal(Signal::SIGHUP);
    // Whoever reads the configuration from now on gets a file.
    let file = config.with_file_name("file");
    std::fs::write(&file, &text).unwrap();
    std::fs::rename(&file, &config).unwrap();
    pipe.write_all(text.as_bytes()).unwrap();
    drop(pipe);
    server.serves(&config);
    until("it reloads", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains(" reloaded ")));
    server.end();
}

/// `password hash` on a terminal of its own.
struct Asked {
    child: Child,
    /// What a person sees and types.
    screen: File,
    /// The program's side.
    terminal: File,
}

impl Asked {
    fn begin() -> Asked {
        let pair = openpty(None, None).unwrap();
        let (screen, terminal) = (File::from(pair.master), File::from(pair.slave));
        let words = ["password", "hash", "-s", "PLAIN"];
        let child = command(Path::new("/nonexistent"), &words)
            .stdin(terminal.try_clone().unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let asked = Asked { child, screen, terminal };
        until("the terminal is silent", || !asked.echoes());
        asked
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ECHO)
    }
}

#[test]
fn a_password_is_asked_for_in_silence() {
    let mut asked = Asked::begin();
    asked.screen.write_all(b"sec ret\n").unwrap();
    // What is typed too early would be thrown away: the second prompt comes when the first has been answered.
    let mut prompts = String::new();
    let mut stderr = asked.child.stderr.take().unwrap();
    while !prompts.contains("Retype new password: ") {
        let mut octets = [0; 64];
        let read = stderr.read(&mut octets).unwrap();
        prompts.push_str(std::str::from_utf8(&octets[..read]).unwrap());
    }
    until("the terminal is silent", || !asked.echoes());
    asked.screen.write_all(b"sec ret\n").unwrap();
    let mut hash = String::new();
    asked.child.stdout.take().unwrap().read_to_string(&mut hash).unwrap();
    assert_eq!(hash, "{PLAIN}sec ret\n");
    assert!(asked.child.wait().unwrap().success() && asked.echoes());
    drop(asked.terminal);
    let mut shown = Vec::new();
    // Without a program behind it, the terminal ends in an error.
    let _ = asked.screen.read_to_end(&mut shown);
    assert!(!String::from_utf8_lossy(&shown).contains("sec"), "{}", shown.escape_ascii());
}

/// Ctrl-C is a SIGINT from the terminal.
#[test]
fn a_signal_at_a_password_prompt_leaves_the_terminal_as_it_was() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        // Whoever runs the tests in the background may have these ignored, which is inherited.
        if is_ignored(signal) {
            continue;
        }
        let mut asked = Asked::begin();
        kill(Pid::from_raw(asked.child.id() as i32), signal).unwrap();
        let status = asked.child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32), "{signal}: the signal's own effect");
        assert!(asked.echoes(), "{signal}");
    }
}

fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    ignored >> (signal as i32 - 1) & 1 == 1
}
