//! This computer's end.

use super::list::{File, List, MOST_ENTRIES, is_plain};
use super::plan::Part;
use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use sublet_model::identity::Sha256Digest;

/// What a file is called while it is not whole.
const UNFINISHED: &str = ".sublet-part";

/// The folder to copy from and what is in it; of a single file the folder it is in.
pub fn list(from: &Path) -> anyhow::Result<(PathBuf, List)> {
    let seen = fs::metadata(from).with_context(|| format!("failed to read {}", from.display()))?;
    let mut list = List::default();
    if seen.is_file() {
        let name = from.file_name().and_then(|name| name.to_str()).context("a file needs a plain name")?;
        let root = from.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        list.files.insert(name.to_owned(), file(from)?);
        return Ok((root, list));
    }
    walk(from, "", &mut list)?;
    Ok((from.to_owned(), list))
}

fn walk(root: &Path, below: &str, list: &mut List) -> anyhow::Result<()> {
    let folder = root.join(below);
    let entries = fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().with_context(|| format!("{} has no plain name", entry.path().display()))?;
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        ensure!(is_plain(&path), "{:?} has a name that can't be copied", entry.path());
        ensure!(list.has_room(), "{} has more than {MOST_ENTRIES} files and folders: pack them first", root.display());
        // Through links, as people mean them; what is neither file nor folder stays.
        match fs::metadata(entry.path()) {
            Ok(seen) if seen.is_dir() && entry.file_type()?.is_symlink() => {
                bail!("{} is a link to a folder: name that folder itself", entry.path().display())
            }
            Ok(seen) if seen.is_dir() => {
                list.folders.insert(path.clone());
                walk(root, &path, list)?;
            }
            Ok(seen) if seen.is_file() => drop(list.files.insert(path, file(&entry.path())?)),
            _ => tracing::info!(path, "neither a file nor a folder, left out"),
        }
    }
    Ok(())
}

fn file(path: &Path) -> anyhow::Result<File> {
    let (bytes, digest) = digest_of(path, u64::MAX)?;
    Ok(File { bytes, digest })
}

/// The digest of the first bytes of a file, and how many those were.
fn digest_of(path: &Path, most: u64) -> anyhow::Result<(u64, Sha256Digest)> {
    let failed = || format!("failed to read {}", path.display());
    let mut file = fs::File::open(path).with_context(failed)?.take(most);
    let (mut hash, mut bytes, mut chunk) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        match file.read(&mut chunk).with_context(failed)? {
            0 => break,
            count => {
                hash.update(&chunk[..count]);
                bytes += count as u64;
            }
        }
    }
    Ok((bytes, Sha256Digest(hash.finalize().into())))
}

/// Whether what the other end has of a file is the beginning of ours.
pub fn has_prefix(root: &Path, part: &Part) -> anyhow::Result<bool> {
    Ok(Some(digest_of(&root.join(&part.path), part.from)?.1) == part.there)
}

/// Makes the folders that a list needs below a root, which is made, too. A link in the way is not
/// followed: what a partition sends would end up elsewhere.
pub fn make(root: &Path, wanted: &List) -> anyhow::Result<()> {
    fs::create_dir_all(root).with_context(|| format!("failed to make {}", root.display()))?;
    let parents = wanted.files.keys().filter_map(|file| Some(file.rsplit_once('/')?.0));
    let mut seen = HashSet::new();
    for folder in wanted.folders.iter().map(String::as_str).chain(parents) {
        for at in folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]) {
            if seen.insert(&folder[..at]) {
                make_one(&root.join(&folder[..at]))?;
            }
        }
    }
    Ok(())
}

fn make_one(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(seen) if seen.is_dir() => Ok(()),
        Ok(_) => bail!("{} is in the way: it is a link, or no folder", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir(path).with_context(|| format!("failed to make {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("failed to look at {}", path.display())),
    }
}

/// What is here already of what a list names.
pub fn digests_of(root: &Path, wanted: &List) -> anyhow::Result<List> {
    let mut here = List::default();
    for path in wanted.files.keys() {
        let at = root.join(path);
        if at.is_file() {
            here.files.insert(path.clone(), file(&at)?);
        }
    }
    Ok(here)
}

fn unfinished(root: &Path, path: &str) -> PathBuf {
    root.join(format!("{path}{UNFINISHED}"))
}

/// The part with what an earlier transfer left of it. Whether that was right shows in the end.
pub fn resumed(root: &Path, part: Part) -> Part {
    let kept = fs::metadata(unfinished(root, &part.path)).map_or(0, |seen| seen.len());
    Part { from: if kept < part.bytes { kept } else { 0 }, ..part }
}

/// Takes the bytes of parts in, one after the other.
pub struct Taking<'a> {
    root: &'a Path,
    parts: std::slice::Iter<'a, Part>,
    open: Option<(&'a Part, fs::File, u64)>,
}

impl<'a> Taking<'a> {
    /// Of these, in this order.
    pub fn new(root: &'a Path, parts: &'a [Part]) -> Self {
        Self { root, parts: parts.iter(), open: None }
    }

    /// The next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        loop {
            if self.open.is_none() && !self.next()? {
                ensure!(bytes.is_empty(), "the partition sent more than it has");
                return Ok(());
            }
            let Some((part, file, left)) = &mut self.open else { return Ok(()) };
            let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            file.write_all(&bytes[..count]).with_context(|| format!("failed to write {}", part.path))?;
            *left -= count as u64;
            bytes = &bytes[count..];
            if *left > 0 {
                return Ok(());
            }
            let part = *part;
            self.open = None;
            self.finish(part)?;
        }
    }

    fn next(&mut self) -> anyhow::Result<bool> {
        let Some(part) = self.parts.next() else { return Ok(false) };
        let path = unfinished(self.root, &part.path);
        let link = fs::symlink_metadata(&path).is_ok_and(|seen| !seen.is_file());
        ensure!(!link, "{} is in the way: it is a link, or no file", path.display());
        let file = fs::File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("failed to write {}", path.display()))?;
        file.set_len(part.from)?;
        self.open = Some((part, file, part.bytes - part.from));
        Ok(true)
    }

    /// A whole file takes its place only if its digest is right; a wrong one is begun anew.
    fn finish(&self, part: &Part) -> anyhow::Result<()> {
        let path = unfinished(self.root, &part.path);
        if digest_of(&path, u64::MAX)?.1 != part.digest {
            fs::remove_file(&path)?;
            bail!("{}: its digest is wrong; did it change meanwhile?", part.path);
        }
        fs::rename(&path, self.root.join(&part.path)).with_context(|| format!("failed to write {}", part.path))
    }

    /// Whether every part came.
    pub fn is_done(&mut self) -> anyhow::Result<bool> {
        self.take(&[])?;
        Ok(self.open.is_none() && self.parts.len() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(path: &str, text: &str, from: u64) -> Part {
        let digest = Sha256Digest::of(text.as_bytes());
        Part { path: path.into(), from, bytes: text.len() as u64, digest, there: None }
    }

    #[test]
    fn bytes_become_files_and_wrong_ones_do_not() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let parts = [part("a", "one", 0), part("empty", "", 0), part("b", "second", 0)];
        let mut taking = Taking::new(root, &parts);
        for bytes in [&b"on"[..], b"esec", b"ond"] {
            assert!(!taking.is_done().unwrap());
            taking.take(bytes).unwrap();
        }
        assert!(taking.is_done().unwrap() && taking.take(b"x").is_err());
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        assert_eq!((read("a"), read("empty"), read("b")), ("one".into(), String::new(), "second".into()));

        let wrong = [Part { digest: Sha256Digest::of(b"other"), ..part("c", "four", 0) }];
        assert!(Taking::new(root, &wrong).take(b"four").is_err());
        assert!(!root.join("c").exists() && !unfinished(root, "c").exists());
    }

    #[test]
    fn what_broke_off_goes_on() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let whole = [part("big", "0123456789", 0)];
        Taking::new(root, &whole).take(b"0123").unwrap();
        let rest = [resumed(root, whole[0].clone())];
        assert_eq!(rest[0].from, 4);
        let mut taking = Taking::new(root, &rest);
        taking.take(b"456789").unwrap();
        assert!(taking.is_done().unwrap());
        assert_eq!(fs::read_to_string(root.join("big")).unwrap(), "0123456789");
    }

    #[test]
    fn folders_are_made_and_links_in_the_way_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (root, outside) = (temp.path().join("here"), temp.path().join("outside"));
        fs::create_dir_all(&outside).unwrap();
        let wanted = |path: &str| {
            let file = File { bytes: 1, digest: Sha256Digest::of(b"x") };
            List { files: [(path.to_owned(), file)].into(), ..List::default() }
        };
        make(&root, &wanted("a/b/file")).unwrap();
        assert!(root.join("a/b").is_dir());
        std::os::unix::fs::symlink(&outside, root.join("a/link")).unwrap();
        for way in ["a/link/file", "a/link/deep/file"] {
            assert!(make(&root, &wanted(way)).unwrap_err().to_string().contains("in the way"), "{way}");
        }
        let folder = List { folders: ["a/link".into()].into(), ..List::default() };
        assert!(make(&root, &folder).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

        fs::write(outside.join("file"), "mine").unwrap();
        std::os::unix::fs::symlink(outside.join("file"), unfinished(&root, "begun")).unwrap();
        let parts = [part("begun", "theirs", 0)];
        assert!(Taking::new(&root, &parts).take(b"theirs").is_err());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "mine");
    }

    #[test]
    fn a_folder_is_listed_with_digests() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("d/e")).unwrap();
        fs::write(temp.path().join("d/f"), "x").unwrap();
        let (root, all) = list(temp.path()).unwrap();
        assert_eq!(all.folders.iter().map(String::as_str).collect::<Vec<_>>(), ["d", "d/e"]);
        assert_eq!(all.files["d/f"], File { bytes: 1, digest: Sha256Digest::of(b"x") });
        let begun = Part { from: 1, there: Some(Sha256Digest::of(b"x")), ..part("d/f", "xyz", 1) };
        assert!(has_prefix(&root, &begun).unwrap());
        let (parent, one) = list(&temp.path().join("d/f")).unwrap();
        assert_eq!((parent, one.files.len()), (temp.path().join("d"), 1));
    }
}
