//! Names of destinations: the units in which connections are counted and limits are set.

use directory::{NextHop, Transport};
use mail::Domain;
use mail::RequireTls;
use queue::DestinationKey;

const DEMANDS: [RequireTls; 3] = [RequireTls::Ordinary, RequireTls::Required, RequireTls::Optional];

/// Transport and next hop. What asks more of a connection than other mail, or less, has connections of its own; and what a
/// table or the smarthost sends to a next hop never shares one with mail whose own domain has the same name, for it may
/// need a login there.
pub(crate) fn destination(transport: &Transport, domain: &Domain, demand: RequireTls) -> DestinationKey {
    key(&name(transport, Some(domain)), demand)
}

/// The same for all mail, whatever it asks of a connection.
pub(crate) fn whatever_the_demand(transport: &Transport, domain: Option<&Domain>) -> [DestinationKey; 3] {
    DEMANDS.map(|demand| key(&name(transport, domain), demand))
}

/// The recipient's domain counts only where mail goes to its own exchangers.
fn name(transport: &Transport, domain: Option<&Domain>) -> String {
    match transport {
        Transport::Direct => format!("smtp:{}", domain.map_or("", Domain::as_str)),
        Transport::Smtp(hop) => format!("relay:{hop}"),
        other => other.to_string(),
    }
}

fn key(name: &str, demand: RequireTls) -> DestinationKey {
    DestinationKey::new(&format!("{name}{}", mark(demand)))
}

fn mark(demand: RequireTls) -> &'static str {
    match demand {
        RequireTls::Ordinary => "",
        RequireTls::Required => " requiretls",
        RequireTls::Optional => " tls-optional",
    }
}

/// A name without what the mail there asks of a connection.
pub(crate) fn plain(name: &str) -> &str {
    let without = |demand| name.strip_suffix(mark(demand));
    without(RequireTls::Required).or_else(|| without(RequireTls::Optional)).unwrap_or(name)
}

/// The destinations that a name in the configuration means: a domain, a transport as tables have it, or a destination as
/// `queue list` shows it. A domain, and `smtp:` with one, is that of recipients and that of a next hop. `None`: it is none of
/// them.
pub fn destinations_of(name: &str) -> Option<Vec<DestinationKey>> {
    if !name.contains(':') {
        return Some(of_domain(&Domain::parse(name).ok()?));
    }
    match Transport::parse(name)? {
        Transport::Direct => None,
        // As recipients' addresses have it: neither brackets of ours nor a port.
        Transport::Smtp(hop) if name.starts_with("smtp:") && hop.to_string() == hop.host.as_str() => {
            Some(of_domain(&hop.host))
        }
        transport => Some(whatever_the_demand(&transport, None).into()),
    }
}

/// The destinations of recipients at this domain, and of what is sent to it as a next hop.
pub(crate) fn of_domain(domain: &Domain) -> Vec<DestinationKey> {
    let hop = NextHop { host: domain.clone(), port: None, by_mx: !domain.is_literal() };
    [Transport::Direct, Transport::Smtp(hop)]
        .iter()
        .flat_map(|transport| whatever_the_demand(transport, Some(domain)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_a_destination_whatever_the_mail_demands() {
        let names =
            |name: &str| destinations_of(name).map(|keys| keys.iter().map(ToString::to_string).collect::<Vec<_>>());
        let marked = |name: &str| ["", " requiretls", " tls-optional"].map(|mark| format!("{name}{mark}"));
        // A name is that of the recipients' domain and of a next hop.
        let of_domain = [marked("smtp:b.example"), marked("relay:b.example")].concat();
        for name in ["b.example", "B.Example", "smtp:b.example"] {
            assert_eq!(names(name).unwrap(), of_domain, "{name}");
        }
        let of_literal = [marked("smtp:[192.0.2.1]"), marked("relay:[192.0.2.1]")].concat();
        assert_eq!([names("[192.0.2.1]"), names("smtp:[192.0.2.1]")], [Some(of_literal.clone()), Some(of_literal)]);
        for name in ["relay:b.example", "relay:[b.example]", "relay:b.example:25", "relay:[192.0.2.1]"] {
            assert_eq!(names(name).unwrap(), marked(name), "{name}");
        }
        assert_eq!(names("smtp:[b.example]").unwrap(), marked("relay:[b.example]"));
        assert_eq!(names("B\u{fc}cher.example").unwrap()[0], "smtp:xn--bcher-kva.example");
        assert_eq!(names("relay:[Hub.example]:587").unwrap()[1], "relay:[hub.example]:587 requiretls");
        assert_eq!(names("lmtp:unix:/run/Lists").unwrap()[0], "lmtp:unix:/run/Lists");
        assert_eq!([names("a b"), names("smtp:"), names("smpt:a.example")], [None, None, None]);
        assert!(of_domain.iter().all(|name| ["smtp:b.example", "relay:b.example"].contains(&plain(name))));
    }
}
