use super::*;

/// The n-th key of a market of some seed.
fn key(seed: u8, n: u8) -> SecretKey {
    SecretKey::from_seed(&[seed.wrapping_mul(16).wrapping_add(n); 32])
}

fn ssh(n: u8) -> String {
    format!("ssh-ed25519 AAAA{:064}", n)
}

fn second(n: i64) -> Timestamp {
    Timestamp(n * 1_000_000)
}

fn turn<'a>(old: &'a SecretKey, new: &'a SecretKey, n: u8) -> Turn<'a> {
    let at = i64::from(n) * 1000;
    let (at, ssh_until) = (second(at), second(at + 3600));
    Turn { old, new, old_ssh_ca: ssh(n - 1), new_ssh_ca: ssh(n), at, ssh_until }
}

/// A market that took new keys so many times, at 1000 s, 2000 s and so on.
fn chain(seed: u8, changes: u8) -> KeyChain {
    (1..=changes).fold(KeyChain::new(key(seed, 0).public()), |chain, n| {
        chain.turned(turn(&key(seed, n - 1), &key(seed, n), n)).unwrap()
    })
}

/// One change of a chain as somebody with all the keys would write it.
fn rewritten(chain: &KeyChain, at: usize, alter: impl Fn(&mut KeyChange)) -> Vec<KeyRecord> {
    let mut records = chain.records().to_vec();
    let mut change = chain.changes()[at].clone();
    alter(&mut change);
    let n = u8::try_from(at).unwrap();
    let Signed { payload, key: by, signature, .. } = Signed::sign(&change, &key(1, n)).unwrap();
    let proof = key(1, n + 1).sign_bytes(&proof_of(&payload));
    records[at] = KeyRecord { payload, key: by, signature, proof };
    records
}

#[test]
fn whoever_knows_the_first_key_follows_to_the_newest() {
    let three = chain(1, 3);
    assert_eq!(KeyChain::read(three.first(), three.records()), Ok(three.clone()));
    assert_eq!((three.newest(), three.keys().count()), (key(1, 3).public(), 4));
    assert!(three.has(key(1, 2).public()) && !three.has(key(2, 2).public()));
    for (at, signer) in [(0, 0), (999, 0), (1000, 1), (1999, 1), (2000, 2), (9999, 3)] {
        assert_eq!(three.signer_at(second(at)), key(1, signer).public(), "{at}");
    }
    let just_before = Timestamp(second(1000).0 - 1);
    assert_eq!(three.signer_at(just_before), key(1, 0).public());
    // To the last moment of the overlap, and not a moment later; several within one overlap.
    assert_eq!(three.ssh_authorities(second(3000), &[]), [ssh(3), ssh(2), ssh(1), ssh(0)]);
    assert_eq!(three.ssh_authorities(second(4600), &[]), [ssh(3), ssh(2), ssh(1), ssh(0)]);
    assert_eq!(three.ssh_authorities(Timestamp(second(4600).0 + 1), &[]), [ssh(3), ssh(2), ssh(1)]);
    assert_eq!(three.ssh_authorities(second(9000), &[]), [ssh(3)]);
    assert!(chain(1, 0).ssh_authorities(second(0), &[]).is_empty() && chain(1, 0).head().is_none());
}

#[test]
fn what_does_not_follow_is_named() {
    use LinkProblem as P;
    let three = chain(1, 3);
    let told = |records: &[KeyRecord]| {
        let bad = KeyChain::read(three.first(), records).unwrap_err();
        (bad.number, bad.problem)
    };
    let all = three.records();
    let text = |key: &SecretKey| key.public().to_string();
    let by = |expected: u8, found: u8| P::Key { expected: text(&key(1, expected)), found: text(&key(1, found)) };

    let skipped = [all[0].clone(), all[2].clone()];
    assert_eq!(told(&skipped), (2, by(1, 2)));
    let replayed = [all[0].clone(), all[0].clone()];
    assert_eq!(told(&replayed), (2, by(1, 0)));
    assert_eq!(told(&all[1..]), (1, by(0, 1)));

    // What anybody can do to a record.
    let altered = |alter: &dyn Fn(&mut KeyRecord)| {
        let mut records = all.to_vec();
        alter(&mut records[1]);
        told(&records)
    };
    assert_eq!(altered(&|r| r.signature = all[0].signature.clone()), (2, P::Signature));
    assert_eq!(altered(&|r| r.proof = all[0].proof.clone()), (2, P::Proof));
    assert_eq!(altered(&|r| r.proof = key(1, 1).sign_bytes(&proof_of(&r.payload))), (2, P::Proof));
    // A signature over the text alone is none over the proof: it can't be had from what the key signs otherwise.
    let other_word =
        |r: &mut KeyRecord| r.proof = key(1, 2).sign_bytes(format!("sublet key 1\n{}", r.payload).as_bytes());
    assert_eq!(altered(&other_word), (2, P::Proof));
    assert_eq!(altered(&|r| r.payload = r.payload.replace("2000", "2001")), (2, P::Signature));
    assert_eq!(altered(&|r| r.key = key(2, 1).public()).0, 2);
    let spaced = |r: &mut KeyRecord| {
        r.payload = r.payload.replacen(':', ": ", 1);
        r.signature = key(1, 1).sign_bytes(format!("sublet key 1\n{}", r.payload).as_bytes());
    };
    assert_eq!(altered(&spaced), (2, P::Malformed));

    // What only who has the keys can do.
    let by_owner = |alter: &dyn Fn(&mut KeyChange)| told(&rewritten(&three, 1, alter));
    assert_eq!(by_owner(&|c| c.number = 3), (2, P::Number { expected: 2, found: 3 }));
    assert!(matches!(by_owner(&|c| c.previous = None), (2, P::Previous { .. })));
    assert!(matches!(by_owner(&|c| c.previous = three.head()), (2, P::Previous { .. })));
    assert!(matches!(by_owner(&|c| c.old = key(1, 0).public()), (2, P::Old { .. })));
    assert!(matches!(by_owner(&|c| c.old_ssh_ca = ssh(9)), (2, P::OldSshCa { .. })));
    assert_eq!(by_owner(&|c| c.new = key(2, 2).public()), (2, P::Proof));
    for (member, alter) in [
        ("new_ssh_ca", (&|c: &mut KeyChange| c.new_ssh_ca = ssh(0)) as &dyn Fn(&mut KeyChange)),
        ("new_ssh_ca", &|c| c.new_ssh_ca = ssh(1)),
        ("new_ssh_ca", &|c| c.new_ssh_ca = format!("{} me", ssh(7))),
        ("new_ssh_ca", &|c| c.new_ssh_ca = "ssh-rsa AAAA".into()),
        ("at", &|c| c.at = second(1000)),
        ("at", &|c| c.at = Timestamp(-1)),
        ("at", &|c| c.at = Timestamp(i64::MAX)),
        ("ssh_until", &|c| c.ssh_until = Timestamp(c.at.0 - 1)),
        ("ssh_until", &|c| c.ssh_until = Timestamp(i64::MAX)),
    ] {
        assert_eq!(by_owner(alter), (2, P::Implausible(member)));
    }
    // What is altered in one change, the next one does not name.
    let moved = rewritten(&three, 0, |c| c.ssh_until = second(9000));
    assert!(matches!(told(&moved), (2, P::Previous { .. })));
}

#[test]
fn a_key_that_was_given_up_is_never_taken_again() {
    let (two, old) = (chain(1, 2), key(1, 2));
    let back = |new: &SecretKey, ca: u8| {
        let turn = Turn { new_ssh_ca: ssh(ca), ..turn(&old, new, 3) };
        two.clone().turned(turn).unwrap_err().problem
    };
    for n in 0..=2 {
        assert_eq!(back(&key(1, n), 3), LinkProblem::Implausible("new"));
        assert_eq!(back(&key(1, 3), n), LinkProblem::Implausible("new_ssh_ca"));
    }
    // Nor by a stranger, however well signed by his own key.
    let stranger = two.clone().turned(turn(&key(2, 2), &key(2, 3), 3)).unwrap_err();
    assert!(matches!(stranger, BadLink { number: 3, problem: LinkProblem::Key { .. } }), "{stranger}");
}

#[test]
fn only_what_extends_the_chain_that_is_known_is_followed() {
    let (none, one, three) = (chain(1, 0), chain(1, 1), chain(1, 3));
    assert_eq!(none.follow(three.records()), Ok(Some(three.clone())));
    assert_eq!(one.follow(three.records()), Ok(Some(three.clone())));
    assert_eq!(three.follow(three.records()), Ok(None));
    assert_eq!(none.follow(&[]), Ok(None));
    let shortened = |known, offered| Err(NotFollowed::Shortened { known, offered });
    assert_eq!(three.follow(one.records()), shortened(3, 1));
    assert_eq!(one.follow(&[]), shortened(1, 0));

    // A thief of the first key takes another one with it: whoever knows the true change is not led away.
    let fork = none.clone().turned(turn(&key(1, 0), &key(2, 1), 1)).unwrap();
    assert_eq!(one.follow(fork.records()), Err(NotFollowed::Forked { number: 1 }));
    let longer = fork.clone().turned(turn(&key(2, 1), &key(2, 2), 2)).unwrap();
    assert_eq!(one.follow(longer.records()), Err(NotFollowed::Forked { number: 1 }));
    assert_eq!(three.follow(longer.records()), Err(NotFollowed::Forked { number: 1 }));

    // Another market's, and one that is cut off at its beginning.
    let begins = Err(NotFollowed::Begins { known: none.first() });
    assert_eq!(none.follow(chain(2, 2).records()), begins);
    assert_eq!(none.follow(&three.records()[1..]), begins);
    let mut broken = three.records().to_vec();
    broken[2].signature = broken[1].signature.clone();
    let bad = BadLink { number: 3, problem: LinkProblem::Signature };
    assert_eq!(one.follow(&broken), Err(NotFollowed::Bad(bad)));
    assert_eq!(one.newest(), key(1, 1).public(), "nothing of it is taken");
}

#[test]
fn there_is_an_end_to_changes() {
    let first = KeyChain::new(key(1, 0).public());
    let many = vec![chain(1, 1).records()[0].clone(); MOST_CHANGES + 1];
    let told = |result: Result<KeyChain, BadLink>| result.unwrap_err().problem;
    assert_eq!(told(KeyChain::read(first.first(), &many)), LinkProblem::TooMany);
    assert!(matches!(first.follow(&many), Err(NotFollowed::Bad(BadLink { problem: LinkProblem::TooMany, .. }))));
}
