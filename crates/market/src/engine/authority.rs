//! Who may do what, asked of the engine's own state: a token that was revoked, or a role that was
//! taken, while a command waited in the queue counts no more.

use super::command::{Actor, Refusal};
use super::rows::{Host, Lease, PartitionRow};
use super::state::State;
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::ids::{AccountId, HostId, LeaseId, PartitionId};

impl Actor {
    /// Whether the actor has a role: its token carries it, and its member has it now.
    pub(crate) fn has(&self, state: &State, role: Role) -> bool {
        let member = state.member(self.member).filter(|m| m.account == self.account);
        self.roles.contains(&role) && member.is_some_and(|m| m.roles.contains(&role))
    }

    /// Refuses unless the actor has a role.
    pub(crate) fn must_be(&self, state: &State, role: Role) -> Result<(), Refusal> {
        if self.has(state, role) {
            return Ok(());
        }
        Err(Refusal::forbidden(format!("that takes the role {role}"))
            .advise("ask an operator for the role, or use a token that carries it"))
    }

    /// Refuses unless the actor owns something as a `role`, or is an operator. What belongs to
    /// others does not exist for it.
    fn must_own(&self, state: &State, owner: AccountId, role: Role, what: String) -> Result<(), Refusal> {
        match () {
            () if self.has(state, Role::Operator) => Ok(()),
            () if self.account != owner => Err(Refusal::not_found(what)),
            () => self.must_be(state, role),
        }
    }

    /// A host that the actor may command: its owner as a lender, or an operator.
    pub(crate) fn host<'a>(&self, state: &'a State, id: HostId) -> Result<&'a Host, Refusal> {
        let known = state.host(id).filter(|h| h.forgotten_at.is_none());
        let host = known.ok_or_else(|| Refusal::not_found(format!("host {id}")))?;
        self.must_own(state, host.account, Role::Lender, format!("host {id}"))?;
        Ok(host)
    }

    /// A partition that the actor may command: its owner as a lender, or an operator.
    pub(crate) fn partition<'a>(
        &self,
        state: &'a State,
        id: PartitionId,
    ) -> Result<(&'a PartitionRow, &'a Host), Refusal> {
        let missing = || Refusal::not_found(format!("partition {id}"));
        let partition = state.partition(id).filter(|p| p.retired_at.is_none()).ok_or_else(missing)?;
        let host = state.host(partition.host).ok_or_else(missing)?;
        self.must_own(state, host.account, Role::Lender, format!("partition {id}"))?;
        Ok((partition, host))
    }

    /// A lease that the actor's own account rents; an operator's too where `operator` says so.
    pub(crate) fn lease<'a>(&self, state: &'a State, id: LeaseId, operator: bool) -> Result<&'a Arc<Lease>, Refusal> {
        let missing = || Refusal::not_found(format!("lease {id}"));
        let lease = state.lease(id).ok_or_else(missing)?;
        match () {
            () if lease.account == self.account && self.has(state, Role::Client) => Ok(lease),
            () if operator && self.has(state, Role::Operator) => Ok(lease),
            () if lease.account == self.account => self.must_be(state, Role::Client).map(|()| lease),
            () => Err(missing()),
        }
    }
}
