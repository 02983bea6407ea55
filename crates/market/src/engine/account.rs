//! Accounts, members and tokens.

use super::change::Change;
use super::command::{Actor, Command, Outcome, Refusal};
use super::draft::Draft;
use super::rows::{Account, Member, Purse, Token};
use sublet_model::account::{Role, check_name};
use sublet_model::ids::{AccountId, MemberId, TokenId};
use sublet_model::units::{Seconds, Timestamp};

/// The longest that a token may live.
const LONGEST_TOKEN: Seconds = Seconds(366 * 86_400);
/// The most members of an account, and the most living tokens of a member.
const MOST: usize = 1000;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::CreateAccount { actor, id, name } => create_account(draft, actor, *id, name),
        Command::SuspendAccount { actor, id, suspended } => suspend_account(draft, actor, *id, *suspended),
        Command::CreateMember { actor, id, account, name, roles } => {
            let row =
                Member { id: *id, account: *account, name: name.clone(), roles: roles.clone(), created_at: draft.now };
            create_member(draft, actor, row)
        }
        Command::CreateToken { actor, id, member, name, hash, roles, expires_at } => {
            let row = Token {
                id: *id,
                member: *member,
                name: name.clone(),
                hash: *hash,
                roles: roles.clone(),
                expires_at: *expires_at,
                created_at: draft.now,
                revoked_at: None,
            };
            create_token(draft, actor, row)
        }
        Command::RevokeToken { actor, id } => revoke_token(draft, actor, *id),
        _ => unreachable!("the step sends only these here"),
    }
}

fn create_account(draft: &mut Draft<'_>, actor: &Actor, id: AccountId, name: &str) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    check_name(name).map_err(Refusal::invalid)?;
    if draft.account_by_name(name).is_some() {
        return Err(Refusal::conflict(format!("there is an account {name} already")).advise("choose another name"));
    }
    draft.put(Change::Account(Account {
        id,
        name: name.into(),
        suspended: false,
        created_at: draft.now,
        purse: Purse::default(),
    }));
    draft.audit(actor.member, "account.create", id, format!("account {name}"));
    Ok(Outcome::Account(id))
}

fn suspend_account(draft: &mut Draft<'_>, actor: &Actor, id: AccountId, suspended: bool) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    let account = draft.account(id).ok_or_else(|| Refusal::not_found(format!("account {id}")))?;
    if suspended && id == actor.account {
        return Err(Refusal::conflict("an operator can't suspend its own account: nobody could restore it"));
    }
    if account.suspended != suspended {
        draft.put(Change::AccountSuspended { account: id, suspended });
        draft.audit(actor.member, if suspended { "account.suspend" } else { "account.restore" }, id, "");
    }
    Ok(Outcome::Account(id))
}

fn create_member(draft: &mut Draft<'_>, actor: &Actor, mut row: Member) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    check_name(&row.name).map_err(Refusal::invalid)?;
    row.roles = roles_in_order(&row.roles)?;
    let account = draft.account(row.account).ok_or_else(|| Refusal::not_found(format!("account {}", row.account)))?;
    let of_account: Vec<&Member> = draft.members().filter(|m| m.account == row.account).collect();
    if of_account.iter().any(|m| m.name == row.name) {
        let detail = format!("account {} has a member {} already", account.name, row.name);
        return Err(Refusal::conflict(detail).advise("choose another name"));
    }
    if of_account.len() >= MOST {
        return Err(Refusal::conflict(format!("an account has at most {MOST} members")));
    }
    let detail = format!("member {} of {} as {}", row.name, row.account, words(&row.roles));
    let id = row.id;
    draft.put(Change::Member(row));
    draft.audit(actor.member, "member.create", id, detail);
    Ok(Outcome::Member(id))
}

fn create_token(draft: &mut Draft<'_>, actor: &Actor, mut row: Token) -> Result<Outcome, Refusal> {
    let member = may_handle_tokens_of(draft, actor, row.member)?;
    row.roles = roles_in_order(&row.roles)?;
    let grantable =
        |role: &Role| member.roles.contains(role) && (actor.member != row.member || actor.roles.contains(role));
    if let Some(role) = row.roles.iter().find(|role| !grantable(role)) {
        return Err(Refusal::forbidden(format!(
            "the token can't carry the role {role}: neither does the one who asks"
        )));
    }
    check_token_name(&row.name)?;
    check_expiry(draft.now, row.expires_at)?;
    let living = draft.tokens().filter(|t| t.member == row.member && t.is_good(draft.now)).count();
    if living >= MOST {
        return Err(Refusal::conflict(format!("a member has at most {MOST} living tokens")).advise("revoke some"));
    }
    if draft.token_by_hash(&row.hash).is_some() {
        return Err(Refusal::conflict("this secret is in use already"));
    }
    let (id, detail) = (row.id, format!("token {} for {} as {}", row.name, row.member, words(&row.roles)));
    draft.put(Change::Token(row));
    draft.audit(actor.member, "token.create", id, detail);
    Ok(Outcome::Token(id))
}

fn revoke_token(draft: &mut Draft<'_>, actor: &Actor, id: TokenId) -> Result<Outcome, Refusal> {
    let missing = || Refusal::not_found(format!("token {id}"));
    let token = draft.token(id).ok_or_else(missing)?;
    may_handle_tokens_of(draft, actor, token.member).map_err(|_| missing())?;
    if token.revoked_at.is_none() {
        draft.put(Change::TokenRevoked { token: id, at: draft.now });
        draft.audit(actor.member, "token.revoke", id, "");
    }
    Ok(Outcome::Token(id))
}

/// The member whose tokens these are: the actor itself, or anybody for an operator.
fn may_handle_tokens_of(draft: &Draft<'_>, actor: &Actor, member: MemberId) -> Result<Member, Refusal> {
    let known = draft.member(member).filter(|m| m.id != actor.member || m.account == actor.account);
    let allowed = known.filter(|_| member == actor.member || actor.has(draft, Role::Operator));
    allowed.cloned().ok_or_else(|| Refusal::not_found(format!("member {member}")))
}

/// A name for people: short, printable.
pub(super) fn check_token_name(name: &str) -> Result<(), Refusal> {
    if (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Refusal::invalid("a token's name is 1 to 100 characters without control characters"))
}

/// Between now and a year.
pub(super) fn check_expiry(now: Timestamp, expires_at: Timestamp) -> Result<(), Refusal> {
    if expires_at > now && expires_at <= now.after(LONGEST_TOKEN) {
        return Ok(());
    }
    Err(Refusal::invalid(format!("a token expires within {LONGEST_TOKEN}, and not before it is made")))
}

fn roles_in_order(roles: &[Role]) -> Result<Vec<Role>, Refusal> {
    let mut sorted = roles.to_vec();
    sorted.sort();
    sorted.dedup();
    if sorted.is_empty() { Err(Refusal::invalid("at least one role is needed")) } else { Ok(sorted) }
}

fn words(roles: &[Role]) -> String {
    roles.iter().map(|r| r.word()).collect::<Vec<_>>().join(", ")
}
