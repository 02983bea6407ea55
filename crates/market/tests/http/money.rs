//! Money over HTTP: what comes in, who gets the last of it, what is disputed, and that the statement
//! verifies.

use crate::fake_host::FakeHost;
use crate::world::{Person, World, rent_request};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sublet_model::account::Role;
use sublet_model::ledger::chunks::CHUNK;
use sublet_model::statement::{Verdict, verify};
use sublet_model::units::Micros;
use sublet_wire::api::{
    AlertView, BalanceView, DisputeView, Fee, Granted, LeaseView, LedgerAudit, NewDispute, NewMovement, Page,
    PurseChange, RentRequest, Resolution, Statement, Story, TransferView,
};
use sublet_wire::problem::Kind;

/// What one core costs for the first chunk: 0.008 an hour for a core, and the set-up.
const FIRST_CHUNK: i64 = 100 + 8_000 * CHUNK.0 / 3600;

/// An account with so much and no more.
async fn with(world: &World, name: &str, micros: i64) -> Person {
    let person = world.person(name, &[Role::Lender]).await;
    let person = world.member(person.account, "renter", &[Role::Client, Role::Billing]).await;
    if micros > 0 {
        world.deposit(person.account, micros).await;
    }
    person
}

async fn balance(person: &Person) -> BalanceView {
    person.client.get(&format!("/v1/accounts/{}/balance", person.account)).await.unwrap()
}

async fn audited(world: &World) -> LedgerAudit {
    let audit: LedgerAudit = world.operator.client.get("/v1/ledger/audit").await.unwrap();
    assert!(audit.holds, "{:?}", audit.problems);
    let sum = audit.available + audit.owed + audit.held + audit.withheld + audit.fees + audit.outside;
    assert_eq!(sum, Micros(0));
    audit
}

/// Gives a lease back after so many seconds, and waits for the bill.
async fn end(host: &mut FakeHost, person: &Person, lease: &LeaseView, seconds: i64) {
    host.use_seconds(lease.id, seconds);
    host.settle().await;
    let _: LeaseView = person.client.post(&format!("/v1/leases/{}/release", lease.id), &json!({})).await.unwrap();
    host.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_at_once_with_funds_for_one_exactly_one_rents() {
    let world = World::new().await;
    let owner = world.person("owner", &[Role::Lender]).await;
    world.image().await;
    let _host = world.host(&owner, "desk", &[1, 1, 1, 1]).await;
    for (name, funds) in [("just", FIRST_CHUNK), ("nearly", 2 * FIRST_CHUNK - 200)] {
        let person = with(&world, name, funds).await;
        let body = rent_request(None);
        let races = (0..64).map(|_| person.client.post::<_, Granted>("/v1/leases", &body));
        let (won, lost): (Vec<_>, Vec<_>) = join_all(races).await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 63), "{name}");
        for error in lost {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), Some(Kind::OutOfFunds), "{error}");
        }
        let left = balance(&person).await;
        assert_eq!(left.available + left.held, Micros(funds), "{left:?}");
        assert_eq!(left.held, won[0].as_ref().unwrap().lease.held.unwrap());
        audited(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_told_many_times_counts_once() {
    let mut world = World::new().await;
    let person = with(&world, "physics", 0).await;
    let path = format!("/v1/accounts/{}/deposits", person.account);
    let payment = NewMovement { micros: Micros(5_000_000), reference: "pay_4711".into() };
    // Each under an idempotency key of its own, as a webhook that knows nothing of ours.
    let told = (0..32).map(|_| world.operator.client.post::<_, TransferView>(&path, &payment));
    let told: Vec<TransferView> = join_all(told).await.into_iter().map(Result::unwrap).collect();
    assert!(told.iter().all(|one| one == &told[0]) && told[0].cause == "deposit");
    world.restart().await;
    let again: TransferView = world.operator.client.post(&path, &payment).await.unwrap();
    assert_eq!(again, told[0], "after a restart too");
    let other = NewMovement { micros: Micros(6_000_000), ..payment };
    let error = world.operator.client.post::<_, TransferView>(&path, &other).await.unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Conflict));
    assert_eq!(balance(&person).await.available, Micros(5_000_000));
    let error = person.client.post::<_, TransferView>(&path, &other).await.unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Forbidden), "nobody pays in for oneself");
    let refunds = format!("/v1/accounts/{}/refunds", person.account);
    let back = NewMovement { micros: Micros(1_000_000), reference: "back".into() };
    let _: TransferView = world.operator.client.post(&refunds, &back).await.unwrap();
    let moved: Page<TransferView> =
        person.client.get(&format!("/v1/accounts/{}/transfers", person.account)).await.unwrap();
    assert_eq!(moved.items.iter().map(|t| t.cause.as_str()).collect::<Vec<_>>(), ["refund", "deposit"]);
    audited(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_its_dispute_and_all_three_statements() {
    let world = World::new().await;
    let owner = world.person("owner", &[Role::Lender]).await;
    world.image().await;
    let mut host = world.host(&owner, "desk", &[1]).await;
    let fee: Fee = world.operator.client.put("/v1/fee", &Fee { permille: 100 }).await.unwrap();
    assert_eq!(fee.permille, 100);
    let person = with(&world, "physics", 1_000_000).await;
    let lease = person.rent("box").await.lease;
    host.settle().await;
    assert_eq!(balance(&person).await.held, lease.held.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(3100)).await;
    end(&mut host, &person, &lease, 3).await;
    let charged = 100 + 7; // 3 s at 0.008 an hour are 6.67 micros.
    let earned = charged - 11;
    assert_eq!(balance(&person).await.available, Micros(1_000_000 - charged));
    assert_eq!(balance(&owner).await.available, Micros(earned));

    let open = NewDispute { lease: "box".into(), line: Some(3), reason: "unreachable".into(), words: String::new() };
    let dispute: DisputeView = person.client.post("/v1/disputes", &open).await.unwrap();
    assert_eq!((dispute.withheld, dispute.charged), (Micros(earned), Some(Micros(charged))));
    assert_eq!((balance(&owner).await.available, balance(&owner).await.withheld), (Micros(0), Micros(earned)));
    let seen: Page<DisputeView> = owner.client.get("/v1/disputes").await.unwrap();
    assert_eq!(seen.items.len(), 1, "the lender sees what is said");
    let credit = Resolution { credit: Micros(40), note: "it was away".into(), borne_by: None };
    let path = format!("/v1/disputes/{}/resolve", dispute.id);
    assert_eq!(
        person.client.post::<_, DisputeView>(&path, &credit).await.unwrap_err().kind(),
        Some(Kind::Forbidden),
        "nobody is judge of one's own"
    );
    let resolved: DisputeView = world.operator.client.post(&path, &credit).await.unwrap();
    assert_eq!((resolved.credited, resolved.withheld), (Some(Micros(40)), Micros(0)));
    assert_eq!(balance(&owner).await.available, Micros(earned - 40));

    let totals =
        [("client", &person, charged - 40), ("lender", &owner, earned - 40), ("operator", &world.operator, 11)];
    for (side, who, total) in totals {
        let statement: Statement = who.client.get(&format!("/v1/statements?side={side}&from=0")).await.unwrap();
        assert_eq!((statement.lines.len(), statement.total), (1, Micros(total)), "{side}");
        let none: Statement = who.client.get(&format!("/v1/statements?side={side}&until=1")).await.unwrap();
        assert_eq!(none.lines.len(), 0);
        let document = who.client.document(&format!("/v1/statements/export?side={side}")).await.unwrap();
        let verdict = verify(&document, None);
        assert!(matches!(verdict, Verdict::Holds(_)), "{side}: {verdict:?}");
    }
    let story: Story = person.client.get("/v1/leases/box/story").await.unwrap();
    let told: Vec<&str> = story.events.iter().map(|event| event.what.as_str()).collect();
    for what in
        ["granted", "hold", "ready", "receipt", "stopped", "billed", "charge", "void", "disputed", "resolved", "credit"]
    {
        assert!(told.contains(&what), "{what} in {told:?}");
    }
    let audit = audited(&world).await;
    assert_eq!((audit.charges, audit.fees, audit.held), (1, Micros(11), Micros(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn low_funds_are_told_and_a_market_that_starts_again_knows_all_of_it() {
    let mut world = World::new().await;
    let owner = world.person("owner", &[Role::Lender]).await;
    world.image().await;
    let mut host = world.host(&owner, "desk", &[1, 1]).await;
    let person = with(&world, "physics", FIRST_CHUNK + 5).await;
    let allowance = RentRequest {
        outage_allowance_seconds: Some(sublet_model::units::Seconds(60)),
        ..rent_request(Some("longer"))
    };
    let refused = person.client.post::<_, Granted>("/v1/leases", &allowance).await.unwrap_err();
    assert_eq!(refused.kind(), Some(Kind::OutOfFunds), "{refused}");
    let lease = person.rent("box").await.lease;
    assert!(lease.paid.0 >= 900 && lease.paid.0 < 1800, "{}", lease.paid);
    host.settle().await;
    let told = loop {
        let alerts: Page<AlertView> = person.client.get("/v1/alerts").await.unwrap();
        match alerts.items.into_iter().next() {
            Some(alert) => break alert,
            None => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    };
    assert_eq!((told.kind.as_str(), told.lease), ("funds_low", Some(lease.id)));
    let others: Page<AlertView> = owner.client.get("/v1/alerts").await.unwrap();
    assert_eq!(others.items.len(), 0, "it is nobody else's business");
    let seen: LeaseView = person.client.get("/v1/leases/box").await.unwrap();
    assert!(seen.funds_warning.is_some_and(|words| words.contains("deposit")));
    let before = balance(&person).await;
    world.restart().await;
    assert_eq!(balance(&person).await, before);
    world.deposit(person.account, 10_000_000).await;
    host.open().await.unwrap();
    host.settle().await;
    let funded = loop {
        let seen: LeaseView = person.client.get("/v1/leases/box").await.unwrap();
        if seen.paid > lease.paid {
            break seen;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!((funded.paid.0, funded.funds_warning), (1800, None));
    audited(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_may_pay_afterwards_and_within_a_limit() {
    let world = World::new().await;
    let owner = world.person("owner", &[Role::Lender]).await;
    world.image().await;
    let _host = world.host(&owner, "desk", &[1, 1]).await;
    let person = with(&world, "physics", 0).await;
    let path = format!("/v1/accounts/{}/purse", person.account);
    let change = |on_account, month_limit, no_month_limit| PurseChange { on_account, month_limit, no_month_limit };
    assert_eq!(
        person.client.post::<_, Granted>("/v1/leases", &rent_request(None)).await.unwrap_err().kind(),
        Some(Kind::OutOfFunds)
    );
    let _: BalanceView = world.operator.client.put(&path, &change(Some(true), Some(Micros(10)), false)).await.unwrap();
    assert_eq!(
        person.client.post::<_, Granted>("/v1/leases", &rent_request(None)).await.unwrap_err().kind(),
        Some(Kind::OutOfFunds)
    );
    let open: BalanceView = world.operator.client.put(&path, &change(None, None, true)).await.unwrap();
    assert_eq!((open.on_account, open.month_limit, open.spendable), (true, None, None));
    person.rent("box").await;
    let owes: BalanceView = person.client.get(&format!("/v1/accounts/{}/balance", person.account)).await.unwrap();
    assert!(owes.owed == owes.held && owes.held > Micros(0), "{owes:?}");
    let both = world
        .send(Method::PUT, &path, Some(&world.operator.token), Some(json!({"month_limit": 1, "no_month_limit": true})))
        .await;
    assert_eq!(both.problem().known_kind(), Some(Kind::Invalid));
    let below = world.send(Method::PUT, &path, Some(&world.operator.token), Some(json!({"month_limit": -1}))).await;
    assert_eq!(below.problem().known_kind(), Some(Kind::Invalid));
    for body in [
        json!({"micros": 0, "reference": "a"}),
        json!({"micros": 1}),
        json!({"micros": 1, "reference": ""}),
        Value::Null,
    ] {
        let path = format!("/v1/accounts/{}/deposits", person.account);
        let answer = world.send(Method::POST, &path, Some(&world.operator.token), Some(body)).await;
        assert_eq!(answer.problem().known_kind(), Some(Kind::Invalid), "{}", answer.body);
    }
    audited(&world).await;
}
