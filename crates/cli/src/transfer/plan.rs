//! What has to go over the wire.

use super::list::{File, List};
use sublet_model::identity::Sha256Digest;

/// A file, or the rest of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its path below the folder.
    pub path: String,
    /// How many of its bytes are at the other end.
    pub from: u64,
    /// How long it is.
    pub bytes: u64,
    /// Of all of it.
    pub digest: Sha256Digest,
    /// Of what is at the other end.
    pub there: Option<Sha256Digest>,
}

/// The parts of `wanted` that are not in `there`. Whether what is there is the beginning of what is
/// wanted is for the caller to know.
pub fn plan(
    wanted: &List,
    there: &List,
    mut is_beginning: impl FnMut(&Part) -> anyhow::Result<bool>,
) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (path, File { bytes, digest }) in &wanted.files {
        let other = there.files.get(path);
        if other.is_some_and(|other| other.digest == *digest) {
            continue;
        }
        let shorter = other.filter(|other| other.bytes > 0 && other.bytes < *bytes);
        let from = shorter.map_or(0, |other| other.bytes);
        let there = shorter.map(|other| other.digest);
        let mut part = Part { path: path.clone(), from, bytes: *bytes, digest: *digest, there };
        if part.from > 0 && !is_beginning(&part)? {
            (part.from, part.there) = (0, None);
        }
        parts.push(part);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_goes_and_what_is_begun_goes_on() {
        let file = |text: &str| File { bytes: text.len() as u64, digest: Sha256Digest::of(text.as_bytes()) };
        let list = |files: &[(&str, &str)]| List {
            files: files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect(),
            ..List::default()
        };
        let wanted = list(&[("same", "1"), ("new", "22"), ("begun", "abcdef"), ("other", "abcdef"), ("long", "a")]);
        let there = list(&[("same", "1"), ("begun", "abc"), ("other", "xyz"), ("long", "ab"), ("extra", "e")]);
        let parts = plan(&wanted, &there, |part| Ok(part.there == Some(Sha256Digest::of(b"abc")))).unwrap();
        let seen: Vec<(&str, u64, u64)> = parts.iter().map(|p| (p.path.as_str(), p.from, p.bytes)).collect();
        assert_eq!(seen, [("begun", 3, 6), ("long", 0, 1), ("new", 0, 2), ("other", 0, 6)]);
    }
}
