//! What the correlator watches besides rules: how fast sources raise alerts, and whether they send at all.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::device::{Device, DeviceRef};
use crate::severity::Severity;

/// Everything that one generation watches.
#[derive(Debug, Default)]
pub struct Watch {
    /// Storm control, where it is on.
    pub storm: Option<StormControl>,
    /// Sources that must send.
    pub heartbeats: Vec<Heartbeat>,
    /// What devices are called besides their addresses, if they are.
    pub names: Option<Arc<dyn DeviceNames>>,
}

/// The names of devices. Implemented by what `source.canonical` is bound to.
pub trait DeviceNames: Send + Sync + fmt::Debug {
    /// What `source` is in the keys of this device's alerts, if that is not its address.
    fn name(&self, device: &Device) -> Option<Cow<'_, str>>;
}

impl Watch {
    /// What `source` is in the keys of this device's alerts. Alerts that no rule raises carry the same, so that a
    /// mute or a route of one concerns the other.
    #[must_use]
    pub fn source(&self, device: &Device) -> Cow<'_, str> {
        let name = self.names.as_deref().and_then(|names| names.name(device));
        name.unwrap_or_else(|| device.to_string().into())
    }

    /// The same for a device that the configuration means.
    #[must_use]
    pub fn source_meant<'a>(&'a self, device: &'a DeviceRef) -> Cow<'a, str> {
        match device {
            DeviceRef::Address(device) => self.source(device),
            DeviceRef::Name(name) => Cow::Borrowed(name),
        }
    }
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
    pub sources: Vec<DeviceRef>,
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
