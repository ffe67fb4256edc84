//! One datagram to one [`Verdict`]: pure. No I/O, no clock, no lock, no log; what it needs is in the Snapshot.
//!
//! A datagram that becomes no event costs no allocation. What is to be sent back is left in [`Scratch::reply`].

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::reply::{Reply, ReplyKind};
use crate::event::{Event, Timestamp, Verdict};
use crate::metrics::DropReason;
use crate::oid::OidArray;
use crate::snapshot::{Decision, RuleScratch, Snapshot, Subject};
use crate::version::Version;
use crate::wire::{self, CommunityMessage, DecodeErrorKind, Kind, Message};

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
    trap_oid: OidArray,
    name: String,
    rules: RuleScratch,
    /// The version of the last datagram, as far as it could be told.
    pub version: Option<Version>,
    /// Whether the MIBs did not name the last notification.
    pub unresolved: bool,
    /// What is to be sent back to the sender of the last datagram.
    pub reply: Reply,
}

/// Decides on one datagram under one generation.
pub fn process(snapshot: &Snapshot, datagram: &Datagram<'_>, scratch: &mut Scratch) -> Verdict {
    scratch.version = None;
    scratch.unresolved = false;
    scratch.reply.clear();
    if !snapshot.allows(datagram.listener, datagram.peer.ip()) {
        return Verdict::Dropped(DropReason::NotAllowed);
    }
    match wire::decode(datagram.octets) {
        Ok(Message::Community(message)) => {
            scratch.version = Some(message.version);
            community(snapshot, datagram, &message, scratch)
        }
        Ok(Message::V3(_)) => {
            scratch.version = Some(Version::V3);
            Verdict::Dropped(DropReason::V3NotSupported)
        }
        Err(error) => Verdict::Dropped(reason(error.kind)),
    }
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
    notification.trap_oid.decode_into(&mut scratch.trap_oid);
    let trap_oid = scratch.trap_oid.arcs();
    let source = snapshot.device(datagram.peer.ip(), notification.trap_address, notification.agent_addr);
    let subject = Subject {
        notification,
        trap_oid,
        source,
        peer: datagram.peer,
        version: message.version,
        community: alias.map(|alias| &**alias),
    };
    let mut effects = SmallVec::new();
    let decision = snapshot.rules().decide(&subject, &mut scratch.rules, &mut effects);
    if notification.kind == Kind::Inform {
        let kept = decision == Decision::Keep;
        let kind = if kept { ReplyKind::ResponseAfterCommit } else { ReplyKind::Response };
        scratch
            .reply
            .set(kind, |out| wire::encode_response(message.version, message.community, notification, out));
    }
    match decision {
        Decision::Keep => {}
        Decision::Dropped => return Verdict::Dropped(DropReason::Rule),
        Decision::Unmatched => return Verdict::Dropped(DropReason::Unmatched),
    }
    let mib = snapshot.mib();
    let named = mib.lookup(trap_oid).is_some_and(|found| found.matched == trap_oid.len());
    scratch.unresolved = !named;
    let trap_name = named.then(|| {
        scratch.name.clear();
        mib.write_name(trap_oid, &mut scratch.name);
        scratch.name.as_str().into()
    });
    // A decoded trap OID has 2 to 128 arcs.
    let Ok(trap_oid) = crate::oid::Oid::new(trap_oid) else {
        return Verdict::Dropped(DropReason::BadTrapOid);
    };
    Verdict::Accepted(Event {
        time: datagram.received,
        generation: snapshot.generation(),
        listener: u16::try_from(datagram.listener).unwrap_or(u16::MAX),
        peer: datagram.peer,
        source,
        version: message.version,
        community: alias.cloned(),
        trap_oid,
        trap_name,
        pdu: range_of(message.pdu, datagram.octets),
        datagram: datagram.octets.into(),
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
        DecodeErrorKind::BadV3Header
        | DecodeErrorKind::BadV3Flags
        | DecodeErrorKind::UnsupportedSecurityModel
        | DecodeErrorKind::BadEngineId
        | DecodeErrorKind::BadEngineTime
        | DecodeErrorKind::BadUserName => DropReason::BadV3Header,
        _ => DropReason::UnexpectedTag,
    }
}
