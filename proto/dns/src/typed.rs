//! Typed questions over [`Lookup`]: what mail asks, with records of one kind instead of [`Record`]s.
//!
//! Each keeps what [`Found`] says about absence, proof, aliases and time; [`Failure`] stays what it is, "try later".

use crate::{Answer, Failure, Found, Lookup, Mx, Name, Record, RecordType, Security, Tlsa};
use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;
use std::time::Duration;

/// What a typed question found; the fields are those of [`Found`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed<T> {
    /// The records; none when the name has no such records.
    pub records: Vec<T>,
    /// Whether the name exists at all; `false` is NXDOMAIN.
    pub name_exists: bool,
    /// Whether all of it is proved, each alias on the way and absence included.
    pub security: Security,
    /// How long this holds. Zero is respected.
    pub ttl: Duration,
    /// The name at the end of the aliases; the name asked for where there were none.
    pub canonical: Name,
}

/// Which addresses are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both, asked for at the same time.
    Both,
}

/// The mail exchangers of a domain, the best first; equals stay as they came. Where there are exchangers, a root name
/// among them is dropped as contradiction (RFC 7505 §3); alone it stays, see [`Typed::is_null_mx`].
pub async fn mx(lookup: &dyn Lookup, domain: &Name) -> Result<Typed<Mx>, Failure> {
    let mut found = one_type(lookup, domain, RecordType::Mx, |record| match record {
        Record::Mx(mx) => Some(mx),
        _ => None,
    })
    .await?;
    if found.records.iter().any(|mx| !mx.exchange.is_root()) {
        found.records.retain(|mx| !mx.exchange.is_root());
    }
    found.records.sort_by_key(|mx| mx.preference);
    Ok(found)
}

/// The addresses of a host, IPv6 first.
///
/// When one family cannot be found out and the other has addresses, these are the answer (RFC 7672 §2.1.2: whoever can
/// be reached may be used); security and time are then those of the family that answered. When there are no
/// addresses, a failure of either family is a failure of the whole, since absence is not known.
pub async fn addresses(lookup: &dyn Lookup, host: &Name, families: Families) -> Result<Typed<IpAddr>, Failure> {
    match families {
        Families::V4 => look_up_family(lookup, host, RecordType::A).await,
        Families::V6 => look_up_family(lookup, host, RecordType::Aaaa).await,
        Families::Both => {
            let (six, four) = both(lookup.look_up(host, RecordType::Aaaa), lookup.look_up(host, RecordType::A)).await;
            match (six.map(addresses_of), four.map(addresses_of)) {
                (Ok(six), Ok(four)) => Ok(merge(six, four)),
                (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.records.is_empty() => Ok(found),
                (Err(failure), _) | (_, Err(failure)) => Err(failure),
            }
        }
    }
}

/// The texts of a name, each record's strings joined (RFC 7208 §3.3).
pub async fn txt(lookup: &dyn Lookup, name: &Name) -> Result<Typed<Vec<u8>>, Failure> {
    one_type(lookup, name, RecordType::Txt, |record| match record {
        Record::Txt(text) => Some(text),
        _ => None,
    })
    .await
}

/// What a TLS server at this name must show; the name is such as `_25._tcp.mx.example.net` (RFC 6698 §3).
pub async fn tlsa(lookup: &dyn Lookup, name: &Name) -> Result<Typed<Tlsa>, Failure> {
    one_type(lookup, name, RecordType::Tlsa, |record| match record {
        Record::Tlsa(tlsa) => Some(tlsa),
        _ => None,
    })
    .await
}

/// The names that an address claims to have. Anybody may claim any name; only a look at the addresses of that name
/// confirms it.
pub async fn ptr(lookup: &dyn Lookup, address: IpAddr) -> Result<Typed<Name>, Failure> {
    one_type(lookup, &Name::reverse(address), RecordType::Ptr, |record| match record {
        Record::Ptr(name) => Some(name),
        _ => None,
    })
    .await
}

impl<T> Typed<T> {
    /// Whether DNSSEC proves all of it.
    pub fn is_secure(&self) -> bool {
        self.security == Security::Secure
    }

    fn from_found(found: Found, pick: impl Fn(Record) -> Option<T>) -> Typed<T> {
        Typed {
            records: found.records.into_iter().filter_map(pick).collect(),
            name_exists: found.name_exists,
            security: found.security,
            ttl: found.ttl,
            canonical: found.canonical,
        }
    }
}

impl Typed<Mx> {
    /// Whether the domain says that it takes no mail (RFC 7505 §3).
    pub fn is_null_mx(&self) -> bool {
        !self.records.is_empty() && self.records.iter().all(|mx| mx.exchange.is_root())
    }
}

async fn one_type<T>(
    lookup: &dyn Lookup,
    name: &Name,
    kind: RecordType,
    pick: impl Fn(Record) -> Option<T>,
) -> Result<Typed<T>, Failure> {
    Ok(Typed::from_found(lookup.look_up(name, kind).await?, pick))
}

async fn look_up_family(lookup: &dyn Lookup, host: &Name, kind: RecordType) -> Result<Typed<IpAddr>, Failure> {
    lookup.look_up(host, kind).await.map(addresses_of)
}

fn addresses_of(found: Found) -> Typed<IpAddr> {
    Typed::from_found(found, |record| match record {
        Record::A(address) => Some(address.into()),
        Record::Aaaa(address) => Some(address.into()),
        _ => None,
    })
}

fn merge(six: Typed<IpAddr>, four: Typed<IpAddr>) -> Typed<IpAddr> {
    let are_secure = six.is_secure() && four.is_secure();
    let canonical = if six.records.is_empty() { four.canonical } else { six.canonical };
    Typed {
        records: six.records.into_iter().chain(four.records).collect(),
        name_exists: six.name_exists || four.name_exists,
        security: if are_secure { Security::Secure } else { Security::Insecure },
        ttl: six.ttl.min(four.ttl),
        canonical,
    }
}

type Outcome = Result<Found, Failure>;

/// Waits for two answers at the same time.
async fn both(mut first: Answer<'_>, mut second: Answer<'_>) -> (Outcome, Outcome) {
    let (mut one, mut two) = (None, None);
    poll_fn(move |cx| {
        for (answer, outcome) in [(&mut first, &mut one), (&mut second, &mut two)] {
            if outcome.is_none()
                && let Poll::Ready(ready) = answer.as_mut().poll(cx)
            {
                *outcome = Some(ready);
            }
        }
        match (one.take(), two.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (one, two) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Zone;
    use std::task::{Context, Waker};

    const ZONE: &str = r#"
        $secure
        example.net         MX 20 b.example.net
        example.net         MX 10 a.example.net
        example.net         MX 0 .
        example.net         TXT "v=spf1 " "-all"
        a.example.net   60  A 192.0.2.1
        a.example.net       AAAA 2001:db8::1
        half.example.net    A 192.0.2.2
        half.example.net    SERVFAIL AAAA
        lost.example.net    SERVFAIL A
        _25._tcp.a.example.net TLSA 3 1 1 00ff
        $insecure
        null.example        MX 0 .
        1.2.0.192.in-addr.arpa PTR a.example.net
    "#;

    /// A zone answers at once.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("a zone does not wait"),
        }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn exchangers_come_in_order_and_null_stands_alone() {
        let zone = Zone::parse(ZONE).unwrap();
        let found = now(mx(&zone, &name("example.net"))).unwrap();
        let hosts: Vec<&str> = found.records.iter().map(|mx| mx.exchange.as_str()).collect();
        assert_eq!(hosts, ["a.example.net", "b.example.net"]);
        assert!(found.is_secure() && !found.is_null_mx());
        let found = now(mx(&zone, &name("null.example"))).unwrap();
        assert!(found.is_null_mx() && !found.is_secure());
        assert!(!now(mx(&zone, &name("a.example.net"))).unwrap().is_null_mx(), "no records are no null MX");
    }

    #[test]
    fn addresses_of_both_families() {
        let zone = Zone::parse(ZONE).unwrap();
        let found = now(addresses(&zone, &name("a.example.net"), Families::Both)).unwrap();
        assert_eq!(found.records, ["2001:db8::1".parse::<IpAddr>().unwrap(), "192.0.2.1".parse().unwrap()]);
        assert_eq!(found.ttl, Duration::from_secs(60));
        let found = now(addresses(&zone, &name("a.example.net"), Families::V4)).unwrap();
        assert_eq!(found.records.len(), 1);
        let found = now(addresses(&zone, &name("half.example.net"), Families::Both)).unwrap();
        assert_eq!(found.records, ["192.0.2.2".parse::<IpAddr>().unwrap()], "the failing family is left out");
        let failed = now(addresses(&zone, &name("lost.example.net"), Families::Both));
        assert!(matches!(failed, Err(Failure::Failed(_))), "absence of AAAA says nothing about A");
        assert!(!now(addresses(&zone, &name("none.example.net"), Families::Both)).unwrap().name_exists);
    }

    #[test]
    fn texts_pins_and_names() {
        let zone = Zone::parse(ZONE).unwrap();
        assert_eq!(now(txt(&zone, &name("example.net"))).unwrap().records, [b"v=spf1 -all"]);
        let found = now(tlsa(&zone, &name("_25._tcp.a.example.net"))).unwrap();
        assert_eq!(found.records, [Tlsa { usage: 3, selector: 1, matching: 1, data: vec![0, 255] }]);
        assert_eq!(now(ptr(&zone, "192.0.2.1".parse().unwrap())).unwrap().records, [name("a.example.net")]);
    }

    #[test]
    fn both_waits_for_the_slower() {
        let mut is_slow = true;
        let slow = Box::pin(poll_fn(move |_| {
            if std::mem::take(&mut is_slow) { Poll::Pending } else { Poll::Ready(Err(Failure::Failed("late".into()))) }
        }));
        let fast = Box::pin(std::future::ready(Err(Failure::Bogus("early".into()))));
        let mut waiting = std::pin::pin!(both(slow, fast));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let Poll::Ready((Err(Failure::Failed(_)), Err(Failure::Bogus(_)))) = waiting.as_mut().poll(&mut context) else {
            panic!("both are there now");
        };
    }
}
