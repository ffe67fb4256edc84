//! Compiling again and again: whatever happens to the files in between, what is known afterwards is what a
//! fresh compile of them knows, and only what changed is read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nereus::mib::{Cancelled, Collected, Collection, Mib, Scan, read_directories};
use proptest::prelude::*;

/// What can be seen of compiled MIBs.
fn picture(mib: &Mib) -> Vec<String> {
    let nodes = mib.nodes().map(|node| {
        let syntax = node.syntax().map(|syntax| {
            let labels: Vec<_> = syntax.labels().collect();
            (syntax.base(), syntax.convention(), syntax.hint(), syntax.units(), syntax.size(), labels)
        });
        let objects: Vec<_> = node.objects().map(|object| mib.node(object).qualified_name()).collect();
        let index: Vec<_> =
            node.index().map(|part| part.map(|part| mib.node(part).qualified_name())).collect();
        format!(
            "{} {node:?} {:?} {:?} {} {} {:?} {syntax:?} {objects:?} {index:?}",
            node.oid(),
            node.status(),
            node.access(),
            node.file(),
            node.line(),
            node.description(),
        )
    });
    let modules = mib.modules().map(|module| {
        let version = (module.last_updated(), module.is_superseded(), module.nodes());
        format!("{} {} {} {version:?}", module.name(), module.file(), module.line())
    });
    nodes.chain(modules).collect()
}

/// Where two images differ first: the section, and the record in it.
fn difference(a: &[u8], b: &[u8]) -> String {
    const SECTIONS: [(&str, usize); 11] = [
        ("files", 8),
        ("modules", 26),
        ("nodes", 44),
        ("vertices", 20),
        ("parents", 4),
        ("name slots", 4),
        ("references", 4),
        ("syntaxes", 30),
        ("labels", 12),
        ("ends", 4),
        ("text", 1),
    ];
    let count = |octets: &[u8], section: usize| {
        let at = 28 + 4 * section;
        u32::from_le_bytes(octets[at..at + 4].try_into().unwrap()) as usize
    };
    let (mut at_a, mut at_b) = (72, 72);
    for (section, (name, size)) in SECTIONS.into_iter().enumerate() {
        let (of_a, of_b) = (count(a, section), count(b, section));
        for record in 0..of_a.max(of_b) {
            let get = |octets: &[u8], at: usize| {
                octets.get(at + record * size..at + (record + 1) * size).map(<[u8]>::to_vec)
            };
            if record >= of_a.min(of_b) || get(a, at_a) != get(b, at_b) {
                return format!(
                    "{name} {record} of {of_a} and {of_b}: {:?} and {:?}",
                    get(a, at_a),
                    get(b, at_b)
                );
            }
        }
        (at_a, at_b) = (at_a + of_a * size, at_b + of_b * size);
    }
    "nowhere".to_owned()
}

/// How many of the texts stand on each other.
const RELATED: usize = 12;

/// Texts that depend on each other, whole and broken.
fn texts() -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for (name, root, parent, from) in [
        ("A-MIB", "aRoot", "enterprises", "SNMPv2-SMI"),
        ("B-MIB", "bRoot", "aRoot", "A-MIB"),
        ("C-MIB", "cRoot", "bRoot", "B-MIB"),
        // By way of another one, which imports it too.
        ("D-MIB", "dRoot", "aRoot", "B-MIB"),
    ] {
        // From a module that is nowhere as well.
        for (arc, from) in [(1, from), (2, from), (2, "X-MIB")] {
            texts.push(
                format!(
                    "{name} DEFINITIONS ::= BEGIN\nIMPORTS {parent} FROM {from}\n  Label FROM A-MIB;\n{root} OBJECT IDENTIFIER ::= \
                     {{ {parent} {arc} }}\nLabel ::= INTEGER {{ low({arc}) }}\n{root}Value OBJECT-TYPE SYNTAX Label \
                     MAX-ACCESS read-only STATUS current DESCRIPTION \"d\" ::= {{ {root} 7 }}\n\
                     {root}Notice NOTIFICATION-TYPE OBJECTS {{ {parent}Value, {root}Value }} STATUS current \
                     DESCRIPTION \"d\" ::= {{ {root} 8 }}\nEND\n",
                )
                .into_bytes(),
            );
        }
    }
    assert_eq!(texts.len(), RELATED);
    for folder in ["valid", "problems"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs").join(folder);
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        texts.extend(paths.iter().filter(|path| path.is_file()).map(|path| fs::read(path).unwrap()));
    }
    texts.push(Vec::new());
    texts
}

#[derive(Debug, Clone)]
enum Act {
    /// A file appears or becomes another one.
    Write {
        file: usize,
        text: usize,
    },
    /// A file loses its end.
    Break {
        file: usize,
        at: prop::sample::Index,
    },
    Remove {
        file: usize,
    },
    /// The stat changes, the contents do not.
    Touch {
        file: usize,
    },
    Move {
        from: usize,
        to: usize,
    },
    /// A line comes before another, or a word becomes another.
    Edit {
        file: usize,
        at: prop::sample::Index,
        how: usize,
    },
    /// A word becomes another one of the same file.
    Word {
        file: usize,
        at: prop::sample::Index,
        with: prop::sample::Index,
    },
    /// A line vanishes.
    Cut {
        file: usize,
        at: prop::sample::Index,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let file = || 0usize..8;
    prop_oneof![
        4 => (file(), 0usize..1000).prop_map(|(file, text)| Act::Write { file, text }),
        4 => (file(), 0..RELATED).prop_map(|(file, text)| Act::Write { file, text }),
        1 => (file(), any::<prop::sample::Index>()).prop_map(|(file, at)| Act::Break { file, at }),
        1 => file().prop_map(|file| Act::Remove { file }),
        1 => file().prop_map(|file| Act::Touch { file }),
        1 => (file(), file()).prop_map(|(from, to)| Act::Move { from, to }),
        6 => (file(), any::<prop::sample::Index>(), 0usize..13)
            .prop_map(|(file, at, how)| Act::Edit { file, at, how }),
        6 => (file(), any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(file, at, with)| Act::Word { file, at, with }),
        2 => (file(), any::<prop::sample::Index>()).prop_map(|(file, at)| Act::Cut { file, at }),
    ]
}

/// A folder whose files have stamps that say exactly when they were written last, however fast that goes.
struct Folder {
    root: tempfile::TempDir,
    written: BTreeMap<PathBuf, i64>,
    clock: i64,
}

impl Folder {
    fn path(&self, file: usize) -> PathBuf {
        self.root.path().join(format!("{}/f{file}.mib", file % 2))
    }

    fn write(&mut self, path: PathBuf, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.clock += 1;
        self.written.insert(path, self.clock);
    }

    fn apply(&mut self, act: &Act, texts: &[Vec<u8>]) {
        match *act {
            Act::Write { file, text } => self.write(self.path(file), &texts[text % texts.len()]),
            Act::Break { file, at } => {
                if let Ok(bytes) = fs::read(self.path(file))
                    && !bytes.is_empty()
                {
                    self.write(self.path(file), &bytes[..at.index(bytes.len())]);
                }
            }
            Act::Remove { file } => {
                let _ = fs::remove_file(self.path(file));
            }
            Act::Touch { file } => {
                self.clock += 1;
                self.written.insert(self.path(file), self.clock);
            }
            Act::Edit { file, at, how } => self.edit(file, at, how),
            Act::Word { file, at, with } => self.edit_lines(file, |text| {
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
                let words: Vec<(usize, &str)> = text
                    .split(|c| !is_word(c))
                    .filter(|word| !word.is_empty())
                    .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
                    .collect();
                if words.is_empty() {
                    return text.to_owned();
                }
                let ((place, old), (_, new)) = (words[at.index(words.len())], words[with.index(words.len())]);
                [&text[..place], new, &text[place + old.len()..]].concat()
            }),
            Act::Cut { file, at } => self.edit_lines(file, |text| {
                let lines: Vec<&str> = text.lines().collect();
                let cut = at.index(lines.len().max(1));
                let left = lines.iter().enumerate().filter(|&(line, _)| line != cut);
                left.map(|(_, line)| format!("{line}\n")).collect()
            }),
            Act::Move { from, to } => {
                if let Ok(bytes) = fs::read(self.path(from)) {
                    fs::remove_file(self.path(from)).unwrap();
                    self.write(self.path(to), &bytes);
                }
            }
        }
    }

    fn edit_lines(&mut self, file: usize, edited: impl Fn(&str) -> String) {
        if let Ok(bytes) = fs::read(self.path(file)) {
            let edited = edited(&String::from_utf8_lossy(&bytes));
            self.write(self.path(file), edited.as_bytes());
        }
    }

    fn edit(&mut self, file: usize, at: prop::sample::Index, how: usize) {
        let Ok(bytes) = fs::read(self.path(file)) else { return };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (word, with) = [
            ("\n", "\n\n"),
            ("\n", "\n-- a comment\n"),
            ("DESCRIPTION \"", "DESCRIPTION \"more "),
            ("current", "deprecated"),
            ("read-only", "read-write"),
            ("BEGIN", "BEGIN extra OBJECT IDENTIFIER ::= { enterprises 77 }"),
            ("::=", "::= "),
            ("1 }", "9 }"),
            (" OBJECT IDENTIFIER", "Other OBJECT IDENTIFIER"),
            ("IMPORTS", "IMPORTS nothing FROM NOWHERE-MIB"),
            ("FROM SNMPv2-SMI", "FROM RFC1155-SMI"),
            ("LAST-UPDATED \"2", "LAST-UPDATED \"1"),
            ("INTEGER", "OCTET STRING"),
        ][how];
        let places: Vec<usize> = text.match_indices(word).map(|(place, _)| place).collect();
        if !places.is_empty() {
            let place = places[at.index(places.len())];
            let edited = [&text[..place], with, &text[place + word.len()..]].concat();
            self.write(self.path(file), edited.as_bytes());
        }
    }

    fn scan(&self) -> Scan {
        let mut scan = Scan::of(&[self.root.path().to_owned()]);
        for file in &mut scan.files {
            file.settled = true;
            file.stamp.inode = (0, 0);
            file.stamp.changed = (0, 0);
            file.stamp.modified = (self.written[&file.path], 0);
        }
        scan
    }
}

fn make(scan: Scan, before: Option<&Collection>) -> (Collection, Collected) {
    Collection::make(scan, before, false, &AtomicBool::new(false)).unwrap()
}

proptest! {
    // More of them: `PROPTEST_CASES=2000`, which is above 10,000 reloads.
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(48, |_| ProptestConfig::default().cases),
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_is_always_what_a_fresh_compile_is(steps in prop::collection::vec(prop::collection::vec(act(), 1..4), 1..12)) {
        let texts = texts();
        let mut folder = Folder { root: tempfile::tempdir().unwrap(), written: BTreeMap::new(), clock: 0 };
        let (mut kept, _) = make(folder.scan(), None);
        for acts in steps {
            let before = folder.written.clone();
            for act in &acts {
                folder.apply(act, &texts);
            }
            let scan = folder.scan();
            let differ = |path: &PathBuf| before.get(path) != folder.written.get(path);
            // What was removed and not written since counts as new when it appears again.
            let changed = scan.files.iter().filter(|file| differ(&file.path)).count();
            let old_problems = kept.stats().problems;
            let (next, collected) = make(scan, Some(&kept));
            prop_assert_eq!(collected.read, changed);
            prop_assert!(collected.parsed <= collected.read);
            prop_assert_eq!(collected.reused + collected.parsed, next.stats().files);
            prop_assert_eq!(next.stats().problems + collected.gone_problems, old_problems + collected.new_problems);
            let (files, unread) = read_directories(&[folder.root.path().to_owned()]);
            prop_assert!(unread.is_empty());
            let fresh = Mib::compile(&files);
            prop_assert_eq!(picture(next.mib()), picture(&fresh.mib));
            prop_assert_eq!(&**next.diagnostics(), &*fresh.diagnostics);
            prop_assert_eq!(next.stats(), fresh.stats);
            // Nothing of what was there before is held.
            prop_assert_eq!(next.size(), make(folder.scan(), None).0.size());
            prop_assert!(!collected.unchanged || std::sync::Arc::ptr_eq(next.mib(), kept.mib()));
            let whole = make(folder.scan(), None).0;
            prop_assert!(
                next.mib().image() == whole.mib().image(),
                "{}",
                difference(next.mib().image(), whole.mib().image())
            );
            kept = next;
        }
    }
}

#[test]
fn another_version_counts_also_where_a_module_appears_meanwhile() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, name: &str, imports: &str, body: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{name} DEFINITIONS ::= BEGIN {imports}\n{body}\nEND\n")).unwrap();
    };
    let scan = || {
        let mut scan = Scan::of(&[root.path().to_owned()]);
        scan.files.iter_mut().for_each(|file| file.settled = true);
        scan
    };
    let [a, more] = ["a OBJECT IDENTIFIER ::= { enterprises 1 }\n", "more OBJECT IDENTIFIER ::= { a 1 }"];
    write("near/a", "A-MIB", "", &[a, more].concat());
    write("other/a", "A-MIB", "", &[a, more].concat());
    write("near/c", "C-MIB", "IMPORTS a FROM A-MIB;", "c OBJECT IDENTIFIER ::= { a 2 }");
    let (before, _) = make(scan(), None);
    // It means the version beside it, which is the chosen one no longer.
    write("near/a", "A-MIB", "", a);
    write("near/d", "D-MIB", "", "d OBJECT IDENTIFIER ::= { enterprises 2 }");
    let (next, whole) = (make(scan(), Some(&before)).0, make(scan(), None).0);
    assert!(next.mib().image() == whole.mib().image());
    assert_eq!(next.diagnostics(), whole.diagnostics());
}

#[test]
fn who_imports_by_way_of_another_module_follows_where_that_leads_now() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, imports: &str, body: &str| {
        let text = format!("{name} DEFINITIONS ::= BEGIN {imports}\n{body}\nEND\n");
        fs::write(root.path().join(name), text).unwrap();
    };
    write("X-MIB", "", "n OBJECT IDENTIFIER ::= { enterprises 1 }");
    write("Y-MIB", "", "n OBJECT IDENTIFIER ::= { enterprises 2 }");
    // It does not use what it imports.
    write("A-MIB", "IMPORTS n FROM X-MIB;", "a OBJECT IDENTIFIER ::= { enterprises 3 }");
    write("D-MIB", "IMPORTS n FROM A-MIB;", "d OBJECT IDENTIFIER ::= { n 1 }");
    let scan = || Scan::of(&[root.path().to_owned()]);
    let (before, _) = make(scan(), None);
    write("A-MIB", "IMPORTS n FROM Y-MIB;", "a OBJECT IDENTIFIER ::= { enterprises 3 }");
    let (after, collected) = make(scan(), Some(&before));
    assert!(collected.linked < after.stats().files, "it went the whole way");
    let d = after.mib().nodes().find(|node| node.name() == "d").unwrap();
    assert_eq!(d.oid().to_string(), "1.3.6.1.4.1.2.1");
    assert!(after.mib().image() == make(scan(), None).0.mib().image());
}

#[test]
fn what_stands_on_a_name_follows_the_newer_of_its_modules() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        fs::write(root.path().join(name), format!("{name} DEFINITIONS ::= BEGIN\n{text}\nEND\n")).unwrap();
    };
    let dated = |name: &str, year: u32, arc: u32| {
        let text = format!(
            "m{arc} MODULE-IDENTITY LAST-UPDATED \"{year}01010000Z\" ORGANIZATION \"o\" CONTACT-INFO \"c\" \
             DESCRIPTION \"d\" ::= {{ enterprises {arc} }}\np OBJECT IDENTIFIER ::= {{ m{arc} 1 }}"
        );
        write(name, text);
    };
    dated("X-MIB", 2020, 1);
    dated("Y-MIB", 2010, 2);
    // Without an import the newest module's counts.
    write("A-MIB", "a OBJECT IDENTIFIER ::= { p 1 }".to_owned());
    write("B-MIB", "IMPORTS a FROM A-MIB;\nb OBJECT IDENTIFIER ::= { a 1 }".to_owned());
    write("C-MIB", "c OBJECT IDENTIFIER ::= { enterprises 3 }".to_owned());
    let scan = || Scan::of(&[root.path().to_owned()]);
    let b = |made: &Collection| made.mib().nodes().find(|node| node.name() == "b").unwrap().oid().to_string();
    let (before, _) = make(scan(), None);
    assert_eq!(b(&before), "1.3.6.1.4.1.1.1.1.1");
    dated("X-MIB", 2000, 1);
    let (after, collected) = make(scan(), Some(&before));
    assert!(collected.linked < after.stats().files, "it went the whole way");
    assert_eq!(b(&after), "1.3.6.1.4.1.2.1.1.1");
    assert!(after.mib().image() == make(scan(), None).0.mib().image());
}

#[test]
fn a_file_written_just_now_is_read_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.mib");
    fs::write(&path, "A-MIB DEFINITIONS ::= BEGIN a OBJECT IDENTIFIER ::= { enterprises 1 } END").unwrap();
    let scan = || Scan::of(&[root.path().to_owned()]);
    let (first, _) = make(scan(), None);
    let (again, collected) = make(scan(), Some(&first));
    // Within the tick of the file system the contents alone tell.
    assert_eq!((collected.read, collected.parsed, collected.unchanged), (1, 0, true));
    let mut settled = scan();
    settled.files[0].settled = true;
    let (settled, _) = make(settled, Some(&again));
    let (_, collected) = make(scan(), Some(&settled));
    assert_eq!((collected.read, collected.reused), (0, 1));
    assert!(again.differs(&scan()) && !settled.differs(&scan()) && settled.differs(&Scan::default()));
    let everything = Collection::make(scan(), Some(&settled), true, &AtomicBool::new(false)).unwrap();
    assert_eq!(everything.1.read, 1);
    assert_eq!(Collection::make(scan(), None, false, &AtomicBool::new(true)).err(), Some(Cancelled));
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.mib");
    fs::write(&path, "A-MIB DEFINITIONS ::= BEGIN aRoot OBJECT IDENTIFIER ::= { enterprises 1 } END")
        .unwrap();
    let scan = Scan::of(&[root.path().to_owned()]);
    fs::remove_file(&path).unwrap();
    // It vanished between looking and reading.
    let (without, collected) = make(scan, None);
    assert_eq!((collected.read, without.stats().files, without.diagnostics().len()), (1, 0, 1));
    assert_eq!(without.diagnostics()[0].code, "mib-unreadable");
    fs::write(&path, "A-MIB DEFINITIONS ::= BEGIN aRoot OBJECT IDENTIFIER ::= { enterprises 1 } END")
        .unwrap();
    let (with, collected) = make(Scan::of(&[root.path().to_owned()]), Some(&without));
    assert_eq!(collected.gone_problems, 1);
    assert!(with.diagnostics().iter().all(|told| told.code != "mib-unreadable"));
    assert!(with.mib().resolve("A-MIB::aRoot").is_ok());
}
