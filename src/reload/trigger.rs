//! What can be asked of the engine, and the one place where requests wait: at most one reload runs and
//! one is pending; whatever is asked meanwhile becomes part of the pending one.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::mpsc::SyncSender;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use super::history::ReloadEvent;
use crate::event::Generation;

/// The founding document's reload types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadType {
    /// The configuration, with its includes, lookups, templates and secrets.
    Config,
    /// The MIB directories.
    Mib,
    /// The webhooks alone; what else differs in the file is reported as pending.
    Webhook,
    /// Everything.
    All,
}

impl ReloadType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Config, Self::Mib, Self::Webhook, Self::All];

    /// The name as it stands in metrics, logs and requests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Mib => "mib",
            Self::Webhook => "webhook",
            Self::All => "all",
        }
    }

    /// The type that does what both do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Config, Self::Webhook) | (Self::Webhook, Self::Config) => Self::Config,
            _ => Self::All,
        }
    }

    /// Whether one reload may stand for both. Webhooks alone and the MIBs alone may not: together they would be
    /// everything, and whoever asks for the webhooks wants the rest of the file to wait.
    fn joins(self, other: Self) -> bool {
        !matches!((self, other), (Self::Webhook, Self::Mib) | (Self::Mib, Self::Webhook))
    }

    /// Whether the configuration is read.
    #[must_use]
    pub fn reads_config(self) -> bool {
        self != Self::Mib
    }

    /// Whether the MIB directories are read, changed or not.
    #[must_use]
    pub fn reads_mibs(self) -> bool {
        matches!(self, Self::Mib | Self::All)
    }
}

impl fmt::Display for ReloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReloadType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no reload type; take config, mib, webhook or all"))
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Reload(ReloadType),
    /// The parts of a kept generation again; `None` is the one before the current.
    Rollback(Option<Generation>),
}

/// One request, perhaps of several askers.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) wanted: Wanted,
    /// Who asked: a path, `SIGHUP`, `http`…
    pub(super) source: String,
    /// Tries a rejected input again, and skips the guard.
    pub(super) force: bool,
    /// File events: what was rejected already, or is pinned by a rollback, is passed over in silence.
    pub(super) automatic: bool,
    pub(super) replies: Vec<SyncSender<ReloadEvent>>,
}

/// Rollbacks that may wait; each has somebody who waits for its answer.
const MAX_WAITING: usize = 16;

/// Where requests wait.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Request>,
    closed: bool,
}

impl Mailbox {
    /// Adds a request, or makes it part of the pending one. False: the engine has ended, or too many wait.
    pub(super) fn post(&self, request: Request) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed {
            return false;
        }
        // Back to the last rollback: what is asked after it must not happen before it.
        let reloads = inner.waiting.iter_mut().rev().map_while(|pending| match pending.wanted {
            Wanted::Reload(kind) => Some((kind, pending)),
            Wanted::Rollback(_) => None,
        });
        let found = match request.wanted {
            Wanted::Reload(now) => {
                let mut joinable = reloads.filter(|(before, _)| before.joins(now));
                joinable.next().map(|(before, pending)| (before.and(now), pending))
            }
            Wanted::Rollback(_) => None,
        };
        if let Some((kind, pending)) = found {
            pending.wanted = Wanted::Reload(kind);
            pending.force |= request.force;
            // Who asks by hand wants an answer even if file events asked before.
            if pending.automatic && !request.automatic {
                pending.source = request.source;
                pending.automatic = false;
            }
            pending.replies.extend(request.replies);
            return true;
        }
        // Of reloads at most two stand between rollbacks, so that they are bounded too; a file change that was
        // refused here would never be reported again.
        let rollbacks = inner.waiting.iter().filter(|waiting| matches!(waiting.wanted, Wanted::Rollback(_)));
        if matches!(request.wanted, Wanted::Rollback(_)) && rollbacks.count() >= MAX_WAITING {
            return false;
        }
        inner.waiting.push_back(request);
        self.filled.notify_one();
        true
    }

    /// The next request; `None` once closed.
    pub(super) fn next(&self) -> Option<Request> {
        let mut inner = self.inner.lock();
        loop {
            if inner.closed {
                return None;
            }
            if let Some(request) = inner.waiting.pop_front() {
                return Some(request);
            }
            self.filled.wait(&mut inner);
        }
    }

    /// Ends the engine; what waits is let go, and its askers hear that. What is posted later is refused.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.waiting.clear();
        self.filled.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(wanted: Wanted, automatic: bool) -> Request {
        let source = if automatic { "file" } else { "hand" }.to_owned();
        Request { wanted, source, force: false, automatic, replies: Vec::new() }
    }

    #[test]
    fn types_join_to_the_least_that_does_both() {
        use ReloadType::{All, Config, Mib, Webhook};
        assert_eq!(Config.and(Webhook), Config);
        assert_eq!(Webhook.and(Webhook), Webhook);
        assert_eq!(Config.and(Mib), All);
        assert_eq!(Mib.and(Webhook), All);
        assert_eq!(All.and(Config), All);
    }

    #[test]
    fn at_most_one_reload_is_pending_and_rollbacks_keep_their_place() {
        let mailbox = Mailbox::default();
        for _ in 0..100 {
            assert!(mailbox.post(request(Wanted::Reload(ReloadType::Webhook), true)));
        }
        assert!(mailbox.post(request(Wanted::Reload(ReloadType::Config), false)));
        assert!(mailbox.post(request(Wanted::Rollback(None), false)));
        assert!(mailbox.post(request(Wanted::Reload(ReloadType::Mib), true)));
        let first = mailbox.next().unwrap();
        assert_eq!(first.wanted, Wanted::Reload(ReloadType::Config));
        assert_eq!((first.source.as_str(), first.automatic), ("hand", false));
        assert_eq!(mailbox.next().unwrap().wanted, Wanted::Rollback(None));
        assert_eq!(mailbox.next().unwrap().wanted, Wanted::Reload(ReloadType::Mib));
        mailbox.close();
        assert!(mailbox.next().is_none());
        assert!(!mailbox.post(request(Wanted::Rollback(None), false)));
    }

    #[test]
    fn webhooks_and_mibs_wait_apart_and_join_whatever_covers_them() {
        use ReloadType::{All, Config, Mib, Webhook};
        let mailbox = Mailbox::default();
        for _ in 0..10 {
            assert!(mailbox.post(request(Wanted::Reload(Webhook), false)));
            assert!(mailbox.post(request(Wanted::Reload(Mib), true)));
        }
        let both = [mailbox.next(), mailbox.next()].map(|next| next.unwrap().wanted);
        assert_eq!(
            both,
            [Wanted::Reload(Webhook), Wanted::Reload(Mib)],
            "the rest of the file was not asked for"
        );
        assert!(mailbox.post(request(Wanted::Reload(Mib), true)));
        assert!(mailbox.post(request(Wanted::Reload(Config), false)));
        assert_eq!(mailbox.next().unwrap().wanted, Wanted::Reload(All));
        // What comes after a rollback stays behind it.
        assert!(mailbox.post(request(Wanted::Reload(Mib), false)));
        assert!(mailbox.post(request(Wanted::Rollback(None), false)));
        assert!(mailbox.post(request(Wanted::Reload(Mib), false)));
        let order: Vec<_> = (0..3).map(|_| mailbox.next().unwrap().wanted).collect();
        assert_eq!(order, [Wanted::Reload(Mib), Wanted::Rollback(None), Wanted::Reload(Mib)]);
    }

    #[test]
    fn waiting_rollbacks_are_bounded() {
        let mailbox = Mailbox::default();
        let posted = (0..100).filter(|_| mailbox.post(request(Wanted::Rollback(None), false))).count();
        assert_eq!(posted, MAX_WAITING);
        assert!(mailbox.post(request(Wanted::Reload(ReloadType::Config), true)), "a file change is not lost");
        assert!(!mailbox.post(request(Wanted::Rollback(None), false)));
    }
}
