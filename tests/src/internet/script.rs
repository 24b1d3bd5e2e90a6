//! What a scripted MTA does: as it should, except where its script says otherwise.

use super::certificate::Certificate;
use std::time::Duration;

/// A point in a session at which a script may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A connection was taken; the banner is due.
    Banner,
    /// EHLO, or LHLO, in clear or on a port that speaks TLS from the first octet.
    Ehlo,
    /// EHLO, or LHLO, after STARTTLS.
    EhloInTls,
    /// HELO.
    Helo,
    /// STARTTLS.
    StartTls,
    /// The handshake of TLS, in place of which octets, silence or an end may come.
    Handshake,
    /// AUTH.
    Auth,
    /// MAIL; its argument is the reverse-path.
    Mail,
    /// RCPT; its argument is the address.
    Recipient,
    /// DATA.
    Data,
    /// Within the message, after as many octets as [`Script::content_cut`] says.
    Content,
    /// The message is complete. Its argument is a recipient: each in turn for LMTP, any of them for SMTP.
    End,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
}

/// What a script does in place of the right thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Sends this reply; its lines are parted by CRLF, the last end is added. One that begins with 2, or with 3 after DATA,
    /// counts as success. After 421 the connection is closed.
    Reply(String),
    /// Sends this reply and closes the connection.
    ReplyAndClose(String),
    /// Sends these octets as they are, with or without a line end; the first counts as that of a reply.
    Octets(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Says nothing any more, and keeps the connection open until the other side closes it.
    Silence,
    /// Waits, then goes on as the rest of the script says.
    Delay(Duration),
}

impl Act {
    /// A reply.
    pub fn reply(text: &str) -> Act {
        Act::Reply(text.to_owned())
    }
}

#[derive(Debug, Clone)]
struct Rule {
    stage: Stage,
    /// Matches the argument; `*` stands for anything.
    pattern: String,
    act: Act,
    /// How often it still applies; `None` for ever.
    left: Option<u32>,
}

/// The script of an MTA. It may be changed while the MTA runs; each session sees the change at its next command.
#[derive(Debug, Clone)]
pub struct Script {
    pub(crate) lmtp: bool,
    pub(crate) name: String,
    pub(crate) extensions: Vec<String>,
    pub(crate) size_max_octets: Option<u64>,
    pub(crate) recipients_max: Option<usize>,
    pub(crate) connections_max: Option<usize>,
    pub(crate) messages_max: Option<usize>,
    pub(crate) content_cut: u64,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) named: Vec<(String, Certificate)>,
    pub(crate) only_tls12: bool,
    pub(crate) implicit_tls: bool,
    pub(crate) tls_required: bool,
    pub(crate) login: Option<(String, String)>,
    rules: Vec<Rule>,
}

impl Default for Script {
    fn default() -> Script {
        Script::smtp()
    }
}

impl Script {
    /// SMTP without TLS, with the extensions that most hosts have.
    pub fn smtp() -> Script {
        let extensions = ["PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"];
        Script {
            lmtp: false,
            name: "mx.simulated.example".to_owned(),
            extensions: extensions.map(str::to_owned).to_vec(),
            size_max_octets: None,
            recipients_max: None,
            connections_max: None,
            messages_max: None,
            content_cut: 1,
            certificate: None,
            named: Vec::new(),
            only_tls12: false,
            implicit_tls: false,
            tls_required: false,
            login: None,
            rules: Vec::new(),
        }
    }

    /// LMTP (RFC 2033).
    pub fn lmtp() -> Script {
        Script { lmtp: true, ..Script::smtp() }
    }

    /// The name in its banner and replies.
    pub fn named(mut self, name: &str) -> Script {
        self.name = name.to_owned();
        self
    }

    /// Announces exactly these extensions, besides those that other settings bring. Known: PIPELINING, 8BITMIME, SMTPUTF8,
    /// DSN, CHUNKING, REQUIRETLS (only inside TLS); others are announced, and that is all.
    pub fn extensions(mut self, extensions: &[&str]) -> Script {
        self.extensions = extensions.iter().map(|&extension| extension.to_owned()).collect();
        self
    }

    /// Announces an extension too.
    pub fn with(mut self, extension: &str) -> Script {
        self.extensions.push(extension.to_owned());
        self
    }

    /// Announces one less.
    pub fn without(mut self, extension: &str) -> Script {
        self.extensions.retain(|announced| announced != extension);
        self
    }

    /// Announces a largest message (RFC 1870), and holds it.
    pub fn size_max_octets(mut self, octets: u64) -> Script {
        self.size_max_octets = Some(octets);
        self
    }

    /// Takes so many recipients of a message; says 452 to more.
    pub fn recipients_max(mut self, recipients: usize) -> Script {
        self.recipients_max = Some(recipients);
        self
    }

    /// Serves so many connections at once; says 421 to more.
    pub fn connections_max(mut self, connections: usize) -> Script {
        self.connections_max = Some(connections);
        self
    }

    /// Takes so many messages in a connection; says 421 to one more.
    pub fn messages_max(mut self, messages: usize) -> Script {
        self.messages_max = Some(messages);
        self
    }

    /// Offers STARTTLS with this certificate.
    pub fn certificate(mut self, certificate: &Certificate) -> Script {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Shows another certificate to those who ask for a name; [`Script::certificate`] must be given too.
    pub fn certificate_for(mut self, name: &str, certificate: &Certificate) -> Script {
        self.named.push((name.to_owned(), certificate.clone()));
        self
    }

    /// Knows no newer TLS than 1.2.
    pub fn only_tls12(mut self) -> Script {
        self.only_tls12 = true;
        self
    }

    /// Speaks TLS from the first octet.
    pub fn implicit_tls(mut self) -> Script {
        self.implicit_tls = true;
        self
    }

    /// Takes no mail outside TLS: 530 to MAIL.
    pub fn tls_required(mut self) -> Script {
        self.tls_required = true;
        self
    }

    /// Takes no mail without this login, by AUTH PLAIN or LOGIN; offered only inside TLS if there is TLS.
    pub fn login(mut self, name: &str, password: &str) -> Script {
        self.login = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// Does this at a stage, always.
    pub fn when(self, stage: Stage, act: Act) -> Script {
        self.rule(stage, "*", act, None)
    }

    /// Does this at a stage, so many times over all sessions together; then as it should.
    pub fn when_times(self, times: u32, stage: Stage, act: Act) -> Script {
        self.rule(stage, "*", act, Some(times))
    }

    /// Does this at a stage when its argument matches a pattern: `*` stands for anything, case does not matter.
    pub fn when_matches(self, stage: Stage, pattern: &str, act: Act) -> Script {
        self.rule(stage, pattern, act, None)
    }

    /// Replies so to RCPT of addresses that match a pattern.
    pub fn recipient(self, pattern: &str, reply: &str) -> Script {
        self.when_matches(Stage::Recipient, pattern, Act::reply(reply))
    }

    /// Waits before it replies, at every stage.
    pub fn delay(self, delay: Duration) -> Script {
        use Stage::*;
        let all = [Banner, Ehlo, EhloInTls, Helo, StartTls, Auth, Mail, Recipient, Data, End, Rset, Noop, Quit];
        all.into_iter().fold(self, |script, stage| script.when(stage, Act::Delay(delay)))
    }

    /// Does this within the message, when so many octets of it have come.
    pub fn content_cut(mut self, octets: u64, act: Act) -> Script {
        self.content_cut = octets;
        self.when(Stage::Content, act)
    }

    fn rule(mut self, stage: Stage, pattern: &str, act: Act, left: Option<u32>) -> Script {
        // A pause comes before whatever else is due at its stage.
        let at = if matches!(act, Act::Delay(_)) { 0 } else { self.rules.len() };
        self.rules.insert(at, Rule { stage, pattern: pattern.to_owned(), act, left });
        self
    }

    /// Whether an extension is announced.
    pub(crate) fn announces(&self, extension: &str) -> bool {
        self.extensions.iter().any(|announced| announced == extension)
    }

    /// What to do at a stage: any delays, added up, and the first act that is due. What is due only so often is used up.
    pub(crate) fn due(&mut self, stage: Stage, arguments: &[&str]) -> (Duration, Option<Act>) {
        let mut delay = Duration::ZERO;
        for rule in self.rules.iter_mut().filter(|rule| rule.stage == stage && rule.left != Some(0)) {
            if !arguments.iter().any(|argument| matches(&rule.pattern, argument)) && rule.pattern != "*" {
                continue;
            }
            rule.left = rule.left.map(|left| left - 1);
            match &rule.act {
                Act::Delay(pause) => delay += *pause,
                act => return (delay, Some(act.clone())),
            }
        }
        (delay, None)
    }
}

/// Whether text matches a pattern in which `*` stands for any number of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let Some((middle, end)) = rest.rsplit_once('*') else { return left.ends_with(rest) };
    for part in middle.split('*') {
        let Some(at) = left.find(part) else { return false };
        left = left.get(at + part.len()..).unwrap_or_default();
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a@b.example", "A@b.example", true),
            ("a@b.example", "aa@b.example", false),
            ("*@b.example", "a@b.example", true),
            ("a*", "a@b.example", true),
            ("a*e", "a@b.example", true),
            ("*@*.example", "a@b.example", true),
            ("*@*.example", "a@b.examples", false),
            ("a*a", "a", false),
            ("x*y*z", "xz", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn acts_are_due_in_order_and_used_up() {
        let pause = Duration::from_secs(1);
        let mut script = Script::smtp()
            .when_times(1, Stage::Mail, Act::Close)
            .when(Stage::Mail, Act::Delay(pause))
            .recipient("bad@*", "550 no");
        assert_eq!(script.due(Stage::Mail, &["a@b"]), (pause, Some(Act::Close)));
        assert_eq!(script.due(Stage::Mail, &["a@b"]), (pause, None));
        assert_eq!(script.due(Stage::Recipient, &["good@b"]), (Duration::ZERO, None));
        assert_eq!(script.due(Stage::Recipient, &["bad@b"]), (Duration::ZERO, Some(Act::reply("550 no"))));
        assert_eq!(script.due(Stage::Data, &[]), (Duration::ZERO, None));
    }
}
