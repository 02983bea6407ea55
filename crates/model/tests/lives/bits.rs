//! Every bit of an exported statement, turned: both programs find it, in the line in which it is.

use crate::life::Tally;
use crate::python::Verifier;
use crate::random::Random;
use crate::statement::Batch;
use crate::{from_environment, json};
use sublet_model::statement::{Verdict, verify};

/// The small statement whose every bit is turned: of a market that had another key before, over a life that
/// was receipted.
fn small(seed: u64) -> Batch {
    (0..)
        .map(|more| Batch::of(&mut Random::new(seed + more), 1, &mut Tally::default()))
        .find(|batch| {
            let has = |word: &str| batch.text.contains(word);
            has("\"keys\":[{") && has("\"record\":\"receipt\"") && batch.text.len() < 7000
        })
        .expect("there is one among so many")
}

/// In which line a byte is; a line break ends its own.
fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at].iter().filter(|byte| **byte == b'\n').count()
}

fn turned(text: &[u8], at: usize, bit: usize) -> Vec<u8> {
    let mut changed = text.to_vec();
    changed[at] ^= 1 << bit;
    changed
}

/// What is said of it, which has to name the line.
fn verdict(text: &[u8], at: usize, bit: usize) -> Verdict {
    let verdict = verify(&turned(text, at, bit), None);
    let Verdict::Fails(fault) = &verdict else { panic!("bit {bit} of byte {at} is missed") };
    assert_eq!(fault.line, line_of(text, at), "bit {bit} of byte {at}: {fault:?}");
    verdict
}

#[test]
fn every_bit_of_a_statement_is_found_in_its_line() {
    let batch = small(from_environment("SUBLET_SEED", 1));
    let text = batch.text.as_bytes();
    let parts = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for part in 0..parts {
            scope.spawn(move || {
                for at in (part..text.len()).step_by(parts) {
                    (0..8).for_each(|bit| drop(verdict(text, at, bit)));
                }
            });
        }
    });
    println!("{} bits of {} lines", 8 * text.len(), batch.text.lines().count());
}

/// One bit of every byte; all of them with SUBLET_EVERY_BIT=1.
#[test]
fn the_other_program_says_the_same_of_a_turned_bit() {
    let seed = from_environment("SUBLET_SEED", 1);
    let (batch, mut random, mut other) = (small(seed), Random::new(seed), Verifier::start());
    let text = batch.text.as_bytes();
    let every = from_environment("SUBLET_EVERY_BIT", 0) > 0;
    for at in 0..text.len() {
        let bits = if every { (0..8).collect() } else { vec![random.below(8)] };
        for bit in bits {
            let (said, _) = other.ask(&turned(text, at, bit));
            assert_eq!(said, json(&verdict(text, at, bit)), "bit {bit} of byte {at}");
        }
    }
    other.stop();
}
