//! Records, as far as mail uses them.

use crate::Name;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// An alias. Asked for only to look at it; lookups of other types follow it by themselves.
    Cname,
    /// Mail exchangers (RFC 5321 §5.1).
    Mx,
    /// Name servers of a zone.
    Ns,
    /// The name of an address (RFC 1035 §3.5).
    Ptr,
    /// The start of a zone.
    Soa,
    /// The place of a service (RFC 2782).
    Srv,
    /// Text: SPF, DKIM, DMARC, MTA-STS, TLS-RPT.
    Txt,
    /// What a TLS server must show (RFC 6698).
    Tlsa,
}

/// A mail exchanger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mx {
    /// Lower is better.
    pub preference: u16,
    /// The host; the root for "no mail here" (RFC 7505).
    pub exchange: Name,
}

/// What a TLS server must show (RFC 6698 §2.1). The numbers are as published; whether they can be used is for
/// `transport-security` to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// Certificate usage.
    pub usage: u8,
    /// Selector.
    pub selector: u8,
    /// Matching type.
    pub matching: u8,
    /// The data to match with.
    pub data: Vec<u8>,
}

/// One record, without its owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Record {
    /// See [`RecordType::A`].
    A(Ipv4Addr),
    /// See [`RecordType::Aaaa`].
    Aaaa(Ipv6Addr),
    /// See [`RecordType::Cname`].
    Cname(Name),
    /// See [`RecordType::Mx`].
    Mx(Mx),
    /// See [`RecordType::Ns`].
    Ns(Name),
    /// See [`RecordType::Ptr`].
    Ptr(Name),
    /// See [`RecordType::Soa`]: the primary server and the serial number.
    Soa(Name, u32),
    /// See [`RecordType::Srv`].
    Srv {
        /// Lower is better.
        priority: u16,
        /// Share among equals.
        weight: u16,
        /// Where it listens.
        port: u16,
        /// The host; the root for "not offered here".
        target: Name,
    },
    /// The strings of one record, joined (RFC 7208 §3.3).
    Txt(Vec<u8>),
    /// See [`RecordType::Tlsa`].
    Tlsa(Tlsa),
}
