//! Statements that do not hold: bits, lines and numbers changed; some signed again by the market.

use crate::random::Random;
use crate::statement::Batch;
use sublet_model::identity::{Sha256Digest, Signed};
use sublet_model::statement::Closing;

/// The statement with something wrong in it, nearly always.
pub fn spoil(random: &mut Random, batch: &Batch) -> Vec<u8> {
    let lines: Vec<String> = batch.text.split_inclusive('\n').map(str::to_owned).collect();
    let at = random.below(lines.len());
    match random.below(8) {
        0 | 1 => flipped(random, batch.text.as_bytes()),
        2 => moved(random, lines, at),
        3 => batch.text.as_bytes()[..random.below(batch.text.len())].to_vec(),
        4 => renumbered(random, &batch.text).into_bytes(),
        5 => inserted(random, &batch.text),
        _ => signed_again(batch, renumbered(random, &batch.text)).into_bytes(),
    }
}

fn flipped(random: &mut Random, text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    let at = random.below(bytes.len());
    bytes[at] ^= 1 << random.below(8);
    bytes
}

fn moved(random: &mut Random, mut lines: Vec<String>, at: usize) -> Vec<u8> {
    match random.below(3) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        _ => {
            let other = random.below(lines.len());
            lines.swap(at, other);
        }
    }
    lines.concat().into_bytes()
}

/// One digit that stands for itself becomes another, or more of them.
fn renumbered(random: &mut Random, text: &str) -> String {
    let digits: Vec<usize> = text.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at).collect();
    let numbers: Vec<usize> = digits.into_iter().filter(|at| text[..*at].ends_with([':', '-'])).collect();
    let at = numbers[random.below(numbers.len())];
    let new =
        random.one_of(&["0", "7", "-1", "1.5", "00", "99999999999999999999", "9223372036854775807", "null", "1e3"]);
    format!("{}{new}{}", &text[..at], &text[at + 1..])
}

fn inserted(random: &mut Random, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let new = random.one_of(&[&b" "[..], b"\n", b",", b"\\u0041", b"\xff", b"[[[[", b"\"a\":1,", b"\0", b"{}"]);
    let at = random.below(bytes.len());
    bytes.splice(at..at, new.iter().copied());
    bytes
}

/// As a market would that signs what it likes: every line is pinned, whatever it says.
fn signed_again(batch: &Batch, text: String) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len() - 2;
    let Some(payload) = closing_payload(lines[last]) else { return text };
    let Ok(mut closing) = serde_json::from_str::<Closing>(&payload) else { return text };
    closing.lines = lines[1..last].iter().map(|l| Sha256Digest::of(l.trim_end_matches(',').as_bytes())).collect();
    let Signed { payload, key, signature, .. } = Signed::sign(&closing, &batch.market).unwrap();
    let payload = serde_json::to_string(&payload).unwrap();
    let record = format!(r#"{{"record":"closing","payload":{payload},"key":"{key}","signature":"{signature}"}}"#);
    text.replace(lines[last], &record)
}

fn closing_payload(line: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(value.get("payload")?.as_str()?.to_owned())
}
