//! Does what [`reconcile`] says, one dull step after the other.

use super::shared::Shared;
use super::worker;
use crate::reconcile::{Step, reconcile, without_plan};
use crate::store::StoreError;
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
        let mut refusals = BTreeMap::new();
        let (mut unsound, mut changed) = (None, false);
        for step in steps {
            if let Step::Refuse { partition, why } = step {
                refusals.insert(partition, why);
                continue;
            }
            let starts = matches!(step, Step::Begin { .. } | Step::Apply { .. });
            if unsound.is_some() && starts {
                continue;
            }
            match self.take(step).await {
                Ok(()) => changed = true,
                Err(error) => {
                    tracing::error!(%error, "a step failed; what would start after it is not done");
                    unsound = Some(error);
                }
            }
        }
        self.say_refusals(refusals);
        if changed {
            self.tell();
        }
        unsound.map_or(Ok(()), Err)
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

    async fn take(self: &Arc<Self>, step: Step) -> Result<(), StoreError> {
        match step {
            Step::Apply { partition, allocation } => {
                tracing::info!(%partition, generation = allocation.generation, resources = %allocation.resources, "applied");
                self.db(move |store| store.apply(partition, &allocation)).await
            }
            Step::Begin { partition, generation, run } => {
                tracing::info!(%partition, generation, lease = %run.lease, "begins");
                self.db(move |store| store.begin(partition, generation, &run, Uuid::now_v7())).await?;
                worker::slot(self, partition).wake();
                Ok(())
            }
            Step::Extend { partition, term, paid } => {
                let extend = move |store: &crate::store::Store| match store.live_run(partition)? {
                    Some(run) => store.extend(&run, term, paid),
                    None => Ok(()),
                };
                self.db(extend).await?;
                worker::slot(self, partition).wake();
                Ok(())
            }
            Step::Stop { partition, reason } => self.stop(partition, reason).await,
            Step::SayGone { partition, generation, why } => {
                if let Some((_, words)) = &why {
                    tracing::warn!(%partition, generation, why = words, "never runs here");
                }
                let (reason, words) = why.unzip();
                self.db(move |store| store.never_ran(partition, generation, reason, words.as_deref())).await
            }
            Step::Acknowledge { partition, generation } => {
                self.db(move |store| {
                    store.acknowledge_gone(partition, generation)?;
                    store.prune()
                })
                .await
            }
            // Said before.
            Step::Refuse { .. } => Ok(()),
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
        tracing::info!(%partition, ?reason, "stops");
        let boot_id = self.boot_id.clone();
        let now = crate::meter::Now::read();
        let stop = move |store: &crate::store::Store| match store.live_run(partition)? {
            Some(run) => {
                let metered = crate::meter::seconds(&run, &boot_id, now.mono_us);
                store.stopping(&run, reason, None, metered)
            }
            None => Ok(()),
        };
        let outcome = self.db(stop).await;
        worker::slot(self, partition).wake();
        outcome
    }
}
