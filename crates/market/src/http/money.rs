//! Money of accounts: deposits and refunds by the operator, balances, what people were told, the audit.
//!
//! Deposits are also the door for a payment provider: whatever hears of a payment posts it here with
//! the provider's own id as the reference, as often as it likes.

use crate::engine::command::{Actor, Command, Outcome};
use crate::engine::rows::AlertRow;
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Asked, Caller, Named, Where};
use crate::http::page::{PageQuery, page, seal};
use crate::http::problem::Fault;
use crate::http::records::blocking;
use crate::http::{App, find, surprise, views};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use std::sync::Arc;
use sublet_model::ids::AccountId;
use sublet_wire::api::{AlertView, BalanceView, Fee, LedgerAudit, NewMovement, Page, PurseChange, TransferView};
use sublet_wire::problem::Kind;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(deposit))
        .routes(routes!(refund))
        .routes(routes!(purse))
        .routes(routes!(balance))
        .routes(routes!(transfers))
        .routes(routes!(alerts))
        .routes(routes!(fee, set_fee))
        .routes(routes!(audit))
}

fn account(app: &App, actor: &Actor, action: Action, named: &str) -> Result<AccountId, Fault> {
    app.read(|state| find::account(state, actor, action, named).map(|row| row.id))
}

/// Moves money over the market's border; the command says which way.
async fn moved(
    app: &App,
    named: &str,
    asked: Asked<NewMovement>,
    command: impl FnOnce(Actor, AccountId, NewMovement) -> Command,
) -> Result<(StatusCode, Json<TransferView>), Fault> {
    let account = account(app, &asked.actor, Action::RunMarket, named)?;
    let key = asked.key()?;
    let command = command(asked.actor, account, asked.body);
    let Outcome::Transfer(number) = app.ask(command, Some(key)).await? else { return Err(surprise()) };
    let found = blocking(app, move |records| records.transfer(number)).await?;
    let view = found.as_ref().map(TransferView::from).ok_or_else(surprise)?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Takes money in for an account (operator). The reference makes it safe to repeat: a payment
/// provider's webhook may post the same payment again under any idempotency key, and it counts once.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/deposits", tag = "money",
    params(("account" = String, Path, description = "Id or name")),
    request_body = NewMovement, responses((status = 201, body = TransferView))
)]
async fn deposit(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<NewMovement>,
) -> Result<(StatusCode, Json<TransferView>), Fault> {
    moved(&app, &named, asked, |actor, account, NewMovement { micros, reference }| Command::Deposit {
        actor,
        account,
        micros,
        reference,
    })
    .await
}

/// Pays money out to an account (operator), at most what it can spend. Safe to repeat, as a deposit.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/refunds", tag = "money",
    params(("account" = String, Path, description = "Id or name")),
    request_body = NewMovement, responses((status = 201, body = TransferView))
)]
async fn refund(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<NewMovement>,
) -> Result<(StatusCode, Json<TransferView>), Fault> {
    moved(&app, &named, asked, |actor, account, NewMovement { micros, reference }| Command::Refund {
        actor,
        account,
        micros,
        reference,
    })
    .await
}

/// Says how an account pays: from what was deposited or afterwards, and how much in a month (operator).
#[utoipa::path(
    put, path = "/v1/accounts/{account}/purse", tag = "money",
    params(("account" = String, Path, description = "Id or name")),
    request_body = PurseChange, responses((status = 200, body = BalanceView))
)]
async fn purse(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<PurseChange>,
) -> Result<Json<BalanceView>, Fault> {
    let account = account(&app, &asked.actor, Action::RunMarket, &named)?;
    let (actor, change) = (asked.actor.clone(), asked.body.clone());
    app.ask(Command::SetPurse { actor, account, change }, asked.once.clone()).await?;
    balance_of(&app, account)
}

fn balance_of(app: &App, account: AccountId) -> Result<Json<BalanceView>, Fault> {
    let now = app.now();
    let view = app.read(|state| views::money::balance(state, account, &app.currency, now));
    view.map(Json).ok_or_else(surprise)
}

/// Shows what an account has, holds and can spend.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/balance", tag = "money",
    params(("account" = String, Path, description = "Id or name")),
    responses((status = 200, body = BalanceView))
)]
async fn balance(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Named(named): Named,
) -> Result<Json<BalanceView>, Fault> {
    balance_of(&app, account(&app, &caller.actor, Action::SeeBalance, &named)?)
}

/// Lists what moved an account's money, newest first.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/transfers", tag = "money",
    params(("account" = String, Path, description = "Id or name"), PageQuery),
    responses((status = 200, body = Page<TransferView>))
)]
async fn transfers(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Named(named): Named,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<TransferView>>, Fault> {
    let account = account(&app, &caller.actor, Action::SeeBalance, &named)?;
    let limit = query.limit()?;
    let before = match query.after()? {
        None => u64::MAX >> 1,
        Some(number) => number.parse().map_err(|_| Fault::invalid("cursor: is not one of this list"))?,
    };
    let mut found = blocking(&app, move |records| records.transfers_of(account, before, limit + 1)).await?;
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|transfer| seal(&transfer.number.to_string()));
    Ok(Json(Page { items: found.iter().map(TransferView::from).collect(), next }))
}

/// Lists what accounts were told without asking, newest first: all of it for the operator, one's own
/// for others.
#[utoipa::path(
    get, path = "/v1/alerts", tag = "money", params(PageQuery),
    responses((status = 200, body = Page<AlertView>))
)]
async fn alerts(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<AlertView>>, Fault> {
    decide(&caller.actor, Action::SeeBalance, Object::of(caller.actor.account))?;
    app.read(|state| {
        let shown: Box<dyn Iterator<Item = &AlertRow>> = match decide(&caller.actor, Action::RunMarket, Object::MARKET)
        {
            Ok(_) => Box::new(state.alerts().rev()),
            Err(_) => Box::new(state.alerts_of(caller.actor.account)),
        };
        page(shown, |row| row.seq.to_string(), views::money::alert, &query).map(Json)
    })
}

/// Shows what the operator keeps of charges.
#[utoipa::path(get, path = "/v1/fee", tag = "money", responses((status = 200, body = Fee)))]
async fn fee(Shared(app): Shared<Arc<App>>, caller: Caller) -> Result<Json<Fee>, Fault> {
    decide(&caller.actor, Action::Browse, Object::MARKET)?;
    Ok(Json(Fee { permille: app.read(|state| state.settings().fee_permille) }))
}

/// Says what the operator keeps of charges, of leases granted from now on (operator).
#[utoipa::path(
    put, path = "/v1/fee", tag = "money", request_body = Fee, responses((status = 200, body = Fee))
)]
async fn set_fee(Shared(app): Shared<Arc<App>>, asked: Asked<Fee>) -> Result<Json<Fee>, Fault> {
    decide(&asked.actor, Action::RunMarket, Object::MARKET)?;
    let permille = asked.body.permille;
    app.ask(Command::SetFee { actor: asked.actor.clone(), permille }, asked.once.clone()).await?;
    Ok(Json(Fee { permille }))
}

/// Goes through the books from the first transfer on, and compares every charge with what was posted
/// for it (operator).
#[utoipa::path(
    get, path = "/v1/ledger/audit", tag = "money", responses((status = 200, body = LedgerAudit))
)]
async fn audit(Shared(app): Shared<Arc<App>>, caller: Caller) -> Result<Json<LedgerAudit>, Fault> {
    decide(&caller.actor, Action::RunMarket, Object::MARKET)?;
    let busy = || Fault::new(Kind::Busy, "the books are being audited already").advise("try again when that is done");
    blocking(&app, |records| records.audit_ledger()).await?.map(Json).ok_or_else(busy)
}
