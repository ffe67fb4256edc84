//! `GET /api/v1/events/{id}/explain` and `GET /api/v1/explain?hex=`: why something is treated as it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::Admin;
use super::api::{bad, finish};
use super::routes::answer;
use crate::delivery::format::alert_json;
use crate::event::EventId;
use crate::pipeline::{explain_datagram, explain_event};
use crate::snapshot::view::event_json;
use crate::store::StoreError;

type Parameters = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// `GET /api/v1/events/{id}/explain`: the event, its alert as it is now, and why its rule matched and no other. Under
/// the generation that decided on it, while it is kept.
pub(super) async fn event(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse().map(EventId) else {
        return bad(&format!("`{id}` is no event's number"));
    };
    let asked = tokio::task::spawn_blocking(move || {
        let reader = admin.reader.clone();
        let Some(event) = reader.event(id)? else { return Ok(None) };
        let current = admin.snapshot.current();
        let snapshot = admin.reloads.kept(event.generation).unwrap_or(current);
        let alert = event.alert_id.map(|alert| reader.alert(alert)).transpose()?.flatten();
        let mut explained = explain_event(&snapshot, &event);
        if let Some(rules) = &mut explained.rules {
            admin.reloads.locate(rules);
        }
        let mut body = json!(explained);
        body["event"] = event_json(snapshot.mib(), &event);
        body["alert"] = alert.map_or(Value::Null, |alert| Value::Object(alert_json(&alert)));
        Ok::<_, StoreError>(Some(body))
    });
    match asked.await {
        Ok(Ok(None)) => {
            let error = format!("there is no event {id}; retention may have removed it");
            answer(StatusCode::NOT_FOUND, &json!({"id": id, "error": error}))
        }
        other => finish(other.map(|done| done.map(Option::unwrap_or_default))),
    }
}

/// `GET /api/v1/explain?hex=&peer=`: what the running generation would do with this datagram.
pub(super) async fn datagram(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Response {
    let asked = parameters.map_err(|error| error.body_text()).and_then(|Query(p)| octets_and_peer(p));
    let (octets, peer) = match asked {
        Ok(asked) => asked,
        Err(problem) => return bad(&problem),
    };
    let asked = tokio::task::spawn_blocking(move || {
        let mut explained =
            explain_datagram(&admin.snapshot.current(), &octets, peer, Some(admin.engine.local().id()));
        if let Some(rules) = &mut explained.rules {
            admin.reloads.locate(rules);
        }
        Ok::<_, StoreError>(json!(explained))
    });
    finish(asked.await)
}

fn octets_and_peer(mut parameters: BTreeMap<String, String>) -> Result<(Vec<u8>, SocketAddr), String> {
    let hex = parameters.remove("hex").ok_or("say which datagram: `hex`")?;
    let octets = from_hex(&hex).ok_or("hex: two hexadecimal digits for each octet")?;
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let peer = match parameters.remove("peer") {
        None => SocketAddr::new(local, 162),
        Some(text) => text
            .parse()
            .or_else(|_| text.parse().map(|address| SocketAddr::new(address, 162)))
            .map_err(|_| format!("peer: `{text}` is no address"))?,
    };
    match parameters.keys().next() {
        Some(name) => Err(format!("unknown parameter `{name}`")),
        None => Ok((octets, peer)),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    (rest.is_empty() && !pairs.is_empty()).then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_and_its_sender() {
        let asked = |list: &[(&str, &str)]| {
            octets_and_peer(list.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        let (octets, peer) = asked(&[("hex", "30fF"), ("peer", "10.0.0.1")]).unwrap();
        assert_eq!((octets, peer.to_string()), (vec![0x30, 0xff], "10.0.0.1:162".to_owned()));
        assert_eq!(asked(&[("hex", "00")]).unwrap().1.to_string(), "127.0.0.1:162");
        assert_eq!(asked(&[("hex", "00"), ("peer", "[::1]:99")]).unwrap().1.to_string(), "[::1]:99");
        for wrong in
            [&[][..], &[("hex", "")], &[("hex", "3")], &[("hex", "3g")], &[("hex", "30"), ("peer", "x")]]
        {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }
}
