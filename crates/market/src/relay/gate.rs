//! Who may use the relay.

use super::Tokens;
use crate::engine::thread::Handle;
use iroh_base::EndpointId;
use iroh_relay::server::{Access, AccessControl, ClientRequest, ConnectionId};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ends that are connected at once.
const MOST_ENDS: usize = 4096;

/// Lets in hosts by their key and clients by their token, while there is room.
pub struct Gate {
    engine: Handle,
    tokens: Tokens,
    present: AtomicUsize,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gate({} are in)", self.present.load(Ordering::Relaxed))
    }
}

impl Gate {
    pub fn new(engine: Handle, tokens: Tokens) -> Self {
        Self { engine, tokens, present: AtomicUsize::new(0) }
    }

    fn is_host(&self, key: &[u8; 32]) -> bool {
        self.engine.read(|state| state.hosts().any(|host| host.forgotten_at.is_none() && host.key.0 == *key))
    }

    fn why_not(&self, request: &ClientRequest) -> Option<&'static str> {
        let token = request.auth_token();
        let is_client = token.is_some_and(|token| self.tokens.check(&token, self.engine.now()).is_some());
        if !is_client && !self.is_host(request.endpoint_id().as_bytes()) {
            return Some("this relay is for hosts of its market and for clients with a lease");
        }
        let room = self.present.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < MOST_ENDS).then_some(n + 1));
        room.is_err().then_some("the relay is full")
    }
}

impl AccessControl for Gate {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        match self.why_not(request) {
            None => Access::Allow,
            Some(reason) => {
                tracing::debug!(end = %request.endpoint_id(), reason, "the relay refused an end");
                Access::Deny { reason: Some(reason.into()) }
            }
        }
    }

    fn on_disconnect(&self, _: EndpointId, _: ConnectionId) {
        self.present.fetch_sub(1, Ordering::AcqRel);
    }
}
