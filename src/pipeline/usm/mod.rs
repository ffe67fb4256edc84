//! SNMPv3's user-based security model at a notification receiver (RFC 3414 section 3.2): who sent a message,
//! whether it is a replay, and what it says.
//!
//! Of a trap the sender is the authoritative engine, of an inform this collector is. [`Security::accept`] takes
//! the steps that need no shared state and is pure; what it found goes through [`settle`], which asks the one
//! table of engines whether the message is a replay, counts, and writes Reports.
//!
//! * `local.rs`: the own engine. `engines.rs`: all others, `file.rs`: on the disk.
//! * `keys.rs`: the localised keys that a receiver remembers.

mod engines;
mod file;
mod keys;
mod local;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};
use smallvec::SmallVec;

pub use engines::{Engines, MAX_ENGINES};
pub use file::EnginesWriter;
use keys::{LocalizedCache, Place, Remembered};
pub use local::{LocalEngine, Stat};

use super::process::Scratch;
use super::reply::{Reply, ReplyKind};
use crate::event::{Timestamp, Verdict};
use crate::metrics::{DropReason, Metrics};
use crate::security::{EngineId, SecurityLevel};
use crate::snapshot::{User, Users};
use crate::wire::usm::{AuthKey, Protection, V3Outgoing, V3Pdu};
use crate::wire::{self, DecodeErrorKind, Notification, ScopedData, ScopedPdu, V3Header};

/// What all receivers share: the own engine and the table of the others. Outlives every generation.
#[derive(Debug)]
pub struct Usm {
    local: LocalEngine,
    engines: Arc<Engines>,
    lenient: IntCounter,
    known: IntGauge,
}

impl Usm {
    /// Puts them together; what is taken in spite of its time is counted in `metrics`.
    #[must_use]
    pub fn new(local: LocalEngine, engines: Arc<Engines>, metrics: &Metrics) -> Self {
        let known = metrics.usm_engines.clone();
        known.set(i64::try_from(engines.len()).unwrap_or(i64::MAX));
        Self { local, engines, lenient: metrics.usm_lenient_time.clone(), known }
    }

    /// With an engine that lives as long as the program, and a table that no disk knows.
    #[must_use]
    pub fn unkept(metrics: &Metrics) -> Self {
        let now = Timestamp::now();
        // Without random numbers an ID of the clock's.
        let id = local::random_id()
            .ok()
            .or_else(|| EngineId::new(&[&[0x80, 0, 0, 0, 5][..], &now.0.to_be_bytes()].concat()));
        let id = id.unwrap_or_else(|| unreachable!("13 octets are within 5 to 32"));
        Self::new(LocalEngine::new(id, 1, now), Arc::default(), metrics)
    }

    /// The own engine.
    #[must_use]
    pub fn local(&self) -> &LocalEngine {
        &self.local
    }

    /// The engines that were heard.
    #[must_use]
    pub fn engines(&self) -> &Engines {
        &self.engines
    }
}

/// Octets that nobody can foretell.
fn random(mut octets: &mut [u8]) -> io::Result<()> {
    while !octets.is_empty() {
        let done = rustix::rand::getrandom(&mut *octets, rustix::rand::GetRandomFlags::empty())?;
        octets = octets.get_mut(done..).unwrap_or_default();
    }
    Ok(())
}

/// What one receiver works with.
#[derive(Debug, Default)]
pub(super) struct Security {
    /// Nothing is shared where a datagram is only looked at: then no time is judged.
    shared: Option<Arc<Usm>>,
    /// Without anything shared: the own engine. `None`: whichever an inform is for.
    presumed: Option<EngineId>,
    keys: LocalizedCache,
    /// Counts up from a random number: no salt comes twice under one key.
    salt: u64,
    claim: Option<Claim>,
    failure: Option<Failure>,
}

/// What an authenticated message says of its engine's time, for the table of engines to decide on.
#[derive(Debug)]
struct Claim {
    place: Place,
    boots: u32,
    time: u32,
    lenient: bool,
}

/// A step that failed, and the Report that its sender waits for.
#[derive(Debug)]
struct Failure {
    stat: Stat,
    report: Option<Report>,
}

#[derive(Debug)]
struct Report {
    message_id: u32,
    request_id: i32,
    user: SmallVec<[u8; 32]>,
    context_name: SmallVec<[u8; 32]>,
    /// RFC 3414 section 3.2 (7a): what tells the time is authenticated.
    auth: Option<AuthKey>,
}

/// A message that passed: its sender is known, as far as its level says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted<'a> {
    pub(super) scoped: ScopedPdu<'a>,
    /// Whether it came encrypted, so that its PDU does not stand in the datagram.
    pub(super) private: bool,
    /// Whether this collector is the authoritative engine.
    ours: bool,
    /// Where its keys are remembered.
    place: Place,
}

impl Security {
    pub(super) fn new(shared: Arc<Usm>) -> Self {
        let mut salt = [0; 8];
        // Without random numbers the clock's: two starts must not begin alike.
        if random(&mut salt).is_err() {
            salt = Timestamp::now().0.to_le_bytes();
        }
        Self { shared: Some(shared), salt: u64::from_le_bytes(salt), ..Self::default() }
    }

    /// For looking at messages, not for receiving them: whether one is a replay is not judged. An inform is for this
    /// collector if it is for `own`; where that is not known, for whichever engine it is.
    pub(super) fn offline(own: Option<EngineId>) -> Self {
        Self { presumed: own, ..Self::default() }
    }

    fn is_own(&self, engine_id: &EngineId) -> bool {
        match &self.shared {
            Some(shared) => shared.local.id() == engine_id,
            None => self.presumed.as_ref().is_none_or(|own| own == engine_id),
        }
    }

    /// Whether this user would be known if the message were for the own engine.
    fn knows_here(&self, users: &Users, message: &V3Header<'_>, peer: IpAddr) -> bool {
        let own = self.shared.as_ref().map(|shared| shared.local.id()).or(self.presumed.as_ref());
        own.is_some_and(|own| users.user(message.security.user, own.octets(), peer).is_some())
    }

    /// Forgets what was found in the last message.
    pub(super) fn clear(&mut self) {
        self.claim = None;
        self.failure = None;
    }

    /// Takes the steps of RFC 3414 section 3.2 up to the scoped PDU, decrypted into `plain` if need be.
    ///
    /// # Errors
    /// Why it is refused; what is counted and reported of it waits for [`settle`].
    pub(super) fn accept<'a>(
        &mut self,
        users: &Arc<Users>,
        peer: IpAddr,
        received: Timestamp,
        message: &V3Header<'a>,
        plain: &'a mut Vec<u8>,
    ) -> Result<Accepted<'a>, DropReason> {
        let security = &message.security;
        if !users.takes_v3() {
            // As if it did not speak SNMPv3: a Report would only tell strangers that somebody is here.
            return Err(DropReason::UnknownUserNames);
        }
        self.keys.follow(users);
        // (3) The engine. Of a message that asks for an answer, it has to be this collector's own.
        let Some(engine_id) = EngineId::new(security.engine_id) else {
            let reason = self.refuse(message, Stat::UnknownEngineIds, None);
            let asked = self.failure.as_ref().is_some_and(|failure| failure.report.is_some());
            return Err(if asked && !message.flags.authenticated { DropReason::Discovery } else { reason });
        };
        let ours = self.is_own(&engine_id);
        let confirmed = match &message.data {
            ScopedData::Plain(scoped) => scoped.is_confirmed(),
            ScopedData::Encrypted(_) => false,
        };
        if confirmed && !ours {
            return Err(self.refuse(message, Stat::UnknownEngineIds, None));
        }
        // (4) The user.
        let Some(user) = users.user(security.user, security.engine_id, peer) else {
            // An encrypted inform for an engine that this collector was before cannot be told from a trap. Its sender
            // discovers the engine anew if that is what it is told; so it is, where the user is one of here.
            let asked = message.flags.reportable && matches!(message.data, ScopedData::Encrypted(_));
            let stale = asked && !ours && self.knows_here(users, message, peer);
            let stat = if stale { Stat::UnknownEngineIds } else { Stat::UnknownUserNames };
            return Err(self.refuse(message, stat, None));
        };
        // (5) The level.
        let level = message.flags.level();
        if level > user.settings.level() {
            return Err(self.refuse(message, Stat::UnsupportedSecLevels, None));
        }
        let place = (user.keys.id, engine_id);
        if level == SecurityLevel::NoAuthNoPriv {
            if user.settings.minimum_level > level {
                return Err(DropReason::BelowMinimumLevel);
            }
        } else {
            // (6) The digest.
            if !self.authenticates(user, &place, message) {
                return Err(self.refuse(message, Stat::WrongDigests, None));
            }
            // (7) The time: here for the own engine, and in the table for all others.
            if ours {
                let outside = self
                    .shared
                    .as_ref()
                    .is_some_and(|shared| !shared.local.in_window(security.boots, security.time, received));
                if outside {
                    let auth = self.keys.get(&place).map(|known| known.auth.clone());
                    return Err(self.refuse(message, Stat::NotInTimeWindows, auth));
                }
            } else {
                let (boots, time) = (security.boots, security.time);
                self.claim = Some(Claim { place, boots, time, lenient: user.settings.lenient_time });
            }
            if user.settings.minimum_level > level {
                return Err(DropReason::BelowMinimumLevel);
            }
        }
        // (8) Privacy.
        let (scoped, private) = match message.data {
            ScopedData::Plain(scoped) => (scoped, false),
            ScopedData::Encrypted(data) => {
                let done = self.decrypt(user, &place, message, data, plain);
                let plain: &'a [u8] = plain;
                match done.then_some(plain).and_then(|plain| ScopedPdu::decrypted(plain).ok()) {
                    Some(scoped) => (scoped, true),
                    // Its sender is who it says: what comes out wrong was encrypted with another key.
                    None => return Err(self.refuse(message, Stat::DecryptionErrors, None)),
                }
            }
        };
        if scoped.is_confirmed() && !ours {
            // Its sender speaks of another engine's time, not of its own.
            self.claim = None;
            return Err(self.refuse(message, Stat::UnknownEngineIds, None));
        }
        Ok(Accepted { scoped, private, ours, place })
    }

    /// Verifies the digest, and remembers the key if it is right.
    fn authenticates(&mut self, user: &User, place: &Place, message: &V3Header<'_>) -> bool {
        if let Some(known) = self.keys.get(place) {
            return known.auth.verifies(message);
        }
        let Some(auth) = user.keys.auth(place.1.octets()) else { return false };
        if !auth.verifies(message) {
            return false;
        }
        self.keys.insert(*place, Remembered { auth, privacy: None, engine: None });
        true
    }

    fn decrypt(
        &mut self,
        user: &User,
        place: &Place,
        message: &V3Header<'_>,
        data: &[u8],
        plain: &mut Vec<u8>,
    ) -> bool {
        let Some(known) = self.keys.get(place) else { return false };
        if known.privacy.is_none() {
            known.privacy = user.keys.privacy(place.1.octets());
        }
        let Some(key) = &known.privacy else { return false };
        let security = &message.security;
        key.decrypt(security.boots, security.time, security.privacy, data, plain).is_ok()
    }

    /// Notes what has failed, and the Report if one is due: where the sender asks for it, and sent what is
    /// answered as far as that can be seen (RFC 3412 sections 6.4 and 7.1 (3)).
    fn refuse(&mut self, message: &V3Header<'_>, stat: Stat, auth: Option<AuthKey>) -> DropReason {
        let (confirmed, request_id, context_name) = match &message.data {
            ScopedData::Plain(scoped) => (scoped.is_confirmed(), scoped.request_id(), scoped.context_name),
            ScopedData::Encrypted(_) => (true, None, &[][..]),
        };
        let report = (confirmed && message.flags.reportable).then(|| Report {
            message_id: message.message_id,
            request_id: request_id.unwrap_or(0),
            user: message.security.user.into(),
            context_name: context_name.into(),
            auth,
        });
        self.failure = Some(Failure { stat, report });
        stat.reason()
    }

    /// Refuses a PDU that is no notification; one that waits for an answer is told that nobody handles it
    /// (RFC 3412 section 7.2 (13)).
    pub(super) fn refuse_pdu(
        &mut self,
        message: &V3Header<'_>,
        accepted: &Accepted<'_>,
        kind: DecodeErrorKind,
    ) {
        if kind == DecodeErrorKind::NotANotification && accepted.scoped.is_confirmed() {
            let auth = self.keys.get(&accepted.place).map(|known| known.auth.clone());
            let auth = auth.filter(|_| message.flags.authenticated);
            self.refuse(message, Stat::UnknownPduHandlers, auth);
            if let Some(report) = self.failure.as_mut().and_then(|failure| failure.report.as_mut()) {
                report.request_id = accepted.scoped.request_id().unwrap_or(0);
            }
        }
    }

    /// Writes the Response to an inform into `reply`, at the level that it came at.
    pub(super) fn respond(
        &mut self,
        message: &V3Header<'_>,
        accepted: &Accepted<'_>,
        inform: &Notification<'_>,
        received: Timestamp,
        kind: ReplyKind,
        reply: &mut Reply,
    ) {
        if !accepted.ours {
            return;
        }
        let security = &message.security;
        let (engine_id, boots, time) = match &self.shared {
            Some(shared) => (shared.local.id().octets(), shared.local.boots(), shared.local.time(received)),
            None => (security.engine_id, security.boots, security.time),
        };
        self.salt = self.salt.wrapping_add(1);
        let known = self.keys.get(&accepted.place);
        let keys = known.as_ref().map(|known| (&known.auth, known.privacy.as_ref()));
        let protection = match (message.flags.level(), keys) {
            (SecurityLevel::NoAuthNoPriv, _) => Protection::None,
            (SecurityLevel::AuthNoPriv, Some((auth, _))) => Protection::Auth(auth),
            (SecurityLevel::AuthPriv, Some((auth, Some(privacy)))) => {
                Protection::AuthPriv(auth, privacy, self.salt)
            }
            // They were used for this very message just now.
            _ => return,
        };
        let outgoing = V3Outgoing {
            message_id: message.message_id,
            reportable: false,
            engine_id,
            boots,
            time,
            user: security.user,
            context_engine_id: accepted.scoped.context_engine_id,
            context_name: accepted.scoped.context_name,
            protection,
        };
        reply.set(kind, |out| wire::encode_v3(&outgoing, &V3Pdu::Response(inform), out));
    }

    /// Asks the table of engines, counts, and writes the Report.
    fn settle(&mut self, verdict: Verdict, received: Timestamp, reply: &mut Reply) -> Verdict {
        let Some(shared) = &self.shared else { return verdict };
        let mut verdict = verdict;
        if let Some(claim) = self.claim.take() {
            let (_, id) = &claim.place;
            let mut forgotten = None;
            let known = match self.keys.get(&claim.place) {
                Some(known) => &mut known.engine,
                None => &mut forgotten,
            };
            let new = known.is_none();
            let inside = shared.engines.decide(id, claim.boots, claim.time, received, known);
            if new {
                shared.known.set(i64::try_from(shared.engines.len()).unwrap_or(i64::MAX));
            }
            if !inside && claim.lenient {
                shared.lenient.inc();
            } else if !inside {
                // RFC 3414 section 3.2 (7b): counted, and nobody waits for a Report.
                self.failure = Some(Failure { stat: Stat::NotInTimeWindows, report: None });
                verdict = Verdict::Dropped(DropReason::NotInTimeWindows);
            }
        }
        if let Some(failure) = self.failure.take() {
            let value = shared.local.count(failure.stat);
            if let Some(report) = failure.report {
                report.write(failure.stat, value, &shared.local, received, reply);
            }
        }
        verdict
    }
}

impl Report {
    fn write(&self, stat: Stat, value: u32, local: &LocalEngine, received: Timestamp, reply: &mut Reply) {
        let outgoing = V3Outgoing {
            message_id: self.message_id,
            reportable: false,
            engine_id: local.id().octets(),
            boots: local.boots(),
            time: local.time(received),
            user: &self.user,
            context_engine_id: local.id().octets(),
            context_name: &self.context_name,
            protection: self.auth.as_ref().map_or(Protection::None, Protection::Auth),
        };
        let pdu = V3Pdu::Report { request_id: self.request_id, counter: stat.oid(), value };
        reply.set(ReplyKind::Report, |out| wire::encode_v3(&outgoing, &pdu, out));
    }
}

/// Completes what [`super::process`] has decided with what all receivers share: a replay is refused, failures
/// are counted, and the Report that is due is put into [`Scratch::reply`]. Costs nothing for what is not SNMPv3.
pub fn settle(verdict: Verdict, received: Timestamp, scratch: &mut Scratch) -> Verdict {
    let (security, reply) = scratch.security();
    if security.claim.is_none() && security.failure.is_none() {
        return verdict;
    }
    security.settle(verdict, received, reply)
}
