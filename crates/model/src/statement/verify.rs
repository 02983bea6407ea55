//! Reading a statement from its first line to its last, and telling the first that does not hold.

use super::check::{Checker, canonical, pinned};
use super::fault::{Fault, Holds, Problem, Verdict, Wrong, same};
use super::record::Record;
use super::write::{FIRST, LAST};
use crate::identity::{PublicKey, Sha256Digest};

/// Whether a statement holds, and under the market's key if that is `known`.
pub fn verify(document: &[u8], known: Option<PublicKey>) -> Verdict {
    verify_with(document, known, |_| {})
}

/// As [`verify`]; shows every record that holds, before it is known whether all do.
pub fn verify_with(document: &[u8], known: Option<PublicKey>, show: impl FnMut(&Record)) -> Verdict {
    match walk(document, known, show) {
        Ok(holds) => Verdict::Holds(holds),
        Err(fault) => Verdict::Fails(*fault),
    }
}

fn walk(document: &[u8], known: Option<PublicKey>, mut show: impl FnMut(&Record)) -> Result<Holds, Box<Fault>> {
    let lines: Vec<&[u8]> = document.split(|byte| *byte == b'\n').collect();
    let frame = |line: usize, expected: &str| Box::new(Wrong::new(Problem::Frame).expected(expected).at(line));
    if lines[0] != FIRST.as_bytes() {
        return Err(frame(1, FIRST));
    }
    let pins = pins(&lines);
    let mut checker = Checker::new(known);
    let mut at = 1;
    loop {
        let Some(line) = lines.get(at) else { return Err(frame(lines.len(), LAST)) };
        if *line == LAST.as_bytes() {
            break;
        }
        let record = judge(&mut checker, line, at, pins.as_deref())?;
        show(&record);
        at += 1;
    }
    let holds = checker.holds(at).ok_or_else(|| frame(at + 1, "closing"))?;
    match &lines[at + 1..] {
        [] => Err(frame(at + 1, "a newline")),
        [[]] => Ok(holds),
        _ => Err(frame(at + 2, "the end")),
    }
}

/// The digests that the closing names, if it holds under the key that it names itself.
fn pins(lines: &[&[u8]]) -> Option<Vec<Sha256Digest>> {
    let line = lines.iter().rev().find(|line| line.starts_with(br#"{"record":"closing""#))?;
    match read(line)?.0 {
        Record::Closing(closing) => pinned(&closing),
        _ => None,
    }
}

/// The record of a line, its text, and whether a comma follows it.
fn read(line: &[u8]) -> Option<(Record, &str, bool)> {
    let text = std::str::from_utf8(line).ok()?;
    let (text, comma) = text.strip_suffix(',').map_or((text, false), |text| (text, true));
    Some((canonical(text)?, text, comma))
}

fn judge(checker: &mut Checker, line: &[u8], at: usize, pins: Option<&[Sha256Digest]>) -> Result<Record, Box<Fault>> {
    let Some((record, text, comma)) = read(line) else {
        return Err(Box::new(Wrong::new(Problem::Malformed).at(at + 1)));
    };
    let receipt = matches!(record, Record::Receipt(_)).then(|| checker.receipt_number());
    let place = |wrong: Wrong| {
        let (word, lease) = (Some(record.word()), record.lease());
        Box::new(Fault { record: word, lease, receipt, ..wrong.at(at + 1) })
    };
    let closes = matches!(record, Record::Closing(_));
    if comma == closes {
        let expected = if closes { "no comma" } else { "a comma" };
        return Err(place(Wrong::new(Problem::Frame).expected(expected)));
    }
    checker.check(&record).map_err(place)?;
    if !closes {
        let digest = Sha256Digest::of(text.as_bytes());
        if let Some(pins) = pins {
            let pin = pins.get(at - 1).map_or("none".to_string(), Sha256Digest::to_string);
            same(Problem::Digest, pin, digest.to_string()).map_err(place)?;
        }
        checker.digests.push(digest);
    }
    Ok(record)
}

impl Checker {
    /// What holds, if everything up to the closing was read. `at` is the last line's, counted from 0.
    fn holds(self, at: usize) -> Option<Holds> {
        let head = self.head.as_ref().filter(|_| self.is_done())?;
        // The closing said the same sums, in 64 bits.
        let micros = |sum: i128| crate::units::Micros(i64::try_from(sum).unwrap_or(i64::MAX));
        Some(Holds {
            holds: true,
            account: head.account,
            side: head.side,
            currency: head.currency.clone(),
            from: head.from,
            until: head.until,
            market: head.market,
            records: at - 1,
            leases: self.sums.leases,
            charged: micros(self.sums.charged),
            credited: micros(self.sums.credited),
            fees: micros(self.sums.fees),
            earned: micros(self.sums.earned),
            amount: micros(self.sums.amount(head.side)),
        })
    }
}
