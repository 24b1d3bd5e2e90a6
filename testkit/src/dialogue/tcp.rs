//! A dialogue against a listening server: over TCP in the clear, or over a [`Wire`] that can do more.

use super::expect::{check, lines};
use super::{Dialogue, Scene, Stimulus};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long one line may take to come. Only a failing test waits so long.
const REPLY_TIME_MAX: Duration = Duration::from_secs(20);

/// A connection that dialogues can be played over. TLS is left to whoever has it, so that the machines' tests need none.
pub trait Wire: Read + Write {
    /// Does the client's handshake; everything after it is inside TLS.
    fn start_tls(&mut self) -> io::Result<()>;

    /// Ends the client's side. What the server still says can be read.
    fn end(&mut self) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn start_tls(&mut self) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this cannot be played over TCP in the clear"))
    }

    fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Dialogue {
    /// Whether the dialogue can be played over TCP in the clear by a client alone: no TLS, no passing of time, no notice
    /// or shutdown.
    pub fn fits_tcp(&self) -> bool {
        self.scenes.iter().all(|scene| matches!(scene.stimulus, Stimulus::Connect | Stimulus::Send(_) | Stimulus::End))
    }

    /// Whether time passes in it, which no real server can be made to believe.
    pub fn takes_time(&self) -> bool {
        self.scenes.iter().any(|scene| matches!(scene.stimulus, Stimulus::Wait(_)))
    }
}

/// Connects to a server; no read or write takes for ever.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, REPLY_TIME_MAX)?;
    stream.set_read_timeout(Some(REPLY_TIME_MAX))?;
    stream.set_write_timeout(Some(REPLY_TIME_MAX))?;
    Ok(stream)
}

/// Plays a dialogue against the server at `address`, in the clear.
///
/// # Errors
/// If the dialogue does not [fit](Dialogue::fits_tcp), and as [`replay_over`].
pub fn replay_tcp(dialogue: &Dialogue, address: SocketAddr) -> Result<(), String> {
    if !dialogue.fits_tcp() {
        return Err(format!("{}: this cannot be played over TCP in the clear", dialogue.path.display()));
    }
    let stream = connect(address).map_err(|error| format!("{}:1: {error}", dialogue.path.display()))?;
    replay_over(dialogue, stream, |_| {})
}

/// Plays a dialogue over a connection that was just made. `meanwhile` is the world: it is told of each stimulus before it
/// is played, and does what no client can, such as the change that a notice tells of. Unexpected output is noticed where
/// the next line is expected; after the last line of the file nothing more may come.
///
/// # Errors
/// If time passes in the dialogue, the connection fails, or a line differs from its pattern, does not come, or comes
/// unexpected; with file and line.
pub fn replay_over<W: Wire>(dialogue: &Dialogue, wire: W, mut meanwhile: impl FnMut(&Stimulus)) -> Result<(), String> {
    let at = |line: usize, error: &dyn std::fmt::Display| format!("{}:{line}: {error}", dialogue.path.display());
    let mut reader = BufReader::new(wire);
    for scene in &dialogue.scenes {
        meanwhile(&scene.stimulus);
        stimulate(&mut reader, &scene.stimulus).map_err(|error| at(scene.line, &error))?;
        let output = replies(&mut reader, scene).map_err(|(line, error)| at(line, &error))?;
        check(dialogue, scene, &lines(&output))?;
    }
    let Some(last) = dialogue.scenes.last().filter(|scene| !scene.closes) else { return Ok(()) };
    let failed = |error: io::Error| at(last.line, &error);
    if last.stimulus != Stimulus::End {
        reader.get_mut().end().map_err(failed)?;
    }
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).map_err(failed)?;
    match lines(&rest).first() {
        None => Ok(()),
        Some(line) => Err(at(last.line, &format!("after the end of the dialogue came\n  S: {line}"))),
    }
}

fn stimulate<W: Wire>(reader: &mut BufReader<W>, stimulus: &Stimulus) -> io::Result<()> {
    match stimulus {
        Stimulus::Send(octets) => {
            reader.get_mut().write_all(octets)?;
            reader.get_mut().flush()
        }
        // What came in the clear must not be taken for what came inside TLS.
        Stimulus::Tls if !reader.buffer().is_empty() => Err(io::Error::other("octets came before the handshake")),
        Stimulus::Tls => reader.get_mut().start_tls(),
        Stimulus::End => reader.get_mut().end(),
        Stimulus::Wait(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "time cannot pass on a real server")),
        // These are the world's.
        Stimulus::Connect | Stimulus::Notice | Stimulus::Shutdown => Ok(()),
    }
}

/// What the server says to a stimulus. An error has the line of the reply that was waited for.
fn replies<W: Wire>(reader: &mut BufReader<W>, scene: &Scene) -> Result<Vec<u8>, (usize, String)> {
    let mut output = Vec::new();
    for reply in &scene.replies {
        let size = reader.read_until(b'\n', &mut output).map_err(|error| {
            let after = String::from_utf8_lossy(&output).into_owned();
            (reply.line, format!("{error} while waiting for S: {} after\n{after}", reply.pattern))
        })?;
        if size == 0 {
            break;
        }
    }
    if scene.closes {
        reader.read_to_end(&mut output).map_err(|error| (scene.line, error.to_string()))?;
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use std::net::TcpListener;
    use std::path::Path;

    /// Greets, echoes lines and closes after `QUIT`; serves as many connections as asked.
    fn echo(connections: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"hello\r\n").unwrap();
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let Ok(line) = line else { break };
                    if stream.write_all(format!("echo {line}\r\n").as_bytes()).is_err() || line == "QUIT" {
                        break;
                    }
                }
            }
        });
        address
    }

    #[test]
    fn a_dialogue_is_played_over_tcp() {
        let play = |text: &str, address| {
            replay_tcp(&parse(Path::new("t.txt"), &format!("# RFC 1 §1: t\n{text}")).unwrap(), address)
        };
        let address = echo(4);
        play("S: hello\nC: a\nC: b\nS: echo a\nS: echo *\nC: QUIT\nS: echo QUIT\nCLOSE:\n", address).unwrap();
        play("S: hello\nEND:\nCLOSE:\n", address).unwrap();
        let error = play("S: hello\nC: a\nS: echo b\n", address).unwrap_err();
        assert!(error.starts_with("t.txt:4: expected\n  S: echo b\ngot\n  S: echo a"), "{error}");
        let error = play("S: hello\nC: QUIT\nS: echo QUIT\nS: more\n", address).unwrap_err();
        assert!(error.starts_with("t.txt:5: expected\n  S: more"), "{error}");
        assert!(play("S: hello\nTLS:\n", address).is_err());
    }

    /// A wire that a server has answered beforehand. What is done to it can be seen in `log`.
    struct Canned<'a> {
        input: &'a [u8],
        log: &'a mut Vec<String>,
    }

    impl Read for Canned<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.input.read(buffer)
        }
    }

    impl Write for Canned<'_> {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.log.push(String::from_utf8_lossy(octets).into_owned());
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Wire for Canned<'_> {
        fn start_tls(&mut self) -> io::Result<()> {
            self.log.push("handshake".to_owned());
            self.input = b"inside\r\n";
            Ok(())
        }

        fn end(&mut self) -> io::Result<()> {
            self.log.push("end".to_owned());
            Ok(())
        }
    }

    #[test]
    fn a_wire_does_the_handshake_and_the_world_hears_of_everything() {
        let play = |text: &str, input: &str| {
            let dialogue = parse(Path::new("t.txt"), &format!("# RFC 1 §1: t\n{text}")).unwrap();
            let (mut log, mut heard) = (Vec::new(), Vec::new());
            let wire = Canned { input: input.as_bytes(), log: &mut log };
            let played = replay_over(&dialogue, wire, |stimulus| heard.push(stimulus.clone()));
            (played.err().unwrap_or_default(), log, heard)
        };
        let (error, log, heard) = play("S: hello\nC: a\nS: b\nTLS:\nS: inside\nNOTICE:\n", "hello\r\nb\r\n");
        assert_eq!((error.as_str(), log), ("", ["a\r\n", "handshake", "end"].map(String::from).to_vec()));
        let sent = Stimulus::Send(b"a\r\n".to_vec());
        assert_eq!(heard, [Stimulus::Connect, sent, Stimulus::Tls, Stimulus::Notice]);
        let (error, log, _) = play("S: hello\nEND:\n", "hello\r\nmore\r\n");
        assert_eq!(error, "t.txt:3: after the end of the dialogue came\n  S: more");
        assert_eq!(log, ["end"]);
        // V3 seen from the client: what came in the clear is not taken for what came inside TLS.
        let (error, log, _) = play("S: hello\nTLS:\nS: injected\n", "hello\r\ninjected\r\n");
        assert_eq!((error.as_str(), log.len()), ("t.txt:3: octets came before the handshake", 0));
        let (error, ..) = play("S: hello\nWAIT: 1s\n", "hello\r\n");
        assert_eq!(error, "t.txt:3: time cannot pass on a real server");
    }
}
