//! The one thread that commits: journal, then the answers to informs, then the state, then the word
//! that there is something new.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use tokio::sync::watch;

use super::error::Trouble;
use super::files::{self, JournalFile, Shared};
use super::journal::{self, Appended, Journal};
use super::retention;
use super::state::State;
use super::{BeforeCommit, Store};
use crate::config::settings::StorageSettings;
use crate::event::{Command, Delivered, Queue, QueueEntry as _, Timestamp};
use crate::metrics::{DropReason, Metrics};

/// Commits begin no closer together than this under load: a sync costs the same for one row and for a thousand.
const PACE: Duration = Duration::from_millis(5);
/// The same where nobody waits for an answer.
const UNHURRIED: Duration = Duration::from_millis(20);
/// What waits is committed at once when it is this much.
const PLENTY: usize = 256 << 10;
/// How often sizes are measured, marks written and indexes begun.
const TICK: Duration = Duration::from_secs(10);
const RETENTION: Duration = Duration::from_secs(3600);
const RETENTION_WHEN_FULL: Duration = Duration::from_secs(60);
/// The wait between tries of a write that the disk refused: from, to.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long the disk may still refuse once the program ends.
const GIVE_UP: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 5000 });
/// Between two log lines about the same trouble.
const QUIET: Duration = Duration::from_secs(30);

/// Starts the writer. It ends at [`Command::Stop`], or once `queue` is closed and empty; it closes the
/// queue when it ends, however it ends.
///
/// For each group of commands, in this order: the journal is committed and on the disk; the informs
/// among them are answered; the state is applied, [`Command::Flush`] told; `applied` shows the highest
/// change. While the disk refuses, nothing of this happens, the commands are kept and tried again, and
/// the queue fills up behind them.
///
/// # Errors
/// The system refuses a thread.
pub fn spawn_writer(
    store: Store,
    queue: Arc<Queue<Command>>,
    applied: watch::Sender<u64>,
    metrics: Arc<Metrics>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("writer".into()).spawn(move || {
        let _closes = Closes(queue.clone(), Arc::clone(&store.shared));
        Writer::new(store, queue, applied, metrics).run();
    })
}

/// Nobody may wait for room in a queue that nobody empties, nor follow what nobody stores.
struct Closes(Arc<Queue<Command>>, Arc<Shared>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
        self.1.live.end();
    }
}

struct Writer {
    shared: Arc<Shared>,
    settings: StorageSettings,
    journal: Journal,
    /// `None` after a damaged one was set aside and before another one stands.
    state: Option<State>,
    queue: Arc<Queue<Command>>,
    applied: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    /// Taken from the queue while a write was tried again.
    waiting: Vec<Command>,
    /// A command of the batch at hand says stop.
    stopping: bool,
    /// When to give up on a disk that refuses.
    give_up: Option<Instant>,
    trouble: Option<Since>,
    last_commit: Instant,
    next_tick: Instant,
    next_retention: Instant,
    /// Ended alerts and the like may still be pruned.
    pruning: bool,
    to_index: Vec<Arc<JournalFile>>,
    indexer: Option<JoinHandle<()>>,
    before_commit: BeforeCommit,
    /// Last, so that the databases are closed before another instance comes.
    _lock: File,
}

/// A trouble that lasts.
struct Since {
    began: Instant,
    logged: Instant,
    tries: u64,
}

impl Writer {
    fn new(
        store: Store,
        queue: Arc<Queue<Command>>,
        applied: watch::Sender<u64>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = Instant::now();
        let live = store.journal.file().number;
        let closed = store.shared.journals().into_iter().filter(|file| file.number < live);
        Self {
            to_index: closed.collect(),
            shared: store.shared,
            settings: store.settings,
            journal: store.journal,
            state: Some(store.state),
            queue,
            applied,
            metrics,
            waiting: Vec::new(),
            stopping: false,
            give_up: None,
            trouble: None,
            last_commit: now,
            next_tick: now,
            next_retention: now,
            pruning: true,
            indexer: None,
            before_commit: store.before_commit,
            _lock: store.lock,
        }
    }

    fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            self.upkeep();
            mem::swap(&mut batch, &mut self.waiting);
            let mut open = true;
            if batch.is_empty() {
                let patience = if self.pruning {
                    PACE
                } else {
                    self.next_tick.saturating_duration_since(Instant::now())
                };
                open = self.queue.take_all(&mut batch, patience);
            }
            if batch.is_empty() {
                if open { continue } else { break }
            }
            self.gather(&mut batch);
            for command in &batch {
                if let Command::Retention { age, octets } = command {
                    (self.settings.retention, self.settings.max_size) = (*age, *octets);
                    self.next_retention = Instant::now();
                }
            }
            let stop = self.commit(&mut batch);
            batch.clear();
            if stop {
                break;
            }
        }
        self.finish();
    }

    /// Under load, lets more come before the next commit.
    fn gather(&mut self, batch: &mut Vec<Command>) {
        let (mut seen, mut octets, mut pace) = (0, 0, UNHURRIED);
        loop {
            for command in &batch[seen..] {
                octets += command.octets();
                match command {
                    Command::Flush(_) | Command::Stop => return,
                    command if command.is_urgent() => pace = PACE,
                    _ => {}
                }
            }
            seen = batch.len();
            let rest = pace.saturating_sub(self.last_commit.elapsed());
            if rest.is_zero() || octets > PLENTY {
                return;
            }
            // What is urgent ends it, and shortens the rest of the pause.
            self.queue.rest(rest, PLENTY - octets);
            let mut more = Vec::new();
            if !self.queue.take_all(&mut more, Duration::ZERO) {
                return;
            }
            batch.append(&mut more);
        }
    }

    /// Commits and applies all of `batch`. Says whether the writer ends.
    fn commit(&mut self, batch: &mut [Command]) -> bool {
        self.stopping = batch.iter().any(|command| matches!(command, Command::Stop));
        self.before_commit.call();
        let mut at = 0;
        while at < batch.len() {
            let Some(appended) = self.retry(|writer| writer.append(&batch[at..])) else {
                self.count_lost(&batch[at..]);
                return true;
            };
            let chunk = &mut batch[at..at + appended.taken];
            at += appended.taken;
            self.note(&appended, self.last_commit.elapsed());
            // From here on the events are on the disk, whatever happens.
            for command in chunk.iter_mut() {
                if let Command::Event(decided) = command
                    && let Some(answer) = decided.event.answer.take()
                {
                    answer.send();
                }
            }
            self.shared.live.show(chunk);
            let mut replayed = false;
            let done = self.retry(|writer| writer.apply(chunk, &mut replayed));
            if done.is_none() {
                // The journal holds it; the next start applies it.
                self.count_lost(&batch[at..]);
                return true;
            }
            let told = chunk.iter().filter_map(|command| match command {
                Command::Flush(sender) => Some(sender),
                _ => None,
            });
            told.for_each(tell);
            if let Some(Command::Stop) = chunk.last() {
                self.count_lost(&batch[at..]);
                return true;
            }
            self.rotate_if_due();
        }
        false
    }

    fn append(&mut self, commands: &[Command]) -> rusqlite::Result<Appended> {
        #[cfg(test)]
        self.shared.limit_pages(self.journal.connection())?;
        self.last_commit = Instant::now();
        let result = self.journal.append(commands, &[]);
        if result.as_ref().is_ok_and(|appended| appended.stored > 0) {
            self.shared.stored.send_replace(self.journal.last_event());
        }
        if result.as_ref().is_err_and(|error| Trouble::of(error) == Trouble::Damaged) {
            // What was committed stays in the damaged file for the next start; this goes into another one.
            self.rotate();
        }
        result
    }

    fn apply(&mut self, chunk: &[Command], replayed: &mut bool) -> rusqlite::Result<()> {
        if chunk.iter().all(|command| matches!(command, Command::Flush(_) | Command::Stop)) {
            return Ok(());
        }
        let number = self.journal.file().number;
        let Some(state) = &mut self.state else {
            let state = super::replace_state(&self.shared, Timestamp::now())?;
            tracing::warn!(component = "storage", "The state was made again from the journal");
            self.state = Some(state);
            *replayed = true;
            return self.apply(chunk, replayed);
        };
        #[cfg(test)]
        self.shared.limit_pages(&state.connection)?;
        let result = state.apply(chunk, number, *replayed, Timestamp::now());
        match &result {
            Ok(()) => {
                let change = state.position.last_change;
                self.applied.send_if_modified(|shown| mem::replace(shown, change.max(*shown)) < change);
                if !state.answers.is_empty() {
                    super::show_dead_letters(state, &self.metrics);
                    // Rows came back into the outbox, though no alert has changed.
                    self.applied.send_modify(|_| ());
                }
                for (asker, number) in state.answers.drain(..) {
                    // Whoever asked may be gone.
                    let _ = asker.try_send(number);
                }
                for command in chunk {
                    if let Command::Delivered(Delivered::Dead { webhook, .. }) = command {
                        self.metrics.dead_letters.with_label_values(&[&**webhook]).inc();
                    }
                }
            }
            // It must be closed before another file takes its name.
            Err(error) if Trouble::of(error) == Trouble::Damaged => self.state = None,
            Err(_) => {}
        }
        result
    }

    /// Tries until it works. `None` once the program ends and the disk still refuses.
    fn retry<T>(&mut self, mut attempt: impl FnMut(&mut Self) -> rusqlite::Result<T>) -> Option<T> {
        let mut wait = BACKOFF.0;
        loop {
            match attempt(self) {
                Ok(done) => {
                    if let Some(trouble) = self.trouble.take() {
                        let seconds = trouble.began.elapsed().as_secs_f64();
                        tracing::info!(
                            component = "storage",
                            tries = trouble.tries,
                            seconds,
                            "The disk takes writes again"
                        );
                    }
                    self.give_up = None;
                    return Some(done);
                }
                Err(error) => {
                    self.complain(&error);
                    // Files may have come of age since, or the disk be smaller than storage.max_size says.
                    if Trouble::of(&error) == Trouble::Space && Instant::now() >= self.next_retention {
                        self.next_retention = Instant::now() + RETENTION_WHEN_FULL;
                        self.retain();
                    }
                    if !self.wait(wait) {
                        tracing::error!(component = "storage", %error, "Gave up on the disk at the program's end");
                        return None;
                    }
                    wait = (wait * 2).min(BACKOFF.1);
                }
            }
        }
    }

    fn complain(&mut self, error: &rusqlite::Error) {
        self.metrics.storage_errors.inc();
        let now = Instant::now();
        let new = self.trouble.is_none();
        let trouble = self.trouble.get_or_insert(Since { began: now, logged: now, tries: 0 });
        trouble.tries += 1;
        if new || now.duration_since(trouble.logged) >= QUIET {
            trouble.logged = now;
            let kind = Trouble::of(error).as_str();
            let directory = self.shared.directory.display();
            tracing::error!(
                component = "storage", %directory, kind, %error, tries = trouble.tries,
                "The disk refuses a write; it is kept and tried again, and no inform is answered meanwhile"
            );
        }
    }

    /// Waits before another try. False once the program ends and has waited long enough.
    fn wait(&mut self, span: Duration) -> bool {
        let until = Instant::now() + span;
        loop {
            if !self.stopping {
                if self.waiting.is_empty() {
                    // One more load from the queue, to see whether it says stop. No further: memory is bounded.
                    let open = self.queue.take_all(&mut self.waiting, Duration::ZERO);
                    self.stopping =
                        !open || self.waiting.iter().any(|command| matches!(command, Command::Stop));
                }
                self.stopping |= self.shared.stopping.load(Ordering::Relaxed);
            }
            let now = Instant::now();
            if self.stopping && now >= *self.give_up.get_or_insert(now + GIVE_UP) {
                return false;
            }
            if now >= until {
                return true;
            }
            thread::sleep((until - now).min(BACKOFF.0));
        }
    }

    fn note(&self, appended: &Appended, took: Duration) {
        self.metrics.events_stored.inc_by(appended.stored);
        self.metrics.events_deduplicated.inc_by(appended.deduplicated);
        if appended.wrote {
            self.metrics.storage_commit_seconds.observe(took.as_secs_f64());
        }
        if appended.known > 0 {
            self.metrics.storage_errors.inc();
            tracing::error!(
                component = "storage",
                events = appended.known,
                "Events came with numbers that others have; they are not stored"
            );
        }
    }

    fn count_lost(&self, commands: &[Command]) {
        let events = commands.iter().filter(|command| matches!(command, Command::Event(_))).count() as u64;
        if events > 0 {
            self.metrics.dropped(DropReason::Stopped, events);
        }
    }

    fn rotate_if_due(&mut self) {
        if self.journal.is_due(Timestamp::now(), retention::journal_limit(&self.settings)) {
            self.rotate();
            // The bound on size is kept as files are made, not by the hour.
            self.next_retention = Instant::now();
        }
    }

    fn rotate(&mut self) {
        let marks = self.state.as_ref().and_then(|state| state.marks().ok()).unwrap_or_default();
        let old = Arc::clone(self.journal.file());
        match self.journal.rotate(&self.shared, &marks, Timestamp::now()) {
            Ok(()) => self.to_index.push(old),
            // The old file goes on; the next commit tries again.
            Err(failure) => {
                self.metrics.storage_errors.inc();
                tracing::warn!(component = "storage", error = %failure, "The next journal file could not be made");
            }
        }
    }

    /// What is due by the clock.
    fn upkeep(&mut self) {
        let now = Instant::now();
        if now >= self.next_retention {
            self.next_retention = now + RETENTION;
            self.retain();
            self.pruning = true;
        }
        if self.pruning {
            self.prune();
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.rotate_if_due();
            self.shed();
            self.write_marks();
            self.index();
            if let Ok(size) = self.shared.size() {
                self.metrics.storage_size_bytes.set(i64::try_from(size).unwrap_or(i64::MAX));
                if size > self.settings.max_size {
                    self.next_retention = self.next_retention.min(now + TICK * 6);
                }
            }
        }
    }

    fn retain(&mut self) {
        let Some(state) = &self.state else { return };
        match retention::run(&self.shared, &self.settings, &mut self.journal, state, Timestamp::now()) {
            Ok(retained) => {
                if retained.unlinked > 0 {
                    let (files, carried) = (retained.unlinked, retained.carried);
                    tracing::info!(
                        component = "storage",
                        files,
                        carried,
                        "Journal files beyond the retention are gone"
                    );
                }
                if retained.too_large {
                    let max_size = self.settings.max_size;
                    tracing::warn!(
                        component = "storage",
                        max_size,
                        "storage.max_size is too small for one journal file and the open alerts"
                    );
                }
            }
            Err(error) => {
                self.metrics.storage_errors.inc();
                tracing::warn!(component = "storage", %error, "Retention failed; it is tried again");
            }
        }
    }

    fn prune(&mut self) {
        let Some(state) = &mut self.state else { return };
        let now = Timestamp::now();
        match state.prune(retention::cutoff(&self.settings, now), now) {
            Ok(pruned) => {
                self.pruning = pruned.any();
                let (undelivered, surplus) = (pruned.undelivered, pruned.surplus);
                if undelivered + surplus > 0 {
                    super::show_dead_letters(state, &self.metrics);
                    tracing::warn!(
                        component = "storage",
                        undelivered,
                        surplus,
                        "Alerts that no endpoint took within the retention are dead letters; the oldest dead letters are gone"
                    );
                }
            }
            Err(error) => {
                self.pruning = false;
                self.metrics.storage_errors.inc();
                tracing::warn!(component = "storage", %error, "Pruning the state failed; it is tried again");
            }
        }
    }

    /// Keeps the queues within half of what the store may take: a webhook that takes nothing for long would otherwise
    /// push all events out.
    fn shed(&mut self) {
        let Some(state) = &mut self.state else { return };
        // What is left comes at the next tick: meanwhile commits wait.
        for _ in 0..4 {
            match state.shed(self.settings.max_size / 2) {
                Ok(dropped) if dropped.is_empty() => return,
                Ok(dropped) => {
                    for (webhook, rows) in dropped {
                        self.metrics.webhook_dropped.with_label_values(&[&*webhook]).inc_by(rows);
                        tracing::error!(
                            component = "storage",
                            webhook,
                            rows,
                            "The queues take half of storage.max_size; the oldest changes are dropped"
                        );
                    }
                }
                Err(error) => {
                    self.metrics.storage_errors.inc();
                    tracing::warn!(component = "storage", %error, "The queues could not be kept within their bound; it is tried again");
                    return;
                }
            }
        }
    }

    fn write_marks(&mut self) {
        let Some(state) = self.state.as_mut().filter(|state| state.marks_due) else { return };
        let written = state.marks().and_then(|marks| self.journal.append(&[], &marks));
        match written {
            Ok(_) => state.marks_due = false,
            Err(error) => {
                self.metrics.storage_errors.inc();
                tracing::warn!(component = "storage", %error, "The webhooks' marks could not be written; it is tried again");
            }
        }
    }

    /// Starts to index closed files and to survey the live one, unless that is still going on.
    fn index(&mut self) {
        if self.indexer.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let live = Arc::clone(self.journal.file());
        if self.to_index.is_empty() && live.sources.lacks().is_none() {
            return;
        }
        let closed = mem::take(&mut self.to_index);
        let work = move || {
            let told = |file: &JournalFile, done: rusqlite::Result<()>| {
                let file = file.path.display();
                if let Err(error) = done {
                    tracing::warn!(component = "storage", %file, %error, "A journal file could not be indexed; queries walk it");
                }
            };
            // It is not tried again: what is wrong with the file is told by others.
            told(&live, journal::survey(&live).inspect_err(|_| live.sources.forget()));
            for file in closed.into_iter().rev().filter(|file| file.path.exists()) {
                told(&file, journal::index(&file));
            }
        };
        self.indexer = thread::Builder::new().name("indexer".into()).spawn(work).ok();
    }

    fn finish(mut self) {
        let mut rest = mem::take(&mut self.waiting);
        self.count_lost(&rest);
        rest.clear();
        self.queue.close();
        self.queue.take_all(&mut rest, Duration::ZERO);
        self.count_lost(&rest);
        self.write_marks();
        if let Some(state) = &self.state {
            let ended = state.set_clean(true).and_then(|()| files::checkpoint(&state.connection));
            if let Err(error) = ended.and_then(|()| files::checkpoint(self.journal.connection())) {
                tracing::warn!(component = "storage", %error, "The store was not closed in order; the next start checks it");
            }
        }
    }
}

fn tell(sender: &SyncSender<()>) {
    // Whoever asked may be gone.
    let _ = sender.try_send(());
}
