//! The one authorization point: (actor, action, object) -> may it. Who asks is found from the
//! token by [`actor`]; everything that a route does asks [`decide`] first.
//!
//! What an actor may not even see is *not found*, so that nobody can feel for foreign things.
//! The engine checks roles and ownership once more against its own state.

use crate::engine::command::Actor;
use crate::engine::state::State;
use crate::http::problem::Fault;
use axum::http::{HeaderMap, header};
use sublet_model::account::Role;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::AccountId;
use sublet_model::units::Timestamp;
use sublet_wire::join;
use sublet_wire::problem::Kind;

/// Before every API token.
pub const PREFIX: &str = "sublet_";
/// 256 bits in base 64 without padding.
const SECRET_LETTERS: usize = 43;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make accounts and members, suspend, put images in, forget hosts, see everything.
    RunMarket,
    /// See the audit log.
    SeeAudit,
    /// See the catalogue, what is offered, and what fits.
    Browse,
    /// See an account and its members.
    SeeAccount,
    /// Make a token with which computers join.
    InviteHosts,
    /// Rent.
    Rent,
    /// See a lease.
    SeeLease,
    /// Get in, extend.
    UseLease,
    /// Give it back.
    Release,
    /// See the signed receipts of a lease.
    SeeReceipts,
    /// See what an account pays.
    SeeSpending,
    /// See what an account earns.
    SeeEarnings,
    /// See what an account has, what it was told, and where its money went.
    SeeBalance,
    /// Say that a charge is wrong.
    Dispute,
    /// See the disputes about a lease, and its story.
    SeeDispute,
    /// See a host and how it is divided.
    SeeHost,
    /// Suspend a host, let it open a session anew, alter a partition.
    ManageHost,
    /// See one partition.
    SeePartition,
}

impl Action {
    /// Every action there is.
    pub const ALL: [Self; 18] = [
        Self::RunMarket,
        Self::SeeAudit,
        Self::Browse,
        Self::SeeAccount,
        Self::InviteHosts,
        Self::Rent,
        Self::SeeLease,
        Self::UseLease,
        Self::Release,
        Self::SeeReceipts,
        Self::SeeSpending,
        Self::SeeEarnings,
        Self::SeeBalance,
        Self::Dispute,
        Self::SeeDispute,
        Self::SeeHost,
        Self::ManageHost,
        Self::SeePartition,
    ];

    /// From which side, with which roles. The operator stands on no side.
    fn rule(self) -> &'static [(Side, &'static [Role])] {
        use Role::{Auditor, Billing, Client, Lender, Operator};
        const ANY: &[Role] = &Role::ALL;
        match self {
            Self::RunMarket | Self::SeeAudit => &[(Side::Market, &[Operator])],
            Self::Browse => &[(Side::Market, ANY), (Side::Client, ANY)],
            Self::SeeAccount => &[(Side::Market, &[Operator]), (Side::Client, ANY)],
            Self::InviteHosts => &[(Side::Lender, &[Lender])],
            Self::Rent => &[(Side::Client, &[Client])],
            Self::SeeLease => &[(Side::Market, &[Operator]), (Side::Client, &[Client, Billing, Auditor])],
            Self::UseLease => &[(Side::Client, &[Client])],
            Self::Release => &[(Side::Market, &[Operator]), (Side::Client, &[Client])],
            Self::SeeReceipts => &[
                (Side::Market, &[Operator]),
                (Side::Client, &[Client, Billing, Auditor]),
                (Side::Lender, &[Lender, Billing, Auditor]),
            ],
            Self::SeeSpending => &[(Side::Client, &[Client, Billing, Auditor])],
            Self::SeeEarnings => &[(Side::Lender, &[Lender, Billing, Auditor])],
            Self::SeeBalance => &[(Side::Market, &[Operator]), (Side::Client, &[Client, Lender, Billing, Auditor])],
            Self::Dispute => &[(Side::Client, &[Client])],
            Self::SeeDispute => &[
                (Side::Market, &[Operator]),
                (Side::Client, &[Client, Billing, Auditor]),
                (Side::Lender, &[Lender, Billing, Auditor]),
            ],
            Self::SeeHost => &[(Side::Market, &[Operator]), (Side::Lender, &[Lender, Billing, Auditor])],
            Self::ManageHost => &[(Side::Market, &[Operator]), (Side::Lender, &[Lender])],
            Self::SeePartition => &[
                (Side::Market, &[Operator]),
                (Side::Lender, &[Lender, Billing, Auditor]),
                (Side::Client, &[Client, Billing, Auditor]),
            ],
        }
    }
}

/// Where an actor stands towards an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// On none: it asks the market as such.
    Market,
    /// Its account rents, or it is its own account.
    Client,
    /// Its account lends.
    Lender,
}

/// What it is done to, by whose it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Object<'a> {
    /// What it is and how it was called, for the message.
    pub called: Option<(&'a str, &'a str)>,
    /// Who rents it, or who it is.
    pub client: Option<AccountId>,
    /// Who lends it.
    pub lender: Option<AccountId>,
}

impl<'a> Object<'a> {
    /// The market itself.
    pub const MARKET: Object<'static> = Object { called: None, client: None, lender: None };

    /// Something of one account, on whichever side it stands.
    pub fn of(account: AccountId) -> Self {
        Self { called: None, client: Some(account), lender: Some(account) }
    }

    /// Something that is rented, lent, or both.
    pub fn called(what: &'a str, name: &'a str, client: Option<AccountId>, lender: Option<AccountId>) -> Self {
        Self { called: Some((what, name)), client, lender }
    }
}

/// Whether `actor` may do `action` to `object`.
pub fn decide(actor: &Actor, action: Action, object: Object<'_>) -> Result<(), Fault> {
    let stands = |side: Side| match side {
        Side::Market => true,
        Side::Client => object.client == Some(actor.account),
        Side::Lender => object.lender == Some(actor.account),
    };
    let permitted =
        |&(side, roles): &(Side, &[Role])| stands(side) && roles.iter().any(|role| actor.roles.contains(role));
    if action.rule().iter().any(permitted) {
        return Ok(());
    }
    let involved = stands(Side::Client) || stands(Side::Lender) || actor.roles.contains(&Role::Operator);
    if let (Some((what, name)), false) = (object.called, involved) {
        return Err(Fault::not_found(what, name));
    }
    Err(forbidden(actor, action))
}

fn forbidden(actor: &Actor, action: Action) -> Fault {
    let words = |roles: &[Role]| roles.iter().map(|r| r.word()).collect::<Vec<_>>().join(", ");
    let mut needed: Vec<Role> = action.rule().iter().flat_map(|(_, roles)| roles.iter().copied()).collect();
    needed.sort_unstable();
    needed.dedup();
    let have = if actor.roles.is_empty() { "none".into() } else { words(&actor.roles) };
    Fault::new(Kind::Forbidden, format!("your token's roles do not allow this (it carries: {have})"))
        .advise(format!("use a token with one of: {}", words(&needed)))
}

/// Who asks, by the token in the `Authorization` header.
pub fn actor(state: &State, headers: &HeaderMap, now: Timestamp) -> Result<Actor, Fault> {
    let secret = bearer(headers)?;
    let letters = secret.strip_prefix(PREFIX).unwrap_or_default();
    if letters.len() != SECRET_LETTERS || !letters.bytes().all(is_letter) {
        return Err(unknown_token());
    }
    let token = state.token_by_hash(&Sha256Digest::of(secret.as_bytes())).ok_or_else(unknown_token)?;
    if token.revoked_at.is_some() {
        return Err(refused("this token was revoked", "make a new one, or ask the operator for one"));
    }
    if now >= token.expires_at {
        let detail = format!("this token expired at {}", token.expires_at);
        return Err(refused(&detail, "make a new one, or ask the operator for one"));
    }
    let member = state.member(token.member).ok_or_else(unknown_token)?;
    let roles = token.roles.iter().copied().filter(|role| member.roles.contains(role)).collect();
    Ok(Actor { member: member.id, account: member.account, roles })
}

/// The secret of a join token: it is no API token and opens nothing but joining.
pub fn join_secret(headers: &HeaderMap) -> Result<Sha256Digest, Fault> {
    let secret = bearer(headers)?;
    let good = secret.strip_prefix(join::PREFIX).is_some_and(|s| s.len() == SECRET_LETTERS && s.bytes().all(is_letter));
    if !good {
        return Err(refused(
            "joining needs a join token, sublet_join_…, in the Authorization header",
            "make one with `sublet token join`",
        ));
    }
    Ok(Sha256Digest::of(secret.as_bytes()))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Err(refused(
            "a request needs one Authorization header: `Bearer sublet_…`",
            "log in with `sublet login`, or send your token",
        ));
    };
    let text = value.to_str().map_err(|_| unknown_token())?;
    let (scheme, secret) = text.split_once(' ').ok_or_else(unknown_token)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused("only `Bearer` tokens are taken", "send `Authorization: Bearer sublet_…`"));
    }
    Ok(secret.trim())
}

fn unknown_token() -> Fault {
    refused("this token is not known here", "check that it is whole, and for this market")
}

fn refused(detail: &str, advice: &str) -> Fault {
    Fault::new(Kind::Unauthenticated, detail).advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn account(n: u128) -> AccountId {
        Uuid::from_u128(n).into()
    }

    fn with(account: AccountId, roles: &[Role]) -> Actor {
        Actor { member: Uuid::from_u128(9).into(), account, roles: roles.to_vec() }
    }

    #[test]
    fn foreign_things_are_not_found_whatever_is_done_to_them() {
        let stranger = with(account(3), &[Role::Client, Role::Lender, Role::Billing, Role::Auditor]);
        let lease = Object::called("lease", "box", Some(account(1)), Some(account(2)));
        for action in [Action::SeeLease, Action::UseLease, Action::Release, Action::SeeReceipts, Action::SeePartition] {
            assert_eq!(decide(&stranger, action, lease).unwrap_err().kind, Kind::NotFound, "{action:?}");
        }
    }

    #[test]
    fn a_role_is_needed_even_for_ones_own() {
        let lease = Object::called("lease", "box", Some(account(1)), Some(account(2)));
        let kind = |account, roles: &[Role], action| decide(&with(account, roles), action, lease).map_err(|f| f.kind);
        assert_eq!(kind(account(1), &[Role::Client], Action::UseLease), Ok(()));
        assert_eq!(kind(account(1), &[Role::Auditor], Action::SeeLease), Ok(()));
        assert_eq!(kind(account(1), &[Role::Auditor], Action::UseLease), Err(Kind::Forbidden));
        assert_eq!(kind(account(1), &[], Action::SeeLease), Err(Kind::Forbidden));
        assert_eq!(kind(account(2), &[Role::Lender], Action::UseLease), Err(Kind::Forbidden));
        assert_eq!(kind(account(2), &[Role::Lender], Action::SeeReceipts), Ok(()));
        assert_eq!(kind(account(3), &[Role::Operator], Action::Release), Ok(()));
        assert_eq!(kind(account(3), &[Role::Operator], Action::UseLease), Err(Kind::Forbidden));
    }

    #[test]
    fn no_role_at_all_does_nothing_at_all() {
        for action in Action::ALL {
            let verdict = decide(&with(account(1), &[]), action, Object::of(account(1)));
            assert_eq!(verdict.unwrap_err().kind, Kind::Forbidden, "{action:?}");
        }
    }
}
