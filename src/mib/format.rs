//! The compiled form as octets: fixed-size records that name each other by number, in sections one after the other.
//!
//! ```text
//! magic, version of the format, checksum over what follows, length of all, how many records each section has
//! files | modules | nodes | vertices | parents | name slots | references | syntaxes | labels | ends | text
//! ```
//! Every number is little-endian and stands unaligned, so that the octets mean the same wherever they lie and on
//! every machine. Nothing is a pointer, nothing depends on the order of a hash map: the same files give the same
//! octets.
//!
//! [`Layout::check`] is what makes an image fit to be read: after it every number in a record leads somewhere, the
//! tree is a tree, nodes and their references stand in its order, and every chain ends. What no check covers (a text that is no UTF-8, labels out of order) reads as
//! something, and never panics.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::image::{ANONYMOUS, IMPLIED, Kind};
use super::symbol::{NONE, fold};
use super::trie::Vertex;
use super::workers;

const MAGIC: [u8; 8] = *b"NereuMIB";
/// Raised with every change of what the octets mean.
const VERSION: u32 = 3;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 8],
    version: U32,
    checksum: U64,
    pub(super) length: U64,
    counts: [U32; SECTIONS],
}

/// Where the part that the checksum covers begins.
const CHECKED: usize = 20;
pub(crate) const SECTIONS: usize = 11;
/// The number of the section that is the table of names.
pub(crate) const NAME_SLOTS: usize = 5;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct FileEntry {
    /// The number of the directory that `path` is relative to, or [`NONE`].
    pub(crate) directory: U32,
    pub(crate) path: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ModuleRecord {
    pub(crate) name: U32,
    pub(crate) file: U32,
    pub(crate) line: U32,
    pub(crate) nodes: U32,
    pub(crate) last_updated: U64,
    pub(crate) superseded: u8,
    /// An entry that only stands for a second linking of a module.
    pub(crate) anew: u8,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct NodeRecord {
    pub(crate) name: U32,
    pub(crate) module: U32,
    pub(crate) vertex: U32,
    pub(crate) syntax: U32,
    pub(crate) line: U32,
    /// The next node of the same name.
    pub(crate) next: U32,
    /// INDEX or AUGMENTS of a row, OBJECTS of a notification: start and number.
    pub(crate) references: [U32; 2],
    /// Octets of the file: start and length.
    pub(crate) description: [U32; 2],
    pub(crate) kind: u8,
    pub(crate) status: u8,
    pub(crate) access: u8,
    /// [`AUGMENTS`] and [`PASSING`].
    pub(crate) flags: u8,
}

/// Of a node: its reference is the row that it augments.
pub(crate) const AUGMENTS: u8 = 1;
/// Of a node: it was only named by the way, inside of another one's value.
pub(crate) const PASSING: u8 = 2;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SyntaxRecord {
    pub(crate) convention: U32,
    pub(crate) hint: U32,
    pub(crate) units: U32,
    /// Into the labels, sorted by number.
    pub(crate) labels: [U32; 2],
    pub(crate) size: [U32; 2],
    pub(crate) has_size: u8,
    pub(crate) base: u8,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct LabelRecord {
    pub(crate) number: I64,
    pub(crate) name: U32,
}

/// Why octets are not taken for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageError {
    /// They are of some other kind.
    Foreign,
    /// Another version of Nereus has written them.
    Version(u32),
    /// They are fewer, or more, than they were.
    Truncated,
    /// They are not what was written.
    Checksum,
    /// They were written by something that does not keep to the format: this part does not hold together.
    Malformed(&'static str),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is no image of compiled MIBs"),
            Self::Version(version) => {
                write!(f, "its format is version {version}, and this is version {VERSION}")
            }
            Self::Truncated => f.write_str("it is not of the length that it had when it was written"),
            Self::Checksum => f.write_str("its checksum does not fit: it was damaged"),
            Self::Malformed(what) => write!(f, "it does not hold together: {what}"),
        }
    }
}

impl std::error::Error for ImageError {}

/// What an image is made of.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) files: Vec<FileEntry>,
    pub(crate) modules: Vec<ModuleRecord>,
    pub(crate) nodes: Vec<NodeRecord>,
    pub(crate) references: Vec<U32>,
    pub(crate) syntaxes: Vec<SyntaxRecord>,
    pub(crate) labels: Vec<LabelRecord>,
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) parents: Vec<U32>,
    pub(crate) name_slots: Vec<U32>,
    pub(crate) text_ends: Vec<U32>,
    pub(crate) text: Vec<u8>,
}

impl Parts {
    /// The octets.
    pub(crate) fn to_octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.header().length.get() as usize);
        // Memory takes whatever is written.
        if let Ok(sum) = self.write_to(&mut octets) {
            write_checksum(&mut octets, sum);
        }
        octets
    }

    /// Writes the octets, but for the checksum, which is returned: it belongs to [`CHECKSUM_AT`].
    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<u64> {
        let header = self.header();
        let (head, checked) = header.as_bytes().split_at(CHECKED);
        out.write_all(head)?;
        let mut out = Summed { out, chunk: Vec::with_capacity(CHUNK), number: 0, sum: 0 };
        let Self {
            files,
            modules,
            nodes,
            references,
            syntaxes,
            labels,
            vertices,
            parents,
            name_slots,
            text_ends,
            text,
        } = self;
        for section in [
            checked,
            files.as_bytes(),
            modules.as_bytes(),
            nodes.as_bytes(),
            vertices.as_bytes(),
            parents.as_bytes(),
            name_slots.as_bytes(),
            references.as_bytes(),
            syntaxes.as_bytes(),
            labels.as_bytes(),
            text_ends.as_bytes(),
            text,
        ] {
            out.put(section)?;
        }
        out.put_chunk()?;
        Ok(out.sum)
    }

    fn header(&self) -> Header {
        let counts = [
            self.files.len(),
            self.modules.len(),
            self.nodes.len(),
            self.vertices.len(),
            self.parents.len(),
            self.name_slots.len(),
            self.references.len(),
            self.syntaxes.len(),
            self.labels.len(),
            self.text_ends.len(),
            self.text.len(),
        ];
        header(counts)
    }
}

/// The header of an image of so many records, but for its checksum.
pub(super) fn header(counts: [usize; SECTIONS]) -> Header {
    let length =
        size_of::<Header>() + counts.iter().zip(SIZES).map(|(count, size)| count * size).sum::<usize>();
    Header {
        magic: MAGIC,
        version: VERSION.into(),
        checksum: 0.into(),
        length: (length as u64).into(),
        counts: counts.map(|count| U32::new(count as u32)),
    }
}

/// Sums up what it passes on.
struct Summed<'a, W> {
    out: &'a mut W,
    chunk: Vec<u8>,
    number: u64,
    sum: u64,
}

impl<W: Write> Summed<'_, W> {
    fn put(&mut self, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            let (now, later) = octets.split_at(octets.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            if self.chunk.len() == CHUNK {
                self.put_chunk()?;
            }
            octets = later;
        }
        Ok(())
    }

    fn put_chunk(&mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            self.sum = self.sum.wrapping_add(chunk_sum(self.number, &self.chunk));
            self.number += 1;
            self.out.write_all(&self.chunk)?;
            self.chunk.clear();
        }
        Ok(())
    }
}

/// The octets of a record of each section.
pub(super) const SIZES: [usize; SECTIONS] = [
    size_of::<FileEntry>(),
    size_of::<ModuleRecord>(),
    size_of::<NodeRecord>(),
    size_of::<Vertex>(),
    size_of::<U32>(),
    size_of::<U32>(),
    size_of::<U32>(),
    size_of::<SyntaxRecord>(),
    size_of::<LabelRecord>(),
    size_of::<U32>(),
    1,
];

/// Where the sections of an image are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    sections: [Range<usize>; SECTIONS],
}

/// A section's records.
fn records<T: FromBytes + Immutable + KnownLayout + Unaligned>(octets: &[u8], at: Range<usize>) -> &[T] {
    <[T]>::ref_from_bytes(octets.get(at).unwrap_or_default()).unwrap_or_default()
}

macro_rules! sections {
    ($($number:literal $name:ident: $record:ty,)*) => {
        $(pub(crate) fn $name<'a>(&self, octets: &'a [u8]) -> &'a [$record] {
            records(octets, self.sections[$number].clone())
        })*
    };
}

impl Layout {
    sections! {
        0 files: FileEntry,
        1 modules: ModuleRecord,
        2 nodes: NodeRecord,
        3 vertices: Vertex,
        4 parents: U32,
        5 name_slots: U32,
        6 references: U32,
        7 syntaxes: SyntaxRecord,
        8 labels: LabelRecord,
        9 text_ends: U32,
        10 text: u8,
    }

    /// Where a node's record lies.
    pub(crate) fn node_at(&self, node: u32) -> usize {
        self.sections[2].start + node as usize * size_of::<NodeRecord>()
    }

    /// Where a module's record lies.
    pub(crate) fn module_at(&self, module: u32) -> usize {
        self.sections[1].start + module as usize * size_of::<ModuleRecord>()
    }

    /// The octets of all sections, and of the header.
    pub(super) fn len(&self) -> usize {
        self.sections[SECTIONS - 1].end
    }

    /// Of octets that were just written; of others see [`check`](Self::check).
    ///
    /// # Errors
    /// As far as the header tells.
    pub(crate) fn of(octets: &[u8]) -> Result<Self, ImageError> {
        let (header, _) = Header::ref_from_prefix(octets).map_err(|_| ImageError::Truncated)?;
        let mut at = size_of::<Header>();
        let mut sections = std::array::from_fn(|_| 0..0);
        for ((section, count), size) in sections.iter_mut().zip(&header.counts).zip(SIZES) {
            let end = (count.get() as usize).checked_mul(size).and_then(|len| len.checked_add(at));
            let end = end.filter(|&end| end <= octets.len()).ok_or(ImageError::Truncated)?;
            *section = at..end;
            at = end;
        }
        if at != octets.len() || header.length.get() != at as u64 {
            return Err(ImageError::Truncated);
        }
        Ok(Self { sections })
    }

    /// Of octets from outside, all of which are looked at once.
    ///
    /// # Errors
    /// [`ImageError`]: nothing in them is to be used.
    pub(crate) fn check(octets: &[u8]) -> Result<Self, ImageError> {
        if octets.get(..MAGIC.len()) != Some(&MAGIC) {
            return Err(ImageError::Foreign);
        }
        let (header, _) = Header::ref_from_prefix(octets).map_err(|_| ImageError::Truncated)?;
        if header.version.get() != VERSION {
            return Err(ImageError::Version(header.version.get()));
        }
        let layout = Self::of(octets)?;
        if image_checksum(octets) != header.checksum.get() {
            return Err(ImageError::Checksum);
        }
        layout.check_tree(octets)?;
        layout.check_nodes(octets)?;
        layout.check_names(octets)?;
        Ok(layout)
    }

    fn check_tree(&self, octets: &[u8]) -> Result<(), ImageError> {
        let (vertices, parents) = (self.vertices(octets), self.parents(octets));
        let nodes = self.nodes(octets);
        let holds = || {
            if vertices.is_empty() || vertices.len() != parents.len() || parents[0].get() != 0 {
                return None;
            }
            // The children of all follow each other, so each vertex is the child of one, which stands before it.
            let mut next = 1usize;
            for (at, vertex) in vertices.iter().enumerate() {
                let (first, count) = (vertex.first.get() as usize, vertex.count.get() as usize);
                if count > 0 {
                    let end = first.checked_add(count)?;
                    if first != next || first <= at {
                        return None;
                    }
                    let below = vertices.get(first..end)?;
                    if below[0].arc != vertex.lowest
                        || parents[first..end].iter().any(|parent| parent.get() as usize != at)
                        || below.windows(2).any(|pair| pair[0].arc.get() >= pair[1].arc.get())
                    {
                        return None;
                    }
                    next = end;
                }
                let node = vertex.node.get();
                if node != NONE && nodes.get(node as usize)?.vertex.get() as usize != at {
                    return None;
                }
            }
            (next == vertices.len()).then_some(())
        };
        holds().ok_or(ImageError::Malformed("the tree of OIDs"))
    }

    fn check_nodes(&self, octets: &[u8]) -> Result<(), ImageError> {
        let (nodes, references, syntaxes) =
            (self.nodes(octets), self.references(octets), self.syntaxes(octets));
        let (vertices, modules) = (self.vertices(octets).len(), self.modules(octets).len());
        let within = |[start, number]: [U32; 2], all: usize| {
            (start.get() as usize).checked_add(number.get() as usize).filter(|&end| end <= all)
        };
        // Nodes stand in the order of their vertices, and what they refer to in theirs, without a gap.
        let (mut last, mut referred) = (0, 0);
        for node in nodes {
            let vertex = node.vertex.get() as usize;
            if std::mem::replace(&mut last, vertex) > vertex {
                return Err(ImageError::Malformed("the order of the nodes"));
            }
            let syntax = node.syntax.get();
            if vertex == 0
                || vertex >= vertices
                || node.module.get() as usize >= modules
                || (syntax != NONE && syntax as usize >= syntaxes.len())
            {
                return Err(ImageError::Malformed("a node"));
            }
            let own = within(node.references, references.len())
                .and_then(|end| references.get(node.references[0].get() as usize..end))
                .ok_or(ImageError::Malformed("the references of a node"))?;
            if !own.is_empty() {
                if node.references[0].get() as usize != referred {
                    return Err(ImageError::Malformed("the order of the references"));
                }
                referred += own.len();
            }
            let plain = node.flags & AUGMENTS != 0 || Kind::from_octet(node.kind) == Kind::Notification;
            let leads = |reference: u32| {
                let masked = reference & !IMPLIED;
                (reference as usize) < nodes.len()
                    || !plain && ((masked as usize) < nodes.len() || masked == ANONYMOUS)
            };
            if !own.iter().all(|reference| leads(reference.get())) {
                return Err(ImageError::Malformed("the references of a node"));
            }
        }
        if referred != references.len() {
            return Err(ImageError::Malformed("the order of the references"));
        }
        let labels = self.labels(octets).len();
        if syntaxes.iter().any(|syntax| within(syntax.labels, labels).is_none()) {
            return Err(ImageError::Malformed("the labels of a type"));
        }
        let files = self.files(octets).len();
        if self.modules(octets).iter().any(|module| module.file.get() as usize >= files) {
            return Err(ImageError::Malformed("the file of a module"));
        }
        Ok(())
    }

    fn check_names(&self, octets: &[u8]) -> Result<(), ImageError> {
        let (nodes, slots) = (self.nodes(octets), self.name_slots(octets));
        // Each node is led to once at most, so no chain that begins in the table comes back to where it was.
        let mut met = vec![false; nodes.len()];
        let mut meet = |node: u32| {
            node == NONE || met.get_mut(node as usize).is_some_and(|met| !std::mem::replace(met, true))
        };
        // A name that is not there is looked for up to an empty slot.
        let whole = slots.last().is_some_and(|slot| slot.get() == NONE)
            && slots.iter().all(|slot| meet(slot.get()))
            && nodes.iter().all(|node| meet(node.next.get()));
        if whole { Ok(()) } else { Err(ImageError::Malformed("the table of names")) }
    }
}

/// Where in a table of so many slots the search for a name of this hash begins.
///
/// The table holds the first node of each name in the order of the names' hashes, each as near behind its beginning as
/// those before it leave room, and ends with an empty slot. So it is told by the names alone, whatever the order in
/// which they were put in.
pub(crate) fn slot_of(slots: usize, hash: u64) -> usize {
    match slots.checked_ilog2() {
        None | Some(0) => 0,
        Some(bits) => (hash >> (64 - bits)) as usize,
    }
}

/// How many beginnings the table of so many names has.
pub(crate) fn slots_for(names: usize) -> usize {
    (names * 2).max(8).next_power_of_two()
}

/// The most slots that the table of so many names takes.
pub(crate) fn most_slots(names: usize) -> usize {
    slots_for(names) + names + 1
}

/// Fills the table with the nodes of so many names, which come in the order of their hashes. `slots` is empty, and as
/// long as [`most_slots`] says; how many of them are used is returned.
pub(crate) fn fill_slots(
    slots: &mut [U32],
    names: usize,
    in_order: impl Iterator<Item = (u64, u32)>,
) -> usize {
    let beginnings = slots_for(names);
    let mut next = 0;
    for (hash, node) in in_order {
        let at = slot_of(beginnings, hash).max(next);
        slots[at] = node.into();
        next = at + 1;
    }
    beginnings.max(next) + 1
}

/// Writes the checksum that the octets have into its place.
pub(super) fn sign(octets: &mut [u8]) {
    let sum = image_checksum(octets);
    write_checksum(octets, sum);
}

/// Where the checksum stands.
pub(super) const CHECKSUM_AT: usize = CHECKED - size_of::<u64>();

pub(super) fn write_checksum(octets: &mut [u8], sum: u64) {
    if let Some(place) = octets.get_mut(CHECKSUM_AT..CHECKED) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// The checksum that an image says it has.
pub(super) fn written_checksum(octets: &[u8]) -> &[u8] {
    octets.get(CHECKSUM_AT..CHECKED).unwrap_or_default()
}

/// Octets that are summed up together.
const CHUNK: usize = 64 << 10;

/// Over what follows the checksum: a sum over its chunks, so that who changes some octets need not read the others.
fn image_checksum(octets: &[u8]) -> u64 {
    let chunks: Vec<&[u8]> = octets.get(CHECKED..).unwrap_or_default().chunks(CHUNK).collect();
    let sums = workers::in_parallel(chunks.len(), || (), |(), at| chunk_sum(at as u64, chunks[at]));
    sums.into_iter().fold(0, u64::wrapping_add)
}

fn chunk_sum(number: u64, chunk: &[u8]) -> u64 {
    fold(checksum(chunk) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0xd6e8_feb8_6659_fd93)
}

/// Puts each of `patches` in its place behind the header, and the checksum right. False where one has no place.
pub(super) fn patch(octets: &mut [u8], patches: &[Patch]) -> bool {
    let Ok(before) = <[u8; 8]>::try_from(written_checksum(octets)) else { return false };
    let mut sum = u64::from_le_bytes(before);
    let mut touched = BTreeSet::new();
    for (at, with) in patches {
        let end = at.saturating_add(with.len());
        if *at < size_of::<Header>() || end > octets.len() || with.is_empty() {
            return false;
        }
        touched.extend((at - CHECKED) / CHUNK..=(end - 1 - CHECKED) / CHUNK);
    }
    let of = |octets: &[u8], number: usize| {
        let start = CHECKED + number * CHUNK;
        chunk_sum(number as u64, &octets[start..octets.len().min(start + CHUNK)])
    };
    sum = touched.iter().fold(sum, |sum, &number| sum.wrapping_sub(of(octets, number)));
    for (at, with) in patches {
        octets[*at..at + with.len()].copy_from_slice(with);
    }
    sum = touched.iter().fold(sum, |sum, &number| sum.wrapping_add(of(octets, number)));
    write_checksum(octets, sum);
    true
}

/// Octets of an image, and where they go.
pub(super) type Patch = (usize, Box<[u8]>);

/// Tells damage; equal on every machine. Four independent strands, so that memory is what bounds it.
pub(crate) fn checksum(octets: &[u8]) -> u64 {
    const FACTORS: [u64; 4] =
        [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];
    let step = |strands: &mut [u64; 4], at: usize, word: [u8; 8]| {
        let mixed = fold(strands[at] ^ u64::from_le_bytes(word), FACTORS[at]);
        strands[at] = mixed.wrapping_add(FACTORS[3 - at]);
    };
    let mut strands = FACTORS;
    let (words, rest) = octets.as_chunks::<8>();
    let (rounds, last) = words.as_chunks::<4>();
    for &[a, b, c, d] in rounds {
        step(&mut strands, 0, a);
        step(&mut strands, 1, b);
        step(&mut strands, 2, c);
        step(&mut strands, 3, d);
    }
    for (at, &word) in last.iter().enumerate() {
        step(&mut strands, at, word);
    }
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    step(&mut strands, 3, word);
    strands
        .iter()
        .fold(octets.len() as u64, |sum, &strand| fold(sum ^ strand, FACTORS[0]).wrapping_add(strand))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mib::Mib;

    fn nodes_of<'a>(layout: &Layout, octets: &'a mut [u8]) -> &'a mut [NodeRecord] {
        <[NodeRecord]>::mut_from_bytes(&mut octets[layout.sections[2].clone()]).unwrap()
    }

    /// What the built-in names come to when they are changed so.
    fn checked(change: impl Fn(&Layout, &mut [u8])) -> Option<ImageError> {
        let mut octets = Mib::builtin().image().to_vec();
        let layout = Layout::check(&octets).unwrap();
        change(&layout, &mut octets);
        sign(&mut octets);
        Layout::check(&octets).err()
    }

    #[test]
    fn nodes_out_of_order_are_refused() {
        assert_eq!(checked(|_, _| ()), None);
        // Two nodes change their places, and their vertices know it: every number still leads somewhere.
        let swapped = checked(|layout, octets| {
            let nodes = nodes_of(layout, octets);
            let plain = |node: &NodeRecord| node.references[1].get() == 0;
            let a = nodes.iter().position(plain).unwrap();
            let b = nodes.iter().rposition(plain).unwrap();
            let vertices = [nodes[a].vertex, nodes[b].vertex].map(|vertex| vertex.get() as usize);
            nodes.swap(a, b);
            let all = <[Vertex]>::mut_from_bytes(&mut octets[layout.sections[3].clone()]).unwrap();
            assert!(vertices[0] < vertices[1]);
            assert_eq!(vertices.map(|vertex| all[vertex].node.get() as usize), [a, b]);
            (all[vertices[0]].node, all[vertices[1]].node) = ((b as u32).into(), (a as u32).into());
        });
        assert_eq!(swapped, Some(ImageError::Malformed("the order of the nodes")));
    }

    #[test]
    fn references_out_of_order_are_refused() {
        let swapped = checked(|layout, octets| {
            let nodes = nodes_of(layout, octets);
            let mut same = nodes.iter().enumerate().filter(|(_, node)| node.references[1].get() == 1);
            let (a, b) = (same.next().unwrap().0, same.next().unwrap().0);
            let references = nodes[a].references;
            nodes[a].references = nodes[b].references;
            nodes[b].references = references;
        });
        assert_eq!(swapped, Some(ImageError::Malformed("the order of the references")));
    }
}
