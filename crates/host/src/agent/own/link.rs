//! The link to the guest of an own partition: made, kept, made again.

use crate::agent::guest::{TRY_FOR, Who, meet};
use crate::agent::shared::{Linked, Slot};
use crate::store::Own;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// Pause after a guest that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Who the guest of an own partition is told that it is.
pub fn who(own: &Own) -> Who {
    Who { lease: user(&own.name), generation: own.starts, hostname: own.name.clone(), has: own.allocation() }
}

/// Begins the name as whom the owner enters: no lease has such a one.
pub const OWN: &str = "own_";

/// As whom the owner enters.
pub fn user(name: &str) -> String {
    format!("{OWN}{name}")
}

/// Keeps the link to a guest up until dropped.
pub struct Keeper(AbortHandle);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    /// Starts; the guest of a machine that boots has `patience` to answer first.
    pub fn start(slot: &Arc<Slot>, who: Who, socket: PathBuf, patience: Duration) -> Self {
        Self(tokio::spawn(keep_link(Arc::clone(slot), who, socket, patience)).abort_handle())
    }
}

async fn keep_link(slot: Arc<Slot>, who: Who, socket: PathBuf, patience: Duration) {
    // It may boot yet.
    let mut until = Instant::now() + patience.max(TRY_FOR);
    loop {
        match meet(who.clone(), socket.clone(), until).await {
            Ok(link) => {
                slot.guest.send_replace(Some(Linked { generation: who.generation, link: link.clone() }));
                let error = link.closed().await;
                slot.guest.send_replace(None);
                tracing::debug!(name = who.hostname, %error, "the link to the guest ended; it is made again");
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => {
                tracing::warn!(name = who.hostname, %error, "the guest does not answer; it is asked again");
                sleep(PAUSE).await;
            }
        }
        until = Instant::now() + TRY_FOR;
    }
}
