//! Open sessions of hosts, and the challenges that open them. In memory only: after a restart of
//! the market every host opens a new session, which costs it one round trip.
//!
//! A challenge is not stored but sealed by the market, so that asking for many fills nothing; only
//! those that were answered with a good signature are remembered until they are stale.

use crate::http::problem::Fault;
use data_encoding::HEXLOWER;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use sublet_model::ids::HostId;
use sublet_wire::mac::{self, KEY_BYTES};
use sublet_wire::problem::Kind;
use tokio::sync::watch;

/// How long a challenge is good.
const CHALLENGE_LIFETIME: Duration = Duration::from_secs(60);

/// The sessions of all hosts.
#[derive(Debug)]
pub struct Sessions {
    /// Seals challenges; a new one with every start.
    seal: [u8; KEY_BYTES],
    started: Instant,
    answered: Mutex<HashMap<String, Instant>>,
    open: Mutex<HashMap<HostId, Open>>,
}

/// One open session.
#[derive(Debug)]
struct Open {
    session: u64,
    mac_key: [u8; KEY_BYTES],
    /// The newest number that came; whoever holds an older sync lets it go.
    newest: watch::Sender<u64>,
}

/// A sync whose proof holds.
#[derive(Debug)]
pub struct Proven {
    /// Changes as soon as a newer sync of the session, or a newer session, comes.
    pub newer: watch::Receiver<u64>,
}

/// What proves a sync.
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    /// The session's number.
    pub session: u64,
    /// The sync's number within it.
    pub seq: u64,
    /// The MAC.
    pub mac: &'a str,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(detail: impl Into<String>) -> Fault {
    Fault::new(Kind::SessionRefused, detail).advise("open a new session")
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            seal: sublet_wire::random_bytes(),
            started: Instant::now(),
            answered: Mutex::default(),
            open: Mutex::default(),
        }
    }
}

impl Sessions {
    /// Something fresh for `host` to sign: age, randomness and the market's seal over both.
    pub fn challenge(&self, host: HostId, now: Instant) -> String {
        let age_ms = u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX);
        let random = HEXLOWER.encode(&sublet_wire::random_bytes::<16>());
        format!("{age_ms}.{random}.{}", self.sealed(host, age_ms, &random))
    }

    fn sealed(&self, host: HostId, age_ms: u64, random: &str) -> String {
        mac::seal(&self.seal, age_ms, 0, format!("{host}.{random}").as_bytes())
    }

    /// Checks that `nonce` was made here, for this host, less than a minute ago.
    pub fn check_challenge(&self, host: HostId, nonce: &str, now: Instant) -> Result<(), Fault> {
        let stale = || refused("the challenge is stale: it is good for a minute, once");
        let mut parts = nonce.splitn(3, '.');
        let (Some(age), Some(random), Some(seal)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refused("the nonce is none of this market's challenges"));
        };
        let age_ms: u64 = age.parse().map_err(|_| refused("the nonce is none of this market's challenges"))?;
        // One challenge has one spelling, or it could be used twice.
        let spelt = age == age_ms.to_string() && !nonce.bytes().any(|b| b.is_ascii_uppercase());
        if nonce.len() > 200
            || !spelt
            || !mac::holds(&self.seal, age_ms, 0, format!("{host}.{random}").as_bytes(), seal)
        {
            // A market that restarted can't know its older challenges either.
            return Err(refused("the nonce is none of this market's challenges, or for another host"));
        }
        let made = self.started + Duration::from_millis(age_ms);
        if now.duration_since(made) > CHALLENGE_LIFETIME || lock(&self.answered).contains_key(nonce) {
            return Err(stale());
        }
        Ok(())
    }

    /// Uses a challenge up, once its signature was found good.
    pub fn use_challenge(&self, nonce: &str, now: Instant) -> Result<(), Fault> {
        let mut answered = lock(&self.answered);
        answered.retain(|_, at| now.duration_since(*at) <= CHALLENGE_LIFETIME);
        match answered.insert(nonce.into(), now) {
            None => Ok(()),
            Some(_) => Err(refused("the challenge was answered before: it is good once")),
        }
    }

    /// Notes the newest session of a host; whatever its older one holds is let go. None if a newer
    /// one came in between.
    pub fn opened(&self, host: HostId, session: u64) -> Option<[u8; KEY_BYTES]> {
        let mut open = lock(&self.open);
        if open.get(&host).is_some_and(|known| known.session >= session) {
            return None;
        }
        let mac_key = sublet_wire::random_bytes();
        open.insert(host, Open { session, mac_key, newest: watch::Sender::new(0) });
        Some(mac_key)
    }

    /// Ends the session of a host that is no host any more.
    pub fn forget(&self, host: HostId) {
        lock(&self.open).remove(&host);
    }

    /// Whether `session` is the one that is open, before its body is even read.
    pub fn check_session(&self, host: HostId, session: u64) -> Result<(), Fault> {
        match lock(&self.open).get(&host).map(|open| open.session) {
            Some(newest) if newest == session => Ok(()),
            Some(newest) if newest > session => Err(Fault::new(
                Kind::SessionRefused,
                format!("another agent already uses this host's key (session {newest}; this one is {session})"),
            )
            .advise("make sure that only one agent runs with this host's folder, then open a new session")),
            _ => Err(refused("the market has no such session open; it may have restarted")),
        }
    }

    /// Checks number and MAC over the raw body, and uses the number up.
    pub fn prove(&self, host: HostId, proof: Proof<'_>, body: &[u8]) -> Result<Proven, Fault> {
        self.check_session(host, proof.session)?;
        let gone = || refused("the market has no such session open");
        // The MAC over a large body takes a while: others need not wait for it.
        let mac_key = lock(&self.open).get(&host).map(|open| open.mac_key).ok_or_else(gone)?;
        if !mac::holds(&mac_key, proof.session, proof.seq, body, proof.mac) {
            return Err(refused("the MAC does not hold for this session, number and body"));
        }
        let open = lock(&self.open);
        let session = open.get(&host).filter(|open| open.session == proof.session).ok_or_else(gone)?;
        let newest = *session.newest.borrow();
        if proof.seq <= newest {
            let detail = format!("sync {} came after {newest}: a replay, or out of order", proof.seq);
            return Err(refused(detail));
        }
        session.newest.send_replace(proof.seq);
        Ok(Proven { newer: session.newest.subscribe() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn host(n: u128) -> HostId {
        Uuid::from_u128(n).into()
    }

    #[test]
    fn a_challenge_is_for_one_host_a_minute_and_once() {
        let sessions = Sessions::default();
        let now = Instant::now();
        let nonce = sessions.challenge(host(1), now);
        assert_eq!(sessions.check_challenge(host(1), &nonce, now), Ok(()));
        assert!(sessions.check_challenge(host(2), &nonce, now).is_err());
        assert!(sessions.check_challenge(host(1), &nonce, now + Duration::from_secs(61)).is_err());
        assert!(Sessions::default().check_challenge(host(1), &nonce, now).is_err(), "another market's");
        for bad in [
            "",
            "..",
            "1.a.b",
            "x.y.z",
            &nonce[..nonce.len() - 1],
            &nonce.replacen('.', "7.", 1),
            &format!("0{nonce}"),
            &nonce.to_uppercase(),
        ] {
            assert!(sessions.check_challenge(host(1), bad, now).is_err(), "{bad:?}");
        }
        assert_eq!(sessions.use_challenge(&nonce, now), Ok(()));
        assert!(sessions.use_challenge(&nonce, now).is_err());
        assert!(sessions.check_challenge(host(1), &nonce, now).is_err());
        sessions.use_challenge("other", now + Duration::from_secs(120)).unwrap();
        assert_eq!(lock(&sessions.answered).len(), 1, "stale ones are forgotten");
    }

    #[test]
    fn only_the_newest_session_with_rising_numbers_and_a_true_mac_is_heard() {
        let sessions = Sessions::default();
        let key = sessions.opened(host(1), 4).unwrap();
        let prove = |session, seq, sealed: &[u8; KEY_BYTES], body: &[u8], sent: &[u8]| {
            let mac = mac::seal(sealed, session, seq, body);
            sessions.prove(host(1), Proof { session, seq, mac: &mac }, sent).map(|_| ()).map_err(|f| f.detail)
        };
        assert_eq!(prove(4, 1, &key, b"a", b"a"), Ok(()));
        assert!(prove(4, 1, &key, b"a", b"a").unwrap_err().contains("replay"));
        assert_eq!(prove(4, 7, &key, b"a", b"a"), Ok(()), "a sync that was given up leaves a gap");
        assert!(prove(4, 6, &key, b"a", b"a").unwrap_err().contains("out of order"));
        assert!(prove(4, 8, &key, b"a", b"b").unwrap_err().contains("MAC"));
        assert!(prove(4, 8, &[0; KEY_BYTES], b"a", b"a").unwrap_err().contains("MAC"));
        assert_eq!(prove(4, 8, &key, b"a", b"a"), Ok(()), "what failed used no number up");
        assert!(prove(5, 9, &key, b"a", b"a").unwrap_err().contains("restarted"));

        let newer = sessions.opened(host(1), 5).unwrap();
        assert!(prove(4, 9, &key, b"a", b"a").unwrap_err().contains("another agent"));
        assert_eq!(prove(5, 1, &newer, b"a", b"a"), Ok(()));
        assert!(sessions.opened(host(1), 5).is_none(), "a number is used once");
    }
}
