//! Looks every record up, in the order in which they are told, and says how each is. What a record means is judged by
//! functions that ask nothing: in [`super::hosts`] where hosts are concerned, in [`super::texts`] for texts.

use super::facts::{Facts, Hosted};
use super::finding::{Finding, Subject};
use super::hosts::{address_of, exchange_of, name_of, record_of};
use super::texts::{self, text_of};
use super::wanted::{self, Line};
use super::{blocklists, hosts};
use crate::config::Severity::{self, Error, Warning};
use dns::{Failure, Families, Found, Lookup, Name, NameError, Record, RecordType, Security};
use relay::policy_fetch::Policies;
use std::net::IpAddr;
use transport_security::mta_sts;

/// Names of one address that are looked up; more are nobody's honest configuration.
const REVERSE_NAMES_MAX: usize = 10;
/// Other exchangers of one domain that are looked up.
const EXCHANGERS_MAX: usize = 20;

/// What is asked besides the records of the configuration, and through whom.
pub struct Questions<'a> {
    /// Whom to ask.
    pub lookup: &'a dyn Lookup,
    /// Whether it can prove answers (DNSSEC).
    pub can_prove: bool,
    /// Lists in which our addresses are looked for.
    pub blocklists: &'a [Name],
    /// How MTA-STS policies are fetched; `None`: not at all.
    pub policies: Option<&'a Policies>,
}

/// Asks everything.
pub async fn ask(facts: &Facts, questions: &Questions<'_>) -> Result<Vec<Finding>, NameError> {
    let lines = wanted::wanted(facts)?.into_iter().flat_map(|section| section.lines).collect();
    let mut desk = Desk { facts, questions, lines, findings: Vec::new(), addresses: Vec::new(), has_dane: false };
    desk.host().await?;
    for hosted in &facts.domains {
        desk.domain(hosted).await?;
    }
    for key in &facts.further_keys {
        desk.dkim(key).await;
    }
    Ok(desk.findings)
}

struct Desk<'a> {
    facts: &'a Facts,
    questions: &'a Questions<'a>,
    /// What should be there.
    lines: Vec<Line>,
    findings: Vec<Finding>,
    /// Addresses of the host name, as found.
    addresses: Vec<IpAddr>,
    /// Whether others can use our TLSA records, as far as they depend on the host.
    has_dane: bool,
}

impl Desk<'_> {
    async fn look_up(&self, subject: &Subject) -> Result<Found, Failure> {
        self.questions.lookup.look_up(&subject.name, subject.kind).await
    }

    /// Looks a record up; a failure becomes a finding of this severity.
    async fn found(&mut self, subject: &Subject, severity: Severity) -> Option<Found> {
        match self.look_up(subject).await {
            Ok(found) => Some(found),
            Err(failure) => {
                self.findings.push(subject.failed(severity, &failure));
                None
            }
        }
    }

    /// What should be at a name.
    fn wanted(&self, subject: &Subject) -> Vec<Record> {
        let meant = self.lines.iter().filter(|line| line.name == subject.name && line.kind() == subject.kind);
        meant.filter_map(|line| line.record().cloned()).collect()
    }

    fn wanted_text(&self, subject: &Subject) -> String {
        self.wanted(subject).iter().find_map(text_of).unwrap_or_default()
    }

    async fn host(&mut self) -> Result<(), NameError> {
        let facts = self.facts;
        let host = &facts.host;
        let alias = Subject::new(host, RecordType::Cname);
        if let Some(found) = self.found(&alias, Error).await.filter(|found| !found.records.is_empty()) {
            // RFC 2181 §10.3, RFC 5321 §5.1.
            let cause = "the name that MX records point to must not be an alias";
            self.findings.push(alias.differs(Error, cause).with_found(&found.records));
        }
        let are_secure = self.host_addresses().await;
        let ours = facts.senders(&self.addresses);
        for address in &ours {
            self.reverse(*address).await;
        }
        if !facts.domains.iter().any(|domain| domain.name == *host) {
            self.spf(&Subject::txt(host, "SPF of the host"), Warning).await;
        }
        self.tlsa(are_secure).await?;
        let listings = blocklists::ask(self.questions.lookup, self.questions.blocklists, &ours).await;
        self.findings.extend(listings);
        Ok(())
    }

    /// R2: the addresses of the host name. Gives whether all of it is proved.
    async fn host_addresses(&mut self) -> bool {
        let mut are_secure = true;
        let mut are_known = true;
        for kind in [RecordType::A, RecordType::Aaaa] {
            let subject = Subject::new(&self.facts.host, kind);
            let Some(found) = self.found(&subject, Error).await else {
                are_known = false;
                continue;
            };
            are_secure &= found.security == Security::Secure;
            let there: Vec<IpAddr> = found.records.iter().filter_map(address_of).collect();
            let is_kind = |address: &&IpAddr| address.is_ipv4() == (kind == RecordType::A);
            let lacking: Vec<&IpAddr> =
                self.facts.addresses.iter().filter(is_kind).filter(|address| !there.contains(address)).collect();
            self.addresses.extend(&there);
            if !lacking.is_empty() {
                let finding = match there.is_empty() {
                    true => subject.missing(Warning, "an address of this machine is not published"),
                    false => subject.differs(Warning, "an address of this machine is not among them"),
                };
                let wanted = self.wanted(&subject);
                self.findings.push(finding.with_found(&found.records).with_wanted(wanted));
            } else if !there.is_empty() {
                self.findings.push(subject.ok("").with_found(&found.records));
            }
        }
        if self.addresses.is_empty() && are_known {
            let subject = Subject::new(&self.facts.host, RecordType::A);
            self.findings.push(subject.missing(Error, "the host has no address: no mail arrives"));
        }
        are_secure && are_known
    }

    /// P25: whoever gets mail from an address wants its name, and the name to have the address.
    async fn reverse(&mut self, address: IpAddr) {
        let subject = Subject::new(&Name::reverse(address), RecordType::Ptr);
        let wanted = [Record::Ptr(self.facts.host.clone())];
        if address.is_loopback() {
            // RFC 6890: it has no name in DNS, and resolvers answer for it themselves.
            self.findings.push(subject.unknown(Warning, format!("for everybody, {address} is this machine itself")));
            return;
        }
        // Through a smarthost no mail leaves from here.
        let severity = if self.facts.has_smarthost { Warning } else { Error };
        let Some(found) = self.found(&subject, severity).await else { return };
        let names: Vec<&Name> = found.records.iter().filter_map(name_of).collect();
        if names.is_empty() {
            let cause = format!("{address} has no name: large receivers refuse mail from it");
            self.findings.push(subject.missing(severity, cause).with_wanted(wanted));
            return;
        }
        let mut confirmed = Vec::new();
        for name in names.iter().take(REVERSE_NAMES_MAX) {
            match dns::addresses(self.questions.lookup, name, Families::Both).await {
                Ok(addresses) if addresses.records.contains(&address) => confirmed.push((*name).clone()),
                Ok(_) => {}
                Err(failure) => {
                    self.findings.push(subject.failed(severity, &failure));
                    return;
                }
            }
        }
        let finding = match confirmed.contains(&self.facts.host) {
            true => subject.ok(address.to_string()),
            false if confirmed.is_empty() => {
                let cause = format!("the name of {address} does not have that address: nobody believes it");
                subject.differs(severity, cause)
            }
            false => subject.differs(Warning, format!("{address} has another name than the one we greet with")),
        };
        self.findings.push(finding.with_found(&found.records).with_wanted(wanted));
    }

    async fn spf(&mut self, subject: &Subject, severity: Severity) {
        let Some(found) = self.found(subject, severity).await else { return };
        let senders: Vec<IpAddr> = match self.facts.has_smarthost {
            true => Vec::new(),
            false => self.facts.senders(&self.addresses),
        };
        let texts: Vec<String> = self.wanted(subject).iter().filter_map(text_of).collect();
        let wanted = texts.iter().find(|text| text.starts_with("v=spf1")).map_or("", String::as_str);
        let finding = texts::spf(subject, &found, wanted, &senders, severity);
        self.findings.push(finding);
    }

    async fn tlsa(&mut self, are_addresses_secure: bool) -> Result<(), NameError> {
        let subject = Subject::new(&wanted::tlsa_name(&self.facts.host)?, RecordType::Tlsa);
        let found = match self.look_up(&subject).await {
            Ok(found) => found,
            Err(failure) => {
                // RFC 7672 §2.2: what cannot be found out stops mail from whoever uses DANE.
                self.findings.push(subject.failed(Error, &failure));
                return Ok(());
            }
        };
        let is_secure = found.security == Security::Secure && are_addresses_secure;
        let proof = self.questions.can_prove.then_some(is_secure);
        self.has_dane = is_secure && !found.records.is_empty();
        self.findings.extend(hosts::tlsa(&subject, &found, self.facts, proof));
        Ok(())
    }

    async fn domain(&mut self, hosted: &Hosted) -> Result<(), NameError> {
        let name = &hosted.name;
        self.exchangers(name).await;
        if hosted.mail_name != self.facts.host {
            self.mail_name(&hosted.mail_name).await;
        }
        self.spf(&Subject::txt(name, "SPF"), Error).await;
        if hosted.keys.is_empty() {
            let subject = Subject::txt(&name.under("_domainkey")?, "DKIM");
            let cause = format!("mail of {name} is not signed; make keys: pillarbox dkim key {name}");
            self.findings.push(subject.missing(Warning, cause));
        }
        for key in &hosted.keys {
            self.dkim(key).await;
        }
        self.dmarc(name).await?;
        self.policy(name).await?;
        let reports = Subject::txt(&wanted::rpt_name(name)?, "TLS-RPT");
        if let Some(found) = self.found(&reports, Warning).await {
            let wanted = self.wanted(&reports);
            self.findings.extend(wanted.first().map(|wanted| texts::reports(&reports, &found, wanted)));
        }
        for service in &self.facts.services {
            let subject = Subject::new(&name.under(service.label)?, RecordType::Srv);
            if let Some(found) = self.found(&subject, Warning).await {
                let wanted = self.wanted(&subject);
                self.findings.push(hosts::srv(&subject, &found, &wanted));
            }
        }
        Ok(())
    }

    /// R1, R2: where mail for the domain goes.
    async fn exchangers(&mut self, domain: &Name) {
        let subject = Subject::new(domain, RecordType::Mx);
        let Some(found) = self.found(&subject, Error).await else { return };
        let wanted = self.wanted(&subject);
        let finding = hosts::mx(&subject, &found, &self.facts.host).with_found(&found.records).with_wanted(wanted);
        self.findings.push(finding);
        if self.has_dane && self.questions.can_prove && found.security == Security::Insecure {
            let subject = Subject { purpose: "DNSSEC", ..subject };
            let cause = "the zone is not signed: nobody uses our TLSA records for this domain (RFC 7672 §2.2.1)";
            self.findings.push(subject.differs(Warning, cause));
        }
        let others = found.records.iter().filter_map(exchange_of).filter(|name| **name != self.facts.host);
        let others: Vec<Name> = others.filter(|name| !name.is_root()).take(EXCHANGERS_MAX).cloned().collect();
        for other in others {
            self.other_exchanger(domain, &other).await;
        }
    }

    /// An exchanger that we are not.
    async fn other_exchanger(&mut self, domain: &Name, other: &Name) {
        let alias = Subject::new(other, RecordType::Cname);
        if let Some(found) = self.found(&alias, Error).await.filter(|found| !found.records.is_empty()) {
            let cause = format!("the MX of {domain} points to an alias (RFC 2181 §10.3)");
            self.findings.push(alias.differs(Error, cause).with_found(&found.records));
            return;
        }
        let subject = Subject::new(other, RecordType::A);
        match dns::addresses(self.questions.lookup, other, Families::Both).await {
            Ok(found) if found.records.is_empty() => {
                self.findings
                    .push(subject.missing(Error, format!("the MX of {domain} points to a host without address")));
            }
            Ok(_) => {}
            Err(failure) => self.findings.push(subject.failed(Error, &failure)),
        }
    }

    /// R3: the name that people type into their programs.
    async fn mail_name(&mut self, name: &Name) {
        let alias = Subject::new(name, RecordType::Cname);
        let wanted = [Record::Cname(self.facts.host.clone())];
        match dns::addresses(self.questions.lookup, name, Families::Both).await {
            Ok(found) => {
                let is_ours = found.canonical == self.facts.host
                    || (!found.records.is_empty() && found.records.iter().all(|a| self.addresses.contains(a)));
                let there = match found.canonical == *name {
                    true => found.records.iter().map(|address| record_of(*address)).collect(),
                    false => vec![Record::Cname(found.canonical.clone())],
                };
                self.findings.push(match (is_ours, there.is_empty()) {
                    (true, _) => alias.ok("").with_found(&there),
                    (false, true) => {
                        alias.missing(Warning, "the name that mail clients use does not exist").with_wanted(wanted)
                    }
                    (false, false) => alias
                        .differs(Warning, "the name that mail clients use leads elsewhere")
                        .with_found(&there)
                        .with_wanted(wanted),
                });
            }
            Err(failure) => self.findings.push(alias.failed(Warning, &failure)),
        }
    }

    async fn dkim(&mut self, key: &super::facts::DkimKey) {
        let subject = Subject::txt(&key.name, "DKIM");
        let severity = if key.state == directory::signing::State::Active { Error } else { Warning };
        if let Some(found) = self.found(&subject, severity).await {
            self.findings.push(texts::dkim(&subject, &found, key));
        }
    }

    /// Of the domain, or of the nearest above it: RFC 7489 §6.6.3 asks the organizational domain, which is one of those.
    async fn dmarc(&mut self, domain: &Name) -> Result<(), NameError> {
        let own = Subject::txt(&domain.under("_dmarc")?, "DMARC");
        let wanted = self.wanted_text(&own);
        let above = std::iter::successors(Some(domain.clone()), Name::parent);
        for name in above.filter(|name| name.as_str().contains('.')) {
            let subject = Subject::txt(&name.under("_dmarc")?, "DMARC");
            let Some(found) = self.found(&subject, Warning).await else { return Ok(()) };
            if let Some(finding) = texts::dmarc(&subject, &found, &wanted) {
                self.findings.push(finding);
                return Ok(());
            }
        }
        let cause = "receivers have no word from us on mail that fails checks; some want one";
        self.findings.push(own.missing(Warning, cause).with_wanted([Record::Txt(wanted.into_bytes())]));
        Ok(())
    }

    /// The announcement of an MTA-STS policy, and where there is one, the policy.
    async fn policy(&mut self, domain: &Name) -> Result<(), NameError> {
        let subject = Subject::txt(&wanted::sts_name(domain)?, "MTA-STS");
        let Some(found) = self.found(&subject, Warning).await else { return Ok(()) };
        let Some(wanted) = self.wanted(&subject).into_iter().next() else { return Ok(()) };
        let finding = texts::sts(&subject, &found, &wanted);
        let is_announced = finding.severity.is_none();
        self.findings.push(finding);
        if let (true, Some(policies), Some(host)) =
            (is_announced, self.questions.policies, mta_sts::policy_host(domain))
        {
            let subject = Subject { name: host, kind: RecordType::A, purpose: "MTA-STS policy" };
            self.findings.push(hosts::policy(&subject, &policies.policy_for(domain).await, &self.facts.host));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status::{self, Differs, Missing, Ok as Fine, Unknown};
    use super::super::testing::{check, facts, zone_text};
    use super::*;

    /// The findings that are not as they should be: name and type, how, how bad.
    fn wrong(findings: &[Finding]) -> Vec<(String, Status, Severity)> {
        let name = |finding: &Finding| format!("{} {}", finding.name, finding.kind);
        findings.iter().filter_map(|finding| Some((name(finding), finding.status, finding.severity?))).collect()
    }

    #[test]
    fn r8_what_is_published_as_told_is_found_right() {
        let findings = check(&facts(), &zone_text(&facts()), true);
        assert_eq!(wrong(&findings), []);
        assert!(findings.iter().all(|finding| finding.status == Fine) && findings.len() >= 14, "{findings:#?}");
        let next = findings.iter().find(|finding| finding.cause.contains("next key tls/3.pem")).unwrap();
        assert!(next.cause.contains("no sooner than 7200 seconds"), "P23: two TTL");
    }

    /// R8: each record in turn is wrong; it is named, and it alone.
    #[test]
    fn r8_one_wrong_record_is_named() {
        let whole = zone_text(&facts());
        let tlsa = |at: usize| wanted::presentation(&Record::Tlsa(wanted::tlsa_of(&facts().tls_keys[at])));
        let pins = [tlsa(0), tlsa(1), tlsa(2)].map(|data| format!("_25._tcp.mx.example.net.  TLSA {data}\n"));
        let empty =
            "_25._tcp.mx.example.net. TLSA 3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
        for (from, to, name, status, severity) in [
            (
                "MX 10 mx.example.net.",
                "MX 10 mx.example.org.\nmx.example.org A 192.0.2.1",
                "example.net MX",
                Differs,
                Error,
            ),
            ("example.net.  MX 10 mx.example.net.\n", "", "example.net MX", Missing, Error),
            ("MX 10 mx.example.net.", "MX 0 .", "example.net MX", Differs, Error),
            ("MX 10 mx.example.net.", "MX 10 mx.example.net.\nexample.net MX 0 .", "example.net MX", Differs, Error),
            ("MX 10 mx.example.net.", "SERVFAIL MX", "example.net MX", Unknown, Error),
            (
                "MX 10 mx.example.net.",
                "MX 10 mx.example.net.\nexample.net MX 20 b.example.net\nb.example.net CNAME mx.example.net",
                "b.example.net CNAME",
                Differs,
                Error,
            ),
            (
                "MX 10 mx.example.net.",
                "MX 10 mx.example.net.\nexample.net MX 20 192.0.2.1",
                "192.0.2.1 A",
                Missing,
                Error,
            ),
            ("PTR mx.example.net", "PTR mail.example.org", "5.113.0.203.in-addr.arpa PTR", Differs, Error),
            ("PTR mx.example.net", "PTR mail.example.net", "5.113.0.203.in-addr.arpa PTR", Differs, Warning),
            ("5.113.0.203.in-addr.arpa PTR mx.example.net\n", "", "5.113.0.203.in-addr.arpa PTR", Missing, Error),
            ("TXT \"v=spf1 a -all\"", "TXT \"x\"", "mx.example.net TXT", Missing, Warning),
            ("v=spf1 mx -all", "v=spf1 -all", "example.net TXT", Differs, Error),
            ("p=AAAA", "p=AAAB", "s._domainkey.example.net TXT", Differs, Error),
            ("v=DMARC1; p=none", "v=DMARC1; p=some", "_dmarc.example.net TXT", Differs, Error),
            ("_dmarc.example.net", "_x.example.net", "_dmarc.example.net TXT", Missing, Warning),
            ("v=STSv1", "v=STSv2", "_mta-sts.example.net TXT", Missing, Warning),
            ("_smtp._tls.example.net", "_x.example.net", "_smtp._tls.example.net TXT", Missing, Warning),
            ("SRV 0 1 993", "SRV 0 1 994", "_imaps._tcp.example.net SRV", Differs, Warning),
            ("_imaps._tcp.example.net", "_x.example.net", "_imaps._tcp.example.net SRV", Missing, Warning),
            ("mail.example.net.  CNAME", "x.example.net.  CNAME", "mail.example.net CNAME", Missing, Warning),
            (&pins[0], "", "_25._tcp.mx.example.net TLSA", Differs, Error),
            (&pins[1], empty, "_25._tcp.mx.example.net TLSA", Differs, Error),
            (&pins[2], "", "_25._tcp.mx.example.net TLSA", Missing, Warning),
            (&pins[2], &format!("{}{empty}", pins[2]), "_25._tcp.mx.example.net TLSA", Differs, Warning),
            (&pins.concat(), "", "_25._tcp.mx.example.net TLSA", Missing, Warning),
            (&pins.concat(), "_25._tcp.mx.example.net SERVFAIL\n", "_25._tcp.mx.example.net TLSA", Unknown, Error),
        ] {
            assert!(whole.contains(from), "{from}");
            let findings = check(&facts(), &whole.replace(from, to), true);
            assert_eq!(wrong(&findings), [(name.to_owned(), status, severity)], "{from} -> {to}: {findings:#?}");
        }
    }

    /// P25: what no mail leaves from needs no name, and no place in SPF.
    #[test]
    fn r8_only_addresses_that_mail_leaves_from_are_looked_at() {
        let facts = Facts { sources: vec!["198.51.100.7".parse().unwrap()], ..facts() };
        let zone = zone_text(&facts).replace("5.113.0.203.in-addr.arpa PTR mx", "7.100.51.198.in-addr.arpa PTR out");
        let zone = zone.replace("spf1 mx ip4", "spf1 -ip4:203.0.113.5 ip4") + "out.example.net A 198.51.100.7\n";
        let expected = ("7.100.51.198.in-addr.arpa PTR".to_owned(), Differs, Warning);
        assert_eq!(wrong(&check(&facts, &zone, true)), [expected], "another name than the one we greet with");
    }

    #[test]
    fn r2_a_host_without_address_or_under_an_alias() {
        let whole = zone_text(&facts());
        let gone = check(&facts(), &whole.replace("mx.example.net.  A 203.0.113.5\n", ""), true);
        let expected = ("mx.example.net A".to_owned(), Missing, Error);
        assert!(wrong(&gone).contains(&expected), "{gone:#?}");
        let own: String =
            whole.lines().filter(|line| !line.starts_with("mx.example.net")).map(|l| format!("{l}\n")).collect();
        let alias = format!("{own}mx.example.net CNAME a.example.net\na.example.net A 203.0.113.5\n");
        let expected = ("mx.example.net CNAME".to_owned(), Differs, Error);
        assert!(wrong(&check(&facts(), &alias, true)).contains(&expected));
    }

    /// RFC 7672 §2.2: records that are not proved are not used, so a wrong one stops nobody.
    #[test]
    fn r4_tlsa_records_in_zones_without_signature() {
        let unsigned = zone_text(&facts()).replace("$secure\n", "");
        let name = || "_25._tcp.mx.example.net TLSA".to_owned();
        assert_eq!(wrong(&check(&facts(), &unsigned, true)), [(name(), Differs, Warning)]);
        assert_eq!(wrong(&check(&facts(), &unsigned, false)), [(name(), Unknown, Warning)]);
        let digest = wanted::presentation(&Record::Tlsa(wanted::tlsa_of(&facts().tls_keys[0])));
        let broken = unsigned.replace(&digest, &format!("3 1 1 {}", "0".repeat(64)));
        assert!(!check(&facts(), &broken, true).iter().any(Finding::is_error));
        assert!(check(&facts(), &broken, false).iter().any(Finding::is_error), "it may be signed");
        // The host is in a signed zone, the domain is not.
        let half = zone_text(&facts()).replace("example.net.  MX", "$insecure example.net\nexample.net.  MX");
        let half = half.replacen("$secure\n", "$secure mx.example.net\n$secure _tcp.mx.example.net\n", 1);
        assert_eq!(wrong(&check(&facts(), &half, true)), [("example.net MX".to_owned(), Differs, Warning)]);
    }

    /// P10: a list that refuses to answer lists nobody.
    #[test]
    fn p10_listings_are_told_from_refusals() {
        let whole = zone_text(&facts());
        let test = "2.0.0.127.list.example A 127.0.0.2\n";
        for (lines, expected) in [
            (String::new() + "list.example A 192.0.2.1\n", Some(("2.0.0.127", Unknown, Warning))),
            (test.to_owned(), None),
            (format!("{test}5.113.0.203.list.example A 127.0.0.4\n"), Some(("5.113.0.203", Differs, Error))),
            (format!("{test}5.113.0.203.list.example A 127.255.255.254\n"), Some(("5.113.0.203", Unknown, Warning))),
            (format!("{test}5.113.0.203.list.example A 192.0.2.7\n"), Some(("5.113.0.203", Unknown, Warning))),
            ("*.list.example A 127.255.255.254\n".to_owned(), Some(("2.0.0.127", Unknown, Warning))),
            (format!("{test}5.113.0.203.list.example SERVFAIL\n"), Some(("5.113.0.203", Unknown, Warning))),
        ] {
            let found = wrong(&check(&facts(), &format!("{whole}{lines}"), true));
            let expected =
                expected.map(|(name, status, severity)| (format!("{name}.list.example A"), status, severity));
            assert_eq!(found, Vec::from_iter(expected), "{lines}");
        }
    }
}
