//! What is in a folder: its files with their digests, and its folders.

use std::collections::{BTreeMap, BTreeSet};
use sublet_model::identity::Sha256Digest;

/// Files and folders of one transfer.
pub const MOST_ENTRIES: usize = 100_000;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// How long it is.
    pub bytes: u64,
    /// Of all of it.
    pub digest: Sha256Digest,
}

/// A folder's contents, by path below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// Files.
    pub files: BTreeMap<String, File>,
    /// Folders, the one itself not among them.
    pub folders: BTreeSet<String>,
}

impl List {
    /// Whether more may be added.
    pub fn has_room(&self) -> bool {
        self.files.len() + self.folders.len() < MOST_ENTRIES
    }

    /// Whether all of it is the path that was asked for, or below it; `.` is everything.
    pub fn check_within(&self, asked: &str) -> anyhow::Result<()> {
        let is_within = |path: &&String| {
            let rest = path.strip_prefix(asked);
            asked == "." || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match self.files.keys().chain(&self.folders).find(|path| !is_within(path)) {
            None => Ok(()),
            Some(path) => anyhow::bail!("{asked} was asked for, and the partition sends {path}: it is not taken"),
        }
    }
}

/// A path that can stand below any folder, at either end: plain components, no control characters.
pub fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 4096
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
}

/// Reads what the partition's shell printed: `d PATH` and `f BYTES PATH` lines, then `DIGEST  PATH`.
pub fn parse(text: &str) -> anyhow::Result<List> {
    let mut list = List::default();
    let mut sizes = BTreeMap::new();
    for line in text.lines() {
        anyhow::ensure!(list.has_room() && sizes.len() <= MOST_ENTRIES, "more than {MOST_ENTRIES} files and folders");
        let strange = || anyhow::anyhow!("a name that can't be copied: {}", crate::output::clean(line));
        let (word, rest) = line.split_once(' ').ok_or_else(strange)?;
        let path = |text: &str| {
            let bare = text.strip_prefix("./").unwrap_or(text);
            is_plain(bare).then(|| bare.to_owned()).ok_or_else(strange)
        };
        match word {
            "d" if rest == "." => {}
            "d" => drop(list.folders.insert(path(rest)?)),
            "f" => {
                let (bytes, name) = rest.trim_start().split_once(' ').ok_or_else(strange)?;
                sizes.insert(path(name)?, bytes.parse::<u64>().map_err(|_| strange())?);
            }
            digest => {
                let name = path(rest.trim_start())?;
                let bytes = sizes.remove(&name).ok_or_else(strange)?;
                list.files.insert(name, File { bytes, digest: digest.parse().map_err(|_| strange())? });
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_partition_says_stays_below_the_folder() {
        let digest = Sha256Digest::of(b"x");
        let text = format!("d .\nd ./a\nf 1 ./a/b c\nf 2 ./d\n{digest}  ./a/b c\n{digest}  ./d\n");
        let list = parse(&text).unwrap();
        assert_eq!(list.files["a/b c"], File { bytes: 1, digest });
        assert_eq!((list.files.len(), list.folders.len()), (2, 1));
        for evil in ["d ../up", "d /abs", "f 1 ./a/../../b", "f 1 a//b", "f x a", "d a\u{1b}[2J", "nonsense", "zz  ./d"]
        {
            assert!(parse(evil).is_err(), "{evil:?}");
        }
        assert!(parse(&format!("{digest}  ./not-listed")).is_err());
    }

    #[test]
    fn nothing_beside_what_was_asked_for_is_taken() {
        let digest = Sha256Digest::of(b"x");
        let said = |file: &str| parse(&format!("d ./results\nf 1 ./{file}\n{digest}  ./{file}\n")).unwrap();
        for fine in ["results/a", "results/deep/b"] {
            said(fine).check_within("results").unwrap();
        }
        for evil in [".ssh/authorized_keys", "results-2/a", "result", "Results/a", "other"] {
            assert!(said(evil).check_within("results").is_err(), "{evil}");
            said(evil).check_within(".").unwrap();
        }
        assert!(parse("d ./other").unwrap().check_within("results/deep").is_err());
        assert!(parse("d ./results").unwrap().check_within("results/deep").is_err());
    }
}
