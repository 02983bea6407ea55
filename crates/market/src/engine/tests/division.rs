//! How the owner divides anew: only what is another thing is written, and what was counted goes on.

use super::limits::audited;
use super::world::*;
use crate::engine::command::{Command, Outcome};
use sublet_model::identity::Sha256Digest;
use sublet_model::lease::EndReason;
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::units::Timestamp;
use sublet_wire::sync::Division;

fn kinds(world: &World, kind: &str) -> i64 {
    world.db.count(&format!("select count(*) from events where kind = '{kind}'"))
}

/// The next division is taken in. Answers how often a partition was declared by it, and its boots counted.
fn divided(world: &mut World, agent: &mut Agent) -> [i64; 2] {
    let counted = |world: &World| ["partition_declared", "partition_boots"].map(|kind| kinds(world, kind));
    let before = counted(world);
    agent.says.division.revision += 1;
    assert_eq!(world.sync(agent).division_refused, None);
    let after = counted(world);
    [after[0] - before[0], after[1] - before[1]]
}

fn listed_at(world: &World, agent: &Agent, n: usize) -> Option<Timestamp> {
    world.engine.state().partition(agent.partition(n)).unwrap().listed_at
}

#[test]
fn only_the_partition_that_is_declared_otherwise_is_written() {
    let (mut world, mut agent) = World::lending();
    let since = listed_at(&world, &agent, 0);
    world.pass(5);
    world.sync(&mut agent);
    assert_eq!(divided(&mut world, &mut agent), [0, 0], "it is as it was");
    agent.says.division.partitions[0].name = "renamed".into();
    assert_eq!(divided(&mut world, &mut agent), [1, 0]);
    assert_eq!(world.engine.state().partition(agent.partition(0)).unwrap().name, "renamed");
    assert_eq!((since, listed_at(&world, &agent, 0)), (Some(START), since), "it is listed as long as it was");
    agent.says.division.partitions[0].lendable = false;
    assert_eq!((divided(&mut world, &mut agent), listed_at(&world, &agent, 0)), ([1, 0], None));
    agent.says.division.partitions[0].lendable = true;
    assert_eq!((divided(&mut world, &mut agent), listed_at(&world, &agent, 0)), ([1, 0], Some(world.now)));
    assert_eq!(listed_at(&world, &agent, 1), since);
}

#[test]
fn to_list_again_what_failed_is_the_owners_word_that_it_is_mended() {
    let (mut world, mut agent) = World::lending();
    agent.says.division.partitions[1].lendable = false;
    divided(&mut world, &mut agent);
    let lease = world.rent(1000).unwrap();
    agent.sees(&lease, Phase::Gone { reason: Some(EndReason::BootFailed) });
    world.sync(&mut agent);
    let failed =
        |world: &World, agent: &Agent| world.engine.state().partition(agent.partition(0)).unwrap().failed_boots;
    assert_eq!(failed(&world, &agent), 1);
    // Lent all the while, or no more: nobody said that it is mended.
    agent.says.division.keep = resources(900, 1024, 0);
    assert_eq!((divided(&mut world, &mut agent), failed(&world, &agent)), ([0, 0], 1));
    agent.says.division.partitions[0].lendable = false;
    assert_eq!((divided(&mut world, &mut agent), failed(&world, &agent)), ([1, 0], 1));
    agent.says.division.partitions[0].lendable = true;
    agent.says.division.partitions[1].lendable = true;
    assert_eq!((divided(&mut world, &mut agent), failed(&world, &agent)), ([2, 1], 0), "the other never failed");
}

#[test]
fn a_name_is_free_again_once_nobody_holds_its_partition() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let held = agent.says.division.partitions.iter().position(|p| p.id == lease.partition).unwrap();
    agent.says.division.partitions[held].id = id(77);
    agent.says.division.revision += 1;
    let refused = world.sync(&mut agent).division_refused.unwrap_or_default();
    assert!(refused.contains("a lease still holds"), "{refused}");
    agent.sees(&lease, Phase::Gone { reason: None });
    agent.says.division.revision += 1;
    // The lease ends with this very sync, after the division was looked at.
    assert!(world.sync(&mut agent).division_refused.is_some());
    agent.says.observed.clear();
    assert_eq!(world.sync(&mut agent).division_refused, None);
    assert!(world.engine.state().partition(id(77)).is_some());
}

#[test]
fn two_partitions_change_their_names_one_after_the_other() {
    let (mut world, mut agent) = World::lending();
    let mut named = |world: &mut World, names: [&str; 2]| {
        agent.says.division.partitions.iter_mut().zip(names).for_each(|(p, name)| p.name = name.into());
        agent.says.division.revision += 1;
        world.sync(&mut agent).division_refused.unwrap_or_default()
    };
    let refused = named(&mut world, ["two", "one"]);
    assert!(refused.contains("the name two") && refused.contains("rename that one first"), "{refused}");
    assert!(!named(&mut world, ["two", "three"]).is_empty(), "the second has that name still");
    for names in [["one", "three"], ["two", "three"], ["two", "one"]] {
        assert_eq!(named(&mut world, names), "", "{names:?}");
    }
}

#[test]
fn a_partition_that_is_removed_and_made_anew_may_have_its_name_at_once() {
    let (mut world, mut agent) = World::lending();
    agent.says.division.partitions[0].id = id(77);
    agent.says.division.revision += 1;
    assert_eq!(world.sync(&mut agent).division_refused, None);
    let names: Vec<_> = world.engine.state().partitions_of(agent.host).map(|p| (p.id, p.name.as_str())).collect();
    assert_eq!(names, [(id(77), "one"), (agent.partition(1), "two")]);
}

#[test]
fn who_lends_nothing_needs_no_conditions_and_who_divided_nothing_says_nothing_else() {
    let (mut world, _) = World::lending();
    let mut agent = Agent::new(HOST + 1);
    let own = agent.says.division.clone();
    agent.says.division = Division { revision: 0, ..own.clone() };
    let hash = Sha256Digest::of(b"token");
    let (id, expires_at) = (world.fresh(), world.now.after(sublet_model::units::Seconds(60)));
    world.call(Command::CreateJoinToken { actor: lender(), id, hash, uses: 1, expires_at }).unwrap();
    let joined = world.call(Command::JoinHost {
        token: hash,
        id: agent.host,
        name: "another".into(),
        key: agent.key.public(),
        ssh_host_key: SSH_KEY.into(),
        inventory: agent.says.inventory.clone(),
    });
    assert!(matches!(joined, Ok(Outcome::Joined { .. })), "{joined:?}");
    world.call(Command::OpenSession { host: agent.host, last_session: 0 }).unwrap();
    assert_eq!(world.sync(&mut agent).warnings, [""; 0], "nothing was divided, whatever stands there");
    assert_eq!(world.engine.state().partitions_of(agent.host).count(), 0);
    agent.says.division = Division { conditions: None, ..own };
    agent.says.division.partitions.iter_mut().for_each(|p| p.lendable = false);
    assert_eq!(world.sync(&mut agent).division_refused, None);
    assert_eq!(world.engine.state().partitions_of(agent.host).count(), 2);
}

#[test]
fn where_clients_dial_stands_with_each_partition() {
    let (mut world, mut agent) = World::lending();
    let dials = |world: &World| {
        let state = world.engine.state();
        let mut all: Vec<_> =
            state.partitions_of(id(HOST)).map(|p| p.access.as_ref().map(|a| (a.ca.clone(), a.dial.clone()))).collect();
        all.push(Some((String::new(), state.host(id(HOST)).unwrap().dial.clone())));
        all
    };
    for dial in ["127.0.0.1:40222", "127.0.0.1:40223"] {
        agent.says.dial = dial.into();
        let before = kinds(&world, "partition_access");
        world.sync(&mut agent);
        let access = Some(("ssh-ed25519 CA".to_owned(), dial.to_owned()));
        assert_eq!(dials(&world), [access.clone(), access, Some((String::new(), dial.to_owned()))]);
        let after = kinds(&world, "partition_access");
        assert_eq!(after - before, if dial.ends_with('3') { 2 } else { 0 });
        world.sync(&mut agent);
        assert_eq!(kinds(&world, "partition_access"), after, "said again");
    }
    assert_eq!((kinds(&world, "host_dialed"), audited(&world, "host.divide")), (2, 1));
}
