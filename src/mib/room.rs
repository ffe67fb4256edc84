//! Memory in which an image is made in place, each of its sections by whoever has time.

use std::io;

use memmap2::{Mmap, MmapMut};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes, KnownLayout, Unaligned};

use super::format::{
    FileEntry, Header, LabelRecord, Layout, ModuleRecord, NodeRecord, SECTIONS, SIZES, SyntaxRecord, header,
    sign,
};
use super::trie::Vertex;

/// Room for an image.
pub(crate) struct Room {
    pages: MmapMut,
}

/// The sections of an image, each as long as it will be. What they hold at first is of no meaning.
pub(crate) struct Sections<'a> {
    pub(crate) files: &'a mut [FileEntry],
    pub(crate) modules: &'a mut [ModuleRecord],
    pub(crate) nodes: &'a mut [NodeRecord],
    pub(crate) vertices: &'a mut [Vertex],
    pub(crate) parents: &'a mut [U32],
    pub(crate) name_slots: &'a mut [U32],
    pub(crate) references: &'a mut [U32],
    pub(crate) syntaxes: &'a mut [SyntaxRecord],
    pub(crate) labels: &'a mut [LabelRecord],
    pub(crate) text_ends: &'a mut [U32],
    pub(crate) text: &'a mut [u8],
}

impl Room {
    /// For so many octets.
    ///
    /// # Errors
    /// When the system has no room.
    fn new(len: usize) -> io::Result<Self> {
        Ok(Self { pages: pages(len)? })
    }

    /// For at the most so many records in each section; `ahead` if it is enough.
    ///
    /// # Errors
    /// When the system has no room.
    pub(crate) fn of(most: [usize; SECTIONS], ahead: Option<Self>) -> io::Result<Self> {
        let len = header(most).length.get() as usize;
        ahead.filter(|room| room.pages.len() >= len).map_or_else(|| Self::new(len), Ok)
    }

    /// For an image that is hardly larger than this one. The system gives all of it now, so that filling it later
    /// does not wait for that.
    ///
    /// # Errors
    /// When the system has no room.
    pub(super) fn ahead(layout: &Layout) -> io::Result<Self> {
        const PAGE: usize = 4096;
        let len = layout.len();
        let mut room = Self::new(len + len / 16 + (1 << 20))?;
        // The rest is there for what is counted twice, and is hardly ever needed.
        for page in room.pages[..len + len / 64].chunks_mut(PAGE) {
            page[0] = 0;
        }
        Ok(room)
    }

    /// The sections of so many records each. `None` where there is no room for them. A section keeps what is in it as
    /// long as the numbers of those before it are the same.
    pub(crate) fn sections(&mut self, counts: [usize; SECTIONS]) -> Option<Sections<'_>> {
        let mut rest = self.pages.get_mut(size_of::<Header>()..)?;
        let mut lengths = counts.iter().zip(SIZES).map(|(count, size)| count * size);
        let mut next = || {
            let (section, behind) = std::mem::take(&mut rest).split_at_mut_checked(lengths.next()?)?;
            rest = behind;
            Some(section)
        };
        Some(Sections {
            files: records(next()?),
            modules: records(next()?),
            nodes: records(next()?),
            vertices: records(next()?),
            parents: records(next()?),
            name_slots: records(next()?),
            references: records(next()?),
            syntaxes: records(next()?),
            labels: records(next()?),
            text_ends: records(next()?),
            text: next()?,
        })
    }

    /// The image of so many records in each section, with its header and its checksum: the first so many octets of the
    /// pages.
    ///
    /// # Errors
    /// When the system refuses to make it unchangeable.
    pub(crate) fn finish(mut self, counts: [usize; SECTIONS]) -> io::Result<(Mmap, usize)> {
        let header = header(counts);
        let len = header.length.get() as usize;
        self.pages[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        sign(&mut self.pages[..len]);
        Ok((self.pages.make_read_only()?, len))
    }
}

fn records<T: FromBytes + IntoBytes + KnownLayout + Unaligned>(octets: &mut [u8]) -> &mut [T] {
    <[T]>::mut_from_bytes(octets).unwrap_or_default()
}

/// A copy of octets in pages of its own, and how many they are.
pub(super) fn copied(octets: &[u8]) -> io::Result<(MmapMut, usize)> {
    let mut pages = pages(octets.len())?;
    pages[..octets.len()].copy_from_slice(octets);
    Ok((pages, octets.len()))
}

/// Empty memory, all of which will be written to.
fn pages(len: usize) -> io::Result<MmapMut> {
    let pages = MmapMut::map_anon(len)?;
    // A page of 4 KiB at a time costs more than filling it.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Ok(pages)
}
