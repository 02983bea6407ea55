//! Following the market to its next keys.

use super::shared::Shared;
use crate::clock::wall_clock;
use crate::store::StoreError;
use crate::vmm::Vmm;
use sublet_model::market_keys::{KeyRecord, NotFollowed};

/// Why the market is not followed to other keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error("the market's answer is refused: its keys are not followed: {0}")]
    NotFollowed(#[from] NotFollowed),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<V: Vmm> Shared<V> {
    /// Follows the market to the keys that it offers, durably, before anything is judged by them. What does
    /// not extend the chain that is known is refused: so whoever has an old key leads nobody elsewhere.
    pub(super) async fn follow_keys(&self, offered: Option<&[KeyRecord]>) -> Result<(), FollowError> {
        let Some(offered) = offered else { return Ok(()) };
        let known = self.market_keys.borrow().clone();
        let followed = known.chain.follow(offered).inspect_err(|why| self.say_not_followed(why))?;
        *Self::lock(&self.not_followed) = None;
        let Some(chain) = followed else { return Ok(()) };
        let kept = chain.clone();
        self.db(move |store| store.follow_market_keys(&kept, wall_clock())).await?;
        for change in &chain.changes()[known.chain.changes().len()..] {
            tracing::warn!(
                number = change.number,
                key = %change.new,
                at = %change.at,
                old_certificates_until = %change.ssh_until,
                "the market took other keys, with the ones before: they are followed"
            );
        }
        self.market_keys.send_modify(|keys| keys.chain = chain);
        Ok(())
    }

    /// Each new reason once: the market is asked again every few seconds.
    fn say_not_followed(&self, why: &NotFollowed) {
        let mut said = Self::lock(&self.not_followed);
        if said.as_ref() == Some(why) {
            return;
        }
        tracing::error!(
            %why,
            "the market's keys are not followed, so nothing that it says is done. What runs here goes on to its paid \
             end. Ask its operator, by another way than this market, which key is right"
        );
        *said = Some(why.clone());
    }
}
