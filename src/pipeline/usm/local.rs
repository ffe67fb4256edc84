//! This collector's own engine: its ID, its boots, its time, and the counters that Reports tell
//! (RFC 3411 section 5, RFC 3414 section 2.2, RFC 3412 section 7.1 (3)).
//!
//! ID and boots are kept in `engine.json` in the data directory, a file of their own: what is set aside as a
//! damaged database must not set the boots back. The raised count is on the disk before anything is answered.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::engines::{LATCHED, WINDOW};
use super::file;
use crate::event::Timestamp;
use crate::metrics::DropReason;
use crate::oid::OidRef;
use crate::security::EngineId;

const NAME: &str = "engine.json";
/// RFC 3411 section 5: the first bit says that the format follows, 5 that it is octets of one's own choice. The
/// enterprise number stays 0, since Nereus has none: the random octets behind it make the ID unique.
const HEAD: [u8; 5] = [0x80, 0, 0, 0, 5];
const RANDOM_OCTETS: usize = 12;

/// The own engine of this collector, the authoritative one for informs.
#[derive(Debug)]
pub struct LocalEngine {
    id: EngineId,
    boots: u32,
    started: Timestamp,
    stats: [AtomicU32; Stat::ALL.len()],
}

/// A counter that a Report tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the MIBs' own names")]
pub enum Stat {
    UnsupportedSecLevels,
    NotInTimeWindows,
    UnknownUserNames,
    UnknownEngineIds,
    WrongDigests,
    DecryptionErrors,
    UnknownPduHandlers,
}

impl Stat {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::UnsupportedSecLevels,
        Self::NotInTimeWindows,
        Self::UnknownUserNames,
        Self::UnknownEngineIds,
        Self::WrongDigests,
        Self::DecryptionErrors,
        Self::UnknownPduHandlers,
    ];

    /// The counter's instance: usmStats of SNMP-USER-BASED-SM-MIB, snmpUnknownPDUHandlers of SNMP-MPD-MIB.
    #[must_use]
    pub fn oid(self) -> OidRef<'static> {
        OidRef(match self {
            Self::UnsupportedSecLevels => &[1, 3, 6, 1, 6, 3, 15, 1, 1, 1, 0],
            Self::NotInTimeWindows => &[1, 3, 6, 1, 6, 3, 15, 1, 1, 2, 0],
            Self::UnknownUserNames => &[1, 3, 6, 1, 6, 3, 15, 1, 1, 3, 0],
            Self::UnknownEngineIds => &[1, 3, 6, 1, 6, 3, 15, 1, 1, 4, 0],
            Self::WrongDigests => &[1, 3, 6, 1, 6, 3, 15, 1, 1, 5, 0],
            Self::DecryptionErrors => &[1, 3, 6, 1, 6, 3, 15, 1, 1, 6, 0],
            Self::UnknownPduHandlers => &[1, 3, 6, 1, 6, 3, 11, 2, 1, 3, 0],
        })
    }

    /// Why the message became no event.
    pub(super) fn reason(self) -> DropReason {
        match self {
            Self::UnsupportedSecLevels => DropReason::UnsupportedSecLevels,
            Self::NotInTimeWindows => DropReason::NotInTimeWindows,
            Self::UnknownUserNames => DropReason::UnknownUserNames,
            Self::UnknownEngineIds => DropReason::UnknownEngineIds,
            Self::WrongDigests => DropReason::WrongDigests,
            Self::DecryptionErrors => DropReason::DecryptionErrors,
            Self::UnknownPduHandlers => DropReason::NotANotification,
        }
    }
}

/// What `engine.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    engine_id: String,
    boots: u32,
}

impl LocalEngine {
    /// An engine that is not kept anywhere: for tests and for programs that keep it themselves.
    #[must_use]
    pub fn new(id: EngineId, boots: u32, started: Timestamp) -> Self {
        Self { id, boots, started, stats: Default::default() }
    }

    /// Reads what is kept in `directory`, raises the boots, and returns once that is on the disk. `configured` is
    /// `access.engine_id`. The second is what the operator should know.
    ///
    /// Where the count is lost though the ID stays, it goes on from the minutes since 1970: more than any count
    /// of starts that was kept.
    ///
    /// # Errors
    /// The system's.
    pub fn open(
        directory: &Path,
        configured: Option<EngineId>,
        now: Timestamp,
    ) -> io::Result<(Self, Option<String>)> {
        let path = directory.join(NAME);
        let mut note = None;
        let kept = match fs::read(&path) {
            Ok(octets) => {
                let kept = serde_json::from_slice::<Kept>(&octets).ok();
                let kept = kept.and_then(|kept| Some((kept.engine_id.parse::<EngineId>().ok()?, kept.boots)));
                if kept.is_none() {
                    let aside = path.with_extension(format!("json.damaged-{}", now.0 / 1_000_000));
                    fs::rename(&path, &aside)?;
                    note = Some(format!(
                        "{} is damaged and was set aside as {}: senders of SNMPv3 informs have to discover this engine anew",
                        path.display(),
                        aside.display()
                    ));
                }
                kept
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let minutes = u32::try_from(now.0 / 60_000_000).unwrap_or(1).clamp(1, LATCHED - 1);
        let (id, boots) = match (configured, kept) {
            (Some(id), Some((_, boots))) => (id, boots.saturating_add(1)),
            (Some(id), None) => (id, minutes),
            (None, Some((id, boots))) => (id, boots.saturating_add(1)),
            (None, None) => (random_id()?, 1),
        };
        let boots = boots.min(LATCHED);
        if boots == LATCHED {
            note = Some(format!(
                "this engine has used up its boots: nothing of it is accepted any more; remove {} for a new engine ID",
                path.display()
            ));
        }
        let kept = Kept { engine_id: id.to_string(), boots };
        file::replace(&path, &serde_json::to_vec(&kept)?)?;
        Ok((Self::new(id, boots, now), note))
    }

    /// snmpEngineID.
    #[must_use]
    pub fn id(&self) -> &EngineId {
        &self.id
    }

    /// snmpEngineBoots.
    #[must_use]
    pub fn boots(&self) -> u32 {
        self.boots
    }

    /// snmpEngineTime at `now`, in seconds.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> u32 {
        u32::try_from(now.since(self.started).as_secs()).unwrap_or(LATCHED).min(LATCHED)
    }

    /// Whether a message with these boots and time is in this engine's window (RFC 3414 section 3.2 (7a)).
    #[must_use]
    pub(super) fn in_window(&self, boots: u32, time: u32, now: Timestamp) -> bool {
        self.boots != LATCHED && boots == self.boots && self.time(now).abs_diff(time) <= WINDOW
    }

    /// Counts, and gives the new value.
    pub(super) fn count(&self, stat: Stat) -> u32 {
        self.stats[stat as usize].fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counted(&self, stat: Stat) -> u32 {
        self.stats[stat as usize].load(Ordering::Relaxed)
    }
}

pub(super) fn random_id() -> io::Result<EngineId> {
    let mut octets = [0; HEAD.len() + RANDOM_OCTETS];
    octets[..HEAD.len()].copy_from_slice(&HEAD);
    let mut random = [0; RANDOM_OCTETS];
    super::random(&mut random)?;
    octets[HEAD.len()..].copy_from_slice(&random);
    EngineId::new(&octets).ok_or_else(|| io::Error::other("an engine ID of this length does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    #[test]
    fn id_and_boots_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let open = |configured| LocalEngine::open(folder.path(), configured, NOW).unwrap();
        let (first, note) = open(None);
        assert_eq!((first.boots(), note), (1, None));
        let (second, _) = open(None);
        assert_eq!((second.id(), second.boots()), (first.id(), 2));
        let own: EngineId = "8000000005010203".parse().unwrap();
        let (third, _) = open(Some(own));
        assert_eq!((*third.id(), third.boots()), (own, 3));
        assert_eq!(open(None).0.boots(), 4);

        // Damaged: another engine, or boots that were never reached.
        fs::write(folder.path().join(NAME), "{\"engine_id\": \"80").unwrap();
        let (other, note) = open(None);
        assert!(note.unwrap().contains("set aside") && other.id() != first.id() && other.boots() == 1);
        fs::remove_file(folder.path().join(NAME)).unwrap();
        let (configured, _) = open(Some(own));
        assert!(configured.boots() > 28_000_000);
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2, "the file, and the damaged one");
    }

    #[test]
    fn boots_end_where_the_rfc_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        fs::write(&path, "{\"engine_id\":\"8000000005010203\",\"boots\":2147483646}").unwrap();
        let (engine, note) = LocalEngine::open(folder.path(), None, NOW).unwrap();
        assert_eq!(engine.boots(), LATCHED);
        assert!(note.is_some() && !engine.in_window(LATCHED, 0, NOW));
        assert_eq!(LocalEngine::open(folder.path(), None, NOW).unwrap().0.boots(), LATCHED);
    }

    #[test]
    fn the_window_reaches_150_seconds_both_ways() {
        let engine = LocalEngine::new("8000000005010203".parse().unwrap(), 7, NOW);
        let now = Timestamp(NOW.0 + 1_000_000_000);
        assert_eq!(engine.time(now), 1_000);
        for (boots, time, inside) in [
            (7, 850, true),
            (7, 849, false),
            (7, 1_150, true),
            (7, 1_151, false),
            (6, 1_000, false),
            (8, 1_000, false),
        ] {
            assert_eq!(engine.in_window(boots, time, now), inside, "{boots} {time}");
        }
        assert_eq!((engine.count(Stat::WrongDigests), engine.count(Stat::WrongDigests)), (1, 2));
        assert_eq!(engine.counted(Stat::WrongDigests), 2);
    }
}
