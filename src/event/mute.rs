//! Mutes: while one lasts, nobody is told of the alerts that it matches.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AlertRecord, Timestamp};
use crate::device::split_realm;
use crate::severity::Severity;

/// A mute's number: unique, rising, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct MuteId(pub u64);

impl fmt::Display for MuteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What mutes an alert: part of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Muted {
    /// The mute; of several the one with the lowest number.
    pub by: MuteId,
    /// It began while it was muted: nobody has heard of it, so that nobody need hear of its end.
    pub unheard: bool,
}

/// Which devices a mute means: what the alert's label `source` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum SourceMatcher {
    /// A network; a single address is a full-length one. Of the realm `default`, or of this one.
    Network(Option<Box<str>>, IpNet),
    /// Exactly this text: a device's one name, by `source.canonical`.
    Name(String),
}

impl From<String> for SourceMatcher {
    fn from(text: String) -> Self {
        let (realm, own) = split_realm(&text);
        let network = IpNet::from_str(own).or_else(|_| own.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => Self::Network(realm.map(Box::from), network),
            Err(_) => Self::Name(text),
        }
    }
}

impl From<SourceMatcher> for String {
    fn from(matcher: SourceMatcher) -> Self {
        matcher.to_string()
    }
}

impl fmt::Display for SourceMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(realm, net) => {
                if let Some(realm) = realm {
                    write!(f, "{realm}/")?;
                }
                if net.prefix_len() == net.max_prefix_len() { net.addr().fmt(f) } else { net.fmt(f) }
            }
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl SourceMatcher {
    fn matches(&self, source: &str) -> bool {
        match self {
            Self::Network(realm, net) => {
                let (own, address) = split_realm(source);
                own == realm.as_deref()
                    && address.parse::<IpAddr>().is_ok_and(|address| net.contains(&address))
            }
            Self::Name(name) => name == source,
        }
    }
}

/// Which alerts. Each list that is not empty must have one that fits; the labels must all be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matchers {
    /// Names of rules.
    pub rule: Vec<String>,
    /// Names of alerts.
    pub alert: Vec<String>,
    /// Devices.
    pub source: Vec<SourceMatcher>,
    /// Severities.
    pub severity: Vec<Severity>,
    /// Labels with their exact values.
    pub labels: BTreeMap<String, String>,
}

impl Matchers {
    /// Whether it says nothing, and so would match everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they fit `record`. Costs a comparison a matcher, no allocation.
    #[must_use]
    pub fn match_alert(&self, record: &AlertRecord) -> bool {
        fn one<T>(list: &[T], fits: impl FnMut(&T) -> bool) -> bool {
            list.is_empty() || list.iter().any(fits)
        }
        let label = |name: &str| {
            record.labels.iter().find(|(own, _)| **own == *name).map(|(_, value)| value.as_str())
        };
        one(&self.severity, |severity| *severity == record.severity)
            && one(&self.rule, |rule| **rule == *record.rule)
            && one(&self.alert, |alert| **alert == *record.alert)
            && self.labels.iter().all(|(name, value)| label(name) == Some(value))
            && (self.source.is_empty()
                || label("source").is_some_and(|source| self.source.iter().any(|own| own.matches(source))))
    }
}

/// One mute, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    /// Its number.
    pub id: MuteId,
    /// Which alerts.
    pub matchers: Matchers,
    /// In force from this time on …
    pub from: Timestamp,
    /// … and before this one.
    pub until: Timestamp,
    /// Why.
    pub comment: String,
    /// Who made it, as they say it.
    pub by: Arc<str>,
    /// When it was made.
    pub created: Timestamp,
    /// Who ended it before its time, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<MuteEnd>,
}

/// The end of a mute by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteEnd {
    /// When.
    pub at: Timestamp,
    /// Who, as they say it.
    pub by: Arc<str>,
}

/// Where a mute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MuteState {
    /// Its time is still to come.
    Scheduled,
    /// It is in force.
    Active,
    /// Its time is over, or somebody ended it.
    Ended,
}

impl Mute {
    /// Where it stands at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> MuteState {
        if self.ended.is_some() || self.until <= now {
            MuteState::Ended
        } else if self.from <= now {
            MuteState::Active
        } else {
            MuteState::Scheduled
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AlertId, AlertState, EventId};

    fn record() -> AlertRecord {
        AlertRecord {
            id: AlertId(1),
            change: 1,
            alert: "Down".into(),
            rule: "link".into(),
            severity: Severity::Major,
            state: AlertState::Firing,
            key: "Down".into(),
            labels: Vec::new(),
            annotations: Vec::new(),
            count: 1,
            first_seen: Timestamp(0),
            last_seen: Timestamp(0),
            last_event: EventId(1),
            resolved_at: None,
            resolved_by: None,
            quiet_until: None,
            expires_at: None,
            notify: None,
            by_hand: None,
            muted: None,
            flap: None,
            origin: crate::event::AlertOrigin::Rule,
        }
    }

    fn matchers(json: &str) -> Matchers {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_matcher_must_hold_and_of_a_list_one() {
        let mut alert = record();
        alert.labels = [("source", "10.1.2.3"), ("team", "noc")]
            .map(|(name, value)| (name.into(), value.to_owned()))
            .into();
        for (json, fits) in [
            (r#"{"rule": ["link"]}"#, true),
            (r#"{"rule": ["links", "link"]}"#, true),
            (r#"{"rule": ["links"]}"#, false),
            (r#"{"alert": ["Down"], "severity": ["major"]}"#, true),
            (r#"{"alert": ["Down"], "severity": ["minor", "info"]}"#, false),
            (r#"{"source": ["10.1.2.3"]}"#, true),
            (r#"{"source": ["10.1.0.0/16"]}"#, true),
            (r#"{"source": ["10.2.0.0/16", "core-1"]}"#, false),
            (r#"{"source": ["::/0"]}"#, false),
            (r#"{"source": ["default/10.1.0.0/16"]}"#, true),
            (r#"{"source": ["branch/10.1.0.0/16"]}"#, false),
            (r#"{"labels": {"team": "noc"}}"#, true),
            (r#"{"labels": {"team": "noc", "site": "x"}}"#, false),
            (r#"{"labels": {"team": ""}}"#, false),
        ] {
            assert_eq!(matchers(json).match_alert(&alert), fits, "{json}");
        }
        alert.labels[0].1 = "branch/10.1.2.3".to_owned();
        for (source, fits) in [
            ("branch/10.1.2.3", true),
            ("branch/10.1.0.0/16", true),
            ("10.1.0.0/16", false),
            ("lab/0.0.0.0/0", false),
        ] {
            assert_eq!(
                matchers(&format!(r#"{{"source": ["{source}"]}}"#)).match_alert(&alert),
                fits,
                "{source}"
            );
        }
        alert.labels[0].1 = "core-1".to_owned();
        assert!(matchers(r#"{"source": ["10.2.0.0/16", "core-1"]}"#).match_alert(&alert));
        alert.labels.clear();
        assert!(!matchers(r#"{"source": ["0.0.0.0/0"]}"#).match_alert(&alert), "no source at all");
    }

    #[test]
    fn matchers_come_back_as_they_were() {
        let json = r#"{"rule":[],"alert":["Down"],"source":["10.1.0.0/16","10.1.2.3","core-1","branch/10.1.0.0/16"],"severity":["major"],"labels":{"a":"b"}}"#;
        assert_eq!(serde_json::to_string(&matchers(json)).unwrap(), json);
        assert!(Matchers::default().is_empty());
        assert!(serde_json::from_str::<Matchers>(r#"{"rules": ["x"]}"#).is_err(), "a slip mutes nothing");
    }

    #[test]
    fn a_mute_is_in_force_from_its_beginning_up_to_its_end() {
        let mut mute = Mute {
            id: MuteId(1),
            matchers: Matchers::default(),
            from: Timestamp(10),
            until: Timestamp(20),
            comment: String::new(),
            by: "ann".into(),
            created: Timestamp(5),
            ended: None,
        };
        let states = [9, 10, 19, 20].map(|now| mute.state(Timestamp(now)));
        use MuteState::{Active, Ended, Scheduled};
        assert_eq!(states, [Scheduled, Active, Active, Ended]);
        mute.ended = Some(MuteEnd { at: Timestamp(12), by: "bob".into() });
        assert_eq!(mute.state(Timestamp(15)), Ended);
    }
}
