//! One HTTP post and what its answer means.
//!
//! Bounds: the whole request, connecting included, within the webhook's `timeout`; of the answer a head of
//! 64 KiB and a body of 64 KiB are read, of which a short excerpt is kept; redirects are not followed.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
    RETRY_AFTER, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use sha2::Sha256;
use tokio::time::{Instant, sleep_until, timeout_at};
use zeroize::Zeroizing;

use super::connect::{Client, Network};
use super::flights::Hands;
use super::retry;
use crate::config::settings::{Secret, WebhookSettings, WebhookUrl};
use crate::event::Timestamp;

/// How much of an answer's body is read, in octets.
const BODY_LIMIT: usize = 64 << 10;
/// How much of it is kept for the reason.
const EXCERPT: usize = 256;
/// How long the body of a 2xx is waited for: it decides nothing, reading it only keeps the connection.
const SUCCESS_BODY: Duration = Duration::from_secs(1);

/// What is posted.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The `webhook-id`: the same contents have the same one, in this run and the next.
    pub(super) id: String,
    pub(super) content_type: Cow<'static, str>,
    pub(super) body: Bytes,
}

/// What became of a post. Reasons are short and carry neither path, query, user information nor headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 2xx.
    Taken,
    /// 408, 425, 429, 5xx, or no answer: the same post may pass later, not before `after` if the endpoint said so.
    Again {
        reason: String,
        after: Option<Duration>,
        /// Whether there was a connection. Without one nobody has seen the post.
        reached: bool,
        /// Whether there was an answer. Without one the other connections to the endpoint may be dead too.
        answered: bool,
    },
    /// 400, 413, 422: something in the body is refused; a smaller one may pass.
    Content { reason: String },
    /// Any other answer, redirects among them: the endpoint does not take posts like this.
    Refused { reason: String },
}

impl Outcome {
    /// There was no connection.
    pub(super) fn unreached(reason: String) -> Self {
        Self::Again { reason, after: None, reached: false, answered: false }
    }
}

/// One URL of a webhook, ready to be posted to. It holds secrets, and so has no `Debug`.
pub(super) struct Endpoint {
    client: Client,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    headers_timeout: Duration,
    signing: Option<Secret>,
    /// What no reason may repeat.
    secrets: Vec<Zeroizing<String>>,
}

impl Endpoint {
    /// Prepares `url` with the headers and the timeout of `settings`. User information in the URL
    /// becomes a Basic authorization, unless the headers have one. Its connections are in `hands`.
    ///
    /// # Errors
    /// A URL or header that HTTP cannot carry, a proxy that cannot be used, or no certificates for `https`; said
    /// without the URL's secrets.
    pub(super) async fn new(
        settings: &WebhookSettings,
        url: &WebhookUrl,
        network: &Arc<Network>,
        hands: Hands,
    ) -> Result<Self, String> {
        let (bare, user_information) = without_user_information(&url.0);
        // A fragment is never sent (RFC 9110 section 4.2.5), and `Uri` drops it.
        let uri: Uri = bare.parse().map_err(|_| "the URL is not legal".to_owned())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err("the URL is neither http nor https".to_owned());
        }
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("nereus/", env!("CARGO_PKG_VERSION"))));
        let mut secrets = Vec::new();
        if let Some(user_information) = user_information {
            let encoded = Zeroizing::new(BASE64.encode(&*percent_decoded(user_information)));
            let value = Zeroizing::new(format!("Basic {}", *encoded));
            headers.insert(AUTHORIZATION, sensitive(value.as_bytes()).ok_or("the URL's user is not legal")?);
            secrets.push(value);
            secrets.push(Zeroizing::new(user_information.to_owned()));
            secrets.push(decoded_text(user_information));
        }
        for (name, value) in &settings.headers {
            let illegal = || format!("the header {name:?} is not legal");
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| illegal())?;
            if header == CONTENT_LENGTH || header == TRANSFER_ENCODING {
                return Err(format!("the header {name:?} is not for settings"));
            }
            headers.insert(header, sensitive(value.expose()).ok_or_else(illegal)?);
            secrets.push(Zeroizing::new(String::from_utf8_lossy(value.expose()).into_owned()));
        }
        secrets.extend(uri.path_and_query().map(|rest| Zeroizing::new(rest.as_str().to_owned())));
        secrets.extend(uri.path_and_query().map(|rest| decoded_text(rest.as_str())));
        secrets.extend(
            settings
                .passwords
                .iter()
                .map(|secret| Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned())),
        );
        let client =
            Client::new(&uri, settings, network, hands).await.map_err(|error| clipped(&error.to_string()))?;
        if let Some(authorization) = client.forward_authorization() {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        Ok(Self {
            client,
            uri,
            headers,
            timeout: settings.timeout,
            headers_timeout: settings.headers_timeout,
            signing: settings.signing.clone(),
            secrets: parts(secrets),
        })
    }

    /// Posts `message` once. Never longer than the timeout.
    pub(super) async fn post(&self, message: Message) -> Outcome {
        let began = Instant::now();
        let until = began + self.timeout;
        let now = Timestamp::now();
        let mut headers = self.headers.clone();
        // Checked when the settings were read.
        if let Ok(content_type) = HeaderValue::from_str(&message.content_type) {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let seconds = now.0 / 1_000_000;
        if let Some(signature) =
            self.signing.as_ref().and_then(|key| signature(key, &message.id, seconds, &message.body))
        {
            headers.insert("webhook-signature", signature);
        }
        if let Ok(id) = HeaderValue::from_str(&message.id) {
            headers.insert("webhook-id", id);
        }
        headers.insert("webhook-timestamp", HeaderValue::from(seconds));
        let mut request = Request::new(Full::new(message.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        // The time for the head begins with the connection: connecting has its own.
        let mut captured = capture_connection(&mut request);
        let mut answer = pin!(self.client.request(request));
        let answered = tokio::select! {
            biased;
            answered = &mut answer => Ok(answered),
            () = connected(&mut captured) => {
                let patience = self.headers_timeout.min(self.timeout);
                timeout_at(until.min(Instant::now() + patience), answer).await.map_err(|_| patience)
            }
            () = sleep_until(until) => {
                return Outcome::unreached(format!("no connection within {}", self::seconds(self.timeout)));
            }
        };
        match answered {
            Err(patience) => {
                let reason = format!("no answer within {}", self::seconds(patience));
                Outcome::Again { reason, after: None, reached: true, answered: false }
            }
            Ok(Err(error)) => {
                let reached = !error.is_connect();
                Outcome::Again { reason: chain(&error), after: None, reached, answered: false }
            }
            Ok(Ok(answer)) => self.judge(answer, until, now).await,
        }
    }

    /// The status alone decides; the body, whole or cut, only says why.
    async fn judge(&self, answer: Response<Incoming>, until: Instant, now: Timestamp) -> Outcome {
        let status = answer.status();
        let after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry::retry_after(value, now));
        let until = if status.is_success() { until.min(Instant::now() + SUCCESS_BODY) } else { until };
        let mut body = answer.into_body();
        let mut excerpt = Vec::new();
        let _ = timeout_at(until, read(&mut body, &mut excerpt)).await;
        outcome(status, after, self.said(&excerpt))
    }

    /// What the endpoint said, on one line, or nothing if it repeats what it was sent in secret.
    fn said(&self, excerpt: &[u8]) -> String {
        let text = String::from_utf8_lossy(excerpt);
        if self.secrets.iter().any(|secret| text.contains(secret.as_str())) {
            return "(the answer repeats a secret)".to_owned();
        }
        let line: String =
            text.chars().map(|c| if c.is_control() || c == '\u{fffd}' { ' ' } else { c }).collect();
        clipped(line.trim())
    }
}

/// Waits until a request has its connection, or will never have one.
async fn connected(captured: &mut CaptureConnection) {
    drop(captured.wait_for_connection_metadata().await);
}

/// Reads the body to its end or its bound; the rest of an endless one is dropped with its connection.
async fn read(body: &mut Incoming, excerpt: &mut Vec<u8>) {
    let mut octets = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        // A secret that is cut off at the end of the excerpt must still be found in it.
        let room = (8 * EXCERPT).saturating_sub(excerpt.len()).min(data.len());
        excerpt.extend_from_slice(&data[..room]);
        octets += data.len();
        if octets >= BODY_LIMIT {
            return;
        }
    }
}

/// What `status` means.
fn outcome(status: StatusCode, after: Option<Duration>, said: String) -> Outcome {
    if status.is_success() {
        return Outcome::Taken;
    }
    let mut reason = status.as_str().to_owned();
    if let Some(words) = status.canonical_reason() {
        let _ = write!(reason, " {words}");
    }
    if !said.is_empty() {
        let _ = write!(reason, ": {said}");
    }
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => Outcome::Again { reason, after, reached: true, answered: true },
        400 | 413 | 422 => Outcome::Content { reason },
        _ => Outcome::Refused { reason },
    }
}

/// An error with its causes, each said once. hyper's and rustls' errors name no path and no header.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    // Bounded, since an error's chain is somebody else's code.
    for _ in 0..8 {
        let Some(error) = cause else { break };
        let next = error.to_string();
        if !text.contains(&next) {
            let _ = write!(text, ": {next}");
        }
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner.source(),
            None => error.source(),
        };
    }
    clipped(&text)
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}

fn sensitive(value: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The secrets to look for: each whole and by its words (`Bearer TOKEN`, `/hooks/TOKEN?key=TOKEN`), except what is too short to tell anything.
fn parts(whole: Vec<Zeroizing<String>>) -> Vec<Zeroizing<String>> {
    let mut parts: Vec<Zeroizing<String>> = whole
        .iter()
        .flat_map(|secret| secret.split([' ', '?', '&', ':', '/', '=']))
        .filter(|part| part.len() >= 8)
        .map(|part| Zeroizing::new(part.to_owned()))
        .collect();
    parts.extend(whole.into_iter().filter(|secret| secret.len() >= 4));
    parts
}

/// The URL without its user information, and that.
fn without_user_information(url: &str) -> (String, Option<&str>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, host)) => (format!("{scheme}://{host}{}", &rest[end..]), Some(user)),
        None => (url.to_owned(), None),
    }
}

fn percent_decoded(text: &str) -> Zeroizing<Vec<u8>> {
    let octets = text.as_bytes();
    let mut decoded = Zeroizing::new(Vec::with_capacity(octets.len()));
    let hex = |at: usize| octets.get(at).and_then(|octet| char::from(*octet).to_digit(16));
    let mut at = 0;
    while let Some(octet) = octets.get(at) {
        if let (b'%', Some(high), Some(low)) = (*octet, hex(at + 1), hex(at + 2)) {
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(*octet);
            at += 1;
        }
    }
    decoded
}

/// What an endpoint may say that has read a URL.
fn decoded_text(text: &str) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(&percent_decoded(text)).into_owned())
}

/// `v1,BASE64` over `id.timestamp.body` (Standard Webhooks). A key that begins with `whsec_` is the base64 of the
/// octets that are hashed with; any other is those octets itself.
fn signature(key: &Secret, id: &str, seconds: i64, body: &[u8]) -> Option<HeaderValue> {
    let key = signing_key(key.expose());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    HeaderValue::from_str(&format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))).ok()
}

fn signing_key(key: &[u8]) -> Zeroizing<Vec<u8>> {
    let decoded = key.strip_prefix(b"whsec_").and_then(|text| BASE64.decode(text).ok());
    Zeroizing::new(decoded.unwrap_or_else(|| key.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides() {
        let kind = |status: u16| match outcome(StatusCode::from_u16(status).unwrap(), None, String::new()) {
            Outcome::Taken => "taken",
            Outcome::Again { .. } => "again",
            Outcome::Content { .. } => "content",
            Outcome::Refused { .. } => "refused",
        };
        for status in 100..=999 {
            let expected = match status {
                200..=299 => "taken",
                408 | 425 | 429 | 500..=599 => "again",
                400 | 413 | 422 => "content",
                _ => "refused",
            };
            assert_eq!(kind(status), expected, "{status}");
        }
    }

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The example of the specification.
        let key = Secret::new(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_vec());
        let signed =
            signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(signing_key(b"plain").as_slice(), b"plain");
    }

    #[test]
    fn user_information_leaves_the_url() {
        let split = without_user_information("https://ops:p%40ss@host:1/a@b?c=d");
        assert_eq!(split, ("https://host:1/a@b?c=d".to_owned(), Some("ops:p%40ss")));
        assert_eq!(percent_decoded("ops:p%40ss%").as_slice(), b"ops:p@ss%");
        assert_eq!(without_user_information("http://h/x@y").1, None);
    }

    #[test]
    fn a_secret_is_known_by_its_parts_and_decoded() {
        let whole = ["/hooks/T0K3N-of-path?key=T0K3N-of-query", "ops:p%40ssw0rd"];
        let whole: Vec<_> = whole
            .iter()
            .flat_map(|secret| [Zeroizing::new((*secret).to_owned()), decoded_text(secret)])
            .collect();
        let parts = parts(whole);
        let knows = |said: &str| parts.iter().any(|part| said.contains(part.as_str()));
        for said in
            ["no hook T0K3N-of-path", "key T0K3N-of-query is over", "user ops with p@ssw0rd", "p%40ssw0rd"]
        {
            assert!(knows(said), "{said}");
        }
        assert!(!knows("no such hook of ops, bad key"));
    }

    #[test]
    fn long_reasons_are_clipped_at_a_character() {
        assert_eq!(clipped(&"é".repeat(1000)).chars().count(), EXCERPT + 1);
    }
}
