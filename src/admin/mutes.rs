//! `/api/v1/mutes`: what operators keep quiet, and for how long.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::Admin;
use super::api::{bad, broken, span};
use super::routes::answer;
use crate::event::{Matchers, Mute, MuteId, MuteState, SourceMatcher, Timestamp, operator_name};
use crate::severity::Severity;
use crate::store::{MuteRefusal, NewMute};

type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// Who asks, unless the request says it by `by`.
const HTTP: &str = "http";
/// The most matchers of one mute, and the longest of their texts and of the comment, in octets.
const MAX_MATCHERS: usize = 256;
const LONGEST: usize = 1_024;
/// The longest mute.
const LONGEST_SPAN: Duration = Duration::from_secs(366 * 86_400);

/// `GET /api/v1/mutes?all=`: those in force and those to come; `all=true` adds the ones that are over.
pub(super) async fn list(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let all = parameters.map_err(|error| error.body_text()).and_then(|Query(list)| match &list[..] {
        [] => Ok(false),
        [(name, value)] if name == "all" => match &**value {
            "" | "true" => Ok(true),
            "false" => Ok(false),
            other => Err(format!("all: `{other}` is neither true nor false")),
        },
        _ => Err("`all` is the one parameter, once".to_owned()),
    });
    let all = match all {
        Ok(all) => all,
        Err(problem) => return bad(&problem),
    };
    let now = Timestamp::now();
    // Whoever changes them holds their lock while the disk writes.
    let Ok(mut mutes) = tokio::task::spawn_blocking(move || admin.mutes.all()).await else {
        return broken();
    };
    mutes.retain(|mute| all || mute.state(now) != MuteState::Ended);
    let mutes: Vec<Value> = mutes.iter().map(|mute| Value::Object(mute_json(mute, now))).collect();
    answer(StatusCode::OK, &json!({ "mutes": mutes }))
}

/// `POST /api/v1/mutes?rule=&alert=&source=&severity=&label=NAME=VALUE&from=&until=&for=&comment=&by=`. Answers 200
/// with the mute once it is on the disk; what comes in from then on is muted.
pub(super) async fn add(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let now = Timestamp::now();
    let new = parameters.map_err(|error| error.body_text()).and_then(|Query(list)| new_mute(list, now));
    let new = match new {
        Ok(new) => new,
        Err(problem) => return bad(&problem),
    };
    change(admin, None, move |admin| {
        let made = admin.mutes.add(new, now, |open| tell(admin, open))?;
        tracing::info!(
            component = "correlator", mute = made.id.0, by = &*made.by, from = %made.from, until = %made.until,
            "Alerts are muted"
        );
        Ok(made)
    })
    .await
}

/// `POST /api/v1/mutes/{id}/end?by=`: 200 with the mute, 404 for one that is not known, 409 for one that is over.
pub(super) async fn end(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Response {
    let Ok(id) = id.parse().map(MuteId) else {
        return bad(&format!("`{id}` is no mute's number"));
    };
    let by = parameters.map_err(|error| error.body_text()).and_then(|Query(list)| match &list[..] {
        [] => Ok(operator_name("", HTTP)),
        [(name, by)] if name == "by" => Ok(operator_name(by, HTTP)),
        _ => Err("`by` is the one parameter, once".to_owned()),
    });
    let by = match by {
        Ok(by) => by,
        Err(problem) => return bad(&problem),
    };
    change(admin, Some(id), move |admin| {
        let ended = admin.mutes.end(id, Arc::clone(&by), Timestamp::now(), |open| tell(admin, open))?;
        tracing::info!(component = "correlator", mute = id.0, by = &*by, "A mute was ended");
        Ok(ended)
    })
    .await
}

/// A correlator that is gone does not come back without reading the file.
fn tell(admin: &Admin, open: Arc<[Mute]>) {
    let _ = admin.operators.mute(open);
}

async fn change(
    admin: Arc<Admin>,
    id: Option<MuteId>,
    act: impl FnOnce(&Admin) -> Result<Mute, MuteRefusal> + Send + 'static,
) -> Response {
    let done = tokio::task::spawn_blocking(move || act(&admin)).await;
    match done {
        Ok(Ok(mute)) => answer(StatusCode::OK, &Value::Object(mute_json(&mute, Timestamp::now()))),
        Ok(Err(refusal)) => {
            let status = match refusal {
                MuteRefusal::TooMany | MuteRefusal::Ended => StatusCode::CONFLICT,
                MuteRefusal::Unknown => StatusCode::NOT_FOUND,
                MuteRefusal::Disk(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            answer(status, &json!({"id": id, "error": refusal.to_string()}))
        }
        Err(_) => broken(),
    }
}

fn mute_json(mute: &Mute, now: Timestamp) -> Map<String, Value> {
    let ended = mute.ended.as_ref();
    let value = json!({
        "id": mute.id,
        "state": mute.state(now),
        "matchers": mute.matchers,
        "from": mute.from,
        "until": mute.until,
        "comment": mute.comment,
        "by": &*mute.by,
        "created": mute.created,
        "ended_at": ended.map(|end| end.at),
        "ended_by": ended.map(|end| &*end.by),
    });
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn new_mute(list: Vec<(String, String)>, now: Timestamp) -> Result<NewMute, String> {
    let mut matchers = Matchers::default();
    let (mut from, mut until, mut lasts, mut comment, mut by) = (None, None, None, None, None);
    if list.len() > MAX_MATCHERS {
        return Err(format!("a mute has at most {MAX_MATCHERS} matchers"));
    }
    for (name, value) in list {
        if value.len() > LONGEST {
            return Err(format!("{name}: longer than {LONGEST} octets"));
        }
        let once = match &*name {
            "rule" => {
                matchers.rule.push(value);
                continue;
            }
            "alert" => {
                matchers.alert.push(value);
                continue;
            }
            "source" => {
                matchers.source.push(SourceMatcher::from(value));
                continue;
            }
            "severity" => {
                matchers.severity.push(severity(&value)?);
                continue;
            }
            "label" => {
                let (name, value) = value
                    .split_once('=')
                    .ok_or_else(|| format!("label: `{value}`: write it as NAME=VALUE"))?;
                if matchers.labels.insert(name.to_owned(), value.to_owned()).is_some() {
                    return Err(format!("label: `{name}` stands there twice; an alert has it once"));
                }
                continue;
            }
            "from" => &mut from,
            "until" => &mut until,
            "for" => &mut lasts,
            "comment" => &mut comment,
            "by" => &mut by,
            _ => return Err(format!("unknown parameter `{name}`")),
        };
        if once.replace(value).is_some() {
            return Err(format!("`{name}` stands there twice"));
        }
    }
    if matchers.is_empty() {
        let remedy = "name a rule, alert, source, severity or label; source=0.0.0.0/0 is every IPv4 device";
        return Err(format!("a mute without a matcher would mute everything: {remedy}"));
    }
    let from = from.map_or(Ok(now), |text| point("from", &text, now))?;
    let until = match (until, lasts) {
        (Some(text), None) => point("until", &text, now)?,
        (None, Some(text)) => from.after(span(&text).ok_or_else(|| no_span("for", &text))?),
        (None, None) => return Err("say until when: `until` or `for`".to_owned()),
        (Some(_), Some(_)) => return Err("`until` and `for` say the same thing: name one".to_owned()),
    };
    if until <= from || until <= now {
        return Err("it would be over before it begins".to_owned());
    }
    if until.since(from) > LONGEST_SPAN || from.since(now) > LONGEST_SPAN {
        return Err("a mute begins within a year, and lasts a year at most".to_owned());
    }
    let comment: String = comment.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    Ok(NewMute { matchers, from, until, comment, by: operator_name(&by.unwrap_or_default(), HTTP) })
}

fn severity(text: &str) -> Result<Severity, String> {
    text.parse().map_err(|()| format!("severity: `{text}` is none of critical, major, minor, warning, info"))
}

/// RFC 3339, or how long from now.
fn point(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(time.as_microsecond()));
    }
    span(text).map(|span| now.after(span)).ok_or_else(|| no_span(name, text))
}

fn no_span(name: &str, text: &str) -> String {
    format!("{name}: `{text}` is neither a time, as 2026-01-31T10:00:00Z, nor a span, as 2h")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(parameters: &[(&str, &str)]) -> Result<NewMute, String> {
        let list = parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        new_mute(list.collect(), Timestamp(1_000_000_000))
    }

    #[test]
    fn a_mute_is_made_of_its_parameters() {
        let mute = made(&[
            ("alert", "Down"),
            ("alert", "Up"),
            ("source", "10.0.0.0/8"),
            ("severity", "major"),
            ("label", "team=noc=1"),
            ("from", "10s"),
            ("for", "2m"),
            ("comment", "works\n"),
            ("by", "ann"),
        ])
        .unwrap();
        assert_eq!(mute.matchers.alert, ["Down", "Up"]);
        assert_eq!(mute.matchers.labels["team"], "noc=1");
        assert_eq!((mute.from, mute.until), (Timestamp(1_010_000_000), Timestamp(1_130_000_000)));
        assert_eq!((&*mute.comment, &*mute.by), ("works", "ann"));
        let until = made(&[("rule", "a"), ("until", "1970-01-01T00:20:00Z")]).unwrap();
        assert_eq!((until.until, &*until.by), (Timestamp(1_200_000_000), "http"));
    }

    #[test]
    fn what_is_no_mute_is_told() {
        for (parameters, says) in [
            (&[("for", "2h")][..], "mute everything"),
            (&[("rule", "a")], "until when"),
            (&[("rule", "a"), ("for", "2h"), ("until", "1h")], "name one"),
            (&[("rule", "a"), ("for", "2h"), ("for", "1h")], "twice"),
            (&[("rule", "a"), ("for", "soon")], "as 2h"),
            (&[("rule", "a"), ("until", "1970-01-01T00:00:00Z")], "over before"),
            (&[("rule", "a"), ("for", "1000d")], "a year"),
            (&[("severity", "bad"), ("for", "2h")], "none of critical"),
            (&[("label", "team"), ("for", "2h")], "NAME=VALUE"),
            (&[("rules", "a"), ("for", "2h")], "unknown parameter"),
        ] {
            let told = made(parameters).unwrap_err();
            assert!(told.contains(says), "{parameters:?}: {told}");
        }
    }
}
