//! The client's key: one a context, made on first use. Its private half never leaves its file.

use crate::config::{private_folder, write_private};
use anyhow::Context;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The key of one context.
#[derive(Debug, Clone)]
pub struct ClientKey {
    /// The file that `ssh -i` reads.
    pub path: PathBuf,
    /// The public half, in OpenSSH's form.
    pub public: String,
}

impl ClientKey {
    /// Reads the key of a context, or makes it.
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("id_ed25519");
        let key = match std::fs::read_to_string(&path) {
            Ok(text) => PrivateKey::from_openssh(text.trim_end()).with_context(|| {
                format!("failed to read the key {}; remove it and a new one is made", path.display())
            })?,
            Err(e) if e.kind() == ErrorKind::NotFound => make(folder, &path)?,
            Err(e) => return Err(e).with_context(|| format!("failed to read the key {}", path.display())),
        };
        Ok(Self { path, public: key.public_key().to_openssh()? })
    }
}

fn make(folder: &Path, path: &Path) -> anyhow::Result<PrivateKey> {
    let pair = Ed25519Keypair::from_seed(&sublet_wire::random_bytes());
    let key = PrivateKey::new(KeypairData::Ed25519(pair), "sublet")?;
    private_folder(folder)?;
    write_private(path, key.to_openssh(LineEnding::LF)?.as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("contexts/lab");
        let key = ClientKey::of(&folder).unwrap();
        assert!(key.public.starts_with("ssh-ed25519 "));
        assert_eq!(ClientKey::of(&folder).unwrap().public, key.public);
        assert_eq!(std::fs::metadata(&key.path).unwrap().permissions().mode() & 0o777, 0o600);
        // The system's own tool reads it and sees the same public half.
        let seen = std::process::Command::new("ssh-keygen").arg("-yf").arg(&key.path).output().unwrap();
        assert_eq!(String::from_utf8(seen.stdout).unwrap().trim(), key.public);
    }
}
