//! Our addresses in block lists that are kept in DNS (RFC 5782).

use super::finding::{Finding, Subject};
use crate::config::Severity::{Error, Warning};
use dns::{Found, Lookup, Name, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr};

/// RFC 5782 §5: the entry that every list has, so that a list that is dead is told from one that knows nothing of us.
const TEST_ENTRY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Looks addresses up in lists.
pub async fn ask(lookup: &dyn Lookup, lists: &[Name], addresses: &[IpAddr]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for list in lists {
        match state(lookup, list, TEST_ENTRY).await {
            Err(finding) => findings.push(finding),
            Ok((subject, Listing::Absent)) => {
                findings.push(subject.unknown(Warning, "the list lacks its test entry: it does not answer for us"));
            }
            Ok((subject, Listing::Refusal(told))) => findings.push(subject.unknown(Warning, told)),
            Ok((_, Listing::Listed)) => {
                for address in addresses {
                    findings.push(one(lookup, list, *address).await);
                }
            }
        }
    }
    findings
}

async fn one(lookup: &dyn Lookup, list: &Name, address: IpAddr) -> Finding {
    let subject = match state(lookup, list, address).await {
        Err(finding) => return finding,
        Ok((subject, Listing::Absent)) => return subject.ok(format!("{address} is not listed")),
        Ok((subject, Listing::Refusal(told))) => return subject.unknown(Warning, told),
        Ok((subject, Listing::Listed)) => subject,
    };
    // RFC 5782 §2.1: the reason is in a text. It is worth telling, and nothing depends on it.
    let reason = lookup.look_up(&subject.name, RecordType::Txt).await.map(|found| found.records).unwrap_or_default();
    subject.differs(Error, format!("{address} is listed")).with_found(reason.iter().take(1))
}

enum Listing {
    Absent,
    Listed,
    /// An answer that is no listing; what it means.
    Refusal(String),
}

async fn state(lookup: &dyn Lookup, list: &Name, address: IpAddr) -> Result<(Subject, Listing), Finding> {
    let reverse = Name::reverse(address);
    let labels = reverse.as_str().trim_end_matches(".in-addr.arpa").trim_end_matches(".ip6.arpa");
    let subject = match list.under(labels) {
        Ok(name) => Subject { name, kind: RecordType::A, purpose: "block list" },
        Err(error) => return Err(Subject::new(list, RecordType::A).unknown(Warning, error.to_string())),
    };
    match lookup.look_up(&subject.name, RecordType::A).await {
        Ok(found) => Ok((subject, listing(&found))),
        Err(failure) => Err(subject.failed(Warning, &failure)),
    }
}

/// P10: only what a list can mean by a listing is one.
fn listing(found: &Found) -> Listing {
    let codes = found.records.iter().filter_map(|record| match record {
        Record::A(code) => Some(*code),
        _ => None,
    });
    let mut state = Listing::Absent;
    for code in codes {
        match code.octets() {
            [127, 255, 255, _] => {
                return Listing::Refusal(format!(
                    "the list refuses to answer this resolver ({code}); ask through your own"
                ));
            }
            [127, ..] => state = Listing::Listed,
            // RFC 5782 §2.1: values are in 127.0.0.0/8; others come from a domain that is not the list's any more.
            _ => return Listing::Refusal(format!("{code} is no answer of a list")),
        }
    }
    state
}
