//! `POST /api/v1/alerts/{id}/ack` and `/close`: what operators do with alerts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::Admin;
use super::routes::answer;
use crate::event::{AlertId, AlertState, Deed, Outcome, Unanswered, operator_name};
use crate::store::StoreError;

type Parameters = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// Who asks, unless the request says it by `by`.
const HTTP: &str = "http";
/// How long the disk may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `POST /api/v1/alerts/{id}/ack?by=`
pub(super) async fn acknowledge(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Response {
    operate(admin, &id, Deed::Acknowledge, parameters).await
}

/// `POST /api/v1/alerts/{id}/close?by=`
pub(super) async fn close(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Response {
    operate(admin, &id, Deed::Close, parameters).await
}

/// Answers once the change is on the disk and in the state: 200 with `{id, state, changed}`, 404 for an alert
/// that is not known, 409 for one that has ended.
async fn operate(admin: Arc<Admin>, id: &str, deed: Deed, parameters: Parameters) -> Response {
    let Ok(id) = id.parse().map(AlertId) else {
        return answer(StatusCode::BAD_REQUEST, &json!({"error": format!("`{id}` is no alert's number")}));
    };
    let by = match asker(parameters) {
        Ok(by) => by,
        Err(problem) => return answer(StatusCode::BAD_REQUEST, &json!({"error": problem})),
    };
    let done = tokio::task::spawn_blocking(move || act(&admin, id, deed, &by)).await;
    match done {
        Ok(Ok(Done::Outcome(state, changed))) => {
            answer(StatusCode::OK, &json!({"id": id, "state": state, "changed": changed}))
        }
        Ok(Ok(Done::Unknown)) => {
            answer(StatusCode::NOT_FOUND, &json!({"id": id, "error": format!("there is no alert {id}")}))
        }
        Ok(Ok(Done::Ended)) => {
            answer(StatusCode::CONFLICT, &json!({"id": id, "error": format!("alert {id} has ended already")}))
        }
        Ok(Ok(Done::Unanswered(why))) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"id": id, "error": why.to_string()}))
        }
        Ok(Err(error)) => answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": error.to_string()})),
        Err(_) => answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({"error": "the request failed; the log says why"}),
        ),
    }
}

fn asker(parameters: Parameters) -> Result<Arc<str>, String> {
    let Query(parameters) = parameters.map_err(|error| error.body_text())?;
    match parameters.keys().find(|name| *name != "by") {
        Some(name) => Err(format!("unknown parameter `{name}`; `by` is known")),
        None => Ok(operator_name(parameters.get("by").map_or("", String::as_str), HTTP)),
    }
}

enum Done {
    Outcome(AlertState, bool),
    Unknown,
    Ended,
    Unanswered(Unanswered),
}

/// Blocks on the disk twice: for the alert's key, and until the change is committed.
fn act(admin: &Admin, id: AlertId, deed: Deed, by: &Arc<str>) -> Result<Done, StoreError> {
    let reader = admin.reader.clone();
    let Some(record) = reader.alert(id)? else { return Ok(Done::Unknown) };
    if record.state == AlertState::Resolved {
        return Ok(Done::Ended);
    }
    Ok(match admin.operators.ask(id, record.key, deed, Arc::clone(by), PATIENCE) {
        Ok(Outcome::Done { state, changed }) => {
            tracing::info!(
                component = "correlator",
                alert = id.0,
                by = &**by,
                state = state.as_str(),
                changed,
                "An operator has spoken"
            );
            Done::Outcome(state, changed)
        }
        // It has ended since its state was read, at the latest with what is on its way to the disk.
        Ok(Outcome::NotOpen) => Done::Ended,
        Err(unanswered) => Done::Unanswered(unanswered),
    })
}
