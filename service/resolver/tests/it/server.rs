//! A DNS server that does what a script says, by UDP and TCP on one port of loopback.

use dns::{Found, Name, RecordType};
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::{self, CNAME, MX, SOA};
use hickory_proto::rr::{self, RData};
use resolver::{Resolver, Settings};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

/// A question as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Counts questions, from 0.
    pub number: usize,
    pub over_tcp: bool,
    pub message: Message,
}

impl Asked {
    /// The name asked for, in lower case with the final dot.
    pub fn name(&self) -> String {
        self.message.queries[0].name().to_lowercase().to_ascii()
    }

    pub fn kind(&self) -> rr::RecordType {
        self.message.queries[0].query_type()
    }

    pub fn wants_proof(&self) -> bool {
        self.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// A reply without records to this question.
    pub fn reply(&self) -> Message {
        let mut reply = Message::response(self.message.id, self.message.op_code);
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        for query in &self.message.queries {
            reply.add_query(Query::query(query.name().clone(), query.query_type()));
        }
        let mut edns = Edns::new();
        edns.set_dnssec_ok(self.wants_proof());
        reply.set_edns(edns);
        reply
    }

    /// A reply with one address for the name asked for.
    pub fn address(&self, last: u8) -> Message {
        let mut reply = self.reply();
        reply.add_answer(rr::Record::from_rdata(self.message.queries[0].name().clone(), 300, address(last)));
        reply
    }

    pub fn refuse(&self, code: ResponseCode) -> Message {
        let mut reply = self.reply();
        reply.metadata.response_code = code;
        reply
    }
}

/// What the server sends back.
pub enum Act {
    Nothing,
    Reply(Message),
    /// One datagram each; by TCP the first only.
    Octets(Vec<Vec<u8>>),
    /// From another port, then nothing.
    FromAside(Vec<u8>),
}

impl From<Message> for Act {
    fn from(message: Message) -> Act {
        Act::Reply(message)
    }
}

pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

type Script = Arc<dyn Fn(&Asked) -> Act + Send + Sync>;

impl Server {
    pub async fn start<A: Into<Act>>(script: impl Fn(&Asked) -> A + Send + Sync + 'static) -> Server {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // The same port may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Script = Arc::new(move |asked| script(asked).into());
        let tasks = vec![
            tokio::spawn(serve_udp(udp, script.clone(), asked.clone())),
            tokio::spawn(serve_tcp(tcp, script, asked.clone())),
        ];
        Server { address, asked, tasks }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked.
    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub fn resolver(&self) -> Resolver {
        self.resolver_with(settings())
    }

    pub fn resolver_with(&self, settings: Settings) -> Resolver {
        Resolver::new(Settings { servers: vec![self.address], ..settings }).unwrap()
    }
}

fn take(octets: &[u8], over_tcp: bool, script: &Script, log: &Mutex<Vec<Asked>>) -> Act {
    let asked = {
        let mut log = log.lock().unwrap();
        let message = Message::from_vec(octets).unwrap();
        let asked = Asked { number: log.len(), over_tcp, message };
        log.push(asked.clone());
        asked
    };
    script(&asked)
}

async fn serve_udp(socket: UdpSocket, script: Script, log: Arc<Mutex<Vec<Asked>>>) {
    let mut buffer = vec![0; 4096];
    while let Ok((octets, peer)) = socket.recv_from(&mut buffer).await {
        let datagrams = match take(&buffer[..octets], false, &script, &log) {
            Act::Nothing => Vec::new(),
            Act::Reply(message) => vec![message.to_vec().unwrap()],
            Act::Octets(datagrams) => datagrams,
            Act::FromAside(octets) => {
                let aside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                _ = aside.send_to(&octets, peer).await;
                continue;
            }
        };
        for datagram in datagrams {
            _ = socket.send_to(&datagram, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, script: Script, log: Arc<Mutex<Vec<Asked>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Ok(length) = stream.read_u16().await else { continue };
        let mut octets = vec![0; length.into()];
        if stream.read_exact(&mut octets).await.is_err() {
            continue;
        }
        let reply = match take(&octets, true, &script, &log) {
            Act::Reply(message) => message.to_vec().unwrap(),
            Act::Octets(octets) => octets.into_iter().next().unwrap_or_default(),
            Act::Nothing | Act::FromAside(_) => continue,
        };
        let mut framed = u16::try_from(reply.len()).unwrap().to_be_bytes().to_vec();
        framed.extend(reply);
        _ = stream.write_all(&framed).await;
    }
}

/// Long waits, for servers that answer however busy the machine is.
pub fn settings() -> Settings {
    Settings { try_timeout: Duration::from_secs(5), timeout: Duration::from_secs(30), ..Settings::default() }
}

/// Short waits, for servers that are silent.
pub fn impatient() -> Settings {
    Settings { try_timeout: Duration::from_millis(150), ..settings() }
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn wire(text: &str) -> rr::Name {
    rr::Name::from_ascii(text).unwrap()
}

pub fn address(last: u8) -> RData {
    RData::A(rdata::A::new(192, 0, 2, last))
}

pub fn alias(from: &str, to: &str, ttl: u32) -> rr::Record {
    rr::Record::from_rdata(wire(from), ttl, RData::CNAME(CNAME(wire(to))))
}

pub fn exchanger(owner: &str, preference: u16, host: &str) -> rr::Record {
    rr::Record::from_rdata(wire(owner), 300, RData::MX(MX::new(preference, wire(host))))
}

pub fn soa(owner: &str, ttl: u32, minimum: u32) -> rr::Record {
    let data = SOA::new(wire("ns.example."), wire("admin.example."), 1, 2, 3, 4, minimum);
    rr::Record::from_rdata(wire(owner), ttl, RData::SOA(data))
}

pub fn addresses(found: &Found) -> Vec<String> {
    let of = |record: &dns::Record| match record {
        dns::Record::A(address) => address.to_string(),
        other => panic!("no address: {other:?}"),
    };
    found.records.iter().map(of).collect()
}

/// The cause of a failure that is not bogus.
pub fn failure(outcome: Result<Found, dns::Failure>) -> String {
    match outcome {
        Err(dns::Failure::Failed(cause)) => cause.to_string(),
        other => panic!("not a plain failure: {other:?}"),
    }
}

pub const A: RecordType = RecordType::A;
