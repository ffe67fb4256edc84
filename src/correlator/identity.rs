//! An alert's label set: what makes it this alert for Alertmanager and for people.

use std::sync::Arc;

use crate::severity::Severity;

/// Goes before a label's name where the name is taken, as Prometheus does it.
pub(super) const EXPORTED: &str = "exported_";

/// The names of the labels that every alert has; one allocation each for all alerts.
#[derive(Debug)]
pub(super) struct LabelNames {
    alertname: Arc<str>,
    severity: Arc<str>,
    source: Arc<str>,
}

impl Default for LabelNames {
    fn default() -> Self {
        Self { alertname: "alertname".into(), severity: "severity".into(), source: "source".into() }
    }
}

pub(super) type Labels = Vec<(Arc<str>, String)>;

impl LabelNames {
    /// The label set, sorted by name, each name once.
    ///
    /// Precedence: `alertname` and `severity`, the key's parts, `source`, the rule's own labels. A later
    /// label whose name is taken with another value is kept under `exported_NAME`: a key part that got lost
    /// would give two alerts one identity. A key part called `source` is the device as the rule sees it and
    /// stands for `source` itself.
    pub(super) fn identity<'a>(
        &self,
        alert: &str,
        severity: Severity,
        source: &str,
        key_parts: impl Iterator<Item = (&'a Arc<str>, &'a str)>,
        rule_labels: Labels,
    ) -> Labels {
        let mut labels = Vec::with_capacity(3 + key_parts.size_hint().0 + rule_labels.len());
        labels.push((Arc::clone(&self.alertname), alert.to_owned()));
        labels.push((Arc::clone(&self.severity), severity.as_str().to_owned()));
        for (name, value) in key_parts {
            add(&mut labels, Arc::clone(name), value.to_owned());
        }
        if !labels.iter().any(|(name, _)| *name == self.source) {
            labels.push((Arc::clone(&self.source), source.to_owned()));
        }
        for (name, value) in rule_labels {
            add(&mut labels, name, value);
        }
        labels.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        labels.shrink_to_fit();
        labels
    }

    /// The `source` of a label set that [`Self::identity`] made. It is frozen while the alert is open, also
    /// where the key does not hold it and another device repeats the alert.
    pub(super) fn source<'a>(&self, labels: &'a Labels) -> &'a str {
        labels.iter().find(|(name, _)| *name == self.source).map_or("", |(_, value)| value)
    }

    /// Whether `name` is that of the label that [`Self::source`] reads.
    pub(super) fn is_source(&self, name: &Arc<str>) -> bool {
        *name == self.source
    }

    /// Whether no key part and no rule can have `name` for its label.
    pub(super) fn is_own(&self, name: &Arc<str>) -> bool {
        *name == self.alertname || *name == self.severity
    }

    /// The same label set with another severity.
    pub(super) fn with_severity(&self, mut labels: Labels, severity: Severity) -> Labels {
        for (name, value) in &mut labels {
            if *name == self.severity {
                severity.as_str().clone_into(value);
            }
        }
        labels
    }
}

/// Adds a label, under a longer name where its own is taken. Ends, since the names grow and the set does not.
fn add(labels: &mut Labels, mut name: Arc<str>, value: String) {
    while let Some((_, taken)) = labels.iter().find(|(other, _)| *other == name) {
        if *taken == value {
            return;
        }
        name = format!("{EXPORTED}{name}").into();
    }
    labels.push((name, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(parts: &[(&str, &str)], rule: &[(&str, &str)]) -> Vec<String> {
        let parts: Vec<(Arc<str>, &str)> = parts.iter().map(|&(name, value)| (name.into(), value)).collect();
        let rule = rule.iter().map(|&(name, value)| (name.into(), value.to_owned())).collect();
        let parts = parts.iter().map(|(name, value)| (name, *value));
        LabelNames::default()
            .identity("Down", Severity::Major, "10.0.0.1", parts, rule)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn labels_are_sorted_and_the_source_is_always_there() {
        assert_eq!(
            identity(&[("ifIndex", "3")], &[("team", "noc"), ("area", "x")]),
            ["alertname=Down", "area=x", "ifIndex=3", "severity=major", "source=10.0.0.1", "team=noc"]
        );
        assert_eq!(
            identity(&[("source", "core-1")], &[]),
            ["alertname=Down", "severity=major", "source=core-1"],
            "the key's source is the source"
        );
    }

    #[test]
    fn a_taken_name_is_exported_and_nothing_gets_lost() {
        assert_eq!(
            identity(
                &[("severity", "4"), ("ifIndex", "3"), ("ifIndex", "3"), ("exported_severity", "x")],
                &[("severity", "bad"), ("source", "me"), ("ifIndex", "3"), ("alertname", "Other")]
            ),
            [
                "alertname=Down",
                "exported_alertname=Other",
                "exported_exported_exported_severity=bad",
                "exported_exported_severity=x",
                "exported_severity=4",
                "exported_source=me",
                "ifIndex=3",
                "severity=major",
                "source=10.0.0.1"
            ]
        );
    }

    #[test]
    fn the_severity_is_replaced_in_its_place() {
        let names = LabelNames::default();
        let labels = names.identity("Down", Severity::Major, "a", std::iter::empty(), Vec::new());
        assert_eq!(names.source(&labels), "a");
        let other = names.with_severity(labels, Severity::Info);
        assert_eq!(other, names.identity("Down", Severity::Info, "a", std::iter::empty(), Vec::new()));
    }
}
