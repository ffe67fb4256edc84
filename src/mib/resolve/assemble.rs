//! Writes the flat [`Mib`]: nodes in the order of the tree, types, references, the index of names.

use std::cmp::Reverse;
use std::sync::Arc;

use super::scope::Space;
use super::types::{self, Resolved};
use super::{DefinitionEntry, Link, imports, oids};
use crate::diagnostic::Level;
use crate::mib::Mib;
use crate::mib::ast::{DefinitionKind, Span};
use crate::mib::image::{
    ANONYMOUS, BaseType, IMPLIED, Kind, LabelRecord, ModuleRecord, NodeRecord, SyntaxRecord, name_hash,
};
use crate::mib::symbol::{NONE, NumberMap, Symbols};
use crate::mib::trie::Trie;

pub(super) fn mib(link: &mut Link<'_>) -> Mib {
    let edges = std::mem::take(&mut link.vertices.edges);
    let (mut trie, numbers) = Trie::build(&edges);
    drop(edges);
    let (order, node_of) = order(link, &numbers);
    let mut syntaxes = Syntaxes::default();
    let mut tables = vec![false; trie.len()];
    let mut rows = vec![false; trie.len()];
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
            let above = trie.parent(vertex) as usize;
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
                    syntax = syntaxes.add(link, resolved, link.word(entry.file, definition.units));
                }
            }
        }
        if trie.node(vertex).is_none() {
            trie.set_node(vertex, nodes.len() as u32);
        }
        nodes.push(NodeRecord {
            name: entry.name,
            module: entry.module,
            vertex,
            syntax,
            line: definition.line,
            next: NONE,
            references: (0, 0),
            description: (definition.description.start, definition.description.len),
            kind,
            status: definition.status,
            access: definition.access,
            augments: definition.augments,
        });
    }
    let references = references(link, &order, &node_of, &mut nodes);
    imports::tell_unimported(link);
    let name_slots = index_names(link, &order, &node_of, &mut nodes);
    let modules = modules(link, &nodes);
    let names = std::mem::replace(&mut link.names, Symbols::with_capacity(0));
    let (bytes, text_ends) = names.into_parts();
    let mut mib = Mib {
        text: String::from_utf8(bytes).unwrap_or_default(),
        text_ends,
        files: link.inputs.iter().map(|input| Arc::clone(&input.path)).collect(),
        modules,
        nodes,
        references,
        syntaxes: syntaxes.records,
        labels: syntaxes.labels,
        trie,
        name_slots,
    };
    mib.syntaxes.shrink_to_fit();
    mib.labels.shrink_to_fit();
    mib
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
    fn add(&mut self, link: &Link<'_>, resolved: Resolved, units: u32) -> u32 {
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
        let labels = self.add_labels(link, file, span);
        self.records.push(SyntaxRecord {
            base: resolved.base,
            convention: resolved.convention,
            hint: resolved.hint,
            units,
            labels,
            size: resolved.size,
        });
        next
    }

    /// Sorted by number; of several labels with one number the first stays.
    fn add_labels(&mut self, link: &Link<'_>, file: u32, span: Span) -> (u32, u32) {
        let start = self.labels.len();
        let labels = span.of(&link.record(file).labels);
        self.labels.extend(
            labels
                .iter()
                .map(|label| LabelRecord { number: label.number, name: link.word(file, label.name) }),
        );
        let mut own = self.labels.split_off(start);
        own.sort_by_key(|label| label.number);
        own.dedup_by_key(|label| label.number);
        self.labels.append(&mut own);
        (start as u32, (self.labels.len() - start) as u32)
    }
}

fn references(link: &mut Link<'_>, order: &[u32], node_of: &[u32], nodes: &mut [NodeRecord]) -> Vec<u32> {
    let mut references = Vec::new();
    for (node, &number) in order.iter().enumerate() {
        let entry = link.definitions[number as usize];
        let definition = link.definition(entry);
        if definition.items.len == 0 {
            continue;
        }
        let start = references.len();
        let is_index = nodes[node].kind != Kind::Notification;
        for item in definition.items.of(&link.record(entry.file).items) {
            let name = link.word(entry.file, item.name);
            let found = link.find(entry.module, Space::Value, name).map(|found| node_of[found as usize]);
            let implied = if item.implied { IMPLIED } else { 0 };
            match found.filter(|&found| found != NONE) {
                Some(found) => references.push(found | implied),
                None if is_index && !definition.augments && names_a_number(item.name) => {
                    references.push(ANONYMOUS);
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
        nodes[node].references = (start as u32, (references.len() - start) as u32);
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
fn index_names(link: &Link<'_>, order: &[u32], node_of: &[u32], nodes: &mut [NodeRecord]) -> Vec<u32> {
    let mut first = vec![NONE; link.names.len()];
    let mut distinct = 0;
    for (number, &node) in node_of.iter().enumerate().rev() {
        if node != NONE && order[node as usize] == number as u32 {
            let name = link.definitions[number].name as usize;
            distinct += usize::from(first[name] == NONE);
            nodes[node as usize].next = std::mem::replace(&mut first[name], node);
        }
    }
    let mut slots = vec![NONE; (distinct * 2).max(8).next_power_of_two()];
    let mask = slots.len() - 1;
    for &number in order {
        let name = link.definitions[number as usize].name;
        let node = std::mem::replace(&mut first[name as usize], NONE);
        if node != NONE {
            let mut at = name_hash(link.names.text(name)) as usize & mask;
            while slots[at] != NONE {
                at = (at + 1) & mask;
            }
            slots[at] = node;
        }
    }
    slots
}

fn modules(link: &Link<'_>, nodes: &[NodeRecord]) -> Vec<ModuleRecord> {
    let mut modules: Vec<ModuleRecord> = link
        .modules
        .iter()
        .enumerate()
        .map(|(number, module)| {
            let record = &link.record(module.file).modules[module.index as usize];
            let (name, file) = (module.name, module.file);
            ModuleRecord {
                name,
                file,
                line: record.line,
                last_updated: record.last_updated,
                nodes: 0,
                superseded: module.chosen != number as u32,
                anew: module.anew,
            }
        })
        .collect();
    for node in nodes {
        modules[node.module as usize].nodes += 1;
    }
    modules
}
