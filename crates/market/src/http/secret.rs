//! Secrets of tokens. Made from the market's secrets and the request that asks for them, so that a
//! repeated request gives the same secret though nobody stored it.

use crate::engine::command::Idempotency;
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A secret with this prefix for this request.
pub fn secret(root: &[u8; 32], prefix: &str, once: &Idempotency) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(root).expect("HMAC takes keys of any length");
    // No part can run into the next: each but the last has a fixed length or ends in a line break,
    // which neither an id nor an idempotency key contains.
    for part in ["sublet token secret 1", prefix, &once.member.to_string(), &once.key] {
        mac.update(part.as_bytes());
        mac.update(b"\n");
    }
    mac.update(&once.body.0);
    format!("{prefix}{}", BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::identity::Sha256Digest;
    use uuid::Uuid;

    #[test]
    fn each_request_has_a_secret_of_its_own_and_a_repeated_one_the_same() {
        let key = [1; 32];
        let once = |member, name: &str, body: &[u8]| Idempotency {
            member: Uuid::from_u128(member).into(),
            key: name.into(),
            body: Sha256Digest::of(body),
        };
        let first = secret(&key, "sublet_", &once(1, "a", b"x"));
        assert_eq!(first, secret(&key, "sublet_", &once(1, "a", b"x")));
        assert_eq!(first.len(), "sublet_".len() + 43);
        for other in [
            secret(&key, "sublet_join_", &once(1, "a", b"x")).replace("join_", ""),
            secret(&key, "sublet_", &once(2, "a", b"x")),
            secret(&key, "sublet_", &once(1, "b", b"x")),
            secret(&key, "sublet_", &once(1, "a", b"y")),
            secret(&[2; 32], "sublet_", &once(1, "a", b"x")),
        ] {
            assert_ne!(first, other);
        }
    }
}
