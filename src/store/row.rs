//! How single values stand in the databases: addresses and OIDs as octets, closed sets as numbers,
//! alerts as JSON. Reading trusts nothing: what cannot be is an error, never a panic.

use std::net::{IpAddr, SocketAddr};

use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use serde::de::DeserializeOwned;

use crate::device::{Device, is_realm};
use crate::event::{AlertId, EventId, EventRecord, Generation, Timestamp, Version};
use crate::oid::{EncodedOid, Oid, encode};
use crate::severity::Severity;

/// The columns that [`event`] reads, texts resolved.
pub(super) const EVENT_COLUMNS: &str = "e.id, e.time, e.generation, e.source, e.peer, e.version, e.trap, \
     (SELECT text FROM texts WHERE id = e.trap_name), (SELECT text FROM texts WHERE id = e.rule), \
     (SELECT text FROM texts WHERE id = e.alert), e.severity, e.alert_id, e.pdu";

/// A number of ours as SQLite's. Numbers are microseconds or counts: none comes near 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A value that is no such thing.
#[derive(Debug)]
pub(super) struct Damaged(pub(super) &'static str);

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not {}", self.0)
    }
}

impl std::error::Error for Damaged {}

fn damaged(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(Damaged(what)))
}

/// Whether a row could not be understood, rather than the database be read.
pub(super) fn is_damaged_row(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| damaged(column, "a number of ours"))
}

/// Four or sixteen octets.
pub(super) fn address_octets(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

/// A device: its address in octets, or in another realm than `default` the text `REALM/` with the octets in
/// hexadecimal digits, which sorts as they do.
pub(super) fn source<'a>(device: &Device, out: &'a mut Vec<u8>) -> ToSqlOutput<'a> {
    out.clear();
    address_octets(device.address, out);
    let Some(realm) = &device.realm else { return ToSqlOutput::Borrowed(ValueRef::Blob(out)) };
    *out = source_text(realm, out).into_bytes();
    ToSqlOutput::Borrowed(ValueRef::Text(out))
}

/// How the device with these octets for its address is written in a realm that is not `default`.
pub(super) fn source_text(realm: &str, address: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{realm}/");
    for octet in address {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

fn device(value: ValueRef<'_>) -> Option<Device> {
    match value {
        ValueRef::Blob(octets) => address(octets).map(Device::from),
        ValueRef::Text(text) => {
            let (realm, digits) = std::str::from_utf8(text).ok()?.split_once('/')?;
            let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
            let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
            let octets: Option<Vec<u8>> =
                pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
            let address = address(&octets.filter(|_| rest.is_empty())?)?;
            is_realm(realm).then(|| Device { realm: Some(realm.into()), address })
        }
        _ => None,
    }
}

pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// The address and the port, high octet first.
pub(super) fn peer_octets(peer: SocketAddr, out: &mut Vec<u8>) {
    address_octets(peer.ip(), out);
    out.extend(peer.port().to_be_bytes());
}

fn peer(octets: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = octets.split_last_chunk::<2>()?;
    Some(SocketAddr::new(address(ip)?, u16::from_be_bytes(*port)))
}

pub(super) fn version_number(version: Version) -> i64 {
    // As msgVersion has it (RFC 1157, RFC 1901, RFC 3412).
    match version {
        Version::V1 => 0,
        Version::V2c => 1,
        Version::V3 => 3,
    }
}

fn version(number: i64) -> Option<Version> {
    Version::ALL.into_iter().find(|version| version_number(*version) == number)
}

pub(super) fn severity_number(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Minor => 2,
        Severity::Major => 3,
        Severity::Critical => 4,
    }
}

pub(super) fn severity(number: i64) -> Option<Severity> {
    Severity::ALL.into_iter().find(|severity| severity_number(*severity) == number)
}

/// An OID as it is stored: the contents octets of its BER encoding, or, for one that BER cannot
/// express, its arcs as four octets each behind a zero-length sub-identifier (0x80), which BER forbids.
pub(super) fn oid_octets(oid: &Oid, out: &mut Vec<u8>) {
    if encode(oid.arcs(), out).is_err() {
        out.clear();
        out.push(0x80);
        oid.arcs().iter().for_each(|arc| out.extend(arc.to_be_bytes()));
    }
}

pub(super) fn oid(octets: &[u8]) -> Option<Oid> {
    match octets.split_first() {
        Some((0x80, arcs)) => {
            let (arcs, rest) = arcs.as_chunks::<4>();
            rest.is_empty().then_some(())?;
            Oid::new(arcs.iter().map(|arc| u32::from_be_bytes(*arc)).collect::<Vec<_>>()).ok()
        }
        _ => EncodedOid::new(octets).ok().map(EncodedOid::to_oid),
    }
}

/// JSON of our own types.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Fails for maps with other keys than strings and for foreign implementations alone: ours have neither.
    serde_json::to_vec(value).expect("our records have a JSON form")
}

/// A value from its JSON, stored as text or as octets.
pub(super) fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let (ValueRef::Text(octets) | ValueRef::Blob(octets)) = row.get_ref(column)? else {
        return Err(damaged(column, "JSON"));
    };
    serde_json::from_slice(octets)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// The octets of a column, borrowed.
pub(super) fn octets<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    row.get_ref(column)?.as_blob().map_err(|_| damaged(column, "octets"))
}

/// A row of [`EVENT_COLUMNS`].
pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<EventRecord> {
    let known = |column, value: Option<_>, what| value.ok_or_else(|| damaged(column, what));
    Ok(EventRecord {
        id: EventId(unsigned(row, 0)?),
        time: Timestamp(row.get(1)?),
        generation: Generation(unsigned(row, 2)?),
        source: device(row.get_ref(3)?).ok_or_else(|| damaged(3, "a device"))?,
        peer: peer(octets(row, 4)?).ok_or_else(|| damaged(4, "an address and a port"))?,
        version: version(row.get(5)?).ok_or_else(|| damaged(5, "a version"))?,
        trap_oid: oid(octets(row, 6)?).ok_or_else(|| damaged(6, "an OID"))?,
        trap_name: row.get(7)?,
        rule: row.get(8)?,
        alert: row.get(9)?,
        severity: match row.get::<_, Option<i64>>(10)? {
            Some(number) => Some(known(10, severity(number), "a severity")?),
            None => None,
        },
        alert_id: match row.get::<_, Option<i64>>(11)? {
            Some(_) => Some(AlertId(unsigned(row, 11)?)),
            None => None,
        },
        pdu: octets(row, 12)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_oid_comes_back(arcs in prop::collection::vec(any::<u32>(), 1..=128)) {
            let given = Oid::new(arcs).unwrap();
            let mut out = Vec::new();
            oid_octets(&given, &mut out);
            prop_assert_eq!(oid(&out), Some(given));
        }

        #[test]
        fn any_octets_are_an_oid_or_none(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = oid(&octets);
            let _ = (address(&octets), peer(&octets));
        }

        #[test]
        fn every_device_comes_back_and_stands_in_the_order_of_its_address(
            realm in prop::option::of("[a-z][a-z0-9_.-]{0,63}"),
            one in any::<IpAddr>(),
            other in any::<IpAddr>(),
        ) {
            let stored = |address| {
                let mut out = Vec::new();
                let given = Device { realm: realm.as_deref().map(Into::into), address };
                let ToSqlOutput::Borrowed(value) = source(&given, &mut out) else { panic!("borrowed") };
                assert_eq!(device(value), Some(given));
                out
            };
            if one.is_ipv4() == other.is_ipv4() {
                prop_assert_eq!(stored(one).cmp(&stored(other)), one.cmp(&other));
            }
        }

        #[test]
        fn any_text_is_a_device_or_none(text in "[a-f0-9/.]{0,40}") {
            let _ = device(ValueRef::Text(text.as_bytes()));
        }

        #[test]
        fn every_peer_comes_back(given in any::<SocketAddr>().prop_map(|peer| SocketAddr::new(peer.ip(), peer.port()))) {
            let mut out = Vec::new();
            peer_octets(given, &mut out);
            prop_assert_eq!(peer(&out), Some(given));
        }
    }
}
