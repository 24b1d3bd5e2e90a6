//! The command line of sendmail(8), as other mail servers' replacements for it take it: letters in one word, values with
//! or without a space, and many options that once meant something and are passed over.
//!
//! Options end at the first address, and at `--`. So an address that begins with a hyphen, handed over by a program that
//! did not look, does no more than it could in the first place (V12); and what tells where the mail goes is no option at
//! all for those who call this by the name of sendmail.

use super::{Exit, Failure};
use clap::Args;
use mail::{DsnReturn, Notify};
use std::ffi::OsString;

/// Octets of an envelope id (RFC 3461 §4.4), decoded.
const ENVELOPE_ID_OCTETS_MAX: usize = 100;
/// Options without a value that change nothing here.
const WITHOUT_VALUE: &[char] = &['G', 'U', 'm', 'n', 'c', 'x', 'd'];
/// Options whose value changes nothing here: labels, body types, hop counts, log files, other configurations.
const WITH_VALUE: &[char] = &['A', 'B', 'C', 'D', 'L', 'O', 'X', 'e', 'h', 'p'];

/// `sendmail`: its words are read by themselves, for they do not look like those of other commands.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, disable_version_flag = true, after_long_help = SENDMAIL_OPTIONS)]
pub struct Sendmail {
    /// Options and addresses.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS AND ADDRESSES")]
    words: Vec<OsString>,
}

impl Sendmail {
    /// The words as they were typed: `--` in front of them counts (V12), though the command line's reader takes it out.
    pub fn words(&self) -> Vec<OsString> {
        let typed: Vec<OsString> = std::env::args_os().collect();
        let before = typed.len().checked_sub(self.words.len() + 1).and_then(|at| typed.get(at));
        before.filter(|word| *word == "--").into_iter().chain(&self.words).cloned().collect()
    }
}

/// The end of its help.
const SENDMAIL_OPTIONS: &str = "\
The message is read from standard input and submitted to the server on this machine. Options end at the first address.

  -t            take the recipients from To, Cc and Bcc (Resent-To, Resent-Cc, Resent-Bcc where there are any)
  -i, -oi       a line with only a dot does not end the message
  -f ADDRESS    where failures are reported, <> for nowhere; also -r. Default: login name and domain of this machine
  -F NAME       full name in a From field that is added
  -N WHEN       reports wanted: never, or success, failure, delay, with commas
  -R WHAT       what a report returns: full or hdrs
  -V ID         envelope id for reports
  -v            tell what the server answers for each recipient
  -bm           submit a message (default)
  -bs           speak SMTP with the server on standard input and output
  -bp           list the queue, as does the name mailq
  -bi           nothing: tables are read when they change; also the name newaliases
  -q            try all waiting mail at once; -qRDOMAIN, -qSDOMAIN: for, from; -qIID: one message
  --server HOST:PORT   where to submit. Default: PILLARBOX_SENDMAIL_SERVER, the configured listener, 127.0.0.1:25
  --domain DOMAIN      completes names without a domain. Default: PILLARBOX_SENDMAIL_DOMAIN, /etc/mailname, the host name
  --help, --version

-A -B -C -D -G -L -O -U -X -d -e -h -m -n -o -p -x are accepted without effect, and -c under the name sendmail, which knows
neither --server nor --domain.

Exit status (sysexits): 0 the server has the message; 64 usage; 65 wrong or too large message; 67 unknown recipient;
68 unknown domain; 69 refused; 74 input; 75 try again later; 77 not allowed.";

/// By which name the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `pillarbox sendmail`.
    Pillarbox,
    /// `sendmail`, also `send-mail`.
    Sendmail,
    /// `mailq`: lists the queue.
    Mailq,
    /// `newaliases`.
    Newaliases,
}

impl Name {
    /// The name in a path, if it is one of ours but the program's own.
    pub fn of(path: &OsString) -> Option<Name> {
        match std::path::Path::new(path).file_name()?.to_str()? {
            "sendmail" | "send-mail" => Some(Name::Sendmail),
            "mailq" => Some(Name::Mailq),
            "newaliases" => Some(Name::Newaliases),
            _ => None,
        }
    }
}

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// `-bm`: submit a message.
    Submit,
    /// `-bs`: pass on SMTP between the standard streams and the server.
    Smtp,
    /// `-bp`, `mailq`.
    List,
    /// `-q`: try what waits.
    Flush(Flush),
    /// `-bi`, `newaliases`.
    Aliases,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
}

/// What of the queue is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flush {
    /// `-q`
    All,
    /// `-qRwhere`: for this address or domain.
    Recipient(String),
    /// `-qSwhere`: from this address or domain.
    Sender(String),
    /// `-qIid`
    Message(String),
}

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What shall be done.
    pub mode: Mode,
    /// `-f`, `-r`: the reverse-path.
    pub sender: Option<String>,
    /// `-F`: the name in a From: field that is added.
    pub full_name: Option<String>,
    /// `-t`: the message names its recipients.
    pub reads_recipients: bool,
    /// Unless `-i`: a line with nothing but a dot ends the message.
    pub dot_ends: bool,
    /// `-N`
    pub notify: Option<Notify>,
    /// `-R`
    pub dsn_return: Option<DsnReturn>,
    /// `-V`
    pub envelope_id: Option<String>,
    /// `-v`: tell what the server answered.
    pub is_verbose: bool,
    /// `--server`, not under the other names.
    pub server: Option<String>,
    /// `--domain`, not under the other names.
    pub domain: Option<String>,
    /// Addresses, each of which may be a list.
    pub recipients: Vec<String>,
}

impl Options {
    /// Reads the words behind the program's name.
    pub fn read(name: Name, words: &[OsString]) -> Result<Options, Failure> {
        let mut options = Options {
            mode: match name {
                Name::Pillarbox | Name::Sendmail => Mode::Submit,
                Name::Mailq => Mode::List,
                Name::Newaliases => Mode::Aliases,
            },
            sender: None,
            full_name: None,
            reads_recipients: false,
            dot_ends: true,
            notify: None,
            dsn_return: None,
            envelope_id: None,
            is_verbose: false,
            server: None,
            domain: None,
            recipients: Vec::new(),
        };
        let texts = words.iter().map(|word| word.to_str().ok_or_else(|| usage("an argument is not UTF-8")));
        let texts = texts.collect::<Result<Vec<&str>, Failure>>()?;
        let mut rest = texts.into_iter();
        while let Some(word) = rest.next() {
            match word.strip_prefix('-') {
                Some("-") => options.recipients.extend(rest.by_ref().map(str::to_owned)),
                Some(long) if long.starts_with('-') => options.take_long(name, word, &mut rest)?,
                Some(letters) if !letters.is_empty() => options.take_letters(letters, &mut rest)?,
                _ => {
                    options.recipients.push(word.to_owned());
                    options.recipients.extend(rest.by_ref().map(str::to_owned));
                }
            }
        }
        Ok(options)
    }

    fn take_long<'a>(
        &mut self,
        name: Name,
        word: &'a str,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        let place = match key {
            "--help" => {
                self.mode = Mode::Help;
                return Ok(());
            }
            "--version" => {
                self.mode = Mode::Version;
                return Ok(());
            }
            "--server" if name == Name::Pillarbox => &mut self.server,
            "--domain" if name == Name::Pillarbox => &mut self.domain,
            _ => return Err(usage(format!("unknown option {word}"))),
        };
        let value = value.or_else(|| rest.next()).ok_or_else(|| usage(format!("{key} needs a value")))?;
        *place = Some(value.to_owned());
        Ok(())
    }

    /// Letters of one word, up to the first that takes a value.
    fn take_letters<'a>(&mut self, letters: &'a str, rest: &mut impl Iterator<Item = &'a str>) -> Result<(), Failure> {
        for (at, letter) in letters.char_indices() {
            let behind = letters.get(at + letter.len_utf8()..).unwrap_or_default();
            match letter {
                'i' => self.dot_ends = false,
                't' => self.reads_recipients = true,
                'v' => self.is_verbose = true,
                'I' => self.mode = Mode::Aliases,
                // These have their value in the same word, or none.
                'q' => return self.take_queue(behind),
                'd' => return Ok(()),
                letter if WITHOUT_VALUE.contains(&letter) => {}
                letter => {
                    let value = if behind.is_empty() { rest.next() } else { Some(behind) };
                    return self.take_value(letter, value);
                }
            }
        }
        Ok(())
    }

    fn take_value(&mut self, letter: char, value: Option<&str>) -> Result<(), Failure> {
        if letter == 'h' && value.is_none() {
            self.mode = Mode::Help;
            return Ok(());
        }
        let known = "bfrFoNRV".contains(letter) || WITH_VALUE.contains(&letter);
        let value = match value {
            Some(value) if known => value,
            None if known => return Err(usage(format!("-{letter} needs a value"))),
            _ => return Err(usage(format!("unknown option -{letter}"))),
        };
        match letter {
            'b' => self.mode = mode(value)?,
            'f' | 'r' => self.sender = Some(value.to_owned()),
            'F' => self.full_name = Some(value.to_owned()),
            'o' if value == "i" => self.dot_ends = false,
            'N' => self.notify = Some(notify(value)?),
            'R' => self.dsn_return = Some(dsn_return(value)?),
            'V' => self.envelope_id = Some(envelope_id(value)?),
            _ => {}
        }
        Ok(())
    }

    fn take_queue(&mut self, what: &str) -> Result<(), Failure> {
        let mut letters = what.chars();
        let kind = letters.next();
        let value = letters.as_str().to_owned();
        self.mode = Mode::Flush(match kind {
            None => Flush::All,
            Some('R') if !value.is_empty() => Flush::Recipient(value),
            Some('S') if !value.is_empty() => Flush::Sender(value),
            Some('I') if !value.is_empty() => Flush::Message(value),
            Some(digit) if digit.is_ascii_digit() => {
                return Err(usage("the server runs its queue by itself: -q takes no time"));
            }
            Some(_) => return Err(usage(format!("-q{what} is not known"))),
        });
        Ok(())
    }
}

fn usage(cause: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, format!("{}; see `pillarbox sendmail --help`", cause.into()))
}

fn mode(value: &str) -> Result<Mode, Failure> {
    match value {
        "m" => Ok(Mode::Submit),
        "s" => Ok(Mode::Smtp),
        "p" => Ok(Mode::List),
        "i" => Ok(Mode::Aliases),
        "d" | "D" => Err(usage("the server is started by `pillarbox serve`")),
        _ => Err(usage(format!("-b{value} is not known"))),
    }
}

/// RFC 3461 §4.1: `NEVER` alone, or any of the others.
fn notify(value: &str) -> Result<Notify, Failure> {
    if value.eq_ignore_ascii_case("never") {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "success" => success = true,
            "failure" => failure = true,
            "delay" => delay = true,
            _ => return Err(usage("-N takes `never`, or any of `success`, `failure` and `delay` with commas")),
        }
    }
    Ok(Notify::On { success, failure, delay })
}

fn dsn_return(value: &str) -> Result<DsnReturn, Failure> {
    match value.to_ascii_lowercase().as_str() {
        "full" => Ok(DsnReturn::Full),
        "hdrs" => Ok(DsnReturn::Headers),
        _ => Err(usage("-R takes `full` or `hdrs`")),
    }
}

/// RFC 3461 §4.4: printable US-ASCII.
fn envelope_id(value: &str) -> Result<String, Failure> {
    let fits = !value.is_empty() && value.len() <= ENVELOPE_ID_OCTETS_MAX;
    if fits && value.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(value.to_owned())
    } else {
        Err(usage(format!("-V takes up to {ENVELOPE_ID_OCTETS_MAX} printable characters")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: Name, line: &str) -> Result<Options, Failure> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        Options::read(name, &words)
    }

    fn read(line: &str) -> Options {
        read_as(Name::Sendmail, line).unwrap()
    }

    #[test]
    fn r213_what_programs_call_is_understood() {
        // cron, PHP, mutt, git, bsd-mailx, and what their users add.
        let cron = read("-FCronDaemon -i -odi -oem -oi -t -f root");
        assert!(cron.reads_recipients && !cron.dot_ends);
        assert_eq!((cron.full_name.as_deref(), cron.sender.as_deref()), (Some("CronDaemon"), Some("root")));
        let php = read("-ti -fwww@example.net");
        assert!(php.reads_recipients && !php.dot_ends && php.sender.as_deref() == Some("www@example.net"));
        let mutt = read("-oem -oi -f brian@example.net -- a@b.example c@d.example");
        assert_eq!(mutt.recipients, ["a@b.example", "c@d.example"]);
        let ignored = read("-U -G -n -m -d0.1 -B 8BITMIME -h 3 -O x=y -L tag -X/tmp/log -e m -pESMTP:host a@b.example");
        assert_eq!(ignored, Options { recipients: vec!["a@b.example".into()], ..read("") });
        let reports = read("-N success,Delay -Rhdrs -V id.1 -r <> -v a@b.example");
        assert_eq!(reports.notify, Some(Notify::On { success: true, failure: false, delay: true }));
        assert_eq!((reports.dsn_return, reports.envelope_id.as_deref()), (Some(DsnReturn::Headers), Some("id.1")));
        assert!(reports.is_verbose && reports.sender.as_deref() == Some("<>"));
        assert_eq!(read("-N never").notify, Some(Notify::Never));
    }

    #[test]
    fn r213_modes_come_from_options_and_names() {
        for (line, mode) in [
            ("-bm", Mode::Submit),
            ("-bs", Mode::Smtp),
            ("-b p", Mode::List),
            ("-bi", Mode::Aliases),
            ("-I", Mode::Aliases),
            ("-q", Mode::Flush(Flush::All)),
            ("-qRexample.org", Mode::Flush(Flush::Recipient("example.org".into()))),
            ("-qSroot@example.net", Mode::Flush(Flush::Sender("root@example.net".into()))),
            ("-v -qI4F2", Mode::Flush(Flush::Message("4F2".into()))),
            ("-h", Mode::Help),
            ("--help", Mode::Help),
        ] {
            assert_eq!(read(line).mode, mode, "{line}");
        }
        assert_eq!(read_as(Name::Mailq, "-Ac").unwrap().mode, Mode::List);
        assert_eq!(read_as(Name::Newaliases, "").unwrap().mode, Mode::Aliases);
        assert_eq!(Name::of(&"/usr/lib/sendmail".into()), Some(Name::Sendmail));
        assert_eq!(Name::of(&"mailq".into()), Some(Name::Mailq));
        assert_eq!(Name::of(&"/usr/bin/pillarbox".into()), None);
    }

    #[test]
    fn what_is_wrong_is_a_usage_error() {
        for line in
            ["-f", "-Z", "-bd", "-bx", "-q30m", "-qR", "-N sometimes", "-R half", "-V \u{fc}", "--sever x", "-bs -Zx"]
        {
            assert_eq!(read_as(Name::Sendmail, line).unwrap_err().exit, Exit::Usage, "{line}");
        }
        let bad = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
        assert_eq!(Options::read(Name::Sendmail, &[bad]).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn v12_no_address_becomes_an_option() {
        let after = read("a@b.example -f x@y.example -- -bs --server=z");
        assert_eq!(after.recipients, ["a@b.example", "-f", "x@y.example", "--", "-bs", "--server=z"]);
        assert_eq!((after.sender, after.mode), (None, Mode::Submit));
        assert_eq!(read("-i -- -froot@b.example").recipients, ["-froot@b.example"]);
        assert_eq!(read_as(Name::Sendmail, "--server=z a@b.example").unwrap_err().exit, Exit::Usage);
        let own = read_as(Name::Pillarbox, "--server z:25 --domain=example.net a@b.example").unwrap();
        assert_eq!((own.server.as_deref(), own.domain.as_deref()), (Some("z:25"), Some("example.net")));
    }
}
