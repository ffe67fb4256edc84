//! One datagram to one [`Verdict`]: pure. No I/O, no clock, no lock, no log; what it needs is in the Snapshot.
//!
//! A datagram that becomes no event costs no allocation. What is to be sent back is left in [`Scratch::reply`].

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::reply::{Reply, ReplyKind};
use super::usm::{Security, Usm};
use crate::device::Device;
use crate::event::{Event, Timestamp, Verdict};
use crate::metrics::DropReason;
use crate::oid::OidArray;
use crate::security::EngineId;
use crate::snapshot::{Decision, RuleScratch, Snapshot, Subject};
use crate::version::Version;
use crate::wire::{self, CommunityMessage, DecodeErrorKind, Kind, Message, Notification, V3Header};

/// A datagram as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Its octets.
    pub octets: &'a [u8],
    /// Who sent it.
    pub peer: SocketAddr,
    /// The listener's place in the settings of the Snapshot that decides on it.
    pub listener: usize,
    /// When it was read.
    pub received: Timestamp,
}

/// Memory that is used again for each datagram, and what the last one was.
#[derive(Debug, Default)]
pub struct Scratch {
    work: Work,
    security: Security,
    /// A scoped PDU, decrypted.
    plain: Vec<u8>,
    /// The version of the last datagram, as far as it could be told.
    pub version: Option<Version>,
    /// Whether the MIBs did not name the last notification.
    pub unresolved: bool,
    /// What is to be sent back to the sender of the last datagram.
    pub reply: Reply,
}

#[derive(Debug, Default)]
struct Work {
    trap_oid: OidArray,
    name: String,
    rules: RuleScratch,
    unresolved: bool,
}

impl Scratch {
    /// For SNMPv3 with an engine of its own, which answers informs, and the table of the others, which knows
    /// replays ([`settle`](super::settle)).
    #[must_use]
    pub fn with(usm: Arc<Usm>) -> Self {
        Self { security: Security::new(usm), ..Self::default() }
    }

    /// For looking at datagrams that nobody waits for an answer to: SNMPv3 messages are taken whatever their time, and
    /// informs if they are for the engine `own`; where that is not known, for whichever engine they are.
    #[must_use]
    pub fn offline(own: Option<EngineId>) -> Self {
        Self { security: Security::offline(own), ..Self::default() }
    }

    pub(super) fn security(&mut self) -> (&mut Security, &mut Reply) {
        (&mut self.security, &mut self.reply)
    }
}

/// Decides on one datagram under one generation. What needs the state that receivers share is left to
/// [`settle`](super::settle).
pub fn process(snapshot: &Snapshot, datagram: &Datagram<'_>, scratch: &mut Scratch) -> Verdict {
    scratch.version = None;
    scratch.unresolved = false;
    scratch.reply.clear();
    scratch.security.clear();
    if !snapshot.allows(datagram.listener, datagram.peer.ip()) {
        return Verdict::Dropped(DropReason::NotAllowed);
    }
    let verdict = match wire::decode(datagram.octets) {
        Ok(Message::Community(message)) => {
            scratch.version = Some(message.version);
            community(snapshot, datagram, &message, scratch)
        }
        Ok(Message::V3(message)) => {
            scratch.version = Some(Version::V3);
            v3(snapshot, datagram, &message, scratch)
        }
        Err(error) => Verdict::Dropped(reason(error.kind)),
    };
    scratch.unresolved = matches!(verdict, Verdict::Accepted(_)) && scratch.work.unresolved;
    verdict
}

fn community(
    snapshot: &Snapshot,
    datagram: &Datagram<'_>,
    message: &CommunityMessage<'_>,
    scratch: &mut Scratch,
) -> Verdict {
    let Ok(alias) = snapshot.users().community(message.community) else {
        return Verdict::Dropped(DropReason::BadCommunity);
    };
    let notification = &message.notification;
    let what = What { notification, version: message.version, alias, pdu: Pdu::Within(message.pdu) };
    let verdict = decide(snapshot, datagram, &what, &mut scratch.work);
    if let Some(kind) = response_kind(notification, &verdict) {
        scratch
            .reply
            .set(kind, |out| wire::encode_response(message.version, message.community, notification, out));
    }
    verdict
}

fn v3(
    snapshot: &Snapshot,
    datagram: &Datagram<'_>,
    message: &V3Header<'_>,
    scratch: &mut Scratch,
) -> Verdict {
    let Scratch { work, security, plain, reply, .. } = scratch;
    let (peer, received) = (datagram.peer.ip(), datagram.received);
    let accepted = match security.accept(snapshot.users(), peer, received, message, plain) {
        Ok(accepted) => accepted,
        Err(reason) => return Verdict::Dropped(reason),
    };
    let pdu = accepted.scoped.pdu;
    let notification = match wire::decode_pdu(Version::V3, pdu) {
        Ok(notification) => notification,
        Err(error) => {
            security.refuse_pdu(message, &accepted, error.kind);
            return Verdict::Dropped(reason(error.kind));
        }
    };
    let pdu = if accepted.private { Pdu::Decrypted(pdu) } else { Pdu::Within(pdu) };
    let what = What { notification: &notification, version: Version::V3, alias: None, pdu };
    let verdict = decide(snapshot, datagram, &what, work);
    if let Some(kind) = response_kind(&notification, &verdict) {
        security.respond(message, &accepted, &notification, received, kind, reply);
    }
    verdict
}

/// How an inform is answered.
fn response_kind(notification: &Notification<'_>, verdict: &Verdict) -> Option<ReplyKind> {
    match (notification.kind, verdict) {
        (Kind::Trap, _) => None,
        (Kind::Inform, Verdict::Accepted(_)) => Some(ReplyKind::ResponseAfterCommit),
        (Kind::Inform, Verdict::Dropped(DropReason::Rule | DropReason::Unmatched)) => {
            Some(ReplyKind::Response)
        }
        (Kind::Inform, Verdict::Dropped(_)) => None,
    }
}

/// A notification whose sender may send it.
struct What<'a> {
    notification: &'a Notification<'a>,
    version: Version,
    alias: Option<&'a Arc<str>>,
    pdu: Pdu<'a>,
}

/// Where the PDU stands.
#[derive(Clone, Copy)]
enum Pdu<'a> {
    /// In the datagram.
    Within(&'a [u8]),
    /// Elsewhere: the datagram holds it encrypted.
    Decrypted(&'a [u8]),
}

/// What the rules say of it, as an event.
fn decide(snapshot: &Snapshot, datagram: &Datagram<'_>, what: &What<'_>, work: &mut Work) -> Verdict {
    let notification = what.notification;
    notification.trap_oid.decode_into(&mut work.trap_oid);
    let trap_oid = work.trap_oid.arcs();
    let source = snapshot.device(datagram.peer.ip(), notification.trap_address, notification.agent_addr);
    let realm = snapshot.realm(datagram.listener);
    let subject = Subject {
        notification,
        trap_oid,
        source,
        realm: realm.map(|realm| &**realm),
        peer: datagram.peer,
        version: what.version,
        community: what.alias.map(|alias| &**alias),
    };
    let mut effects = SmallVec::new();
    match snapshot.rules().decide(&subject, &mut work.rules, &mut effects) {
        Decision::Keep => {}
        Decision::Dropped => return Verdict::Dropped(DropReason::Rule),
        Decision::Unmatched => return Verdict::Dropped(DropReason::Unmatched),
    }
    let mib = snapshot.mib();
    let named = mib.lookup(trap_oid).is_some_and(|found| found.matched == trap_oid.len());
    work.unresolved = !named;
    let trap_name = named.then(|| {
        work.name.clear();
        mib.write_name(trap_oid, &mut work.name);
        work.name.as_str().into()
    });
    // A decoded trap OID has 2 to 128 arcs.
    let Ok(trap_oid) = crate::oid::Oid::new(trap_oid) else {
        return Verdict::Dropped(DropReason::BadTrapOid);
    };
    let (kept, pdu): (Box<[u8]>, _) = match what.pdu {
        Pdu::Within(pdu) => (datagram.octets.into(), range_of(pdu, datagram.octets)),
        Pdu::Decrypted(pdu) => {
            let from = datagram.octets.len();
            ([datagram.octets, pdu].concat().into(), from..from + pdu.len())
        }
    };
    Verdict::Accepted(Event {
        time: datagram.received,
        generation: snapshot.generation(),
        listener: u16::try_from(datagram.listener).unwrap_or(u16::MAX),
        peer: datagram.peer,
        source: Device { realm: realm.cloned(), address: source },
        version: what.version,
        community: what.alias.cloned(),
        trap_oid,
        trap_name,
        pdu,
        datagram: kept,
        effects,
        answer: None,
    })
}

/// Where `part`, a slice of `whole`, stands in it. Empty if it is none.
fn range_of(part: &[u8], whole: &[u8]) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= whole.len() => start..end,
        _ => 0..0,
    }
}

/// The counter of each refusal of the codec.
fn reason(kind: DecodeErrorKind) -> DropReason {
    match kind {
        DecodeErrorKind::Truncated => DropReason::Truncated,
        DecodeErrorKind::BadLength => DropReason::BadLength,
        DecodeErrorKind::BadInteger => DropReason::BadInteger,
        DecodeErrorKind::BadOid => DropReason::BadOid,
        DecodeErrorKind::BadAddress => DropReason::BadAddress,
        DecodeErrorKind::TrailingOctets => DropReason::TrailingOctets,
        DecodeErrorKind::MessageTooLong => DropReason::MessageTooLong,
        DecodeErrorKind::UnsupportedVersion => DropReason::UnsupportedVersion,
        DecodeErrorKind::NotANotification => DropReason::NotANotification,
        DecodeErrorKind::PduNotOfVersion => DropReason::PduNotOfVersion,
        DecodeErrorKind::TooManyVarbinds => DropReason::TooManyVarbinds,
        DecodeErrorKind::MissingTrapOid => DropReason::MissingTrapOid,
        DecodeErrorKind::BadTrapOid => DropReason::BadTrapOid,
        DecodeErrorKind::TrapOidTooLong => DropReason::TrapOidTooLong,
        DecodeErrorKind::BadGenericTrap => DropReason::BadGenericTrap,
        DecodeErrorKind::BadSpecificTrap => DropReason::BadSpecificTrap,
        DecodeErrorKind::BadTimestamp => DropReason::BadTimestamp,
        DecodeErrorKind::BadV3Header => DropReason::BadV3Header,
        DecodeErrorKind::BadV3Flags => DropReason::BadV3Flags,
        DecodeErrorKind::UnsupportedSecurityModel => DropReason::UnsupportedSecurityModel,
        DecodeErrorKind::BadEngineId => DropReason::BadEngineId,
        DecodeErrorKind::BadEngineTime => DropReason::BadEngineTime,
        DecodeErrorKind::BadUserName => DropReason::BadUserName,
        _ => DropReason::UnexpectedTag,
    }
}
