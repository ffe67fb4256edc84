//! `rules`: what each says, and what contradicts itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::keys::Kind;
use super::super::settings::{
    AlertSettings, ClearSettings, Condition, FlappingSettings, MappedSeverity, RuleActionSettings,
    RuleSettings, SeveritySettings, TrapPattern,
};
use super::super::tree::{Data, Node};
use super::{Context, Fields, pick};
use crate::severity::Severity;

/// What rules refer to.
pub(super) struct Names<'a> {
    pub(super) webhooks: &'a [Arc<str>],
    pub(super) communities: &'a [Arc<str>],
    pub(super) realms: &'a [Arc<str>],
}

/// A rule that nothing clears ends after this long without a repeat.
const EXPIRE: Duration = Duration::from_secs(3_600);
/// The most parts of a key.
const MAX_KEY: usize = 16;
/// Labels that Nereus sets.
pub(super) const OWN_LABELS: [&str; 3] = ["alertname", "severity", "source"];
/// Keys that speak of the alert.
const ALERT_KEYS: [&str; 11] = [
    "alert",
    "severity",
    "key",
    "cleared_by",
    "deduplicate",
    "history",
    "flapping",
    "expire",
    "labels",
    "annotations",
    "notify",
];

pub(super) fn rules(
    cx: &mut Context<'_>,
    node: &Node,
    kind: &'static Kind,
    names: &Names<'_>,
) -> Vec<Arc<RuleSettings>> {
    let Kind::List(Kind::Section(section)) = kind else { return Vec::new() };
    let mut rules: Vec<Arc<RuleSettings>> = Vec::new();
    let items = cx.items(node, false, "rules").unwrap_or_default();
    let mut catch_all: Option<&str> = None;
    let mut seen = HashSet::new();
    for item in items {
        let Some(fields) = cx.section(item, section) else { continue };
        if let Some(earlier) = catch_all {
            let message = format!("no notification reaches this rule: `{earlier}` above matches everything");
            let help = "move that rule to the end, or give it `continue: true`";
            cx.warning("config-shadowed", &item.shown(), message, Some(help.into()));
            catch_all = None;
        }
        let (name_node, name) = match fields.get(cx, "name") {
            Some((node, _)) => (Some(node), cx.name(node).unwrap_or_default()),
            None => (None, ""),
        };
        if let Some(node) = name_node.filter(|_| !name.is_empty() && !seen.insert(name)) {
            let message = format!("two rules are called `{name}`");
            cx.error(
                "config-duplicate-name",
                &node.span,
                message,
                Some("give each rule a name of its own".into()),
            );
        }
        let rule = rule(cx, &fields, name, names);
        let everything = rule.trap.is_empty()
            && rule.except.is_empty()
            && rule.source.is_empty()
            && rule.realm.is_empty()
            && rule.community.is_empty()
            && rule.when.is_none();
        // A `match` that could not be read is told by itself.
        if everything && !rule.continue_ && fields.entry("match").is_none() && !name.is_empty() {
            catch_all = Some(name);
        }
        rules.push(Arc::new(rule));
    }
    rules
}

fn rule(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str, names: &Names<'_>) -> RuleSettings {
    let mut rule = RuleSettings {
        name: name.into(),
        trap: Vec::new(),
        except: Vec::new(),
        source: Vec::new(),
        realm: Vec::new(),
        community: Vec::new(),
        when: None,
        action: RuleActionSettings::Store,
        continue_: false,
    };
    if let Some((node, Kind::Section(section))) = fields.get(cx, "match")
        && let Some(fields) = cx.section(node, section)
    {
        rule.trap = traps(cx, &fields, "trap");
        rule.except = traps(cx, &fields, "except");
        rule.source = fields.networks(cx, "source").unwrap_or_default();
        if let Some((node, _)) = fields.get(cx, "realm") {
            let items = cx.items(node, true, "names of realms").unwrap_or_default();
            rule.realm = items.iter().filter_map(|item| cx.reference(item, "realm", names.realms)).collect();
        }
        if let Some((node, _)) = fields.get(cx, "community") {
            let items = cx.items(node, true, "names of communities").unwrap_or_default();
            rule.community =
                items.iter().filter_map(|item| cx.reference(item, "community", names.communities)).collect();
        }
        rule.when = condition(cx, &fields);
    }
    rule.continue_ = fields.flag(cx, "continue").unwrap_or(false);
    let drop = fields.flag(cx, "drop").unwrap_or(false);
    let alert = alert(cx, fields, names);
    if drop {
        if let Some(entry) = ALERT_KEYS.iter().find_map(|key| fields.entry(key)) {
            let message = format!("a rule that drops has no `{}`", entry.key);
            cx.error("config-conflict", &entry.key_span, message, Some("remove it, or `drop`".into()));
        }
        rule.action = RuleActionSettings::Drop;
    } else if fields.entry("alert").is_some() {
        rule.action = RuleActionSettings::Alert(alert);
    } else if let Some(entry) = ALERT_KEYS.iter().find_map(|key| fields.entry(key)) {
        let message = format!("`{}` needs `alert` beside it", entry.key);
        let help = "give the rule an `alert`; without one it stores the event alone";
        cx.error("config-conflict", &entry.key_span, message, Some(help.into()));
    }
    rule
}

fn traps(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> Vec<TrapPattern> {
    fields.get(cx, name).map(|(node, _)| cx.traps(node)).unwrap_or_default()
}

fn condition(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<Condition> {
    fields.get(cx, "when").and_then(|(node, _)| cx.condition(node))
}

fn alert(cx: &mut Context<'_>, fields: &Fields<'_>, names: &Names<'_>) -> AlertSettings {
    let alert = fields.get(cx, "alert").and_then(|(node, _)| cx.name(node)).unwrap_or_default().into();
    let severity = match fields.get(cx, "severity") {
        Some((node, Kind::Either(kinds))) => severity(cx, node, pick(kinds, node)),
        _ => None,
    };
    let severity = severity.unwrap_or(SeveritySettings::Fixed(Severity::Warning));
    let key = match fields.get(cx, "key") {
        Some((node, _)) => key(cx, node),
        None => vec!["source".to_owned()],
    };
    let cleared_by = match fields.get(cx, "cleared_by") {
        Some((node, Kind::Either(kinds))) => clear(cx, node, pick(kinds, node), &key),
        _ => None,
    };
    let clears = matches!(&severity, SeveritySettings::From { map, default, .. }
        if *default == MappedSeverity::Clear || map.values().any(|mapped| *mapped == MappedSeverity::Clear));
    let by_default = (fields.entry("cleared_by").is_none() && !clears).then_some(EXPIRE);
    let expire = match fields.get(cx, "expire") {
        Some((node, Kind::Either(kinds))) => match pick(kinds, node) {
            Kind::Choice(_) if matches!(&node.data, Data::Text(text) if text == "never") => None,
            _ => kinds
                .iter()
                .find(|kind| matches!(kind, Kind::Duration { .. }))
                .and_then(|kind| cx.duration(node, kind)),
        },
        _ => by_default,
    };
    let labels = templates(cx, fields, "labels", Some(&key));
    let annotations = templates(cx, fields, "annotations", None);
    let notify = fields.get(cx, "notify").and_then(|(node, _)| {
        let items = cx.items(node, false, "webhook names")?;
        Some(items.iter().filter_map(|item| cx.reference(item, "webhook", names.webhooks)).collect())
    });
    let flapping = match fields.get(cx, "flapping") {
        Some((node, Kind::Section(section))) => cx.section(node, section).map(|fields| flapping(cx, &fields)),
        _ => None,
    };
    let deduplicate = fields.duration(cx, "deduplicate");
    let store_repeats = fields.choice(cx, "history") != Some("first");
    if let Some(entry) =
        fields.entry("history").filter(|_| !store_repeats && fields.entry("deduplicate").is_none())
    {
        let message = "`history: first` needs `deduplicate` beside it";
        let help = "give the rule a window; without one every repeat is told to webhooks, and stored";
        cx.error("config-conflict", &entry.key_span, message, Some(help.into()));
    }
    AlertSettings {
        alert,
        severity,
        key,
        cleared_by,
        deduplicate,
        store_repeats,
        expire,
        flapping,
        labels,
        annotations,
        notify,
    }
}

fn flapping(cx: &mut Context<'_>, fields: &Fields<'_>) -> FlappingSettings {
    FlappingSettings {
        count: fields.integer(cx, "count").and_then(|count| usize::try_from(count).ok()).unwrap_or(6),
        window: fields.duration(cx, "window").unwrap_or(Duration::from_secs(120)),
        hold: fields.duration(cx, "hold").unwrap_or(Duration::from_secs(600)),
    }
}

fn key(cx: &mut Context<'_>, node: &Node) -> Vec<String> {
    let mut key: Vec<String> = Vec::new();
    for item in cx.items(node, true, "`source` and varbinds").unwrap_or_default() {
        let Some(part) = cx.varbind(item) else { continue };
        if key.contains(&part) {
            cx.error("config-duplicate-name", &item.span, format!("`{part}` stands twice in the key"), None);
        } else if key.len() == MAX_KEY {
            let message = format!("a key has at most {MAX_KEY} parts");
            cx.error("config-range", &item.span, message, None);
            break;
        } else {
            key.push(part);
        }
    }
    match &node.data {
        Data::List(items) if items.is_empty() => {
            let help = "write `key: [source]` for one alert a device";
            cx.error("config-key-empty", &node.span, "a key needs at least one part", Some(help.into()));
        }
        Data::List(_) | Data::Text(_) if !key.is_empty() && !key.iter().any(|part| part == "source") => {
            let message = "the key has no `source`: the same values from two devices are one alert";
            cx.warning(
                "config-key-source",
                &node.shown(),
                message,
                Some("add `source`, unless this is meant".into()),
            );
        }
        _ => {}
    }
    key
}

fn severity(cx: &mut Context<'_>, node: &Node, kind: &'static Kind) -> Option<SeveritySettings> {
    let Kind::Section(section) = kind else {
        let word = cx.choice(node, kind)?;
        return word.parse().ok().map(SeveritySettings::Fixed);
    };
    let fields = cx.section(node, section)?;
    let varbind = fields.get(cx, "from").and_then(|(node, _)| cx.varbind(node));
    let mut map = BTreeMap::new();
    if let Some((node, Kind::Map(kind))) = fields.get(cx, "map") {
        match &node.data {
            Data::Map(entries) => {
                for entry in entries {
                    if let Some(mapped) = cx.choice(&entry.value, kind).map(mapped) {
                        map.entry(entry.key.clone()).or_insert(mapped);
                    }
                }
            }
            _ => cx.wrong_type(node, "a section of values and severities"),
        }
    }
    let default = fields.choice(cx, "default").map_or(MappedSeverity::Severity(Severity::Warning), mapped);
    Some(SeveritySettings::From { varbind: varbind?, map, default })
}

fn mapped(word: &'static str) -> MappedSeverity {
    word.parse().map_or(MappedSeverity::Clear, MappedSeverity::Severity)
}

fn clear(cx: &mut Context<'_>, node: &Node, kind: &'static Kind, key: &[String]) -> Option<ClearSettings> {
    let Kind::Section(section) = kind else {
        return Some(ClearSettings { trap: cx.traps(node), when: None, key: BTreeMap::new() });
    };
    let fields = cx.section(node, section)?;
    let trap = traps(cx, &fields, "trap");
    let when = condition(cx, &fields);
    let mut renamed = BTreeMap::new();
    if let Some((node, _)) = fields.get(cx, "key") {
        match &node.data {
            Data::Map(entries) => {
                for entry in entries {
                    if !key.contains(&entry.key) {
                        let message = format!("`{}` is no part of this rule's key", entry.key);
                        let help = format!("the key is {}", key.join(", "));
                        cx.error("config-dangling", &entry.key_span, message, Some(help));
                    }
                    if let Some(name) = cx.varbind(&entry.value) {
                        renamed.entry(entry.key.clone()).or_insert(name);
                    }
                }
            }
            _ => cx.wrong_type(node, "a section as `{ifIndex: otherIfIndex}`"),
        }
    }
    Some(ClearSettings { trap, when, key: renamed })
}

/// `labels` and `annotations`: names and templates.
fn templates(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    name: &str,
    key: Option<&[String]>,
) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let Some((node, _)) = fields.get(cx, name) else { return texts };
    let Data::Map(entries) = &node.data else {
        cx.wrong_type(node, "a section of names and texts");
        return texts;
    };
    for entry in entries {
        if entry.key.trim().is_empty() {
            cx.error("config-value", &entry.key_span, "this name is empty", None);
        }
        if let Some(key) = key
            && (OWN_LABELS.contains(&&*entry.key) || key.contains(&entry.key))
        {
            let message = format!("the label `{}` is set by Nereus itself", entry.key);
            let help =
                "choose another name; what `alert`, `severity` and `key` say becomes labels of its own";
            cx.error("config-conflict", &entry.key_span, message, Some(help.into()));
        }
        if let Some(text) = cx.template(&entry.value, &entry.key) {
            texts.entry(entry.key.clone()).or_insert(text);
        }
    }
    texts
}
