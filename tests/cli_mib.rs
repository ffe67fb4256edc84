//! `nereus mib …` as its user meets it: patterns, every name of an OID, trees, what lint tells, exit codes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs").join(name)
}

fn nereus(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nereus"));
    command.arg("mib").args(arguments).stdin(Stdio::null());
    command
}

#[track_caller]
fn check(output: &Output, code: i32) -> (String, String) {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
    (out, err)
}

#[track_caller]
fn run(arguments: &[&str], code: i32) -> (String, String) {
    check(&nereus(arguments).output().unwrap(), code)
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(out: &str) -> Vec<String> {
    objects(out).iter().map(|answer| answer["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lookup_goes_either_way_with_instances_by_index() {
    let valid = folder("valid");
    let valid = valid.to_str().unwrap();
    let text = r#"ACME-INDEX-MIB::kindValue.red."east".'x'"#;
    let oid = "1.3.6.1.4.1.99999.3.1.1.4.1.4.101.97.115.116.120";
    let (out, _) = run(&["lookup", "--mibs", valid, "--json", text, oid], 0);
    for answer in objects(&out) {
        assert_eq!((&answer["text"], &answer["oid"]), (&text.into(), &oid.into()));
    }
    let mut child = nereus(&["lookup", "--mibs", valid, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{text}\n{oid}\nfan*Entry\nnobody").unwrap();
    let (out, err) = check(&child.wait_with_output().unwrap(), 1);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with(text) && lines[0] == lines[1], "{out}");
    assert!(lines[2].starts_with("ACME-V2-MIB::fanEntry") && lines[3].contains("fanExtraEntry"), "{out}");
    assert!(err.contains("nobody"), "{err}");
}

#[test]
fn lookup_takes_patterns() {
    let (out, _) = run(&["lookup", "--json", "if*Descr"], 0);
    assert!(texts(&out).contains(&"IF-MIB::ifDescr".to_owned()), "{out}");
    let (out, _) = run(&["lookup", "--json", "if-mib::LINK*"], 0);
    assert_eq!(texts(&out), ["IF-MIB::linkDown", "IF-MIB::linkUp"]);
    let (out, _) = run(&["lookup", "--json", "IF-MIB::*"], 0);
    let answers = objects(&out);
    assert!(answers.len() > 20 && answers.iter().all(|answer| answer["query"] == "IF-MIB::*"), "{out}");
    let (_, err) = run(&["lookup", "no*such*name"], 1);
    assert!(err.contains("no name fits"), "{err}");
}

#[test]
fn lookup_shows_every_name_of_an_oid() {
    let folder = tempfile::tempdir().unwrap();
    for (module, name, date) in [("OLD-MIB", "older", "2001"), ("NEW-MIB", "newer", "2020")] {
        let text = format!(
            "{module} DEFINITIONS ::= BEGIN IMPORTS MODULE-IDENTITY, enterprises FROM SNMPv2-SMI;\n\
             {name} MODULE-IDENTITY LAST-UPDATED \"{date}01010000Z\" ORGANIZATION \"x\" CONTACT-INFO \"x\"\n\
             DESCRIPTION \"x\" ::= {{ enterprises 77 }} END\n"
        );
        std::fs::write(folder.path().join(module), text).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let (out, _) = run(&["lookup", "--mibs", path, "--json", "enterprises.77"], 0);
    let answer = &objects(&out)[0];
    assert_eq!(answer["text"], "NEW-MIB::newer");
    assert_eq!(answer["also"], serde_json::json!(["OLD-MIB::older"]));
    let (out, _) = run(&["lookup", "--mibs", path, "OLD-MIB::older"], 0);
    assert!(out.contains("OLD-MIB::older") && out.contains("also NEW-MIB::newer"), "{out}");
    // The folders of a configuration.
    let config = folder.path().join("nereus.yaml");
    std::fs::write(&config, format!("mib:\n  directories: [{path}]\n")).unwrap();
    let config = config.to_str().unwrap();
    let (out, _) = run(&["lookup", "-c", config, "--json", "newer"], 0);
    assert_eq!(texts(&out), ["NEW-MIB::newer"]);
    std::fs::write(config, "mibb: {}\n").unwrap();
    let (_, err) = run(&["lookup", "-c", config, "newer"], 3);
    assert!(err.contains("mibb"), "{err}");
}

#[test]
fn a_tree_is_shown_by_oid() {
    let valid = folder("valid");
    let valid = valid.to_str().unwrap();
    let (out, _) = run(&["tree", "--mibs", valid, "fanTable"], 0);
    assert_eq!(
        out.lines().take(3).collect::<Vec<_>>(),
        [
            "ACME-V2-MIB::fanTable 1.3.6.1.4.1.99999.2.2 table",
            "  fanEntry(1) row INDEX { fanShelf, fanName }",
            "    fanShelf(1) column INTEGER",
        ]
    );
    let (out, _) = run(&["tree", "--mibs", valid, "--depth", "1", "--json", "fanTable"], 0);
    let nodes = objects(&out);
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[1]["index"], serde_json::json!(["fanShelf", "fanName"]));
    assert_eq!(nodes[1]["depth"], 1);
    let (out, _) = run(&["tree", "linkDown"], 0);
    assert!(out.contains("OBJECTS { ifIndex, ifAdminStatus, ifOperStatus }"), "{out}");
    let (_, err) = run(&["tree", "linkDwon"], 1);
    assert!(err.contains("linkDown"), "{err}");
    run(&["tree", "linkDown.7"], 1);
}

#[test]
fn lint_tells_where_and_exits_by_errors() {
    let problems = folder("problems");
    let file = |name: &str| problems.join(name).to_str().unwrap().to_owned();
    let (out, _) = run(&["lint", folder("valid").to_str().unwrap()], 0);
    assert_eq!(out, "3 files: no problems\n");
    let (out, _) = run(&["lint", &file("tc-bad-hint.mib")], 0);
    assert!(out.contains("note[mib-bad-hint]") && out.contains("^^^^"), "{out}");
    assert!(!out.contains('\x1b'), "colours into a pipe");
    let (out, _) = run(&["lint", "--level", "warning", &file("tc-bad-hint.mib")], 0);
    assert_eq!(out, "1 file: no problems\n");
    let (out, _) = run(&["lint", "--json", &file("oid-too-big.mib")], 1);
    let told = objects(&out);
    let error = told.iter().find(|told| told["level"] == "error").unwrap();
    assert_eq!(error["code"], "mib-bad-arc");
    assert_eq!(error["place"]["line"], 5);
    assert!(error["place"]["file"].as_str().unwrap().ends_with("oid-too-big.mib"));
    // What the folders beside it lack is not told, and what they have is known.
    let (out, _) = run(&["lint", "--mibs", problems.to_str().unwrap(), folder("valid").to_str().unwrap()], 0);
    assert_eq!(out, "3 files: no problems\n");
    let (_, err) = run(&["lint", "/nonexistent.mib"], 3);
    assert!(err.contains("/nonexistent.mib"), "{err}");
    run(&["lint"], 2);
}

#[test]
fn stats_count() {
    let valid = folder("valid");
    let (out, _) = run(&["stats", "--json", "--mibs", valid.to_str().unwrap()], 0);
    let stats = &objects(&out)[0];
    assert_eq!((&stats["files"], &stats["errors"]), (&3.into(), &0.into()));
    assert!(stats["kinds"]["notification"].as_u64().unwrap() >= 3, "{out}");
    assert!(stats["memory"].as_u64().unwrap() > 10_000, "{out}");
    let (out, _) = run(&["stats"], 0);
    assert!(out.contains("nodes") && out.contains("notification"), "{out}");
}

#[test]
fn compile_writes_what_a_start_takes() {
    let folder = tempfile::tempdir().unwrap();
    let mibs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs/valid");
    let cache = folder.path().join("cache");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nereus"));
        command.args(["mib", "compile", "-o"]).arg(&cache).args(arguments).output().unwrap()
    };
    assert_eq!(run(&[]).status.code(), Some(3), "no folder is named");
    assert!(!cache.exists());
    let output = run(&["--json", "--mibs", mibs.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["octets"].as_u64(), Some(std::fs::metadata(&cache).unwrap().len()));
    let read = nereus::mib::Collection::read_cache(&cache, &[mibs]).unwrap();
    assert_eq!(told["nodes"].as_u64(), Some(read.mib().nodes().len() as u64));
    let unable = run(&["--mibs", "/nonexistent"]);
    assert_eq!(unable.status.code(), Some(3));
}
