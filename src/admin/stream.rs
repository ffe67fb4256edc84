//! `GET /api/v1/events/stream`: events as they are stored, one JSON object a line.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use serde_json::json;
use tokio::sync::mpsc;

use super::Admin;
use super::api::{bad, event_query, split_where, where_filters};
use super::routes::{answer, typed};
use crate::snapshot::view::{VarbindFilter, event_json};
use crate::store::{EventQuery, Followed, Follower};

/// An empty line goes out after so long without an event, so that both ends notice that the other is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// A client that has taken nothing for so long gives its place up.
const PATIENCE: Duration = Duration::from_secs(60);
/// About so much goes out at once.
const PIECE: usize = 64 << 10;
/// Events that are looked at before others have their turn on this thread.
const TURN: usize = 64;

/// `GET /api/v1/events/stream?source=&trap=&severity=&rule=&where=`: from now on, oldest first. Where a client reads more
/// slowly than events are stored, `{"missed": N}` stands in the place of those that found no room, whether or not they
/// were asked for. The answer ends when Nereus does.
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let asked = parameters.map_err(|error| error.body_text()).and_then(|Query(list)| {
        let (parameters, conditions) = split_where(list)?;
        for name in ["since", "until", "before", "after", "limit"] {
            if parameters.contains_key(name) {
                return Err(format!("`{name}`: a stream begins now and has no end; /api/v1/events takes it"));
            }
        }
        Ok((event_query(&admin, parameters)?, where_filters(&admin, &conditions)?))
    });
    let (query, filters) = match asked {
        Ok(asked) => asked,
        Err(problem) => return bad(&problem),
    };
    let Some(follower) = admin.reader.follow() else {
        let body = json!({"error": "as many follow the events as may"});
        return answer(StatusCode::SERVICE_UNAVAILABLE, &body);
    };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(feed(admin, follower, query, filters, sender));
    typed(StatusCode::OK, "application/x-ndjson", Body::new(Pieces(receiver)))
}

/// Ends with the store, or once the client is gone or takes nothing.
async fn feed(
    admin: Arc<Admin>,
    mut follower: Follower,
    query: EventQuery,
    filters: Vec<VarbindFilter>,
    sender: mpsc::Sender<Bytes>,
) {
    loop {
        let followed = tokio::select! {
            followed = tokio::time::timeout(SIGN_OF_LIFE, follower.next()) => followed,
            () = sender.closed() => return,
        };
        let Followed { events, missed } = match followed {
            Ok(Some(followed)) => followed,
            Ok(None) => return,
            Err(_) => {
                if !send(&sender, Bytes::from_static(b"\n")).await {
                    return;
                }
                continue;
            }
        };
        let mut lines = String::new();
        for events in events.chunks(TURN) {
            {
                // Let go at once: a Snapshot that is held while a client takes its time could not be freed.
                let snapshot = admin.snapshot.current();
                let mib = snapshot.mib();
                for event in events {
                    if query.keeps(event) && filters.iter().all(|filter| filter.keeps(mib, event)) {
                        let _ = writeln!(lines, "{}", event_json(mib, event));
                    }
                }
            }
            tokio::task::yield_now().await;
            if lines.len() >= PIECE && !send(&sender, std::mem::take(&mut lines).into()).await {
                return;
            }
        }
        if missed > 0 {
            let _ = writeln!(lines, "{}", json!({ "missed": missed }));
        }
        if !lines.is_empty() && !send(&sender, lines.into()).await {
            return;
        }
    }
}

async fn send(sender: &mpsc::Sender<Bytes>, piece: Bytes) -> bool {
    matches!(tokio::time::timeout(PATIENCE, sender.send(piece)).await, Ok(Ok(())))
}

/// A body of what comes through a channel.
struct Pieces(mpsc::Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
