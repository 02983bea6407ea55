//! Where each controller really is, from the mount table.

use std::fs;
use std::path::{Path, PathBuf};

/// Which interface a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller, or a few.
    V1,
    /// One tree for all.
    V2,
}

impl Version {
    /// 1 or 2.
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// A mounted hierarchy (or a group in it) and those of our controllers that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The interface.
    pub version: Version,
    /// The directory.
    pub root: PathBuf,
    /// The controllers used here.
    pub controllers: Vec<String>,
}

/// The hierarchies that have `wanted`, and those wanted that no hierarchy has.
/// Where processor time is limited by version 1 it is counted by a controller of its own.
pub fn find(mount_table: &str, wanted: &[&str]) -> (Vec<Hierarchy>, Vec<String>) {
    let mut missing: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
    let mut found = Vec::new();
    for line in mount_table.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(root), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let root = PathBuf::from(unescape(root));
        let (version, here) = match kind {
            "cgroup" => (Version::V1, options.split(',').map(str::to_owned).collect()),
            "cgroup2" => (Version::V2, controllers_of(&root)),
            _ => continue,
        };
        let is_wanted = |c: &String| missing.contains(c) || (version == Version::V1 && c == "cpuacct");
        let controllers: Vec<String> = here.into_iter().filter(is_wanted).collect();
        missing.retain(|m| !controllers.contains(m));
        if !controllers.is_empty() {
            found.push(Hierarchy { version, root, controllers });
        }
    }
    (found, missing)
}

fn controllers_of(root: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The kernel writes blanks in paths as octal.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}
