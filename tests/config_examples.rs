//! Every file in `config/` passes, without a warning, and the twins say the same.

use std::path::{Path, PathBuf};

use nereus::config::{Settings, load};

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn settings(path: &Path) -> Settings {
    let loaded = load(path).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    assert_eq!(loaded.inputs[0].path, path);
    loaded.settings
}

#[test]
fn every_shipped_file_passes() {
    let files = shipped();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        settings(&file);
    }
}

#[test]
fn twins_say_the_same() {
    let mut twins = 0;
    for toml in shipped().iter().filter(|file| file.extension().is_some_and(|extension| extension == "toml"))
    {
        let yaml = toml.with_extension("yaml");
        assert_eq!(settings(toml), settings(&yaml), "{}", toml.display());
        twins += 1;
    }
    assert!(twins > 0);
}
