//! Signed statements. What is signed travels as the very text that was signed, so that nobody
//! has to agree on how to write a structure twice the same way.

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use utoipa::ToSchema;

/// An Ed25519 public key, written in base 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

/// The SHA-256 of some bytes, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// Why a signed text is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a key, digest or signature at all.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// Signed by a key that is not the one expected.
    #[error("signed by another key than the one expected")]
    OtherKey,
    /// The text is not what was signed.
    #[error("the signature does not hold for this text")]
    BadSignature,
    /// The text was signed, but is not of the kind expected.
    #[error("signed, but not readable: {0}")]
    Unreadable(String),
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| IdentityError::Malformed("public key"))?;
        bytes.try_into().map(Self).map_err(|_| IdentityError::Malformed("public key"))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Sha256Digest {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| IdentityError::Malformed("SHA-256 digest"))?;
        bytes.try_into().map(Self).map_err(|_| IdentityError::Malformed("SHA-256 digest"))
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'_, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                String::schema()
            }
        }
        impl ToSchema for $name {}
    )*};
}

as_text!(PublicKey Sha256Digest);

/// A key that signs. Made outside the model, from 32 random bytes.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

impl SecretKey {
    /// The key whose seed these bytes are.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be kept in a file that only its owner reads.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The half that others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes that say themselves what they are for.
    pub fn sign_bytes(&self, bytes: &[u8]) -> String {
        BASE64.encode(&self.0.sign(bytes).to_bytes())
    }
}

impl PublicKey {
    /// Checks a signature made by [`SecretKey::sign_bytes`].
    pub fn verify_bytes(&self, bytes: &[u8], signature: &str) -> Result<(), IdentityError> {
        let raw = BASE64.decode(signature.as_bytes()).map_err(|_| IdentityError::Malformed("signature"))?;
        let signature = Signature::from_slice(&raw).map_err(|_| IdentityError::Malformed("signature"))?;
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| IdentityError::Malformed("public key"))?;
        key.verify(bytes, &signature).map_err(|_| IdentityError::BadSignature)
    }
}

/// What is signed says in its first bytes what it is, so that a signature over one thing can't
/// be passed off as a signature over another.
pub trait Statement: Serialize + DeserializeOwned {
    /// Such as `sublet receipt 1`.
    const KIND: &'static str;
}

/// A statement, the key that signed it and the signature.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Signed<T> {
    /// The statement as JSON, exactly as it was signed.
    pub payload: String,
    /// Who signed.
    pub key: PublicKey,
    /// Ed25519 over the kind, a newline, and the payload; base 64.
    pub signature: String,
    #[serde(skip)]
    #[schema(ignore)]
    kind: PhantomData<T>,
}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} by {})", self.payload, self.key)
    }
}

fn signed_bytes(kind: &str, payload: &str) -> Vec<u8> {
    format!("{kind}\n{payload}").into_bytes()
}

impl<T: Statement> Signed<T> {
    /// Signs a statement.
    pub fn sign(statement: &T, key: &SecretKey) -> Result<Self, IdentityError> {
        let payload = serde_json::to_string(statement).map_err(|e| IdentityError::Unreadable(e.to_string()))?;
        let signature = key.sign_bytes(&signed_bytes(T::KIND, &payload));
        Ok(Self { payload, key: key.public(), signature, kind: PhantomData })
    }

    /// The statement, if `key` signed it.
    pub fn verify(&self, key: &PublicKey) -> Result<T, IdentityError> {
        if self.key != *key {
            return Err(IdentityError::OtherKey);
        }
        key.verify_bytes(&signed_bytes(T::KIND, &self.payload), &self.signature)?;
        self.read()
    }

    /// As [`Self::verify`], and the text is the one way to write the statement: a program in another
    /// language can't read something else in it.
    pub fn verify_plain(&self, key: &PublicKey) -> Result<T, IdentityError> {
        let statement = self.verify(key)?;
        match serde_json::to_string(&statement) {
            Ok(text) if text == self.payload => Ok(statement),
            _ => Err(IdentityError::Unreadable("members are missing, doubled or oddly written".into())),
        }
    }

    /// The statement, believed without a look at the signature: for what was checked at intake.
    pub fn read(&self) -> Result<T, IdentityError> {
        serde_json::from_str(&self.payload).map_err(|e| IdentityError::Unreadable(e.to_string()))
    }

    /// What the next statement of a chain, or a lease, calls this one.
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(&signed_bytes(T::KIND, &self.payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Note(String);
    impl Statement for Note {
        const KIND: &'static str = "test note 1";
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Other(String);
    impl Statement for Other {
        const KIND: &'static str = "test other 1";
    }

    #[test]
    fn only_the_text_that_was_signed_by_that_key_is_believed() {
        let (key, thief) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let signed = Signed::sign(&Note("pay 5".into()), &key).unwrap();
        assert_eq!(signed.verify(&key.public()), Ok(Note("pay 5".into())));

        let mut altered = signed.clone();
        altered.payload = altered.payload.replace('5', "6");
        assert_eq!(altered.verify(&key.public()), Err(IdentityError::BadSignature));

        let forged = Signed::sign(&Note("pay 5".into()), &thief).unwrap();
        assert_eq!(forged.verify(&key.public()), Err(IdentityError::OtherKey));
        let mut relabelled = forged.clone();
        relabelled.key = key.public();
        assert_eq!(relabelled.verify(&key.public()), Err(IdentityError::BadSignature));
    }

    #[test]
    fn what_is_oddly_written_is_not_plain() {
        let key = SecretKey::from_seed(&[1; 32]);
        let mut signed = Signed::sign(&Note("x".into()), &key).unwrap();
        assert_eq!(signed.verify_plain(&key.public()), Ok(Note("x".into())));
        signed.payload = " \"\\u0078\"".into();
        signed.signature = key.sign_bytes(&signed_bytes(Note::KIND, &signed.payload));
        assert_eq!(signed.verify(&key.public()), Ok(Note("x".into())));
        assert!(matches!(signed.verify_plain(&key.public()), Err(IdentityError::Unreadable(_))));
    }

    #[test]
    fn a_signature_over_one_kind_is_none_over_another() {
        let key = SecretKey::from_seed(&[1; 32]);
        let note = Signed::sign(&Note("x".into()), &key).unwrap();
        let passed_off: Signed<Other> = serde_json::from_str(&serde_json::to_string(&note).unwrap()).unwrap();
        assert_eq!(passed_off.verify(&key.public()), Err(IdentityError::BadSignature));
    }
}
