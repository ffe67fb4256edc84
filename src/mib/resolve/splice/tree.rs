//! The vertices of an image: which new ones there are, and which of those of before are gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::super::Link;
use super::{Fresh, ModulesNow, Old};
use crate::mib::Mib;
use crate::mib::ast::FileRecord;
use crate::mib::symbol::NONE;
use crate::mib::workers;

/// The new vertices. They have numbers past those of before.
pub(super) struct VerticesNow {
    /// How many there were before.
    old: u32,
    /// The arcs of the new ones.
    pub(super) arcs: Vec<u32>,
    /// New vertices by what they stand below, in the order of their arcs.
    pub(super) below: HashMap<u32, BTreeMap<u32, u32>>,
    /// The new nodes at a vertex, the preferred first.
    pub(super) fresh_at: HashMap<u32, Vec<u32>>,
    /// For the vertices of the link that were asked for.
    of_link: HashMap<u32, u32>,
}

impl VerticesNow {
    pub(super) fn of(link: &Link<'_>, old: &Old<'_>, fresh: &[Fresh]) -> Self {
        let mut now = Self {
            old: old.trie.vertices.len() as u32,
            arcs: Vec::new(),
            below: HashMap::new(),
            fresh_at: HashMap::new(),
            of_link: HashMap::from([(0, 0)]),
        };
        for (fresh, number) in fresh.iter().zip(0..) {
            let vertex = now.find(link, old, link.places[fresh.number as usize]);
            now.fresh_at.entry(vertex).or_default().push(number);
        }
        now
    }

    pub(super) fn is_new(&self, vertex: u32) -> bool {
        vertex >= self.old
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
                    let new = self.old + self.arcs.len() as u32;
                    self.arcs.push(arc);
                    self.below.entry(vertex).or_default().insert(arc, new);
                    new
                }
            };
            self.of_link.insert(next, vertex);
        }
        vertex
    }
}

/// The nodes of before whose files are linked again or gone.
pub(super) struct Left {
    /// In their order.
    pub(super) nodes: Vec<u32>,
    /// Where they stood.
    pub(super) vertices: BTreeSet<u32>,
}

impl Left {
    /// `records` are those of before of the files that are linked again or gone.
    pub(super) fn of(old: &Old<'_>, before: &Mib, modules: &ModulesNow, records: &[Arc<FileRecord>]) -> Self {
        let mut nodes: Vec<u32> = Vec::new();
        for record in records {
            for definition in &record.definitions {
                let named = before.named(record.symbols.text(definition.name)).map(|node| node.0);
                nodes.extend(named.filter(|&node| !modules.stays(&old.nodes[node as usize])));
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        // All of them are read again by others, but not yet and not by this one.
        let own = old.modules.iter().zip(&modules.staying).filter(|&(_, &module)| module == NONE);
        if own.map(|(record, _)| record.nodes.get() as usize).sum::<usize>() != nodes.len() {
            return Self::looked_through(old, modules);
        }
        Self::at(old, nodes)
    }

    /// Those that a look at all nodes of before finds.
    fn looked_through(old: &Old<'_>, modules: &ModulesNow) -> Self {
        const PIECE: usize = 1 << 13;
        let pieces = workers::in_parallel(
            old.nodes.len().div_ceil(PIECE),
            || (),
            |(), piece| {
                let nodes = (0u32..).zip(old.nodes).skip(piece * PIECE).take(PIECE);
                let left = nodes.filter(|(_, node)| !modules.stays(node)).map(|(number, _)| number);
                left.collect::<Vec<_>>()
            },
        );
        Self::at(old, pieces.into_iter().flatten().collect())
    }

    fn at(old: &Old<'_>, nodes: Vec<u32>) -> Self {
        let vertices = nodes.iter().map(|&node| old.nodes[node as usize].vertex.get()).collect();
        Self { nodes, vertices }
    }

    /// The vertices of before that have nothing at them nor below them any more.
    pub(super) fn removed(&self, old: &Old<'_>, modules: &ModulesNow, now: &VerticesNow) -> BTreeSet<u32> {
        let mut removed = BTreeSet::new();
        // What is below has a higher number, so that it is told first.
        let mut may_be = self.vertices.clone();
        while let Some(vertex) = may_be.pop_last().filter(|&vertex| vertex != 0) {
            let stays = now.fresh_at.contains_key(&vertex)
                || now.below.contains_key(&vertex)
                || old.nodes_at(vertex).any(|node| modules.stays(&old.nodes[node]))
                || old.trie.children(vertex).any(|child| !removed.contains(&child));
            if !stays {
                removed.insert(vertex);
                may_be.insert(old.trie.parent(vertex));
            }
        }
        removed
    }
}
