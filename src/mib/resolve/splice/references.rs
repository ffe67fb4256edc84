//! What the nodes of an image refer to.

use std::collections::HashMap;
use std::ops::Range;

use zerocopy::little_endian::U32;

use super::super::DefinitionEntry;
use super::super::assemble::Reference;
use super::Splice;
use super::plan::Nodes;
use crate::mib::image::{ANONYMOUS, IMPLIED};
use crate::mib::symbol::NONE;

impl Splice<'_, '_> {
    /// What the nodes refer to, one after the other.
    pub(super) fn references(&mut self) -> Vec<U32> {
        let by_number: HashMap<u32, u32> =
            self.fresh.iter().map(|fresh| fresh.number).zip(self.old.nodes.len() as u32..).collect();
        let by_name = self.fresh_by_name();
        let plan = self.plan;
        let mut all = Vec::with_capacity(plan.reference_count as usize);
        for piece in &plan.nodes {
            match &piece.what {
                Nodes::Fresh { fresh, .. } => {
                    for reference in &self.fresh[*fresh as usize].references {
                        let reference = match *reference {
                            Reference::Anonymous => ANONYMOUS,
                            Reference::Definition { number, implied } => {
                                let found = match by_number.get(&number) {
                                    Some(&fresh) => self.now[fresh as usize],
                                    None => self.node_of_context(number),
                                };
                                found | if implied { IMPLIED } else { 0 }
                            }
                        };
                        all.push(reference.into());
                    }
                }
                Nodes::Stay { old, references } => {
                    // References follow each other as their nodes do.
                    let mut nodes = old.clone();
                    for at in references.clone() {
                        let reference = self.old.references[at as usize].get();
                        let (target, implied) = (reference & !IMPLIED, reference & IMPLIED);
                        let found = match self.now.get(target as usize) {
                            _ if target == ANONYMOUS => target,
                            Some(&NONE) | None => self.again(target, &by_name).unwrap_or_else(|| {
                                self.relink_who_refers(&mut nodes, at);
                                0
                            }),
                            Some(&found) => found,
                        };
                        all.push((found | implied).into());
                    }
                }
            }
        }
        all
    }

    /// The first of `nodes` whose reference this one was cannot stay as it is; those before it are passed.
    fn relink_who_refers(&mut self, nodes: &mut Range<u32>, reference: u32) {
        for node in nodes.clone() {
            let record = &self.old.nodes[node as usize];
            let [first, len] = record.references.map(U32::get);
            if (first..first.saturating_add(len)).contains(&reference) {
                let module = self.modules.staying[record.module.get() as usize];
                self.relink.insert(self.link.modules[module as usize].file);
                // It may have another one.
                nodes.start = node;
                return;
            }
        }
    }

    /// The new nodes by module and name; [`NONE`] for several of one.
    fn fresh_by_name(&self) -> HashMap<(u32, u32), u32> {
        let mut by_name = HashMap::new();
        for (fresh, source) in self.fresh.iter().zip(self.old.nodes.len()..) {
            let entry = self.link.definitions[fresh.number as usize];
            by_name
                .entry((entry.module, self.names.symbol(entry.name)))
                .and_modify(|node| *node = NONE)
                .or_insert(self.now[source]);
        }
        by_name
    }

    /// The new node that stands for one of before that was linked again; `None` where that is not sure.
    fn again(&self, node: u32, by_name: &HashMap<(u32, u32), u32>) -> Option<u32> {
        let record = self.old.nodes.get(node as usize)?;
        let module = self.modules.same[record.module.get() as usize];
        let entry = self.link.modules.get(module as usize)?;
        // It may have stood for a definition of another version.
        if self.modules.several.contains(&entry.name) {
            return None;
        }
        by_name.get(&(module, record.name.get())).copied().filter(|&node| node != NONE)
    }

    /// The node of a definition in a file that stays as it is.
    fn node_of_context(&mut self, number: u32) -> u32 {
        let entry = self.link.definitions[number as usize];
        let place = self.link.places[number as usize];
        let vertex = self.vertices.find(self.link, &self.old, place);
        let found = self.node_at(vertex, entry);
        match found.map(|node| self.now[node]) {
            Some(now) if now != NONE => now,
            // It would be there, were the image of before that of the files of before.
            _ => {
                self.relink.insert(entry.file);
                0
            }
        }
    }

    fn node_at(&self, vertex: u32, entry: DefinitionEntry) -> Option<usize> {
        if self.vertices.is_new(vertex) {
            return None;
        }
        let here = self.old.nodes_at(vertex);
        let module_of = |node: usize| self.modules.staying[self.old.nodes[node].module.get() as usize];
        let line = self.link.definition(entry).line;
        let name = self.link.names.bytes_of(entry.name);
        let itself = here.clone().find(|&node| {
            let record = &self.old.nodes[node];
            module_of(node) == entry.module
                && record.line.get() == line
                && self.old.word(record.name.get()) == name
        });
        let chosen = self.link.modules[entry.module as usize].chosen;
        itself.or_else(|| {
            here.clone().find(|&node| {
                let module = module_of(node);
                module != NONE
                    && module != entry.module
                    && self.link.modules[module as usize].chosen == chosen
            })
        })
    }
}
