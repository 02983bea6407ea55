//! A table of what was tried and what was answered, for people.

use crate::world::{Answer, target};
use std::fmt::Write;
use sublet_wire::problem::Kind;

pub struct Table {
    name: &'static str,
    rows: Vec<(String, String)>,
}

impl Table {
    pub fn new(name: &'static str) -> Self {
        Self { name, rows: Vec::new() }
    }

    /// Notes an answer that must be a problem of this kind, with all that belongs to one.
    #[track_caller]
    pub fn refused(&mut self, tried: &str, answer: &Answer, kind: Kind) {
        assert!(!answer.status.is_success(), "{tried}: {}", answer.body);
        let problem = answer.problem();
        assert_eq!(problem.known_kind(), Some(kind), "{tried}: {problem:?}");
        assert!(!problem.detail.chars().any(char::is_control), "{tried}: {problem:?}");
        assert!(!problem.detail.is_empty() && problem.detail.chars().count() <= 600, "{tried}: {problem:?}");
        self.note(tried, format!("{} {}: {}", problem.status, kind.word(), problem.detail));
    }

    pub fn note(&mut self, tried: &str, answered: String) {
        self.rows.push((tried.into(), answered));
    }

    /// Writes it to `target/bad-inputs/`.
    pub fn write(self) {
        let cell = |text: &str| -> String {
            let shown: String = text
                .chars()
                .flat_map(|c| if c.is_control() { ' '.to_string() } else { c.to_string() }.chars().collect::<Vec<_>>())
                .collect();
            shown.replace('|', "\\|")
        };
        let mut text = String::from("| tried | answered |\n|---|---|\n");
        for (tried, answered) in &self.rows {
            writeln!(text, "| {} | {} |", cell(tried), cell(answered)).unwrap();
        }
        let dir = target().join("bad-inputs");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{}.md", self.name)), text).unwrap();
    }
}
