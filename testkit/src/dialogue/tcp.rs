//! A dialogue against a listening server, over TCP in the clear.

use super::expect::{check, lines};
use super::{Dialogue, Stimulus};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long one line may take to come. Only a failing test waits so long.
const REPLY_TIME_MAX: Duration = Duration::from_secs(20);

impl Dialogue {
    /// Whether the dialogue can be played over TCP in the clear: no TLS, no passing of time, no notice or shutdown, and
    /// only whole lines of output.
    pub fn fits_tcp(&self) -> bool {
        self.scenes.iter().all(|scene| {
            let open = scene.replies.iter().any(|reply| reply.pattern.ends_with('\\'));
            matches!(scene.stimulus, Stimulus::Connect | Stimulus::Send(_) | Stimulus::End) && !open
        })
    }
}

/// Plays a dialogue against the server at `address`. Unexpected output is noticed where the next line is expected.
///
/// # Errors
/// If the dialogue does not [fit](Dialogue::fits_tcp), the connection fails, or a line differs from its pattern or
/// does not come; with file and line.
pub fn replay_tcp(dialogue: &Dialogue, address: SocketAddr) -> Result<(), String> {
    if !dialogue.fits_tcp() {
        return Err(format!("{}: this cannot be played over TCP in the clear", dialogue.path.display()));
    }
    let failed = |line: usize, error: std::io::Error| format!("{}:{line}: {error}", dialogue.path.display());
    let stream = TcpStream::connect_timeout(&address, REPLY_TIME_MAX).map_err(|error| failed(1, error))?;
    stream.set_read_timeout(Some(REPLY_TIME_MAX)).map_err(|error| failed(1, error))?;
    stream.set_write_timeout(Some(REPLY_TIME_MAX)).map_err(|error| failed(1, error))?;
    let mut reader = BufReader::new(&stream);
    for scene in &dialogue.scenes {
        match &scene.stimulus {
            Stimulus::Send(octets) => (&stream).write_all(octets).map_err(|error| failed(scene.line, error))?,
            Stimulus::End => stream.shutdown(Shutdown::Write).map_err(|error| failed(scene.line, error))?,
            // The rest was excluded above.
            Stimulus::Connect | Stimulus::Tls | Stimulus::Wait(_) | Stimulus::Notice | Stimulus::Shutdown => {}
        }
        let mut output = Vec::new();
        for reply in &scene.replies {
            let size = reader.read_until(b'\n', &mut output).map_err(|error| {
                let after = String::from_utf8_lossy(&output).into_owned();
                format!("{} while waiting for S: {} after\n{after}", failed(reply.line, error), reply.pattern)
            })?;
            if size == 0 {
                break;
            }
        }
        if scene.closes {
            reader.read_to_end(&mut output).map_err(|error| failed(scene.line, error))?;
        }
        check(dialogue, scene, &lines(&output))?;
    }
    Ok(())
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
}
