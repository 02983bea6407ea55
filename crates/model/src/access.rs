//! The certification information: how a client authenticates to a partition, and where.

use crate::ids::LeaseId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a partition lets a client in. Stands in the partition's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Certification {
    /// By what a client proves its right.
    pub method: Method,
    /// The key that signs client certificates, in OpenSSH's form.
    pub ca: String,
    /// The host's SSH host key, in OpenSSH's form: pinned, never trusted on first use.
    pub host_key: String,
    /// Where to dial, such as `127.0.0.1:40222`.
    pub dial: String,
}

/// By what a client proves its right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// An SSH user certificate whose principal names lease and generation.
    SshCertificate,
}

/// The principal that a certificate must carry: an older generation's opens nothing.
pub fn principal(lease: LeaseId, generation: u64) -> String {
    format!("{lease}.g{generation}")
}
