//! Whole SNMPv3 messages: written, encrypted, signed. For the answers to informs, for Reports, and for
//! `nereus send`.

use super::cipher::SALT_OCTETS;
use super::key::{AuthKey, PrivacyKey};
use crate::oid::OidRef;
use crate::security::SecurityLevel;
use crate::version::Version;
use crate::wire::ber;
use crate::wire::encode::{
    Done, get_pdu, nested, notification_pdu, primitive, report_pdu, response_pdu, signed, whole,
};
use crate::wire::{EncodeError, Kind, MAX_MESSAGE_SIZE, Notification, OutgoingVarbind};

/// What is around the PDU. No Debug: it holds keys.
#[derive(Clone, Copy)]
pub struct V3Outgoing<'a> {
    /// msgID, at most 2^31-1.
    pub message_id: u32,
    /// Whether the receiver may answer with a Report.
    pub reportable: bool,
    /// msgAuthoritativeEngineID.
    pub engine_id: &'a [u8],
    /// msgAuthoritativeEngineBoots.
    pub boots: u32,
    /// msgAuthoritativeEngineTime, in seconds.
    pub time: u32,
    /// msgUserName.
    pub user: &'a [u8],
    /// contextEngineID.
    pub context_engine_id: &'a [u8],
    /// contextName.
    pub context_name: &'a [u8],
    /// How it is protected.
    pub protection: Protection<'a>,
}

/// A security level with its keys.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// noAuthNoPriv.
    None,
    /// authNoPriv.
    Auth(&'a AuthKey),
    /// authPriv; the salt must not come twice under one key.
    AuthPriv(&'a AuthKey, &'a PrivacyKey, u64),
}

impl Protection<'_> {
    /// The level that it gives.
    #[must_use]
    pub fn level(&self) -> SecurityLevel {
        match self {
            Self::None => SecurityLevel::NoAuthNoPriv,
            Self::Auth(_) => SecurityLevel::AuthNoPriv,
            Self::AuthPriv(..) => SecurityLevel::AuthPriv,
        }
    }
}

/// The PDU of an SNMPv3 message.
#[derive(Clone, Copy)]
pub enum V3Pdu<'a> {
    /// SNMPv2-Trap-PDU or InformRequest-PDU; sysUpTime.0 and snmpTrapOID.0 are put before `varbinds`.
    Notification {
        /// Trap or inform.
        kind: Kind,
        /// request-id.
        request_id: i32,
        /// The value of sysUpTime.0, in hundredths of a second.
        uptime: u32,
        /// The value of snmpTrapOID.0.
        trap_oid: OidRef<'a>,
        /// What follows.
        varbinds: &'a [OutgoingVarbind<'a>],
    },
    /// The Response to an inform: its request-id and varbinds.
    Response(&'a Notification<'a>),
    /// Report-PDU with one counter.
    Report {
        /// The request-id of what is reported on, 0 where it could not be read (RFC 3412 section 7.1).
        request_id: i32,
        /// The counter's instance.
        counter: OidRef<'a>,
        /// Its value.
        value: u32,
    },
    /// GetRequest-PDU without varbinds, which asks an engine for its ID (RFC 3414 section 4).
    Discovery {
        /// request-id.
        request_id: i32,
    },
}

/// Appends one SNMPv3 message to `out`.
///
/// # Errors
/// [`EncodeError::NotAnInform`] for the Response to a trap, [`EncodeError::Oid`],
/// [`EncodeError::TooManyVarbinds`], [`EncodeError::TooLong`]; `out` is then as it was.
pub fn encode_v3(message: &V3Outgoing<'_>, pdu: &V3Pdu<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut data = Vec::with_capacity(256);
    nested(ber::SEQUENCE, &mut data, |out| {
        primitive(ber::OCTET_STRING, message.context_engine_id, out)?;
        primitive(ber::OCTET_STRING, message.context_name, out)?;
        write_pdu(pdu, out)
    })?;
    if data.len() > MAX_MESSAGE_SIZE {
        return Err(EncodeError::TooLong);
    }
    let (key, salt) = match message.protection {
        Protection::None => (None, None),
        Protection::Auth(key) => (Some(key), None),
        Protection::AuthPriv(key, privacy, salt) => {
            let salt = privacy.encrypt(message.boots, message.time, salt, &mut data);
            let encrypted = std::mem::take(&mut data);
            primitive(ber::OCTET_STRING, &encrypted, &mut data)?;
            (Some(key), Some(salt))
        }
    };
    let digest_octets = key.map_or(0, |key| key.protocol().digest_octets());
    let digest = [0; 64];
    let flags = u8::from(key.is_some()) | u8::from(salt.is_some()) << 1 | u8::from(message.reportable) << 2;
    let start = out.len();
    whole(out, |out| {
        nested(ber::SEQUENCE, out, |out| {
            signed(3, out)?;
            nested(ber::SEQUENCE, out, |out| {
                signed(message.message_id.into(), out)?;
                signed(MAX_MESSAGE_SIZE as i64, out)?;
                primitive(ber::OCTET_STRING, &[flags], out)?;
                signed(3, out)
            })?;
            nested(ber::OCTET_STRING, out, |out| {
                nested(ber::SEQUENCE, out, |out| {
                    primitive(ber::OCTET_STRING, message.engine_id, out)?;
                    signed(message.boots.into(), out)?;
                    signed(message.time.into(), out)?;
                    primitive(ber::OCTET_STRING, message.user, out)?;
                    primitive(ber::OCTET_STRING, &digest[..digest_octets], out)?;
                    primitive(ber::OCTET_STRING, salt.as_ref().map_or(&[][..], |salt| &salt[..]), out)
                })
            })?;
            out.extend_from_slice(&data);
            Ok(())
        })
    })?;
    if let Some(key) = key {
        // Behind the digest stand the salt with its tag and length, and the data.
        let behind = 2 + if salt.is_some() { SALT_OCTETS } else { 0 } + data.len();
        let at = out.len() - start - behind - digest_octets;
        key.sign(&mut out[start..], at);
    }
    Ok(())
}

fn write_pdu(pdu: &V3Pdu<'_>, out: &mut Vec<u8>) -> Done {
    match *pdu {
        V3Pdu::Notification { kind, request_id, uptime, trap_oid, varbinds } => {
            notification_pdu(kind, request_id, uptime, trap_oid, varbinds, out)
        }
        V3Pdu::Response(inform) => response_pdu(Version::V3, inform, out),
        V3Pdu::Report { request_id, counter, value } => report_pdu(request_id, counter, value, out),
        V3Pdu::Discovery { request_id } => get_pdu(request_id, out),
    }
}
