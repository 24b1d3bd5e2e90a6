//! What the records follow from: read from configuration, tables, certificates and keys.

use crate::config::sending::AddressFamily;
use crate::config::{CertificateSet, Config, Protocol, TlsMode};
use anyhow::{Context, anyhow, bail};
use directory::edit::Editor;
use directory::signing::{Entry, Signing, SigningKey, State, read_key_file};
use dns::{Name, NameError};
use mail::Domain;
use net::certificate::PublicHalf;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Services by which accounts read their mail.
const READING: [&str; 2] = ["_imaps._tcp", "_pop3s._tcp"];

/// Everything that decides what is to be published.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Our host name.
    pub host: Name,
    /// Addresses of this machine that can be reached from everywhere, as far as we know.
    pub addresses: Vec<IpAddr>,
    /// Addresses that mail leaves from, where they are configured; see [`Facts::senders`].
    pub sources: Vec<IpAddr>,
    /// The addresses of others that mail goes to.
    pub family: AddressFamily,
    /// Whether mail leaves through somebody else's host.
    pub has_smarthost: bool,
    /// Keys that are shown on port 25, then those that will be.
    pub tls_keys: Vec<TlsKey>,
    /// Services for our accounts.
    pub services: Vec<Service>,
    /// The domains, in the order in which they are told.
    pub domains: Vec<Hosted>,
    /// Keys of domains that are not among them.
    pub further_keys: Vec<DkimKey>,
}

/// A domain whose mail is delivered here.
#[derive(Debug, Clone)]
pub struct Hosted {
    /// Its name.
    pub name: Name,
    /// The name by which its people know the server.
    pub mail_name: Name,
    /// The keys whose records belong to it, whatever their state.
    pub keys: Vec<DkimKey>,
}

/// The public half of a key that signs messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimKey {
    /// Where its record stands.
    pub name: Name,
    /// The text of the record.
    pub text: String,
    /// What is done with it.
    pub state: State,
}

/// The public half of a key that authenticates us on port 25.
#[derive(Debug, Clone)]
pub struct TlsKey {
    /// Where it was read from.
    pub file: PathBuf,
    /// Whether it takes the place of another one later (R7).
    pub is_next: bool,
    /// What is shown.
    pub half: PublicHalf,
}

/// A service for our accounts.
#[derive(Debug, Clone)]
pub struct Service {
    /// Such as `_imaps._tcp` (RFC 6186 §3, RFC 8314 §5.1).
    pub label: &'static str,
    /// Lower is better.
    pub priority: u16,
    /// Where it listens.
    pub port: u16,
    /// The names of its certificate.
    pub names: Vec<String>,
}

impl Service {
    /// Whether its certificate is good for a name; an asterisk stands for one label (RFC 9525 §6.3).
    pub fn covers(&self, name: &Name) -> bool {
        self.names.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => name.parent().is_some_and(|above| above.as_str() == parent),
            None => pattern == name.as_str(),
        })
    }
}

/// What was asked for beyond the configuration.
#[derive(Debug, Default)]
pub struct Wish<'a> {
    /// Domains; all hosted ones when empty.
    pub domains: &'a [String],
    /// Files of keys that will be shown on port 25.
    pub next_keys: &'a [PathBuf],
}

impl Facts {
    /// Reads everything. A certificate or key that cannot be read is an error: a record is never made without (R5).
    pub fn gather(config: &Config, wish: &Wish<'_>) -> anyhow::Result<Facts> {
        let signing = Signing::open(&config.directory.dkim, &read_key_file)
            .map_err(|errors| anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
        let keys = signing.all();
        let names = if wish.domains.is_empty() { hosted(config)? } else { domains_of(wish.domains)? };
        let host = Name::parse(&config.host_name).with_context(|| format!("host_name {}", config.host_name))?;
        let services = services(config)?;
        let domains = names.iter().map(|domain| one(domain, &host, &services, &keys));
        let domains = domains.collect::<anyhow::Result<Vec<_>>>()?;
        let further_keys = match wish.domains {
            [] => dkim_keys(keys.iter().filter(|(entry, _)| !names.iter().any(|domain| belongs(entry, domain))))?,
            _ => Vec::new(),
        };
        Ok(Facts {
            host,
            addresses: own_addresses(config),
            sources: sources(config)?,
            family: config.outbound.address_family,
            has_smarthost: !config.outbound.smarthost.is_empty(),
            tls_keys: tls_keys(config, wish.next_keys)?,
            services,
            domains,
            further_keys,
        })
    }

    /// Addresses that mail leaves from: configured ones, and those of the host name where none of their family is.
    pub fn senders(&self, of_host: &[IpAddr]) -> Vec<IpAddr> {
        let has_source = |address: &IpAddr| self.sources.iter().any(|source| source.is_ipv4() == address.is_ipv4());
        let is_used = |address: &IpAddr| match self.family {
            AddressFamily::Both => true,
            AddressFamily::Ipv4 => address.is_ipv4(),
            AddressFamily::Ipv6 => address.is_ipv6(),
        };
        let of_host = of_host.iter().copied().filter(|address| !has_source(address));
        of_host.chain(self.sources.iter().copied()).filter(is_used).collect()
    }
}

/// The configured addresses to send from. No mail leaves from the one that lets the system choose.
fn sources(config: &Config) -> anyhow::Result<Vec<IpAddr>> {
    let read = |text: &String| text.parse().with_context(|| format!("outbound.source_addresses {text}"));
    let mut sources = config.outbound.source_addresses.iter().map(read).collect::<anyhow::Result<Vec<IpAddr>>>()?;
    sources.retain(|source| !source.is_unspecified());
    Ok(sources)
}

/// All hosted domains; patterns name no domain of their own.
fn hosted(config: &Config) -> anyhow::Result<Vec<Domain>> {
    let listed = Editor::new(config.directory_settings()).domains()?;
    let names: Vec<String> = listed.into_iter().filter(|name| !name.starts_with('.')).collect();
    if names.is_empty() {
        bail!("no domain is hosted here; name one, or add it: pillarbox domain add DOMAIN");
    }
    domains_of(&names)
}

fn domains_of(texts: &[String]) -> anyhow::Result<Vec<Domain>> {
    let mut domains = Vec::new();
    for text in texts {
        match Domain::parse(text) {
            Ok(domain) if !domain.is_literal() && domain.as_str().contains('.') => {
                if !domains.contains(&domain) {
                    domains.push(domain);
                }
            }
            Ok(_) | Err(_) => bail!("`{text}` is not a full domain"),
        }
    }
    Ok(domains)
}

type Loaded = (Entry, Arc<SigningKey>);

fn one(domain: &Domain, host: &Name, services: &[Service], keys: &[Loaded]) -> anyhow::Result<Hosted> {
    let name = Name::try_from(domain).with_context(|| format!("the domain {domain}"))?;
    let mail_name = mail_name(&name, host, services);
    Ok(Hosted {
        mail_name: mail_name.with_context(|| format!("the name of the server for clients of {domain}"))?,
        keys: dkim_keys(keys.iter().filter(|(entry, _)| belongs(entry, domain)))?,
        name,
    })
}

/// The name by which a domain's people know the server: `mail.DOMAIN`, unless the certificate that they see when they read
/// mail has only others below the domain; best one that is not the host's (R3).
fn mail_name(domain: &Name, host: &Name, services: &[Service]) -> Result<Name, NameError> {
    let usual = domain.under("mail")?;
    let read: Vec<&Service> = services.iter().filter(|service| READING.contains(&service.label)).collect();
    if read.iter().any(|service| service.covers(&usual)) {
        return Ok(usual);
    }
    let names = read.iter().flat_map(|service| &service.names).filter_map(|name| Name::parse(name).ok());
    let is_below = |name: &Name| std::iter::successors(name.parent(), Name::parent).any(|above| above == *domain);
    let names: Vec<Name> = names.filter(|name| !name.as_str().starts_with('*') && is_below(name)).collect();
    Ok(names.iter().find(|name| *name != host).or(names.first()).cloned().unwrap_or(usual))
}

/// Whether a key is the domain's own, or signs for it as for one below its own.
fn belongs(entry: &Entry, domain: &Domain) -> bool {
    entry.domain == *domain
        || (entry.scope == directory::signing::Scope::Below
            && std::iter::successors(domain.parent(), Domain::parent).any(|parent| parent == entry.domain))
}

/// One for each record: a key may stand in the table twice, for its domain and for those below.
fn dkim_keys<'a>(keys: impl Iterator<Item = &'a Loaded>) -> anyhow::Result<Vec<DkimKey>> {
    let mut found: Vec<DkimKey> = Vec::new();
    for (entry, key) in keys {
        let name = key.record_name();
        let name = Name::parse(&name).with_context(|| format!("the DKIM record {name}"))?;
        let key = DkimKey { name, text: key.public_record(), state: entry.state };
        match found.iter_mut().find(|other| other.name == key.name) {
            // What signs for one of both signs.
            Some(other) if key.state == State::Active => *other = key,
            Some(_) => {}
            None => found.push(key),
        }
    }
    Ok(found)
}

/// R4, R7: the keys of every listener for other servers that speaks TLS.
fn tls_keys(config: &Config, next: &[PathBuf]) -> anyhow::Result<Vec<TlsKey>> {
    let of_mx = config.listeners.iter().filter(|listener| listener.protocol == Protocol::Mx);
    let sets: Vec<&str> = of_mx.filter(|l| l.tls != TlsMode::None).map(|l| l.certificates.as_str()).collect();
    let sets = config.certificates.iter().filter(|set| sets.contains(&set.name.as_str()));
    let in_use = sets.flat_map(|set| &set.chains).map(|file| (file, false));
    let mut keys: Vec<TlsKey> = Vec::new();
    for (file, is_next) in in_use.chain(next.iter().map(|file| (file, true))) {
        let half = half_of(file)?;
        if !keys.iter().any(|key| key.half.key_info == half.key_info) {
            keys.push(TlsKey { file: file.clone(), is_next, half });
        }
    }
    Ok(keys)
}

fn half_of(file: &Path) -> anyhow::Result<PublicHalf> {
    let pem = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    PublicHalf::from_pem(&pem).map_err(|error| anyhow!("{}: {error}", file.display()))
}

/// The services for our accounts that others than this machine can reach.
fn services(config: &Config) -> anyhow::Result<Vec<Service>> {
    let mut services: Vec<Service> = Vec::new();
    for listener in &config.listeners {
        // RFC 8314 §3: IMAP and POP3 are told of with TLS from the first octet only.
        let (label, priority) = match (listener.protocol, listener.tls) {
            (Protocol::Submission, TlsMode::Implicit) => ("_submissions._tcp", 0),
            (Protocol::Submission, TlsMode::Starttls) => ("_submission._tcp", 10),
            (Protocol::Imap, TlsMode::Implicit) => (READING[0], 0),
            (Protocol::Pop3, TlsMode::Implicit) => (READING[1], 10),
            _ => continue,
        };
        let Some((_, port)) = listener.address.rsplit_once(':') else { continue };
        let Ok(port) = port.parse() else { continue };
        if services.iter().any(|service| service.label == label) {
            continue;
        }
        let set = config.certificates.iter().find(|set| set.name == listener.certificates);
        services.push(Service { label, priority, port, names: set.map_or(Ok(Vec::new()), names_of)? });
    }
    Ok(services)
}

/// The names that all certificates of a set have: which one a client gets depends on the client.
fn names_of(set: &CertificateSet) -> anyhow::Result<Vec<String>> {
    let mut names: Option<Vec<String>> = None;
    for file in &set.chains {
        let own = half_of(file)?.names;
        names = Some(match names {
            None => own,
            Some(names) => names.into_iter().filter(|name| own.contains(name)).collect(),
        });
    }
    Ok(names.unwrap_or_default())
}

/// Addresses that listeners for other servers are bound to; else those that the system would send from.
fn own_addresses(config: &Config) -> Vec<IpAddr> {
    let of_mx = config.listeners.iter().filter(|listener| listener.protocol == Protocol::Mx);
    let bound: Vec<SocketAddr> = of_mx.filter_map(|listener| listener.address.parse().ok()).collect();
    let mut addresses: Vec<IpAddr> = match bound.iter().any(|address| !address.ip().is_unspecified()) {
        true => bound.iter().map(SocketAddr::ip).collect(),
        // Nothing is sent: the system only says which way it would go. The targets are of RFC 5737 and RFC 3849.
        false => [("0.0.0.0:0", "192.0.2.1:53"), ("[::]:0", "[2001:db8::1]:53")]
            .into_iter()
            .filter_map(|(from, to)| {
                let socket = UdpSocket::bind(from).ok()?;
                socket.connect(to).ok()?;
                Some(socket.local_addr().ok()?.ip())
            })
            .collect(),
    };
    addresses.retain(|address| is_global(*address));
    addresses.dedup();
    addresses
}

/// Whether an address can be reached from everywhere, by the registries of RFC 6890 as far as hosts have such addresses.
pub fn is_global(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_documentation();
            !(is_special || is_shared || a == 0 || a >= 224)
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            a & 0xe000 == 0x2000 && !(a == 0x2001 && b == 0x0db8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_the_name_for_clients_is_one_of_the_certificate() {
        let name = |text: &str| Name::parse(text).unwrap();
        for (label, names, expected) in [
            ("_imaps._tcp", "", "mail.example.net"),
            ("_imaps._tcp", "imap.example.net", "imap.example.net"),
            ("_pop3s._tcp", "mx.example.net pop.example.net", "pop.example.net"),
            ("_imaps._tcp", "imap.example.net mail.example.net", "mail.example.net"),
            ("_imaps._tcp", "*.example.net", "mail.example.net"),
            ("_imaps._tcp", "*.in.example.net", "mail.example.net"),
            ("_imaps._tcp", "imap.example.org example.net", "mail.example.net"),
            ("_imaps._tcp", "mx.example.net", "mx.example.net"),
            ("_submissions._tcp", "smtp.example.net", "mail.example.net"),
        ] {
            let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
            let service = Service { label, priority: 0, port: 1, names };
            let found = mail_name(&name("example.net"), &name("mx.example.net"), std::slice::from_ref(&service));
            assert_eq!(found.unwrap(), name(expected), "{service:?}");
        }
    }

    #[test]
    fn mail_leaves_from_what_is_configured_else_from_the_host() {
        let mut config = Config::default();
        config.outbound.source_addresses = ["0.0.0.0", "::", "203.0.113.9"].map(str::to_owned).to_vec();
        let other: IpAddr = "203.0.113.9".parse().unwrap();
        assert_eq!(sources(&config).unwrap(), [other]);
        let host: [IpAddr; 2] = ["203.0.113.5", "2001:db8::5"].map(|text| text.parse().unwrap());
        for (sources, family, expected) in [
            (vec![], AddressFamily::Both, host.to_vec()),
            (vec![], AddressFamily::Ipv4, vec![host[0]]),
            (vec![], AddressFamily::Ipv6, vec![host[1]]),
            (vec![other], AddressFamily::Both, vec![host[1], other]),
            (vec![other], AddressFamily::Ipv4, vec![other]),
        ] {
            let facts = Facts { sources, family, ..super::super::testing::facts() };
            assert_eq!(facts.senders(&host), expected, "{:?} {family:?}", facts.sources);
        }
    }

    #[test]
    fn addresses_that_everybody_can_reach() {
        for (text, expected) in [
            ("8.8.4.4", true),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("127.0.0.1", false),
            ("192.0.2.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("2a01:4f8::1", true),
            ("2001:db8::1", false),
            ("::1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_global(text.parse().unwrap()), expected, "{text}");
        }
    }
}
