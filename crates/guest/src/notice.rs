//! Words of the host for whoever works in the partition: on every terminal, on the console, in a file.

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the last one stands.
const FILE: &str = "/run/sublet/notice";
/// Terminals that are told; more is a flood, not people.
const MOST_TERMINALS: usize = 256;

/// Tells everybody. Only the file has to succeed: terminals come and go.
pub fn tell(words: &str) -> io::Result<()> {
    let line = format!("\r\n{words}\r\n");
    for terminal in terminals(Path::new("/dev/pts")).into_iter().chain([PathBuf::from("/dev/console")]) {
        // One that nobody reads must not hold the others up.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if let Ok(terminal) = rustix::fs::open(&terminal, flags, Mode::empty()) {
            let _ = rustix::io::write(&terminal, line.as_bytes());
        }
    }
    let file = Path::new(FILE);
    std::fs::create_dir_all(file.parent().unwrap_or(file))?;
    let mut fresh = File::create(file)?;
    writeln!(fresh, "{words}")
}

fn terminals(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    numbered.map(|entry| entry.path()).take(MOST_TERMINALS).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn terminals_are_what_has_a_number() {
        let folder = std::env::temp_dir().join(format!("sublet-notice-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["0", "17", "ptmx", "x1"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let mut found = super::terminals(&folder);
        found.sort();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [folder.join("0"), folder.join("17")]);
    }
}
