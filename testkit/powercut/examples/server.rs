//! The power-cut test of the whole server: `cargo run -p powercut --example server -- target/release/pillarbox [IMAGES]`.
//!
//! The real binary runs under the recorder and takes mail by SMTP over several connections. Whenever it says 250, that is
//! put down in the record. Then the power is cut as in the test of the store: what was answered with 250 must be in the
//! mailbox of each of its recipients, as it was sent.

use mail::MailboxName;
use powercut::reading::name_of;
use powercut::workload::carry;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store::embedded::{EmbeddedStore, Options};
use store::{BodyRange, MailStore};
use testkit::powercut::dice::Dice;
use testkit::powercut::log::{Log, mark_entry};
use testkit::powercut::{Image, Plan, images};

/// Connections that deliver at the same time.
const CONNECTIONS: u64 = 4;
/// Messages that each of them delivers.
const MESSAGES: u64 = 60;
/// Put on top of the demonstration server's ports.
const PORT_OFFSET: u16 = 21_000;
/// Its port for mail from other servers.
const PORT: u16 = 2_525;
const RECIPIENTS: [&str; 2] = ["brian@example.net", "notbrian@example.net"];
/// Longest wait for the server.
const START_MAX: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let binary = PathBuf::from(arguments.next().ok_or("which binary?")?);
    let wanted: usize = arguments.next().map_or(Ok(200), |number| number.parse())?;
    let place = tempfile::tempdir()?;
    let (folder, path) = (place.path().join("demo"), place.path().join("log"));
    std::fs::create_dir(&folder)?;
    let mut server = start(&binary, &folder, &path)?;
    let delivered = deliver(&path);
    server.kill()?;
    server.wait()?;
    delivered?;
    let log = Log::read(&path)?;
    let plan = Plan { seed: 1, from: 0, points: wanted.div_ceil(2), images_per_point: 2 };
    let (mut checked, mut findings) = (0, 0);
    for image in images(&log, None, plan)? {
        let image = image?;
        if let Err(finding) = check(&log, &image) {
            println!("{image}\n    {finding}");
            findings += 1;
        }
        checked += 1;
    }
    println!("{} messages acknowledged, {checked} images, {findings} findings", log.marks().count());
    if findings > 0 { Err("what was acknowledged is not there".into()) } else { Ok(()) }
}

fn start(binary: &Path, folder: &Path, log: &Path) -> Result<Child, Failure> {
    let program = std::env::current_exe()?;
    let recorder =
        program.ancestors().flat_map(|folder| [folder.join("librecorder.so"), folder.join("deps/librecorder.so")]);
    let recorder = recorder.into_iter().find(|path| path.exists()).ok_or("the recorder is not built")?;
    let mut server = Command::new(binary)
        .args(["demo", "--port-offset", &PORT_OFFSET.to_string(), "--folder"])
        .arg(folder)
        .env("LD_PRELOAD", recorder)
        .env("RECORDER_FOLDER", folder)
        .env("RECORDER_LOG", log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while connect().is_err() {
        if begun.elapsed() > START_MAX {
            server.kill()?;
            return Err("the server does not answer".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// A connection that was greeted.
fn connect() -> Result<BufReader<TcpStream>, Failure> {
    let stream = TcpStream::connect(("127.0.0.1", PORT + PORT_OFFSET))?;
    stream.set_read_timeout(Some(START_MAX))?;
    let mut connection = BufReader::new(stream);
    expect(&mut connection, "220")?;
    say(&mut connection, b"EHLO client.example.com\r\n", "250")?;
    Ok(connection)
}

fn say(connection: &mut BufReader<TcpStream>, octets: &[u8], code: &str) -> Result<(), Failure> {
    connection.get_mut().write_all(octets)?;
    expect(connection, code)
}

fn expect(connection: &mut BufReader<TcpStream>, code: &str) -> Result<(), Failure> {
    loop {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        if !line.starts_with(code) {
            return Err(format!("{line:?} instead of {code}").into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

fn deliver(log: &Path) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || deliver_some(log, number))).collect();
        tasks.into_iter().try_for_each(|task| task.join().map_err(|_| "a connection's thread panicked")?)
    })
}

fn deliver_some(log: &Path, connection: u64) -> Result<(), Failure> {
    let mut log = OpenOptions::new().append(true).open(log)?;
    let mut peer = connect()?;
    for number in (0..MESSAGES).map(|n| n * CONNECTIONS + connection) {
        say(&mut peer, b"MAIL FROM:<author@example.com>\r\n", "250")?;
        for recipient in recipients(number) {
            say(&mut peer, format!("RCPT TO:<{recipient}>\r\n").as_bytes(), "250")?;
        }
        say(&mut peer, b"DATA\r\n", "354")?;
        say(&mut peer, &[&message(number)[..], b".\r\n"].concat(), "250")?;
        // The answer came after all it rests on; so does this entry, which is one write to a file that only grows.
        log.write_all(&mark_entry(number.to_string().as_bytes()))?;
    }
    Ok(())
}

/// To whom a message goes: to one, the other, or both.
fn recipients(number: u64) -> &'static [&'static str] {
    match number % 3 {
        0 => &RECIPIENTS[..1],
        1 => &RECIPIENTS[1..],
        _ => &RECIPIENTS,
    }
}

/// Lines without dots, so that what is sent is what is stored.
fn message(number: u64) -> Vec<u8> {
    let mut dice = Dice::new(number);
    let mut message = format!(
        "From: <author@example.com>\r\nDate: Sat, 1 Aug 2026 12:00:00 +0000\r\nSubject: {number}\r\n\
         Message-ID: <{number}@example.com>\r\n\r\n"
    );
    let lines = [3, 40, 40, 400, 20_000][dice.below(5)];
    for _ in 0..lines {
        message.push_str(&format!("{:016x} {:016x}\r\n", dice.roll(), dice.roll()));
    }
    message.into_bytes()
}

fn check(log: &Log, image: &Image) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    image.materialise(folder.path())?;
    let options = Options { sync: false, ..carry::options(&folder.path().join("mail")) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let store = EmbeddedStore::open(options)?;
        let report = store.verify(|_| {}).await?;
        if !report.is_clean() {
            return Err(format!("the store's own check finds {report:?}").into());
        }
        let mut found = BTreeMap::new();
        for recipient in RECIPIENTS {
            found.insert(recipient, inbox(&store, recipient).await?);
        }
        for mark in log.marks().take(image.marks) {
            let number: u64 = std::str::from_utf8(mark)?.parse()?;
            let sent = message(number);
            for recipient in recipients(number) {
                let copies = found[recipient].iter().filter(|stored| stored.ends_with(&sent)).count();
                if copies != 1 {
                    return Err(format!("message {number} is there {copies} times for {recipient}").into());
                }
            }
        }
        Ok(store.close().await?)
    })
}

async fn inbox(store: &EmbeddedStore, account: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let account = name_of(account)?;
    let mailboxes = store.mailboxes(&account).await?;
    let line = mailboxes.iter().find(|line| line.name == MailboxName::inbox()).ok_or("no INBOX")?;
    let snapshot = store.snapshot(&account, line.id.ok_or("no INBOX")?).await?;
    let mut messages = Vec::new();
    for message in snapshot.iter() {
        let range = BodyRange { blob: message.blob, start: 0, octets: u64::MAX };
        let read = store.read(vec![range]).await?.pop().ok_or("no answer")?;
        messages.push(read?.to_vec());
    }
    Ok(messages)
}
