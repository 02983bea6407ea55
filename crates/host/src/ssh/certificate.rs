//! Who is let in: the whole rule, as a pure function of certificate, lease and time.

use super::LeaseKey;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, PublicKey};

/// Why a client was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This host serves no such lease.
    #[error("no lease {0} on this host: it may have ended, or it is elsewhere (see `sublet lease show {0}`)")]
    NoLease(String),
    /// A key without a certificate.
    #[error(
        "plain keys are not accepted, a certificate of the lease is needed: use `sublet ssh`, or \
         CertificateFile with IdentitiesOnly=yes"
    )]
    PlainKey,
    /// Signed by somebody who is not the market.
    #[error("the certificate is signed by an unknown authority, not by this host's market")]
    UnknownAuthority,
    /// Damaged, or not signed by the key it names.
    #[error("the certificate's signature is wrong")]
    Signature,
    /// A certificate for a host.
    #[error("the certificate is not one for users")]
    NotForUsers,
    /// Before its time.
    #[error("the certificate is not valid yet: check this host's and the market's clocks")]
    NotYetValid,
    /// After its time.
    #[error("the certificate has expired: fetch a new one (`sublet ssh` does)")]
    Expired,
    /// Refused by the SSH library, which tells only that it was for its time or its signature.
    #[error("the certificate has expired, is not valid yet, or is damaged: fetch a new one (`sublet ssh` does)")]
    OutOfTime,
    /// It demands what this server does not know.
    #[error("the certificate demands `{0}`, which this host does not know")]
    CriticalOption(String),
    /// It names nobody, which elsewhere means everybody.
    #[error("the certificate names no lease")]
    NoPrincipals,
    /// It is for something else.
    #[error("the certificate is for another lease, not for {0}")]
    OtherLease(String),
    /// It is for the same lease at another time.
    #[error(
        "the certificate is of another generation of {lease} than {generation}: fetch a new one (`sublet ssh` does)"
    )]
    OtherGeneration {
        /// The lease.
        lease: String,
        /// Its present generation.
        generation: u64,
    },
    /// Enough is enough.
    #[error("too many connections to {0} already")]
    TooManyConnections(String),
}

impl Refusal {
    /// A short name, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoLease(_) => "no_lease",
            Self::PlainKey => "plain_key",
            Self::UnknownAuthority => "unknown_authority",
            Self::Signature => "signature",
            Self::NotForUsers => "not_for_users",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::OutOfTime => "out_of_time",
            Self::CriticalOption(_) => "critical_option",
            Self::NoPrincipals => "no_principals",
            Self::OtherLease(_) => "other_lease",
            Self::OtherGeneration { .. } => "other_generation",
            Self::TooManyConnections(_) => "too_many_connections",
        }
    }
}

/// Whether a certificate opens a lease at a time (seconds since 1970).
///
/// That the client holds the certified key is russh's business and was checked before. What russh
/// checks of the signature is only that it fits the key *named in the certificate*, which anybody
/// can arrange: that this key is the market's is checked here.
pub fn check(
    certificate: &Certificate,
    key: &LeaseKey,
    authorities: &[PublicKey],
    now_seconds: u64,
) -> Result<(), Refusal> {
    if certificate.cert_type() != CertType::User {
        return Err(Refusal::NotForUsers);
    }
    if !authorities.iter().any(|authority| authority.key_data() == certificate.signature_key()) {
        return Err(Refusal::UnknownAuthority);
    }
    certificate.verify_signature().map_err(|_| Refusal::Signature)?;
    if now_seconds < certificate.valid_after() {
        return Err(Refusal::NotYetValid);
    }
    if now_seconds >= certificate.valid_before() {
        return Err(Refusal::Expired);
    }
    // None is known: each restricts what we would otherwise allow, so none may be passed over.
    if let Some((option, _)) = certificate.critical_options().iter().next() {
        return Err(Refusal::CriticalOption(option.escape_default().take(80).collect()));
    }
    check_principals(certificate.valid_principals(), key)
}

fn check_principals(principals: &[String], key: &LeaseKey) -> Result<(), Refusal> {
    if principals.is_empty() {
        return Err(Refusal::NoPrincipals);
    }
    let wanted = key.principal();
    if principals.contains(&wanted) {
        return Ok(());
    }
    let same_lease = |principal: &String| principal.rsplit_once(".g").is_some_and(|(lease, _)| lease == key.lease);
    if principals.iter().any(same_lease) {
        return Err(Refusal::OtherGeneration { lease: key.lease.clone(), generation: key.generation });
    }
    Err(Refusal::OtherLease(key.lease.clone()))
}

#[cfg(test)]
mod tests;
