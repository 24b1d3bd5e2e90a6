//! What the command knows of its surroundings: the server to submit to, the domain of names without one, and who calls.

use super::options::Options;
use super::{Exit, Failure, loaded};
use crate::config::{self, Config, Listener, Protocol, TlsMode};
use mail::{Address, Domain};
use nix::unistd::{User, getuid};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

/// Where to submit, `host:port`.
const SERVER_VARIABLE: &str = "PILLARBOX_SENDMAIL_SERVER";
/// What names without a domain are completed by.
const DOMAIN_VARIABLE: &str = "PILLARBOX_SENDMAIL_DOMAIN";
/// The same for all mail programs of a Debian system.
const MAIL_NAME_FILE: &str = "/etc/mailname";
/// Longest wait for a connection on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 5321 §4.5.4: SMTP's port.
const SMTP_PORT: u16 = 25;
/// Octets of a message that are read where the configuration cannot be, which is all that bounds them then: the server says
/// what it takes (RFC 1870 §4), and that may be more than our default.
const MESSAGE_OCTETS_MAX: u64 = 1 << 30;

/// The configuration file.
#[derive(Debug, Clone, Copy)]
pub struct ConfigFile<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// Whether the command line names it, and so means what it says.
    pub is_named: bool,
}

/// The surroundings.
pub struct Place {
    /// `host:port`.
    pub server: String,
    /// Completes names.
    pub domain: Domain,
    /// Largest message.
    pub message_octets_max: u64,
    /// Who calls. Not every user of a container has a name, and not every message needs one.
    pub caller: Result<Caller, Failure>,
}

/// Who calls.
pub struct Caller {
    /// The login name at our domain.
    pub address: Address,
    /// The full name that the system knows; may be empty.
    pub full_name: String,
}

impl Place {
    /// Looks around. The configuration counts where it can be read: most who call this may not, and need not. One that the
    /// command line names must be readable.
    pub fn find(config: ConfigFile<'_>, options: &Options) -> Result<Place, Failure> {
        let config = match config.is_named {
            true => Some(loaded(config.path)?.config),
            false => readable(config.path),
        };
        let message_octets_max = config.as_ref().map_or(MESSAGE_OCTETS_MAX, |config| config.limits.message_size.0);
        let config = config.unwrap_or_default();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let server = options.server.clone().or_else(|| variable(SERVER_VARIABLE));
        let server = server.or_else(|| listener_address(&config.listeners).map(|address| address.to_string()));
        let domain = match options.domain.clone().or_else(|| variable(DOMAIN_VARIABLE)) {
            Some(text) => Domain::parse(text.trim())
                .map_err(|_| Failure::new(Exit::Usage, format!("{text:?} is no domain to complete names by")))?,
            None => own_domain(&config),
        };
        Ok(Place {
            server: server.map_or(format!("127.0.0.1:{SMTP_PORT}"), with_port),
            message_octets_max,
            caller: caller(&domain),
            domain,
        })
    }

    /// Connects to the server.
    pub fn connect(&self) -> Result<TcpStream, Failure> {
        let failed = |cause: String| {
            let text = format!("no connection to the mail server at {}: {cause}; nothing was sent", self.server);
            Failure::new(Exit::TemporaryFailure, text)
        };
        let addresses = self.server.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        let mut last = "it has no address".to_owned();
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.to_string(),
            }
        }
        Err(failed(last))
    }
}

/// The configuration, if it can be read: what is wrong with it is for others to say.
fn readable(file: &Path) -> Option<Config> {
    let text = std::fs::read_to_string(file).ok()?;
    config::parse(file, &text).ok()
}

fn with_port(server: String) -> String {
    let has_port = server.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
    });
    match has_port {
        true => server,
        false if server.contains(':') && !server.starts_with('[') => format!("[{server}]:{SMTP_PORT}"),
        false => format!("{server}:{SMTP_PORT}"),
    }
}

/// The listener that takes mail from this machine, by the address to connect to: best one on loopback, for whoever
/// comes over that is trusted.
fn listener_address(listeners: &[Listener]) -> Option<SocketAddr> {
    let fit = listeners.iter().filter(|listener| {
        listener.protocol == Protocol::Mx && listener.tls != TlsMode::Implicit && listener.proxy_from.is_empty()
    });
    let addresses: Vec<SocketAddr> = fit.filter_map(|listener| reachable(&listener.address)).collect();
    addresses.iter().find(|address| address.ip().is_loopback()).or(addresses.first()).copied()
}

fn reachable(address: &str) -> Option<SocketAddr> {
    if let Some(port) = address.strip_prefix("*:") {
        return Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into());
    }
    let address: SocketAddr = address.parse().ok()?;
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    Some((ip, address.port()).into())
}

/// RFC 6409 §4.2: a domain for names without one. In the last place `localhost`, which the server refuses with a clear word.
fn own_domain(config: &Config) -> Domain {
    let mail_name = std::fs::read_to_string(MAIL_NAME_FILE).ok();
    let mail_name = mail_name.and_then(|text| text.lines().next().map(|line| line.trim().to_owned()));
    let host_name = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let candidates = [mail_name, Some(config.host_name.clone()), host_name(), Some("localhost".to_owned())];
    let domain = candidates.into_iter().flatten().find_map(|text| Domain::parse(&text).ok());
    domain.expect("`localhost` is a domain")
}

fn caller(domain: &Domain) -> Result<Caller, Failure> {
    let user = User::from_uid(getuid()).ok().flatten();
    let Some(user) = user else {
        return Err(Failure::new(Exit::NoUser, "you have no login name here; say with -f whom the mail is from"));
    };
    let address = Address::parse(&format!("{}@{domain}", user.name));
    let address = address.map_err(|_| {
        Failure::new(Exit::NoUser, "your login name makes no address; say with -f whom the mail is from")
    })?;
    let full_name = user.gecos.to_string_lossy().split(',').next().unwrap_or_default().trim().to_owned();
    Ok(Caller { address, full_name })
}

#[cfg(test)]
mod tests {
    use super::super::options::Name;
    use super::*;

    fn listener(address: &str) -> Listener {
        Listener { address: address.into(), ..Listener::default() }
    }

    #[test]
    fn the_listener_on_loopback_is_found() {
        let found = |listeners: &[Listener]| listener_address(listeners).map(|address| address.to_string());
        assert_eq!(found(&[listener("*:25")]).as_deref(), Some("127.0.0.1:25"));
        assert_eq!(found(&[listener("[::]:2525")]).as_deref(), Some("[::1]:2525"));
        assert_eq!(found(&[listener("192.0.2.1:25"), listener("0.0.0.0:26")]).as_deref(), Some("127.0.0.1:26"));
        assert_eq!(found(&[listener("192.0.2.1:25")]).as_deref(), Some("192.0.2.1:25"));
        let other = |protocol, tls, proxy: &[&str]| Listener {
            protocol,
            tls,
            proxy_from: proxy.iter().map(|text| (*text).to_owned()).collect(),
            ..listener("127.0.0.1:25")
        };
        for unfit in [
            other(Protocol::Submission, TlsMode::None, &[]),
            other(Protocol::Mx, TlsMode::Implicit, &[]),
            other(Protocol::Mx, TlsMode::None, &["127.0.0.1"]),
            listener("mx.sock/x"),
        ] {
            assert_eq!(found(std::slice::from_ref(&unfit)), None, "{unfit:?}");
        }
    }

    #[test]
    fn a_server_without_a_port_has_that_of_smtp() {
        for (given, expected) in [
            ("localhost", "localhost:25"),
            ("127.0.0.1:2525", "127.0.0.1:2525"),
            ("::1", "[::1]:25"),
            ("[::1]", "[::1]:25"),
            ("[::1]:2525", "[::1]:2525"),
        ] {
            assert_eq!(with_port(given.to_owned()), expected);
        }
    }

    #[test]
    fn a_configuration_that_cannot_be_read_counts_only_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pillarbox.toml");
        let options = Options::read(Name::Pillarbox, &[]).unwrap();
        let find =
            |is_named| Place::find(ConfigFile { path: &path, is_named }, &options).map_err(|failure| failure.exit);
        for text in [None, Some("nonsense"), Some("host_name = \"mx.example.net\"\n[limits]\nhops = 0\nhop = 1\n")] {
            text.into_iter().for_each(|text| std::fs::write(&path, text).unwrap());
            // R214: what is larger than by default is for the server to judge.
            assert!(find(false).unwrap().message_octets_max > Config::default().limits.message_size.0);
            assert_eq!(find(true).err(), Some(Exit::Unavailable), "{text:?}");
        }
        std::fs::write(&path, "host_name = \"mx.example.net\"\n[limits]\nmessage_size = 1000\n").unwrap();
        assert_eq!([false, true].map(|is_named| find(is_named).unwrap().message_octets_max), [1_000; 2]);
    }
}
