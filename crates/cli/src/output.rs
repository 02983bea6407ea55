//! Data on stdout, and nothing else: tables for people, JSON for programs.

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use sublet_model::units::Timestamp;
use sublet_wire::api::UnfitCount;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// The market's own structures.
    Json,
}

/// Prints lines that are data.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&serde_json::to_string_pretty(value)?)?)
}

/// Says something to the person at the terminal, on stderr; never data.
pub fn say(text: impl AsRef<str>) {
    // Nobody reading is no failure.
    let _ = writeln!(io::stderr(), "{}", clean(text.as_ref()));
}

/// Says something only where a person reads it.
pub fn say_if_terminal(text: impl AsRef<str>) {
    if io::stderr().is_terminal() {
        say(text);
    }
}

/// Rows under headings.
pub struct Rows {
    table: Table,
    empty: &'static str,
    count: usize,
}

impl Rows {
    /// A table with these headings; `empty` is said instead if no row comes.
    pub fn new(headings: &[&str], empty: &'static str) -> Self {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().map(|h| h.to_uppercase()));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { table, empty, count: 0 }
    }

    /// Aligns columns of amounts to the right.
    pub fn right(mut self, columns: &[usize]) -> Self {
        for at in columns {
            if let Some(column) = self.table.column_mut(*at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.count += 1;
        self.table.add_row(cells.iter().map(|cell| clean(cell)));
    }

    /// Prints it.
    pub fn print(self) -> anyhow::Result<()> {
        if self.count == 0 {
            say_if_terminal(self.empty);
            return Ok(());
        }
        print(&trimmed(&self.table.to_string()))?;
        Ok(())
    }
}

/// `label: value` lines, values aligned.
pub fn facts(facts: &[(&str, String)]) -> anyhow::Result<()> {
    let width = facts.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 2;
    let line = |(label, value): &(&str, String)| format!("{:width$}{}\n", format!("{label}:"), clean(value));
    Ok(print(&facts.iter().map(line).collect::<String>())?)
}

fn trimmed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Text from elsewhere without what a terminal would obey.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// `3 partitions: in use`.
pub fn unfit_line(unfit: &UnfitCount) -> String {
    let plural = if unfit.partitions == 1 { "" } else { "s" };
    format!("{} partition{plural}: {}", unfit.partitions, unfit.words)
}

/// An instant, or a dash.
pub fn at(instant: Option<Timestamp>) -> String {
    instant.map_or_else(|| "-".into(), |at| at.to_string())
}

/// A span in microseconds, for timelines: `0.094s`, `1m02s`.
pub fn span(micros: i64) -> String {
    match micros {
        short if short < 60_000_000 => format!("{:.3}s", short as f64 / 1e6),
        long => sublet_model::units::Seconds(long / 1_000_000).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_frame_and_no_escape_from_elsewhere() {
        let mut rows = Rows::new(&["name", "price"], "nothing").right(&[1]);
        rows.row(vec!["box\u{1b}[31m".into(), "0.01".into()]);
        rows.row(vec!["b".into(), "10.00".into()]);
        let text = trimmed(&rows.table.to_string());
        assert_eq!(text, "NAME      PRICE\nbox\u{fffd}[31m   0.01\nb         10.00\n");
    }

    #[test]
    fn spans_are_read_at_a_glance() {
        assert_eq!([span(94_000), span(1_500_000), span(62_000_000)], ["0.094s", "1.500s", "1m2s"]);
    }
}
