//! What happens by itself: meters are kept, receipts are written, the owner's words are noticed.

use super::hands::StepError;
use super::shared::Shared;
use crate::meter::KEPT_EVERY;
use crate::store::NewReceipt;
use crate::vmm::Vmm;
use std::sync::Arc;
use std::time::Duration;

/// How often the owner's commands are looked for.
const LOOK_FOR_OWNER_EVERY: Duration = Duration::from_millis(100);

/// Keeps the meters durably and writes receipts, for ever.
pub async fn meters<V: Vmm>(shared: Arc<Shared<V>>) {
    let mut tick = tokio::time::interval(KEPT_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        keep_once(&shared).await;
    }
}

/// Keeps them now. Where that fails, as on a full disk, everything else goes on.
pub(super) async fn keep_once<V: Vmm>(shared: &Arc<Shared<V>>) {
    if let Err(error) = keep(shared).await {
        tracing::error!(%error, "the meters could not be kept; this is tried again");
    }
}

async fn keep<V: Vmm>(shared: &Arc<Shared<V>>) -> Result<(), StepError> {
    let hands = shared.hands();
    let due = hands.keep_meters(&shared.reading()).await?;
    for (run, seconds) in due {
        let cpu_used_ms = hands.used_ms(&hands.machine(&run).await?).await;
        let (lease, generation) = (run.lease(), run.generation);
        let receipt = NewReceipt { lease, generation, seconds, cpu_used_ms, last: false };
        let key = shared.keys.identity.clone();
        shared.db(move |store| store.add_receipt(&receipt, &key)).await?;
    }
    Ok(())
}

/// Notices what the owner's commands wrote, for ever.
pub async fn owner<V: Vmm>(shared: Arc<Shared<V>>) {
    let mut known = shared.db(|store| store.foreign_writes()).await.ok();
    let mut tick = tokio::time::interval(LOOK_FOR_OWNER_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = shared.db(|store| store.foreign_writes()).await.ok();
        if now == known {
            continue;
        }
        known = now;
        shared.tell();
        let followed = async {
            super::own::follow(&shared).await?;
            shared.follow_again().await
        };
        if let Err(error) = followed.await {
            tracing::error!(%error, "the owner's word could not be followed; this is tried again");
            known = None;
        }
    }
}
