//! `sendmail` as programs call it: by its old name, against a server that writes down what it hears, and against a real one.

use crate::program::{Demo, failure, free_addresses, free_offset, json, text};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

/// What a run left behind.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Calls it by a name, with names of this machine completed by example.net.
fn call(name: &str, server: SocketAddr, words: &[&str], input: &[u8]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    command.arg0(name).args(words).env("PILLARBOX_SENDMAIL_SERVER", server.to_string());
    run(command.env("PILLARBOX_CONFIG", "/nonexistent"), input)
}

fn run(command: &mut Command, input: &[u8]) -> Run {
    let command = command.env("PILLARBOX_SENDMAIL_DOMAIN", "example.net");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A run that fails early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    Run { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A server for one session. It announces these extensions, answers RCPT by the address and all else with yes, and tells
/// what it heard: commands, and the text in one.
struct Scribe(SocketAddr, JoinHandle<Vec<String>>);

impl Scribe {
    fn start(extensions: &'static str) -> Scribe {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Scribe(address, std::thread::spawn(move || write_down(listener.accept().unwrap().0, extensions)))
    }

    fn heard(self) -> Vec<String> {
        self.1.join().unwrap()
    }
}

fn write_down(stream: TcpStream, extensions: &str) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut heard = Vec::new();
    let say = |stream: &mut BufReader<TcpStream>, line: &str| {
        stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    };
    say(&mut stream, "220 scribe.example.net ESMTP");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let line = line.strip_suffix("\r\n").unwrap_or(&line).to_owned();
        heard.push(line.clone());
        match line.get(..4).unwrap_or_default() {
            "EHLO" => say(&mut stream, &format!("250-scribe.example.net{extensions}\r\n250 SIZE 10000")),
            "RCPT" if line.contains("nobody") => say(&mut stream, "550 5.1.1 no such user"),
            "RCPT" if line.contains("later") => say(&mut stream, "450 4.2.0 not now"),
            "RCPT" if line.contains("denied") => say(&mut stream, "554 5.7.1 denied"),
            "DATA" => {
                say(&mut stream, "354 go on");
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") && stream.read_line(&mut text).unwrap() > 0 {}
                heard.push(text);
                say(&mut stream, "250 2.0.0 Ok: queued as 1");
            }
            "QUIT" => {
                say(&mut stream, "221 2.0.0 Bye");
                return heard;
            }
            "" => return heard,
            _ => say(&mut stream, "250 2.0.0 Ok"),
        }
    }
}

#[test]
fn r213_what_a_program_writes_the_server_hears() {
    let scribe = Scribe::start("\r\n250-8BITMIME\r\n250-DSN");
    let words = ["-ti", "-f", "root", "-FCron Daemon", "-N", "failure", "-R", "hdrs", "-V", "id", "-v"];
    let input = "To: Brian <brian@example.net>, a@b.example\nBcc: hidden@c.example\nSubject: gr\u{fc}n\n\n.\n..x\nend";
    let run = call("/usr/sbin/sendmail", scribe.0, &words, input.as_bytes());
    assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    assert_eq!(run.stdout.lines().count(), 3);
    assert!(run.stdout.starts_with("brian@example.net: 250 2.0.0 Ok: queued as 1\n"), "{run:?}");
    let heard = scribe.heard();
    let (commands, text) = (&heard[..heard.len() - 2], &heard[heard.len() - 2]);
    assert_eq!(commands[0], "EHLO example.net");
    let (mail, size) = commands[1].split_once(" SIZE=").unwrap();
    assert_eq!(mail, "MAIL FROM:<root@example.net>");
    // Without the two dots that the transfer adds, and its end.
    assert_eq!(size, format!("{} BODY=8BITMIME RET=HDRS ENVID=id", text.len() - 5));
    let rcpt = |address: &str| format!("RCPT TO:<{address}> NOTIFY=FAILURE");
    assert_eq!(commands[2..5], ["brian@example.net", "a@b.example", "hidden@c.example"].map(rcpt));
    assert_eq!(commands[5..], ["DATA"]);
    assert!(text.starts_with("Date: "), "{text}");
    assert!(text.contains("\r\nFrom: Cron Daemon <root@example.net>\r\n"), "{text}");
    assert!(text.contains("\r\nMessage-ID: <") && !text.contains("hidden"), "{text}");
    assert!(
        text.ends_with(
            "\r\nTo: Brian <brian@example.net>, a@b.example\r\nSubject: gr\u{fc}n\r\n\r\n..\r\n...x\r\nend\r\n.\r\n"
        ),
        "{text}"
    );
}

#[test]
fn r213_each_failure_has_its_status_and_says_why() {
    for (words, status, cause) in [
        (&["nobody@example.net"][..], 67, "not sent to nobody@example.net: 550 5.1.1 no such user"),
        (&["later@example.net", "nobody@example.net"], 75, "450 4.2.0 not now"),
        (&["denied@example.net", "fine@example.net"], 77, "554 5.7.1 denied"),
        (&["\u{fc}@example.net"], 65, "SMTPUTF8"),
    ] {
        let scribe = Scribe::start("");
        let run = call("sendmail", scribe.0, words, b"Subject: x\n\nx\n");
        assert_eq!(run.status, Some(status), "{words:?}: {run:?}");
        assert!(run.stderr.contains(cause) && run.stdout.is_empty(), "{words:?}: {run:?}");
        drop(scribe.heard());
    }
    let scribe = Scribe::start("");
    let eight = call("sendmail", scribe.0, &["brian"], "\n\u{fc}\n".as_bytes());
    assert_eq!(eight.status, Some(65), "{eight:?}");
    drop(scribe.heard());
    // Nothing of these needs a server, and the last finds none.
    let nowhere = free_addresses(1)[0];
    for (words, input, status, cause) in [
        (&[][..], "", 64, "no recipient is named"),
        (&["-Z", "brian"], "", 64, "unknown option -Z"),
        (&["a@b c@d"], "", 64, "the recipient \"a@b c@d\" cannot be read"),
        (&["-f", "a@b c@d", "brian"], "", 64, "the sender \"a@b c@d\" cannot be read"),
        (&["-t"], "Subject: x\n\nx\n", 65, "names no recipient"),
        (&["-t"], "To: a b c\n\nx\n", 65, "the To field cannot be read"),
        (&["--server", "127.0.0.1:1", "brian"], "", 64, "unknown option --server"),
        (&["brian"], "x\n", 75, "nothing was sent"),
        (&["-bs"], "", 75, "nothing was sent"),
    ] {
        let run = call("sendmail", nowhere, words, input.as_bytes());
        assert_eq!(run.status, Some(status), "{words:?}: {run:?}");
        assert!(run.stderr.starts_with("sendmail: ") && run.stderr.contains(cause), "{words:?}: {run:?}");
    }
}

/// R214: what the configuration forbids is not even offered; where it cannot be read, the server says what it takes.
#[test]
fn r214_a_message_that_is_too_large_is_refused_by_who_knows() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("pillarbox.toml");
    std::fs::write(&config, "host_name = \"mx.example.net\"\n[limits]\nmessage_size = \"4K\"\n").unwrap();
    let config = config.to_str().unwrap();
    let nowhere = free_addresses(1)[0].to_string();
    let sendmail = |config: &str, server: &str, octets: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        command.args(["--config", config, "sendmail", "--server", server, "brian"]).env_remove("PILLARBOX_CONFIG");
        run(&mut command, &b"x".repeat(octets))
    };
    let large = sendmail(config, &nowhere, 4_097);
    assert!(large.status == Some(65) && large.stderr.contains("larger than 4096 octets"), "{large:?}");
    // What the command line names must be there.
    let gone = sendmail("/nonexistent/pillarbox.toml", &nowhere, 1);
    assert!(gone.status == Some(69) && gone.stderr.contains("/nonexistent/pillarbox.toml"), "{gone:?}");
    // The scribe takes 10,000 octets.
    let scribe = Scribe::start("");
    let large = call("sendmail", scribe.0, &["brian"], &b"x".repeat(10_001));
    assert!(large.status == Some(65) && large.stderr.contains("limit of 10000 octets"), "{large:?}");
    assert!(!scribe.heard().iter().any(|line| line.starts_with("MAIL")));
}

#[test]
fn v12_no_address_runs_anything_or_adds_a_command() {
    let place = tempfile::tempdir().unwrap();
    let trap = place.path().join("trap");
    let trap = trap.to_str().unwrap();
    for (address, rcpt) in [
        (format!("|touch${{IFS}}{trap}"), Some(format!("<|touch${{IFS}}{trap}@example.net>"))),
        (format!("\"; touch {trap} #\"@example.net"), Some(format!("<\"; touch {trap} #\"@example.net>"))),
        (format!("`touch-{trap}`@example.net"), Some(format!("<`touch-{trap}`@example.net>"))),
        ("-OQueueDirectory=/tmp@example.net".into(), Some("<-OQueueDirectory=/tmp@example.net>".into())),
        (format!("$(touch {trap})@example.net"), None),
        (format!("a@example.net;touch {trap}"), None),
        ("a@example.net>\r\nRCPT TO:<b@example.net".into(), None),
        ("a@example.net\nDATA".into(), None),
    ] {
        let scribe = Scribe::start("");
        let run = call("sendmail", scribe.0, &["-i", "--", &address], b"Subject: x\n\nx\n");
        match rcpt {
            Some(rcpt) => {
                assert_eq!(run.status, Some(0), "{address}: {run:?}");
                assert_eq!(scribe.heard()[2], format!("RCPT TO:{rcpt}"));
            }
            None => assert_eq!(run.status, Some(64), "{address}: {run:?}"),
        }
        assert!(!Path::new(trap).exists(), "{address}");
    }
    // A line in the message that looks like the end of the data stays text.
    let scribe = Scribe::start("");
    let run = call("sendmail", scribe.0, &["-i", "brian"], b"Subject: x\n\na\r\n.\r\nMAIL FROM:<>\r\n");
    assert_eq!(run.status, Some(0), "{run:?}");
    let heard = scribe.heard();
    assert!(heard[4].ends_with("\r\n\r\na\r\n..\r\nMAIL FROM:<>\r\n.\r\n"), "{heard:?}");
}

#[test]
fn r213_a_demonstration_takes_mail_from_its_machine() {
    let place = tempfile::tempdir().unwrap();
    let demo = Demo::start(&place.path().join("demo"), free_offset());
    let config = demo.config();
    let by_name = |name: &str, words: &[&str], input: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        command.arg0(name).args(words).env("PILLARBOX_CONFIG", &config).env_remove("PILLARBOX_SENDMAIL_SERVER");
        run(&mut command, input.as_bytes())
    };
    let messages = || json(&config, &["quota", "get", "-u", "brian@example.net"])[0]["messages"].as_u64().unwrap();
    let before = messages();
    let cron = ["-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root@example.net"];
    let sent = by_name("/usr/sbin/sendmail", &cron, "From: root (Cron Daemon)\nTo: brian\nSubject: t\n\nx\n");
    assert_eq!(sent, Run { status: Some(0), stdout: String::new(), stderr: String::new() });
    assert_eq!(messages(), before + 1);
    let mut own = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    own.arg("--config").arg(&config).args(["sendmail", "-f", "<>", "--", "brian@example.net"]);
    assert_eq!(run(&mut own, b"Subject: t\n\nx\n").status, Some(0));
    assert_eq!(messages(), before + 2);
    let unknown = by_name("sendmail", &["-f", "root@example.net", "nobody@example.net"], "x\n");
    assert!(unknown.status == Some(67) && unknown.stderr.contains("550 5.1.1"), "{unknown:?}");
    // The queue: what leaves this machine waits there.
    assert_eq!(by_name("mailq", &[], "").stdout, "the queue is empty\n");
    assert_eq!(by_name("sendmail", &["-f", "root@example.net", "you@example.org"], "x\n").status, Some(0));
    let listed = by_name("sendmail", &["-bp"], "");
    assert!(listed.status == Some(0) && listed.stdout.contains("you@example.org"), "{listed:?}");
    // cron would mail what is printed.
    let in_silence = Run { status: Some(0), stdout: String::new(), stderr: String::new() };
    assert_eq!(by_name("sendmail", &["-q"], ""), in_silence);
    assert_eq!(by_name("sendmail", &["-qRexample.org"], ""), in_silence);
    assert_eq!(by_name("newaliases", &[], ""), in_silence);
    a_list_that_is_cut_says_so(&config, || {
        assert_eq!(by_name("sendmail", &["-f", "root@example.net", "they@example.org"], "x\n"), in_silence);
    });
    // SMTP on the standard streams, as Pine and fetchmail speak it.
    let smtp = by_name(
        "sendmail",
        &["-bs"],
        "EHLO x\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<nobody@example.net>\r\nQUIT\r\n",
    );
    assert_eq!(smtp.status, Some(0));
    assert!(smtp.stdout.starts_with("220 mx.example.net ESMTP\r\n"), "{smtp:?}");
    assert!(smtp.stdout.contains("\r\n550 5.1.1 ") && smtp.stdout.ends_with("221 2.0.0 Bye\r\n"), "{smtp:?}");
    demo.server.end();
    assert!(by_name("mailq", &[], "").stderr.contains("no server runs"));
}

/// R218: one message is in the queue, `send` adds another.
fn a_list_that_is_cut_says_so(config: &Path, send: impl FnOnce()) {
    let list = |limit: &str| json(config, &["queue", "list", "--limit", limit]);
    let facts =
        |list: &serde_json::Value| (list["messages"].as_array().unwrap().len(), list["more"].as_bool().unwrap());
    assert_eq!(facts(&list("1")), (1, false));
    send();
    assert_eq!([list("1"), list("2")].each_ref().map(facts), [(1, true), (2, false)]);
    let cut = text(config, &["queue", "list", "--limit", "1"]);
    assert!(cut.ends_with("1 messages, 1 recipients; … and more: pillarbox queue list --limit N\n"), "{cut}");
    assert!(cut.contains("you@example.org") && !cut.contains("they@example.org"), "the oldest first: {cut}");
    assert!(text(config, &["queue", "list", "--limit", "2"]).ends_with("\n2 messages, 2 recipients\n"));
    let id = list("1")["messages"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(json(config, &["queue", "show", &id])["id"], id.as_str());
    assert!(failure(config, &["queue", "show", "0"]).contains('0'));
}

#[test]
fn its_help_and_its_options_are_those_of_the_command() {
    let nowhere = Path::new("/nonexistent");
    let help = text(nowhere, &["sendmail", "--help"]);
    assert!(help.contains("-t ") && help.contains("PILLARBOX_SENDMAIL_SERVER"), "{help}");
    assert_eq!(text(nowhere, &["--json", "sendmail", "--help"]), help, "help is for people");
    assert!(text(nowhere, &["sendmail", "--version"]).starts_with("pillarbox "));
    assert!(failure(nowhere, &["sendmail", "-V"]).contains("-V needs a value"));
    // V12: the reader of the command line must not take this for an option.
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("pillarbox.toml");
    std::fs::write(&config, "host_name = \"mx.example.net\"\n").unwrap();
    assert!(failure(&config, &["sendmail", "--", "-bs x"]).contains("the recipient \"-bs x\""));
}
