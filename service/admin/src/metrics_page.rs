//! The metrics page: `/metrics` for Prometheus, `/ready` for whoever wants to know that the server is up.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Longest life of a connection.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// Longest header section of a request in octets.
const REQUEST_OCTETS_MAX: usize = 16 * 1024;

/// Serves one connection.
pub async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, handle: PrometheusHandle) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = respond(request.method(), request.uri().path(), &handle);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_buf_size(REQUEST_OCTETS_MAX).keep_alive(false);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIFE, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "metrics connection"),
    }
}

fn respond(method: &Method, path: &str, handle: &PrometheusHandle) -> Response<Full<Bytes>> {
    let (status, body) = match (method, path) {
        (&Method::GET, "/metrics") => (StatusCode::OK, handle.render()),
        (&Method::GET, "/ready") => (StatusCode::OK, "ready\n".to_owned()),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "there is /metrics and /ready\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}
