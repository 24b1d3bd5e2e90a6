//! Asking for a password: on a terminal without echo, and with the echo back however the asking ends.

use anyhow::bail;
use mail::Secret;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Write, stderr, stdin};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// Asks on standard error, since what is captured on standard output is the command's result. The answer comes from
/// standard input.
pub fn ask(prompt: &str) -> anyhow::Result<Secret> {
    eprint!("{prompt}");
    stderr().flush()?;
    let silence = if stdin().is_terminal() { Some(Silence::begin()?) } else { None };
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line);
    drop(silence);
    if read? == 0 {
        bail!("no password was given");
    }
    Ok(Secret::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// A terminal without echo, for as long as this lives.
struct Silence;

/// How the silenced terminal was before.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

impl Silence {
    fn begin() -> nix::Result<Silence> {
        guard();
        let mut before = before();
        let settings = tcgetattr(stdin())?;
        tcsetattr(stdin(), SetArg::TCSAFLUSH, &silent(&settings))?;
        *before = Some(settings);
        Ok(Silence)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(settings) = before().take() {
            // A terminal that is gone needs no echo.
            let _ = tcsetattr(stdin(), SetArg::TCSAFLUSH, &settings);
            // The line end that was typed was not shown.
            eprintln!();
        }
    }
}

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn silent(settings: &Termios) -> Termios {
    let mut silent = settings.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    silent
}

/// Signals that end or stop a process whose terminal is silent.
const SIGNALS: [Signal; 5] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];

/// Sets a thread to receive these signals from now on; their effect stays what it was.
fn guard() {
    static GUARD: Once = Once::new();
    GUARD.call_once(|| {
        let signals: SigSet = SIGNALS.into_iter().collect();
        // Threads that begin later leave them to the guard as well.
        if signals.thread_block().is_err() {
            return;
        }
        let watch = move || {
            while let Ok(signal) = signals.wait() {
                pass_on(signal);
            }
        };
        if std::thread::Builder::new().name("terminal".to_owned()).spawn(watch).is_err() {
            let _ = signals.thread_unblock();
        }
    });
}

/// Gives the terminal its echo back, then lets the signal do what it does. If that was only a stop, or nothing, the
/// terminal is silenced again.
fn pass_on(signal: Signal) {
    // Held, so that the prompt cannot end in between.
    let before = before();
    if let Some(settings) = &*before {
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, settings);
        eprintln!();
    }
    let one: SigSet = [signal].into_iter().collect();
    let _ = raise(signal).and_then(|()| one.thread_unblock()).and_then(|()| one.thread_block());
    if let Some(settings) = &*before {
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &silent(settings));
    }
}
