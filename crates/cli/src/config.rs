//! Contexts: which markets this person knows, and as whom. One file that only its owner reads.

use crate::failure::{Exit, Failure};
use anyhow::Context as _;
use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use sublet_model::identity::Sha256Digest;

/// Folder of configuration, keys and certificates; overrides the XDG folders.
const FOLDER_VARIABLE: &str = "SUBLET_CONFIG";
/// A token by environment, so that it never stands in a command line.
pub const TOKEN_VARIABLE: &str = "SUBLET_TOKEN";
/// The context of a market that is named by environment only.
pub const UNNAMED: &str = "environment";

/// Where things are kept.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Holds `config.toml`.
    pub config: PathBuf,
    /// Holds keys and certificates, a folder a context.
    pub data: PathBuf,
}

impl Folders {
    /// By environment, else by XDG.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(folder) = std::env::var_os(FOLDER_VARIABLE).filter(|f| !f.is_empty()) {
            let folder = PathBuf::from(folder);
            return Ok(Self { config: folder.clone(), data: folder.join("data") });
        }
        let base = etcetera::choose_base_strategy().context("failed to find the home folder; set SUBLET_CONFIG")?;
        Ok(Self { config: base.config_dir().join("sublet"), data: base.data_dir().join("sublet") })
    }

    /// Folder of one context's keys and certificates.
    pub fn of_context(&self, name: &str) -> PathBuf {
        self.data.join("contexts").join(name)
    }

    fn file(&self) -> PathBuf {
        self.config.join("config.toml")
    }
}

/// All contexts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The one in use.
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// A market, and as whom to speak to it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Its address.
    pub market: String,
    /// The API token.
    pub token: Option<String>,
    /// SHA-256 of its certificate; none: known by the public authorities, or on loopback.
    pub fingerprint: Option<Sha256Digest>,
    /// For which account the token acts, for people.
    #[serde(default)]
    pub account: String,
    /// Whose token it is, for people.
    #[serde(default)]
    pub member: String,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({} as {}/{})", self.market, self.account, self.member)
    }
}

impl Config {
    /// Reads it; empty before the first login.
    pub fn read(folders: &Folders) -> anyhow::Result<Self> {
        let path = folders.file();
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("failed to read {}", path.display())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, folders: &Folders) -> anyhow::Result<()> {
        private_folder(&folders.config)?;
        write_private(&folders.file(), toml::to_string(self)?.as_bytes())
    }

    /// The context that a command works with: `--context`, else the environment's market, else
    /// the one in use.
    pub fn choose(&self, asked: &Asked) -> anyhow::Result<(String, Context)> {
        let token = std::env::var(TOKEN_VARIABLE).ok().filter(|t| !t.is_empty());
        let name = asked.context.clone().or_else(|| match &asked.market {
            Some(_) => None,
            None => self.current.clone(),
        });
        let (name, mut context) = match (name, &asked.market) {
            (Some(name), _) => (name.clone(), self.named(&name)?.clone()),
            (None, Some(market)) => (UNNAMED.into(), self.for_market(market)),
            (None, None) => {
                let none = Failure::new(Exit::Auth, "no market is known yet");
                return Err(none.advise("run `sublet login URL` with the token you were given").into());
            }
        };
        if let Some(market) = &asked.market {
            context.market.clone_from(market);
        }
        context.token = token.or(context.token);
        Ok((name, context))
    }

    /// One context.
    pub fn named(&self, name: &str) -> anyhow::Result<&Context> {
        self.contexts.get(name).ok_or_else(|| {
            let known = self.contexts.keys().cloned().collect::<Vec<_>>().join(", ");
            let none = Failure::new(Exit::NotFound, format!("there is no context {name:?}"));
            none.advise(if known.is_empty() { "run `sublet login URL`".into() } else { format!("known are: {known}") })
                .into()
        })
    }

    /// A market that was named without a context: what is known of its certificate still holds.
    fn for_market(&self, market: &str) -> Context {
        let same = self.contexts.values().find(|c| c.market.trim_end_matches('/') == market.trim_end_matches('/'));
        Context {
            market: market.into(),
            token: None,
            fingerprint: same.and_then(|c| c.fingerprint),
            account: String::new(),
            member: String::new(),
        }
    }
}

/// What the command line and the environment say about the market.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `--context` or `SUBLET_CONTEXT`.
    pub context: Option<String>,
    /// `--market` or `SUBLET_MARKET`.
    pub market: Option<String>,
}

/// Makes a folder that only its owner enters.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("failed to make {}", path.display()))
}

/// Writes a file that only its owner reads, whole or not at all. One that says the same already stays.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let private = |metadata: &fs::Metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 == 0;
    if fs::symlink_metadata(path).is_ok_and(|m| private(&m)) && fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", uuid::Uuid::now_v7().simple()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    let outcome: std::io::Result<()> = write();
    outcome
        .inspect_err(|_| drop(fs::remove_file(&fresh)))
        .with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(market: &str) -> Context {
        Context {
            market: market.into(),
            token: Some("secret-of-the-file".into()),
            fingerprint: Some(Sha256Digest::of(b"certificate")),
            account: "physics".into(),
            member: "ada".into(),
        }
    }

    #[test]
    fn a_configuration_survives_and_is_its_owners_alone() {
        let temp = tempfile::tempdir().unwrap();
        let folders = Folders { config: temp.path().join("new/sublet"), data: temp.path().join("data") };
        assert_eq!(Config::read(&folders).unwrap(), Config::default());
        let config = Config {
            current: Some("lab".into()),
            contexts: [("lab".to_string(), context("https://market.lab"))].into(),
        };
        config.write(&folders).unwrap();
        assert_eq!(Config::read(&folders).unwrap(), config);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folders.file()), mode(&folders.config)), (0o600, 0o700));
        assert!(!format!("{config:?}").contains("secret-of-the-file"));
    }

    #[test]
    fn the_command_line_wins_over_the_context_in_use() {
        let contexts =
            [("lab".to_string(), context("https://lab")), ("open".to_string(), context("https://open"))].into();
        let config = Config { current: Some("lab".into()), contexts };
        let choose = |context: Option<&str>, market: Option<&str>| {
            let asked = Asked { context: context.map(Into::into), market: market.map(Into::into) };
            config.choose(&asked).map(|(name, chosen)| (name, chosen.market, chosen.fingerprint.is_some()))
        };
        assert_eq!(choose(None, None).unwrap(), ("lab".into(), "https://lab".into(), true));
        assert_eq!(choose(Some("open"), None).unwrap().0, "open");
        assert_eq!(choose(None, Some("https://open/")).unwrap(), (UNNAMED.into(), "https://open/".into(), true));
        assert_eq!(choose(None, Some("https://new")).unwrap(), (UNNAMED.into(), "https://new".into(), false));
        assert!(choose(Some("absent"), None).is_err());
        assert!(Config::default().choose(&Asked::default()).is_err());
    }
}
