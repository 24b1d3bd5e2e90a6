//! The dialogues of IMAP and POP3 over TCP, STARTTLS and TLS: what the machines say in their tests, the server says too.
//!
//! Each dialogue has an account of its own, whose name is as long as that of the account in the file; its past is in the
//! store before the server starts ([`crate::past`]). What its world does meanwhile, another session does.

use crate::commands::init;
use crate::imap_history::{self, QUOTA_MESSAGES, QUOTA_OCTETS, SECOND, TINY_OCTETS};
use crate::past::{Resident, Service, damage, fill};
use crate::pop3_maildrop::{self, PASSWORDS};
use crate::program::{Server, free_addresses};
use crate::wire::Line;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail::AccountName;
use nix::sys::signal::Signal;
use pop3_proto::Capability;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use testkit::dialogue::{Dialogue, Stimulus, load, replay_over};

/// Dialogues that a real house cannot repeat, with the reason. Apart from these, only those are left out in which time
/// passes.
const EXCEPTIONS: [(Service, &str, &str); 4] = [
    (Service::Imap, "authentication-unavailable", "tables are in memory: nothing makes the directory fail on demand"),
    (Service::Imap, "clear-without-tls", "a configuration with a listener on which nobody could log in is refused"),
    (Service::Pop3, "clear-only", "a configuration with a listener on which nobody could log in is refused"),
    (Service::Pop3, "directory-down", "tables are in memory: nothing makes the directory fail on demand"),
];
/// Name, protocol and TLS of each listener.
const LISTENERS: [(&str, &str, &str); 7] = [
    ("imaps", "imap", "implicit"),
    ("imap", "imap", "starttls"),
    ("imaps-masked", "imap", "implicit"),
    ("imaps-bare", "imap", "implicit"),
    ("pop3s", "pop3", "implicit"),
    ("pop3", "pop3", "starttls"),
    ("pop3s-masked", "pop3", "implicit"),
];
/// The present, as it is told in the worlds in memory.
const NOW_TOLD: &str = "\" 2-Jan-2026 00:00:00 +0000\"";
/// The account in the files, and its password.
const BRIAN: (&str, &str) = PASSWORDS[0];

#[test]
fn imap_and_pop3_go_as_written() {
    let place = tempfile::tempdir().unwrap();
    let certificates = init(place.path()).parent().unwrap().join("tls");
    let mut failures = Vec::new();
    let mut left = plays();
    // What makes the first two worlds is set for a whole server; the last one takes in all others.
    for (world, message_size, reserve) in [
        (Some("tiny-append"), Some(TINY_OCTETS), 0),
        // A store without room for a message. That nothing at all can be committed is the fault of the account.
        (Some("store-down"), None, 1 << 60),
        (None, None, 0),
    ] {
        let here = |play: &Play| world.is_none_or(|world| play.resident.world == world);
        let (plays, others): (Vec<Play>, Vec<Play>) = left.into_iter().partition(here);
        left = others;
        let folder = place.path().join(world.unwrap_or("others"));
        let config = Configuration { certificates: &certificates, message_size, reserve };
        failures.extend(House::found(&folder, &config, &plays).play(&plays));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// A dialogue that is to be played, with its account.
struct Play {
    dialogue: Dialogue,
    resident: Resident,
}

/// Every dialogue that is not excepted.
fn plays() -> Vec<Play> {
    let mut plays = Vec::new();
    let mut excepted = 0;
    for (service, folder) in [(Service::Imap, "imap-proto"), (Service::Pop3, "pop3-proto")] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto").join(folder).join("tests/dialogues");
        for mut dialogue in load(&folder).into_iter().filter(|dialogue| !dialogue.takes_time()) {
            if EXCEPTIONS.iter().any(|(of, name, _)| (*of, *name) == (service, &dialogue.name)) {
                excepted += 1;
                continue;
            }
            // As long as `brian`, so that literals stay as long as they say.
            let account = BRIAN.0.replace("brian", &format!("b{:04}", plays.len()));
            translate(&mut dialogue, &account);
            let account = AccountName::parse(&account).unwrap();
            let resident = Resident { account, service, world: dialogue.world.clone() };
            plays.push(Play { dialogue, resident });
        }
    }
    assert_eq!(excepted, EXCEPTIONS.len(), "each exception is a dialogue");
    plays
}

/// Puts another account in the place of brian's, and any time in the place of the present.
fn translate(dialogue: &mut Dialogue, account: &str) {
    for scene in &mut dialogue.scenes {
        if let Stimulus::Send(octets) = &mut scene.stimulus {
            *octets = renamed(octets, account);
        }
        for reply in &mut scene.replies {
            reply.pattern = reply.pattern.replace(NOW_TOLD, "\"*\"");
        }
    }
}

/// `octets` with `account` wherever brian's was, also inside base64.
fn renamed(octets: &[u8], account: &str) -> Vec<u8> {
    let in_word = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/=".contains(octet);
    let mut renamed = Vec::with_capacity(octets.len());
    for word in octets.chunk_by(|one, other| in_word(one) == in_word(other)) {
        let decoded = STANDARD.decode(word).unwrap_or_default();
        let credentials = replaced(&decoded, account);
        if credentials == decoded {
            renamed.extend(word);
        } else {
            renamed.extend(STANDARD.encode(credentials).bytes());
        }
    }
    replaced(&renamed, account)
}

fn replaced(octets: &[u8], account: &str) -> Vec<u8> {
    let mut replaced = octets.to_vec();
    for start in 0..octets.len() {
        if octets[start..].starts_with(BRIAN.0.as_bytes()) {
            replaced[start..start + account.len()].copy_from_slice(account.as_bytes());
        }
    }
    replaced
}

/// A server with the accounts of some dialogues.
struct House {
    storage: PathBuf,
    addresses: Vec<SocketAddr>,
    server: Server,
}

impl House {
    /// Makes configuration, tables and store, and starts the server.
    fn found(folder: &Path, configuration: &Configuration<'_>, plays: &[Play]) -> House {
        std::fs::create_dir(folder).unwrap();
        let addresses = free_addresses(LISTENERS.len());
        let config = folder.join("pillarbox.toml");
        std::fs::write(&config, configuration.text(&addresses)).unwrap();
        let residents: Vec<&Resident> = plays.iter().map(|play| &play.resident).collect();
        std::fs::write(folder.join("accounts"), accounts(&residents)).unwrap();
        std::fs::write(folder.join("domains"), "example.net\n").unwrap();
        let storage = folder.join("mail");
        fill(&storage, &residents);
        House { storage, addresses, server: Server::start(&config) }
    }

    /// Plays the dialogues one after the other; last, side by side, those that see the server go down. Gives the failures.
    fn play(mut self, plays: &[Play]) -> Vec<String> {
        let goes_down = |play: &&Play| play.dialogue.scenes.iter().any(|scene| scene.stimulus == Stimulus::Shutdown);
        let (last, first): (Vec<&Play>, Vec<&Play>) = plays.iter().partition(goes_down);
        let mut failures: Vec<String> = first.iter().filter_map(|play| self.replay(play, || {}).err()).collect();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let begin = |play| {
                let (tell, house) = (tell.clone(), &self);
                scope.spawn(move || {
                    let outcome = house.replay(play, || tell.send(()).unwrap());
                    // One that failed early must not be waited for.
                    tell.send(()).unwrap();
                    outcome
                })
            };
            let threads: Vec<_> = last.into_iter().map(begin).collect();
            threads.iter().for_each(|_| told.recv().unwrap());
            self.server.signal(Signal::SIGTERM);
            failures.extend(threads.into_iter().filter_map(|thread| thread.join().unwrap().err()));
        });
        self.server.ended();
        failures
    }

    /// Plays a dialogue. `go_down` is called when the server should, and need not wait for that.
    fn replay(&self, play: &Play, mut go_down: impl FnMut()) -> Result<(), String> {
        let resident = &play.resident;
        let wire = match (resident.service, resident.world.as_str()) {
            (Service::Imap, "clear") => Line::clear(self.at("imap")),
            (Service::Imap, "masked") => Line::tls(self.at("imaps-masked")),
            (Service::Imap, "bare") => Line::tls(self.at("imaps-bare")),
            (Service::Imap, _) => Line::tls(self.at("imaps")),
            (Service::Pop3, "clear") => Line::clear(self.at("pop3")),
            (Service::Pop3, "masked") => Line::tls(self.at("pop3s-masked")),
            (Service::Pop3, _) => Line::tls(self.at("pop3s")),
        };
        let mut arrives = resident.world == "arrival-on-third-look";
        replay_over(&play.dialogue, wire, |stimulus| match stimulus {
            Stimulus::Send(octets) => {
                if let Some(prank) = prank_of(octets) {
                    self.prank(&resident.account, &prank);
                }
            }
            Stimulus::Notice if std::mem::take(&mut arrives) => self.prank(&resident.account, "deliver"),
            Stimulus::Shutdown => go_down(),
            Stimulus::Connect | Stimulus::Tls | Stimulus::Wait(_) | Stimulus::Notice | Stimulus::End => {}
        })
    }

    fn at(&self, listener: &str) -> SocketAddr {
        self.addresses[LISTENERS.iter().position(|(name, ..)| *name == listener).unwrap()]
    }

    /// What another session of the account does, as in the world in memory.
    fn prank(&self, account: &AccountName, what: &str) {
        let mut other = Other::log_in(self.at("imaps"), account);
        match what.split(' ').collect::<Vec<_>>()[..] {
            ["deliver"] => {
                let size = SECOND.len();
                other.command(&format!("APPEND INBOX \" 9-Sep-2001 01:46:40 +0000\" {{{size}+}}\r\n{SECOND}"));
            }
            ["flag", set] => other.in_inbox(&[&format!("UID STORE {set} +FLAGS.SILENT (\\Flagged)")]),
            ["keyword", set, word] => other.in_inbox(&[&format!("UID STORE {set} +FLAGS.SILENT ({word})")]),
            ["expunge", set] => {
                let mark = format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)");
                other.in_inbox(&[&mark, &format!("UID EXPUNGE {set}")]);
            }
            ["delete", name] => other.command(&format!("DELETE {name}")),
            ["lose", uid] => damage(&self.storage, account, uid.parse().unwrap()),
            _ => panic!("{what}"),
        }
    }
}

/// What a dialogue asks the world for: `ID ("world" "deliver")`.
fn prank_of(octets: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(octets);
    let (_, prank) = text.split_once("ID (\"world\" \"")?;
    Some(prank.split_once('"')?.0.to_owned())
}

/// Another session.
struct Other(BufReader<Line>);

impl Other {
    fn log_in(address: SocketAddr, account: &AccountName) -> Other {
        let mut other = Other(BufReader::new(Line::tls(address)));
        other.command(&format!("LOGIN {account} {}", BRIAN.1));
        other
    }

    fn in_inbox(&mut self, commands: &[&str]) {
        self.command("SELECT INBOX");
        commands.iter().for_each(|command| self.command(command));
    }

    fn command(&mut self, command: &str) {
        self.0.get_mut().write_all(format!("o {command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        while !line.starts_with("o ") {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "{command}");
        }
        assert!(line.starts_with("o OK "), "{command}: {line}");
    }
}

/// What an administrator has set.
struct Configuration<'a> {
    /// The folder of certificates.
    certificates: &'a Path,
    /// The largest message, where it is not the default.
    message_size: Option<u64>,
    /// Octets that must stay free on the disk.
    reserve: u64,
}

impl Configuration<'_> {
    fn text(&self, addresses: &[SocketAddr]) -> String {
        let tls = self.certificates.display();
        let message_size = self.message_size.map(|octets| format!("message_size = \"{octets}\"\n")).unwrap_or_default();
        let mut text = format!(
            "host_name = \"mx.example.net\"\n\n[storage]\nfolder = \"mail\"\nreserve = \"{}\"\n\n\
             [security]\nuser = \"\"\nallow_root = true\n\n[directory]\nquota = \"0\"\n\n\
             [limits]\nauthentication_delay_seconds = 0\n{message_size}\n\
             [[certificates]]\nchains = [\"{tls}/mail-ecdsa-cert.pem\"]\nkeys = [\"{tls}/mail-ecdsa-key.pem\"]\n",
            self.reserve
        );
        for ((name, protocol, tls), address) in LISTENERS.iter().zip(addresses) {
            let masked = match *name {
                "imaps-masked" => imap_history::MASKED.to_vec(),
                "imaps-bare" => imap_history::MASKED_ALL.to_vec(),
                "pop3s-masked" => pop3_maildrop::MASKED.map(Capability::name).to_vec(),
                _ => Vec::new(),
            };
            text.push_str(&format!(
                "\n[[listener]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\naddress = \"{address}\"\n\
                 tls = \"{tls}\"\nmask = {masked:?}\n"
            ));
        }
        text
    }
}

/// The table of accounts: carol, and the residents with brian's password.
fn accounts(residents: &[&Resident]) -> String {
    let (carol, of_carol) = PASSWORDS[1];
    let mut table = format!("{carol}:{{PLAIN}}{of_carol}::::::\n");
    for Resident { account, world, .. } in residents {
        let quota = match world.as_str() {
            "quota" => {
                format!("userdb_quota_rule=*:bytes={QUOTA_OCTETS} userdb_quota_rule2=*:messages={QUOTA_MESSAGES}")
            }
            _ => String::new(),
        };
        table.push_str(&format!("{account}:{{PLAIN}}{}::::::{quota}\n", BRIAN.1));
    }
    table
}
