//! What the correlator watches besides rules: how fast sources raise alerts, and whether they send at all.

use std::sync::Arc;
use std::time::Duration;

use crate::device::Device;
use crate::severity::Severity;

/// Everything that one generation watches.
#[derive(Debug, Default)]
pub struct Watch {
    /// Storm control, where it is on.
    pub storm: Option<StormControl>,
    /// Sources that must send.
    pub heartbeats: Vec<Heartbeat>,
}

/// When a source raises too many alerts.
#[derive(Debug)]
pub struct StormControl {
    /// More alerts than this …
    pub alerts: u32,
    /// … that begin within this time are a storm.
    pub per: Duration,
    /// It is over once the source has stayed below for so long.
    pub hold: Duration,
    /// What is raised then.
    pub raises: Raises,
}

/// Sources that must send.
#[derive(Debug)]
pub struct Heartbeat {
    /// Its name: stands for the rule's on its alerts, and is their label `heartbeat`.
    pub name: Arc<str>,
    /// Each of them.
    pub sources: Vec<Device>,
    /// Something at least this often.
    pub within: Duration,
    /// What is raised for one that does not.
    pub raises: Raises,
}

/// An alert that no rule raises.
#[derive(Debug)]
pub struct Raises {
    /// Its name.
    pub alert: Arc<str>,
    /// Its severity.
    pub severity: Severity,
    /// Its own labels.
    pub labels: Vec<(Arc<str>, String)>,
    /// Webhooks by name; `None` is every one.
    pub notify: Option<Arc<[Arc<str>]>>,
}
