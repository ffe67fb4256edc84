//! `/api/v1/refused`: a sample of what was refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::Admin;
use super::routes::answer;
use crate::metrics::DropReason;
use crate::pipeline::Refusal;

/// `GET /api/v1/refused?reason=&limit=`: newest first, at most the thousand that are held. They are a sample: the
/// counters know how many there were.
pub(super) async fn refused(
    State(admin): State<Arc<Admin>>,
    parameters: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Response {
    match parameters.map_err(|error| error.body_text()).and_then(|Query(list)| question(&list)) {
        Ok((reason, limit)) => {
            let newest = admin.refusals.newest(usize::MAX).into_iter();
            let chosen = newest.filter(|one| reason.is_none_or(|reason| one.reason == reason)).take(limit);
            let refused: Vec<Value> = chosen.map(|refusal| shown(&refusal)).collect();
            answer(StatusCode::OK, &json!({"refused": refused}))
        }
        Err(problem) => answer(StatusCode::BAD_REQUEST, &json!({"error": problem})),
    }
}

fn question(list: &BTreeMap<String, String>) -> Result<(Option<DropReason>, usize), String> {
    let (mut reason, mut limit) = (None, 100);
    for (name, value) in list {
        match name.as_str() {
            "reason" => {
                let known = DropReason::ALL.iter().find(|known| known.as_str() == value);
                let all =
                    || DropReason::ALL.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
                reason = Some(*known.ok_or_else(|| format!("reason: known are {}", all()))?);
            }
            "limit" => limit = value.parse().map_err(|_| "limit: a whole number".to_owned())?,
            other => return Err(format!("`{other}` is not known: reason, limit")),
        }
    }
    Ok((reason, limit))
}

fn shown(refusal: &Refusal) -> Value {
    let mut value = json!({
        "time": refusal.time,
        "peer": refusal.peer.to_string(),
        "listener": refusal.listener.to_string(),
        "version": refusal.version,
        "reason": refusal.reason.as_str(),
        "octets": refusal.octets,
    });
    if let Some(claimed) = &refusal.claimed {
        value["user"] = claimed.user.as_str().into();
        value["engine_id"] = claimed.engine_id.map(|id| id.to_string()).into();
        value["engine_boots"] = claimed.boots.into();
        value["engine_time"] = claimed.time.into();
        value["level"] = claimed.level.as_str().into();
    }
    value
}
