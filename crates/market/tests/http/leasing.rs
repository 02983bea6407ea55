//! The narrow path: search, rent, watch, get in, extend, give back, see the bill.

use crate::world::{World, needs, rent_request};
use std::time::{Duration, Instant};
use sublet_model::account::Role;
use sublet_model::book::Unfit;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::statement::{Verdict, verify};
use sublet_model::units::{Micros, MicrosPerHour, Millicores, Seconds};
use sublet_wire::api::*;
use sublet_wire::problem::Kind;

#[tokio::test(flavor = "multi_thread")]
async fn a_rent_from_search_to_bill() {
    let world = World::new().await;
    let (lender, client) =
        (world.person("owner", &[Role::Lender]).await, world.person("physics", &[Role::Client]).await);
    world.image().await;
    let mut host = world.host(&lender, "desk", &[2]).await;

    let found: SearchAnswer = client
        .client
        .post("/v1/search", &SearchRequest { requirements: needs(), limit: None, plan: false })
        .await
        .unwrap();
    assert_eq!(found.matches.len(), 1, "{found:?}");
    assert_eq!(found.matches[0].hourly, MicrosPerHour(8_000));

    let granted = client.rent("box").await;
    assert_eq!(granted.lease.name, "box");
    assert_eq!(granted.lease.state, LeaseState::Granted { silent_since: None });
    assert_eq!(granted.access.user, granted.lease.id.to_string());
    assert_eq!(granted.access.dial, "127.0.0.1:40222");
    assert!(granted.access.certificate.starts_with("ssh-ed25519-cert-v01@openssh.com "));

    // The watcher hears of it as soon as the host has said that it is ready.
    let path = format!("/v1/leases/box?after={}&wait=10", granted.lease.version);
    let watcher = tokio::spawn({
        let client = client.client.clone();
        async move { client.get::<LeaseView>(&path).await.unwrap() }
    });
    host.settle().await;
    let ready = watcher.await.unwrap();
    assert_ne!(ready.version, granted.lease.version);
    let view: LeaseView = client.client.get("/v1/leases/box").await.unwrap();
    assert!(matches!(view.state, LeaseState::Active { .. }), "{view:?}");
    assert!(view.ends_at.is_some() && view.timeline.ready_at.is_some());

    let longer: LeaseView = client.client.post("/v1/leases/box/extend", &Extend { by: Seconds(600) }).await.unwrap();
    assert_eq!(longer.term, Seconds(4200));

    // No host is paid for more than the market saw pass.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    host.use_seconds(view.id, 1);
    let released: LeaseView = client.client.post("/v1/leases/box/release", &()).await.unwrap();
    assert_eq!(released.state, LeaseState::Stopping { reason: EndReason::Released });
    host.settle().await;
    let ended: LeaseView = client.client.get(&format!("/v1/leases/{}", view.id)).await.unwrap();
    assert!(matches!(ended.state, LeaseState::Ended { reason: EndReason::Released, .. }), "{ended:?}");
    assert!(ended.explanation.unwrap().contains("released"));

    let paid: Statement = client.client.get("/v1/statements").await.unwrap();
    let earned: Statement = lender.client.get("/v1/statements?side=lender").await.unwrap();
    assert_eq!((paid.lines.len(), paid.total), (1, earned.total));
    let line = &paid.lines[0];
    assert!(line.settled, "{line:?}");
    assert_eq!(line.charge.billed_seconds, Seconds(1));
    assert_eq!(line.charge.total, Micros(100 + 2), "set-up, and 1 s of 0.008 an hour");
    assert_eq!(line.arithmetic, "1 s at 0.008/h + set-up 0.0001 = 0.000102");

    for (who, side) in [(&client, "client"), (&lender, "lender")] {
        let document = who.client.document(&format!("/v1/statements/export?side={side}")).await.unwrap();
        let me: WhoAmI = who.client.get("/v1/whoami").await.unwrap();
        let Verdict::Holds(holds) = verify(&document, Some(me.market_key)) else {
            panic!("{:?}\n{}", verify(&document, None), String::from_utf8_lossy(&document))
        };
        assert_eq!((holds.leases, holds.amount), (1, Micros(102)));
    }

    let receipts: Page<sublet_model::identity::Signed<sublet_model::metering::Receipt>> =
        lender.client.get(&format!("/v1/leases/{}/receipts", view.id)).await.unwrap();
    assert_eq!(receipts.items.len(), 2);
    assert!(receipts.items.iter().all(|r| r.verify(&host.key.public()).is_ok()));
    let again = client.client.post::<_, Granted>("/v1/leases", &rent_request(Some("box"))).await.unwrap();
    assert_eq!(again.lease.generation, granted.lease.generation + 1, "the partition is free, under a new generation");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_may_be_said_as_a_text() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let _host = world.host(&person, "desk", &[2, 2]).await;
    let search = async |text: &str| {
        let body = serde_json::json!({"requirements": text});
        person.client.post::<_, SearchAnswer>("/v1/search", &body).await
    };
    let answer = search("memory<=8GiB   cpu>=1 emulated term=1h host in [desk,other]").await.unwrap();
    assert_eq!(answer.matches.len(), 2, "{answer:?}");
    assert_eq!(answer.asked, "cpu>=1 memory<=8GiB host in [desk,other] emulated=yes term=1h");
    let assumed: Vec<&str> = answer.assumed.iter().map(|a| a.clause.as_str()).collect();
    assert_eq!(assumed, ["memory>=512MiB", "disk>=0GiB", "vcpus>=1", "count=1", "order=total"]);

    let answer = search("emulated cpu>=4 label.rack=7").await.unwrap();
    assert!(answer.matches.is_empty());
    let left_out: Vec<&str> = answer.unfit.iter().map(|unfit| unfit.clause.as_str()).collect();
    assert_eq!(left_out, ["label.rack"], "{answer:?}");

    let error = search("cpu>=1 memroy>=4GiB").await.unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Invalid));
    assert!(error.to_string().contains("column 8: no such property memroy: did you mean memory?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_fits_it_says_why() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let _host = world.host(&person, "desk", &[2, 2]).await;
    let mut request = rent_request(None);
    request.requirements.cpu = Some(Millicores(4000).into());
    let error = person.client.post::<_, Granted>("/v1/leases", &request).await.unwrap_err();
    assert_eq!(error.kind(), Some(Kind::NoMatch));
    let sublet_wire::client::ClientError::Problem(problem) = error else { panic!("{error}") };
    assert_eq!(problem.unfit.len(), 1);
    assert_eq!(problem.unfit[0].reason, Unfit::TooSmall(sublet_model::resources::Dimension::Cpu));
    assert_eq!(problem.unfit[0].partitions, 2);
    let answer: SearchAnswer = person
        .client
        .post("/v1/search", &SearchRequest { requirements: request.requirements, limit: None, plan: false })
        .await
        .unwrap();
    assert!(answer.matches.is_empty());
    assert_eq!(answer.unfit, problem.unfit);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_fits_it_says_what_would() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let _host = world.host(&person, "desk", &[2, 2]).await;
    let ask = async |path: &str, text: &str| {
        let body = serde_json::json!({"requirements": text});
        person.client.post::<_, serde_json::Value>(path, &body).await.unwrap()
    };
    let text = "cpu>=4 memory>=512MiB emulated term=1h";
    let near = ask("/v1/search/nearest", text).await;
    assert_eq!((&near["lent"], &near["fitting"]), (&2.into(), &0.into()), "{near}");
    assert_eq!((&near["alone"][0]["clause"], &near["alone"][0]["partitions"]), (&"cpu".into(), &2.into()), "{near}");
    let changes = near["changes"].as_array().unwrap();
    assert_eq!((&changes[0]["from"], &changes[0]["to"]), (&"cpu>=4".into(), &"cpu>=2".into()), "{near}");
    for change in changes {
        let text = change["requirements"].as_str().unwrap();
        assert!(!ask("/v1/search", text).await["matches"].as_array().unwrap().is_empty(), "{change}");
    }
    // Where something fits there is nothing to change.
    let near = ask("/v1/search/nearest", "cpu>=2 emulated").await;
    assert_eq!((&near["fitting"], &near["changes"]), (&2.into(), &serde_json::json!([])), "{near}");

    let body = serde_json::json!({"requirements": "cpu>=1 emulated", "plan": true});
    let answer: SearchAnswer = person.client.post("/v1/search", &body).await.unwrap();
    let plan = answer.plan.unwrap();
    assert_eq!((plan.lent, plan.groups, plan.admitted), (2, 1, 2), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_partition_refuses_another_allocation() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let host = world.host(&person, "desk", &[3]).await;
    let partition = host.division.partitions[0].id;
    let path = format!("/v1/partitions/{partition}/allocation");
    let to = |cores| Alter { resources: crate::fake_host::size(cores) };
    let altered: PartitionView = person.client.put(&path, &to(2)).await.unwrap();
    assert_eq!(altered.allocation.resources, crate::fake_host::size(2));
    let granted = person.rent("box").await;
    let error = person.client.put::<_, PartitionView>(&path, &to(3)).await.unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Locked));
    assert!(error.to_string().contains(&granted.lease.id.to_string()), "{error}");
    let shown: PartitionView = person.client.get(&format!("/v1/partitions/{partition}")).await.unwrap();
    assert!(shown.locked && shown.lease == Some(granted.lease.id));
    assert_eq!(shown.allocation.resources, granted.lease.resources, "unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_when_nothing_happens() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let _host = world.host(&person, "desk", &[1]).await;
    let granted = person.rent("box").await;
    let began = Instant::now();
    let path = format!("/v1/leases/box?after={}&wait=1", granted.lease.version);
    let same: LeaseView = person.client.get(&path).await.unwrap();
    assert_eq!(same.version, granted.lease.version);
    assert!((900..10_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let began = Instant::now();
    let path = format!("/v1/leases/box?after={}&wait=30", granted.lease.version + 1);
    let _: LeaseView = person.client.get(&path).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "another version is answered at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        world.person(name, &[Role::Client]).await;
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Page<AccountView> =
            world.operator.client.get(&format!("/v1/accounts?limit=2{cursor}")).await.unwrap();
        assert!(page.items.len() <= 2);
        names.extend(page.items.into_iter().map(|a| a.name));
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["operator", "a", "b", "c", "d"]);
    let mut lines = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Page<AuditEntry> = world.operator.client.get(&format!("/v1/audit?limit=5{cursor}")).await.unwrap();
        lines.extend(page.items);
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    // An account, its member, its token, and what was deposited for it.
    assert_eq!(lines.len(), 1 + 4 * 4, "{lines:#?}");
    assert!(lines.windows(2).all(|pair| pair[0].seq > pair[1].seq));
}
