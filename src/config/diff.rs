//! What differs between two settings, by the names of the file, and what of it needs a restart.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::keys::RESTART_ONLY;
use super::settings::{Endpoint, Listener, Settings, WebhookSettings};

/// The sections of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the file's own names")]
pub enum Section {
    Listener,
    Source,
    Access,
    Mib,
    Components,
    Lookups,
    Unmatched,
    Rules,
    Storm,
    Heartbeats,
    Webhooks,
    Outputs,
    Storage,
    Admin,
    Logging,
    Reload,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::Source => "source",
            Self::Access => "access",
            Self::Mib => "mib",
            Self::Components => "components",
            Self::Lookups => "lookups",
            Self::Unmatched => "unmatched",
            Self::Rules => "rules",
            Self::Storm => "storm",
            Self::Heartbeats => "heartbeats",
            Self::Webhooks => "webhooks",
            Self::Outputs => "outputs",
            Self::Storage => "storage",
            Self::Admin => "admin",
            Self::Logging => "logging",
            Self::Reload => "reload",
        })
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Where it is.
    pub section: Section,
    /// What it is, as a message names it: `storage.path`, `webhooks.alertmanager`, `rules.link`.
    pub key: String,
    /// The path of the restart-only key that changed, as `listener[].receivers`; then nothing of the new
    /// settings may be applied.
    pub restart: Option<&'static str>,
}

/// Every difference, in the order of the file; empty for equal settings. Values are never part of it.
///
/// Listeners are told apart by their address, rules and webhooks by their name. Costs one comparison of
/// the settings.
#[must_use]
pub fn diff(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = Changes(Vec::new());
    listeners(&old.listeners, &new.listeners, &mut changes);
    changes.section(Section::Source, old.source == new.source);
    let (was, is) = (&*old.access, &*new.access);
    changes.key(Section::Access, "access.engine_id", was.engine_id == is.engine_id);
    changes.section(Section::Access, (&was.communities, &was.users) == (&is.communities, &is.users));
    changes.section(Section::Mib, old.mib.directories == new.mib.directories);
    changes.key(Section::Mib, "mib.cache", old.mib.cache == new.mib.cache);
    for (name, component) in &new.components {
        let equal = old.components.get(name) == Some(component);
        changes.key(Section::Components, &format!("components.{name}"), equal);
    }
    for name in old.components.keys().filter(|name| !new.components.contains_key(*name)) {
        changes.key(Section::Components, &format!("components.{name}"), false);
    }
    changes.named(Section::Lookups, &old.lookups, &new.lookups, |table| table.name());
    changes.section(Section::Unmatched, old.unmatched == new.unmatched);
    changes.named(Section::Rules, &old.rules, &new.rules, |rule| &rule.name);
    changes.section(Section::Storm, old.storm == new.storm);
    changes.named(Section::Heartbeats, &old.heartbeats, &new.heartbeats, |heartbeat| &heartbeat.name);
    // Outputs are webhooks with another end, and stand behind them.
    let split = |all: &[Arc<WebhookSettings>]| -> (Vec<_>, Vec<_>) {
        all.iter().cloned().partition(|webhook| webhook.output.is_none())
    };
    let ((webhooks, outputs), (new_webhooks, new_outputs)) = (split(&old.webhooks), split(&new.webhooks));
    changes.named(Section::Webhooks, &webhooks, &new_webhooks, |webhook| &webhook.name);
    changes.named(Section::Outputs, &outputs, &new_outputs, |output| &output.name);
    let (was, is) = (&*old.storage, &*new.storage);
    changes.key(Section::Storage, "storage.path", was.path == is.path);
    changes.key(Section::Storage, "storage.retention", was.retention == is.retention);
    changes.key(Section::Storage, "storage.max_size", was.max_size == is.max_size);
    let (was, is) = (&*old.admin, &*new.admin);
    changes.key(Section::Admin, "admin.address", was.address == is.address);
    let others = (&was.hosts, &was.token, &was.read_token) == (&is.hosts, &is.token, &is.read_token);
    changes.section(Section::Admin, others);
    changes.section(Section::Logging, old.logging == new.logging);
    changes.section(Section::Reload, old.reload == new.reload);
    changes.0
}

/// The restart-only keys among `changes`, as a message names them; empty if all can be applied.
#[must_use]
pub fn restart_needed(changes: &[Change]) -> Vec<&str> {
    changes.iter().filter(|change| change.restart.is_some()).map(|change| &*change.key).collect()
}

struct Changes(Vec<Change>);

impl Changes {
    /// Whether a restart is needed is looked up in the one table, by `path`.
    fn add(&mut self, section: Section, key: String, path: &str) {
        let restart = RESTART_ONLY.iter().copied().find(|restart| *restart == path);
        self.0.push(Change { section, key, restart });
    }

    fn key(&mut self, section: Section, path: &str, equal: bool) {
        if !equal {
            self.add(section, path.to_owned(), path);
        }
    }

    fn section(&mut self, section: Section, equal: bool) {
        self.key(section, &section.to_string(), equal);
    }

    fn named<T: Eq>(&mut self, section: Section, old: &[T], new: &[T], name: impl Fn(&T) -> &str) {
        if old == new {
            return;
        }
        let before: HashMap<&str, &T> = old.iter().map(|item| (name(item), item)).collect();
        let after: HashMap<&str, &T> = new.iter().map(|item| (name(item), item)).collect();
        let start = self.0.len();
        for item in new {
            if before.get(name(item)) != Some(&item) {
                self.add(section, format!("{section}.{}", name(item)), "");
            }
        }
        for item in old {
            if !after.contains_key(name(item)) {
                self.add(section, format!("{section}.{}", name(item)), "");
            }
        }
        // The order of rules decides which one matches first.
        if self.0.len() == start {
            self.add(section, section.to_string(), "");
        }
    }
}

fn listeners(old: &[Listener], new: &[Listener], changes: &mut Changes) {
    let by_address = |list: &[Listener]| {
        list.iter().map(|listener| (listener.address, listener.clone())).collect::<BTreeMap<Endpoint, _>>()
    };
    let (before, after) = (by_address(old), by_address(new));
    for (address, is) in &after {
        match before.get(address) {
            None => changes.add(Section::Listener, format!("listener {address}"), "listener[].address"),
            Some(was) => {
                let mut key = |name: &str, equal: bool| {
                    if !equal {
                        let path = format!("listener[].{name}");
                        changes.add(Section::Listener, format!("{path} of {address}"), &path);
                    }
                };
                key("receivers", was.receivers == is.receivers);
                key("cores", was.cores == is.cores);
                key("receive_buffer", was.receive_buffer == is.receive_buffer);
                key("realm", was.realm == is.realm);
                key("allow", was.allow == is.allow);
                key("max_connections", was.max_connections == is.max_connections);
                key("max_connections_per_peer", was.max_connections_per_peer == is.max_connections_per_peer);
                key("idle_timeout", was.idle_timeout == is.idle_timeout);
            }
        }
    }
    for address in before.keys().filter(|address| !after.contains_key(*address)) {
        changes.add(Section::Listener, format!("listener {address}"), "listener[].address");
    }
    if before == after && old != new {
        changes.add(Section::Listener, "listener".into(), "listener");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{System, parse};

    fn settings(text: &str) -> Settings {
        parse("a.yaml", text.as_bytes(), &System).unwrap_or_else(|problems| panic!("{problems}")).settings
    }

    fn keys(old: &str, new: &str) -> Vec<String> {
        diff(&settings(old), &settings(new)).into_iter().map(|change| change.key).collect()
    }

    #[test]
    fn equal_settings_do_not_differ() {
        assert!(diff(&Settings::default(), &settings("{}")).is_empty());
        assert!(keys("rules: [{name: a}]", "rules:\n  - name: a\n").is_empty());
    }

    #[test]
    fn differences_have_the_names_of_the_file() {
        assert_eq!(keys("{}", "unmatched: drop"), ["unmatched"]);
        assert_eq!(
            keys(
                "rules: [{name: a, match: {trap: b}}, {name: c}]",
                "rules: [{name: a, drop: true, match: {trap: b}}]"
            ),
            ["rules.a", "rules.c"]
        );
        assert_eq!(
            keys(
                "rules: [{name: a, match: {trap: b}}, {name: c}]",
                "rules: [{name: c, match: {trap: d}}, {name: a, match: {trap: b}}]"
            ),
            ["rules.c"]
        );
        assert_eq!(
            keys("outputs: [{name: a, file: {path: b}}]", "outputs: [{name: a, file: {path: c}}]"),
            ["outputs.a"]
        );
        assert_eq!(
            keys("{}", "storage: {retention: 1d, max_size: 1GiB}"),
            ["storage.retention", "storage.max_size"]
        );
        assert_eq!(
            keys("{}", "listener: {address: '[::]:1162'}"),
            ["listener [::]:1162", "listener 0.0.0.0:1162"]
        );
    }

    #[test]
    fn every_restart_only_key_is_found() {
        let old = settings("{}");
        let new = settings(
            "{storage: {path: /elsewhere}, access: {engine_id: 0x8000000001}, mib: {cache: /elsewhere}, listener: {receivers: 2, cores: 1, allow: 10.0.0.0/8}, admin: {address: '127.0.0.1:1'}}",
        );
        let changes = diff(&old, &new);
        assert_eq!(
            restart_needed(&changes),
            [
                "listener[].receivers of 0.0.0.0:1162",
                "listener[].cores of 0.0.0.0:1162",
                "access.engine_id",
                "mib.cache",
                "storage.path",
                "admin.address"
            ]
        );
        let found: Vec<_> = changes.iter().filter_map(|change| change.restart).collect();
        for path in RESTART_ONLY {
            assert!(found.contains(path), "{path}");
        }
    }

    #[test]
    fn a_changed_secret_is_a_change_without_its_value() {
        let of = |token: &str| settings(&format!("admin: {{token: {token}}}"));
        let changes = diff(&of("planted-one"), &of("planted-two"));
        assert_eq!(changes.len(), 1);
        assert!(!format!("{changes:?}").contains("planted"));
    }
}
