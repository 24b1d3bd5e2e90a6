//! Listeners: where connections are accepted, bound while the process is still privileged.
//!
//! Accepting is in [`crate::serve`]. Nothing here needs the runtime, so that binding can come before the privileges
//! are given up and that before the first thread (R204).

use crate::networks::Networks;
use crate::tls::ServerTls;
use nix::unistd::{Gid, Uid, chown};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a listener is to be.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Its name in the configuration, in log lines and metrics, such as `submission`.
    pub name: String,
    /// Where it listens.
    pub place: Place,
    /// Its TLS.
    pub tls: ListenTls,
    /// Peers that speak the PROXY protocol first; others are never believed a header. Empty: nobody is.
    pub proxies: Networks,
    /// Sent to a peer that is refused for a limit, where the connection begins in clear: a whole reply of the
    /// protocol, such as `421 4.7.0 mx.example.net too many connections` with CRLF. Empty: nothing is sent.
    pub busy_reply: Vec<u8>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP. An IPv6 address listens for IPv6 only, so `0.0.0.0:25` and `[::]:25` stand side by side.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Unix {
        /// Its path. A socket left behind by a process that is gone is replaced.
        path: PathBuf,
        /// Its permission bits, such as 0o660.
        mode: u32,
        /// Who owns it; whoever runs us, where `None`.
        owner: Option<Owner>,
    },
}

/// Owner of a UNIX socket, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
}

/// The TLS of a listener.
#[derive(Debug, Clone)]
pub enum ListenTls {
    /// None at all.
    None,
    /// When the protocol asks for it: STARTTLS, STLS.
    OnRequest(Arc<ServerTls>),
    /// From the first octet.
    Implicit(Arc<ServerTls>),
}

/// A bound listener. Peers that connect wait until [`crate::serve`] accepts them.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: BoundSocket,
    pub(crate) listen: Listen,
}

#[derive(Debug)]
pub(crate) enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Why a listener could not be bound. Names the listener, the cause and the cure.
#[derive(Debug)]
pub struct BindError {
    /// Name of the listener.
    pub listener: String,
    /// Where it was to listen.
    pub place: Place,
    /// What went wrong.
    pub error: io::Error,
}

/// Connections that the kernel keeps for us while we do not accept.
pub const BACKLOG: i32 = 1_024;

impl Listener {
    /// Binds and listens.
    pub fn bind(listen: Listen) -> Result<Listener, BindError> {
        let socket = match &listen.place {
            Place::Tcp(address) => bind_tcp(*address).map(|socket| BoundSocket::Tcp(socket.into())),
            Place::Unix { path, mode, owner } => {
                bind_unix(path, *mode, *owner).map(|socket| BoundSocket::Unix(socket.into()))
            }
        };
        match socket {
            Ok(socket) => Ok(Listener { socket, listen }),
            Err(error) => Err(BindError { listener: listen.name, place: listen.place, error }),
        }
    }

    /// Name of the listener.
    pub fn name(&self) -> &str {
        &self.listen.name
    }

    /// The address it listens on, with the port that the kernel chose where 0 was asked for; `None` on a UNIX socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            BoundSocket::Tcp(socket) => socket.local_addr().ok(),
            BoundSocket::Unix(_) => None,
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32, owner: Option<Owner>) -> io::Result<Socket> {
    remove_abandoned(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Listening comes last, so that nobody can connect before the permissions are right.
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))?;
    if let Some(Owner { user, group }) = owner {
        chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Removes a socket that nobody listens on any more; anything else at that path is left alone.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is not a socket is at this path"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => write!(f, "{address}"),
            Place::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { listener, place, error } = self;
        write!(f, "listener {listener}: cannot listen on {place}: {error}")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                f.write_str("; another program listens there, stop it or choose another address")
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("; ports below 1024 and foreign folders need root, start as root or choose another address")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str("; this machine does not have the address"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(place: Place) -> Listen {
        let (name, proxies) = ("lmtp".to_owned(), Networks::default());
        Listen { name, place, tls: ListenTls::None, proxies, busy_reply: Vec::new() }
    }

    #[test]
    fn a_used_address_is_explained() {
        let first = Listener::bind(listen(Place::Tcp("127.0.0.1:0".parse().unwrap()))).unwrap();
        let taken = first.local_address().unwrap();
        let error = Listener::bind(listen(Place::Tcp(taken))).unwrap_err().to_string();
        assert!(error.contains(&format!("listener lmtp: cannot listen on {taken}")), "{error}");
        assert!(error.contains("another program listens there"), "{error}");
    }

    /// V51: the socket is never open to others, and no file is replaced by it.
    #[test]
    fn unix_sockets_have_their_mode_and_replace_only_the_dead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lmtp");
        let place = Place::Unix { path: path.clone(), mode: 0o660, owner: None };
        let alive = Listener::bind(listen(place.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(Listener::bind(listen(place.clone())).unwrap_err().error.kind(), io::ErrorKind::AddrInUse);
        drop(alive);
        let second = Listener::bind(listen(place.clone())).unwrap();
        drop(second);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(Listener::bind(listen(place)).unwrap_err().error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
