//! Finds what a path names by id or by name, and asks whether the actor may do it. What it may
//! not see is not found.

use crate::engine::command::Actor;
use crate::engine::rows::{Account, Host, Lease, PartitionRow};
use crate::engine::state::State;
use crate::http::authorize::{Action, Object, decide};
use crate::http::problem::Fault;
use std::sync::Arc;
use sublet_model::ids::{AccountId, HostId, LeaseId, PartitionId};

/// An account.
pub fn account<'a>(state: &'a State, actor: &Actor, action: Action, named: &str) -> Result<&'a Account, Fault> {
    let found = match named.parse::<AccountId>() {
        Ok(id) => state.account(id),
        Err(_) => state.account_by_name(named),
    };
    let row = found.ok_or_else(|| Fault::not_found("account", named))?;
    decide(actor, action, Object::called("account", named, Some(row.id), None))?;
    Ok(row)
}

/// A host that is not forgotten.
pub fn host<'a>(state: &'a State, actor: &Actor, action: Action, named: &str) -> Result<&'a Host, Fault> {
    let found = match named.parse::<HostId>() {
        Ok(id) => state.host(id).filter(|host| host.forgotten_at.is_none()),
        Err(_) => state.host_by_name(named),
    };
    let row = found.ok_or_else(|| Fault::not_found("host", named))?;
    decide(actor, action, Object::called("host", named, None, Some(row.account)))?;
    Ok(row)
}

/// A partition that is not retired. Its client is who holds it now.
pub fn partition<'a>(state: &'a State, actor: &Actor, action: Action, named: &str) -> Result<&'a PartitionRow, Fault> {
    let not_found = || Fault::not_found("partition", named);
    let id: PartitionId = named.parse().map_err(|_| not_found())?;
    let row = state.partition(id).filter(|p| p.retired_at.is_none()).ok_or_else(not_found)?;
    let lender = state.host(row.host).map(|host| host.account);
    let client = state.holder(id).map(|lease| lease.account);
    decide(actor, action, Object::called("partition", named, client, lender))?;
    Ok(row)
}

/// A lease: by id whoever's, by name among the actor's own; the newest where a name was used again.
pub fn lease<'a>(state: &'a State, actor: &Actor, action: Action, named: &str) -> Result<&'a Arc<Lease>, Fault> {
    let found = match named.parse::<LeaseId>() {
        Ok(id) => state.lease(id),
        Err(_) => state
            .lease_by_name(actor.account, named)
            .or_else(|| state.leases_of(actor.account).rev().find(|lease| lease.name == named)),
    };
    let row = found.ok_or_else(|| Fault::not_found("lease", named))?;
    decide(actor, action, Object::called("lease", named, Some(row.account), Some(row.terms().lender)))?;
    Ok(row)
}
