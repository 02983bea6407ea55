//! Wakes those who wait for news of one host's plan or of one lease, and nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use sublet_model::ids::{HostId, LeaseId};
use tokio::sync::Notify;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    Plan(HostId),
    Lease(LeaseId),
}

/// Who waits for what. Holds a topic only while somebody waits for it.
#[derive(Debug, Default)]
pub(super) struct Wakers(Mutex<HashMap<Topic, Arc<Notify>>>);

impl Wakers {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<Topic, Arc<Notify>>> {
        // The map is whole after every statement below, whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_news` says so. It is asked at once, and again after each wake.
    pub async fn wait(&self, topic: Topic, is_news: impl Fn() -> bool) {
        let waiting = Waiting { wakers: self, topic, notify: Arc::clone(self.map().entry(topic).or_default()) };
        loop {
            // Listening comes before looking: what happens in between is not missed.
            let mut woken = std::pin::pin!(waiting.notify.notified());
            woken.as_mut().enable();
            if is_news() {
                return;
            }
            woken.await;
        }
    }

    pub fn wake(&self, topics: impl IntoIterator<Item = Topic>) {
        let map = self.map();
        for notify in topics.into_iter().filter_map(|topic| map.get(&topic)) {
            notify.notify_waiters();
        }
    }

    #[cfg(test)]
    fn waited_for(&self) -> usize {
        self.map().len()
    }
}

struct Waiting<'a> {
    wakers: &'a Wakers,
    topic: Topic,
    notify: Arc<Notify>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut map = self.wakers.map();
        // The map's own and this one: nobody else waits.
        if Arc::strong_count(&self.notify) <= 2 {
            map.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_waiter_wakes_for_its_own_news_and_leaves_nothing_behind() {
        let wakers = Arc::new(Wakers::default());
        let news = Arc::new(AtomicBool::new(false));
        let (mine, other) = (Topic::Plan(Uuid::from_u128(1).into()), Topic::Plan(Uuid::from_u128(2).into()));
        let waiter = tokio::spawn({
            let (wakers, news) = (Arc::clone(&wakers), Arc::clone(&news));
            async move { wakers.wait(mine, || news.load(Ordering::SeqCst)).await }
        });
        while wakers.waited_for() == 0 {
            tokio::task::yield_now().await;
        }
        wakers.wake([other]);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        news.store(true, Ordering::SeqCst);
        wakers.wake([mine]);
        tokio::time::timeout(Duration::from_secs(5), waiter).await.unwrap().unwrap();
        assert_eq!(wakers.waited_for(), 0);
        wakers.wait(mine, || true).await;
        assert_eq!(wakers.waited_for(), 0, "what is news already is not waited for");
    }
}
