//! What is known of a node, a module, a type: borrowed from the [`Mib`], read where it lies.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::ast::{Access, Status};
use super::format::{LabelRecord, ModuleRecord, NodeRecord, SyntaxRecord};
use super::image::{ANONYMOUS, BaseType, IMPLIED, Kind, Mib, ModuleId, NodeId};
use crate::oid::{MAX_ARCS, Oid, OidArray};
use zerocopy::little_endian::U32;

impl Mib {
    /// What is known of a node.
    ///
    /// # Panics
    /// When `id` comes from another [`Mib`] that has more nodes.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Node<'_> {
        Node { mib: self, id, record: &self.node_records()[id.0 as usize] }
    }

    /// All nodes, in the order of the tree's levels.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Node<'_>> {
        (0..self.node_records().len() as u32).map(|at| self.node(NodeId(at)))
    }

    /// All modules, with the versions that were not chosen, in the order of their files.
    pub fn modules(&self) -> impl Iterator<Item = Module<'_>> {
        let all = self.layout.modules(&self.octets).iter().enumerate().filter(|(_, record)| record.anew == 0);
        all.map(|(at, record)| Module { mib: self, id: ModuleId(at as u32), record })
    }

    /// The nodes right below `node`, by arc; where several have one OID, the best.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = Node<'_>> {
        let trie = self.trie();
        let below = trie.children(self.vertex(node));
        below.filter_map(move |child| trie.node(child)).map(|at| self.node(NodeId(at)))
    }
}

/// A node and what is known of it. Copy: a borrow of the [`Mib`].
#[derive(Clone, Copy)]
pub struct Node<'a> {
    mib: &'a Mib,
    id: NodeId,
    record: &'a NodeRecord,
}

impl<'a> Node<'a> {
    /// Its number.
    #[must_use]
    pub fn id(self) -> NodeId {
        self.id
    }

    /// Its name, without the module.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.mib.word(self.record.name.get())
    }

    /// The module that defines it.
    #[must_use]
    pub fn module(self) -> Module<'a> {
        let number = self.record.module.get();
        let record = &self.mib.layout.modules(&self.mib.octets)[number as usize];
        Module { mib: self.mib, id: ModuleId(number), record }
    }

    /// `MODULE::name`.
    #[must_use]
    pub fn qualified_name(self) -> String {
        format!("{}::{}", self.module().name(), self.name())
    }

    /// Its OID. Walks up the tree; allocates.
    #[must_use]
    pub fn oid(self) -> Oid {
        let mut arcs = OidArray::default();
        self.oid_into(&mut arcs);
        // A node has 1 to 128 arcs: it is never the root, and `oid_into` bounds them.
        Oid::new(arcs.arcs()).expect("a node lies below the root and within the bound")
    }

    /// Its OID, without allocating. `into` is emptied before.
    pub fn oid_into(self, into: &mut OidArray) {
        let mut reversed = [0; MAX_ARCS];
        let mut len = 0;
        let trie = self.mib.trie();
        let mut at = self.record.vertex.get();
        while at != 0 && len < MAX_ARCS {
            reversed[len] = trie.arc(at);
            len += 1;
            at = trie.parent(at);
        }
        into.clear();
        // At most MAX_ARCS, as the loop bounds.
        let _ = into.extend(reversed[..len].iter().rev().copied());
    }

    /// What it is.
    #[must_use]
    pub fn kind(self) -> Kind {
        Kind::from_octet(self.record.kind)
    }

    /// STATUS.
    #[must_use]
    pub fn status(self) -> Status {
        Status::from_octet(self.record.status)
    }

    /// MAX-ACCESS or ACCESS.
    #[must_use]
    pub fn access(self) -> Access {
        Access::from_octet(self.record.access)
    }

    /// The type of an object's values; `None` for what has none.
    #[must_use]
    pub fn syntax(self) -> Option<Syntax<'a>> {
        let record = self.mib.layout.syntaxes(&self.mib.octets).get(self.record.syntax.get() as usize)?;
        Some(Syntax { mib: self.mib, record })
    }

    /// The file that defines it.
    #[must_use]
    pub fn file(self) -> &'a Arc<str> {
        self.module().file()
    }

    /// The line of its definition, from 1; 0 for what is built in.
    #[must_use]
    pub fn line(self) -> u32 {
        self.record.line.get()
    }

    /// The octets of DESCRIPTION in the file, as it was when it was compiled: start and length. `None` without.
    #[must_use]
    pub fn description(self) -> Option<Range<usize>> {
        let [start, len] = self.record.description.map(|number| number.get() as usize);
        (len > 0).then(|| start..start.saturating_add(len))
    }

    /// OBJECTS or VARIABLES of a notification, in order, as far as they are defined anywhere.
    pub fn objects(self) -> impl Iterator<Item = NodeId> + 'a {
        let own = self.kind() == Kind::Notification;
        let references = if own { self.mib.references_of(self.record) } else { &[] };
        references.iter().map(|reference| NodeId(reference.get()))
    }

    /// The objects of the INDEX of a row or of a column's row, in order, AUGMENTS followed. A part that is
    /// no object (INDEX names a type) is `None`.
    pub fn index(self) -> impl Iterator<Item = Option<NodeId>> + 'a {
        self.mib.index_references(self.id).map(|reference| {
            let node = reference & !IMPLIED;
            (node != ANONYMOUS).then_some(NodeId(node))
        })
    }

    /// The node right above, where that has a name.
    #[must_use]
    pub fn parent(self) -> Option<NodeId> {
        let trie = self.mib.trie();
        trie.node(trie.parent(self.record.vertex.get())).map(NodeId)
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{} ({})", self.module().name(), self.name(), self.kind())
    }
}

/// A module. Copy: a borrow of the [`Mib`].
#[derive(Clone, Copy)]
pub struct Module<'a> {
    mib: &'a Mib,
    id: ModuleId,
    record: &'a ModuleRecord,
}

impl<'a> Module<'a> {
    /// Its number.
    #[must_use]
    pub fn id(self) -> ModuleId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.mib.word(self.record.name.get())
    }

    /// The file that defines it.
    #[must_use]
    pub fn file(self) -> &'a Arc<str> {
        &self.mib.files[self.record.file.get() as usize]
    }

    /// The line of its header, from 1; 0 for what is built in.
    #[must_use]
    pub fn line(self) -> u32 {
        self.record.line.get()
    }

    /// LAST-UPDATED as the decimal number YYYYMMDDhhmm; `None` where it states none.
    #[must_use]
    pub fn last_updated(self) -> Option<u64> {
        let last_updated = self.record.last_updated.get();
        (last_updated > 0).then_some(last_updated)
    }

    /// Whether another version of this module was chosen for its name. What this one names beyond that one
    /// is still known by OID.
    #[must_use]
    pub fn is_superseded(self) -> bool {
        self.record.superseded != 0
    }

    /// How many nodes it defines.
    #[must_use]
    pub fn nodes(self) -> usize {
        self.record.nodes.get() as usize
    }
}

/// The type of an object's values. Copy: a borrow of the [`Mib`];
/// [`Renderer`](super::Renderer) is the form that stands alone.
#[derive(Clone, Copy)]
pub struct Syntax<'a> {
    mib: &'a Mib,
    record: &'a SyntaxRecord,
}

impl<'a> Syntax<'a> {
    /// What it comes to.
    #[must_use]
    pub fn base(self) -> BaseType {
        BaseType::from_octet(self.record.base)
    }

    /// The name of the type it is written with, as `DisplayString`; empty where it is a base type.
    #[must_use]
    pub fn convention(self) -> &'a str {
        self.mib.word(self.record.convention.get())
    }

    /// DISPLAY-HINT, or empty.
    #[must_use]
    pub fn hint(self) -> &'a str {
        self.mib.word(self.record.hint.get())
    }

    /// UNITS, or empty.
    #[must_use]
    pub fn units(self) -> &'a str {
        self.mib.word(self.record.units.get())
    }

    /// The least and the greatest SIZE, where it is given.
    #[must_use]
    pub fn size(self) -> Option<(u32, u32)> {
        let [least, greatest] = self.record.size.map(U32::get);
        (self.record.has_size != 0).then_some((least, greatest))
    }

    /// The labels of an enumeration or of BITS, by number.
    pub fn labels(self) -> impl ExactSizeIterator<Item = (i64, &'a str)> {
        self.label_records().iter().map(move |label| (label.number.get(), self.mib.word(label.name.get())))
    }

    /// The label of a number. Bisects.
    #[must_use]
    pub fn label(self, number: i64) -> Option<&'a str> {
        let labels = self.label_records();
        let at = labels.binary_search_by_key(&number, |label| label.number.get()).ok()?;
        Some(self.mib.word(labels[at].name.get()))
    }

    /// The label of a number, unless a lesser number has it too.
    pub(super) fn only_label(self, number: i64) -> Option<&'a str> {
        let labels = self.label_records();
        let at = labels.binary_search_by_key(&number, |label| label.number.get()).ok()?;
        // Equal words are one symbol.
        let name = labels[at].name;
        (!labels[..at].iter().any(|label| label.name == name)).then(|| self.mib.word(name.get()))
    }

    /// The number of a label; the least, where several have it.
    #[must_use]
    pub fn number(self, label: &str) -> Option<i64> {
        self.labels().find(|&(_, name)| name == label).map(|(number, _)| number)
    }

    fn label_records(self) -> &'a [LabelRecord] {
        let [start, len] = self.record.labels.map(|number| number.get() as usize);
        let all = self.mib.layout.labels(&self.mib.octets);
        all.get(start..start.saturating_add(len)).unwrap_or_default()
    }
}
