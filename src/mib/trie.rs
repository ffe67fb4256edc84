//! The OID tree: longest-prefix lookup over flat vertices.
//!
//! Vertices stand in breadth-first order, the children of one side by side and sorted by arc. Arcs of real
//! MIBs mostly run on without a gap, so the child is first looked for at its distance from the first
//! sibling, and by bisection only when it is not there.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::symbol::NONE;

/// One vertex. Vertex 0 is the root, which has no arc.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Vertex {
    pub(crate) arc: U32,
    pub(crate) first: U32,
    pub(crate) count: U32,
    /// The arc of the first child, so that a step down reads no vertex but the child.
    pub(crate) lowest: U32,
    /// The first of the nodes at this OID, or [`NONE`].
    pub(crate) node: U32,
}

impl Vertex {
    pub(crate) fn new(arc: u32) -> Self {
        let zero = U32::new(0);
        Self { arc: arc.into(), first: zero, count: zero, lowest: zero, node: NONE.into() }
    }
}

/// The tree while it is written.
#[derive(Debug)]
pub(crate) struct TrieBuilder {
    pub(crate) vertices: Vec<Vertex>,
    /// Apart, since looking up never asks for it.
    pub(crate) parents: Vec<U32>,
}

/// The tree of all OIDs that have a name, and of those above them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trie<'a> {
    pub(crate) vertices: &'a [Vertex],
    pub(crate) parents: &'a [U32],
}

impl TrieBuilder {
    /// Builds the tree of `edges`: the parent and the arc of each vertex but the root, a parent before its
    /// children. Of it only the vertices `named` are kept, and those above them. Returns with it the new number of
    /// each vertex (the root's first), or [`NONE`].
    pub(crate) fn build(edges: &[(u32, u32)], named: impl Iterator<Item = u32>) -> (Self, Vec<u32>) {
        let total = edges.len() + 1;
        let mut kept = vec![false; total];
        kept[0] = true;
        for mut at in named {
            while !std::mem::replace(&mut kept[at as usize], true) {
                at = edges[at as usize - 1].0;
            }
        }
        let mut starts = vec![0u32; total + 1];
        let edge = |at: usize| kept[at + 1].then(|| edges[at]);
        for (parent, _) in (0..edges.len()).filter_map(edge) {
            starts[parent as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut fill = starts.clone();
        let mut children = vec![0u32; edges.len()];
        for at in 0..edges.len() {
            if let Some((parent, _)) = edge(at) {
                let slot = &mut fill[parent as usize];
                children[*slot as usize] = at as u32 + 1;
                *slot += 1;
            }
        }
        let mut numbers = vec![NONE; total];
        numbers[0] = 0;
        let mut vertices = Vec::with_capacity(total);
        vertices.push(Vertex::new(0));
        let mut parents = Vec::with_capacity(total);
        parents.push(U32::new(0));
        let mut order = Vec::with_capacity(total);
        order.push(0u32);
        let mut at = 0;
        while at < order.len() {
            let old = order[at] as usize;
            let siblings = &mut children[starts[old] as usize..starts[old + 1] as usize];
            siblings.sort_unstable_by_key(|&child| edges[child as usize - 1].1);
            vertices[at].first = (vertices.len() as u32).into();
            vertices[at].count = (siblings.len() as u32).into();
            vertices[at].lowest = siblings.first().map_or(0, |&child| edges[child as usize - 1].1).into();
            for &child in siblings.iter() {
                numbers[child as usize] = vertices.len() as u32;
                let arc = edges[child as usize - 1].1;
                vertices.push(Vertex::new(arc));
                parents.push(U32::new(at as u32));
                order.push(child);
            }
            at += 1;
        }
        (Self { vertices, parents }, numbers)
    }

    /// Names a vertex: `node` is the first of the nodes there.
    pub(crate) fn set_node(&mut self, vertex: u32, node: u32) {
        self.vertices[vertex as usize].node = node.into();
    }

    /// To read in.
    pub(crate) fn view(&self) -> Trie<'_> {
        Trie { vertices: &self.vertices, parents: &self.parents }
    }
}

impl Trie<'_> {
    /// The deepest named vertex on the way along `arcs`: its first node and how many arcs lead there.
    pub(crate) fn lookup(&self, arcs: impl Iterator<Item = u32>) -> Option<(u32, usize)> {
        let mut best = None;
        let mut at = 0;
        for (depth, arc) in arcs.enumerate() {
            let Some(child) = self.child(at, arc) else {
                break;
            };
            at = child;
            let node = self.vertices[at as usize].node.get();
            if node != NONE {
                best = Some((node, depth + 1));
            }
        }
        best
    }

    /// The vertex below `parent` by `arc`.
    pub(crate) fn child(&self, parent: u32, arc: u32) -> Option<u32> {
        let vertex = &self.vertices[parent as usize];
        let (first, count) = (vertex.first.get(), vertex.count.get());
        let guess = arc.checked_sub(vertex.lowest.get())?;
        if guess < count && self.vertices[(first + guess) as usize].arc.get() == arc {
            return Some(first + guess);
        }
        // Arcs only grow from one sibling to the next, so it stands no further on than its distance.
        let end = count.min(guess) as usize;
        let siblings = &self.vertices[first as usize..][..end];
        let at = siblings.binary_search_by_key(&arc, |sibling| sibling.arc.get()).ok()?;
        Some(first + at as u32)
    }

    /// The vertices below `parent`, by arc.
    pub(crate) fn children(&self, parent: u32) -> std::ops::Range<u32> {
        let vertex = self.vertices[parent as usize];
        vertex.first.get()..vertex.first.get() + vertex.count.get()
    }

    /// The vertex above; the root's is the root.
    pub(crate) fn parent(&self, vertex: u32) -> u32 {
        self.parents[vertex as usize].get()
    }

    /// The last arc of a vertex.
    pub(crate) fn arc(&self, vertex: u32) -> u32 {
        self.vertices[vertex as usize].arc.get()
    }

    /// The first node at a vertex.
    pub(crate) fn node(&self, vertex: u32) -> Option<u32> {
        let node = self.vertices[vertex as usize].node.get();
        (node != NONE).then_some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};

    proptest! {
        /// Against the naive longest prefix over a set of OIDs.
        #[test]
        fn finds_the_longest_named_prefix(
            oids in prop::collection::btree_set(prop::collection::vec(0u32..6, 1..6), 1..40),
            questions in prop::collection::vec(prop::collection::vec(0u32..7, 0..8), 1..40),
        ) {
            let mut numbers: HashMap<Vec<u32>, u32> = HashMap::from([(Vec::new(), 0)]);
            let mut edges = Vec::new();
            for oid in &oids {
                for len in 1..=oid.len() {
                    if !numbers.contains_key(&oid[..len]) {
                        edges.push((numbers[&oid[..len - 1]], oid[len - 1]));
                        numbers.insert(oid[..len].to_vec(), edges.len() as u32);
                    }
                }
            }
            // Every vertex but those that only led to an OID that is named no longer.
            let oids: BTreeSet<Vec<u32>> = oids.into_iter().filter(|oid| oid[0] != 5).collect();
            let named = oids.iter().map(|oid| numbers[oid]);
            let (mut trie, renumbered) = TrieBuilder::build(&edges, named);
            let above: BTreeSet<&[u32]> = oids.iter().flat_map(|oid| (0..=oid.len()).map(|len| &oid[..len])).collect();
            prop_assert_eq!(trie.vertices.len(), above.len().max(1));
            for (node, oid) in oids.iter().enumerate() {
                trie.set_node(renumbered[numbers[oid] as usize], node as u32);
            }
            for question in questions {
                let naive = (1..=question.len()).rev().find_map(|len| {
                    oids.iter().position(|oid| oid[..] == question[..len]).map(|at| (at as u32, len))
                });
                prop_assert_eq!(trie.view().lookup(question.iter().copied()), naive);
            }
        }
    }
}
