//! Whom this host believes: the market's keys, followed from the one that it was given when it joined.
//! The market can take others only with the ones before; see `docs/decisions/0015-another-key.md`.

use sublet_model::market_keys::KeyChain;
use sublet_model::units::Timestamp;

/// The market's keys as this host knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketKeys {
    /// From the first to the newest.
    pub chain: KeyChain,
    /// The SSH authorities that were told at joining: those of a market that has its first keys still.
    pub joined_with: Vec<String>,
}

impl MarketKeys {
    /// The SSH authorities whose certificates open something now. An old one ends by this host's own
    /// clock, whether the market is there or not.
    pub fn authorities(&self, now: Timestamp) -> Vec<String> {
        self.chain.ssh_authorities(now, &self.joined_with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::identity::SecretKey;
    use sublet_model::market_keys::Turn;

    #[test]
    fn an_old_authority_ends_by_this_hosts_own_clock() {
        let [old, new] = [1, 2].map(|n| SecretKey::from_seed(&[n; 32]));
        let ssh = |n: u8| format!("ssh-ed25519 AAAA{n:064}");
        let (at, ssh_until) = (Timestamp(10), Timestamp(20));
        let mut keys = MarketKeys { chain: KeyChain::new(old.public()), joined_with: vec![ssh(1)] };
        assert_eq!(
            (keys.authorities(Timestamp(99)), keys.chain.signer_at(Timestamp(99))),
            (vec![ssh(1)], old.public())
        );
        let turn = Turn { old: &old, new: &new, old_ssh_ca: ssh(1), new_ssh_ca: ssh(2), at, ssh_until };
        keys.chain = keys.chain.turned(turn).unwrap();
        assert_eq!(keys.authorities(Timestamp(20)), [ssh(2), ssh(1)]);
        assert_eq!(keys.authorities(Timestamp(21)), [ssh(2)]);
        assert_eq!(
            (keys.chain.signer_at(Timestamp(9)), keys.chain.signer_at(Timestamp(10))),
            (old.public(), new.public())
        );
    }
}
