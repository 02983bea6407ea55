//! One step of the engine: a batch of commands, one commit, the answers.

use super::change::Change;
use super::command::{Command, Idempotency, Outcome, Refusal, Reply};
use super::commit::{Commit, CommitError};
use super::draft::{Draft, Keys};
use super::state::{State, Undo};
use super::{account, alter, host, image, lease, rent, sync};
use crate::tasks;
use sublet_model::units::Timestamp;
use sublet_wire::problem::Kind;

/// A command, and what makes it repeatable.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Present where the client may repeat it.
    pub idempotency: Option<Idempotency>,
}

/// What came of a batch.
#[derive(Debug)]
pub struct Stepped {
    /// One for each request, in order.
    pub answers: Vec<Result<Reply, Refusal>>,
    /// What was committed (and what is ephemeral), to be published.
    pub changes: Vec<Change>,
    /// Whether the state was read anew before: then all of it is to be published.
    pub reloaded: bool,
}

/// Why the market must end: nobody knows what the database holds.
#[derive(Debug, thiserror::Error)]
#[error("the market must stop: {0}")]
pub struct Fatal(pub String);

/// The market's decisions. Owned by one thread.
#[derive(Debug)]
pub struct Engine {
    state: State,
    keys: Keys,
}

/// A batch that is decided and not committed.
#[derive(Default)]
struct Decided {
    answers: Vec<Result<Reply, Refusal>>,
    changes: Vec<Change>,
    undos: Vec<Undo>,
}

impl Engine {
    /// An engine over what the database holds.
    pub fn new(mut state: State, keys: Keys, now: Timestamp) -> Self {
        let _ = state.apply(&Change::Started { at: now });
        Self { state, keys }
    }

    /// The state, with all that is committed.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Decides a batch, commits it, and answers.
    pub fn step(&mut self, db: &mut dyn Commit, batch: &[Request], now: Timestamp) -> Result<Stepped, Fatal> {
        let mut reloaded = false;
        if db.edited().map_err(fatal)? {
            self.reload(db)?;
            reloaded = true;
        }
        // Edited once more while we decided: read and decide again. A person types slower than that.
        for _ in 0..3 {
            match self.attempt(db, batch, now)? {
                Some(stepped) => return Ok(Stepped { reloaded, ..stepped }),
                None => {
                    self.reload(db)?;
                    reloaded = true;
                }
            }
        }
        let answers = batch.iter().map(|_| Err(unavailable("it is being edited by somebody else"))).collect();
        Ok(Stepped { answers, changes: Vec::new(), reloaded })
    }

    fn reload(&mut self, db: &mut dyn Commit) -> Result<(), Fatal> {
        tracing::warn!("the database was edited by somebody else: reading all of it again");
        let tables = db.load().map_err(fatal)?;
        self.state = self.state.reloaded(tables);
        Ok(())
    }

    /// None if the database was edited meanwhile.
    fn attempt(&mut self, db: &mut dyn Commit, batch: &[Request], now: Timestamp) -> Result<Option<Stepped>, Fatal> {
        let decided = self.decide_all(db, batch, now)?;
        match store(db, now, &decided.changes) {
            Ok(()) => Ok(Some(Stepped { answers: decided.answers, changes: decided.changes, reloaded: false })),
            Err(CommitError::Fatal(why)) => Err(Fatal(why)),
            Err(error) => {
                self.undo(decided.undos);
                match error {
                    CommitError::Edited => Ok(None),
                    CommitError::Constraint(_) if batch.len() > 1 => self.one_by_one(db, batch, now).map(Some),
                    error => Ok(Some(self.refused(batch, &error))),
                }
            }
        }
    }

    /// A batch that the database refused as a whole: each command for itself, so that only the
    /// culprit is refused.
    fn one_by_one(&mut self, db: &mut dyn Commit, batch: &[Request], now: Timestamp) -> Result<Stepped, Fatal> {
        let mut all = Stepped { answers: Vec::new(), changes: Vec::new(), reloaded: false };
        for request in batch {
            let one = std::slice::from_ref(request);
            let stepped = match self.attempt(db, one, now)? {
                Some(stepped) => stepped,
                // The next step reads anew; what was committed so far is committed.
                None => self.refused(one, &CommitError::Edited),
            };
            all.answers.extend(stepped.answers);
            all.changes.extend(stepped.changes);
        }
        Ok(all)
    }

    fn refused(&self, batch: &[Request], error: &CommitError) -> Stepped {
        let refusal = match error {
            CommitError::Constraint(why) => {
                tracing::error!(command = ?batch.first().map(|r| &r.command), "a rule of the database stopped a command that the engine allowed: {why}");
                Refusal::new(Kind::Internal, "the database refuses what the market decided: nothing was changed")
                    .advise("tell the operator of the market; the log has it under this request")
            }
            error => {
                tracing::warn!("nothing was committed: {error}");
                unavailable(&error.to_string())
            }
        };
        Stepped { answers: batch.iter().map(|_| Err(refusal.clone())).collect(), changes: Vec::new(), reloaded: false }
    }

    fn undo(&mut self, undos: Vec<Undo>) {
        for undo in undos.into_iter().rev() {
            self.state.undo(undo);
        }
    }

    fn decide_all(&mut self, db: &mut dyn Commit, batch: &[Request], now: Timestamp) -> Result<Decided, Fatal> {
        let mut decided = Decided::default();
        for request in batch {
            if let Some(answer) = recall(db, &decided.changes, request.idempotency.as_ref())? {
                decided.answers.push(answer);
                continue;
            }
            let mut draft = Draft::new(&mut self.state, &self.keys, now);
            match decide(&mut draft, &request.command) {
                Ok(preview @ Reply::Preview(_)) => {
                    draft.abandon();
                    decided.answers.push(Ok(preview));
                }
                Ok(reply) => {
                    remember(&mut draft, request, &reply);
                    let (changes, undos) = draft.finish();
                    decided.changes.extend(changes);
                    decided.undos.extend(undos);
                    decided.answers.push(Ok(reply));
                }
                Err(refusal) => {
                    draft.abandon();
                    decided.answers.push(Err(refusal));
                }
            }
        }
        Ok(decided)
    }
}

fn fatal(error: CommitError) -> Fatal {
    Fatal(error.to_string())
}

fn unavailable(why: &str) -> Refusal {
    Refusal::new(Kind::Unavailable, format!("nothing was changed: {why}")).advise("try again in a few seconds")
}

/// Stores what is not ephemeral; where all is, the database is not troubled.
fn store(db: &mut dyn Commit, now: Timestamp, changes: &[Change]) -> Result<(), CommitError> {
    let durable: Vec<&Change> = changes.iter().filter(|c| !c.is_ephemeral()).collect();
    if durable.is_empty() { Ok(()) } else { db.commit(now, &durable) }
}

/// The answer to a request that was done before, in an earlier batch or in this one.
fn recall(
    db: &mut dyn Commit,
    batch: &[Change],
    request: Option<&Idempotency>,
) -> Result<Option<Result<Reply, Refusal>>, Fatal> {
    let Some(asked) = request else { return Ok(None) };
    let here = batch.iter().find_map(|change| match change {
        Change::Done { member, key, body, outcome, .. } if *member == asked.member && *key == asked.key => {
            Some((*body, outcome.clone()))
        }
        _ => None,
    });
    let known = match here {
        Some(known) => Some(known),
        None => match db.recall(asked.member, &asked.key) {
            Ok(found) => found.map(|r| (r.body, r.outcome)),
            Err(CommitError::Fatal(why)) => return Err(Fatal(why)),
            Err(error) => return Ok(Some(Err(unavailable(&error.to_string())))),
        },
    };
    Ok(known.map(|(body, outcome)| {
        if body == asked.body {
            return Ok(Reply::Outcome(outcome));
        }
        Err(Refusal::new(Kind::IdempotencyMismatch, "this idempotency key was used for another request")
            .advise("use a new key for a new request"))
    }))
}

/// Stores what was done under its key, in the same commit. Refusals are not stored: they may
/// turn out otherwise the next time.
fn remember(draft: &mut Draft<'_>, request: &Request, reply: &Reply) {
    if let (Some(asked), Reply::Outcome(outcome)) = (&request.idempotency, reply) {
        let Idempotency { member, key, body } = asked.clone();
        // What may move money is kept for ever.
        let forever = matches!(outcome, Outcome::Granted { .. } | Outcome::Lease(_));
        let (outcome, at) = (outcome.clone(), draft.now);
        draft.put(Change::Done { member, key, body, outcome, forever, at });
    }
}

/// Decides one command.
fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<Reply, Refusal> {
    use Command as C;
    let outcome = match command {
        C::CreateAccount { .. }
        | C::SuspendAccount { .. }
        | C::CreateMember { .. }
        | C::CreateToken { .. }
        | C::RevokeToken { .. } => account::decide(draft, command)?,
        C::CreateJoinToken { .. }
        | C::JoinHost { .. }
        | C::OpenSession { .. }
        | C::ResetSession { .. }
        | C::SuspendHost { .. }
        | C::ForgetHost { .. } => host::decide(draft, command)?,
        C::Sync { host, session, request } => return sync::decide(draft, *host, *session, request),
        C::RegisterImage { .. } | C::SuspendImage { .. } => image::decide(draft, command)?,
        C::Rent(rent) => rent::decide(draft, rent)?,
        C::Preview(rent) => return rent::preview(draft, rent).map(|p| Reply::Preview(Box::new(p))),
        C::Release { .. } | C::Extend { .. } => lease::decide(draft, command)?,
        C::Alter { actor, partition, resources } => alter::decide(draft, actor, *partition, *resources)?,
        C::Tick => {
            tasks::run(draft)?;
            Outcome::Done
        }
    };
    Ok(Reply::Outcome(outcome))
}
