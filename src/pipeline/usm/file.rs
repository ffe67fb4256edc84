//! What was heard of engines, on the disk: `engines` in the data directory, a file of its own, so that setting a
//! damaged database aside never lets replays in.
//!
//! Records of one size are appended and flushed, off the hot path. A record that a crash cut off or that is
//! damaged does not match its checksum and is passed over. At a start, and when it has grown, the file is
//! written anew under another name and put in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::engines::{Engine, Engines, Written};
use crate::event::Timestamp;
use crate::security::EngineId;

const NAME: &str = "engines";
const HEAD: &[u8; 8] = b"NEREUSe1";
/// Length of the ID, ID, boots, time, when, checksum.
const RECORD: usize = 1 + EngineId::MAX + 4 + 4 + 8 + 4;
/// So much may be appended before the file is written anew.
const GROWTH: u64 = 16 << 20;
/// So long is gathered before it is written: one flush for all.
const GATHER: Duration = Duration::from_millis(5);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The thread that writes down what is heard.
#[derive(Debug)]
pub struct EnginesWriter {
    engines: Arc<Engines>,
    thread: Option<JoinHandle<()>>,
}

impl EnginesWriter {
    /// Reads what was written down before into `engines`, and starts the thread. Gives how many records were
    /// damaged.
    ///
    /// # Errors
    /// The system's: the file cannot be read or written.
    pub fn start(directory: &Path, engines: &Arc<Engines>) -> io::Result<(Self, usize)> {
        let path = directory.join(NAME);
        let damaged = read(&path, engines)?;
        let file = rewrite(&path, engines)?;
        Ok((Self::spawn(engines, Log { path, file, appended: 0 })?, damaged))
    }

    fn spawn(engines: &Arc<Engines>, mut log: Log) -> io::Result<Self> {
        let shared = Arc::clone(engines);
        let thread = thread::Builder::new().name("engines".into()).spawn(move || {
            loop {
                let (mut batch, last) = shared.wait_for_unwritten();
                if !last {
                    thread::sleep(GATHER);
                    batch.extend(shared.take_unwritten());
                }
                let mut told = false;
                while let Err(error) = log.write(&shared, &batch) {
                    if !told {
                        tracing::error!(component = "storage", file = %log.path.display(), error = %error, "What SNMPv3 engines said of their time cannot be written; replays would be taken after a restart");
                        told = true;
                    }
                    if last || shared.is_stopping() {
                        break;
                    }
                    shared.wrote();
                    thread::sleep(RETRY);
                }
                shared.wrote();
                if last && batch.is_empty() {
                    break;
                }
            }
            shared.keep(false);
        })?;
        engines.keep(true);
        Ok(Self { engines: Arc::clone(engines), thread: Some(thread) })
    }
}

/// The file as its thread writes it.
struct Log {
    path: PathBuf,
    file: File,
    /// Octets since it was written anew.
    appended: u64,
}

impl Log {
    /// Writes `batch` behind what is there, or all anew.
    fn write(&mut self, engines: &Engines, batch: &[Arc<Engine>]) -> io::Result<()> {
        if self.appended > GROWTH {
            self.file = rewrite(&self.path, engines)?;
            self.appended = 0;
        }
        match append(&mut self.file, batch) {
            Ok(octets) => self.appended += octets,
            Err(error) => {
                // A part of a record may stand there, behind which nothing would be found: all anew.
                self.appended = GROWTH + 1;
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Drop for EnginesWriter {
    /// Writes what is left, and ends the thread.
    fn drop(&mut self) {
        self.engines.stop_writing();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn append(file: &mut File, engines: &[Arc<Engine>]) -> io::Result<u64> {
    if engines.is_empty() {
        return Ok(0);
    }
    let written: Vec<Written> = engines.iter().map(|engine| engine.to_write()).collect();
    let octets: Vec<u8> = written.iter().flat_map(record).collect();
    file.write_all(&octets)?;
    file.sync_data()?;
    engines.iter().zip(&written).for_each(|(engine, written)| engine.wrote(written));
    Ok(octets.len() as u64)
}

/// Writes all engines into a new file in the place of the old one.
fn rewrite(path: &Path, engines: &Engines) -> io::Result<File> {
    let all = engines.all();
    let written: Vec<Written> = all.iter().map(|engine| engine.known()).collect();
    let mut octets = HEAD.to_vec();
    octets.extend(written.iter().flat_map(record));
    replace(path, &octets)
}

/// Puts a private file with these octets at `path`, flushed, and gives it for appending.
pub(super) fn replace(path: &Path, octets: &[u8]) -> io::Result<File> {
    let beside: PathBuf = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    Ok(file)
}

fn read(path: &Path, engines: &Engines) -> io::Result<usize> {
    let octets = match fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut damaged = usize::from(!octets.starts_with(HEAD));
    for record in octets.get(HEAD.len()..).unwrap_or_default().chunks(RECORD) {
        match parse(record) {
            Some(written) => engines.restore(&written),
            None => damaged += 1,
        }
    }
    Ok(damaged)
}

fn record(written: &Written) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    let id = written.id.octets();
    out[0] = id.len() as u8;
    out[1..=id.len()].copy_from_slice(id);
    let rest = &mut out[1 + EngineId::MAX..];
    rest[..4].copy_from_slice(&written.boots.to_le_bytes());
    rest[4..8].copy_from_slice(&written.time.to_le_bytes());
    rest[8..16].copy_from_slice(&written.at.0.to_le_bytes());
    let check = checksum(&out[..RECORD - 4]);
    out[RECORD - 4..].copy_from_slice(&check);
    out
}

fn parse(record: &[u8]) -> Option<Written> {
    let (body, check) = record.split_at_checked(RECORD - 4)?;
    if checksum(body) != check {
        return None;
    }
    let (id, rest) = body[1..].split_at(EngineId::MAX);
    Some(Written {
        id: EngineId::new(id.get(..usize::from(body[0]))?)?,
        boots: u32::from_le_bytes(rest[..4].try_into().ok()?),
        time: u32::from_le_bytes(rest[4..8].try_into().ok()?),
        at: Timestamp(i64::from_le_bytes(rest[8..16].try_into().ok()?)),
    })
}

fn checksum(octets: &[u8]) -> [u8; 4] {
    let digest = Sha256::digest(octets);
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> EngineId {
        EngineId::new(&[&[0x80, 1], &number.to_be_bytes()[..]].concat()).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(1_700_000_000_000_000 + seconds * 1_000_000)
    }

    #[test]
    fn what_was_heard_outlives_a_restart_and_damage_costs_what_it_hit() {
        let folder = tempfile::tempdir().unwrap();
        let engines = Arc::new(Engines::default());
        let (writer, damaged) = EnginesWriter::start(folder.path(), &engines).unwrap();
        assert_eq!(damaged, 0);
        for number in 0..100 {
            assert!(engines.decide(&id(number), 5, 1_000, at(0), &mut None));
        }
        assert!(engines.decide(&id(7), 6, 10, at(1), &mut None));
        drop(writer);

        let again = Arc::new(Engines::default());
        let (writer, damaged) = EnginesWriter::start(folder.path(), &again).unwrap();
        assert_eq!((damaged, again.len()), (0, 100));
        assert!(!again.decide(&id(3), 4, 9_999, at(2), &mut None), "older boots");
        assert!(!again.decide(&id(3), 5, 840, at(2), &mut None), "more than 150 s behind");
        assert!(!again.decide(&id(7), 5, 1_000, at(2), &mut None));
        assert!(
            again.decide(&id(7), 6, 11, at(2), &mut None) && again.decide(&id(3), 5, 1_002, at(2), &mut None)
        );
        drop(writer);

        let path = folder.path().join(NAME);
        let mut octets = fs::read(&path).unwrap();
        octets[HEAD.len() + 3 * RECORD + 9] ^= 1;
        octets.truncate(octets.len() - 5);
        fs::write(&path, &octets).unwrap();
        let after = Arc::new(Engines::default());
        let (writer, damaged) = EnginesWriter::start(folder.path(), &after).unwrap();
        assert_eq!(damaged, 2);
        assert!(after.len() >= 98);
        drop(writer);
    }

    #[test]
    fn what_was_heard_is_written_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let engines = Arc::new(Engines::default());
        let (_writer, _) = EnginesWriter::start(folder.path(), &engines).unwrap();
        engines.decide(&id(1), 5, 1_000, at(0), &mut None);
        let until = std::time::Instant::now() + Duration::from_secs(30);
        // As after kill -9: what another process reads.
        loop {
            let other = Engines::default();
            read(&folder.path().join(NAME), &other).unwrap();
            if other.len() == 1 {
                assert!(!other.decide(&id(1), 4, 1_000, at(0), &mut None));
                return;
            }
            assert!(std::time::Instant::now() < until);
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn after_a_flush_a_restart_knows_what_was_heard() {
        let folder = tempfile::tempdir().unwrap();
        let engines = Arc::new(Engines::default());
        engines.flush();
        let (writer, _) = EnginesWriter::start(folder.path(), &engines).unwrap();
        let mut known = None;
        for boots in 1..50 {
            assert!(engines.decide(&id(1), boots, 1_000, at(0), &mut known));
            engines.flush();
            let other = Engines::default();
            read(&folder.path().join(NAME), &other).unwrap();
            assert!(
                !other.decide(&id(1), boots - 1, 9_999, at(0), &mut None),
                "boots {boots} are not on the disk"
            );
        }
        drop(writer);
        assert!(engines.decide(&id(1), 99, 1_000, at(0), &mut known));
        // Nobody writes any more: nobody waits.
        engines.flush();
    }

    /// A file on a disk that is full, in place of that of the directory.
    fn full(folder: &Path) -> Log {
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        Log { path: folder.join(NAME), file, appended: 0 }
    }

    #[test]
    fn a_record_that_a_full_disk_has_cut_hides_none_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let engines = Engines::default();
        assert!(engines.decide(&id(1), 5, 1_000, at(0), &mut None));
        let first = engines.take_unwritten();
        let mut log = full(folder.path());
        // A part of a record got there before the disk was full.
        let mut octets = HEAD.to_vec();
        octets.extend(&record(&first[0].known())[..RECORD / 2]);
        fs::write(&log.path, &octets).unwrap();
        assert_eq!(log.write(&engines, &first).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(engines.decide(&id(2), 7, 1_000, at(1), &mut None));
        // There is room again.
        log.write(&engines, &first).unwrap();
        log.write(&engines, &engines.take_unwritten()).unwrap();
        let again = Engines::default();
        assert_eq!(read(&log.path, &again).unwrap(), 0, "nothing is damaged");
        assert_eq!(again.len(), 2);
        assert!(!again.decide(&id(1), 4, 9_999, at(2), &mut None), "older boots");
        assert!(!again.decide(&id(2), 6, 9_999, at(2), &mut None), "older boots");
    }

    #[test]
    fn a_disk_that_refuses_holds_up_no_stop() {
        let folder = tempfile::tempdir().unwrap();
        let engines = Arc::new(Engines::default());
        let log = full(&folder.path().join("gone"));
        let writer = EnginesWriter::spawn(&engines, log).unwrap();
        engines.decide(&id(1), 5, 1_000, at(0), &mut None);
        // It has taken what there was, and tries in vain.
        engines.flush();
        let (ended, end) = std::sync::mpsc::channel();
        thread::spawn(move || {
            drop(writer);
            let _ = ended.send(());
        });
        end.recv_timeout(Duration::from_secs(20)).expect("it ends");
    }
}
