//! `/reload` and `/debug/reload/*`: asking for reloads, and what they came to.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::Admin;
use super::routes::answer;
use crate::event::Generation;
use crate::reload::{ReloadError, ReloadEvent, ReloadManager, ReloadType};

type Parameters = Result<Query<BTreeMap<String, String>>, QueryRejection>;
type Outcome = Result<ReloadEvent, ReloadError>;

/// What asked, unless the request says it by `source`.
const HTTP: &str = "http";

/// `POST /reload?force=&source=`: everything.
pub(super) async fn all(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let asked =
        parameters_of(parameters, &["force", "source"]).and_then(|p| Ok((flag(&p, "force")?, source(&p))));
    match asked {
        Ok((force, source)) => {
            ask(&admin, move |reloads| run(reloads, ReloadType::All, force, &source)).await
        }
        Err(problem) => bad(&problem),
    }
}

/// `POST /debug/reload/trigger?type=config|mib|webhook|all&force=&source=`.
pub(super) async fn trigger(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let asked = parameters_of(parameters, &["type", "force", "source"]).and_then(|p| {
        let kind = p.get("type").map_or("all", String::as_str).parse::<ReloadType>()?;
        Ok((kind, flag(&p, "force")?, source(&p)))
    });
    match asked {
        Ok((kind, force, source)) => ask(&admin, move |reloads| run(reloads, kind, force, &source)).await,
        Err(problem) => bad(&problem),
    }
}

/// `POST /debug/reload/rollback?generation=&source=`; without a generation, the one before the current.
pub(super) async fn rollback(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let asked = parameters_of(parameters, &["generation", "source"]).and_then(|p| {
        let number = |text: &String| {
            text.parse().map(Generation).map_err(|_| format!("generation: `{text}` is no number"))
        };
        Ok((p.get("generation").map(number).transpose()?, source(&p)))
    });
    match asked {
        Ok((generation, source)) => ask(&admin, move |reloads| reloads.rollback(generation, &source)).await,
        Err(problem) => bad(&problem),
    }
}

/// `GET /debug/reload/events?limit=`: the newest first, with the statistics.
pub(super) async fn events(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let limit = parameters_of(parameters, &["limit"]).and_then(|p| match p.get("limit") {
        Some(text) => text.parse().map_err(|_| format!("limit: `{text}` is no number")),
        None => Ok(usize::MAX),
    });
    match limit {
        Ok(limit) => {
            let events = admin.reloads.recent_events(limit);
            let events: Vec<&ReloadEvent> = events.iter().map(|event| &**event).collect();
            answer(StatusCode::OK, &json!({"statistics": admin.reloads.stats(), "events": events}))
        }
        Err(problem) => bad(&problem),
    }
}

/// `GET /debug/reload/components`.
pub(super) async fn components(State(admin): State<Arc<Admin>>) -> Response {
    answer(StatusCode::OK, &json!({"components": admin.reloads.components()}))
}

/// `GET /debug/reload/generations`: those that can be rolled back to, oldest first.
pub(super) async fn generations(State(admin): State<Arc<Admin>>) -> Response {
    answer(StatusCode::OK, &json!({"generations": admin.reloads.generations()}))
}

fn run(reloads: &ReloadManager, kind: ReloadType, force: bool, source: &str) -> Outcome {
    if force { reloads.force_reload(kind, source) } else { reloads.trigger_reload(kind, source) }
}

/// Waits for the outcome off the async threads: 200 with the event, 422 with the event of a rejected one.
async fn ask(admin: &Arc<Admin>, act: impl FnOnce(&ReloadManager) -> Outcome + Send + 'static) -> Response {
    let reloads = admin.reloads.clone();
    match tokio::task::spawn_blocking(move || act(&reloads)).await {
        Ok(Ok(event)) => answer(StatusCode::OK, &json!(event)),
        Ok(Err(ReloadError::Rejected(event))) => answer(StatusCode::UNPROCESSABLE_ENTITY, &json!(event)),
        Ok(Err(error @ ReloadError::Unavailable)) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": error.to_string()}))
        }
        Err(_) => answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({"error": "the request failed; the log says why"}),
        ),
    }
}

fn parameters_of(parameters: Parameters, known: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let Query(parameters) = parameters.map_err(|error| error.body_text())?;
    match parameters.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("unknown parameter `{name}`; these are known: {}", known.join(", "))),
        None => Ok(parameters),
    }
}

fn flag(parameters: &BTreeMap<String, String>, name: &str) -> Result<bool, String> {
    match parameters.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(other) => Err(format!("{name}: `{other}` is neither true nor false")),
    }
}

/// Who asks, for the event and the log: short, and without what would break a line.
fn source(parameters: &BTreeMap<String, String>) -> String {
    let given = parameters.get("source").map_or(HTTP, String::as_str);
    given.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn bad(problem: &str) -> Response {
    answer(StatusCode::BAD_REQUEST, &json!({"error": problem}))
}
