//! Does what [`reconcile`] says, one dull step after the other.

use super::hands::{self, carry_out};
use super::shared::Shared;
use super::worker;
use crate::meter::Now;
use crate::reconcile::{Step, reconcile, without_plan};
use crate::store::{Store, StoreError};
use crate::vmm::Vmm;
use std::collections::BTreeMap;
use std::sync::Arc;
use sublet_model::ids::PartitionId;
use sublet_model::lease::EndReason;
use sublet_wire::sync::Wanted;
use uuid::Uuid;

impl<V: Vmm> Shared<V> {
    /// Takes a new plan in and carries it out as far as it goes now.
    pub async fn follow(self: &Arc<Self>, plan: Vec<Wanted>) -> Result<(), StoreError> {
        let mut held = self.plan.lock().await;
        *held = Some(plan);
        self.carry_out(held.as_deref()).await
    }

    /// Carries the plan that is known out again: after the owner or a partition changed something.
    pub async fn follow_again(self: &Arc<Self>) -> Result<(), StoreError> {
        let held = self.plan.lock().await;
        self.carry_out(held.as_deref()).await
    }

    async fn carry_out(self: &Arc<Self>, plan: Option<&[Wanted]>) -> Result<(), StoreError> {
        let (division, seen) = self.db(|store| Ok((store.division()?, Self::seen(store)?))).await?;
        let policy = self.policy(&division);
        let steps = plan.map_or_else(|| without_plan(&seen, &policy), |plan| reconcile(plan, &seen, &policy));
        let (boot_id, now) = (self.boot_id.clone(), Now::read());
        let taken =
            move |store: &Store| Ok(carry_out(steps, |step| hands::take(store, step, &boot_id, &now, Uuid::now_v7())));
        let carried = self.db(taken).await?;
        for partition in carried.touched {
            worker::slot(self, partition).wake();
        }
        self.say_refusals(carried.refusals);
        if carried.changed {
            self.tell();
        }
        carried.failed.map_or(Ok(()), Err)
    }

    fn say_refusals(&self, refusals: BTreeMap<PartitionId, String>) {
        let mut known = Self::lock(&self.refusals);
        for (partition, why) in &refusals {
            if known.get(partition) != Some(why) {
                tracing::warn!(%partition, %why, "the market's wish is refused");
            }
        }
        let news = *known != refusals;
        *known = refusals;
        drop(known);
        if news {
            self.tell();
        }
    }

    /// Ends every partition because the computer, or its owner, is about to go.
    pub(super) async fn stop_all(self: &Arc<Self>) -> Result<(), StoreError> {
        for run in self.db(crate::store::Store::live_runs).await? {
            self.stop(run.partition, Some(EndReason::Evicted)).await?;
        }
        self.tell();
        Ok(())
    }

    async fn stop(self: &Arc<Self>, partition: PartitionId, reason: Option<EndReason>) -> Result<(), StoreError> {
        let (boot_id, now) = (self.boot_id.clone(), Now::read());
        let step = Step::Stop { partition, reason };
        let outcome = self.db(move |store| hands::take(store, &step, &boot_id, &now, Uuid::nil())).await;
        worker::slot(self, partition).wake();
        outcome
    }
}
