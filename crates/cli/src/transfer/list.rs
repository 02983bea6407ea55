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
}
