//! Decides a batch against the state, one command after the other.

use super::{Decided, Engine, Fatal, Request, unavailable};
use crate::engine::change::Change;
use crate::engine::command::{Command, Idempotency, Outcome, Refusal, Reply};
use crate::engine::commit::{CommitError, Recalled};
use crate::engine::draft::Draft;
use crate::engine::{account, alter, host, image, lease, money, rent, sync};
use crate::tasks;
use sublet_model::ids::MemberId;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::problem::Kind;

/// After how long another refused session of the same host is written into the audit log.
const AUDIT_AGAIN: Seconds = Seconds::HOUR;

/// Looks up what came of a request that was done before.
pub(in crate::engine) type Recaller<'a> = dyn FnMut(MemberId, &str) -> Result<Option<Recalled>, CommitError> + 'a;

impl Engine {
    /// Decides a batch. `earlier` is what was decided before it and is perhaps not in the database
    /// yet: it is looked at before the database is.
    pub(in crate::engine) fn decide(
        &mut self,
        recall: &mut Recaller<'_>,
        earlier: &[Change],
        batch: &[Request],
        now: Timestamp,
    ) -> Result<Decided, Fatal> {
        let mut decided = Decided::default();
        for request in batch {
            let known = recalled(recall, earlier, &decided.changes, request.idempotency.as_ref())?;
            let answer = known.unwrap_or_else(|| self.answer(&mut decided, request, now));
            decided.answers.push(answer);
        }
        Ok(decided)
    }

    fn answer(&mut self, decided: &mut Decided, request: &Request, now: Timestamp) -> Result<Reply, Refusal> {
        match &request.command {
            Command::Rent(rent) => return self.rent(decided, rent, request.idempotency.as_ref(), now),
            Command::Away { once, turn } => {
                self.standing.away(once, *turn, now);
                return Ok(Reply::Outcome(Outcome::Done));
            }
            Command::Tick => self.standing.tick(now),
            _ => {}
        }
        let was_fresh = self.hears_fresh(&request.command, now);
        let before = decided.changes.len();
        let reply = self.run(decided, &request.command, request.idempotency.as_ref(), now)?;
        self.note_freed(&decided.changes[before..], was_fresh);
        Ok(reply)
    }

    /// Decides one command in a draft of its own: all of it happens, or nothing.
    pub(super) fn run(
        &mut self,
        decided: &mut Decided,
        command: &Command,
        once: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let mut draft = Draft::new(&mut self.state, &self.keys, now);
        match decide(&mut draft, command) {
            Ok(preview @ Reply::Preview(_)) => {
                draft.abandon();
                Ok(preview)
            }
            Ok(reply) => {
                remember(&mut draft, once, &reply);
                let (changes, undos) = draft.finish();
                decided.changes.extend(changes);
                decided.undos.extend(undos);
                Ok(reply)
            }
            Err(refusal) => {
                draft.abandon();
                if matches!(command, Command::Tick) {
                    // Nobody waits for its answer, and nothing that is due happened.
                    tracing::error!(%refusal, "a tick was refused: nothing expires, nothing is settled");
                }
                self.audit_refusal(decided, command, &refusal, now);
                Err(refusal)
            }
        }
    }

    /// A session that is refused may be a copied key: it stands in the audit log, though at most
    /// once an hour for each host, so that nobody fills the disk with it.
    fn audit_refusal(&mut self, decided: &mut Decided, command: &Command, refusal: &Refusal, now: Timestamp) {
        let Command::OpenSession { host, .. } = command else { return };
        let lately = self.refused.get(host).is_some_and(|at| now.since(*at) < AUDIT_AGAIN);
        if lately || self.state.host(*host).is_none() {
            return;
        }
        self.refused.insert(*host, now);
        let mut draft = Draft::new(&mut self.state, &self.keys, now);
        draft.audit(host, "session.refuse", host, refusal.detail.clone());
        let (changes, undos) = draft.finish();
        decided.changes.extend(changes);
        decided.undos.extend(undos);
    }
}

/// The answer to a request that was done before: in an earlier batch, or in this one.
fn recalled(
    recall: &mut Recaller<'_>,
    earlier: &[Change],
    batch: &[Change],
    request: Option<&Idempotency>,
) -> Result<Option<Result<Reply, Refusal>>, Fatal> {
    let Some(asked) = request else { return Ok(None) };
    let here = batch.iter().chain(earlier).find_map(|change| match change {
        Change::Done { member, key, body, outcome, .. } if *member == asked.member && *key == asked.key => {
            Some((*body, outcome.clone()))
        }
        _ => None,
    });
    let known = match here {
        Some(known) => Some(known),
        None => match recall(asked.member, &asked.key) {
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
fn remember(draft: &mut Draft<'_>, once: Option<&Idempotency>, reply: &Reply) {
    if let (Some(asked), Reply::Outcome(outcome)) = (once, reply) {
        let Idempotency { member, key, body } = asked.clone();
        // What may move money is kept for ever.
        let forever =
            matches!(outcome, Outcome::Granted { .. } | Outcome::Lease(_) | Outcome::Transfer(_) | Outcome::Dispute(_));
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
        C::Deposit { .. } | C::Refund { .. } | C::SetPurse { .. } | C::SetFee { .. } => {
            money::accounts::decide(draft, command)?
        }
        C::OpenDispute { .. } | C::ResolveDispute { .. } => money::disputes::decide(draft, command)?,
        C::Alter { actor, partition, resources } => alter::decide(draft, actor, *partition, *resources)?,
        C::Tick => {
            tasks::run(draft);
            Outcome::Done
        }
        // It concerns no row: who stands where is in memory only.
        C::Away { .. } => Outcome::Done,
    };
    Ok(Reply::Outcome(outcome))
}
