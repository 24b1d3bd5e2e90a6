//! A client's connection that can begin TLS. It does not judge certificates: the tests' servers sign their own.

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use testkit::dialogue::{Wire, connect};

/// A connection, in clear or inside TLS.
pub enum Line {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Between the two, and after a handshake that failed.
    Gone,
}

impl Line {
    /// Connects in clear.
    pub fn clear(address: SocketAddr) -> Line {
        Line::Clear(connect(address).unwrap())
    }

    /// Connects to a port that speaks TLS from the first octet.
    pub fn tls(address: SocketAddr) -> Line {
        let mut line = Line::clear(address);
        line.start_tls().unwrap();
        line
    }
}

impl Wire for Line {
    fn start_tls(&mut self) -> io::Result<()> {
        let Line::Clear(mut stream) = std::mem::replace(self, Line::Gone) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let name = ServerName::try_from("mail.example.net").map_err(io::Error::other)?;
        let mut session = ClientConnection::new(testkit::tls::client(), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        *self = Line::Tls(Box::new(StreamOwned::new(session, stream)));
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        match self {
            Line::Clear(stream) => stream.shutdown(Shutdown::Write),
            Line::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.shutdown(Shutdown::Write)
            }
            Line::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Clear(stream) => stream.read(buffer),
            Line::Tls(stream) => stream.read(buffer),
            Line::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Write for Line {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Line::Clear(stream) => stream.write(octets),
            Line::Tls(stream) => stream.write(octets),
            Line::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Clear(stream) => stream.flush(),
            Line::Tls(stream) => stream.flush(),
            Line::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
