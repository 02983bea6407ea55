//! The market's own keys: files of its data directory, outside the database, readable by its
//! owner only. Whoever copies the database gets none of them.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use sublet_model::identity::SecretKey;
use sublet_model::market_keys::{BadLink, KeyChain, KeyRecord};
use sublet_model::units::Timestamp;

mod rotate;

pub use rotate::{RotateError, Rotated, rotate, tidy};

/// The folder of the data directory in which they are.
const FOLDER: &str = "keys";
/// The changes of keys, as they were signed. It decides which files are the newest: so they change together.
const CHANGES: &str = "changes.json";
/// Of a market that changed its keys: what secrets are made from.
const ROOT: &str = "secrets.seed";

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
    /// The changes of keys don't follow each other.
    #[error("{path} can't be believed: restore it from a backup, with the keys beside it")]
    Chain {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<BadLink>,
    },
    /// One of another time than the others.
    #[error("{0} is not the key to which the changes beside it lead: put the folder `keys` back as it was, whole")]
    NotOfChanges(PathBuf),
}

/// What the market signs with.
#[derive(Clone)]
pub struct Keys {
    /// Signs terms.
    pub signing: SecretKey,
    /// Signs the SSH certificates of clients.
    pub ssh_ca: PrivateKey,
    /// The SSH authority before, while hosts accept it: for those that don't know the newest yet.
    pub old_ssh_ca: Option<(PrivateKey, Timestamp)>,
    /// How both came to be the market's, from its first ones on.
    pub chain: KeyChain,
    /// What secrets that it need not keep are made from. It signs nothing, and stays.
    pub root: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys(of {})", self.signing.public())
    }
}

impl Keys {
    /// New keys, not stored.
    pub fn generate() -> Self {
        let signing = SecretKey::from_seed(&sublet_wire::random_bytes());
        let ssh_ca = ssh_ca(Ed25519Keypair::from_seed(&sublet_wire::random_bytes()));
        let (chain, root) = (KeyChain::new(signing.public()), root_of(&signing));
        Self { signing, ssh_ca, old_ssh_ca: None, chain, root }
    }

    /// Makes new keys and stores them below `dir`; refuses to write over any.
    pub fn create(dir: &Path) -> Result<Self, KeysError> {
        let keys = Self::generate();
        let folder = dir.join(FOLDER);
        private_dir(&folder)?;
        private_file(&folder.join(market_key(0)), seed_text(&keys.signing.seed()).as_bytes())?;
        let ca = folder.join(ssh_ca_file(0));
        private_file(&ca, ssh_text(&keys.ssh_ca, &ca)?.as_bytes())?;
        Ok(keys)
    }

    /// Reads the keys below `dir`; refuses any that others may read, and any that don't belong together.
    pub fn load(dir: &Path) -> Result<Self, KeysError> {
        let folder = dir.join(FOLDER);
        let records = changes(&folder)?;
        let number = records.len();
        let signing_path = folder.join(market_key(number));
        let signing = SecretKey::from_seed(&seed(&signing_path)?);
        let chain = KeyChain::told(&records, signing.public())
            .map_err(|source| KeysError::Chain { path: folder.join(CHANGES), source: Box::new(source) })?;
        if chain.newest() != signing.public() {
            return Err(KeysError::NotOfChanges(signing_path));
        }
        let ca_path = folder.join(ssh_ca_file(number));
        let ssh_ca = ssh_key(&ca_path)?;
        if chain.changes().last().is_some_and(|last| last.new_ssh_ca != ssh_line(&ssh_ca)) {
            return Err(KeysError::NotOfChanges(ca_path));
        }
        let root = if number == 0 { root_of(&signing) } else { seed(&folder.join(ROOT))? };
        Ok(Self { signing, ssh_ca, old_ssh_ca: old_ssh_ca(&folder, &chain)?, chain, root })
    }

    /// The SSH certificate authority as hosts are told it, in OpenSSH's form, without a comment.
    pub fn ssh_ca_public(&self) -> String {
        ssh_line(&self.ssh_ca)
    }

    /// Which authority signs for a host, and until when its certificates are accepted: the one before while
    /// the host does not know the newest, as long as that is accepted.
    pub fn ssh_authority(&self, knows_newest: bool, now: Timestamp) -> (&PrivateKey, Option<Timestamp>) {
        match &self.old_ssh_ca {
            Some((old, until)) if !knows_newest && now < *until => (old, Some(*until)),
            _ => (&self.ssh_ca, None),
        }
    }
}

/// The changes of keys that are kept; none before the first.
fn changes(folder: &Path) -> Result<Vec<KeyRecord>, KeysError> {
    let path = folder.join(CHANGES);
    if !path.exists() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&read_private(&path)?).map_err(|_| KeysError::Unreadable(path))
}

/// It goes when it is not accepted any more.
fn old_ssh_ca(folder: &Path, chain: &KeyChain) -> Result<Option<(PrivateKey, Timestamp)>, KeysError> {
    let Some(last) = chain.changes().last() else { return Ok(None) };
    let path = folder.join(ssh_ca_file(chain.changes().len() - 1));
    if !path.exists() {
        return Ok(None);
    }
    let old = ssh_key(&path)?;
    if ssh_line(&old) != last.old_ssh_ca { Err(KeysError::NotOfChanges(path)) } else { Ok(Some((old, last.ssh_until))) }
}

/// Signs terms: the file of the key after so many changes.
fn market_key(number: usize) -> String {
    if number == 0 { "market.key".into() } else { format!("market-{number}.key") }
}

/// Signs the SSH certificates of clients: the file of the authority after so many changes.
fn ssh_ca_file(number: usize) -> String {
    if number == 0 { "ssh_ca".into() } else { format!("ssh_ca-{number}") }
}

/// From it the key that signs can't be told.
fn root_of(signing: &SecretKey) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&signing.seed()).expect("HMAC takes keys of any length");
    mac.update(b"sublet secrets 1");
    mac.finalize().into_bytes().into()
}

fn seed_text(seed: &[u8; 32]) -> String {
    BASE64.encode(seed)
}

fn seed(path: &Path) -> Result<[u8; 32], KeysError> {
    let unreadable = || KeysError::Unreadable(path.into());
    let seed = BASE64.decode(read_private(path)?.trim().as_bytes()).map_err(|_| unreadable())?;
    seed.try_into().map_err(|_| unreadable())
}

fn ssh_text(key: &PrivateKey, path: &Path) -> Result<String, KeysError> {
    key.to_openssh(LineEnding::LF).map(|text| text.to_string()).map_err(|_| KeysError::Unreadable(path.into()))
}

fn ssh_key(path: &Path) -> Result<PrivateKey, KeysError> {
    let unreadable = || KeysError::Unreadable(path.into());
    let parsed = PrivateKey::from_openssh(read_private(path)?).map_err(|_| unreadable())?;
    match parsed.key_data() {
        KeypairData::Ed25519(pair) => Ok(ssh_ca(pair.clone())),
        _ => Err(unreadable()),
    }
}

fn ssh_line(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap_or_default()
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
