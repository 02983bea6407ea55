//! Certificates: made for whoever holds the lease, read by the real ssh-keygen, and for nobody else.

use crate::world::{CLIENT_KEY, World};
use std::process::Command;
use sublet_model::account::Role;
use sublet_wire::api::{Access, AccessRequest, Granted, LeaseView};
use sublet_wire::client::ClientError;
use sublet_wire::problem::Kind;

fn listed(certificate: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key-cert.pub");
    std::fs::write(&path, certificate).unwrap();
    let output = Command::new("ssh-keygen").arg("-L").arg("-f").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_for_one_lease_and_generation_while_it_lives() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let mut host = world.host(&person, "desk", &[1]).await;
    let first: Granted = person.rent("box").await;
    let shown = listed(&first.access.certificate);
    for wanted in ["user certificate", &format!("{}.g1", first.lease.id), &person.member.to_string(), "permit-pty"] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    host.settle().await;

    let ask = |key: Option<&str>| AccessRequest { ssh_public_key: key.map(Into::into) };
    let path = "/v1/leases/box/access";
    let again: Access = person.client.post(path, &ask(None)).await.unwrap();
    assert!(listed(&again.certificate).contains(&format!("{}.g1", first.lease.id)));
    let other: Access = person.client.post(path, &ask(Some(CLIENT_KEY))).await.unwrap();
    assert_ne!(other.certificate, again.certificate, "each has a serial of its own");
    let view: LeaseView = person.client.get("/v1/leases/box").await.unwrap();
    assert!(again.expires_at <= view.ends_at.unwrap(), "it never outlives the lease");
    let refused = |answer: Result<Access, ClientError>| answer.unwrap_err().kind();
    assert_eq!(refused(person.client.post(path, &ask(Some("ssh-rsa AAAA"))).await), Some(Kind::Invalid));

    let _: LeaseView = person.client.post("/v1/leases/box/release", &()).await.unwrap();
    assert_eq!(refused(person.client.post(path, &ask(None)).await), Some(Kind::Conflict), "it is being given back");
    host.settle().await;
    let ended = format!("/v1/leases/{}/access", first.lease.id);
    assert_eq!(refused(person.client.post(&ended, &ask(None)).await), Some(Kind::Conflict), "it is over");
    let second = person.rent("box").await;
    assert!(listed(&second.access.certificate).contains(&format!("{}.g2", second.lease.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_one() {
    let world = World::new().await;
    let owner = world.person("owner", &[Role::Lender, Role::Client]).await;
    let client = world.person("physics", &[Role::Client]).await;
    let auditor = world.member(client.account, "auditor", &[Role::Auditor]).await;
    world.image().await;
    let _host = world.host(&owner, "desk", &[1]).await;
    let lease = client.rent("box").await.lease;
    let path = format!("/v1/leases/{}/access", lease.id);
    for (who, person, kind) in [
        ("the owner of the host", &owner, Kind::Forbidden),
        ("the operator", &world.operator, Kind::Forbidden),
        ("an auditor of the client's", &auditor, Kind::Forbidden),
        ("a stranger", &world.person("stranger", &[Role::Client]).await, Kind::NotFound),
    ] {
        let body = AccessRequest { ssh_public_key: None };
        let error = person.client.post::<_, Access>(&path, &body).await.unwrap_err();
        assert_eq!(error.kind(), Some(kind), "{who}: {error}");
    }
}
