//! Makes the image of a [`Mib`](crate::mib::Mib) from the one of before and the nodes of some files that were
//! linked again: what [`assemble`](super::assemble) makes of all files, without linking the others.
//!
//! Everything in an image is numbered in the order of the tree, so that one new node moves most numbers. This is one
//! walk along the tree that renumbers what stays and puts in what is new. A number past those of before stands for
//! something new, in vertices, nodes, words and types alike.

mod index;
mod names;
mod references;
mod tree;
mod types;

use std::collections::{BTreeSet, HashMap, HashSet};

use memmap2::Mmap;
use zerocopy::little_endian::U32;

use self::names::Names;
use self::tree::{FRESH, KEPT, LONGER, VerticesNow};
use self::types::SyntaxesNow;
use super::Link;
use super::assemble::{self, Above, Reference};
use super::partial::Given;
use super::types::Resolved;
use crate::mib::Mib;
use crate::mib::ast::DefinitionKind;
use crate::mib::format::{
    FileEntry, LabelRecord, ModuleRecord, NodeRecord, PASSING, Room, SECTIONS, Sections, SyntaxRecord,
    most_slots,
};
use crate::mib::image::Kind;
use crate::mib::symbol::{NONE, NumberMap, Symbol};
use crate::mib::trie::{Trie, Vertex};

/// A definition of a linked file that has a node.
pub(super) struct Fresh {
    pub(super) number: u32,
    /// What its SYNTAX comes to.
    pub(super) resolved: Option<Resolved>,
    /// What its INDEX or its OBJECTS name; of a linked file always something that has a node.
    pub(super) references: Vec<Reference>,
}

/// Why there is no image.
pub(super) enum Failure {
    /// The nodes of these files cannot stay as they are: they have to be linked as well.
    Relink(BTreeSet<u32>),
    Whole(&'static str),
}

/// The image of all files, in pages of its own.
pub(super) fn image(
    link: &mut Link<'_>,
    given: &Given<'_>,
    fresh: &[Fresh],
) -> Result<(Mmap, usize), Failure> {
    const NO_ROOM: Failure = Failure::Whole("no memory for another image");
    let old = Old::of(given.before);
    let modules = ModulesNow::of(link, given, &old);
    let names = Names::of(link, &old, fresh);
    let vertices = VerticesNow::of(link, &old, &modules, fresh);
    let syntaxes = SyntaxesNow::of(link, &old, &names, fresh);
    let most = most(link, &old, &names, &vertices, &syntaxes, fresh);
    let mut room = match given.room.recv().ok().filter(|room| room.holds(&most)) {
        Some(room) => room,
        None => Room::new(most).map_err(|_| NO_ROOM)?,
    };
    let mut out = room.sections();
    let mut splice = Splice {
        now: vec![NONE; old.nodes.len() + fresh.len()],
        words_now: vec![NONE; old.ends.len() + names.extra.len()],
        sources: Vec::with_capacity(old.nodes.len() + fresh.len()),
        counts: vec![0; link.modules.len()],
        link,
        old,
        modules,
        names,
        vertices,
        syntaxes,
        fresh,
        out: &mut out,
        above: HashMap::new(),
        relink: BTreeSet::new(),
        crowded: false,
    };
    splice.put_files();
    splice.walk();
    splice.put_references();
    if splice.crowded {
        return Err(Failure::Whole("many nodes stand at one OID"));
    }
    if !splice.relink.is_empty() {
        return Err(Failure::Relink(splice.relink));
    }
    splice.index_names(given.before);
    splice.put_modules();
    let counts = out.counts();
    room.finish(counts).map_err(|_| NO_ROOM)
}

/// How many records there are at the most in each section.
fn most(
    link: &Link<'_>,
    old: &Old<'_>,
    names: &Names<'_>,
    vertices: &VerticesNow,
    syntaxes: &SyntaxesNow,
    fresh: &[Fresh],
) -> [usize; SECTIONS] {
    let nodes = old.nodes.len() + fresh.len();
    let kept = vertices.flags.iter().filter(|&&flags| flags & KEPT != 0).count() + vertices.arcs.len();
    let paths = link.inputs.iter().map(|input| input.path.len()).sum::<usize>();
    let extra = names.extra.iter().map(|word| word.len()).sum::<usize>();
    [
        link.inputs.len(),
        link.modules.len(),
        nodes,
        kept,
        kept,
        most_slots(old.slots.iter().filter(|slot| slot.get() != NONE).count() + fresh.len()),
        old.references.len() + fresh.iter().map(|fresh| fresh.references.len()).sum::<usize>(),
        old.syntaxes.len() + syntaxes.extra.len(),
        old.labels.len() + syntaxes.extra.iter().map(|(_, labels)| labels.len()).sum::<usize>(),
        link.inputs.len() + old.ends.len() + names.extra.len(),
        paths + old.text.len() + extra,
    ]
}

/// The image of before.
#[derive(Clone, Copy)]
struct Old<'a> {
    files: usize,
    modules: &'a [ModuleRecord],
    nodes: &'a [NodeRecord],
    references: &'a [U32],
    syntaxes: &'a [SyntaxRecord],
    labels: &'a [LabelRecord],
    trie: Trie<'a>,
    slots: &'a [U32],
    ends: &'a [U32],
    text: &'a [u8],
}

impl<'a> Old<'a> {
    fn of(mib: &'a Mib) -> Self {
        let (layout, octets) = (&mib.layout, &*mib.octets);
        Self {
            files: layout.files(octets).len(),
            modules: layout.modules(octets),
            nodes: layout.nodes(octets),
            references: layout.references(octets),
            syntaxes: layout.syntaxes(octets),
            labels: layout.labels(octets),
            trie: Trie { vertices: layout.vertices(octets), parents: layout.parents(octets) },
            slots: layout.name_slots(octets),
            ends: layout.text_ends(octets),
            text: layout.text(octets),
        }
    }

    fn word(&self, word: u32) -> &'a [u8] {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| end.get() as usize);
        let start = if word == 0 { 0 } else { end(word as usize - 1) };
        self.text.get(start..end(word as usize)).unwrap_or_default()
    }

    /// The nodes at a vertex.
    fn nodes_at(&self, vertex: u32) -> std::ops::Range<usize> {
        let Some(first) = self.trie.node(vertex) else {
            return 0..0;
        };
        let first = first as usize;
        let mut end = first;
        while self.nodes.get(end).is_some_and(|node| node.vertex.get() == vertex) {
            end += 1;
        }
        first..end
    }

    fn labels_of(&self, syntax: &SyntaxRecord) -> &'a [LabelRecord] {
        let [start, len] = syntax.labels.map(|number| number.get() as usize);
        self.labels.get(start..start.saturating_add(len)).unwrap_or_default()
    }
}

/// For each module of before its number now.
struct ModulesNow {
    /// [`NONE`] where its nodes are linked again, or are gone.
    staying: Vec<u32>,
    /// Also of those that are linked again.
    same: Vec<u32>,
    /// For each module now its place in the rank.
    rank: Vec<u32>,
    /// The names of modules that have several versions.
    several: HashSet<Symbol>,
}

impl ModulesNow {
    fn of(link: &Link<'_>, given: &Given<'_>, old: &Old<'_>) -> Self {
        let mut numbers: NumberMap<u64, u32> = NumberMap::default();
        let key = |file: u32, index: u32| u64::from(file) << 32 | u64::from(index);
        let mut met = HashSet::new();
        let mut several = HashSet::new();
        for (module, number) in link.modules.iter().zip(0..) {
            if !module.anew {
                numbers.insert(key(module.file, module.index), number);
                if !met.insert(module.name) {
                    several.insert(module.name);
                }
            }
        }
        let mut same: Vec<u32> = Vec::with_capacity(old.modules.len());
        let mut by_name: HashMap<u32, u32> = HashMap::new();
        let (mut last, mut index) = (NONE, 0);
        for record in old.modules {
            let file = record.file.get();
            let (anew, name) = (record.anew != 0, record.name.get());
            index = if file == last && !anew { index + 1 } else { 0 };
            last = file;
            let number = if anew {
                by_name.get(&name).and_then(|chosen| link.versions.anew.get(chosen)).copied()
            } else {
                let file_now = given.now.get(file as usize).copied().unwrap_or(NONE);
                let number = numbers.get(&key(file_now, index)).copied();
                number.filter(|&number| link.module_name(number).as_bytes() == old.word(name))
            };
            if !anew
                && record.superseded == 0
                && let Some(number) = number
            {
                by_name.insert(name, number);
            }
            same.push(number.unwrap_or(NONE));
        }
        let stays = |&number: &u32| number != NONE && !link.is_linked(link.modules[number as usize].file);
        let staying = same.iter().map(|number| if stays(number) { *number } else { NONE }).collect();
        let mut rank = vec![0; link.modules.len()];
        for (&module, place) in link.ranked.iter().zip(0..) {
            rank[module as usize] = place;
        }
        Self { staying, same, rank, several }
    }
}

struct Splice<'a, 'l, 'o> {
    link: &'a mut Link<'l>,
    old: Old<'a>,
    modules: ModulesNow,
    names: Names<'a>,
    vertices: VerticesNow,
    syntaxes: SyntaxesNow,
    fresh: &'a [Fresh],
    out: &'a mut Sections<'o>,
    /// For each node where it comes from.
    sources: Vec<u32>,
    /// For each node of before and each new one its number.
    now: Vec<u32>,
    /// The same of words.
    words_now: Vec<u32>,
    /// For each module how many nodes it has.
    counts: Vec<u32>,
    /// Of vertices where something has changed: which kinds of nodes stand there.
    above: HashMap<u32, Above>,
    /// Files whose nodes cannot stay as they are.
    relink: BTreeSet<u32>,
    /// More nodes stand at a vertex than are looked at for other versions.
    crowded: bool,
}

impl Splice<'_, '_, '_> {
    fn put_files(&mut self) {
        for input in self.link.inputs {
            let path = input.path.get(input.relative as usize..).unwrap_or(&input.path);
            let number = self.out.text_ends.len() as u32;
            self.out.text.extend(path.as_bytes());
            self.out.text_ends.push((self.out.text.len() as u32).into());
            self.out.files.push(FileEntry { directory: input.directory.into(), path: number.into() });
        }
    }

    fn put_word(&mut self, word: u32) -> u32 {
        let Some(&now) = self.words_now.get(word as usize) else {
            return NONE;
        };
        if now != NONE {
            return now;
        }
        let number = self.out.text_ends.len() as u32;
        self.words_now[word as usize] = number;
        self.out.text.extend(self.names.bytes(word));
        self.out.text_ends.push((self.out.text.len() as u32).into());
        number
    }

    fn put_syntax(&mut self, syntax: u32) -> u32 {
        let Some(&now) = self.syntaxes.now.get(syntax as usize) else {
            return NONE;
        };
        if now != NONE {
            return now;
        }
        let number = self.out.syntaxes.len() as u32;
        self.syntaxes.now[syntax as usize] = number;
        let start = self.out.labels.len();
        let mut record = match (syntax as usize).checked_sub(self.old.syntaxes.len()) {
            Some(extra) => {
                let (record, labels) = self.syntaxes.extra[extra].clone();
                labels.iter().for_each(|label| self.put_label(label));
                record
            }
            None => {
                let record = self.old.syntaxes[syntax as usize];
                self.old.labels_of(&record).iter().for_each(|label| self.put_label(label));
                record
            }
        };
        for word in [&mut record.convention, &mut record.hint, &mut record.units] {
            *word = self.put_word(word.get()).into();
        }
        record.labels[0] = (start as u32).into();
        self.out.syntaxes.push(record);
        number
    }

    fn put_label(&mut self, label: &LabelRecord) {
        let name = self.put_word(label.name.get()).into();
        self.out.labels.push(LabelRecord { number: label.number, name });
    }

    /// Along the tree, breadth-first: renumbers its vertices and makes the nodes.
    fn walk(&mut self) {
        let count = self.vertices.flags.len() + self.vertices.arcs.len();
        let mut way = Vec::with_capacity(count);
        self.out.vertices.push(Vertex::new(0));
        self.out.parents.push(U32::new(0));
        way.push(0u32);
        let mut at = 0;
        while let Some(&from) = way.get(at) {
            let first = self.out.nodes.len();
            let parent = way[self.out.parents.get()[at].get() as usize];
            self.put_nodes(from, at as u32, parent);
            let start = self.out.vertices.len();
            let (out, now) = (&mut *self.out, &self.vertices);
            let mut put = |child: u32, arc: U32| {
                out.vertices.push(Vertex::new(arc.get()));
                out.parents.push(U32::new(at as u32));
                way.push(child);
            };
            let children = if now.is_new(from) { 0..0 } else { self.old.trie.children(from) };
            let stay = children.filter(|&child| now.has(child, KEPT));
            let arc_of = |child: u32| self.old.trie.vertices[child as usize].arc;
            match now.has(from, LONGER).then(|| now.below.get(&from)).flatten() {
                None => stay.for_each(|child| put(child, arc_of(child))),
                Some(new) => {
                    let mut all = new.clone();
                    all.extend(stay.map(|child| (arc_of(child).get(), child)));
                    all.into_iter().for_each(|(arc, child)| put(child, arc.into()));
                }
            }
            let lowest = out.vertices.get().get(start).map_or(U32::new(0), |child| child.arc);
            let count = out.vertices.len() - start;
            let node = if out.nodes.len() > first { first as u32 } else { NONE };
            let vertex = &mut out.vertices.get_mut()[at];
            vertex.node = node.into();
            (vertex.first, vertex.count, vertex.lowest) =
                ((start as u32).into(), (count as u32).into(), lowest);
            at += 1;
        }
    }

    /// The nodes at a vertex, which has the number `now` and stands below `parent`.
    fn put_nodes(&mut self, vertex: u32, now: u32, parent: u32) {
        let is_old = !self.vertices.is_new(vertex);
        let here = if is_old { self.old.nodes_at(vertex) } else { 0..0 };
        let stays = |node: usize| self.modules.staying[self.old.nodes[node].module.get() as usize] != NONE;
        let has_fresh = self.vertices.has(vertex, FRESH);
        let fresh = has_fresh.then(|| self.vertices.fresh_at.remove(&vertex)).flatten();
        if fresh.is_none() && here.clone().all(stays) {
            here.for_each(|node| self.put_old(node, now));
            return;
        }
        let news = fresh.as_ref().map_or(0, Vec::len);
        self.crowded |= here.len() + news > assemble::VERSIONS_SEEN;
        let staying: Vec<usize> = here.clone().filter(|&node| stays(node)).collect();
        let above = self.above_at(parent);
        let mut kinds = Above::default();
        let mut add = |kind: Kind| {
            kinds.table |= kind == Kind::Table;
            kinds.row |= kind == Kind::Row;
        };
        staying.iter().for_each(|&node| add(Kind::from_octet(self.old.nodes[node].kind)));
        let fresh = fresh.unwrap_or_default();
        let fresh: Vec<(u32, Kind)> =
            fresh.into_iter().map(|fresh| (fresh, self.kind_of(fresh, above))).collect();
        fresh.iter().for_each(|&(_, kind)| add(kind));
        let mut before = Above::default();
        for node in here {
            let kind = Kind::from_octet(self.old.nodes[node].kind);
            before.table |= kind == Kind::Table;
            before.row |= kind == Kind::Row;
        }
        self.above.insert(vertex, kinds);
        if kinds != before && is_old {
            self.relink_below(vertex);
        }
        self.put_sorted(&staying, &fresh, now);
    }

    /// The kinds of the nodes at a vertex that was walked past.
    fn above_at(&self, vertex: u32) -> Above {
        if let Some(&known) = self.above.get(&vertex) {
            return known;
        }
        if self.vertices.is_new(vertex) {
            return Above::default();
        }
        let mut above = Above::default();
        for node in self.old.nodes_at(vertex) {
            let kind = Kind::from_octet(self.old.nodes[node].kind);
            above.table |= kind == Kind::Table;
            above.row |= kind == Kind::Row;
        }
        above
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
                    self.relink.insert(self.link.modules[module as usize].file);
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
        let link = &*self.link;
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
                Node::Old(node) => self.put_old(node, now),
                Node::Fresh(fresh, kind) => self.put_fresh(fresh, kind, now),
            }
        }
    }

    fn put_old(&mut self, node: usize, vertex: u32) {
        let mut record = self.old.nodes[node];
        record.syntax = self.put_syntax(record.syntax.get()).into();
        record.name = self.put_word(record.name.get()).into();
        record.module = self.modules.staying[record.module.get() as usize].into();
        record.vertex = vertex.into();
        self.put(node as u32, record);
    }

    fn put_fresh(&mut self, fresh: u32, kind: Kind, vertex: u32) {
        let entry = self.link.definitions[self.fresh[fresh as usize].number as usize];
        let syntax =
            if kind.is_object() { self.put_syntax(self.syntaxes.of_fresh[fresh as usize]) } else { NONE };
        let name = self.put_word(self.names.symbol(entry.name));
        let record = assemble::node_record(entry, self.link.definition(entry), kind, [name, vertex, syntax]);
        self.put(self.old.nodes.len() as u32 + fresh, record);
    }

    fn put(&mut self, source: u32, record: NodeRecord) {
        self.now[source as usize] = self.out.nodes.len() as u32;
        self.sources.push(source);
        self.counts[record.module.get() as usize] += 1;
        self.out.nodes.push(record);
    }

    fn put_modules(&mut self) {
        let mut before: NumberMap<u32, u32> = NumberMap::default();
        for (&module, number) in self.modules.staying.iter().zip(0..) {
            before.insert(module, number);
        }
        for number in 0..self.link.modules.len() as u32 {
            let module = self.link.modules[number as usize];
            let (line, last_updated) = match before.get(&number) {
                Some(&old) => {
                    let old = &self.old.modules[old as usize];
                    (old.line, old.last_updated)
                }
                None => {
                    let record = &self.link.record(module.file).modules[module.index as usize];
                    (record.line.into(), record.last_updated.into())
                }
            };
            let name = self.put_word(self.names.symbol(module.name)).into();
            self.out.modules.push(ModuleRecord {
                name,
                file: module.file.into(),
                line,
                nodes: self.counts[number as usize].into(),
                last_updated,
                superseded: (module.chosen != number).into(),
                anew: module.anew.into(),
            });
        }
    }
}
