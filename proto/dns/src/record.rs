//! Records, as far as mail uses them.

use crate::Name;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

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

impl RecordType {
    const ALL: [RecordType; 10] = [
        RecordType::A,
        RecordType::Aaaa,
        RecordType::Cname,
        RecordType::Mx,
        RecordType::Ns,
        RecordType::Ptr,
        RecordType::Soa,
        RecordType::Srv,
        RecordType::Txt,
        RecordType::Tlsa,
    ];

    /// The name of the type, as in a master file.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordType::A => "A",
            RecordType::Aaaa => "AAAA",
            RecordType::Cname => "CNAME",
            RecordType::Mx => "MX",
            RecordType::Ns => "NS",
            RecordType::Ptr => "PTR",
            RecordType::Soa => "SOA",
            RecordType::Srv => "SRV",
            RecordType::Txt => "TXT",
            RecordType::Tlsa => "TLSA",
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no type of record that mail uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownRecordType;

impl fmt::Display for UnknownRecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a record type that is known here")
    }
}

impl std::error::Error for UnknownRecordType {}

impl FromStr for RecordType {
    type Err = UnknownRecordType;

    /// Takes the name of a type, in any case.
    fn from_str(text: &str) -> Result<RecordType, UnknownRecordType> {
        let is_meant = |kind: &RecordType| kind.as_str().eq_ignore_ascii_case(text);
        RecordType::ALL.into_iter().find(is_meant).ok_or(UnknownRecordType)
    }
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

impl Record {
    /// The type of this record.
    pub fn kind(&self) -> RecordType {
        match self {
            Record::A(_) => RecordType::A,
            Record::Aaaa(_) => RecordType::Aaaa,
            Record::Cname(_) => RecordType::Cname,
            Record::Mx(_) => RecordType::Mx,
            Record::Ns(_) => RecordType::Ns,
            Record::Ptr(_) => RecordType::Ptr,
            Record::Soa(..) => RecordType::Soa,
            Record::Srv { .. } => RecordType::Srv,
            Record::Txt(_) => RecordType::Txt,
            Record::Tlsa(_) => RecordType::Tlsa,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names() {
        for kind in RecordType::ALL {
            assert_eq!(kind.to_string().to_lowercase().parse(), Ok(kind));
        }
        assert_eq!("DNSKEY".parse::<RecordType>(), Err(UnknownRecordType));
    }
}
