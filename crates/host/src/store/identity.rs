//! Who this host is.

use super::{Result, Store, StoreError, change, from_json, one, parse, to_json};
use sublet_model::identity::{PublicKey, Sha256Digest};
use sublet_model::ids::{AccountId, HostId};
use sublet_model::market_keys::KeyChain;
use sublet_model::units::Timestamp;

/// Who this host is, and to which market it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id in the market.
    pub host: HostId,
    /// As the owner calls it.
    pub name: String,
    /// Whose it is.
    pub account: AccountId,
    /// Base address of the market.
    pub market: String,
    /// SHA-256 of the market's certificate; none on loopback.
    pub fingerprint: Option<Sha256Digest>,
    /// The first key with which the market signed terms: pinned; its changes are followed from there.
    pub market_key: PublicKey,
    /// The keys that might sign client certificates when it joined, in OpenSSH's form.
    pub ssh_ca: Vec<String>,
    /// The newest session that this host had; 0 for none.
    pub session: u64,
}

impl Store {
    /// Who this host is; none before it joined.
    pub fn identity(&self) -> Result<Option<Identity>> {
        const ATTEMPT: &str = "read who this host is";
        let connection = self.lock();
        let columns = "select host, name, account, market, fingerprint, market_key, ssh_ca, session from identity";
        let row = one(&connection, columns, [], |row| {
            let texts: [String; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            let print: Option<String> = row.get(4)?;
            let keys: [String; 2] = [row.get(5)?, row.get(6)?];
            Ok((texts, print, keys, row.get::<_, i64>(7)?))
        })
        .map_err(StoreError::of(ATTEMPT))?;
        let Some(([host, name, account, market], print, [market_key, ssh_ca], session)) = row else {
            return Ok(None);
        };
        Ok(Some(Identity {
            host: parse(ATTEMPT, &host)?,
            name,
            account: parse(ATTEMPT, &account)?,
            market,
            fingerprint: print.map(|p| parse(ATTEMPT, &p)).transpose()?,
            market_key: parse(ATTEMPT, &market_key)?,
            ssh_ca: from_json(ATTEMPT, &ssh_ca)?,
            session: session.unsigned_abs(),
        }))
    }

    /// Keeps who this host is. Once.
    pub fn enrol(&self, identity: &Identity) -> Result<()> {
        self.enrol_with(identity, &KeyChain::new(identity.market_key), Timestamp(0))
    }

    /// As [`Self::enrol`], in a market that took other keys before.
    pub fn enrol_with(&self, identity: &Identity, keys: &KeyChain, now: Timestamp) -> Result<()> {
        const ATTEMPT: &str = "keep who this host is";
        let ssh_ca = to_json(ATTEMPT, &identity.ssh_ca)?;
        self.write(ATTEMPT, |t| {
            change(
                t,
                "insert into identity (id, host, name, account, market, fingerprint, market_key, ssh_ca, session) \
                 values (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                rusqlite::params![
                    identity.host.to_string(),
                    identity.name,
                    identity.account.to_string(),
                    identity.market,
                    identity.fingerprint.map(|p| p.to_string()),
                    identity.market_key.to_string(),
                    ssh_ca,
                    identity.session as i64,
                ],
            )
            .map_err(StoreError::of(ATTEMPT))?;
            super::market_keys::keep(t, keys, now)
        })
    }

    /// Keeps the number of a session, before anything is said in it.
    pub fn opened_session(&self, session: u64) -> Result<()> {
        const ATTEMPT: &str = "keep the session's number";
        self.write(ATTEMPT, |t| {
            let number = i64::try_from(session).unwrap_or(i64::MAX);
            change(t, "update identity set session = ?1", [number]).map(drop).map_err(StoreError::of(ATTEMPT))
        })
    }
}
