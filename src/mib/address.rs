//! InetAddress (RFC 4001): octets whose form another object, of type InetAddressType, decides.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::image::{Match, Mib, NodeId};
use crate::oid::{EncodedOid, OidArray};
use crate::value::Value;

/// The textual convention whose form depends on another object.
pub(super) const ADDRESS: &str = "InetAddress";
/// The textual convention that decides it.
pub(super) const ADDRESS_TYPE: &str = "InetAddressType";

const IPV4: u32 = 1;
const IPV6: u32 = 2;
const IPV4Z: u32 = 3;
const IPV6Z: u32 = 4;
const DNS: u32 = 16;

/// How many objects before an InetAddress are looked at for its InetAddressType: RFC 4001 section 3 wants it
/// registered right before the addresses that it is for.
const NEAR: u32 = 8;
/// How many varbinds are looked at for the one that holds the type: every address of a packet asks.
const VARBINDS: usize = 64;

/// Appends an address as its type says: `10.0.0.1`, `fe80::1%3`, a host's name. `false`, with nothing appended,
/// where the octets are none of that type.
pub(super) fn write(kind: u32, octets: &[u8], out: &mut String) -> bool {
    // Writing to a String does not fail.
    let (address, zone) = match kind {
        IPV4Z | IPV6Z => match octets.split_last_chunk::<4>() {
            Some((address, &zone)) => (address, Some(u32::from_be_bytes(zone))),
            None => return false,
        },
        _ => (octets, None),
    };
    match kind {
        IPV4 | IPV4Z => match <[u8; 4]>::try_from(address) {
            Ok(octets) => drop(write!(out, "{}", Ipv4Addr::from(octets))),
            Err(_) => return false,
        },
        IPV6 | IPV6Z => match <[u8; 16]>::try_from(address) {
            Ok(octets) => drop(write!(out, "{}", Ipv6Addr::from(octets))),
            Err(_) => return false,
        },
        DNS => match std::str::from_utf8(address) {
            Ok(name) if !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic()) => {
                out.push_str(name);
            }
            _ => return false,
        },
        _ => return false,
    }
    if let Some(zone) = zone {
        let _ = write!(out, "%{zone}");
    }
    true
}

/// By the octets alone, where the type is not known.
pub(super) fn write_by_length(octets: &[u8], out: &mut String) -> bool {
    match octets.len() {
        4 => write(IPV4, octets, out),
        16 => write(IPV6, octets, out),
        _ => false,
    }
}

/// The octets of an address that [`write`] wrote; `None` for a host's name, which is its own octets.
pub(super) fn parse(kind: u32, text: &str) -> Option<Vec<u8>> {
    let (address, zone) = match kind {
        IPV4Z | IPV6Z => {
            let (address, zone) = text.split_once('%')?;
            (address, Some(zone.parse::<u32>().ok()?))
        }
        _ => (text, None),
    };
    let mut octets = match kind {
        IPV4 | IPV4Z => address.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
        IPV6 | IPV6Z => address.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
        _ => return None,
    };
    octets.extend(zone.map(u32::to_be_bytes).into_iter().flatten());
    Some(octets)
}

impl Mib {
    /// As [`write_value`](Self::write_value), for the varbind of the OID `arcs`, for which
    /// [`lookup`](Self::lookup) found `found`, among `varbinds` of one notification: an InetAddress is shown as its InetAddressType says, which stands in another varbind of
    /// the same instance or in the instance itself. At most 64 varbinds are looked at. No allocation but
    /// for `out`.
    pub fn write_varbind<'v>(
        &self,
        found: Option<Match>,
        arcs: &[u32],
        value: &Value<'_>,
        varbinds: impl IntoIterator<Item = (EncodedOid<'v>, Value<'v>)>,
        out: &mut String,
    ) {
        if let (Some(found), Value::Octets(octets)) = (found, value)
            && (1..=arcs.len()).contains(&found.matched)
            && self.has_convention(found.node, ADDRESS)
            && let Some(kind) = self.address_type(found.node, arcs, found.matched, varbinds)
            && write(kind, octets, out)
        {
            return;
        }
        self.write_value(found.map(|found| found.node), value, out);
    }

    pub(super) fn has_convention(&self, node: NodeId, convention: &str) -> bool {
        self.node(node).syntax().is_some_and(|syntax| syntax.convention() == convention)
    }

    fn address_type<'v>(
        &self,
        node: NodeId,
        arcs: &[u32],
        matched: usize,
        varbinds: impl IntoIterator<Item = (EncodedOid<'v>, Value<'v>)>,
    ) -> Option<u32> {
        if let Some(arc) = self.address_type_before(node) {
            let mut name = OidArray::default();
            let mut near = varbinds.into_iter().take(VARBINDS);
            let beside = near.find_map(|(other, value)| {
                other.decode_into(&mut name);
                let other = name.arcs();
                let is_it = other.len() == arcs.len()
                    && other[matched - 1] == arc
                    && other[..matched - 1] == arcs[..matched - 1]
                    && other[matched..] == arcs[matched..];
                is_it.then(|| value.as_i128()).flatten()
            });
            if beside.is_some() {
                return beside.and_then(|kind| u32::try_from(kind).ok());
            }
        }
        self.address_type_in(node, &arcs[matched..])
    }

    /// The last arc of the InetAddressType right before an InetAddress.
    fn address_type_before(&self, node: NodeId) -> Option<u32> {
        let (vertex, trie) = (self.vertex(node), self.trie());
        let first = trie.children(trie.parent(vertex)).start;
        let before = (first.max(vertex.saturating_sub(NEAR))..vertex).rev();
        before
            .filter(|&before| {
                let known = trie.node(before).map(NodeId);
                known.is_some_and(|known| self.has_convention(known, ADDRESS_TYPE))
            })
            .map(|before| trie.arc(before))
            .next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(kind: u32, octets: &[u8]) -> Option<String> {
        let mut out = String::new();
        write(kind, octets, &mut out).then_some(out)
    }

    #[test]
    fn each_type_has_its_form() {
        assert_eq!(written(IPV4, &[10, 0, 0, 1]).as_deref(), Some("10.0.0.1"));
        assert_eq!(written(IPV4Z, &[10, 0, 0, 1, 0, 0, 0, 7]).as_deref(), Some("10.0.0.1%7"));
        assert_eq!(written(DNS, b"host").as_deref(), Some("host"));
        let mut link_local = [0; 20];
        (link_local[0], link_local[1], link_local[15], link_local[19]) = (0xfe, 0x80, 1, 3);
        assert_eq!(written(IPV6Z, &link_local).as_deref(), Some("fe80::1%3"));
        for (kind, octets) in [(IPV4, &b"host"[..3]), (IPV6, b"host"), (0, b"host"), (DNS, b"a b"), (9, b"")]
        {
            assert_eq!(written(kind, octets), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(kind in 0u32..5, octets in prop::collection::vec(any::<u8>(), 0..24)) {
            for len in [4, 8, 16, 20, octets.len()] {
                let octets = &octets[..len.min(octets.len())];
                if let Some(text) = written(kind, octets) {
                    let read = parse(kind, &text);
                    prop_assert_eq!(read.as_deref(), Some(octets));
                }
            }
        }
    }
}
