//! The market's own keys: files of its data directory, outside the database, readable by its
//! owner only. Whoever copies the database gets none of them.

use data_encoding::BASE64;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use sublet_model::identity::SecretKey;

/// The folder of the data directory in which they are.
const FOLDER: &str = "keys";
/// Signs terms.
const MARKET_KEY: &str = "market.key";
/// Signs the SSH certificates of clients.
const SSH_CA: &str = "ssh_ca";

/// Why the keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file system would not.
    #[error("failed to {attempt} {path}")]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Somebody else may have read it.
    #[error("{0} can be read by others: make sure that nobody did, then `chmod 600` it")]
    Exposed(PathBuf),
    /// Not what was written there.
    #[error("{0} is not a key of this market: restore it from a backup")]
    Unreadable(PathBuf),
}

/// What the market signs with.
#[derive(Clone)]
pub struct Keys {
    /// Signs terms.
    pub signing: SecretKey,
    /// Signs the SSH certificates of clients.
    pub ssh_ca: PrivateKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys(of {})", self.signing.public())
    }
}

impl Keys {
    /// New keys, not stored.
    pub fn generate() -> Self {
        Self {
            signing: SecretKey::from_seed(&sublet_wire::random_bytes()),
            ssh_ca: ssh_ca(Ed25519Keypair::from_seed(&sublet_wire::random_bytes())),
        }
    }

    /// Makes new keys and stores them below `dir`; refuses to write over any.
    pub fn create(dir: &Path) -> Result<Self, KeysError> {
        let keys = Self::generate();
        let folder = dir.join(FOLDER);
        private_dir(&folder)?;
        private_file(&folder.join(MARKET_KEY), BASE64.encode(&keys.signing.seed()).as_bytes())?;
        let ca = folder.join(SSH_CA);
        let text = keys.ssh_ca.to_openssh(LineEnding::LF).map_err(|_| KeysError::Unreadable(ca.clone()))?;
        private_file(&ca, text.as_bytes())?;
        Ok(keys)
    }

    /// Reads the keys below `dir`; refuses any that others may read.
    pub fn load(dir: &Path) -> Result<Self, KeysError> {
        let path = dir.join(FOLDER).join(MARKET_KEY);
        let unreadable = || KeysError::Unreadable(path.clone());
        let seed = BASE64.decode(read_private(&path)?.trim().as_bytes()).map_err(|_| unreadable())?;
        let signing = SecretKey::from_seed(&seed.try_into().map_err(|_| unreadable())?);

        let path = dir.join(FOLDER).join(SSH_CA);
        let parsed = PrivateKey::from_openssh(read_private(&path)?).map_err(|_| KeysError::Unreadable(path.clone()))?;
        match parsed.key_data() {
            KeypairData::Ed25519(pair) => Ok(Self { signing, ssh_ca: ssh_ca(pair.clone()) }),
            _ => Err(KeysError::Unreadable(path)),
        }
    }

    /// The SSH certificate authority as hosts are told it, in OpenSSH's form, without a comment.
    pub fn ssh_ca_public(&self) -> String {
        self.ssh_ca.public_key().to_openssh().unwrap_or_default()
    }
}

fn ssh_ca(pair: Ed25519Keypair) -> PrivateKey {
    PrivateKey::from(pair)
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> KeysError {
    let path = path.to_owned();
    move |source| KeysError::Io { attempt, path, source }
}

/// Makes a folder that only its owner enters.
pub(crate) fn private_dir(path: &Path) -> Result<(), KeysError> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(failed("make", path))
}

/// Writes a new file that only its owner reads, durably.
pub(crate) fn private_file(path: &Path, content: &[u8]) -> Result<(), KeysError> {
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed("make", path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

/// Reads a file that only its owner may read.
pub(crate) fn read_private(path: &Path) -> Result<String, KeysError> {
    let meta = fs::metadata(path).map_err(failed("read", path))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(KeysError::Exposed(path.into()));
    }
    fs::read_to_string(path).map_err(failed("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_disk_and_are_never_overwritten_or_shared() {
        let dir = tempfile::tempdir().unwrap();
        let made = Keys::create(dir.path()).unwrap();
        let read = Keys::load(dir.path()).unwrap();
        assert_eq!(made.signing.public(), read.signing.public());
        assert_eq!(made.ssh_ca_public(), read.ssh_ca_public());
        assert!(made.ssh_ca_public().starts_with("ssh-ed25519 "));
        assert!(matches!(Keys::create(dir.path()), Err(KeysError::Io { .. })));

        let file = dir.path().join("keys/market.key");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keys::load(dir.path()), Err(KeysError::Exposed(_))));
    }

    #[test]
    fn a_damaged_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        Keys::create(dir.path()).unwrap();
        fs::write(dir.path().join("keys/market.key"), "AAAA").unwrap();
        let error = Keys::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("market.key"), "{error}");
    }
}
