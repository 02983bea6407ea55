//! Enrols this computer in a market. It lends nothing by that.

use crate::store::{Identity, Store, StoreError};
use std::path::PathBuf;
use sublet_model::account::check_name;
use sublet_model::host::Inventory;
use sublet_model::market_keys::KeyChain;
use sublet_wire::client::{Client, ClientError};
use sublet_wire::join::JoinToken;
use sublet_wire::sync::{JoinAnswer, JoinRequest};

/// What joining needs.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// The state directory.
    pub state: PathBuf,
    /// Address of the market, such as `https://market.example:7400`.
    pub market: String,
    /// From the market, by way of its owner.
    pub token: JoinToken,
    /// How the host is to be called; one of a kind in the market.
    pub name: String,
    /// What the computer has.
    pub inventory: Inventory,
}

/// The computer is a host of a market.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Who it is now.
    pub identity: Identity,
    /// Its SSH host key, in OpenSSH's form.
    pub ssh_host_key: String,
}

/// Why the computer did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It did before.
    #[error("this computer is {host} of {market} already; use another state directory to join another market")]
    Already {
        /// Who it is.
        host: String,
        /// Of which market.
        market: String,
    },
    /// Its name.
    #[error("{0}")]
    Name(String),
    /// What it has.
    #[error("{0}")]
    Inventory(String),
    /// The market.
    #[error("the market did not take this computer in: {0}")]
    Market(#[from] ClientError),
    /// The market's answer.
    #[error("the market's answer can't be used: {0}")]
    Answer(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the host's keys, tells the market what the computer has, and keeps who it is.
pub async fn join(options: &JoinOptions) -> Result<Joined, JoinError> {
    let store = Store::open(&options.state)?;
    if let Some(known) = store.identity()? {
        return Err(JoinError::Already { host: known.host.to_string(), market: known.market });
    }
    check_name(&options.name).map_err(JoinError::Name)?;
    options.inventory.check().map_err(JoinError::Inventory)?;
    let keys = store.keys()?;
    let client = Client::new(&options.market, Some(options.token.secret.clone()), options.token.fingerprint)?;
    let request = JoinRequest {
        name: options.name.clone(),
        key: keys.identity.public(),
        ssh_host_key: keys.ssh_public.clone(),
        inventory: options.inventory.clone(),
    };
    let answer: JoinAnswer = client.post("/v1/hosts", &request).await?;
    ssh_key::PublicKey::from_openssh(&answer.ssh_ca)
        .map_err(|e| JoinError::Answer(format!("its SSH authority is no key: {e}")))?;
    let keys_of_market = chain(&answer)?;
    let identity = Identity {
        host: answer.host,
        name: options.name.clone(),
        account: answer.account,
        market: client.base().to_owned(),
        fingerprint: options.token.fingerprint,
        market_key: keys_of_market.first(),
        ssh_ca: vec![answer.ssh_ca],
        session: 0,
    };
    store.enrol_with(&identity, &keys_of_market, crate::clock::wall_clock())?;
    Ok(Joined { identity, ssh_host_key: keys.ssh_public })
}

/// How the market came to the keys that it has, from its first ones on.
fn chain(answer: &JoinAnswer) -> Result<KeyChain, JoinError> {
    let chain = KeyChain::told(&answer.keys, answer.market_key).map_err(|bad| JoinError::Answer(bad.to_string()))?;
    let newest_ca = chain.changes().last().map_or(&answer.ssh_ca, |change| &change.new_ssh_ca);
    if chain.newest() != answer.market_key || *newest_ca != answer.ssh_ca {
        return Err(JoinError::Answer("the changes of its keys don't lead to the keys that it has".into()));
    }
    Ok(chain)
}
