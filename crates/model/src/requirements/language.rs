//! The text form of requirements: `cpu>=4 memory=8GiB..32GiB os=debian price<=0.05/h region in [eu,us]`.
//!
//! It parses into the structured form and is printed back from it, in one way for each meaning:
//! reading what was printed gives the same. The grammar stands in `syntax`, the names in `names`.

mod amounts;
mod fault;
mod meaning;
mod names;
mod print;
mod syntax;

pub use fault::LanguageError;
pub(crate) use print::label;

use super::Requirements;
use std::str::FromStr;

impl Requirements {
    /// The longest text that is read, in bytes.
    pub const LONGEST_TEXT: usize = 64 << 10;
    /// The most clauses that are read.
    pub const MOST_CLAUSES: usize = 256;
}

impl FromStr for Requirements {
    type Err = LanguageError;

    fn from_str(text: &str) -> Result<Self, LanguageError> {
        if text.len() > Self::LONGEST_TEXT {
            return Err(LanguageError::new("", 0, 0, format!("longer than {} bytes", Self::LONGEST_TEXT)));
        }
        let clauses = syntax::clauses(text).map_err(|expected| unexpected(text, &expected))?;
        if let Some(first) = clauses.get(Self::MOST_CLAUSES) {
            let problem = format!("more than {} clauses", Self::MOST_CLAUSES);
            return Err(LanguageError::new(text, first.at.start, first.at.end, problem));
        }
        let mut asked = Self::default();
        for clause in &clauses {
            meaning::narrow(&mut asked, clause).map_err(|fault| fault.of(text))?;
        }
        // What no single clause breaks: the shape must be able to use the processor time.
        if let Err(error) = asked.resolve() {
            let last = clauses.iter().rev().find(|clause| ["vcpus", "cpu"].contains(&clause.name.is));
            let at = last.map_or(0..text.len(), |clause| clause.at.clone());
            return Err(LanguageError::new(text, at.start, at.end, error.to_string()));
        }
        Ok(asked)
    }
}

fn unexpected(text: &str, expected: &syntax::Expected) -> LanguageError {
    let found = text.get(expected.at..).and_then(|rest| rest.chars().next());
    let what = if expected.what.is_empty() { "a clause such as cpu>=4" } else { expected.what };
    let found_words = match found {
        None => "the text ends here".to_owned(),
        Some(found) => format!("{} stands here", fault::quoted(&found.to_string())),
    };
    let end = expected.at + found.map_or(0, char::len_utf8);
    LanguageError::new(text, expected.at, end, format!("expected {what}, but {found_words}"))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
