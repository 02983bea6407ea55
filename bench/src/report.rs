//! Rounds, medians, the Markdown table and the JSON file.

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Options of the form `--name value`.
#[derive(Debug, Clone, Default)]
pub struct Options(Vec<(String, String)>);

impl Options {
    /// Reads them.
    pub fn read(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut all = Vec::new();
        while let Some(flag) = args.next() {
            let name = flag.strip_prefix("--").with_context(|| format!("{flag} is no option"))?;
            all.push((name.to_string(), args.next().with_context(|| format!("{flag} needs a value"))?));
        }
        Ok(Self(all))
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
