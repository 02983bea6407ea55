//! What is wrong with a text, and where.

use std::fmt::Write;

/// Why a text is no requirements: what is wrong, at which column, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanguageError {
    /// Where it starts, in bytes from the beginning of the text.
    pub offset: usize,
    /// Where it ends, in bytes; the same where something is missing.
    pub end: usize,
    /// In which line, from 1.
    pub line: usize,
    /// In which column of that line, in characters from 1.
    pub column: usize,
    /// What is wrong, and what was expected.
    pub problem: String,
    /// The nearest name there is.
    pub meant: Option<String>,
}

impl LanguageError {
    pub(super) fn new(text: &str, offset: usize, end: usize, problem: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Self { offset, end: end.max(offset), line, column, problem: problem.into(), meant: None }
    }

    pub(super) fn meaning(self, meant: Option<String>) -> Self {
        Self { meant, ..self }
    }

    /// The line that is wrong, and under it a caret for each character at fault.
    pub fn pointed_out(&self, text: &str) -> String {
        let start = text.get(..self.offset).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let line = text.get(start..).unwrap_or_default().split('\n').next().unwrap_or_default();
        let fault = text.get(self.offset..self.end).unwrap_or_default();
        let width = fault.split('\n').next().unwrap_or_default().chars().count().max(1);
        // A tab stays a tab, so that the caret stands under its character whatever a tab is wide.
        let indent: String = line.chars().take(self.column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        format!("{line}\n{indent}{}", "^".repeat(width))
    }
}

impl std::fmt::Display for LanguageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line > 1 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "column {}: {}", self.column, self.problem)?;
        self.meant.as_ref().map_or(Ok(()), |meant| write!(f, ": did you mean {meant}?"))
    }
}

impl std::error::Error for LanguageError {}

/// What somebody wrote, short and without what a terminal would obey.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == 40 {
            shown.push('…');
            break;
        }
        let obeyed = c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let _ = shown.write_char(if obeyed { '\u{fffd}' } else { c });
    }
    shown
}
