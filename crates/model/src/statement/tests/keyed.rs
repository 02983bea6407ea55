//! A market that took other keys: who signed what and when, and a chain that does not hold.

use super::*;
use crate::market_keys::{KeyChange, KeyRecord};

#[test]
fn a_market_that_took_another_key_is_followed_from_any_key_it_had() {
    let text = with_keys(1000, &market());
    for known in [old(21).public(), old(22).public(), market().public()] {
        assert!(matches!(verify(text.as_bytes(), Some(known)), Verdict::Holds(_)));
    }
    let Verdict::Fails(fault_) = verify(text.as_bytes(), Some(host().public())) else { panic!("never its key") };
    assert_eq!((fault_.line, fault_.problem), (2, Problem::Key));
    // Who signed what, and when: to the moment of the change, and not a moment later.
    for (at, signer, holds) in [
        (100, old(21), true),
        (499, old(21), true),
        (500, old(21), false),
        (499, old(22), false),
        (500, old(22), true),
        (899, old(22), true),
        (900, old(22), false),
        (899, market(), false),
        (900, market(), true),
        (900, host(), false),
    ] {
        match verify(with_keys(at, &signer).as_bytes(), None) {
            Verdict::Holds(_) => assert!(holds, "{at}"),
            Verdict::Fails(fault) => {
                assert!(!holds && (fault.line, fault.problem) == (3, Problem::Key), "{fault:?}");
                // One that never was the market's, or one of the market's at another time.
                let field = (signer.public() != host().public()).then_some("granted_at");
                assert_eq!(fault.field.as_deref(), field);
            }
        }
    }
}

/// What is told of a statement whose keys are these instead; the market signs it all the same.
fn keyed(keys: Vec<KeyRecord>) -> (usize, Problem, Option<String>) {
    let text = with_keys(1000, &market());
    let line = text.lines().nth(1).unwrap();
    let Record::Head(head) = serde_json::from_str(line.trim_end_matches(',')).unwrap() else { panic!() };
    let record = serde_json::to_string(&Record::Head(Head { keys, ..head })).unwrap() + ",";
    let fault = fault(&signed_again(&text.replace(line, &record)));
    (fault.line, fault.problem, fault.field)
}

#[test]
fn a_change_of_keys_that_does_not_follow_is_named() {
    let (chain, field) = (chain(), |text: &str| Some(text.to_string()));
    let [first, second] = chain.records() else { panic!("two changes") };
    assert_eq!(keyed(vec![first.clone()]), (2, Problem::Key, None), "it leads elsewhere");
    assert_eq!(keyed(vec![second.clone(), first.clone()]), (2, Problem::Order, field("keys[0].number")));
    let swapped = KeyRecord { signature: second.signature.clone(), ..first.clone() };
    assert_eq!(keyed(vec![swapped, second.clone()]), (2, Problem::Signature, field("keys[0]")));
    let unproved = KeyRecord { proof: first.proof.clone(), ..second.clone() };
    assert_eq!(keyed(vec![first.clone(), unproved]), (2, Problem::Signature, field("keys[1].proof")));
    let again = |alter: &dyn Fn(&mut KeyChange)| {
        let mut change = chain.changes()[1].clone();
        alter(&mut change);
        let Signed { payload, key, signature, .. } = Signed::sign(&change, &old(22)).unwrap();
        let proof = market().sign_bytes(format!("sublet key proof 1\n{payload}").as_bytes());
        keyed(vec![first.clone(), KeyRecord { payload, key, signature, proof }])
    };
    assert_eq!(again(&|c| c.number = 1), (2, Problem::Order, field("keys[1].number")));
    assert_eq!(again(&|c| c.previous = None), (2, Problem::Previous, field("keys[1].previous")));
    assert_eq!(again(&|c| c.old = market().public()), (2, Problem::Key, field("keys[1].old")));
    assert_eq!(again(&|c| c.old_ssh_ca = ssh(9)), (2, Problem::Key, field("keys[1].old_ssh_ca")));
    assert_eq!(again(&|c| c.new_ssh_ca = ssh(1)), (2, Problem::Implausible, field("keys[1].new_ssh_ca")));
    assert_eq!(again(&|c| c.at = Timestamp(500 * SECOND)), (2, Problem::Implausible, field("keys[1].at")));
    assert_eq!(again(&|c| c.ssh_until = Timestamp(0)), (2, Problem::Implausible, field("keys[1].ssh_until")));
}

/// One bit of every byte of each change: told as that change's, or the line can't be read any more.
#[test]
fn a_turned_bit_of_a_change_is_found_in_that_change() {
    let text = with_keys(1000, &market());
    let starts: Vec<usize> = text.match_indices("{\"payload\"").map(|(at, _)| at).take(2).collect();
    let mut named = 0;
    for (n, start) in starts.iter().enumerate() {
        let length = text[*start..].find('}').and_then(|_| text[*start..].find("\"}")).unwrap();
        for at in *start..start + length {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1 << (at * 3 % 7);
            let Verdict::Fails(fault) = verify(&changed, None) else { panic!("a bit of byte {at} is missed") };
            let of_it = fault.field.as_ref().is_some_and(|field| field.starts_with(&format!("keys[{n}]")));
            assert!(fault.line == 2 && (of_it || fault.problem == Problem::Malformed), "byte {at}: {fault:?}");
            named += usize::from(of_it);
        }
    }
    assert!(starts.len() == 2 && named > 1000, "{named}");
}
