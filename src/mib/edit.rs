//! The short way of an edit that leaves every name, OID and type as it was: comments, descriptions, lines, STATUS and
//! ACCESS. It changes those in a copy of the image, and everything else stays.
//!
//! Whatever is in doubt goes the whole way: this one has to come to the very octets and problems of that.

use std::collections::HashMap;
use std::sync::Arc;

use super::Mib;
use super::ast::{Definition, FileRecord, Import, Item, Label, Module, Part, Problem, Type};
use super::collection::{Collection, Kept, same};
use super::image::{NodeEdit, NodeId};
use super::symbol::Symbol;

/// More files than these are no edit.
const MOST_FILES: usize = 64;
/// Tells a line in its words.
const TELLS_A_LINE: &str = "mib-defined-twice";

/// What `files` compile to, which are those of `before` with other contents. `None` where that has to be found out
/// the whole way. What linking has to tell of each is set.
pub(super) fn edited(before: &Collection, files: &mut [Kept]) -> Option<Arc<Mib>> {
    let differ = |&at: &usize| !same(&files[at].parsed, &before.files[at].parsed);
    let changed: Vec<usize> = (0..files.len()).filter(differ).take(MOST_FILES + 1).collect();
    if changed.len() > MOST_FILES {
        return None;
    }
    let (mut nodes, mut modules, mut linking) = (Vec::new(), Vec::new(), Vec::new());
    for &at in &changed {
        let kept = &before.files[at];
        let (old, new) = (kept.parsed.record()?, files[at].parsed.record()?);
        let both = Both { old: &old, new: &new };
        if !both.mean_the_same() || kept.linking.iter().any(|problem| problem.code == TELLS_A_LINE) {
            return None;
        }
        both.edits(&before.mib, at as u32, &mut nodes, &mut modules)?;
        linking.push(both.moved(&kept.linking)?);
    }
    let mib = if nodes.is_empty() && modules.is_empty() {
        Arc::clone(&before.mib)
    } else {
        Arc::new(before.mib.edited(&nodes, &modules)?)
    };
    for (file, old) in files.iter_mut().zip(&before.files) {
        file.linking = Arc::clone(&old.linking);
    }
    for (at, linking) in changed.into_iter().zip(linking) {
        files[at].linking = linking;
    }
    Some(mib)
}

fn alike<T>(old: &[T], new: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same(a, b))
}

/// A file's record before and after.
#[derive(Clone, Copy)]
struct Both<'a> {
    old: &'a FileRecord,
    new: &'a FileRecord,
}

impl Both<'_> {
    fn word(&self, old: Symbol, new: Symbol) -> bool {
        self.old.symbols.bytes_of(old) == self.new.symbols.bytes_of(new)
    }

    /// Whether linking meets the same modules, imports and definitions in the same order.
    fn mean_the_same(&self) -> bool {
        let Self { old, new } = self;
        let rest = |module: &Module| (module.last_updated, module.definitions, module.imports);
        alike(&old.modules, &new.modules, |a, b| self.word(a.name, b.name) && rest(a) == rest(b))
            && alike(&old.imports, &new.imports, |a, b| self.import(a, b))
            && alike(&old.definitions, &new.definitions, |a, b| self.definition(a, b))
    }

    fn import(&self, a: &Import, b: &Import) -> bool {
        self.word(a.name, b.name) && self.word(a.module, b.module)
    }

    fn definition(&self, a: &Definition, b: &Definition) -> bool {
        let Self { old, new } = self;
        let syntax = match (old.types.get(a.syntax as usize), new.types.get(b.syntax as usize)) {
            (None, None) => true,
            (Some(a), Some(b)) => self.syntax(a, b),
            _ => false,
        };
        syntax
            && (a.kind, a.augments, a.number) == (b.kind, b.augments, b.number)
            && self.word(a.name, b.name)
            && self.word(a.units, b.units)
            && alike(a.oid.of(&old.parts), b.oid.of(&new.parts), |a, b| self.part(a, b))
            && alike(a.items.of(&old.items), b.items.of(&new.items), |a, b| self.item(a, b))
    }

    fn part(&self, a: &Part, b: &Part) -> bool {
        a.number == b.number && self.word(a.name, b.name)
    }

    fn item(&self, a: &Item, b: &Item) -> bool {
        a.implied == b.implied && self.word(a.name, b.name)
    }

    fn syntax(&self, a: &Type, b: &Type) -> bool {
        let label = |a: &Label, b: &Label| a.number == b.number && self.word(a.name, b.name);
        (a.shape, a.size) == (b.shape, b.size)
            && self.word(a.name, b.name)
            && self.word(a.hint, b.hint)
            && alike(a.labels.of(&self.old.labels), b.labels.of(&self.new.labels), label)
    }

    /// What differs of the nodes and modules of the file with this number. `None` where a node cannot be told from
    /// another.
    fn edits(
        &self,
        mib: &Mib,
        file: u32,
        nodes: &mut Vec<(NodeId, NodeEdit)>,
        modules: &mut Vec<(u32, u32)>,
    ) -> Option<()> {
        let own: Vec<(u32, &str)> = mib.modules_of(file).collect();
        for (number, (old, new)) in self.old.modules.iter().zip(&self.new.modules).enumerate() {
            let name = self.old.symbols.text(old.name);
            // One of a name, or its nodes could be the other one's.
            if self.old.modules.iter().enumerate().any(|(other, module)| {
                other != number && self.old.symbols.bytes_of(module.name) == name.as_bytes()
            }) {
                return None;
            }
            let numbers: Vec<u32> =
                own.iter().filter(|(_, module)| *module == name).map(|&(number, _)| number).collect();
            if old.line != new.line {
                modules.extend(numbers.iter().map(|&number| (number, new.line)));
            }
            let definitions = old.definitions.of(&self.old.definitions);
            for (a, b) in definitions.iter().zip(new.definitions.of(&self.new.definitions)) {
                let (before, after) = (edit_of(a), edit_of(b));
                if before == after {
                    continue;
                }
                let name = self.old.symbols.text(a.name);
                let found = nodes.len();
                nodes.extend(
                    mib.named(name)
                        .filter(|&node| numbers.contains(&mib.module_of(node)))
                        .map(|node| (node, after)),
                );
                // Others of this name in the module would have been told as defined twice, or stand for something
                // that has no node.
                if nodes[found..].iter().any(|&(node, _)| mib.edit_of(node) != before) {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Problems of linking at the places that their words have now. `None` where one stands elsewhere.
    fn moved(&self, problems: &Arc<[Problem]>) -> Option<Arc<[Problem]>> {
        if problems.is_empty() {
            return Some(Arc::clone(problems));
        }
        let Self { old, new } = self;
        let mut places = HashMap::new();
        places.extend(old.modules.iter().zip(&new.modules).map(|(a, b)| (a.at, b.at)));
        places.extend(old.imports.iter().zip(&new.imports).map(|(a, b)| (a.at, b.at)));
        for (a, b) in old.definitions.iter().zip(&new.definitions) {
            places.insert(a.at, b.at);
            let items = a.items.of(&old.items).iter().zip(b.items.of(&new.items));
            places.extend(items.map(|(a, b)| (a.at, b.at)));
        }
        let moved = problems.iter().map(|problem| {
            let start = *places.get(&problem.start)?;
            let end = start + problem.end.saturating_sub(problem.start);
            Some(Problem { start, end, ..problem.clone() })
        });
        moved.collect()
    }
}

fn edit_of(definition: &Definition) -> NodeEdit {
    NodeEdit {
        line: definition.line,
        description: [definition.description.start, definition.description.len],
        status: definition.status,
        access: definition.access,
    }
}
