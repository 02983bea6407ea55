//! What is made ahead, in which machine, and what starts from it.

use super::world::World;
use crate::fixtures::partition;
use crate::vmm::Birth;
use std::time::Duration;
use sublet_model::ids::PartitionId;
use sublet_model::partition::Phase;
use uuid::Uuid;

/// Waits until a template is whole.
async fn made(world: &World) {
    let folder = world.store.state().join("templates");
    let whole = || {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        entries.filter(|e| e.file_name() != "making").any(|e| e.path().join("template.json").exists())
    };
    for _ in 0..3000 {
        if whole() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no template was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_a_kind_starts_from_a_template_that_served_nobody() {
    let mut world = World::new().await;
    world.template_limit_bytes = 1 << 30;
    world.start().await;
    world.market.until_phase(3, 0, |phase| phase == Phase::Idle).await;
    world.market.grant(1, 1, |_| {});
    let first = world.market.until_ready(1, 1).await;
    assert_eq!(first.started.as_deref(), Some("cold: there is no template of it yet"));

    made(&world).await;
    let nobody: PartitionId = Uuid::nil().into();
    assert_eq!(world.started_machines(), [(partition(1), 1), (nobody, 0)]);
    let simulated = world.machines.simulated();
    assert!(simulated.spec(nobody).is_none(), "its machine is gone");

    world.market.grant(2, 1, |_| {});
    let second = world.market.until_ready(2, 1).await;
    assert_eq!(second.started.as_deref(), Some("warm: from a template"));
    assert_eq!(simulated.spec(partition(1)).unwrap().birth, Birth::Cold);
    assert!(matches!(simulated.spec(partition(2)).unwrap().birth, Birth::Clone(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_stops_leaves_no_half_made_template() {
    let mut world = World::new().await;
    world.template_limit_bytes = 1 << 30;
    world.start().await;
    world.market.until_phase(3, 0, |phase| phase == Phase::Idle).await;
    world.machines.mute_templates();
    world.market.grant(1, 1, |_| {});
    let nobody: PartitionId = Uuid::nil().into();
    world.market.until_ready(1, 1).await;
    for _ in 0..500 {
        if world.machines.simulated().spec(nobody).is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(world.machines.simulated().spec(nobody).is_some(), "it is being made");
    world.kill_agent().await;
    let making = world.store.state().join("templates/making");
    assert!(!making.exists());
    assert!(world.machines.simulated().spec(nobody).is_none(), "its machine is gone");
}
