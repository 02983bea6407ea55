//! SSH user certificates: what a client shows to a host. Short-lived, for one generation of one
//! lease, and useless once that generation is gone.

use ssh_key::certificate::{Builder, CertType};
use ssh_key::public::KeyData;
use ssh_key::{PrivateKey, PublicKey};
use sublet_model::access::principal;
use sublet_model::ids::{LeaseId, MemberId};
use sublet_model::units::{Seconds, Timestamp};

/// The longest a certificate holds; asked for again while the lease lives.
pub const LONGEST: Seconds = Seconds(3600);
/// Valid from a little earlier, for hosts whose clock is a little late.
const BACKDATED: Seconds = Seconds(60);
/// The longest text of a public key that is looked at: RSA with 16384 bits needs 2800.
const LONGEST_KEY_TEXT: usize = 4096;
/// Shorter RSA keys are refused.
const SHORTEST_RSA_BITS: usize = 3072;
const LONGEST_RSA_BITS: usize = 16_384;

/// What a client may do with the certificate. Forwards go into the guest only: the host sees to it.
const EXTENSIONS: [&str; 3] = ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty"];

/// Why a certificate can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The client's key can't be used.
    #[error("ssh_public_key: {0}")]
    Key(String),
    /// Nothing is left of the lease.
    #[error("the lease is over: no certificate would hold")]
    Over,
    /// The authority could not sign.
    #[error("failed to sign an SSH certificate: {0}")]
    Signing(String),
}

/// Whose right it certifies, and until when at the latest.
#[derive(Debug, Clone, Copy)]
pub struct Right {
    /// Of which lease.
    pub lease: LeaseId,
    /// The generation of its partition: an older one's certificate opens nothing.
    pub generation: u64,
    /// Who asked; stands in the key id, for the host's log.
    pub member: MemberId,
    /// The end of the lease.
    pub ends_at: Timestamp,
}

/// A certificate in OpenSSH's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// One line, to be kept beside the key as `…-cert.pub`.
    pub text: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Checks the client's key: one line of OpenSSH's form, of a type and strength that is accepted.
pub fn check_key(text: &str) -> Result<PublicKey, CertificateError> {
    let wrong = |why: &str| Err(CertificateError::Key(why.into()));
    let text = text.trim_end_matches(['\r', '\n']);
    if text.len() > LONGEST_KEY_TEXT {
        return wrong("longer than any key: send the one line of the .pub file");
    }
    if text.chars().any(char::is_control) {
        return wrong("must be one line, as in the .pub file");
    }
    let Ok(key) = PublicKey::from_openssh(text) else {
        return wrong("is no public key in OpenSSH's form, such as `ssh-ed25519 AAAA…`");
    };
    match key.key_data() {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => Ok(key),
        KeyData::Rsa(rsa) => {
            let bits = rsa.n.as_positive_bytes().map_or(0, |n| n.len() * 8);
            if !(SHORTEST_RSA_BITS..=LONGEST_RSA_BITS).contains(&bits) {
                return wrong("RSA needs 3072 to 16384 bits; better make an Ed25519 key: `ssh-keygen -t ed25519`");
            }
            Ok(key)
        }
        _ => wrong("only ed25519, ecdsa and rsa keys are accepted; make one with `ssh-keygen -t ed25519`"),
    }
}

/// Certifies `key` for a lease, from a minute ago to an hour ahead or the lease's end.
pub fn certify(ca: &PrivateKey, key: &str, right: Right, now: Timestamp) -> Result<Certificate, CertificateError> {
    let key = check_key(key)?;
    let expires_at = right.ends_at.min(now.after(LONGEST));
    if expires_at <= now {
        return Err(CertificateError::Over);
    }
    let signing = |e: ssh_key::Error| CertificateError::Signing(e.to_string());
    let nonce = sublet_wire::random_bytes::<16>().to_vec();
    // Counted from its end: `now` is later than 1970 by more than a minute on any market.
    let seconds = |at: Timestamp| u64::try_from(at.0.div_euclid(1_000_000)).unwrap_or(0);
    let from = seconds(now.after(Seconds(-BACKDATED.0)));
    // A certificate holds while now < valid_before: rounded down it never outlives the lease.
    let before = seconds(expires_at).max(from + 1);
    let mut builder = Builder::new(nonce, key.key_data().clone(), from, before).map_err(signing)?;
    builder.serial(u64::from_be_bytes(sublet_wire::random_bytes::<8>()) >> 1).map_err(signing)?;
    builder.cert_type(CertType::User).map_err(signing)?;
    builder.key_id(format!("{} by {}", right.lease, right.member)).map_err(signing)?;
    builder.valid_principal(principal(right.lease, right.generation)).map_err(signing)?;
    for extension in EXTENSIONS {
        builder.extension(extension, "").map_err(signing)?;
    }
    let text = builder.sign(ca).and_then(|c| c.to_openssh()).map_err(signing)?;
    Ok(Certificate { text, expires_at: Timestamp(i64::try_from(before).unwrap_or(0).saturating_mul(1_000_000)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;
    use std::process::Command;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn right(ends_at: Timestamp) -> Right {
        Right { lease: Uuid::from_u128(5).into(), generation: 7, member: Uuid::from_u128(6).into(), ends_at }
    }

    /// A key made by the real ssh-keygen.
    fn client_key(kind: &str, bits: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "me@here", "-f"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        std::fs::read_to_string(path.with_extension("pub")).unwrap()
    }

    #[test]
    fn ssh_keygen_reads_what_was_certified() {
        let keys = Keys::generate();
        for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("rsa", "3072")] {
            let key = client_key(kind, bits);
            let made = certify(&keys.ssh_ca, &key, right(NOW.after(Seconds(90))), NOW).unwrap();
            assert_eq!(made.expires_at, NOW.after(Seconds(90)));
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("key-cert.pub");
            std::fs::write(&path, &made.text).unwrap();
            let listed = Command::new("ssh-keygen").arg("-L").arg("-f").arg(&path).output().unwrap();
            let listed = String::from_utf8(listed.stdout).unwrap();
            let lease = right(NOW).lease;
            for wanted in ["user certificate", &format!("{lease}.g7"), &format!("{lease} by mem_"), "permit-pty"] {
                assert!(listed.contains(wanted), "{wanted} in {listed}");
            }
            for unwanted in ["permit-X11-forwarding", "permit-user-rc", "forever"] {
                assert!(!listed.contains(unwanted), "{unwanted} in {listed}");
            }
            let fingerprint = keys.ssh_ca.public_key().fingerprint(Default::default()).to_string();
            assert!(listed.contains(&fingerprint), "{fingerprint} in {listed}");
        }
    }

    #[test]
    fn a_certificate_never_outlives_the_lease_or_an_hour() {
        let keys = Keys::generate();
        let key = client_key("ed25519", "256");
        let until = |ends| certify(&keys.ssh_ca, &key, right(ends), NOW).map(|c| c.expires_at);
        assert_eq!(until(NOW.after(Seconds(9000))), Ok(NOW.after(LONGEST)));
        assert_eq!(until(NOW.after(Seconds(5))), Ok(NOW.after(Seconds(5))));
        assert_eq!(until(NOW), Err(CertificateError::Over));
        assert_eq!(until(Timestamp(0)), Err(CertificateError::Over));
    }

    #[test]
    fn keys_of_another_form_are_refused_in_words() {
        let good = client_key("ed25519", "256");
        for (bad, word) in [
            (String::new(), "OpenSSH"),
            ("ssh-ed25519".into(), "OpenSSH"),
            ("ssh-ed25519 AAAA".into(), "OpenSSH"),
            (format!("{good}{good}"), "one line"),
            (format!("command=\"x\" {good}"), "OpenSSH"),
            ("x".repeat(5000), "longer"),
            (client_key("rsa", "2048"), "3072"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n".into(), "OpenSSH"),
        ] {
            let error = check_key(&bad).unwrap_err().to_string();
            assert!(error.contains(word), "{bad:?}: {error}");
            assert!(error.len() < 200);
        }
    }
}
