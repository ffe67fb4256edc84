//! A file that gets a JSON line for each change of an alert, rotated by size and age.
//!
//! A post is on the disk before it counts as taken. What was written in part is cut off again, so that lines are
//! whole. Whoever renames or removes the file (logrotate) needs no signal: the next post finds that the file at the
//! path is another one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::config::settings::FileOutput;
use crate::event::Timestamp;

pub(in super::super) struct Appender {
    settings: FileOutput,
    open: Mutex<Option<Open>>,
}

struct Open {
    file: File,
    octets: u64,
    begun: SystemTime,
}

impl Appender {
    pub(super) fn new(settings: FileOutput) -> Self {
        Self { settings, open: Mutex::new(None) }
    }

    /// Appends `lines` and waits for the disk. Blocks.
    ///
    /// # Errors
    /// What the file system refuses, with the path; nothing of `lines` is in the file then.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let path = &self.settings.path;
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut open = self.open.lock();
        if open.as_ref().is_some_and(|open| !is_at(&open.file, path)) {
            *open = None;
        }
        if open.as_ref().is_some_and(|open| self.is_due(open, lines.len() as u64)) {
            *open = None;
            self.rotate().map_err(named)?;
        }
        let current = match open.take() {
            Some(current) => open.insert(current),
            None => {
                let current = Open::at(path).map_err(named)?;
                if current.octets > 0 && self.is_due(&current, lines.len() as u64) {
                    drop(current);
                    self.rotate().map_err(named)?;
                    open.insert(Open::at(path).map_err(named)?)
                } else {
                    open.insert(current)
                }
            }
        };
        let written = current.file.write_all(lines).and_then(|()| current.file.sync_data());
        if let Err(error) = written {
            // Cut off what is there of it; if even that fails, the next line begins behind a torn one.
            let _ = current.file.set_len(current.octets);
            *open = None;
            return Err(named(error));
        }
        current.octets += lines.len() as u64;
        Ok(())
    }

    fn is_due(&self, open: &Open, more: u64) -> bool {
        let old = self
            .settings
            .rotate_age
            .is_some_and(|age| SystemTime::now().duration_since(open.begun).unwrap_or(Duration::ZERO) >= age);
        open.octets > 0 && (old || open.octets.saturating_add(more) > self.settings.rotate_size)
    }

    /// Renames the file to `PATH.20260131T120000.000000Z` and removes the oldest beyond `keep`.
    fn rotate(&self) -> io::Result<()> {
        let path = &self.settings.path;
        let stamp: String =
            Timestamp::now().to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let mut to = path.clone().into_os_string();
        to.push(format!(".{stamp}"));
        std::fs::rename(path, PathBuf::from(to))?;
        let mut rotated = rotated(path)?;
        rotated.sort();
        let surplus = rotated.len().saturating_sub(self.settings.keep);
        rotated[..surplus].iter().try_for_each(std::fs::remove_file)
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        let metadata = file.metadata()?;
        let begun = metadata.created().or_else(|_| metadata.modified()).unwrap_or(SystemTime::now());
        Ok(Self { file, octets: metadata.len(), begun })
    }
}

/// Whether `file` is what stands at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(own), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (own.dev(), own.ino()) == (there.dev(), there.ino())
}

/// The files that were renamed by [`Appender::rotate`].
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stamp = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        let is_stamp = |stamp: &str| {
            stamp.len() >= 16
                && stamp.ends_with('Z')
                && stamp.bytes().all(|b| b.is_ascii_digit() || b"TZ.".contains(&b))
        };
        if stamp.is_some_and(is_stamp) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appender(folder: &Path, rotate_size: u64, rotate_age: Option<Duration>, keep: usize) -> Appender {
        Appender::new(FileOutput { path: folder.join("alerts.jsonl"), rotate_size, rotate_age, keep })
    }

    #[test]
    fn it_rotates_by_size_and_keeps_so_many() {
        let folder = tempfile::tempdir().unwrap();
        let file = appender(folder.path(), 100, None, 2);
        for number in 0..20 {
            file.append(format!("{{\"number\": {number:02}, \"filling\": \"xxxxxxxxxxxxxx\"}}\n").as_bytes())
                .unwrap();
        }
        let rotated = rotated(&folder.path().join("alerts.jsonl")).unwrap();
        assert_eq!(rotated.len(), 2, "{rotated:?}");
        let mut lines = 0;
        for path in rotated.iter().chain([&folder.path().join("alerts.jsonl")]) {
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.len() <= 100 && text.ends_with('\n'));
            lines += text.lines().count();
        }
        assert_eq!(lines, 6, "two of them each");
    }

    #[test]
    fn it_rotates_by_age_and_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        appender(folder.path(), 1 << 20, None, 9).append(b"1\n").unwrap();
        appender(folder.path(), 1 << 20, Some(Duration::from_secs(3600)), 9).append(b"2\n").unwrap();
        let path = folder.path().join("alerts.jsonl");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
        appender(folder.path(), 1 << 20, Some(Duration::ZERO), 9).append(b"3\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
    }

    #[test]
    fn a_renamed_file_is_made_anew_and_a_missing_folder_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = appender(folder.path(), 1 << 20, None, 9);
        let path = folder.path().join("alerts.jsonl");
        file.append(b"1\n").unwrap();
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        file.append(b"2\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        file.append(b"3\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("old")).unwrap(), "1\n");
        let nowhere = appender(&folder.path().join("nowhere"), 1 << 20, None, 9);
        assert!(nowhere.append(b"1\n").unwrap_err().to_string().contains("nowhere/alerts.jsonl"));
    }
}
