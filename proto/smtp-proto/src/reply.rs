//! Every text that the machine says of itself. What the house answers passes through unchanged.
//!
//! The texts are those that the neighbours of this server are used to (R18, R19, R70 to R75, R92 to R101).

use crate::grammar::Fault;
use mail::Reply;
use std::borrow::Cow;

pub(crate) const OK: &str = "250 2.0.0 Ok";
pub(crate) const MAIL_OK: &str = "250 2.1.0 Ok";
pub(crate) const RECIPIENT_OK: &str = "250 2.1.5 Ok";
pub(crate) const GO_AHEAD: &str = "354 End data with <CR><LF>.<CR><LF>";
pub(crate) const BYE: &str = "221 2.0.0 Bye";
pub(crate) const READY_FOR_TLS: &str = "220 2.0.0 Ready to start TLS";
pub(crate) const AUTHENTICATED: &str = "235 2.7.0 Authentication successful";
pub(crate) const HELP: &str = "214 2.0.0 RFC 5321 explains the commands";

pub(crate) const TALKS_EARLY: &str = "554 5.5.0 Error: SMTP protocol synchronization";
pub(crate) const TURNED_AWAY: &str = "503 5.5.1 Error: access was denied, say QUIT";

pub(crate) const LINE_TOO_LONG: &str = "500 5.5.2 Error: line too long";
pub(crate) const BAD_SYNTAX: &str = "500 5.5.2 Error: bad syntax";
pub(crate) const BAD_UTF8: &str = "500 5.5.2 Error: bad UTF-8 syntax";
pub(crate) const NOT_RECOGNIZED: &str = "500 5.5.2 Error: command not recognized";
pub(crate) const NOT_IMPLEMENTED: &str = "502 5.5.1 Error: command not implemented";
pub(crate) const VRFY_DISABLED: &str = "502 5.5.1 VRFY command is disabled";
pub(crate) const EXPN_DISABLED: &str = "502 5.5.1 EXPN command is disabled";
/// RFC 2033 §4.1 recommends the code.
pub(crate) const THIS_IS_LMTP: &str = "500 5.5.1 Error: this is LMTP, say LHLO";

pub(crate) const GREET_FIRST: &str = "503 5.5.1 Error: send HELO/EHLO first";
pub(crate) const LHLO_FIRST: &str = "503 5.5.1 Error: send LHLO first";
pub(crate) const NESTED_MAIL: &str = "503 5.5.1 Error: nested MAIL command";
pub(crate) const NEED_MAIL: &str = "503 5.5.1 Error: need MAIL command";
pub(crate) const NEED_RECIPIENT: &str = "503 5.5.1 Error: need RCPT command";
pub(crate) const NO_VALID_RECIPIENTS: &str = "554 5.5.1 Error: no valid recipients";
/// RFC 2033 §4.2 requires the code.
pub(crate) const NO_VALID_RECIPIENTS_LMTP: &str = "503 5.5.1 Error: no valid recipients";
pub(crate) const TRANSACTION_RUNS: &str = "503 5.5.1 Error: MAIL transaction in progress";
pub(crate) const RECIPIENT_AFTER_CHUNK: &str = "503 5.5.1 Error: RCPT after BDAT";
pub(crate) const DATA_AFTER_CHUNK: &str = "503 5.5.1 Error: DATA after BDAT";

pub(crate) const STARTTLS_FIRST: &str = "530 5.7.0 Must issue a STARTTLS command first";
pub(crate) const STARTTLS_SYNTAX: &str = "501 5.5.4 Syntax: STARTTLS";
pub(crate) const TLS_ACTIVE: &str = "554 5.5.1 Error: TLS already active";

pub(crate) const AUTH_NEEDED: &str = "530 5.7.0 Authentication required";
pub(crate) const AUTH_NOT_ENABLED: &str = "503 5.5.1 Error: authentication not enabled";
pub(crate) const AUTH_NEEDS_TLS: &str = "538 5.7.11 Encryption required for requested authentication mechanism";
pub(crate) const AUTH_DONE_ALREADY: &str = "503 5.5.1 Error: already authenticated";
pub(crate) const AUTH_SYNTAX: &str = "501 5.5.4 Syntax: AUTH mechanism";
/// RFC 4954 §4 requires code and status.
pub(crate) const AUTH_MECHANISM: &str = "504 5.5.4 Error: mechanism is not offered";
/// One text for unknown account and wrong password, so that names cannot be probed (R72).
pub(crate) const AUTH_FAILED: &str = "535 5.7.8 Error: authentication failed: wrong name or password";
pub(crate) const AUTH_LATER: &str = "454 4.7.0 Temporary authentication failure";
pub(crate) const AUTH_ABORTED: &str = "501 5.7.0 Authentication aborted";
pub(crate) const AUTH_BASE64: &str = "501 5.5.2 Error: response is not base64";
pub(crate) const AUTH_MALFORMED: &str = "501 5.5.2 Error: malformed authentication response";
/// RFC 4954 §4 requires code and status.
pub(crate) const AUTH_TOO_LONG: &str = "500 5.5.6 Error: authentication response too long";

pub(crate) const HELO_SYNTAX: &str = "501 Syntax: HELO hostname";
pub(crate) const EHLO_SYNTAX: &str = "501 Syntax: EHLO hostname";
pub(crate) const LHLO_SYNTAX: &str = "501 Syntax: LHLO hostname";
pub(crate) const DATA_SYNTAX: &str = "501 5.5.4 Syntax: DATA";
pub(crate) const RSET_SYNTAX: &str = "501 5.5.4 Syntax: RSET";
pub(crate) const BDAT_SYNTAX: &str = "501 5.5.4 Syntax: BDAT count [LAST]";
pub(crate) const ETRN_NEEDS_DOMAIN: &str = "500 Syntax: ETRN domain";
pub(crate) const ETRN_SYNTAX: &str = "501 Error: invalid parameter syntax";
pub(crate) const ETRN_GREET_FIRST: &str = "503 Error: send HELO/EHLO first";
pub(crate) const ETRN_TRANSACTION_RUNS: &str = "503 Error: MAIL transaction in progress";

pub(crate) const RECIPIENTS_TOO_MANY: &str = "452 4.5.3 Error: too many recipients";
pub(crate) const MESSAGE_TOO_BIG: &str = "552 5.3.4 Error: message file too big";
pub(crate) const LOCAL_PROBLEM: &str = "451 4.3.0 Error: local problem, try again later";

/// A reply line of RFC 5321 §4.5.3.1.5 has 512 octets; echoed text gets a share of them.
const ECHO_CHARACTERS_MAX: usize = 320;

pub(crate) fn timeout(host: &str) -> String {
    format!("421 4.4.2 {host} Error: timeout exceeded")
}

pub(crate) fn too_many_errors(host: &str) -> String {
    format!("421 4.7.0 {host} Error: too many errors")
}

pub(crate) fn shutting_down(host: &str) -> String {
    format!("421 4.3.2 {host} Service is shutting down, try again later")
}

pub(crate) fn bare_line_feed(host: &str) -> String {
    format!("521 5.5.2 {host} Error: bare <LF> received")
}

pub(crate) fn not_http(host: &str) -> String {
    format!("521 5.5.1 {host} Error: this is not a web server")
}

pub(crate) fn chunk_taken(octets: u64) -> String {
    format!("250 2.0.0 Ok: {octets} octets")
}

/// One of our texts as a value, for where replies of ours and of the house meet.
pub(crate) fn parsed(line: &str) -> Reply {
    let (code, text) = line.split_once(' ').unwrap_or((line, ""));
    Reply::plain(code.parse().unwrap_or(451), text)
}

/// What a fault of grammar sounds like.
pub(crate) fn of(fault: &Fault) -> Cow<'static, str> {
    match fault {
        Fault::MailSyntax => "501 5.5.4 Syntax: MAIL FROM:<address>".into(),
        Fault::RecipientSyntax => "501 5.5.4 Syntax: RCPT TO:<address>".into(),
        Fault::VerifySyntax => "501 5.5.4 Syntax: VRFY address".into(),
        Fault::BadReversePath => "501 5.1.7 Bad sender address syntax".into(),
        Fault::BadRecipient => "501 5.1.3 Bad recipient address syntax".into(),
        Fault::ReversePathWithoutDomain(path) => {
            format!("504 5.5.2 <{}>: Sender address rejected: need fully-qualified address", echo(path)).into()
        }
        Fault::RecipientWithoutDomain(path) => {
            format!("504 5.5.2 <{}>: Recipient address rejected: need fully-qualified address", echo(path)).into()
        }
        // RFC 6531 §3.5.
        Fault::NeedsUtf8 => "553 5.6.7 Error: this address needs SMTPUTF8".into(),
        Fault::Unsupported(parameter) => format!("555 5.5.4 Unsupported option: {}", echo(parameter)).into(),
        Fault::BadParameter(keyword) => format!("501 5.5.4 Bad {keyword} parameter").into(),
        Fault::TooBig => "552 5.3.4 Message size exceeds fixed limit".into(),
    }
}

/// What we were told, short enough for a reply and in ASCII (RFC 6531 §3.7.4); lines with control characters were refused
/// before.
fn echo(text: &str) -> String {
    text.chars().take(ECHO_CHARACTERS_MAX).map(|character| if character.is_ascii() { character } else { '?' }).collect()
}
