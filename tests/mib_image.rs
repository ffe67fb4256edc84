//! The compiled form as octets: the same everywhere, read in place, and never trusted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use nereus::mib::{Collection, ImageError, Mib, Scan};
use proptest::prelude::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs")
}

fn compile(directories: &[PathBuf]) -> Arc<Mib> {
    let never = std::sync::atomic::AtomicBool::new(false);
    let (collection, _) = Collection::make(Scan::of(directories), None, false, &never).unwrap();
    Arc::clone(collection.mib())
}

/// Everything that can be asked, asked.
fn walk(mib: &Mib) -> Vec<String> {
    let mut seen = Vec::new();
    for node in mib.nodes() {
        let syntax = node.syntax().map(|syntax| {
            let labels: Vec<_> = syntax.labels().collect();
            let known = syntax.label(1).map(|label| syntax.number(label));
            (syntax.base(), syntax.convention(), syntax.hint(), syntax.units(), syntax.size(), labels, known)
        });
        let objects: Vec<_> = node.objects().map(|object| mib.node(object).qualified_name()).collect();
        let index: Vec<_> =
            node.index().map(|part| part.map(|part| mib.node(part).qualified_name())).collect();
        let oid = node.oid();
        let mut name = String::new();
        mib.write_name(oid.arcs(), &mut name);
        seen.push(format!(
            "{oid} {node:?} {name} {:?} {:?} {} {} {:?} {syntax:?} {objects:?} {index:?} {:?} {:?}",
            node.status(),
            node.access(),
            node.file(),
            node.line(),
            node.description(),
            node.parent(),
            mib.index_decoder(node.id()),
        ));
        seen.push(format!("{:?} {:?}", mib.resolve(&node.qualified_name()), mib.resolve(node.name())));
        seen.push(format!("{:?}", mib.children(node.id()).map(|child| child.id()).collect::<Vec<_>>()));
    }
    for module in mib.modules() {
        let version = (module.last_updated(), module.is_superseded(), module.nodes());
        seen.push(format!("{} {} {} {version:?}", module.name(), module.file(), module.line()));
    }
    seen
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_same_files_give_the_same_octets_wherever_they_lie() {
    let here = compile(&[fixtures().join("valid"), fixtures().join("problems")]);
    let root = tempfile::tempdir().unwrap();
    let there = [root.path().join("x/a"), root.path().join("other name")];
    copy(&fixtures().join("valid"), &there[0]);
    copy(&fixtures().join("problems"), &there[1]);
    let elsewhere = compile(&there);
    assert!(here.image() == elsewhere.image());
    // The paths are those of where they lie all the same.
    let file =
        |mib: &Mib| mib.modules().find(|module| module.name() == "ACME-V2-MIB").unwrap().file().to_string();
    assert!(file(&here).starts_with(fixtures().to_str().unwrap()));
    assert!(file(&elsewhere).starts_with(root.path().to_str().unwrap()));
    let moved = Mib::from_image(here.image().to_vec(), &there).unwrap();
    assert_eq!(walk(&moved), walk(&elsewhere));
    assert_eq!(moved.image(), elsewhere.image());
}

/// The golden octets: a change of the format shows here, and asks for another version of it.
#[test]
fn the_octets_are_those_of_every_machine() {
    let image = Mib::builtin().image().to_vec();
    assert_eq!(&image[..12], b"NereuMIB\x03\0\0\0");
    insta::assert_snapshot!(format!("{} octets, checksum {:02x?}", image.len(), &image[12..20]));
}

#[test]
fn a_mapped_image_is_read_in_place() {
    let directories = [fixtures()];
    let mib = compile(&directories);
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("image");
    // Anywhere in a file, aligned or not.
    let mut octets = b"odd".to_vec();
    octets.extend_from_slice(mib.image());
    octets.extend_from_slice(b"after");
    fs::write(&path, &octets).unwrap();
    let file = Arc::new(fs::File::open(&path).unwrap());
    let mapped = Mib::map_image(&file, 3..3 + mib.image().len(), &directories).unwrap();
    drop(file);
    assert_eq!(walk(&mapped), walk(&mib));
    let file = Arc::new(fs::File::open(&path).unwrap());
    for part in [0..octets.len(), 3..octets.len() + 9, 2..1 + mib.image().len()] {
        assert!(Mib::map_image(&file, part, &directories).is_err());
    }
}

static IMAGE: LazyLock<Vec<u8>> = LazyLock::new(|| compile(&[fixtures()]).image().to_vec());

fn refused(octets: Vec<u8>) -> ImageError {
    match Mib::from_image(octets, &[]) {
        Ok(_) => panic!("it is taken"),
        Err(error) => error,
    }
}

#[test]
fn what_is_no_image_is_told_apart() {
    assert_eq!(refused(Vec::new()), ImageError::Foreign);
    assert_eq!(refused(b"#!/bin/sh\n".to_vec()), ImageError::Foreign);
    assert_eq!(refused(IMAGE[..10].to_vec()), ImageError::Truncated);
    assert_eq!(refused(IMAGE[..IMAGE.len() - 1].to_vec()), ImageError::Truncated);
    let mut longer = IMAGE.clone();
    longer.push(0);
    assert_eq!(refused(longer), ImageError::Truncated);
    let mut older = IMAGE.clone();
    older[8] = 0;
    assert_eq!(refused(older), ImageError::Version(0));
    let mut damaged = IMAGE.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(damaged), ImageError::Checksum);
    for error in [ImageError::Foreign, ImageError::Version(7), ImageError::Malformed("x")] {
        assert!(error.to_string().starts_with("it"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_refused(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut octets = IMAGE.clone();
        for (at, with) in flips {
            let at = at.index(octets.len());
            octets[at] ^= with;
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(octets.len()));
        }
        // Two flips may undo each other.
        prop_assert!(octets == *IMAGE || Mib::from_image(octets, &[]).is_err());
    }

    /// With a checksum that fits, as whoever means harm would write it: refused, or read without a panic.
    #[test]
    fn what_was_made_up_is_harmless(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        near_start in any::<bool>(),
    ) {
        let mut octets = IMAGE.clone();
        let reach = if near_start { 4096 } else { octets.len() };
        for (at, with) in flips {
            let at = 20 + at.index(reach - 20);
            octets[at] = with;
        }
        Mib::sign_image(&mut octets);
        if let Ok(mib) = Mib::from_image(octets, &["/mibs".into()]) {
            walk(&mib);
        }
    }
}
