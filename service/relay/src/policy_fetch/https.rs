//! HTTPS as the asking side: one request over one connection, to a host whose certificate a trusted authority vouches for.
//!
//! Nothing is followed, remembered or resumed. The other side is anybody who has a domain: its addresses, its octets and
//! its slowness are bounded here.

use crate::tls::flaw::failure_of;
use crate::tls::{FailureKind, Trust};
use bytes::Bytes;
use dns::{Failure, Families, Lookup, Name};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use transport_security::mta_sts::POLICY_OCTETS_MAX;
use transport_security::tls_rpt::ResultType;

/// RFC 8461 §3.3 suggests one minute for the whole of a fetch.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one address is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 6;
/// Octets of the header section of a response.
const HEADER_OCTETS_MAX: usize = 32 * 1024;
/// Port of HTTPS (RFC 9110 §4.2.2).
const HTTPS_PORT: u16 = 443;

/// Asks over HTTPS. Cheap to clone.
#[derive(Clone)]
pub struct HttpsClient {
    lookup: Arc<dyn Lookup>,
    /// `None` only if our own choice of versions and ciphers contradicted itself.
    config: Option<Arc<ClientConfig>>,
    settings: HttpsSettings,
}

/// How to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsSettings {
    /// Port of policy hosts: 443, except in tests.
    pub policy_port: u16,
    /// How long a request may take, all in all.
    pub timeout: Duration,
    /// Whether hosts at loopback and link-local addresses are asked. Anybody can give them to a name, so only in tests and
    /// on networks that are trusted with it.
    pub is_loopback_allowed: bool,
}

impl Default for HttpsSettings {
    fn default() -> HttpsSettings {
        HttpsSettings { policy_port: HTTPS_PORT, timeout: FETCH_TIMEOUT, is_loopback_allowed: false }
    }
}

/// Why there is no answer, or none that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpsError {
    /// The host's addresses cannot be looked up.
    Lookup(Failure),
    /// The host has no address, or none that may be asked.
    NoAddress,
    /// No address could be connected to; the last error.
    Connect(String),
    /// The certificate is not good for the host.
    Certificate(String),
    /// TLS or HTTP broke, in words.
    Broken(String),
    /// It took too long.
    TimedOut,
    /// The answer is another than 200, or for a report than 2xx.
    Status(u16),
    /// The answer is not `text/plain`.
    NotPlainText,
    /// The answer is larger than [`POLICY_OCTETS_MAX`].
    TooLarge,
    /// The address to report to is none that can be asked.
    Uri,
}

impl HttpsError {
    /// What reports call it, when a policy is fetched (RFC 8460 §4.3.2.2).
    pub(crate) fn result(&self) -> ResultType {
        match self {
            HttpsError::Certificate(_) => ResultType::StsWebpkiInvalid,
            HttpsError::Lookup(_)
            | HttpsError::NoAddress
            | HttpsError::Connect(_)
            | HttpsError::Broken(_)
            | HttpsError::TimedOut
            | HttpsError::Status(_)
            | HttpsError::NotPlainText
            | HttpsError::TooLarge
            | HttpsError::Uri => ResultType::StsPolicyFetchError,
        }
    }
}

impl fmt::Display for HttpsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpsError::Lookup(failure) => failure.fmt(f),
            HttpsError::NoAddress => f.write_str("the host has no address that may be asked"),
            HttpsError::Connect(cause) | HttpsError::Broken(cause) => f.write_str(cause),
            HttpsError::Certificate(cause) => f.write_str(cause),
            HttpsError::TimedOut => f.write_str("timed out"),
            HttpsError::Status(status) => write!(f, "HTTP status {status}"),
            HttpsError::NotPlainText => f.write_str("the answer is not text/plain"),
            HttpsError::TooLarge => write!(f, "the answer is larger than {POLICY_OCTETS_MAX} octets"),
            HttpsError::Uri => f.write_str("not an https address that can be reported to"),
        }
    }
}

impl std::error::Error for HttpsError {}

impl HttpsClient {
    /// A client that finds hosts by this lookup and trusts these authorities.
    pub fn new(lookup: Arc<dyn Lookup>, trust: &Trust, settings: HttpsSettings) -> HttpsClient {
        let config = ClientConfig::builder_with_provider(trust.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .ok()
            .map(|builder| {
                let mut config = builder.with_root_certificates(trust.roots.clone()).with_no_client_auth();
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                config.resumption = Resumption::disabled();
                Arc::new(config)
            });
        HttpsClient { lookup, config, settings }
    }

    /// Posts a compressed TLS report (RFC 8460 §5.4) to a destination of the domain's record. That the certificate must be
    /// good, although RFC 8460 §3 would do without, keeps reports from being sent to whatever listens inside a network.
    pub async fn post_report(&self, uri: &str, report: Vec<u8>) -> Result<(), HttpsError> {
        let (host, port, uri) = report_target(uri).ok_or(HttpsError::Uri)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, "application/tlsrpt+gzip")
            .body(Full::new(Bytes::from(report)))
            .map_err(|_| HttpsError::Uri)?;
        let read = async |response: Response<Incoming>| match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(HttpsError::Status(status.as_u16())),
        };
        self.ask(&host, port, request, read).await
    }

    /// Fetches a text of a policy host (RFC 8461 §3.3).
    pub(crate) async fn get_policy(&self, host: &Name, path: &str) -> Result<Bytes, HttpsError> {
        let request = Request::builder().uri(path).body(Full::new(Bytes::new())).map_err(|_| HttpsError::Uri)?;
        self.ask(host, self.settings.policy_port, request, read_policy).await
    }

    async fn ask<T>(
        &self,
        host: &Name,
        port: u16,
        request: Request<Full<Bytes>>,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, HttpsError>,
    ) -> Result<T, HttpsError> {
        let exchange = async {
            let stream = self.connect(host, port).await?;
            self.exchange(host, port, stream, request, read).await
        };
        timeout(self.settings.timeout, exchange).await.unwrap_or(Err(HttpsError::TimedOut))
    }

    async fn exchange<T>(
        &self,
        host: &Name,
        port: u16,
        stream: TlsStream<TcpStream>,
        mut request: Request<Full<Bytes>>,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, HttpsError>,
    ) -> Result<T, HttpsError> {
        let authority = if port == HTTPS_PORT { host.to_string() } else { format!("{host}:{port}") };
        request.headers_mut().insert(HOST, HeaderValue::try_from(authority).map_err(|_| HttpsError::Uri)?);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("pillarbox"));
        let broken = |error: hyper::Error| HttpsError::Broken(format!("HTTP broke: {error}"));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEADER_OCTETS_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            read(response).await
        });
        // The connection may end before all of the answer was looked at; what came is still there.
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = &mut connection => answer.await,
        }
    }

    async fn connect(&self, host: &Name, port: u16) -> Result<TlsStream<TcpStream>, HttpsError> {
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|_| HttpsError::Uri)?;
        let config = self.config.clone().ok_or(HttpsError::NoAddress)?;
        let stream = self.connect_tcp(host, port).await?;
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            let failure = failure_of(&error);
            match failure.kind {
                FailureKind::Certificate | FailureKind::UnreadableCertificate => HttpsError::Certificate(failure.cause),
                FailureKind::Handshake | FailureKind::Connection => HttpsError::Broken(failure.cause),
            }
        })
    }

    async fn connect_tcp(&self, host: &Name, port: u16) -> Result<TcpStream, HttpsError> {
        let found = dns::addresses(&*self.lookup, host, Families::Both).await.map_err(HttpsError::Lookup)?;
        let is_allowed = |address: &IpAddr| self.settings.is_loopback_allowed || is_of_the_world(*address);
        let mut last = HttpsError::NoAddress;
        for address in by_turns(found.records.into_iter().filter(is_allowed)).take(ADDRESSES_MAX) {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = HttpsError::Connect(format!("cannot connect to {address}: {error}")),
                Err(_) => last = HttpsError::Connect(format!("cannot connect to {address}: timed out")),
            }
        }
        Err(last)
    }
}

/// RFC 8461 §3.3: only 200 counts, redirects are not followed. RFC 8461 §3.2: the media type must be `text/plain`.
async fn read_policy(response: Response<Incoming>) -> Result<Bytes, HttpsError> {
    if response.status() != StatusCode::OK {
        return Err(HttpsError::Status(response.status().as_u16()));
    }
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("text/plain") {
        return Err(HttpsError::NotPlainText);
    }
    match Limited::new(response.into_body(), POLICY_OCTETS_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(HttpsError::TooLarge),
        Err(error) => Err(HttpsError::Broken(format!("HTTP broke: {error}"))),
    }
}

/// Host, port and the rest of an `https:` address. No addresses in numbers, no names of accounts.
fn report_target(uri: &str) -> Option<(Name, u16, Uri)> {
    let uri: Uri = uri.parse().ok()?;
    let authority = uri.authority()?;
    if uri.scheme_str() != Some("https") || authority.as_str().contains(['@', '[']) {
        return None;
    }
    let host = Name::parse(authority.host()).ok()?;
    let is_name = !host.is_root() && authority.host().parse::<IpAddr>().is_err();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let target = path.parse().ok()?;
    is_name.then_some((host, authority.port_u16().unwrap_or(HTTPS_PORT), target))
}

/// Both families by turns, so that one that does not work costs one attempt before the other is tried.
fn by_turns(addresses: impl Iterator<Item = IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv6);
    let longest = six.len().max(four.len());
    (0..longest).flat_map(move |index| [six.get(index).copied(), four.get(index).copied()]).flatten()
}

/// Not this machine, its own network link, or many hosts at once.
fn is_of_the_world(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_unspecified() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast()),
    }
}

impl fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_fetch::site::{Names, Site};
    use crate::tls::fixtures::{Authority, Identity, Kind};
    use rcgen::date_time_ymd;

    const HOST: &str = "mta-sts.example.net";
    const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\n";

    fn names() -> Arc<Names> {
        Names::new("mta-sts.example.net A 127.0.0.1\nno.example.net TXT \"x\"\nbad.example.net BOGUS\n")
    }

    fn client(site: &Site, settings: HttpsSettings) -> HttpsClient {
        let settings = HttpsSettings { policy_port: site.port, ..settings };
        HttpsClient::new(names(), &site.trust, settings)
    }

    fn open() -> HttpsSettings {
        HttpsSettings { is_loopback_allowed: true, ..HttpsSettings::default() }
    }

    async fn get(site: &Site, host: &str) -> Result<Bytes, HttpsError> {
        client(site, open()).get_policy(&Name::parse(host).unwrap(), "/.well-known/mta-sts.txt").await
    }

    #[tokio::test]
    async fn a_policy_is_fetched() {
        let site = Site::new(&[HOST]).await;
        site.answers_text(POLICY);
        assert_eq!(get(&site, HOST).await.unwrap(), POLICY);
        let requests = site.requests();
        assert!(requests[0].starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[0].contains(&format!("host: {HOST}:{}\r\n", site.port)), "{requests:?}");
        let (head, chunked) = ("HTTP/1.1 200 OK\r\nContent-Type: TEXT/plain", "\r\nTransfer-Encoding: chunked\r\n\r\n");
        site.answers(format!("{head}{chunked}{:x}\r\n{POLICY}\r\n0\r\n\r\n", POLICY.len()));
        assert_eq!(get(&site, HOST).await.unwrap(), POLICY);
        site.answers(format!("{head}\r\n\r\n{POLICY}"));
        assert_eq!(get(&site, HOST).await.unwrap(), POLICY, "to the end of the connection");
    }

    /// RFC 8461 §3.2, §3.3.
    #[tokio::test]
    async fn answers_that_do_not_count() {
        let site = Site::new(&[HOST]).await;
        let location = format!("Location: https://{HOST}:{}/x\r\n", site.port);
        for (status, code) in [("301 Moved", 301), ("302 Found", 302), ("404 Not Found", 404), ("204 No Content", 204)]
        {
            site.answers(format!(
                "HTTP/1.1 {status}\r\n{location}Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
            ));
            assert_eq!(get(&site, HOST).await, Err(HttpsError::Status(code)));
        }
        assert_eq!(site.requests().len(), 4, "no redirect was followed");
        for media_type in ["Content-Type: text/html\r\n", "Content-Type: text/plainer\r\n", ""] {
            site.answers(format!("HTTP/1.1 200 OK\r\n{media_type}Content-Length: 0\r\n\r\n"));
            assert_eq!(get(&site, HOST).await, Err(HttpsError::NotPlainText), "{media_type}");
        }
        for broken in ["SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nx"] {
            site.answers(broken);
            assert!(matches!(get(&site, HOST).await, Err(HttpsError::Broken(_))), "{broken}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(4 * HEADER_OCTETS_MAX));
        site.answers(long);
        assert!(matches!(get(&site, HOST).await, Err(HttpsError::Broken(_))));
    }

    #[tokio::test]
    async fn answers_have_a_size() {
        let site = Site::new(&[HOST]).await;
        site.answers_text(&"x".repeat(POLICY_OCTETS_MAX));
        assert_eq!(get(&site, HOST).await.map(|text| text.len()), Ok(POLICY_OCTETS_MAX));
        site.answers_text(&"x".repeat(POLICY_OCTETS_MAX + 1));
        assert_eq!(get(&site, HOST).await, Err(HttpsError::TooLarge));
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
        site.answers(format!("{head}\r\n{}", "x".repeat(2 * POLICY_OCTETS_MAX)));
        assert_eq!(get(&site, HOST).await, Err(HttpsError::TooLarge));
        site.answers(format!("{head}Content-Length: 99999999999\r\n\r\n"));
        assert!(get(&site, HOST).await.is_err());
    }

    /// RFC 8461 §3.3.
    #[tokio::test]
    async fn certificates_of_policy_hosts() {
        let authority = Authority::new("web");
        for identity in [
            authority.leaf(Kind::Ecdsa, &["example.net"], |_| {}),
            authority.leaf(Kind::Ecdsa, &[HOST], |params| {
                (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
            }),
            Authority::new("web").leaf(Kind::Ecdsa, &[HOST], |_| {}),
            Identity::self_signed(Kind::Rsa, &[HOST], |_| {}),
        ] {
            let site = Site::showing(identity, authority.trust()).await;
            site.answers_text(POLICY);
            let error = get(&site, HOST).await.unwrap_err();
            assert!(matches!(error, HttpsError::Certificate(_)), "{error:?}");
            assert_eq!(error.result(), ResultType::StsWebpkiInvalid);
            assert!(site.requests().is_empty(), "nothing was said to a stranger");
        }
        let site = Site::showing(authority.leaf(Kind::Ecdsa, &["*.example.net"], |_| {}), authority.trust()).await;
        site.answers_text(POLICY);
        assert!(get(&site, HOST).await.is_ok());
    }

    #[tokio::test]
    async fn hosts_that_cannot_be_asked() {
        let site = Site::new(&[HOST]).await;
        assert_eq!(get(&site, "no.example.net").await, Err(HttpsError::NoAddress));
        assert!(matches!(get(&site, "bad.example.net").await, Err(HttpsError::Lookup(Failure::Bogus(_)))));
        let careful = client(&site, HttpsSettings::default());
        let host = Name::parse(HOST).unwrap();
        assert_eq!(careful.get_policy(&host, "/").await, Err(HttpsError::NoAddress), "a loopback address");
        for address in ["127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "::1", "::", "fe80::1", "::ffff:127.0.0.1"]
        {
            assert!(!is_of_the_world(address.parse().unwrap()), "{address}");
        }
        for address in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"] {
            assert!(is_of_the_world(address.parse().unwrap()), "{address}");
        }
    }

    /// The clock goes on by itself when all wait.
    #[tokio::test(start_paused = true)]
    async fn a_host_that_says_nothing_is_left() {
        let site = Site::new(&[HOST]).await;
        assert_eq!(get(&site, HOST).await, Err(HttpsError::TimedOut));
    }

    /// RFC 8460 §5.4.
    #[tokio::test]
    async fn reports_are_posted() {
        let site = Site::new(&[HOST]).await;
        let client = client(&site, open());
        let uri = format!("https://{HOST}:{}/v1/tlsrpt?a=b", site.port);
        site.answers("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
        let posting = client.clone();
        let target = uri.clone();
        tokio::spawn(async move { posting.post_report(&target, b"octets".to_vec()).await }).await.unwrap().unwrap();
        let request = site.requests().remove(0);
        assert!(request.starts_with("POST /v1/tlsrpt?a=b HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("content-type: application/tlsrpt+gzip\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\noctets"), "{request}");
        for (status, code) in [("500 No", 500), ("301 Moved", 301)] {
            site.answers(format!("HTTP/1.1 {status}\r\nLocation: {uri}\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(client.post_report(&uri, Vec::new()).await, Err(HttpsError::Status(code)));
        }
        for uri in
            ["http://a.example/", "https://a@b.example/", "https://127.0.0.1/", "https://[::1]/", "https:///", "x"]
        {
            assert_eq!(client.post_report(uri, Vec::new()).await, Err(HttpsError::Uri), "{uri}");
        }
    }

    #[test]
    fn families_take_turns() {
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"].map(|text| text.parse().unwrap());
        let order: Vec<String> = by_turns(addresses.into_iter()).map(|address| address.to_string()).collect();
        assert_eq!(order, ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]);
    }
}
