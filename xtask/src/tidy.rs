//! Forbidden edges, words in the wrong room, files that grew too long.
//!
//! Each rule names the rooms in which a word may stand. Comments and strings count too: a room
//! that has to speak of another's inside is a room too near to it.

use std::fs;
use std::path::{Path, PathBuf};

/// A word, where it may stand (path prefixes), and why nowhere else.
struct Rule {
    /// Only files under these are looked at; empty: all crates.
    within: &'static [&'static str],
    /// Words that may not stand there.
    words: &'static [&'static str],
    /// Files under these may use them all the same.
    allowed: &'static [&'static str],
    /// Why.
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        within: &["crates/model/"],
        words: &["tokio", "std::fs", "std::net", "std::process", "SystemTime", "Instant::now", "getrandom", "rand::"],
        // Its tests ask another program.
        allowed: &["crates/model/tests/"],
        why: "the model has no I/O, no clock and no randomness",
    },
    Rule {
        within: &[],
        words: &["rusqlite", "INSERT INTO", "insert into ", "CREATE TABLE", "create table "],
        allowed: &[
            "crates/market/src/db",
            "crates/market/tests",
            "crates/host/src/store",
            "crates/testing/",
            "crates/cli/tests",
        ],
        why: "SQL stands only in market/src/db and host/src/store",
    },
    Rule {
        within: &[],
        words: &["StatusCode"],
        allowed: &[
            "crates/market/src/http",
            "crates/market/tests",
            "crates/depot/src/",
            "crates/depot/tests",
            "crates/host/tests",
            "crates/host/src/agent/tests",
        ],
        why: "HTTP status codes are decided only where HTTP is served",
    },
    Rule {
        within: &[],
        words: &["qmp_capabilities", "query-status", "-nodefaults", "virtio-serial-pci", "pvpanic-pci"],
        allowed: &["crates/host/src/qemu", "crates/host/tests", "crates/testing/", "crates/cli/tests"],
        why: "QEMU's switches and QMP names stand only in host/src/qemu",
    },
    Rule {
        within: &["crates/market/"],
        words: &["sublet_host"],
        allowed: &[],
        why: "market and host meet only in wire",
    },
    Rule {
        within: &["crates/host/"],
        words: &["sublet_market"],
        allowed: &[],
        why: "market and host meet only in wire",
    },
    Rule {
        within: &[],
        words: &["sublet_testing"],
        allowed: &["crates/testing/", "crates/cli/tests", "bench/"],
        why: "testing is only ever a dev-dependency",
    },
];

/// A file longer than this is two files.
const MOST_LINES: usize = 600;
/// Folders of the repository that hold our own Rust.
const FOLDERS: &[&str] = &["crates"];

/// Every fault found, each as one line that says where, what and why.
pub fn check(root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    for folder in FOLDERS {
        for file in rust_files(&root.join(folder)) {
            let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            match fs::read_to_string(&file) {
                Ok(text) => faults.extend(check_file(&name, &text)),
                Err(error) => faults.push(format!("{name}: can't be read: {error}")),
            }
        }
    }
    faults.sort();
    faults
}

fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let code_lines = text.lines().take_while(|l| *l != "#[cfg(test)]").count();
    if code_lines > MOST_LINES {
        faults.push(format!("{name}: {code_lines} lines without its tests, more than {MOST_LINES}: divide it"));
    }
    for rule in RULES.iter().filter(|r| applies(r, name)) {
        for (at, line) in text.lines().enumerate() {
            if let Some(word) = rule.words.iter().find(|w| line.contains(*w)) {
                faults.push(format!("{name}:{}: `{word}` here, but {}", at + 1, rule.why));
            }
        }
    }
    faults
}

fn applies(rule: &Rule, name: &str) -> bool {
    let under = |places: &[&str]| places.iter().any(|p| name.starts_with(p));
    (rule.within.is_empty() || under(rule.within)) && !under(rule.allowed)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false if path.extension().is_some_and(|e| e == "rs") => vec![path],
            false => Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_what_it_forbids_and_lets_pass_what_it_allows() {
        let faults = |name, text: &str| check_file(name, text).len();
        assert_eq!(faults("crates/model/src/lease.rs", "use tokio::time;"), 1);
        assert_eq!(faults("crates/market/src/http/rent.rs", "use rusqlite::Connection;"), 1);
        assert_eq!(faults("crates/market/src/db/sqlite.rs", "use rusqlite::Connection;"), 0);
        assert_eq!(faults("crates/market/src/engine/step.rs", "StatusCode::OK"), 1);
        assert_eq!(faults("crates/market/src/engine/step.rs", "use sublet_host::agent;"), 1);
        assert_eq!(faults("crates/host/src/agent.rs", "\"-nodefaults\""), 1);
        assert_eq!(faults("crates/host/src/qemu/command_line.rs", "\"-nodefaults\""), 0);
        assert_eq!(faults("crates/cli/src/a.rs", &"x\n".repeat(MOST_LINES + 1)), 1);
        let tested = format!("x\n#[cfg(test)]\n{}", "y\n".repeat(MOST_LINES));
        assert_eq!(faults("crates/cli/src/a.rs", &tested), 0, "tests beside the code do not count");
    }
}
