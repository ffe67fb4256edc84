//! The client of a running Nereus' admin API: one request, one bounded answer, errors that name the address.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::failure::Failure;
use super::output::printable;

/// Where a Nereus with the embedded default answers.
const DEFAULT_ADMIN: &str = "http://127.0.0.1:9090";
/// The variable that holds the bearer token, where no file does.
const TOKEN_VARIABLE: &str = "NEREUS_ADMIN_TOKEN";
/// For a whole request, answer included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the outcome of a reload may take: attempts times `reload_timeout`, generously.
const LONGEST_OUTCOME: Duration = Duration::from_secs(600);
/// The largest answer, in octets: some hundred thousand events.
const LARGEST_ANSWER: usize = 128 << 20;
/// The largest line of a stream, in octets: an event's varbinds as text.
const LARGEST_LINE: usize = 16 << 20;
/// A stream that has said nothing for so long has no Nereus behind it, which gives a sign of life every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// The largest token file, in octets.
const LARGEST_TOKEN: u64 = 8 << 10;

/// How to reach a running Nereus.
#[derive(Args)]
pub(super) struct AdminArgs {
    /// The admin address of the running Nereus [default: http://127.0.0.1:9090]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The configuration file of the running Nereus, for its admin address and token
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file that holds the bearer token; else the variable NEREUS_ADMIN_TOKEN does
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Where a Nereus answers, and what it asks for. No Debug: the token is a secret.
pub(super) struct Client {
    /// Scheme, authority and path, without a slash at the end.
    base: String,
    authorization: Option<HeaderValue>,
}

impl AdminArgs {
    /// # Errors
    /// [`Failure::Usage`] for an address that is none, [`Failure::Unable`] for a token that cannot be read.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let settings = self.config.as_deref().map(super::run::admin).transpose()?;
        let settings = settings.as_deref();
        let base = match (&self.admin, settings) {
            (Some(admin), _) => base(admin)?,
            (None, Some(settings)) => format!("http://{}", reachable(settings.address)),
            (None, None) => DEFAULT_ADMIN.to_owned(),
        };
        let authorization = match (&self.token_file, std::env::var(TOKEN_VARIABLE)) {
            (Some(path), _) => Some(bearer(&read_token(path)?)?),
            (None, Ok(token)) if !token.is_empty() => Some(bearer(&token)?),
            _ => {
                let token = settings.and_then(|admin| admin.token.as_ref().or(admin.read_token.as_ref()));
                let text = token.map(|token| std::str::from_utf8(token.expose()));
                let text =
                    text.transpose().map_err(|_| Failure::Unable("the token is no text".to_owned()))?;
                text.map(bearer).transpose()?
            }
        };
        Ok(Client { base, authorization })
    }
}

/// Where a Nereus that listens on `address` is reached from the same machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Scheme, authority and path of an address, without a slash at the end.
fn base(text: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("--admin {}: {why}", printable(text)));
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = with_scheme.parse().map_err(|_| wrong("write it as http://127.0.0.1:9090"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("only http and https are spoken"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(Failure::Usage("--admin takes no user or password; see --token-file".to_owned()));
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query; name the address alone"));
    }
    let scheme = uri.scheme_str().unwrap_or("http");
    Ok(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')))
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let unable = |why: String| Failure::Unable(format!("the token file {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| unable(error.to_string()))?;
    let mut token = String::new();
    let read =
        file.take(LARGEST_TOKEN + 1).read_to_string(&mut token).map_err(|error| unable(error.to_string()))?;
    if read as u64 > LARGEST_TOKEN {
        return Err(unable("it is no token: it is larger than 8 KiB".to_owned()));
    }
    let token = token.trim();
    if token.is_empty() {
        return Err(unable("it is empty".to_owned()));
    }
    Ok(token.to_owned())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Unable(format!("no runtime: {error}")))
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value
        .map_err(|_| Failure::Unable("the token holds characters that a header cannot carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Client {
    /// Asks for `path`, as `/api/v1/events`, with `query`.
    ///
    /// # Errors
    /// [`Failure::Usage`] where Nereus refused the filters, else [`Failure::Unable`] with the remedy.
    pub(super) fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let (status, body) = self.answer(Method::GET, path, query, TIMEOUT)?;
        self.judge(path, status, &body)
    }

    /// Asks for an answer of lines that comes for as long as there is something to tell, and gives each JSON line to
    /// `each`, until that says false. Nereus gives signs of life: silence means that it is gone.
    ///
    /// # Errors
    /// As [`get`](Self::get), those of `each`, and [`Failure::Unable`] where the answer ends by itself.
    pub(super) fn follow(
        &self,
        path: &str,
        query: &[(&str, String)],
        mut each: impl FnMut(Value) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let runtime = runtime()?;
        runtime.block_on(async {
            let asked = self.ask(Method::GET, path, query);
            let answer =
                tokio::time::timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err(self.late(TIMEOUT)))?;
            let status = answer.status();
            let mut body = answer.into_body();
            if !status.is_success() {
                let body = self.whole(body).await?;
                return self.judge(path, status, &body).map(drop);
            }
            let mut rest: Vec<u8> = Vec::new();
            loop {
                let frame = tokio::time::timeout(SILENCE, body.frame()).await;
                let frame = frame.map_err(|_| self.unable("it has fallen silent"))?;
                let Some(frame) = frame else { return Err(self.unable("it has ended the stream")) };
                let frame = frame.map_err(|error| self.unable(&format!("the answer broke off: {error}")))?;
                let Ok(data) = frame.into_data() else { continue };
                rest.extend_from_slice(&data);
                let Some(end) = rest.iter().rposition(|octet| *octet == b'\n') else {
                    if rest.len() > LARGEST_LINE {
                        return Err(self.unable("a line has no end; is this a Nereus?"));
                    }
                    continue;
                };
                for line in rest[..end].split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
                    let value = serde_json::from_slice(line).map_err(|error| {
                        self.unable(&format!("a line is no JSON ({error}); is this a Nereus?"))
                    })?;
                    if !each(value)? {
                        return Ok(());
                    }
                }
                rest.drain(..=end);
            }
        })
    }

    /// Asks `path` to do something, and waits for its outcome as long as it takes (within reason). True: done.
    /// False: refused, with the reason in the answer (422; 404 and 409 about an alert).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) fn post(&self, path: &str, query: &[(&str, String)]) -> Result<(bool, Value), Failure> {
        let (status, body) = self.answer(Method::POST, path, query, LONGEST_OUTCOME)?;
        if status == StatusCode::UNPROCESSABLE_ENTITY
            && let Ok(event) = serde_json::from_slice(&body)
        {
            return Ok((false, event));
        }
        // About the alert that was named, not about the path.
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::CONFLICT)
            && let Ok(Value::Object(refusal)) = serde_json::from_slice(&body)
            && refusal.contains_key("id")
        {
            return Ok((false, Value::Object(refusal)));
        }
        self.judge(path, status, &body).map(|event| (true, event))
    }

    /// Asks for one thing that may not be there: `Err` within is the refusal that names it (404).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) fn find(&self, path: &str) -> Result<Result<Value, Value>, Failure> {
        let (status, body) = self.answer(Method::GET, path, &[], TIMEOUT)?;
        if status == StatusCode::NOT_FOUND
            && let Ok(Value::Object(refusal)) = serde_json::from_slice(&body)
            && refusal.contains_key("id")
        {
            return Ok(Err(Value::Object(refusal)));
        }
        self.judge(path, status, &body).map(Ok)
    }

    fn answer(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), Failure> {
        runtime()?.block_on(async {
            let whole = async {
                let answer = self.ask(method, path, query).await?;
                let status = answer.status();
                Ok((status, self.whole(answer.into_body()).await?))
            };
            tokio::time::timeout(timeout, whole).await.unwrap_or_else(|_| Err(self.late(timeout)))
        })
    }

    fn late(&self, timeout: Duration) -> Failure {
        let wait = timeout.as_secs();
        self.unable(&format!("no answer within {wait} s; is this the admin address of a Nereus?"))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Response<Incoming>, Failure> {
        let mut uri = format!("{}{path}", self.base);
        for (at, (name, value)) in query.iter().enumerate() {
            uri.push(if at == 0 { '?' } else { '&' });
            uri.push_str(name);
            uri.push('=');
            percent_encode(value, &mut uri);
        }
        let mut request = Request::builder().method(method).uri(uri).header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| self.unable(&error.to_string()))?;
        let builder = HttpsConnectorBuilder::new();
        let builder = if self.base.starts_with("https:") {
            let roots = builder.with_provider_and_native_roots(rustls::crypto::ring::default_provider());
            roots
                .map_err(|error| self.unable(&format!("the system's certificates cannot be read: {error}")))?
        } else {
            // Without TLS no certificate is looked at: reading the system's takes longer than the request.
            let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| self.unable(&error.to_string()))?;
            builder.with_tls_config(
                config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(),
            )
        };
        let connector = builder.https_or_http().enable_http1().build();
        let client = HttpClient::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
        client.request(request).await.map_err(|error| {
            let remedy = if error.is_connect() {
                "; is Nereus running there? `nereus run` starts it, --admin names another address"
            } else {
                "; is this the admin address of a Nereus?"
            };
            self.unable(&format!("{}{remedy}", causes(&error)))
        })
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, Failure> {
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                let largest = LARGEST_ANSWER >> 20;
                self.unable(&format!(
                    "the answer is larger than {largest} MiB; ask for less with --limit or --since"
                ))
            } else {
                self.unable(&format!("the answer broke off: {error}"))
            }
        })?;
        Ok(body.to_bytes())
    }

    fn judge(&self, path: &str, status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|error| {
                self.unable(&format!("the answer to {path} is no JSON ({error}); is this a Nereus?"))
            });
        }
        let said = said(body);
        Err(match status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                Failure::Usage(format!("Nereus at {} refused the question: {said}", self.base))
            }
            StatusCode::UNAUTHORIZED => self.unable(&format!(
                "it wants a token ({said}); put it into a file for --token-file, or into {TOKEN_VARIABLE}"
            )),
            StatusCode::FORBIDDEN => {
                self.unable(&format!("it refused ({said}); see admin.hosts and admin.token"))
            }
            // About what was asked for, not about the path.
            StatusCode::NOT_FOUND
                if serde_json::from_slice::<Value>(body).is_ok_and(|body| body.get("id").is_some()) =>
            {
                Failure::Unable(said)
            }
            StatusCode::NOT_FOUND => {
                self.unable(&format!("it does not know {path}; is this a Nereus, and of this version?"))
            }
            status => self.unable(&format!("{status}: {said}")),
        })
    }

    fn unable(&self, why: &str) -> Failure {
        Failure::Unable(format!("cannot ask Nereus at {}: {}", self.base, printable(why)))
    }
}

/// What an error's body says: its `error` field, else its beginning.
fn said(body: &[u8]) -> String {
    /// More of a proxy's page helps nobody.
    const ENOUGH: usize = 200;
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => fields.get("error").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let text: String = text.trim().chars().take(ENOUGH).collect();
    if text.is_empty() { "it did not say why".to_owned() } else { printable(&text).into_owned() }
}

/// An error with what caused it, outermost first; what repeats is said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text += ": ";
            text += &next;
        }
        cause = error.source();
    }
    text
}

/// RFC 3986 section 2.1, for a query's value.
fn percent_encode(text: &str, out: &mut String) {
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090"),
            ("http://127.0.0.1:9090/", "http://127.0.0.1:9090"),
            ("nms:9090", "http://nms:9090"),
            ("[::1]:9090", "http://[::1]:9090"),
            ("https://nms/nereus/", "https://nms/nereus"),
        ] {
            assert_eq!(base(text), Ok(expected.to_owned()));
        }
        for text in ["ftp://nms", "http://", "http://u:p@nms", "http://nms/?a=b", "http://a b"] {
            assert!(matches!(base(text), Err(Failure::Usage(_))), "{text}");
        }
    }

    #[test]
    fn every_address_is_reached_by_loopback() {
        for (listens, reached) in
            [("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:1", "[::1]:1"), ("192.0.2.1:9090", "192.0.2.1:9090")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), reached.parse().unwrap());
        }
    }

    #[test]
    fn a_secret_in_the_address_is_not_repeated() {
        let Err(Failure::Usage(text)) = base("http://user:hunter2@nms") else {
            panic!("a password was taken");
        };
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn queries_are_encoded() {
        let mut out = String::new();
        percent_encode("IF-MIB::link Down&ü=+", &mut out);
        assert_eq!(out, "IF-MIB%3A%3Alink%20Down%26%C3%BC%3D%2B");
    }

    #[test]
    fn what_a_refusal_says_is_bounded() {
        assert_eq!(said(br#"{"error":"no such severity\u001b[1m"}"#), "no such severity\\u{1b}[1m");
        assert_eq!(said(b""), "it did not say why");
        assert!(said(&vec![b'x'; 100_000]).len() <= 200);
    }
}
