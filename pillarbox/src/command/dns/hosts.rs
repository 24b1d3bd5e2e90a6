//! Whether records of hosts say what they should: MX, TLSA, SRV, and the MTA-STS policy. Nothing is asked here.

use super::facts::{Facts, TlsKey};
use super::finding::{Finding, Subject};
use super::wanted;
use crate::config::Severity::{Error, Warning};
use dns::{Found, Name, Record, Tlsa};
use relay::policy_fetch::StsFinding;
use std::net::IpAddr;
use transport_security::dane;
use transport_security::mta_sts::Mode;

/// R1, R2: mail for the domain comes here.
pub fn mx(subject: &Subject, found: &Found, host: &Name) -> Finding {
    let exchanges: Vec<&Name> = found.records.iter().filter_map(exchange_of).collect();
    let has_null = exchanges.iter().any(|name| name.is_root());
    match exchanges.as_slice() {
        [] => subject.missing(Error, "mail for the domain goes to the address of its own name, if it has one"),
        // RFC 7505 §3.
        [_] if has_null => subject.differs(Error, "the domain says that it takes no mail"),
        _ if has_null => subject.differs(Error, "beside other records, `no mail here` is a contradiction"),
        _ if !exchanges.contains(&host) => subject.differs(Error, "no mail for the domain comes to this host"),
        _ => subject.ok(""),
    }
}

/// R4, R7, P23: the keys in use and the published ones. `proof` says whether DNSSEC vouches for the records and for the
/// addresses; `None` when nobody here could tell.
pub fn tlsa(subject: &Subject, found: &Found, facts: &Facts, proof: Option<bool>) -> Vec<Finding> {
    let records: Vec<Tlsa> = found
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Tlsa(tlsa) => Some(tlsa.clone()),
            _ => None,
        })
        .collect();
    let in_use = || facts.tls_keys.iter().filter(|key| !key.is_next);
    let all = || facts.tls_keys.iter().map(|key| Record::Tlsa(wanted::tlsa_of(key)));
    if records.is_empty() {
        let missing = || subject.missing(Warning, "others cannot authenticate us by DANE").with_wanted(all());
        return in_use().next().map(|_| missing()).into_iter().collect();
    }
    // Nobody may use records that are not proved, so nothing stops mail then.
    let severity = if proof == Some(false) { Warning } else { Error };
    if in_use().next().is_none() {
        let cause = "the records promise TLS, which no listener for other servers offers";
        return vec![subject.differs(severity, cause).with_found(&found.records)];
    }
    let mut findings = match proof {
        Some(true) => Vec::new(),
        Some(false) => {
            let cause = "the zone, or that of the addresses, is not signed (DNSSEC): nobody uses the records";
            vec![subject.differs(Warning, cause)]
        }
        None => vec![subject.unknown(Warning, "whether the zone is signed: the resolver in use proves nothing")],
    };
    let usable = dane::usable(&records);
    let is_of = |record: &Tlsa, key: &TlsKey| {
        let certificate = key.half.certificate.as_deref().unwrap_or_default();
        record.usage == dane::END_ENTITY && dane::matches(record, certificate, &key.half.key_info)
    };
    for key in &facts.tls_keys {
        let file = key.file.display();
        let is_there = usable.iter().any(|record| is_of(record, key));
        let names_authority = usable.iter().any(|record| record.usage == dane::TRUST_ANCHOR);
        let wanted = Record::Tlsa(wanted::tlsa_of(key));
        findings.push(match (is_there, key.is_next) {
            (true, false) => subject.ok(format!("{file}")).with_found([&wanted]),
            (true, true) => {
                let wait = found.ttl.as_secs().saturating_mul(2);
                let cause = format!("next key {file}; use it no sooner than {wait} seconds after it was published");
                subject.ok(cause).with_found([&wanted])
            }
            (false, true) => {
                subject.missing(Warning, format!("do not use the next key yet: {file}")).with_wanted([wanted])
            }
            (false, false) if names_authority => {
                subject.unknown(Warning, format!("whether the authority that the records name issued {file}"))
            }
            (false, false) => {
                let cause = format!("{file} is not among them: whoever uses DANE sends no mail");
                subject.differs(severity, cause).with_found(&found.records).with_wanted([wanted])
            }
        });
    }
    let is_stale =
        |record: &&Tlsa| record.usage != dane::TRUST_ANCHOR && !facts.tls_keys.iter().any(|key| is_of(record, key));
    let stale: Vec<Record> = records.iter().filter(is_stale).cloned().map(Record::Tlsa).collect();
    // While a key is wrong, that is what has to be said.
    if !stale.is_empty() && !findings.iter().any(Finding::is_error) {
        let cause = "records of no key that is in use here, or known as the next: take them away";
        findings.push(subject.differs(Warning, cause).with_found(&stale));
    }
    findings
}

/// Where clients find a service.
pub fn srv(subject: &Subject, found: &Found, wanted: &[Record]) -> Finding {
    let place = |record: &Record| match record {
        Record::Srv { port, target, .. } => Some((*port, target.clone())),
        _ => None,
    };
    let is_there = wanted.iter().all(|record| found.records.iter().any(|other| place(other) == place(record)));
    let finding = match found.records.is_empty() {
        true => subject.missing(Warning, "programs cannot find the service by themselves"),
        false if is_there => subject.ok(""),
        false => subject.differs(Warning, "programs are led elsewhere"),
    };
    finding.with_found(&found.records).with_wanted(wanted.iter().cloned())
}

/// What others do with mail for us by the policy.
pub fn policy(subject: &Subject, sts: &StsFinding, host: &Name) -> Finding {
    match (&sts.policy, &sts.trouble) {
        (_, Some(trouble)) => subject.differs(
            Warning,
            format!("the policy cannot be fetched: {}", trouble.cause.replace(char::is_control, " ")),
        ),
        (None, None) => subject.unknown(Warning, "the policy"),
        (Some(policy), None) if policy.mode != Mode::None && !policy.allows(host) => {
            let severity = if policy.mode == Mode::Enforce { Error } else { Warning };
            subject.differs(severity, format!("mode {} and no `mx: {host}`", policy.mode.as_str()))
        }
        (Some(policy), None) => subject.ok(format!("mode {}", policy.mode.as_str())),
    }
}

/// The address that a record names.
pub fn address_of(record: &Record) -> Option<IpAddr> {
    match record {
        Record::A(address) => Some((*address).into()),
        Record::Aaaa(address) => Some((*address).into()),
        _ => None,
    }
}

/// The record that names an address.
pub fn record_of(address: IpAddr) -> Record {
    match address {
        IpAddr::V4(v4) => Record::A(v4),
        IpAddr::V6(v6) => Record::Aaaa(v6),
    }
}

/// The name that a PTR record gives.
pub fn name_of(record: &Record) -> Option<&Name> {
    match record {
        Record::Ptr(name) => Some(name),
        _ => None,
    }
}

/// The host that an MX record points to.
pub fn exchange_of(record: &Record) -> Option<&Name> {
    match record {
        Record::Mx(mx) => Some(&mx.exchange),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::facts;
    use super::*;
    use dns::RecordType;
    use transport_security::mta_sts;

    #[test]
    fn policies_that_shut_us_out_are_errors() {
        let host = facts().host;
        let subject = Subject::new(&host, RecordType::A);
        let sts = |mode: &str, mx: &str| {
            let text = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n");
            StsFinding { policy: Some(mta_sts::Policy::parse(text.as_bytes()).unwrap().into()), trouble: None }
        };
        for (mode, mx, severity) in [
            ("enforce", "*.example.net", None),
            ("enforce", "mx.example.org", Some(Error)),
            ("testing", "mx.example.org", Some(Warning)),
            ("none", "mx.example.org", None),
        ] {
            assert_eq!(policy(&subject, &sts(mode, mx), &host).severity, severity, "{mode} {mx}");
        }
    }
}
