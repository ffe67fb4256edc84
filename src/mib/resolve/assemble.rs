//! Makes what the flat [`Mib`](crate::mib::Mib) is written from: nodes in the order of the tree, types, references, the index of names.

use std::cmp::Reverse;
use std::collections::HashMap;

use zerocopy::IntoBytes as _;
use zerocopy::little_endian::U32;

use super::scope::Space;
use super::types::{self, Resolved};
use super::{DefinitionEntry, Input, Link, imports, oids};
use crate::diagnostic::Level;
use crate::mib::ast::{Definition, DefinitionKind};
use crate::mib::format::{
    AUGMENTS, FileEntry, LabelRecord, ModuleRecord, NodeRecord, PASSING, Parts, SyntaxRecord, checksum,
    fill_slots, most_slots,
};
use crate::mib::image::{ANONYMOUS, BaseType, IMPLIED, Kind, name_hash};
use crate::mib::symbol::{NONE, NumberMap, Symbol};
use crate::mib::trie::TrieBuilder;

pub(super) fn parts(link: &mut Link<'_>) -> Parts {
    let edges = std::mem::take(&mut link.vertices.edges);
    let named = link.places.iter().copied().filter(|&place| oids::is_vertex(place));
    let (mut trie, numbers) = TrieBuilder::build(&edges, named);
    drop(edges);
    let (order, node_of) = order(link, |vertex| numbers[vertex as usize]);
    let mut words = Words::new(link.names.len());
    let files = files(link, &mut words);
    let mut syntaxes = Syntaxes::default();
    let mut tables = vec![false; trie.vertices.len()];
    let mut rows = vec![false; trie.vertices.len()];
    let mut nodes = Vec::with_capacity(order.len());
    for &number in &order {
        let entry = link.definitions[number as usize];
        let definition = link.definition(entry);
        let vertex = numbers[link.places[number as usize] as usize];
        let mut kind = plain_kind(definition.kind);
        let mut syntax = NONE;
        if definition.kind == DefinitionKind::ObjectType {
            let resolved = types::resolve(link, entry.file, entry.module, definition);
            // Breadth-first: what is above has been seen.
            let above = trie.view().parent(vertex) as usize;
            kind = object_kind(definition, resolved, Above { table: tables[above], row: rows[above] });
            tables[vertex as usize] |= kind == Kind::Table;
            rows[vertex as usize] |= kind == Kind::Row;
            if kind.is_object()
                && let Some(resolved) = resolved
            {
                let units = link.word(entry.file, definition.units);
                syntax = syntaxes.add(link, &mut words, resolved, units);
            }
        }
        if trie.view().node(vertex).is_none() {
            trie.set_node(vertex, nodes.len() as u32);
        }
        let name = words.add(link, entry.name).get();
        nodes.push(node_record(entry, definition, kind, [name, vertex, syntax]));
    }
    let references = references(link, &order, &node_of, &mut nodes);
    imports::tell_unimported(link);
    let name_slots = index_names(link, &order, &node_of, &mut nodes);
    let modules = modules(link, &mut words, &nodes);
    let TrieBuilder { vertices, parents } = trie;
    Parts {
        files,
        modules,
        nodes,
        references,
        syntaxes: syntaxes.records,
        labels: syntaxes.labels,
        vertices,
        parents,
        name_slots,
        text_ends: words.ends,
        text: words.text,
    }
}

/// Which kinds of nodes stand at the vertex above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Above {
    pub(super) table: bool,
    pub(super) row: bool,
}

/// What an OBJECT-TYPE is, by its type and by what it stands below.
pub(super) fn object_kind(definition: &Definition, resolved: Option<Resolved>, above: Above) -> Kind {
    let is_row = definition.items.len > 0 || resolved.is_some_and(|r| r.base == BaseType::Sequence);
    if resolved.is_some_and(|resolved| resolved.is_table) {
        Kind::Table
    } else if is_row || above.table {
        Kind::Row
    } else if above.row {
        Kind::Column
    } else {
        Kind::Scalar
    }
}

/// A node but for its references and the next one of its name.
pub(super) fn node_record(
    entry: DefinitionEntry,
    definition: &Definition,
    kind: Kind,
    [name, vertex, syntax]: [u32; 3],
) -> NodeRecord {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    NodeRecord {
        name: name.into(),
        module: entry.module.into(),
        vertex: vertex.into(),
        syntax: syntax.into(),
        line: definition.line.into(),
        next: NONE.into(),
        references: [U32::new(0); 2],
        description: [definition.description.start.into(), definition.description.len.into()],
        kind: kind as u8,
        status: definition.status as u8,
        access: definition.access as u8,
        flags: flag(definition.augments, AUGMENTS)
            | flag(definition.kind == DefinitionKind::Passing, PASSING),
    }
}

/// The words of the compiled form: those that are used, numbered as they are met.
struct Words {
    /// By the symbols of the link, or [`NONE`].
    numbers: Vec<u32>,
    text: Vec<u8>,
    ends: Vec<U32>,
}

impl Words {
    fn new(symbols: usize) -> Self {
        Self { numbers: vec![NONE; symbols], text: Vec::new(), ends: Vec::new() }
    }

    fn add(&mut self, link: &Link<'_>, symbol: Symbol) -> U32 {
        let Some(number) = self.numbers.get_mut(symbol as usize) else {
            return NONE.into();
        };
        if *number == NONE {
            *number = self.ends.len() as u32;
            self.text.extend_from_slice(link.names.bytes_of(symbol));
            self.ends.push((self.text.len() as u32).into());
        }
        (*number).into()
    }

    /// A text that is no symbol.
    fn add_text(&mut self, text: &str) -> U32 {
        let number = self.ends.len() as u32;
        self.text.extend_from_slice(text.as_bytes());
        self.ends.push((self.text.len() as u32).into());
        number.into()
    }
}

/// The files by their directories, so that it does not matter where those lie.
fn files(link: &Link<'_>, words: &mut Words) -> Vec<FileEntry> {
    let entry = |input: &Input<'_>| FileEntry {
        directory: input.directory.into(),
        path: words.add_text(path(input)),
    };
    link.inputs.iter().map(entry).collect()
}

/// The path of a file below its directory.
pub(super) fn path<'a>(input: &'a Input<'_>) -> &'a str {
    input.path.get(input.relative as usize..).unwrap_or(&input.path)
}

pub(super) fn plain_kind(kind: DefinitionKind) -> Kind {
    match kind {
        DefinitionKind::ObjectType => Kind::Scalar,
        DefinitionKind::ObjectIdentity => Kind::Identity,
        DefinitionKind::ModuleIdentity => Kind::Module,
        DefinitionKind::Notification | DefinitionKind::Trap => Kind::Notification,
        DefinitionKind::Group => Kind::Group,
        DefinitionKind::Compliance => Kind::Compliance,
        DefinitionKind::Capabilities => Kind::Capabilities,
        DefinitionKind::ObjectIdentifier
        | DefinitionKind::Other
        | DefinitionKind::Passing
        | DefinitionKind::Type
        | DefinitionKind::TextualConvention => Kind::Node,
    }
}

/// At one vertex another version of a module is looked for among so many nodes.
pub(super) const VERSIONS_SEEN: usize = 64;

/// The definitions that become nodes, by vertex; at one vertex the preferred first. Of several versions of
/// one module only the best keeps its names there. With it for each definition the node that stands for it.
pub(super) fn order(link: &Link<'_>, numbered: impl Fn(u32) -> u32) -> (Vec<u32>, Vec<u32>) {
    let placed = (0..link.definitions.len() as u32).filter(|&at| {
        oids::is_vertex(link.places[at as usize]) && link.is_linked(link.definitions[at as usize].file)
    });
    // Vertex and preference in numbers; names are compared only where those are equal.
    let mut order: Vec<(u32, Preference, u32)> = placed
        .map(|at| {
            let vertex = numbered(link.places[at as usize]);
            (vertex, preference(link, link.definitions[at as usize]), at)
        })
        .collect();
    order.sort_unstable_by(|a, b| {
        (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| {
            let [x, y] = [a.2, b.2].map(|at| link.definitions[at as usize]);
            let modules = || link.module_name(x.module).cmp(link.module_name(y.module));
            let names = || link.names.text(x.name).cmp(link.names.text(y.name));
            modules().then_with(names).then(a.2.cmp(&b.2))
        })
    });
    // What was kept at this vertex: the chosen version of its module, the module, the node.
    let mut seen: Vec<(u32, u32, u32)> = Vec::new();
    let mut last = NONE;
    let mut kept = Vec::with_capacity(order.len());
    let mut node_of = vec![NONE; link.definitions.len()];
    for (vertex, _, definition) in order {
        let entry = link.definitions[definition as usize];
        let chosen = link.modules[entry.module as usize].chosen;
        if std::mem::replace(&mut last, vertex) != vertex {
            seen.clear();
        }
        let better = seen
            .iter()
            .take(VERSIONS_SEEN)
            .find(|&&(family, module, _)| family == chosen && module != entry.module);
        node_of[definition as usize] = match better {
            Some(&(_, _, node)) => node,
            None => {
                let node = kept.len() as u32;
                seen.push((chosen, entry.module, node));
                kept.push(definition);
                node
            }
        };
    }
    (kept, node_of)
}

/// The least goes first: of the chosen versions, objects and notifications, the core, the newest.
pub(super) type Preference = (bool, bool, bool, Reverse<u64>);

pub(super) fn preference(link: &Link<'_>, entry: DefinitionEntry) -> Preference {
    let kind = link.definition(entry).kind;
    let typed =
        matches!(kind, DefinitionKind::ObjectType | DefinitionKind::Notification | DefinitionKind::Trap);
    preference_of(link, entry.module, kind == DefinitionKind::Passing, typed)
}

pub(super) fn preference_of(link: &Link<'_>, number: u32, passing: bool, typed: bool) -> Preference {
    let module = &link.modules[number as usize];
    (module.chosen != number || passing, !typed, !module.core, Reverse(module.last_updated))
}

/// The types of all objects, equal ones once.
#[derive(Default)]
struct Syntaxes {
    records: Vec<SyntaxRecord>,
    labels: Vec<LabelRecord>,
    /// By the definition of the type or by the base, and the units: what most objects have, found without a look at
    /// the labels.
    known: NumberMap<(u32, u32), u32>,
    by_content: HashMap<(SyntaxHead, u64), u32>,
}

/// What a type says beside its labels, and how many of these it has.
pub(super) type SyntaxHead = [u8; size_of::<SyntaxRecord>()];

/// Of a record, wherever its labels lie.
pub(super) fn syntax_head(record: &SyntaxRecord) -> SyntaxHead {
    let mut head = *record;
    head.labels[0] = U32::new(0);
    let mut octets = [0; size_of::<SyntaxRecord>()];
    octets.copy_from_slice(head.as_bytes());
    octets
}

impl Syntaxes {
    fn add(&mut self, link: &Link<'_>, words: &mut Words, resolved: Resolved, units: u32) -> u32 {
        let next = self.records.len() as u32;
        let plain_base = resolved.convention == NONE
            && resolved.hint == NONE
            && resolved.size.is_none()
            && resolved.labels.1.len == 0;
        let key = match resolved.plain {
            NONE if plain_base => Some(NONE - 1 - resolved.base as u32),
            NONE => None,
            definition => Some(definition),
        };
        if let Some(key) = key
            && let Some(&known) = self.known.get(&(key, units))
        {
            return known;
        }
        let start = self.labels.len();
        let own = labels(link, resolved);
        self.labels.extend(
            own.iter()
                .map(|&(number, name)| LabelRecord { number: number.into(), name: words.add(link, name) }),
        );
        let mut word = |symbol| words.add(link, symbol).get();
        let [convention, hint, units_word] = [resolved.convention, resolved.hint, units].map(&mut word);
        let record = syntax_record(resolved, [convention, hint, units_word], [start, own.len()]);
        let content = checksum(self.labels[start..].as_bytes());
        let found = *self.by_content.entry((syntax_head(&record), content)).or_insert(next);
        if found == next {
            self.records.push(record);
        } else {
            self.labels.truncate(start);
        }
        if let Some(key) = key {
            self.known.insert((key, units), found);
        }
        found
    }
}

/// Those of a type, sorted by number; of several labels with one number the first stays.
pub(super) fn labels(link: &Link<'_>, resolved: Resolved) -> Vec<(i64, Symbol)> {
    let (file, span) = resolved.labels;
    let labels = span.of(&link.record(file).labels);
    let mut own: Vec<(i64, Symbol)> =
        labels.iter().map(|label| (label.number, link.word(file, label.name))).collect();
    own.sort_by_key(|&(number, _)| number);
    own.dedup_by_key(|&mut (number, _)| number);
    own
}

pub(super) fn syntax_record(
    resolved: Resolved,
    [convention, hint, units]: [u32; 3],
    labels: [usize; 2],
) -> SyntaxRecord {
    let (least, greatest) = resolved.size.unwrap_or_default();
    SyntaxRecord {
        convention: convention.into(),
        hint: hint.into(),
        units: units.into(),
        labels: labels.map(|number| U32::new(number as u32)),
        size: [least.into(), greatest.into()],
        has_size: resolved.size.is_some().into(),
        base: resolved.base as u8,
    }
}

fn references(link: &mut Link<'_>, order: &[u32], node_of: &[u32], nodes: &mut [NodeRecord]) -> Vec<U32> {
    let mut references: Vec<U32> = Vec::new();
    let mut own = Vec::new();
    for (node, &number) in order.iter().enumerate() {
        if link.definition(link.definitions[number as usize]).items.len == 0 {
            continue;
        }
        let start = references.len();
        refer(link, number, &mut own);
        references.extend(own.iter().map(|reference| match *reference {
            Reference::Definition { number, implied } => {
                U32::new(node_of[number as usize] | if implied { IMPLIED } else { 0 })
            }
            Reference::Anonymous => ANONYMOUS.into(),
        }));
        nodes[node].references = stretch(start, references.len());
    }
    references.shrink_to_fit();
    references
}

/// Of references, from where to where; nothing is nowhere.
pub(super) fn stretch(start: usize, end: usize) -> [U32; 2] {
    if start == end { [U32::new(0); 2] } else { [start as u32, (end - start) as u32].map(U32::new) }
}

/// What a row's INDEX or AUGMENTS, or a notification's OBJECTS name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reference {
    /// A definition that has an OID.
    Definition {
        number: u32,
        implied: bool,
    },
    Anonymous,
}

/// Finds what a definition's items name, and tells those that name nothing.
pub(super) fn refer(link: &mut Link<'_>, number: u32, found: &mut Vec<Reference>) {
    found.clear();
    let entry = link.definitions[number as usize];
    let definition = link.definition(entry);
    let is_index = plain_kind(definition.kind) != Kind::Notification;
    for item in definition.items.of(&link.record(entry.file).items) {
        let name = link.word(entry.file, item.name);
        let named = link.find(entry.module, Space::Value, name);
        match named.filter(|&named| oids::is_vertex(oids::place(link, named))) {
            Some(number) => found.push(Reference::Definition { number, implied: item.implied }),
            None if is_index && !definition.augments && names_a_number(item.name) => {
                found.push(Reference::Anonymous);
            }
            None => {
                let word = link.names.text(name).to_owned();
                let user = link.names.text(entry.name).to_owned();
                let (clause, help) = match (is_index, definition.augments) {
                    (false, _) => ("among its objects", "that object is left out"),
                    (true, false) => ("in its INDEX", "its instances are shown as numbers"),
                    (true, true) => ("to augment", "its instances are shown as numbers"),
                };
                let message = format!("{user} has {word} {clause}, which no module defines");
                let at = (item.at, word.len());
                link.problem(entry.file, Level::Warning, "mib-unknown-object", at, message, Some(help));
                if is_index {
                    // Without one part the others cannot be told apart.
                    found.clear();
                    break;
                }
            }
        }
    }
}

/// `INDEX { INTEGER }`, as some SMIv1 modules have it.
fn names_a_number(item: u32) -> bool {
    matches!(
        types::base_named(item),
        Some(BaseType::Integer | BaseType::Unsigned32 | BaseType::Counter32 | BaseType::TimeTicks)
    )
}

/// The table from names to nodes. Nodes of one name are chained in the order of their definitions, which
/// is that of the modules' rank.
fn index_names(link: &Link<'_>, order: &[u32], node_of: &[u32], nodes: &mut [NodeRecord]) -> Vec<U32> {
    let mut first = vec![NONE; link.names.len()];
    let mut distinct = 0;
    for (number, &node) in node_of.iter().enumerate().rev() {
        if node != NONE && order[node as usize] == number as u32 {
            let name = link.definitions[number].name as usize;
            distinct += usize::from(first[name] == NONE);
            nodes[node as usize].next = std::mem::replace(&mut first[name], node).into();
        }
    }
    let mut heads: Vec<(u64, u32)> = Vec::with_capacity(distinct);
    for &number in order {
        let name = link.definitions[number as usize].name;
        let node = std::mem::replace(&mut first[name as usize], NONE);
        if node != NONE {
            heads.push((name_hash(link.names.text(name)), node));
        }
    }
    let name = |node: u32| link.names.bytes_of(link.definitions[order[node as usize] as usize].name);
    heads.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(name(b.1))));
    let mut slots = vec![U32::new(NONE); most_slots(distinct)];
    let used = fill_slots(&mut slots, distinct, heads.into_iter());
    slots.truncate(used);
    slots
}

fn modules(link: &Link<'_>, words: &mut Words, nodes: &[NodeRecord]) -> Vec<ModuleRecord> {
    let mut counts = vec![0u32; link.modules.len()];
    for node in nodes {
        counts[node.module.get() as usize] += 1;
    }
    let all = link.modules.iter().zip(counts).enumerate();
    all.map(|(number, (module, nodes))| {
        let record = &link.record(module.file).modules[module.index as usize];
        ModuleRecord {
            name: words.add(link, module.name),
            file: module.file.into(),
            line: record.line.into(),
            nodes: nodes.into(),
            last_updated: record.last_updated.into(),
            superseded: (module.chosen != number as u32).into(),
            anew: module.anew.into(),
        }
    })
    .collect()
}
