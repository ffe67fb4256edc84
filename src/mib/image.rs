//! What is read in the compiled form (`format`), wherever its octets lie: in memory, or in a mapped file.
//!
//! [`Mib`] is immutable, and shared as an `Arc`.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{Mmap, MmapMut, MmapOptions};
use zerocopy::IntoBytes as _;
use zerocopy::little_endian::U32;

pub use super::ast::{Access, Status};
pub use super::format::ImageError;
use super::format::{self, CHECKSUM_AT, Layout, NodeRecord, Parts, Patch};
use super::symbol::{NONE, hash};
use super::trie::Trie;

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
    pub(super) fn from_octet(octet: u8) -> Self {
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
    pub(super) octets: Octets,
    pub(super) layout: Layout,
    /// The paths of the files, whole.
    pub(super) files: Vec<Arc<str>>,
}

/// What is known of a module.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModuleInfo<'a> {
    pub(super) file: u32,
    pub(super) name: &'a str,
    pub(super) last_updated: u64,
    pub(super) superseded: bool,
    pub(super) anew: bool,
}

/// Where an image lies.
pub(super) enum Octets {
    Memory(Vec<u8>),
    /// In memory, in pages of its own: the first octets of them.
    Pages(Mmap, usize),
    /// A part of a file, and what was changed in it for this image alone.
    Mapped {
        file: Arc<File>,
        part: Range<usize>,
        patches: Vec<Patch>,
        map: Mmap,
    },
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(octets) => octets,
            Self::Pages(pages, len) => &pages[..*len],
            Self::Mapped { map, .. } => map,
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
    /// Of parts that were just made, in memory.
    pub(super) fn made(parts: &Parts, files: Vec<Arc<str>>) -> Self {
        Self::of_made(Octets::Memory(parts.to_octets()), files)
    }

    /// Of an image that was made in place.
    pub(super) fn of_pages((pages, len): (Mmap, usize), files: Vec<Arc<str>>) -> Self {
        Self::of_made(Octets::Pages(pages, len), files)
    }

    /// As [`made`](Self::made), written into `file` from `at` on and mapped there: takes memory for what is looked up
    /// alone. What follows in `file` may be written later.
    ///
    /// # Errors
    /// When the file cannot be written or mapped.
    pub(super) fn made_in(
        parts: &Parts,
        files: Vec<Arc<str>>,
        file: &Arc<File>,
        at: usize,
    ) -> io::Result<Self> {
        let mut out = &**file;
        out.seek(SeekFrom::Start(at as u64))?;
        let sum = parts.write_to(&mut out)?;
        let end = out.stream_position()? as usize;
        file.write_all_at(&sum.to_le_bytes(), (at + CHECKSUM_AT) as u64)?;
        let (part, patches) = (at..end, Vec::new());
        let map = map(file, part.clone())?;
        Ok(Self::of_made(Octets::Mapped { file: Arc::clone(file), part, patches, map }, files))
    }

    fn of_made(octets: Octets, files: Vec<Arc<str>>) -> Self {
        // Its counts are those of the vectors that it was written from.
        let layout = Layout::of(&octets).expect("an image that was just written has its length");
        Self { octets, layout, files }
    }

    /// This one, with other lines and descriptions for some nodes and modules. Shares what is mapped with this one,
    /// and the time is that of what is changed; an image in memory is copied.
    ///
    /// `None` where so much was changed in what is mapped that it is worth writing anew.
    pub(super) fn edited(&self, nodes: &[(NodeId, NodeEdit)], modules: &[(u32, u32)]) -> Option<Self> {
        /// Times the octets of a record in memory, so 4 MiB.
        const MOST_PATCHES: usize = 64 << 10;
        let mut patches = Vec::with_capacity(nodes.len() + modules.len() + 1);
        for &(node, edit) in nodes {
            let mut record = *self.node_records().get(node.0 as usize)?;
            record.line = edit.line.into();
            record.description = edit.description.map(U32::new);
            (record.status, record.access) = (edit.status as u8, edit.access as u8);
            patches.push((self.layout.node_at(node.0), record.as_bytes().into()));
        }
        for &(module, line) in modules {
            let mut record = *self.layout.modules(&self.octets).get(module as usize)?;
            record.line = line.into();
            patches.push((self.layout.module_at(module), record.as_bytes().into()));
        }
        let octets = match &self.octets {
            Octets::Memory(octets) => {
                let mut octets = octets.clone();
                format::patch(&mut octets, &patches).then_some(Octets::Memory(octets))?
            }
            Octets::Pages(..) => {
                let (mut pages, len) = super::room::copied(&self.octets).ok()?;
                let changed = format::patch(pages.get_mut(..len)?, &patches);
                changed
                    .then(|| pages.make_read_only().ok())
                    .flatten()
                    .map(|pages| Octets::Pages(pages, len))?
            }
            Octets::Mapped { file, part, patches: before, .. } => {
                let patches = [before, &*patches].concat();
                if patches.len() > MOST_PATCHES {
                    return None;
                }
                let mut own = map_privately(file, part.clone()).ok()?;
                if !format::patch(&mut own, &patches) {
                    return None;
                }
                let map = own.make_read_only().ok()?;
                Octets::Mapped { file: Arc::clone(file), part: part.clone(), patches, map }
            }
        };
        Some(Self { octets, layout: self.layout.clone(), files: self.files.clone() })
    }

    /// Writes the compiled form into a file from `at` on. What is mapped is read from its file and not through the
    /// mapping, all of which would be resident afterwards.
    ///
    /// # Errors
    /// When a file refuses it.
    pub(super) fn write_image(&self, to: &File, at: u64) -> io::Result<()> {
        let Octets::Mapped { file, part, patches, .. } = &self.octets else {
            return to.write_all_at(&self.octets, at);
        };
        let mut piece = vec![0; 1 << 20];
        let mut done = 0;
        while done < part.len() {
            let now = piece.len().min(part.len() - done);
            file.read_exact_at(&mut piece[..now], (part.start + done) as u64)?;
            to.write_all_at(&piece[..now], at + done as u64)?;
            done += now;
        }
        for (place, with) in patches {
            to.write_all_at(with, at + *place as u64)?;
        }
        to.write_all_at(format::written_checksum(&self.octets), at + CHECKSUM_AT as u64)
    }

    /// Has the system map all of it, as far as it lies in a file, so that reading it later waits for no page; until
    /// `enough` is set. What the system has given to others comes from the disk again.
    #[cfg(target_os = "linux")]
    pub(crate) fn map_pages(&self, enough: &AtomicBool) {
        const PIECE: usize = 4 << 20;
        let (Octets::Pages(map, _) | Octets::Mapped { map, .. }) = &self.octets else { return };
        for at in (0..map.len()).step_by(PIECE) {
            if enough.load(Ordering::Relaxed) {
                return;
            }
            // Where it cannot be, they come one by one as they are read.
            let _ = map.advise_range(memmap2::Advice::PopulateRead, at, PIECE.min(map.len() - at));
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn map_pages(&self, _enough: &AtomicBool) {}

    /// Takes the pages of it that lie in a file out of memory; they come back as they are looked up. For an image that
    /// hardly anybody looks at any more.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "a mapping lies outside of what the compiler sees")]
    pub(crate) fn page_out(&self) {
        let (Octets::Pages(map, _) | Octets::Mapped { map, .. }) = &self.octets else { return };
        let start = map.as_ptr().cast_mut().cast::<libc::c_void>();
        // SAFETY: the stretch is that of a mapping, which is borrowed. The system gives back the same octets to whoever
        // reads there, from the file, or from where it swaps to; what it can get from nowhere again it keeps.
        // Where it refuses, it takes them once it needs them.
        unsafe { libc::madvise(start, map.len(), libc::MADV_PAGEOUT) };
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn page_out(&self) {}

    /// Lets go of the pages of it that a start looked through: they stay in the system's cache as long as that has room,
    /// and each counts again once it is looked up. For an image that is as its file has it.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "a mapping lies outside of what the compiler sees")]
    pub(super) fn let_go(&self) {
        if let Octets::Mapped { map, patches, .. } = &self.octets
            && patches.is_empty()
        {
            // SAFETY: nothing was ever written to this mapping, so that whoever reads there meets the octets of the file
            // before and after.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn let_go(&self) {}

    /// Gives back the memory of an image that was made in pages of its own and has been written to `file` at `at`: it
    /// is read from there from now on, at the same place. Whether there was any. Costs a comparison of all of it.
    ///
    /// # Errors
    /// When the file holds anything else, or cannot be mapped; then all stays as it is.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "a mapping lies outside of what the compiler sees")]
    pub(super) fn settle(&self, file: &File, at: usize) -> io::Result<bool> {
        let Octets::Pages(pages, len) = &self.octets else {
            return Ok(false);
        };
        // Not through the mapping, all of which would be resident afterwards.
        let mut piece = vec![0; 1 << 20];
        for (number, octets) in pages[..*len].chunks(piece.len()).enumerate() {
            let read = &mut piece[..octets.len()];
            file.read_exact_at(read, (at + number * (1 << 20)) as u64)?;
            if read != octets {
                return Err(io::Error::other(
                    "the compiled MIBs on the disk are not those that were written",
                ));
            }
        }
        let written = map(file, at..at + len)?;
        let (from, to) =
            (written.as_ptr().cast_mut().cast(), pages.as_ptr().cast_mut().cast::<libc::c_void>());
        // SAFETY: both mappings begin at a page, `to` is at least as long as `from`, and neither is unmapped meanwhile:
        // `pages` is borrowed, `written` is ours. The system puts one in the place of a part of the other in one step,
        // so that whoever reads there meets the same octets before and after; nobody writes there, both are
        // read-only. `pages` unmaps the whole stretch when it is dropped, whatever lies there.
        let moved = unsafe { libc::mremap(from, *len, *len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to) };
        if moved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Nothing is mapped where it was.
        std::mem::forget(written);
        Ok(true)
    }

    /// The modules of a file by its number, with their names; also those that only stand for a second linking.
    pub(super) fn modules_of(&self, file: u32) -> impl Iterator<Item = (u32, &str)> {
        let all = self.layout.modules(&self.octets).iter().zip(0..);
        all.filter(move |(record, _)| record.file.get() == file)
            .map(|(record, number)| (number, self.word(record.name.get())))
    }

    /// All modules in their order; also those that only stand for a second linking.
    pub(super) fn all_modules(&self) -> impl Iterator<Item = ModuleInfo<'_>> {
        self.layout.modules(&self.octets).iter().map(|record| ModuleInfo {
            file: record.file.get(),
            name: self.word(record.name.get()),
            last_updated: record.last_updated.get(),
            superseded: record.superseded != 0,
            anew: record.anew != 0,
        })
    }

    /// What an edit could change of a node.
    pub(super) fn edit_of(&self, node: NodeId) -> NodeEdit {
        let record = &self.node_records()[node.0 as usize];
        NodeEdit {
            line: record.line.get(),
            description: record.description.map(U32::get),
            status: Status::from_octet(record.status),
            access: Access::from_octet(record.access),
        }
    }

    /// The module of a node, by its number.
    pub(super) fn module_of(&self, node: NodeId) -> u32 {
        self.node_records()[node.0 as usize].module.get()
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
        format::sign(octets);
    }

    /// As [`from_image`](Self::from_image), mapped from a part of a file: what is not looked up takes no memory that
    /// the system could not have back.
    ///
    /// The file must be replaced as a whole (by rename) and never be written in place or cut off.
    ///
    /// # Errors
    /// When the file cannot be mapped, and [`ImageError`] within.
    pub fn map_image(file: &Arc<File>, part: Range<usize>, directories: &[PathBuf]) -> io::Result<Self> {
        if part.start > part.end || part.end as u64 > file.metadata()?.len() {
            return Err(io::Error::other(ImageError::Truncated));
        }
        let map = map(file, part.clone())?;
        let octets = Octets::Mapped { file: Arc::clone(file), part, patches: Vec::new(), map };
        Self::read(octets, directories).map_err(io::Error::other)
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

    /// What the compiled form takes, in octets.
    #[must_use]
    pub fn size(&self) -> usize {
        self.octets.len()
    }

    pub(super) fn trie(&self) -> Trie<'_> {
        Trie { vertices: self.layout.vertices(&self.octets), parents: self.layout.parents(&self.octets) }
    }

    pub(super) fn node_records(&self) -> &[NodeRecord] {
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
        let from = format::slot_of(slots.len(), name_hash(name)).min(slots.len());
        let slot = slots[from..]
            .iter()
            .map(|slot| slot.get())
            .find(|&slot| slot == NONE || self.word(nodes[slot as usize].name.get()) == name);
        let node = slot.unwrap_or(NONE);
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
            if record.flags & format::AUGMENTS == 0 {
                found = references;
                break;
            }
            row = references.first_chunk().map(|&[target]| NodeId(target.get()));
        }
        found.iter().map(|reference| reference.get())
    }

    pub(super) fn references_of(&self, record: &NodeRecord) -> &[U32] {
        let [start, len] = record.references.map(|number| number.get() as usize);
        let all = self.layout.references(&self.octets);
        all.get(start..start.saturating_add(len)).unwrap_or_default()
    }
}

/// Maps a part of a file, which is there.
#[expect(unsafe_code, reason = "a mapping lies outside of what the compiler sees")]
fn map(file: &File, part: Range<usize>) -> io::Result<Mmap> {
    // SAFETY: the octets of a mapping must not change while they are borrowed. The cache is the only file that is
    // mapped: it is private to its owner (0600), and an image in it is written once, before it is mapped; then
    // only what lies before and behind it is written, which no borrow reaches, and the whole is put in the cache's
    // place by rename, never written in place or cut off. Whoever has the owner's rights and changes it all the
    // same could change the program itself.
    unsafe { MmapOptions::new().offset(part.start as u64).len(part.len()).map(file) }
}

/// As [`map`]; what is written to it stays in this process.
#[expect(unsafe_code, reason = "a mapping lies outside of what the compiler sees")]
fn map_privately(file: &File, part: Range<usize>) -> io::Result<MmapMut> {
    // SAFETY: as above. What is written goes to pages of its own, which nothing else has.
    unsafe { MmapOptions::new().offset(part.start as u64).len(part.len()).map_copy(file) }
}

/// What of a node may change without any name, OID or type changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeEdit {
    pub(super) line: u32,
    pub(super) description: [u32; 2],
    pub(super) status: Status,
    pub(super) access: Access,
}
