//! State delivery to a real Alertmanager: it takes what is posted and reads it as it is meant.

#[path = "common/peers.rs"]
mod peers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nereus::config::settings::{BatchSettings, WebhookFormat, WebhookSettings, WebhookUrl};
use nereus::delivery::{Deliveries, Events, OutboxRow, Source, SourceError};
use nereus::event::{
    AlertId, AlertRecord, AlertState, Command, Delivered, EventId, EventRecord, Queue, Timestamp,
};
use nereus::metrics::Metrics;
use nereus::severity::Severity;
use parking_lot::Mutex;
use peers::{Alertmanager, until};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

/// The committed alerts, by number.
#[derive(Debug, Default)]
struct Alerts(Mutex<BTreeMap<AlertId, AlertRecord>>);

impl Source for Alerts {
    fn alerts_changed_after(&self, change: u64, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        let mut list: Vec<_> =
            self.0.lock().values().filter(|record| record.change > change).cloned().collect();
        list.sort_by_key(|record| record.change);
        list.truncate(limit);
        Ok(list)
    }

    fn open_alerts_after(&self, after: AlertId, limit: usize) -> Result<Vec<AlertRecord>, SourceError> {
        let open = |record: &&AlertRecord| record.state != AlertState::Resolved && record.id > after;
        Ok(self.0.lock().values().filter(open).take(limit).cloned().collect())
    }

    fn alerts_resolved_after(
        &self,
        after: (Timestamp, AlertId),
        limit: usize,
    ) -> Result<Vec<AlertRecord>, SourceError> {
        let place = |record: &AlertRecord| (record.resolved_at.unwrap_or_default(), record.id);
        let ended = |record: &&AlertRecord| record.state == AlertState::Resolved && place(record) > after;
        let mut list: Vec<_> = self.0.lock().values().filter(ended).cloned().collect();
        list.sort_by_key(place);
        list.truncate(limit);
        Ok(list)
    }

    fn progress(&self, _: &str) -> Result<u64, SourceError> {
        Ok(0)
    }

    fn outbox(&self, _: &str, _: u64, _: usize) -> Result<Vec<OutboxRow>, SourceError> {
        Ok(Vec::new())
    }

    fn outbox_depth(&self, _: &str) -> Result<(u64, Option<Timestamp>), SourceError> {
        Ok((0, None))
    }

    fn event_json(&self, _: EventId) -> Result<Option<Box<RawValue>>, SourceError> {
        Ok(None)
    }

    fn event(&self, _: EventId) -> Result<Option<EventRecord>, SourceError> {
        Ok(None)
    }

    fn events_after(&self, _: &str, after: EventId, _: usize) -> Result<Events, SourceError> {
        Ok(Events { upto: after, ..Events::default() })
    }

    fn events_waiting(&self, _: EventId) -> Result<(u64, Option<Timestamp>), SourceError> {
        Ok((0, None))
    }

    fn stored(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn newest_event(&self) -> Result<EventId, SourceError> {
        Ok(EventId(0))
    }
}

fn firing(number: u64) -> AlertRecord {
    let now = Timestamp::now();
    AlertRecord {
        id: AlertId(number),
        change: number,
        alert: "InterfaceDown".into(),
        rule: "link".into(),
        severity: Severity::Major,
        state: AlertState::Firing,
        key: format!("InterfaceDown\u{1f}{number}").into(),
        labels: vec![
            ("alertname".into(), "InterfaceDown".into()),
            ("if.Descr".into(), format!("Gi0/{number} \"größer\"\u{0}")),
            ("if-Descr".into(), "collides".into()),
            ("9th".into(), "digit".into()),
            ("empty".into(), String::new()),
        ],
        annotations: vec![
            ("run book".into(), "https://example.net/\n".into()),
            ("empty".into(), String::new()),
        ],
        count: 1,
        first_seen: now,
        last_seen: now,
        last_event: EventId(number),
        resolved_at: None,
        resolved_by: None,
        quiet_until: None,
        expires_at: None,
        notify: None,
        by_hand: None,
        muted: None,
        flap: None,
        origin: nereus::event::AlertOrigin::Rule,
    }
}

fn resolved(mut record: AlertRecord, change: u64) -> AlertRecord {
    record.change = change;
    record.state = AlertState::Resolved;
    record.resolved_at = Some(Timestamp::now());
    record
}

fn time(alert: &Value, name: &str) -> Timestamp {
    serde_json::from_value(alert[name].clone()).expect("a time")
}

#[test]
fn alertmanager_takes_opens_and_ends_alerts() {
    let Some(alertmanager) = Alertmanager::start() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Arc::new(Alerts::default());
    let queue = Arc::new(Queue::new(1 << 20));
    let (applied, receiver) = watch::channel(0);
    let deliveries = Deliveries::start(
        runtime.handle().clone(),
        Arc::clone(&store) as Arc<dyn Source>,
        Arc::clone(&queue),
        receiver,
        Arc::new(Metrics::new()),
    );
    deliveries.apply(&[Arc::new(WebhookSettings {
        name: "alertmanager".into(),
        urls: vec![WebhookUrl(alertmanager.url().into())],
        format: WebhookFormat::Alertmanager,
        batch: BatchSettings { max: 100, wait: Duration::from_millis(20) },
        ..WebhookSettings::default()
    })]);
    let commit = |records: Vec<AlertRecord>| {
        store.0.lock().extend(records.into_iter().map(|record| (record.id, record)));
        applied.send_modify(|number| *number += 1);
    };

    // An alert without any label is the one that Alertmanager refuses, and its batch with it.
    let mut bad = firing(42);
    bad.labels.clear();
    bad.alert = "".into();
    commit((1..=60).map(|number| if number == 42 { bad.clone() } else { firing(number) }).collect());
    let alerts = alertmanager.until("59 alerts are open", |alerts| alerts.len() == 59);
    let (mut news, mut dead, mut change) = (Vec::new(), Vec::new(), 0);
    until("progress is told", || {
        queue.take_all(&mut news, Duration::from_millis(10));
        for command in news.drain(..) {
            match command {
                Command::Delivered(Delivered::UpTo { change: to, .. }) => change = to,
                Command::Delivered(Delivered::Dead { row: None, record, reason, .. }) => {
                    dead.push((record.id, reason));
                }
                other => panic!("{other:?}"),
            }
        }
        change == 60
    });
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].0, AlertId(42));
    assert!(dead[0].1.starts_with("400 Bad Request: "), "{dead:?}");

    let first = alerts.iter().find(|alert| alert["labels"]["if_Descr_2"] == "Gi0/1 \"größer\"\u{0}");
    let first = first.expect("alert 1 by its legal labels");
    assert_eq!(
        first["labels"],
        serde_json::json!({
            "alertname": "InterfaceDown", "if_Descr": "collides", "if_Descr_2": "Gi0/1 \"größer\"\u{0}", "_9th": "digit",
        })
    );
    assert_eq!(first["annotations"], serde_json::json!({ "run_book": "https://example.net/\n" }));
    let held = time(first, "endsAt").since(Timestamp::now()).as_secs();
    assert!((1740..=1800).contains(&held), "held for 30 minutes: {held} s");

    commit(vec![resolved(firing(1), 61)]);
    let has = |alerts: &[Value], number: u64| {
        let value = format!("Gi0/{number} \"größer\"\u{0}");
        alerts.iter().any(|alert| alert["labels"]["if_Descr_2"] == value.as_str())
    };
    alertmanager.until("one has ended", |alerts| alerts.len() == 58 && !has(alerts, 1));

    // Another alert with the labels of the one that ended.
    let mut again = firing(62);
    again.labels = firing(1).labels;
    let began = again.first_seen;
    commit(vec![again]);
    let alerts = alertmanager.until("it is open again", |alerts| alerts.len() == 59 && has(alerts, 1));
    let again = alerts.iter().find(|alert| has(std::slice::from_ref(alert), 1)).unwrap();
    // Alertmanager shows milliseconds.
    assert_eq!(time(again, "startsAt").0 / 1000, began.0 / 1000);
    runtime.block_on(deliveries.stop(Duration::from_secs(10)));
}
