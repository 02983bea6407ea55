//! What a guest's console says about its end, for the person whose lease ended: the lines in which
//! a kernel names its trouble where there are some, for what comes last are registers; else the end.

use crate::sync::plain;

/// How the lines begin, behind their time stamps, in which Linux says why it can't go on.
const TELLING: [&str; 8] =
    ["Kernel panic - ", "BUG: ", "Oops: ", "sysrq: ", "Out of memory: ", "VFS: ", "watchdog: BUG", "kernel BUG at "];
/// At most so many of them: the last ones.
const MOST_LINES: usize = 4;

/// The telling part of a console, at most `longest` bytes of plain text.
pub fn telling(console: &[u8], longest: usize) -> String {
    let text = String::from_utf8_lossy(console);
    let lines = text.lines().map(without_stamp).filter(|line| TELLING.iter().any(|t| line.starts_with(t)));
    let mut told: Vec<&str> = lines.collect();
    told.dedup();
    if told.is_empty() {
        return plain(text.trim(), longest);
    }
    plain(&told[told.len().saturating_sub(MOST_LINES)..].join("\n"), longest)
}

/// A line without the kernel's `[   12.345678] `.
fn without_stamp(line: &str) -> &str {
    let line = line.trim();
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((stamp, rest)) if stamp.chars().all(|c| c.is_ascii_digit() || " .TC".contains(c)) => rest.trim(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_name_the_trouble_come_before_registers() {
        let console = "[    0.1] Linux version 6.12\r\n[   29.01] sysrq: Trigger a crash\r\n\
            [   29.015443] Kernel panic - not syncing: sysrq triggered crash\r\n[   29.015443] RDX: 0000000000000002\r\n";
        let told = "sysrq: Trigger a crash\nKernel panic - not syncing: sysrq triggered crash";
        assert_eq!(telling(console.as_bytes(), 400), told);
        // A guest may print what it likes: it stays short and plain, and the last words count.
        let flood = format!("{console}{}", "[ 1.0] BUG: a\u{1b}[2J\n[ 1.0] Oops: b\n".repeat(1000));
        assert_eq!(telling(flood.as_bytes(), 400), "BUG: a·[2J\nOops: b\nBUG: a·[2J\nOops: b");
        assert_eq!(telling(format!("BUG: {}", "x".repeat(1000)).as_bytes(), 10), "x".repeat(10));
    }

    #[test]
    fn without_such_lines_the_end_is_told() {
        assert_eq!(telling(b"one\r\ntwo \xff\r\n", 400), "one·\ntwo \u{fffd}");
        assert_eq!(telling(b"  \r\n", 400), "");
        assert_eq!(telling(b"[not a stamp] BUG: x", 400), "[not a stamp] BUG: x");
    }
}
