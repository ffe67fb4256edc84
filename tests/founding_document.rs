//! The founding document of hot reload, from top to bottom, as its reader would try it. Section titles are its
//! own.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

#[path = "common/bed.rs"]
mod bed;
#[path = "common/nereus.rs"]
mod program;
#[path = "common/trap.rs"]
mod trap;

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bed::mib;
use nereus::config;
use nereus::reload::{ReloadError, ReloadType};
use nereus::server::Server;
use nereus::snapshot::{ComponentReloader, PrepareError, Prepared, ReloadStats, Snapshot};
use program::{Nereus, http, signal};
use serde_json::Value;

/// "Configuration", to the letter.
const DOCUMENTED: &str = r#"reload:
  # Enable hot reload functionality
  enabled: true

  # Watch the configuration file for changes
  watch_config_file: true

  # Watch MIB directories for changes
  watch_mib_directories: true

  # Delay before processing reload events (debounce)
  reload_delay: "2s"

  # Maximum number of reload attempts on failure
  max_reload_attempts: 3

  # Timeout for reload operations
  reload_timeout: "30s"

  # Preserve application state during reload
  preserve_state: true

  # Validate configuration before applying reload
  validate_before_reload: true
"#;

fn quick(enabled: bool) -> String {
    let switch = format!("enabled: {enabled}");
    DOCUMENTED.replace("enabled: true", &switch).replace("\"2s\"", "\"100ms\"")
}

fn settings(unmatched: &str) -> String {
    format!(
        "unmatched: {unmatched}\nmib: {{directories: [./mibs]}}\nwebhooks: [{{name: w, format: json, url: 'http://127.0.0.1:9/'}}]\n"
    )
}

struct Reader {
    folder: tempfile::TempDir,
    nereus: Nereus,
}

impl Reader {
    fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mibs")).unwrap();
        std::fs::write(folder.path().join("mibs/ONE-MIB"), mib("ONE-MIB", 1, &["oneDown"])).unwrap();
        let configuration = Nereus::configure(folder.path(), text);
        // What was written within the tick of the file system before the start may have changed after it was
        // read: it would be looked at again, together with the first edit.
        let written = std::fs::metadata(&configuration).unwrap().modified().unwrap();
        while written.elapsed().is_ok_and(|age| age < Duration::from_millis(100)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let nereus = Nereus::run(folder.path(), &["-c".to_owned(), configuration.display().to_string()]);
        Self { folder, nereus }
    }

    fn edit(&self, text: &str) {
        Nereus::configure(self.folder.path(), text);
    }

    fn post(&self, path: &str) -> (u16, Value) {
        let (status, body) = http(self.nereus.admin, "POST", path, "");
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    /// Waits for the log line of the next reload that published. (One that looked at a file once more, since it
    /// had moved while it was read, tells that nothing had changed.)
    fn published(&mut self) -> Value {
        loop {
            let line = self.nereus.wait_for_log("Reload completed successfully");
            if line["outcome"] == "published" {
                return line;
            }
        }
    }

    /// `curl http://localhost:9090/metrics | grep reload`, one line of it.
    fn metric_line(&self, line: &str) -> f64 {
        let (_, text) = self.nereus.get("/metrics");
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.unwrap_or_else(|| panic!("no {line} in\n{text}")).trim().parse().unwrap()
    }
}

#[test]
fn configuration() {
    let reader = Reader::start(&format!("{DOCUMENTED}{}", settings("store")));
    let file = reader.folder.path().join("nereus.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_nereus")).args(["check", "-c"]).arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (good, said) = check(DOCUMENTED);
    assert!(good, "{said}");
    // Each key is one, and is checked.
    for key in [
        "enabled",
        "watch_config_file",
        "watch_mib_directories",
        "reload_delay",
        "max_reload_attempts",
        "reload_timeout",
        "preserve_state",
        "validate_before_reload",
    ] {
        assert!(DOCUMENTED.contains(&format!("{key}: ")));
        let (good, said) = check(&format!("reload: {{{key}: [wrong]}}\n"));
        assert!(!good && said.contains(key), "{key}: {said}");
    }
    // Every one of them can be changed by a reload.
    reader.edit(&format!("{}{}", quick(true), settings("store")));
    let (status, event) = reader.post("/debug/reload/trigger?type=config");
    assert_eq!((status, &event["changes"][0]), (200, &"reload".into()), "{event}");
}

#[test]
fn supported_reload_types() {
    let reader = Reader::start(&format!("{}{}", quick(false), settings("store")));
    let types = |event: &Value| (event["type"].as_str().unwrap().to_owned(), event["changes"].to_string());
    // config: "Updates all registered components with new settings"
    reader.edit(&format!("{}{}", quick(false), settings("drop")));
    assert_eq!(
        types(&reader.post("/debug/reload/trigger?type=config").1),
        ("config".into(), r#"["unmatched"]"#.into())
    );
    // mib: "Supports adding, removing, and modifying MIB files", "Updates OID resolution"
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    reader.edit(&format!("{}{}", quick(false), settings("store")));
    reader.post("/reload");
    std::fs::write(reader.folder.path().join("mibs/TWO-MIB"), mib("TWO-MIB", 2, &["twoDown"])).unwrap();
    assert_eq!(types(&reader.post("/debug/reload/trigger?type=mib").1), ("mib".into(), r#"["mib"]"#.into()));
    let output = Command::new(env!("CARGO_BIN_EXE_nereus"))
        .args(["send", "--to", &reader.nereus.traps.to_string(), "1.3.6.1.4.1.99999.2.1"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let events = reader.nereus.wait("it is stored by its new name", |nereus| {
        let events = nereus.json("/api/v1/events");
        (events["events"].as_array().unwrap().len() == 1).then_some(events)
    });
    assert_eq!(events["events"][0]["trap_name"], "TWO-MIB::twoDown");
    assert_eq!(events["events"][0]["generation"], 4);
    // "Maintains existing trap processing capabilities"
    socket.send_to(&trap::link_down(1, "public"), reader.nereus.traps).unwrap();
    reader.nereus.wait("the others go on", |nereus| {
        (nereus.metric("nereus_events_stored_total") == 2.0).then_some(())
    });
    // webhook: "Modifies … endpoints", "Adjusts retry policies and timeouts"
    for (from, to) in [
        ("127.0.0.1:9/", "127.0.0.1:10/"),
        ("json,", "json, timeout: 3s,"),
        ("json,", "json, retry: {attempts: 2},"),
    ] {
        reader.edit(&format!("{}{}", quick(false), settings("store").replace(from, to)));
        assert_eq!(
            types(&reader.post("/debug/reload/trigger?type=webhook").1),
            ("webhook".into(), r#"["webhooks.w"]"#.into())
        );
    }
    // all
    std::fs::remove_file(reader.folder.path().join("mibs/TWO-MIB")).unwrap();
    reader.edit(&format!("{}{}", quick(false), settings("drop").replace("127.0.0.1:9/", "127.0.0.1:11/")));
    let (_, event) = reader.post("/debug/reload/trigger?type=all");
    let changes = event["changes"].to_string();
    assert!(["unmatched", "webhooks.w", "mib"].iter().all(|part| changes.contains(part)), "{event}");
    let (status, _) = http(reader.nereus.admin, "POST", "/debug/reload/trigger?type=everything", "");
    assert_eq!(status, 400);
}

#[test]
fn usage() {
    let mut reader = Reader::start(&format!("{}{}", quick(true), settings("store")));
    // "Edit your configuration file and save it"; its path is the source.
    reader.edit(&format!("{}{}", quick(true), settings("drop")));
    let line = reader.published();
    assert_eq!(line["type"], "config");
    assert!(line["source"].as_str().unwrap().ends_with("nereus.yaml"), "{line}");
    // "Add, remove, or modify MIB files in watched directories"
    std::fs::write(reader.folder.path().join("mibs/TWO-MIB"), mib("TWO-MIB", 2, &["twoDown"])).unwrap();
    // The configuration may be looked at once more after its reload: where that coincides, both come as one.
    let line = reader.published();
    assert!(line["type"] == "mib" || line["type"] == "all", "{line}");
    // "Multiple rapid changes are batched together"
    let before = line["generation"].as_u64().unwrap();
    for round in 0..50 {
        reader.edit(&format!("{}{}", quick(true), settings(["store", "drop"][round % 2])));
    }
    reader.edit(&format!("{}{}", quick(true), settings("builtin")));
    reader.published();
    // By then the last of them is in force, or is taken now.
    let (_, event) = reader.post("/debug/reload/trigger?type=config");
    let batched = event["generation"].as_u64().unwrap();
    assert!(batched - before < 5, "{batched} after {before}");
    // "New configuration is validated before application"
    reader.edit(&format!("{}{}", quick(true), settings("stroe")));
    assert_eq!(reader.nereus.wait_for_log("Reload failed")["generation"], batched);
    reader.edit(&format!("{}{}", quick(true), settings("drop")));
    reader.published();
    // kill -HUP <nereus-pid>
    signal(reader.nereus.pid(), "HUP");
    let line = loop {
        let line = reader.nereus.wait_for_log("Reload completed successfully");
        if line["source"] == "SIGHUP" {
            break line;
        }
    };
    assert_eq!(line["type"], "all");
    // curl -X POST http://localhost:9090/reload
    let (status, event) = reader.post("/reload");
    assert_eq!((status, &event["type"], &event["source"]), (200, &"all".into(), &"http".into()));
}

#[test]
fn monitoring_and_observability() {
    let mut reader = Reader::start(&format!("{}{}", quick(false), settings("store")));
    reader.edit(&format!("{}{}", quick(false), settings("drop")));
    reader.post("/debug/reload/trigger?type=config&source=/etc/nereus/config.yml");
    // "All reload events are logged with structured data"
    let line = reader.nereus.wait_for_log("Reload completed successfully");
    for (field, value) in [
        ("level", Value::from("INFO")),
        ("component", "reload".into()),
        ("type", "config".into()),
        ("source", "/etc/nereus/config.yml".into()),
        ("success", true.into()),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    let duration = line["duration"].as_str().unwrap();
    assert!(duration.ends_with('s') && duration.starts_with(|c: char| c.is_ascii_digit()), "{duration}");
    // "Log Analysis": the greps of the document find it.
    let text = reader.nereus.log.join("\n");
    for grep in [r#""component":"reload""#, "Reload completed", r#""type":"config""#] {
        assert!(text.contains(grep), "{grep} in {text}");
    }
    reader.edit("unmatched: stroe\n");
    reader.post("/debug/reload/trigger?type=config");
    std::fs::write(reader.folder.path().join("mibs/TWO-MIB"), mib("TWO-MIB", 2, &["twoDown"])).unwrap();
    reader.post("/debug/reload/trigger?type=mib");
    reader.edit(&format!("{}{}", quick(false), settings("drop").replace("127.0.0.1:9/", "127.0.0.1:10/")));
    reader.post("/debug/reload/trigger?type=webhook");
    assert!(reader.nereus.wait_for_log("Reload failed")["error"].is_string());
    // "Reload Statistics", "Recent Events", "View recent reload events"
    let shown = reader.nereus.json("/debug/reload/events?limit=10");
    let statistics = &shown["statistics"];
    assert_eq!(
        (&statistics["total_reloads"], &statistics["successful_reloads"], &statistics["failed_reloads"]),
        (&4.into(), &3.into(), &1.into())
    );
    assert_eq!(statistics["success_rate"], 75.0);
    let kinds: Vec<_> = shown["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["success"].as_bool().unwrap()))
        .collect();
    assert_eq!(kinds, [("webhook", true), ("mib", true), ("config", false), ("config", true)]);
    // "Metrics Integration"
    for (line, value) in [
        (r#"nereus_reload_events_total{result="success",type="config"}"#, 1.0),
        (r#"nereus_reload_events_total{result="success",type="mib"}"#, 1.0),
        (r#"nereus_reload_events_total{result="failure",type="config"}"#, 1.0),
        (r#"nereus_component_reloads_total{component="mib_loader"}"#, 1.0),
        (r#"nereus_component_reloads_total{component="notifier"}"#, 1.0),
    ] {
        assert_eq!(reader.metric_line(line), value, "{line}");
    }
    for kind in ["config", "mib"] {
        assert!(reader.metric_line(&format!(r#"nereus_reload_duration_seconds{{type="{kind}"}}"#)) > 0.0);
    }
    // "Check component reload statistics"
    let components = reader.nereus.json("/debug/reload/components");
    let mut names = Vec::new();
    for component in components["components"].as_array().unwrap() {
        names.push(component["component"].as_str().unwrap());
        assert!(component["reload_count"].is_u64() && component["config_version"].is_u64(), "{component}");
        assert!(component.get("last_reload").is_some());
    }
    names.sort_unstable();
    assert_eq!(names, ["correlator", "listener", "logging", "mib_loader", "notifier", "storage"]);
}

/// ("Failed to add file watcher: too many open files" needs a system without descriptors: the watcher's own tests
/// have one.)
#[test]
fn troubleshooting() {
    // "Failed to watch config file: permission denied"
    let folder = tempfile::tempdir().unwrap();
    let mut nereus = Nereus::start(folder.path(), &quick(true));
    let file = folder.path().join("nereus.yaml");
    let closed = Command::new("chmod").arg("000").arg(&file).status().unwrap().success();
    if closed && std::fs::read(&file).is_err() {
        nereus.wait_for_log("Failed to watch config file: permission denied");
        assert!(Command::new("chmod").arg("640").arg(&file).status().unwrap().success());
    } else {
        eprintln!("skipped: who may read everything is not denied a permission");
    }
    // "Configuration validation failed: invalid webhook URL"
    Nereus::configure(
        folder.path(),
        &format!("{}{}", quick(true), settings("drop").replace("http://", "no://")),
    );
    let line = loop {
        let line = nereus.wait_for_log("Reload failed");
        if line["error"].as_str().unwrap().contains("URL") {
            break line;
        }
    };
    let error = line["error"].as_str().unwrap();
    assert!(
        error.starts_with("Configuration validation failed: ") && error.contains("invalid webhook URL"),
        "{error}"
    );
    assert_eq!(line["level"], "ERROR");
    // "Failed to reload component mib_loader: file not found"
    std::fs::create_dir(folder.path().join("mibs")).unwrap();
    Nereus::configure(folder.path(), &format!("{}{}", quick(true), settings("drop")));
    nereus
        .wait("it runs with MIBs", |nereus| (nereus.json("/api/v1/status")["generation"] == 2).then_some(()));
    std::fs::remove_dir(folder.path().join("mibs")).unwrap();
    let (status, body) = http(nereus.admin, "POST", "/debug/reload/trigger?type=mib", "");
    assert!(
        status == 422 && body.contains("Failed to reload component mib_loader: file not found"),
        "{body}"
    );
}

/// "Implementing ComponentReloader", "Registering Components".
struct MyComponent {
    setting: Arc<AtomicU64>,
    reload_count: Arc<AtomicU64>,
}

struct Set {
    to: u64,
    setting: Arc<AtomicU64>,
    reload_count: Arc<AtomicU64>,
}

impl ComponentReloader for MyComponent {
    fn prepare(&self, _: &Snapshot, new: &Snapshot) -> Result<Option<Box<dyn Prepared>>, PrepareError> {
        let own = new.settings().components.get("my_component");
        let to = own.and_then(|own| own.0.get("setting")?.as_u64());
        let to = to.ok_or_else(|| PrepareError::lasting("components.my_component.setting is no number"))?;
        Ok(Some(Box::new(Set {
            to,
            setting: Arc::clone(&self.setting),
            reload_count: Arc::clone(&self.reload_count),
        })))
    }

    fn reload_stats(&self) -> ReloadStats {
        let reload_count = self.reload_count.load(Ordering::SeqCst);
        ReloadStats { reload_count, last_reload: Some(SystemTime::UNIX_EPOCH), config_version: 7 }
    }
}

impl Prepared for Set {
    fn commit(self: Box<Self>) {
        self.setting.store(self.to, Ordering::SeqCst);
        self.reload_count.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn programmatic_reload_and_component_integration() {
    let folder = tempfile::tempdir().unwrap();
    let own = |setting: &str| {
        format!(
            "{}logging: {{level: error}}\ncomponents: {{my_component: {{setting: {setting}}}}}\n",
            quick(false)
        )
    };
    let file = Nereus::configure(folder.path(), &own("1"));
    let loaded = config::load(&file).unwrap();
    let app = Server::start(Some((file, loaded.inputs)), loaded.settings).unwrap();
    let (setting, reload_count) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
    let my_component = MyComponent { setting: Arc::clone(&setting), reload_count };
    // app.GetReloadManager().RegisterComponent("my_component", myComponent)
    app.reload_manager().register_component("my_component", Arc::new(my_component));
    Nereus::configure(folder.path(), &own("2"));
    // reloadManager.TriggerReload(reload.ReloadTypeConfig, "manual")
    let event = app.reload_manager().trigger_reload(ReloadType::Config, "manual").unwrap();
    assert_eq!(
        (event.components, event.changes),
        (vec!["my_component".to_owned()], vec!["components.my_component".to_owned()])
    );
    assert_eq!(setting.load(Ordering::SeqCst), 2);
    Nereus::configure(folder.path(), &own("many"));
    let Err(ReloadError::Rejected(event)) = app.reload_manager().trigger_reload(ReloadType::Config, "manual")
    else {
        panic!()
    };
    assert_eq!(
        event.error.as_deref(),
        Some("Failed to reload component my_component: components.my_component.setting is no number")
    );
    assert_eq!(setting.load(Ordering::SeqCst), 2);
    // reloadManager.GetStats(), reloadManager.GetRecentEvents(10)
    let stats = app.reload_manager().stats();
    assert_eq!((stats.total_reloads, stats.successful_reloads), (2, 1));
    let mut said = String::new();
    for event in app.reload_manager().recent_events(10) {
        let _ = write!(said, "{}: {} ({}) ", event.r#type, event.source, event.success);
    }
    assert_eq!(said, "config: manual (false) config: manual (true) ");
    // GetReloadStats(): reload_count, last_reload, config_version, at the debug address too.
    let (_, body) = http(app.admin(), "GET", "/debug/reload/components", "");
    let shown: Value = serde_json::from_str(&body).unwrap();
    let mine = shown["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["component"] == "my_component")
        .unwrap();
    assert_eq!((&mine["reload_count"], &mine["config_version"]), (&1.into(), &7.into()));
    assert!(
        http(app.admin(), "GET", "/metrics", "")
            .1
            .contains(r#"nereus_component_reloads_total{component="my_component"} 1"#)
    );
}

#[test]
fn security_considerations() {
    use std::os::unix::fs::PermissionsExt;
    let reader = Reader::start(&format!("{}{}", quick(false), settings("store")));
    let file = reader.folder.path().join("nereus.yaml");
    // "Ensure configuration files have appropriate permissions (600 or 640)"
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true), (0o666, true)] {
        reader.edit(&format!("{}{}", quick(false), settings(if mode == 0o600 { "drop" } else { "store" })));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let (status, event) = reader.post("/reload");
        assert_eq!(status, 200, "{event}");
        assert_eq!(
            event["diagnostics"].to_string().contains("config-permissions"),
            warned,
            "{mode:o}: {event}"
        );
    }
    // "Log all reload events with timestamps and sources"
    for event in reader.nereus.json("/debug/reload/events")["events"].as_array().unwrap() {
        assert!(
            event["time"].is_string() && event["source"].is_string() && event["changes"].is_array(),
            "{event}"
        );
    }
}

#[test]
fn migration_guide() {
    // A configuration without the section already watches; one that switched it off needs one reload by hand.
    let reader = Reader::start(&format!("reload: {{enabled: false}}\n{}", settings("store")));
    reader.edit(&format!("{}{}", quick(true), settings("store")));
    assert_eq!(reader.post("/reload").0, 200);
    reader.edit(&format!("{}{}", quick(true), settings("drop")));
    reader.nereus.wait("the change is followed", |nereus| {
        (nereus.json("/api/v1/status")["generation"] == 3).then_some(())
    });
}
