//! Random lives of leases, billed twice: by the model, and by `tools/verify`, another program in
//! another language. A lying host among them, a market that is out of reach, funds that end.
//!
//! `SUBLET_LIVES=100000` for more of them; a failure names its seed: `SUBLET_SEED=7 SUBLET_LIVES=20`.

#![allow(clippy::print_stdout, reason = "what was compared stands beside the verdict")]

mod bits;
mod life;
mod python;
mod random;
mod spoil;
mod statement;

use python::Verifier;
use random::Random;
use statement::Batch;
use sublet_model::statement::{Verdict, verify};

/// Lives in one statement.
const BATCH: usize = 20;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn both_implementations_agree_byte_for_byte() {
    let lives = from_environment("SUBLET_LIVES", 1000);
    let first = from_environment("SUBLET_SEED", 1);
    let mut other = Verifier::start();
    let (mut seen, mut spoiled) = (life::Tally::default(), 0);
    for seed in first..first + lives.div_ceil(BATCH as u64) {
        let mut random = Random::new(seed);
        let batch = Batch::of(&mut random, BATCH, &mut seen);
        let verdict = verify(batch.text.as_bytes(), Some(batch.known));
        assert!(matches!(verdict, Verdict::Holds(_)), "seed {seed}: {verdict:?}\n{}", batch.text);
        let (said, again) = other.ask(batch.text.as_bytes());
        assert_eq!(said, json(&verify(batch.text.as_bytes(), None)), "seed {seed}");
        assert_eq!(again, batch.text, "seed {seed}: the statement anew is another one");

        // And of one that does not hold, both say the same.
        for _ in 0..2 {
            let document = spoil::spoil(&mut random, &batch);
            let (said, _) = other.ask(&document);
            let ours = json(&verify(&document, None));
            assert_eq!(said, ours, "seed {seed}\n{}", String::from_utf8_lossy(&document));
            spoiled += u64::from(ours.starts_with("{\"holds\":false"));
        }
    }
    other.stop();
    println!("{seen:?}, {spoiled} spoiled statements were told apart alike");
    assert!(spoiled > lives / BATCH as u64, "hardly anything was spoiled: {spoiled}");
    seen.covers_everything(lives);
}

fn json(verdict: &Verdict) -> String {
    serde_json::to_string(verdict).expect("a verdict is plain JSON")
}
