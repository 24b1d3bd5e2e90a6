//! The search for a host's TLSA records, carried out.

use dns::{Lookup, Name, Typed};
use std::net::IpAddr;
use transport_security::{TlsaFinding, TlsaSearch};

/// Finds the TLSA records of a host, after its addresses were found (RFC 7672 §2.2.2). To be asked only where the resolver
/// validates, or nothing it says is secure; never for an address literal.
pub async fn find_tlsa(lookup: &dyn Lookup, host: &Name, port: u16, addresses: &Typed<IpAddr>) -> TlsaFinding {
    let mut search = TlsaSearch::begin(host, port, addresses);
    while let Some((name, kind)) = search.question() {
        search = search.answer(lookup.look_up(&name, kind).await);
    }
    search.finding()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dns::{Families, Zone, addresses};

    const ZONE: &str = "
        $secure
        mx.example.net            A 192.0.2.1
        _25._tcp.mx.example.net   TLSA 3 1 1 00ff
        alias.example.net         CNAME host.example.com
        _25._tcp.alias.example.net TLSA 3 1 1 01ff
        bare.example.net          A 192.0.2.2
        bad.example.net           A 192.0.2.3
        _25._tcp.bad.example.net  BOGUS
        $insecure
        host.example.com          A 192.0.2.4
        mx.example.com            A 192.0.2.5
        _25._tcp.mx.example.com   TLSA 3 1 1 02ff
    ";

    #[tokio::test]
    async fn v43_records_are_found_where_they_are_proved() {
        let zone = Zone::parse(ZONE).unwrap();
        for (host, expected) in [
            ("mx.example.net", Some("mx.example.net")),
            ("alias.example.net", Some("alias.example.net")),
            ("bare.example.net", None),
            ("mx.example.com", None),
        ] {
            let host = Name::parse(host).unwrap();
            let addresses = addresses(&zone, &host, Families::Both).await.unwrap();
            let found = match find_tlsa(&zone, &host, 25, &addresses).await {
                TlsaFinding::Present { base, .. } => Some(base.to_string()),
                TlsaFinding::Absent | TlsaFinding::NotSought => None,
                TlsaFinding::Failed(failure) => panic!("{failure}"),
            };
            assert_eq!(found.as_deref(), expected, "{host}");
        }
        let host = Name::parse("bad.example.net").unwrap();
        let addresses = addresses(&zone, &host, Families::Both).await.unwrap();
        assert!(matches!(find_tlsa(&zone, &host, 25, &addresses).await, TlsaFinding::Failed(_)));
    }
}
