//! The market: the real engine over the real database, the real sessions in front of it, and what
//! its HTTP server does in between, without HTTP.

use super::database::Database;
use super::time::{At, BEGINNING, MILLISECOND, SECOND};
use std::time::{Duration, Instant};
use sublet_market::engine::change::Change;
use sublet_market::engine::command::{Command, Outcome, Refusal, Reply};
use sublet_market::engine::commit::{Commit, CommitError};
use sublet_market::engine::step::{Engine, Request};
use sublet_market::engine::{Keys, State, plan};
use sublet_market::http::sessions::{Proof, Proven, Sessions};
use sublet_model::identity::SecretKey;
use sublet_model::ids::{HostId, LeaseId};
use sublet_model::units::Timestamp;
use sublet_wire::mac::KEY_BYTES;
use sublet_wire::problem::Kind;
use sublet_wire::sync::{HOLD, SessionRequest, SyncAnswer, SyncMessage, session_proof};

/// How many commands share one commit at most.
const BATCH: usize = 256;

/// Whose call it is: which computer, which life of its agent, which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Which computer.
    pub computer: usize,
    /// Which life of its agent.
    pub life: u64,
    /// Which call.
    pub call: u64,
}

/// What a host says.
#[derive(Debug, Clone)]
pub enum Ask {
    /// It wants something fresh to sign.
    Challenge,
    /// It signed it.
    Open(SessionRequest),
    /// Everything it sees, as bytes, with session, number and MAC.
    Sync {
        /// In which session.
        session: u64,
        /// Which one of it.
        seq: u64,
        /// Proof of both and of the body.
        mac: String,
        /// JSON.
        body: Vec<u8>,
    },
}

/// What a host is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Something fresh to sign.
    Challenge(String),
    /// A session is open.
    Session(u64, [u8; KEY_BYTES]),
    /// Everything wanted.
    Sync(Box<SyncAnswer>),
    /// Its session, or its key, is refused.
    Refused(String),
    /// Not now.
    Away,
}

/// What comes in.
#[derive(Debug, Clone)]
pub enum Inbound {
    /// From a host.
    Host(Caller, HostId, Ask),
    /// From a client: which one, which attempt, what.
    Client(usize, u64, Request),
    /// From the operator, who waits for nothing.
    Word(Command),
    /// Time passed.
    Tick,
}

/// What goes out.
#[derive(Debug, Clone)]
pub enum Outbound {
    /// To a host.
    Host(Caller, Answer),
    /// To a client.
    Client(usize, u64, Result<Outcome, Refusal>),
}

/// Who waits for an answer of the engine.
enum Waiting {
    Open(Caller, HostId),
    Sync {
        caller: Caller,
        host: HostId,
        session: u64,
        knows: u64,
        divided: Option<u64>,
        sent: Vec<(LeaseId, u64)>,
        proven: Proven,
    },
    Client(usize, u64),
    Nobody,
}

/// A sync that is held open.
struct Held {
    caller: Caller,
    host: HostId,
    session: u64,
    knows: u64,
    answer: Box<SyncAnswer>,
    proven: Proven,
    until: At,
}

/// What one turn did.
#[derive(Debug, Default)]
pub struct Turn {
    /// Its answers.
    pub out: Vec<Outbound>,
    /// What was committed.
    pub changes: Vec<Change>,
    /// Whether the database was read anew before.
    pub reloaded: bool,
    /// What the operator was answered.
    pub words: Vec<Result<Reply, Refusal>>,
    /// The next moment at which a held sync is to be let go.
    pub held_until: Option<At>,
}

/// A market that serves.
pub struct Market {
    engine: Engine,
    sessions: Sessions,
    base: Timestamp,
    opened: At,
    instant: Instant,
    inbox: Vec<Inbound>,
    held: Vec<Held>,
    /// Which computer spoke for which host, in which session, since this was asked last.
    pub spoke: Vec<(HostId, u64, usize)>,
}

/// The keys of the market.
pub fn keys() -> Keys {
    Keys::first(SecretKey::from_seed(&[9; 32]), Vec::new())
}

impl Market {
    /// Starts over what the database holds; the computer's wall clock is wrong by so much.
    pub fn start(db: &mut Database, now: At, wrong: i64) -> Result<Self, CommitError> {
        let high_water = db.market_time().map_err(|e| CommitError::Fatal(e.to_string()))?;
        // As `MarketClock`: never before what was recorded.
        let base = Timestamp(BEGINNING + now + wrong).max(high_water);
        let engine = Engine::new(State::new(db.load()?), keys(), base);
        let sessions = Sessions::default();
        Ok(Self {
            engine,
            sessions,
            base,
            opened: now,
            instant: Instant::now(),
            inbox: Vec::new(),
            held: Vec::new(),
            spoke: Vec::new(),
        })
    }

    /// What it knows.
    pub fn state(&self) -> &State {
        self.engine.state()
    }

    /// What it takes the time to be.
    pub fn time(&self, now: At) -> Timestamp {
        Timestamp(self.base.0 + (now - self.opened))
    }

    fn instant(&self, now: At) -> Instant {
        self.instant + Duration::from_micros((now - self.opened).unsigned_abs())
    }

    /// Something came.
    pub fn take(&mut self, inbound: Inbound) {
        self.inbox.push(inbound);
    }

    /// Whether something waits.
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Decides what waits, commits it, answers. An error: nobody knows what the database holds.
    pub fn turn(&mut self, db: &mut Database, now: At) -> Result<Turn, String> {
        let mut turn = Turn::default();
        let rest = self.inbox.split_off(self.inbox.len().min(BATCH));
        let inbox = std::mem::replace(&mut self.inbox, rest);
        let (mut requests, mut waiting) = (Vec::new(), Vec::new());
        for inbound in inbox {
            match self.admit(inbound, now) {
                Ok((request, who)) => {
                    requests.push(request);
                    waiting.push(who);
                }
                Err(outbound) => turn.out.push(outbound),
            }
        }
        if !requests.is_empty() {
            let stepped = self.engine.step(db, &requests, self.time(now)).map_err(|fatal| fatal.0)?;
            (turn.changes, turn.reloaded) = (stepped.changes, stepped.reloaded);
            for (who, answer) in waiting.into_iter().zip(stepped.answers) {
                self.answer(who, answer, now, &mut turn);
            }
        }
        self.let_go(now, &mut turn);
        Ok(turn)
    }

    /// What is to be decided; or the answer, where nothing is.
    fn admit(&mut self, inbound: Inbound, now: At) -> Result<(Request, Waiting), Outbound> {
        let plain = |command| Request { command, idempotency: None };
        match inbound {
            Inbound::Tick => Ok((plain(Command::Tick), Waiting::Nobody)),
            Inbound::Word(command) => Ok((plain(command), Waiting::Nobody)),
            Inbound::Client(client, attempt, request) => Ok((request, Waiting::Client(client, attempt))),
            Inbound::Host(caller, host, ask) => {
                let refused = |why: String| Outbound::Host(caller, Answer::Refused(why));
                let (command, who) = match ask {
                    Ask::Challenge => {
                        let nonce = self.sessions.challenge(host, self.instant(now));
                        return Err(Outbound::Host(caller, Answer::Challenge(nonce)));
                    }
                    Ask::Open(request) => {
                        (self.open(host, request, now).map_err(refused)?, Waiting::Open(caller, host))
                    }
                    Ask::Sync { session, seq, mac, body } => {
                        let proof = Proof { session, seq, mac: &mac };
                        let proven = self.sessions.prove(host, proof, &body).map_err(|f| refused(f.detail))?;
                        self.spoke.push((host, session, caller.computer));
                        let request: SyncMessage = serde_json::from_slice(&body).map_err(|e| refused(e.to_string()))?;
                        let sent = request.receipts.iter().filter_map(|signed| signed.read().ok());
                        let who = Waiting::Sync {
                            caller,
                            host,
                            session,
                            knows: request.plan_version,
                            divided: self.divided(host),
                            sent: sent.map(|receipt| (receipt.lease, receipt.seq)).collect(),
                            proven,
                        };
                        (Command::Sync { host, session, request: Box::new(request) }, who)
                    }
                };
                Ok((plain(command), who))
            }
        }
    }

    fn open(&self, host: HostId, request: SessionRequest, now: At) -> Result<Command, String> {
        let SessionRequest { nonce, signature, last_session, .. } = request;
        let now = self.instant(now);
        self.sessions.check_challenge(host, &nonce, now).map_err(|f| f.detail)?;
        let known = self.state().host(host).filter(|row| row.forgotten_at.is_none()).map(|row| row.key);
        let key = known.ok_or("the market does not know the host")?;
        key.verify_bytes(&session_proof(host, &nonce), &signature).map_err(|e| e.to_string())?;
        self.sessions.use_challenge(&nonce, now).map_err(|f| f.detail)?;
        Ok(Command::OpenSession { host, last_session })
    }

    fn divided(&self, host: HostId) -> Option<u64> {
        self.state().host(host).map(|row| row.division_revision)
    }

    fn answer(&mut self, who: Waiting, answer: Result<Reply, Refusal>, now: At, turn: &mut Turn) {
        match who {
            Waiting::Nobody => turn.words.push(answer),
            Waiting::Client(client, attempt) => {
                let outcome = answer.and_then(|reply| match reply {
                    Reply::Outcome(outcome) => Ok(outcome),
                    // It stands in line: whoever asks again under its key hears how it goes on.
                    _ => Err(Refusal {
                        kind: Kind::Unavailable,
                        detail: "it stands until something fits".into(),
                        advice: None,
                        unfit: Vec::new(),
                    }),
                });
                turn.out.push(Outbound::Client(client, attempt, outcome));
            }
            Waiting::Open(caller, host) => {
                let opened = match answer {
                    Ok(Reply::Outcome(Outcome::Session(session))) => {
                        let key = self.sessions.opened(host, session);
                        key.map_or(Answer::Refused("another agent was quicker".into()), |key| {
                            Answer::Session(session, key)
                        })
                    }
                    Ok(_) => Answer::Away,
                    Err(refusal) => refused(&refusal),
                };
                turn.out.push(Outbound::Host(caller, opened));
            }
            Waiting::Sync { caller, host, session, knows, divided, sent, proven } => match answer {
                Ok(Reply::Sync(answer)) => {
                    let settles = sent
                        .iter()
                        .any(|(lease, seq)| answer.acknowledged.iter().any(|a| a.lease == *lease && a.seq >= *seq));
                    if answer.plan_version != knows || self.divided(host) != divided || settles {
                        turn.out.push(Outbound::Host(caller, Answer::Sync(answer)));
                    } else {
                        let until = now + HOLD.as_micros() as At;
                        self.held.push(Held { caller, host, session, knows, answer, proven, until });
                    }
                }
                Ok(_) => turn.out.push(Outbound::Host(caller, Answer::Away)),
                Err(refusal) => turn.out.push(Outbound::Host(caller, refused(&refusal))),
            },
        }
    }

    /// Lets syncs go that are held: for news, for a newer one, or because it is time.
    fn let_go(&mut self, now: At, turn: &mut Turn) {
        let held = std::mem::take(&mut self.held);
        for mut one in held {
            let version = self.state().host(one.host).map(|row| row.plan_version);
            let is_over = self.sessions.check_session(one.host, one.session).is_err();
            let is_old = one.proven.newer.has_changed().unwrap_or(true);
            if !is_over && !is_old && now < one.until && version == Some(one.knows) {
                turn.held_until = Some(turn.held_until.map_or(one.until, |until| until.min(one.until)));
                self.held.push(one);
                continue;
            }
            if is_over {
                turn.out.push(Outbound::Host(one.caller, Answer::Refused("the session is over".into())));
                continue;
            }
            if let Some(plan) = plan::of(self.state(), one.host) {
                (one.answer.plan_version, one.answer.plan) =
                    (plan.version, (plan.version != one.knows).then_some(plan.wanted));
            }
            one.answer.market_time = self.time(now);
            turn.out.push(Outbound::Host(one.caller, Answer::Sync(one.answer)));
        }
    }
}

fn refused(refusal: &Refusal) -> Answer {
    match refusal.kind {
        Kind::SessionRefused | Kind::Unauthenticated | Kind::NotFound | Kind::Forbidden => {
            Answer::Refused(refusal.detail.clone())
        }
        _ => Answer::Away,
    }
}

/// How long the engine takes to look at what came: what comes meanwhile shares its commit.
pub const TURN: At = 2 * MILLISECOND;
/// How often time passes.
pub const TICK: At = SECOND;
