//! Each configured listener becomes a bound socket, and each of its connections a session.

use super::sending::Sending;
use crate::config::{Config, Listener as Settings, Protocol, TlsMode};
use anyhow::{Context, anyhow};
use directory::Directory;
use login::Login;
use mail::Address;
use metrics_exporter_prometheus::PrometheusHandle;
use net::confine::Identity;
use net::{
    Gate, Limits, Listen, ListenTls, Listener, Network, Networks, Owner, PairFiles, Place, ServerTls, Shutdown,
    TlsSettings,
};
use nix::unistd::{Group, User};
use smtp_proto::Extensions;
use smtp_proto::question::Role;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::MailStore;
use tokio::task::JoinSet;

/// What sessions of all listeners share.
pub struct Rooms {
    /// The mail.
    pub store: Arc<dyn MailStore>,
    /// Accounts and tables.
    pub directory: Arc<Directory>,
    /// Judges credentials.
    pub login: Arc<Login>,
    /// Everything that leaves.
    pub sending: Sending,
    /// The metrics page.
    pub metrics: PrometheusHandle,
    /// The configuration.
    pub config: Config,
}

/// A bound listener's settings.
pub struct Bound {
    /// As configured.
    pub listener: Settings,
}

type Listeners = Vec<(Bound, Listener)>;

/// Binds every listener and loads its certificates.
pub fn bind(config: &Config, identity: Option<&Identity>) -> anyhow::Result<(Listeners, Vec<Arc<ServerTls>>)> {
    let mut bound = Vec::new();
    let mut all_tls = Vec::new();
    for settings in &config.listeners {
        let tls = match settings.tls {
            TlsMode::None => ListenTls::None,
            TlsMode::Starttls => ListenTls::OnRequest(load_tls(config, settings, &mut all_tls)?),
            TlsMode::Implicit => ListenTls::Implicit(load_tls(config, settings, &mut all_tls)?),
        };
        for place in places(settings, identity)? {
            let listen = Listen {
                name: settings.name.clone(),
                place,
                tls: tls.clone(),
                proxies: networks(&settings.proxy_from)?,
                busy_reply: busy_reply(config, settings),
            };
            let optional = settings.address.starts_with("*:") && matches!(&listen.place, Place::Tcp(a) if a.is_ipv6());
            match Listener::bind(listen) {
                Ok(listener) => bound.push((Bound { listener: settings.clone() }, listener)),
                // A host without IPv6 is no reason not to listen on IPv4. A port that somebody else has is one.
                Err(error) if optional && is_without_ipv6(&error.error) => tracing::warn!(%error, "no IPv6 here"),
                Err(error) => return Err(anyhow!("{error}")),
            }
        }
    }
    Ok((bound, all_tls))
}

fn is_without_ipv6(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT)
}

/// Tickets of one listener are worth nothing on another (V47): each has its own.
fn load_tls(config: &Config, settings: &Settings, all: &mut Vec<Arc<ServerTls>>) -> anyhow::Result<Arc<ServerTls>> {
    let set = config.certificates.iter().find(|set| set.name == settings.certificates);
    let set = set.with_context(|| format!("no set of certificates named `{}`", settings.certificates))?;
    let pairs =
        set.chains.iter().zip(&set.keys).map(|(chain, key)| PairFiles { chain: chain.clone(), key: key.clone() });
    let tls = ServerTls::load(TlsSettings { pairs: pairs.collect(), tickets: true, alpn: alpn(settings.protocol) })
        .map_err(|error| anyhow!("certificates for listener `{}`: {error}", settings.name))?;
    all.push(tls.clone());
    Ok(tls)
}

/// What a protocol is called in a handshake (V49): as IANA has it by RFC 2595 and RFC 7301. SMTP has no name there; these
/// are what other servers take.
fn alpn(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Mx | Protocol::Submission | Protocol::Lmtp => &["smtp", "esmtp"],
        Protocol::Imap => &["imap"],
        Protocol::Pop3 => &["pop3"],
        Protocol::Metrics => &["http/1.1"],
    }
}

/// Where a listener listens: `*:25` means IPv4 and IPv6.
fn places(settings: &Settings, identity: Option<&Identity>) -> anyhow::Result<Vec<Place>> {
    if settings.address.contains('/') {
        let mode = u32::from_str_radix(&settings.socket_mode, 8).context("socket_mode")?;
        let servers_own = identity.map(|identity| Owner { user: identity.user, group: identity.group });
        let owner = owner(&settings.socket_owner)?.or(servers_own);
        return Ok(vec![Place::Unix { path: PathBuf::from(&settings.address), mode, owner }]);
    }
    if let Some(port) = settings.address.strip_prefix("*:") {
        let port = port.parse().context("port")?;
        return Ok(vec![
            Place::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            Place::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        ]);
    }
    Ok(vec![Place::Tcp(settings.address.parse().context("address")?)])
}

/// The owner that `user` or `user:group` names; `None` for an empty text.
pub fn owner(text: &str) -> anyhow::Result<Option<Owner>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let user = User::from_name(user)?.with_context(|| format!("socket_owner: there is no user `{user}`"))?;
    let group = match group {
        Some(name) => Group::from_name(name)?.with_context(|| format!("socket_owner: there is no group `{name}`"))?.gid,
        None => user.gid,
    };
    Ok(Some(Owner { user: user.uid.as_raw(), group: group.as_raw() }))
}

fn networks(texts: &[String]) -> anyhow::Result<Networks> {
    texts.iter().map(|text| text.parse::<Network>().map_err(|error| anyhow!("{error}"))).collect()
}

/// Limits on connections.
pub fn limits(config: &Config, shutdown_grace: Duration) -> anyhow::Result<Limits> {
    Ok(Limits {
        connections_max: config.limits.connections as usize,
        per_address_max: config.limits.connections_per_address as usize,
        per_address_exempt: networks(&config.policy.trusted_networks)?,
        handshake_max: net::HANDSHAKE_MAX,
        shutdown_grace,
    })
}

/// What a peer hears that is refused for a limit, in its protocol.
fn busy_reply(config: &Config, settings: &Settings) -> Vec<u8> {
    let text = match settings.protocol {
        Protocol::Mx | Protocol::Submission | Protocol::Lmtp => {
            format!("421 4.7.0 {} Error: too many connections\r\n", config.host_name)
        }
        Protocol::Imap => "* BYE Too many connections.\r\n".to_owned(),
        Protocol::Pop3 => "-ERR [SYS/TEMP] Too many connections.\r\n".to_owned(),
        Protocol::Metrics => String::new(),
    };
    text.into_bytes()
}

/// Starts to accept on a listener.
pub fn spawn(
    accepting: &mut JoinSet<std::io::Result<()>>,
    rooms: &Rooms,
    bound: &Bound,
    listener: Listener,
    gate: &Gate,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let settings = &bound.listener;
    let gate = gate.clone();
    let (accept, shutdown) = (shutdown.clone(), shutdown.clone());
    match settings.protocol {
        Protocol::Mx => spawn_smtp(accepting, rooms, settings, Role::Mx, listener, gate, shutdown)?,
        Protocol::Submission => spawn_smtp(accepting, rooms, settings, Role::Submission, listener, gate, shutdown)?,
        Protocol::Lmtp => spawn_smtp(accepting, rooms, settings, Role::Lmtp, listener, gate, shutdown)?,
        Protocol::Imap => {
            let config = imap_config(rooms, settings);
            let house = Arc::new(imapd::House {
                store: rooms.store.clone(),
                directory: rooms.directory.clone(),
                login: rooms.login.clone(),
                listener: settings.name.clone(),
            });
            accepting.spawn(net::serve(listener, gate, accept, move |connection| {
                let facts = connection.facts().clone();
                // A session's clock begins at zero with the session.
                let config = imap_proto::Config { unix_seconds_at_zero: Some(imapd::unix_seconds()), ..config.clone() };
                let machine = imap_proto::Session::new(Arc::new(config), facts.clone());
                let desk = imapd::Desk::new(house.clone(), facts);
                net::drive(connection, machine, desk, shutdown.clone())
            }));
        }
        Protocol::Pop3 => {
            let config = Arc::new(pop3_config(rooms, settings));
            let house = Arc::new(pop3d::House {
                store: rooms.store.clone(),
                directory: rooms.directory.clone(),
                login: rooms.login.clone(),
                listener: settings.name.clone(),
            });
            accepting.spawn(net::serve(listener, gate, accept, move |connection| {
                let facts = connection.facts().clone();
                let machine = pop3_proto::Session::new(config.clone(), facts.clone());
                let desk = pop3d::Desk::new(house.clone(), facts);
                net::drive(connection, machine, desk, shutdown.clone())
            }));
        }
        Protocol::Metrics => {
            let metrics = rooms.metrics.clone();
            accepting.spawn(net::serve(listener, gate, accept, move |connection| {
                admin::metrics_page::serve(connection, metrics.clone())
            }));
        }
    }
    Ok(())
}

fn spawn_smtp(
    accepting: &mut JoinSet<std::io::Result<()>>,
    rooms: &Rooms,
    settings: &Settings,
    role: Role,
    listener: Listener,
    gate: Gate,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let checks = match settings.recipient_checks.as_slice() {
        [] => &rooms.config.policy.recipient_checks,
        own => own,
    };
    let checks = policy::parse_checks(checks).map_err(|error| anyhow!("{}: {}", error.cause, error.cure))?;
    let trusted = networks(&rooms.config.policy.trusted_networks)?;
    let strict = Arc::new(smtp_config(rooms, settings, role, false));
    let lenient = Arc::new(smtp_config(rooms, settings, role, true));
    let house = Arc::new(smtpd::House {
        host_name: rooms.config.host_name.clone(),
        store: rooms.store.clone(),
        directory: rooms.directory.clone(),
        policy: policy::Policy::new(rooms.directory.clone(), rooms.store.clone(), checks)
            .with_lookup(rooms.sending.lookup.clone()),
        trusted: trusted.clone(),
        login: rooms.login.clone(),
        queue_ids: rooms.sending.queue_ids.clone(),
        queue: rooms.sending.queue.clone(),
        srs: rooms.sending.srs.clone(),
        submission: (role == Role::Submission).then(|| rooms.sending.submission.clone()),
        signer: Some(rooms.sending.signer.clone()),
        archive: Address::parse(&rooms.config.archive.address).ok(),
        rates: rooms.sending.rates.clone(),
        refusals: rooms.sending.refusals.clone(),
        fates: smtpd::FateCounters::default(),
        authentication_offered: role == Role::Submission,
        hops_max: rooms.config.limits.hops,
        message_octets_max: rooms.config.limits.message_size.0,
        listener: settings.name.clone(),
    });
    let accept = shutdown.clone();
    accepting.spawn(net::serve(listener, gate, accept, move |connection| {
        let facts = connection.facts().clone();
        // R198: only trusted clients may end lines, and the message, with a bare LF.
        let is_trusted = facts.peer.is_some_and(|peer| trusted.contain(peer.ip()));
        let config = if is_trusted { &lenient } else { &strict };
        let machine = smtp_proto::Session::new(config.clone(), facts);
        let desk = smtpd::Desk::new(house.clone());
        net::drive(connection, machine, desk, shutdown.clone())
    }));
    Ok(())
}

/// What an SMTP session is told of its listener.
fn smtp_config(rooms: &Rooms, settings: &Settings, role: Role, lenient_line_ends: bool) -> smtp_proto::Config {
    let mut config = smtp_proto::Config::new(role, &rooms.config.host_name);
    let named = |names: &[String]| {
        names.iter().filter_map(|name| Extensions::parse(name)).fold(Extensions::NONE, Extensions::with)
    };
    config.extensions = config.extensions.with(named(&settings.offer)).without(named(&settings.mask));
    config.message_octets_max = rooms.config.limits.message_size.0;
    config.recipients_max = rooms.config.limits.recipients as usize;
    config.errors_hard_max = rooms.config.limits.errors;
    config.tls_available = settings.tls == TlsMode::Starttls;
    // R18, R73, R128: on a submission listener nothing happens in clear, and nothing without a login.
    config.tls_required = role == Role::Submission;
    config.auth_offered = role == Role::Submission;
    config.auth_required = role == Role::Submission;
    config.lenient_line_ends = lenient_line_ends;
    config
}

/// What an IMAP session is told of its listener.
fn imap_config(rooms: &Rooms, settings: &Settings) -> imap_proto::Config {
    let mut config = imap_proto::Config::new(&rooms.config.host_name);
    config.tls_available = settings.tls == TlsMode::Starttls;
    config.capabilities_masked = settings.mask.clone();
    config.append_octets_max = rooms.config.limits.message_size.0;
    config
}

/// What a POP3 session is told of its listener.
fn pop3_config(rooms: &Rooms, settings: &Settings) -> pop3_proto::Config {
    let mut config = pop3_proto::Config::new(&rooms.config.host_name);
    config.tls_available = settings.tls == TlsMode::Starttls;
    config.masked = settings.mask.iter().filter_map(|name| pop3_proto::Capability::parse(name)).collect();
    config
}
