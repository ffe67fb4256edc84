//! SNMPv3: whose message it is, and for an inform the two steps that its sender takes (RFC 3414 section 4).

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use zeroize::Zeroizing;

use super::inform::{self, Asked, Patience};
use super::message::Message;
use crate::cli::failure::Failure;
use crate::oid::EncodedOid;
use crate::security::{AuthProtocol, EngineId, PrivacyProtocol, SecurityLevel};
use crate::wire::usm::{LocalizedKeys, MasterKey, Protection, V3Outgoing, V3Pdu};
use crate::wire::{
    self, EncodeError, Kind, Message as Incoming, ReplyPdu, Response, ScopedData, ScopedPdu, decode_reply_pdu,
};

/// The arguments of SNMPv3. No Debug: passphrases are among them.
#[derive(Args)]
pub(super) struct V3Args {
    /// As an SNMPv3 trap, or with --inform as an SNMPv3 inform
    #[arg(long, conflicts_with_all = ["v1", "v2c"], requires = "user")]
    pub(super) v3: bool,
    /// With --v3: the user's name
    #[arg(long, value_name = "NAME", requires = "v3")]
    user: Option<String>,
    /// With --v3: no_auth_no_priv, auth_no_priv or auth_priv; without it, what --auth and --privacy allow
    #[arg(long, requires = "v3", value_parser = word::<SecurityLevel>)]
    level: Option<SecurityLevel>,
    /// With --v3: md5, sha1, sha224, sha256, sha384 or sha512
    #[arg(long, value_name = "PROTOCOL", requires = "v3", value_parser = word::<AuthProtocol>)]
    auth: Option<AuthProtocol>,
    /// The passphrase of --auth; others on this machine may see it here, but not in the variable or the file
    #[arg(long, value_name = "TEXT", env = "NEREUS_AUTH_PASSPHRASE", hide_env_values = true)]
    auth_passphrase: Option<String>,
    /// The file with the passphrase of --auth, in place of the variable's
    #[arg(long, value_name = "FILE", requires = "auth")]
    auth_passphrase_file: Option<PathBuf>,
    /// With --auth: des, 3des, aes128, aes192, aes256, or aes192c and aes256c as Cisco lengthens keys
    #[arg(long, value_name = "PROTOCOL", requires = "auth", value_parser = word::<PrivacyProtocol>)]
    privacy: Option<PrivacyProtocol>,
    /// The passphrase of --privacy
    #[arg(long, value_name = "TEXT", env = "NEREUS_PRIVACY_PASSPHRASE", hide_env_values = true)]
    privacy_passphrase: Option<String>,
    /// The file with the passphrase of --privacy
    #[arg(long, value_name = "FILE", requires = "privacy")]
    privacy_passphrase_file: Option<PathBuf>,
    /// With --v3, for a trap: the engine ID to send from, in hexadecimal digits; without it, one of this host's name
    #[arg(long, value_name = "HEX", requires = "v3", conflicts_with = "inform")]
    engine_id: Option<EngineId>,
}

fn word<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "see --help for the names".to_owned())
}

/// A user with its master keys.
pub(super) struct User {
    name: String,
    level: SecurityLevel,
    auth: Option<MasterKey>,
    privacy: Option<(MasterKey, PrivacyProtocol)>,
    engine_id: Option<EngineId>,
}

/// A user at an engine, with that engine's time.
pub(super) struct Session {
    engine_id: Vec<u8>,
    boots: u32,
    time: u32,
    /// When that was its time.
    since: std::time::Instant,
    user: String,
    level: SecurityLevel,
    keys: LocalizedKeys,
    salt: u64,
}

impl User {
    /// What the arguments say; `None` without `--v3`.
    ///
    /// # Errors
    /// [`Failure::Usage`] for what does not fit together, [`Failure::Unable`] for a file that cannot be read.
    pub(super) fn of(args: &V3Args) -> Result<Option<Self>, Failure> {
        let Some(name) = args.user.clone().filter(|_| args.v3) else { return Ok(None) };
        let auth = args.auth.map(|protocol| {
            let secret =
                passphrase("--auth", args.auth_passphrase.as_deref(), args.auth_passphrase_file.as_ref())?;
            Ok((protocol, MasterKey::from_passphrase(protocol, &secret)))
        });
        let auth = auth.transpose()?;
        let privacy = args.privacy.zip(args.auth).map(|(protocol, hash)| {
            let (text, file) = (args.privacy_passphrase.as_deref(), args.privacy_passphrase_file.as_ref());
            Ok((MasterKey::from_passphrase(hash, &passphrase("--privacy", text, file)?), protocol))
        });
        let privacy = privacy.transpose()?;
        let strongest = match (&auth, &privacy) {
            (None, _) => SecurityLevel::NoAuthNoPriv,
            (Some(_), None) => SecurityLevel::AuthNoPriv,
            (Some(_), Some(_)) => SecurityLevel::AuthPriv,
        };
        let level = args.level.unwrap_or(strongest);
        if level > strongest {
            let needs = if auth.is_none() { "--auth" } else { "--privacy" };
            return Err(Failure::Usage(format!("--level {level} needs {needs}")));
        }
        let auth = auth.map(|(_, key)| key);
        Ok(Some(Self { name, level, auth, privacy, engine_id: args.engine_id }))
    }

    fn session(&self, engine_id: &[u8], boots: u32, time: u32) -> Session {
        let auth = self.auth.as_ref().filter(|_| self.level > SecurityLevel::NoAuthNoPriv);
        let privacy = self.privacy.as_ref().filter(|_| self.level == SecurityLevel::AuthPriv);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Session {
            engine_id: engine_id.to_vec(),
            boots,
            time,
            since: std::time::Instant::now(),
            user: self.name.clone(),
            level: self.level,
            keys: LocalizedKeys {
                auth: auth.map(|key| key.localize(engine_id)),
                privacy: privacy.map(|(key, protocol)| key.localize_privacy(*protocol, engine_id)),
            },
            // Nanoseconds: another process does not begin at the same one under the same key.
            salt: now.as_nanos() as u64,
        }
    }

    /// For traps, of which the sender is the authoritative engine. Nothing is kept from one run to the next: the days
    /// since 1970 are its boots and the seconds of the day its time, so that a later trap is never an older one.
    pub(super) fn for_traps(&self) -> Session {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let engine_id = self.engine_id.unwrap_or_else(host_engine_id);
        self.session(engine_id.octets(), (now / 86_400) as u32, (now % 86_400) as u32)
    }
}

/// RFC 3411 section 5: format 4 is text.
fn host_engine_id() -> EngineId {
    let mut octets = vec![0x80, 0, 0, 0, 4];
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    octets.extend(format!("send@{}", name.trim()).bytes().take(EngineId::MAX - octets.len()));
    EngineId::new(&octets).unwrap_or_else(|| unreachable!("10 to 32 octets"))
}

fn passphrase(what: &str, text: Option<&str>, file: Option<&PathBuf>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let secret = match (text, file) {
        (Some(text), None) => Zeroizing::new(text.as_bytes().to_vec()),
        (_, Some(file)) => {
            let octets = std::fs::read(file).map(Zeroizing::new);
            let octets = octets
                .map_err(|error| Failure::Unable(format!("cannot read {}: {error}", file.display())))?;
            // Line ends at a file's end are no part of it, as in a configuration.
            let end =
                octets.iter().rposition(|octet| !matches!(octet, b'\n' | b'\r')).map_or(0, |last| last + 1);
            Zeroizing::new(octets[..end].to_vec())
        }
        (None, None) => {
            return Err(Failure::Usage(format!(
                "{what} needs {what}-passphrase, {what}-passphrase-file, or the variable NEREUS_{}_PASSPHRASE",
                what.trim_start_matches('-').to_uppercase()
            )));
        }
    };
    if secret.len() < 8 {
        return Err(Failure::Usage(format!("the passphrase of {what} needs 8 octets at least (RFC 3414)")));
    }
    Ok(secret)
}

impl Session {
    /// Puts the notification into `out`, which is emptied before. `number` tells packets of one run apart.
    pub(super) fn encode(
        &self,
        message: &Message,
        kind: Kind,
        request_id: i32,
        number: u64,
        uptime: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.clear();
        let varbinds = message.outgoing();
        let pdu = V3Pdu::Notification {
            kind,
            request_id,
            uptime: message.uptime.unwrap_or(uptime),
            trap_oid: message.trap_oid.borrow(),
            varbinds: &varbinds,
        };
        let passed = u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        let outgoing = V3Outgoing {
            message_id: (request_id & i32::MAX) as u32,
            reportable: kind == Kind::Inform,
            engine_id: &self.engine_id,
            boots: self.boots,
            time: self.time.saturating_add(passed).min(i32::MAX as u32),
            user: self.user.as_bytes(),
            context_engine_id: &self.engine_id,
            context_name: b"",
            protection: match (&self.keys.auth, &self.keys.privacy) {
                (Some(auth), Some(privacy)) => {
                    Protection::AuthPriv(auth, privacy, self.salt.wrapping_add(number))
                }
                (Some(auth), None) => Protection::Auth(auth),
                _ => Protection::None,
            },
        };
        wire::encode_v3(&outgoing, &pdu, out)
    }

    /// What a message of that engine says, if it is authentic as far as the level wants it.
    fn read(&self, octets: &[u8], request_id: i32) -> Option<Said> {
        let Ok(Incoming::V3(message)) = wire::decode(octets) else { return None };
        if message.message_id != (request_id & i32::MAX) as u32 {
            return None;
        }
        let authentic = message.flags.authenticated
            && message.security.engine_id == self.engine_id
            && self.keys.auth.as_ref().is_some_and(|key| key.verifies(&message));
        let mut plain = Vec::new();
        let scoped = match message.data {
            ScopedData::Plain(scoped) => scoped,
            ScopedData::Encrypted(data) => {
                let security = &message.security;
                let key = self.keys.privacy.as_ref().filter(|_| authentic)?;
                key.decrypt(security.boots, security.time, security.privacy, data, &mut plain).ok()?;
                ScopedPdu::decrypted(&plain).ok()?
            }
        };
        match decode_reply_pdu(scoped.pdu).ok()? {
            // The answer itself comes at the level of the question.
            ReplyPdu::Response(response) => {
                let fits = message.flags.level() >= self.level && (authentic || self.keys.auth.is_none());
                (fits && response.request_id == request_id).then_some(Said::Response(response))
            }
            ReplyPdu::Report(counter) => Some(Said::Report {
                stat: counter_of(counter),
                engine_id: message.security.engine_id.to_vec(),
                boots: message.security.boots,
                time: message.security.time,
                authentic,
            }),
        }
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Response(Response),
    Report { stat: Stat, engine_id: Vec<u8>, boots: u32, time: u32, authentic: bool },
}

/// The counter of a Report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stat {
    UnknownEngineIds,
    NotInTimeWindows,
    Other(&'static str),
}

fn counter_of(counter: EncodedOid<'_>) -> Stat {
    let arcs: Vec<u32> = counter.arcs().collect();
    match arcs.strip_prefix(&[1, 3, 6, 1, 6, 3, 15, 1, 1]) {
        Some([1, 0]) => Stat::Other("usmStatsUnsupportedSecLevels: the user has no protocol for this level"),
        Some([2, 0]) => Stat::NotInTimeWindows,
        Some([3, 0]) => Stat::Other("usmStatsUnknownUserNames: no such user there"),
        Some([4, 0]) => Stat::UnknownEngineIds,
        Some([5, 0]) => Stat::Other("usmStatsWrongDigests: another passphrase or protocol of --auth"),
        Some([6, 0]) => Stat::Other("usmStatsDecryptionErrors: another passphrase or protocol of --privacy"),
        _ => Stat::Other("a Report of another kind"),
    }
}

/// Asks for the receiver's engine, then sends the inform until it is answered. Gives its length and what came of it.
///
/// # Errors
/// The system's, and the Report that refuses the inform, as a sentence.
pub(super) fn ask(
    user: &User,
    socket: &UdpSocket,
    message: &Message,
    (request_id, uptime): (i32, u32),
    patience: Patience,
) -> Result<(usize, Asked), String> {
    let nobody = Session {
        level: SecurityLevel::NoAuthNoPriv,
        keys: LocalizedKeys::default(),
        ..user.session(b"", 0, 0)
    };
    let mut question = Vec::new();
    let outgoing = V3Outgoing {
        message_id: (request_id & i32::MAX) as u32,
        reportable: true,
        engine_id: b"",
        boots: 0,
        time: 0,
        user: b"",
        context_engine_id: b"",
        context_name: b"",
        protection: Protection::None,
    };
    wire::encode_v3(&outgoing, &V3Pdu::Discovery { request_id }, &mut question)
        .map_err(|error| error.to_string())?;
    let found = inform::ask(socket, &question, patience, |octets| match nobody.read(octets, request_id) {
        Some(Said::Report { stat: Stat::UnknownEngineIds, engine_id, boots, time, .. })
            if !engine_id.is_empty() =>
        {
            Some((engine_id, boots, time))
        }
        _ => None,
    });
    let found = found.map_err(|error| error.to_string())?;
    let Some(((engine_id, boots, time), _)) = found.answer else {
        let (tries, refused) = (found.tries, found.refused);
        return Ok((question.len(), Asked { tries, answer: None, refused }));
    };
    let mut session = user.session(&engine_id, boots, time);
    // A receiver that tells its time only to whom it knows says it with the first refusal.
    for number in 0..2 {
        let mut datagram = Vec::new();
        let encoded = session.encode(message, Kind::Inform, request_id, number, uptime, &mut datagram);
        encoded.map_err(|error| format!("this cannot be encoded: {error}"))?;
        let asked = inform::ask(socket, &datagram, patience, |octets| session.read(octets, request_id));
        let asked = asked.map_err(|error| error.to_string())?;
        let (tries, refused) = (asked.tries, asked.refused);
        let (stat, boots, time) = match asked.answer {
            None => return Ok((datagram.len(), Asked { tries, answer: None, refused })),
            Some((Said::Response(response), after)) => {
                return Ok((datagram.len(), Asked { tries, answer: Some((response, after)), refused }));
            }
            Some((Said::Report { stat: Stat::NotInTimeWindows, boots, time, authentic: true, .. }, _))
                if number == 0 =>
            {
                (None, boots, time)
            }
            Some((Said::Report { stat, boots, time, .. }, _)) => (Some(stat), boots, time),
        };
        if let Some(stat) = stat {
            return Err(format!(
                "the receiver refused the inform: {}",
                match stat {
                    Stat::UnknownEngineIds => "usmStatsUnknownEngineIDs: its engine ID has changed meanwhile",
                    Stat::NotInTimeWindows => "usmStatsNotInTimeWindows: its time is another than it said",
                    Stat::Other(why) => why,
                }
            ));
        }
        session = user.session(&engine_id, boots, time);
    }
    Err("the receiver refused the inform twice for its time".to_owned())
}
