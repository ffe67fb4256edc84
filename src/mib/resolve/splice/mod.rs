//! Makes the image of a [`Mib`](crate::mib::Mib) from the one of before and the nodes of some files that were
//! linked again: what [`assemble`](super::assemble) makes of all files, without linking the others.
//!
//! Everything in an image is numbered in the order of the tree, so that one new node moves most numbers; but nothing
//! that stays changes its order. So it is told first which stretches stay ([`plan`]), then what comes to which number
//! ([`numbering`], [`index`], [`references`]), and then all is written in pieces ([`write`]). A number past those of
//! before stands for something new, in vertices, nodes, words and types alike.

mod index;
mod names;
mod numbering;
mod plan;
mod references;
mod tree;
mod types;
mod write;

use std::collections::{BTreeSet, HashMap, HashSet};

use memmap2::Mmap;
use zerocopy::FromZeros as _;
use zerocopy::little_endian::U32;

use self::names::Names;
use self::numbering::{Numbering, Words};
use self::plan::{Nodes, Plan};
use self::tree::{Left, VerticesNow};
use self::types::SyntaxesNow;
use self::write::Writing;
use super::Link;
use super::assemble::{self, Reference};
use super::partial::Given;
use super::types::Resolved;
use crate::mib::Mib;
use crate::mib::format::{
    FileEntry, LabelRecord, ModuleRecord, NAME_SLOTS, NodeRecord, SECTIONS, SyntaxRecord, most_slots,
};
use crate::mib::room::{Ahead, Room};
use crate::mib::symbol::{NONE, NumberMap, Symbol};
use crate::mib::trie::Trie;
use crate::mib::workers;

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
    let left = Left::of(&old, given.before, &modules, given.left);
    let names = Names::of(link, given.before, &old, (&modules, &left), fresh);
    let vertices = VerticesNow::of(link, &old, fresh);
    let plan = Plan::of(link, &old, &modules, &vertices, &left, fresh);
    if plan.crowded {
        return Err(Failure::Whole("many nodes stand at one OID"));
    }
    if !plan.relink.is_empty() {
        return Err(Failure::Relink(plan.relink));
    }
    let types = SyntaxesNow::of(link, &old, &names, fresh);
    let paths: Vec<&str> = link.inputs.iter().map(assemble::path).collect();
    let words = Words::of(link, &names, &types, fresh);
    let most = most(link, &old, &plan, &paths, &words, fresh);
    let ahead = given.room.take().and_then(Ahead::ready);
    let mut room = Room::of(most, ahead).map_err(|_| NO_ROOM)?;
    let slots = room.sections(most).ok_or(NO_ROOM)?.name_slots;
    let now = nodes_now(&plan, &old, fresh);
    let mut splice = Splice {
        link,
        old,
        modules: &modules,
        names: &names,
        vertices,
        plan: &plan,
        now: &now,
        fresh,
        relink: BTreeSet::new(),
    };
    let ((references, indexed), numbering) = workers::both(
        || (splice.references(), splice.index_names(given.before, &left, slots)),
        || words.number(&plan, paths.len()),
    );
    if !splice.relink.is_empty() {
        given.room.set(Some(Ahead::of(room)));
        return Err(Failure::Relink(splice.relink));
    }
    // Of the sections before the table of names it was known from the beginning.
    let mut counts = most;
    counts[NAME_SLOTS..].copy_from_slice(&[
        indexed.slots,
        references.len(),
        numbering.types.count as usize,
        numbering.labels,
        numbering.words.count as usize,
        paths.iter().map(|path| path.len()).sum::<usize>() + numbering.text,
    ]);
    let nodes = fresh_nodes(link, &plan, &words, &numbering, fresh);
    let mut out = room.sections(counts).ok_or(NO_ROOM)?;
    let writing = Writing {
        plan: &plan,
        words: &words,
        numbering: &numbering,
        modules: &modules.staying,
        nodes: &now,
        fresh: &nodes,
        paths: &paths,
        references: &references,
    };
    writing.write(&mut out);
    for (node, next) in indexed.next {
        out.nodes[node as usize].next = next.into();
    }
    for ((entry, input), path) in out.files.iter_mut().zip(link.inputs).zip(0..) {
        *entry = FileEntry { directory: input.directory.into(), path: U32::new(path) };
    }
    put_modules(link, (&old, &modules), &words, &numbering, (fresh, out.modules));
    room.finish(counts).map_err(|_| NO_ROOM)
}

/// How many records there are at the most in each section; of files, modules, nodes and vertices so many there are.
fn most(
    link: &Link<'_>,
    old: &Old<'_>,
    plan: &Plan,
    paths: &[&str],
    words: &Words<'_>,
    fresh: &[Fresh],
) -> [usize; SECTIONS] {
    let (extra_words, extra_text) = words.extra();
    let extra_types = &words.types.extra;
    [
        link.inputs.len(),
        link.modules.len(),
        plan.node_count as usize,
        plan.vertex_count as usize,
        plan.vertex_count as usize,
        most_slots(old.names + fresh.len()),
        plan.reference_count as usize,
        old.syntaxes.len() + extra_types.len(),
        old.labels.len() + extra_types.iter().map(|(_, labels)| labels.len()).sum::<usize>(),
        paths.len() + old.ends.len() + extra_words,
        paths.iter().map(|path| path.len()).sum::<usize>() + old.text.len() + extra_text,
    ]
}

/// For each node of before and each new one its number.
fn nodes_now(plan: &Plan, old: &Old<'_>, fresh: &[Fresh]) -> Vec<u32> {
    let mut now = vec![NONE; old.nodes.len() + fresh.len()];
    for run in plan.node_runs.iter() {
        for (now, number) in now[run.old as usize..][..run.len as usize].iter_mut().zip(run.now..) {
            *now = number;
        }
    }
    for piece in &plan.nodes {
        if let Nodes::Fresh { fresh, .. } = piece.what {
            now[old.nodes.len() + fresh as usize] = piece.now;
        }
    }
    now
}

/// The new nodes, but for the next one of each one's name.
fn fresh_nodes(
    link: &Link<'_>,
    plan: &Plan,
    words: &Words<'_>,
    numbering: &Numbering,
    all: &[Fresh],
) -> Vec<NodeRecord> {
    let mut nodes = vec![NodeRecord::new_zeroed(); all.len()];
    for piece in &plan.nodes {
        if let Nodes::Fresh { fresh, kind, vertex } = piece.what {
            let at = fresh as usize;
            let entry = link.definitions[all[at].number as usize];
            let name = numbering.words.get(words.of_fresh[at]);
            let syntax = if kind.is_object() { numbering.types.get(words.types.of_fresh[at]) } else { NONE };
            let start = piece.references as usize;
            let mut node = assemble::node_record(entry, link.definition(entry), kind, [name, vertex, syntax]);
            node.references = assemble::stretch(start, start + all[at].references.len());
            nodes[at] = node;
        }
    }
    nodes
}

fn put_modules(
    link: &Link<'_>,
    (old, modules): (&Old<'_>, &ModulesNow),
    words: &Words<'_>,
    numbering: &Numbering,
    (fresh, out): (&[Fresh], &mut [ModuleRecord]),
) {
    let mut before: NumberMap<u32, u32> = NumberMap::default();
    for (&module, number) in modules.staying.iter().zip(0..) {
        before.insert(module, number);
    }
    let mut counts = vec![0u32; link.modules.len()];
    for fresh in fresh {
        counts[link.definitions[fresh.number as usize].module as usize] += 1;
    }
    for ((out, module), number) in out.iter_mut().zip(&link.modules).zip(0..) {
        let (line, last_updated, nodes) = match before.get(&number) {
            Some(&before) => {
                let before = &old.modules[before as usize];
                (before.line, before.last_updated, before.nodes)
            }
            None => {
                let record = &link.record(module.file).modules[module.index as usize];
                (record.line.into(), record.last_updated.into(), counts[number as usize].into())
            }
        };
        *out = ModuleRecord {
            name: numbering.words.get(words.of_modules[number as usize]).into(),
            file: module.file.into(),
            line,
            nodes,
            last_updated,
            superseded: (module.chosen != number).into(),
            anew: module.anew.into(),
        };
    }
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
    /// How many names there are.
    names: usize,
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
            names: names_in(layout.name_slots(octets)),
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

    /// The first node at a vertex or behind it.
    fn nodes_from(&self, vertex: u32) -> u32 {
        let vertices = self.trie.vertices.get(vertex as usize..).unwrap_or_default();
        let first = vertices.iter().map(|vertex| vertex.node.get()).find(|&node| node != NONE);
        first.unwrap_or(self.nodes.len() as u32)
    }

    fn labels_of(&self, syntax: &SyntaxRecord) -> &'a [LabelRecord] {
        let [start, len] = syntax.labels.map(|number| number.get() as usize);
        self.labels.get(start..start.saturating_add(len)).unwrap_or_default()
    }
}

/// How many names there are in a table of them.
fn names_in(slots: &[U32]) -> usize {
    let pieces: Vec<&[U32]> = slots.chunks(1 << 15).collect();
    let count = |(): &mut (), at: usize| pieces[at].iter().filter(|slot| slot.get() != NONE).count();
    workers::in_parallel(pieces.len(), || (), count).into_iter().sum()
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
    /// Whether a node of before is one of a file that is not linked.
    fn stays(&self, node: &NodeRecord) -> bool {
        self.staying.get(node.module.get() as usize).is_some_and(|&module| module != NONE)
    }

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

/// What finding the nodes of references and of names takes.
struct Splice<'a, 'l> {
    link: &'a Link<'l>,
    old: Old<'a>,
    modules: &'a ModulesNow,
    names: &'a Names<'a>,
    vertices: VerticesNow,
    plan: &'a Plan,
    /// For each node of before and each new one its number.
    now: &'a [u32],
    fresh: &'a [Fresh],
    /// Files whose nodes cannot stay as they are.
    relink: BTreeSet<u32>,
}
