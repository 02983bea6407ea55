//! Proves that a sync belongs to a session: a MAC over session, number and body.

use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of a key, in bytes.
pub const KEY_BYTES: usize = 32;

fn mac(key: &[u8; KEY_BYTES], session: u64, seq: u64, body: &[u8]) -> Hmac<Sha256> {
    // Fixed lengths before the body: no two messages give the same bytes.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(&session.to_be_bytes());
    mac.update(&seq.to_be_bytes());
    mac.update(body);
    mac
}

/// The MAC of a body, in hexadecimal.
pub fn seal(key: &[u8; KEY_BYTES], session: u64, seq: u64, body: &[u8]) -> String {
    HEXLOWER_PERMISSIVE.encode(&mac(key, session, seq, body).finalize().into_bytes())
}

/// Whether `seal` made this MAC; in constant time.
pub fn holds(key: &[u8; KEY_BYTES], session: u64, seq: u64, body: &[u8], claimed: &str) -> bool {
    HEXLOWER_PERMISSIVE
        .decode(claimed.as_bytes())
        .is_ok_and(|claimed| mac(key, session, seq, body).verify_slice(&claimed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_holds_for_its_own_message_only() {
        let (key, other) = ([1; KEY_BYTES], [2; KEY_BYTES]);
        let seal = seal(&key, 4, 7, b"body");
        assert!(holds(&key, 4, 7, b"body", &seal));
        for (key, session, seq, body) in
            [(other, 4, 7, "body"), (key, 5, 7, "body"), (key, 4, 8, "body"), (key, 4, 7, "bodx"), (key, 4, 7, "")]
        {
            assert!(!holds(&key, session, seq, body.as_bytes(), &seal));
        }
        for claimed in ["", "zz", &seal[..62], &format!("{seal}00")] {
            assert!(!holds(&key, 4, 7, b"body", claimed));
        }
    }
}
