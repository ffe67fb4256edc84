//! The rules that stand behind the user's own while `unmatched` is `builtin`: what sensible people
//! would write first.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::settings::{
    AlertSettings, ClearSettings, RuleActionSettings, RuleSettings, SeveritySettings, TrapPattern,
};
use crate::severity::Severity;

/// How long an alert stays open that nothing clears.
const EXPIRE: Duration = Duration::from_secs(3600);
/// How long repeats are only counted.
const DEDUPLICATE: Duration = Duration::from_secs(300);

/// The built-in rules, in order; the last one takes everything. Always the same `Arc`s, so that
/// generations share them.
pub(super) fn rules() -> &'static [Arc<RuleSettings>] {
    static RULES: OnceLock<Vec<Arc<RuleSettings>>> = OnceLock::new();
    RULES.get_or_init(|| {
        let lone = |name: &str, trap: &str, alert: &str, severity, summary: &str| {
            rule(name, Some(trap), alert, severity, &["source"], None, summary)
        };
        vec![
            rule(
                "builtin-link",
                Some("IF-MIB::linkDown"),
                "InterfaceDown",
                Severity::Major,
                &["source", "ifIndex"],
                Some("IF-MIB::linkUp"),
                "{{ source }}: interface {{ ifIndex }} is down",
            ),
            lone(
                "builtin-cold-start",
                "SNMPv2-MIB::coldStart",
                "DeviceColdStart",
                Severity::Warning,
                "{{ source }} has restarted, and its configuration may have changed",
            ),
            lone(
                "builtin-warm-start",
                "SNMPv2-MIB::warmStart",
                "DeviceWarmStart",
                Severity::Info,
                "{{ source }} has restarted with its configuration unchanged",
            ),
            lone(
                "builtin-authentication-failure",
                "SNMPv2-MIB::authenticationFailure",
                "SnmpAuthenticationFailure",
                Severity::Warning,
                "{{ source }} was asked with a wrong community or user",
            ),
            lone(
                "builtin-egp-neighbor-loss",
                "1.3.6.1.6.3.1.1.5.6",
                "EgpNeighborLoss",
                Severity::Major,
                "{{ source }} has lost an EGP neighbour",
            ),
            rule(
                "builtin-any",
                None,
                "SnmpTrap",
                Severity::Warning,
                &["source", "trap_oid"],
                None,
                "{{ source }} sent {{ trap }}",
            ),
        ]
    })
}

fn rule(
    name: &str,
    trap: Option<&str>,
    alert: &str,
    severity: Severity,
    key: &[&str],
    cleared_by: Option<&str>,
    summary: &str,
) -> Arc<RuleSettings> {
    let pattern = |text: &str| match text.parse() {
        Ok(oid) => TrapPattern::Exact(oid),
        Err(_) => TrapPattern::Name(text.to_owned()),
    };
    let annotation = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Arc::new(RuleSettings {
        name: name.into(),
        trap: trap.map(pattern).into_iter().collect(),
        except: Vec::new(),
        source: Vec::new(),
        realm: Vec::new(),
        community: Vec::new(),
        when: None,
        action: RuleActionSettings::Alert(AlertSettings {
            alert: alert.into(),
            severity: SeveritySettings::Fixed(severity),
            key: key.iter().map(|&part| part.to_owned()).collect(),
            cleared_by: cleared_by.map(|trap| ClearSettings {
                trap: vec![pattern(trap)],
                when: None,
                key: BTreeMap::new(),
            }),
            deduplicate: Some(DEDUPLICATE),
            store_repeats: true,
            expire: cleared_by.is_none().then_some(EXPIRE),
            flapping: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::from([
                annotation("summary", summary),
                annotation("description", "{{ trap }}: {{ varbinds }}"),
            ]),
            notify: None,
        }),
        continue_: false,
    })
}
