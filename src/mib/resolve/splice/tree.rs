//! The vertices of an image: which of those of before stay, and which are new.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::Link;
use super::{Fresh, ModulesNow, Old};
use crate::mib::symbol::NONE;

/// There is a node at it or below.
pub(super) const KEPT: u8 = 1;
/// There are new nodes at it.
pub(super) const FRESH: u8 = 2;
/// There are new vertices right below it.
pub(super) const LONGER: u8 = 4;

/// Which vertices there are now.
pub(super) struct VerticesNow {
    /// Of those of before: [`KEPT`], [`FRESH`] and [`LONGER`].
    pub(super) flags: Vec<u8>,
    /// The arcs of the new ones.
    pub(super) arcs: Vec<u32>,
    /// New vertices by what they stand below, in the order of their arcs.
    pub(super) below: HashMap<u32, BTreeMap<u32, u32>>,
    /// The new nodes at a vertex, the preferred first.
    pub(super) fresh_at: HashMap<u32, Vec<u32>>,
    /// For the vertices of the link that were asked for.
    pub(super) of_link: HashMap<u32, u32>,
    /// The words of the nodes that were at a vertex and are gone.
    pub(super) left: BTreeSet<u32>,
}

impl VerticesNow {
    pub(super) fn of(link: &Link<'_>, old: &Old<'_>, modules: &ModulesNow, fresh: &[Fresh]) -> Self {
        let mut left = BTreeSet::new();
        let mut flags = vec![0; old.trie.vertices.len()];
        flags[0] = KEPT;
        for node in old.nodes {
            if modules.staying[node.module.get() as usize] == NONE {
                left.insert(node.name.get());
            } else {
                flags[node.vertex.get() as usize] |= KEPT;
            }
        }
        let mut now = Self {
            flags,
            arcs: Vec::new(),
            below: HashMap::new(),
            fresh_at: HashMap::new(),
            of_link: HashMap::from([(0, 0)]),
            left,
        };
        for (fresh, number) in fresh.iter().zip(0..) {
            let vertex = now.find(link, old, link.places[fresh.number as usize]);
            now.flag(vertex, FRESH | KEPT);
            now.fresh_at.entry(vertex).or_default().push(number);
        }
        for vertex in (1..now.flags.len()).rev() {
            if now.flags[vertex] & KEPT != 0 {
                now.flags[old.trie.parent(vertex as u32) as usize] |= KEPT;
            }
        }
        now
    }

    /// Of a vertex of before; of a new one everything is looked up.
    pub(super) fn flag(&mut self, vertex: u32, flags: u8) {
        if let Some(all) = self.flags.get_mut(vertex as usize) {
            *all |= flags;
        }
    }

    pub(super) fn has(&self, vertex: u32, flag: u8) -> bool {
        self.flags.get(vertex as usize).is_none_or(|flags| flags & flag != 0)
    }

    pub(super) fn is_new(&self, vertex: u32) -> bool {
        vertex as usize >= self.flags.len()
    }

    /// The vertex of a vertex of the link, made where it was not there.
    pub(super) fn find(&mut self, link: &Link<'_>, old: &Old<'_>, place: u32) -> u32 {
        let mut way = Vec::new();
        let mut at = place;
        while !self.of_link.contains_key(&at) {
            way.push(at);
            at = link.vertices.edges[at as usize - 1].0;
        }
        let mut vertex = self.of_link[&at];
        while let Some(next) = way.pop() {
            let arc = link.vertices.edges[next as usize - 1].1;
            let known = if self.is_new(vertex) { None } else { old.trie.child(vertex, arc) };
            vertex = match known {
                Some(child) => child,
                None => {
                    let new = (self.flags.len() + self.arcs.len()) as u32;
                    self.arcs.push(arc);
                    // What is above it stays for its sake.
                    self.flag(vertex, KEPT | LONGER);
                    self.below.entry(vertex).or_default().insert(arc, new);
                    new
                }
            };
            self.of_link.insert(next, vertex);
        }
        vertex
    }
}
