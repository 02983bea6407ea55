//! The key that signs manifests: a seed in a file that only its owner reads.

use crate::DepotError;
use data_encoding::HEXLOWER_PERMISSIVE;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use sublet_model::identity::SecretKey;

const FILE: &str = "image-signing.key";

/// Reads the key, or says that this is no depot.
pub(crate) fn read(depot: &Path) -> Result<SecretKey, DepotError> {
    let path = depot.join("keys").join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(DepotError::NotADepot(depot.into())),
        outcome => outcome.map_err(DepotError::io("read", &path))?,
    };
    let seed = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok().and_then(|seed| seed.try_into().ok());
    seed.map(|seed| SecretKey::from_seed(&seed)).ok_or(DepotError::BadKey(path))
}

/// Makes the key where there is none.
pub(crate) fn read_or_make(depot: &Path) -> Result<SecretKey, DepotError> {
    match read(depot) {
        Err(DepotError::NotADepot(_)) => {}
        outcome => return outcome,
    }
    let dir = depot.join("keys");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(DepotError::io("make", &dir))?;
    // Linked into place whole: a second maker at the same moment finds the first one's key.
    let fresh = dir.join(format!(".{}", uuid::Uuid::now_v7()));
    let write = |seed: [u8; 32]| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(HEXLOWER_PERMISSIVE.encode(&seed).as_bytes())?;
        file.sync_all()
    };
    let linked = write(sublet_wire::random_bytes()).and_then(|()| match fs::hard_link(&fresh, dir.join(FILE)) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    });
    let _ = fs::remove_file(&fresh);
    linked.map_err(DepotError::io("write a key into", &dir))?;
    read(depot)
}
