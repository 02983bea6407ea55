//! Marks that somebody leaves on disk and in memory, and who finds them.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// On how many lines of some bytes a mark stands.
pub fn count(mark: &str, feed: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<u64> {
    let mut grep =
        Command::new("grep").args(["-a", "-c", "-F", mark]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let fed = feed(&mut grep.stdin.take().context("a pipe")?);
    let said = grep.wait_with_output()?.stdout;
    fed?;
    Ok(String::from_utf8(said)?.trim().parse()?)
}

/// The same, of a file.
pub fn in_file(file: &Path, mark: &str) -> Result<u64> {
    count(mark, |to| Ok(std::io::copy(&mut File::open(file)?, to).map(drop)?))
}

/// The same, of all that a machine has as its memory, read from outside.
pub fn in_memory(qemu: u32, mark: &str) -> Result<u64> {
    const LEAST_BYTES: u64 = 128 << 20;
    let maps = fs::read_to_string(format!("/proc/{qemu}/maps"))?;
    let all: Vec<(u64, u64)> = maps.lines().filter_map(region).filter(|(from, to)| to - from >= LEAST_BYTES).collect();
    ensure!(!all.is_empty(), "no memory of a machine in {maps}");
    count(mark, |to| {
        let mut memory = File::open(format!("/proc/{qemu}/mem"))?;
        for &(from, end) in &all {
            memory.seek(SeekFrom::Start(from))?;
            std::io::copy(&mut (&mut memory).take(end - from), to)?;
        }
        Ok(())
    })
}

/// Where a region that can be written begins and ends.
fn region(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    rest.starts_with("rw").then_some(())?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

/// The files below a folder in which a mark stands.
pub fn files_with(folder: &Path, mark: &str) -> Result<Vec<PathBuf>> {
    let found =
        Command::new("grep").args(["-r", "-a", "-l", "-F", mark]).arg(folder).stderr(Stdio::inherit()).output()?;
    ensure!(found.status.code().is_some_and(|code| code < 2), "{found:?}");
    Ok(String::from_utf8(found.stdout)?.lines().map(PathBuf::from).collect())
}
