//! Rounds, medians, the Markdown table and the JSON file.

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The middle one; of an even number, the mean of both in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => f64::NAN,
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// What each program takes; whatever is left out has its usual value.
const USAGE: &str = "options:
  --seed N        of the data set and the questions
  --rows N[,N]    partitions in the market (p1, p2: several sizes)
  --rounds N      how often each side is measured
  --data FOLDER   where filled databases are kept (target/bench/data)
  --out FILE      where the JSON goes (target/bench/<program>.json)
  --only ours     one side alone, nothing compared and nothing written (p1, p3; p1 also: --only peer)
bench/README.md says what is measured.";

/// Options of the form `--name value`.
#[derive(Debug, Clone, Default)]
pub struct Options(Vec<(String, String)>);

impl Options {
    /// Reads them. Who asks for help, or says what can't be read, gets the usage and no more.
    pub fn read(args: impl Iterator<Item = String>) -> Result<Self> {
        match Self::parsed(args) {
            Ok(Some(options)) => Ok(options),
            Ok(None) => {
                println!("{USAGE}");
                std::process::exit(0)
            }
            Err(error) => {
                eprintln!("{error}\n{USAGE}");
                std::process::exit(2)
            }
        }
    }

    /// None: help was asked for.
    fn parsed(mut args: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut all = Vec::new();
        while let Some(flag) = args.next() {
            if ["--help", "-h", "help"].contains(&flag.as_str()) {
                return Ok(None);
            }
            let name = flag.strip_prefix("--").with_context(|| format!("{flag} is no option"))?;
            all.push((name.to_string(), args.next().with_context(|| format!("{flag} needs a value"))?));
        }
        Ok(Some(Self(all)))
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Numbers with commas between them.
    pub fn numbers(&self, name: &str, usual: &[usize]) -> Result<Vec<usize>> {
        match self.get(name) {
            Some(text) => text.split(',').map(|n| n.parse().with_context(|| format!("--{name} {text}"))).collect(),
            None => Ok(usual.to_vec()),
        }
    }

    /// One number.
    pub fn number(&self, name: &str, usual: usize) -> Result<usize> {
        Ok(self.numbers(name, &[usual])?.first().copied().unwrap_or(usual))
    }

    /// Where the JSON goes.
    pub fn out(&self, id: &str) -> PathBuf {
        self.get("out").map_or_else(|| format!("target/bench/{id}.json").into(), PathBuf::from)
    }
}

/// Prints a row of a Markdown table.
pub fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// Prints the head of one.
pub fn head(cells: &[&str]) {
    println!("\n| {} |\n|{}", cells.join(" | "), "---|".repeat(cells.len()));
}

/// Writes the JSON file.
pub fn write(path: &Path, report: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_string_pretty(report)?).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Options>> {
        Options::parsed(words.iter().map(ToString::to_string))
    }

    #[test]
    fn options_have_values_and_help_has_none() {
        let options = parsed(&["--rows", "1,2", "--rows", "3"]).unwrap().unwrap();
        assert_eq!(options.numbers("rows", &[]).unwrap(), [3], "the last one counts");
        assert_eq!(options.number("rounds", 5).unwrap(), 5);
        assert!(parsed(&["--rows", "1", "--help"]).unwrap().is_none());
        assert!(parsed(&["-h"]).unwrap().is_none());
        for bad in [&["--rows"][..], &["rows", "1"]] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
