//! How a webhook's connection is made: names are resolved here, addresses that no webhook has a business
//! with are refused here, proxies are taken here, TLS is set up here.
//!
//! The filter stands behind the resolver, on the address that is then connected to: a name that
//! resolves to a cloud's metadata service is refused just as the literal address is, and nothing can
//! change between check and use. Behind a proxy the proxy resolves: the filter then judges the proxy's
//! address, and of the webhook's own host what can be seen of it, a literal address.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use parking_lot::Mutex;
use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::flights::Hands;
use super::tls;
use crate::config::settings::WebhookSettings;

/// Bound on an answer's head, in octets.
const HEAD_LIMIT: usize = 64 << 10;
/// A connection ends whose other side has acknowledged nothing for so long. Without a bound the system waits a quarter of
/// an hour, and counts meanwhile what is written as taken.
const UNANSWERED: Duration = Duration::from_secs(30);
/// An idle connection is looked at so often, so that one to a machine that is gone ends.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Names that are looked up at once. A look-up cannot be cancelled and holds a thread, of which the store's readers need
/// some too.
static LOOK_UPS: Semaphore = Semaphore::const_new(4);
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
    /// Restricts the addresses further.
    only: Option<Arc<[IpNet]>>,
    /// The other side is a proxy that takes whole URLs.
    forwards: bool,
}

impl Connector {
    pub(super) fn new(patience: Duration, only: Option<Arc<[IpNet]>>) -> Self {
        Self { patience, only, forwards: false }
    }

    /// A TCP connection to `host`, a name or an address.
    ///
    /// # Errors
    /// No such name, an address that is refused, or nobody who answers.
    pub(super) async fn stream(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let found = look_up(host, port).await?;
        connect(&allowed(found, self.only.as_deref())?, self.patience).await
    }

    /// The first address of `host` that may be sent to.
    ///
    /// # Errors
    /// No such name, or an address that is refused.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<SocketAddr> {
        let found = look_up(host, port).await?;
        let first = allowed(found, self.only.as_deref())?.first().copied();
        first.ok_or_else(|| io::Error::other("the host name has no address"))
    }
}

/// The addresses of `host`. Waits for its turn; one that is no longer waited for keeps its turn until the system
/// answers.
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let turn = LOOK_UPS.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
    });
    found.await.map_err(io::Error::other)?
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| io::Error::other("the URL names no host"))?;
            let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let stream = this.stream(bare(host), uri.port_u16().unwrap_or(usual)).await?;
            Ok(Stream { io: TokioIo::new(stream), forwards: this.forwards })
        })
    }
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A TCP connection that knows whether a proxy is at its other end.
#[derive(Debug)]
pub(super) struct Stream {
    io: TokioIo<TcpStream>,
    forwards: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.forwards)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}

/// Those of `addresses` that may be connected to: of `only`, if it restricts them.
fn allowed(addresses: Vec<SocketAddr>, only: Option<&[IpNet]>) -> io::Result<Vec<SocketAddr>> {
    let outside = |address: IpAddr| {
        let address = address.to_canonical();
        only.filter(|only| !only.iter().any(|network| network.contains(&address)))
            .map(|_| "outside of `addresses`")
    };
    let mut refused = None;
    let allowed: Vec<_> = addresses
        .into_iter()
        .filter(|address| match refusal(address.ip()).or_else(|| outside(address.ip())) {
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
                watch_over(&stream)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"),
        }
    }
    Err(failure)
}

/// Has the system notice that the other side is gone.
fn watch_over(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNANSWERED))
}

/// What all webhooks share of the network.
#[derive(Debug)]
pub(super) struct Network {
    /// TLS with the system's certificates, read when the first `https` webhook posts.
    system: Mutex<Option<Arc<ClientConfig>>>,
    proxies: Matcher,
}

impl Default for Network {
    /// Without proxies.
    fn default() -> Self {
        Self::with_proxies(Matcher::builder().build())
    }
}

impl Network {
    /// With the proxies that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name (or their lower-case
    /// forms), read once.
    pub(super) fn from_environment() -> Self {
        Self::with_proxies(Matcher::from_env())
    }

    pub(super) fn with_proxies(proxies: Matcher) -> Self {
        Self { system: Mutex::new(None), proxies }
    }

    /// TLS as `settings` want it. Reads files: not for an async thread.
    pub(super) fn tls(&self, settings: &WebhookSettings) -> io::Result<Arc<ClientConfig>> {
        if let Some(own) = &settings.tls {
            return tls::client(Some(own)).map(Arc::new);
        }
        let mut known = self.system.lock();
        if let Some(config) = &*known {
            return Ok(Arc::clone(config));
        }
        Ok(Arc::clone(known.insert(Arc::new(tls::client(None)?))))
    }
}

/// An HTTP client with a pool of its own: HTTP/1.1, or HTTP/2 where a TLS server offers it. Follows no redirect.
#[derive(Debug, Clone)]
pub(super) struct Client {
    client: legacy::Client<Way, Full<Bytes>>,
    forward_authorization: Option<HeaderValue>,
}

impl Client {
    /// A client for `uri`, whose connections are in `hands`.
    ///
    /// # Errors
    /// For `https`, when there is no usable certificate; a proxy of a kind that is not spoken.
    pub(super) async fn new(
        uri: &Uri,
        settings: &WebhookSettings,
        network: &Arc<Network>,
        hands: Hands,
    ) -> io::Result<Self> {
        let secure = uri.scheme_str() == Some("https");
        let mut connector = Connector::new(settings.connect_timeout, settings.addresses.clone());
        let proxy = network.proxies.intercept(uri);
        if let Some(proxy) = &proxy {
            if proxy.uri().scheme_str() != Some("http") {
                return Err(io::Error::other(
                    "the proxy of the environment is not an http:// one, and no other is spoken",
                ));
            }
            // The proxy is the environment's choice, and is what is connected to; of the host behind it a literal
            // address can be judged.
            if let Some(address) = uri.host().and_then(|host| bare(host).parse::<IpAddr>().ok()) {
                allowed(vec![SocketAddr::new(address, 0)], settings.addresses.as_deref())?;
            }
            connector.only = None;
            connector.forwards = !secure;
        }
        let authorization = proxy.as_ref().and_then(Intercept::basic_auth).cloned();
        let tls = if secure {
            let (network, settings) = (Arc::clone(network), settings.clone());
            let made = tokio::task::spawn_blocking(move || network.tls(&settings)).await;
            Some(
                made.map_err(io::Error::other)?
                    .map_err(|error| io::Error::other(format!("no TLS client: {error}")))?,
            )
        } else {
            None
        };
        let forward_authorization = if secure { None } else { authorization.clone() };
        let way = Way { connector, proxy, authorization, tls, patience: settings.connect_timeout };
        let client = legacy::Client::builder(hands)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.concurrency.max(2))
            .http1_max_buf_size(HEAD_LIMIT)
            .http2_max_header_list_size(HEAD_LIMIT as u32)
            .build(way);
        Ok(Self { client, forward_authorization })
    }

    /// What a proxy that takes whole URLs wants to see in each request.
    pub(super) fn forward_authorization(&self) -> Option<HeaderValue> {
        self.forward_authorization.clone()
    }

    pub(super) async fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, legacy::Error> {
        self.client.request(request).await
    }
}

/// The way to an endpoint: directly or by a proxy, with or without TLS, within the time for connecting.
#[derive(Debug, Clone)]
struct Way {
    connector: Connector,
    proxy: Option<Intercept>,
    authorization: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
    patience: Duration,
}

impl Service<Uri> for Way {
    type Response = MaybeHttpsStream<Stream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut way = self.clone();
        Box::pin(async move {
            let patience = way.patience;
            let connected = tokio::time::timeout(patience, way.connect(uri)).await;
            connected.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long").into())
            })
        })
    }
}

impl Way {
    async fn connect(
        &mut self,
        uri: Uri,
    ) -> Result<MaybeHttpsStream<Stream>, Box<dyn std::error::Error + Send + Sync>> {
        match (&self.tls, &self.proxy) {
            (None, proxy) => {
                let to = proxy.as_ref().map_or(uri, |proxy| proxy.uri().clone());
                Ok(MaybeHttpsStream::Http(self.connector.call(to).await?))
            }
            (Some(tls), None) => {
                HttpsConnector::from((self.connector.clone(), Arc::clone(tls))).call(uri).await
            }
            (Some(tls), Some(proxy)) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.connector.clone());
                if let Some(authorization) = &self.authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                HttpsConnector::from((tunnel, Arc::clone(tls))).call(uri).await
            }
        }
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
        assert_eq!(allowed(vec![bad, good], None).unwrap(), [good]);
        let error = allowed(vec![bad], None).unwrap_err().to_string();
        assert_eq!(error, "the address 169.254.169.254 (link-local) is refused");
    }

    #[test]
    fn addresses_restrict_and_allow_nothing_more() {
        let only: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "169.254.0.0/16".parse().unwrap()];
        let of = |address: &str| allowed(vec![SocketAddr::new(address.parse().unwrap(), 80)], Some(&only));
        assert!(of("10.1.2.3").is_ok() && of("::ffff:10.1.2.3").is_ok());
        let error = of("192.168.1.1").unwrap_err().to_string();
        assert_eq!(error, "the address 192.168.1.1 (outside of `addresses`) is refused");
        assert!(of("169.254.169.254").is_err(), "what never is connected to is not to be allowed");
    }

    #[tokio::test]
    async fn a_connection_to_a_machine_that_is_gone_ends() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connector = Connector::new(Duration::from_secs(5), None);
        let stream = connector.stream("localhost", listener.local_addr().unwrap().port()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNANSWERED));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
    }

    #[tokio::test]
    async fn names_that_hang_leave_threads_to_others() {
        let turns = LOOK_UPS.acquire_many(4).await.unwrap();
        let hangs = tokio::time::timeout(Duration::from_millis(50), look_up("localhost", 1)).await;
        assert!(hangs.is_err(), "it waits for its turn");
        assert_eq!(look_up("::1", 1).await.unwrap().len(), 1, "an address needs none");
        drop(turns);
        assert!(!look_up("localhost", 1).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn literal_addresses_pass_the_filter_too() {
        let mut connector = Connector::new(Duration::from_secs(1), None);
        for url in ["http://169.254.169.254/latest", "http://[fe80::1]:80/", "http://0.0.0.0:9/"] {
            let error = connector.call(url.parse().unwrap()).await.err().unwrap().to_string();
            assert!(error.ends_with("is refused"), "{url}: {error}");
        }
    }
}
