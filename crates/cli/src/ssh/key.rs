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
        if !path.exists() {
            make(folder, &path)?;
        }
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("failed to read the key {}", path.display()))?;
        let key = PrivateKey::from_openssh(text.trim_end())
            .with_context(|| format!("failed to read the key {}; remove it and a new one is made", path.display()))?;
        Ok(Self { path, public: key.public_key().to_openssh()? })
    }
}

/// Two commands at once may both find no key: the first whole one stands for both.
fn make(folder: &Path, path: &Path) -> anyhow::Result<()> {
    let pair = Ed25519Keypair::from_seed(&sublet_wire::random_bytes());
    let key = PrivateKey::new(KeypairData::Ed25519(pair), "sublet")?;
    private_folder(folder)?;
    let fresh = folder.join(format!("id_ed25519.{}", uuid::Uuid::now_v7().simple()));
    write_private(&fresh, key.to_openssh(LineEnding::LF)?.as_bytes())?;
    let linked = std::fs::hard_link(&fresh, path);
    std::fs::remove_file(&fresh)?;
    match linked {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            Err(e).with_context(|| format!("failed to keep the key {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn many_commands_at_once_agree_on_one_key() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("contexts/lab");
        let keys: Vec<String> = std::thread::scope(|scope| {
            let made: Vec<_> = (0..16).map(|_| scope.spawn(|| ClientKey::of(&folder).unwrap().public)).collect();
            made.into_iter().map(|m| m.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

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
