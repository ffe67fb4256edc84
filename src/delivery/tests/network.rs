//! TLS, HTTP/2, signatures, proxies.

use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::super::connect::Network;
use super::super::flights::Hands;
use super::super::webhook::{Endpoint as Target, Message, Outcome};
use super::*;
use crate::config::settings::{TlsIdentity, TlsSettings, TlsVersion};

/// An authority of the test's own.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Arc<[u8]> {
        self.0.pem().into_bytes().into()
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate, key)
    }

    fn identity(&self, name: &str) -> TlsIdentity {
        let (certificate, key) = self.issue(name);
        TlsIdentity {
            certificate: certificate.pem().into_bytes().into(),
            key: Secret::new(key.serialize_pem().into_bytes()),
        }
    }

    pub(super) fn trusted(&self) -> TlsSettings {
        TlsSettings { ca: Some(self.pem()), identity: None, minimum_version: TlsVersion::V12 }
    }
}

/// TLS for `127.0.0.1`; with `clients`, for those alone that show a certificate of theirs.
pub(super) fn acceptor(
    authority: &Authority,
    clients: Option<&Authority>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsAcceptor {
    let (certificate, key) = authority.issue("127.0.0.1");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.0.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A TLS server that says by which version of HTTP it was asked.
async fn serve(
    authority: &Authority,
    clients: Option<&Authority>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> String {
    let acceptor = acceptor(authority, clients, versions);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let version = |request: Request| async move {
                    (StatusCode::FORBIDDEN, format!("{:?}", request.version()))
                };
                let service = TowerToHyperService::new(Router::new().fallback(version));
                let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    url
}

pub(super) const BOTH: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

async fn post_by(url: &str, network: Network, change: impl FnOnce(&mut WebhookSettings)) -> Outcome {
    let mut settings = webhook("hook", WebhookFormat::Json, &[url.to_owned()]);
    change(&mut settings);
    let message = Message { id: "msg_1".into(), content_type: "application/json".into(), body: "[]".into() };
    match Target::new(&settings, &settings.urls[0], &Arc::new(network), Hands::Tasks).await {
        Ok(target) => target.post(message).await,
        Err(reason) => Outcome::unreached(reason),
    }
}

async fn tls_post(url: &str, tls: TlsSettings) -> Outcome {
    post_by(url, Network::default(), |settings| settings.tls = Some(Arc::new(tls))).await
}

fn refused(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Again { reason, reached: false, .. } => reason.clone(),
        other => panic!("there is to be no connection: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_of_ones_own_is_trusted_and_http_2_is_spoken() {
    let authority = Authority::new();
    let url = serve(&authority, None, &BOTH).await;
    let outcome = tls_post(&url, authority.trusted()).await;
    assert_eq!(outcome, Outcome::Refused { reason: "403 Forbidden: HTTP/2.0".into() });
    let stranger = tls_post(&url, Authority::new().trusted()).await;
    assert!(refused(&stranger).contains("certificate"), "{stranger:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let url = serve(&servers, Some(&clients), &BOTH).await;
    let with = |identity| TlsSettings { identity, ..servers.trusted() };
    let outcome = tls_post(&url, with(Some(clients.identity("nereus")))).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    for wrong in [None, Some(Authority::new().identity("nereus"))] {
        let outcome = tls_post(&url, with(wrong)).await;
        assert!(matches!(outcome, Outcome::Again { .. }), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minimum_version_is_kept() {
    let authority = Authority::new();
    let old = serve(&authority, None, &BOTH[..1]).await;
    assert!(matches!(tls_post(&old, authority.trusted()).await, Outcome::Refused { .. }));
    let newest = TlsSettings { minimum_version: TlsVersion::V13, ..authority.trusted() };
    refused(&tls_post(&old, newest).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_are_signed_over_what_is_sent() {
    use base64::Engine as _;
    use hmac::{KeyInit as _, Mac as _};
    let (bench, sink) = (Bench::new(), Sink::new().await);
    let mut hook = json_hook(&sink);
    hook.signing = Some(Secret::new(b"planted-key".to_vec()));
    bench.enqueue([record(1, 1)]);
    bench.apply(&[hook]);
    until("it is there", || bench.queued() == 0).await;
    let post = sink.posts().remove(0);
    let header = |name: &str| post.headers[name].to_str().unwrap();
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"planted-key").unwrap();
    mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    // The sink keeps the body as JSON; our members are in serde_json's order.
    mac.update(&serde_json::to_vec(&post.body).unwrap());
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(header("webhook-signature"), format!("v1,{expected}"));
}

/// A proxy that takes one connection: its URL and the head that it was sent.
async fn proxy(answer: &'static str, to: Option<SocketAddr>) -> (String, tokio::task::JoinHandle<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:planted@{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        if let Some(to) = to {
            let mut beyond = tokio::net::TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut beyond).await });
        }
        String::from_utf8(head).unwrap()
    });
    (url, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_goes_through_a_proxy_as_a_whole_url() {
    let (url, head) = proxy("HTTP/1.1 204 No Content\r\n\r\n", None).await;
    let proxies = || Matcher::builder().http(url.clone()).no("10.0.0.0/8").build();
    let target = "http://webhook.example.invalid/path?query";
    let outcome = post_by(target, Network::with_proxies(proxies()), |_| ()).await;
    assert_eq!(outcome, Outcome::Taken);
    let head = head.await.unwrap().to_lowercase();
    assert!(head.starts_with(&format!("post {target} http/1.1\r\n")), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpwbgfudgvk"), "{head}");
    // What never is connected to is not reached through a proxy either, and NO_PROXY goes around it.
    let refusal = post_by("http://169.254.169.254/latest", Network::with_proxies(proxies()), |_| ()).await;
    assert!(refused(&refusal).contains("link-local"));
    let around = post_by("http://10.0.0.1/", Network::with_proxies(proxies()), |settings| {
        settings.addresses = Some(Arc::new(["127.0.0.0/8".parse().unwrap()]));
    });
    assert!(refused(&around.await).contains("outside of `addresses`"), "it was resolved here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_goes_through_a_tunnel() {
    let authority = Authority::new();
    let url = serve(&authority, None, &BOTH).await;
    let address: SocketAddr = url["https://".len()..].trim_end_matches("/hook").parse().unwrap();
    let (proxy, head) = proxy("HTTP/1.1 200 OK\r\n\r\n", Some(address)).await;
    let network = Network::with_proxies(Matcher::builder().https(proxy).build());
    let tls = authority.trusted();
    let outcome = post_by(&url, network, |settings| settings.tls = Some(Arc::new(tls))).await;
    assert_eq!(outcome, Outcome::Refused { reason: "403 Forbidden: HTTP/2.0".into() });
    let head = head.await.unwrap();
    assert!(head.starts_with(&format!("CONNECT {address} HTTP/1.1\r\n")), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization"), "{head}");
    assert!(!head.contains("webhook-"), "the proxy sees nothing of the post");
}
