//! From names to OIDs: what a person or a rule writes.

use std::fmt;

use super::image::{Kind, Mib, NodeId};
use super::index::IndexDecoder;
use super::instance::{self, Piece};
use crate::oid::{MAX_ARCS, Oid};

/// What a text stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The whole OID, instance included.
    pub oid: Oid,
    /// The node that was named, or the longest known prefix of a numeric OID.
    pub node: Option<NodeId>,
    /// How many arcs of `oid` the node covers; 0 without a node.
    pub matched: usize,
}

impl Target {
    /// The arcs behind the node.
    #[must_use]
    pub fn instance(&self) -> &[u32] {
        &self.oid.arcs()[self.matched..]
    }
}

/// Why a text stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// No module has that name; near ones, the nearest first, at most three.
    NotFound {
        /// `MODULE::name` or `name`, as the question was.
        suggestions: Vec<String>,
    },
    /// Several OIDs have that name: their nodes, the best module's first.
    Ambiguous(Vec<NodeId>),
    /// Neither a name with an optional instance nor a numeric OID.
    BadSyntax,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { suggestions } if suggestions.is_empty() => {
                f.write_str("no MIB defines this name")
            }
            Self::NotFound { suggestions } => {
                write!(f, "no MIB defines this name; did you mean {}?", suggestions.join(" or "))
            }
            Self::Ambiguous(nodes) => {
                write!(f, "{} OIDs have this name; put MODULE:: before it", nodes.len())
            }
            Self::BadSyntax => {
                f.write_str("this is neither a name, as IF-MIB::ifDescr.3, nor an OID, as 1.3.6.1")
            }
        }
    }
}

impl std::error::Error for LookupError {}

/// What a name in a rule is bound to.
#[derive(Debug, Clone)]
pub enum Bound {
    /// The value of the varbind below this object.
    Object(NodeId),
    /// A part of the instance of any varbind below one of `columns`.
    IndexPart {
        /// The object that the INDEX names.
        index: NodeId,
        /// The columns that carry it: those among the notification's objects, in their order.
        columns: Vec<NodeId>,
        /// Decodes the instances of `columns`.
        decoder: IndexDecoder,
        /// Which part of the INDEX, from 0.
        position: usize,
    },
}

impl Mib {
    /// What `text` stands for: `IF-MIB::linkDown`, `linkDown`, `ifDescr.3`, `enterprises.9.9`,
    /// `iso.org.dod`, `1.3.6.1` or `.1.3.6.1`; and every instance that [`write_instance`](Self::write_instance)
    /// writes, as `fanState.4."east"`, or in arcs.
    ///
    /// # Errors
    /// [`LookupError`]. A numeric OID is always found.
    pub fn resolve(&self, text: &str) -> Result<Target, LookupError> {
        let text = text.trim();
        let is_module = |text: &str| !text.contains(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
        let (module, name) = match text.split_once("::").filter(|(module, _)| is_module(module)) {
            Some((module, name)) => (Some(module), name),
            None => (None, text.strip_prefix('.').unwrap_or(text)),
        };
        if module.is_none()
            && name.starts_with(|c: char| c.is_ascii_digit())
            && !name.contains(char::is_alphabetic)
        {
            let oid: Oid = name.parse().map_err(|_| LookupError::BadSyntax)?;
            let found = self.lookup(oid.arcs());
            let matched = found.map_or(0, |found| found.matched);
            return Ok(Target { oid, node: found.map(|found| found.node), matched });
        }
        let mut rest = name;
        let Some(Piece::Word(first)) = instance::piece(&mut rest).filter(|_| module != Some("")) else {
            return Err(LookupError::BadSyntax);
        };
        let node = self.unique(module, first)?;
        self.descend(node, rest)
    }

    /// From a node on by names of children, then by the parts of an instance.
    fn descend(&self, node: NodeId, mut rest: &str) -> Result<Target, LookupError> {
        let mut node = node;
        let mut arcs = self.node(node).oid().arcs().to_vec();
        let mut matched = arcs.len();
        while !rest.is_empty() {
            match instance::piece(&mut rest).ok_or(LookupError::BadSyntax)? {
                Piece::Number(arc) => arcs.push(arc),
                Piece::Quoted(quote, text) => {
                    if !self.read_quoted(node, (quote, &text), matched, &mut arcs) {
                        return Err(LookupError::BadSyntax);
                    }
                }
                Piece::Word(word) if self.read_word(node, word, matched, &mut arcs) => {}
                Piece::Word(_) if arcs.len() > matched => return Err(LookupError::BadSyntax),
                Piece::Word(word) => {
                    let below = self.children(node).flat_map(|child| self.same_oid(child.id()));
                    let child = below.into_iter().find(|&child| self.node(child).name() == word);
                    node = child.ok_or(LookupError::NotFound { suggestions: Vec::new() })?;
                    arcs = self.node(node).oid().arcs().to_vec();
                    matched = arcs.len();
                }
            }
            // Each piece may be a long text; no OID has so many arcs.
            if arcs.len() > MAX_ARCS {
                return Err(LookupError::BadSyntax);
            }
        }
        let oid = Oid::new(arcs).map_err(|_| LookupError::BadSyntax)?;
        // `enterprises.9` is named as far as numbers lead to names.
        let found = self.lookup(oid.arcs()).filter(|found| found.matched > matched);
        let (node, matched) = found.map_or((node, matched), |found| (found.node, found.matched));
        Ok(Target { oid, node: Some(node), matched })
    }

    /// The one node of a name, in a module or overall.
    ///
    /// # Errors
    /// [`LookupError::NotFound`] and [`LookupError::Ambiguous`].
    fn unique(&self, module: Option<&str>, name: &str) -> Result<NodeId, LookupError> {
        let mut nodes =
            self.named(name).filter(|&node| module.is_none_or(|m| self.node(node).module().name() == m));
        let Some(first) = nodes.next() else {
            return Err(LookupError::NotFound { suggestions: self.suggest(module, name) });
        };
        // The first of a module is the module's meaning of the name, even where it defines it twice.
        if module.is_some() {
            return Ok(first);
        }
        let vertex = self.vertex(first);
        // The chain has the chosen versions first: what only an old version means by a name does not count.
        let settled = !self.node(first).module().is_superseded();
        let others: Vec<NodeId> = nodes
            .filter(|&node| self.vertex(node) != vertex)
            .filter(|&node| !(settled && self.node(node).module().is_superseded()))
            .collect();
        if others.is_empty() {
            return Ok(first);
        }
        Err(LookupError::Ambiguous(std::iter::once(first).chain(others).collect()))
    }

    /// Names like the one that was not found. Looks at every node: for messages, not for the hot path.
    fn suggest(&self, module: Option<&str>, name: &str) -> Vec<String> {
        const ENOUGH: usize = 3;
        const ALIKE: f64 = 0.88;
        let mut near: Vec<(f64, String)> = Vec::new();
        let mut consider = |likeness: f64, text: String| {
            if likeness >= ALIKE && near.iter().all(|(_, known)| *known != text) {
                near.push((likeness, text));
                near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
                near.truncate(ENOUGH);
            }
        };
        let known_module = module.is_none_or(|module| self.modules().any(|known| known.name() == module));
        for node in self.nodes() {
            let candidate = node.name();
            let in_module = module.is_none_or(|module| node.module().name() == module);
            if candidate == name {
                // Right name, wrong module.
                consider(1.0, node.qualified_name());
            } else if (in_module || !known_module) && candidate.len().abs_diff(name.len()) <= 3 {
                let likeness = if candidate.eq_ignore_ascii_case(name) {
                    0.99
                } else {
                    strsim::jaro_winkler(candidate, name)
                };
                let text = if module.is_some() { node.qualified_name() } else { candidate.to_owned() };
                consider(likeness, text);
            }
        }
        near.into_iter().map(|(_, text)| text).collect()
    }

    /// What a rule for `notification` means by `name`: one of the notification's OBJECTS, else a part of
    /// their INDEX, else a name that is unique overall. `MODULE::name` and numeric OIDs are taken as they
    /// stand.
    ///
    /// # Errors
    /// [`LookupError`]; [`LookupError::Ambiguous`] where a name that the notification does not have means
    /// several objects.
    pub fn resolve_object(&self, notification: Option<NodeId>, name: &str) -> Result<Bound, LookupError> {
        if name.contains("::") || name.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let target = self.resolve(name)?;
            return target.node.map(Bound::Object).ok_or(LookupError::NotFound { suggestions: Vec::new() });
        }
        if let Some(notification) = notification {
            let notification = self.node(notification);
            let own = |object: &NodeId| self.same_oid(*object).any(|alias| self.node(alias).name() == name);
            if let Some(object) = notification.objects().find(own) {
                return Ok(Bound::Object(object));
            }
            if let Some(part) = self.index_part_named(notification.objects(), name) {
                return Ok(part);
            }
        }
        self.unique_object(name).map(Bound::Object)
    }

    fn index_part_named(&self, objects: impl Iterator<Item = NodeId>, name: &str) -> Option<Bound> {
        let mut bound: Option<(NodeId, IndexDecoder, usize)> = None;
        let mut columns = Vec::new();
        for object in objects {
            let Some(decoder) = self.index_decoder(object) else {
                continue;
            };
            let part = self
                .node(object)
                .index()
                .position(|part| part.is_some_and(|part| self.node(part).name() == name));
            let Some((position, index)) = part.and_then(|at| Some((at, self.node(object).index().nth(at)??)))
            else {
                continue;
            };
            match &bound {
                None => bound = Some((index, decoder, position)),
                // Another row with the same object in its INDEX serves only where it is laid out alike.
                Some((_, known, at)) if *known == decoder && *at == position => {}
                Some(_) => continue,
            }
            columns.push(object);
        }
        let (index, decoder, position) = bound?;
        Some(Bound::IndexPart { index, columns, decoder, position })
    }

    /// Objects go before other nodes of the same name, as a group or a mere name.
    fn unique_object(&self, name: &str) -> Result<NodeId, LookupError> {
        match self.unique(None, name) {
            Err(LookupError::Ambiguous(nodes)) => {
                let mut objects = nodes.iter().filter(|node| self.node(**node).kind().is_object());
                match (objects.next(), objects.next()) {
                    (Some(&only), None) => Ok(only),
                    _ => Err(LookupError::Ambiguous(nodes)),
                }
            }
            other => other,
        }
    }

    /// The notifications among the nodes of a name, one for each OID.
    pub fn notifications_named(&self, name: &str) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = Vec::new();
        for node in self.named(name).filter(|&node| self.node(node).kind() == Kind::Notification) {
            let vertex = self.vertex(node);
            if found.iter().all(|known| self.vertex(*known) != vertex) {
                found.push(node);
            }
        }
        found
    }
}
