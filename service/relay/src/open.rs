//! Connecting: the hosts of a destination in turn, the addresses of each, until one lets us in with the protection that is
//! demanded.

use crate::call::Call;
use crate::hosts::{Hosts, Place, finding, lookup_failed};
use crate::tls::{TlsFailure, TlsPlan, find_tlsa};
use crate::wire::{Stream, Wire};
use crate::{Relay, Settings};
use directory::RelayLogin;
use dns::{Name, Typed, addresses, ptr};
use mail::queue::Outcome;
use mail::text::one_line;
use mail::{Attempt, Domain, PeerFacts};
use sasl::client::Identity;
use smtp_proto::client::{Config, Ending, Fate, InTheClear, Protocol, Question, Session, TlsDemand, Verdict};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;
use transport_security::{Circumstances, Decision, Level, MxSecurity, NextHop, Protection, TlsaFinding, Unmet, decide};

/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;

/// One host, looked up and decided about.
pub(crate) struct Target {
    pub(crate) name: Option<Name>,
    addresses: Vec<IpAddr>,
    pub(crate) decision: Decision,
    /// The protection is what we demand for our password, not what the domain publishes.
    pub(crate) is_guarded: bool,
}

impl Relay {
    /// Goes through the hosts from where they point until one lets us in. They point at that one then. The error is the
    /// outcome for all recipients: that of the last host, but as long as one of them may do later it is no failure for good
    /// (RFC 8689 §4.2.1).
    pub async fn open(&self, hosts: &mut Hosts, login: Option<&RelayLogin>) -> Result<Call, Attempt> {
        let mut last = finding(Outcome::Deferred, (4, 4, 1), &format!("no host of {} is left to try", hosts.domain));
        let mut tried_deferred = false;
        let mut first = true;
        loop {
            if !first && !hosts.next() {
                return Err(last);
            }
            first = false;
            let Some(place) = hosts.places.get(hosts.at).cloned() else { return Err(last) };
            match self.open_host(hosts, &place, login).await {
                Ok(call) => return Ok(call),
                Err(attempt) if attempt.outcome == Outcome::Failed && tried_deferred => {}
                Err(attempt) => {
                    tried_deferred = attempt.outcome == Outcome::Deferred;
                    last = attempt;
                }
            }
        }
    }

    async fn open_host(&self, hosts: &Hosts, place: &Place, login: Option<&RelayLogin>) -> Result<Call, Attempt> {
        if let Place::Socket(path) = place {
            let broken = |error: std::io::Error| finding(Outcome::Deferred, (4, 4, 1), &format!("{place}: {error}"));
            let connect = timeout(self.settings.connect_timeout, UnixStream::connect(path));
            let stream = connect.await.map_err(|_| timed_out(place))?.map_err(broken)?;
            let facts = PeerFacts { peer: None, local: None, tls: None };
            let config = self.config(Protocol::Lmtp, TlsDemand::Never, None);
            let session = Session::new(Arc::new(config), facts);
            let wire = Wire::new(Stream::Unix(stream), session, self.settings.timeouts, None);
            return self.greet(wire, place.to_string(), None).await.map_err(|(attempt, _)| attempt);
        }
        let mut target = self.target(hosts, place).await?;
        if login.is_some() {
            target.guard_login(hosts);
        }
        if let Protection::Refuse { status, cause, .. } = &target.decision.protection {
            self.observe_refusal(hosts, &target);
            let outcome = if status.class == 5 { Outcome::Failed } else { Outcome::Deferred };
            return Err(Attempt::finding(outcome, *status, &format!("{place}: {cause}")));
        }
        let mut last = finding(Outcome::Deferred, (4, 4, 1), &format!("{place} has no address"));
        for (index, address) in target.addresses.iter().enumerate() {
            let others = target.addresses.get(index + 1..).unwrap_or_default();
            match self.open_address(hosts, place, &target, *address, others, login).await {
                Ok(call) => return Ok(call),
                Err(attempt) => last = attempt,
            }
        }
        Err(last)
    }

    /// Looks a host up, and decides how the way to it must be protected.
    async fn target(&self, hosts: &Hosts, place: &Place) -> Result<Target, Attempt> {
        let (name, addresses, tlsa) = match place {
            Place::Address(address) => (None, vec![*address], TlsaFinding::NotSought),
            Place::Socket(_) => (None, Vec::new(), TlsaFinding::NotSought),
            Place::Host(name) => {
                let found = addresses(&*self.lookup, name, self.settings.families).await;
                let found = found.map_err(|failure| lookup_failed(name, &failure))?;
                if found.records.is_empty() {
                    return Err(without_address(hosts, name, &found));
                }
                let tlsa = match hosts.heeds_policies() && self.settings.dane {
                    true => find_tlsa(&*self.lookup, name, hosts.port, &found).await,
                    false => TlsaFinding::NotSought,
                };
                (Some(name.clone()), first_of(found.records), tlsa)
            }
        };
        let decision = decide_with(hosts, name.as_ref(), &tlsa, &hosts.level);
        Ok(Target { name, addresses, decision, is_guarded: false })
    }

    async fn open_address(
        &self,
        hosts: &Hosts,
        place: &Place,
        target: &Target,
        address: IpAddr,
        others: &[IpAddr],
        login: Option<&RelayLogin>,
    ) -> Result<Call, Attempt> {
        let peer = SocketAddr::new(address, hosts.port);
        let shown = match place {
            Place::Address(_) => format!("[{address}]:{}", hosts.port),
            Place::Host(_) | Place::Socket(_) => format!("{place}[{address}]:{}", hosts.port),
        };
        let protocol = if hosts.is_lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        let mut demand = match &target.decision.protection {
            Protection::Clear | Protection::Refuse { .. } => TlsDemand::Never,
            Protection::Opportunistic => TlsDemand::IfOffered,
            _ => TlsDemand::Required,
        };
        loop {
            let stream = self.connect(peer, &shown).await?;
            let local = stream.local_addr().ok();
            if self.lacks_reverse_name(local, others).await {
                let text = format!("our address towards {shown} has no name that leads back to it; trying IPv4");
                return Err(finding(Outcome::Deferred, (4, 7, 25), &text));
            }
            let plan = match demand {
                TlsDemand::Never => None,
                _ => TlsPlan::new(&target.decision, target.name.as_ref(), address, &self.trust),
            };
            let facts = PeerFacts { peer: Some(peer), local, tls: None };
            // Without a plan a handshake ends the session: what TLS is demanded for never goes without it.
            let config = self.config(protocol, demand, login);
            let wire =
                Wire::new(Stream::Tcp(stream), Session::new(Arc::new(config), facts), self.settings.timeouts, plan);
            match self.greet(wire, shown.clone(), Some((hosts, target))).await {
                Ok(call) => return Ok(call),
                // RFC 7435 §3: where clear text would have done, a handshake that fails must not lose the mail.
                Err((_, Some(failure))) if demand == TlsDemand::IfOffered => {
                    tracing::info!(relay = %shown, cause = %failure, "TLS failed; going on without");
                    demand = TlsDemand::Never;
                }
                Err((attempt, _)) => return Err(attempt),
            }
        }
    }

    async fn connect(&self, peer: SocketAddr, shown: &str) -> Result<TcpStream, Attempt> {
        let broken = |error: std::io::Error| finding(Outcome::Deferred, (4, 4, 1), &format!("{shown}: {error}"));
        let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(broken)?;
        if let Some(source) = self.settings.sources.iter().find(|source| source.is_ipv4() == peer.is_ipv4()) {
            socket.bind(SocketAddr::new(*source, 0)).map_err(broken)?;
        }
        let connect = timeout(self.settings.connect_timeout, socket.connect(peer));
        let stream = connect.await.map_err(|_| timed_out(&shown))?.map_err(broken)?;
        // Replies are short and awaited: waiting for more octets to send helps nobody.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// P25: large receivers refuse IPv6 clients without a name; if there is an IPv4 address, it is the better way.
    async fn lacks_reverse_name(&self, local: Option<SocketAddr>, others: &[IpAddr]) -> bool {
        let Some(SocketAddr::V6(local)) = local else { return false };
        let is_wanted = self.settings.needs_reverse_name && others.iter().any(IpAddr::is_ipv4);
        if !is_wanted || local.ip().is_loopback() {
            return false;
        }
        let address = IpAddr::V6(*local.ip());
        let Ok(names) = ptr(&*self.lookup, address).await else { return false };
        for name in names.records.iter().take(ADDRESSES_MAX) {
            let found = addresses(&*self.lookup, name, dns::Families::V6).await;
            if found.is_ok_and(|found| found.records.contains(&address)) {
                return false;
            }
        }
        true
    }

    fn config(&self, protocol: Protocol, tls: TlsDemand, login: Option<&RelayLogin>) -> Config {
        let identity = |login: &RelayLogin| Identity::new(login.login.clone(), login.password.clone());
        Config {
            tls,
            credentials: login.map(identity),
            timeouts: self.settings.timeouts,
            ..Config::new(protocol, self.settings.host_name.clone())
        }
    }

    /// Greeting, EHLO, TLS, login: until the session asks for a message. A handshake that failed is told apart. `way`:
    /// where it leads, unless to a socket of this machine.
    async fn greet(
        &self,
        mut wire: Wire,
        shown: String,
        way: Option<(&Hosts, &Target)>,
    ) -> Result<Call, (Attempt, Option<TlsFailure>)> {
        loop {
            let question = wire.question().await;
            if let (Some((hosts, target)), Some(Question::Idle { peer } | Question::Ended { peer, .. })) =
                (way, &question)
            {
                self.observe_session(hosts, target, peer, wire.tls.as_ref());
            }
            match question {
                Some(Question::Idle { peer }) => {
                    // R217: whoever greets with our own name is us.
                    if way.is_some() && peer.name.as_deref().is_some_and(|name| self.settings.is_own(name)) {
                        wire.shut().await;
                        let text = format!("{shown} greets with our own name: mail loops back to myself");
                        return Err((finding(Outcome::Deferred, (4, 4, 6), &text), None));
                    }
                    let tls = wire.tls.as_ref().and_then(|tls| tls.as_ref().ok()).map(ToString::to_string);
                    return Ok(Call::new(wire, shown, tls, peer));
                }
                Some(Question::Ended { peer, ending }) => {
                    wire.answer(smtp_proto::client::Answer::Done);
                    let failure = wire.tls.as_ref().and_then(|tls| tls.as_ref().err()).cloned();
                    let refused_tls = matches!(
                        &peer.protection,
                        smtp_proto::client::Protection::Clear(InTheClear::NotOffered | InTheClear::Refused(_))
                    );
                    let decision = way.map(|(_, target)| &target.decision);
                    let attempt = attempt_of(&ending, &shown, decision, failure.as_ref(), refused_tls);
                    // The farewell is said in passing.
                    let _ = timeout(self.settings.timeouts.quit, wire.question()).await;
                    wire.shut().await;
                    return Err((attempt, failure));
                }
                // No transaction was given to it.
                Some(Question::Body | Question::Finished(_)) => wire.answer(smtp_proto::client::Answer::Quit),
                None => return Err((finding(Outcome::Deferred, (4, 4, 2), &format!("{shown}: closed")), None)),
            }
        }
    }
}

impl Target {
    /// A password is not given to whoever answers: where neither the configuration nor the domain says how the next hop
    /// proves itself, a trusted certificate must carry a name that nobody could have forged. That is the host's, where it is
    /// configured or proved by DNSSEC; behind MX records that are not, the next hop's own. A host that is an address has
    /// none, and TLS must do.
    fn guard_login(&mut self, hosts: &Hosts) {
        let is_open = match &self.decision.protection {
            Protection::Opportunistic | Protection::Encrypted => true,
            Protection::Dane { is_next_hop_proved, .. } => !is_next_hop_proved,
            // Configured as such, or vouched for under a name that is proved by configuration, DNSSEC or MTA-STS.
            Protection::Clear
            | Protection::Webpki { .. }
            | Protection::Fingerprint { .. }
            | Protection::Refuse { .. } => false,
        };
        if !is_open || hosts.level != Level::Published {
            return;
        }
        let level = match (&self.name, hosts.mx) {
            (None, _) => Level::Encrypted,
            (Some(_), MxSecurity::Insecure) => Level::Secure,
            (Some(_), MxSecurity::Secure | MxSecurity::NotUsed) => Level::Verify,
        };
        self.decision = decide_with(hosts, self.name.as_ref(), &TlsaFinding::NotSought, &level);
        self.is_guarded = true;
    }
}

/// Decides with what is known of the hosts.
fn decide_with(hosts: &Hosts, host: Option<&Name>, tlsa: &TlsaFinding, level: &Level) -> Decision {
    // For a destination that is an address literal no policy is asked for, so that the name only fills a place.
    let nowhere = || NextHop::plain(Name::try_from(&hosts.domain).unwrap_or_else(|_| Name::root()));
    decide(&Circumstances {
        next_hop: &hosts.next_hop.clone().unwrap_or_else(nowhere),
        host,
        mx: if hosts.is_lmtp { MxSecurity::NotUsed } else { hosts.mx },
        tlsa,
        sts: hosts.sts.policy.as_deref(),
        level,
        demand: hosts.demand,
    })
}

/// The outcome of a session that never got to a transaction.
fn attempt_of(
    ending: &Ending,
    shown: &str,
    decision: Option<&Decision>,
    failure: Option<&TlsFailure>,
    refused_tls: bool,
) -> Attempt {
    let verdict = ending.verdict();
    let unmet = match ending {
        Ending::HandshakeFailed => Some(Unmet::Handshake),
        Ending::TlsNotOffered => Some(Unmet::NoStartTls),
        Ending::Refused { .. } if refused_tls => Some(Unmet::NoStartTls),
        _ => None,
    };
    let status = unmet.zip(decision).and_then(|(unmet, decision)| decision.status_when(unmet));
    let text = match failure {
        Some(failure) => failure.to_string(),
        None => verdict.text.clone(),
    };
    let status = status.unwrap_or(verdict.status);
    let outcome = if status.class == 5 { Outcome::Failed } else { Outcome::Deferred };
    Attempt {
        outcome,
        status,
        peer: Some(shown.to_owned()),
        text: one_line(&text),
        is_reply: verdict.is_reply && failure.is_none(),
        tls: None,
        dsn_passed_on: false,
    }
}

/// The outcome for one recipient of a transaction.
pub(crate) fn attempt_from(fate: &Fate, shown: &str, tls: Option<&str>, dsn_passed_on: bool) -> Attempt {
    let Verdict { outcome, status, text, is_reply } = fate.verdict();
    Attempt {
        outcome,
        status,
        peer: Some(shown.to_owned()),
        text,
        is_reply,
        tls: tls.map(str::to_owned),
        dsn_passed_on: dsn_passed_on && outcome == Outcome::Delivered,
    }
}

/// The first of them, IPv6 before IPv4. Of many, each family gets half, so that none hides the other.
fn first_of(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let room_beside = |others: &[IpAddr]| ADDRESSES_MAX - others.len().min(ADDRESSES_MAX / 2);
    let (six_max, four_max) = (room_beside(&four), room_beside(&six));
    six.into_iter().take(six_max).chain(four.into_iter().take(four_max)).collect()
}

/// A domain without MX records and without address takes no mail; an exchanger without address is a mistake that may be
/// mended.
fn without_address(hosts: &Hosts, name: &Name, found: &Typed<IpAddr>) -> Attempt {
    let is_domain_itself =
        !hosts.is_configured && hosts.mx == MxSecurity::NotUsed && hosts.domain.as_str() == name.as_str();
    let what = if found.name_exists { "has no address" } else { "does not exist" };
    let text = format!("the host {name} {what}");
    if is_domain_itself {
        finding(Outcome::Failed, (5, 4, 4), &text)
    } else {
        finding(Outcome::Deferred, (4, 4, 4), &text)
    }
}

fn timed_out(place: &dyn std::fmt::Display) -> Attempt {
    finding(Outcome::Deferred, (4, 4, 1), &format!("{place}: no answer in time"))
}

impl Settings {
    /// The usual settings: what the RFCs say of time-outs, all address families, five hosts of a destination.
    pub fn new(host_name: Domain) -> Settings {
        Settings {
            host_name,
            own_names: Vec::new(),
            smtp_port: directory::transports::SMTP_PORT,
            sources: Vec::new(),
            families: dns::Families::Both,
            needs_reverse_name: true,
            connect_timeout: std::time::Duration::from_secs(30),
            timeouts: smtp_proto::client::Timeouts::default(),
            hosts_max: 5,
            levels: std::collections::BTreeMap::new(),
            dane: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::relay;
    use directory::Transport;
    use mail::RequireTls;

    /// What a way must be like once a password is to go over it, and whether that is our own demand.
    async fn guarded(zone: &str, transport: &str, demand: RequireTls, level: Level) -> (String, bool) {
        let mut relay = relay(zone, 25);
        relay.settings.levels.insert("*".to_owned(), level);
        let far = Domain::parse("far.example").unwrap();
        let hosts = relay.hosts(&Transport::parse(transport).unwrap(), &far, demand).await.unwrap();
        let place = hosts.places.first().unwrap();
        let mut target = relay.target(&hosts, place).await.unwrap();
        target.guard_login(&hosts);
        let shown = match &target.decision.protection {
            Protection::Opportunistic => "opportunistic".to_owned(),
            Protection::Encrypted => "encrypted".to_owned(),
            Protection::Dane { is_next_hop_proved, .. } => format!("dane {is_next_hop_proved}"),
            Protection::Webpki { names, .. } => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        };
        (shown, target.is_guarded)
    }

    #[test]
    fn no_family_hides_the_other() {
        let addresses = |sixes: u16, fours: u8| -> Vec<IpAddr> {
            let sixes = (0..sixes).map(|host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]));
            sixes.chain((0..fours).map(|host| IpAddr::from([192, 0, 2, host]))).collect()
        };
        for (found, tried) in
            [((9, 9), (4, 4)), ((8, 1), (7, 1)), ((1, 8), (1, 7)), ((9, 0), (8, 0)), ((0, 9), (0, 8)), ((2, 3), (2, 3))]
        {
            assert_eq!(first_of(addresses(found.0, found.1)), addresses(tried.0, tried.1), "{found:?}");
        }
    }

    /// RFC 8689 §4.2.1: nothing is connected to, and nothing waited for.
    #[tokio::test]
    async fn a_message_that_demands_tls_is_not_for_an_address() {
        let relay = relay("", 25);
        let literal = Domain::parse("[192.0.2.1]").unwrap();
        let mut hosts = relay.hosts(&Transport::Direct, &literal, RequireTls::Required).await.unwrap();
        let attempt = relay.open(&mut hosts, None).await.err().unwrap();
        assert_eq!((attempt.outcome, attempt.status.to_string().as_str()), (Outcome::Failed, "5.7.10"));
        assert_eq!(attempt.peer, None);
    }

    #[tokio::test]
    async fn v43_a_password_goes_to_a_name_that_nobody_could_forge() {
        let tlsa = format!("_25._tcp.mx.far.example TLSA 3 1 1 {}", "07".repeat(32));
        let of_mx = |before_mx: &str, tlsa: &str| {
            let host = "$secure\nmx.far.example A 192.0.2.1\n";
            format!("{before_mx}\nhop.example MX 10 mx.far.example\n{host}{tlsa}\n")
        };
        let demands = [RequireTls::Ordinary, RequireTls::Optional];
        for (zone, transport, expected) in [
            (of_mx("", ""), "smtp:hop.example", "hop.example .hop.example"),
            // Who forged the MX records chose the host, whatever DANE says of that.
            (of_mx("", &tlsa), "smtp:hop.example", "hop.example .hop.example"),
            (of_mx("$secure", ""), "smtp:hop.example", "mx.far.example"),
            (of_mx("", ""), "smtp:[mx.far.example]", "mx.far.example"),
            (of_mx("", ""), "smtp:mx.far.example", "mx.far.example"),
            (of_mx("", ""), "smtp:[192.0.2.1]", "encrypted"),
        ] {
            for demand in demands {
                let found = guarded(&zone, transport, demand, Level::Published).await;
                assert_eq!(found, (expected.to_owned(), true), "{transport} {demand:?}");
            }
        }
        for zone in [of_mx("$secure", &tlsa), of_mx("", &tlsa)] {
            let transport = if zone.starts_with('$') { "smtp:hop.example" } else { "smtp:[mx.far.example]" };
            let found = guarded(&zone, transport, RequireTls::Ordinary, Level::Published).await;
            assert_eq!(found, ("dane true".to_owned(), false), "DANE vouches for the next hop");
        }
        for (level, expected) in [(Level::Opportunistic, "opportunistic"), (Level::Encrypted, "encrypted")] {
            let found = guarded(&of_mx("", ""), "smtp:hop.example", RequireTls::Ordinary, level).await;
            assert_eq!(found, (expected.to_owned(), false), "the configuration has the last word");
        }
    }
}
