//! Makes a market: its directory, keys, certificate, settings and database, and the first token.

use crate::config::{Config, ConfigError};
use crate::db::{self, DbError, FirstMember};
use crate::engine::clock::{Clock, MarketClock};
use crate::http::authorize::PREFIX;
use crate::keys::{Keys, KeysError};
use crate::tls::{self, TlsError};
use data_encoding::BASE64URL_NOPAD;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use sublet_model::identity::Sha256Digest;
use sublet_model::units::{Seconds, Timestamp};

/// How long the operator's first token is good.
const FIRST_TOKEN_LIFETIME: Seconds = Seconds(365 * 86_400);

/// Why no market was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one, or something else.
    #[error("{0} is not empty: a market is made in a new or empty directory")]
    NotEmpty(PathBuf),
    /// The file system would not.
    #[error("failed to make {path}")]
    Io {
        /// Which directory.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The settings can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The settings break a rule.
    #[error("{0}")]
    Setting(String),
    /// The keys can't be made.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate can't be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database can't be made.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// The operator's first token: shown once, stored nowhere.
#[derive(Clone)]
pub struct FirstToken {
    /// The secret.
    pub secret: String,
    /// When it expires.
    pub expires_at: Timestamp,
    /// SHA-256 of the market's certificate, for logging in from elsewhere.
    pub fingerprint: Sha256Digest,
}

impl std::fmt::Debug for FirstToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FirstToken(not shown, until {})", self.expires_at)
    }
}

/// Makes a market in `dir`, whose certificate is for `names`. Leaves nothing behind if it fails.
pub fn init(dir: &Path, config: &Config, names: &[String]) -> Result<FirstToken, InitError> {
    config.check().map_err(InitError::Setting)?;
    let made = private_empty_dir(dir)?;
    let done = fill(dir, config, names);
    if done.is_err() {
        clear(dir, made);
    }
    done
}

fn fill(dir: &Path, config: &Config, names: &[String]) -> Result<FirstToken, InitError> {
    Keys::create(dir)?;
    tls::create(dir, names)?;
    let fingerprint = tls::load(dir)?.fingerprint;
    config.create(dir)?;
    let secret = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&sublet_wire::random_bytes::<32>()));
    let now = MarketClock::new(Timestamp(0)).now();
    let expires_at = now.after(FIRST_TOKEN_LIFETIME);
    let first = FirstMember {
        account: sublet_wire::new_id(),
        member: sublet_wire::new_id(),
        token: sublet_wire::new_id(),
        token_hash: Sha256Digest::of(secret.as_bytes()),
        token_expires_at: expires_at,
    };
    // The database comes last: where there is one, the market is whole.
    db::create(dir, &config.currency, &first, now)?;
    Ok(FirstToken { secret, expires_at, fingerprint })
}

/// Whether it had to be made.
fn private_empty_dir(dir: &Path) -> Result<bool, InitError> {
    let failed = |source| InitError::Io { path: dir.into(), source };
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(InitError::NotEmpty(dir.into())),
            None => {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
                Ok(false)
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(failed)?;
            Ok(true)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Takes away what was begun: the directory was empty before.
fn clear(dir: &Path, made: bool) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
    if made {
        let _ = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lab;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_market_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let market = dir.path().join("market");
        let token = init(&market, &lab(), &["localhost".into()]).unwrap();
        assert_eq!(token.secret.len(), PREFIX.len() + 43);
        assert!(!format!("{token:?}").contains(&token.secret));
        assert_eq!(fs::metadata(&market).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(init(&market, &lab(), &["localhost".into()]), Err(InitError::NotEmpty(_))));
        assert!(Keys::load(&market).is_ok() && market.join("market.db").exists());
    }

    #[test]
    fn the_secret_is_nowhere_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let token = init(dir.path(), &lab(), &["localhost".into()]).unwrap();
        let mut open = vec![dir.path().to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(token.secret.len()).any(|w| w == token.secret.as_bytes());
            assert!(!found, "{path:?}");
        }
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let market = dir.path().join("market");
        assert!(init(&market, &lab(), &["not a name \u{fffd}".into()]).is_err());
        assert!(!market.exists());
        let wrong = Config { currency: "E U R".into(), ..lab() };
        assert!(init(&market, &wrong, &["localhost".into()]).is_err());
        assert!(!market.exists());
    }
}
