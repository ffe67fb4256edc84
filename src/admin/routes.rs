//! The routes, behind the one check of [`super::auth`].

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::auth::{self, Need};
use super::{Admin, api, explain, mutes, operate, refused, reload, stream, webhooks};
use crate::config::settings::AdminSettings;

pub(super) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/events/stream", get(stream::events))
        .route("/api/v1/refused", get(refused::refused))
        .route("/api/v1/alerts", get(api::alerts))
        .route("/api/v1/alerts/{id}/ack", post(operate::acknowledge))
        .route("/api/v1/alerts/{id}/close", post(operate::close))
        .route("/api/v1/events/{id}/explain", get(explain::event))
        .route("/api/v1/explain", get(explain::datagram))
        .route("/api/v1/mutes", get(mutes::list).post(mutes::add))
        .route("/api/v1/mutes/{id}/end", post(mutes::end))
        .route("/api/v1/webhooks", get(webhooks::list))
        .route("/api/v1/dead-letters", get(webhooks::dead_letters))
        .route("/api/v1/dead-letters/{id}", get(webhooks::dead_letter))
        .route("/api/v1/dead-letters/resend", post(webhooks::resend))
        .route("/api/v1/dead-letters/purge", post(webhooks::purge))
        .route("/reload", post(reload::all))
        .route("/debug/reload/trigger", post(reload::trigger))
        .route("/debug/reload/rollback", post(reload::rollback))
        .route("/debug/reload/events", get(reload::events))
        .route("/debug/reload/components", get(reload::components))
        .route("/debug/reload/generations", get(reload::generations))
        .fallback(|| async {
            answer(StatusCode::NOT_FOUND, &json!({"error": "there is nothing at this path"}))
        })
        .method_not_allowed_fallback(|| async {
            answer(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "this path does not take this method"}))
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), check))
        .with_state(admin)
}

/// While there is no generation.
pub(super) fn starting(settings: Arc<AdminSettings>) -> Router {
    let check = move |request: Request, next: Next| {
        let need = Need::of(request.method(), request.uri().path());
        let admitted = auth::admit(&settings, request.headers(), need);
        async move {
            match admitted {
                Ok(()) => next.run(request).await,
                Err(refusal) => answer(refusal.status(), &json!({"error": refusal.text()})),
            }
        }
    };
    let not_yet = || async {
        let error = "Nereus is starting: the MIB directories are being read, and what comes in is held";
        let body = json!({"ready": false, "phase": "compiling", "generation": null, "error": error});
        answer(StatusCode::SERVICE_UNAVAILABLE, &body)
    };
    Router::new().route("/health", get(health)).fallback(not_yet).layer(middleware::from_fn(check))
}

async fn check(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let snapshot = admin.snapshot.current();
    let need = Need::of(request.method(), request.uri().path());
    match auth::admit(&snapshot.settings().admin, request.headers(), need) {
        Ok(()) => {
            drop(snapshot);
            next.run(request).await
        }
        Err(refusal) => answer(refusal.status(), &json!({"error": refusal.text()})),
    }
}

/// A JSON answer that no browser keeps, sniffs or frames.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    typed(status, "application/json", body.to_string())
}

pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = (status, body.into()).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    (admin.before_scrape)(&admin.metrics);
    match admin.metrics.render() {
        Ok(text) => typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": error.to_string()})),
    }
}

/// The process lives and answers.
async fn health() -> Response {
    answer(StatusCode::OK, &json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// Notifications are received and stored.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let ready = admin.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let generation = admin.snapshot.current().generation();
    answer(status, &json!({"ready": ready, "phase": admin.phase(), "generation": generation}))
}
