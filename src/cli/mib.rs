//! `nereus mib tree`, `mib lint`, `mib stats`, `mib compile`: what MIB files hold, and what is wrong with them.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::Failure;
use super::names::{self, NameArgs};
use super::output::{self, Out};
use crate::diagnostic::{Diagnostic, Level, render_coloured, summary};
use crate::mib::{Access, Kind, Mib, Node, read_directories};

#[derive(Args)]
pub(super) struct TreeArgs {
    /// A name as `IF-MIB::ifTable` or `enterprises`, or an OID
    #[arg(value_name = "NAME")]
    root: String,
    /// How many levels below NAME are shown; without it all are
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    #[command(flatten)]
    names: NameArgs,
    /// One JSON object for each node
    #[arg(long)]
    json: bool,
}

/// One node, as `mib tree --json` prints it.
#[derive(Serialize)]
struct TreeNode<'m> {
    oid: String,
    module: &'m str,
    name: &'m str,
    kind: &'m str,
    /// Below the root of the question: 0 for itself.
    depth: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    syntax: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    index: Vec<&'m str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objects: Vec<&'m str>,
}

/// Shows what lies below a name, by OID, each node on a line.
///
/// # Errors
/// [`Failure::Bad`] where nothing has that name.
pub(super) fn tree(args: &TreeArgs, out: &mut Out) -> Result<(), Failure> {
    let mib = args.names.load()?;
    let target = names::resolve(&mib, &args.root).map_err(|error| {
        super::failure::error(&output::printable(&error));
        Failure::Bad
    })?;
    let Some(root) = target.node.filter(|_| target.instance().is_empty()) else {
        super::failure::error(&format!(
            "{}: no MIB defines this OID; a tree begins at a name",
            output::printable(&args.root)
        ));
        return Err(Failure::Bad);
    };
    // Without recursion: the next node is on top.
    let mut stack = vec![(mib.node(root), 0)];
    while let Some((node, depth)) = stack.pop() {
        let shown = tree_node(&mib, node, depth);
        if args.json {
            out.json(&shown)?;
        } else {
            out.line(&output::printable(&shown.line(node)))?;
        }
        if args.depth.is_none_or(|deepest| depth < deepest) {
            let below: Vec<_> = mib.children(node.id()).collect();
            stack.extend(below.into_iter().rev().map(|child| (child, depth + 1)));
        }
    }
    Ok(())
}

fn tree_node<'m>(mib: &'m Mib, node: Node<'m>, depth: usize) -> TreeNode<'m> {
    let syntax = node.syntax().map(|syntax| {
        let named = if syntax.convention().is_empty() { syntax.base().name() } else { syntax.convention() };
        let mut text = named.to_owned();
        if !syntax.units().is_empty() {
            text += &format!(" ({})", syntax.units());
        }
        text
    });
    let is_row = node.kind() == Kind::Row;
    let index =
        node.index().filter(|_| is_row).map(|part| part.map_or("INTEGER", |part| mib.node(part).name()));
    TreeNode {
        oid: node.oid().to_string(),
        module: node.module().name(),
        name: node.name(),
        kind: node.kind().name(),
        depth,
        syntax,
        access: access(node.access()),
        index: index.collect(),
        objects: node.objects().map(|object| mib.node(object).name()).collect(),
    }
}

fn access(access: Access) -> Option<&'static str> {
    Some(match access {
        Access::Unstated => return None,
        Access::NotAccessible => "not-accessible",
        Access::ForNotify => "accessible-for-notify",
        Access::ReadOnly => "read-only",
        Access::ReadWrite => "read-write",
        Access::ReadCreate => "read-create",
    })
}

impl TreeNode<'_> {
    /// `  ifDescr(2) column DisplayString`
    fn line(&self, node: Node<'_>) -> String {
        let arc = node.oid().arcs().last().copied().unwrap_or_default();
        let mut line = "  ".repeat(self.depth);
        if self.depth == 0 {
            line += &format!("{}::{} {} {}", self.module, self.name, self.oid, self.kind);
        } else {
            line += &format!("{}({arc}) {}", self.name, self.kind);
        }
        if let Some(syntax) = &self.syntax {
            line += &format!(" {syntax}");
        }
        for (what, names) in [("INDEX", &self.index), ("OBJECTS", &self.objects)] {
            if !names.is_empty() {
                line += &format!(" {what} {{ {} }}", names.join(", "));
            }
        }
        line
    }
}

#[derive(Args)]
pub(super) struct LintArgs {
    /// MIB files, or folders that are read recursively
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Tell nothing less than this
    #[arg(long, value_name = "LEVEL", default_value = "note")]
    level: LeastLevel,
    /// The modules of these folders are known, and nothing is told of them
    #[command(flatten)]
    names: NameArgs,
    /// One JSON object for each problem
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LeastLevel {
    Note,
    Warning,
    Error,
}

impl LeastLevel {
    fn level(self) -> Level {
        match self {
            Self::Note => Level::Note,
            Self::Warning => Level::Warning,
            Self::Error => Level::Error,
        }
    }
}

/// Compiles the files, among those of the folders, and tells their problems.
///
/// # Errors
/// [`Failure::Bad`] where one is an error; [`Failure::Unable`] where a path is not there.
pub(super) fn lint(args: &LintArgs, out: &mut Out) -> Result<(), Failure> {
    for path in &args.paths {
        std::fs::metadata(path)
            .map_err(|error| Failure::Unable(format!("cannot read {}: {error}", path.display())))?;
    }
    let (mut files, mut problems) = read_directories(&args.paths);
    let own: HashSet<Arc<str>> = files.iter().map(|file| Arc::clone(&file.path)).collect();
    // A file that is linted need not be read again as one of the folder's.
    files.extend(args.names.files()?.0.into_iter().filter(|file| !own.contains(&file.path)));
    let compiled = Mib::compile(&files);
    // What has no place is told of a file as a whole, by its path.
    let of_own = |problem: &Diagnostic| match &problem.place {
        Some(place) => own.contains(&place.file),
        None => own.iter().any(|path| problem.message.starts_with(&**path)),
    };
    problems.extend(compiled.diagnostics.into_iter().filter(of_own));
    let failed = problems.iter().any(|problem| problem.level == Level::Error);
    problems.retain(|problem| problem.level >= args.level.level());
    for problem in &problems {
        if args.json {
            out.json(problem)?;
        } else {
            out.line(&render_coloured(problem))?;
        }
    }
    if !args.json {
        let count = own.len();
        let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        out.line(&format!("{files}: {}", summary(&problems)))?;
    }
    if failed { Err(Failure::Bad) } else { Ok(()) }
}

#[derive(Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    names: NameArgs,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// The counts, as `mib stats --json` prints them.
#[derive(Serialize)]
struct Stats {
    files: usize,
    octets: u64,
    /// All versions of each.
    modules: usize,
    /// Those that another version was chosen over.
    modules_superseded: usize,
    nodes: usize,
    /// OIDs with more than one name.
    oids_with_several_names: usize,
    /// By kind.
    kinds: BTreeMap<&'static str, usize>,
    notes: usize,
    warnings: usize,
    errors: usize,
    /// By code.
    problems: BTreeMap<&'static str, usize>,
    /// The compiled form, in octets.
    memory: usize,
    seconds: f64,
}

/// Counts what the MIBs hold.
///
/// # Errors
/// [`Failure::Unable`] where a folder cannot be read.
pub(super) fn stats(args: &StatsArgs, out: &mut Out) -> Result<(), Failure> {
    let begun = Instant::now();
    let loaded = args.names.load_all()?;
    let seconds = begun.elapsed().as_secs_f64();
    let mib = &loaded.mib;
    let mut kinds = BTreeMap::new();
    let mut oids_with_several_names = 0;
    for node in mib.nodes() {
        *kinds.entry(node.kind().name()).or_insert(0) += 1;
        // The second name of an OID, once.
        oids_with_several_names += usize::from(mib.same_oid(node.id()).nth(1) == Some(node.id()));
    }
    let mut problems = BTreeMap::new();
    for problem in &*loaded.problems {
        *problems.entry(problem.code).or_insert(0) += 1;
    }
    let count = |level| loaded.problems.iter().filter(|problem| problem.level == level).count();
    let stats = Stats {
        files: loaded.stats.files,
        octets: loaded.octets,
        modules: mib.modules().count(),
        modules_superseded: mib.modules().filter(|module| module.is_superseded()).count(),
        nodes: mib.nodes().len(),
        oids_with_several_names,
        kinds,
        notes: count(Level::Note),
        warnings: count(Level::Warning),
        errors: count(Level::Error),
        problems,
        memory: mib.size(),
        seconds,
    };
    if args.json {
        return out.json(&stats);
    }
    let mut table = output::table(&["WHAT", "COUNT"]);
    let mut row = |what: &str, count: String| {
        table.add_row([output::cell(what), output::cell(&count)]);
    };
    row("files", stats.files.to_string());
    row("octets", stats.octets.to_string());
    row("modules", stats.modules.to_string());
    row("modules superseded", stats.modules_superseded.to_string());
    row("nodes", stats.nodes.to_string());
    for (kind, count) in &stats.kinds {
        row(&format!("  {kind}"), count.to_string());
    }
    row("OIDs with several names", stats.oids_with_several_names.to_string());
    row("problems", summary(&loaded.problems));
    for (code, count) in &stats.problems {
        row(&format!("  {code}"), count.to_string());
    }
    row("memory", format!("{} KiB", stats.memory.div_ceil(1024)));
    row("seconds", format!("{:.2}", stats.seconds));
    out.table(&table)
}

#[derive(Args)]
pub(super) struct CompileArgs {
    /// Where the compiled MIBs go; a file that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    names: NameArgs,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// What was written, as `mib compile --json` prints it.
#[derive(Serialize)]
struct Compiled<'a> {
    output: &'a str,
    files: usize,
    modules: usize,
    nodes: usize,
    problems: usize,
    octets: u64,
    seconds: f64,
}

/// Compiles the folders and writes what a running Nereus keeps in `mib.cache`.
///
/// # Errors
/// [`Failure::Unable`] where a folder cannot be read or the file cannot be written.
pub(super) fn compile(args: &CompileArgs, out: &mut Out) -> Result<(), Failure> {
    let begun = Instant::now();
    let (folders, collection) = args.names.collection()?;
    let unable = |error| Failure::Unable(format!("cannot write {}: {error}", args.output.display()));
    collection.write_cache(&args.output, &folders).map_err(unable)?;
    let stats = collection.stats();
    let shown = args.output.to_string_lossy();
    let compiled = Compiled {
        output: &shown,
        files: stats.files,
        modules: stats.modules,
        nodes: stats.nodes,
        problems: stats.problems,
        octets: std::fs::metadata(&args.output).map_err(unable)?.len(),
        seconds: begun.elapsed().as_secs_f64(),
    };
    if args.json {
        return out.json(&compiled);
    }
    out.line(&output::printable(&format!(
        "{}: {} files, {} modules, {} nodes in {} KiB; {}",
        compiled.output,
        compiled.files,
        compiled.modules,
        compiled.nodes,
        compiled.octets.div_ceil(1024),
        summary(collection.diagnostics())
    )))
}
