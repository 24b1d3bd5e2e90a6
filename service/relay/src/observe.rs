//! What reports about TLS say of each session (RFC 8460): worked out here, counted by whoever listens.
//!
//! Told of is what a policy of the domain, or the lack of one, makes of a session. A destination whose protection the
//! configuration settles is not told of, since nobody looked at what its domain publishes; nor are connections that never
//! got as far as TLS (RFC 8460 §4.3.4), nor what comes of a demand of our own, for a password's sake.

use crate::Relay;
use crate::hosts::Hosts;
use crate::open::Target;
use crate::tls::{TlsFailure, TlsOutcome};
use dns::Name;
use mail::RequireTls;
use smtp_proto::client::{InTheClear, Peer, Protection as Standing};
use transport_security::Protection;
use transport_security::tls_rpt::{AppliedPolicy, FailedSession, PolicyKind, ResultType};

/// Longest name of a host in its greeting that is told, in octets; a domain name has 253 (RFC 1035 §2.3.4).
const HELO_OCTETS_MAX: usize = 255;

/// Hears how protected each session was. Called between two steps of a session, so it must not wait.
pub trait TlsObserver: Send + Sync {
    /// A session under this policy: well, or how it failed, or would have under a policy that is in testing. `domain` is
    /// the one that reports go to: the recipient's, or that of the smarthost.
    fn session(&self, domain: &Name, policy: &AppliedPolicy, result: Result<(), FailedSession>);
}

impl Relay {
    /// Tells of a policy that should be there and cannot be had.
    pub(crate) fn observe_policy(&self, hosts: &Hosts) {
        let Some((observer, domain)) = self.observer_of(hosts) else { return };
        if let Some(trouble) = &hosts.sts.trouble {
            let failed = FailedSession::new(trouble.result, &trouble.cause);
            observer.session(domain, &AppliedPolicy::unknown_sts(domain), Err(failed));
        }
    }

    /// Tells of a host that is not connected to because of a policy.
    pub(crate) fn observe_refusal(&self, hosts: &Hosts, target: &Target) {
        let Some((observer, domain)) = self.observer_of(hosts) else { return };
        let Protection::Refuse { status, cause, result } = &target.decision.protection else { return };
        // A refusal for good is what the message demands, not what the domain publishes (RFC 8689 §4.2.1).
        if status.class == 4 {
            let receiving_host = target.name.as_ref().map(Name::to_string);
            let failed = FailedSession { receiving_host, ..FailedSession::new(*result, cause) };
            observer.session(domain, &target.decision.applied, Err(failed));
        }
    }

    /// Tells of a session that got as far as TLS, or as the lack of it.
    pub(crate) fn observe_session(
        &self,
        hosts: &Hosts,
        target: &Target,
        peer: &Peer,
        tls: Option<&Result<TlsOutcome, TlsFailure>>,
    ) {
        let Some((observer, domain)) = self.observer_of(hosts) else { return };
        if target.is_guarded {
            return;
        }
        let policy = &target.decision.applied;
        // What is told of the missing policy must not be outweighed by sessions that went well without it.
        if policy.kind == PolicyKind::None && hosts.sts.trouble.is_some() {
            return;
        }
        let failed = |result, cause: &str| FailedSession {
            sending_ip: peer.connection.local.map(|local| local.ip()),
            receiving_host: target.name.as_ref().map(Name::to_string),
            receiving_helo: peer.name.clone().filter(|name| name.len() <= HELO_OCTETS_MAX),
            receiving_ip: peer.connection.peer.map(|peer| peer.ip()),
            ..FailedSession::new(result, cause)
        };
        let result = match (tls, &peer.protection) {
            (Some(Ok(TlsOutcome { observed: None, .. })), _) => Ok(()),
            (Some(Ok(TlsOutcome { observed: Some(failure), .. }) | Err(failure)), _) => {
                Err(failed(failure.result, &failure.cause))
            }
            (None, Standing::Clear(InTheClear::NotOffered)) => Err(failed(ResultType::StarttlsNotSupported, "")),
            (None, Standing::Clear(InTheClear::Refused(reply))) => {
                Err(failed(ResultType::StarttlsNotSupported, &reply.to_string()))
            }
            // Over before STARTTLS, or the second connection after a handshake that failed and was told of.
            (None, Standing::Clear(InTheClear::NotTried) | Standing::Tls(_)) => return,
        };
        observer.session(domain, policy, result);
    }

    /// Who hears of sessions, and under which domain.
    fn observer_of<'a>(&'a self, hosts: &'a Hosts) -> Option<(&'a dyn TlsObserver, &'a Name)> {
        // RFC 8460 §3: the delivery of a report is not told of, or each report would lead to the next.
        let is_told = hosts.heeds_policies() && hosts.demand != RequireTls::Optional;
        let next_hop = hosts.next_hop.as_ref().filter(|_| is_told)?;
        Some((self.observer.as_deref()?, &next_hop.domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::policy_fetch::site::{Names, Site};
    use crate::policy_fetch::{HttpsClient, HttpsSettings, Policies};
    use crate::tls::Trust;
    use crate::tls::fixtures::{Authority, Identity, Kind};
    use aws_lc_rs::digest::{SHA256, digest};
    use directory::{RelayLogin, Transport};
    use mail::{Domain, Secret};
    use rustls::version::TLS13;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use transport_security::Level;
    use transport_security::tls_rpt::tally::Tally;

    const HOST: &str = "mx.example.net";
    const MX: &str = "example.net MX 10 mx.example.net\nmx.example.net A 127.0.0.1\n";

    /// What a server does about TLS.
    #[derive(Clone, Copy)]
    enum Tls {
        Good,
        None,
        Refused,
        Broken,
    }

    struct Server {
        port: u16,
        certificate: String,
        /// How often it heard a password.
        logins: Arc<AtomicUsize>,
        accepting: tokio::task::JoinHandle<()>,
    }

    impl Server {
        async fn new(tls: Tls) -> Server {
            Server::showing(Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {}), tls).await
        }

        async fn showing(identity: Identity, tls: Tls) -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let certificate =
                digest(&SHA256, &identity.chain[0]).as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
            let identity = Arc::new(identity);
            let logins = Arc::new(AtomicUsize::new(0));
            let heard = logins.clone();
            let accepting = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (identity, heard) = (identity.clone(), heard.clone());
                    tokio::spawn(async move { talk(stream, tls, &identity, &heard).await });
                }
            });
            Server { port, certificate, logins, accepting }
        }

        fn tlsa(&self, certificate: &str) -> String {
            format!("$secure\n{MX}_{}._tcp.{HOST} TLSA 3 0 1 {certificate}\n", self.port)
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.accepting.abort();
        }
    }

    async fn talk(stream: TcpStream, tls: Tls, identity: &Identity, logins: &AtomicUsize) -> Option<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 mx.example.net\r\n").await.ok()?;
        let offer = if matches!(tls, Tls::None) { "" } else { "STARTTLS" };
        if !commands(&mut stream, offer, tls, logins).await? {
            return None;
        }
        if matches!(tls, Tls::Broken) {
            stream.fill_buf().await.ok()?;
            return stream.write_all(b"not TLS at all, whoever says so\r\n").await.ok();
        }
        let stream = identity.acceptor(&[&TLS13], &[]).accept(stream.into_inner()).await.ok()?;
        commands(&mut BufReader::new(stream), "AUTH PLAIN", Tls::None, logins).await?;
        None
    }

    /// Answers commands until STARTTLS is begun.
    async fn commands<S: AsyncRead + AsyncWrite + Unpin>(
        stream: &mut BufReader<S>,
        offer: &str,
        tls: Tls,
        logins: &AtomicUsize,
    ) -> Option<bool> {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return Some(false);
            }
            let reply = match (line.get(..4)?.to_ascii_uppercase().as_str(), tls) {
                ("EHLO", _) => format!("250-{HOST}\r\n250 {offer}\r\n").replace("250 \r\n", "250 HELP\r\n"),
                ("AUTH", _) => {
                    logins.fetch_add(1, Ordering::Relaxed);
                    "235 welcome\r\n".to_owned()
                }
                ("STAR", Tls::Refused) => "454 4.7.0 not today\r\n".to_owned(),
                ("STAR", _) => "220 go\r\n".to_owned(),
                _ => "221 bye\r\n".to_owned(),
            };
            stream.write_all(reply.as_bytes()).await.ok()?;
            if reply.starts_with("220") {
                return Some(true);
            }
        }
    }

    #[derive(Default)]
    struct Told(Mutex<Tally>);

    impl TlsObserver for Told {
        fn session(&self, domain: &Name, policy: &AppliedPolicy, result: Result<(), FailedSession>) {
            let mut tally = self.0.lock().unwrap();
            match result {
                Ok(()) => tally.succeeded(domain, policy),
                Err(failed) => tally.failed(domain, policy, failed),
            }
        }
    }

    struct World {
        zone: String,
        demand: RequireTls,
        level: Level,
        policies: Option<Policies>,
        transport: &'static str,
        trust: Trust,
        login: Option<RelayLogin>,
    }

    impl World {
        fn new(zone: &str) -> World {
            World {
                zone: zone.to_owned(),
                demand: RequireTls::Ordinary,
                level: Level::Published,
                policies: None,
                transport: "",
                trust: Trust::nobody(),
                login: None,
            }
        }

        /// By way of a smarthost that wants a password.
        fn with_login(zone: &str, transport: &'static str, trust: &Trust) -> World {
            let login = RelayLogin { login: "us".to_owned(), password: Secret::new("right".to_owned()) };
            World { transport, trust: trust.clone(), login: Some(login), ..World::new(zone) }
        }

        /// Opens a session to example.net: whether it came about, and what was told, a line for each policy.
        async fn open(self, server: &Server) -> (bool, Vec<String>) {
            let names = Names::new(&self.zone);
            let mut settings =
                Settings { smtp_port: server.port, ..Settings::new(Domain::parse("mx.own.example").unwrap()) };
            settings.levels.insert("*".to_owned(), self.level);
            let told = Arc::new(Told::default());
            let relay = Relay::new(settings, names, self.trust, self.policies).observed_by(told.clone());
            let domain = Domain::parse("example.net").unwrap();
            let transport = Transport::parse(self.transport).unwrap_or(Transport::Direct);
            let mut hosts = relay.hosts(&transport, &domain, self.demand).await.unwrap();
            let call = relay.open(&mut hosts, self.login.as_ref()).await;
            let is_open = call.is_ok();
            if let Ok(call) = call {
                call.close().await;
            }
            let tally = told.0.lock().unwrap().clone();
            assert!(tally.domains().all(|domain| ["example.net", HOST].contains(&domain)));
            let shown = |of: &transport_security::tls_rpt::tally::PolicyTally| {
                let results: Vec<_> = of.details.iter().map(|(failed, _)| failed.result.as_str()).collect();
                format!("{:?} {} {} {}", of.policy.kind, of.successes, of.failures, results.join(" "))
            };
            (is_open, tally.of("example.net").iter().map(shown).collect())
        }
    }

    fn told(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[tokio::test]
    async fn v13_sessions_without_a_policy() {
        for (tls, line) in [
            (Tls::Good, "None 1 0 "),
            (Tls::None, "None 0 1 starttls-not-supported"),
            (Tls::Refused, "None 0 1 starttls-not-supported"),
            // Once, though the second connection, in the clear, went well.
            (Tls::Broken, "None 0 1 validation-failure"),
        ] {
            let server = Server::new(tls).await;
            assert_eq!(World::new(MX).open(&server).await, (true, told(&[line])));
        }
    }

    #[tokio::test]
    async fn v13_sessions_under_dane() {
        let server = Server::new(Tls::Good).await;
        let right = server.tlsa(&server.certificate);
        assert_eq!(World::new(&right).open(&server).await, (true, told(&["Tlsa 1 0 "])));
        let wrong = server.tlsa(&"00".repeat(32));
        assert_eq!(World::new(&wrong).open(&server).await, (false, told(&["Tlsa 0 1 tlsa-invalid"])));
        let bogus = format!("$secure\n{MX}_{}._tcp.{HOST} BOGUS\n", server.port);
        assert_eq!(World::new(&bogus).open(&server).await, (false, told(&["Tlsa 0 1 dnssec-invalid"])));
        let bare = Server::new(Tls::None).await;
        let zone = bare.tlsa(&bare.certificate);
        assert_eq!(World::new(&zone).open(&bare).await, (false, told(&["Tlsa 0 1 starttls-not-supported"])));
    }

    /// RFC 8460 §5.3 and §3: reports are delivered whatever TLS is like, and not reported; and where the configuration
    /// decides, nobody looks at policies.
    #[tokio::test]
    async fn v13_sessions_that_are_not_told_of() {
        let server = Server::new(Tls::Good).await;
        let wrong = server.tlsa(&"00".repeat(32));
        let optional = World { demand: RequireTls::Optional, ..World::new(&wrong) };
        assert_eq!(optional.open(&server).await, (true, vec![]));
        let configured = World { level: Level::Encrypted, ..World::new(&wrong) };
        assert_eq!(configured.open(&server).await, (true, vec![]));
        let demanding = World { demand: RequireTls::Required, ..World::new(MX) };
        assert_eq!(demanding.open(&server).await, (false, vec![]), "the message demands more than the domain offers");
    }

    /// V43: whoever answers, or leads us there by forged records, must not hear the password; and that we demand more for it
    /// than the domain publishes is none of the domain's business.
    #[tokio::test]
    async fn v43_a_password_is_for_the_right_host_only() {
        let root = Authority::new("root");
        let insecure = format!("{MX}$secure\nmx.example.org A 127.0.0.1\n");
        let proved = format!("$secure\n{MX}");
        for (carried, zone, transport, is_open) in [
            (HOST, &proved, "smtp:example.net", true),
            (HOST, &insecure, "smtp:[mx.example.net]", true),
            (HOST, &insecure, "smtp:example.net", true),
            ("mx.example.org", &proved, "smtp:example.net", false),
            ("mx.example.org", &insecure, "smtp:[mx.example.net]", false),
            // Forged MX records lead to a host with a good certificate of its own.
            ("mx.example.org", &insecure.replace("10 mx.example.net", "10 mx.example.org"), "smtp:example.net", false),
        ] {
            let server = Server::showing(root.leaf(Kind::Ecdsa, &[carried], |_| {}), Tls::Good).await;
            let world = World::with_login(zone, transport, &root.trust());
            assert_eq!(world.open(&server).await, (is_open, vec![]), "{carried} {transport}");
            assert_eq!(server.logins.load(Ordering::Relaxed), usize::from(is_open), "{carried} {transport}");
        }
        let untrusted = Server::new(Tls::Good).await;
        for zone in [&proved, &insecure] {
            let world = World::with_login(zone, "smtp:example.net", &root.trust());
            assert_eq!(world.open(&untrusted).await, (false, vec![]));
        }
        // DANE vouches for the host, but not for the way to it.
        let record = format!("_{}._tcp.{HOST} TLSA 3 0 1 {}", untrusted.port, untrusted.certificate);
        let zone = format!("example.net MX 10 {HOST}\n$secure\n{HOST} A 127.0.0.1\n{record}\n");
        let world = World::with_login(&zone, "smtp:example.net", &root.trust());
        assert_eq!(world.open(&untrusted).await, (false, vec![]));
        assert_eq!(untrusted.logins.load(Ordering::Relaxed), 0);
        let world = World::with_login(&zone, "smtp:[mx.example.net]", &root.trust());
        assert!(world.open(&untrusted).await.0, "DANE of the next hop itself is enough");
        assert_eq!(untrusted.logins.load(Ordering::Relaxed), 1);
    }

    async fn with_policy(site: &Site, hosts: &str) -> World {
        let zone = format!("{hosts}mta-sts.example.net A 127.0.0.1\n_mta-sts.example.net TXT \"v=STSv1; id=1;\"\n");
        let names = Names::new(&zone);
        let settings = HttpsSettings { policy_port: site.port, is_loopback_allowed: true, ..HttpsSettings::default() };
        let client = HttpsClient::new(names.clone(), &site.trust, settings);
        World { policies: Some(Policies::new(names, client, 10, None).0), ..World::new(&zone) }
    }

    #[tokio::test]
    async fn v13_v44_sessions_under_mta_sts() {
        let site = Site::new(&["mta-sts.example.net"]).await;
        let server = Server::new(Tls::Good).await;
        let policy = |mode, mx| format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n");
        for (mode, mx, is_open, line) in [
            ("testing", HOST, true, "Sts 0 1 certificate-not-trusted"),
            ("testing", "mx.example.org", true, "Sts 0 1 certificate-host-mismatch"),
            ("enforce", HOST, false, "Sts 0 1 certificate-not-trusted"),
            ("enforce", "mx.example.org", false, "Sts 0 1 certificate-host-mismatch"),
            ("none", HOST, true, "None 1 0 "),
        ] {
            site.answers_text(&policy(mode, mx));
            assert_eq!(with_policy(&site, MX).await.open(&server).await, (is_open, told(&[line])), "{mode} {mx}");
        }
        // The policy is asked for once, whatever hosts there are; and what it would have said of TLS is not known.
        let many = format!("{MX}example.net MX 5 a.example.net\na.example.net A 127.0.0.9\n");
        site.answers("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
        let before = site.requests().len();
        let told_of = with_policy(&site, &many).await.open(&server).await;
        assert_eq!(told_of, (true, told(&["Sts 0 1 sts-policy-fetch-error"])));
        assert_eq!(site.requests().len(), before + 1);
        site.answers_text("no policy");
        let told_of = with_policy(&site, MX).await.open(&server).await;
        assert_eq!(told_of, (true, told(&["Sts 0 1 sts-policy-invalid"])));
    }
}
