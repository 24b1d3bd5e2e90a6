//! Text dialogues: what one side sends and what it must be told, in the notation of the RFCs.
//!
//! One file is one dialogue, read line by line:
//!
//! | line | meaning |
//! | --- | --- |
//! | `# RULE: what it shows` | the first line; `RULE` is such as `RFC 1939 §4` or `V3` |
//! | `# text`, or empty | a comment |
//! | `@world NAME` | the world the dialogue plays in; `small` without this line |
//! | `C: text` | the client sends the text and CRLF |
//! | `S: pattern` | the next line the client is sent |
//! | `TLS:` | the machine has asked for TLS; the handshake is done now |
//! | `WAIT: 300s` | so much time passes (`ms`, `s`, `m` or `h`) |
//! | `NOTICE:` | something changes in what the session watches |
//! | `END:` | the client closes its side |
//! | `SHUTDOWN:` | the server is told to go down |
//! | `CLOSE:` | the machine has closed the connection; only at the end |
//!
//! Exactly one space after the colon is not part of the text. In `C:` lines `\r`, `\n`, `\0`, `\\` and `\xNN` (two
//! hexadecimal digits) stand for octets; a backslash before anything else stands for itself, so that `\Seen` needs no
//! care; a single backslash as the last character stands for nothing and keeps CRLF from being added.
//! `C: abc\\` thus sends `abc\` and CRLF, and `C: abc\` sends three octets.
//!
//! `S:` patterns are compared with whole lines of output without CRLF. `*` matches any run of characters, everything
//! else itself. For comparison, control characters and octets that are not UTF-8 are written `\xNN`, a line that ends
//! in LF without CR gets `\n` at its end, and output that stops before a line end gets a single `\`.
//!
//! All output must be expected: before the next line that is not `S:`, and at the end of the file. A machine that
//! closes needs the line `CLOSE:`. Consecutive `C:` lines go out together ([`Split`] says how).
//!
//! The machine may also be the client ([`Side::Client`]). Then `C:` and `S:` change places: `S:` lines are what the server
//! sends, `C:` lines are the patterns of what the client must send. Beside them stand
//!
//! | line | meaning |
//! | --- | --- |
//! | `H: pattern` | what the house is told, in order with the `C:` lines: a line of output that begins with `H: ` |
//!
//! `END:` in place of `TLS:` says that the handshake failed.

mod expect;
mod replay;
mod tcp;

pub use replay::{Split, replay};
pub use tcp::{Wire, connect, replay_over, replay_tcp};

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The world of a dialogue that names none.
pub const WORLD_DEFAULT: &str = "small";

/// Which side of a dialogue the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// It is sent the `C:` lines and says the `S:` lines.
    #[default]
    Server,
    /// It is sent the `S:` lines and says the `C:` lines.
    Client,
}

impl Side {
    /// The mark of what the machine is sent.
    fn sent(self) -> &'static str {
        match self {
            Side::Server => "C",
            Side::Client => "S",
        }
    }

    /// The mark of what the machine says.
    fn said(self) -> &'static str {
        match self {
            Side::Server => "S",
            Side::Client => "C",
        }
    }

    /// A line of output, or a pattern of one, as it stands in a file.
    fn written(self, line: &str) -> String {
        match self {
            Side::Client if line.starts_with(HOUSE) => line.to_owned(),
            Side::Server | Side::Client if line.is_empty() => format!("{}:", self.said()),
            Side::Server | Side::Client => format!("{}: {line}", self.said()),
        }
    }
}

/// How a line begins that the house is told.
const HOUSE: &str = "H: ";

/// A dialogue as read from its file.
#[derive(Debug, Clone)]
pub struct Dialogue {
    /// Which side the machine is.
    pub side: Side,
    /// The file's name without extension.
    pub name: String,
    /// The first line without `# `: the rule, and what the dialogue shows of it.
    pub rule: String,
    /// The world it plays in.
    pub world: String,
    /// The file.
    pub path: PathBuf,
    /// What happens, in order. The first scene is the connection being made.
    pub scenes: Vec<Scene>,
    /// The file's lines as they are, for rewriting.
    raw: Vec<String>,
}

/// Something that happens to the server, and what it must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// What happens.
    pub stimulus: Stimulus,
    /// The lines that must come, in order.
    pub replies: Vec<Reply>,
    /// Whether the connection must be closed after them.
    pub closes: bool,
    /// The last line of the file that belongs to the stimulus, from 1.
    pub line: usize,
}

/// What happens to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stimulus {
    /// The connection was made.
    Connect,
    /// The client sends these octets.
    Send(Vec<u8>),
    /// The handshake asked for is done.
    Tls,
    /// Time passes.
    Wait(Duration),
    /// A notice from the change feed.
    Notice,
    /// The client closes its side.
    End,
    /// The server is going down.
    Shutdown,
}

/// An expected line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its pattern.
    pub pattern: String,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// Reads every `.txt` file of a folder, in order of name.
///
/// # Panics
/// With file and line where a file is not a dialogue; if the folder cannot be read or holds no dialogue.
pub fn load(folder: &Path) -> Vec<Dialogue> {
    load_for(Side::Server, folder)
}

/// Reads every `.txt` file of a folder as dialogues in which the machine is that side; else like [`load`].
///
/// # Panics
/// As [`load`].
pub fn load_for(side: Side, folder: &Path) -> Vec<Dialogue> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}: no dialogue in this folder", folder.display());
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        parse_for(side, path, &text)
    };
    paths.iter().map(|path| read(path).unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// Reads one dialogue. The error names file and line.
pub fn parse(path: &Path, text: &str) -> Result<Dialogue, String> {
    parse_for(Side::Server, path, text)
}

/// Reads one dialogue in which the machine is that side. The error names file and line.
pub fn parse_for(side: Side, path: &Path, text: &str) -> Result<Dialogue, String> {
    let raw: Vec<String> = text.lines().map(str::to_owned).collect();
    let rule = raw
        .first()
        .and_then(|line| line.strip_prefix("# "))
        .filter(|rule| rule.contains(": "))
        .ok_or_else(|| format!("{}:1: the first line must be `# RULE: what it shows`", path.display()))?;
    let mut dialogue = Dialogue {
        side,
        name: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        rule: rule.to_owned(),
        world: WORLD_DEFAULT.to_owned(),
        path: path.to_owned(),
        scenes: vec![Scene { stimulus: Stimulus::Connect, replies: Vec::new(), closes: false, line: 1 }],
        raw: Vec::new(),
    };
    for (index, line) in raw.iter().enumerate() {
        take_line(&mut dialogue, index + 1, line)
            .map_err(|error| format!("{}:{}: {error}: {line:?}", path.display(), index + 1))?;
    }
    if dialogue.scenes.len() == 1 && dialogue.scenes.iter().all(|scene| scene.replies.is_empty() && !scene.closes) {
        return Err(format!("{}:{}: nothing happens", path.display(), raw.len()));
    }
    dialogue.raw = raw;
    Ok(dialogue)
}

fn take_line(dialogue: &mut Dialogue, number: usize, line: &str) -> Result<(), &'static str> {
    if line.starts_with('#') || line.trim().is_empty() {
        // Comments before the first event belong to the head of the file; new replies are put below them.
        if dialogue.scenes.len() == 1 {
            head(dialogue, number);
        }
        return Ok(());
    }
    if let Some(world) = line.strip_prefix("@world ") {
        if dialogue.scenes.len() > 1 {
            return Err("the world must be named before anything happens");
        }
        dialogue.world = world.trim().to_owned();
        head(dialogue, number);
        return Ok(());
    }
    let (word, text) = line.split_once(':').ok_or("not a line of a dialogue")?;
    let text = text.strip_prefix(' ').unwrap_or(text);
    let side = dialogue.side;
    let scene = dialogue.scenes.last_mut().ok_or("nothing to answer")?;
    if scene.closes {
        return Err("the connection is closed already");
    }
    let stimulus = match (word, text) {
        (mark, pattern) if mark == side.said() => {
            scene.replies.push(Reply { pattern: pattern.to_owned(), line: number });
            return Ok(());
        }
        ("H", pattern) if side == Side::Client => {
            scene.replies.push(Reply { pattern: format!("{HOUSE}{pattern}"), line: number });
            return Ok(());
        }
        ("CLOSE", "") => {
            scene.closes = true;
            return Ok(());
        }
        (mark, text) if mark == side.sent() => {
            let octets = unescape(text)?;
            if let (Stimulus::Send(before), true) = (&mut scene.stimulus, scene.replies.is_empty()) {
                before.extend(octets);
                scene.line = number;
                return Ok(());
            }
            Stimulus::Send(octets)
        }
        ("TLS", "") => Stimulus::Tls,
        ("WAIT", text) => Stimulus::Wait(duration(text).ok_or("no duration such as 300s")?),
        ("NOTICE", "") => Stimulus::Notice,
        ("END", "") => Stimulus::End,
        ("SHUTDOWN", "") => Stimulus::Shutdown,
        _ => return Err("not a line of a dialogue"),
    };
    dialogue.scenes.push(Scene { stimulus, replies: Vec::new(), closes: false, line: number });
    Ok(())
}

/// Moves the place of the greeting below the head of the file, unless the greeting was seen.
fn head(dialogue: &mut Dialogue, number: usize) {
    if let Some(scene) = dialogue.scenes.first_mut().filter(|scene| scene.replies.is_empty()) {
        scene.line = number;
    }
}

/// The octets of a line that is sent.
fn unescape(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut octets = Vec::with_capacity(text.len() + 2);
    let mut rest = text.as_bytes();
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        if *octet != b'\\' {
            octets.push(*octet);
            continue;
        }
        match rest {
            [] => return Ok(octets),
            [b'x', high, low, after @ ..] => {
                let digit = |octet: &u8| (*octet as char).to_digit(16).ok_or("\\x needs two hexadecimal digits");
                octets.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = after;
            }
            [letter @ (b'r' | b'n' | b'0' | b'\\'), after @ ..] => {
                octets.push(match letter {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b'0' => 0,
                    other => *other,
                });
                rest = after;
            }
            _ => octets.push(b'\\'),
        }
    }
    octets.extend_from_slice(b"\r\n");
    Ok(octets)
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3_600)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_scenes() {
        let text = "# RFC 1 §2: shows it\n@world big\nS: hello *\n\nC: a\\x41\\0\n# more\nC: b\\\nS: x\nS: y\nWAIT: 5m\n\
                    TLS:\nEND:\nCLOSE:\n";
        let dialogue = parse(Path::new("some/thing.txt"), text).unwrap();
        assert_eq!((dialogue.name.as_str(), dialogue.world.as_str()), ("thing", "big"));
        assert_eq!(dialogue.rule, "RFC 1 §2: shows it");
        let stimuli: Vec<&Stimulus> = dialogue.scenes.iter().map(|scene| &scene.stimulus).collect();
        let wait = Stimulus::Wait(Duration::from_secs(300));
        let sent = Stimulus::Send(b"aA\0\r\nb".to_vec());
        assert_eq!(stimuli, [&Stimulus::Connect, &sent, &wait, &Stimulus::Tls, &Stimulus::End]);
        assert_eq!(dialogue.scenes[1].replies.iter().map(|reply| reply.line).collect::<Vec<_>>(), [8, 9]);
        assert!(dialogue.scenes[4].closes && !dialogue.scenes[3].closes);
    }

    #[test]
    fn a_client_sends_what_a_server_expects() {
        let text = "# RFC 1 §1: x\nS: a\\x41\nC: b *\nC:\nH: told\nCLOSE:\n";
        let dialogue = parse_for(Side::Client, Path::new("c.txt"), text).unwrap();
        let scene = &dialogue.scenes[1];
        assert_eq!((&scene.stimulus, scene.closes), (&Stimulus::Send(b"aA\r\n".to_vec()), true));
        assert_eq!(
            scene.replies.iter().map(|reply| reply.pattern.as_str()).collect::<Vec<_>>(),
            ["b *", "", "H: told"]
        );
    }

    #[test]
    fn escapes_are_octets() {
        for (text, octets) in [
            ("", &b"\r\n"[..]),
            ("\\", b""),
            ("a\\", b"a"),
            ("a\\\\", b"a\\\r\n"),
            ("\\r\\n\\", b"\r\n"),
            ("(\\Seen \\*)", b"(\\Seen \\*)\r\n"),
            ("\\xff\\x0A\\", b"\xff\n"),
            ("é", "é\r\n".as_bytes()),
        ] {
            assert_eq!(unescape(text).unwrap(), octets, "{text:?}");
        }
        assert!(unescape("\\xg0").is_err());
    }

    #[test]
    fn a_bad_file_names_its_line() {
        for (text, place) in [
            ("S: x\n", "f.txt:1:"),
            ("# RFC 1 §1: x\n", "f.txt:1:"),
            ("# RFC 1 §1: x\nS: a\nnonsense\n", "f.txt:3:"),
            ("# RFC 1 §1: x\nWAIT: soon\n", "f.txt:2:"),
            ("# RFC 1 §1: x\nCLOSE:\nC: a\n", "f.txt:3:"),
            ("# RFC 1 §1: x\nC: a\n@world x\n", "f.txt:3:"),
            ("# RFC 1 §1: x\nD: a\n", "f.txt:2:"),
            ("# RFC 1 §1: x\nH: a\n", "f.txt:2:"),
        ] {
            let error = parse(Path::new("f.txt"), text).unwrap_err();
            assert!(error.starts_with(place), "{error}");
        }
    }
}
