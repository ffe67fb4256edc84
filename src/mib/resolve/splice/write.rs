//! Writes the sections of an image, on as many threads as there are cores.

use zerocopy::little_endian::U32;

use super::numbering::{Numbering, Words};
use super::plan::{Ascent, Nodes, Plan, Vertices};
use crate::mib::format::{LabelRecord, NodeRecord, SyntaxRecord};
use crate::mib::room::Sections;
use crate::mib::symbol::NONE;
use crate::mib::trie::Vertex;
use crate::mib::workers::{self, Task};

/// So many records are written together: some hundred KiB.
const PIECE: usize = 1 << 14;

/// What the sections are written from.
pub(super) struct Writing<'a> {
    pub(super) plan: &'a Plan,
    pub(super) words: &'a Words<'a>,
    pub(super) numbering: &'a Numbering,
    /// For each module of before its number now.
    pub(super) modules: &'a [u32],
    /// For each node of before and each new one its number.
    pub(super) nodes: &'a [u32],
    /// The new nodes.
    pub(super) fresh: &'a [NodeRecord],
    /// The paths of the files.
    pub(super) paths: &'a [&'a str],
    pub(super) references: &'a [U32],
}

impl Writing<'_> {
    /// Writes nodes, vertices, references, types and words.
    pub(super) fn write(&self, out: &mut Sections<'_>) {
        let mut tasks: Vec<Task<'_>> = Vec::new();
        let Sections { nodes, vertices, parents, references, syntaxes, labels, text_ends, text, .. } = out;
        tasks.push(Box::new(|| self.write_words(text_ends, text)));
        for (piece, start) in nodes.chunks_mut(PIECE).zip((0..).step_by(PIECE)) {
            tasks.push(Box::new(move || self.write_nodes(start, piece)));
        }
        let both = vertices.chunks_mut(PIECE).zip(parents.chunks_mut(PIECE));
        for ((vertices, parents), start) in both.zip((0..).step_by(PIECE)) {
            tasks.push(Box::new(move || self.write_vertices(start, vertices, parents)));
        }
        tasks.push(Box::new(|| self.write_types(syntaxes, labels)));
        tasks.push(Box::new(|| references.copy_from_slice(self.references)));
        workers::all(tasks);
    }

    /// The nodes from the number `start` on.
    fn write_nodes(&self, start: usize, out: &mut [NodeRecord]) {
        let mut at = self.plan.nodes.partition_point(|piece| piece.now as usize <= start) - 1;
        let (mut start, mut out) = (start as u32, out);
        while !out.is_empty() {
            let piece = &self.plan.nodes[at];
            let past = start - piece.now;
            let (now, later) = match &piece.what {
                Nodes::Fresh { fresh, .. } => {
                    out[0] = self.fresh[*fresh as usize];
                    out.split_at_mut(1)
                }
                Nodes::Stay { old, references } => {
                    let from = &self.words.old.nodes[(old.start + past) as usize..old.end as usize];
                    let (now, later) = out.split_at_mut(from.len().min(out.len()));
                    let mut vertices = self.plan.vertex_runs.from(from[0].vertex.get());
                    let moved = piece.references.wrapping_sub(references.start);
                    for (now, node) in now.iter_mut().zip(from) {
                        *now = self.renumbered(node, &mut vertices, moved);
                    }
                    (now, later)
                }
            };
            start += now.len() as u32;
            out = later;
            at += 1;
        }
    }

    /// A node of before, whose references stand so much further behind.
    #[inline]
    fn renumbered(&self, node: &NodeRecord, vertices: &mut Ascent<'_>, moved: u32) -> NodeRecord {
        let mut now = *node;
        let [start, len] = node.references;
        if len.get() != 0 {
            now.references = [start.get().wrapping_add(moved).into(), len];
        }
        now.name = self.numbering.words.get(node.name.get()).into();
        now.syntax = self.numbering.types.get(node.syntax.get()).into();
        now.module = self.modules.get(node.module.get() as usize).copied().unwrap_or(NONE).into();
        now.vertex = vertices.now(node.vertex.get()).into();
        now.next = self.node(node.next.get()).into();
        now
    }

    #[inline]
    fn node(&self, old: u32) -> u32 {
        self.nodes.get(old as usize).copied().unwrap_or(NONE)
    }

    /// The vertices from the number `start` on, and what they stand below.
    fn write_vertices(&self, start: usize, vertices: &mut [Vertex], parents: &mut [U32]) {
        let trie = self.words.old.trie;
        let mut at = self.plan.vertices.partition_point(|piece| piece.now as usize <= start) - 1;
        let mut done = 0;
        while done < vertices.len() {
            let piece = &self.plan.vertices[at];
            let past = start + done - piece.now as usize;
            match &piece.what {
                Vertices::One(vertex, parent) => {
                    (vertices[done], parents[done]) = (*vertex, (*parent).into());
                    done += 1;
                }
                Vertices::Stay { old, len, first } => {
                    let from = *old as usize + past..(old + len) as usize;
                    let from = from.start..from.end.min(from.start + vertices.len() - done);
                    let count = from.len();
                    let (above, from) = (&trie.parents[from.clone()], &trie.vertices[from]);
                    for (now, vertex) in vertices[done..].iter_mut().zip(from) {
                        *now = *vertex;
                        now.first = vertex.first.get().wrapping_add(*first).into();
                        now.node = self.node(vertex.node.get()).into();
                    }
                    let mut runs = self.plan.vertex_runs.from(above[0].get());
                    for (now, parent) in parents[done..].iter_mut().zip(above) {
                        *now = runs.now(parent.get()).into();
                    }
                    done += count;
                }
            }
            at += 1;
        }
    }

    /// The paths of the files, and the words.
    fn write_words(&self, ends: &mut [U32], text: &mut [u8]) {
        let (mut number, mut at) = (0, 0);
        for path in self.paths {
            text[at..at + path.len()].copy_from_slice(path.as_bytes());
            at += path.len();
            ends[number] = (at as u32).into();
            number += 1;
        }
        for run in &self.numbering.words.runs {
            let (own, own_ends, start) = self.words.text(run);
            text[at..at + own.len()].copy_from_slice(own);
            let moved = (at as u32).wrapping_sub(start);
            for (now, end) in ends[number..].iter_mut().zip(own_ends) {
                *now = end.get().wrapping_add(moved).into();
            }
            number += own_ends.len();
            at += own.len();
        }
    }

    fn write_types(&self, syntaxes: &mut [SyntaxRecord], labels: &mut [LabelRecord]) {
        let words = &self.numbering.words;
        let (mut number, mut at) = (0, 0);
        for run in &self.numbering.types.runs {
            for syntax in run.old..run.old + run.len {
                let (record, own) = self.words.types.get(&self.words.old, syntax);
                let mut record = *record;
                record.labels[0] = (at as u32).into();
                for word in [&mut record.convention, &mut record.hint, &mut record.units] {
                    *word = words.get(word.get()).into();
                }
                for (now, label) in labels[at..].iter_mut().zip(own) {
                    *now = LabelRecord { number: label.number, name: words.get(label.name.get()).into() };
                }
                syntaxes[number] = record;
                number += 1;
                at += own.len();
            }
        }
    }
}
