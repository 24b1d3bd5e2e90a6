//! A house behind a client session: what it has to send, and what it is told.

use mail::{Address, DsnReturn, Machine, Moment, Notify, PeerFacts, Recipient, ReversePath, Secret, Step, TlsFacts};
use sasl::client::Identity;
use smtp_proto::client::{
    Answer, Body, Config, Content, Ending, Fate, Protocol, Question, Report, Session, TlsDemand, Transaction,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// The message of nearly every dialogue.
const MESSAGE: &[u8] = b"Subject: hello\r\n\r\n.dot\r\nbye\r\n";

/// What TLS is like in tests.
pub fn facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".into(), bits: 256, server_name: None }
}

/// An address, in tests.
pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// A transaction from `a@example.com`.
pub fn transaction(recipients: &[&str]) -> Transaction {
    let recipients = recipients.iter().map(|to| Recipient::new(address(to))).collect();
    Transaction::new(ReversePath::Address(address("a@example.com")), recipients, Content::SevenBit)
}

/// Defaults for tests: EHLO says `client.example.com`.
pub fn config(protocol: Protocol) -> Config {
    Config::new(protocol, mail::Domain::parse("client.example.com").unwrap())
}

/// What the house has to send: this with this text, in these pieces; then, if it says so, fail.
#[derive(Debug, Clone)]
pub struct Work(pub Transaction, pub VecDeque<Vec<u8>>, pub End);

/// How the text of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By its end.
    Whole,
    /// By a failure to read it.
    Failing,
}

/// Answers the questions of a client session.
#[derive(Debug, Clone)]
pub struct House {
    /// How sessions go about it.
    pub config: Config,
    /// Whether they begin inside TLS.
    pub tls: bool,
    /// What is to be done, in order; then QUIT.
    pub work: VecDeque<Work>,
    text: Option<(VecDeque<Vec<u8>>, End)>,
    /// The reports, in order.
    pub reports: Vec<Report>,
    /// How the session ended.
    pub ending: Option<Ending>,
    /// Whether a transaction is in hand.
    sending: bool,
}

impl House {
    /// A house with this to do.
    pub fn new(config: Config, work: Vec<Work>) -> House {
        House { config, tls: false, work: work.into(), text: None, reports: Vec::new(), ending: None, sending: false }
    }

    /// The house of a dialogue: its world is a list of words, each of which changes something.
    pub fn named(world: &str) -> House {
        let words: Vec<&str> = world.split(' ').collect();
        let has = |word: &str| words.contains(&word);
        let mut house = House::new(configured(&words), Vec::new());
        house.tls = has("inside-tls");
        let (transaction, pieces) = (sent(&words), text(&words));
        let end = if has("failing") { End::Failing } else { End::Whole };
        for _ in 0..if has("twice") { 2 } else { 1 } {
            house.work.push_back(Work(transaction.clone(), pieces.clone(), end));
        }
        house
    }

    /// A session of this house.
    pub fn session(&self) -> Session {
        let tls = self.tls.then(facts);
        Session::new(Arc::new(self.config.clone()), PeerFacts { peer: None, local: None, tls })
    }

    /// Answers a question, and notices one out of order.
    pub fn answer(&mut self, question: Question) -> Answer {
        assert!(self.ending.is_none(), "a question after the last");
        match question {
            Question::Idle { .. } => {
                assert!(!self.sending, "idle in a transaction");
                match self.work.pop_front() {
                    Some(Work(transaction, pieces, end)) => {
                        self.sending = true;
                        self.text = Some((pieces, end));
                        Answer::Transaction(Box::new(transaction))
                    }
                    None => Answer::Quit,
                }
            }
            Question::Body => {
                assert!(self.sending);
                let (pieces, end) = self.text.as_mut().expect("a text that was not read to its end");
                Answer::Body(match (pieces.pop_front(), *end) {
                    (Some(octets), _) => Body::Octets(octets),
                    (None, end) => {
                        self.text = None;
                        if end == End::Whole { Body::End } else { Body::Failed }
                    }
                })
            }
            Question::Finished(report) => {
                assert!(std::mem::take(&mut self.sending), "a report of nothing");
                self.reports.push(report);
                Answer::Done
            }
            Question::Ended { ending, .. } => {
                assert!(!self.sending, "the end without a report");
                self.ending = Some(ending);
                Answer::Done
            }
        }
    }
}

fn configured(words: &[&str]) -> Config {
    let has = |word: &str| words.contains(&word);
    let mut config = config(if has("lmtp") { Protocol::Lmtp } else { Protocol::Smtp });
    if has("tls-never") {
        config.tls = TlsDemand::Never;
    }
    if has("tls-required") {
        config.tls = TlsDemand::Required;
    }
    if has("auth") {
        config.credentials = Some(Identity::new("brian", Secret::new("mailbox".into())));
    }
    if has("auth-long") {
        config.credentials = Some(Identity::new("brian", Secret::new("x".repeat(400))));
    }
    config.credentials_in_the_clear = has("trusted-wire");
    config.pipelining = !has("one-by-one");
    config.chunking = has("chunks");
    config
}

fn sent(words: &[&str]) -> Transaction {
    let has = |word: &str| words.contains(&word);
    let all = ["brian@example.net", "notbrian@example.net", "full@example.net"];
    let count = if has("three") { 3 } else { 1 + usize::from(has("two")) };
    let mut transaction = transaction(&all[..count]);
    if has("nobody") {
        transaction.recipients.clear();
    }
    if has("many") {
        transaction.recipients.extend((4..10).map(|number| Recipient::new(address(&format!("a{number}@example.net")))));
    }
    if has("utf8-recipient") {
        transaction.recipients.push(Recipient::new(address("грета@example.net")));
    }
    if has("bounce") {
        transaction.reverse_path = ReversePath::Null;
    }
    if has("dsn") {
        transaction.dsn_return = Some(DsnReturn::Headers);
        transaction.envelope_id = Some("QQ=314+159".into());
        for (recipient, success) in transaction.recipients.iter_mut().zip([true, false, true]) {
            recipient.notify = Some(match success {
                true => Notify::On { success, failure: true, delay: false },
                false => Notify::Never,
            });
            recipient.original = Some(format!("rfc822;was+{}", recipient.address));
        }
    }
    transaction.octets = has("sized").then_some(1_000);
    transaction.content = if has("eight-bit") { Content::EightBit } else { Content::SevenBit };
    transaction.smtputf8 = has("utf8");
    transaction.require_tls = has("requiretls");
    transaction
}

fn text(words: &[&str]) -> VecDeque<Vec<u8>> {
    let has = |word: &str| words.contains(&word);
    match () {
        () if has("empty") => VecDeque::new(),
        () if has("odd-lines") => [&b"a\n.\nb\r"[..], b".c\r\n", b".", b".\r", b"\n\n.d"].map(<[u8]>::to_vec).into(),
        () if has("eight-bit") => vec!["Subject: é\r\n\r\nü\r\n".into()].into(),
        () => MESSAGE.chunks(7).map(<[u8]>::to_vec).collect(),
    }
}

/// A session that says, in lines that begin with `H: `, what its house is told.
pub struct Told {
    session: Session,
    held: Option<Question>,
    lines: VecDeque<String>,
}

impl Told {
    /// Around a session.
    pub fn new(session: Session) -> Told {
        Told { session, held: None, lines: VecDeque::new() }
    }
}

impl Machine for Told {
    type Question = Question;
    type Answer = Answer;

    fn next(&mut self, now: Moment) -> Step<Question> {
        if let Some(line) = self.lines.pop_front() {
            return Step::Write(format!("H: {line}\r\n").into_bytes());
        }
        if let Some(question) = self.held.take() {
            return Step::Ask(question);
        }
        match self.session.next(now) {
            Step::Ask(question) => {
                self.lines = told(&question).into();
                self.held = Some(question);
                self.next(now)
            }
            step => step,
        }
    }

    fn receive(&mut self, octets: &[u8]) {
        self.session.receive(octets);
    }

    fn answer(&mut self, answer: Answer) {
        self.session.answer(answer);
    }

    fn notice(&mut self) {
        self.session.notice();
    }

    fn end_of_input(&mut self) {
        self.session.end_of_input();
    }

    fn tls_started(&mut self, facts: TlsFacts) {
        self.session.tls_started(facts);
    }

    fn shutdown(&mut self) {
        self.session.shutdown();
    }
}

fn told(question: &Question) -> Vec<String> {
    match question {
        Question::Idle { peer } => {
            let who = if peer.authenticated { "idle and authenticated" } else { "idle" };
            vec![format!("{who}, {}", peer.protection)]
        }
        Question::Body => Vec::new(),
        Question::Finished(report) => {
            let mut lines: Vec<String> =
                report.fates.iter().enumerate().map(|(index, fate)| result(index, fate)).collect();
            lines.push(if report.usable { "the session goes on" } else { "the session is over" }.to_owned());
            lines
        }
        Question::Ended { ending, .. } => {
            let verdict = ending.verdict();
            vec![format!("ended: {} {}", verdict.status, verdict.text)]
        }
    }
}

fn result(index: usize, fate: &Fate) -> String {
    let word = match fate {
        Fate::Taken(_) => "taken",
        Fate::Refused { .. } => "refused",
        Fate::Surplus(_) => "surplus",
        Fate::Unable(_) => "unable",
        Fate::Lost { .. } => "lost",
    };
    let verdict = fate.verdict();
    let outcome = format!("{:?}", verdict.outcome).to_lowercase();
    format!("{} {word}, {outcome} {}: {}", index + 1, verdict.status, verdict.text)
}
