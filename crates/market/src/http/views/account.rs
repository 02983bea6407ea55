//! Accounts and members.

use crate::engine::rows::{Account, Member};
use sublet_wire::api::{AccountView, MemberView};

/// An account.
pub fn account(row: &Account) -> AccountView {
    AccountView { id: row.id, name: row.name.clone(), suspended: row.suspended, created_at: row.created_at }
}

/// A member.
pub fn member(row: &Member) -> MemberView {
    MemberView { id: row.id, account: row.account, name: row.name.clone(), roles: row.roles.clone() }
}
