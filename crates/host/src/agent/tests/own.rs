//! The owner's own partitions, beside what is lent.

use super::world::{KERNEL, World};
use super::{line, partition};
use crate::agent::door::AgentDoor;
use crate::agent::own::{EVERY_START, OwnDoor, own_user};
use crate::division::{NewOwn, divide, wish};
use crate::fixtures::{allocation, inventory, lease, manifest, size};
use crate::guest_link::Status;
use crate::ssh::certificate::check;
use crate::ssh::{Door, LeaseKey, Refusal};
use crate::store::{Own, Stand, Wish};
use std::sync::Arc;
use std::time::Duration;
use sublet_model::identity::{SecretKey, Signed};
use sublet_model::ids::PartitionId;
use sublet_model::partition::Phase;

fn new(world: &World, name: &str, cpu: i64) -> NewOwn {
    let image = Signed::sign(&manifest(KERNEL), &SecretKey::from_seed(&[8; 32])).unwrap();
    NewOwn { name: name.into(), resources: size(cpu, 256), image, depot: world.market.address.clone() }
}

/// Makes one, as its owner's command does beside the agent.
fn make(world: &World, name: &str, cpu: i64) -> PartitionId {
    divide(&world.store, &inventory(), vec![new(world, name, cpu)]).unwrap();
    world.store.own().unwrap().iter().find(|own| own.name == name).unwrap().partition
}

async fn until(world: &World, what: &str, is: impl Fn(&Own) -> bool) -> Own {
    for _ in 0..6000 {
        if let Some(own) = world.store.own().unwrap().into_iter().find(&is) {
            return own;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}: {:?}", world.store.own().unwrap());
}

async fn until_start(world: &World, starts: u64) -> Own {
    until(world, "ready", |own| own.stand == Stand::Ready && own.starts == starts).await
}

fn door(world: &World) -> OwnDoor<super::world::Machines> {
    let authority = world.store.own_authority().unwrap().public().unwrap();
    OwnDoor { shared: Arc::clone(world.shared()), authority }
}

async fn says_hello(world: &World, name: &str) {
    let door = door(world);
    let admission = door.lease(&own_user(name)).await.unwrap();
    let job = door.link(&admission.key).await.unwrap().exec(&line("hello", "echo hello")).await;
    let mut job = job.unwrap();
    assert_eq!(job.stdout.collect(100).await.unwrap(), b"hello\n");
    assert_eq!(job.control.wait().await.unwrap(), Status::Code(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_needs_no_market_and_outlives_its_agent() {
    let mut world = World::new().await;
    world.market.book().cut = true;
    let mine = make(&world, "mine", 500);
    world.start().await;
    let before = until_start(&world, 1).await;
    says_hello(&world, "mine").await;

    world.kill_agent().await;
    world.start().await;
    says_hello(&world, "mine").await;
    let after = until_start(&world, 1).await;
    assert_eq!((before.start, world.started_machines()), (after.start, vec![(mine, 1)]), "the very same machine");
    assert_eq!(world.store.live_runs().unwrap(), [], "no lease");
    let spec = world.machines.simulated().spec(mine).unwrap();
    assert!((61_000..61_010).contains(&spec.uid), "a user of its own: {}", spec.uid);

    // What ends with the agent, another one starts again.
    world.agent().stop_partitions().await.unwrap();
    assert_eq!(world.store.own().unwrap()[0].stand, Stand::Down);
    world.kill_agent().await;
    world.start().await;
    until_start(&world, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crashes_on_one_side_moves_nothing_on_the_other() {
    let world = World::started().await;
    let mine = make(&world, "mine", 500);
    until_start(&world, 1).await;
    world.market.grant(1, 1, |_| {});
    world.market.until_ready(1, 1).await;
    let (clients, machine) = (world.store.live_run(partition(1)).unwrap().unwrap().uuid, world.machines.simulated());

    let told = door(&world).lease(&own_user("mine")).await.unwrap().ended;
    machine.panic(mine);
    let again = until_start(&world, 2).await;
    assert!(again.said.unwrap().contains("kernel panicked"), "its owner can see why, later, too");
    assert!(told.borrow().as_ref().unwrap().contains("kernel panicked"), "whoever was in is told");
    says_hello(&world, "mine").await;
    let run = world.store.live_run(partition(1)).unwrap().unwrap();
    assert_eq!((run.uuid, run.reason), (clients, None));

    let before = world.store.own().unwrap()[0].start.clone();
    machine.panic(partition(1));
    world.market.until_gone(1, 1).await;
    assert_eq!(world.store.own().unwrap()[0].start, before);
    machine.kill(mine);
    until_start(&world, 3).await;
    assert_eq!(world.started_machines(), [(mine, 1), (partition(1), 1), (mine, 2), (mine, 3)]);
    let seen = world.market.until_phase(2, 0, |phase| phase == Phase::Idle).await;
    assert!(seen.detail.is_none(), "no refusal: {seen:?}");
    assert!(world.market.book().receipts.iter().all(|r| r.lease == lease(1, 1)), "nobody pays for the owner's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_down_for_as_long_as_its_owner_wants() {
    let world = World::started().await;
    let mine = make(&world, "mine", 500);
    until_start(&world, 1).await;
    world.machines.simulated().shut_down(mine);
    let down = until(&world, "down", |own| own.stand == Stand::Down && own.wish == Wish::Stop).await;
    assert!(down.said.unwrap().contains("from inside"));
    let door = door(&world);
    let admission = door.lease(&own_user("mine")).await.unwrap();
    assert!(door.link(&admission.key).await.unwrap_err().contains("sublet host own start mine"));

    wish(&world.store, "mine", Wish::Run).unwrap();
    until_start(&world, 2).await;
    wish(&world.store, "mine", Wish::Stop).unwrap();
    until(&world, "down", |own| own.stand == Stand::Down).await;
    wish(&world.store, "mine", Wish::Run).unwrap();
    until_start(&world, 3).await;
    wish(&world.store, "mine", Wish::Remove).unwrap();
    let undeclared = world.market.until("it is declared no more", |book| {
        let division = &book.last.as_ref()?.division;
        division.partitions.iter().all(|p| p.id != mine).then_some(())
    });
    undeclared.await;
    assert!(world.store.own().unwrap().is_empty() && world.store.division().unwrap().partitions.len() == 3);
    assert!(world.machines.simulated().traces().is_empty(), "wiped");
    assert!(wish(&world.store, "mine", Wish::Run).unwrap_err().to_string().contains("own list"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_room_and_keeps_what_it_has() {
    let world = World::started().await;
    // Three have 500 each of the 2000 that are lent.
    make(&world, "large", 1000);
    let waits = until(&world, "it waits", |own| own.waits.is_some()).await;
    assert!(waits.waits.unwrap().contains("waits for room") && waits.starts == 0);
    world.market.idle(1, allocation(0, 1, 100));
    world.market.idle(2, allocation(0, 1, 400));
    assert_eq!(until_start(&world, 1).await.waits, None);
    world.market.idle(1, allocation(0, 2, 500));
    let refused = world.market.until("the refusal", |book| {
        let seen = book.last.as_ref()?.observed.iter().find(|seen| seen.partition == partition(1))?;
        seen.detail.clone()
    });
    assert!(refused.await.contains("that is lent here"), "nothing is overbooked by it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_door_knows_its_own_authority_and_nobody_of_the_others() {
    let world = World::started().await;
    make(&world, "mine", 500);
    until_start(&world, 1).await;
    let granted = world.market.grant(1, 1, |_| {}).to_string();
    world.market.until_ready(1, 1).await;
    let ((leases, _record), own) = (AgentDoor::new(world.shared()), door(&world));
    let mine = own_user("mine");
    assert!(leases.lease(&mine).await.is_none(), "clients find no own partition");
    assert!(own.lease(&granted).await.is_none(), "the owner's door leads into no lease");
    assert!(own.lease("mine").await.is_none());

    let key =
        |seed: u8| russh::keys::PrivateKey::from(russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]));
    let now = 1_800_000_000;
    let authority = world.store.own_authority().unwrap();
    let ssh_key = ssh_key::PublicKey::from_openssh(&key(1).public_key().to_openssh().unwrap()).unwrap();
    let certificate = |principal: &str, until| {
        let text = authority.certify(&ssh_key, principal, now, until).unwrap();
        russh::keys::Certificate::from_openssh(&text).unwrap()
    };
    let to_mine = LeaseKey { lease: mine.clone(), generation: EVERY_START };
    let to_lease = LeaseKey { lease: granted.clone(), generation: 1 };
    let ours = [russh::keys::PublicKey::from_openssh(&authority.public().unwrap()).unwrap()];
    let markets = [key(7).public_key().clone()];
    let table = [
        ("the owner", certificate(&to_mine.principal(), now + 60), &to_mine, &ours, Ok(())),
        ("of another", certificate("own_other.g0", now + 60), &to_mine, &ours, Err(Refusal::OtherLease(mine.clone()))),
        ("too late", certificate(&to_mine.principal(), now), &to_mine, &ours, Err(Refusal::Expired)),
        (
            "in a lease",
            certificate(&to_lease.principal(), now + 60),
            &to_lease,
            &markets,
            Err(Refusal::UnknownAuthority),
        ),
        (
            "the market's way",
            certificate(&to_mine.principal(), now + 60),
            &to_mine,
            &markets,
            Err(Refusal::UnknownAuthority),
        ),
    ];
    for (name, certificate, key, authorities, expected) in table {
        assert_eq!(check(&certificate, key, authorities, now), expected, "{name}");
    }
    // What each door really believes.
    let of = |admission: &crate::ssh::Admission| admission.authorities.clone();
    assert_eq!(of(&own.lease(&mine).await.unwrap()), [authority.public().unwrap()]);
    assert!(!of(&leases.lease(&granted).await.unwrap()).contains(&authority.public().unwrap()));
}
