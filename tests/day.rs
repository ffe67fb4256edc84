//! A day of a network, in simulated time: what is open at its end is what the traps that came in say.
//!
//! A seeded generator makes a day's traps of many devices: outages, flapping links, storms that take a whole site
//! down, reboots, alarms whose severity changes, clears that get lost, duplicates, and traps that overtake each other. They
//! go the real way: the codec, compiled rules, correlator, writer and SQLite. Meanwhile rules are renamed, given another
//! key and removed while events of the generation before still come in; the program ends in order or is killed and starts again;
//! a site is muted. The truth is a fold over the traps in the order in which they came: a line a trap.
//!
//! A real Alertmanager takes part in the whole day: the program's own delivery posts to it what is committed, and at
//! the looks it knows what whoever may be told of is open. It begins anew, empty, thrice. It knows no other clock than
//! the real one: what it and the delivery see of the day lies compressed, in its order, in the minutes before the test.
//! At the end the built program itself tells an Alertmanager, and tells another after it was killed.
//!
//! `NEREUS_DAY_DEVICES` and `NEREUS_DAY_SEED` choose another network; `NEREUS_DAY_FULL=1` looks at Alertmanager at
//! every restart and has it begin anew where nothing but the round of each minute can tell it (two minutes more).

#[path = "common/peers.rs"]
mod peers;
#[path = "common/nereus.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nereus::config;
use nereus::config::settings::{BatchSettings, StorageSettings, WebhookFormat, WebhookSettings, WebhookUrl};
use nereus::correlator::{Correlator, Limits, Restored, Route, RouteKind, Routes};
use nereus::delivery::{Deliveries, Events, OutboxRow, Source, SourceError};
use nereus::event::{
    AlertId, AlertRecord, AlertState, Command, EventId, EventRecord, KEY_SEPARATOR, Matchers, Queue,
    SourceMatcher, Timestamp, Verdict,
};
use nereus::metrics::Metrics;
use nereus::mib::Mib;
use nereus::oid::OidRef;
use nereus::pipeline::{Datagram, Scratch, process};
use nereus::severity::Severity;
use nereus::snapshot::{self, Publisher, Snapshot};
use nereus::store::{self, AlertQuery, MuteBook, NewMute, Reader, Store};
use nereus::value::Value;
use nereus::wire::{Kind, V2Notification, encode_v2c};
use peers::Alertmanager;
use program::Nereus;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// Everything has come to rest so long after the day's last trap.
const REST: i64 = 2 * HOUR;
/// How long Alertmanager may take to hear of everything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Devices of a site, which go down together.
const SITE: u32 = 50;
const INTERFACES: u32 = 4;
const EXPIRE_LINK: i64 = 12 * HOUR;
const EXPIRE_COLD: i64 = HOUR;
/// The webhook of the Alertmanager that takes part in the day.
const LIVE: &str = "live";
/// So many microseconds of the day are one of those that Alertmanager sees. All of the day lies within the half hour
/// for which an end is worth telling, however long the test takes.
const COMPRESSED: i64 = 200;

const RULES: &str = r#"
unmatched: store
rules:
  - name: link
    match: {trap: IF-MIB::linkDown}
    alert: InterfaceDown
    severity: major
    key: [source, ifIndex]
    cleared_by: IF-MIB::linkUp
    deduplicate: 5m
    flapping: {count: 6, window: 2m, hold: 10m}
    expire: 12h
  - name: alarm
    match: {trap: "1.3.6.1.4.1.99999.0.1"}
    alert: Alarm
    severity: {from: "1.3.6.1.4.1.99999.1.2", map: {"1": critical, "2": major, "3": minor, "5": clear}}
    key: [source, "1.3.6.1.4.1.99999.1.1"]
    deduplicate: 5m
  - name: door
    match: {trap: "1.3.6.1.4.1.99999.0.2"}
    alert: DoorOpen
    severity: info
    key: [source]
    cleared_by: "1.3.6.1.4.1.99999.0.3"
    deduplicate: 1h
    history: first
  - name: cold
    match: {trap: SNMPv2-MIB::coldStart}
    alert: ColdStart
    key: [source]
    expire: 1h
"#;

/// SplitMix64: the same day for the same seed, whatever crates do.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn span(&mut self, longest: i64) -> i64 {
        i64::try_from(self.below(longest.unsigned_abs())).unwrap()
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trap {
    Down(u32),
    Up(u32),
    Alarm(u32, u32),
    Door(bool),
    Cold,
}

/// What the network does to a trap: it comes late, twice, or not at all.
struct Network {
    random: Random,
    /// Arrival, number, device, trap.
    traps: Vec<(i64, usize, u32, Trap)>,
    lost: usize,
}

impl Network {
    fn send(&mut self, at: i64, device: u32, trap: Trap) {
        if self.random.one_in(200) {
            self.lost += 1;
            return;
        }
        let copies = 1 + usize::from(self.random.one_in(50));
        for _ in 0..copies {
            // Most come in order; some overtake those before.
            let late = if self.random.one_in(30) { 3 * SECOND } else { SECOND / 50 };
            let late = self.random.span(late);
            self.traps.push((at + late, self.traps.len(), device, trap));
        }
    }

    fn outage(&mut self, at: i64, device: u32, interface: u32, lasts: i64) {
        self.send(at, device, Trap::Down(interface));
        self.send(at + lasts, device, Trap::Up(interface));
    }

    /// The traps of a day of `devices`, by arrival, seconds from its beginning.
    fn day(seed: u64, devices: u32) -> Self {
        let mut network = Self { random: Random(seed), traps: Vec::new(), lost: 0 };
        let day = 24 * HOUR;
        for device in 0..devices {
            for _ in 0..network.random.below(6) {
                let (at, lasts) = (network.random.span(day), network.random.span(2 * HOUR));
                let interface = network.random.below(INTERFACES.into()) as u32 + 1;
                network.outage(at, device, interface, lasts);
            }
            // It stays down.
            if network.random.one_in(40) {
                let at = network.random.span(day);
                network.send(at, device, Trap::Down(9));
            }
            if network.random.one_in(50) {
                let at = network.random.span(day);
                for round in 0..10 + network.random.span(30) {
                    let at = at + round * 10 * SECOND;
                    let lasts = network.random.span(9 * SECOND);
                    network.outage(at, device, 1, lasts);
                }
            }
            if network.random.one_in(8) {
                let index = network.random.below(3) as u32;
                let mut at = network.random.span(day);
                for _ in 0..1 + network.random.below(5) {
                    let severity = [1, 2, 3, 5][network.random.below(4) as usize];
                    network.send(at, device, Trap::Alarm(index, severity));
                    at += network.random.span(HOUR);
                }
            }
            if network.random.one_in(10) {
                let at = network.random.span(day);
                (0..3).for_each(|repeat| network.send(at + repeat * MINUTE, device, Trap::Door(true)));
                let lasts = network.random.span(3 * HOUR);
                network.send(at + lasts, device, Trap::Door(false));
            }
            if network.random.one_in(12) {
                let at = network.random.span(day);
                (1..=INTERFACES).for_each(|interface| network.outage(at, device, interface, 90 * SECOND));
                network.send(at + 60 * SECOND, device, Trap::Cold);
            }
        }
        // Sites that go down as a whole.
        for site in 0..devices.div_ceil(SITE) {
            if !network.random.one_in(4) {
                continue;
            }
            let (at, lasts) = (network.random.span(day), network.random.span(HOUR));
            for device in site * SITE..((site + 1) * SITE).min(devices) {
                let at = at + network.random.span(2 * SECOND);
                (1..=INTERFACES).for_each(|interface| network.outage(at, device, interface, lasts));
            }
        }
        // What would come later belongs to the next day.
        network.traps.retain(|(at, ..)| *at < day);
        network.traps.sort_unstable();
        network
    }
}

fn address(device: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + device))
}

fn encode(trap: Trap, out: &mut Vec<u8>) {
    const ALARM: [u32; 7] = [1, 3, 6, 1, 4, 1, 99_999];
    let ours = |tail: &[u32]| [&ALARM[..], tail].concat();
    let link = |number| vec![1, 3, 6, 1, 6, 3, 1, 1, 5, number];
    let value = |number: u32| Value::Integer(i32::try_from(number).unwrap());
    let index = |interface: u32| (vec![1, 3, 6, 1, 2, 1, 2, 2, 1, 1, interface], value(interface));
    let (trap_oid, varbinds) = match trap {
        Trap::Down(interface) => (link(3), vec![index(interface)]),
        Trap::Up(interface) => (link(4), vec![index(interface)]),
        Trap::Cold => (link(1), Vec::new()),
        Trap::Alarm(index, severity) => {
            (ours(&[0, 1]), vec![(ours(&[1, 1, 0]), value(index)), (ours(&[1, 2, 0]), value(severity))])
        }
        Trap::Door(open) => (ours(&[0, if open { 2 } else { 3 }]), Vec::new()),
    };
    let varbinds: Vec<_> = varbinds.iter().map(|(name, value)| (OidRef(name), *value)).collect();
    let trap_oid = OidRef(&trap_oid);
    let (community, kind) = (b"public".as_slice(), Kind::Trap);
    out.clear();
    encode_v2c(
        &V2Notification { community, kind, request_id: 1, uptime: 1, trap_oid, varbinds: &varbinds },
        out,
    )
    .unwrap();
}

/// Alert, device, and what else the key says.
type Key = (&'static str, u32, Option<u32>);

/// What is open, by the traps alone: severity, and when it was raised last.
#[derive(Default)]
struct Truth(BTreeMap<Key, (Severity, i64)>);

impl Truth {
    fn take(&mut self, at: i64, device: u32, trap: Trap, doors: bool) {
        let mut raise = |key: Key, severity| {
            self.0.insert(key, (severity, at));
        };
        match trap {
            Trap::Down(interface) => raise(("InterfaceDown", device, Some(interface)), Severity::Major),
            Trap::Alarm(index, code @ 1..=3) => {
                let severity = [Severity::Critical, Severity::Major, Severity::Minor][code as usize - 1];
                raise(("Alarm", device, Some(index)), severity);
            }
            Trap::Door(true) if doors => raise(("DoorOpen", device, None), Severity::Info),
            Trap::Cold => raise(("ColdStart", device, None), Severity::Warning),
            Trap::Up(_) | Trap::Alarm(..) | Trap::Door(_) => {
                let ended = match trap {
                    Trap::Up(interface) => ("InterfaceDown", device, Some(interface)),
                    Trap::Alarm(index, _) => ("Alarm", device, Some(index)),
                    _ => ("DoorOpen", device, None),
                };
                self.0.remove(&ended);
            }
        }
    }

    /// What is open at `now`, as an alert's key shows it.
    fn open(&self, now: i64) -> BTreeSet<(String, Severity)> {
        let lives = |key: &Key, raised: i64| match key.0 {
            "InterfaceDown" => now < raised + EXPIRE_LINK,
            "ColdStart" => now < raised + EXPIRE_COLD,
            _ => true,
        };
        let open = self.0.iter().filter(|(key, (_, raised))| lives(key, *raised));
        open.map(|((alert, device, index), (severity, _))| {
            let index = index.map(|index| format!(" {index}")).unwrap_or_default();
            (format!("{alert} {}{index}", address(*device)), *severity)
        })
        .collect()
    }
}

/// Name, device, the rest, however the rule orders them.
fn shown(record: &AlertRecord) -> (String, Severity) {
    let mut parts: Vec<&str> = record.key.split(KEY_SEPARATOR).collect();
    parts[1..].sort_by_key(|part| part.parse::<IpAddr>().is_err());
    (parts.join(" "), record.severity)
}

/// The committed state as the delivery reads it, its times those of the compressed day.
struct Compressed {
    reader: Reader,
    /// When the simulated day begins, and when the compressed one does.
    begins: i64,
    shown: i64,
    /// The ends that pages of ended alerts ended with.
    ends: Mutex<HashMap<AlertId, Timestamp>>,
}

impl Compressed {
    fn time(&self, at: Timestamp) -> Timestamp {
        Timestamp(self.shown + (at.0 - self.begins) / COMPRESSED)
    }

    fn all(&self, records: Vec<AlertRecord>) -> Vec<AlertRecord> {
        let each = |record: AlertRecord| AlertRecord {
            first_seen: self.time(record.first_seen),
            last_seen: self.time(record.last_seen),
            resolved_at: record.resolved_at.map(|at| self.time(at)),
            ..record
        };
        records.into_iter().map(each).collect()
    }
}

impl Source for Compressed {
    fn alerts_changed_after(&self, change: u64, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.all(self.reader.alerts_changed_after(change, limit)?))
    }

    fn open_alerts_after(&self, after: AlertId, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        Ok(self.all(self.reader.open_alerts_after(after, limit)?))
    }

    fn alerts_resolved_after(
        &self,
        after: (Timestamp, AlertId),
        limit: usize,
    ) -> Result<Vec<AlertRecord>, SourceError> {
        let mut ends = self.ends.lock().unwrap();
        // Where the page of before ended, which the compressed time tells less exactly.
        let since = match ends.get(&after.1) {
            Some(&end) if self.time(end) == after.0 => end,
            _ => Timestamp(self.begins + (after.0.0 - self.shown) * COMPRESSED),
        };
        let page = self.reader.alerts_resolved_after((since, after.1), limit)?;
        if let Some(last) = page.last() {
            ends.extend(last.resolved_at.map(|end| (last.id, end)));
        }
        Ok(self.all(page))
    }

    fn progress(&self, webhook: &str) -> Result<u64, SourceError> {
        Ok(self.reader.progress(webhook)?)
    }

    fn outbox(&self, _: &str, _: u64, _: usize) -> Result<Vec<OutboxRow>, SourceError> {
        unreachable!("Alertmanager is told of state")
    }

    fn outbox_depth(&self, _: &str) -> Result<(u64, Option<Timestamp>), SourceError> {
        unreachable!("Alertmanager is told of state")
    }

    fn event_json(&self, _: EventId) -> Result<Option<Box<serde_json::value::RawValue>>, SourceError> {
        unreachable!("Alertmanager is told of state")
    }

    fn event(&self, _: EventId) -> Result<Option<EventRecord>, SourceError> {
        unreachable!("Alertmanager is told of state")
    }

    fn events_after(&self, _: &str, _: EventId, _: usize) -> Result<Events, SourceError> {
        unreachable!("Alertmanager is told of state")
    }

    fn events_waiting(&self, _: EventId) -> Result<(u64, Option<Timestamp>), SourceError> {
        unreachable!("Alertmanager is told of state")
    }

    fn stored(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }

    fn newest_event(&self) -> Result<EventId, SourceError> {
        Ok(EventId(0))
    }
}

/// Where the day's Alertmanager is, and what it sees of time.
#[derive(Clone)]
struct Live {
    url: String,
    begins: i64,
    shown: i64,
}

/// The program, but for its sockets.
struct Program {
    settings: StorageSettings,
    publisher: Publisher,
    correlator: Correlator,
    queue: Arc<Queue<Command>>,
    writer: Option<JoinHandle<()>>,
    reader: Reader,
    /// Where an Alertmanager is installed.
    delivery: Option<(tokio::runtime::Runtime, Deliveries)>,
    live: Option<Live>,
    mutes: MuteBook,
    routes: Routes,
    /// What an event webhook was told last of each alert that is not known to have ended.
    told: BTreeMap<String, Severity>,
    /// When nobody may be told of the first site.
    quiet: Option<(Timestamp, Timestamp)>,
}

fn built(rules: &str, before: Option<&Snapshot>) -> snapshot::Candidate {
    let loaded =
        config::parse("day.yaml", rules.as_bytes(), &config::System).unwrap_or_else(|p| panic!("{p}"));
    snapshot::build(loaded.settings, Mib::builtin(), before).unwrap_or_else(|problems| panic!("{problems:?}"))
}

impl Program {
    fn start(folder: &Path, rules: &str, live: Option<Live>) -> Self {
        let settings = StorageSettings { path: folder.join("data"), ..StorageSettings::default() };
        let metrics = Arc::new(Metrics::new());
        let opened = Store::open(&settings, Arc::clone(&metrics)).unwrap();
        let publisher = Publisher::new(built(rules, None), 2).unwrap();
        let changes = snapshot::start_changes(publisher.current(), opened.alerts.iter());
        let restored = Restored {
            last_event: opened.last_event,
            last_alert: opened.last_alert,
            last_change: opened.last_change,
            ended: opened.ended,
            mutes: opened.mutes.open_at(Timestamp(0)),
            ..Restored::of(opened.alerts)
        };
        let mut correlator = Correlator::new(Limits::default(), restored, &[0]);
        correlator.reconcile(changes);
        let queue = Arc::new(Queue::new(32 << 20));
        let reader = opened.store.reader();
        let (applied, changes) = tokio::sync::watch::channel(opened.last_change);
        let delivery = live.clone().map(|live| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.unwrap();
            let Live { url, begins, shown } = live;
            let source =
                Arc::new(Compressed { reader: reader.clone(), begins, shown, ends: Mutex::default() });
            let (writer, metrics) = (Arc::clone(&queue), Arc::clone(&metrics));
            let deliveries = Deliveries::start(runtime.handle().clone(), source, writer, changes, metrics);
            deliveries.apply(&[Arc::new(WebhookSettings {
                name: LIVE.into(),
                urls: vec![WebhookUrl(url.into())],
                format: WebhookFormat::Alertmanager,
                batch: BatchSettings { max: 1_000, wait: Duration::from_millis(20) },
                ..WebhookSettings::default()
            })]);
            (runtime, deliveries)
        });
        let writer = store::spawn_writer(opened.store, Arc::clone(&queue), applied, metrics).unwrap();
        Self {
            settings,
            publisher,
            correlator,
            queue,
            writer: Some(writer),
            reader,
            delivery,
            live,
            mutes: opened.mutes,
            routes: Routes::new([
                Route { name: "log".into(), kind: RouteKind::Event },
                Route { name: LIVE.into(), kind: RouteKind::State },
            ]),
            told: BTreeMap::new(),
            quiet: None,
        }
    }

    fn push(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        for command in out.drain(..) {
            let changes = match &command {
                Command::Event(decided) => &decided.changes[..],
                Command::Changes(changes) => changes,
                _ => &[],
            };
            for change in changes.iter().filter(|change| !change.queue_for.is_empty()) {
                let record = &change.record;
                let muted = self.quiet.is_some_and(|(from, until)| from <= now && now < until);
                let label = record.labels.iter().find(|(name, _)| &**name == "source");
                let device = label.and_then(|(_, source)| source.parse::<Ipv4Addr>().ok());
                let of_site = device.is_some_and(|device| u32::from(device) < 0x0a00_0000 + SITE);
                let ended = record.state == AlertState::Resolved;
                assert!(!(muted && of_site) || ended, "told in spite of the mute: {record:?}");
                let (key, severity) = shown(record);
                if ended {
                    // A changed severity ends the old one first.
                    self.told.remove(&key);
                } else {
                    self.told.insert(key, severity);
                }
            }
            self.queue.push(command).unwrap();
        }
    }

    /// Lets the clock come to `now`.
    fn wait_until(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        while let Some(at) = self.correlator.wake_at().filter(|at| *at <= now) {
            // What is due at once is due now; what was due meanwhile was so then.
            let at = if at == Timestamp(i64::MIN) { now } else { at };
            self.correlator.tick(at, &self.routes, out);
            self.push(at, out);
        }
    }

    fn settle(&self) {
        let (told, done) = mpsc::sync_channel(1);
        self.queue.push(Command::Flush(told)).unwrap();
        done.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    fn open(&self) -> BTreeSet<(String, Severity)> {
        self.settle();
        let alerts = self.reader.alerts(&AlertQuery { limit: usize::MAX, ..AlertQuery::default() }).unwrap();
        assert_eq!(alerts.len(), self.correlator.open_alerts());
        let shown: BTreeSet<_> = alerts.iter().map(shown).collect();
        assert_eq!(shown.len(), alerts.len(), "one alert a problem");
        shown
    }

    /// Ends and begins again; killed, the correlator's last counts are lost.
    fn restart(&mut self, folder: &Path, rules: &str, killed: bool, out: &mut Vec<Command>) {
        if !killed {
            self.correlator.finish(out);
            self.push(Timestamp(0), out);
        }
        self.end(killed);
        let (told, quiet) = (std::mem::take(&mut self.told), self.quiet);
        *self = Self { told, quiet, ..Self::start(folder, rules, self.live.clone()) };
    }

    /// Killed, the posts in flight are cut and their outcome is not written.
    fn end(&mut self, killed: bool) {
        if let Some((runtime, deliveries)) = self.delivery.take() {
            if !killed {
                runtime.block_on(deliveries.stop(Duration::from_secs(5)));
            }
            runtime.shutdown_background();
        }
        self.queue.push(Command::Stop).unwrap();
        self.writer.take().unwrap().join().unwrap();
    }

    /// Waits until Alertmanager knows exactly what is open and may be told.
    fn alertmanager_knows(&self, alertmanager: &Alertmanager, patience: Duration) {
        self.settle();
        let alerts = self.reader.alerts(&AlertQuery { limit: usize::MAX, ..AlertQuery::default() }).unwrap();
        let told: BTreeSet<_> = alerts.iter().filter(|record| record.is_told()).map(shown).collect();
        let until = Instant::now() + patience;
        loop {
            let there: BTreeSet<_> = alertmanager.alerts().iter().map(shown_there).collect();
            if there == told {
                return;
            }
            let missing: Vec<_> = told.difference(&there).take(5).collect();
            let surplus: Vec<_> = there.difference(&told).take(5).collect();
            assert!(Instant::now() < until, "it lacks {missing:?} and has {surplus:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn wanted<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn what_is_open_at_the_end_of_a_day_is_what_its_traps_say() {
    let (devices, seed) = (wanted("NEREUS_DAY_DEVICES", 5_000_u32), wanted("NEREUS_DAY_SEED", 7_u64));
    let folder = tempfile::tempdir().unwrap();
    // The day that ends now: files are named and kept by the real clock.
    let begins = Timestamp::now().0 - 24 * HOUR - REST - MINUTE;
    let network = Network::day(seed, devices);
    let number = network.traps.len();
    let mut alertmanager = Alertmanager::start();
    let full = std::env::var_os("NEREUS_DAY_FULL").is_some_and(|value| value == "1");
    let shown = Timestamp::now().0 - (24 * HOUR + REST) / COMPRESSED - MINUTE;
    let live = alertmanager.as_ref().map(|at| Live { url: at.url(), begins, shown });
    let mut program = Program::start(folder.path(), RULES, live);
    let (mut rules, mut doors, mut truth) = (RULES.to_owned(), true, Truth::default());
    let edits: [(usize, &dyn Fn(&str) -> String); 4] = [
        (number / 6, &|rules| rules.replace("name: link", "name: links")),
        (2 * number / 6, &|rules| {
            rules.replace(
                "key: [source, \"1.3.6.1.4.1.99999.1.1\"]",
                "key: [\"1.3.6.1.4.1.99999.1.1\", source]",
            )
        }),
        (3 * number / 6, &|rules| {
            let from = rules.find("  - name: door").unwrap();
            let to = rules.find("  - name: cold").unwrap();
            format!("{}{}", &rules[..from], &rules[to..])
        }),
        (5 * number / 6, &|rules| {
            rules.replace("alert: ColdStart", "alert: ColdStart\n    severity: warning")
        }),
    ];
    let restarts: BTreeMap<usize, bool> = (1..8).map(|part| (part * number / 8 + 3, part % 2 == 0)).collect();
    let (mut out, mut octets, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
    // A generation that was published and not read yet, and after how many traps it is.
    let mut unread: Option<(Arc<Snapshot>, usize)> = None;
    let mut snapshot = Arc::clone(program.publisher.current());
    program.correlator.mark(0, snapshot.generation());
    let mut looks = 0;
    for (place, &(at, _, device, trap)) in network.traps.iter().enumerate() {
        let now = Timestamp(begins + at);
        program.wait_until(now, &mut out);
        if let Some((_, edit)) = edits.iter().find(|(due, _)| *due == place) {
            rules = edit(&rules);
            let staged = program.publisher.stage(built(&rules, Some(&snapshot)));
            let changes = snapshot::rule_changes(&snapshot, staged.snapshot());
            program.correlator.reloaded(Arc::new(changes));
            unread = Some((program.publisher.publish_staged(staged), place + 40));
        }
        if let Some((read, _)) = unread.take_if(|(_, due)| *due == place) {
            program.correlator.mark(0, read.generation());
            snapshot = read;
            program.wait_until(now, &mut out);
            let has_doors = rules.contains("name: door");
            if doors && !has_doors {
                truth.0.retain(|key, _| key.0 != "DoorOpen");
            }
            doors = has_doors;
        }
        if place == number / 3 {
            let source = (0..SITE).map(|device| SourceMatcher::from(address(device).to_string())).collect();
            let matchers = Matchers { source, ..Matchers::default() };
            let (from, until) = (now, now.after(Duration::from_secs(4 * 3_600)));
            let mute = NewMute { matchers, from, until, comment: String::new(), by: "ann".into() };
            let correlator = &mut program.correlator;
            program.mutes.add(mute, now, |open| correlator.mute(open, now)).unwrap();
            program.quiet = Some((from, until));
            program.wait_until(now, &mut out);
        }
        if let Some(&killed) = restarts.get(&place).filter(|_| unread.is_none()) {
            looks += 1;
            // Empty, it hears what is open from the program that begins, too.
            if let Some(alertmanager) = alertmanager.as_mut().filter(|_| looks % 3 == 1) {
                alertmanager.begin_anew();
            }
            program.restart(folder.path(), &rules, killed, &mut out);
            snapshot = Arc::clone(program.publisher.current());
            program.correlator.mark(0, snapshot.generation());
            program.wait_until(now, &mut out);
            if let Some(alertmanager) = alertmanager.as_ref().filter(|_| full || looks % 2 == 1) {
                program.alertmanager_knows(alertmanager, PATIENCE);
            }
        }
        encode(trap, &mut octets);
        let peer = SocketAddr::new(address(device), 40_000);
        let datagram = Datagram { octets: &octets, peer, listener: 0, received: now };
        let Verdict::Accepted(event) = process(&snapshot, &datagram, &mut scratch) else {
            panic!("a trap was dropped");
        };
        program.correlator.event(event, now, &program.routes, &mut out);
        program.push(now, &mut out);
        truth.take(now.0, device, trap, doors);
    }
    let last = begins + network.traps.last().unwrap().0;
    let end = Timestamp(last + REST);
    program.wait_until(end, &mut out);
    let (open, expected) = (program.open(), truth.open(end.0));
    let missing: Vec<_> = expected.difference(&open).take(5).collect();
    let surplus: Vec<_> = open.difference(&expected).take(5).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "not open: {missing:?}; open: {surplus:?}");
    assert!(looks >= 5 && network.lost > 0 && open.len() > devices as usize / 50, "{looks} {}", open.len());
    let told: BTreeSet<_> = program.told.clone().into_iter().collect();
    assert_eq!(told, open, "whoever was told each change knows what is open");
    if let Some(alertmanager) = &mut alertmanager {
        program.alertmanager_knows(alertmanager, PATIENCE);
        if full {
            alertmanager.begin_anew();
            program.alertmanager_knows(alertmanager, 3 * PATIENCE);
        }
        let there: BTreeSet<_> = alertmanager.alerts().iter().map(shown_there).collect();
        assert_eq!(there, expected, "Alertmanager knows what the traps say");
    }
    // The same from the disk alone, and from the journal alone.
    program.restart(folder.path(), &rules, true, &mut out);
    assert_eq!(program.open(), expected);
    program.end(true);
    std::fs::remove_file(program.settings.path.join("state.db")).unwrap();
    let mut again = Program::start(folder.path(), &rules, None);
    assert_eq!(again.open(), expected);
    again.end(true);
    alertmanager_knows_it(folder.path(), &rules, &truth, end.0);
}

/// The program itself on that data directory, with a real Alertmanager; both begin again in between.
fn alertmanager_knows_it(folder: &Path, rules: &str, truth: &Truth, end: i64) {
    for _ in 0..2 {
        let Some(alertmanager) = Alertmanager::start() else { return };
        let webhook = format!("{{name: am, url: '{}', format: alertmanager}}", alertmanager.url());
        let nereus = Nereus::start(folder, &format!("{rules}webhooks: [{webhook}]\n"));
        alertmanager.until("Alertmanager knows what is open", |alerts| {
            let open: BTreeSet<_> = alerts.iter().map(shown_there).collect();
            assert_eq!(open.len(), alerts.len());
            // Some expire while this runs.
            open.is_subset(&truth.open(end)) && open.is_superset(&truth.open(Timestamp::now().0))
        });
        nereus.kill();
    }
}

/// An alert as Alertmanager shows it.
fn shown_there(alert: &serde_json::Value) -> (String, Severity) {
    let label = |name: &str| alert["labels"][name].as_str();
    let index = label("ifIndex").or(label("_1_3_6_1_4_1_99999_1_1"));
    let index = index.map(|index| format!(" {index}")).unwrap_or_default();
    let name = format!("{} {}{index}", label("alertname").unwrap(), label("source").unwrap());
    (name, label("severity").unwrap().parse().unwrap())
}
