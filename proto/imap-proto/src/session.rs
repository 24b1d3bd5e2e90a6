//! The session machine: octets in, steps out. What a command does stands in `commands`.

use crate::commands::{self, After, append};
use crate::config::{
    BAD_COMMANDS_MAX, COMMANDS_BEFORE_LOGIN_MAX, Config, FLUSH_OCTETS, LINE_BEFORE_LOGIN_OCTETS_MAX, LINE_OCTETS_MAX,
    LITERAL_BEFORE_LOGIN_OCTETS_MAX, LITERALS_BEFORE_LOGIN_OCTETS_MAX, LITERALS_OCTETS_MAX, SWALLOWED_OCTETS_MAX,
};
use crate::input::{Fragment, Input, LineTooLong, LiteralHead};
use crate::lexer::Lexer;
use crate::next::{Completion, Next, Status, Then, ask};
use crate::question::{Answer, Question};
use crate::state::{NotRenewed, Phase, State};
use mail::{Machine, Moment, PeerFacts, Step, TlsFacts, UidSet};
use std::sync::Arc;

/// An IMAP session without input or output.
pub struct Session {
    state: State,
    input: Input,
    activity: Activity,
    /// The command so far: lines and literals as they came.
    command: Vec<u8>,
    /// Octets of lines in `command`.
    line_octets: usize,
    /// Octets of literals in `command`, announced or come.
    literal_octets: u64,
    /// What happens before the tagged response of the command in hand.
    after: After,
    clock: Clock,
    counts: Counts,
    events: Events,
}

/// What the machine is doing.
enum Activity {
    /// Nothing was said yet.
    Greeting,
    /// Reads a command line.
    Command,
    /// Reads so many octets of a literal into the command.
    Literal(u64),
    /// Reads a line for a running command.
    Line(Then<Fragment>),
    /// Passes on so many octets of a message.
    Body(u64, Then<()>),
    /// Throws away so many octets, then the rest of the command.
    Swallow(u64, Completion),
    /// Waits for an answer.
    Asking(Then<Answer>),
    /// Has an answer.
    Answered(Then<Answer>, Answer),
    /// Goes on with a command that has written something.
    Flushing(Then<()>),
    /// Tells of changes until the client says DONE.
    Idle,
    /// Waits for the output to be sent, then for TLS.
    StartTls,
    /// Waits for the output to be sent, then closes.
    Closing,
    /// Everything is over.
    Closed,
}

/// When the patience with the client ends.
#[derive(Default)]
struct Clock {
    deadline: Option<Moment>,
    keepalive: Option<Moment>,
}

/// What is counted against the limits of the session.
#[derive(Default)]
struct Counts {
    bad_commands: u32,
    commands_before_login: u32,
}

/// What happened since it was last looked at.
#[derive(Default)]
struct Events {
    /// The client gave a sign of life.
    heard: bool,
    /// Something changed in what we watch.
    noticed: bool,
    /// No more octets will come.
    ended: bool,
    /// The server is going down.
    stopping: bool,
}

impl Session {
    /// A session with a client that has just connected.
    pub fn new(config: Arc<Config>, peer: PeerFacts) -> Session {
        Session {
            state: State::new(config, peer),
            input: Input::default(),
            activity: Activity::Greeting,
            command: Vec::new(),
            line_octets: 0,
            literal_octets: 0,
            after: After::Nothing,
            clock: Clock::default(),
            counts: Counts::default(),
            events: Events::default(),
        }
    }

    /// One step of whatever is under way; `None` when there is more to do at once.
    fn advance(&mut self, now: Moment) -> Option<Step<Question>> {
        match std::mem::replace(&mut self.activity, Activity::Closed) {
            Activity::Greeting => {
                let greeting = format!("OK [CAPABILITY {}] {} IMAP ready.", self.state.capabilities(), self.host());
                self.state.untagged(&greeting);
                self.activity = Activity::Command;
                None
            }
            Activity::Command => self.read_command(now),
            Activity::Literal(remaining) => self.read_literal(remaining, now),
            Activity::Line(then) => match self.input.fragment(self.line_octets_max()) {
                Some(Ok(fragment)) => {
                    let next = then(&mut self.state, fragment);
                    self.apply(next)
                }
                Some(Err(LineTooLong)) => self.bye("The line is too long."),
                None => self.wait(Activity::Line(then), now),
            },
            Activity::Body(remaining, then) => self.read_body(remaining, then, now),
            Activity::Swallow(remaining, completion) => self.swallow(remaining, completion, now),
            // The driver asks for a step before it has answered: there is none. Not met by a driver that keeps its duties.
            Activity::Asking(then) => {
                self.activity = Activity::Asking(then);
                Some(Step::Wait { deadline: now.after(self.state.config.silence_timeout), notices: false })
            }
            Activity::Answered(then, answer) => {
                let next = then(&mut self.state, answer);
                self.apply(next)
            }
            // Output that has grown large was sent before this step.
            Activity::Flushing(then) => {
                let next = then(&mut self.state, ());
                self.apply(next)
            }
            Activity::Idle => self.idle(now),
            Activity::StartTls => {
                if !self.state.out.is_empty() {
                    self.activity = Activity::StartTls;
                    return Some(self.write());
                }
                // What came before the handshake was not protected by it (V3).
                self.input.clear();
                self.activity = Activity::Command;
                Some(Step::StartTls)
            }
            Activity::Closing => self.close(),
            Activity::Closed => Some(Step::Close),
        }
    }

    fn read_command(&mut self, now: Moment) -> Option<Step<Question>> {
        let room = self.line_octets_max().saturating_sub(self.line_octets);
        match self.input.fragment(room) {
            None => self.wait(Activity::Command, now),
            Some(Err(LineTooLong)) => self.bye("The command is too long."),
            Some(Ok(fragment)) => {
                self.line_octets += fragment.text.len();
                self.command.extend_from_slice(&fragment.text);
                match fragment.literal {
                    Some(head) => self.begin_literal(head),
                    None => self.run_command(),
                }
            }
        }
    }

    /// A command wants to go on with a literal.
    fn begin_literal(&mut self, head: LiteralHead) -> Option<Step<Question>> {
        if !head.synchronizing && !self.state.config.offers("LITERAL+") {
            // Read away: octets that are sent anyway must not be taken for commands.
            let before_login = matches!(self.state.phase, Phase::NotAuthenticated);
            return self.refuse_literal(head, Completion::bad("Unknown kind of literal."), before_login);
        }
        if !matches!(self.state.phase, Phase::NotAuthenticated)
            && let Some(next) = append::begin(&mut self.state, &self.command, head)
        {
            self.forget_command();
            self.events.heard = true;
            self.after = After::Renew;
            return self.apply(next);
        }
        let before_login = matches!(self.state.phase, Phase::NotAuthenticated);
        let (single, total) = if before_login {
            (LITERAL_BEFORE_LOGIN_OCTETS_MAX, LITERALS_BEFORE_LOGIN_OCTETS_MAX)
        } else {
            (LITERALS_OCTETS_MAX, LITERALS_OCTETS_MAX)
        };
        self.literal_octets = self.literal_octets.saturating_add(head.octets);
        if head.octets > single || self.literal_octets > total {
            let mut completion = Completion::bad("The literal is too large.");
            completion.code = Some("TOOBIG".into());
            return self.refuse_literal(head, completion, before_login);
        }
        let announcement = format!("{{{}}}\r\n", head.octets);
        self.line_octets += announcement.len();
        self.command.extend_from_slice(announcement.as_bytes());
        if head.synchronizing {
            self.state.out.extend_from_slice(b"+ Ready for the literal.\r\n");
        }
        self.activity = Activity::Literal(head.octets);
        None
    }

    /// RFC 7888 §4: a synchronizing literal is refused before it is sent; another one is read away, or the connection is
    /// closed.
    fn refuse_literal(
        &mut self,
        head: LiteralHead,
        completion: Completion,
        before_login: bool,
    ) -> Option<Step<Question>> {
        self.state.tag = Lexer::new(&self.command).tag().unwrap_or("*").to_owned();
        self.forget_command();
        self.after = After::Nothing;
        if head.synchronizing {
            return self.apply(Next::Done(completion));
        }
        if before_login { self.bye(&completion.text) } else { self.apply(Next::Swallow(head.octets, completion)) }
    }

    fn read_literal(&mut self, remaining: u64, now: Moment) -> Option<Step<Question>> {
        let octets = self.input.octets(remaining);
        let remaining = remaining.saturating_sub(octets.len() as u64);
        self.command.extend_from_slice(octets);
        if remaining == 0 {
            self.activity = Activity::Command;
            return None;
        }
        self.wait(Activity::Literal(remaining), now)
    }

    fn read_body(&mut self, remaining: u64, then: Then<()>, now: Moment) -> Option<Step<Question>> {
        if remaining == 0 {
            let next = then(&mut self.state, ());
            return self.apply(next);
        }
        let octets = self.input.octets(remaining);
        if octets.is_empty() {
            return self.wait(Activity::Body(remaining, then), now);
        }
        let octets = octets.to_vec();
        self.activity = Activity::Body(remaining.saturating_sub(octets.len() as u64), then);
        Some(Step::Body(octets))
    }

    fn swallow(&mut self, remaining: u64, completion: Completion, now: Moment) -> Option<Step<Question>> {
        if remaining > 0 {
            let octets = self.input.octets(remaining).len() as u64;
            let remaining = remaining.saturating_sub(octets);
            if remaining > 0 {
                return self.wait(Activity::Swallow(remaining, completion), now);
            }
        }
        match self.input.fragment(self.line_octets_max()) {
            None => self.wait(Activity::Swallow(0, completion), now),
            Some(Err(LineTooLong)) => self.bye("The command is too long."),
            Some(Ok(Fragment { literal: Some(head), .. })) if !head.synchronizing => {
                self.apply(Next::Swallow(head.octets, completion))
            }
            Some(Ok(_)) => self.apply(Next::Done(completion)),
        }
    }

    /// A command is complete.
    fn run_command(&mut self) -> Option<Step<Question>> {
        let command = std::mem::take(&mut self.command);
        self.forget_command();
        self.events.heard = true;
        self.after = After::Nothing;
        if matches!(self.state.phase, Phase::NotAuthenticated) {
            self.counts.commands_before_login += 1;
            if is_http(&command) {
                return self.bye("This is no HTTP server.");
            }
            if self.counts.commands_before_login > COMMANDS_BEFORE_LOGIN_MAX {
                return self.bye("Too many commands before login.");
            }
        }
        let next = commands::run(&mut self.state, &command, &mut self.after);
        // The buffer is kept for the next command unless it has grown.
        if command.capacity() <= KEPT_OCTETS_MAX {
            self.command = command;
            self.command.clear();
        }
        // Who begins to idle is told first what has happened until now.
        self.events.noticed |= matches!(next, Next::Idle);
        self.apply(next)
    }

    /// Does what a command wants.
    fn apply(&mut self, mut next: Next) -> Option<Step<Question>> {
        loop {
            next = match next {
                Next::Ask(question, then) => {
                    self.activity = Activity::Asking(then);
                    return Some(Step::Ask(question));
                }
                Next::Flush(then) => {
                    self.activity = Activity::Flushing(then);
                    return None;
                }
                Next::Line(then) => {
                    self.activity = Activity::Line(then);
                    return None;
                }
                Next::Body(octets, then) => {
                    self.activity = Activity::Body(octets, then);
                    return None;
                }
                Next::Swallow(octets, _) if octets > SWALLOWED_OCTETS_MAX => Next::Bye("The literal is too large."),
                Next::Swallow(octets, completion) => {
                    self.activity = Activity::Swallow(octets, completion);
                    return None;
                }
                Next::Idle => {
                    self.activity = Activity::Idle;
                    return None;
                }
                Next::StartTls(completion) => {
                    completion.write(&self.state.tag, &mut self.state.out);
                    self.activity = Activity::StartTls;
                    return None;
                }
                Next::Logout(completion) => {
                    completion.write(&self.state.tag, &mut self.state.out);
                    self.activity = Activity::Closing;
                    return None;
                }
                Next::Done(completion) => self.finish(completion),
                Next::Concluded(completion) => return self.conclude(completion),
                Next::Bye(text) => return self.bye(text),
                Next::Close => {
                    self.activity = Activity::Closed;
                    return None;
                }
            };
        }
    }

    /// Before the tagged response, the client is told what changed.
    fn finish(&mut self, completion: Completion) -> Next {
        if self.state.lost {
            return Next::Bye(MAILBOX_LOST);
        }
        let Some(selected) = self.state.selected().filter(|_| !completion.suspicious) else {
            return Next::Concluded(completion);
        };
        match self.after {
            After::Nothing => Next::Concluded(completion),
            After::Tell { expunge } => tell(&mut self.state, expunge, |_| Next::Concluded(completion)),
            After::Renew => ask(Question::Snapshots(vec![selected.id]), move |state, answer| {
                // Where the picture cannot be had, the command has happened all the same.
                let _ = state.renew(answer);
                tell(state, true, |_| Next::Concluded(completion))
            }),
        }
    }

    /// Writes the tagged response; the next command may come.
    fn conclude(&mut self, completion: Completion) -> Option<Step<Question>> {
        completion.write(&self.state.tag, &mut self.state.out);
        self.state.told = UidSet::new();
        self.activity = Activity::Command;
        if completion.suspicious {
            self.counts.bad_commands += 1;
        } else if completion.status == Status::Ok {
            self.counts.bad_commands = 0;
        }
        if self.counts.bad_commands >= BAD_COMMANDS_MAX {
            return self.bye("Too many bad commands.");
        }
        None
    }

    /// RFC 2177: changes are told as they happen; DONE ends that.
    fn idle(&mut self, now: Moment) -> Option<Step<Question>> {
        // What happened before is told before the next line is read, so that the reading does not change what is told.
        if std::mem::take(&mut self.events.noticed)
            && let Some(mailbox) = self.state.selected().map(|selected| selected.id)
        {
            return self.apply(ask(Question::Snapshots(vec![mailbox]), |state, answer| match state.renew(answer) {
                Ok(()) => tell(state, true, |_| Next::Idle),
                Err(NotRenewed) => Next::Idle,
            }));
        }
        match self.input.fragment(self.line_octets_max()) {
            Some(Ok(fragment)) => {
                self.clock.keepalive = None;
                let done = fragment.text.eq_ignore_ascii_case(b"DONE") && fragment.literal.is_none();
                self.apply(Next::Done(if done {
                    Completion::ok("IDLE completed.")
                } else {
                    Completion::bad("IDLE ends with DONE.")
                }))
            }
            Some(Err(LineTooLong)) => self.bye("The line is too long."),
            None => self.wait(Activity::Idle, now),
        }
    }

    /// Nothing more can be done without the client.
    fn wait(&mut self, activity: Activity, now: Moment) -> Option<Step<Question>> {
        let idle = matches!(activity, Activity::Idle);
        self.activity = activity;
        if !self.state.out.is_empty() {
            return Some(self.write());
        }
        if self.events.ended {
            self.activity = Activity::Closing;
            return None;
        }
        if self.events.stopping {
            return self.bye("The server is going down.");
        }
        if std::mem::take(&mut self.events.heard) {
            self.clock.deadline = None;
        }
        let patience = match self.state.phase {
            Phase::NotAuthenticated => self.state.config.before_login_timeout,
            Phase::Authenticated | Phase::Selected(_) => self.state.config.silence_timeout,
        };
        let deadline = *self.clock.deadline.get_or_insert(now.after(patience));
        if now >= deadline {
            return self.bye("Disconnected for inactivity.");
        }
        self.input.tidy();
        if !idle {
            return Some(Step::Wait { deadline, notices: false });
        }
        let pause = self.state.config.idle_keepalive;
        let keepalive = *self.clock.keepalive.get_or_insert(now.after(pause));
        if now >= keepalive {
            self.clock.keepalive = Some(now.after(pause));
            self.state.untagged("OK Still here");
            return Some(self.write());
        }
        Some(Step::Wait { deadline: deadline.min(keepalive), notices: true })
    }

    fn write(&mut self) -> Step<Question> {
        Step::Write(std::mem::take(&mut self.state.out))
    }

    fn bye(&mut self, text: &str) -> Option<Step<Question>> {
        self.state.untagged(&format!("BYE {text}"));
        self.activity = Activity::Closing;
        None
    }

    fn close(&mut self) -> Option<Step<Question>> {
        if !self.state.out.is_empty() {
            self.activity = Activity::Closing;
            return Some(self.write());
        }
        self.input.clear();
        self.activity = Activity::Closed;
        if std::mem::take(&mut self.state.staging) {
            self.activity = Activity::Asking(Box::new(|_, _| Next::Close));
            return Some(Step::Ask(Question::Abandon));
        }
        Some(Step::Close)
    }

    fn forget_command(&mut self) {
        self.command.clear();
        if self.command.capacity() > KEPT_OCTETS_MAX {
            self.command = Vec::new();
        }
        (self.line_octets, self.literal_octets) = (0, 0);
    }

    fn line_octets_max(&self) -> usize {
        match self.state.phase {
            Phase::NotAuthenticated => LINE_BEFORE_LOGIN_OCTETS_MAX,
            Phase::Authenticated | Phase::Selected(_) => LINE_OCTETS_MAX,
        }
    }

    fn host(&self) -> &str {
        &self.state.config.host_name
    }
}

impl Machine for Session {
    type Question = Question;
    type Answer = Answer;

    fn next(&mut self, now: Moment) -> Step<Question> {
        self.state.now = now;
        loop {
            if self.state.out.len() >= FLUSH_OCTETS {
                return self.write();
            }
            if let Some(step) = self.advance(now) {
                return step;
            }
        }
    }

    fn receive(&mut self, octets: &[u8]) {
        // Before login, only whole commands are a sign of life: trickling octets buys no time.
        self.events.heard |= !matches!(self.state.phase, Phase::NotAuthenticated);
        self.input.push(octets);
    }

    fn answer(&mut self, answer: Answer) {
        self.activity = match std::mem::replace(&mut self.activity, Activity::Closed) {
            Activity::Asking(then) => Activity::Answered(then, answer),
            unasked => unasked,
        };
    }

    fn notice(&mut self) {
        self.events.noticed = true;
    }

    fn end_of_input(&mut self) {
        self.events.ended = true;
    }

    fn tls_started(&mut self, facts: TlsFacts) {
        self.state.tls = Some(facts);
        self.events.heard = true;
    }

    fn shutdown(&mut self) {
        self.events.stopping = true;
    }
}

/// Tells what changed and goes on; who hears of new messages first is who they are recent to.
fn tell(state: &mut State, expunge: bool, then: impl FnOnce(&mut State) -> Next + Send + 'static) -> Next {
    if state.lost {
        return Next::Bye(MAILBOX_LOST);
    }
    let arrived = state.tell_changes(expunge);
    match state.selected().filter(|selected| arrived && !selected.view.read_only) {
        Some(selected) => ask(Question::ClaimRecent(selected.id), |state, _| then(state)),
        None => then(state),
    }
}

/// Whether a command line is the first line of an HTTP request, sent by a browser that was lured here (V49).
fn is_http(command: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] =
        [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI"];
    command.split(|b| *b == b' ').next().is_some_and(|word| METHODS.contains(&word))
}

/// An empty command buffer up to this size is kept, in octets.
const KEPT_OCTETS_MAX: usize = 512;
const MAILBOX_LOST: &str = "The selected mailbox is gone.";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn session() -> Session {
        let tls = TlsFacts { version: "TLSv1.3", cipher: String::new(), bits: 256, server_name: None };
        Session::new(Arc::new(Config::new("mx.example.org")), PeerFacts { peer: None, local: None, tls: Some(tls) })
    }

    /// Steps until the session waits; credentials are always right.
    fn settle(session: &mut Session) {
        loop {
            match session.next(Moment(Duration::from_secs(1))) {
                Step::Ask(Question::Authenticate(_)) => {
                    let account = mail::AccountName::parse("brian@example.net").unwrap();
                    session.answer(Answer::Authenticated(Ok(account)));
                }
                Step::Ask(question) => panic!("{question:?}"),
                Step::Wait { .. } => return,
                Step::Close => panic!("closed"),
                Step::Write(_) | Step::Body(_) | Step::StartTls => {}
            }
        }
    }

    #[test]
    fn v22_a_session_at_rest_holds_next_to_nothing() {
        fn assert_send<T: Send>(_: &T) {}
        let mut session = session();
        assert_send(&session);
        assert!(size_of::<Session>() <= 1_024, "{}", size_of::<Session>());
        settle(&mut session);
        session.receive(b"l LOGIN brian@example.net hunter2\r\n");
        settle(&mut session);
        session.receive(format!("a NOOP {}\r\nb CAPABILITY\r\n", "x".repeat(60_000)).as_bytes());
        settle(&mut session);
        session.receive(format!("c NOOP {{100000+}}\r\n{}\r\n", "x".repeat(100_000)).as_bytes());
        settle(&mut session);
        let held = session.input.held() + session.command.capacity() + session.state.out.capacity();
        assert!(held <= 2_048, "{held}");
    }

    #[test]
    fn octets_after_the_end_and_answers_to_nothing_are_harmless() {
        let mut session = session();
        session.answer(Answer::Done);
        settle(&mut session);
        session.receive(b"a LOGOUT\r\nb NOOP\r\n");
        while session.next(Moment::default()) != Step::Close {}
        session.receive(b"c NOOP\r\n");
        session.notice();
        session.answer(Answer::Done);
        assert_eq!(session.next(Moment::default()), Step::Close);
    }
}
