//! One question to one server, by UDP and where needed by TCP.
//!
//! A reply over UDP is ours only when it comes from the address that was asked, to the random port that asked, with the
//! random identifier and with the question spelled in the random case that was sent (RFC 5452 §9). Anything else is
//! passed over, a few times; then, and when the case alone is wrong, the question is asked by TCP, which cannot be
//! answered from aside. Of a reply no more is read here than its header and its question.

use aws_lc_rs::rand;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// What we say that we take by UDP: what is not cut into fragments anywhere (RFC 9715 §3.2).
const UDP_OCTETS_ANNOUNCED: u16 = 1232;
/// What we take by UDP from servers that send more.
const UDP_OCTETS_MAX: usize = 4096;
/// Packets that are passed over before the question is asked by TCP.
const STRAYS_MAX: usize = 16;
/// Records in all sections of a reply. Real ones stay far below; 64 KiB could hold 5,000, each with names that are put
/// together from thousands of pointers.
const RECORDS_MAX: usize = 256;

const HEADER_OCTETS: usize = 12;

/// What is asked besides the question itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The records only.
    Records,
    /// What DNSSEC has for them, and whether the server finds it sound (DO and AD, RFC 6840 §5.7).
    Proof,
    /// The same, without the server's holding back what it finds unsound (CD).
    Unchecked,
}

/// Why a server gave nothing usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    Timeout,
    Unreachable(io::ErrorKind),
    Malformed(&'static str),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Timeout => f.write_str("no answer in time"),
            Trouble::Unreachable(kind) => kind.fmt(f),
            Trouble::Malformed(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Unreachable(error.kind())
    }
}

impl From<tokio::time::error::Elapsed> for Trouble {
    fn from(_: tokio::time::error::Elapsed) -> Trouble {
        Trouble::Timeout
    }
}

/// Asks, and gives the reply's octets, whose header and question fit; its response code may be any.
pub(crate) async fn exchange(server: SocketAddr, question: &Question, until: Instant) -> Result<Vec<u8>, Trouble> {
    let reply = match timeout_at(until, over_udp(server, question)).await?? {
        Some(reply) if !is_truncated(&reply) => reply,
        _ => timeout_at(until, over_tcp(server, question)).await??,
    };
    if record_count(&reply) > RECORDS_MAX {
        return Err(Trouble::Malformed("a reply with too many records"));
    }
    Ok(reply)
}

/// A question, ready to be sent any number of times.
#[derive(Debug)]
pub(crate) struct Question {
    octets: Vec<u8>,
    question_octets: usize,
}

impl Question {
    pub(crate) fn new(name: &Name, kind: RecordType, want: Want) -> Result<Question, Trouble> {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.authentic_data = want != Want::Records;
        message.metadata.checking_disabled = want == Want::Unchecked;
        message.add_query(Query::query(name.clone(), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_OCTETS_ANNOUNCED).set_dnssec_ok(want != Want::Records);
        message.set_edns(edns);
        let octets = message.to_vec().map_err(|_| Trouble::Malformed("a question that cannot be written"))?;
        // The name, each label with its length, the final zero; then type and class.
        let name_octets: usize = name.iter().map(|label| label.len() + 1).sum();
        Ok(Question { octets, question_octets: name_octets + 1 + 4 })
    }

    /// The octets to send this time: with a fresh identifier and the name's letters in random case.
    fn disguised(&self) -> Result<Vec<u8>, Trouble> {
        let mut octets = self.octets.clone();
        let mut random = vec![0; 2 + self.question_octets];
        rand::fill(&mut random).map_err(|_| Trouble::Malformed("no random numbers"))?;
        let (id, case) = random.split_at(2);
        let name = octets.iter_mut().skip(HEADER_OCTETS).take(self.question_octets.saturating_sub(4));
        for (octet, coin) in name.zip(case) {
            // The length of a label is below 64 and so never a letter.
            if octet.is_ascii_alphabetic() {
                *octet ^= (coin & 1) << 5;
            }
        }
        for (octet, fresh) in octets.iter_mut().zip(id) {
            *octet = *fresh;
        }
        Ok(octets)
    }

    /// How a reply fits what was sent.
    fn compare(&self, sent: &[u8], reply: &[u8]) -> Fit {
        let (Some(sent_id), Some([a, b, flags, code, q1, q2, a1, a2, ..])) =
            (sent.get(..2), reply.get(..HEADER_OCTETS))
        else {
            return Fit::Stray;
        };
        let is_reply = flags & 0xf8 == 0x80; // QR set, and the operation is a query
        if sent_id != [*a, *b] || !is_reply {
            return Fit::Stray;
        }
        // A server that cannot read the question, or wants none of it, may leave it out of its refusal.
        if [*q1, *q2, *a1, *a2] == [0; 4] && code & 0x0f != 0 {
            return Fit::Exact;
        }
        let end = HEADER_OCTETS + self.question_octets;
        let questions = (sent.get(HEADER_OCTETS..end), reply.get(HEADER_OCTETS..end));
        match questions {
            (Some(ours), Some(theirs)) if [*q1, *q2] == [0, 1] && ours == theirs => Fit::Exact,
            (Some(ours), Some(theirs)) if [*q1, *q2] == [0, 1] && is_same_but_case(ours, theirs) => Fit::CaseDiffers,
            _ => Fit::Stray,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Exact,
    CaseDiffers,
    Stray,
}

/// Type and class are compared as they are: no letters in them.
fn is_same_but_case(ours: &[u8], theirs: &[u8]) -> bool {
    let halves = (ours.split_last_chunk::<4>(), theirs.split_last_chunk::<4>());
    let (Some((our_name, our_end)), Some((their_name, their_end))) = halves else {
        return false;
    };
    our_name.eq_ignore_ascii_case(their_name) && our_end == their_end
}

/// `None` when it has to be TCP.
async fn over_udp(server: SocketAddr, question: &Question) -> Result<Option<Vec<u8>>, Trouble> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A new socket each time: the system gives it a random port, and drops what others than the server send to it.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let sent = question.disguised()?;
    socket.send(&sent).await?;
    let mut reply = vec![0; UDP_OCTETS_MAX];
    for _ in 0..STRAYS_MAX {
        let octets = socket.recv(&mut reply).await?;
        let fit = question.compare(&sent, reply.get(..octets).unwrap_or_default());
        match fit {
            Fit::Exact => {
                reply.truncate(octets);
                return Ok(Some(reply));
            }
            Fit::CaseDiffers => break,
            Fit::Stray => metrics::counter!("dns_strays_total").increment(1),
        }
    }
    Ok(None)
}

async fn over_tcp(server: SocketAddr, question: &Question) -> Result<Vec<u8>, Trouble> {
    let mut stream = TcpStream::connect(server).await?;
    let sent = question.disguised()?;
    let length = u16::try_from(sent.len()).map_err(|_| Trouble::Malformed("a question that is too long"))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&sent);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    match question.compare(&sent, &reply) {
        Fit::Exact | Fit::CaseDiffers if !is_truncated(&reply) => Ok(reply),
        Fit::Exact | Fit::CaseDiffers => Err(Trouble::Malformed("a truncated reply by TCP")),
        Fit::Stray => Err(Trouble::Malformed("a reply to another question")),
    }
}

fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

fn record_count(reply: &[u8]) -> usize {
    let counts = reply.get(6..HEADER_OCTETS).unwrap_or_default();
    counts.chunks_exact(2).map(|pair| pair.iter().fold(0, |count, octet| count << 8 | usize::from(*octet))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question::new(&Name::from_ascii("mx.example.net.").unwrap(), RecordType::A, Want::Proof).unwrap()
    }

    fn reply_to(sent: &[u8]) -> Vec<u8> {
        let mut reply = sent.to_vec();
        reply[2] |= 0x80;
        reply
    }

    #[test]
    fn every_question_looks_different() {
        let question = question();
        let sent: Vec<Vec<u8>> = (0..64).map(|_| question.disguised().unwrap()).collect();
        let ids: std::collections::HashSet<&[u8]> = sent.iter().map(|octets| &octets[..2]).collect();
        let spellings: std::collections::HashSet<&[u8]> = sent.iter().map(|octets| &octets[12..28]).collect();
        assert!(ids.len() > 32 && spellings.len() > 32, "V43");
        let message = Message::from_vec(&sent[0]).unwrap();
        let edns = message.edns.as_ref().unwrap();
        assert!(message.recursion_desired && message.authentic_data && !message.checking_disabled);
        assert!(edns.flags().dnssec_ok && edns.max_payload() == 1232);
        assert_eq!(message.queries[0].name().to_lowercase().to_ascii(), "mx.example.net.");
    }

    #[test]
    fn what_wants_say() {
        let name = Name::root();
        let message = |want| Message::from_vec(&Question::new(&name, RecordType::SOA, want).unwrap().octets).unwrap();
        let plain = message(Want::Records);
        assert!(!plain.authentic_data && !plain.edns.as_ref().unwrap().flags().dnssec_ok);
        let unchecked = message(Want::Unchecked);
        assert!(unchecked.checking_disabled && unchecked.edns.as_ref().unwrap().flags().dnssec_ok);
    }

    #[test]
    fn which_replies_are_ours() {
        let question = question();
        let sent = question.disguised().unwrap();
        let good = reply_to(&sent);
        let changed = |at: usize, by: u8| {
            let mut reply = good.clone();
            reply[at] ^= by;
            question.compare(&sent, &reply)
        };
        assert_eq!(question.compare(&sent, &good), Fit::Exact);
        assert_eq!(question.compare(&sent, &sent), Fit::Stray, "a question is no reply");
        assert_eq!(changed(1, 1), Fit::Stray, "identifier");
        assert_eq!(changed(2, 0x10), Fit::Stray, "operation");
        assert_eq!(changed(5, 1), Fit::Stray, "no question");
        assert_eq!(changed(4, 1), Fit::Stray, "many questions");
        assert_eq!(changed(13, 0x20), Fit::CaseDiffers);
        assert_eq!(changed(13, 0x01), Fit::Stray, "another name");
        assert_eq!(changed(12 + 16 + 1, 0x20), Fit::Stray, "another type, which no case explains");
        for length in 0..good.len() {
            _ = question.compare(&sent, &good[..length]);
        }
        let mut refusal = good[..12].to_vec();
        refusal[3] |= 1;
        refusal[5] = 0;
        assert_eq!(question.compare(&sent, &refusal), Fit::Exact, "FORMERR without the question");
    }

    #[test]
    fn counts_are_those_of_the_header() {
        let mut reply = reply_to(&question().octets);
        assert_eq!(record_count(&reply), 1);
        reply[6..12].copy_from_slice(&[1, 0, 0, 2, 0, 3]);
        assert_eq!(record_count(&reply), 256 + 5);
        assert_eq!(record_count(&[]), 0);
    }
}
