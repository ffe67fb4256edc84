//! Where alerts go.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Secret;
use crate::template::BodyTemplate;

/// One webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Unique among the webhooks; it outlives generations.
    pub name: Arc<str>,
    /// Where to post: each gets every post. `http` or `https`, checked.
    pub urls: Vec<WebhookUrl>,
    /// What is posted.
    pub format: WebhookFormat,
    /// What takes the place of HTTP; `None` for a webhook.
    pub output: Option<Output>,
    /// For one whole request, connecting and the answer's end included.
    pub timeout: Duration,
    /// For connecting, TLS included.
    pub connect_timeout: Duration,
    /// From the connection to the answer's head.
    pub headers_timeout: Duration,
    /// What follows a failure.
    pub retry: RetrySettings,
    /// When an endpoint is left alone.
    pub breaker: BreakerSettings,
    /// The most posts in a time; `None` is as many as there are.
    pub rate_limit: Option<RateLimit>,
    /// How alerts are put together.
    pub batch: BatchSettings,
    /// Posts in flight at once, to one URL; never two with changes of the same alert.
    pub concurrency: usize,
    /// Headers added to each post; values may be secrets.
    pub headers: Vec<(Arc<str>, Secret)>,
    /// Secrets that stand in no header as they are, as a Basic password; answers that repeat them are not shown.
    pub passwords: Vec<Secret>,
    /// The key that posts are signed with (Standard Webhooks).
    pub signing: Option<Secret>,
    /// What TLS connections trust and show; `None` is the system's certificates and none of our own.
    pub tls: Option<Arc<TlsSettings>>,
    /// Networks that may be connected to; `None` is every one but those that never are.
    pub addresses: Option<Arc<[IpNet]>>,
    /// What becomes of the queue once the settings no longer have this webhook.
    pub when_removed: WhenRemoved,
}

/// How what is to be delivered is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// As the state that each alert has; progress is a change number.
    State,
    /// As changes of alerts, each a row of the outbox.
    Queued,
    /// As events of the journal, which is the queue; progress is an event's number.
    Journal,
}

impl WebhookSettings {
    /// How what it gets is found.
    #[must_use]
    pub fn delivery(&self) -> DeliveryKind {
        match &self.output {
            Some(Output::Forward(_)) => DeliveryKind::Journal,
            _ if self.format.is_state() => DeliveryKind::State,
            _ => DeliveryKind::Queued,
        }
    }
}

impl Default for WebhookSettings {
    /// What a webhook has that says nothing; it has neither name nor URL.
    fn default() -> Self {
        Self {
            name: "".into(),
            urls: Vec::new(),
            format: WebhookFormat::Json,
            output: None,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            headers_timeout: Duration::from_secs(10),
            retry: RetrySettings::default(),
            breaker: BreakerSettings::default(),
            rate_limit: None,
            batch: BatchSettings::default(),
            concurrency: 1,
            headers: Vec::new(),
            passwords: Vec::new(),
            signing: None,
            tls: None,
            addresses: None,
            when_removed: WhenRemoved::Park,
        }
    }
}

/// Where alerts go besides webhooks, in the same queue with the same retries. Each change is one line or message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// JSON lines, appended.
    File(FileOutput),
    /// RFC 5424 messages.
    Syslog(SyslogOutput),
    /// Every stored notification, to another SNMP receiver. It hears of no alert.
    Forward(ForwardOutput),
}

impl Output {
    /// The key that it stands under.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Forward(_) => "forward",
        }
    }
}

/// A file that is appended to and rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOutput {
    /// Where it is.
    pub path: PathBuf,
    /// It is begun anew at this size, in octets.
    pub rotate_size: u64,
    /// It is begun anew at this age.
    pub rotate_age: Option<Duration>,
    /// Renamed files that are kept.
    pub keep: usize,
}

/// A syslog receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogOutput {
    /// How it is spoken to.
    pub transport: SyslogTransport,
    /// Its name or address.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// The facility's number (RFC 5424 section 6.2.1).
    pub facility: u8,
    /// APP-NAME, 1 to 48 printable characters.
    pub app_name: Arc<str>,
}

/// How syslog messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyslogTransport {
    /// One a datagram (RFC 5426).
    Udp,
    /// With octet counting (RFC 6587).
    Tcp,
    /// The same over TLS (RFC 5425).
    Tls,
}

/// An SNMP receiver that notifications are sent on to, over UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardOutput {
    /// Its name or address.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// The community of what is sent: the one that came in is a secret of its sender, and is not kept.
    pub community: Secret,
    /// What is sent.
    pub form: ForwardForm,
}

/// As what a notification is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardForm {
    /// The PDU as it was received, in a message of its version; an SNMPv3 one cannot be.
    Received,
    /// An SNMPv2c trap that names the device (RFC 3584 section 3.1).
    V2c,
}

/// TLS of one webhook; everything in it has been tried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates (PEM) that are trusted in place of the system's.
    pub ca: Option<Arc<[u8]>>,
    /// Our certificate chain and its key (PEM).
    pub identity: Option<TlsIdentity>,
    /// The least version.
    pub minimum_version: TlsVersion,
}

/// Whom we show to an endpoint that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate chain, PEM.
    pub certificate: Arc<[u8]>,
    /// Its private key, PEM.
    pub key: Secret,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246) and later.
    V12,
    /// 1.3 (RFC 8446).
    V13,
}

/// When an endpoint is left alone (a circuit breaker).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row open it.
    pub failures: u32,
    /// It stays open for so long; then one post tries.
    pub pause: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(30) }
    }
}

/// The most posts to a URL in a time: one each `per / requests`, up to `burst` of them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Posts in `per`, at least one.
    pub requests: u32,
    /// The time.
    pub per: Duration,
    /// How many may come at once after a rest, at least one.
    pub burst: u32,
}

/// What becomes of the queue of a webhook that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenRemoved {
    /// It stays in the store until a webhook of that name comes back, or until retention.
    Park,
    /// It is delivered, until nothing is left or the program ends; what is left then is parked.
    Drain,
}

/// A webhook's address. It may carry credentials, so that it prints without them.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(pub Arc<str>);

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for WebhookUrl {
    /// Scheme, host and port; user information, path and query are left out, since tokens live there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str("(invalid URL)");
        };
        // An output's file: its path is no secret.
        if scheme == "file" {
            return f.write_str(&self.0);
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{scheme}://{host}")
    }
}

/// What a webhook posts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Alertmanager's API v2: the state of each alert.
    Alertmanager,
    /// Nereus' own JSON: each change of an alert, as a queued event.
    Json,
    /// What Alertmanager posts to its webhook receivers, as a queued event.
    Prometheus,
    /// CloudEvents 1.0, as a queued event.
    CloudEvents,
    /// A text of one's own, as a queued event.
    Template {
        /// The text.
        body: BodyTemplate,
        /// What the post says it is.
        content_type: Arc<str>,
    },
}

impl WebhookFormat {
    /// The name as it stands in the file.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Json => "json",
            Self::Prometheus => "prometheus",
            Self::CloudEvents => "cloudevents",
            Self::Template { .. } => "template",
        }
    }

    /// Whether alerts are delivered as the state that they have, not as queued changes.
    #[must_use]
    pub fn is_state(&self) -> bool {
        *self == Self::Alertmanager
    }
}

/// What follows a failed post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// How often a post is tried in all, at least once.
    pub attempts: u32,
    /// The first pause.
    pub initial: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 10, initial: Duration::from_millis(500), max: Duration::from_secs(60) }
    }
}

/// How many alerts a post holds, and how long it waits for more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSettings {
    /// At most so many.
    pub max: usize,
    /// At most so long.
    pub wait: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { max: 100, wait: Duration::from_millis(200) }
    }
}
