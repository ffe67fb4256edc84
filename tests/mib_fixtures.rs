//! The MIB compiler on whole files: every fixture's names and OIDs, and what is told about it.
//!
//! `tests/data/mibs/problems` holds one file for each quirk of vendors, with the OIDs that it means in
//! `expected.tsv` (its last object, `zz…`, stands behind the quirk); `valid` holds files without a problem.
//! With `NEREUS_MIB_BASE` set to a folder of the IETF's base modules, those are compiled too.

#![expect(clippy::print_stderr, reason = "a test that skips says so, and a measurement prints")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nereus::diagnostic::{Level, render};
use nereus::mib::{Bound, Compiled, Kind, LookupError, Mib, SourceFile, read_directories};
use nereus::value::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs").join(name)
}

/// A fixture under the name of its case, so that diagnostics do not tell where the project lies.
fn fixture(path: &Path) -> SourceFile {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    SourceFile::new(name, fs::read(path).unwrap())
}

fn fixtures(name: &str) -> Vec<SourceFile> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "mib"));
    paths.sort();
    paths.iter().map(|path| fixture(path)).collect()
}

fn base() -> Option<Compiled> {
    let Some(base) = std::env::var_os("NEREUS_MIB_BASE") else {
        eprintln!("skipped: NEREUS_MIB_BASE names no folder of base modules");
        return None;
    };
    let (files, unread) = read_directories(&[base.into()]);
    assert!(unread.is_empty(), "{unread:?}");
    assert!(!files.is_empty(), "NEREUS_MIB_BASE is empty");
    Some(Mib::compile(&files))
}

/// The cases of expected.tsv: case, module, name, OID.
fn expected() -> Vec<[String; 4]> {
    let text = fs::read_to_string(folder("problems").join("expected.tsv")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
            fields.try_into().unwrap()
        })
        .collect()
}

#[test]
fn every_quirk_keeps_its_names() {
    let mut cases: BTreeMap<String, Vec<[String; 4]>> = BTreeMap::new();
    for case in expected() {
        cases.entry(case[0].clone()).or_default().push(case);
    }
    assert!(cases.len() >= 65, "{}", cases.len());
    let mut wrong = Vec::new();
    for (case, names) in &cases {
        let file = fixture(&folder("problems").join(format!("{case}.mib")));
        let compiled = Mib::compile(&[file]);
        for [_, _, name, oid] in names {
            let found =
                compiled.mib.nodes().find(|node| node.name() == name && node.oid().to_string() == *oid);
            if found.is_none() {
                wrong.push(format!("{case}: {name} is not {oid}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_quirks_together_keep_their_names_too() {
    let compiled = Mib::compile(&fixtures("problems"));
    for [case, module, name, oid] in expected() {
        let found = compiled.mib.nodes().any(|node| node.name() == name && node.oid().to_string() == oid);
        assert!(found, "{case}: {module}::{name} is not {oid}");
    }
}

#[test]
fn what_is_told_about_each_quirk() {
    let mut told = String::new();
    for file in fixtures("problems") {
        let compiled = Mib::compile(std::slice::from_ref(&file));
        told += &format!("==== {}\n", file.path);
        for diagnostic in &compiled.diagnostics {
            told += &render(diagnostic);
        }
    }
    insta::assert_snapshot!(told);
}

#[test]
fn valid_files_have_nothing_to_tell() {
    let compiled = Mib::compile(&fixtures("valid"));
    let told: Vec<String> = compiled.diagnostics.iter().map(render).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert_eq!(compiled.stats.files, 3);
    assert_eq!(compiled.stats.modules, 3);
}

#[test]
fn both_versions_of_the_smi_come_to_the_same() {
    let mib = Mib::compile(&fixtures("valid")).mib;
    for (name, oid, kind) in [
        ("ACME-V2-MIB::acmeModule", "1.3.6.1.4.1.99999.2", Kind::Module),
        ("ACME-V2-MIB::acmeProduct", "1.3.6.1.4.1.99999.2.1", Kind::Identity),
        ("ACME-V2-MIB::fanTable", "1.3.6.1.4.1.99999.2.2", Kind::Table),
        ("ACME-V2-MIB::fanEntry", "1.3.6.1.4.1.99999.2.2.1", Kind::Row),
        ("ACME-V2-MIB::fanState", "1.3.6.1.4.1.99999.2.2.1.3", Kind::Column),
        ("ACME-V2-MIB::fanExtraEntry", "1.3.6.1.4.1.99999.2.3.1", Kind::Row),
        ("ACME-V2-MIB::fanNote", "1.3.6.1.4.1.99999.2.3.1.1", Kind::Column),
        ("ACME-V2-MIB::roomTemperature", "1.3.6.1.4.1.99999.2.4", Kind::Scalar),
        ("ACME-V2-MIB::fanFailed", "1.3.6.1.4.1.99999.2.0.1", Kind::Notification),
        ("ACME-V2-MIB::fanObjects", "1.3.6.1.4.1.99999.2.9.1", Kind::Group),
        ("ACME-V2-MIB::fanCompliance", "1.3.6.1.4.1.99999.2.9.3", Kind::Compliance),
        ("ACME-V2-MIB::fanAgent", "1.3.6.1.4.1.99999.2.9.4", Kind::Capabilities),
        ("ACME-V1-MIB::oldTrap", "1.3.6.1.4.1.99999.1.0.7", Kind::Notification),
        ("ACME-V1-MIB::oldColdStart", "1.3.6.1.6.3.1.1.5.1", Kind::Notification),
        ("ACME-V1-MIB::oldState", "1.3.6.1.4.1.99999.1.1", Kind::Scalar),
    ] {
        let target = mib.resolve(name).unwrap();
        assert_eq!(target.oid.to_string(), oid, "{name}");
        assert_eq!(mib.node(target.node.unwrap()).kind(), kind, "{name}");
    }
    let node = |name: &str| mib.resolve(name).unwrap().node.unwrap();
    let objects =
        |name: &str| -> Vec<&str> { mib.node(node(name)).objects().map(|at| mib.node(at).name()).collect() };
    assert_eq!(objects("fanFailed"), ["fanState", "fanNote", "ifIndex"]);
    assert_eq!(objects("oldTrap"), ["oldState"]);
}

#[test]
fn values_and_instances_are_shown_by_their_types() {
    let mib = Mib::compile(&fixtures("valid")).mib;
    let node = |name: &str| mib.resolve(name).unwrap().node.unwrap();
    let shown = |name: &str, value: Value<'_>| {
        let mut out = String::new();
        mib.write_value(Some(node(name)), &value, &mut out);
        out
    };
    assert_eq!(shown("fanState", Value::Integer(2)), "failed");
    assert_eq!(shown("fanState", Value::Integer(-1)), "unknown");
    assert_eq!(shown("roomTemperature", Value::Integer(215)), "21.5");
    assert_eq!(shown("fanFlags", Value::Octets(&[0b1010_0000])), "spare, replaceable");
    assert_eq!(shown("oldState", Value::Integer(1)), "good");
    assert_eq!(mib.node(node("roomTemperature")).syntax().unwrap().units(), "degrees Celsius");
    // INDEX { fanShelf, IMPLIED fanName }, through AUGMENTS.
    let parts = mib.index_parts(node("fanNote"), &[4, 101, 97, 115, 116]).unwrap();
    let written: Vec<(&str, String)> = parts
        .iter()
        .map(|(object, part)| {
            let mut out = String::new();
            part.write(None, &mut out);
            (mib.node(object.unwrap()).name(), out)
        })
        .collect();
    assert_eq!(written, [("fanShelf", "4".to_owned()), ("fanName", "east".to_owned())]);
}

#[test]
fn a_rules_names_bind_to_the_parts_of_an_instance() {
    let mib = Mib::compile(&fixtures("valid")).mib;
    let failed = mib.resolve("fanFailed").unwrap().node;
    let bound = mib.resolve_object(failed, "fanShelf").unwrap();
    let Bound::IndexPart { index, columns, decoder, position } = bound else {
        panic!("{bound:?} is no part of an instance");
    };
    assert_eq!((mib.node(index).name(), position), ("fanShelf", 0));
    let columns: Vec<&str> = columns.iter().map(|&column| mib.node(column).name()).collect();
    assert_eq!(columns, ["fanState", "fanNote"]);
    // The decoder stands alone: a rule keeps it when the names are gone.
    drop(mib);
    assert_eq!(decoder.part(position, &[4, 101]).and_then(|part| part.integer()), Some(4));
    assert!(decoder.part(1, &[4, 101]).is_some_and(|part| part.arcs == [101]));
}

#[test]
fn a_broken_file_leaves_its_neighbours_whole() {
    let mut files = fixtures("valid");
    files.insert(
        1,
        SourceFile::new("broken.mib", &b"BROKEN DEFINITIONS ::= BEGIN x OBJECT-TYPE SYNTAX {{{{ \"\xff"[..]),
    );
    files.push(SourceFile::new("noise.bin", (0..=255u8).cycle().take(5000).collect::<Vec<u8>>()));
    let compiled = Mib::compile(&files);
    assert!(compiled.mib.resolve("ACME-V2-MIB::fanFailed").is_ok());
    assert!(compiled.mib.resolve("ACME-V1-MIB::oldTrap").is_ok());
    let error = compiled.diagnostics.iter().find(|told| told.level == Level::Error).unwrap();
    let place = error.place.as_ref().unwrap();
    assert_eq!((&*place.file, place.line, place.column), ("broken.mib", 1, 30));
}

#[test]
fn the_newest_version_of_a_module_is_chosen_and_the_others_add_their_names() {
    let module = |date: &str, rest: &str| {
        format!(
            "V-MIB DEFINITIONS ::= BEGIN IMPORTS enterprises FROM SNMPv2-SMI;
            v MODULE-IDENTITY LAST-UPDATED \"{date}\" ORGANIZATION \"\" CONTACT-INFO \"\" DESCRIPTION \"\" ::= {{ enterprises 77 }}
            {rest} END"
        )
    };
    let old = module(
        "201001010000Z",
        "a OBJECT IDENTIFIER ::= { v 1 } gone OBJECT IDENTIFIER ::= { v 9 } was OBJECT IDENTIFIER ::= { v 3 }",
    );
    let new = module("202001010000Z", "a OBJECT IDENTIFIER ::= { v 2 } is OBJECT IDENTIFIER ::= { v 3 }");
    let files =
        [SourceFile::new("a/old.mib", old.into_bytes()), SourceFile::new("b/new.mib", new.into_bytes())];
    let compiled = Mib::compile(&files);
    let oid = |name: &str| compiled.mib.resolve(name).map(|target| target.oid.to_string());
    assert_eq!(oid("V-MIB::a").as_deref(), Ok("1.3.6.1.4.1.77.2"));
    assert_eq!(oid("a").as_deref(), Ok("1.3.6.1.4.1.77.2"));
    assert_eq!(oid("V-MIB::gone").as_deref(), Ok("1.3.6.1.4.1.77.9"));
    let mut name = String::new();
    compiled.mib.write_name(&[1, 3, 6, 1, 4, 1, 77, 3, 0], &mut name);
    assert_eq!(name, "V-MIB::is.0");
    assert!(matches!(oid("was"), Err(LookupError::NotFound { .. })));
    let told: Vec<_> = compiled.diagnostics.iter().map(|told| (told.code, told.level)).collect();
    assert_eq!(told, [("mib-several-versions", Level::Note)]);
}

#[test]
fn a_module_means_the_versions_of_its_own_folder() {
    let base = |date: &str, arc: u32| {
        format!(
            "BASE-MIB DEFINITIONS ::= BEGIN IMPORTS enterprises FROM SNMPv2-SMI;
            base MODULE-IDENTITY LAST-UPDATED \"{date}\" ::= {{ enterprises {arc} }}
            shared OBJECT-TYPE SYNTAX INTEGER ::= {{ enterprises 99 }} END"
        )
    };
    let leaf = "LEAF-MIB DEFINITIONS ::= BEGIN IMPORTS base, shared FROM BASE-MIB;
        leaf OBJECT IDENTIFIER ::= { base 7 }
        tell NOTIFICATION-TYPE OBJECTS { shared } STATUS current DESCRIPTION \"\" ::= { leaf 1 } END";
    let tip =
        "TIP-MIB DEFINITIONS ::= BEGIN IMPORTS leaf FROM LEAF-MIB; tip OBJECT IDENTIFIER ::= { leaf 8 } END";
    let mib = Mib::compile(&[
        SourceFile::new("new/base.mib", base("202001010000Z", 100).into_bytes()),
        SourceFile::new("old/base.mib", base("201001010000Z", 200).into_bytes()),
        SourceFile::new("old/leaf.mib", leaf.as_bytes()),
        SourceFile::new("else/tip.mib", tip.as_bytes()),
    ])
    .mib;
    let oid = |name: &str| mib.resolve(name).map(|target| target.oid.to_string());
    assert_eq!(oid("base").as_deref(), Ok("1.3.6.1.4.1.100"));
    assert_eq!(oid("LEAF-MIB::leaf").as_deref(), Ok("1.3.6.1.4.1.200.7"));
    assert_eq!(oid("tip").as_deref(), Ok("1.3.6.1.4.1.200.7.8"));
    // Both versions say the same of this object: it is one node, whichever is meant.
    let tell = mib.node(mib.resolve("LEAF-MIB::tell").unwrap().node.unwrap());
    assert_eq!(tell.objects().map(|object| mib.node(object).name()).collect::<Vec<_>>(), ["shared"]);
    // What no chosen module names is named as if the chosen version had been meant.
    for (arcs, name) in [
        (&[1, 3, 6, 1, 4, 1, 100, 7, 8][..], "TIP-MIB::tip"),
        (&[1, 3, 6, 1, 4, 1, 100, 7], "LEAF-MIB::leaf"),
        (&[1, 3, 6, 1, 4, 1, 200], "BASE-MIB::base"),
    ] {
        let mut out = String::new();
        mib.write_name(arcs, &mut out);
        assert_eq!(out, name);
    }
    assert_eq!(mib.modules().filter(|module| &**module.file() != "built-in").count(), 4);
}

#[test]
fn a_name_of_several_oids_must_be_qualified() {
    let module = |name: &str, arc: u32| {
        let text = format!(
            "{name} DEFINITIONS ::= BEGIN IMPORTS enterprises FROM SNMPv2-SMI;
            status OBJECT-TYPE SYNTAX INTEGER MAX-ACCESS read-only STATUS current DESCRIPTION \"\" ::= {{ enterprises {arc} }} END"
        );
        SourceFile::new(name, text.into_bytes())
    };
    let mib = Mib::compile(&[module("A-MIB", 5), module("B-MIB", 6)]).mib;
    let Err(LookupError::Ambiguous(nodes)) = mib.resolve("status") else {
        panic!("two OIDs have this name");
    };
    let names: Vec<String> = nodes.iter().map(|&node| mib.node(node).qualified_name()).collect();
    assert_eq!(names, ["A-MIB::status", "B-MIB::status"]);
    assert!(matches!(mib.resolve_object(None, "status"), Err(LookupError::Ambiguous(_))));
    assert_eq!(mib.resolve("B-MIB::status.0").unwrap().oid.to_string(), "1.3.6.1.4.1.6.0");
}

#[test]
fn what_is_named_by_the_way_is_named_where_nothing_else_is() {
    let text = "P-MIB DEFINITIONS ::= BEGIN
        far OBJECT IDENTIFIER ::= { iso std(0) iso8802(8802) ieee802dot1(1) 7 }
        below OBJECT IDENTIFIER ::= { ieee802dot1 8 }
        known OBJECT IDENTIFIER ::= { iso(1) org(3) dod(6) far(99) 1 } END";
    let mib = Mib::compile(&[SourceFile::new("p.mib", text.as_bytes())]).mib;
    let oid = |name: &str| mib.resolve(name).map(|target| target.oid.to_string());
    assert_eq!(oid("P-MIB::ieee802dot1").as_deref(), Ok("1.0.8802.1"));
    assert_eq!(oid("below").as_deref(), Ok("1.0.8802.1.8"));
    // What has a definition is never meant by such a name.
    assert_eq!(oid("far").as_deref(), Ok("1.0.8802.1.7"));
    assert_eq!(oid("dod").as_deref(), Ok("1.3.6"));
}

#[test]
fn cycles_and_chains_are_harmless() {
    let mut text = String::from("C-MIB DEFINITIONS ::= BEGIN IMPORTS x FROM D-MIB;\n");
    text += "a OBJECT IDENTIFIER ::= { b 1 }\nb OBJECT IDENTIFIER ::= { a 1 }\nself OBJECT IDENTIFIER ::= { self 1 }\n";
    text += "T ::= U\nU ::= T\no OBJECT-TYPE SYNTAX T ::= { enterprises 3 }\nn0 OBJECT IDENTIFIER ::= { enterprises 4 }\n";
    for n in 1..20_000 {
        text += &format!("n{n} OBJECT IDENTIFIER ::= {{ n{} 1 }}\n", n - 1);
    }
    text += "END\nD-MIB DEFINITIONS ::= BEGIN IMPORTS x FROM C-MIB; END";
    let compiled = Mib::compile(&[SourceFile::new("c.mib", text.into_bytes())]);
    let codes: Vec<&str> = compiled.diagnostics.iter().map(|told| told.code).collect();
    assert!(codes.contains(&"mib-oid-cycle") && codes.contains(&"mib-oid-too-long"), "{codes:?}");
    assert!(codes.len() < 20, "{codes:?}");
    assert_eq!(compiled.mib.resolve("n121").unwrap().oid.arcs().len(), 128);
    assert!(compiled.mib.resolve("n122").is_err());
    assert!(compiled.mib.resolve("o").is_ok());
}

#[test]
fn the_base_modules_compile_without_an_error() {
    let Some(compiled) = base() else {
        return;
    };
    let told: Vec<String> =
        compiled.diagnostics.iter().filter(|told| told.level > Level::Note).map(render).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    let mib = &compiled.mib;
    for (name, oid) in [
        ("SNMPv2-MIB::sysDescr", "1.3.6.1.2.1.1.1"),
        ("RFC1213-MIB::sysDescr", "1.3.6.1.2.1.1.1"),
        ("IF-MIB::linkDown", "1.3.6.1.6.3.1.1.5.3"),
        ("BRIDGE-MIB::newRoot", "1.3.6.1.2.1.17.0.1"),
        ("IF-MIB::ifHCInOctets", "1.3.6.1.2.1.31.1.1.1.6"),
        ("SNMPv2-SMI::enterprises", "1.3.6.1.4.1"),
    ] {
        assert_eq!(mib.resolve(name).map(|target| target.oid.to_string()).as_deref(), Ok(oid), "{name}");
    }
    // What is built in agrees with the real modules.
    let builtin = Mib::builtin();
    for node in builtin.nodes() {
        let Ok(target) = mib.resolve(&node.qualified_name()) else {
            continue;
        };
        let real = mib.node(target.node.unwrap());
        assert_eq!(real.oid(), node.oid(), "{node:?}");
        let mere_name = matches!(node.kind(), Kind::Node | Kind::Identity);
        assert!(mere_name || real.kind() == node.kind(), "{node:?} {real:?}");
        if let (Some(own), Some(theirs)) = (node.syntax(), real.syntax()) {
            assert_eq!(own.base(), theirs.base(), "{node:?}");
            assert!(own.labels().all(|(number, label)| theirs.label(number) == Some(label)), "{node:?}");
        }
    }
}

/// Every `mib-…` in a text.
fn codes_in(text: &str, quotes: [&str; 2], codes: &mut BTreeSet<String>) {
    for part in text.split(&format!("{}mib-", quotes[0])).skip(1) {
        let end = part.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(part.len());
        if part[end..].starts_with(quotes[1]) {
            codes.insert(format!("mib-{}", &part[..end]));
        }
    }
}

fn codes_of_sources(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_of_sources(&path, codes);
        } else {
            codes_in(&fs::read_to_string(path).unwrap(), ["\"", "\""], codes);
        }
    }
}

/// What the fixtures are told of, and what files are that no repository should hold.
fn codes_of_fixtures() -> BTreeSet<String> {
    let mut told: BTreeSet<String> = BTreeSet::new();
    let mut tell = |files: &[SourceFile]| {
        told.extend(Mib::compile(files).diagnostics.iter().map(|told| told.code.to_owned()));
    };
    for file in fixtures("problems") {
        tell(&[file]);
    }
    tell(&[SourceFile::new("large.mib", vec![b' '; nereus::mib::LARGEST_FILE as usize + 1])]);
    let many: String =
        (0..2000).map(|n| format!("a_{n} OBJECT IDENTIFIER ::= {{ enterprises {n} }}\n")).collect();
    tell(&[SourceFile::new("many.mib", format!("M DEFINITIONS ::= BEGIN\n{many}END").into_bytes())]);
    let (_, unread) = read_directories(&["/nonexistent".into()]);
    told.extend(unread.iter().map(|told| told.code.to_owned()));
    told
}

#[test]
fn every_code_is_documented_and_has_a_fixture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut sources, mut documented) = (BTreeSet::new(), BTreeSet::new());
    codes_of_sources(&root.join("src/mib"), &mut sources);
    let text = fs::read_to_string(root.join("docs/mibs.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `mib-")).collect();
    for row in &rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        codes_in(cells[1], ["`", "`"], &mut documented);
        for fixture in cells[4].split(", ").filter(|cell| !cell.contains("generated")) {
            let path = folder("problems").join(format!("{}.mib", fixture.trim_matches('`')));
            let told = Mib::compile(&[fixture_of(&path)]).diagnostics;
            let level =
                told.iter().find(|told| cells[1] == format!("`{}`", told.code)).map(|told| told.level);
            assert!(level.is_some_and(|level| cells[2].contains(&level.to_string())), "{row}: {level:?}");
        }
    }
    assert_eq!(rows.len(), documented.len(), "a code stands twice");
    assert_eq!(sources, documented, "left: of the sources; right: of docs/mibs.md");
    let fixtures = codes_of_fixtures();
    assert_eq!(sources, fixtures, "left: of the sources; right: of the fixtures");
    for file in fixtures_names() {
        assert!(text.contains(&format!("`{file}`")), "docs/mibs.md does not name the fixture {file}");
    }
}

fn fixture_of(path: &Path) -> SourceFile {
    assert!(path.exists(), "{} is no fixture", path.display());
    fixture(path)
}

fn fixtures_names() -> Vec<String> {
    fixtures("problems").iter().map(|file| file.path.trim_end_matches(".mib").to_owned()).collect()
}
