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
