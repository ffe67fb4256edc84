//! Names in rules, bound at build: from `ifIndex` to the octets that a varbind's name begins with.
//!
//! A name binds first to the OBJECTS of the rule's notifications, then to the INDEX parts of those
//! objects' rows, then to the one object of all MIBs that is called so. So a new MIB never changes a
//! key silently: an ambiguous name is an error. `device.site` is the column `site` of the lookup `device`.
//!
//! `source` is the address (before it the realm, unless that is `default`), or with `source.canonical` the device's one
//! name: in keys, conditions and texts alike. Networks (`match.source`) are compared with the address.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::lookup::{LookupTable, Row};
use crate::config::settings::Canonical;
use crate::device::{DEFAULT_REALM, Device};
use crate::event::{DeviceNames, KEY_SEPARATOR};
use crate::mib::{Bound, IndexDecoder, LookupError, Mib, NodeId, Renderer};
use crate::oid::{self, Oid, OidArray, OidRef};
use crate::value::Value;
use crate::version::Version;
use crate::wire::{Notification, Varbind};

/// The longest key part, in octets of text. A longer one is cut and told apart by a hash of the whole.
const MAX_KEY_PART: usize = 200;

/// What rules look at: one decoded notification and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The decoded notification.
    pub notification: &'a Notification<'a>,
    /// snmpTrapOID.
    pub trap_oid: &'a [u32],
    /// The device's address.
    pub source: IpAddr,
    /// The realm that it is in; `None` is `default`.
    pub realm: Option<&'a str>,
    /// Who sent the datagram.
    pub peer: SocketAddr,
    /// The message version.
    pub version: Version,
    /// The alias of the community.
    pub community: Option<&'a str>,
}

/// A name in a rule, bound.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// As the rule says it.
    pub(super) name: Arc<str>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// The address, or what this column calls the device.
    Source(Option<Column>),
    Realm,
    Peer,
    Version,
    Community,
    Trap,
    TrapOid,
    /// Every varbind as `name = text`, for annotations.
    Varbinds,
    /// The first of these that is among the varbinds.
    Objects(Box<[Object]>),
    /// A column of the row that is found by this field.
    Lookup {
        column: Column,
        by: Box<Field>,
    },
}

/// A column of a lookup.
#[derive(Debug, Clone)]
pub(super) struct Column {
    table: Arc<LookupTable>,
    number: usize,
}

impl Column {
    /// What the table says of an address in this realm; an empty cell says nothing.
    fn of_address(&self, realm: Option<&str>, address: IpAddr) -> Option<&str> {
        self.text(self.table.find_address(realm, address)?)
    }

    fn text(&self, row: Row) -> Option<&str> {
        Some(self.table.cell(row, self.number)).filter(|text| !text.is_empty())
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table) && self.number == other.number
    }

    /// Whether both say the same of every device, since they are the same.
    pub(super) fn are_one(own: Option<&Self>, other: Option<&Self>) -> bool {
        match (own, other) {
            (Some(own), Some(other)) => own.is(other),
            (own, other) => own.is_none() && other.is_none(),
        }
    }
}

impl DeviceNames for Column {
    fn name(&self, device: &Device) -> Option<Cow<'_, str>> {
        self.of_address(device.realm.as_deref(), device.address).map(key_part)
    }
}

impl Column {
    /// Appends the cell of the row that `by` finds; without one nothing is appended, and it is false.
    fn write(&self, by: &Field, subject: &Subject<'_>, mib: &Mib, out: &mut String) -> bool {
        let text = match by.kind {
            Kind::Source(_) => self.of_address(subject.realm, subject.source),
            Kind::Peer => self.of_address(subject.realm, subject.peer.ip()),
            _ => {
                // The key is written where the cell comes to stand, so that nothing is allocated.
                let start = out.len();
                let there = by.write(subject, mib, out);
                let row = there.then(|| self.table.find_text(&out[start..])).flatten();
                out.truncate(start);
                row.and_then(|row| self.text(row))
            }
        };
        text.inspect(|text| out.push_str(text)).is_some()
    }
}

/// What names in rules are bound to: MIBs, lookups, and the column that `source` stands for.
pub(super) struct Names<'a> {
    pub(super) mib: &'a Mib,
    pub(super) lookups: &'a [Arc<LookupTable>],
    pub(super) canonical: Option<Column>,
    /// The tables that were bound, each once.
    pub(super) used: RefCell<Vec<Arc<LookupTable>>>,
}

/// Why a name cannot be bound.
#[derive(Debug)]
pub(super) enum Unbound {
    Mib(LookupError),
    Lookup(String),
}

impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mib(error) => error.fmt(f),
            Self::Lookup(message) => f.write_str(message),
        }
    }
}

impl<'a> Names<'a> {
    /// # Errors
    /// When the lookup of `source.canonical` or its column is not there.
    pub(super) fn new(
        mib: &'a Mib,
        lookups: &'a [Arc<LookupTable>],
        canonical: Option<&Canonical>,
    ) -> Result<Self, Unbound> {
        let mut names = Self { mib, lookups, canonical: None, used: RefCell::default() };
        if let Some(Canonical { lookup, column }) = canonical {
            let column = names.column(lookup, column)?;
            if column.table.by() != "source" {
                return Err(Unbound::Lookup(format!("the lookup `{lookup}` is not asked by `source`")));
            }
            names.canonical = Some(column);
        }
        Ok(names)
    }

    /// Whether `source` stands for the same as under `other`.
    pub(super) fn same_source(&self, other: Option<&Column>) -> bool {
        Column::are_one(self.canonical.as_ref(), other)
    }

    fn column(&self, lookup: &str, column: &str) -> Result<Column, Unbound> {
        let table = self.lookups.iter().find(|table| **table.name() == *lookup);
        let table = table.ok_or_else(|| Unbound::Lookup(format!("no lookup is called `{lookup}`")))?;
        let number = table.column(column);
        let number = number
            .ok_or_else(|| Unbound::Lookup(format!("the lookup `{lookup}` has no column `{column}`")))?;
        let mut used = self.used.borrow_mut();
        if !used.iter().any(|other| Arc::ptr_eq(other, table)) {
            used.push(Arc::clone(table));
        }
        Ok(Column { table: Arc::clone(table), number })
    }
}

/// One object that a name stands for.
#[derive(Debug, Clone)]
struct Object {
    node: NodeId,
    renderer: Option<Renderer>,
    /// BER contents octets of its OID: a varbind of it has a name that begins with them.
    prefix: Box<[u8]>,
    /// Where else its value stands: in the instances of these rows' columns.
    index: Box<[IndexPlace]>,
}

/// A part of a row's INDEX.
#[derive(Debug, Clone)]
struct IndexPlace {
    /// The OID of the row; its columns lie one arc below.
    row: Oid,
    decoder: IndexDecoder,
    position: usize,
}

/// Names that mean something else than a varbind.
const SPECIAL: &[(&str, Kind)] = &[
    ("source", Kind::Source(None)),
    ("realm", Kind::Realm),
    ("peer", Kind::Peer),
    ("version", Kind::Version),
    ("community", Kind::Community),
    ("trap", Kind::Trap),
    ("trap_oid", Kind::TrapOid),
    ("varbinds", Kind::Varbinds),
];

impl Field {
    /// Binds `name` for a rule that matches `notifications` (none: any).
    ///
    /// # Errors
    /// What [`Mib::resolve_object`] says: unknown, or ambiguous; a lookup or column that is not there.
    pub(super) fn bind(name: &str, notifications: &[NodeId], names: &Names<'_>) -> Result<Self, Unbound> {
        if let Some((_, kind)) = SPECIAL.iter().find(|(special, _)| *special == name) {
            let kind = match kind {
                Kind::Source(_) => Kind::Source(names.canonical.clone()),
                other => other.clone(),
            };
            return Ok(Self { name: name.into(), kind });
        }
        match name.split_once('.') {
            // An OID begins with a digit.
            Some((lookup, column)) if name.starts_with(|c: char| !c.is_ascii_digit()) => {
                let column = names.column(lookup, column)?;
                let by = match column.table.by() {
                    // The table knows addresses.
                    "source" => Self { name: "source".into(), kind: Kind::Source(None) },
                    by if by.starts_with(|c: char| !c.is_ascii_digit()) && by.contains('.') => {
                        let message = format!("the lookup `{lookup}` is asked by another lookup");
                        return Err(Unbound::Lookup(message));
                    }
                    by => Self::bind(by, notifications, names)?,
                };
                Ok(Self { name: name.into(), kind: Kind::Lookup { column, by: Box::new(by) } })
            }
            _ => Self::bind_object(name, notifications, names.mib),
        }
    }

    fn bind_object(name: &str, notifications: &[NodeId], mib: &Mib) -> Result<Self, Unbound> {
        let mut objects: Vec<Object> = Vec::new();
        let mut missing = None;
        let contexts: Vec<Option<NodeId>> = match notifications {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        for notification in contexts {
            match mib.resolve_object(notification, name) {
                Ok(bound) => {
                    let object = Object::new(bound, mib).below(name, mib);
                    if !objects.iter().any(|other| other.prefix == object.prefix) {
                        objects.push(object);
                    }
                }
                Err(error) => missing = Some(error),
            }
        }
        match missing {
            Some(error) if objects.is_empty() => Err(Unbound::Mib(error)),
            _ => Ok(Self { name: name.into(), kind: Kind::Objects(objects.into()) }),
        }
    }

    /// The node whose syntax gives enum labels their numbers, if the field is an object with one.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let objects: &[Object] = if let Kind::Objects(objects) = &self.kind { objects } else { &[] };
        objects.iter().map(|object| object.node)
    }

    /// The varbind that the field names, where one carries it as its value.
    pub(super) fn varbind<'a>(&self, subject: &Subject<'a>) -> Option<(Varbind<'a>, NodeId)> {
        let Kind::Objects(objects) = &self.kind else { return None };
        objects.iter().find_map(|object| {
            subject
                .notification
                .varbinds
                .iter()
                .find(|varbind| object.holds(varbind.name.octets()))
                .map(|varbind| (varbind, object.node))
        })
    }

    /// Appends the field's text: what a person reads, the enum label or the rendered value. Returns
    /// false, with nothing appended, where the notification does not have it.
    pub(super) fn write(&self, subject: &Subject<'_>, mib: &Mib, out: &mut String) -> bool {
        // Writing to a String cannot fail.
        let _ = match &self.kind {
            Kind::Source(canonical) => {
                let name =
                    canonical.as_ref().and_then(|column| column.of_address(subject.realm, subject.source));
                match name {
                    Some(name) => out.write_str(name),
                    None => write_address(subject.realm, subject.source, out),
                }
            }
            Kind::Realm => out.write_str(subject.realm.unwrap_or(DEFAULT_REALM)),
            Kind::Peer => write_address(subject.realm, subject.peer.ip(), out),
            Kind::Version => write!(out, "{}", subject.version),
            Kind::Community => match subject.community {
                Some(alias) => out.write_str(alias),
                None => return false,
            },
            Kind::Trap => {
                mib.write_name(subject.trap_oid, out);
                Ok(())
            }
            Kind::TrapOid => write!(out, "{}", OidRef(subject.trap_oid)),
            Kind::Varbinds => {
                write_varbinds(subject, mib, out);
                Ok(())
            }
            Kind::Objects(objects) => return self.write_object(objects, subject, mib, out),
            Kind::Lookup { column, by } => return column.write(by, subject, mib, out),
        };
        true
    }

    fn write_object(&self, objects: &[Object], subject: &Subject<'_>, mib: &Mib, out: &mut String) -> bool {
        if let Some((varbind, node)) = self.varbind(subject) {
            mib.write_value(Some(node), &varbind.value, out);
            return true;
        }
        objects.iter().any(|object| {
            object.index.iter().any(|place| place.write(object.renderer.as_ref(), subject, out))
        })
    }

    /// Appends the field as a key part: [`Field::write`], without separators and control characters, cut at
    /// [`MAX_KEY_PART`]. An absent field is an empty part.
    pub(super) fn write_key(&self, subject: &Subject<'_>, mib: &Mib, out: &mut String, text: &mut String) {
        text.clear();
        self.write(subject, mib, text);
        out.push(KEY_SEPARATOR);
        push_key_part(text, out);
    }
}

/// What stands for `text` in a key.
#[must_use]
pub fn key_part(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_KEY_PART && !text.contains(char::is_control) {
        return text.into();
    }
    let mut part = String::new();
    push_key_part(text, &mut part);
    part.into()
}

fn push_key_part(text: &str, out: &mut String) {
    let cut = if text.len() > MAX_KEY_PART {
        let end = (0..=MAX_KEY_PART).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        Some((end, fnv1a(text.as_bytes())))
    } else {
        None
    };
    let kept = cut.map_or(text, |(end, _)| &text[..end]);
    out.extend(kept.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    if let Some((_, hash)) = cut {
        // Writing to a String cannot fail.
        let _ = write!(out, "…{hash:016x}");
    }
}

impl Object {
    fn new(bound: Bound, mib: &Mib) -> Self {
        let row_of = |column| mib.node(column).parent().map(|row| mib.node(row).oid());
        let (node, index) = match bound {
            // A column that is part of its own row's INDEX, as ifIndex, is known from any other column.
            Bound::Object(node) => {
                let position = mib.node(node).index().position(|part| part == Some(node));
                let place = position.and_then(|position| {
                    Some(IndexPlace { row: row_of(node)?, decoder: mib.index_decoder(node)?, position })
                });
                (node, place.into_iter().collect())
            }
            Bound::IndexPart { index, columns, decoder, position } => {
                let mut rows: Vec<Oid> = columns.into_iter().filter_map(row_of).collect();
                rows.dedup();
                let places =
                    rows.into_iter().map(|row| IndexPlace { row, decoder: decoder.clone(), position });
                (index, places.collect())
            }
        };
        let mut prefix = Vec::new();
        // An OID of one arc has no encoding, and `holds` refuses the empty prefix.
        let _ = oid::encode(mib.node(node).oid().arcs(), &mut prefix);
        Self { node, renderer: mib.renderer(node), prefix: prefix.into(), index }
    }

    /// Restricted to the whole OID where `name` says more of it than the MIBs know: `1.3.6.1.4.1.99999.1.1`
    /// without its MIB, or an instance as `1.3.6.1.2.1.2.2.1.2.3`.
    fn below(mut self, name: &str, mib: &Mib) -> Self {
        let target = mib.resolve(name).ok().filter(|target| target.oid.arcs().len() > target.matched);
        if let Some(target) = target {
            self.prefix = Box::default();
            let mut prefix = Vec::new();
            if oid::encode(target.oid.arcs(), &mut prefix).is_ok() {
                self.prefix = prefix.into();
            }
            self.index = Box::default();
        }
        self
    }

    fn holds(&self, name: &[u8]) -> bool {
        !self.prefix.is_empty() && name.starts_with(&self.prefix)
    }
}

impl IndexPlace {
    /// Finds the part in the instance of any varbind of the row.
    fn write(&self, renderer: Option<&Renderer>, subject: &Subject<'_>, out: &mut String) -> bool {
        let mut arcs = OidArray::default();
        subject.notification.varbinds.iter().any(|varbind| {
            varbind.name.decode_into(&mut arcs);
            let Some([_column, instance @ ..]) = arcs.arcs().strip_prefix(self.row.arcs()) else {
                return false;
            };
            let Some(part) = self.decoder.part(self.position, instance) else { return false };
            part.write(renderer, out);
            true
        })
    }
}

/// As [`Device`](crate::device::Device) writes it.
fn write_address(realm: Option<&str>, address: IpAddr, out: &mut String) -> fmt::Result {
    if let Some(realm) = realm {
        out.push_str(realm);
        out.push('/');
    }
    write!(out, "{address}")
}

fn write_varbinds(subject: &Subject<'_>, mib: &Mib, out: &mut String) {
    let mut arcs = OidArray::default();
    for (at, varbind) in subject.notification.varbinds.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        varbind.name.decode_into(&mut arcs);
        let found = mib.lookup(arcs.arcs());
        mib.write_found(found, arcs.arcs(), out);
        out.push_str(" = ");
        let all = subject.notification.varbinds.iter().map(|varbind| (varbind.name, varbind.value));
        mib.write_varbind(found, arcs.arcs(), &varbind.value, all, out);
    }
}

/// FNV-1a: stable over versions and machines, which a key must be.
fn fnv1a(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Whether `value` is the number `wanted`.
pub(super) fn is_number(value: &Value<'_>, wanted: i64) -> bool {
    value.as_i128() == Some(wanted.into())
}
