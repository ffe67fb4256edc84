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
use crate::event::{Command, DeadLetterDeed, DeadLetterRequest, Queue};
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
    let parts = [(deed, names), (DeadLetterDeed::Purge, states.clone())];
    let tell_again = || admin.deliveries.tell_again(&states);
    let Some((sum, more)) = carry_out(&admin.commands, parts, ids.as_deref(), PATIENCE, tell_again) else {
        return Ok(Done::Late);
    };
    tracing::info!(component = "notifier", letters = sum, deed = ?deed, "An operator has dealt with dead letters");
    Ok(Done::Letters(sum, more))
}

/// Has the writer do both `parts`, at most [`MAX_LETTERS`] in all: how many letters it were, and whether there may be
/// more. `None` if that is not known within `patience`, or the writer has ended. Once the second part is under way, its
/// webhooks are told again, even if its end is not heard of: without their letters nobody else would tell them.
fn carry_out(
    commands: &Queue<Command>,
    parts: [(DeadLetterDeed, Vec<Arc<str>>); 2],
    ids: Option<&[u64]>,
    patience: Duration,
    tell_again: impl Fn(),
) -> Option<(u64, bool)> {
    let (mut sum, mut left) = (0, MAX_LETTERS);
    for (second, (deed, webhooks)) in [false, true].into_iter().zip(parts) {
        if webhooks.is_empty() {
            continue;
        }
        if left == 0 {
            break;
        }
        let (done, told) = sync_channel(1);
        let request = DeadLetterRequest { deed, webhooks, ids: ids.map(<[u64]>::to_vec), limit: left, done };
        commands.push(Command::DeadLetters(request)).ok()?;
        let number = told.recv_timeout(patience).ok();
        if second {
            tell_again();
        }
        sum += number?;
        left = left.saturating_sub(usize::try_from(number?).unwrap_or(usize::MAX));
    }
    Some((sum, left == 0))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Carries out with a writer that answers `answers` in turn, and then no more: the result, how many requests
    /// came, and how often webhooks were told again.
    fn carried_out(answers: &[u64], names: &[&str], states: &[&str]) -> (Option<(u64, bool)>, usize, usize) {
        let queue = Queue::new(1 << 20);
        let list = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        let parts = [(DeadLetterDeed::Resend, list(names)), (DeadLetterDeed::Purge, list(states))];
        let (told, requests) = (Cell::new(0), std::sync::atomic::AtomicUsize::new(0));
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut batch = Vec::new();
                while queue.take_all(&mut batch, Duration::from_secs(30)) {
                    for command in batch.drain(..) {
                        let Command::DeadLetters(request) = command else { continue };
                        let number = requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        if let Some(answer) = answers.get(number) {
                            let _ = request.done.try_send(*answer);
                        } else {
                            // It stands open until the end: the disk does not answer.
                            std::mem::forget(request.done);
                        }
                    }
                }
            });
            let tell = || told.set(told.get() + 1);
            let patience = Duration::from_millis(if answers.len() == 2 { 30_000 } else { 100 });
            let result = carry_out(&queue, parts, None, patience, tell);
            queue.close();
            result
        });
        (result, requests.into_inner(), told.get())
    }

    #[test]
    fn a_purge_that_answers_late_has_its_webhooks_told_again() {
        assert_eq!(carried_out(&[], &[], &["am"]), (None, 1, 1));
        assert_eq!(carried_out(&[], &["hook"], &["am"]), (None, 1, 0), "nothing of it was begun");
        assert_eq!(carried_out(&[3, 4], &["hook"], &["am"]), (Some((7, false)), 2, 1));
        assert_eq!(
            carried_out(&[10_000, 4], &["hook"], &["am"]),
            (Some((10_000, true)), 1, 0),
            "they are next"
        );
    }
}
