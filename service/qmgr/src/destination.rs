//! Names of destinations: the units in which connections are counted and limits are set.

use directory::Transport;
use mail::Domain;
use queue::DestinationKey;
use transport_security::Demand;

const DEMANDS: [Demand; 3] = [Demand::Ordinary, Demand::Required, Demand::Optional];

/// Transport and next hop. What asks more of a connection than other mail, or less, has connections of its own.
pub(crate) fn destination(transport: &Transport, domain: &Domain, demand: Demand) -> DestinationKey {
    let mark = mark(demand);
    match transport {
        Transport::Direct => DestinationKey::new(&format!("smtp:{domain}{mark}")),
        other => DestinationKey::new(&format!("{other}{mark}")),
    }
}

/// The same for all mail, whatever it asks of a connection.
pub(crate) fn whatever_the_demand(transport: &Transport, domain: &Domain) -> [DestinationKey; 3] {
    DEMANDS.map(|demand| destination(transport, domain, demand))
}

fn mark(demand: Demand) -> &'static str {
    match demand {
        Demand::Ordinary => "",
        Demand::Required => " requiretls",
        Demand::Optional => " tls-optional",
    }
}

/// A name without what the mail there asks of a connection.
pub(crate) fn plain(name: &str) -> &str {
    let without = |demand| name.strip_suffix(mark(demand));
    without(Demand::Required).or_else(|| without(Demand::Optional)).unwrap_or(name)
}

/// The destinations that a name in the configuration means: a domain, or a transport as `queue list` shows it. `None`: it is
/// neither.
pub fn destinations_of(name: &str) -> Option<[DestinationKey; 3]> {
    if !name.contains(':') {
        return Some(whatever_the_demand(&Transport::Direct, &Domain::parse(name).ok()?));
    }
    let transport = Transport::parse(name).filter(|transport| *transport != Transport::Direct)?;
    Some(DEMANDS.map(|demand| DestinationKey::new(&format!("{transport}{}", mark(demand)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_a_destination_whatever_the_mail_demands() {
        let names = |name: &str| destinations_of(name).map(|keys| keys.map(|key| key.to_string()));
        let of_domain = ["smtp:b.example", "smtp:b.example requiretls", "smtp:b.example tls-optional"];
        for name in ["b.example", "B.Example", "smtp:b.example"] {
            assert_eq!(names(name).unwrap(), of_domain, "{name}");
        }
        assert_eq!(names("B\u{fc}cher.example").unwrap()[0], "smtp:xn--bcher-kva.example");
        assert_eq!(names("relay:[Hub.example]:587").unwrap()[1], "smtp:[hub.example]:587 requiretls");
        assert_eq!(names("lmtp:unix:/run/Lists").unwrap()[0], "lmtp:unix:/run/Lists");
        assert_eq!([names("a b"), names("smtp:"), names("smpt:a.example")], [None, None, None]);
        assert!(of_domain.iter().all(|name| plain(name) == "smtp:b.example"));
    }
}
