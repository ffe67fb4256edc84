//! From a file to checked settings: finding it, reading it, everything that it reads besides.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::again::Layout;
use super::decode::{self, Collected, Context};
use super::include;
use super::lookup::LookupTable;
use super::settings::{AdminSettings, Settings};
use super::source::{Source, Sources, Span};
use super::tree::{self, Language, Problem, Tree};
use crate::diagnostic::{Diagnostic, Level, Place, render, summary};

/// The largest configuration that is read.
pub(super) const MAX_FILE: u64 = 16 << 20;
/// The most syntax errors that are shown.
const MAX_SYNTAX: usize = 20;
/// The largest secret that is read from a file.
const MAX_SECRET: u64 = 64 << 10;
/// The most names of a directory.
const MAX_NAMES: usize = 100_000;

/// Where a configuration's secrets, includes and tables come from. [`System`] is the real one; tests bring
/// their own.
pub trait Inputs {
    /// The value of an environment variable; not the empty text for one that is not set.
    fn env(&self, name: &str) -> Option<Vec<u8>>;

    /// A secret's file, whole.
    ///
    /// # Errors
    /// What reading gave; a file beyond any sensible size is an error as well.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// An included file or a lookup's table, whole. Without an own answer there is none.
    ///
    /// # Errors
    /// What reading gave; a file of more than `limit` octets is [`io::ErrorKind::FileTooLarge`].
    fn read_part(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let _ = (path, limit);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// What listing gave.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The permission bits of a file, for the warning that they are too wide; `None` where they are not known.
    fn mode(&self, path: &Path) -> Option<u32> {
        let _ = path;
        None
    }
}

/// The process's environment and file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Inputs for System {
    fn env(&self, name: &str) -> Option<Vec<u8>> {
        use std::os::unix::ffi::OsStringExt;
        // `var_os` panics on no name, but takes these for never set.
        (!name.contains(['=', '\0'])).then(|| std::env::var_os(name).map(OsStringExt::into_vec)).flatten()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_bounded(path, MAX_SECRET)
    }

    fn read_part(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        read_bounded(path, limit)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            if names.len() == MAX_NAMES {
                let message = format!("more than {MAX_NAMES} names stand in it");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
            names.push(entry?.file_name());
        }
        Ok(names)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        path.metadata().ok().map(|metadata| metadata.mode() & 0o7777)
    }
}

/// A warning for a file that its group may change, or others may do anything with.
pub(super) fn permissions(path: &Path, mode: Option<u32>) -> Option<Diagnostic> {
    let mode = mode.filter(|mode| mode & 0o027 != 0)?;
    let what = match (mode & 0o022, mode & 0o004) {
        (0, _) => "others than its owner and group can read it",
        (_, 0) => "others than its owner can change it",
        (_, _) => "others than its owner can read and change it",
    };
    let path = path.display();
    let message = format!("the permissions of `{path}` are too wide ({:03o}): {what}", mode & 0o777);
    let remedy = format!("chmod {:03o} {path}", mode & 0o640);
    Some(Diagnostic::warning("config-permissions", message).help(remedy))
}

fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    // A FIFO without a writer would hold a blocking open for ever.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a regular file"));
    }
    let mut octets = Vec::new();
    file.take(limit + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} KiB", limit >> 10)));
    }
    Ok(octets)
}

/// The SHA-256 of a file's octets. It prints as nothing but its type, since a short secret could be found
/// from it by trying.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Hashes `octets`.
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        Self(Sha256::digest(octets).into())
    }

    /// The octets of the hash, for hashing several into one. Not for showing: see the type.
    #[must_use]
    pub fn octets(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentHash(..)")
    }
}

/// A file that the settings were made from: its change is a change. A directory stands for the list of its
/// names, hidden ones left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The path as the configuration says it, from where Nereus was started.
    pub path: PathBuf,
    /// What it held when it was read; `None` where it could not be read.
    pub hash: Option<ContentHash>,
    /// Whether it holds a secret alone; the configuration itself counts as none.
    pub secret: bool,
}

impl Input {
    /// Whether the path holds on the disk what it held when it was read.
    #[must_use]
    pub fn is_on_disk(&self) -> bool {
        hash_of(&self.path) == self.hash
    }
}

/// What reading a path again gives for [`Input::hash`]: of a directory, the list of its names.
pub(crate) fn hash_of(path: &Path) -> Option<ContentHash> {
    /// A larger file is none that the configuration reads.
    const LARGEST: u64 = 256 << 20;
    use std::os::unix::fs::OpenOptionsExt;
    // A FIFO in the file's place would hold a blocking open for ever.
    let mut file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if metadata.is_dir() {
        let names = std::fs::read_dir(path).ok()?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>().ok()?;
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        names.sort_unstable();
        let ended = names.iter().flat_map(|name| name.as_encoded_bytes().iter().chain(&[0])).copied();
        return Some(ContentHash::of(&ended.collect::<Vec<u8>>()));
    }
    if !metadata.is_file() || metadata.len() > LARGEST {
        return None;
    }
    let mut octets = Zeroizing::new(Vec::new());
    file.by_ref().take(LARGEST).read_to_end(&mut octets).ok()?;
    Some(ContentHash::of(&octets))
}

/// Settings without an error, and what they were made from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The configuration itself first, then each file that it includes, each directory that was listed for an
    /// `include`, each table and each secret's file, once.
    pub inputs: Vec<Input>,
    /// Warnings and notes, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why a configuration is not taken: every problem at once. Prints as `check` prints it, without colours.
#[derive(Debug, Clone)]
pub struct Problems {
    /// At least one error; warnings and notes beside it, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// What was read, so that the same content need not be tried again.
    pub inputs: Vec<Input>,
    /// The `admin` section as far as it could be read: a Nereus that runs with an earlier state of the file can
    /// still be asked there, above all for a reload that says why the new state is refused.
    pub admin: Option<Arc<AdminSettings>>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{}", render(diagnostic))?;
        }
        f.write_str(&summary(&self.diagnostics))
    }
}

impl std::error::Error for Problems {}

/// The file to use when none is named: `./nereus.{yaml,yml,toml}`, then
/// `/etc/nereus/{nereus,config}.{yaml,yml,toml}`; `None` where there is none of them.
///
/// A file that is there but cannot be read is found, so that it is told and not passed over.
#[must_use]
pub fn find() -> Option<PathBuf> {
    candidates().find(|path| path.symlink_metadata().is_ok())
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    ["./nereus", "/etc/nereus/nereus", "/etc/nereus/config"].into_iter().flat_map(|stem| {
        ["yaml", "yml", "toml"].map(|extension| PathBuf::from(format!("{stem}.{extension}")))
    })
}

/// Reads and checks a file, with the secrets of the process's environment and file system.
///
/// # Errors
/// [`Problems`] with every problem of the file, or the one that it could not be read.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_after(path, &[])
}

/// As [`load`]. Tables whose files did not change since they were read as `known` are taken over.
///
/// # Errors
/// As [`load`].
pub fn load_after(path: &Path, known: &[Arc<LookupTable>]) -> Result<Loaded, Problems> {
    load_octets(path, &read_configuration(path)?, known, &mut None)
}

/// Checks the octets of the file at `path`. Where its parts can be read apart the next time, `layout` says where
/// they stand.
pub(super) fn load_octets(
    path: &Path,
    octets: &[u8],
    known: &[Arc<LookupTable>],
    layout: &mut Option<Layout>,
) -> Result<Loaded, Problems> {
    let mut outcome = parse_path(path, octets, &System, known, layout);
    if let Some(problem) = permissions(path, System.mode(path)) {
        match &mut outcome {
            Ok(loaded) => loaded.diagnostics.insert(0, problem),
            Err(problems) => problems.diagnostics.push(problem),
        }
    }
    outcome
}

/// The octets of a configuration file, which may hold secrets.
pub(super) fn read_configuration(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problems> {
    match read_bounded(path, MAX_FILE) {
        Ok(octets) => Ok(Zeroizing::new(octets)),
        Err(error) => {
            let message = format!("cannot read `{}`: {error}", path.display());
            let diagnostic = Diagnostic::error("config-read", message);
            let diagnostic = match error.kind() {
                io::ErrorKind::NotFound => diagnostic.help("`nereus config init` writes a sample"),
                io::ErrorKind::PermissionDenied => diagnostic
                    .help("let the user that Nereus runs as read the file and enter its directories"),
                _ => diagnostic,
            };
            let input = Input { path: path.to_owned(), hash: None, secret: false };
            Err(Problems { diagnostics: vec![diagnostic], inputs: vec![input], admin: None })
        }
    }
}

/// Checks a text whose language is the extension of `name`. Reads nothing but through `inputs`; relative
/// includes and tables count from the folder of `name`.
///
/// # Errors
/// [`Problems`] with every problem of the text.
pub fn parse(name: &str, octets: &[u8], inputs: &dyn Inputs) -> Result<Loaded, Problems> {
    parse_path(Path::new(name), octets, inputs, &[], &mut None)
}

/// As [`parse`]. Tables whose files did not change since they were read as `known` are taken over.
///
/// # Errors
/// As [`parse`].
pub fn parse_after(
    name: &str,
    octets: &[u8],
    inputs: &dyn Inputs,
    known: &[Arc<LookupTable>],
) -> Result<Loaded, Problems> {
    parse_path(Path::new(name), octets, inputs, known, &mut None)
}

fn parse_path(
    path: &Path,
    octets: &[u8],
    inputs: &dyn Inputs,
    known: &[Arc<LookupTable>],
    layout: &mut Option<Layout>,
) -> Result<Loaded, Problems> {
    let own = Input { path: path.to_owned(), hash: Some(ContentHash::of(octets)), secret: false };
    match decode(path, octets, inputs, known, layout) {
        Ok((settings, mut collected)) => {
            collected.inputs.insert(0, own);
            let Collected { diagnostics, inputs } = collected;
            if diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error) {
                return Err(Problems { diagnostics, inputs, admin: Some(settings.admin) });
            }
            Ok(Loaded { settings, inputs, diagnostics })
        }
        Err(diagnostics) => Err(Problems { diagnostics, inputs: vec![own], admin: None }),
    }
}

/// The diagnostics of `Err` mean that there is no tree.
fn decode(
    path: &Path,
    octets: &[u8],
    inputs: &dyn Inputs,
    known: &[Arc<LookupTable>],
    layout: &mut Option<Layout>,
) -> Result<(Settings, Collected), Vec<Diagnostic>> {
    let Opened { source, tree, language } = open(path, octets)?;
    if language == Language::Yaml {
        *layout = Layout::of(&source.text, &tree);
    }
    let Tree { mut root, twice, .. } = tree;
    let mut context = Context::new(Sources::new(source), inputs, known);
    for problem in twice {
        context.error(problem.code, &problem.span, problem.message, problem.help);
    }
    include::resolve(&mut context, &mut root, path);
    let settings = decode::settings(&mut context, &root);
    Ok((settings, context.finish()))
}

/// A text that has a tree, its secrets masked.
pub(super) struct Opened {
    pub(super) source: Source,
    pub(super) tree: Tree,
    language: Language,
}

/// From octets to a tree; the diagnostics have their places.
pub(super) fn open(path: &Path, octets: &[u8]) -> Result<Opened, Vec<Diagnostic>> {
    let name = path.to_string_lossy();
    let language = language(&name).map_err(|diagnostic| vec![*diagnostic])?;
    let text = text(&name, octets).map_err(|diagnostic| vec![*diagnostic])?;
    let mut source = Source::new(path, text);
    let tree = tree::read(language, &source.text).map_err(|problems| {
        let told = |problem: Problem| Diagnostic {
            level: Level::Error,
            code: problem.code,
            message: problem.message,
            place: Some(source.place_unparsed(&problem.span)),
            help: problem.help,
            part: None,
        };
        // One slip breaks many lines after it; the first ones are the ones that help.
        let more = problems.len().saturating_sub(MAX_SYNTAX);
        let mut diagnostics: Vec<_> = problems.into_iter().take(MAX_SYNTAX).map(told).collect();
        if more > 0 {
            diagnostics
                .push(Diagnostic::error("config-more", format!("{more} further problems are not shown")));
        }
        diagnostics
    })?;
    let secrets = decode::secret_spans(&tree.root, &source);
    let comments = decode::comments(&tree.root, &source.text);
    source.mask(secrets, comments);
    Ok(Opened { source, tree, language })
}

fn language(name: &str) -> Result<Language, Box<Diagnostic>> {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match &*extension.to_ascii_lowercase() {
        "yaml" | "yml" => Ok(Language::Yaml),
        "toml" => Ok(Language::Toml),
        _ => Err(Diagnostic::error(
            "config-extension",
            format!("`{name}` is neither YAML nor TOML by its name"),
        )
        .help("the extension says the language: .yaml, .yml or .toml")
        .into()),
    }
}

/// The text of a file: UTF-8 without its byte order mark and without NUL.
pub(super) fn text(name: &str, octets: &[u8]) -> Result<String, Box<Diagnostic>> {
    let file = || name.into();
    // The line before the first octet that is wrong may hold a secret, so that it is not shown.
    let place = |good: &str| {
        let at = good.len();
        Place { source: "".into(), ..Place::in_text(&file(), good, at, at) }
    };
    if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) {
        return Err(Diagnostic::error("config-encoding", "the file is UTF-16")
            .at(place(""))
            .help("save it as UTF-8")
            .into());
    }
    match std::str::from_utf8(octets) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            if let Some(at) = text.find('\0') {
                let message = "a NUL stands in the file";
                return Err(Diagnostic::error("config-encoding", message)
                    .at(place(&text[..at]))
                    .help("is this a text file?")
                    .into());
            }
            Ok(text.to_owned())
        }
        Err(error) => {
            let good = std::str::from_utf8(&octets[..error.valid_up_to()]).unwrap_or_default();
            Err(Diagnostic::error("config-encoding", "the file is not UTF-8")
                .at(place(good))
                .help("save it as UTF-8")
                .into())
        }
    }
}

/// An empty file is a file that lost its content, never the default.
pub(super) fn says_nothing(span: Span) -> Problem {
    Problem {
        code: "config-empty",
        span,
        message: "the file says nothing".into(),
        help: Some(
            "`nereus config init` writes a sample; the defaults alone are `{}` in YAML, `rules = []` in TOML"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_searched_in_the_documented_order() {
        let all: Vec<_> = candidates().map(|path| path.display().to_string()).collect();
        assert_eq!(all.len(), 9);
        assert_eq!(all[..4], ["./nereus.yaml", "./nereus.yml", "./nereus.toml", "/etc/nereus/nereus.yaml"]);
        assert_eq!(all[8], "/etc/nereus/config.toml");
    }

    #[test]
    fn a_file_and_its_secrets_are_read_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, token) = (folder.path().join("a.yaml"), folder.path().join("token"));
        std::fs::write(&token, "planted\n\n").unwrap();
        let text = format!("admin: {{token: {{file: \"{}\"}}}}", token.display());
        std::fs::write(&path, &text).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.settings.admin.token.as_ref().unwrap().expose(), b"planted");
        let inputs = [
            Input { path: path.clone(), hash: Some(ContentHash::of(text.as_bytes())), secret: false },
            Input { path: token.clone(), hash: Some(ContentHash::of(b"planted\n\n")), secret: true },
        ];
        assert_eq!(loaded.inputs, inputs);
        std::fs::write(&token, vec![b'x'; MAX_SECRET as usize + 1]).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("larger than 64 KiB"));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for (name, part) in [("missing.yaml", "config init"), ("", "regular file")] {
            let problems = load(&folder.path().join(name)).unwrap_err();
            assert_eq!(problems.diagnostics[0].code, "config-read");
            assert!(problems.to_string().contains(part), "{problems}");
            assert_eq!(problems.inputs[0].hash, None);
        }
        // No writer opens it: reading must not wait for one.
        let path = folder.path().join("fifo.yaml");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("regular file"));
    }

    #[test]
    fn an_empty_file_is_never_the_default() {
        for (name, text) in [
            ("a.yaml", ""),
            ("a.yaml", "\n# only this\n"),
            ("a.yaml", "---\n"),
            ("a.toml", "\n# only this\n"),
        ] {
            let problems = parse(name, text.as_bytes(), &System).unwrap_err();
            assert_eq!(problems.diagnostics[0].code, "config-empty", "{text:?}");
        }
        assert_eq!(parse("a.yaml", b"{}", &System).unwrap().settings, Settings::default());
    }
}
