//! What is read in the compiled form (`format`), wherever its octets lie: in memory, or in a mapped file.
//!
//! [`Mib`] is immutable, and shared as an `Arc`.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::sync::Arc;

use memmap2::Mmap;
use zerocopy::little_endian::U32;

pub use super::ast::{Access, Status};
pub use super::format::ImageError;
use super::format::{LabelRecord, Layout, ModuleRecord, NodeRecord, Parts, SyntaxRecord};
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
    pub(super) fn from_octet(octet: u8) -> Self {
        const ALL: [Kind; 11] = [
            Kind::Node,
            Kind::Identity,
            Kind::Module,
            Kind::Scalar,
            Kind::Table,
            Kind::Row,
            Kind::Column,
            Kind::Notification,
            Kind::Group,
            Kind::Compliance,
            Kind::Capabilities,
        ];
        ALL.get(usize::from(octet)).copied().unwrap_or(Self::Node)
    }

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
    fn from_octet(octet: u8) -> Self {
        const ALL: [BaseType; 12] = [
            BaseType::Unknown,
            BaseType::Integer,
            BaseType::Octets,
            BaseType::ObjectIdentifier,
            BaseType::Bits,
            BaseType::IpAddress,
            BaseType::Counter32,
            BaseType::Unsigned32,
            BaseType::TimeTicks,
            BaseType::Opaque,
            BaseType::Counter64,
            BaseType::Sequence,
        ];
        ALL.get(usize::from(octet)).copied().unwrap_or(Self::Unknown)
    }

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

/// In a reference: the last index part has no length before it.
pub(crate) const IMPLIED: u32 = 1 << 31;
/// In place of a reference: INDEX names a type, a plain integer.
pub(crate) const ANONYMOUS: u32 = IMPLIED - 1;

/// Compiled MIBs: names, kinds and types of OIDs, and back. Immutable; share it as an `Arc`.
pub struct Mib {
    octets: Octets,
    layout: Layout,
    /// The paths of the files, whole.
    files: Vec<Arc<str>>,
}

/// Where an image lies.
enum Octets {
    Memory(Vec<u8>),
    /// A part of a file.
    Mapped(Mmap, Range<usize>),
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(octets) => octets,
            Self::Mapped(map, part) => map.get(part.clone()).unwrap_or_default(),
        }
    }
}

/// The hash of names in the image; the same on every machine.
pub(crate) fn name_hash(name: &str) -> u64 {
    hash(name.as_bytes(), 0x6e65_7265_7573)
}

impl fmt::Debug for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mib({} modules, {} nodes)", self.modules().count(), self.node_records().len())
    }
}

impl Mib {
    /// Of octets that were just made.
    pub(super) fn made(parts: Parts, files: Vec<Arc<str>>) -> Self {
        let octets = parts.into_octets();
        // Its counts are those of the vectors that it was written from.
        let layout = Layout::of(&octets).expect("an image that was just written has its length");
        Self { octets: Octets::Memory(octets), layout, files }
    }

    /// The compiled form, which is the same on every machine for the same files. See [`from_image`](Self::from_image).
    #[must_use]
    pub fn image(&self) -> &[u8] {
        &self.octets
    }

    /// Takes a compiled form as it was written. `directories` are those that it was compiled from, wherever they lie
    /// on this machine. All of it is looked at once.
    ///
    /// # Errors
    /// [`ImageError`] for anything but what [`image`](Self::image) gives in this version.
    pub fn from_image(octets: Vec<u8>, directories: &[PathBuf]) -> Result<Self, ImageError> {
        Self::read(Octets::Memory(octets), directories)
    }

    /// Gives made-up octets the checksum that they should have, so that tests reach what lies behind it.
    #[doc(hidden)]
    pub fn sign_image(octets: &mut [u8]) {
        super::format::sign(octets);
    }

    /// As [`from_image`](Self::from_image), mapped from a part of a file: what is not looked up takes no memory that
    /// the system could not have back.
    ///
    /// The file must be replaced as a whole (by rename) and never be written in place or cut off.
    ///
    /// # Errors
    /// When the file cannot be mapped, and [`ImageError`] within.
    pub fn map_image(file: &File, part: Range<usize>, directories: &[PathBuf]) -> io::Result<Self> {
        let map = map(file)?;
        if map.get(part.clone()).is_none() {
            return Err(io::Error::other(ImageError::Truncated));
        }
        Self::read(Octets::Mapped(map, part), directories).map_err(io::Error::other)
    }

    fn read(octets: Octets, directories: &[PathBuf]) -> Result<Self, ImageError> {
        let layout = Layout::check(&octets)?;
        let mut mib = Self { octets, layout, files: Vec::new() };
        let entries = mib.layout.files(&mib.octets).iter();
        mib.files = entries
            .map(|entry| {
                let path = mib.word(entry.path.get());
                match directories.get(entry.directory.get() as usize) {
                    Some(directory) if path.is_empty() => directory.to_string_lossy().into(),
                    Some(directory) => directory.join(path).to_string_lossy().into(),
                    None => path.into(),
                }
            })
            .collect();
        Ok(mib)
    }

    /// The longest prefix of `arcs` that has a name. No allocation; one step of the tree per arc.
    #[must_use]
    pub fn lookup(&self, arcs: &[u32]) -> Option<Match> {
        self.lookup_arcs(arcs.iter().copied())
    }

    /// As [`lookup`](Self::lookup), straight from an encoded OID's arcs.
    #[must_use]
    pub fn lookup_arcs(&self, arcs: impl Iterator<Item = u32>) -> Option<Match> {
        self.trie().lookup(arcs).map(|(node, matched)| Match { node: NodeId(node), matched })
    }

    /// All nodes with exactly the OID of `node`, the best first: an object or a notification before a mere
    /// name, then the SMI's and the IETF's base modules, then by the newest LAST-UPDATED of the module, then
    /// by module and name. A module's version that was not chosen comes last.
    pub fn same_oid(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let nodes = self.node_records();
        let vertex = nodes[node.0 as usize].vertex;
        let first = self.trie().node(vertex.get()).unwrap_or(node.0);
        (first..nodes.len() as u32).take_while(move |&at| nodes[at as usize].vertex == vertex).map(NodeId)
    }

    /// The node with the OID of `node` that belongs to the module of `context`, else `node`: in a
    /// notification, its own module's names go first.
    #[must_use]
    pub fn preferred(&self, node: NodeId, context: NodeId) -> NodeId {
        let nodes = self.node_records();
        let module = nodes[context.0 as usize].module;
        self.same_oid(node).find(|other| nodes[other.0 as usize].module == module).unwrap_or(node)
    }

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

    /// What the compiled form takes, in octets.
    #[must_use]
    pub fn size(&self) -> usize {
        self.octets.len()
    }

    pub(super) fn trie(&self) -> Trie<'_> {
        Trie { vertices: self.layout.vertices(&self.octets), parents: self.layout.parents(&self.octets) }
    }

    fn node_records(&self) -> &[NodeRecord] {
        self.layout.nodes(&self.octets)
    }

    /// The vertex of a node.
    pub(super) fn vertex(&self, node: NodeId) -> u32 {
        self.node_records()[node.0 as usize].vertex.get()
    }

    pub(crate) fn word(&self, word: u32) -> &str {
        let (at, ends) = (word as usize, self.layout.text_ends(&self.octets));
        let Some(end) = ends.get(at) else {
            return "";
        };
        let start = if at == 0 { 0 } else { ends[at - 1].get() };
        let word = self.layout.text(&self.octets).get(start as usize..end.get() as usize);
        std::str::from_utf8(word.unwrap_or_default()).unwrap_or_default()
    }

    /// The nodes of a name, the best module's first.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = NodeId> {
        let (nodes, slots) = (self.node_records(), self.layout.name_slots(&self.octets));
        let mask = slots.len().wrapping_sub(1);
        let mut at = name_hash(name) as usize & mask;
        let mut node = NONE;
        while let Some(slot) = slots.get(at) {
            let slot = slot.get();
            if slot == NONE || self.word(nodes[slot as usize].name.get()) == name {
                node = slot;
                break;
            }
            at = (at + 1) & mask;
        }
        std::iter::successors((node != NONE).then_some(NodeId(node)), |node| {
            let next = nodes[node.0 as usize].next.get();
            (next != NONE).then_some(NodeId(next))
        })
    }

    /// The row that a column belongs to, or the row itself.
    pub(crate) fn row_of(&self, node: NodeId) -> Option<NodeId> {
        let nodes = self.node_records();
        let kind = |node: NodeId| Kind::from_octet(nodes[node.0 as usize].kind);
        match kind(node) {
            Kind::Row => Some(node),
            Kind::Column => {
                let trie = self.trie();
                let above = NodeId(trie.node(trie.parent(self.vertex(node)))?);
                self.same_oid(above).find(|&row| kind(row) == Kind::Row)
            }
            _ => None,
        }
    }

    /// The references of the row that holds the INDEX for `node`: AUGMENTS is followed.
    pub(crate) fn index_references(&self, node: NodeId) -> impl ExactSizeIterator<Item = u32> + '_ {
        // A row that augments a row that augments: in real MIBs never more than one step.
        const HOPS: usize = 8;
        let mut found: &[U32] = &[];
        let mut row = self.row_of(node);
        for _ in 0..HOPS {
            let Some(at) = row else {
                break;
            };
            let record = &self.node_records()[at.0 as usize];
            let references = self.references_of(record);
            if record.augments == 0 {
                found = references;
                break;
            }
            row = references.first_chunk().map(|&[target]| NodeId(target.get()));
        }
        found.iter().map(|reference| reference.get())
    }

    fn references_of(&self, record: &NodeRecord) -> &[U32] {
        let [start, len] = record.references.map(|number| number.get() as usize);
        let all = self.layout.references(&self.octets);
        all.get(start..start.saturating_add(len)).unwrap_or_default()
    }
}

/// Maps a whole file.
#[expect(unsafe_code, reason = "a mapping lies outside of what the compiler sees")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the octets of a mapping must not change while they are borrowed. The cache is the only file that is
    // mapped: it is private to its owner (0600), written under another name and put in its place by rename, never
    // written in place or cut off, so the inode that is mapped here stays as it is for as long as it is mapped.
    // Whoever has the owner's rights and changes it all the same could change the program itself.
    unsafe { Mmap::map(file) }
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
