//! `/api/v1`: status, events and alerts as JSON.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::Admin;
use super::routes::answer;
use crate::delivery::format::alert_json;
use crate::event::{EventId, Timestamp};
use crate::pipeline::ListenerStatus;
use crate::severity::Severity;
use crate::snapshot::view::{VarbindFilter, event_json};
use crate::store::{AlertQuery, EventQuery, StoreError};

type Parameters = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// The most rows of one answer.
const MAX_LIMIT: usize = 10_000;
/// The most `where` of one question.
const MAX_WHERE: usize = 16;

/// `GET /api/v1/status`.
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let reader = admin.reader.clone();
    let counts = tokio::task::spawn_blocking(move || reader.counts()).await;
    let counts = match counts {
        Ok(Ok(counts)) => counts,
        Ok(Err(error)) => return unavailable(&error),
        Err(_) => return broken(),
    };
    let snapshot = admin.snapshot.current();
    let listeners = (admin.listeners)();
    // The correlator knows. To count their rows costs milliseconds for each ten thousand, and more in a storm.
    let open = |severity: Severity| admin.metrics.alerts_open.with_label_values(&[severity.as_str()]).get();
    let alerts_open: i64 = Severity::ALL.into_iter().map(open).sum();
    let each = |value: fn(&ListenerStatus) -> Option<u64>| -> Map<String, Value> {
        let known = |listener| Some((listener, value(listener)?));
        let known = listeners.iter().filter_map(known);
        known.map(|(listener, value)| (listener.address.to_string(), value.into())).collect()
    };
    answer(
        StatusCode::OK,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": admin.is_ready(),
            "phase": admin.phase(),
            "uptime_seconds": admin.started.elapsed().as_secs(),
            "generation": snapshot.generation(),
            "listeners": listeners.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>(),
            "receive_buffer": each(|listener| listener.receive_buffer),
            "kernel_drops": each(|listener| listener.kernel_drops),
            "connections": each(|listener| listener.connections),
            "engine_id": admin.engine.local().id().to_string(),
            "engine_boots": admin.engine.local().boots(),
            "engines": admin.engine.engines().len(),
            "rules": snapshot.rules().len(),
            "webhooks": snapshot.routes().iter().map(|webhook| &webhook.name).collect::<Vec<_>>(),
            "webhooks_failing": admin.deliveries.failing(),
            "mib": {"modules": snapshot.mib().modules().count(), "nodes": snapshot.mib().nodes().len()},
            "alerts_open": alerts_open,
            "outbox": counts.outbox,
            "dead_letters": counts.dead_letters,
            "journals": counts.journals,
            "damaged_rows": counts.damaged_rows,
        }),
    )
}

/// `GET /api/v1/events?since=&until=&source=&trap=&severity=&rule=&where=&before=&after=&limit=`: newest first.
/// `since` and `until` take RFC 3339 or a span before now, as `1h`; `where` is `NAME=VALUE` and may stand there
/// several times.
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let asked = parameters.map_err(|error| error.body_text()).and_then(|Query(list)| {
        let (parameters, conditions) = split_where(list)?;
        Ok((event_query(&admin, parameters)?, where_filters(&admin, &conditions)?))
    });
    let (query, filters) = match asked {
        Ok(asked) => asked,
        Err(problem) => return bad(&problem),
    };
    let reader = admin.reader.clone();
    let snapshot = admin.snapshot.current();
    let answered = tokio::task::spawn_blocking(move || {
        let mib = snapshot.mib();
        let page =
            reader.events_where(&query, |event| filters.iter().all(|filter| filter.keeps(mib, event)))?;
        let events: Vec<Value> = page.events.iter().map(|event| event_json(snapshot.mib(), event)).collect();
        Ok::<_, StoreError>(json!({"events": events, "next": page.next, "damaged": page.damaged}))
    });
    finish(answered.await)
}

/// The conditions of `where`, and the rest by name.
pub(super) fn split_where(
    list: Vec<(String, String)>,
) -> Result<(BTreeMap<String, String>, Vec<String>), String> {
    let (mut parameters, mut conditions) = (BTreeMap::new(), Vec::new());
    for (name, value) in list {
        if name == "where" {
            conditions.push(value);
        } else if let Some(_twice) = parameters.insert(name.clone(), value) {
            return Err(format!("`{name}` stands there twice"));
        }
    }
    if conditions.len() > MAX_WHERE {
        return Err(format!("where: at most {MAX_WHERE} conditions"));
    }
    Ok((parameters, conditions))
}

pub(super) fn where_filters(admin: &Admin, conditions: &[String]) -> Result<Vec<VarbindFilter>, String> {
    let snapshot = admin.snapshot.current();
    conditions
        .iter()
        .map(|text| VarbindFilter::parse(snapshot.mib(), text).map_err(|problem| format!("where: {problem}")))
        .collect()
}

pub(super) fn event_query(
    admin: &Admin,
    mut parameters: BTreeMap<String, String>,
) -> Result<EventQuery, String> {
    let now = Timestamp::now();
    let mut take = |name: &str| parameters.remove(name);
    let (realm, source) = take("source").map(|text| devices(&text)).transpose()?.unzip();
    let query = EventQuery {
        since: take("since").map(|text| time(&text, now)).transpose()?,
        until: take("until").map(|text| time(&text, now)).transpose()?,
        source,
        realm: realm.flatten(),
        trap: take("trap")
            .map(|text| {
                let snapshot = admin.snapshot.current();
                snapshot
                    .mib()
                    .resolve(&text)
                    .map(|found| found.oid)
                    .map_err(|error| format!("trap: `{text}`: {error}"))
            })
            .transpose()?,
        severity: take("severity")
            .map(|text| {
                text.parse().map_err(|()| {
                    format!("severity: `{text}` is none of critical, major, minor, warning, info")
                })
            })
            .transpose()?,
        rule: take("rule"),
        before: take("before").map(|text| number("before", &text).map(EventId)).transpose()?,
        after: take("after").map(|text| number("after", &text).map(EventId)).transpose()?,
        limit: limit(take("limit"))?,
        ..EventQuery::default()
    };
    nothing_left(&parameters)?;
    Ok(query)
}

/// `GET /api/v1/alerts?all=true&severity=&rule=&alert=&limit=`: open ones, newest first; `all` adds the
/// resolved ones that are still kept.
pub(super) async fn alerts(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let query = match parameters.map_err(|error| error.body_text()).and_then(|Query(p)| alert_query(p)) {
        Ok(query) => query,
        Err(problem) => return bad(&problem),
    };
    let reader = admin.reader.clone();
    let answered = tokio::task::spawn_blocking(move || {
        let alerts: Vec<Value> =
            reader.alerts(&query)?.iter().map(|alert| Value::Object(alert_json(alert))).collect();
        Ok::<_, StoreError>(json!({ "alerts": alerts }))
    });
    finish(answered.await)
}

fn alert_query(mut parameters: BTreeMap<String, String>) -> Result<AlertQuery, String> {
    let mut take = |name: &str| parameters.remove(name);
    let all = match take("all").as_deref() {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(other) => return Err(format!("all: `{other}` is neither true nor false")),
    };
    let query = AlertQuery {
        open_only: !all,
        severity: take("severity")
            .map(|text| {
                text.parse().map_err(|()| {
                    format!("severity: `{text}` is none of critical, major, minor, warning, info")
                })
            })
            .transpose()?,
        rule: take("rule"),
        alert: take("alert"),
        limit: limit(take("limit"))?,
        ..AlertQuery::default()
    };
    nothing_left(&parameters)?;
    Ok(query)
}

fn nothing_left(parameters: &BTreeMap<String, String>) -> Result<(), String> {
    parameters.keys().next().map_or(Ok(()), |name| Err(format!("unknown parameter `{name}`")))
}

fn limit(text: Option<String>) -> Result<usize, String> {
    let Some(text) = text else { return Ok(100) };
    match number::<usize>("limit", &text)? {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(format!("limit: from 1 to {MAX_LIMIT}; go on with `before`")),
    }
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name}: `{text}` is no number"))
}

/// `10.0.0.1`, `10.0.0.0/8`, and with a realm before it `branch/10.0.0.1`.
fn devices(text: &str) -> Result<(Option<Box<str>>, IpNet), String> {
    let (realm, own) = crate::device::split_realm(text);
    let network = own
        .parse::<IpNet>()
        .or_else(|_| own.parse().map(|address: std::net::IpAddr| IpNet::from(address)))
        .map_err(|_| format!("source: `{text}` is neither an address nor a network"))?;
    Ok((realm.map(Box::from), network))
}

/// RFC 3339, or how long ago.
fn time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(time.as_microsecond()));
    }
    let ago = span(text).ok_or_else(|| {
        format!("`{text}` is neither a time, as 2026-01-31T10:00:00Z, nor a span before now, as 2h")
    })?;
    Ok(Timestamp(now.0.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX))))
}

/// `90s`, `5m`, `2h`, `7d`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

pub(super) fn finish(answered: Result<Result<Value, StoreError>, tokio::task::JoinError>) -> Response {
    match answered {
        Ok(Ok(body)) => answer(StatusCode::OK, &body),
        Ok(Err(error)) => unavailable(&error),
        Err(_) => broken(),
    }
}

pub(super) fn bad(problem: &dyn Display) -> Response {
    answer(StatusCode::BAD_REQUEST, &json!({"error": problem.to_string()}))
}

pub(super) fn unavailable(error: &StoreError) -> Response {
    answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": error.to_string()}))
}

pub(super) fn broken() -> Response {
    answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": "the question failed; the log says why"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now = Timestamp(10_000_000_000);
        assert_eq!(time("1970-01-01T00:00:01Z", now), Ok(Timestamp(1_000_000)));
        assert_eq!(time("2m", now), Ok(Timestamp(10_000_000_000 - 120_000_000)));
        for wrong in ["", "2", "m", "2w", "-2m", "99999999999999999999d", "yesterday"] {
            assert!(time(wrong, now).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn unknown_and_wrong_parameters_are_told() {
        let ask =
            |name: &str, value: &str| alert_query(BTreeMap::from([(name.to_owned(), value.to_owned())]));
        assert!(ask("limit", "5").is_ok());
        for (name, value) in
            [("limt", "5"), ("limit", "0"), ("limit", "x"), ("severity", "bad"), ("all", "maybe")]
        {
            assert!(ask(name, value).is_err(), "{name}={value}");
        }
    }
}
