//! Speaks with the market: one call at a time, held by the market while there is no news, given
//! up and made again at once when there is news here.

use super::hands::StepError;
use super::keys::FollowError;
use super::shared::Shared;
use crate::clock::wall_clock;
use crate::meter::Now;
use crate::store::StoreError;
use crate::sync::{self, Live};
use crate::terms::check_image;
use crate::vmm::Vmm;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use sublet_wire::client::{Client, ClientError, HostSession};
use sublet_wire::problem::Kind;
use sublet_wire::sync::{SyncAnswer, SyncRequest};
use tokio::sync::watch;
use tokio::time::Instant;

/// The first pause after a market that can't be reached; it doubles.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pause after the market refused this host's session: a person has to act.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// A call is not given up for news before it had this long to be answered: else a busy host
/// would never hear an answer.
const LEAST_CALL: Duration = Duration::from_millis(30);

/// Why a round gave nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Refused(#[from] sync::Refused),
    #[error(transparent)]
    Keys(#[from] FollowError),
}

impl RoundError {
    fn refuses_session(&self) -> bool {
        let Self::Client(error) = self else { return false };
        matches!(error.kind(), Some(Kind::SessionRefused | Kind::Unauthenticated | Kind::NotFound | Kind::Forbidden))
    }
}

struct SyncLoop<V: Vmm> {
    shared: Arc<Shared<V>>,
    client: Client,
    news: watch::Receiver<u64>,
    session: Option<HostSession>,
    plan_version: u64,
    /// Whether all that the market may have forgotten was told in this session.
    caught_up: bool,
    said: BTreeSet<String>,
}

/// Speaks with the market for ever.
pub async fn run<V: Vmm>(shared: Arc<Shared<V>>, client: Client) {
    let news = shared.news.subscribe();
    let mut this =
        SyncLoop { shared, client, news, session: None, plan_version: 0, caught_up: false, said: BTreeSet::new() };
    let mut pause = SHORTEST_PAUSE;
    let mut refused_before = false;
    loop {
        match this.round().await {
            Ok(()) => (pause, refused_before) = (SHORTEST_PAUSE, false),
            Err(error) if error.refuses_session() => {
                this.session = None;
                if refused_before {
                    this.say_refused(&error);
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
                refused_before = true;
            }
            Err(error) => {
                tracing::warn!(%error, "no word from the market; partitions go on, and this is tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl<V: Vmm> SyncLoop<V> {
    fn say_refused(&self, error: &RoundError) {
        tracing::error!(
            %error,
            state = %self.shared.store.state().display(),
            "the market refuses this host. Either another agent speaks with this host's key (a copy of the state \
             directory?): stop the copy, and if it is not yours, tell the operator that the key is stolen. Or this \
             state directory is an old copy: put the newest one back. What runs here goes on to its paid end."
        );
    }

    /// One call and what follows from it.
    async fn round(&mut self) -> Result<(), RoundError> {
        if self.session.is_none() {
            self.open().await?;
        }
        self.news.borrow_and_update();
        let request = self.request().await?;
        let Some(answer) = self.call(&request).await? else { return Ok(()) };
        self.shared.market_answered();
        self.take(&request, answer).await
    }

    async fn open(&mut self) -> Result<(), RoundError> {
        let identity = self.shared.db(|store| store.identity()).await?;
        let last = identity.map_or(self.shared.identity.session, |i| i.session);
        let host = self.shared.identity.host;
        let epoch = self.shared.db(|store| store.epoch()).await?;
        let key = &self.shared.keys.identity;
        let session = HostSession::open_knowing(&self.client, host, key, last, Some(epoch)).await?;
        let (number, entered) = (session.session(), session.epoch());
        // Before anything is said in it: a copy of this disk, or an older one, would not know it.
        self.shared
            .db(move |store| {
                store.entered_epoch(entered)?;
                store.opened_session(number)
            })
            .await?;
        tracing::info!(%host, session = number, market = self.client.base(), "session open");
        if entered != epoch {
            tracing::warn!(
                epoch = entered,
                "the market was restored from a backup: it is told again what is kept here"
            );
        }
        self.shared.hands().receipt_session_change(&self.shared.reading()).await?;
        (self.session, self.plan_version, self.caught_up) = (Some(session), 0, false);
        Ok(())
    }

    async fn request(&self) -> Result<SyncRequest, StoreError> {
        let (shared, plan_version, caught_up) = (Arc::clone(&self.shared), self.plan_version, self.caught_up);
        self.shared
            .db(move |store| {
                let refusals = Shared::<V>::lock(&shared.refusals).clone();
                let dial = shared.reach.borrow().to_string();
                let live = Live {
                    inventory: &shared.config.inventory,
                    dial: &dial,
                    boot_id: &shared.boot_id,
                    mono_us: Now::read().mono_us,
                    wall_clock: wall_clock(),
                    refusals: &refusals,
                    plan_version,
                    caught_up,
                };
                sync::request(store, &live, |run| {
                    let boot = check_image(&run.wanted).map(|image| image.boot);
                    boot.map_or((0, 0), |boot| {
                        (shared.cache.done(&boot), boot.blobs().iter().map(|(_, blob)| blob.bytes).sum())
                    })
                })
            })
            .await
    }

    /// The market's answer; none if there was news here before it came.
    async fn call(&mut self, request: &SyncRequest) -> Result<Option<SyncAnswer>, RoundError> {
        let Some(session) = &mut self.session else { return Ok(None) };
        let begun = Instant::now();
        let call = session.sync(request);
        tokio::pin!(call);
        tokio::select! {
            biased;
            answer = &mut call => return Ok(Some(answer?)),
            _ = self.news.changed() => {}
        }
        match tokio::time::timeout_at(begun + LEAST_CALL, call).await {
            Ok(answer) => Ok(Some(answer?)),
            Err(_) => Ok(None),
        }
    }

    async fn take(&mut self, request: &SyncRequest, mut answer: SyncAnswer) -> Result<(), RoundError> {
        sync::check(&mut answer)?;
        self.shared.follow_keys(answer.keys.as_deref()).await?;
        self.say(&answer);
        let (acknowledged, told) = (std::mem::take(&mut answer.acknowledged), std::mem::take(&mut answer.told));
        let news = self.shared.db(move |store| sync::keep(store, &acknowledged, &told)).await?;
        let relay = answer.relay.take();
        self.shared.relay.send_if_modified(|known| std::mem::replace(known, relay.clone()) != relay);
        if request.catching_up {
            // It is made by a market that does not know yet what runs here.
            self.caught_up = !news;
            return Ok(());
        }
        match answer.plan {
            Some(plan) => self.shared.follow(plan).await?,
            None => self.shared.follow_again().await?,
        }
        self.plan_version = answer.plan_version;
        Ok(())
    }

    /// Says each new word of the market once.
    fn say(&mut self, answer: &SyncAnswer) {
        let refused = answer.division_refused.iter().map(|w| format!("the division is refused: {w}"));
        let words: BTreeSet<String> = answer.warnings.iter().cloned().chain(refused).collect();
        for new in words.difference(&self.said) {
            tracing::warn!("the market says: {new}");
        }
        self.said = words;
    }
}
