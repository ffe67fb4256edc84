//! `nereus config init` and `nereus config schema` as their user meets them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

fn nereus(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nereus")).args(arguments).output().unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32) -> (String, String) {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
    (out, err)
}

#[test]
fn the_sample_is_written_once_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, flags) in [("a.yaml", &[][..]), ("a.toml", &[]), ("b.toml", &["--toml"])] {
        let path = folder.path().join(name);
        let path = path.to_str().unwrap();
        let arguments = [&["config", "init", "-o", path], flags].concat();
        let (out, err) = check(&nereus(&arguments), 0);
        assert!(out.is_empty() && err.contains("is written"), "{err}");
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        let (out, _) = check(&nereus(&["check", "-c", path]), 0);
        assert!(out.ends_with(": valid\n"), "{out}");
        let written = std::fs::read_to_string(path).unwrap();
        let (_, err) = check(&nereus(&arguments), 3);
        assert!(err.contains("is there already, and nothing is overwritten"), "{err}");
        assert_eq!(std::fs::read_to_string(path).unwrap(), written);
        let printed: &[&str] =
            if name.ends_with("toml") { &["config", "init", "--toml"] } else { &["config", "init"] };
        assert_eq!(check(&nereus(printed), 0).0, written);
    }
    let wrong = folder.path().join("c.yaml");
    check(&nereus(&["config", "init", "--toml", "-o", wrong.to_str().unwrap()]), 2);
    check(&nereus(&["config", "init", "-o", "nereus.conf"]), 2);
    check(&nereus(&["config", "init", "-o", "/nonexistent/a.yaml"]), 3);
    assert!(!wrong.exists());
}

#[test]
fn the_schema_is_json() {
    let (out, _) = check(&nereus(&["config", "schema"]), 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["reload"]["properties"]["reload_delay"]["default"], "2s");
}

#[test]
fn wide_permissions_are_told_and_the_file_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, "unmatched: drop\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (out, _) = check(&nereus(&["check", "-c", path.to_str().unwrap()]), 0);
    assert!(out.contains("config-permissions") && out.contains("chmod 640"), "{out}");
    assert!(out.ends_with("valid, with 1 warning\n"), "{out}");
}

#[test]
fn whatever_is_wrong_with_rules_is_told_at_once_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    let text = r#"include: conf.d/*.yaml
mib:
  directories: [no/such]
rules:
  - name: one
    match:
      trap: [IF-MIB::linkDown, IF-MIB::linkDwn]
      when: {all: [{ifAdminStats: up}, {ifIndex: {above: 1}}]}
    alert: One
    key: [source, ifIndx]
    severity: {from: ifOperStats, map: {up: clear}}
    cleared_by: {trap: IF-MIB::linkUpp, key: {ifIndx: ifIndeks}}
    annotations: {summary: "{{ source }} {{ ifDescrr }} and {{ ifNam }}"}
"#;
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, text).unwrap();
    let more = "rules:\n  - {name: two, match: {trap: [linkDown], except: nobodyKnows}, alert: Two}\n";
    std::fs::write(folder.path().join("conf.d/b.yaml"), more).unwrap();
    let run = |text: &str, code| {
        std::fs::write(&path, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_nereus"))
            .current_dir(folder.path())
            .args(["check", "--json", "-c", "a.yaml"])
            .output()
            .unwrap();
        let (out, _) = check(&output, code);
        let place = |line: &str| {
            let problem: serde_json::Value = serde_json::from_str(line).unwrap();
            let place = &problem["place"];
            let skipped = place["column"].as_u64().unwrap_or(1) as usize - 1;
            let width = place["width"].as_u64().unwrap_or(0) as usize;
            let source: String =
                place["source"].as_str().unwrap_or_default().chars().skip(skipped).take(width).collect();
            (format!("{}:{}", place["file"].as_str().unwrap_or_default(), place["line"]), source)
        };
        out.lines().filter(|line| !line.contains("config-permissions")).map(place).collect::<Vec<_>>()
    };
    let found = run(text, 1);
    let expected = [
        ("a.yaml:7", "IF-MIB::linkDwn"),
        ("a.yaml:8", "ifAdminStats"),
        ("a.yaml:11", "ifOperStats"),
        ("a.yaml:10", "ifIndx"),
        ("a.yaml:13", "ifDescrr"),
        ("a.yaml:13", "ifNam"),
        ("a.yaml:12", "IF-MIB::linkUpp"),
        ("a.yaml:12", "ifIndeks"),
        ("conf.d/b.yaml:2", "nobodyKnows"),
    ];
    let found: Vec<(&str, &str)> = found.iter().map(|(place, word)| (&**place, &**word)).collect();
    assert_eq!(found, expected);
    // A directory that is not there: a start goes on without it, a reload is refused.
    std::fs::write(folder.path().join("conf.d/b.yaml"), "unmatched: store\n").unwrap();
    assert_eq!(
        run("include: conf.d/*.yaml\nmib:\n  directories: [., no/such]\n", 1),
        [("a.yaml:3".into(), "no/such".into())]
    );
}
