//! `include`, lookup tables and permissions on a real file system.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nereus::config::{Loaded, Problems, load};

struct Folder(tempfile::TempDir);

impl Folder {
    /// With these files, none readable by others.
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.chmod(name, 0o640);
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self) -> Result<Loaded, Problems> {
        load(&self.path("nereus.yaml"))
    }

    fn fine(&self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Each problem in one line, with the folder left out.
    fn told(&self) -> Vec<String> {
        let diagnostics = match self.load() {
            Ok(loaded) => loaded.diagnostics,
            Err(problems) => problems.diagnostics,
        };
        let folder = format!("{}/", self.0.path().display());
        diagnostics.iter().map(|diagnostic| diagnostic.to_string().replace(&folder, "")).collect()
    }

    fn inputs(&self) -> Vec<(String, bool)> {
        let inputs = match self.load() {
            Ok(loaded) => loaded.inputs,
            Err(problems) => problems.inputs,
        };
        let name = |path: &Path| path.strip_prefix(self.0.path()).unwrap().display().to_string();
        inputs.iter().map(|input| (name(&input.path), input.hash.is_some())).collect()
    }
}

const RULE: &str = "rules: [{name: NAME, match: {trap: linkDown}}]";

fn rule(name: &str) -> String {
    RULE.replace("NAME", name)
}

#[test]
fn lists_are_appended_and_sections_merged_in_the_order_of_the_names() {
    let folder = Folder::new(&[
        (
            "nereus.yaml",
            &format!("include: [conf.d/*.yaml, more/*/x.toml]\nstorage: {{path: /d}}\n{}", rule("own")),
        ),
        ("conf.d/20.yaml", &rule("second")),
        (
            "conf.d/10.yaml",
            &format!("{}\nstorage: {{retention: 7d}}\nlistener: {{address: '127.0.0.1:0'}}", rule("first")),
        ),
        ("conf.d/.hidden.yaml", "rules: 5"),
        ("conf.d/README", "not a configuration"),
        ("more/a/x.toml", "[components.a]\nb = 1\n[[listener]]\naddress = '[::1]:0'\n"),
        ("more/b", "a file where a folder could be"),
    ]);
    let loaded = folder.fine();
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let settings = loaded.settings;
    let names: Vec<_> = settings.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["own", "first", "second"]);
    assert_eq!(settings.storage.path, Path::new("/d"));
    assert_eq!(settings.storage.retention.as_secs(), 7 * 86_400);
    assert_eq!(settings.listeners.len(), 2);
    assert_eq!(settings.components["a"].0["b"], 1);
    let inputs: Vec<_> = folder.inputs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        inputs,
        ["nereus.yaml", "conf.d", "conf.d/10.yaml", "conf.d/20.yaml", "more", "more/a", "more/a/x.toml"]
    );
}

#[test]
fn a_new_file_changes_the_directory_that_decided() {
    let folder = Folder::new(&[("nereus.yaml", "include: 'conf.d/*.yaml'"), ("conf.d/a.yaml", &rule("a"))]);
    let before = folder.fine().inputs;
    folder.write("conf.d/.swap", "x");
    assert_eq!(folder.fine().inputs, before, "hidden names do not count");
    folder.write("conf.d/b.yaml", &rule("b"));
    let after = folder.fine();
    assert_eq!(after.settings.rules.len(), 2);
    assert_ne!(after.inputs[1].hash, before[1].hash);
}

#[test]
fn problems_stand_in_their_own_file() {
    let folder = Folder::new(&[
        ("nereus.yaml", "include: conf.d/*\nstorage: {path: /d}\nunmatched: drop\ncomponents: {a: 1}"),
        ("conf.d/a.yaml", "rules:\n  - name: a\n    severty: major\nstorage:\n  path: /e\n"),
        (
            "conf.d/b.toml",
            "unmatched = 'store'\ninclude = 'c.yaml'\n[components]\na = 2\n[admin]\ntoken = 5\n",
        ),
    ]);
    assert_eq!(
        folder.told(),
        [
            "conf.d/a.yaml:3:5: error[config-unknown-key]: unknown key `severty` in `rules[]` (did you mean `severity`?)",
            "conf.d/a.yaml:5:3: error[config-duplicate-key]: `storage.path` is given twice (it stands in nereus.yaml:2:11 already; keep one of them)",
            "conf.d/b.toml:1:1: error[config-duplicate-key]: `unmatched` is given twice (it stands in nereus.yaml:3:1 already; keep one of them)",
            "conf.d/b.toml:2:1: error[config-include]: an included file includes no further (name the files in the file that includes this one)",
            "conf.d/b.toml:4:1: error[config-duplicate-key]: `components.a` is given twice (it stands in nereus.yaml:4:14 already; keep one of them)",
            "conf.d/b.toml:6:9: error[config-type]: expected a text, found a number (put the secret in quotes)",
        ]
    );
}

#[test]
fn a_secret_of_an_included_file_is_masked() {
    let folder = Folder::new(&[
        ("nereus.yaml", "include: a.yaml"),
        ("a.yaml", "admin: {tokn: planted, token: planted, read_token: planted}"),
    ]);
    let problems = folder.load().unwrap_err();
    assert!(
        problems.diagnostics.len() > 1 && !format!("{problems:?}{problems}").contains("planted"),
        "{problems}"
    );
}

#[test]
fn what_cannot_be_read_is_told_and_nothing_is_guessed_about_the_rest() {
    let main = "include: [gone.yaml, conf.d/*.yaml]\nrules: [{name: a, match: {trap: linkDown}, alert: A, notify: [b]}, {name: c, expre: 1h}]";
    let folder = Folder::new(&[("nereus.yaml", main)]);
    let told = folder.told();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(
        told[0].starts_with("nereus.yaml:1:11: error[config-read]: cannot read `gone.yaml`"),
        "{}",
        told[0]
    );
    assert!(told[1].starts_with("nereus.yaml:1:22: error[config-read]: cannot read `"), "{}", told[1]);
    assert!(told[2].contains("expre"), "what is wrong by itself is told all the same: {}", told[2]);
    let expected = [("nereus.yaml", true), ("gone.yaml", false), ("conf.d", false)];
    assert_eq!(folder.inputs(), expected.map(|(name, read)| (name.to_owned(), read)));

    folder.write("gone.yaml", "rules: [{name: x\n");
    folder.write("conf.d/e.yaml", "");
    let told = folder.told();
    assert!(
        told.iter().any(|problem| problem.starts_with("gone.yaml:") && problem.contains("config-syntax")),
        "{told:#?}"
    );
    assert!(
        told.iter().any(|problem| problem.starts_with("conf.d/e.yaml:1:1: error[config-empty]")),
        "{told:#?}"
    );

    folder.write("gone.yaml", "{}");
    folder.write("conf.d/e.yaml", "{}");
    assert!(folder.told()[0].contains("no webhook has a name"), "now it is known: {:?}", folder.told());
}

#[test]
fn a_pattern_that_fits_nothing_is_a_warning() {
    let folder = Folder::new(&[("nereus.yaml", "include: '*.yml'")]);
    assert_eq!(folder.told(), ["nereus.yaml:1:10: warning[config-include]: no file has such a name"]);
    assert!(folder.load().is_ok());
    // The file itself fits, and is not read twice.
    folder.write("nereus.yaml", "include: '*.yaml'\nunmatched: drop");
    assert_eq!(folder.told(), [""; 0]);
}

#[test]
fn a_table_lies_beside_the_file_that_names_it() {
    let folder = Folder::new(&[
        ("nereus.yaml", "include: sites/*.yaml"),
        ("sites/a.yaml", "lookups: [{name: device, file: a.csv, key: source}]"),
        ("sites/a.csv", "source,name\n10.0.0.1,a\n10.0.0.300,b\n"),
    ]);
    assert!(folder.told()[0].starts_with("sites/a.csv:3:1: error[lookup-key]"), "{:?}", folder.told());
    folder.write("sites/a.csv", "source,name\n10.0.0.1,a\n");
    assert_eq!(folder.fine().settings.lookups[0].len(), 1);
    assert_eq!(folder.inputs().last().unwrap().0, "sites/a.csv");
    fs::remove_file(folder.path("sites/a.csv")).unwrap();
    assert!(
        folder.told()[0].contains("error[config-read]: cannot read the lookup's file"),
        "{:?}",
        folder.told()
    );
    assert!(folder.inputs().contains(&("sites/a.csv".to_owned(), false)));
}

#[test]
fn permissions_that_are_too_wide_are_warned_of() {
    let folder = Folder::new(&[("a.yaml", "{}"), ("token", "secret")]);
    let token = folder.path("token");
    folder.write("nereus.yaml", &format!("include: a.yaml\nadmin: {{token: {{file: {}}}}}", token.display()));
    assert_eq!(folder.told(), [""; 0]);
    for (name, mode) in [("nereus.yaml", 0o644), ("a.yaml", 0o660), ("token", 0o646)] {
        folder.chmod(name, mode);
    }
    let told = folder.told();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(folder.load().is_ok(), "a warning keeps nothing from starting");
    for (told, (mode, part)) in told.iter().zip([
        ("644", "chmod 640 nereus.yaml"),
        ("660", "chmod 640 a.yaml"),
        ("646", "read and change it (chmod 640 token)"),
    ]) {
        assert!(told.contains("config-permissions") && told.contains(mode) && told.contains(part), "{told}");
    }
}
