//! Makes what the flat [`Mib`](crate::mib::Mib) is written from: nodes in the order of the tree, types, references, the index of names.

use std::cmp::Reverse;

use zerocopy::little_endian::U32;

use super::scope::Space;
use super::types::{self, Resolved};
use super::{DefinitionEntry, Input, Link, imports, oids};
use crate::diagnostic::Level;
use crate::mib::ast::{DefinitionKind, Span};
use crate::mib::format::{FileEntry, LabelRecord, ModuleRecord, NodeRecord, Parts, SyntaxRecord};
use crate::mib::image::{ANONYMOUS, BaseType, IMPLIED, Kind, name_hash};
use crate::mib::symbol::{NONE, NumberMap, Symbol};
use crate::mib::trie::TrieBuilder;

pub(super) fn parts(link: &mut Link<'_>) -> Parts {
    let edges = std::mem::take(&mut link.vertices.edges);
    let (mut trie, numbers) = TrieBuilder::build(&edges);
    drop(edges);
    let (order, node_of) = order(link, &numbers);
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
            let is_row = definition.items.len > 0 || resolved.is_some_and(|r| r.base == BaseType::Sequence);
            // Breadth-first: what is above has been seen.
            let above = trie.view().parent(vertex) as usize;
            if resolved.is_some_and(|resolved| resolved.is_table) {
                tables[vertex as usize] = true;
                kind = Kind::Table;
            } else if is_row || tables[above] {
                rows[vertex as usize] = true;
                kind = Kind::Row;
            } else {
                if rows[above] {
                    kind = Kind::Column;
                }
                if let Some(resolved) = resolved {
                    let units = link.word(entry.file, definition.units);
                    syntax = syntaxes.add(link, &mut words, resolved, units);
                }
            }
        }
        if trie.view().node(vertex).is_none() {
            trie.set_node(vertex, nodes.len() as u32);
        }
        let zero = U32::new(0);
        nodes.push(NodeRecord {
            name: words.add(link, entry.name),
            module: entry.module.into(),
            vertex: vertex.into(),
            syntax: syntax.into(),
            line: definition.line.into(),
            next: NONE.into(),
            references: [zero; 2],
            description: [definition.description.start.into(), definition.description.len.into()],
            kind: kind as u8,
            status: definition.status as u8,
            access: definition.access as u8,
            augments: definition.augments.into(),
        });
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
        path: words.add_text(input.path.get(input.relative as usize..).unwrap_or(&input.path)),
    };
    link.inputs.iter().map(entry).collect()
}

fn plain_kind(kind: DefinitionKind) -> Kind {
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

/// The definitions that become nodes, by vertex; at one vertex the preferred first. Of several versions of
/// one module only the best keeps its names there. With it for each definition the node that stands for it.
fn order(link: &Link<'_>, numbers: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let placed = (0..link.definitions.len() as u32).filter(|&at| oids::is_vertex(link.places[at as usize]));
    // Vertex and preference in numbers; names are compared only where those are equal.
    let mut order: Vec<(u32, Preference, u32)> = placed
        .map(|at| {
            let vertex = numbers[link.places[at as usize] as usize];
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
        let better =
            seen.iter().take(64).find(|&&(family, module, _)| family == chosen && module != entry.module);
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
type Preference = (bool, bool, bool, Reverse<u64>);

fn preference(link: &Link<'_>, entry: DefinitionEntry) -> Preference {
    let module = &link.modules[entry.module as usize];
    let kind = link.definition(entry).kind;
    let old = module.chosen != entry.module || kind == DefinitionKind::Passing;
    let typed =
        matches!(kind, DefinitionKind::ObjectType | DefinitionKind::Notification | DefinitionKind::Trap);
    (old, !typed, !module.core, Reverse(module.last_updated))
}

/// The types of all objects, equal ones once as far as that is cheap to tell.
#[derive(Default)]
struct Syntaxes {
    records: Vec<SyntaxRecord>,
    labels: Vec<LabelRecord>,
    /// By the definition of the type or by the base, and the units.
    known: NumberMap<(u32, u32), u32>,
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
        if let Some(key) = key {
            let known = *self.known.entry((key, units)).or_insert(next);
            if known != next {
                return known;
            }
        }
        let (file, span) = resolved.labels;
        let labels = self.add_labels(link, words, file, span);
        let (least, greatest) = resolved.size.unwrap_or_default();
        self.records.push(SyntaxRecord {
            convention: words.add(link, resolved.convention),
            hint: words.add(link, resolved.hint),
            units: words.add(link, units),
            labels,
            size: [least.into(), greatest.into()],
            has_size: resolved.size.is_some().into(),
            base: resolved.base as u8,
        });
        next
    }

    /// Sorted by number; of several labels with one number the first stays.
    fn add_labels(&mut self, link: &Link<'_>, words: &mut Words, file: u32, span: Span) -> [U32; 2] {
        let start = self.labels.len();
        let labels = span.of(&link.record(file).labels);
        let mut own: Vec<(i64, Symbol)> =
            labels.iter().map(|label| (label.number, link.word(file, label.name))).collect();
        own.sort_by_key(|&(number, _)| number);
        own.dedup_by_key(|&mut (number, _)| number);
        self.labels.extend(
            own.iter()
                .map(|&(number, name)| LabelRecord { number: number.into(), name: words.add(link, name) }),
        );
        [(start as u32).into(), (own.len() as u32).into()]
    }
}

fn references(link: &mut Link<'_>, order: &[u32], node_of: &[u32], nodes: &mut [NodeRecord]) -> Vec<U32> {
    let mut references: Vec<U32> = Vec::new();
    for (node, &number) in order.iter().enumerate() {
        let entry = link.definitions[number as usize];
        let definition = link.definition(entry);
        if definition.items.len == 0 {
            continue;
        }
        let start = references.len();
        let is_index = Kind::from_octet(nodes[node].kind) != Kind::Notification;
        for item in definition.items.of(&link.record(entry.file).items) {
            let name = link.word(entry.file, item.name);
            let found = link.find(entry.module, Space::Value, name).map(|found| node_of[found as usize]);
            let implied = if item.implied { IMPLIED } else { 0 };
            match found.filter(|&found| found != NONE) {
                Some(found) => references.push((found | implied).into()),
                None if is_index && !definition.augments && names_a_number(item.name) => {
                    references.push(ANONYMOUS.into());
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
                        references.truncate(start);
                        break;
                    }
                }
            }
        }
        nodes[node].references = [(start as u32).into(), ((references.len() - start) as u32).into()];
    }
    references.shrink_to_fit();
    references
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
    let mut slots = vec![U32::new(NONE); (distinct * 2).max(8).next_power_of_two()];
    let mask = slots.len() - 1;
    for &number in order {
        let name = link.definitions[number as usize].name;
        let node = std::mem::replace(&mut first[name as usize], NONE);
        if node != NONE {
            let mut at = name_hash(link.names.text(name)) as usize & mask;
            while slots[at].get() != NONE {
                at = (at + 1) & mask;
            }
            slots[at] = node.into();
        }
    }
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
