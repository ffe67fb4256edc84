//! Memory in which an image is made in place, each of its sections by whoever has time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use memmap2::{Mmap, MmapMut};
use parking_lot::Mutex;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes, KnownLayout, Unaligned};

use super::format::{
    FileEntry, Header, LabelRecord, Layout, ModuleRecord, NodeRecord, SECTIONS, SIZES, SyntaxRecord, header,
    sign,
};
use super::image::Mib;
use super::trie::Vertex;

/// Room for an image.
#[derive(Debug)]
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

    /// For an image that is hardly larger than this one, and how many octets of it that will take.
    ///
    /// # Errors
    /// When the system has no room.
    fn for_next(layout: &Layout) -> io::Result<(Self, usize)> {
        let len = layout.len();
        // The rest is there for what is counted twice, and is hardly ever needed.
        Ok((Self::new(len + len / 16 + (1 << 20))?, len + len / 64))
    }

    /// Has the system give the pages of a stretch now, so that filling it later does not wait for that. They keep what
    /// is in them.
    #[cfg(target_os = "linux")]
    fn populate(&self, at: usize, len: usize) {
        let len = len.min(self.pages.len().saturating_sub(at));
        // Where it cannot be, they are given when they are written to.
        let _ = self.pages.advise_range(memmap2::Advice::PopulateWrite, at, len);
    }

    #[cfg(not(target_os = "linux"))]
    fn populate(&self, _at: usize, _len: usize) {}

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

/// Room whose pages the system gives while something else is done: on a thread of its own, and on that of whoever
/// comes to need it before it is there.
pub(crate) struct Ahead {
    filling: Arc<Filling>,
    /// Answers once the thread has ended.
    ended: Receiver<()>,
}

struct Filling {
    room: Room,
    /// Whether somebody waits for it.
    needed: AtomicBool,
    /// How many octets are wanted.
    len: usize,
    /// The first one that nobody has asked for.
    next: AtomicUsize,
}

impl Filling {
    fn of(room: Room, len: usize) -> Self {
        Self { room, needed: AtomicBool::new(false), len, next: AtomicUsize::new(0) }
    }

    fn fill(&self) {
        // A huge page, or as many small ones as it has.
        const PIECE: usize = 2 << 20;
        loop {
            let at = self.next.fetch_add(PIECE, Ordering::Relaxed);
            if at >= self.len {
                return;
            }
            self.room.populate(at, PIECE.min(self.len - at));
        }
    }
}

impl Ahead {
    /// For an image that is hardly larger than `before`, in the pages of `spare` if there are any. The pages of `before`,
    /// all of which will be read, are asked for first.
    ///
    /// # Errors
    /// When the system has no room.
    pub(super) fn begin(spare: Option<Room>, before: Arc<Mib>) -> io::Result<Self> {
        let (room, len) = match spare {
            Some(spare) => (spare, before.layout.len()),
            None => Room::for_next(&before.layout)?,
        };
        let filling = Arc::new(Filling::of(room, len));
        let (sender, ended) = sync_channel(1);
        let beside = Arc::clone(&filling);
        let fill = move || {
            before.map_pages(&beside.needed);
            beside.fill();
            drop((beside, before));
            let _ = sender.send(());
        };
        // Without the thread all is left to whoever needs it.
        let _ = thread::Builder::new().name("mib_room".into()).spawn(fill);
        Ok(Self { filling, ended })
    }

    /// Of room that is there.
    pub(crate) fn of(room: Room) -> Self {
        let (_, ended) = sync_channel(1);
        Self { filling: Arc::new(Filling::of(room, 0)), ended }
    }

    /// The room, once all of its pages are there.
    pub(crate) fn ready(self) -> Option<Room> {
        self.filling.needed.store(true, Ordering::Relaxed);
        self.filling.fill();
        self.ended()
    }

    /// The room with what is there of its pages. Waits for a piece at the most.
    pub(super) fn leave(self) -> Option<Room> {
        self.filling.needed.store(true, Ordering::Relaxed);
        self.filling.next.store(self.filling.len, Ordering::Relaxed);
        self.ended()
    }

    fn ended(self) -> Option<Room> {
        let Self { filling, ended } = self;
        // An error where there was no thread.
        let _ = ended.recv();
        Arc::into_inner(filling).map(|filling| filling.room)
    }
}

/// Octets of the room for the first edit that are kept ready before there is one: the rest can be had beside the linking,
/// and the image of a large tree, the program and this take less than 150 MiB.
pub(super) const BEFORE_FIRST: usize = 72 << 20;

/// The room for the image of the next edit: at most [`BEFORE_FIRST`] of it is kept ready from the start on, all of it from
/// the first edit on. Getting a hundred MiB of pages anew for each takes longer than linking, on a virtual machine
/// several times as long: what a guest has given back for some seconds, its host has to give again.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Option<Room>>);

impl Spare {
    pub(super) fn take(&self) -> Option<Room> {
        self.0.lock().take()
    }

    pub(super) fn put(&self, room: Room) {
        *self.0.lock() = Some(room);
    }

    /// Makes one for an edit of the image of `layout` where there is none, with at most so many octets of its pages. Takes
    /// tens of milliseconds, and as much memory as the image if there is no bound to it.
    pub(super) fn make(&self, layout: &Layout, most: usize) {
        if self.0.lock().is_none()
            && let Ok((room, len)) = Room::for_next(layout)
        {
            room.populate(0, len.min(most));
            self.put(room);
        }
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;

    use crate::mib::{Collected, Collection, Scan};

    /// How many octets of the mapping at `address` are in memory, and how many of them in no file.
    fn resident(address: *const u8) -> (usize, usize) {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut within = false;
        let (mut all, mut anonymous) = (0, 0);
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(first) = words.next() else { continue };
            let mut octets = || words.next().and_then(|kib| kib.parse::<usize>().ok()).unwrap() * 1024;
            if let Some((start, end)) = first.split_once('-')
                && let (Ok(start), Ok(end)) =
                    (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
            {
                within = (start..end).contains(&address.addr());
            } else if within && first == "Rss:" {
                all = octets();
            } else if within && first == "Anonymous:" {
                anonymous = octets();
            }
        }
        (all, anonymous)
    }

    struct Bed {
        root: tempfile::TempDir,
        directories: Vec<PathBuf>,
    }

    impl Bed {
        /// With names for some MiB.
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let directories = vec![root.path().join("mibs")];
            fs::create_dir(&directories[0]).unwrap();
            let bed = Self { root, directories };
            for module in 0..4 {
                let names = (0..10_000).map(|name| {
                    format!("aRatherLongName{module}x{name} OBJECT IDENTIFIER ::= {{ big{module} {name} }}\n")
                });
                bed.write(
                    &format!("BIG{module}-MIB"),
                    module,
                    &format!("big{module}"),
                    &names.collect::<String>(),
                );
            }
            bed
        }

        fn write(&self, module: &str, number: u32, name: &str, more: &str) {
            let text = format!(
                "{module} DEFINITIONS ::= BEGIN {name} OBJECT IDENTIFIER ::= {{ enterprises {number} }}\n{more}END\n"
            );
            fs::write(self.directories[0].join(module), text).unwrap();
        }

        fn make(&self, before: Option<&Collection>) -> (Collection, Collected) {
            Collection::make(Scan::of(&self.directories), before, false, &AtomicBool::new(false)).unwrap()
        }

        fn write_cache(&self, collection: &Collection) {
            collection.write_cache(&self.root.path().join("cache"), &self.directories).unwrap();
        }
    }

    #[test]
    fn an_edit_is_made_in_the_room_that_the_one_before_has_left() {
        let bed = Bed::new();
        let (cold, _) = bed.make(None);
        bed.write_cache(&cold);
        assert!(cold.spare.take().is_none(), "none before it is asked for");
        cold.make_ready_for_edits();
        let kept = cold.spare.take().unwrap();
        let room = kept.pages.as_ptr();
        assert!(resident(room).1 >= cold.mib.size());
        cold.spare.put(kept);
        bed.write("E-MIB", 9999, "e", "");
        let (first, collected) = bed.make(Some(&cold));
        assert_eq!((collected.linked, first.mib.image().as_ptr()), (1, room));
        assert!(first.spare.take().is_none(), "its own room is taken");
        bed.write_cache(&first);
        assert_eq!(resident(first.mib.image().as_ptr()).1, 0, "what it was made in is given back");
        let kept = first.spare.take().unwrap();
        let room = kept.pages.as_ptr();
        assert!(resident(room).1 >= first.mib.size());
        first.spare.put(kept);
        // An edit that needs none leaves it, as does one that comes to another end.
        bed.write("E-MIB", 9999, "e", "-- nothing\n");
        let (comment, collected) = bed.make(Some(&first));
        assert_eq!(collected.linked, 0);
        bed.write_cache(&comment);
        bed.write("E-MIB", 9999, "e", "x OBJECT IDENTIFIER ::= { y 1 } y OBJECT IDENTIFIER ::= { x 1 }\n");
        let (circle, collected) = bed.make(Some(&comment));
        assert_eq!(collected.linked, 5, "all files");
        let kept = circle.spare.take().unwrap();
        assert_eq!(kept.pages.as_ptr(), room);
        circle.spare.put(kept);
        bed.write("E-MIB", 9998, "e", "");
        let (second, collected) = bed.make(Some(&comment));
        assert_eq!(collected.linked, 1);
        assert_eq!(second.mib.image().as_ptr(), room);
        assert!(second.mib.image() == bed.make(None).0.mib.image());
        // While it is still in memory, another edit has to ask for room.
        bed.write("E-MIB", 9997, "e", "");
        let (third, _) = bed.make(Some(&second));
        assert_ne!(third.mib.image().as_ptr(), room);
        assert!(third.mib.image() == bed.make(None).0.mib.image());
    }

    #[test]
    fn an_older_image_takes_no_memory_and_says_the_same() {
        let bed = Bed::new();
        let (cold, _) = bed.make(None);
        bed.write_cache(&cold);
        let read = Collection::read_cache(&bed.root.path().join("cache"), &bed.directories).unwrap();
        let at = read.mib.image().as_ptr();
        let size = read.mib.size();
        read.mib.map_pages(&AtomicBool::new(false));
        assert!(resident(at).0 >= size);
        read.mib.let_go();
        assert_eq!(resident(at).0, 0, "the file has all of it");
        assert!(read.mib.image() == cold.mib.image());
        assert!(resident(at).0 >= size);
        read.mib.page_out();
        let left = resident(at).0;
        // What lies in memory anyway has nowhere to go.
        let in_memory = rustix::fs::statfs(bed.root.path()).is_ok_and(|found| found.f_type == 0x0102_1994);
        assert!(in_memory || left < size / 2, "{left} of {size}");
        assert!(read.mib.image() == cold.mib.image());
        read.mib.page_out();
        read.mib.map_pages(&AtomicBool::new(true));
        assert!(in_memory || resident(at).0 < size / 2, "nobody needs it");
        read.mib.map_pages(&AtomicBool::new(false));
        assert!(resident(at).0 >= size);
    }

    #[test]
    fn room_is_whole_however_it_is_come_by() {
        let mib = Mib::builtin();
        let fits = |room: Option<Room>| room.unwrap().pages.len() >= mib.layout.len();
        assert!(fits(Ahead::begin(None, Arc::clone(&mib)).unwrap().ready()));
        assert!(fits(Ahead::begin(None, Arc::clone(&mib)).unwrap().leave()));
        let (mut room, _) = Room::for_next(&mib.layout).unwrap();
        room.pages[..4].copy_from_slice(b"kept");
        let room = Ahead::of(room).ready().unwrap();
        let room = Ahead::begin(Some(room), mib).unwrap().ready().unwrap();
        assert_eq!(room.pages[..4], *b"kept");
    }
}
