//! `storm` and `heartbeats`: alerts that no rule raises.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::super::keys::{Kind, Section};
use super::super::lookup::LookupTable;
use super::super::settings::{HeartbeatSettings, StormSettings, WatchAlert};
use super::super::tree::{Data, Node};
use super::rules::OWN_LABELS;
use super::{Context, Fields, shortened, suggest};
use crate::device::{DEFAULT_REALM, Device, DeviceRef, split_realm};
use crate::severity::Severity;

/// Devices of all heartbeats; each has a timer.
const MAX_BEATS: usize = 100_000;

/// Rows of a table among which a likely name is looked for.
const MAX_SUGGESTED: usize = 10_000;

/// `storm`, if the section is there.
pub(super) fn storm(cx: &mut Context<'_>, fields: &Fields<'_>, webhooks: &[Arc<str>]) -> StormSettings {
    StormSettings {
        alerts: fields.integer(cx, "alerts").and_then(|alerts| u32::try_from(alerts).ok()).unwrap_or(100),
        per: fields.duration(cx, "per").unwrap_or(Duration::from_secs(60)),
        hold: fields.duration(cx, "hold").unwrap_or(Duration::from_secs(300)),
        raises: raises(cx, fields, "AlertStorm", webhooks),
    }
}

/// `heartbeats`, in their order.
pub(super) fn heartbeats(
    cx: &mut Context<'_>,
    node: &Node,
    section: &'static Section,
    webhooks: &[Arc<str>],
    realms: &[Arc<str>],
    named: &Named,
) -> Vec<Arc<HeartbeatSettings>> {
    let mut heartbeats = Vec::new();
    let (mut names, mut beats) = (HashSet::new(), 0);
    let device_names = NamesOf { named, cells: OnceCell::new() };
    for item in cx.items(node, false, "heartbeats").unwrap_or_default() {
        let Some(fields) = cx.section(item, section) else { continue };
        let mut name: Arc<str> = "".into();
        if let Some((node, _)) = fields.get(cx, "name")
            && let Some(text) = cx.name(node)
        {
            name = text.into();
            if !names.insert(text) {
                let message = format!("two heartbeats are called `{text}`");
                let help = "give each a name of its own";
                cx.error("config-duplicate-name", &node.span, message, Some(help.into()));
            }
        }
        let realm = fields.get(cx, "realm").and_then(|(node, _)| cx.reference(node, "realm", realms));
        let realm = realm.filter(|realm| **realm != *DEFAULT_REALM);
        let mut sources = Vec::new();
        if let Some((node, _)) = fields.get(cx, "source") {
            let mut seen = HashSet::new();
            for item in cx.items(node, true, "addresses and names").unwrap_or_default() {
                let Some(device) = device(cx, item, realm.as_ref(), &device_names) else { continue };
                if seen.insert(device.to_string()) {
                    sources.push(device);
                }
            }
            beats += sources.len();
            if beats > MAX_BEATS {
                let message = format!("heartbeats have at most {MAX_BEATS} devices in all");
                cx.error("config-range", &node.shown(), message, None);
                sources.clear();
            }
        }
        let within = fields.duration(cx, "within").unwrap_or_default();
        let raises = raises(cx, &fields, "DeviceSilent", webhooks);
        heartbeats.push(Arc::new(HeartbeatSettings { name, sources, within, raises }));
    }
    heartbeats
}

/// What devices can be called in `heartbeats[].source`, besides their addresses.
pub(super) enum Named {
    /// Nothing: there is no `source.canonical`.
    ByAddress,
    /// Nobody knows, since `source.canonical` itself is not usable, which is told by itself.
    Unknown,
    /// What stands in this column.
    Column(Arc<LookupTable>, usize),
}

/// [`Named`], and its column's texts once a name was asked for: a table may have a million rows.
struct NamesOf<'a> {
    named: &'a Named,
    cells: OnceCell<HashSet<&'a str>>,
}

impl<'a> NamesOf<'a> {
    fn has(&self, name: &str) -> bool {
        match self.named {
            Named::ByAddress => false,
            Named::Unknown => !name.is_empty(),
            Named::Column(table, column) => {
                self.cells.get_or_init(|| cells(table, *column).collect()).contains(name)
            }
        }
    }
}

fn cells(table: &LookupTable, column: usize) -> impl Iterator<Item = &str> {
    table.cells(column).filter(|cell| !cell.is_empty())
}

/// One device, by address or name. What reads as an address or network is never a name.
fn device(
    cx: &mut Context<'_>,
    node: &Node,
    realm: Option<&Arc<str>>,
    names: &NamesOf<'_>,
) -> Option<DeviceRef> {
    let Data::Text(text) = &node.data else {
        // Tells what is wrong.
        let _ = cx.network(node);
        return None;
    };
    let (_, address) = split_realm(text);
    let is_address = address.parse::<IpAddr>().is_ok() || address.parse::<IpNet>().is_ok();
    if is_address {
        let network = cx.network(node)?;
        if network.prefix_len() != network.max_prefix_len() {
            let message = "a heartbeat needs the addresses of its devices, not a network";
            let help = "each of them must send; `include` takes a list that a program writes";
            cx.error("config-value", &node.span, message, Some(help.into()));
            return None;
        }
        return Some(Device { realm: realm.cloned(), address: network.addr() }.into());
    }
    let name = cx.name(node)?;
    if names.has(name) {
        return Some(DeviceRef::Name(name.into()));
    }
    let shown = shortened(name);
    match names.named {
        Named::Column(table, column) => {
            let near = (table.len() <= MAX_SUGGESTED).then(|| suggest(name, cells(table, *column))).flatten();
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name it by its address, or add it to the table".to_owned(),
            };
            let column = table.columns().nth(*column).unwrap_or_default();
            let message =
                format!("`{shown}` is no address, and no device is called so in `{}.{column}`", table.name());
            cx.error("config-dangling", &node.span, message, Some(help));
        }
        Named::ByAddress | Named::Unknown => {
            let message = format!("`{shown}` is no address");
            let help = "names of devices are those that `source.canonical` gives: without it a heartbeat takes addresses";
            cx.error("config-value", &node.span, message, Some(help.into()));
        }
    }
    None
}

fn raises(cx: &mut Context<'_>, fields: &Fields<'_>, alert: &str, webhooks: &[Arc<str>]) -> WatchAlert {
    let named = fields.get(cx, "alert").and_then(|(node, _)| cx.name(node)).unwrap_or(alert);
    let severity = fields.choice(cx, "severity").and_then(|word| word.parse().ok());
    let mut labels = BTreeMap::new();
    if let Some((node, _)) = fields.get(cx, "labels") {
        match &node.data {
            Data::Map(entries) => {
                for entry in entries {
                    if OWN_LABELS.contains(&&*entry.key) || entry.key == "heartbeat" {
                        let message = format!("the label `{}` is set by Nereus itself", entry.key);
                        let help = "choose another name";
                        cx.error("config-conflict", &entry.key_span, message, Some(help.into()));
                    }
                    if let Some(text) = cx.text(&entry.value) {
                        labels.entry(entry.key.clone()).or_insert_with(|| text.to_owned());
                    }
                }
            }
            _ => cx.wrong_type(node, "a section of names and texts"),
        }
    }
    let notify = fields.get(cx, "notify").and_then(|(node, _)| {
        let items = cx.items(node, false, "webhook names")?;
        Some(items.iter().filter_map(|item| cx.reference(item, "webhook", webhooks)).collect())
    });
    WatchAlert { alert: named.into(), severity: severity.unwrap_or(Severity::Major), labels, notify }
}

/// Whether `kind` is a list of sections, and of which.
pub(super) fn list_of(kind: &'static Kind) -> Option<&'static Section> {
    match kind {
        Kind::List(Kind::Section(section)) => Some(section),
        _ => None,
    }
}
