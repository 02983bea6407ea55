//! The host's keys: files that only its owner reads, made once.

use super::{Result, Store, StoreError};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use sublet_model::identity::SecretKey;

/// The host's keys.
#[derive(Clone)]
pub struct Keys {
    /// Proves who the host is, and signs its receipts.
    pub identity: SecretKey,
    /// The SSH host key that clients pin, in OpenSSH's private form.
    pub ssh_private: String,
    /// Its public half, in OpenSSH's form.
    pub ssh_public: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys(of {})", self.identity.public())
    }
}

/// Certificates hold from so much earlier on, should the clock be set back.
const BACKDATED_SECONDS: u64 = 60;
/// No key file is longer.
const MAX_KEY_BYTES: u64 = 16 * 1024;

impl Store {
    /// The host's keys; made if there are none.
    pub fn keys(&self) -> Result<Keys> {
        let dir = self.state().join("keys");
        let seed = kept(&dir.join("identity.seed"), || Ok(sublet_wire::random_bytes::<32>().to_vec()))?;
        let path = dir.join("identity.seed");
        let seed: [u8; 32] = seed.try_into().map_err(|_| unfit(&path, "it must hold exactly 32 bytes"))?;

        let path = dir.join("ssh_host_ed25519_key");
        let (private, key) = ssh_key_in(&path)?;
        let public = key.public_key().to_openssh().map_err(|e| unfit(&path, &e.to_string()))?;
        Ok(Keys { identity: SecretKey::from_seed(&seed), ssh_private: private, ssh_public: public })
    }

    /// What certifies the owner; made if there is none.
    pub fn own_authority(&self) -> Result<OwnAuthority> {
        ssh_key_in(&self.state().join("keys/own_authority_ed25519_key")).map(|(_, key)| OwnAuthority(key))
    }
}

/// An SSH key, and its text.
fn ssh_key_in(path: &Path) -> Result<(String, PrivateKey)> {
    let private = kept(path, || {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519);
        let text = key.and_then(|key| key.to_openssh(LineEnding::LF));
        text.map(|text| text.as_bytes().to_vec()).map_err(|e| unfit(path, &e.to_string()))
    })?;
    let private = String::from_utf8(private).map_err(|_| unfit(path, "it is not text"))?;
    let key = PrivateKey::from_openssh(&private).map_err(|e| unfit(path, &e.to_string()))?;
    Ok((private, key))
}

/// Certifies the owner to the owner's own partitions.
#[derive(Clone)]
pub struct OwnAuthority(PrivateKey);

impl std::fmt::Debug for OwnAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnAuthority(…)")
    }
}

impl OwnAuthority {
    /// Its public half, in OpenSSH's form.
    pub fn public(&self) -> std::result::Result<String, ssh_key::Error> {
        self.0.public_key().to_openssh()
    }

    /// Certifies an SSH key for a partition, from a minute ago to `until`, in seconds since 1970.
    pub fn certify(
        &self,
        key: &PublicKey,
        principal: &str,
        now: u64,
        until: u64,
    ) -> std::result::Result<String, ssh_key::Error> {
        let nonce = sublet_wire::random_bytes::<16>().to_vec();
        let mut builder = Builder::new(nonce, key.key_data().clone(), now.saturating_sub(BACKDATED_SECONDS), until)?;
        builder.serial(u64::from_be_bytes(sublet_wire::random_bytes::<8>()) >> 1)?;
        builder.cert_type(CertType::User)?;
        builder.key_id("the owner")?;
        builder.valid_principal(principal)?;
        for extension in ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty"] {
            builder.extension(extension, "")?;
        }
        builder.sign(&self.0)?.to_openssh()
    }
}

fn unfit(path: &Path, problem: &str) -> StoreError {
    let problem = format!("{problem}; restore it from a backup, or join again with a new state directory");
    StoreError::Unfit { path: path.to_owned(), problem }
}

/// The bytes of a key file; made durably if it is missing, never half.
fn kept(path: &Path, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let failed = |attempt| move |source| StoreError::File { attempt, path: path.to_owned(), source };
    match File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_KEY_BYTES).read_to_end(&mut bytes).map_err(failed("read"))?;
            return Ok(bytes);
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed("read")(e)),
    }
    let bytes = make()?;
    let new = PathBuf::from(format!("{}.new", path.display()));
    let written =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, path)?;
            File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
        });
    written.map_err(failed("write"))?;
    Ok(bytes)
}
