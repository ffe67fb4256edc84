//! The section `webhooks`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::super::file::ContentHash;
use super::super::keys::Kind;
use super::super::settings::{
    BreakerSettings, RateLimit, RetrySettings, Secret, TlsIdentity, TlsSettings, TlsVersion, WebhookFormat,
    WebhookSettings, WhenRemoved,
};
use super::super::tree::{Data, Node};
use super::sections::{at_most, open, path};
use super::{Context, Fields};
use crate::template::{BodyTemplate, MAX_SOURCE};

/// One octet more, so that one that is too long is told by its length.
const LARGEST_TEMPLATE: u64 = MAX_SOURCE as u64 + 1;

pub(super) fn webhooks(
    cx: &mut Context<'_>,
    node: &Node,
    kind: &'static Kind,
    names: &mut Vec<Arc<str>>,
) -> Vec<Arc<WebhookSettings>> {
    let Kind::List(Kind::Section(section)) = kind else { return Vec::new() };
    let items = cx.items(node, false, "webhooks").unwrap_or_default();
    let mut webhooks = Vec::new();
    for item in at_most(cx, items) {
        let Some(fields) = cx.section(item, section) else { continue };
        let name = own_name(cx, &fields, names, |name| format!("two webhooks are called `{name}`"));
        webhooks.push(Arc::new(webhook(cx, &fields, name)));
    }
    webhooks
}

/// The name of a webhook or an output, which is taken from then on; `twice` says that it was before.
pub(super) fn own_name(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    names: &mut Vec<Arc<str>>,
    twice: impl FnOnce(&str) -> String,
) -> Arc<str> {
    let Some((node, _)) = fields.get(cx, "name") else { return "".into() };
    let Some(name) = cx.name(node).map(Arc::<str>::from) else { return "".into() };
    if names.contains(&name) {
        let help = Some("give each a name of its own".into());
        cx.error("config-duplicate-name", &node.span, twice(&name), help);
    }
    names.push(Arc::clone(&name));
    name
}

fn webhook(cx: &mut Context<'_>, fields: &Fields<'_>, name: Arc<str>) -> WebhookSettings {
    let one = fields.get(cx, "url").map(|(node, _)| std::slice::from_ref(node));
    let several = fields.get(cx, "urls").map(|(node, _)| {
        let items = cx.items(node, false, "URLs").unwrap_or_default();
        at_most(cx, items)
    });
    match (fields.entry("url"), fields.entry("urls")) {
        (None, None) => {
            let help = "for example `url: http://127.0.0.1:9093/api/v2/alerts`";
            let message = "`webhooks[].url` or `webhooks[].urls` is missing";
            cx.error("config-missing-key", &fields.node.shown(), message, Some(help.into()));
        }
        (Some(_), Some(urls)) => {
            let message = "a webhook has `url` or `urls`, not both";
            cx.error("config-conflict", &urls.key_span, message, Some("move all of them into `urls`".into()));
        }
        (None, Some(urls)) if matches!(&urls.value.data, Data::List(items) if items.is_empty()) => {
            cx.error("config-value", &urls.value.span, "a webhook needs at least one URL", None);
        }
        _ => {}
    }
    let format = format(cx, fields);
    let named = fields.entry("format").map(|entry| &entry.value.data);
    let is_alertmanager = matches!(named, Some(Data::Text(name)) if **name == *"alertmanager");
    let mut urls = Vec::new();
    for node in one.into_iter().chain(several).flatten() {
        let Some(url) = cx.url(node) else { continue };
        if urls.contains(&url) {
            cx.error("config-duplicate-name", &node.span, "this URL stands in the list twice", None);
        }
        if is_alertmanager && has_no_path(&url.0) {
            let help = "Alertmanager takes alerts at `/api/v2/alerts`";
            cx.warning("config-value", &node.span, "this URL of Alertmanager has no path", Some(help.into()));
        }
        urls.push(url);
    }
    let mut settings = WebhookSettings { name, urls, format, ..WebhookSettings::default() };
    if let Some(timeout) = fields.duration(cx, "timeout") {
        settings.timeout = timeout;
    }
    let whole = settings.timeout;
    settings.connect_timeout = part_of(cx, fields, "connect_timeout", settings.connect_timeout, whole);
    settings.headers_timeout = part_of(cx, fields, "headers_timeout", settings.headers_timeout, whole);
    settings.retry = retry(cx, fields);
    settings.breaker = breaker(cx, fields);
    settings.rate_limit = rate_limit(cx, fields);
    if let Some(fields) = open(cx, fields, "batch") {
        if let Some(max) = number(cx, &fields, "max") {
            settings.batch.max = max;
        }
        settings.batch.wait = fields.duration(cx, "wait").unwrap_or(settings.batch.wait);
    }
    settings.concurrency = number(cx, fields, "concurrency").unwrap_or(1);
    if settings.concurrency > 1 && settings.format == WebhookFormat::Alertmanager {
        let span = fields.entry("concurrency").map_or(fields.node.shown(), |entry| entry.key_span.clone());
        let message = "`concurrency` is for queued formats; Alertmanager is told of the state by one post after another";
        cx.error("config-conflict", &span, message, Some("remove it; `batch.max` makes posts larger".into()));
    }
    settings.headers = headers(cx, fields);
    auth(cx, fields, &mut settings);
    settings.signing = open(cx, fields, "signing")
        .and_then(|fields| fields.get(cx, "secret").and_then(|(node, _)| signing_key(cx, node)));
    if let Some(section) = open(cx, fields, "tls") {
        settings.tls = tls(cx, &section).map(Arc::new);
        if settings.urls.iter().all(|url| !url.0.starts_with("https://"))
            && !settings.urls.is_empty()
            && let Some(entry) = fields.entry("tls")
        {
            let message = "`tls` is for `https`, and no URL of this webhook is one";
            cx.error(
                "config-conflict",
                &entry.key_span,
                message,
                Some("write `https://`, or remove it".into()),
            );
        }
    }
    if let Some(networks) = fields.networks(cx, "addresses") {
        if let Some(entry) = fields.entry("addresses")
            && matches!(&entry.value.data, Data::List(items) if items.is_empty())
        {
            let help = "leave the key out to restrict nothing";
            cx.error("config-value", &entry.value.span, "this list allows no address", Some(help.into()));
        }
        settings.addresses = Some(networks.into());
    }
    if fields.choice(cx, "when_removed") == Some("drain") {
        settings.when_removed = WhenRemoved::Drain;
    }
    settings
}

/// Whether nothing but a slash comes behind the host and the port.
fn has_no_path(url: &str) -> bool {
    let behind = url.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    behind.is_none_or(|(_, path)| path.is_empty())
}

fn format(cx: &mut Context<'_>, fields: &Fields<'_>) -> WebhookFormat {
    let word = fields.choice(cx, "format");
    let template = fields.get(cx, "template").map(|(node, kind)| body_template(cx, node, kind));
    let content_type = fields.get(cx, "content_type").and_then(|(node, _)| content_type(cx, node));
    if word == Some("template") {
        if fields.entry("template").is_none() {
            let help = "for example `template: {file: slack.json.j2}`";
            let message = "`webhooks[].template` is missing";
            cx.error("config-missing-key", &fields.node.shown(), message, Some(help.into()));
        }
        if let Some(Some(body)) = template {
            let content_type = content_type.unwrap_or_else(|| "application/json".into());
            return WebhookFormat::Template { body, content_type };
        }
        return WebhookFormat::Json;
    }
    for name in ["template", "content_type"] {
        if let (Some(entry), Some(_)) = (fields.entry(name), word) {
            let message = format!("`{name}` is for the format `template`");
            cx.error("config-conflict", &entry.key_span, message, Some("write `format: template`".into()));
        }
    }
    match word {
        Some("json") => WebhookFormat::Json,
        Some("prometheus") => WebhookFormat::Prometheus,
        Some("cloudevents") => WebhookFormat::CloudEvents,
        _ => WebhookFormat::Alertmanager,
    }
}

/// A text, or `{file: PATH}`, whose file is an input.
fn body_template(cx: &mut Context<'_>, node: &Node, kind: &'static Kind) -> Option<BodyTemplate> {
    let (text, of) = match &node.data {
        Data::Map(_) => {
            let Kind::Either(kinds) = kind else { return None };
            let section = kinds.iter().find_map(|kind| match kind {
                Kind::Section(section) => Some(*section),
                _ => None,
            })?;
            let fields = cx.section(node, section)?;
            let (node, _) = fields.get(cx, "file")?;
            let path = path(cx, node)?;
            let path = cx.sources.folder(&node.span).join(path);
            let shown = format!("`{}`: ", path.display());
            let octets = match cx.inputs.read_part(&path, LARGEST_TEMPLATE) {
                Ok(octets) => octets,
                Err(error) => {
                    cx.remember(&path, None, None, &node.span);
                    let message = format!("cannot read the template's file `{}`: {error}", path.display());
                    cx.error("config-template", &node.span, message, None);
                    return None;
                }
            };
            cx.remember(&path, Some(ContentHash::of(&octets)), None, &node.span);
            let Ok(text) = String::from_utf8(octets) else {
                cx.error("config-template", &node.span, format!("{shown}it is not UTF-8"), None);
                return None;
            };
            (text, shown)
        }
        _ => (cx.text(node)?.to_owned(), String::new()),
    };
    match BodyTemplate::compile(&text) {
        Ok(template) => Some(template),
        Err(error) => {
            let line = error
                .range()
                .and_then(|range| text.get(..range.start))
                .map(|before| before.lines().count().max(1));
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            let message = format!("{of}{line}{error}");
            cx.error("config-template", &node.shown(), message, error.help().map(str::to_owned));
            None
        }
    }
}

fn content_type(cx: &mut Context<'_>, node: &Node) -> Option<Arc<str>> {
    let text = cx.text(node)?;
    if hyper::header::HeaderValue::from_str(text).is_err() || !text.contains('/') {
        let help = "write it as `application/json` or `text/plain; charset=utf-8`";
        cx.error("config-value", &node.span, "this is no content type", Some(help.into()));
        return None;
    }
    Some(text.into())
}

pub(super) fn number<T: TryFrom<i64>>(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> Option<T> {
    fields.integer(cx, name).and_then(|number| T::try_from(number).ok())
}

/// A part of the whole time: its own, at most the whole; one that says more is told.
fn part_of(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    name: &str,
    otherwise: Duration,
    whole: Duration,
) -> Duration {
    let Some(part) = fields.duration(cx, name) else { return otherwise.min(whole) };
    if part > whole
        && let Some(entry) = fields.entry(name)
    {
        let message = format!("`{name}` is longer than the whole request may take");
        cx.error("config-conflict", &entry.value.span, message, Some("raise `timeout`, or lower it".into()));
    }
    part.min(whole)
}

/// Becomes a header like any other.
fn auth(cx: &mut Context<'_>, fields: &Fields<'_>, settings: &mut WebhookSettings) {
    let Some(entry) = fields.entry("auth") else { return };
    let Some(own) = open(cx, fields, "auth") else { return };
    if settings.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        let message = "`auth` and a header `Authorization` say the same thing twice";
        cx.error("config-conflict", &entry.key_span, message, Some("keep one of them".into()));
    }
    let user = own.get(cx, "user").and_then(|(node, _)| cx.text(node).map(|user| (user.to_owned(), node)));
    let password = own.get(cx, "password").and_then(|(node, _)| cx.secret(node));
    let bearer = own.get(cx, "bearer").and_then(|(node, _)| cx.secret(node).map(|token| (token, node)));
    let has = |name: &str| own.entry(name).is_some();
    let value = match (has("user"), has("password"), has("bearer")) {
        (true, true, false) => {
            let (Some((user, node)), Some(password)) = (user, password) else { return };
            if user.contains(':') {
                let message = "a user of Basic authentication has no colon (RFC 7617)";
                cx.error("config-value", &node.span, message, None);
            }
            let mut pair = zeroize::Zeroizing::new(user.into_bytes());
            pair.push(b':');
            pair.extend_from_slice(password.expose());
            settings.passwords.push(password);
            let encoded = zeroize::Zeroizing::new(BASE64.encode(&*pair));
            format!("Basic {}", *encoded).into_bytes()
        }
        (false, false, true) => {
            let Some((token, node)) = bearer else { return };
            let value = [b"Bearer ", token.expose()].concat();
            if hyper::header::HeaderValue::from_bytes(&value).is_err() {
                cx.error("config-header", &node.shown(), "a token has no control characters", None);
            }
            value
        }
        _ => {
            let message = "`auth` is `user` and `password`, or `bearer` alone";
            cx.error("config-conflict", &entry.key_span, message, None);
            return;
        }
    };
    settings.headers.push(("Authorization".into(), Secret::new(value)));
}

fn signing_key(cx: &mut Context<'_>, node: &Node) -> Option<Secret> {
    let secret = cx.secret(node)?;
    if let Some(text) = secret.expose().strip_prefix(b"whsec_")
        && BASE64.decode(text).is_err()
    {
        let message = "a key that begins with `whsec_` goes on in base64, and this does not";
        cx.error("config-secret", &node.shown(), message, None);
        return None;
    }
    Some(secret)
}

/// Every file in it is read and tried out, and is an input: a change of it is a change.
pub(super) fn tls(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<TlsSettings> {
    let minimum_version = match fields.choice(cx, "minimum_version") {
        Some("tls1.3") => TlsVersion::V13,
        _ => TlsVersion::V12,
    };
    let ca = fields.get(cx, "ca").map(|(node, _)| certificates(cx, node));
    let chain = fields.get(cx, "certificate").map(|(node, _)| (certificates(cx, node), node));
    let key = fields.get(cx, "key").map(|(node, _)| (cx.secret(node), node));
    let identity = match (chain, key) {
        (None, None) => None,
        (Some((chain, _)), Some((key, node))) => {
            let (certificate, key) = (chain?, key?);
            if let Err(problem) = fits(&certificate, &key) {
                cx.error("config-tls", &node.shown(), problem, None);
                return None;
            }
            Some(TlsIdentity { certificate, key })
        }
        _ => {
            let message = "`certificate` and `key` go together";
            cx.error("config-missing-key", &fields.node.shown(), message, None);
            None
        }
    };
    Some(TlsSettings {
        ca: match ca {
            None => None,
            Some(ca) => Some(ca?),
        },
        identity,
        minimum_version,
    })
}

/// A PEM file with at least one certificate.
fn certificates(cx: &mut Context<'_>, node: &Node) -> Option<Arc<[u8]>> {
    const LARGEST: u64 = 4 << 20;
    let path = path(cx, node)?;
    let path = cx.sources.folder(&node.span).join(path);
    let octets = match cx.inputs.read_part(&path, LARGEST) {
        Ok(octets) => octets,
        Err(error) => {
            cx.remember(&path, None, None, &node.span);
            let message = format!("cannot read `{}`: {error}", path.display());
            cx.error("config-tls", &node.span, message, None);
            return None;
        }
    };
    cx.remember(&path, Some(ContentHash::of(&octets)), None, &node.span);
    let mut number = 0;
    for certificate in CertificateDer::pem_slice_iter(&octets) {
        let usable =
            certificate.is_ok_and(|certificate| rustls::RootCertStore::empty().add(certificate).is_ok());
        if !usable {
            let message = format!("`{}` holds a certificate that cannot be used", path.display());
            cx.error("config-tls", &node.span, message, None);
            return None;
        }
        number += 1;
    }
    if number == 0 {
        let message = format!("`{}` holds no PEM certificate", path.display());
        cx.error(
            "config-tls",
            &node.span,
            message,
            Some("it begins with `-----BEGIN CERTIFICATE-----`".into()),
        );
        return None;
    }
    Some(octets.into())
}

/// Whether the key is one, and the certificate's.
fn fits(certificate: &[u8], key: &Secret) -> Result<(), &'static str> {
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| "this is no PEM private key")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).filter_map(Result::ok).collect();
    let provider = rustls::crypto::ring::default_provider();
    match rustls::sign::CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err("this is not the key of `certificate`"),
        Err(_) => Err("this private key is of a kind that TLS does not take here"),
    }
}

pub(super) fn retry(cx: &mut Context<'_>, fields: &Fields<'_>) -> RetrySettings {
    let mut retry = RetrySettings::default();
    let Some(fields) = open(cx, fields, "retry") else { return retry };
    retry.attempts = number(cx, &fields, "attempts").unwrap_or(retry.attempts);
    retry.initial = fields.duration(cx, "initial").unwrap_or(retry.initial);
    retry.max = fields.duration(cx, "max").unwrap_or(retry.max);
    if retry.initial > retry.max {
        let span = fields
            .entry("initial")
            .or(fields.entry("max"))
            .map_or(fields.node.shown(), |e| e.value.span.clone());
        let message = "the first pause is longer than the longest";
        cx.error("config-conflict", &span, message, Some("raise `max`, or lower `initial`".into()));
    }
    retry
}

pub(super) fn breaker(cx: &mut Context<'_>, fields: &Fields<'_>) -> BreakerSettings {
    let mut breaker = BreakerSettings::default();
    let Some(fields) = open(cx, fields, "breaker") else { return breaker };
    breaker.failures = number(cx, &fields, "failures").unwrap_or(breaker.failures);
    breaker.pause = fields.duration(cx, "pause").unwrap_or(breaker.pause);
    breaker
}

pub(super) fn rate_limit(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<RateLimit> {
    let fields = open(cx, fields, "rate_limit")?;
    let requests = number(cx, &fields, "requests")?;
    let per = fields.duration(cx, "per").unwrap_or(Duration::from_secs(1));
    Some(RateLimit { requests, per, burst: number(cx, &fields, "burst").unwrap_or(1) })
}

/// Headers that the HTTP client writes itself.
const OWN_HEADERS: [&str; 6] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade"];

fn headers(cx: &mut Context<'_>, fields: &Fields<'_>) -> Vec<(Arc<str>, Secret)> {
    let mut headers: Vec<(Arc<str>, Secret)> = Vec::new();
    let Some((node, _)) = fields.get(cx, "headers") else { return headers };
    let Data::Map(entries) = &node.data else {
        cx.wrong_type(node, "a section of header names and values");
        return headers;
    };
    for entry in entries {
        match hyper::header::HeaderName::from_bytes(entry.key.as_bytes()) {
            Err(_) => cx.error("config-header", &entry.key_span, "this is no name of a header", None),
            Ok(name) if OWN_HEADERS.contains(&name.as_str()) => {
                let message = format!("the header `{name}` is set by Nereus itself");
                cx.error("config-header", &entry.key_span, message, Some("remove it".into()));
            }
            Ok(_) => {}
        }
        let Some(secret) = cx.secret(&entry.value) else { continue };
        if hyper::header::HeaderValue::from_bytes(secret.expose()).is_err() {
            cx.error(
                "config-header",
                &entry.value.shown(),
                "a header's value has no control characters",
                None,
            );
        }
        headers.push((entry.key.as_str().into(), secret));
    }
    headers
}
