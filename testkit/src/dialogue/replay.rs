//! A dialogue against a machine, with a virtual clock.

use super::expect::{check, lines, rewritten, updating};
use super::{Dialogue, Stimulus};
use mail::{Machine, Moment, Step, TlsFacts};
use std::time::Duration;

/// How the other side's octets arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// All consecutive lines that are sent at once.
    Whole,
    /// One octet at a time.
    Octets,
}

/// Most steps a machine may take before it waits.
const STEPS_MAX: usize = 1_000_000;
/// Where the virtual clock begins.
const CLOCK_START: Duration = Duration::from_secs(1_000);

/// Plays a dialogue against a machine. `answer` is the world: it gets each question with the octets of all
/// [`Step::Body`] steps that it has not taken yet.
///
/// With `UPDATE=1` in the environment, the expected lines of the file are rewritten from what came.
///
/// # Errors
/// What was expected and what came, with file and line.
pub fn replay<M: Machine>(
    dialogue: &Dialogue,
    machine: M,
    split: Split,
    answer: impl FnMut(M::Question, &mut Vec<u8>) -> M::Answer,
) -> Result<(), String> {
    let mut stage = Stage {
        machine,
        answer,
        now: Moment(CLOCK_START),
        output: Vec::new(),
        body: Vec::new(),
        rest: Rest::Waiting { deadline: Moment(CLOCK_START), notices: false },
        noticed: false,
    };
    let mut came = Vec::with_capacity(dialogue.scenes.len());
    for scene in &dialogue.scenes {
        let at = |error: String| format!("{}:{}: {error} ({split:?})", dialogue.path.display(), scene.line);
        stage.play(&scene.stimulus, split).map_err(at)?;
        let output = lines(&std::mem::take(&mut stage.output));
        if !updating() {
            check(dialogue, scene, &output).map_err(|error| format!("{error} ({split:?})"))?;
        }
        came.push(output);
        match (scene.closes, stage.rest == Rest::Closed) {
            (true, false) => return Err(at("after this the machine should have closed, but it waits".into())),
            (false, true) => return Err(at("after this the machine closed, but `CLOSE:` is missing".into())),
            (true, true) | (false, false) => {}
        }
    }
    if stage.rest == Rest::Handshake {
        return Err(format!("{}: the machine asked for TLS, but `TLS:` is missing", dialogue.path.display()));
    }
    if updating() {
        let text = rewritten(dialogue, &came);
        std::fs::write(&dialogue.path, text).map_err(|error| format!("{}: {error}", dialogue.path.display()))?;
    }
    Ok(())
}

/// Where the machine has come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Waiting { deadline: Moment, notices: bool },
    Handshake,
    Closed,
}

/// A machine and the world around it: what a driver is in production.
struct Stage<M, A> {
    machine: M,
    answer: A,
    now: Moment,
    output: Vec<u8>,
    body: Vec<u8>,
    rest: Rest,
    noticed: bool,
}

impl<M: Machine, A: FnMut(M::Question, &mut Vec<u8>) -> M::Answer> Stage<M, A> {
    fn play(&mut self, stimulus: &Stimulus, split: Split) -> Result<(), String> {
        if self.rest == Rest::Handshake && !matches!(stimulus, Stimulus::Tls | Stimulus::End) {
            return Err("the machine waits for TLS, but `TLS:` is missing before this".into());
        }
        match stimulus {
            Stimulus::Connect => self.drive(),
            Stimulus::Send(octets) => self.send(octets, split),
            Stimulus::Wait(time) => self.pass(*time),
            Stimulus::Tls => {
                if self.rest != Rest::Handshake {
                    return Err("the machine did not ask for TLS".into());
                }
                self.machine.tls_started(handshake_facts());
                self.drive()
            }
            Stimulus::Notice => {
                self.noticed = true;
                self.drive()
            }
            Stimulus::End => {
                self.machine.end_of_input();
                self.drive()
            }
            Stimulus::Shutdown => {
                self.machine.shutdown();
                self.drive()
            }
        }
    }

    fn send(&mut self, octets: &[u8], split: Split) -> Result<(), String> {
        let size = match split {
            Split::Whole => octets.len().max(1),
            Split::Octets => 1,
        };
        for piece in octets.chunks(size) {
            // What was sent before a handshake, or to a closed connection, is thrown away, as a driver does (V3).
            if !matches!(self.rest, Rest::Waiting { .. }) {
                return Ok(());
            }
            self.machine.receive(piece);
            self.drive()?;
        }
        Ok(())
    }

    /// Lets time pass, stopping at every deadline on the way.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let target = self.now.after(time);
        for _ in 0..STEPS_MAX {
            match self.rest {
                Rest::Waiting { deadline, .. } if deadline > self.now && deadline < target => {
                    self.now = deadline;
                    self.drive()?;
                }
                Rest::Waiting { .. } => {
                    self.now = target;
                    return self.drive();
                }
                Rest::Handshake | Rest::Closed => {
                    self.now = target;
                    return Ok(());
                }
            }
        }
        Err(format!("the machine set {STEPS_MAX} deadlines"))
    }

    /// Carries the machine's steps until it rests.
    fn drive(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            match self.machine.next(self.now) {
                Step::Write(octets) => self.output.extend(octets),
                Step::Body(octets) => self.body.extend(octets),
                Step::Ask(question) => {
                    let answer = (self.answer)(question, &mut self.body);
                    self.machine.answer(answer);
                }
                Step::Wait { notices: true, .. } if std::mem::take(&mut self.noticed) => self.machine.notice(),
                Step::Wait { deadline, notices } => {
                    self.rest = Rest::Waiting { deadline, notices };
                    return Ok(());
                }
                Step::StartTls => {
                    self.rest = Rest::Handshake;
                    return Ok(());
                }
                Step::Close => {
                    self.rest = Rest::Closed;
                    return Ok(());
                }
            }
        }
        Err(format!("the machine took {STEPS_MAX} steps without waiting"))
    }
}

/// What dialogues know of a handshake.
fn handshake_facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".to_owned(), bits: 256, server_name: None }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use std::path::Path;

    /// Echoes lines; a few lines do more.
    #[derive(Default)]
    struct Toy {
        input: Vec<u8>,
        steps: std::collections::VecDeque<Step<String>>,
        deadline: Option<Moment>,
        over: bool,
    }

    impl Toy {
        fn new() -> Toy {
            let mut toy = Toy::default();
            toy.say("hello");
            toy
        }

        fn say(&mut self, text: &str) {
            self.steps.push_back(Step::Write(format!("{text}\r\n").into_bytes()));
        }

        fn command(&mut self, line: &str) {
            match line {
                "STARTTLS" => {
                    self.input.clear();
                    self.say("go");
                    self.steps.push_back(Step::StartTls);
                }
                "QUIT" => {
                    self.say("bye");
                    self.steps.push_back(Step::Close);
                }
                "LOOP" => self.over = true,
                line if line.starts_with("BODY ") => self.steps.push_back(Step::Body(line.as_bytes().to_vec())),
                line if line.starts_with("ASK ") => self.steps.push_back(Step::Ask(line.to_owned())),
                line => self.say(&format!("echo {line}")),
            }
        }
    }

    impl Machine for Toy {
        type Question = String;
        type Answer = String;

        fn next(&mut self, now: Moment) -> Step<String> {
            loop {
                if self.over {
                    return Step::Write(Vec::new());
                }
                if let Some(step) = self.steps.pop_front() {
                    return step;
                }
                let Some(end) = self.input.iter().position(|octet| *octet == b'\n') else { break };
                let line: Vec<u8> = self.input.drain(..=end).collect();
                self.deadline = None;
                self.command(String::from_utf8_lossy(&line).trim_end());
            }
            let deadline = *self.deadline.get_or_insert(now.after(Duration::from_secs(60)));
            if now >= deadline {
                self.deadline = None;
                return Step::Write(b"late\r\n".to_vec());
            }
            Step::Wait { deadline, notices: true }
        }

        fn receive(&mut self, octets: &[u8]) {
            self.input.extend_from_slice(octets);
        }

        fn answer(&mut self, answer: String) {
            self.say(&answer);
        }

        fn notice(&mut self) {
            self.say("news");
        }

        fn end_of_input(&mut self) {
            self.steps.push_back(Step::Close);
        }

        fn tls_started(&mut self, facts: TlsFacts) {
            self.say(facts.version);
        }

        fn shutdown(&mut self) {
            self.say("down");
            self.steps.push_back(Step::Close);
        }
    }

    fn both(text: &str) -> Result<(), String> {
        let dialogue = parse(Path::new("toy.txt"), &format!("# RFC 1 §1: toy\n{text}"))?;
        let mut world = |question: String, body: &mut Vec<u8>| {
            format!("{question}: {}", String::from_utf8_lossy(&std::mem::take(body)))
        };
        replay(&dialogue, Toy::new(), Split::Whole, &mut world)?;
        replay(&dialogue, Toy::new(), Split::Octets, &mut world)
    }

    #[test]
    fn a_dialogue_is_played_whole_and_by_octets() {
        both("S: hello\nC: a\nC: b\nS: echo a\nS: echo b\nC: c\\\nC: d\nS: echo cd\nC: QUIT\nS: bye\nCLOSE:\n")
            .unwrap();
        both("S: h*o\nC: BODY 1\nC: BODY 2\nC: ASK x\nS: ASK x: BODY 1BODY 2\nEND:\nCLOSE:\n").unwrap();
    }

    #[test]
    fn v3_octets_before_the_handshake_are_gone() {
        both("S: hello\nC: STARTTLS\nC: injected\nS: go\nTLS:\nS: TLSv1.3\nC: a\nS: echo a\n").unwrap();
    }

    #[test]
    fn the_clock_stops_at_each_deadline() {
        both("S: hello\nWAIT: 59s\nWAIT: 1s\nS: late\nWAIT: 3m\nS: late\nS: late\nS: late\n").unwrap();
        both("S: hello\nNOTICE:\nS: news\nSHUTDOWN:\nS: down\nCLOSE:\n").unwrap();
    }

    #[test]
    fn what_differs_is_told_with_its_place() {
        for (text, error) in [
            ("S: hullo\n", "toy.txt:2: expected\n  S: hullo\ngot\n  S: hello"),
            ("C: a\n", "toy.txt:1: after this line nothing more was expected"),
            ("S: hello\nC: a\nS: echo a\nS: more\n", "toy.txt:5: expected\n  S: more\nbut nothing more came"),
            ("S: hello\nC: QUIT\nS: bye\n", "toy.txt:3: after this the machine closed"),
            ("S: hello\nCLOSE:\n", "toy.txt:1: after this the machine should have closed"),
            ("S: hello\nTLS:\n", "toy.txt:3: the machine did not ask for TLS"),
            ("S: hello\nC: STARTTLS\nS: go\nC: a\n", "toy.txt:5: the machine waits for TLS"),
            ("S: hello\nC: STARTTLS\nS: go\n", "toy.txt: the machine asked for TLS"),
            ("S: hello\nC: LOOP\n", "toy.txt:3: the machine took 1000000 steps"),
        ] {
            let found = both(text).unwrap_err();
            assert!(found.starts_with(error), "{text}\n{found}");
        }
    }
}
