//! Which vertices and nodes come in which order: what stays in long stretches, and between them what is new.
//!
//! Everything that stays keeps its order, since vertices stand breadth-first with the children of one by their arcs,
//! and nodes by their vertices. So it takes no walk along the whole tree: only the vertices that have changed, and
//! the new ones, are looked at.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use super::super::Link;
use super::super::assemble::{self, Above};
use super::tree::{Left, VerticesNow};
use super::{Fresh, ModulesNow, Old};
use crate::mib::ast::DefinitionKind;
use crate::mib::format::PASSING;
use crate::mib::image::Kind;
use crate::mib::symbol::NONE;
use crate::mib::trie::Vertex;

/// Some that follow each other, before and now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) old: u32,
    pub(super) len: u32,
    pub(super) now: u32,
}

/// The numbers of what stays, in order before and now.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    fn push(&mut self, old: u32, len: u32, now: u32) {
        match self.0.last_mut() {
            Some(last) if last.old + last.len == old && last.now + last.len == now => last.len += len,
            _ => self.0.push(Run { old, len, now }),
        }
    }

    /// What was `old` before; [`NONE`] where it did not stay.
    pub(super) fn now(&self, old: u32) -> u32 {
        self.from(old).now(old)
    }

    /// To ask for numbers from `old` on, in their order.
    pub(super) fn from(&self, old: u32) -> Ascent<'_> {
        Ascent { runs: &self.0, at: self.0.partition_point(|run| run.old + run.len <= old) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.0.iter()
    }
}

/// [`Runs`] along numbers that do not go down.
pub(super) struct Ascent<'a> {
    runs: &'a [Run],
    at: usize,
}

impl Ascent<'_> {
    #[inline]
    pub(super) fn now(&mut self, old: u32) -> u32 {
        while let Some(run) = self.runs.get(self.at) {
            let past = old.wrapping_sub(run.old);
            if past < run.len {
                return run.now + past;
            }
            if old < run.old {
                return NONE;
            }
            self.at += 1;
        }
        NONE
    }
}

/// Vertices that follow each other, from the number `now` on.
pub(super) struct VertexPiece {
    pub(super) now: u32,
    pub(super) what: Vertices,
}

pub(super) enum Vertices {
    /// These stay, and so do their children: all with `first` added to where those are.
    Stay { old: u32, len: u32, first: u32 },
    /// One that is new, or has other children or nodes than before, and what it stands below.
    One(Vertex, u32),
}

/// Nodes that follow each other, from the number `now` on.
pub(super) struct NodePiece {
    pub(super) now: u32,
    /// Where their references begin.
    pub(super) references: u32,
    pub(super) what: Nodes,
}

pub(super) enum Nodes {
    /// These stay, with all of their references, which were these before.
    Stay {
        old: Range<u32>,
        references: Range<u32>,
    },
    Fresh {
        fresh: u32,
        kind: Kind,
        vertex: u32,
    },
}

/// All vertices and all nodes.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) vertices: Vec<VertexPiece>,
    /// How many vertices there are.
    pub(super) vertex_count: u32,
    /// Of the vertices of before that stay.
    pub(super) vertex_runs: Runs,
    pub(super) nodes: Vec<NodePiece>,
    pub(super) node_count: u32,
    pub(super) node_runs: Runs,
    pub(super) reference_count: u32,
    /// Files whose nodes cannot stay as they are.
    pub(super) relink: BTreeSet<u32>,
    /// More nodes stand at a vertex than are looked at for other versions.
    pub(super) crowded: bool,
}

/// A vertex that is new.
struct New {
    /// The vertex of before that it comes before.
    before: u32,
    vertex: u32,
    /// What it stands below, and the number of that.
    parent: (u32, u32),
}

/// The next node of before that refers to something. Few do, so that whoever asks for one after the other does not look
/// through those between them again and again.
#[derive(Default)]
struct Referring {
    /// Those before it refer to nothing, or were asked for.
    node: u32,
}

impl Referring {
    /// Where the references of a node and of those behind it begin. Nodes are asked for in their order.
    fn from(&mut self, old: &Old<'_>, node: u32) -> u32 {
        self.node = self.node.max(node);
        let rest = old.nodes.get(self.node as usize..).unwrap_or_default();
        let next = rest.iter().position(|node| node.references[1].get() != 0);
        self.node += next.unwrap_or(rest.len()) as u32;
        old.nodes.get(self.node as usize).map_or(old.references.len() as u32, |node| node.references[0].get())
    }
}

struct Planner<'a, 'l> {
    link: &'a Link<'l>,
    old: &'a Old<'a>,
    modules: &'a ModulesNow,
    vertices: &'a VerticesNow,
    fresh: &'a [Fresh],
    left: &'a Left,
    removed: &'a BTreeSet<u32>,
    plan: Plan,
    /// The vertices and nodes of before that are not yet in the plan begin here.
    at: u32,
    node_at: u32,
    referring: Referring,
    /// By how much children stand elsewhere than before: vertices that came before them, less those that went.
    first: u32,
    /// In the order in which they come.
    pending: VecDeque<New>,
    /// Of vertices where something has changed: which kinds of nodes stand there.
    above: HashMap<u32, Above>,
}

impl Plan {
    pub(super) fn of(
        link: &Link<'_>,
        old: &Old<'_>,
        modules: &ModulesNow,
        vertices: &VerticesNow,
        left: &Left,
        fresh: &[Fresh],
    ) -> Self {
        let removed = left.removed(old, modules, vertices);
        let mut touched = left.vertices.clone();
        touched
            .extend(vertices.fresh_at.keys().chain(vertices.below.keys()).filter(|&&v| !vertices.is_new(v)));
        for &vertex in &removed {
            touched.insert(vertex);
            touched.insert(old.trie.parent(vertex));
        }
        let mut planner = Planner {
            link,
            old,
            modules,
            vertices,
            fresh,
            left,
            removed: &removed,
            plan: Self::default(),
            at: 0,
            node_at: 0,
            referring: Referring::default(),
            first: 0,
            pending: VecDeque::new(),
            above: HashMap::new(),
        };
        let mut touched = touched.into_iter().peekable();
        loop {
            let next = touched.peek().copied();
            match planner.pending.pop_front_if(|new| next.is_none_or(|next| new.before <= next)) {
                Some(new) => planner.put_new(&new),
                None => match touched.next() {
                    Some(vertex) => planner.put_touched(vertex),
                    None => break,
                },
            }
        }
        planner.stay_until(old.trie.vertices.len() as u32);
        planner.keep_nodes(old.nodes.len() as u32);
        planner.plan
    }
}

impl Planner<'_, '_> {
    /// The vertices of before up to this one stay as they are, with their nodes.
    fn stay_until(&mut self, end: u32) {
        let len = end - self.at;
        if len > 0 {
            let now = self.plan.vertex_count;
            let what = Vertices::Stay { old: self.at, len, first: self.first };
            self.plan.vertices.push(VertexPiece { now, what });
            self.plan.vertex_runs.push(self.at, len, now);
            self.plan.vertex_count += len;
            self.at = end;
        }
    }

    /// Puts a vertex of before that has other children or other nodes now, or is gone.
    fn put_touched(&mut self, vertex: u32) {
        self.stay_until(vertex);
        self.at = vertex + 1;
        let children = self.old.trie.children(vertex);
        let gone = self.removed.range(children.clone()).count() as u32;
        if self.removed.contains(&vertex) {
            self.keep_nodes(self.old.nodes_from(vertex));
            self.node_at += self.old.nodes_at(vertex).len() as u32;
            self.first = self.first.wrapping_sub(gone);
            return;
        }
        let now = self.plan.vertex_count;
        let parent = self.old.trie.parent(vertex);
        let parent = (parent, if vertex == 0 { 0 } else { self.plan.vertex_runs.now(parent) });
        let record = &self.old.trie.vertices[vertex as usize];
        let below = &self.old.trie.vertices[children.start as usize..children.end as usize];
        let stay = children.clone().find(|child| !self.removed.contains(child));
        let stay = stay.map(|child| self.old.trie.arc(child));
        let (arc, first) = (record.arc.get(), record.first.get());
        let place = |arc: u32| first + below.partition_point(|child| child.arc.get() < arc) as u32;
        let count = below.len() as u32 - gone;
        let added = self.put(vertex, arc, parent, first, (stay, count), place);
        self.plan.vertex_runs.push(vertex, 1, now);
        self.first = self.first.wrapping_add(added).wrapping_sub(gone);
    }

    fn put_new(&mut self, new: &New) {
        self.stay_until(new.before);
        // Nothing of before is below it; what is comes where the children of the next one begin.
        let next = self.old.trie.vertices.get(new.before as usize);
        let first = next.map_or(self.old.trie.vertices.len() as u32, |next| next.first.get());
        let arc = self.vertices.arcs[new.vertex as usize - self.old.trie.vertices.len()];
        let added = self.put(new.vertex, arc, new.parent, first, (None, 0), |_| first);
        self.first = self.first.wrapping_add(added);
    }

    /// Puts one vertex, its nodes, and its new children to those that are pending. What stays of its children begins
    /// with an arc, and is so many; a new one comes before the vertex of before that `place` says of its arc. Returns
    /// how many new ones there are.
    fn put(
        &mut self,
        vertex: u32,
        arc: u32,
        parent: (u32, u32),
        first: u32,
        (stay, count): (Option<u32>, u32),
        place: impl Fn(u32) -> u32,
    ) -> u32 {
        let now = self.plan.vertex_count;
        self.plan.vertex_count += 1;
        let new = self.vertices.below.get(&vertex);
        let added = new.map_or(0, |new| new.len() as u32);
        for (&arc, &child) in new.into_iter().flatten() {
            self.pending.push_back(New { before: place(arc), vertex: child, parent: (vertex, now) });
        }
        let lowest = stay.into_iter().chain(new.and_then(|new| new.keys().next().copied())).min();
        let node = self.put_nodes(vertex, now, parent.0);
        let record = Vertex {
            arc: arc.into(),
            first: first.wrapping_add(self.first).into(),
            count: (count + added).into(),
            lowest: lowest.unwrap_or(0).into(),
            node: node.into(),
        };
        self.plan.vertices.push(VertexPiece { now, what: Vertices::One(record, parent.1) });
        added
    }

    /// The nodes of before up to this one stay.
    fn keep_nodes(&mut self, end: u32) {
        let from = std::mem::replace(&mut self.node_at, end);
        self.stay(from..end);
    }

    /// Puts these nodes of before.
    fn stay(&mut self, old: Range<u32>) {
        if old.is_empty() {
            return;
        }
        let len = old.end - old.start;
        let (now, first) = (self.plan.node_count, self.plan.reference_count);
        let [start, end] = [old.start, old.end].map(|node| self.referring.from(self.old, node));
        let references = start..end;
        self.plan.node_runs.push(old.start, len, now);
        self.plan.node_count += len;
        self.plan.reference_count += references.end - references.start;
        match self.plan.nodes.last_mut().map(|last| &mut last.what) {
            Some(Nodes::Stay { old: before, references: own })
                if before.end == old.start && own.end == references.start =>
            {
                (before.end, own.end) = (old.end, references.end);
            }
            _ => self.plan.nodes.push(NodePiece {
                now,
                references: first,
                what: Nodes::Stay { old, references },
            }),
        }
    }

    fn put_fresh(&mut self, fresh: u32, kind: Kind, vertex: u32) {
        self.plan.nodes.push(NodePiece {
            now: self.plan.node_count,
            references: self.plan.reference_count,
            what: Nodes::Fresh { fresh, kind, vertex },
        });
        self.plan.node_count += 1;
        self.plan.reference_count += self.fresh[fresh as usize].references.len() as u32;
    }

    /// Puts the nodes at a vertex, which has the number `now` and stands below `parent`, and returns the first.
    fn put_nodes(&mut self, vertex: u32, now: u32, parent: u32) -> u32 {
        let is_old = !self.vertices.is_new(vertex);
        let here = if is_old { self.old.nodes_at(vertex) } else { 0..0 };
        let fresh = self.vertices.fresh_at.get(&vertex);
        if fresh.is_none() && !(is_old && self.left.vertices.contains(&vertex)) {
            let stay = here.start as u32;
            return if here.is_empty() { NONE } else { self.plan.node_count + (stay - self.node_at) };
        }
        // Those of vertices before this one.
        let place = if is_old { vertex } else { self.at };
        self.keep_nodes(self.old.nodes_from(place));
        let fresh = fresh.map_or(&[][..], Vec::as_slice);
        self.plan.crowded |= here.len() + fresh.len() > assemble::VERSIONS_SEEN;
        let staying: Vec<usize> =
            here.clone().filter(|&node| self.modules.stays(&self.old.nodes[node])).collect();
        let above = self.above_at(parent);
        let kind_of = |node: usize| Kind::from_octet(self.old.nodes[node].kind);
        let fresh: Vec<(u32, Kind)> =
            fresh.iter().map(|&fresh| (fresh, self.kind_of(fresh, above))).collect();
        let kinds =
            above_of(staying.iter().map(|&node| kind_of(node)).chain(fresh.iter().map(|&(_, kind)| kind)));
        let before = above_of(here.clone().map(kind_of));
        self.above.insert(vertex, kinds);
        if kinds != before && is_old {
            self.relink_below(vertex);
        }
        let first = self.plan.node_count;
        self.put_sorted(&staying, &fresh, now);
        if is_old {
            self.node_at = self.node_at.max(here.end as u32);
        }
        if self.plan.node_count > first { first } else { NONE }
    }

    /// The kinds of the nodes at a vertex that was passed.
    fn above_at(&self, vertex: u32) -> Above {
        if let Some(&known) = self.above.get(&vertex) {
            return known;
        }
        if self.vertices.is_new(vertex) {
            return Above::default();
        }
        above_of(self.old.nodes_at(vertex).map(|node| Kind::from_octet(self.old.nodes[node].kind)))
    }

    fn kind_of(&self, fresh: u32, above: Above) -> Kind {
        let fresh = &self.fresh[fresh as usize];
        let definition = self.link.definition(self.link.definitions[fresh.number as usize]);
        if definition.kind == DefinitionKind::ObjectType {
            assemble::object_kind(definition, fresh.resolved, above)
        } else {
            assemble::plain_kind(definition.kind)
        }
    }

    /// The objects right below are of other kinds from now on.
    fn relink_below(&mut self, vertex: u32) {
        for child in self.old.trie.children(vertex) {
            for node in self.old.nodes_at(child) {
                let record = &self.old.nodes[node];
                let module = self.modules.staying[record.module.get() as usize];
                let kind = Kind::from_octet(record.kind);
                if module != NONE && matches!(kind, Kind::Table | Kind::Row | Kind::Column | Kind::Scalar) {
                    self.plan.relink.insert(self.link.modules[module as usize].file);
                }
            }
        }
    }

    /// Nodes of before and new ones at one vertex, in the order that [`assemble::order`] has.
    fn put_sorted(&mut self, staying: &[usize], fresh: &[(u32, Kind)], now: u32) {
        enum Node {
            Old(usize),
            Fresh(u32, Kind),
        }
        let link = self.link;
        let mut all: Vec<(assemble::Preference, &str, &[u8], u32, Node)> = Vec::new();
        for &node in staying {
            let record = &self.old.nodes[node];
            let module = self.modules.staying[record.module.get() as usize];
            let kind = Kind::from_octet(record.kind);
            let typed = kind.is_object() || matches!(kind, Kind::Table | Kind::Row | Kind::Notification);
            let preference = assemble::preference_of(link, module, record.flags & PASSING != 0, typed);
            let name = self.old.word(record.name.get());
            all.push((preference, link.module_name(module), name, 0, Node::Old(node)));
        }
        for &(fresh, kind) in fresh {
            let number = self.fresh[fresh as usize].number;
            let entry = link.definitions[number as usize];
            let preference = assemble::preference(link, entry);
            let name = link.names.bytes_of(entry.name);
            all.push((preference, link.module_name(entry.module), name, number, Node::Fresh(fresh, kind)));
        }
        // Those of before stand in order already.
        all.sort_by(|a, b| (&a.0, a.1, a.2, a.3).cmp(&(&b.0, b.1, b.2, b.3)));
        let all: Vec<Node> = all.into_iter().map(|(.., node)| node).collect();
        for node in all {
            match node {
                Node::Old(node) => self.stay(node as u32..node as u32 + 1),
                Node::Fresh(fresh, kind) => self.put_fresh(fresh, kind, now),
            }
        }
    }
}

fn above_of(kinds: impl Iterator<Item = Kind>) -> Above {
    kinds.fold(Above::default(), |above, kind| Above {
        table: above.table || kind == Kind::Table,
        row: above.row || kind == Kind::Row,
    })
}
