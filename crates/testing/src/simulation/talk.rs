//! How an agent speaks with the market: one call at a time, given up for news, begun again. As
//! `agent::sync_loop` does it, but for HTTP.

use super::computer::{Computer, Effects, Wake};
use super::market::{Answer, Ask, Caller};
use super::time::{At, MILLISECOND, SECOND};
use sublet_host::store::StoreError;
use sublet_host::sync::{self, Live};
use sublet_wire::mac::{KEY_BYTES, seal};
use sublet_wire::sync::{HOLD, PROTOCOL, SessionRequest, SyncAnswer, SyncRequest, Told, session_proof};

const SHORTEST_PAUSE: At = 100 * MILLISECOND;
const LONGEST_PAUSE: At = 5 * SECOND;
const REFUSED_PAUSE: At = 30 * SECOND;
/// A call is not given up for news before it had this long to be answered.
const LEAST_CALL: At = 30 * MILLISECOND;

/// A session that is open.
#[derive(Debug)]
struct Session {
    number: u64,
    seq: u64,
    key: [u8; KEY_BYTES],
    told: Told,
}

/// A call that waits.
#[derive(Debug)]
struct Call {
    number: u64,
    begun: At,
    /// What a sync is about.
    sync: Option<Box<SyncRequest>>,
}

/// What the agent knows of its conversation.
#[derive(Debug)]
pub struct Talk {
    session: Option<Session>,
    call: Option<Call>,
    plan_version: u64,
    news: bool,
    pause: At,
    refused_before: bool,
    token: u64,
}

impl Default for Talk {
    fn default() -> Self {
        Self {
            session: None,
            call: None,
            plan_version: 0,
            news: false,
            pause: SHORTEST_PAUSE,
            refused_before: false,
            token: 0,
        }
    }
}

impl Computer {
    fn talk(&mut self) -> Option<&mut Talk> {
        self.agent.as_mut().map(|agent| &mut agent.talk)
    }

    /// Has the next round begin at once.
    pub(super) fn talk_soon(&mut self, now: At, effects: &mut Effects) {
        self.talk_at(now, effects);
    }

    fn talk_at(&mut self, at: At, effects: &mut Effects) {
        let life = self.life;
        let Some(talk) = self.talk() else { return };
        talk.token += 1;
        effects.wakes.push((at, life, Wake::Talk(talk.token)));
    }

    /// Has the market hear what changed.
    pub(super) fn tell(&mut self, now: At, effects: &mut Effects) {
        let Some(talk) = self.talk() else { return };
        talk.news = true;
        if let Some(call) = talk.call.as_ref().filter(|call| call.sync.is_some()) {
            let at = now.max(call.begun + LEAST_CALL);
            self.talk_at(at, effects);
        }
    }

    /// It is time for the next round: a call that still waits is given up.
    pub(super) fn talk_is_due(&mut self, now: At, token: u64, effects: &mut Effects) {
        let Some(talk) = self.talk().filter(|talk| talk.token == token) else { return };
        talk.call = None;
        talk.news = false;
        if talk.session.is_none() {
            return self.call(now, Ask::Challenge, None, effects);
        }
        match self.request(now) {
            Ok(request) => self.send_sync(now, request, effects),
            Err(error) => self.rest(now, format!("no request: {error}"), effects),
        }
    }

    fn call(&mut self, now: At, ask: Ask, sync: Option<Box<SyncRequest>>, effects: &mut Effects) {
        self.calls += 1;
        let (number, life, computer) = (self.calls, self.life, self.number);
        let patience = if sync.is_some() {
            HOLD.as_micros() as At + 10 * SECOND
        } else {
            self.random.between(SECOND, 60 * SECOND)
        };
        let Some(talk) = self.talk() else { return };
        talk.call = Some(Call { number, begun: now, sync });
        effects.asks.push((Caller { computer, life, call: number }, ask));
        effects.wakes.push((now + patience, life, Wake::GiveUp(number)));
    }

    fn request(&self, now: At) -> Result<SyncRequest, StoreError> {
        let nothing = std::collections::BTreeMap::new();
        let agent = self.agent.as_ref();
        let live = Live {
            inventory: &self.inventory,
            dial: "127.0.0.1:40222",
            boot_id: &self.boot_id(),
            mono_us: self.clock.now(now).mono_us,
            wall_clock: self.clock.wall(now),
            refusals: agent.map_or(&nothing, |agent| &agent.refusals),
            plan_version: agent.map_or(0, |agent| agent.talk.plan_version),
            caught_up: true,
        };
        sync::request(&self.store, &live, |_| (0, 1))
    }

    fn send_sync(&mut self, now: At, request: SyncRequest, effects: &mut Effects) {
        let Some(session) = self.talk().and_then(|talk| talk.session.as_mut()) else { return };
        let Ok(body) = serde_json::to_vec(&session.told.message(&request)) else { return };
        session.seq += 1;
        let (number, seq) = (session.number, session.seq);
        let mac = seal(&session.key, number, seq, &body);
        self.call(now, Ask::Sync { session: number, seq, mac, body }, Some(Box::new(request)), effects);
    }

    /// Nobody answered.
    pub(super) fn give_up(&mut self, now: At, number: u64, effects: &mut Effects) {
        let Some(talk) = self.talk() else { return };
        if talk.call.as_ref().is_some_and(|call| call.number == number) {
            self.rest(now, "no word from the market".into(), effects);
        }
    }

    /// Pauses, for longer each time.
    fn rest(&mut self, now: At, why: String, effects: &mut Effects) {
        effects.notes.push(format!("computer {} rests: {why}", self.number));
        let Some(talk) = self.talk() else { return };
        talk.call = None;
        let pause = talk.pause;
        talk.pause = (pause * 2).min(LONGEST_PAUSE);
        self.talk_at(now + pause, effects);
    }

    /// An answer came; one that nobody waits for is let be.
    pub(super) fn answered(&mut self, now: At, number: u64, answer: Answer, effects: &mut Effects) {
        let Some(talk) = self.talk() else { return };
        let Some(call) = talk.call.take_if(|call| call.number == number) else { return };
        if let (Answer::Sync(answer), Some(whole), Some(session)) = (&answer, &call.sync, &mut talk.session) {
            session.told.answered(whole, answer);
        }
        match answer {
            Answer::Away => self.rest(now, "the market is away".into(), effects),
            Answer::Refused(why) => self.refused(now, why, effects),
            Answer::Challenge(nonce) => self.prove(now, nonce, effects),
            Answer::Session(number, key) => self.opened(now, number, key, effects),
            Answer::Sync(answer) => self.take_answer(now, *answer, effects),
        }
    }

    fn refused(&mut self, now: At, why: String, effects: &mut Effects) {
        effects.notes.push(format!("computer {} is refused: {why}", self.number));
        let Some(talk) = self.talk() else { return };
        talk.session = None;
        let pause = if talk.refused_before { REFUSED_PAUSE } else { 0 };
        talk.refused_before = true;
        self.talk_at(now + pause, effects);
    }

    fn prove(&mut self, now: At, nonce: String, effects: &mut Effects) {
        let Ok(Some(identity)) = self.store.identity() else {
            return self.rest(now, "nobody knows who this is".into(), effects);
        };
        let signature = self.key.sign_bytes(&session_proof(self.host, &nonce));
        let last_session = identity.session;
        let request = SessionRequest { nonce, signature, last_session, protocol: PROTOCOL, epoch: None };
        self.call(now, Ask::Open(request), None, effects);
    }

    fn opened(&mut self, now: At, number: u64, key: [u8; KEY_BYTES], effects: &mut Effects) {
        // Before anything is said in it.
        if let Err(error) = self.store.opened_session(number) {
            return self.rest(now, error.to_string(), effects);
        }
        match self.with_hands(now, async |hands, at| hands.receipt_session_change(at).await) {
            Some(Ok(())) => {}
            Some(Err(error)) => return self.rest(now, error.to_string(), effects),
            None => return,
        }
        let Some(talk) = self.talk() else { return };
        talk.session = Some(Session { number, seq: 0, key, told: Told::default() });
        talk.plan_version = 0;
        self.talk_at(now, effects);
    }

    fn take_answer(&mut self, now: At, mut answer: SyncAnswer, effects: &mut Effects) {
        if let Err(refused) = sync::check(&mut answer) {
            return self.rest(now, refused.to_string(), effects);
        }
        for warning in &answer.warnings {
            effects.notes.push(format!("computer {} is warned: {warning}", self.number));
        }
        if let Err(error) = sync::keep(&self.store, &answer.acknowledged, &answer.told) {
            return self.rest(now, error.to_string(), effects);
        }
        let Some(agent) = &mut self.agent else { return };
        if answer.plan.is_some() {
            agent.plan = answer.plan.clone();
        }
        if !self.follow(now, effects) {
            return self.rest(now, "the plan could not be followed".into(), effects);
        }
        let Some(talk) = self.talk() else { return };
        talk.plan_version = answer.plan_version;
        (talk.pause, talk.refused_before) = (SHORTEST_PAUSE, false);
        self.talk_at(now, effects);
    }
}
