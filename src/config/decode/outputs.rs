//! The section `outputs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::super::keys::{FACILITIES, Kind};
use super::super::settings::{
    BatchSettings, FileOutput, ForwardForm, ForwardOutput, Listener, Output, Secret, SyslogOutput,
    SyslogTransport, Transport, WebhookSettings, WebhookUrl, WhenRemoved,
};
use super::super::tree::Node;
use super::sections::{at_most, open, path};
use super::webhooks::{breaker, number, own_name, rate_limit, retry, tls};
use super::{Context, Fields};

/// What an output must not contradict.
pub(super) struct Around<'a> {
    pub(super) listeners: &'a [Listener],
    /// Whether there are SNMPv3 users.
    pub(super) has_users: bool,
}

/// The outputs, which are delivered to as webhooks are; `names` are those that are taken.
pub(super) fn outputs(
    cx: &mut Context<'_>,
    node: &Node,
    kind: &'static Kind,
    names: &mut Vec<Arc<str>>,
    around: &Around<'_>,
) -> Vec<Arc<WebhookSettings>> {
    let Kind::List(Kind::Section(section)) = kind else { return Vec::new() };
    let items = cx.items(node, false, "outputs").unwrap_or_default();
    let mut outputs = Vec::new();
    for item in at_most(cx, items) {
        let Some(fields) = cx.section(item, section) else { continue };
        let twice = |name: &str| format!("a webhook or output is called `{name}` already");
        let name = own_name(cx, &fields, names, twice);
        if let Some(output) = output(cx, &fields, name, around) {
            outputs.push(Arc::new(output));
        }
    }
    outputs
}

fn output(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    name: Arc<str>,
    around: &Around<'_>,
) -> Option<WebhookSettings> {
    let mut settings = WebhookSettings {
        name,
        batch: BatchSettings { max: 100, wait: Duration::ZERO },
        retry: retry(cx, fields),
        breaker: breaker(cx, fields),
        rate_limit: rate_limit(cx, fields),
        ..WebhookSettings::default()
    };
    if fields.choice(cx, "when_removed") == Some("drain") {
        settings.when_removed = WhenRemoved::Drain;
    }
    let own = open(cx, fields, "file").map(|section| file(cx, &section, &mut settings));
    let other = open(cx, fields, "syslog").map(|section| syslog(cx, &section, &mut settings));
    let onward = open(cx, fields, "forward").map(|section| forward(cx, &section, &mut settings, around));
    settings.output = match (own, other, onward) {
        (Some(output), None, None) | (None, Some(output), None) | (None, None, Some(output)) => Some(output?),
        _ => {
            let message = "an output is one of `file`, `syslog` and `forward`";
            cx.error("config-conflict", &fields.node.shown(), message, None);
            return None;
        }
    };
    Some(settings)
}

fn file(cx: &mut Context<'_>, fields: &Fields<'_>, settings: &mut WebhookSettings) -> Option<Output> {
    let rotate_size = fields.size(cx, "rotate_size").unwrap_or(100 << 20);
    let rotate_age = fields.duration(cx, "rotate_age");
    let keep = number(cx, fields, "keep").unwrap_or(10);
    let path = fields.get(cx, "path").and_then(|(node, _)| path(cx, node))?;
    settings.urls = vec![WebhookUrl(format!("file://{}", path.display()).into())];
    Some(Output::File(FileOutput { path, rotate_size, rotate_age, keep }))
}

fn syslog(cx: &mut Context<'_>, fields: &Fields<'_>, settings: &mut WebhookSettings) -> Option<Output> {
    let facility = fields.choice(cx, "facility").unwrap_or("local0");
    let facility =
        FACILITIES.iter().position(|known| *known == facility).and_then(|at| u8::try_from(at).ok());
    settings.timeout = fields.duration(cx, "timeout").unwrap_or(settings.timeout);
    settings.connect_timeout = settings.timeout;
    settings.addresses = fields.networks(cx, "addresses").map(Into::into);
    let own_tls = open(cx, fields, "tls").map(|section| tls(cx, &section));
    let app_name = match fields.get(cx, "app_name") {
        None => "nereus",
        Some((node, _)) => {
            let text = cx.text(node)?;
            if text.is_empty() || text.len() > 48 || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
                let message = "an app name is 1 to 48 printable ASCII characters without blanks";
                cx.error("config-value", &node.span, message, None);
            }
            text
        }
    };
    let app_name = app_name.into();
    let (node, _) = fields.get(cx, "address")?;
    let text = cx.text(node)?;
    let Some((transport, host, port)) = address(text) else {
        let message = format!("{} is no syslog receiver", cx.quoted(node));
        let help = "write it as `udp://10.0.0.9:514`, `tcp://host:601` or `tls://host:6514`";
        cx.error("config-address", &node.span, message, Some(help.into()));
        return None;
    };
    settings.urls = vec![WebhookUrl(text.into())];
    match (own_tls, transport) {
        (Some(own), SyslogTransport::Tls) => settings.tls = Some(Arc::new(own?)),
        (Some(_), _) => {
            let span = fields.entry("tls").map_or(fields.node.shown(), |entry| entry.key_span.clone());
            let message = "`tls` is for `tls://`, and this receiver is another";
            cx.error("config-conflict", &span, message, Some("write `tls://`, or remove it".into()));
        }
        (None, _) => {}
    }
    Some(Output::Syslog(SyslogOutput { transport, host: host.into(), port, facility: facility?, app_name }))
}

fn forward(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    settings: &mut WebhookSettings,
    around: &Around<'_>,
) -> Option<Output> {
    settings.timeout = fields.duration(cx, "timeout").unwrap_or(settings.timeout);
    settings.connect_timeout = settings.timeout;
    settings.addresses = fields.networks(cx, "addresses").map(Into::into);
    let form = match fields.choice(cx, "as") {
        Some("received") => ForwardForm::Received,
        _ => ForwardForm::V2c,
    };
    if form == ForwardForm::Received && around.has_users {
        let span = fields.entry("as").map_or(fields.node.shown(), |entry| entry.key_span.clone());
        let message =
            "SNMPv3 notifications cannot be sent on as they were received: they become dead letters";
        let help = "`as: v2c` sends all of them, and names the device in snmpTrapAddress.0";
        cx.warning("config-forward-v3", &span, message, Some(help.into()));
    }
    let community = match fields.get(cx, "community") {
        Some((node, _)) => cx.secret(node),
        None => Some(Secret::new(b"public".to_vec())),
    };
    let (node, _) = fields.get(cx, "address")?;
    let text = cx.text(node)?;
    let Some((SyslogTransport::Udp, host, port)) = address(text) else {
        let message = format!("{} is no SNMP receiver", cx.quoted(node));
        let help = "write it as `udp://10.0.0.9:162`";
        cx.error("config-address", &node.span, message, Some(help.into()));
        return None;
    };
    if let Some(own) = around.listeners.iter().find(|listener| is_itself(listener, host, port)) {
        let message = format!("{} is this collector's own listener `{}`", cx.quoted(node), own.address);
        let help = "what is sent on would come in again, for ever; name another receiver";
        cx.error("config-forward-loop", &node.span, message, Some(help.into()));
        return None;
    }
    settings.urls = vec![WebhookUrl(text.into())];
    Some(Output::Forward(ForwardOutput { host: host.into(), port, community: community?, form }))
}

/// Whether `host` and `port` plainly are what `listener` is bound to. A name other than `localhost` is not looked up.
fn is_itself(listener: &Listener, host: &str, port: u16) -> bool {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let hosts = match host.parse::<IpAddr>() {
        Ok(address) => vec![address.to_canonical()],
        Err(_) if host.eq_ignore_ascii_case("localhost") => loopback.to_vec(),
        Err(_) => Vec::new(),
    };
    let own = listener.address.address.ip().to_canonical();
    listener.address.transport == Transport::Udp
        && listener.address.address.port() == port
        && hosts.iter().any(|host| *host == own || (own.is_unspecified() && host.is_loopback()))
}

fn address(text: &str) -> Option<(SyslogTransport, &str, u16)> {
    let (scheme, rest) = text.split_once("://")?;
    let transport = match scheme {
        "udp" => SyslogTransport::Udp,
        "tcp" => SyslogTransport::Tcp,
        "tls" => SyslogTransport::Tls,
        _ => return None,
    };
    let (host, port) = rest.rsplit_once(':')?;
    let bare = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok())?,
        None => host,
    };
    let legal =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (host != bare && c == ':');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!bare.is_empty() && bare.chars().all(legal)).then_some((transport, bare, port))
}
