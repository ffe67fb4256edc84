//! How a webhook's connection is made: names are resolved here, addresses that no webhook has a business
//! with are refused here, TLS is set up here.
//!
//! The filter stands behind the resolver, on the address that is then connected to: a name that
//! resolves to a cloud's metadata service is refused just as the literal address is, and nothing can
//! change between check and use.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::Uri;
use hyper::body::Bytes;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

/// Bound on an answer's head, in octets.
const HEAD_LIMIT: usize = 64 << 10;
/// How long an unused connection stays open.
const IDLE: Duration = Duration::from_secs(60);

/// Why `address` is never connected to, or `None` if it may be. Loopback and private networks may be:
/// that is where an Alertmanager lives. Refused are the unspecified address, multicast, broadcast,
/// link-local and the metadata services of the clouds, also behind an IPv6 form that embeds IPv4.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => refusal_v4(v4),
        IpAddr::V6(v6) => refusal_v6(v6),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    // Alibaba, Oracle, Azure; everyone else's is link-local.
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
    if address.octets()[0] == 0 {
        Some("unspecified")
    } else if address.is_link_local() {
        Some("link-local")
    } else if address.is_multicast() {
        Some("multicast")
    } else if address.is_broadcast() {
        Some("broadcast")
    } else if METADATA.contains(&address) {
        Some("metadata service")
    } else {
        None
    }
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if address.is_loopback() {
        return None;
    }
    if address.is_unspecified() {
        return Some("unspecified");
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let embedded = match (a, b, c, d, e, f) {
        // Mapped (RFC 4291 section 2.5.5), NAT64 (RFC 6052, RFC 8215), and 6to4 (RFC 3056).
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) | (0x64, 0xff9b, 1, _, _, _) => {
            Some(v4(g, h))
        }
        (0x2002, high, low, _, _, _) => Some(v4(high, low)),
        _ => None,
    };
    if let Some(embedded) = embedded {
        refusal_v4(embedded)
    } else if address.is_unicast_link_local() {
        Some("link-local")
    } else if address.is_multicast() {
        Some("multicast")
    } else if address == METADATA {
        Some("metadata service")
    } else {
        None
    }
}

/// Resolves, filters, connects. One a webhook's client; cloning is free.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    patience: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let patience = self.patience;
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| io::Error::other("the URL names no host"))?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let port = uri.port_u16().unwrap_or(usual);
            let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
            connect(&allowed(found)?, patience).await.map(TokioIo::new)
        })
    }
}

/// Those of `addresses` that may be connected to.
fn allowed(addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let mut refused = None;
    let allowed: Vec<_> = addresses
        .into_iter()
        .filter(|address| match refusal(address.ip()) {
            None => true,
            Some(why) => {
                refused = Some((address.ip(), why));
                false
            }
        })
        .collect();
    match refused {
        Some((address, why)) if allowed.is_empty() => {
            Err(io::Error::other(format!("the address {address} ({why}) is refused")))
        }
        _ => Ok(allowed),
    }
}

/// Tries the addresses in turn, each for its share of the time, so that one that swallows packets does
/// not hide the next.
async fn connect(addresses: &[SocketAddr], patience: Duration) -> io::Result<TcpStream> {
    let share = patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::Error::other("the host name has no address");
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"),
        }
    }
    Err(failure)
}

/// What TLS connections trust: the system's certificate store (`SSL_CERT_FILE` and `SSL_CERT_DIR` are
/// honoured), read when the first `https` webhook posts. Without one, nothing of it is in memory.
#[derive(Debug, Default)]
pub(super) struct Tls(Mutex<Option<ClientConfig>>);

impl Tls {
    /// The shared configuration. Reads files the first time: not for an async thread.
    ///
    /// # Errors
    /// When the system has no usable certificate; the next call looks again.
    fn config(&self) -> io::Result<ClientConfig> {
        let mut known = self.0.lock();
        if let Some(config) = &*known {
            return Ok(config.clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_native_roots()?
            .with_no_client_auth();
        Ok(known.insert(config).clone())
    }
}

/// An HTTP client with a pool of its own. Follows no redirect, uses no proxy.
#[derive(Debug, Clone)]
pub(super) enum Client {
    /// For `http` alone: no TLS state at all.
    Plain(legacy::Client<Connector, Full<Bytes>>),
    /// For `https`; HTTP/2 where the server offers it.
    Tls(legacy::Client<HttpsConnector<Connector>, Full<Bytes>>),
}

impl Client {
    /// A client for addresses of `uri`'s scheme. `patience` is for connecting.
    ///
    /// # Errors
    /// For `https`, when the system has no usable certificate.
    pub(super) async fn new(uri: &Uri, patience: Duration, tls: &Arc<Tls>) -> io::Result<Self> {
        let connector = Connector { patience };
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(2)
            .http1_max_buf_size(HEAD_LIMIT)
            .http2_max_header_list_size(HEAD_LIMIT as u32);
        if uri.scheme_str() != Some("https") {
            return Ok(Self::Plain(builder.build(connector)));
        }
        let tls = Arc::clone(tls);
        let config = tokio::task::spawn_blocking(move || tls.config()).await.map_err(io::Error::other)??;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(connector);
        Ok(Self::Tls(builder.build(connector)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_refuses_what_is_local_to_the_machine_and_keeps_private_networks() {
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.1.2.3",
            "255.255.255.255",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::ffff:0.0.0.0",
        ] {
            assert!(refusal(refused.parse().unwrap()).is_some(), "{refused}");
        }
        for allowed in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "8.8.8.8",
            "::1",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::808:808",
        ] {
            assert_eq!(refusal(allowed.parse().unwrap()), None, "{allowed}");
        }
    }

    #[test]
    fn a_name_with_a_good_address_keeps_only_that_one() {
        let good: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let bad: SocketAddr = "169.254.169.254:80".parse().unwrap();
        assert_eq!(allowed(vec![bad, good]).unwrap(), [good]);
        let error = allowed(vec![bad]).unwrap_err().to_string();
        assert_eq!(error, "the address 169.254.169.254 (link-local) is refused");
    }

    #[tokio::test]
    async fn literal_addresses_pass_the_filter_too() {
        let mut connector = Connector { patience: Duration::from_secs(1) };
        for url in ["http://169.254.169.254/latest", "http://[fe80::1]:80/", "http://0.0.0.0:9/"] {
            let error = connector.call(url.parse().unwrap()).await.err().unwrap().to_string();
            assert!(error.ends_with("is refused"), "{url}: {error}");
        }
    }
}
