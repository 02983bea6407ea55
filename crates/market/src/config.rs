//! The market's own settings: `market.toml` in its data directory, for people to edit.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Name of the file.
const FILE: &str = "market.toml";

/// What a person may decide about a market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// For people, such as `physics department`.
    pub name: String,
    /// Name of the one currency, such as `EUR` or `credits`.
    pub currency: String,
    /// Where the API listens.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// Whether to speak TLS.
    #[serde(default)]
    pub tls: Tls,
    /// Where the relay listens, TCP and UDP; none: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<SocketAddr>,
    /// How far ahead of its use a lease is always paid, at the least; a quarter of an hour where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_seconds: Option<u32>,
}

/// The shortest and the longest time that a market may have paid ahead.
const CHUNKS: std::ops::RangeInclusive<u32> = 60..=86_400;

/// Whether to speak TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Off loopback.
    #[default]
    Auto,
    /// On loopback too.
    Always,
    /// On loopback not; off loopback the market does not start.
    Never,
}

/// The address that nobody else reaches.
pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7400))
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read or written.
    #[error("failed to {attempt} {path}")]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Not what is expected in it.
    #[error("{path} can't be used: {reason}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
}

impl Config {
    /// Checks what people wrote.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=100).contains(&self.name.chars().count()) || self.name.chars().any(char::is_control) {
            return Err("name: must be 1 to 100 characters without control characters".into());
        }
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=16).contains(&self.currency.len()) || !self.currency.bytes().all(letter) {
            return Err("currency: must be 1 to 16 letters, such as EUR or credits".into());
        }
        if self.chunk_seconds.is_some_and(|seconds| !CHUNKS.contains(&seconds)) {
            return Err("chunk_seconds: must be 60 (a minute) to 86400 (a day)".into());
        }
        Ok(())
    }

    /// Reads the settings below `dir`.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Io {
            attempt: "read",
            path: path.clone(),
            source,
        })?;
        let config: Self =
            toml::from_str(&text).map_err(|e| ConfigError::Unusable { path: path.clone(), reason: e.to_string() })?;
        config.check().map_err(|reason| ConfigError::Unusable { path, reason })?;
        Ok(config)
    }

    /// Writes them below `dir`, where there are none yet.
    pub fn create(&self, dir: &Path) -> Result<(), ConfigError> {
        let path = dir.join(FILE);
        let unusable = |reason: String| ConfigError::Unusable { path: path.clone(), reason };
        self.check().map_err(unusable)?;
        let text = toml::to_string(self).map_err(|e| unusable(e.to_string()))?;
        let text = format!(
            "# Settings of this market; read when it starts.\n\
             # relay: where clients and hosts meet that can't reach each other, such as \"0.0.0.0:7404\".\n\
             # tls: auto (off loopback), always, or never (then it starts on loopback only).\n{text}"
        );
        std::fs::write(&path, text).map_err(|source| ConfigError::Io { attempt: "write", path: path.clone(), source })
    }
}

/// What a new market of the tests is called.
#[cfg(test)]
pub(crate) fn lab() -> Config {
    Config {
        name: "lab".into(),
        currency: "EUR".into(),
        listen: loopback(),
        tls: Tls::Auto,
        relay: None,
        chunk_seconds: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_disk_and_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = lab();
        config.create(dir.path()).unwrap();
        assert_eq!(Config::load(dir.path()).unwrap(), config);

        let refused = |text: &str, words: &str| {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let error = Config::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(words), "{words} in {error}");
        };
        refused("name = \"lab\"\ncurrency = \"EUR\"\nlisten = \"everywhere\"\n", "line 3");
        refused("name = \"lab\"\ncurrency = \"EUR\"\nport = 1\n", "port");
        refused("name = \"lab\"\ncurrency = \"E U R\"\n", "currency");
        refused("name = \"lab\"\ncurrency = \"EUR\"\nchunk_seconds = 59\n", "a minute");
        refused("name = \"\"\ncurrency = \"EUR\"\n", "name");
    }
}
