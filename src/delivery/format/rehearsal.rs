//! Webhook templates are tried out before they are published, with a sample of every rule that notifies them.

use std::sync::Arc;

use serde_json::json;
use serde_json::value::to_raw_value;

use super::{Prepared, queued};
use crate::config::Settings;
use crate::config::settings::{
    RuleActionSettings, RuleSettings, SeveritySettings, Unmatched, WebhookFormat, WebhookSettings,
};
use crate::diagnostic::{Diagnostic, Part};
use crate::event::{AlertId, AlertOrigin, AlertRecord, AlertState, ByHand, EventId, Timestamp};
use crate::severity::Severity;

/// What is wrong with the templates of webhooks: each is rendered with an alert of each rule that notifies it, open,
/// acknowledged and ended, alone and together, with an event and without. Costs eight renderings for each rule and
/// template.
#[must_use]
pub fn rehearse(settings: &Settings) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for webhook in &settings.webhooks {
        if !matches!(webhook.format, WebhookFormat::Template { .. }) {
            continue;
        }
        let rules = settings.rules.iter().filter_map(|rule| sample(rule, &webhook.name));
        let builtin = (settings.unmatched == Unmatched::Builtin).then(builtin);
        for (rule, record) in rules.chain(builtin) {
            if let Err(error) = try_out(webhook, &record) {
                let message = format!(
                    "the template of webhook `{}` fails for an alert of {rule}: {error}",
                    webhook.name
                );
                let mut problem = Diagnostic::error("webhook-template", message)
                    .help("an absent label needs `default`, as `{{ alert.labels.site | default(\"\") }}`; values become JSON by `tojson`");
                problem.part =
                    Some(Box::new(Part { rule: None, key: "webhooks".into(), word: (*webhook.name).into() }));
                problems.push(problem);
                break;
            }
        }
    }
    problems
}

fn try_out(webhook: &Arc<WebhookSettings>, record: &AlertRecord) -> Result<(), String> {
    let event = json!({
        "id": 1, "time": record.last_seen, "generation": 1, "source": "192.0.2.1", "peer": "192.0.2.1:1024",
        "version": "v2c", "trap_oid": "1.3.6.1.6.3.1.1.5.3", "trap_name": "IF-MIB::linkDown", "rule": &*record.rule,
        "severity": record.severity, "alert": &*record.alert, "alert_id": 1,
        "varbinds": [{"oid": "1.3.6.1.2.1.2.2.1.1.3", "name": "IF-MIB::ifIndex", "index": "3", "type": "Integer32",
            "value": 3, "text": "3"}],
    });
    let with = |state: AlertState| {
        let mut record = record.clone();
        record.state = state;
        if state != AlertState::Firing {
            let by_hand = ByHand {
                acknowledged_by: Some("operator".into()),
                acknowledged_at: Some(record.last_seen),
                ..ByHand::default()
            };
            record.by_hand = Some(Box::new(by_hand));
        }
        if state == AlertState::Resolved {
            record.resolved_at = Some(record.last_seen);
            record.resolved_by = Some("trap".into());
        }
        record
    };
    let records = [AlertState::Firing, AlertState::Acknowledged, AlertState::Resolved].map(with);
    let event = to_raw_value(&event).map_err(|error| error.to_string())?;
    for event in [Some(event), None] {
        let alerts = records.iter().map(|record| Ok((record.clone(), event.clone())));
        let alerts = Prepared::all::<String>(webhook, alerts)?;
        for one in &alerts {
            queued(webhook, std::iter::once(one))?;
        }
        if webhook.batch.max > 1 {
            queued(webhook, alerts.iter())?;
        }
    }
    Ok(())
}

/// An alert of a rule that notifies `webhook`, and what the rule is called in a message.
fn sample(rule: &Arc<RuleSettings>, webhook: &Arc<str>) -> Option<(String, AlertRecord)> {
    let RuleActionSettings::Alert(alert) = &rule.action else { return None };
    if alert.notify.as_ref().is_some_and(|names| !names.contains(webhook)) {
        return None;
    }
    let severity = match &alert.severity {
        SeveritySettings::Fixed(severity) => *severity,
        _ => Severity::Warning,
    };
    let mut labels: Vec<(Arc<str>, String)> =
        alert.key.iter().map(|name| (name.as_str().into(), "1".to_owned())).collect();
    labels.extend(alert.labels.keys().map(|name| (Arc::from(&**name), "text".to_owned())));
    let annotations = alert.annotations.keys().map(|name| (Arc::from(&**name), "A \"text\"\n".to_owned()));
    let record = record(&alert.alert, &rule.name, severity, labels, annotations.collect());
    Some((format!("rule `{}`", rule.name), record))
}

/// An alert of the built-in rules.
fn builtin() -> (String, AlertRecord) {
    let annotations =
        ["summary", "description"].map(|name| (Arc::from(name), "A \"text\"\n".to_owned())).into();
    let record = record("Trap", "builtin", Severity::Warning, Vec::new(), annotations);
    ("the built-in rules".to_owned(), record)
}

fn record(
    alert: &str,
    rule: &str,
    severity: Severity,
    more: Vec<(Arc<str>, String)>,
    annotations: Vec<(Arc<str>, String)>,
) -> AlertRecord {
    let mut labels: Vec<(Arc<str>, String)> = vec![
        ("alertname".into(), alert.to_owned()),
        ("severity".into(), severity.as_str().to_owned()),
        ("source".into(), "192.0.2.1".to_owned()),
    ];
    for (name, value) in more {
        if !labels.iter().any(|(known, _)| *known == name) {
            labels.push((name, value));
        }
    }
    labels.sort();
    let now = Timestamp(1_700_000_000_000_000);
    AlertRecord {
        id: AlertId(1),
        change: 1,
        alert: alert.into(),
        rule: rule.into(),
        severity,
        state: AlertState::Firing,
        key: alert.into(),
        labels,
        annotations,
        count: 1,
        first_seen: now,
        last_seen: now,
        last_event: EventId(1),
        resolved_at: None,
        resolved_by: None,
        quiet_until: None,
        expires_at: None,
        notify: None,
        by_hand: None,
        muted: None,
        flap: None,
        origin: AlertOrigin::Rule,
    }
}
