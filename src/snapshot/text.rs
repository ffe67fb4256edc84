//! Labels and annotations of an alert: templates over bound names.

use std::sync::Arc;

use super::field::{Field, Names, Subject, Unbound};
use crate::event::{AlertText, Event, Rendered};
use crate::mib::Mib;
use crate::severity::Severity;
use crate::template::{Template, TemplateValue};
use crate::wire;

/// The templates of one rule, with every name in them bound.
pub(super) struct RuleText {
    pub(super) labels: Vec<(Arc<str>, Template)>,
    pub(super) annotations: Vec<(Arc<str>, Template)>,
    pub(super) fields: Vec<Field>,
    pub(super) rule: Arc<str>,
    pub(super) alert: Arc<str>,
    pub(super) mib: Arc<Mib>,
}

impl std::fmt::Debug for RuleText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleText").field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// Names that a template may use besides varbinds and the special names of rules.
const OWN: [&str; 3] = ["severity", "alert", "rule"];

impl RuleText {
    /// Binds the names that `template` uses into `fields`, each once.
    ///
    /// # Errors
    /// The name that cannot be bound, and why.
    pub(super) fn bind(
        template: &Template,
        fields: &mut Vec<Field>,
        notifications: &[crate::mib::NodeId],
        names: &Names<'_>,
    ) -> Result<(), Vec<(String, Unbound)>> {
        let mut unbound = Vec::new();
        for name in template.variables() {
            if OWN.contains(&name.as_str()) || fields.iter().any(|field| *field.name == *name) {
                continue;
            }
            match Field::bind(name, notifications, names) {
                Ok(field) => fields.push(field),
                Err(error) => unbound.push((name.clone(), error)),
            }
        }
        if unbound.is_empty() { Ok(()) } else { Err(unbound) }
    }
}

impl AlertText for RuleText {
    fn render(&self, event: &Event, severity: Severity) -> Rendered {
        // The receiver decoded these very octets; should they not decode now, the alert still stands.
        let notification = wire::decode_pdu(event.version, event.pdu()).ok();
        let value = |name: &str| -> Option<TemplateValue> {
            match name {
                "severity" => return Some(TemplateValue::Text(severity.to_string())),
                "alert" => return Some(TemplateValue::Text(self.alert.to_string())),
                "rule" => return Some(TemplateValue::Text(self.rule.to_string())),
                _ => {}
            }
            let field = self.fields.iter().find(|field| *field.name == *name)?;
            let subject = Subject {
                notification: notification.as_ref()?,
                trap_oid: event.trap_oid.arcs(),
                source: event.source.address,
                realm: event.source.realm.as_deref(),
                peer: event.peer,
                version: event.version,
                community: event.community.as_deref(),
            };
            let mut text = String::new();
            field.write(&subject, &self.mib, &mut text).then_some(TemplateValue::Text(text))
        };
        let all = |templates: &[(Arc<str>, Template)]| {
            templates
                .iter()
                .map(|(name, template)| {
                    // Never an alert lost for a text: what cannot be rendered shows its template.
                    let text = template.render(&value).unwrap_or_else(|_| template.source().to_owned());
                    (Arc::clone(name), text)
                })
                .collect()
        };
        Rendered { labels: all(&self.labels), annotations: all(&self.annotations) }
    }

    fn constant_labels(&self) -> Option<Vec<(Arc<str>, String)>> {
        let value = |name: &str| match name {
            "alert" => Some(TemplateValue::Text(self.alert.to_string())),
            "rule" => Some(TemplateValue::Text(self.rule.to_string())),
            _ => None,
        };
        let constant = |(name, template): &(Arc<str>, Template)| {
            let known = template.variables().iter().all(|name| value(name).is_some());
            let text = || template.render(&value).unwrap_or_else(|_| template.source().to_owned());
            known.then(|| (Arc::clone(name), text()))
        };
        self.labels.iter().map(constant).collect()
    }
}
