//! A reload engine in the test's own process: a folder with a configuration, small components, no sockets.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nereus::config;
use nereus::event::Generation;
use nereus::metrics::Metrics;
use nereus::pipeline::Samples;
use nereus::reload::{
    FirstPlan, NotStarted, ReloadEngine, ReloadError, ReloadEvent, ReloadManager, ReloadOutcome, ReloadType,
    Wiring,
};
use nereus::snapshot::Snapshot;

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Files, and the engine that reads them.
pub struct Bed {
    pub folder: tempfile::TempDir,
    pub manager: ReloadManager,
    pub metrics: Arc<Metrics>,
    engine: Option<ReloadEngine>,
}

/// A folder with `nereus.yaml`, before anything was read.
pub struct Files(pub tempfile::TempDir);

impl Files {
    /// `{dir}` in a text is the folder.
    pub fn new(settings: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("nereus.yaml", settings);
        files
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("nereus.yaml")
    }

    pub fn write(&self, name: &str, text: &str) {
        write(self.0.path(), name, text);
    }

    pub fn read(&self) -> FirstPlan {
        let loaded = config::load(&self.path()).unwrap_or_else(|problems| panic!("{problems}"));
        FirstPlan::make(Some(self.path()), loaded.inputs, loaded.settings).0.unwrap()
    }

    /// Without any patience for the MIB directories.
    pub fn read_at_once(&self) -> FirstPlan {
        let loaded = config::load(&self.path()).unwrap_or_else(|problems| panic!("{problems}"));
        let patience = Duration::ZERO;
        FirstPlan::make_within(Some(self.path()), loaded.inputs, loaded.settings, patience).0.unwrap()
    }

    pub fn manager(&self, first: FirstPlan) -> (ReloadManager, NotStarted, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let wiring = Wiring {
            metrics: Arc::clone(&metrics),
            samples: Arc::new(Samples::default()),
            kernel_drops: Box::new(|| 0),
            sweep: Duration::from_millis(500),
        };
        let (manager, engine) = ReloadManager::new(first, &Arc::default(), wiring).unwrap();
        (manager, engine, metrics)
    }

    pub fn start(self) -> Bed {
        let first = self.read();
        self.start_with(first)
    }

    pub fn start_with(self, first: FirstPlan) -> Bed {
        let (manager, engine, metrics) = self.manager(first);
        Bed { folder: self.0, manager, metrics, engine: Some(engine.start().unwrap()) }
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text.replace("{dir}", &folder.display().to_string())).unwrap();
}

impl Bed {
    /// With a configuration file of this text.
    pub fn start(settings: &str) -> Self {
        Files::new(settings).start()
    }

    /// With files beside it.
    pub fn with(files: &[(&str, &str)], settings: &str) -> Self {
        let bed = Files::new(settings);
        files.iter().for_each(|(name, text)| bed.write(name, text));
        bed.start()
    }

    pub fn write(&self, name: &str, text: &str) {
        write(self.folder.path(), name, text);
    }

    pub fn configure(&self, settings: &str) {
        self.write("nereus.yaml", settings);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn current(&self) -> Arc<Snapshot> {
        self.manager.snapshot().current()
    }

    pub fn generation(&self) -> u64 {
        self.current().generation().0
    }

    pub fn events(&self) -> u64 {
        self.manager.stats().total_reloads
    }

    pub fn reload(&self, kind: ReloadType) -> ReloadEvent {
        match self.manager.trigger_reload(kind, "test") {
            Ok(event) => event,
            Err(ReloadError::Rejected(event)) => *event,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn published(&self, kind: ReloadType) -> ReloadEvent {
        let event = self.reload(kind);
        assert_eq!(event.outcome, ReloadOutcome::Published, "{event:?}");
        event
    }

    /// The error of a reload that must be rejected and must have changed nothing.
    pub fn rejected(&self, kind: ReloadType) -> ReloadEvent {
        let before = self.current();
        let event = self.reload(kind);
        assert_eq!(event.outcome, ReloadOutcome::Rejected, "{event:?}");
        assert!(!event.success && event.error.is_some());
        assert_eq!(event.generation, event.previous_generation);
        assert!(Arc::ptr_eq(&before, &self.current()), "nothing was applied");
        event
    }

    pub fn rollback(&self, to: Option<u64>) -> ReloadEvent {
        match self.manager.rollback(to.map(Generation), "test") {
            Ok(event) => event,
            Err(ReloadError::Rejected(event)) => *event,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn rules(&self) -> Vec<String> {
        self.current().settings().rules.iter().map(|rule| rule.name.to_string()).collect()
    }

    pub fn knows(&self, name: &str) -> bool {
        self.current().mib().resolve(name).is_ok()
    }

    pub fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < until,
                "{what} did not happen; events: {:#?}",
                self.manager.recent_events(5)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the engine, as a stop does.
    pub fn end(&mut self) {
        self.engine.take();
    }
}

/// A module with these notifications below enterprises 99999.
pub fn mib(module: &str, arc: u32, notifications: &[&str]) -> String {
    let root = format!("{}Root", module.to_ascii_lowercase().replace('-', ""));
    let mut text = format!(
        "{module} DEFINITIONS ::= BEGIN\nIMPORTS enterprises, NOTIFICATION-TYPE FROM SNMPv2-SMI;\n\
         {root} OBJECT IDENTIFIER ::= {{ enterprises 99999 {arc} }}\n"
    );
    for (number, name) in notifications.iter().enumerate() {
        text.push_str(&format!(
            "{name} NOTIFICATION-TYPE STATUS current DESCRIPTION \"test\" ::= {{ {root} {} }}\n",
            number + 1
        ));
    }
    text + "END\n"
}
