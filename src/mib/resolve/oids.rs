//! Gives every definition its place in the OID tree.

use std::collections::{BTreeMap, HashMap};

use super::Link;
use super::scope::Space;
use crate::diagnostic::Level;
use crate::mib::ast::DefinitionKind;
use crate::mib::symbol::{NONE, NumberMap};
use crate::oid::MAX_ARCS;

/// Not looked at yet.
const OPEN: u32 = NONE;
/// On the way to its parent: meeting it again is a cycle.
const BUSY: u32 = NONE - 1;
/// Has no OID.
const FAILED: u32 = NONE - 2;

/// The tree while it grows. Vertex 0 is the root.
#[derive(Debug)]
pub(super) struct Vertices {
    children: NumberMap<u64, u32>,
    /// Parent and arc of each vertex but the root.
    pub(super) edges: Vec<(u32, u32)>,
    depths: Vec<u8>,
}

impl Vertices {
    pub(super) fn new() -> Self {
        Self { children: NumberMap::default(), edges: Vec::new(), depths: vec![0] }
    }

    /// Makes room for about as many vertices.
    fn reserve(&mut self, vertices: usize) {
        self.children.reserve(vertices);
        self.edges.reserve(vertices);
        self.depths.reserve(vertices);
    }

    /// The vertex below `parent` by `arc`; `None` where it would lie deeper than an OID may.
    fn child(&mut self, parent: u32, arc: u32) -> Option<u32> {
        let depth = self.depths[parent as usize];
        if usize::from(depth) >= MAX_ARCS {
            return None;
        }
        let new = self.depths.len() as u32;
        let found = *self.children.entry(u64::from(parent) << 32 | u64::from(arc)).or_insert(new);
        if found == new {
            self.edges.push((parent, arc));
            self.depths.push(depth + 1);
        }
        Some(found)
    }

    fn descend(&mut self, from: u32, arcs: &[u32]) -> Option<u32> {
        arcs.iter().try_fold(from, |at, &arc| self.child(at, arc))
    }
}

/// Whether a place is a vertex.
pub(super) fn is_vertex(place: u32) -> bool {
    place < FAILED
}

enum Step {
    Done(u32),
    /// The parent comes first.
    Parent(u32),
    Failed(Failure),
}

#[derive(Debug)]
pub(super) enum Failure {
    /// The parent has no OID itself: told there.
    Parent(u32),
    Unknown(u32),
    Cycle,
    TooLong,
    NoValue,
    Component(u32),
}

/// The definitions without an OID.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// By their own fault, and how many stand below each.
    pub(super) own: BTreeMap<u32, (Failure, usize)>,
    /// For each other one the one whose fault it is.
    pub(super) roots: HashMap<u32, u32>,
}

pub(super) fn resolve(link: &mut Link<'_>) {
    link.places = vec![OPEN; link.definitions.len()];
    link.vertices.reserve(link.definitions.len());
    for number in 0..link.definitions.len() as u32 {
        if link.is_linked(link.definitions[number as usize].file) && !is_type(link, number) {
            place(link, number);
        }
    }
    tell(link);
}

/// The vertex of a definition that is no type, or a mark that it has none; found now where it was not yet.
pub(super) fn place(link: &mut Link<'_>, number: u32) -> u32 {
    if link.places[number as usize] != OPEN {
        return link.places[number as usize];
    }
    let mut stack = std::mem::take(&mut link.stack);
    stack.push(number);
    while let Some(&at) = stack.last() {
        match step(link, at) {
            Step::Parent(parent) => {
                link.places[at as usize] = BUSY;
                stack.push(parent);
                continue;
            }
            Step::Done(vertex) => link.places[at as usize] = vertex,
            Step::Failed(failure) => {
                link.places[at as usize] = FAILED;
                let Failures { own, roots } = &mut link.failures;
                if let Failure::Parent(parent) = failure {
                    let root = roots.get(&parent).copied().unwrap_or(parent);
                    roots.insert(at, root);
                    if let Some((_, below)) = own.get_mut(&root) {
                        *below += 1;
                    }
                } else {
                    own.insert(at, (failure, 0));
                }
            }
        }
        stack.pop();
    }
    link.stack = stack;
    link.places[number as usize]
}

fn is_type(link: &Link<'_>, number: u32) -> bool {
    link.definition(link.definitions[number as usize]).kind.is_type()
}

fn step(link: &mut Link<'_>, number: u32) -> Step {
    let entry = link.definitions[number as usize];
    let definition = link.definition(entry);
    let record = link.record(entry.file);
    let parts = definition.oid.of(&record.parts);
    let Some((first, rest)) = parts.split_first() else {
        return Step::Failed(Failure::NoValue);
    };
    // No OID has so many; and a component by name may have to be waited for, which begins anew each time.
    if rest.len() > MAX_ARCS {
        return Step::Failed(Failure::TooLong);
    }
    let mut at = 0;
    if first.name != NONE {
        let name = link.word(entry.file, first.name);
        let found = link.find(entry.module, Space::Value, name);
        match (found.filter(|&found| found != number), first.number) {
            (Some(found), _) => match link.places[found as usize] {
                OPEN => return Step::Parent(found),
                BUSY => return Step::Failed(Failure::Cycle),
                FAILED => return Step::Failed(Failure::Parent(found)),
                vertex => at = vertex,
            },
            (None, Some(arc)) => match link.vertices.child(0, arc) {
                Some(vertex) => at = vertex,
                None => return Step::Failed(Failure::TooLong),
            },
            (None, None) if found.is_some() => return Step::Failed(Failure::Cycle),
            (None, None) => return Step::Failed(Failure::Unknown(name)),
        }
    } else if let Some(arc) = first.number {
        match link.vertices.child(0, arc) {
            Some(vertex) => at = vertex,
            None => return Step::Failed(Failure::TooLong),
        }
    }
    for part in rest {
        let arc = match part.number {
            Some(arc) => arc,
            None => match named_arc(link, entry.module, entry.file, part.name) {
                Ok(arc) => arc,
                Err(step) => return step,
            },
        };
        match link.vertices.child(at, arc) {
            Some(vertex) => at = vertex,
            None => return Step::Failed(Failure::TooLong),
        }
    }
    if definition.kind == DefinitionKind::Trap {
        return trap(link, at, definition.number);
    }
    if at == 0 { Step::Failed(Failure::NoValue) } else { Step::Done(at) }
}

/// A name without a number past the first component: the last arc of what the name stands for.
fn named_arc(link: &mut Link<'_>, module: u32, file: u32, name: u32) -> Result<u32, Step> {
    let name = link.word(file, name);
    match link.find(module, Space::Value, name) {
        None => Err(Step::Failed(Failure::Component(name))),
        Some(found) => match link.places[found as usize] {
            OPEN => Err(Step::Parent(found)),
            BUSY => Err(Step::Failed(Failure::Cycle)),
            FAILED => Err(Step::Failed(Failure::Parent(found))),
            vertex => Ok(link.vertices.edges[vertex as usize - 1].1),
        },
    }
}

/// RFC 3584 section 3.1: the generic traps of RFC 1215 are the standard's notifications; any other trap
/// is ENTERPRISE.0.number.
fn trap(link: &mut Link<'_>, enterprise: u32, number: u32) -> Step {
    const SNMP: [u32; 7] = [1, 3, 6, 1, 2, 1, 11];
    const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
    let vertex = if number <= 5 && link.vertices.descend(0, &SNMP) == Some(enterprise) {
        link.vertices.descend(0, &SNMP_TRAPS).and_then(|traps| link.vertices.child(traps, number + 1))
    } else {
        link.vertices.descend(enterprise, &[0, number])
    };
    vertex.map_or(Step::Failed(Failure::TooLong), Step::Done)
}

fn tell(link: &mut Link<'_>) {
    let failures = std::mem::take(&mut link.failures.own);
    for (&number, (failure, below)) in &failures {
        let entry = link.definitions[number as usize];
        let definition = link.definition(entry);
        let name = link.names.text(entry.name).to_owned();
        let (code, mut message) = match failure {
            Failure::Unknown(parent) => {
                let parent = link.names.text(*parent);
                ("mib-unknown-parent", format!("{name} is to stand below {parent}, which no module defines"))
            }
            Failure::Component(part) => {
                let part = link.names.text(*part);
                ("mib-unknown-parent", format!("the OID of {name} has {part} in it, which no module defines"))
            }
            Failure::Cycle => ("mib-oid-cycle", format!("{name} stands below itself")),
            Failure::TooLong => {
                ("mib-oid-too-long", format!("the OID of {name} has more than {MAX_ARCS} arcs"))
            }
            Failure::NoValue | Failure::Parent(_) => ("mib-no-oid", format!("{name} has no OID")),
        };
        if *below > 0 {
            message += &format!("; {below} more definitions stand below it");
        }
        let help = Some("this definition is left out");
        link.problem(entry.file, Level::Error, code, (definition.at, name.len()), message, help);
    }
    link.failures.own = failures;
}
