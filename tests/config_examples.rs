//! Every file in `config/` passes, without a warning, and the twins say the same.

use std::path::{Path, PathBuf};

use nereus::config::{Loaded, Settings, load, sample_toml, sample_yaml};
use nereus::mib::Mib;
use nereus::snapshot::build;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// Configurations, those of `conf.d` too: each is whole by itself.
fn shipped() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in [folder(), folder().join("conf.d")] {
        files.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    let is = |path: &Path, extension| path.extension().is_some_and(|own| own == extension);
    files.retain(|path| is(path, "yaml") || is(path, "toml"));
    files.sort();
    files
}

fn loaded(path: &Path) -> Loaded {
    let mut loaded = load(path).unwrap_or_else(|problems| panic!("{problems}"));
    // A checkout is readable by everyone, and holds no secret.
    loaded.diagnostics.retain(|diagnostic| diagnostic.code != "config-permissions");
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    assert_eq!(loaded.inputs[0].path, path);
    loaded
}

fn settings(path: &Path) -> Settings {
    loaded(path).settings
}

#[test]
fn every_shipped_file_passes() {
    let files = shipped();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let built = build(settings(&file), Mib::builtin(), None);
        assert!(built.is_ok(), "{}: {:?}", file.display(), built.err());
    }
}

#[test]
fn twins_say_the_same() {
    let mut twins = 0;
    for toml in shipped() {
        let yaml = toml.with_extension("yaml");
        if toml.extension().is_some_and(|extension| extension == "toml") && yaml.exists() {
            assert_eq!(settings(&toml), settings(&yaml), "{}", toml.display());
            twins += 1;
        }
    }
    assert!(twins >= 2);
}

/// The complete samples are what `nereus config init` writes; after a change of the table of keys:
/// `nereus config init > config/nereus.yaml; nereus config init --toml > config/nereus.toml`.
#[test]
fn the_complete_samples_are_the_generators() {
    for (name, sample) in [("nereus.yaml", sample_yaml()), ("nereus.toml", sample_toml())] {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        assert!(text == sample, "config/{name} is not what `nereus config init` writes");
        assert_eq!(settings(&folder().join(name)), Settings::default());
    }
}

#[test]
fn an_include_and_a_lookup_have_their_files_among_the_inputs() {
    let names = |path: &Path| -> Vec<_> {
        let inputs = loaded(path).inputs;
        inputs.iter().map(|input| input.path.strip_prefix(folder()).unwrap().display().to_string()).collect()
    };
    assert_eq!(
        names(&folder().join("include.yaml")),
        ["include.yaml", "conf.d", "conf.d/10-network.yaml", "conf.d/20-webhooks.toml"]
    );
    assert_eq!(names(&folder().join("lookups.yaml")), ["lookups.yaml", "devices.csv"]);
}
