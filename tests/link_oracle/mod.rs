//! Small worlds of modules that import from and stand on each other, and a resolver of them that does nothing but follow
//! the rules of docs/mibs.md one name at a time. Shared by `tests/mib_link.rs` and the fuzz target `mib_link`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use nereus::mib::{Mib, SourceFile};

/// Names and modules are numbers here: `n3` and `M3-MIB`.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) modules: Vec<Module>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Module {
    /// A name, and the module that it is to come from, which need not be there.
    pub(crate) imports: Vec<(u8, u8)>,
    /// A name, the name that it stands below (or `enterprises`), its arc.
    pub(crate) definitions: Vec<(u8, Option<u8>, u8)>,
}

/// What a definition comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Oid(Vec<u32>),
    /// It stands below itself.
    Cycle,
    /// Something on the way is neither defined nor imported: which of others' definitions is taken then is another rule.
    Elsewhere,
}

const ENTERPRISES: [u32; 6] = [1, 3, 6, 1, 4, 1];
/// How often one import is followed to the next.
const HOPS: usize = 8;

impl World {
    /// Made of whatever octets there are.
    pub(crate) fn of(octets: &[u8]) -> Self {
        let mut world = Self::default();
        for chunk in octets.chunks(24).take(8) {
            let mut module = Module::default();
            for piece in chunk.chunks_exact(3) {
                if piece[0] & 1 == 0 {
                    module.imports.push((piece[1] % 8, piece[2] % 9));
                } else {
                    let parent = (piece[2] % 9 < 8).then_some(piece[2] % 9);
                    module.definitions.push((piece[1] % 8, parent, piece[0] >> 1));
                }
            }
            world.modules.push(module);
        }
        world
    }

    /// Each module in a file of its own. A second definition of one name in a module is left out.
    fn files(&self) -> Vec<SourceFile> {
        let write = |(number, module): (usize, &Module)| {
            let mut text = format!("M{number}-MIB DEFINITIONS ::= BEGIN\n");
            if !module.imports.is_empty() {
                text += "IMPORTS";
                for (name, from) in &module.imports {
                    let _ = write!(text, " n{name} FROM M{from}-MIB");
                }
                text += ";\n";
            }
            for (name, parent, arc) in module.own() {
                let parent = parent.map_or_else(|| "enterprises".to_owned(), |parent| format!("n{parent}"));
                let _ = writeln!(text, "n{name} OBJECT IDENTIFIER ::= {{ {parent} {arc} }}");
            }
            SourceFile::new(format!("m{number}"), (text + "END\n").into_bytes())
        };
        self.modules.iter().enumerate().map(write).collect()
    }

    /// The module that defines what `module` means by `name`.
    fn meant(&self, module: usize, name: u8) -> Option<usize> {
        let mut at = module;
        for _ in 0..=HOPS {
            let this = self.modules.get(at)?;
            if this.own().any(|(own, ..)| own == name) {
                return Some(at);
            }
            let (_, from) = this.imports.iter().find(|(imported, _)| *imported == name)?;
            at = usize::from(*from);
        }
        None
    }

    fn outcome(&self, module: usize, name: u8, met: &mut BTreeSet<(usize, u8)>) -> Outcome {
        if !met.insert((module, name)) {
            return Outcome::Cycle;
        }
        let own = self.modules.get(module).and_then(|this| this.own().find(|(own, ..)| *own == name));
        let Some((_, parent, arc)) = own else { return Outcome::Elsewhere };
        let above = match parent {
            None => Outcome::Oid(ENTERPRISES.to_vec()),
            Some(parent) => match self.meant(module, parent) {
                Some(definer) => self.outcome(definer, parent, met),
                None => Outcome::Elsewhere,
            },
        };
        match above {
            Outcome::Oid(mut arcs) => {
                arcs.push(arc.into());
                Outcome::Oid(arcs)
            }
            other => other,
        }
    }

    /// Compiles it, and compares every definition with what it should come to. Returns how many were compared.
    pub(crate) fn check(&self) -> usize {
        let mib = Mib::compile(&self.files()).mib;
        let mut compared = 0;
        for (number, module) in self.modules.iter().enumerate() {
            for (name, ..) in module.own() {
                let (module, name_there) = (format!("M{number}-MIB"), format!("n{name}"));
                let known: Vec<Vec<u32>> = mib
                    .nodes()
                    .filter(|node| node.module().name() == module && node.name() == name_there)
                    .map(|node| node.oid().arcs().to_vec())
                    .collect();
                let expected = match self.outcome(number, name, &mut BTreeSet::new()) {
                    Outcome::Oid(arcs) => vec![arcs],
                    Outcome::Cycle => Vec::new(),
                    Outcome::Elsewhere => continue,
                };
                assert_eq!(known, expected, "{module}::{name_there} of {self:?}");
                compared += 1;
            }
        }
        compared
    }
}

impl Module {
    /// The definitions, the first of each name.
    fn own(&self) -> impl Iterator<Item = (u8, Option<u8>, u8)> {
        let first = |at: usize, name: u8| self.definitions[..at].iter().all(|(before, ..)| *before != name);
        let all = self.definitions.iter().copied().enumerate();
        all.filter(move |&(at, (name, ..))| first(at, name)).map(|(_, definition)| definition)
    }
}
