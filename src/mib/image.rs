//! The compiled form: flat vectors of fixed-size records that name each other by number.
//!
//! Nothing in it is a pointer, but for the files' paths, so that it can be written out and mapped as it
//! stands. [`Mib`] is immutable, and shared as an `Arc`.

use std::fmt;
use std::sync::Arc;

pub use super::ast::{Access, Status};
use super::symbol::{NONE, hash};
use super::trie::Trie;
use crate::oid::{MAX_ARCS, Oid, OidArray};

/// A named definition with an OID. Only for the [`Mib`] it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

/// A module. Only for the [`Mib`] it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub(crate) u32);

/// The longest known prefix of an OID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The best of the nodes at that prefix.
    pub node: NodeId,
    /// How many arcs of the question it covers, at least 1; what follows is the instance.
    pub matched: usize,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A value assignment, as `OBJECT IDENTIFIER`.
    Node,
    /// OBJECT-IDENTITY.
    Identity,
    /// MODULE-IDENTITY.
    Module,
    /// An OBJECT-TYPE outside of any table.
    Scalar,
    /// A conceptual table.
    Table,
    /// A conceptual row.
    Row,
    /// An object of a row.
    Column,
    /// NOTIFICATION-TYPE or TRAP-TYPE.
    Notification,
    /// OBJECT-GROUP or NOTIFICATION-GROUP.
    Group,
    /// MODULE-COMPLIANCE.
    Compliance,
    /// AGENT-CAPABILITIES.
    Capabilities,
}

impl Kind {
    /// Its name in output, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Identity => "identity",
            Self::Module => "module",
            Self::Scalar => "scalar",
            Self::Table => "table",
            Self::Row => "row",
            Self::Column => "column",
            Self::Notification => "notification",
            Self::Group => "group",
            Self::Compliance => "compliance",
            Self::Capabilities => "capabilities",
        }
    }

    /// Whether values come under it.
    #[must_use]
    pub fn is_object(self) -> bool {
        matches!(self, Self::Scalar | Self::Column)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type that a SYNTAX comes to (RFC 2578 section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BaseType {
    /// Not an object, or its type is defined nowhere.
    Unknown,
    /// INTEGER, Integer32, enumerations.
    Integer,
    /// OCTET STRING.
    Octets,
    /// OBJECT IDENTIFIER.
    ObjectIdentifier,
    /// BITS.
    Bits,
    /// IpAddress, NetworkAddress.
    IpAddress,
    /// Counter, Counter32.
    Counter32,
    /// Gauge, Gauge32, Unsigned32.
    Unsigned32,
    /// TimeTicks.
    TimeTicks,
    /// Opaque.
    Opaque,
    /// Counter64.
    Counter64,
    /// A row or a table.
    Sequence,
}

impl BaseType {
    /// Its name in the SMI.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Integer => "INTEGER",
            Self::Octets => "OCTET STRING",
            Self::ObjectIdentifier => "OBJECT IDENTIFIER",
            Self::Bits => "BITS",
            Self::IpAddress => "IpAddress",
            Self::Counter32 => "Counter32",
            Self::Unsigned32 => "Unsigned32",
            Self::TimeTicks => "TimeTicks",
            Self::Opaque => "Opaque",
            Self::Counter64 => "Counter64",
            Self::Sequence => "SEQUENCE",
        }
    }
}

#[derive(Debug)]
pub(crate) struct NodeRecord {
    pub(crate) name: u32,
    pub(crate) module: u32,
    pub(crate) vertex: u32,
    pub(crate) syntax: u32,
    pub(crate) line: u32,
    /// The next node of the same name.
    pub(crate) next: u32,
    /// INDEX or AUGMENTS of a row, OBJECTS of a notification.
    pub(crate) references: (u32, u32),
    /// Octets of the file: start and length.
    pub(crate) description: (u32, u32),
    pub(crate) kind: Kind,
    pub(crate) status: Status,
    pub(crate) access: Access,
    pub(crate) augments: bool,
}

/// In a reference: the last index part has no length before it.
pub(crate) const IMPLIED: u32 = 1 << 31;
/// In place of a reference: INDEX names a type, a plain integer.
pub(crate) const ANONYMOUS: u32 = IMPLIED - 1;

#[derive(Debug)]
pub(crate) struct SyntaxRecord {
    pub(crate) base: BaseType,
    pub(crate) convention: u32,
    pub(crate) hint: u32,
    pub(crate) units: u32,
    /// Into the labels, sorted by number.
    pub(crate) labels: (u32, u32),
    pub(crate) size: Option<(u32, u32)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelRecord {
    pub(crate) number: i64,
    pub(crate) name: u32,
}

#[derive(Debug)]
pub(crate) struct ModuleRecord {
    pub(crate) name: u32,
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) last_updated: u64,
    pub(crate) nodes: u32,
    pub(crate) superseded: bool,
    /// An entry that only stands for a second linking of a module.
    pub(crate) anew: bool,
}

/// Compiled MIBs: names, kinds and types of OIDs, and back. Immutable; share it as an `Arc`.
pub struct Mib {
    pub(crate) text: String,
    pub(crate) text_ends: Vec<u32>,
    pub(crate) files: Vec<Arc<str>>,
    pub(crate) modules: Vec<ModuleRecord>,
    pub(crate) nodes: Vec<NodeRecord>,
    pub(crate) references: Vec<u32>,
    pub(crate) syntaxes: Vec<SyntaxRecord>,
    pub(crate) labels: Vec<LabelRecord>,
    pub(crate) trie: Trie,
    /// Open addressing by [`name_hash`]: the first node of a name. A power of two long.
    pub(crate) name_slots: Vec<u32>,
}

/// The hash of names in the image; the same on every machine.
pub(crate) fn name_hash(name: &str) -> u64 {
    hash(name.as_bytes(), 0x6e65_7265_7573)
}

impl fmt::Debug for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mib({} modules, {} nodes)", self.modules.len(), self.nodes.len())
    }
}

impl Mib {
    /// The longest prefix of `arcs` that has a name. No allocation; one step of the tree per arc.
    #[must_use]
    pub fn lookup(&self, arcs: &[u32]) -> Option<Match> {
        self.lookup_arcs(arcs.iter().copied())
    }

    /// As [`lookup`](Self::lookup), straight from an encoded OID's arcs.
    #[must_use]
    pub fn lookup_arcs(&self, arcs: impl Iterator<Item = u32>) -> Option<Match> {
        self.trie.lookup(arcs).map(|(node, matched)| Match { node: NodeId(node), matched })
    }

    /// All nodes with exactly the OID of `node`, the best first: an object or a notification before a mere
    /// name, then the SMI's and the IETF's base modules, then by the newest LAST-UPDATED of the module, then
    /// by module and name. A module's version that was not chosen comes last.
    pub fn same_oid(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let vertex = self.nodes[node.0 as usize].vertex;
        let first = self.trie.node(vertex).unwrap_or(node.0);
        (first..self.nodes.len() as u32)
            .take_while(move |&at| self.nodes[at as usize].vertex == vertex)
            .map(NodeId)
    }

    /// The node with the OID of `node` that belongs to the module of `context`, else `node`: in a
    /// notification, its own module's names go first.
    #[must_use]
    pub fn preferred(&self, node: NodeId, context: NodeId) -> NodeId {
        let module = self.nodes[context.0 as usize].module;
        self.same_oid(node).find(|other| self.nodes[other.0 as usize].module == module).unwrap_or(node)
    }

    /// What is known of a node.
    ///
    /// # Panics
    /// When `id` comes from another [`Mib`] that has more nodes.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Node<'_> {
        Node { mib: self, id, record: &self.nodes[id.0 as usize] }
    }

    /// All nodes, in the order of the tree's levels.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Node<'_>> {
        (0..self.nodes.len() as u32).map(|at| self.node(NodeId(at)))
    }

    /// All modules, with the versions that were not chosen, in the order of their files.
    pub fn modules(&self) -> impl Iterator<Item = Module<'_>> {
        let all = self.modules.iter().enumerate().filter(|(_, record)| !record.anew);
        all.map(|(at, record)| Module { mib: self, id: ModuleId(at as u32), record })
    }

    /// The nodes right below `node`, by arc; where several have one OID, the best.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = Node<'_>> {
        let vertex = self.nodes[node.0 as usize].vertex;
        self.trie.children(vertex).filter_map(|child| self.trie.node(child)).map(|at| self.node(NodeId(at)))
    }

    /// An estimate of what it takes in memory, in octets.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len()
            + self.text_ends.len() * 4
            + self.modules.len() * size_of::<ModuleRecord>()
            + self.nodes.len() * size_of::<NodeRecord>()
            + self.references.len() * 4
            + self.syntaxes.len() * size_of::<SyntaxRecord>()
            + self.labels.len() * size_of::<LabelRecord>()
            + self.name_slots.len() * 4
            + self.trie.size()
    }

    pub(crate) fn word(&self, word: u32) -> &str {
        let at = word as usize;
        let Some(&end) = self.text_ends.get(at) else {
            return "";
        };
        let start = if at == 0 { 0 } else { self.text_ends[at - 1] };
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The nodes of a name, the best module's first.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = NodeId> {
        let mask = self.name_slots.len().wrapping_sub(1);
        let mut at = name_hash(name) as usize & mask;
        let mut node = NONE;
        while let Some(&slot) = self.name_slots.get(at) {
            if slot == NONE || self.word(self.nodes[slot as usize].name) == name {
                node = slot;
                break;
            }
            at = (at + 1) & mask;
        }
        std::iter::successors((node != NONE).then_some(NodeId(node)), |node| {
            let next = self.nodes[node.0 as usize].next;
            (next != NONE).then_some(NodeId(next))
        })
    }

    /// The row that a column belongs to, or the row itself.
    pub(crate) fn row_of(&self, node: NodeId) -> Option<NodeId> {
        let record = &self.nodes[node.0 as usize];
        match record.kind {
            Kind::Row => Some(node),
            Kind::Column => {
                let above = NodeId(self.trie.node(self.trie.parent(record.vertex))?);
                self.same_oid(above).find(|row| self.nodes[row.0 as usize].kind == Kind::Row)
            }
            _ => None,
        }
    }

    /// The references of the row that holds the INDEX for `node`: AUGMENTS is followed.
    pub(crate) fn index_references(&self, node: NodeId) -> &[u32] {
        // A row that augments a row that augments: in real MIBs never more than one step.
        const HOPS: usize = 8;
        let Some(mut row) = self.row_of(node) else {
            return &[];
        };
        for _ in 0..HOPS {
            let record = &self.nodes[row.0 as usize];
            let references = self.references_of(record);
            if !record.augments {
                return references;
            }
            let Some(&[target]) = references.first_chunk() else {
                return &[];
            };
            row = NodeId(target);
        }
        &[]
    }

    pub(crate) fn references_of(&self, record: &NodeRecord) -> &[u32] {
        let (start, len) = record.references;
        self.references.get(start as usize..start as usize + len as usize).unwrap_or_default()
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
        self.mib.word(self.record.name)
    }

    /// The module that defines it.
    #[must_use]
    pub fn module(self) -> Module<'a> {
        let id = ModuleId(self.record.module);
        Module { mib: self.mib, id, record: &self.mib.modules[self.record.module as usize] }
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
        // A node has 1 to 128 arcs: it is never the root, and linking bounds the depth.
        Oid::new(arcs.arcs()).expect("a node lies below the root and within the bound")
    }

    /// Its OID, without allocating. `into` is emptied before.
    pub fn oid_into(self, into: &mut OidArray) {
        let mut reversed = [0; MAX_ARCS];
        let mut len = 0;
        let mut at = self.record.vertex;
        while at != 0 && len < MAX_ARCS {
            reversed[len] = self.mib.trie.arc(at);
            len += 1;
            at = self.mib.trie.parent(at);
        }
        into.clear();
        // At most MAX_ARCS, as the loop bounds.
        let _ = into.extend(reversed[..len].iter().rev().copied());
    }

    /// What it is.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.record.kind
    }

    /// STATUS.
    #[must_use]
    pub fn status(self) -> Status {
        self.record.status
    }

    /// MAX-ACCESS or ACCESS.
    #[must_use]
    pub fn access(self) -> Access {
        self.record.access
    }

    /// The type of an object's values; `None` for what has none.
    #[must_use]
    pub fn syntax(self) -> Option<Syntax<'a>> {
        let record = self.mib.syntaxes.get(self.record.syntax as usize)?;
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
        self.record.line
    }

    /// The octets of DESCRIPTION in the file, as it was when it was compiled: start and length. `None` without.
    #[must_use]
    pub fn description(self) -> Option<std::ops::Range<usize>> {
        let (start, len) = self.record.description;
        (len > 0).then(|| start as usize..start as usize + len as usize)
    }

    /// OBJECTS or VARIABLES of a notification, in order, as far as they are defined anywhere.
    pub fn objects(self) -> impl Iterator<Item = NodeId> + 'a {
        let own = self.record.kind == Kind::Notification;
        let references = if own { self.mib.references_of(self.record) } else { &[] };
        references.iter().map(|&reference| NodeId(reference))
    }

    /// The objects of the INDEX of a row or of a column's row, in order, AUGMENTS followed. A part that is
    /// no object (INDEX names a type) is `None`.
    pub fn index(self) -> impl Iterator<Item = Option<NodeId>> + 'a {
        self.mib.index_references(self.id).iter().map(|&reference| {
            let node = reference & !IMPLIED;
            (node != ANONYMOUS).then_some(NodeId(node))
        })
    }

    /// The node right above, where that has a name.
    #[must_use]
    pub fn parent(self) -> Option<NodeId> {
        self.mib.trie.node(self.mib.trie.parent(self.record.vertex)).map(NodeId)
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
        self.mib.word(self.record.name)
    }

    /// The file that defines it.
    #[must_use]
    pub fn file(self) -> &'a Arc<str> {
        &self.mib.files[self.record.file as usize]
    }

    /// The line of its header, from 1; 0 for what is built in.
    #[must_use]
    pub fn line(self) -> u32 {
        self.record.line
    }

    /// LAST-UPDATED as the decimal number YYYYMMDDhhmm; `None` where it states none.
    #[must_use]
    pub fn last_updated(self) -> Option<u64> {
        (self.record.last_updated > 0).then_some(self.record.last_updated)
    }

    /// Whether another version of this module was chosen for its name. What this one names beyond that one
    /// is still known by OID.
    #[must_use]
    pub fn is_superseded(self) -> bool {
        self.record.superseded
    }

    /// How many nodes it defines.
    #[must_use]
    pub fn nodes(self) -> usize {
        self.record.nodes as usize
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
        self.record.base
    }

    /// The name of the type it is written with, as `DisplayString`; empty where it is a base type.
    #[must_use]
    pub fn convention(self) -> &'a str {
        self.mib.word(self.record.convention)
    }

    /// DISPLAY-HINT, or empty.
    #[must_use]
    pub fn hint(self) -> &'a str {
        self.mib.word(self.record.hint)
    }

    /// UNITS, or empty.
    #[must_use]
    pub fn units(self) -> &'a str {
        self.mib.word(self.record.units)
    }

    /// The least and the greatest SIZE, where it is given.
    #[must_use]
    pub fn size(self) -> Option<(u32, u32)> {
        self.record.size
    }

    /// The labels of an enumeration or of BITS, by number.
    pub fn labels(self) -> impl ExactSizeIterator<Item = (i64, &'a str)> {
        self.label_records().iter().map(move |label| (label.number, self.mib.word(label.name)))
    }

    /// The label of a number. Bisects.
    #[must_use]
    pub fn label(self, number: i64) -> Option<&'a str> {
        let labels = self.label_records();
        let at = labels.binary_search_by_key(&number, |label| label.number).ok()?;
        Some(self.mib.word(labels[at].name))
    }

    /// The label of a number, unless a lesser number has it too.
    pub(super) fn only_label(self, number: i64) -> Option<&'a str> {
        let labels = self.label_records();
        let at = labels.binary_search_by_key(&number, |label| label.number).ok()?;
        // Equal words are one symbol.
        let name = labels[at].name;
        (!labels[..at].iter().any(|label| label.name == name)).then(|| self.mib.word(name))
    }

    /// The number of a label; the least, where several have it.
    #[must_use]
    pub fn number(self, label: &str) -> Option<i64> {
        self.labels().find(|&(_, name)| name == label).map(|(number, _)| number)
    }

    fn label_records(self) -> &'a [LabelRecord] {
        let (start, len) = self.record.labels;
        self.mib.labels.get(start as usize..start as usize + len as usize).unwrap_or_default()
    }
}
