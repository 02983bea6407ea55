//! The line that a client sends: words, and variables before them. There is no shell, so what only a
//! shell can do is refused and not taken for words.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A line's words, and the variables that stand before them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// `NAME=value` before the first word.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The rest.
    pub words: Vec<Vec<u8>>,
}

/// Reads a line as a POSIX shell would that knows neither expansion nor pipes.
pub fn parse(line: &[u8]) -> Result<Line, String> {
    let mut parsed = Line::default();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let (word, plain, length) = word(rest)?;
        let equals = word.iter().position(|byte| *byte == b'=').filter(|at| plain > *at && is_name(&word[..*at]));
        match equals {
            Some(at) if parsed.words.is_empty() => parsed.env.push((word[..at].into(), word[at + 1..].into())),
            _ => parsed.words.push(word),
        }
        rest = rest[length..].trim_ascii_start();
    }
    Ok(parsed)
}

/// The next word, how many of its bytes came before any quote, and how long it is in the line.
fn word(line: &[u8]) -> Result<(Vec<u8>, usize, usize), String> {
    let (mut word, mut plain, mut at) = (Vec::new(), None, 0);
    let unended = || String::from("a quote that does not end");
    while let Some(&byte) = line.get(at) {
        at += 1;
        match byte {
            b' ' | b'\t' => {
                at -= 1;
                break;
            }
            b'\'' | b'"' | b'\\' => {
                plain.get_or_insert(word.len());
                at += match byte {
                    b'\'' => single_quoted(&line[at..], &mut word).ok_or_else(unended)?,
                    b'"' => double_quoted(&line[at..], &mut word)?.ok_or_else(unended)?,
                    _ => {
                        word.push(*line.get(at).ok_or_else(unended)?);
                        1
                    }
                };
            }
            b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'$' | b'`' | b'*' | b'?' | b'\n' | b'\r' => {
                return Err(no_shell(byte));
            }
            b'#' | b'~' if word.is_empty() && plain.is_none() => return Err(no_shell(byte)),
            byte => word.push(byte),
        }
    }
    let plain = plain.unwrap_or(word.len());
    Ok((word, plain, at))
}

fn single_quoted(line: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let end = line.iter().position(|byte| *byte == b'\'')?;
    word.extend_from_slice(&line[..end]);
    Some(end + 1)
}

fn double_quoted(line: &[u8], word: &mut Vec<u8>) -> Result<Option<usize>, String> {
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        at += 1;
        match (byte, line.get(at)) {
            (b'"', _) => return Ok(Some(at)),
            (b'$' | b'`', _) => return Err(no_shell(byte)),
            (b'\\', Some(&next @ (b'"' | b'\\' | b'$' | b'`'))) => {
                word.push(next);
                at += 1;
            }
            _ => word.push(byte),
        }
    }
    Ok(None)
}

fn is_name(name: &[u8]) -> bool {
    let letters = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(letters)
}

fn no_shell(byte: u8) -> String {
    format!("{:?} needs a shell, and there is none", byte as char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, expected) in [
            ("job.wasm", &["job.wasm"][..]),
            ("  job.wasm  a\tb ", &["job.wasm", "a", "b"]),
            ("job 'a b'\"c d\"e", &["job", "a bc de"]),
            (r#"job "a\"b\\c\d" \' x\ y"#, &["job", r#"a"b\c\d"#, "'", "x y"]),
            ("job '' \"\"", &["job", "", ""]),
            ("job 'it'\\''s' '$HOME;*'", &["job", "it's", "$HOME;*"]),
            ("job a=b #", &[]),
            ("job 'a\nb' x#y ~", &[]),
            ("job a=b x#y x~", &["job", "a=b", "x#y", "x~"]),
        ] {
            let words = parse(line.as_bytes()).map(|line| line.words).unwrap_or_default();
            assert_eq!(words, expected.iter().map(|word| word.as_bytes()).collect::<Vec<_>>(), "{line}");
        }
    }

    #[test]
    fn variables_come_first() {
        let line = parse(b"A=1 B='x y' C_2= job D=4").unwrap();
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(line.env, [pair("A", "1"), pair("B", "x y"), pair("C_2", "")]);
        assert_eq!(line.words, [b"job".to_vec(), b"D=4".to_vec()]);
        for line in ["'A'=1", "A'='1", "2A=1", "=1"] {
            assert_eq!(parse(line.as_bytes()).unwrap().words.len(), 1, "{line}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused_and_not_taken_for_words() {
        for line in ["a | b", "a; b", "a && b", "a > f", "echo $HOME", "a `b`", "a *.wasm", "a\nb", "\"$X\"", "~/a"] {
            assert!(parse(line.as_bytes()).unwrap_err().contains("shell"), "{line}");
        }
        for line in ["'a", "a \"b", "a \\"] {
            assert!(parse(line.as_bytes()).unwrap_err().contains("does not end"), "{line}");
        }
    }
}
