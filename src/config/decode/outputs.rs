//! The section `outputs`.

use std::sync::Arc;
use std::time::Duration;

use super::super::keys::{FACILITIES, Kind};
use super::super::settings::{
    BatchSettings, FileOutput, Output, SyslogOutput, SyslogTransport, WebhookSettings, WebhookUrl,
    WhenRemoved,
};
use super::super::tree::Node;
use super::sections::{at_most, open, path};
use super::webhooks::{breaker, number, own_name, rate_limit, retry, tls};
use super::{Context, Fields};

/// The outputs, which are delivered to as webhooks are; `names` are those that are taken.
pub(super) fn outputs(
    cx: &mut Context<'_>,
    node: &Node,
    kind: &'static Kind,
    names: &mut Vec<Arc<str>>,
) -> Vec<Arc<WebhookSettings>> {
    let Kind::List(Kind::Section(section)) = kind else { return Vec::new() };
    let items = cx.items(node, false, "outputs").unwrap_or_default();
    let mut outputs = Vec::new();
    for item in at_most(cx, items) {
        let Some(fields) = cx.section(item, section) else { continue };
        let twice = |name: &str| format!("a webhook or output is called `{name}` already");
        let name = own_name(cx, &fields, names, twice);
        if let Some(output) = output(cx, &fields, name) {
            outputs.push(Arc::new(output));
        }
    }
    outputs
}

fn output(cx: &mut Context<'_>, fields: &Fields<'_>, name: Arc<str>) -> Option<WebhookSettings> {
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
    settings.output = match (own, other) {
        (Some(output), None) | (None, Some(output)) => Some(output?),
        // Told already.
        (None, None) if fields.entry("forward").is_some() => return None,
        _ => {
            let message = "an output is either `file` or `syslog`";
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
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let legal =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (host != bare && c == ':');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!bare.is_empty() && bare.chars().all(legal)).then_some((transport, bare, port))
}
