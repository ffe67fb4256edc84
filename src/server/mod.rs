//! The composition root: which threads there are, in which order they start, and in which they end.
//!
//! Start: addresses are bound first, and what arrives is held; then the store, the MIBs, generation 1, and the
//! threads from the disk back to the sockets, which begin with what was held. End: the same backwards, so
//! that everything accepted is committed before the program goes.

mod components;
mod logging;
mod memory;
mod refused;
mod service;
mod source;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{self, Admin};
use crate::config::settings::DeliveryKind;
use crate::config::{Input, Settings};
use crate::correlator::{
    self, Correlator, Limits, Restored, RestoredAlert, Restorer, Route, RouteKind, Routes,
};
use crate::delivery::Deliveries;
use crate::diagnostic::Diagnostic;
use crate::event::{Command, Generation, Handed, Operators, Queue, Timestamp};
use crate::metrics::Metrics;
use crate::pipeline::{
    self, Engines, EnginesWriter, Inherited, Listeners, LocalEngine, Refusals, Samples, Usm,
};
use crate::reload::{self, FirstPlan, ReloadEngine, ReloadManager};
use crate::snapshot::{self, SnapshotHandle};
use crate::store::{self, StopSignal, Store};
use components::{CorrelatorRules, Logging, MibLoader, Notifier, Storage};
use source::StoredSource;

/// What the queue between receivers and correlator may hold.
const HANDOFF_OCTETS: usize = 64 << 20;
/// What the queue between correlator and writer may hold.
const WRITER_OCTETS: usize = 32 << 20;
/// How long webhooks get at the end for the posts that are in flight.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(5);

/// Why Nereus did not start.
#[derive(Debug)]
pub enum StartError {
    /// The settings cannot be used; nothing was opened, or everything is closed again.
    Settings(Vec<Diagnostic>),
    /// Something that the settings name cannot be had: an address, the data directory, the log file.
    Environment(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Settings(problems) => write!(f, "the settings have {} problems", problems.len()),
            Self::Environment(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

fn environment(error: impl std::fmt::Display) -> StartError {
    StartError::Environment(error.to_string())
}

/// The signals of [`Server::run_until_signal`], held from before the start: whoever sees that Nereus is ready may
/// send one, which would end it if nobody had asked for it yet.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes SIGTERM, SIGINT and SIGHUP for the whole process, for good.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn take() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        drop(inside);
        Ok(Self { runtime, terminate, interrupt, hangup })
    }
}

/// What a program that is a service of its own has beside its settings.
#[derive(Default)]
pub struct Surroundings {
    /// Sockets that were bound for it.
    pub inherited: Inherited,
    /// Called once every address is bound, before the first thread starts: to give up what only the binding needed.
    pub bound: Option<Box<dyn FnOnce()>>,
}

/// A running Nereus. [`Server::stop`] ends it in order; dropping it does the same.
///
/// Inside another program, with a component of that program's own that follows each reload:
/// ```
/// use std::sync::Arc;
/// use nereus::config;
/// use nereus::reload::ReloadType;
/// use nereus::server::Server;
/// use nereus::snapshot::{ComponentReloader, PrepareError, Prepared, ReloadCounter, ReloadStats, Snapshot};
///
/// #[derive(Default)]
/// struct MyComponent {
///     setting: Arc<parking_lot::Mutex<i64>>,
///     counter: Arc<ReloadCounter>,
/// }
///
/// struct Ready { to: i64, version: u64, setting: Arc<parking_lot::Mutex<i64>>, counter: Arc<ReloadCounter> }
///
/// impl ComponentReloader for MyComponent {
///     // May fail, and then nothing of the reload is applied.
///     fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Result<Option<Box<dyn Prepared>>, PrepareError> {
///         let (old, new_one) = (old.settings().components.get("my"), new.settings().components.get("my"));
///         if old == new_one {
///             return Ok(None);
///         }
///         let to = new_one
///             .and_then(|own| own.0.get("setting")?.as_i64())
///             .ok_or_else(|| PrepareError::lasting("components.my.setting must be a number"))?;
///         let (setting, counter) = (Arc::clone(&self.setting), Arc::clone(&self.counter));
///         Ok(Some(Box::new(Ready { to, version: new.generation().0, setting, counter })))
///     }
///     fn reload_stats(&self) -> ReloadStats {
///         self.counter.stats()
///     }
/// }
///
/// impl Prepared for Ready {
///     // The new generation is in force: cannot fail.
///     fn commit(self: Box<Self>) {
///         *self.setting.lock() = self.to;
///         self.counter.record(self.version);
///     }
/// }
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("nereus.yaml");
/// let text = |setting: &str| format!("
/// listener: [{{address: '127.0.0.1:0', receivers: 1}}]
/// admin: {{address: '127.0.0.1:0'}}
/// storage: {{path: '{}'}}
/// logging: {{level: error}}
/// reload: {{enabled: false}}
/// components: {{my: {{setting: {setting}}}}}
/// ", folder.path().join("data").display());
/// std::fs::write(&file, text("1"))?;
/// let loaded = config::load(&file)?;
/// let server = Server::start(Some((file.clone(), loaded.inputs)), loaded.settings)?;
///
/// let mine = MyComponent::default();
/// let setting = Arc::clone(&mine.setting);
/// let reloads = server.reload_manager();
/// reloads.register_component("my_component", Arc::new(mine));
///
/// std::fs::write(&file, text("2"))?;
/// let event = reloads.trigger_reload(ReloadType::Config, "manual")?;
/// assert_eq!(event.components, ["my_component"]);
/// assert_eq!(*setting.lock(), 2);
///
/// // What the component does not want is refused as a whole.
/// std::fs::write(&file, text("much"))?;
/// let refused = reloads.trigger_reload(ReloadType::Config, "manual").unwrap_err();
/// assert!(refused.to_string().starts_with("Failed to reload component my_component: "));
///
/// let stats = reloads.stats();
/// assert_eq!((stats.total_reloads, stats.successful_reloads, stats.success_rate), (2, 1, 50.0));
/// for event in reloads.recent_events(10) {
///     println!("{}: {} ({})", event.r#type, event.source, event.success);
/// }
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    reloads: ReloadManager,
    listeners: Arc<Listeners>,
    admin_address: SocketAddr,
    ready: Arc<AtomicBool>,
    running: Option<Running>,
}

/// The threads, in the order in which they end.
struct Running {
    engine: ReloadEngine,
    engines_writer: EnginesWriter,
    handoff: Arc<Queue<Handed>>,
    correlator: JoinHandle<()>,
    deliveries: Arc<Deliveries>,
    commands: Arc<Queue<Command>>,
    writer: JoinHandle<()>,
    writer_stop: StopSignal,
    stop_admin: watch::Sender<bool>,
    runtime: Runtime,
}

impl Server {
    /// Starts with settings that a program made, or that were read from `origin`, with everything that was
    /// read for them ([`crate::config::load`]). Returns once notifications are received.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(origin: Option<(PathBuf, Vec<Input>)>, settings: Settings) -> Result<Self, StartError> {
        Self::start_in(Surroundings::default(), origin, settings)
    }

    /// As [`Server::start`], for a program that is a service of its own.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_in(
        surroundings: Surroundings,
        origin: Option<(PathBuf, Vec<Input>)>,
        settings: Settings,
    ) -> Result<Self, StartError> {
        let started = Instant::now();
        logging::switch(logging::open(&settings.logging).map_err(environment)?);
        let metrics = Arc::new(Metrics::new());
        let listeners = Listeners::bind_with(&settings.listeners, surroundings.inherited);
        let listeners = Arc::new(listeners.map_err(environment)?);
        let admin_listener = admin::bind(settings.admin.address).map_err(environment)?;
        // Before there is any other thread: what a thread may do it passes on to those that it starts.
        if let Some(bound) = surroundings.bound {
            bound();
        }
        listeners.hold(&metrics).map_err(environment)?;
        let admin_address = admin_listener.local_addr().map_err(environment)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(16)
            .thread_name("async")
            .thread_stack_size(1 << 20)
            .enable_all()
            .build()
            .map_err(environment)?;
        let starting = Starting::serve(&runtime, &admin_listener, &settings).map_err(environment)?;
        let restorer = Restorer::default();
        let restore = |record| restorer.alert(record);
        let opened = Store::open_with(&settings.storage, Arc::clone(&metrics), restore);
        let mut opened = opened.map_err(environment)?;
        for note in &opened.notes {
            tracing::warn!(component = "storage", "{note}");
        }
        let (usm, engines_writer) = usm(&settings, &metrics).map_err(environment)?;
        let heard = Arc::clone(&usm);
        // A stored event of an engine that booted again means that its older messages are replays after any crash.
        opened.store.before_commit(move || heard.engines().flush());
        let refusals: Arc<Refusals> = Arc::default();
        refused::watch(&runtime, Arc::clone(&refusals), Arc::clone(&metrics));
        let (origin, inputs) = origin.unzip();
        let patience = settings.reload.reload_timeout;
        let (first, mib_problems) =
            FirstPlan::make_within(origin, inputs.unwrap_or_default(), settings, patience);
        let first = first.map_err(StartError::Settings)?;
        let samples = Arc::new(Samples::default());
        let reload_wiring = reload::Wiring {
            metrics: Arc::clone(&metrics),
            samples: Arc::clone(&samples),
            kernel_drops: {
                let (listeners, metrics) = (Arc::clone(&listeners), Arc::clone(&metrics));
                Box::new(move || listeners.count_kernel_drops(&metrics))
            },
            sweep: reload::watch::DEFAULT_SWEEP,
        };
        let (reloads, engine) =
            ReloadManager::new(first, &mib_problems, reload_wiring).map_err(environment)?;
        let snapshot = reloads.snapshot().clone();

        let handoff = Arc::new(Queue::new(HANDOFF_OCTETS));
        let commands = Arc::new(Queue::new(WRITER_OCTETS));
        let reader = opened.store.reader();
        let (applied, applied_changes) = watch::channel(opened.last_change);
        // Rules may have changed while Nereus was not running.
        let raised = RestoredAlert::of_each_rule(&opened.alerts);
        let changes = snapshot::start_changes(&snapshot.current(), raised);
        let mutes = Arc::new(opened.mutes);
        let restored = Restored {
            open: opened.alerts,
            restorer,
            last_event: opened.last_event,
            last_alert: opened.last_alert,
            last_change: opened.last_change,
            ended: opened.ended,
            mutes: mutes.open_at(Timestamp::now()),
        };
        let mut correlator = Correlator::new(Limits::default(), restored, &listeners.receivers());
        correlator.reconcile(changes);
        let watch = components::watch_of(&snapshot.current());
        // The first message, before any event: its outcome is journaled like any other.
        let _ = handoff.push_control(Handed::Watch(watch));
        let writer_stop = opened.store.stop_signal();
        let writer = store::spawn_writer(opened.store, Arc::clone(&commands), applied, Arc::clone(&metrics))
            .map_err(environment)?;
        let queues = (Arc::clone(&handoff), Arc::clone(&commands));
        memory::watch(&runtime, move || queues.0.octets() + queues.1.octets() > memory::BUSY);
        let source = Arc::new(StoredSource::new(&reader, snapshot.clone()));
        let deliveries = Arc::new(Deliveries::start(
            runtime.handle().clone(),
            source,
            Arc::clone(&commands),
            applied_changes,
            Arc::clone(&metrics),
        ));
        deliveries.apply(snapshot.current().routes());
        let correlator =
            spawn_correlator(correlator, &handoff, &commands, &snapshot, &metrics).map_err(environment)?;
        let wiring = pipeline::Wiring {
            snapshot: snapshot.clone(),
            handoff: Arc::clone(&handoff),
            metrics: Arc::clone(&metrics),
            samples,
            usm: Arc::clone(&usm),
            refusals: Arc::clone(&refusals),
        };
        listeners.start(wiring).map_err(environment)?;
        reloads.register_component("mib_loader", Arc::new(MibLoader::default()));
        reloads.register_component("listener", Arc::new(Arc::clone(&listeners)));
        reloads.register_component("correlator", Arc::new(CorrelatorRules::new(Arc::clone(&handoff))));
        reloads.register_component("notifier", Arc::new(Notifier::new(Arc::clone(&deliveries))));
        reloads.register_component("storage", Arc::new(Storage::new(Arc::clone(&commands))));
        reloads.register_component("logging", Arc::new(Logging::default()));
        let engine = engine.start().map_err(environment)?;
        let ready = Arc::new(AtomicBool::new(true));
        starting.end(&runtime);
        let stop_admin = spawn_admin(
            &runtime,
            admin_listener,
            Admin {
                snapshot,
                metrics: Arc::clone(&metrics),
                reader,
                before_scrape: before_scrape(&listeners),
                listeners: {
                    let listeners = Arc::clone(&listeners);
                    Box::new(move || listeners.status())
                },
                ready: Arc::clone(&ready),
                refusals,
                engine: Arc::clone(&usm),
                started,
                reloads: reloads.clone(),
                deliveries: Arc::clone(&deliveries),
                commands: Arc::clone(&commands),
                operators: Operators::new(Arc::clone(&handoff)),
                mutes,
            },
        );
        let server = Self {
            reloads,
            listeners,
            admin_address,
            ready,
            running: Some(Running {
                engine,
                engines_writer,
                handoff,
                correlator,
                deliveries,
                commands,
                writer,
                writer_stop,
                stop_admin,
                runtime,
            }),
        };
        let listeners: Vec<String> = server.listeners.endpoints().iter().map(ToString::to_string).collect();
        tracing::info!(
            component = "listener", listeners = listeners.join(", "), admin = %admin_address,
            generation = server.generation().0, duration_seconds = started.elapsed().as_secs_f64(), "Nereus is ready"
        );
        Ok(server)
    }

    /// The addresses that notifications are received on, as the system gave them.
    #[must_use]
    pub fn listeners(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// The admin address, as the system gave it.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin_address
    }

    /// Asks for reloads and tells of them; components of one's own are registered here.
    #[must_use]
    pub fn reload_manager(&self) -> &ReloadManager {
        &self.reloads
    }

    /// The running generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.reloads.snapshot().current().generation()
    }

    /// Runs until SIGTERM or SIGINT, then ends in order. SIGHUP asks for a reload of everything. The service manager
    /// hears of each (`NOTIFY_SOCKET`).
    pub fn run_until_signal(self, signals: Signals) {
        let Signals { runtime, mut terminate, mut interrupt, mut hangup } = signals;
        service::ready(&format!("generation {}", self.generation()));
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    // Its outcome is in the log, the metrics and the events.
                    _ = hangup.recv() => {
                        // What rotates logs asks so, whether or not anything else has changed.
                        if let Err(error) = logging::reopen() {
                            tracing::error!(component = "logging", %error, "The log file cannot be opened anew");
                        }
                        service::reload(&self.reloads);
                    }
                }
            }
        });
        service::stopping();
        self.stop();
    }

    /// Ends in order: what the sockets hold is received, what was received is decided and committed, posts
    /// in flight get a moment. Returns once everything is down.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.ready.store(false, Ordering::Release);
        drop(running.engine);
        self.listeners.stop();
        // No receiver hears anything any more: what was heard is written.
        drop(running.engines_writer);
        running.handoff.close();
        // A disk that refuses is given up from here on: else a full queue before the writer would hold the correlator.
        running.writer_stop.set();
        join(running.correlator, "correlator");
        running.runtime.block_on(running.deliveries.stop(DELIVERY_PATIENCE));
        // A closed queue means that the writer has ended already.
        let _ = running.commands.push_control(Command::Stop);
        join(running.writer, "writer");
        running.stop_admin.send_replace(true);
        running.runtime.shutdown_timeout(Duration::from_secs(1));
        tracing::info!(component = "listener", "Nereus has stopped");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn join(thread: JoinHandle<()>, name: &str) {
    if thread.join().is_err() {
        tracing::error!(component = "listener", thread = name, "A thread has panicked");
    }
}

/// The own SNMPv3 engine with its boots raised on the disk, and the table of the others as it was left.
fn usm(settings: &Settings, metrics: &Metrics) -> std::io::Result<(Arc<Usm>, EnginesWriter)> {
    let directory = &settings.storage.path;
    let about = |error: std::io::Error| {
        std::io::Error::new(error.kind(), format!("the SNMPv3 engines in {}: {error}", directory.display()))
    };
    let (local, note) =
        LocalEngine::open(directory, settings.access.engine_id, Timestamp::now()).map_err(about)?;
    if let Some(note) = note {
        tracing::warn!(component = "storage", "{note}");
    }
    let engines = Arc::new(Engines::default());
    let (writer, damaged) = EnginesWriter::start(directory, &engines).map_err(about)?;
    if damaged > 0 {
        tracing::warn!(
            component = "storage",
            records = damaged,
            "Damaged records of SNMPv3 engines were passed over; replays of these engines would be taken"
        );
    }
    Ok((Arc::new(Usm::new(local, engines, metrics)), writer))
}

fn spawn_correlator(
    correlator: Correlator,
    handoff: &Arc<Queue<Handed>>,
    commands: &Arc<Queue<Command>>,
    snapshot: &SnapshotHandle,
    metrics: &Arc<Metrics>,
) -> std::io::Result<JoinHandle<()>> {
    let (handoff, commands, metrics) = (Arc::clone(handoff), Arc::clone(commands), Arc::clone(metrics));
    let snapshot = snapshot.clone();
    thread::Builder::new().name("correlator".into()).spawn(move || {
        let mut known = (Generation(0), Arc::new(Routes::default()));
        let routes = || {
            // Let go at once: a reader would pin the old generation until the next event or second.
            let snapshot = snapshot.current();
            if known.0 != snapshot.generation() {
                known = (snapshot.generation(), Arc::new(routes(&snapshot)));
            }
            Arc::clone(&known.1)
        };
        correlator::run(correlator, &handoff, &commands, routes, Timestamp::now, &metrics);
    })
}

fn routes(snapshot: &snapshot::Snapshot) -> Routes {
    Routes::new(snapshot.routes().iter().map(|webhook| Route {
        name: Arc::clone(&webhook.name),
        kind: match webhook.delivery() {
            DeliveryKind::State => RouteKind::State,
            DeliveryKind::Queued => RouteKind::Event,
            DeliveryKind::Journal => RouteKind::Journal,
        },
    }))
}

/// The admin address while there is no generation.
struct Starting {
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Starting {
    fn serve(
        runtime: &Runtime,
        listener: &std::net::TcpListener,
        settings: &Settings,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let served =
            runtime.spawn(admin::serve_starting(listener.try_clone()?, Arc::clone(&settings.admin), stopped));
        Ok(Self { stop, served })
    }

    /// Whoever connects from here on waits for the routes of the running Nereus.
    fn end(self, runtime: &Runtime) {
        self.stop.send_replace(true);
        if !matches!(runtime.block_on(self.served), Ok(Ok(()))) {
            tracing::warn!(component = "listener", "The admin address was not served during the start");
        }
    }
}

fn spawn_admin(runtime: &Runtime, listener: std::net::TcpListener, admin: Admin) -> watch::Sender<bool> {
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(async move {
        if let Err(error) = admin::serve(listener, Arc::new(admin), stopped).await {
            tracing::error!(component = "listener", error = %error, "The admin address has failed");
        }
    });
    stop
}

fn before_scrape(listeners: &Arc<Listeners>) -> Box<dyn Fn(&Metrics) + Send + Sync> {
    let listeners = Arc::clone(listeners);
    Box::new(move |metrics| {
        listeners.count_kernel_drops(metrics);
    })
}
