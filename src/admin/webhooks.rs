//! `/api/v1/webhooks` and `/api/v1/dead-letters`: how the webhooks are, and what they refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::Admin;
use super::api::{bad, broken, unavailable};
use super::routes::answer;
use crate::delivery::format::alert_json;
use crate::event::{Command, DeadLetterDeed, DeadLetterRequest};
use crate::store::{DeadLetter, StoreError};

type Parameters = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// Dead letters of one answer, and of one request to do something with them.
const MAX_LETTERS: usize = 10_000;
/// How long the disk may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// `GET /api/v1/webhooks`: each with its queue, its dead letters and its endpoints.
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    let webhooks = admin.deliveries.status().await;
    let reader = admin.reader.clone();
    let letters = match tokio::task::spawn_blocking(move || reader.dead_letter_counts()).await {
        Ok(Ok(letters)) => letters,
        Ok(Err(error)) => return unavailable(&error),
        Err(_) => return broken(),
    };
    let webhooks: Vec<Value> = webhooks
        .iter()
        .map(|webhook| {
            let dead =
                letters.iter().find(|(name, _)| *name == webhook.name).map_or(0, |(_, number)| *number);
            let mut shown = json!(webhook);
            shown["dead_letters"] = dead.into();
            shown
        })
        .collect();
    answer(StatusCode::OK, &json!({ "webhooks": webhooks }))
}

/// `GET /api/v1/dead-letters?webhook=&before=&limit=`: newest first; go on with `before=next`.
pub(super) async fn dead_letters(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let asked = parameters.map_err(|error| error.body_text()).and_then(|Query(mut parameters)| {
        let webhook = parameters.remove("webhook");
        let before = parameters.remove("before").map(|text| number("before", &text)).transpose()?;
        let limit = parameters.remove("limit").map_or(Ok(100), |text| number("limit", &text))?;
        if !(1..=MAX_LETTERS as u64).contains(&limit) {
            return Err(format!("limit: from 1 to {MAX_LETTERS}; go on with `before`"));
        }
        nothing_left(&parameters)?;
        Ok((webhook, before, limit as usize))
    });
    let (webhook, before, limit) = match asked {
        Ok(asked) => asked,
        Err(problem) => return bad(&problem),
    };
    let reader = admin.reader.clone();
    let read = move || reader.dead_letters(webhook.as_deref(), before, limit);
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(letters)) => {
            let next = letters.last().filter(|_| letters.len() == limit).map(|letter| letter.id);
            let letters: Vec<_> = letters.iter().map(letter_json).collect();
            answer(StatusCode::OK, &json!({ "dead_letters": letters, "next": next }))
        }
        Ok(Err(error)) => unavailable(&error),
        Err(_) => broken(),
    }
}

/// `GET /api/v1/dead-letters/{id}`
pub(super) async fn dead_letter(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    let id = match number("id", &id) {
        Ok(id) => id,
        Err(problem) => return bad(&problem),
    };
    let reader = admin.reader.clone();
    match tokio::task::spawn_blocking(move || reader.dead_letter(id)).await {
        Ok(Ok(Some(letter))) => answer(StatusCode::OK, &letter_json(&letter)),
        Ok(Ok(None)) => answer(
            StatusCode::NOT_FOUND,
            &json!({"id": id, "error": format!("there is no dead letter {id}")}),
        ),
        Ok(Err(error)) => unavailable(&error),
        Err(_) => broken(),
    }
}

/// `POST /api/v1/dead-letters/resend?id=&webhook=&all=true`
pub(super) async fn resend(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    act(admin, DeadLetterDeed::Resend, parameters).await
}

/// `POST /api/v1/dead-letters/purge?id=&webhook=&all=true`
pub(super) async fn purge(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    act(admin, DeadLetterDeed::Purge, parameters).await
}

/// Answers 200 with `{done, more}` once it is in the state: how many letters it were, and whether there are more
/// of them (at most 10,000 at once).
async fn act(admin: Arc<Admin>, deed: DeadLetterDeed, parameters: Parameters) -> Response {
    let (webhook, ids) = match parameters.map_err(|error| error.body_text()).and_then(|Query(p)| which(p)) {
        Ok(which) => which,
        Err(problem) => return bad(&problem),
    };
    let done = tokio::task::spawn_blocking(move || letters(&admin, deed, webhook, ids)).await;
    match done {
        Ok(Ok(Done::Letters(done, more))) => answer(StatusCode::OK, &json!({"done": done, "more": more})),
        Ok(Ok(Done::Unknown(id))) => answer(
            StatusCode::NOT_FOUND,
            &json!({"id": id, "error": format!("there is no dead letter {id}")}),
        ),
        Ok(Ok(Done::NoWebhook(name))) => answer(
            StatusCode::CONFLICT,
            &json!({
                "id": name,
                "error": format!("there is no webhook `{name}` any more that could send them; purge them, or bring it back"),
            }),
        ),
        Ok(Ok(Done::Late)) => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"error": "it is not on the disk yet and may still come to be done; look at the dead letters and at the log"}),
        ),
        Ok(Err(error)) => unavailable(&error),
        Err(_) => broken(),
    }
}

enum Done {
    Letters(u64, bool),
    Unknown(u64),
    NoWebhook(String),
    Late,
}

/// Blocks on the disk.
fn letters(
    admin: &Admin,
    deed: DeadLetterDeed,
    webhook: Option<String>,
    ids: Option<Vec<u64>>,
) -> Result<Done, StoreError> {
    let mut names: Vec<Arc<str>> = Vec::new();
    match (&webhook, &ids) {
        (Some(webhook), _) => names.push(webhook.as_str().into()),
        (None, Some(ids)) => {
            for id in ids {
                match admin.reader.dead_letter(*id)? {
                    Some(letter) => names.push(letter.webhook.into()),
                    None => return Ok(Done::Unknown(*id)),
                }
            }
        }
        (None, None) => {
            names.extend(admin.reader.dead_letter_counts()?.into_iter().map(|(name, _)| name.into()));
        }
    }
    names.sort_unstable();
    names.dedup();
    if deed == DeadLetterDeed::Resend {
        let snapshot = admin.snapshot.current();
        let is_there = |name: &Arc<str>| snapshot.routes().iter().any(|webhook| webhook.name == *name);
        if let Some(gone) = names.iter().find(|name| !is_there(name)) {
            return Ok(Done::NoWebhook(gone.to_string()));
        }
    }
    // What a webhook of state refused is no row of its outbox: it is told of the alerts as they are now.
    let states = match deed {
        DeadLetterDeed::Resend => admin.deliveries.states(),
        DeadLetterDeed::Purge => Vec::new(),
    };
    let (states, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| states.contains(name));
    let mut sum = 0;
    let mut left = MAX_LETTERS;
    for (deed, webhooks) in [(deed, names), (DeadLetterDeed::Purge, states.clone())] {
        if webhooks.is_empty() {
            continue;
        }
        let (done, told) = sync_channel(1);
        let request = DeadLetterRequest { deed, webhooks, ids: ids.clone(), limit: left, done };
        if admin.commands.push(Command::DeadLetters(request)).is_err() {
            return Ok(Done::Late);
        }
        let Ok(number) = told.recv_timeout(PATIENCE) else { return Ok(Done::Late) };
        sum += number;
        left = left.saturating_sub(usize::try_from(number).unwrap_or(usize::MAX));
        if left == 0 {
            break;
        }
    }
    admin.deliveries.tell_again(&states);
    tracing::info!(component = "notifier", letters = sum, deed = ?deed, "An operator has dealt with dead letters");
    Ok(Done::Letters(sum, left == 0))
}

fn which(mut parameters: BTreeMap<String, String>) -> Result<(Option<String>, Option<Vec<u64>>), String> {
    let webhook = parameters.remove("webhook");
    let ids = parameters.remove("id").map(|text| {
        let ids: Result<Vec<u64>, String> = text.split(',').map(|id| number("id", id)).collect();
        ids.and_then(
            |ids| if ids.len() > 1000 { Err("id: at most 1000 of them".to_owned()) } else { Ok(ids) },
        )
    });
    let ids = ids.transpose()?;
    let all = match parameters.remove("all").as_deref() {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(other) => return Err(format!("all: `{other}` is neither true nor false")),
    };
    nothing_left(&parameters)?;
    if webhook.is_none() && ids.is_none() && !all {
        return Err("say which: `id` (one, or several with commas), `webhook`, or `all=true`".to_owned());
    }
    Ok((webhook, ids))
}

fn letter_json(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "webhook": letter.webhook,
        "time": letter.time,
        "reason": letter.reason,
        "alert": alert_json(&letter.record),
    })
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{name}: `{text}` is no number"))
}

fn nothing_left(parameters: &BTreeMap<String, String>) -> Result<(), String> {
    parameters.keys().next().map_or(Ok(()), |name| Err(format!("unknown parameter `{name}`")))
}
