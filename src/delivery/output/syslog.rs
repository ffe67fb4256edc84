//! Syslog (RFC 5424) over UDP (RFC 5426), TCP with octet counting (RFC 6587 section 3.4.1) and TLS (RFC 5425).
//!
//! Syslog has no acknowledgement: what was handed to the system counts as taken, and what a connection swallows in
//! the moment in which it breaks is lost. A connection that the other side has closed is noticed before the next write.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::super::connect::{Connector, Network};
use super::super::format::legal_name;
use super::super::webhook::Outcome;
use crate::config::settings::{SyslogOutput, SyslogTransport, WebhookSettings};
use crate::event::{AlertRecord, AlertState, KEY_SEPARATOR};
use crate::severity::Severity;

/// The longest message, in octets. Receivers must take 480 and should take 2,048 (RFC 5424 section 6.1).
const LONGEST: usize = 8192;
/// What structured data may take of it.
const DATA: usize = 6144;
/// The enterprise that RFC 5612 keeps for documentation.
const ENTERPRISE: u32 = 32473;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

enum Channel {
    Datagrams(UdpSocket),
    Stream(Box<dyn Duplex>),
}

/// One receiver.
pub(in super::super) struct Sender {
    settings: SyslogOutput,
    connector: Connector,
    timeout: Duration,
    whole: WebhookSettings,
    network: Arc<Network>,
    channel: Mutex<Option<Channel>>,
}

impl Sender {
    pub(super) fn new(settings: SyslogOutput, whole: &WebhookSettings, network: &Arc<Network>) -> Self {
        Self {
            settings,
            connector: Connector::new(whole.connect_timeout, whole.addresses.clone()),
            timeout: whole.timeout,
            whole: whole.clone(),
            network: Arc::clone(network),
            channel: Mutex::new(None),
        }
    }

    /// Sends what [`messages`] made.
    pub(super) async fn send(&self, frames: &[u8]) -> Outcome {
        let mut open = self.channel.lock().await;
        let sent = tokio::time::timeout(self.timeout, self.send_on(&mut open, frames)).await;
        match sent {
            Ok(Ok(())) => return Outcome::Taken,
            Ok(Err(_)) | Err(_) => *open = None,
        }
        let reason = match sent {
            Ok(Err(error)) => error.to_string(),
            _ => format!("it took longer than {} s", self.timeout.as_secs_f64()),
        };
        Outcome::unreached(reason)
    }

    async fn send_on(&self, open: &mut Option<Channel>, frames: &[u8]) -> io::Result<()> {
        if let Some(Channel::Stream(stream)) = open
            && is_closed(stream).await
        {
            *open = None;
        }
        let channel = match open.take() {
            Some(channel) => open.insert(channel),
            None => open.insert(self.connect().await?),
        };
        match channel {
            Channel::Datagrams(socket) => {
                for message in unframed(frames) {
                    socket.send(message).await?;
                }
                Ok(())
            }
            Channel::Stream(stream) => {
                stream.write_all(frames).await?;
                stream.flush().await
            }
        }
    }

    async fn connect(&self) -> io::Result<Channel> {
        let SyslogOutput { host, port, .. } = &self.settings;
        match self.settings.transport {
            SyslogTransport::Udp => {
                let address = self.connector.resolve(host, *port).await?;
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Ok(Channel::Datagrams(socket))
            }
            SyslogTransport::Tcp => Ok(Channel::Stream(Box::new(self.stream().await?))),
            SyslogTransport::Tls => {
                let (network, settings) = (Arc::clone(&self.network), self.whole.clone());
                let made = tokio::task::spawn_blocking(move || network.tls(&settings)).await;
                let mut config = tls_config(made)?;
                // No HTTP is spoken here.
                config.alpn_protocols.clear();
                let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
                let stream = self.stream().await?;
                let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
                Ok(Channel::Stream(Box::new(stream)))
            }
        }
    }

    async fn stream(&self) -> io::Result<TcpStream> {
        self.connector.stream(&self.settings.host, self.settings.port).await
    }
}

fn tls_config(
    made: Result<io::Result<Arc<rustls::ClientConfig>>, tokio::task::JoinError>,
) -> io::Result<rustls::ClientConfig> {
    Ok(rustls::ClientConfig::clone(&*made.map_err(io::Error::other)??))
}

/// Whether the other side has closed: receivers say nothing, so that whatever can be read at once is its end.
async fn is_closed(stream: &mut Box<dyn Duplex>) -> bool {
    let mut octet = [0; 64];
    loop {
        match tokio::time::timeout(Duration::ZERO, stream.read(&mut octet)).await {
            Err(_) => return false,
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
        }
    }
}

/// The messages of frames that [`messages`] made.
fn unframed(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let blank = frames.iter().position(|octet| *octet == b' ')?;
        let length: usize = std::str::from_utf8(&frames[..blank]).ok()?.parse().ok()?;
        let message = frames.get(blank + 1..)?.get(..length)?;
        frames = &frames[blank + 1 + length..];
        Some(message)
    })
}

/// One message for each alert, with octet counting: `LENGTH SP MESSAGE`.
pub(in super::super) fn messages<'a>(
    settings: &SyslogOutput,
    alerts: impl Iterator<Item = &'a AlertRecord>,
) -> Vec<u8> {
    let mut frames = Vec::new();
    for record in alerts {
        let message = message(settings, record, host());
        frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
        frames.extend_from_slice(message.as_bytes());
    }
    frames
}

/// `<PRI>1 TIME HOST APP PROCID MSGID [nereus@… …] BOM TEXT`. Times are the alert's: of its end, else of its last event.
fn message(settings: &SyslogOutput, record: &AlertRecord, host: &str) -> String {
    let severity = match (record.state, record.severity) {
        (AlertState::Resolved, _) => 5,
        (_, Severity::Critical) => 2,
        (_, Severity::Major) => 3,
        (_, Severity::Minor | Severity::Warning) => 4,
        (_, Severity::Info) => 6,
    };
    let priority = u32::from(settings.facility) * 8 + severity;
    let time =
        record.resolved_at.filter(|_| record.state == AlertState::Resolved).unwrap_or(record.last_seen);
    let mut out = format!(
        "<{priority}>1 {time} {host} {} {} {} [nereus@{ENTERPRISE}",
        settings.app_name,
        std::process::id(),
        record.state.as_str(),
    );
    let own = [
        ("id", record.id.to_string()),
        ("change", record.change.to_string()),
        ("state", record.state.as_str().to_owned()),
        ("count", record.count.to_string()),
    ];
    for (name, value) in &own {
        parameter(&mut out, name, value);
    }
    for (name, value) in record.labels.iter().filter(|(name, _)| own.iter().all(|(own, _)| *own != &**name)) {
        let before = out.len();
        parameter(&mut out, &legal_name(name), value);
        if out.len() > DATA {
            out.truncate(before);
            break;
        }
    }
    out.push_str("] \u{feff}");
    let summary =
        record.annotations.iter().find(|(name, _)| &**name == "summary").map(|(_, text)| text.as_str());
    let text: Cow<'_, str> = match summary {
        Some(summary) => summary.into(),
        None => record.key.replace(KEY_SEPARATOR, " ").into(),
    };
    let _ = write!(out, "{} {}: ", record.alert, record.state.as_str());
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + character.len_utf8() > LONGEST {
            break;
        }
        out.push(character);
    }
    out
}

/// ` NAME="VALUE"` (RFC 5424 section 6.3.3): a name of at most 32 characters, `"`, `\` and `]` escaped.
fn parameter(out: &mut String, name: &str, value: &str) {
    let name: String = name.chars().take(32).collect();
    let _ = write!(out, " {name}=\"");
    for character in value.chars() {
        match character {
            '"' | '\\' | ']' => out.extend(['\\', character]),
            character if character.is_control() => out.push(' '),
            character => out.push(character),
        }
    }
    out.push('"');
}

/// This machine's name, `-` if it has none that syslog takes.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let legal =
            !name.is_empty() && name.len() <= 255 && name.bytes().all(|octet| octet.is_ascii_graphic());
        if legal { name } else { "-".to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::record;
    use crate::event::Timestamp;

    fn settings() -> SyslogOutput {
        SyslogOutput {
            transport: SyslogTransport::Udp,
            host: "127.0.0.1".into(),
            port: 514,
            facility: 16,
            app_name: "nereus".into(),
        }
    }

    #[test]
    fn a_message_is_what_the_rfc_says() {
        let mut record = record(7, 9);
        record.last_seen = Timestamp(1_700_000_000_123_456);
        record.labels.push(("path".into(), r#"a "b" \ ] ü"#.to_owned()));
        record.annotations = vec![("summary".into(), "two\nlines".to_owned())];
        let pid = std::process::id();
        assert_eq!(
            message(&settings(), &record, "host"),
            format!(
                "<131>1 2023-11-14T22:13:20.123456Z host nereus {pid} firing [nereus@32473 id=\"7\" change=\"9\" \
                 state=\"firing\" count=\"1\" alertname=\"Test\" number=\"7\" path=\"a \\\"b\\\" \\\\ \\] ü\"] \
                 \u{feff}Test firing: two lines"
            )
        );
        record.state = AlertState::Resolved;
        assert!(message(&settings(), &record, "host").starts_with("<133>1 "), "local0.notice");
    }

    #[test]
    fn messages_are_bounded_and_their_frames_come_apart() {
        let mut long = record(1, 1);
        long.labels.extend((0..100).map(|n| (format!("label{n}").into(), "x".repeat(500))));
        long.annotations = vec![("summary".into(), "é".repeat(20_000))];
        let short = record(2, 2);
        let frames = messages(&settings(), [&long, &short].into_iter());
        let parts: Vec<_> = unframed(&frames).collect();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].len() <= LONGEST && std::str::from_utf8(parts[0]).is_ok());
        assert!(parts[1].ends_with("Test firing: alert 2".as_bytes()));
    }
}
