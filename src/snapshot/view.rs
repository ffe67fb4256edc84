//! An event as people and programs see it: its varbinds named and rendered through a generation's MIBs.
//!
//! The journal keeps the PDU, so that an event stored before its MIB was known reads well afterwards.

use serde_json::{Map, Value as Json, json};

use crate::event::EventRecord;
use crate::mib::Mib;
use crate::oid::{Oid, OidArray, OidRef};
use crate::value::Value;
use crate::wire;

/// The event as JSON: `id, time, generation, source, peer, version, trap_oid, trap_name, rule, severity, alert,
/// alert_id, varbinds[{oid, name, index, type, value, text}]`. `value` is a number for numeric types, lower-case
/// hexadecimal for octets, dotted or numeric text else; `text` is what a person reads, and `index` the instance part by part (`3`, `ipv4."10.0.0.1"`). `trap_name` is
/// the name at the time, or today's if there was none.
#[must_use]
pub fn event_json(mib: &Mib, event: &EventRecord) -> Json {
    let trap_name = event.trap_name.clone().or_else(|| exact_name(mib, event.trap_oid.arcs()));
    json!({
        "id": event.id,
        "time": event.time,
        "generation": event.generation,
        "source": event.source,
        "peer": event.peer,
        "version": event.version,
        "trap_oid": event.trap_oid.to_string(),
        "trap_name": trap_name,
        "rule": event.rule,
        "severity": event.severity,
        "alert": event.alert,
        "alert_id": event.alert_id,
        "varbinds": varbinds_json(mib, event),
    })
}

/// A condition on an event's varbinds, `NAME=VALUE`: one of them lies at or below NAME and reads as VALUE, which is
/// its `text` or its `value` in [`event_json`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VarbindFilter {
    below: Oid,
    value: String,
}

impl VarbindFilter {
    /// From `ifIndex=3`, `IF-MIB::ifOperStatus=down`, or `1.3.6.1.2.1.2.2.1.2.7=eth0`. What follows the first `=` is the
    /// value.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(mib: &Mib, text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is no condition: write it as ifOperStatus=down"))?;
        let found = mib.resolve(name.trim()).map_err(|error| format!("`{name}`: {error}"))?;
        Ok(Self { below: found.oid, value: value.to_owned() })
    }

    /// Whether the event has such a varbind. Renders those alone whose name fits.
    #[must_use]
    pub fn keeps(&self, mib: &Mib, event: &EventRecord) -> bool {
        let Ok(notification) = wire::decode_pdu(event.version, &event.pdu) else { return false };
        let mut arcs = OidArray::default();
        let mut text = String::new();
        notification.varbinds.iter().any(|varbind| {
            varbind.name.decode_into(&mut arcs);
            let arcs = arcs.arcs();
            if !arcs.starts_with(self.below.arcs()) {
                return false;
            }
            text.clear();
            let all = notification.varbinds.iter().map(|varbind| (varbind.name, varbind.value));
            mib.write_varbind(mib.lookup(arcs), arcs, &varbind.value, all, &mut text);
            text == self.value
                || match raw(&varbind.value) {
                    Json::String(raw) => raw == self.value,
                    Json::Number(raw) => raw.to_string() == self.value,
                    _ => false,
                }
        })
    }
}

/// `MODULE::name`, if exactly this OID has one.
#[must_use]
pub fn exact_name(mib: &Mib, arcs: &[u32]) -> Option<String> {
    mib.lookup(arcs).filter(|found| found.matched == arcs.len())?;
    let mut name = String::new();
    mib.write_name(arcs, &mut name);
    Some(name)
}

fn varbinds_json(mib: &Mib, event: &EventRecord) -> Vec<Json> {
    // A row that no longer decodes was damaged on disk; the rest of the event is still worth showing.
    let Ok(notification) = wire::decode_pdu(event.version, &event.pdu) else { return Vec::new() };
    let mut arcs = OidArray::default();
    notification
        .varbinds
        .iter()
        .map(|varbind| {
            varbind.name.decode_into(&mut arcs);
            let arcs = arcs.arcs();
            let found = mib.lookup(arcs);
            let mut shown = Map::new();
            shown.insert("oid".into(), Json::String(OidRef(arcs).to_string()));
            let named = found.as_ref().map(|found| {
                let mut name = String::new();
                mib.write_found(Some(*found), &arcs[..found.matched], &mut name);
                let mut index = String::new();
                mib.write_instance(found.node, &arcs[found.matched..], &mut index);
                (name, index.split_off(index.len().min(1)))
            });
            let (name, index) = named.unzip();
            shown.insert("name".into(), name.into());
            shown.insert("index".into(), index.filter(|index| !index.is_empty()).into());
            shown.insert("type".into(), varbind.value.type_name().into());
            shown.insert("value".into(), raw(&varbind.value));
            let mut text = String::new();
            let all = notification.varbinds.iter().map(|varbind| (varbind.name, varbind.value));
            mib.write_varbind(found, arcs, &varbind.value, all, &mut text);
            shown.insert("text".into(), text.into());
            Json::Object(shown)
        })
        .collect()
}

fn raw(value: &Value<'_>) -> Json {
    match *value {
        Value::Integer(number) => number.into(),
        Value::Counter32(number) | Value::Unsigned32(number) | Value::TimeTicks(number) => number.into(),
        Value::Counter64(number) => number.into(),
        Value::Octets(octets) | Value::Opaque(octets) => hex(octets).into(),
        Value::Oid(oid) => oid.to_string().into(),
        Value::IpAddress([a, b, c, d]) => format!("{a}.{b}.{c}.{d}").into(),
        Value::Null | Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView => Json::Null,
    }
}

fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        text.push(char::from(DIGITS[usize::from(octet >> 4)]));
        text.push(char::from(DIGITS[usize::from(octet & 0xf)]));
    }
    text
}
