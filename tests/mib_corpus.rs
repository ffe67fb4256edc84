//! The MIB compiler on a tree of vendors' files: `NEREUS_MIB_CORPUS` names it. Skips, and says so, without.
//!
//! With `NEREUS_MIB_ORACLE` naming a table of OIDs with net-snmp's answers (kind, oid, source, `-OSb`, `-OS`, …)
//! names and instances are compared, and each difference is explained by a rule (docs/mibs.md); without an
//! explanation at most one in a thousand may stay. `snmptranslate` itself is asked for random OIDs.

#![expect(clippy::print_stderr, reason = "a test that skips says so, and a measurement prints")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use nereus::diagnostic::Level;
use nereus::mib::{IndexKind, Kind, Mib, Node, read_directories};
use nereus::oid::OidRef;

#[test]
fn the_corpus_compiles() {
    let Some(corpus) = std::env::var_os("NEREUS_MIB_CORPUS") else {
        eprintln!("skipped: NEREUS_MIB_CORPUS names no folder of MIB files");
        return;
    };
    let (files, unread) = read_directories(&[corpus.into()]);
    assert!(!files.is_empty(), "NEREUS_MIB_CORPUS is empty: {unread:?}");
    let octets: usize = files.iter().map(|file| file.bytes.len()).sum();
    let begun = Instant::now();
    let compiled = Mib::compile(&files);
    let took = begun.elapsed();
    let mib = &compiled.mib;
    let notifications = mib.nodes().filter(|node| node.kind() == Kind::Notification).count();
    let errors = compiled.diagnostics.iter().filter(|told| told.level == Level::Error).count();
    eprintln!(
        "{:?}, {} MB in {took:.2?}; {notifications} notifications, {errors} errors, {} diagnostics, image {} KiB",
        compiled.stats,
        octets / 1_000_000,
        compiled.diagnostics.len(),
        mib.size() >> 10,
    );
    measure(mib);
    // Every node is found by its OID and by its name.
    for node in mib.nodes() {
        let found = mib.lookup(node.oid().arcs()).unwrap();
        assert_eq!(mib.node(found.node).oid(), node.oid());
    }
    if std::env::var_os("NEREUS_MIB_TELL").is_some() {
        for told in &compiled.diagnostics {
            eprintln!("{told}");
        }
    }
    if let Some(oracle) = std::env::var_os("NEREUS_MIB_ORACLE") {
        compare(mib, &std::fs::read_to_string(oracle).unwrap());
    }
}

/// Prints what a lookup takes: of one instance again and again, and of instances all over the tree.
fn measure(mib: &Mib) {
    let mut oids: Vec<Vec<u32>> = mib.nodes().map(|node| [node.oid().arcs(), &[7]].concat()).collect();
    // The same order each time, and no order that a cache likes.
    oids.sort_by_key(|oid| {
        oid.iter().fold(0u64, |hash, &arc| (hash ^ u64::from(arc)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    });
    oids.truncate(10_000);
    let one = vec![oids[0].clone(); oids.len()];
    for (kind, oids) in [("hot", one), ("all over the tree", oids)] {
        let mut matched = 0;
        // The least of many rounds: other processes only ever add.
        let round = || {
            let begun = Instant::now();
            matched = oids.iter().filter_map(|oid| mib.lookup(oid)).map(|found| found.matched).sum::<usize>();
            begun.elapsed() / oids.len() as u32
        };
        let least = std::iter::repeat_with(round).take(50).min().unwrap_or_default();
        eprintln!("lookup, {kind}: {least:?} for {} arcs", matched / oids.len());
    }
}

/// Why two answers differ, by rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// The same name and the same instance.
    None,
    /// net-snmp credits the roots of the SMI to RFC1155-SMI.
    Root,
    /// net-snmp invents `name#` for a node without a name.
    Invented,
    /// Several modules name this OID; ours and theirs are both shown by `mib lookup`.
    Collision,
    /// Ours names more of the OID's arcs.
    Further,
    /// The same name, and theirs means the same instance in another form.
    Form,
    /// The same name, and theirs shows octets as dots or leaves them out.
    Lossy,
    Unexplained,
}

fn named<'m>(mib: &'m Mib, arcs: &[u32]) -> Option<(Node<'m>, usize)> {
    mib.lookup(arcs).map(|found| (mib.node(found.node), found.matched))
}

/// Ours against theirs, as `-OSb` (instance in numbers) and `-OS` print it.
fn difference(mib: &Mib, arcs: &[u32], numeric: &str, rendered: &str) -> Difference {
    let Some((node, matched)) = named(mib, arcs) else {
        return Difference::Unexplained;
    };
    let instance: String = arcs[matched..].iter().map(|arc| format!(".{arc}")).collect();
    let mut ours = String::new();
    mib.write_name(arcs, &mut ours);
    if numeric == format!("{}{instance}", node.qualified_name()) {
        if rendered == ours {
            return Difference::None;
        }
        // Every form of ours leads back.
        assert_eq!(mib.resolve(&ours).unwrap().oid.arcs(), arcs, "{ours}");
        let theirs = mib.resolve(rendered);
        return match theirs {
            Ok(target) if target.oid.arcs() == arcs => Difference::Form,
            _ if rendered.contains(['"', '\'']) => Difference::Lossy,
            _ => Difference::Unexplained,
        };
    }
    let name = numeric.split('.').next().unwrap_or_default();
    let also =
        |mut nodes: Box<dyn Iterator<Item = Node<'_>> + '_>| nodes.any(|node| node.qualified_name() == name);
    let same = Box::new(mib.same_oid(node.id()).map(|id| mib.node(id)));
    let (module, bare) = name.split_once("::").unwrap_or(("", name));
    let root = module == "RFC1155-SMI" && node.name() == bare && node.module().name() == "SNMPv2-SMI";
    if root {
        Difference::Root
    } else if name.ends_with('#') {
        Difference::Invented
    } else if also(same) && numeric.ends_with(&instance) {
        Difference::Collision
    } else if instance.len() < numeric.len() - name.len() {
        Difference::Further
    } else {
        Difference::Unexplained
    }
}

fn tell(differences: &BTreeMap<Difference, Vec<String>>) -> usize {
    for (difference, cases) in differences {
        eprintln!("{difference:?}: {}", cases.len());
        if *difference != Difference::None {
            cases.iter().take(400).for_each(|case| eprintln!("    {case}"));
        }
    }
    differences.get(&Difference::Unexplained).map_or(0, Vec::len)
}

fn compare(mib: &Mib, oracle: &str) {
    let mut differences: BTreeMap<Difference, Vec<String>> = BTreeMap::new();
    let mut asked = 0;
    for line in oracle.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let arcs = arcs(fields[1]);
        let found = difference(mib, &arcs, fields[3], fields[4]);
        let mut ours = String::new();
        mib.write_name(&arcs, &mut ours);
        differences.entry(found).or_default().push(format!("{}: {ours}, net-snmp {}", fields[1], fields[4]));
        asked += 1;
    }
    let unexplained = tell(&differences);
    assert!(
        unexplained * 1000 <= asked,
        "{unexplained} of {asked} answers differ from the oracle's for no reason"
    );
}

fn arcs(oid: &str) -> Vec<u32> {
    oid.trim_start_matches('.').split('.').map(|arc| arc.parse().unwrap()).collect()
}

/// A generator of our own, so that the same OIDs are asked on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// OIDs of nodes, notifications and instances that fit their INDEX.
fn questions(mib: &Mib, count: usize) -> Vec<Vec<u32>> {
    let nodes: Vec<Node<'_>> = mib.nodes().collect();
    let notifications: Vec<Node<'_>> =
        nodes.iter().copied().filter(|node| node.kind() == Kind::Notification).collect();
    let mut random = Random(0x6e65_7265_7573);
    let mut questions = Vec::new();
    for turn in 0..count {
        let from = if turn % 3 == 0 && !notifications.is_empty() { &notifications } else { &nodes };
        let node = from[random.below(from.len())];
        let mut arcs = node.oid().arcs().to_vec();
        match mib.index_decoder(node.id()) {
            Some(decoder) if node.kind() == Kind::Column => {
                for kind in decoder.kinds() {
                    let letters = |random: &mut Random, len: usize| {
                        (0..len).map(|_| 97 + random.below(26) as u32).collect::<Vec<u32>>()
                    };
                    match *kind {
                        IndexKind::Integer => arcs.push(1 + random.below(9) as u32),
                        IndexKind::IpAddress => arcs.extend([10, 0, 0, random.below(256) as u32]),
                        IndexKind::FixedOctets(len) => arcs.extend(letters(&mut random, len as usize)),
                        IndexKind::Octets => arcs.extend([&[4][..], &letters(&mut random, 4)].concat()),
                        IndexKind::ImpliedOctets => arcs.extend(letters(&mut random, 4)),
                        IndexKind::Oid => arcs.extend([3, 1, 3, 6]),
                        IndexKind::ImpliedOid => arcs.extend([1, 3, 6]),
                    }
                }
            }
            _ if node.kind() == Kind::Scalar => arcs.push(0),
            _ => {}
        }
        if arcs.len() <= 100 {
            questions.push(arcs);
        }
    }
    questions
}

/// Asks net-snmp for the names of OIDs, with all folders of the tree loaded. Its parser takes a minute for
/// LibreNMS' tree; `NEREUS_MIB_QUESTIONS` is how many are asked (1,000).
#[test]
fn names_agree_with_snmptranslate() {
    let Some(corpus) = std::env::var_os("NEREUS_MIB_CORPUS").map(PathBuf::from) else {
        eprintln!("skipped: NEREUS_MIB_CORPUS names no folder of MIB files");
        return;
    };
    if Command::new("snmptranslate").arg("-V").output().is_err() {
        eprintln!("skipped: there is no snmptranslate (package snmp)");
        return;
    }
    let (files, _) = read_directories(std::slice::from_ref(&corpus));
    let mib = Mib::compile(&files).mib;
    let folders: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.rsplit_once('/')).map(|(folder, _)| folder).collect();
    let folders = folders.into_iter().collect::<Vec<_>>().join(":");
    let count = std::env::var("NEREUS_MIB_QUESTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let questions = questions(&mib, count);
    // It ends in the middle on some questions, whatever the reason: those behind are asked once more.
    const ROUNDS: usize = 3;
    let ask = |format: &str| -> Vec<Option<String>> {
        let mut answers = Vec::new();
        for _ in 0..ROUNDS {
            let rest = &questions[answers.len().min(questions.len())..];
            if rest.is_empty() {
                break;
            }
            let mut command = Command::new("snmptranslate");
            command.env("MIBS", "").env("SNMPCONFPATH", "/nonexistent");
            // -Ir: numbers outside of their range are instances all the same.
            command.args(["-Ir", "-M", &folders, "-m", "ALL", format]);
            command.args(rest.iter().map(|arcs| format!(".{}", OidRef(arcs))));
            let answer = command.output().unwrap();
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
            let is_short = lines.len() < rest.len();
            answers.extend(lines.into_iter().map(Some));
            if is_short {
                let question = OidRef(&questions[answers.len()]);
                eprintln!("snmptranslate {format} gives no answer to {question}: {}", answer.status);
                answers.push(None);
            }
        }
        answers
    };
    let (numeric, rendered) = std::thread::scope(|scope| {
        let numeric = scope.spawn(|| ask("-OSb"));
        let rendered = ask("-OS");
        (numeric.join().unwrap(), rendered)
    });
    let both = questions.iter().zip(numeric.into_iter().zip(rendered));
    let answered: Vec<_> = both.filter_map(|(arcs, answers)| Some((arcs, answers.0?, answers.1?))).collect();
    eprintln!("{} of {} questions answered", answered.len(), questions.len());
    assert!(answered.len() * 5 >= questions.len(), "snmptranslate answers too little to compare");
    let mut differences: BTreeMap<Difference, Vec<String>> = BTreeMap::new();
    for (arcs, numeric, rendered) in &answered {
        let mut ours = String::new();
        mib.write_name(arcs, &mut ours);
        let found = difference(&mib, arcs, numeric, rendered);
        let case = format!("{}: {ours}, net-snmp {rendered}", OidRef(arcs));
        differences.entry(found).or_default().push(case);
    }
    let unexplained = tell(&differences);
    // net-snmp takes one version of each module, and not by its date: what only another version names stays.
    let accepted = answered.len() / 50;
    assert!(unexplained <= accepted, "{unexplained} of {} answers differ for no reason", answered.len());
}
