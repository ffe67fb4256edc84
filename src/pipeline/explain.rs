//! What became of an event, or would become of a datagram, step by step.

use std::net::SocketAddr;

use serde::Serialize;

use super::process::{Datagram, Scratch, process};
use super::usm::Security;
use crate::event::{EventRecord, Generation, Timestamp, Verdict};
use crate::oid::{OidArray, OidRef};
use crate::security::{EngineId, SecurityLevel};
use crate::snapshot::{Explanation, Snapshot, Subject, explain};
use crate::version::Version;
use crate::wire::{self, Kind, Message};

/// What would become of a datagram.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedDatagram {
    /// The generation that says so.
    pub generation: Generation,
    /// What the hot path does with it: `accepted`, or the reason of `nereus_traps_dropped_total`.
    pub verdict: String,
    /// What was read and decided, in the order of the hot path.
    pub steps: Vec<String>,
    /// What the rules say, where it came so far.
    pub rules: Option<Explanation>,
}

/// What the rules of a generation say of a stored event.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedEvent {
    /// The generation that decided on it.
    pub generation: Generation,
    /// The generation that is asked here: that one while it is kept, else the running one.
    pub explained_with: Generation,
    /// What is to be known of the answer.
    pub notes: Vec<String>,
    /// What the rules say; null where the stored PDU does not decode.
    pub rules: Option<Explanation>,
}

/// Explains what `snapshot` makes of `octets` that come from `peer` to its first listener. Shows no community.
///
/// SNMPv3 informs are for the engine `own`. Without one and without `access.engine_id` they are taken for whichever
/// engine they name, which is then said.
#[must_use]
pub fn explain_datagram(
    snapshot: &Snapshot,
    octets: &[u8],
    peer: SocketAddr,
    own: Option<&EngineId>,
) -> ExplainedDatagram {
    let own = own.copied().or(snapshot.settings().access.engine_id);
    let datagram = Datagram { octets, peer, listener: 0, received: Timestamp::now() };
    let verdict = match process(snapshot, &datagram, &mut Scratch::offline(own)) {
        Verdict::Accepted(_) => "accepted".to_owned(),
        Verdict::Dropped(reason) => reason.as_str().to_owned(),
    };
    let mut explained = ExplainedDatagram {
        generation: snapshot.generation(),
        verdict,
        steps: vec![format!("{} octets from {peer}", octets.len())],
        rules: None,
    };
    let steps = &mut explained.steps;
    if !snapshot.allows(0, peer.ip()) {
        steps.push(format!("`listener[0].allow` does not have {}", peer.ip()));
        return explained;
    }
    let mut plain = Vec::new();
    let (version, alias, notification) = match wire::decode(octets) {
        Ok(Message::Community(message)) => {
            let notification = message.notification;
            steps.push(format!("SNMP{}, {:?}", message.version, notification.kind).to_ascii_lowercase());
            let Ok(alias) = snapshot.users().community(message.community) else {
                steps.push("its community is none of `access.communities`".to_owned());
                return explained;
            };
            steps.push(match alias {
                Some(alias) => format!("its community is `{alias}`"),
                None => "its community is accepted".to_owned(),
            });
            (message.version, alias, notification)
        }
        Ok(Message::V3(message)) => match open(snapshot, &datagram, &message, own, &mut plain, steps) {
            Some(notification) => (Version::V3, None, notification),
            None => return explained,
        },
        Err(error) => {
            steps.push(format!("refused: {error}"));
            return explained;
        }
    };
    let notification = &notification;
    let mut trap_oid = OidArray::default();
    notification.trap_oid.decode_into(&mut trap_oid);
    let source = snapshot.device(peer.ip(), notification.trap_address, notification.agent_addr);
    let mut name = String::new();
    snapshot.mib().write_name(trap_oid.arcs(), &mut name);
    steps.push(format!("snmpTrapOID {} is {name}", OidRef(trap_oid.arcs())));
    steps.push(device_step(snapshot, peer, source, notification));
    if let Some(realm) = snapshot.realm(0) {
        steps.push(format!("it is in the realm `{realm}`, that of `listener[0]`"));
    }
    let subject = Subject {
        notification,
        trap_oid: trap_oid.arcs(),
        source,
        realm: snapshot.realm(0).map(|realm| &**realm),
        peer,
        version,
        community: alias.map(|alias| &**alias),
    };
    explained.rules = Some(explain(snapshot, &subject));
    explained
}

/// What an SNMPv3 message holds, if its sender is known. Whether it is a replay is not asked: that is nothing that a
/// Snapshot knows.
fn open<'a>(
    snapshot: &Snapshot,
    datagram: &Datagram<'_>,
    message: &wire::V3Header<'a>,
    own: Option<EngineId>,
    plain: &'a mut Vec<u8>,
    steps: &mut Vec<String>,
) -> Option<wire::Notification<'a>> {
    let security = &message.security;
    let engine = EngineId::new(security.engine_id).map_or("no engine".to_owned(), |id| id.to_string());
    let user = security.user.escape_ascii();
    let level = message.flags.level();
    steps.push(format!(
        "snmpv3, {level}: user `{user}` at engine {engine}, boots {}, time {}",
        security.boots, security.time
    ));
    let (peer, received) = (datagram.peer.ip(), datagram.received);
    match Security::offline(own).accept(snapshot.users(), peer, received, message, plain) {
        Ok(accepted) => {
            if level > SecurityLevel::NoAuthNoPriv {
                steps.push("its digest is that of the user".to_owned());
            }
            match wire::decode_pdu(Version::V3, accepted.scoped.pdu) {
                Ok(notification) => {
                    if notification.kind == Kind::Inform && own.is_none() {
                        steps.push(
                            "an inform: its engine is taken for this collector's own, which `engine_id: auto` \
                             alone does not tell"
                                .to_owned(),
                        );
                    }
                    return Some(notification);
                }
                Err(error) => steps.push(format!("its PDU is refused: {error}")),
            }
        }
        Err(reason) => steps.push(format!("refused: {}", reason.as_str())),
    }
    None
}

fn device_step(
    snapshot: &Snapshot,
    peer: SocketAddr,
    source: std::net::IpAddr,
    notification: &wire::Notification<'_>,
) -> String {
    let dotted = |octets: [u8; 4]| std::net::Ipv4Addr::from(octets).to_string();
    let mut said = Vec::new();
    said.extend(notification.trap_address.map(|address| format!("snmpTrapAddress {}", dotted(address))));
    said.extend(notification.agent_addr.map(|address| format!("agent-addr {}", dotted(address))));
    let told = if said.is_empty() { String::new() } else { format!(" ({} beside it)", said.join(", ")) };
    let relay = crate::config::settings::any_contains(&snapshot.settings().source.trusted_relays, peer.ip());
    let by = if relay { "a trusted relay" } else { "the sender" };
    format!("the device is {source}: the datagram is from {by}{told}")
}

/// Explains a stored event by `snapshot`.
#[must_use]
pub fn explain_event(snapshot: &Snapshot, event: &EventRecord) -> ExplainedEvent {
    let mut explained = ExplainedEvent {
        generation: event.generation,
        explained_with: snapshot.generation(),
        notes: Vec::new(),
        rules: None,
    };
    if explained.generation != explained.explained_with {
        explained.notes.push(format!(
            "generation {} is not kept any more: this is what generation {} says",
            explained.generation, explained.explained_with
        ));
    }
    let Ok(notification) = wire::decode_pdu(event.version, &event.pdu) else {
        explained.notes.push("the stored PDU does not decode: its row is damaged".to_owned());
        return explained;
    };
    // The community is not stored. Where the rule that matched asks for one, it was one of these.
    let rule = event.rule.as_deref();
    let rules = &snapshot.settings().rules;
    let asked = rules.iter().find(|own| Some(&*own.name) == rule).and_then(|own| own.community.first());
    if event.version != Version::V3 && rules.iter().any(|rule| !rule.community.is_empty()) {
        explained.notes.push(match asked {
            Some(alias) => format!("communities are not stored: `{alias}` is what its rule asks for"),
            None => "communities are not stored: rules that ask for one are taken as not matching".to_owned(),
        });
    }
    let subject = Subject {
        notification: &notification,
        trap_oid: event.trap_oid.arcs(),
        source: event.source.address,
        realm: event.source.realm.as_deref(),
        peer: event.peer,
        version: event.version,
        community: asked.map(|alias| &**alias),
    };
    let said = explain(snapshot, &subject);
    let first = said.effects.first().map(|effect| &*effect.rule);
    if first != rule && explained.generation == explained.explained_with {
        let was = rule.unwrap_or("none");
        explained.notes.push(format!("the rule that is stored with it is {was}"));
    }
    explained.rules = Some(said);
    explained
}
