//! One step of the engine: a batch of commands, one commit, the answers.

use super::change::Change;
use super::command::{Command, Idempotency, Refusal, Reply};
use super::commit::{Commit, CommitError};
use super::draft::Keys;
use super::standing::Standing;
use super::state::{State, Undo};
use std::collections::HashMap;
use sublet_model::ids::HostId;
use sublet_model::units::Timestamp;
use sublet_wire::problem::Kind;

mod decide;
mod turn;

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
    standing: Standing,
    /// When a session was last refused to a host, for the audit log to say so once in a while.
    refused: HashMap<HostId, Timestamp>,
}

/// A batch that is decided and not committed: the state is ahead of the database by it.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub answers: Vec<Result<Reply, Refusal>>,
    pub changes: Vec<Change>,
    undos: Vec<Undo>,
    /// Requests that stood and are granted with it.
    served: Vec<u64>,
}

impl Engine {
    /// An engine over what the database holds.
    pub fn new(mut state: State, keys: Keys, now: Timestamp) -> Self {
        let _ = state.apply(&Change::Started { at: now });
        Self { state, keys, standing: Standing::default(), refused: HashMap::new() }
    }

    /// The state, with all that is committed.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Decides a batch, commits it, and answers.
    pub fn step(&mut self, db: &mut dyn Commit, batch: &[Request], now: Timestamp) -> Result<Stepped, Fatal> {
        let mut reloaded = false;
        // Edited since it was read: read and decide again. A person types slower than that.
        for _ in 0..4 {
            match self.attempt(db, batch, now, true)? {
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
        self.standing.anything_may_fit();
        Ok(())
    }

    /// None if the database was edited meanwhile.
    fn attempt(
        &mut self,
        db: &mut dyn Commit,
        batch: &[Request],
        now: Timestamp,
        serve: bool,
    ) -> Result<Option<Stepped>, Fatal> {
        let recall = &mut |member, key: &str| db.recall(member, key);
        let mut decided = self.decide(recall, &[], batch, now)?;
        if serve {
            self.serve_standing(&mut decided, now);
        }
        match store(db, now, &decided.changes) {
            Ok(()) => {
                self.committed(&decided);
                Ok(Some(Stepped { answers: decided.answers, changes: decided.changes, reloaded: false }))
            }
            Err(CommitError::Fatal(why)) => Err(Fatal(why)),
            Err(error) => {
                let served = self.undo(decided);
                match error {
                    CommitError::Edited => Ok(None),
                    // Tried by itself already, it is refused: also where what it asks for stood.
                    CommitError::Constraint(_) if serve && (batch.len() > 1 || !served.is_empty()) => {
                        self.one_by_one(db, batch, now, &served).map(Some)
                    }
                    error => Ok(Some(self.refused(batch, &error))),
                }
            }
        }
    }

    /// A batch that the database refused as a whole: each command for itself, so that only the
    /// culprit is refused.
    fn one_by_one(
        &mut self,
        db: &mut dyn Commit,
        batch: &[Request],
        now: Timestamp,
        served: &[u64],
    ) -> Result<Stepped, Fatal> {
        let mut all = Stepped { answers: Vec::new(), changes: Vec::new(), reloaded: false };
        for request in batch {
            let one = std::slice::from_ref(request);
            let stepped = match self.attempt(db, one, now, false)? {
                Some(stepped) => stepped,
                // The next step reads anew; what was committed so far is committed.
                None => self.refused(one, &CommitError::Edited),
            };
            all.answers.extend(stepped.answers);
            all.changes.extend(stepped.changes);
        }
        if all.answers.iter().all(|a| !matches!(a, Err(refusal) if refusal.kind == Kind::Internal)) {
            // None of those that were asked for is the culprit: those that stood are given up.
            served.iter().for_each(|place| self.standing.remove(*place));
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

    /// What was decided is in the database.
    pub(super) fn committed(&mut self, decided: &Decided) {
        decided.served.iter().for_each(|place| self.standing.remove(*place));
    }

    /// Takes back what was decided: the newest batch first. Answers which requests that stood had
    /// been granted with it; they stand again.
    pub(super) fn undo(&mut self, decided: Decided) -> Vec<u64> {
        self.state.undo_all(decided.undos);
        decided.served.iter().for_each(|place| self.standing.granted(*place, false));
        self.standing.anything_may_fit();
        decided.served
    }
}

pub(super) fn fatal(error: CommitError) -> Fatal {
    Fatal(error.to_string())
}

fn unavailable(why: &str) -> Refusal {
    Refusal::new(Kind::Unavailable, format!("nothing was changed: {why}")).advise("try again in a few seconds")
}

/// What is to be stored of a batch: the ephemeral is not.
pub(super) fn durable(changes: &[Change]) -> Vec<&Change> {
    changes.iter().filter(|c| !c.is_ephemeral()).collect()
}

/// Stores what is not ephemeral; where all is, the database is only asked whether what was decided
/// by still holds. A commit asks that by itself.
fn store(db: &mut dyn Commit, now: Timestamp, changes: &[Change]) -> Result<(), CommitError> {
    let durable = durable(changes);
    match () {
        () if !durable.is_empty() => db.commit(now, &durable),
        () if db.edited()? => Err(CommitError::Edited),
        () => Ok(()),
    }
}
