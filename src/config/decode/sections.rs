//! Every section but `rules`, and what holds between sections.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::keys::{self, Kind};
use super::super::settings::{
    Access, AdminSettings, Canonical, Component, GuardSettings, Listener, LogFormat, LogLevel, LogOutput,
    LoggingSettings, MibSettings, ReloadSettings, RuleSettings, Settings, SourceOrigin, SourceSettings,
    StorageSettings, Transport, Unmatched,
};
use super::super::tree::{Data, Node};
use super::access::access;
use super::outputs::{Around, outputs};
use super::rules::{Names, rules};
use super::webhooks::webhooks;
use super::{Context, Fields, watch};
use crate::device::{DEFAULT_REALM, is_realm};

/// The most webhooks, URLs of one, and communities; each is looked through for each of its kind.
const MAX_NAMED: usize = 1_000;

/// The settings that the tree says; complete also where problems were told, but then not to be used.
pub(in crate::config) fn settings(cx: &mut Context<'_>, root: &Node) -> Settings {
    let mut settings = Settings::default();
    let Some(fields) = cx.section(root, &keys::ROOT) else { return settings };
    if let Some((node, Kind::Many(Kind::Section(section)))) = fields.get(cx, "listener") {
        settings.listeners = listeners(cx, node, section);
    }
    if let Some((node, Kind::List(Kind::Section(section)))) = fields.get(cx, "lookups") {
        settings.lookups = cx.lookups(node, section);
    }
    if let Some(fields) = open(cx, &fields, "source") {
        settings.source = Arc::new(source(cx, &fields));
    }
    let mut communities = Vec::new();
    if let Some(fields) = open(cx, &fields, "access") {
        settings.access = Arc::new(access(cx, &fields));
        communities = community_names(&settings.access);
    }
    if let Some(fields) = open(cx, &fields, "mib") {
        let mut mib =
            MibSettings { directories: paths(cx, &fields, "directories"), ..MibSettings::default() };
        if let Some(cache) = fields.get(cx, "cache").and_then(|(node, _)| path(cx, node)) {
            mib.cache = cache;
        }
        settings.mib = Arc::new(mib);
    }
    if let Some((node, _)) = fields.get(cx, "components") {
        settings.components = components(cx, node);
    }
    if let Some(word) = fields.choice(cx, "unmatched") {
        settings.unmatched = match word {
            "store" => Unmatched::Store,
            "drop" => Unmatched::Drop,
            _ => Unmatched::Builtin,
        };
    }
    let mut names: Vec<Arc<str>> = Vec::new();
    if let Some((node, kind)) = fields.get(cx, "webhooks") {
        settings.webhooks = webhooks(cx, node, kind, &mut names);
    }
    if let Some((node, kind)) = fields.get(cx, "outputs") {
        let around = Around { listeners: &settings.listeners, has_users: !settings.access.users.is_empty() };
        settings.webhooks.extend(outputs(cx, node, kind, &mut names, &around));
    }
    if let Some((node, kind)) = fields.get(cx, "rules") {
        let realms = realm_names(&settings.listeners);
        let names = Names { webhooks: &names, communities: &communities, realms: &realms };
        settings.rules = rules(cx, node, kind, &names);
    }
    if let Some(fields) = open(cx, &fields, "storm") {
        settings.storm = Some(Arc::new(watch::storm(cx, &fields, &names)));
    }
    if let Some((node, kind)) = fields.get(cx, "heartbeats")
        && let Some(section) = watch::list_of(kind)
    {
        let named = named(&settings, fields.get(cx, "source").map(|(node, _)| node));
        let realms = realm_names(&settings.listeners);
        settings.heartbeats = watch::heartbeats(cx, node, section, &names, &realms, &named);
    }
    if let Some(fields) = open(cx, &fields, "storage") {
        settings.storage = Arc::new(storage(cx, &fields));
    }
    if let Some(fields) = open(cx, &fields, "admin") {
        settings.admin = Arc::new(admin(cx, &fields));
    }
    if let Some(fields) = open(cx, &fields, "logging") {
        settings.logging = Arc::new(logging(cx, &fields));
    }
    if let Some(fields) = open(cx, &fields, "reload") {
        settings.reload = Arc::new(reload(cx, &fields));
    }
    settings
}

/// The rules that `node`, a list, says within `known`, the settings of before.
pub(in crate::config) fn rules_again(
    cx: &mut Context<'_>,
    node: &Node,
    known: &Settings,
) -> Vec<Arc<RuleSettings>> {
    cx.take_over(&known.lookups);
    let webhooks: Vec<Arc<str>> = known.webhooks.iter().map(|webhook| Arc::clone(&webhook.name)).collect();
    let communities = community_names(&known.access);
    let Some(kind) = keys::ROOT.key("rules").map(|key| &key.kind) else { return Vec::new() };
    let realms = realm_names(&known.listeners);
    rules(cx, node, kind, &Names { webhooks: &webhooks, communities: &communities, realms: &realms })
}

/// The realms that there are; `default` is always one.
pub(in crate::config) fn realm_names(listeners: &[Listener]) -> Vec<Arc<str>> {
    let mut names = vec![Arc::from(DEFAULT_REALM)];
    for realm in listeners.iter().filter_map(|listener| listener.realm.as_ref()) {
        if !names.contains(realm) {
            names.push(Arc::clone(realm));
        }
    }
    names
}

fn community_names(access: &Access) -> Vec<Arc<str>> {
    access.communities.iter().flatten().filter_map(|community| community.name.clone()).collect()
}

pub(super) fn open<'t>(cx: &mut Context<'_>, fields: &Fields<'t>, name: &str) -> Option<Fields<'t>> {
    match fields.get(cx, name) {
        Some((node, Kind::Section(section))) => cx.section(node, section),
        _ => None,
    }
}

pub(super) fn at_most<'t>(cx: &mut Context<'_>, items: &'t [Node]) -> &'t [Node] {
    let Some(beyond) = items.get(MAX_NAMED) else { return items };
    cx.error("config-range", &beyond.shown(), format!("this list has at most {MAX_NAMED} items"), None);
    &items[..MAX_NAMED]
}

fn listeners(cx: &mut Context<'_>, node: &Node, section: &'static keys::Section) -> Arc<[Listener]> {
    let items = cx.items(node, true, "listeners").unwrap_or_default();
    if items.is_empty() && matches!(node.data, Data::List(_)) {
        let help = "leave `listener` out for UDP 1162 on every address";
        cx.error("config-value", &node.span, "at least one listener is needed", Some(help.into()));
    }
    let mut seen = HashSet::new();
    let mut listeners = Vec::new();
    for item in items {
        let Some(fields) = cx.section(item, section) else { continue };
        let mut listener = Listener::default();
        let address = fields.get(cx, "address");
        if let Some(parsed) = address.and_then(|(node, _)| cx.endpoint(node)) {
            listener.address = parsed;
        }
        // Port 0 is another port each time.
        if listener.address.address.port() != 0 && !seen.insert(listener.address) {
            let span = address.map_or_else(|| item.shown(), |(node, _)| node.span.clone());
            let message = format!("two listeners have the address `{}`", listener.address);
            cx.error(
                "config-duplicate-name",
                &span,
                message,
                Some("raise `receivers` for more threads".into()),
            );
        }
        if let Some((node, Kind::Either([_, number]))) = fields.get(cx, "receivers") {
            listener.receivers = match &node.data {
                Data::Text(text) if text == "auto" => None,
                Data::Text(_) => {
                    let message = format!("{} is neither `auto` nor a whole number", cx.quoted(node));
                    cx.error("config-value", &node.span, message, Some("write `auto` for one a core".into()));
                    None
                }
                _ => cx.integer(node, number).and_then(|number| u16::try_from(number).ok()),
            };
        }
        if let Some((node, Kind::Many(number))) = fields.get(cx, "cores") {
            let items = cx.items(node, true, "processor numbers").unwrap_or_default();
            let cores = items.iter().filter_map(|item| u16::try_from(cx.integer(item, number)?).ok());
            listener.cores = cores.collect();
        }
        if let Some(octets) = fields.size(cx, "receive_buffer") {
            listener.receive_buffer = octets;
        }
        if let Some((node, _)) = fields.get(cx, "allow")
            && matches!(&node.data, Data::List(items) if items.is_empty())
        {
            let help = "leave `allow` out to let everyone send";
            cx.error("config-value", &node.span, "this list lets nobody send", Some(help.into()));
        }
        listener.allow = fields.networks(cx, "allow").map(Into::into);
        if let Some(number) = fields.integer(cx, "max_connections") {
            listener.max_connections = u32::try_from(number).unwrap_or(u32::MAX);
        }
        if let Some(number) = fields.integer(cx, "max_connections_per_peer") {
            listener.max_connections_per_peer = u32::try_from(number).ok();
        }
        if let Some(time) = fields.duration(cx, "idle_timeout") {
            listener.idle_timeout = time;
        }
        if let Some((node, _)) = fields.get(cx, "realm")
            && let Some(text) = cx.text(node)
        {
            if is_realm(text) {
                listener.realm = (text != DEFAULT_REALM).then(|| text.into());
            } else {
                let message = "a realm begins with a letter and has letters, digits, `_`, `-` and `.`";
                cx.error("config-value", &node.span, message, None);
            }
        }
        let (of, others): (_, &[&str]) = match listener.address.transport {
            Transport::Udp => ("TCP", &["max_connections", "max_connections_per_peer", "idle_timeout"]),
            Transport::Tcp => ("UDP", &["receivers", "receive_buffer"]),
        };
        for name in others {
            if let Some(entry) = fields.entry(name) {
                let message = format!("`{name}` does nothing here: it belongs to a listener of {of}");
                let help = format!("take it away, or see that `{}` is the right address", listener.address);
                cx.warning("config-conflict", &entry.key_span, message, Some(help));
            }
        }
        listeners.push(listener);
    }
    listeners.into()
}

fn source(cx: &mut Context<'_>, fields: &Fields<'_>) -> SourceSettings {
    let mut source = SourceSettings::default();
    if let Some((node, Kind::List(kind))) = fields.get(cx, "order") {
        source.order.clear();
        for item in cx.items(node, false, "trap_address, agent_address, packet").unwrap_or_default() {
            let origin = match cx.choice(item, kind) {
                Some("trap_address") => SourceOrigin::TrapAddress,
                Some("agent_address") => SourceOrigin::AgentAddress,
                Some(_) => SourceOrigin::Packet,
                None => continue,
            };
            if source.order.contains(&origin) {
                cx.error("config-duplicate-name", &item.span, "this origin stands twice", None);
            } else {
                source.order.push(origin);
            }
        }
    }
    if let Some(networks) = fields.networks(cx, "trusted_relays") {
        source.trusted_relays = networks;
    }
    if let Some(networks) = fields.networks(cx, "direct_agent_address") {
        source.direct_agent_address = networks;
    }
    if let Some(fields) = open(cx, fields, "canonical") {
        source.canonical = canonical(cx, &fields);
    }
    source
}

fn canonical(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<Canonical> {
    let lookup = fields.get(cx, "lookup").and_then(|(node, _)| Some((node, cx.text(node)?)));
    let column = fields.get(cx, "column").and_then(|(node, _)| Some((node, cx.text(node)?)));
    let (node, lookup) = lookup?;
    let table = cx.table(lookup, &node.span)?;
    if table.by() != "source" {
        let message = format!("the lookup `{lookup}` is asked by `{}`, not by `source`", table.by());
        let help = "the name of a device is looked up by its address: name a table without `by`";
        cx.error("config-conflict", &node.span, message, Some(help.into()));
        return None;
    }
    let (node, column) = column?;
    cx.column(lookup, column, &node.span).then(|| Canonical { lookup: lookup.into(), column: column.into() })
}

/// What devices can be called. `source` is the section, if there is one.
fn named(settings: &Settings, source: Option<&Node>) -> watch::Named {
    let table_of = |canonical: &Canonical| {
        let table = settings.lookups.iter().find(|table| *table.name() == canonical.lookup)?;
        Some(watch::Named::Column(Arc::clone(table), table.column(&canonical.column)?))
    };
    if let Some(named) = settings.source.canonical.as_ref().and_then(table_of) {
        return named;
    }
    match source.map(|node| &node.data) {
        Some(Data::Map(entries)) if entries.iter().any(|entry| entry.key == "canonical") => {
            watch::Named::Unknown
        }
        _ => watch::Named::ByAddress,
    }
}

/// The most values of one component.
const MAX_COMPONENT: usize = 100_000;

fn components(cx: &mut Context<'_>, node: &Node) -> BTreeMap<Arc<str>, Component> {
    let mut components = BTreeMap::new();
    let Data::Map(entries) = &node.data else {
        cx.wrong_type(node, "a section of components' names and their settings");
        return components;
    };
    for entry in entries {
        if entry.key.trim().is_empty() || entry.key.len() > 200 {
            let message = "the name of a component has 1 to 200 octets";
            cx.error("config-value", &entry.key_span, message, None);
            continue;
        }
        let mut left = MAX_COMPONENT;
        match free_form(&entry.value, &mut left) {
            Some(value) => drop(components.entry(entry.key.as_str().into()).or_insert(Component(value))),
            None => {
                let message = format!("the settings of a component are at most {MAX_COMPONENT} values");
                cx.error("config-range", &entry.key_span, message, None);
            }
        }
    }
    components
}

/// As JSON; `None` for more than `left` values. Recursion is bounded by the depth of the tree.
fn free_form(node: &Node, left: &mut usize) -> Option<serde_json::Value> {
    use serde_json::{Number, Value};
    *left = left.checked_sub(1)?;
    Some(match &node.data {
        Data::Null => Value::Null,
        Data::Bool(value) => Value::Bool(*value),
        Data::Integer(number, _) => Value::from(*number),
        // What JSON has no number for stays the text that it is.
        Data::Float(number, text) => match text.parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => Number::from_f64(*number).map_or_else(|| Value::from(text.as_str()), Value::Number),
        },
        Data::Text(text) => Value::from(text.as_str()),
        Data::List(items) => {
            Value::Array(items.iter().map(|item| free_form(item, left)).collect::<Option<_>>()?)
        }
        Data::Map(entries) => {
            let entries =
                entries.iter().rev().map(|entry| Some((entry.key.clone(), free_form(&entry.value, left)?)));
            Value::Object(entries.collect::<Option<_>>()?)
        }
    })
}

fn paths(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> Vec<PathBuf> {
    let Some((node, _)) = fields.get(cx, name) else { return Vec::new() };
    let items = cx.items(node, true, "paths").unwrap_or_default();
    items.iter().filter_map(|item| path(cx, item)).collect()
}

pub(super) fn path(cx: &mut Context<'_>, node: &Node) -> Option<PathBuf> {
    let text = cx.text(node)?;
    if text.contains('\0') {
        cx.error("config-value", &node.span, "a path holds no NUL", None);
        return None;
    }
    Some(PathBuf::from(text))
}

fn storage(cx: &mut Context<'_>, fields: &Fields<'_>) -> StorageSettings {
    let mut storage = StorageSettings::default();
    if let Some(path) = fields.get(cx, "path").and_then(|(node, _)| path(cx, node)) {
        storage.path = path;
    }
    storage.retention = fields.duration(cx, "retention").unwrap_or(storage.retention);
    storage.max_size = fields.size(cx, "max_size").unwrap_or(storage.max_size);
    storage
}

fn admin(cx: &mut Context<'_>, fields: &Fields<'_>) -> AdminSettings {
    let mut admin = AdminSettings::default();
    let address: Option<(SocketAddr, &Node)> =
        fields.get(cx, "address").and_then(|(node, _)| cx.address(node).map(|address| (address, node)));
    if let Some((address, node)) = address {
        admin.address = address;
        if !address.ip().to_canonical().is_loopback() && fields.entry("token").is_none() {
            let message = format!("`{address}` can be reached from outside, so that `admin.token` is needed");
            let help = "add `token: {file: /run/secrets/admin}`, or listen on 127.0.0.1";
            cx.error("config-admin-token", &node.span, message, Some(help.into()));
        }
    }
    if let Some((node, _)) = fields.get(cx, "hosts") {
        for item in cx.items(node, false, "host names").unwrap_or_default() {
            let Some(host) = cx.text(item) else { continue };
            let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
            if plain || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
                admin.hosts.push(host.into());
            } else {
                let help = "write the name alone, without scheme and port: `nereus.example.com`";
                let message = format!("{} is no host name", cx.quoted(item));
                cx.error("config-value", &item.span, message, Some(help.into()));
            }
        }
    }
    admin.token = fields.get(cx, "token").and_then(|(node, _)| cx.secret(node));
    admin.read_token = fields.get(cx, "read_token").and_then(|(node, _)| cx.secret(node));
    if admin.token.is_some() && admin.token == admin.read_token {
        let span = fields.entry("read_token").map_or(fields.node.shown(), |entry| entry.key_span.clone());
        let message = "`read_token` is the same as `token`, so that who may read may change";
        cx.error("config-conflict", &span, message, Some("make them differ".into()));
    }
    admin
}

fn logging(cx: &mut Context<'_>, fields: &Fields<'_>) -> LoggingSettings {
    let mut logging = LoggingSettings::default();
    logging.level = match fields.choice(cx, "level") {
        Some("error") => LogLevel::Error,
        Some("warn") => LogLevel::Warn,
        Some("info") => LogLevel::Info,
        Some("debug") => LogLevel::Debug,
        Some(_) => LogLevel::Trace,
        None => logging.level,
    };
    if fields.choice(cx, "format") == Some("text") {
        logging.format = LogFormat::Text;
    }
    if let Some(path) = fields.get(cx, "output").and_then(|(node, _)| path(cx, node)) {
        logging.output = match path.to_str() {
            Some("stderr") => LogOutput::Stderr,
            Some("stdout") => LogOutput::Stdout,
            _ => LogOutput::File(path),
        };
    }
    logging
}

fn reload(cx: &mut Context<'_>, fields: &Fields<'_>) -> ReloadSettings {
    let default = ReloadSettings::default();
    let mut guard = GuardSettings::default();
    if let Some(fields) = open(cx, fields, "guard") {
        let samples = fields.integer(cx, "samples").and_then(|number| usize::try_from(number).ok());
        guard.samples = samples.unwrap_or(guard.samples);
        if let Some((node, _)) = fields.get(cx, "max_unresolved_increase") {
            guard.max_unresolved_increase = cx.percent(node).unwrap_or(guard.max_unresolved_increase);
        }
    }
    let attempts = fields.integer(cx, "max_reload_attempts").and_then(|number| u32::try_from(number).ok());
    let kept = fields.integer(cx, "keep_generations").and_then(|number| usize::try_from(number).ok());
    ReloadSettings {
        enabled: fields.flag(cx, "enabled").unwrap_or(default.enabled),
        watch_config_file: fields.flag(cx, "watch_config_file").unwrap_or(default.watch_config_file),
        watch_mib_directories: fields
            .flag(cx, "watch_mib_directories")
            .unwrap_or(default.watch_mib_directories),
        reload_delay: fields.duration(cx, "reload_delay").unwrap_or(default.reload_delay),
        max_reload_attempts: attempts.unwrap_or(default.max_reload_attempts),
        reload_timeout: fields.duration(cx, "reload_timeout").unwrap_or(default.reload_timeout),
        preserve_state: fields.flag(cx, "preserve_state").unwrap_or(default.preserve_state),
        validate_before_reload: fields
            .flag(cx, "validate_before_reload")
            .unwrap_or(default.validate_before_reload),
        keep_generations: kept.unwrap_or(default.keep_generations),
        guard,
    }
}
