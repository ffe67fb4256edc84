//! The program's own components: what follows a published generation. (The listeners are one too, in
//! [`crate::pipeline`].)

use std::sync::Arc;

use crate::config::Settings;
use crate::config::settings::{LoggingSettings, WatchAlert};
use crate::delivery::Deliveries;
use crate::device::DeviceRef;
use crate::event::{Command, Handed, Heartbeat, Queue, Raises, RuleChanges, StormControl, Watch};
use crate::snapshot::{
    ComponentReloader, PrepareError, Prepared, ReloadCounter, ReloadStats, Snapshot, key_part, rule_changes,
};

use super::logging;

type Ready = Result<Option<Box<dyn Prepared>>, PrepareError>;

/// `mib_loader`: the MIBs are part of the Snapshot, so that there is nothing to follow but the count.
#[derive(Default)]
pub(super) struct MibLoader(Arc<ReloadCounter>);

impl ComponentReloader for MibLoader {
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Ready {
        if Arc::ptr_eq(old.mib(), new.mib()) {
            return Ok(None);
        }
        Ok(Some(Box::new(Done { counter: Arc::clone(&self.0), version: new.generation().0, act: || {} })))
    }

    fn reload_stats(&self) -> ReloadStats {
        self.0.stats()
    }
}

/// `notifier`: the webhooks' workers.
pub(super) struct Notifier {
    deliveries: Arc<Deliveries>,
    counter: Arc<ReloadCounter>,
}

impl Notifier {
    pub(super) fn new(deliveries: Arc<Deliveries>) -> Self {
        Self { deliveries, counter: Arc::default() }
    }
}

impl ComponentReloader for Notifier {
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Ready {
        if Arc::ptr_eq(old.routes(), new.routes()) {
            return Ok(None);
        }
        let (deliveries, routes) = (Arc::clone(&self.deliveries), Arc::clone(new.routes()));
        let act = move || deliveries.apply(&routes);
        Ok(Some(Box::new(Done { counter: Arc::clone(&self.counter), version: new.generation().0, act })))
    }

    fn reload_stats(&self) -> ReloadStats {
        self.counter.stats()
    }
}

/// `correlator`: the open alerts of rules that raise another identity now, or none.
pub(super) struct CorrelatorRules {
    handoff: Arc<Queue<Handed>>,
    counter: Arc<ReloadCounter>,
}

impl CorrelatorRules {
    pub(super) fn new(handoff: Arc<Queue<Handed>>) -> Self {
        Self { handoff, counter: Arc::default() }
    }
}

impl ComponentReloader for CorrelatorRules {
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Ready {
        let changes: RuleChanges = rule_changes(old, new);
        let (was, is) = (old.settings(), new.settings());
        let watches = is.storm.is_some() || !is.heartbeats.is_empty();
        let watches_the_same = was.storm == is.storm
            && was.heartbeats == is.heartbeats
            && (!watches || old.rules().names_devices_as(new.rules()));
        if Arc::ptr_eq(old.rules(), new.rules()) && !changes.clear_windows && watches_the_same {
            return Ok(None);
        }
        Ok(Some(Box::new(Changed {
            handoff: Arc::clone(&self.handoff),
            counter: Arc::clone(&self.counter),
            changes: Some(changes),
            watch: (!watches_the_same).then(|| watch_of(new)),
        })))
    }

    fn reload_stats(&self) -> ReloadStats {
        self.counter.stats()
    }
}

/// What a generation watches besides its rules.
pub(super) fn watch_of(snapshot: &Snapshot) -> Arc<Watch> {
    let settings: &Settings = snapshot.settings();
    let meant = |device: &DeviceRef| match device {
        DeviceRef::Address(_) => device.clone(),
        DeviceRef::Name(name) => DeviceRef::Name(key_part(name).into()),
    };
    let raises = |own: &WatchAlert| Raises {
        alert: Arc::clone(&own.alert),
        severity: own.severity,
        labels: own.labels.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect(),
        notify: own.notify.as_deref().map(Arc::from),
    };
    let storm = settings.storm.as_deref().map(|own| StormControl {
        alerts: own.alerts,
        per: own.per,
        hold: own.hold,
        raises: raises(&own.raises),
    });
    let heartbeats = settings.heartbeats.iter().map(|own| Heartbeat {
        name: Arc::clone(&own.name),
        sources: own.sources.iter().map(meant).collect(),
        within: own.within,
        raises: raises(&own.raises),
    });
    let heartbeats: Vec<_> = heartbeats.collect();
    // A table of names is kept only for who asks it.
    let names = snapshot.rules().device_names().filter(|_| storm.is_some() || !heartbeats.is_empty());
    Arc::new(Watch { storm, heartbeats, names })
}

/// What the reload means for open alerts, on its way to the correlator.
struct Changed {
    handoff: Arc<Queue<Handed>>,
    counter: Arc<ReloadCounter>,
    changes: Option<RuleChanges>,
    watch: Option<Arc<Watch>>,
}

impl Prepared for Changed {
    /// Before the first event of the new generation: one that clears an alert under its old key is remembered
    /// then. The correlator applies it once every receiver has read the new generation.
    fn about_to_publish(&mut self) {
        if let Some(changes) = self.changes.take() {
            self.counter.record(changes.generation.0);
            // A closed handoff: the program ends.
            let _ = self.handoff.push_control(Handed::Reloaded(Arc::new(changes)));
        }
        if let Some(watch) = self.watch.take() {
            let _ = self.handoff.push_control(Handed::Watch(watch));
        }
    }

    fn commit(self: Box<Self>) {}
}

/// `storage`: how long and how much is kept. (Its path needs a restart.)
pub(super) struct Storage {
    commands: Arc<Queue<Command>>,
    counter: Arc<ReloadCounter>,
}

impl Storage {
    pub(super) fn new(commands: Arc<Queue<Command>>) -> Self {
        Self { commands, counter: Arc::default() }
    }
}

impl ComponentReloader for Storage {
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Ready {
        let (old, settings) = (&old.settings().storage, &new.settings().storage);
        if Arc::ptr_eq(old, settings) {
            return Ok(None);
        }
        let commands = Arc::clone(&self.commands);
        let command = Command::Retention { age: settings.retention, octets: settings.max_size };
        let act = move || {
            let _ = commands.push_control(command);
        };
        Ok(Some(Box::new(Done { counter: Arc::clone(&self.counter), version: new.generation().0, act })))
    }

    fn reload_stats(&self) -> ReloadStats {
        self.counter.stats()
    }
}

/// `logging`: level, format and output of the log. A new file is opened in *prepare*.
#[derive(Default)]
pub(super) struct Logging(Arc<ReloadCounter>);

impl ComponentReloader for Logging {
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Ready {
        let (old, settings): (&Arc<LoggingSettings>, _) = (&old.settings().logging, &new.settings().logging);
        if Arc::ptr_eq(old, settings) {
            return Ok(None);
        }
        let opened = logging::open(settings).map_err(|error| PrepareError::lasting(error.to_string()))?;
        let act = move || logging::switch(opened);
        Ok(Some(Box::new(Done { counter: Arc::clone(&self.0), version: new.generation().0, act })))
    }

    fn reload_stats(&self) -> ReloadStats {
        self.0.stats()
    }
}

/// What a component does at the commit, and that it did.
pub(super) struct Done<F> {
    pub(super) counter: Arc<ReloadCounter>,
    pub(super) version: u64,
    pub(super) act: F,
}

impl<F: FnOnce() + Send> Prepared for Done<F> {
    fn commit(self: Box<Self>) {
        (self.act)();
        self.counter.record(self.version);
    }
}
