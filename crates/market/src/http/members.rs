//! Members, their API tokens, and the tokens with which computers join.

use crate::engine::command::{Actor, Command, Outcome};
use crate::http::authorize::{Action, Object, PREFIX, decide};
use crate::http::extract::{Asked, Caller, Named, Where};
use crate::http::page::{PageQuery, page};
use crate::http::problem::Fault;
use crate::http::secret::secret;
use crate::http::{App, find, surprise, views};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::{MemberId, TokenId};
use sublet_model::units::Seconds;
use sublet_wire::api::{MemberView, NewJoinToken, NewMember, NewToken, Page, TokenSecret};
use sublet_wire::join::{self, JoinToken};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a token is good if nobody says so.
const USUAL_LIFETIME: Seconds = Seconds(30 * 86_400);
/// The same for a join token.
const USUAL_JOIN_LIFETIME: Seconds = Seconds(86_400);
/// Nobody gets a token for longer.
const LONGEST_LIFETIME: Seconds = Seconds(366 * 86_400);
/// Computers that may join with one token.
const MOST_USES: u32 = 10_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(create_join_token))
}

/// Makes a member of an account (operator). Make it a token next.
#[utoipa::path(
    post, path = "/v1/members", tag = "members",
    request_body = NewMember, responses((status = 201, body = MemberView))
)]
async fn create(
    Shared(app): Shared<Arc<App>>,
    asked: Asked<NewMember>,
) -> Result<(StatusCode, Json<MemberView>), Fault> {
    decide(&asked.actor, Action::RunMarket, Object::MARKET)?;
    let once = asked.key()?;
    let NewMember { account, name, roles } = asked.body.clone();
    let account =
        app.read(|state| find::account(state, &asked.actor, Action::RunMarket, &account).map(|row| row.id))?;
    let id = sublet_wire::new_id();
    let roles = distinct(roles);
    let command = Command::CreateMember { actor: asked.actor.clone(), id, account, name, roles };
    let Outcome::Member(id) = app.ask(command, Some(once)).await? else { return Err(surprise()) };
    let view = app.read(|state| state.member(id).map(views::account::member)).ok_or_else(surprise)?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Lists members, oldest first: all of them for the operator, one's own account's for others.
#[utoipa::path(
    get, path = "/v1/members", tag = "members", params(PageQuery),
    responses((status = 200, body = Page<MemberView>))
)]
async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<MemberView>>, Fault> {
    decide(&caller.actor, Action::SeeAccount, Object::of(caller.actor.account))?;
    app.read(|state| {
        let seen = |id| decide(&caller.actor, Action::SeeAccount, Object::of(id)).is_ok();
        let all = state.members().filter(|row| seen(row.account));
        page(all, |row| row.id.to_string(), views::account::member, &query).map(Json)
    })
}

/// Makes an API token, for oneself or (operator) for another member. The secret is shown once.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "members",
    request_body = NewToken, responses((status = 201, body = TokenSecret))
)]
async fn create_token(
    Shared(app): Shared<Arc<App>>,
    asked: Asked<NewToken>,
) -> Result<(StatusCode, Json<TokenSecret>), Fault> {
    let once = asked.key()?;
    let NewToken { member, name, expires_in, roles } = asked.body.clone();
    let (member, roles) = holder_and_roles(&app, &asked.actor, member, roles)?;
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return Err(Fault::invalid("name: must be 1 to 100 characters without control characters"));
    }
    let expires_at = app.now().after(lifetime(expires_in, USUAL_LIFETIME)?);
    let secret = secret(&app.keys.root, PREFIX, &once);
    let hash = Sha256Digest::of(secret.as_bytes());
    let id = sublet_wire::new_id();
    let command = Command::CreateToken { actor: asked.actor.clone(), id, member, name, hash, roles, expires_at };
    let Outcome::Token(id) = app.ask(command, Some(once)).await? else { return Err(surprise()) };
    let expires_at = app.read(|state| state.token(id).map(|row| row.expires_at)).ok_or_else(surprise)?;
    Ok((StatusCode::CREATED, Json(TokenSecret { id, secret, expires_at })))
}

/// Whose token it becomes, with which roles. Nobody hands on more than the own token carries.
fn holder_and_roles(
    app: &App,
    actor: &Actor,
    member: Option<MemberId>,
    roles: Option<Vec<Role>>,
) -> Result<(MemberId, Vec<Role>), Fault> {
    let member = member.unwrap_or(actor.member);
    let row = app.read(|state| state.member(member).cloned());
    let row = row.ok_or_else(|| Fault::not_found("member", &member.to_string()))?;
    let operator = actor.roles.contains(&Role::Operator);
    if member != actor.member && !operator {
        let named = member.to_string();
        decide(actor, Action::SeeAccount, Object::called("member", &named, Some(row.account), None))?;
        decide(actor, Action::RunMarket, Object::MARKET)?;
    }
    let most: Vec<Role> = row.roles.into_iter().filter(|r| operator || actor.roles.contains(r)).collect();
    let roles = distinct(roles.unwrap_or_else(|| most.clone()));
    match roles.iter().find(|role| !most.contains(role)) {
        None => Ok((member, roles)),
        Some(role) => Err(Fault::new(
            sublet_wire::problem::Kind::Forbidden,
            format!("roles: {role} is not among what the member, or your own token, may do"),
        )),
    }
}

fn distinct(mut roles: Vec<Role>) -> Vec<Role> {
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn lifetime(asked: Option<Seconds>, usual: Seconds) -> Result<Seconds, Fault> {
    let asked = asked.unwrap_or(usual);
    match (Seconds(1)..=LONGEST_LIFETIME).contains(&asked) {
        true => Ok(asked),
        false => Err(Fault::invalid("expires_in: must be from 1 second to 366 days")),
    }
}

/// Revokes a token: one's own, or any (operator).
#[utoipa::path(
    delete, path = "/v1/tokens/{token}", tag = "members",
    params(("token" = String, Path, description = "Id")), responses((status = 204, description = "Revoked"))
)]
async fn revoke_token(Shared(app): Shared<Arc<App>>, caller: Caller, Named(named): Named) -> Result<StatusCode, Fault> {
    let not_found = || Fault::not_found("token", &named);
    let id: TokenId = named.parse().map_err(|_| not_found())?;
    let row = app.read(|state| state.token(id).cloned()).ok_or_else(not_found)?;
    if row.member != caller.actor.member && !caller.actor.roles.contains(&Role::Operator) {
        return Err(not_found());
    }
    app.ask(Command::RevokeToken { actor: caller.actor.clone(), id }, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a token with which computers join as hosts of the asking account (lender). Shown once.
#[utoipa::path(
    post, path = "/v1/join-tokens", tag = "members",
    request_body = NewJoinToken, responses((status = 201, body = TokenSecret))
)]
async fn create_join_token(
    Shared(app): Shared<Arc<App>>,
    asked: Asked<NewJoinToken>,
) -> Result<(StatusCode, Json<TokenSecret>), Fault> {
    decide(&asked.actor, Action::InviteHosts, Object::of(asked.actor.account))?;
    let once = asked.key()?;
    let uses = asked.body.uses.unwrap_or(1);
    if !(1..=MOST_USES).contains(&uses) {
        return Err(Fault::invalid(format!("uses: must be from 1 to {MOST_USES}")));
    }
    let expires_at = app.now().after(lifetime(asked.body.expires_in, USUAL_JOIN_LIFETIME)?);
    let secret = secret(&app.keys.root, join::PREFIX, &once);
    let hash = Sha256Digest::of(secret.as_bytes());
    let id = sublet_wire::new_id();
    let command = Command::CreateJoinToken { actor: asked.actor.clone(), id, hash, uses, expires_at };
    let Outcome::Token(id) = app.ask(command, Some(once)).await? else { return Err(surprise()) };
    let stored = app.read(|state| state.join_token_by_hash(&hash).map(|row| row.expires_at));
    let secret = JoinToken { secret, fingerprint: app.fingerprint }.to_string();
    Ok((StatusCode::CREATED, Json(TokenSecret { id, secret, expires_at: stored.ok_or_else(surprise)? })))
}
