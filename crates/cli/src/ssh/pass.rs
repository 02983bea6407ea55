//! What opens one lease: kept on disk, so that a partition can be entered while the market is
//! not to be reached.

use super::ClientKey;
use crate::api::Market;
use crate::config::{private_folder, write_private};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use sublet_model::identity::PublicKey;
use sublet_model::ids::LeaseId;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::api::{Access, LeaseView};
use sublet_wire::path::{Reach, RelayPass};

/// A certificate that expires sooner than this is renewed before it is used.
const RENEW_BEFORE: Seconds = Seconds(5 * 60);
/// Passes of leases that ended longer ago than their certificate can live are of no use.
const KEEP: Seconds = Seconds(2 * 86_400);

/// Access to one lease, as it was granted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pass {
    /// Which lease.
    pub lease: LeaseId,
    /// Its name.
    pub name: String,
    /// As whom to log in.
    pub user: String,
    /// How the host is reached.
    pub dial: String,
    /// The host's identity, to which QUIC is dialled.
    #[serde(default)]
    pub identity: Option<PublicKey>,
    /// The relay where the host is to be found, if there is one.
    #[serde(default)]
    pub relay: Option<Relay>,
    /// When the certificate expires.
    pub expires_at: Timestamp,
    /// Its own folder, 0700.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// The market's relay, and what lets us use it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Relay {
    /// Where it is.
    pub url: String,
    /// Our right to it.
    pub pass: RelayPass,
}

impl Relay {
    fn of(market: &Market, pass: &RelayPass) -> Option<Self> {
        Some(Self { url: pass.offer().url(market.base())?.to_string(), pass: pass.clone() })
    }
}

impl Pass {
    /// Keeps what came with a grant. Texts of the market are parsed before they stand in a file
    /// that `ssh` obeys.
    pub fn keep(market: &Market, key: &ClientKey, lease: &LeaseView, access: &Access) -> anyhow::Result<Self> {
        let context = &market.folder;
        let certificate = ssh_key::Certificate::from_openssh(&access.certificate)
            .context("failed to read the certificate that the market gave")?;
        let own = ssh_key::PublicKey::from_openssh(&key.public)?;
        anyhow::ensure!(certificate.public_key() == own.key_data(), "the market certified another key than ours");
        let host_key = ssh_key::PublicKey::from_openssh(&access.host_key)
            .context("failed to read the host key that the market gave")?;
        let host_key = ssh_key::PublicKey::new(host_key.key_data().clone(), "").to_openssh()?;

        let folder = folder_of(context, lease.id);
        private_folder(&folder)?;
        let pass = Self {
            lease: lease.id,
            name: lease.name.clone(),
            user: access.user.clone(),
            dial: access.dial.clone(),
            identity: access.identity,
            relay: access.relay.as_ref().and_then(|pass| Relay::of(market, pass)),
            expires_at: access.expires_at,
            folder,
        };
        write_private(&pass.certificate(), format!("{}\n", certificate.to_openssh()?).as_bytes())?;
        write_private(&pass.known_hosts(), format!("{} {host_key}\n", lease.id).as_bytes())?;
        write_private(&pass.folder.join("pass.json"), &serde_json::to_vec_pretty(&pass)?)?;
        Ok(pass)
    }

    /// The pass of a lease by its id or name; of two leases of one name the newer.
    pub fn find(context: &Path, which: &str) -> Option<Self> {
        all(context).into_iter().filter(|p| p.name == which || p.lease.to_string() == which).max_by_key(|p| p.lease)
    }

    /// The pass in a folder.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("pass.json");
        let text = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let pass: Self = serde_json::from_slice(&text).with_context(|| format!("{} is no pass", file.display()))?;
        Ok(Self { folder: folder.to_owned(), ..pass })
    }

    /// How the host is reached.
    pub fn reach(&self) -> anyhow::Result<Reach> {
        let reach: Reach = self.dial.parse().context("the market's word on how to reach the host can't be used")?;
        // Without the host's key nobody would know who answers.
        let quic = reach.quic.filter(|_| self.identity.is_some());
        Ok(Reach { quic, relayed: reach.relayed && self.relay.is_some(), tcp: reach.tcp })
    }

    /// Whether the certificate will do for now.
    pub fn is_fresh(&self) -> bool {
        self.expires_at > now().after(RENEW_BEFORE)
    }

    /// Whether the certificate still opens anything.
    pub fn is_valid(&self) -> bool {
        self.expires_at > now()
    }

    /// Every pass that still opens something.
    pub fn valid(context: &Path) -> Vec<Self> {
        all(context).into_iter().filter(Self::is_valid).collect()
    }

    /// The certificate's file.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pub")
    }

    /// The file that pins the host's key under the lease's id.
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.join("known_hosts")
    }

    /// Removes passes that have long been of no use.
    pub fn sweep(context: &Path) {
        for old in all(context).into_iter().filter(|p| p.expires_at.after(KEEP) < now()) {
            let _ = fs::remove_dir_all(&old.folder);
        }
    }
}

fn folder_of(context: &Path, lease: LeaseId) -> PathBuf {
    context.join("leases").join(lease.to_string())
}

fn all(context: &Path) -> Vec<Pass> {
    let folders = fs::read_dir(context.join("leases")).into_iter().flatten().flatten().map(|entry| entry.path());
    folders.filter_map(|folder| Pass::read(&folder).ok()).collect()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
