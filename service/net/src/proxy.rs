//! The PROXY protocol, versions 1 and 2: what a load balancer in front of us says about the real peer. A pure parser.
//!
//! The header is believed only from listed addresses; that decision and the reading are the listener's. Additional
//! type-length-value vectors of version 2 are skipped. The format is defined by HAProxy's `proxy-protocol.txt`, named
//! "the specification" below.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// How far the parser came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The header goes on. At most this many octets may be read next without running past its end; never 0.
    More(usize),
    /// The header is complete.
    Complete(Header),
}

/// A complete header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The ends of the relayed connection; `None` where the proxy speaks for itself or does not know, so that the
    /// connection's own addresses hold.
    pub endpoints: Option<Endpoints>,
    /// How many octets the header took.
    pub length: usize,
}

/// The two ends of the connection that the proxy relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    /// The real peer.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
}

/// Why octets are not a PROXY header. The connection is then dropped, as the specification asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyError {
    /// Neither version's beginning.
    NotAHeader,
    /// A version 1 line without CRLF within [`LINE_OCTETS_MAX`], or with a lone CR or LF.
    Line,
    /// A version 1 line that does not read as the specification says.
    Fields,
    /// A version, command, family or transport that version 2 does not assign.
    Unassigned(u8),
    /// A version 2 address block shorter than its family needs.
    AddressBlock,
    /// A version 2 header longer than [`HEADER_OCTETS_MAX`].
    TooLong,
}

/// Longest version 1 line with its CRLF, by the specification.
pub const LINE_OCTETS_MAX: usize = 107;

/// Longest version 2 header taken. The format could announce 64 KiB; real ones, TLS details included, stay below 1 KiB.
pub const HEADER_OCTETS_MAX: usize = 4_096;

/// Reads the header at the start of `octets`; octets after it are left alone.
pub fn parse(octets: &[u8]) -> Result<Progress, ProxyError> {
    if agrees(octets, &SIGNATURE) {
        return binary(octets);
    }
    if agrees(octets, LINE_START) {
        return line(octets);
    }
    Err(ProxyError::NotAHeader)
}

/// Whether one of the two is the beginning of the other.
fn agrees(octets: &[u8], expected: &[u8]) -> bool {
    octets.iter().zip(expected).all(|(octet, wanted)| octet == wanted)
}

/// Version 1: one line of text.
fn line(octets: &[u8]) -> Result<Progress, ProxyError> {
    let Some(end) = octets.iter().take(LINE_OCTETS_MAX).position(|octet| matches!(octet, b'\r' | b'\n')) else {
        let missing = LINE_OCTETS_MIN.saturating_sub(octets.len()).max(CRLF.len());
        return if octets.len() + CRLF.len() <= LINE_OCTETS_MAX {
            Ok(Progress::More(missing))
        } else {
            Err(ProxyError::Line)
        };
    };
    let (text, rest) = octets.split_at(end);
    if rest == b"\r" && octets.len() < LINE_OCTETS_MAX {
        return Ok(Progress::More(1));
    }
    if !rest.starts_with(CRLF) || end + CRLF.len() > LINE_OCTETS_MAX {
        return Err(ProxyError::Line);
    }
    let length = end + CRLF.len();
    let text = std::str::from_utf8(text).map_err(|_| ProxyError::Fields)?;
    let fields = text.strip_prefix("PROXY ").ok_or(ProxyError::Fields)?;
    let endpoints = match fields.split_once(' ') {
        Some(("TCP4", rest)) => Some(line_endpoints::<Ipv4Addr>(rest)?),
        Some(("TCP6", rest)) => Some(line_endpoints::<Ipv6Addr>(rest)?),
        // Whatever follows UNKNOWN is to be ignored.
        Some(("UNKNOWN", _)) => None,
        None if fields == "UNKNOWN" => None,
        Some(_) | None => return Err(ProxyError::Fields),
    };
    Ok(Progress::Complete(Header { endpoints, length }))
}

/// `source destination source-port destination-port`, parted by exactly one space each.
fn line_endpoints<A: FromStr + Into<IpAddr>>(text: &str) -> Result<Endpoints, ProxyError> {
    let mut fields = text.split(' ');
    let mut next = || fields.next().ok_or(ProxyError::Fields);
    let peer: A = next()?.parse().map_err(|_| ProxyError::Fields)?;
    let local: A = next()?.parse().map_err(|_| ProxyError::Fields)?;
    let peer_port = line_port(next()?)?;
    let local_port = line_port(next()?)?;
    if fields.next().is_some() {
        return Err(ProxyError::Fields);
    }
    Ok(Endpoints::new(peer.into(), peer_port, local.into(), local_port))
}

/// A port in decimal without leading zeros or signs.
fn line_port(text: &str) -> Result<u16, ProxyError> {
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(ProxyError::Fields);
    }
    text.parse().map_err(|_| ProxyError::Fields)
}

/// Version 2: signature, version and command, family and transport, length, then the addresses.
fn binary(octets: &[u8]) -> Result<Progress, ProxyError> {
    // Both versions share the first read, so no more than the shortest line may be asked for at first.
    if octets.is_empty() {
        return Ok(Progress::More(LINE_OCTETS_MIN));
    }
    let Some((prologue, rest)) = octets.split_first_chunk::<PROLOGUE_OCTETS>() else {
        return Ok(Progress::More(PROLOGUE_OCTETS - octets.len()));
    };
    let [.., version_and_command, family_and_transport, high, low] = *prologue;
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let length = PROLOGUE_OCTETS + announced;
    let command = version_and_command & 0x0f;
    if version_and_command >> 4 != 2 || command > COMMAND_PROXY {
        return Err(ProxyError::Unassigned(version_and_command));
    }
    if length > HEADER_OCTETS_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(block) = rest.get(..announced) else {
        return Ok(Progress::More(announced - rest.len()));
    };
    // LOCAL is the proxy itself, such as its health check; family and addresses are then to be ignored.
    let endpoints = if command == COMMAND_PROXY { binary_endpoints(family_and_transport, block)? } else { None };
    Ok(Progress::Complete(Header { endpoints, length }))
}

/// The addresses of a relayed connection. What is assigned but is not a TCP connection falls back to the connection's
/// own addresses, as the specification allows.
fn binary_endpoints(family_and_transport: u8, block: &[u8]) -> Result<Option<Endpoints>, ProxyError> {
    match family_and_transport {
        0x11 => {
            let Some((&[a, b, c, d, e, f, g, h, i, j, k, l], _)) = block.split_first_chunk::<12>() else {
                return Err(ProxyError::AddressBlock);
            };
            let (peer, local) = (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h));
            let (peer_port, local_port) = (u16::from_be_bytes([i, j]), u16::from_be_bytes([k, l]));
            Ok(Some(Endpoints::new(peer.into(), peer_port, local.into(), local_port)))
        }
        0x21 => {
            let parts = block.split_first_chunk::<16>().and_then(|(peer, rest)| {
                let (local, rest) = rest.split_first_chunk::<16>()?;
                let (ports, _) = rest.split_first_chunk::<4>()?;
                Some((*peer, *local, *ports))
            });
            let (peer, local, [i, j, k, l]) = parts.ok_or(ProxyError::AddressBlock)?;
            let (peer, local) = (Ipv6Addr::from_octets(peer), Ipv6Addr::from_octets(local));
            let (peer_port, local_port) = (u16::from_be_bytes([i, j]), u16::from_be_bytes([k, l]));
            Ok(Some(Endpoints::new(peer.into(), peer_port, local.into(), local_port)))
        }
        other if other >> 4 <= 3 && other & 0x0f <= 2 => Ok(None),
        other => Err(ProxyError::Unassigned(other)),
    }
}

impl Endpoints {
    fn new(peer: IpAddr, peer_port: u16, local: IpAddr, local_port: u16) -> Endpoints {
        Endpoints {
            peer: SocketAddr::new(peer.to_canonical(), peer_port),
            local: SocketAddr::new(local.to_canonical(), local_port),
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::NotAHeader => f.write_str("the proxy sent no PROXY header"),
            ProxyError::Line => f.write_str("the PROXY line does not end with CRLF where it must"),
            ProxyError::Fields => f.write_str("the PROXY line's fields are malformed"),
            ProxyError::Unassigned(octet) => write!(f, "the PROXY header uses the unassigned value {octet:#04x}"),
            ProxyError::AddressBlock => f.write_str("the PROXY header's address block is too short"),
            ProxyError::TooLong => write!(f, "the PROXY header is longer than {HEADER_OCTETS_MAX} octets"),
        }
    }
}

impl std::error::Error for ProxyError {}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const LINE_START: &[u8] = b"PROXY ";
const CRLF: &[u8] = b"\r\n";
/// `PROXY UNKNOWN` and CRLF.
const LINE_OCTETS_MIN: usize = 15;
const PROLOGUE_OCTETS: usize = 16;
const COMMAND_PROXY: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    type Expected = Result<Option<Endpoints>, ProxyError>;

    fn endpoints(peer: &str, local: &str) -> Option<Endpoints> {
        Some(Endpoints { peer: peer.parse().unwrap(), local: local.parse().unwrap() })
    }

    fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        header.extend(block);
        header
    }

    /// Feeds a header as a reader would, never more octets than asked for, in pieces of at most `piece`.
    fn read(octets: &[u8], piece: usize) -> Result<Header, ProxyError> {
        let mut taken = 0;
        loop {
            match parse(&octets[..taken])? {
                Progress::Complete(header) => {
                    assert_eq!(header.length, taken, "nothing may be read past the end");
                    return Ok(header);
                }
                Progress::More(octets_missing) => {
                    assert!(octets_missing > 0);
                    taken = taken.saturating_add(octets_missing.min(piece)).min(octets.len());
                }
            }
        }
    }

    #[test]
    fn lines_of_version_1() {
        let table: [(&str, Expected); 20] = [
            ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 25\r\n", Ok(endpoints("192.0.2.1:56324", "198.51.100.7:25"))),
            ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", Ok(endpoints("[2001:db8::1]:1", "[::1]:65535"))),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", Ok(endpoints("192.0.2.1:1", "192.0.2.2:2"))),
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n",
                Ok(endpoints("255.255.255.255:65535", "255.255.255.255:0")),
            ),
            ("PROXY UNKNOWN\r\n", Ok(None)),
            ("PROXY UNKNOWN anything at all\r\n", Ok(None)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 25\n", Err(ProxyError::Line)),
            ("PROXY TCP4 192.0.2.1\r198.51.100.7 56324 25\r\n", Err(ProxyError::Line)),
            ("PROXY TCP4 192.0.2.01 198.51.100.7 56324 25\r\n", Err(ProxyError::Fields)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 056324 25\r\n", Err(ProxyError::Fields)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 +1 25\r\n", Err(ProxyError::Fields)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 65536 25\r\n", Err(ProxyError::Fields)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 1 \r\n", Err(ProxyError::Fields)),
            ("PROXY TCP4 192.0.2.1  198.51.100.7 1 2\r\n", Err(ProxyError::Fields)),
            ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n", Err(ProxyError::Fields)),
            ("PROXY TCP4 2001:db8::1 ::1 1 2\r\n", Err(ProxyError::Fields)),
            ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Fields)),
            ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Fields)),
            ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Fields)),
            ("EHLO client.example.net\r\n", Err(ProxyError::NotAHeader)),
        ];
        for (text, expected) in table {
            for piece in [1, 7, usize::MAX] {
                let found = read(text.as_bytes(), piece).map(|header| header.endpoints);
                assert_eq!(found, expected, "{text:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_line_may_have_107_octets_and_not_108() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_OCTETS_MAX - 16));
        assert_eq!(longest.len(), LINE_OCTETS_MAX);
        assert_eq!(read(longest.as_bytes(), 1), Ok(Header { endpoints: None, length: LINE_OCTETS_MAX }));
        let longer = longest.replace("\r\n", "f\r\n");
        assert_eq!(read(longer.as_bytes(), 1), Err(ProxyError::Line));
        assert_eq!(parse(longer.as_bytes()), Err(ProxyError::Line));
        assert_eq!(parse("PROXY UNKNOWN ".repeat(1_000).as_bytes()), Err(ProxyError::Line));
    }

    #[test]
    fn headers_of_version_2() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0, 25];
        let mut v6 = Vec::new();
        v6.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets());
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        v6.extend([0, 1, 255, 255]);
        let with_vectors = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        let table: [(Vec<u8>, Expected); 16] = [
            (version_2(1, 0x11, &v4), Ok(endpoints("192.0.2.1:56324", "198.51.100.7:25"))),
            (version_2(1, 0x21, &v6), Ok(endpoints("[2001:db8::1]:1", "[::1]:65535"))),
            (version_2(1, 0x11, &with_vectors), Ok(endpoints("192.0.2.1:56324", "198.51.100.7:25"))),
            (version_2(0, 0x00, &[]), Ok(None)),
            (version_2(0, 0xff, &v4), Ok(None)),
            (version_2(1, 0x00, &[]), Ok(None)),
            (version_2(1, 0x12, &v4), Ok(None)),
            (version_2(1, 0x31, &[0; 216]), Ok(None)),
            (version_2(1, 0x11, &v4[..11]), Err(ProxyError::AddressBlock)),
            (version_2(1, 0x21, &v6[..35]), Err(ProxyError::AddressBlock)),
            (version_2(1, 0x11, &[]), Err(ProxyError::AddressBlock)),
            (version_2(2, 0x11, &v4), Err(ProxyError::Unassigned(0x22))),
            (version_2(0x10, 0x11, &v4), Err(ProxyError::Unassigned(0x30))),
            (version_2(1, 0x41, &v4), Err(ProxyError::Unassigned(0x41))),
            (version_2(1, 0x13, &v4), Err(ProxyError::Unassigned(0x13))),
            (version_2(1, 0x11, &[0; HEADER_OCTETS_MAX]), Err(ProxyError::TooLong)),
        ];
        for (octets, expected) in table {
            for piece in [1, 7, usize::MAX] {
                let found = read(&octets, piece).map(|header| header.endpoints);
                assert_eq!(found, expected, "{octets:?} in pieces of {piece}");
            }
        }
    }

    /// V28: whatever octets come, in whatever order, the parser ends with an answer.
    #[test]
    fn no_octets_make_it_panic_or_ask_for_nothing() {
        let seeds = [
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 25\r\nEHLO".to_vec(),
            version_2(1, 0x21, &[0xff; 36]),
            version_2(1, 0x11, &[0xff; 12]),
        ];
        for seed in seeds {
            for place in 0..seed.len() {
                for octet in [0, b' ', b'\r', b'\n', b'9', 0x80, 0xff] {
                    let mut octets = seed.clone();
                    octets[place] = octet;
                    for end in 0..=octets.len() {
                        match parse(&octets[..end]) {
                            Ok(Progress::More(missing)) => assert!(missing > 0),
                            Ok(Progress::Complete(header)) => assert!(header.length <= end),
                            Err(_) => {}
                        }
                    }
                }
            }
        }
    }
}
