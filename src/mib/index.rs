//! Instances: what stands behind an object's OID, read by the INDEX of its row (RFC 2578 section 7.7).

use std::sync::Arc;

use super::display::{Renderer, push_number};
use super::image::{ANONYMOUS, BaseType, IMPLIED, Match, Mib, NodeId};
use crate::oid::MAX_ARCS;
use crate::value::Value;

/// How one part of an INDEX is laid out in the arcs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexKind {
    /// One arc.
    Integer,
    /// Four arcs.
    IpAddress,
    /// An octet an arc: this many.
    FixedOctets(u32),
    /// Their number, then an octet an arc.
    Octets,
    /// An octet an arc, up to the end (IMPLIED).
    ImpliedOctets,
    /// Their number, then the arcs of an OID.
    Oid,
    /// The arcs of an OID, up to the end (IMPLIED).
    ImpliedOid,
}

impl IndexKind {
    /// How many arcs of `suffix` the part takes, and how many of those are its length.
    pub(super) fn extent(self, suffix: &[u32]) -> Option<(usize, usize)> {
        let (head, len) = match self {
            Self::Integer => (0, 1),
            Self::IpAddress => (0, 4),
            Self::FixedOctets(len) => (0, len as usize),
            Self::Octets | Self::Oid => (1, *suffix.first()? as usize),
            Self::ImpliedOctets | Self::ImpliedOid => (0, suffix.len()),
        };
        let taken = suffix.get(head..)?.get(..len)?;
        let octets =
            matches!(self, Self::IpAddress | Self::FixedOctets(_) | Self::Octets | Self::ImpliedOctets);
        (!octets || taken.iter().all(|&arc| arc <= 255)).then_some((head, len))
    }
}

/// One part of an instance, as a borrow of its arcs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPart<'a> {
    /// How it was laid out.
    pub kind: IndexKind,
    /// Its arcs, without the length.
    pub arcs: &'a [u32],
}

impl IndexPart<'_> {
    /// The number of an integer part.
    #[must_use]
    pub fn integer(&self) -> Option<u32> {
        match (self.kind, self.arcs) {
            (IndexKind::Integer, &[arc]) => Some(arc),
            _ => None,
        }
    }

    /// Appends it as the object's values are shown: by `renderer` where one is given (labels, hints), else a
    /// number, text, a dotted address or a dotted OID.
    pub fn write(&self, renderer: Option<&Renderer>, out: &mut String) {
        let plain = Renderer::plain();
        let renderer = renderer.unwrap_or(plain);
        match (self.kind, self.arcs) {
            (IndexKind::Integer, &[arc]) => renderer.write(&Value::Unsigned32(arc), out),
            (IndexKind::IpAddress, &[a, b, c, d]) => {
                renderer.write(&Value::IpAddress([a, b, c, d].map(|arc| arc as u8)), out);
            }
            (IndexKind::Octets | IndexKind::FixedOctets(_) | IndexKind::ImpliedOctets, arcs) => {
                let mut octets = [0; MAX_ARCS];
                let len = arcs.len().min(MAX_ARCS);
                for (octet, &arc) in octets.iter_mut().zip(arcs) {
                    *octet = arc as u8;
                }
                renderer.write(&Value::Octets(&octets[..len]), out);
            }
            (_, arcs) => write_arcs(arcs, out),
        }
    }
}

/// Reads the instances of one row's columns. Stands alone: holds nothing of the [`Mib`]. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IndexDecoder(Arc<[IndexKind]>);

impl IndexDecoder {
    /// The layout of the parts, in order.
    #[must_use]
    pub fn kinds(&self) -> &[IndexKind] {
        &self.0
    }

    /// The part at `position` of an instance (the arcs behind the column's OID). `None` where the instance
    /// does not fit the INDEX that far. No allocation.
    #[must_use]
    pub fn part<'a>(&self, position: usize, instance: &'a [u32]) -> Option<IndexPart<'a>> {
        self.parts(instance).nth(position)
    }

    /// The parts of an instance, as many as fit the INDEX, from the first on.
    pub fn parts<'a>(&self, instance: &'a [u32]) -> impl Iterator<Item = IndexPart<'a>> {
        let mut rest = instance;
        self.0.iter().map_while(move |&kind| {
            let (head, len) = kind.extent(rest)?;
            let arcs = &rest[head..head + len];
            rest = &rest[head + len..];
            Some(IndexPart { kind, arcs })
        })
    }

    /// Whether the parts take up the whole instance and nothing is missing.
    #[must_use]
    pub fn fits(&self, instance: &[u32]) -> bool {
        let mut rest = instance;
        self.0.iter().all(|kind| match kind.extent(rest) {
            Some((head, len)) => {
                rest = &rest[head + len..];
                true
            }
            None => false,
        }) && rest.is_empty()
    }
}

impl Mib {
    /// How the instances of a column (or of a row) are laid out. `None` for what is in no table, and where
    /// the INDEX is not known.
    #[must_use]
    pub fn index_decoder(&self, node: NodeId) -> Option<IndexDecoder> {
        let references = self.index_references(node);
        if references.len() == 0 {
            return None;
        }
        let kinds = references.map(|reference| self.index_kind(reference));
        kinds.collect::<Option<Arc<[IndexKind]>>>().map(IndexDecoder)
    }

    /// How the part that a reference of an INDEX names is laid out. `None` where its type is not known.
    pub(super) fn index_kind(&self, reference: u32) -> Option<IndexKind> {
        let implied = reference & IMPLIED != 0;
        let node = reference & !IMPLIED;
        if node == ANONYMOUS {
            return Some(IndexKind::Integer);
        }
        let syntax = self.node(NodeId(node)).syntax()?;
        let octets = || match syntax.size() {
            Some((least, greatest)) if least == greatest && least > 0 => IndexKind::FixedOctets(least),
            _ if implied => IndexKind::ImpliedOctets,
            _ => IndexKind::Octets,
        };
        Some(match syntax.base() {
            BaseType::Integer
            | BaseType::Counter32
            | BaseType::Unsigned32
            | BaseType::TimeTicks
            | BaseType::Counter64 => IndexKind::Integer,
            BaseType::IpAddress => IndexKind::IpAddress,
            BaseType::Octets | BaseType::Bits | BaseType::Opaque => octets(),
            BaseType::ObjectIdentifier if implied => IndexKind::ImpliedOid,
            BaseType::ObjectIdentifier => IndexKind::Oid,
            BaseType::Unknown | BaseType::Sequence => return None,
        })
    }

    /// The named parts of an instance of `node` (a column or a row): each object of the INDEX with its arcs.
    /// `None` where the instance does not fit the INDEX whole.
    #[must_use]
    pub fn index_parts<'a>(
        &self,
        node: NodeId,
        instance: &'a [u32],
    ) -> Option<Vec<(Option<NodeId>, IndexPart<'a>)>> {
        let decoder = self.index_decoder(node)?;
        decoder.fits(instance).then(|| self.node(node).index().zip(decoder.parts(instance)).collect())
    }

    /// Appends `MODULE::name.instance` for the longest known prefix of `arcs`, with the instance by INDEX
    /// ([`write_instance`](Self::write_instance)), or all of it as dotted decimal where nothing is known.
    ///
    /// [`resolve`](Self::resolve) reads it back to `arcs`, unless the module gives one name to several OIDs.
    pub fn write_name(&self, arcs: &[u32], out: &mut String) {
        self.write_name_in(None, arcs, out);
    }

    /// As [`write_name`](Self::write_name); where several names share the OID, that of the module of `context`
    /// (the notification) goes first.
    pub fn write_name_in(&self, context: Option<NodeId>, arcs: &[u32], out: &mut String) {
        let found = self.lookup(arcs);
        let preferred = |found: Match| match context {
            Some(context) => Match { node: self.preferred(found.node, context), ..found },
            None => found,
        };
        self.write_found(found.map(preferred), arcs, out);
    }

    /// As [`write_name`](Self::write_name), for what [`lookup`](Self::lookup) found for `arcs`: who shows a value
    /// too looks up once.
    pub fn write_found(&self, found: Option<Match>, arcs: &[u32], out: &mut String) {
        let Some(found) = found else {
            write_arcs(arcs, out);
            return;
        };
        let node = self.node(found.node);
        out.push_str(node.module().name());
        out.push_str("::");
        out.push_str(node.name());
        self.write_instance(found.node, arcs.get(found.matched..).unwrap_or_default(), out);
    }
}

/// Appends dotted decimal.
pub(crate) fn write_arcs(arcs: &[u32], out: &mut String) {
    for (at, arc) in arcs.iter().enumerate() {
        if at > 0 {
            out.push('.');
        }
        push_number(u64::from(*arc), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoder(kinds: &[IndexKind]) -> IndexDecoder {
        IndexDecoder(kinds.into())
    }

    fn text(decoder: &IndexDecoder, instance: &[u32]) -> Vec<String> {
        let written = |part: IndexPart<'_>| {
            let mut out = String::new();
            part.write(None, &mut out);
            out
        };
        decoder.parts(instance).map(written).collect()
    }

    #[test]
    fn each_layout_takes_its_arcs() {
        let all = decoder(&[
            IndexKind::Integer,
            IndexKind::Octets,
            IndexKind::IpAddress,
            IndexKind::FixedOctets(2),
            IndexKind::Oid,
            IndexKind::ImpliedOctets,
        ]);
        let instance = [7, 2, 97, 98, 10, 0, 0, 1, 104, 105, 3, 1, 3, 6, 120, 121];
        assert_eq!(text(&all, &instance), ["7", "ab", "10.0.0.1", "hi", "1.3.6", "xy"]);
        assert!(all.fits(&instance));
        assert_eq!(all.part(0, &instance).and_then(|part| part.integer()), Some(7));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let name = decoder(&[IndexKind::Octets]);
        assert!(!name.fits(&[3, 97, 98]));
        assert!(!name.fits(&[1, 97, 98]));
        assert!(!name.fits(&[1, 256]));
        assert!(name.part(0, &[4_294_967_295, 97]).is_none());
        assert!(!decoder(&[IndexKind::Integer]).fits(&[]));
    }

    proptest! {
        #[test]
        fn any_instance_is_refused_or_read(
            kinds in prop::collection::vec(prop_oneof![
                Just(IndexKind::Integer), Just(IndexKind::IpAddress), Just(IndexKind::FixedOctets(3)),
                Just(IndexKind::Octets), Just(IndexKind::ImpliedOctets), Just(IndexKind::Oid),
                Just(IndexKind::ImpliedOid)], 0..5),
            instance in prop::collection::vec(prop_oneof![0u32..8, any::<u32>()], 0..40),
        ) {
            let decoder = decoder(&kinds);
            let parts = decoder.parts(&instance).count();
            if decoder.fits(&instance) {
                prop_assert_eq!(parts, kinds.len());
            }
            text(&decoder, &instance);
        }
    }
}
