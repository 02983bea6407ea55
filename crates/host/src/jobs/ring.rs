//! The end of a job's output, in a file that does not grow.
//!
//! ```text
//! | head: written, attempt, taken, missed | byte 0 of the ring ... |
//! ```
//!
//! `written` counts every byte that ever came, and the next one goes to `written % size`. `taken` is how
//! far the guest's own count of this try has come: it says from where to go on after a restart, and what
//! comes twice is known by it. The head is written last, so that bytes of a write that was cut short
//! come again. It is not forced to the disk: a computer that loses power loses the partition as well.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use sublet_wire::jobs::{KEPT_BYTES, OutputView};

/// Room for the head; the ring begins behind it.
const HEAD_BYTES: u64 = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"sublring");
/// A write is cut into pieces of this size; so much of the ring is never promised to readers, for it may
/// be half written.
const PIECE_BYTES: u64 = 64 * 1024;
const SIZE_BYTES: u64 = KEPT_BYTES + PIECE_BYTES;

/// Output of one job.
#[derive(Debug)]
pub struct Ring {
    path: PathBuf,
    written: u64,
    attempt: u32,
    taken: u64,
    missed: u64,
}

impl Ring {
    /// Opens it, or makes it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).to_owned();
        let file = options.open(path)?;
        let path = path.to_owned();
        let mut head = [0; 40];
        let known = file.read_exact_at(&mut head, 0).is_ok();
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
        if known && word(0) == MAGIC {
            return Ok(Self { path, written: word(8), attempt: word(16) as u32, taken: word(24), missed: word(32) });
        }
        Ok(Self { path, written: 0, attempt: 0, taken: 0, missed: 0 })
    }

    /// For one use: a host keeps more jobs than a process may have open files.
    fn file(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(&self.path)
    }

    /// How much was said, and how much of it is here.
    pub fn view(&self) -> OutputView {
        OutputView { bytes: self.written, kept_bytes: self.written - self.oldest(), missed_bytes: self.missed }
    }

    /// How far this try's output is here.
    pub fn taken(&mut self, attempt: u32) -> u64 {
        if self.attempt != attempt {
            (self.attempt, self.taken) = (attempt, 0);
        }
        self.taken
    }

    /// Takes in what a try said at `at` of its own count. Bytes that are here already are left out;
    /// a gap is noted in their place.
    pub fn append(&mut self, attempt: u32, at: u64, bytes: &[u8]) -> io::Result<()> {
        let taken = self.taken(attempt);
        let here = usize::try_from(taken.saturating_sub(at)).unwrap_or(usize::MAX);
        let (gap, fresh) = (at.saturating_sub(taken), bytes.get(here..).unwrap_or_default());
        self.taken += gap + fresh.len() as u64;
        self.missed += gap;
        let written = self.file().and_then(|file| self.write_with_gap(&file, gap, fresh).map(|()| file));
        if written.is_err() {
            // A full disk must hold up neither the job nor the agent.
            self.missed += fresh.len() as u64;
        }
        written.and_then(|file| self.write_head(&file))
    }

    fn write_with_gap(&mut self, file: &File, gap: u64, fresh: &[u8]) -> io::Result<()> {
        if gap > 0 {
            let note = format!(
                "\n[sublet: {gap} bytes are missing here: too much was said while the host's agent was away]\n"
            );
            self.write(file, note.as_bytes())?;
        }
        self.write(file, fresh)
    }

    fn write(&mut self, file: &File, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES as usize) {
            let at = self.written % SIZE_BYTES;
            let before_end = piece.len().min((SIZE_BYTES - at) as usize);
            file.write_all_at(&piece[..before_end], HEAD_BYTES + at)?;
            file.write_all_at(&piece[before_end..], HEAD_BYTES)?;
            self.written += piece.len() as u64;
        }
        Ok(())
    }

    fn write_head(&self, file: &File) -> io::Result<()> {
        let words = [MAGIC, self.written, self.attempt.into(), self.taken, self.missed];
        file.write_all_at(&words.map(u64::to_le_bytes).concat(), 0)
    }

    /// The first byte that is kept.
    pub fn oldest(&self) -> u64 {
        self.written.saturating_sub(KEPT_BYTES)
    }

    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.written
    }

    /// Bytes from `from` on, or from the oldest that is kept; says which that was. At most `most`.
    pub fn read(&self, from: u64, most: usize) -> io::Result<(u64, Vec<u8>)> {
        let from = from.clamp(self.oldest(), self.written);
        let count = usize::try_from(self.written - from).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; count];
        if count == 0 {
            return Ok((from, bytes));
        }
        let file = self.file()?;
        let at = from % SIZE_BYTES;
        let before_end = count.min((SIZE_BYTES - at) as usize);
        file.read_exact_at(&mut bytes[..before_end], HEAD_BYTES + at)?;
        file.read_exact_at(&mut bytes[before_end..], HEAD_BYTES)?;
        Ok((from, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_kept_once_and_gaps_are_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.out");
        let mut ring = Ring::open(&path).unwrap();
        ring.append(1, 0, b"abcdef").unwrap();
        ring.append(1, 3, b"defgh").unwrap();
        ring.append(1, 2, b"cd").unwrap();
        // Another agent, which finds what is on the disk.
        let mut ring = Ring::open(&path).unwrap();
        assert_eq!((ring.taken(1), ring.read(0, 100).unwrap()), (8, (0, b"abcdefgh".to_vec())));
        ring.append(1, 10, b"kl").unwrap();
        let text = String::from_utf8(ring.read(8, 1000).unwrap().1).unwrap();
        assert!(text.starts_with("\n[sublet: 2 bytes are missing here") && text.ends_with("]\nkl"), "{text}");
        assert_eq!((ring.taken(1), ring.view().missed_bytes), (12, 2));
        // The next try counts anew, and follows.
        ring.append(2, 0, b"again").unwrap();
        assert_eq!((ring.taken(2), ring.view().missed_bytes), (5, 2));
        assert!(ring.read(0, 1000).unwrap().1.ends_with(b"klagain"));
    }

    #[test]
    fn it_does_not_grow_and_keeps_the_end_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.out");
        let mut ring = Ring::open(&path).unwrap();
        let all: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut at = 0;
        for (n, size) in [1, 65_536, 70_001, 300_000].into_iter().cycle().enumerate() {
            let bytes = &all[at..all.len().min(at + size)];
            ring.append(1, at as u64, bytes).unwrap();
            at += bytes.len();
            let (from, kept) = ring.read(0, usize::MAX).unwrap();
            assert!(kept == all[from as usize..at] && kept.len() as u64 == ring.view().kept_bytes, "after write {n}");
            if at == all.len() {
                break;
            }
        }
        assert_eq!(ring.view(), OutputView { bytes: 3_000_000, kept_bytes: KEPT_BYTES, missed_bytes: 0 });
        assert_eq!(ring.read(2_999_990, 100).unwrap(), (2_999_990, all[2_999_990..].to_vec()));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), HEAD_BYTES + SIZE_BYTES);
    }
}
