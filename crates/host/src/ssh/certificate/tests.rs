//! Every certificate that must not open a lease, and the one that does.

use super::*;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::private::Ed25519Keypair;

const NOW: u64 = 1_800_000_000;

fn new_key() -> PrivateKey {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// A good certificate, changed by the test before it is signed.
fn signed(
    authority: &PrivateKey,
    change: impl FnOnce(&mut Builder),
    principals: &[&str],
    time: (u64, u64),
) -> Certificate {
    let user = new_key();
    let mut builder = Builder::new(vec![1; 16], user.public_key().key_data().clone(), time.0, time.1).unwrap();
    for principal in principals {
        builder.valid_principal(*principal).unwrap();
    }
    if principals.is_empty() {
        builder.all_principals_valid().unwrap();
    }
    change(&mut builder);
    // A type is set once: the one that `change` chose stands.
    let _ = builder.cert_type(CertType::User);
    builder.sign(authority).unwrap()
}

#[test]
fn only_the_right_certificate_opens() {
    let (market, attacker) = (new_key(), new_key());
    let key = LeaseKey { lease: "lease_a".into(), generation: 3 };
    let right = ["lease_a.g3"];
    let time = (NOW - 60, NOW + 60);
    let nothing = |_: &mut Builder| {};
    let host = |builder: &mut Builder| {
        builder.cert_type(CertType::Host).unwrap();
    };
    let forced = |builder: &mut Builder| {
        builder.critical_option("force-command", "/bin/true").unwrap();
    };
    let other_generation = || Err(Refusal::OtherGeneration { lease: "lease_a".into(), generation: 3 });
    let other_lease = || Err(Refusal::OtherLease("lease_a".into()));

    let table = [
        ("right", signed(&market, nothing, &right, time), Ok(())),
        ("among others", signed(&market, nothing, &["lease_b.g1", "lease_a.g3"], time), Ok(())),
        ("attacker's", signed(&attacker, nothing, &right, time), Err(Refusal::UnknownAuthority)),
        ("for hosts", signed(&market, host, &right, time), Err(Refusal::NotForUsers)),
        ("over", signed(&market, nothing, &right, (NOW - 60, NOW)), Err(Refusal::Expired)),
        ("early", signed(&market, nothing, &right, (NOW + 1, NOW + 60)), Err(Refusal::NotYetValid)),
        ("forced", signed(&market, forced, &right, time), Err(Refusal::CriticalOption("force-command".into()))),
        ("nobody's", signed(&market, nothing, &[], time), Err(Refusal::NoPrincipals)),
        ("older", signed(&market, nothing, &["lease_a.g2"], time), other_generation()),
        ("newer", signed(&market, nothing, &["lease_a.g31"], time), other_generation()),
        ("another's", signed(&market, nothing, &["lease_b.g3"], time), other_lease()),
        ("bare", signed(&market, nothing, &["lease_a"], time), other_lease()),
        ("longer", signed(&market, nothing, &["xlease_a.g3"], time), other_lease()),
    ];
    for (name, certificate, expected) in table {
        let authorities = [market.public_key().clone()];
        assert_eq!(check(&certificate, &key, &authorities, NOW), expected, "{name}");
        assert!(check(&certificate, &key, &[], NOW).is_err(), "{name}, without any authority");
    }
}

#[test]
fn a_changed_certificate_is_not_signed() {
    let market = new_key();
    let key = LeaseKey { lease: "lease_a".into(), generation: 3 };
    let certificate = signed(&market, |_| {}, &["lease_a.g2"], (NOW - 60, NOW + 60));
    let mut bytes = certificate.to_bytes().unwrap();
    let at = bytes.windows(10).position(|window| window == b"lease_a.g2").unwrap();
    bytes[at + 9] = b'3';
    let changed = Certificate::from_bytes(&bytes).unwrap();
    assert_eq!(check(&changed, &key, &[market.public_key().clone()], NOW), Err(Refusal::Signature));
}
