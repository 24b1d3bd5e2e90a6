//! The server's side of TLS for simulated hosts, and what is remembered of a handshake.

use super::certificate::Certificate;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

/// What is remembered of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// The cipher suite, as rustls writes it.
    pub cipher: String,
    /// The name that the client asked for.
    pub sni: Option<String>,
}

/// A connection, in clear or inside TLS.
pub(crate) enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// The connection below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Stream::Clear(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// Says that no more will be sent, inside TLS too.
    pub(crate) fn finish(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.conn.send_close_notify();
            // The peer may be gone.
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Read for Stream {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(stream) => stream.read(octets),
            Stream::Tls(stream) => stream.read(octets),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(stream) => stream.write(octets),
            Stream::Tls(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Clear(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

/// Certificates of a host: the first for whoever asks for no name of the others.
#[derive(Debug)]
struct ByName {
    first: Arc<CertifiedKey>,
    named: Vec<(String, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let named = self.named.iter().find(|(name, _)| Some(name) == asked.as_ref());
        Some(Arc::clone(named.map_or(&self.first, |(_, certificate)| certificate)))
    }
}

/// The settings of a server with these certificates: one for everybody, others for names that clients ask for.
pub(crate) fn config(
    first: &Certificate,
    named: &[(String, Certificate)],
    only_tls12: bool,
) -> anyhow::Result<Arc<ServerConfig>> {
    let named = named.iter().map(|(name, certificate)| Ok((name.to_ascii_lowercase(), certificate.certified()?)));
    let resolver = ByName { first: first.certified()?, named: named.collect::<anyhow::Result<_>>()? };
    let versions: &[_] = if only_tls12 { &[&TLS12] } else { &[&TLS13, &TLS12] };
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(versions)?;
    Ok(Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(resolver))))
}

/// Does the handshake on a connection.
pub(crate) fn accept(mut stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<(Stream, Handshake)> {
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let handshake = Handshake {
        version: connection.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
        cipher: connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
        sni: connection.server_name().map(str::to_owned),
    };
    Ok((Stream::Tls(Box::new(StreamOwned::new(connection, stream))), handshake))
}
