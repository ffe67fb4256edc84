//! The MIB compiler on damaged and on hostile input: it neither panics nor hangs, and what is whole stays.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nereus::diagnostic::render;
use nereus::mib::{Mib, SourceFile};
use proptest::prelude::*;

fn fixtures() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for folder in ["valid", "problems"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs").join(folder);
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        files.extend(paths.iter().map(|path| fs::read(path).unwrap()));
    }
    files
}

/// Compiles, and walks everything that came of it.
fn compile(bytes: &[u8]) {
    let compiled = Mib::compile(&[SourceFile::new("damaged.mib", bytes)]);
    for node in compiled.mib.nodes() {
        let oid = node.oid();
        assert!(compiled.mib.lookup(oid.arcs()).is_some_and(|found| found.matched == oid.arcs().len()));
        let _ = (node.objects().count(), node.index().count(), compiled.mib.index_decoder(node.id()));
        let _ = node.syntax().map(|syntax| syntax.labels().count());
    }
    for told in &compiled.diagnostics {
        assert!(render(told).ends_with('\n'));
    }
}

proptest! {
    #[test]
    fn damaged_files_are_harmless(
        file in prop::sample::select(fixtures()),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, prop::collection::vec(any::<u8>(), 0..6)), 0..6),
    ) {
        let mut bytes = file;
        for (at, len, with) in cuts {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            bytes.splice(at..end, with);
        }
        compile(&bytes);
    }

    /// Words and marks of the language in any order.
    #[test]
    fn any_words_are_harmless(words in prop::collection::vec(prop::sample::select(WORDS), 0..120)) {
        compile(format!("F-MIB DEFINITIONS ::= BEGIN {}", words.join(" ")).as_bytes());
    }

    #[test]
    fn any_octets_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        compile(&bytes);
    }
}

const WORDS: &[&str] = &[
    "a",
    "b",
    "c",
    "T",
    "U",
    "enterprises",
    "OBJECT",
    "IDENTIFIER",
    "OBJECT-TYPE",
    "TRAP-TYPE",
    "MODULE-IDENTITY",
    "NOTIFICATION-TYPE",
    "TEXTUAL-CONVENTION",
    "MACRO",
    "BEGIN",
    "END",
    "::=",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "..",
    "|",
    ".",
    "1",
    "2",
    "4294967296",
    "-1",
    "'FF'H",
    "SYNTAX",
    "INTEGER",
    "OCTET",
    "STRING",
    "SEQUENCE",
    "OF",
    "CHOICE",
    "BITS",
    "SIZE",
    "INDEX",
    "IMPLIED",
    "AUGMENTS",
    "OBJECTS",
    "VARIABLES",
    "ENTERPRISE",
    "STATUS",
    "current",
    "MAX-ACCESS",
    "read-only",
    "DESCRIPTION",
    "\"x\"",
    "\"",
    "\n",
    "IMPORTS",
    "FROM",
    "EXPORTS",
    "DEFINITIONS",
    "DEFVAL",
    "DISPLAY-HINT",
    "\"1x:\"",
    "UNITS",
    "LAST-UPDATED",
    "--",
    "a OBJECT IDENTIFIER ::= {",
    "a OBJECT-TYPE SYNTAX INTEGER {",
    "b OBJECT-TYPE SYNTAX",
    "T ::=",
    "c TRAP-TYPE ENTERPRISE",
    "@",
    "'",
];

/// A kind of hostile input, and a text of it with about so many octets.
type Hostile = (&'static str, fn(usize) -> String);

/// Each kind of input at two sizes: eight times the input may take at most some thirty times as long, where a
/// quadratic way would take sixty-four times; and none may take long.
#[test]
fn hostile_files_take_linear_time() {
    let head = "H-MIB DEFINITIONS ::= BEGIN IMPORTS enterprises FROM SNMPv2-SMI;\n";
    let kinds: [Hostile; 18] = [
        ("braces", |n| "{".repeat(n)),
        ("quotes", |n| "\"".repeat(n | 1)),
        ("open texts", |n| "a DESCRIPTION \"\n ::= { b 1 }\n".repeat(n / 30) + "\""),
        ("apostrophes", |n| "' ".repeat(n / 2)),
        ("illegal lines", |n| "@\n".repeat(n / 2)),
        ("headers", |n| "X-MIB DEFINITIONS ::= BEGIN\n".repeat(n / 28)),
        ("header oids", |n| "X { 1 ".repeat(n / 6)),
        ("modules", |n| "X-MIB DEFINITIONS ::= BEGIN IMPORTS x FROM Y-MIB; END\n".repeat(n / 54)),
        ("tags", |n| format!("a OBJECT-TYPE SYNTAX {} ::= {{ enterprises 1 }}", "[1] ".repeat(n / 4))),
        ("choices", |n| format!("T ::= {}", "CHOICE { a ".repeat(n / 11))),
        ("parentheses", |n| format!("T ::= INTEGER {}", "(".repeat(n))),
        ("open definitions", |n| "a OBJECT-TYPE SYNTAX INTEGER { b(1), \n".repeat(n / 37)),
        ("one name", |n| "x OBJECT IDENTIFIER ::= { y 1 }\n".repeat(n / 32)),
        ("one oid", |n| {
            (0..n / 45).map(|at| format!("x{at} OBJECT IDENTIFIER ::= {{ enterprises 1 }}\n")).collect()
        }),
        ("a chain", |n| {
            let link = |at: usize| format!("x{at} OBJECT IDENTIFIER ::= {{ x{} 1 }}\n", at + 1);
            (0..n / 40).map(link).collect()
        }),
        ("an enumeration", |n| {
            let labels: String = (0..n / 14).map(|at| format!("l{at}({at}), ")).collect();
            format!("a OBJECT-TYPE SYNTAX INTEGER {{ {labels} }} ::= {{ enterprises 1 }}")
        }),
        ("an oid of names", |n| {
            let names: String = (0..n / 8).map(|at| format!("x{at} ")).collect();
            format!("a OBJECT IDENTIFIER ::= {{ {names} }}")
        }),
        ("imports", |n| {
            format!("IMPORTS {} ", (0..n / 12).map(|at| format!("x{at} FROM M{at} ")).collect::<String>())
        }),
    ];
    let time = |text: String| {
        let file = SourceFile::new("hostile.mib", (head.to_owned() + &text).into_bytes());
        let begun = Instant::now();
        let compiled = Mib::compile(&[file]);
        assert!(compiled.diagnostics.len() < 50_000);
        begun.elapsed()
    };
    let floor = Duration::from_millis(40);
    for (kind, text) in kinds {
        let [small, large] = [30_000, 240_000].map(|size| time(text(size)));
        assert!(large < small.max(floor) * 30, "{kind}: {small:?}, then {large:?}");
    }
}
