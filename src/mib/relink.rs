//! The way of a change that gives names, OIDs or types anew: the files that it reaches are linked, and the others
//! keep their nodes.
//!
//! A change reaches a file where that says a name whose meaning could be another one now. Which meanings those are is
//! told from the records before and after; which files say them, from the words that are kept of each. It errs on the
//! side of linking more; whatever is in doubt goes the whole way, and both have to come to the very same octets.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::ast::{Definition, DefinitionKind, FileRecord, Import, Module};
use super::collection::{ByPath, Collection, Kept, same};
use super::record::Words;
use super::resolve::Input;
use super::resolve::partial::{self, Done, Given, Known, ModuleFact, Outcome, Reach, Role};
use super::room::Ahead;
use super::symbol::{NONE, Symbol, Symbols};
use super::{builtin_input, lexer, workers};

/// More changed files than these are no edit.
const MOST_CHANGED: usize = 16;
/// More linked files than these, and linking all of them is not much slower.
const MOST_LINKED: usize = 128;
/// More files at hand than these.
const MOST_LOADED: usize = 768;
/// How often linking begins anew.
const MOST_ROUNDS: usize = 48;

/// What linking a part came to.
pub(super) struct Relinked {
    pub(super) linked: Done,
    /// Which files were linked, by their numbers.
    pub(super) files: BTreeSet<u32>,
    /// Their records.
    pub(super) records: HashMap<u32, Arc<FileRecord>>,
    /// Modules in all files.
    pub(super) modules: usize,
}

/// What `files` come to, where `before` tells the most of it.
///
/// # Errors
/// Why all files have to be linked.
pub(super) fn relinked(before: &Collection, files: &[Kept]) -> Result<Relinked, &'static str> {
    let relinking = Relinking::new(before, files)?;
    let spare = before.spare.take();
    let was_spare = spare.is_some();
    // Without it the room is made when it is needed.
    let ahead = Cell::new(Ahead::begin(spare, Arc::clone(&before.mib)).ok());
    let relinked = relinking.run(&ahead);
    // For the next edit, if it was not needed.
    if let Some(room) = ahead.take().and_then(Ahead::leave).filter(|_| was_spare) {
        before.spare.put(room);
    }
    relinked
}

/// A word as it is, of any file.
type Word = Box<[u8]>;

struct Relinking<'a> {
    before: &'a Collection,
    files: &'a [Kept],
    /// For each file of before its number now, or [`NONE`]; last the built-in names.
    now: Vec<u32>,
    /// For each file now its number before, or [`NONE`].
    then: Vec<u32>,
    /// Files with other contents, and new ones.
    changed: BTreeSet<u32>,
    /// What is now, and the chosen version of each.
    facts: Vec<Fact<'a>>,
    /// The order of these.
    places: Vec<u32>,
    same_modules: bool,
    linked: BTreeSet<u32>,
    records: HashMap<u32, Arc<FileRecord>>,
    /// The records of before of files that have changed or are gone.
    left: Vec<Arc<FileRecord>>,
    /// Names whose meaning may be another one.
    doubtful: BTreeSet<Word>,
    /// Names that a module imports from another one than before: by module and name.
    led_on: BTreeSet<(Word, Word)>,
    /// Names that only go before or behind others of the same name in another way.
    moved: BTreeSet<Word>,
    /// Names that are part of what is told of a file that also says them.
    pulled: BTreeSet<Word>,
    /// How many of `doubtful`, `moved` and `pulled` were looked for; `None` before anything was.
    looked: Option<(usize, usize, usize)>,
    known: Known,
}

/// A module now.
#[derive(Debug, Clone)]
struct Fact<'a> {
    file: u32,
    index: u32,
    name: Cow<'a, str>,
    last_updated: u64,
    chosen: u32,
    anew: bool,
}

impl<'a> Relinking<'a> {
    fn new(before: &'a Collection, files: &'a [Kept]) -> Result<Self, &'static str> {
        let old = &before.files;
        let by_path = ByPath::of(old);
        let mut now = vec![NONE; old.len() + 1];
        let mut then = vec![NONE; files.len()];
        let mut changed = BTreeSet::new();
        let mut last = None;
        for (file, number) in files.iter().zip(0..) {
            let next = last.map_or(0, |last: u32| last as usize + 1);
            let known = by_path.get(&file.path, next);
            let Some(known) = known.filter(|&known| file.is_at(&old[known])).map(|known| known as u32) else {
                changed.insert(number);
                continue;
            };
            if last.replace(known).is_some_and(|last| last >= known) {
                return Err("the files come in another order");
            }
            now[known as usize] = number;
            then[number as usize] = known;
            if !same(&file.parsed, &old[known as usize].parsed) {
                changed.insert(number);
            }
        }
        now[old.len()] = files.len() as u32;
        let gone: Vec<u32> = (0..old.len() as u32).filter(|&file| now[file as usize] == NONE).collect();
        if changed.len() + gone.len() > MOST_CHANGED {
            return Err("many files have changed");
        }
        let mut this = Self {
            before,
            files,
            now,
            then,
            linked: changed.clone(),
            changed,
            facts: Vec::new(),
            places: Vec::new(),
            same_modules: false,
            records: HashMap::new(),
            left: Vec::new(),
            doubtful: BTreeSet::new(),
            led_on: BTreeSet::new(),
            moved: BTreeSet::new(),
            pulled: BTreeSet::new(),
            looked: None,
            known: Known::new(),
        };
        this.gather_modules()?;
        for file in gone {
            let record = old[file as usize].parsed.record().ok_or("a record is lost")?;
            this.compare(Some(&record), None);
            this.left.push(record);
        }
        for file in this.changed.clone() {
            let record = this.record(file)?;
            let before = match this.then[file as usize] {
                NONE => None,
                then => Some(old[then as usize].parsed.record().ok_or("a record is lost")?),
            };
            this.compare(before.as_deref(), Some(&record));
            this.left.extend(before);
        }
        Ok(this)
    }

    fn run(mut self, room: &Cell<Option<Ahead>>) -> Result<Relinked, &'static str> {
        for _ in 0..MOST_ROUNDS {
            self.reach()?;
            match self.link(room)? {
                Outcome::Done(linked) => {
                    let modules = self.facts.iter().filter(|fact| fact.file != self.builtin()).count();
                    return Ok(Relinked { linked, files: self.linked, records: self.records, modules });
                }
                Outcome::Load { files, names } => self.load(files, names)?,
                Outcome::Relink { files, names } => {
                    self.linked.extend(files);
                    self.pulled.extend(names);
                }
                Outcome::Whole(reason) => return Err(reason),
            }
        }
        Err("no end of files that are asked for")
    }

    fn builtin(&self) -> u32 {
        self.files.len() as u32
    }

    fn record(&mut self, file: u32) -> Result<Arc<FileRecord>, &'static str> {
        if let Some(known) = self.records.get(&file) {
            return Ok(Arc::clone(known));
        }
        if self.records.len() >= MOST_LOADED {
            return Err("many files are asked for");
        }
        let kept = self.files.get(file as usize).ok_or("no file of that number")?;
        let record = kept.parsed.record().ok_or("a record is lost")?;
        self.records.insert(file, Arc::clone(&record));
        Ok(record)
    }

    /// The modules of all files: of those that have changed from their records, of others from the image.
    fn gather_modules(&mut self) -> Result<(), &'static str> {
        let before: &'a Collection = self.before;
        let mib = &before.mib;
        let mut of_file: Vec<Vec<Fact<'a>>> = vec![Vec::new(); self.files.len() + 1];
        let mut chosen: HashMap<&str, (u32, u32)> = HashMap::new();
        let mut anew: HashSet<&str> = HashSet::new();
        let mut then: Vec<(u32, &str)> = Vec::new();
        let mut indices = vec![0u32; self.now.len()];
        for module in mib.all_modules() {
            let name = module.name;
            if module.anew {
                anew.insert(name);
                continue;
            }
            let index = &mut indices[module.file as usize];
            let number = std::mem::replace(index, *index + 1);
            then.push((module.file, name));
            let file = self.now[module.file as usize];
            if !module.superseded {
                chosen.insert(name, (file, number));
            }
            if file != NONE && !self.changed.contains(&file) {
                let last_updated = module.last_updated;
                let (chosen, anew, name) = (NONE, false, Cow::Borrowed(name));
                of_file[file as usize].push(Fact { file, index: number, name, last_updated, chosen, anew });
            }
        }
        for file in self.changed.clone() {
            let record = self.record(file)?;
            let facts = record.modules.iter().zip(0..).map(|(module, index)| Fact {
                file,
                index,
                name: Cow::Owned(record.symbols.text(module.name).to_owned()),
                last_updated: module.last_updated,
                chosen: NONE,
                anew: false,
            });
            of_file[file as usize] = facts.collect();
        }
        self.facts = of_file.into_iter().flatten().collect();
        self.places = partial::places(self.facts.iter().map(|fact| (&*fact.name, fact.last_updated)));
        let mut numbers: HashMap<&str, Vec<u32>> = HashMap::new();
        for (fact, number) in self.facts.iter().zip(0..) {
            numbers.entry(&fact.name).or_default().push(number);
        }
        let mut versions = vec![NONE; self.facts.len()];
        for (name, numbers) in &numbers {
            let best = match chosen.get(*name) {
                Some(&(file, index)) => numbers.iter().copied().find(|&number| {
                    let fact = &self.facts[number as usize];
                    (fact.file, fact.index) == (file, index)
                }),
                // A name that is new.
                None if numbers.len() == 1 => Some(numbers[0]),
                None => None,
            };
            let best = best.ok_or("the chosen version of a module is gone")?;
            for &number in numbers {
                versions[number as usize] = best;
            }
        }
        let mut met = 0;
        for (number, (fact, chosen)) in (0..).zip(self.facts.iter_mut().zip(versions)) {
            fact.chosen = chosen;
            if chosen == number && anew.contains(&*fact.name) {
                fact.anew = true;
                met += 1;
            }
        }
        if met != anew.len() {
            return Err("a module that means other versions is gone");
        }
        self.same_modules = then.len() == self.facts.len()
            && then
                .iter()
                .zip(&self.facts)
                .all(|((file, name), fact)| self.now[*file as usize] == fact.file && *name == fact.name);
        Ok(())
    }

    /// Notes what may mean something else by what a file says now, or said.
    fn compare(&mut self, before: Option<&FileRecord>, after: Option<&FileRecord>) {
        let records = [before, after];
        let sides = [before, after].map(|record| record.map(Meanings::of).unwrap_or_default());
        let [before, after] = &sides;
        for name in before.modules.keys().chain(after.modules.keys()) {
            match (before.modules.get(name), after.modules.get(name)) {
                (Some(a), Some(b)) if a.len() == b.len() => {
                    // Another rank among those that define the same.
                    if a != b {
                        let both = before.defined.keys().chain(after.defined.keys());
                        self.moved.extend(both.filter(|(module, _)| module == name).map(|(_, n)| n.clone()));
                    }
                }
                _ => {
                    self.doubtful.insert(name.clone());
                }
            }
        }
        for key in before.defined.keys().chain(after.defined.keys()) {
            if before.defined.get(key) != after.defined.get(key) {
                self.doubtful.insert(key.1.clone());
            }
        }
        // What had no OID because of another one was counted there.
        let [record, _] = records;
        for definition in record.iter().flat_map(|record| &record.definitions) {
            let Some(record) = record else { continue };
            if self.doubtful.contains(record.symbols.bytes_of(definition.name)) {
                for part in definition.oid.of(&record.parts).iter().filter(|part| part.name != NONE) {
                    if self.before.mib.named(record.symbols.text(part.name)).next().is_none() {
                        self.pulled.insert(record.symbols.bytes_of(part.name).into());
                    }
                }
            }
        }
        for key in before.imports.keys().chain(after.imports.keys()) {
            let (a, b) = (before.imports.get(key), after.imports.get(key));
            if a != b {
                // Who imports it from here is led on from there.
                self.led_on.insert(key.clone());
                let missing = [a, b].into_iter().flatten().filter(|from| !self.is_module(from)).cloned();
                self.pulled.extend(missing.collect::<Vec<_>>());
                // What is made of it here may be another thing, however it is written.
                for record in records.into_iter().flatten() {
                    self.doubtful.extend(made_of(record, |name| *name == *key.1));
                }
            }
        }
    }

    fn is_module(&self, name: &[u8]) -> bool {
        self.facts.iter().any(|fact| fact.name.as_bytes() == name)
    }

    /// Adds the files that the change reaches, until there are no more.
    fn reach(&mut self) -> Result<(), &'static str> {
        let mut seen = 0;
        loop {
            if self.linked.len() > MOST_LINKED {
                return Err("many files say what has changed");
            }
            if seen != self.linked.len() {
                seen = self.linked.len();
                self.add_versions();
                self.spread()?;
                self.pull_missing();
                if seen != self.linked.len() {
                    continue;
                }
            }
            let looked = (self.doubtful.len(), self.moved.len(), self.pulled.len());
            if self.looked.replace(looked) == Some(looked) {
                return Ok(());
            }
            self.look();
        }
    }

    /// All versions of a module are linked together: what one of them has no name for depends on the others.
    fn add_versions(&mut self) {
        let mut names: HashSet<&str> = HashSet::new();
        for fact in &self.facts {
            if self.linked.contains(&fact.file) {
                names.insert(&fact.name);
            }
        }
        // Also of those that are gone.
        let doubtful =
            |fact: &&Fact| names.contains(&*fact.name) || self.doubtful.contains(fact.name.as_bytes());
        let files: Vec<u32> = self.facts.iter().filter(doubtful).map(|fact| fact.file).collect();
        self.linked.extend(files);
    }

    /// What is made of something doubtful is doubtful.
    fn spread(&mut self) -> Result<(), &'static str> {
        let records = self.linked_records()?;
        loop {
            let before = self.doubtful.len();
            for record in &records {
                let symbols = &record.symbols;
                let from_doubtful =
                    |import: &&Import| self.doubtful.contains(symbols.bytes_of(import.module));
                let imported: HashSet<&[u8]> = record
                    .imports
                    .iter()
                    .filter(from_doubtful)
                    .map(|import| symbols.bytes_of(import.name))
                    .collect();
                let more = made_of(record, |name| imported.contains(name) || self.doubtful.contains(name));
                self.doubtful.extend(more);
            }
            if self.doubtful.len() == before {
                return Ok(());
            }
        }
    }

    fn linked_records(&mut self) -> Result<Vec<Arc<FileRecord>>, &'static str> {
        let builtin = self.builtin();
        let files: Vec<u32> = self.linked.iter().copied().filter(|&file| file != builtin).collect();
        files.into_iter().map(|file| self.record(file)).collect()
    }

    /// A module that is nowhere is told once, with all who import from it.
    fn pull_missing(&mut self) {
        let names: HashSet<&[u8]> = self.facts.iter().map(|fact| fact.name.as_bytes()).collect();
        let mut missing: Vec<Word> = Vec::new();
        let builtin = self.files.len() as u32;
        for file in self.linked.iter().filter(|&&file| file != builtin) {
            let Some(record) = self.records.get(file) else { continue };
            for import in &record.imports {
                let from = record.symbols.bytes_of(import.module);
                if !names.contains(from) && self.doubtful.contains(record.symbols.bytes_of(import.name)) {
                    missing.push(from.into());
                }
            }
        }
        self.pulled.extend(missing);
    }

    /// Adds the files that say what is doubtful without defining it themselves.
    fn look(&mut self) {
        let led_on = self.led_on.iter().flat_map(|(module, name)| [module, name]);
        let words = self.doubtful.iter().chain(&self.moved).chain(&self.pulled).chain(led_on);
        let finder = Finder::new(words);
        let hashes =
            |words: &BTreeSet<Word>| -> HashSet<u32> { words.iter().map(|word| Words::hash(word)).collect() };
        let (doubtful, pulled, moved) = (hashes(&self.doubtful), hashes(&self.pulled), hashes(&self.moved));
        let led_on: Vec<(u32, u32, &Word)> =
            self.led_on.iter().map(|(module, name)| (Words::hash(module), Words::hash(name), name)).collect();
        let mut definers_of_moved: HashMap<u32, usize> = HashMap::new();
        let mut more = Vec::new();
        for (number, told) in finder.find_in(self.files) {
            let mut found = HashSet::new();
            for (hash, defines, uses) in told {
                if pulled.contains(&hash) || (uses && doubtful.contains(&hash)) {
                    self.linked.insert(number);
                }
                if defines && moved.contains(&hash) {
                    *definers_of_moved.entry(hash).or_default() += 1;
                }
                found.insert(hash);
            }
            if found.len() > 1 && !self.changed.contains(&number) {
                let said =
                    led_on.iter().filter(|(module, name, _)| found.contains(module) && found.contains(name));
                more.extend(said.map(|&(.., name)| name.clone()));
            }
        }
        // Where several define it, another one may be the best now; the next look finds who uses it.
        let several = |name: &&Word| definers_of_moved.get(&Words::hash(name)).is_some_and(|&many| many > 1);
        more.extend(self.moved.iter().filter(several).cloned());
        self.doubtful.extend(more);
    }

    fn link(&mut self, room: &Cell<Option<Ahead>>) -> Result<Outcome, &'static str> {
        for file in self.linked.clone() {
            if file != self.builtin() {
                self.record(file)?;
            }
        }
        let mut left = self.left.clone();
        let unchanged = self.linked.iter().filter(|file| !self.changed.contains(file));
        left.extend(unchanged.filter_map(|file| self.records.get(file)).cloned());
        let nothing = FileRecord::new(Symbols::with_capacity(0));
        let mut roles = vec![Role::Away; self.files.len() + 1];
        let mut inputs: Vec<Input<'_>> = Vec::with_capacity(roles.len());
        for (file, number) in self.files.iter().zip(0..) {
            let record = self.records.get(&number);
            if record.is_some() {
                roles[number as usize] = Role::Context;
            }
            inputs.push(Input {
                record: record.map_or(&nothing, |record| record),
                path: Arc::clone(&file.path),
                directory: file.directory,
                relative: file.relative,
                builtin: false,
            });
        }
        inputs.push(builtin_input());
        roles[self.files.len()] = Role::Context;
        for &file in &self.linked {
            roles[file as usize] = Role::Linked;
        }
        let modules: Vec<ModuleFact<'_>> = self
            .facts
            .iter()
            .map(|fact| ModuleFact {
                file: fact.file,
                index: fact.index,
                name: &fact.name,
                last_updated: fact.last_updated,
                chosen: fact.chosen,
                anew: fact.anew,
                doubtful: self.doubtful.contains(fact.name.as_bytes()),
            })
            .collect();
        Ok(partial::link(&Given {
            inputs: &inputs,
            roles: &roles,
            modules: &modules,
            places: &self.places,
            same_modules: self.same_modules,
            changed: &self.changed,
            known: &self.known,
            pulled: &self.pulled,
            room,
            left: &left,
            before: &self.before.mib,
            now: &self.now,
        }))
    }

    /// Puts files at hand.
    fn load(&mut self, files: BTreeSet<u32>, names: BTreeMap<Word, Reach>) -> Result<(), &'static str> {
        for file in files {
            self.record(file)?;
        }
        for reach in [Reach::Definitions, Reach::Mentions] {
            let asked: BTreeSet<Word> =
                names.iter().filter(|&(_, &asked)| asked == reach).map(|(name, _)| name.clone()).collect();
            if asked.is_empty() {
                continue;
            }
            for (file, told) in Finder::new(asked.iter()).find_in(self.files) {
                if told.iter().any(|&(_, defines, _)| defines || reach == Reach::Mentions) {
                    self.record(file)?;
                }
            }
        }
        self.known.extend(names);
        Ok(())
    }
}

/// The names of what stands below, or is a type of, any of some names.
fn made_of(record: &FileRecord, any: impl Fn(&[u8]) -> bool) -> Vec<Word> {
    let symbols = &record.symbols;
    let any = |name: Symbol| name != NONE && any(symbols.bytes_of(name));
    let made = |definition: &&Definition| {
        if definition.kind.is_type() {
            record.types.get(definition.syntax as usize).is_some_and(|syntax| any(syntax.name))
        } else {
            definition.oid.of(&record.parts).iter().any(|part| any(part.name))
        }
    };
    record.definitions.iter().filter(made).map(|found| symbols.bytes_of(found.name).into()).collect()
}

/// Finds words in those that are kept of the files.
struct Finder {
    hashes: HashSet<u32>,
    may_be: Vec<bool>,
}

impl Finder {
    fn new<'a>(words: impl Iterator<Item = &'a Word>) -> Self {
        let hashes: HashSet<u32> = words.map(|word| Words::hash(word)).collect();
        let mut may_be = vec![false; 1 << 16];
        for hash in &hashes {
            may_be[(hash >> 16) as usize] = true;
        }
        Self { hashes, may_be }
    }

    /// For each file that may say any of them, in their order: those that it may say, whether it may define them, and
    /// whether it may use them.
    fn find_in(&self, files: &[Kept]) -> Vec<(u32, Vec<(u32, bool, bool)>)> {
        // Of some hundred KiB of words.
        const PIECE: usize = 64;
        let pieces = workers::in_parallel(
            files.len().div_ceil(PIECE),
            || (),
            |(), piece| {
                let files = (0u32..).zip(files).skip(piece * PIECE).take(PIECE);
                files
                    .map(|(number, file)| (number, self.find(&file.parsed.words).collect::<Vec<_>>()))
                    .filter(|(_, found)| !found.is_empty())
                    .collect::<Vec<_>>()
            },
        );
        pieces.into_iter().flatten().collect()
    }

    /// Those of them that a file may say, as [`find_in`](Self::find_in) has them.
    fn find<'w>(&'w self, words: &'w Words) -> impl Iterator<Item = (u32, bool, bool)> {
        let told = words.all.iter().filter(|&&word| self.may_be[(word >> 16) as usize]);
        told.map(|&word| {
            let used = words.several || word & Words::USED != 0;
            (word & !(Words::DEFINED | Words::USED), word & Words::DEFINED != 0, used)
        })
        .filter(|(hash, ..)| self.hashes.contains(hash))
    }
}

/// What a file's names mean, as far as it tells itself.
#[derive(Default)]
struct Meanings {
    /// Each module by its name, with the LAST-UPDATED of each of that name.
    modules: BTreeMap<Word, Vec<u64>>,
    /// By module and name, what there is of that name.
    defined: BTreeMap<(Word, Word), Vec<u64>>,
    /// By module and name, from which module.
    imports: BTreeMap<(Word, Word), Word>,
}

impl Meanings {
    fn of(record: &FileRecord) -> Self {
        let mut all = Self::default();
        for module in &record.modules {
            let name: Word = record.symbols.bytes_of(module.name).into();
            all.modules.entry(name.clone()).or_default().push(module.last_updated);
            all.add(record, module, &name);
        }
        all
    }

    fn add(&mut self, record: &FileRecord, module: &Module, name: &Word) {
        let word = |symbol| -> Word { record.symbols.bytes_of(symbol).into() };
        for definition in module.definitions.of(&record.definitions) {
            let key = (name.clone(), word(definition.name));
            self.defined.entry(key).or_default().push(meaning(record, definition));
        }
        // The types and macros of the SMI are known without any import.
        let imports = module.imports.of(&record.imports).iter();
        for import in imports.filter(|import| !lexer::is_keyword(import.name)) {
            self.imports.entry((name.clone(), word(import.name))).or_insert_with(|| word(import.module));
        }
    }
}

/// What others depend on who use a definition.
fn meaning(record: &FileRecord, definition: &Definition) -> u64 {
    let mut hasher = DefaultHasher::new();
    let word = |symbol| record.symbols.bytes_of(symbol);
    (definition.kind as u8).hash(&mut hasher);
    for part in definition.oid.of(&record.parts) {
        (word(part.name), part.name == NONE, part.number).hash(&mut hasher);
    }
    if definition.kind == DefinitionKind::Trap {
        definition.number.hash(&mut hasher);
    }
    if definition.kind.is_type()
        && let Some(syntax) = record.types.get(definition.syntax as usize)
    {
        (syntax.shape as u8, word(syntax.name), syntax.name == NONE).hash(&mut hasher);
        (syntax.size, word(syntax.hint), syntax.hint == NONE).hash(&mut hasher);
        for label in syntax.labels.of(&record.labels) {
            (word(label.name), label.number).hash(&mut hasher);
        }
    }
    hasher.finish()
}
