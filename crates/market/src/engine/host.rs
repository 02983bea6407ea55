//! Hosts: joining, sessions, suspension, and giving one up.

use super::account::check_expiry;
use super::change::Change;
use super::command::{Actor, Command, Outcome, Refusal};
use super::draft::Draft;
use super::rows::{Host, JoinToken};
use std::sync::Arc;
use sublet_model::account::{Role, check_name};
use sublet_model::ids::{HostId, LeaseId, PartitionId};
use sublet_model::lease::LeaseEvent;
use sublet_model::resources::Resources;
use sublet_wire::problem::Kind;

/// The most computers that one token admits.
const MOST_USES: u32 = 10_000;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::CreateJoinToken { actor, id, hash, uses, expires_at } => {
            let row = JoinToken {
                id: *id,
                account: actor.account,
                member: actor.member,
                hash: *hash,
                uses: *uses,
                used: 0,
                expires_at: *expires_at,
                created_at: draft.now,
            };
            create_join_token(draft, actor, row)
        }
        Command::JoinHost { .. } => join(draft, command),
        Command::OpenSession { host, last_session } => open_session(draft, *host, *last_session),
        Command::ResetSession { actor, host } => reset_session(draft, actor, *host),
        Command::SuspendHost { actor, host, suspended } => suspend(draft, actor, *host, *suspended),
        Command::ForgetHost { actor, host } => forget(draft, actor, *host),
        _ => unreachable!("the step sends only these here"),
    }
}

fn create_join_token(draft: &mut Draft<'_>, actor: &Actor, row: JoinToken) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Lender)?;
    if draft.account(actor.account).is_none_or(|a| a.suspended) {
        return Err(Refusal::forbidden("the account is suspended: it can't list computers"));
    }
    if !(1..=MOST_USES).contains(&row.uses) {
        return Err(Refusal::invalid(format!("a join token admits 1 to {MOST_USES} computers")));
    }
    check_expiry(draft.now, row.expires_at)?;
    if draft.join_token_by_hash(&row.hash).is_some() {
        return Err(Refusal::conflict("this secret is in use already"));
    }
    let (id, detail) = (row.id, format!("for {} computers, until {}", row.uses, row.expires_at));
    draft.put(Change::JoinToken(row));
    draft.audit(actor.member, "join_token.create", id, detail);
    Ok(Outcome::Token(id))
}

fn join(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    let Command::JoinHost { token, id, name, key, ssh_host_key, inventory } = command else {
        unreachable!("the step sends only this here")
    };
    let unknown = || {
        Refusal::new(Kind::Unauthenticated, "the join token is unknown, used up or expired")
            .advise("ask for a new one: sublet host token")
    };
    let token = draft.join_token_by_hash(token).ok_or_else(unknown)?.clone();
    // The answer to a join may have been lost: the same computer may say it again.
    let known = draft.host_by_key(key);
    if let Some(host) = known {
        if host.joined_with == token.id && host.name == *name {
            return Ok(Outcome::Joined { host: host.id, account: host.account });
        }
        return Err(Refusal::conflict(format!("this key belongs to host {} already", host.name))
            .advise("start anew with an empty state directory, or leave first"));
    }
    if token.used >= token.uses || draft.now >= token.expires_at {
        return Err(unknown());
    }
    if draft.account(token.account).is_none_or(|a| a.suspended) {
        return Err(Refusal::forbidden("the account is suspended: it can't list computers"));
    }
    check_name(name).map_err(Refusal::invalid)?;
    if draft.host_by_name(name).is_some() {
        return Err(Refusal::conflict(format!("there is a host {name} already")).advise("choose another name"));
    }
    inventory.check().map_err(Refusal::invalid)?;
    check_ssh_key(ssh_host_key)?;
    draft.put(Change::JoinTokenUsed { token: token.id });
    draft.put(Change::Host(Host {
        id: *id,
        name: name.clone(),
        account: token.account,
        key: *key,
        ssh_host_key: ssh_host_key.clone(),
        inventory: Arc::new(inventory.clone()),
        keep: Resources::ZERO,
        division_revision: 0,
        offer: None,
        dial: String::new(),
        session: 0,
        used_session: 0,
        session_reset: false,
        suspended: false,
        forgotten_at: None,
        plan_version: 1,
        joined_with: token.id,
        joined_at: draft.now,
    }));
    draft.audit(id, "host.join", id, format!("host {name} of {}, with {}", token.account, token.id));
    Ok(Outcome::Joined { host: *id, account: token.account })
}

/// A public key in OpenSSH's form, on one line.
pub(super) fn check_ssh_key(key: &str) -> Result<(), Refusal> {
    let mut words = key.split(' ');
    let algorithm = words.next().unwrap_or_default();
    let body = words.next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| algorithm.starts_with(prefix));
    let plain = key.len() <= 4096 && key.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if known && plain && body.len() >= 40 {
        return Ok(());
    }
    Err(Refusal::invalid("an SSH public key is one line such as: ssh-ed25519 AAAA… name"))
}

fn session_refused(detail: impl Into<String>) -> Refusal {
    Refusal::new(Kind::SessionRefused, detail)
}

fn open_session(draft: &mut Draft<'_>, id: HostId, last: u64) -> Result<Outcome, Refusal> {
    let host = draft.host(id).filter(|h| h.forgotten_at.is_none());
    let host = host.ok_or_else(|| session_refused("this market does not know the host, or has forgotten it"))?.clone();
    // A session that no sync ever used may have been opened without the host's learning of it.
    let is_current = (host.used_session..=host.session).contains(&last);
    if !is_current && !host.session_reset {
        // The audit log has it too: see `Engine::audit_refusal`.
        tracing::warn!(host = %id, named = last, newest = host.session, "refused to open a session");
        return Err(session_refused(format!(
            "the newest session of host {} is not {last}: another agent uses its key, or its disk was rolled back",
            host.name
        ))
        .advise("stop the other agent; if there is none, its owner allows a new start: sublet host reset-session"));
    }
    // Restored from a backup, the market knows an older one than the host had.
    let session = host.session.max(last.min(super::sync::HIGHEST)) + 1;
    draft.put(Change::HostSession { host: id, session });
    if host.session_reset {
        // A disk that was rolled back has an older division on it, too: it counts again.
        let (keep, offer) = (host.keep, host.offer);
        draft.put(Change::HostDivided { host: id, revision: 0, keep, offer });
        draft.audit(id, "session.open", id, format!("session {session}, after a reset (it named {last})"));
    }
    Ok(Outcome::Session(session))
}

fn reset_session(draft: &mut Draft<'_>, actor: &Actor, id: HostId) -> Result<Outcome, Refusal> {
    actor.host(draft, id)?;
    draft.put(Change::HostSessionReset { host: id });
    draft.audit(actor.member, "session.reset", id, "the next session need not name the last one");
    Ok(Outcome::Done)
}

fn suspend(draft: &mut Draft<'_>, actor: &Actor, id: HostId, suspended: bool) -> Result<Outcome, Refusal> {
    let was = actor.host(draft, id)?.suspended;
    if was != suspended {
        draft.put(Change::HostSuspended { host: id, suspended });
        draft.audit(actor.member, if suspended { "host.suspend" } else { "host.restore" }, id, "");
    }
    Ok(Outcome::Done)
}

fn forget(draft: &mut Draft<'_>, actor: &Actor, id: HostId) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    let name = actor.host(draft, id)?.name.clone();
    let leases: Vec<LeaseId> = draft.held_on(id).map(|lease| lease.id).collect();
    let partitions: Vec<PartitionId> = draft.partitions_of(id).map(|p| p.id).collect();
    let at = draft.now;
    for lease in &leases {
        draft.happen(*lease, LeaseEvent::Forgotten { at })?;
    }
    // Whatever still runs there can never be mistaken for something that is lent again.
    for partition in partitions {
        draft.put(Change::PartitionRetired { partition, at });
    }
    draft.put(Change::HostForgotten { host: id, at });
    draft.audit(actor.member, "host.forget", id, format!("host {name}; {} leases ended", leases.len()));
    Ok(Outcome::Done)
}
