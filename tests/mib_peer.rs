//! The MIB compiler against another one, mib-rs, on every fixture: what that one names, ours names alike.

#![expect(clippy::print_stderr, reason = "tells how many answers were compared")]

use std::fs;
use std::path::Path;

use mib_rs::{Loader, ResolverStrictness, source};
use nereus::mib::{Mib, SourceFile};

/// Where both differ, and why ours is kept: fixture, name, reason.
const EXPLAINED: &[(&str, &str, &str)] = &[
    ("deep-oid", "a", "an OID has at most 128 arcs (RFC 2578 section 3.5); mib-rs takes more"),
    ("digit-name", "comA", "mib-rs leaves the digit out of the name 3comA"),
    ("oid-too-big", "x", "an arc has 32 bits (RFC 2578 section 3.5); mib-rs takes 4294967296 for 0"),
];

/// The modules of a file by their headers, for a loader that asks for modules by name.
fn modules(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let headers = words.windows(2).filter(|pair| pair[1] == "DEFINITIONS");
    headers.map(|pair| pair[0].trim_start_matches('\u{feff}').to_owned()).collect()
}

#[test]
fn what_the_peer_names_is_named_alike() {
    let (mut compared, mut wrong) = (0, Vec::new());
    for folder in ["problems", "valid"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs").join(folder);
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "mib"));
        paths.sort();
        for path in paths {
            let case = path.file_stem().unwrap().to_string_lossy().into_owned();
            let bytes = fs::read(&path).unwrap();
            let names = modules(&String::from_utf8_lossy(&bytes));
            let files: Vec<_> = names.iter().map(|name| (name.clone(), bytes.clone())).collect();
            let loader = Loader::new()
                .source(source::memory_modules(files))
                .modules(names.clone())
                .resolver_strictness(ResolverStrictness::Permissive)
                .parallelism(1);
            // It refuses some of the files as a whole.
            let Ok(theirs) = loader.load() else {
                eprintln!("{case}: mib-rs does not load it");
                continue;
            };
            let ours = Mib::compile(&[SourceFile::new(&*case, bytes)]).mib;
            for node in theirs.nodes() {
                let own = node.module().is_some_and(|module| names.iter().any(|name| name == module.name()));
                if !own || node.name().is_empty() {
                    continue;
                }
                compared += 1;
                let (name, oid) = (node.name(), node.oid().to_string());
                let same =
                    |known: nereus::mib::Node<'_>| known.name() == name && known.oid().to_string() == oid;
                let is_explained = EXPLAINED.iter().any(|(of, named, _)| *of == case && *named == name);
                if !ours.nodes().any(same) && !is_explained {
                    wrong.push(format!("{case}: mib-rs has {name} at {oid}"));
                }
            }
        }
    }
    eprintln!("{compared} names compared");
    for (case, name, reason) in EXPLAINED {
        eprintln!("{case}, {name}: {reason}");
    }
    assert!(compared > 250, "{compared}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
