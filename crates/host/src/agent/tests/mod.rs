//! The whole agent against a market that speaks the real protocol, with simulated machines in
//! which the real guest program answers.

mod keys;
mod own;
#[path = "../../../tests/rehearsal/mod.rs"]
mod rehearsal;
mod templates;
mod world;

use crate::agent::door::AgentDoor;
use crate::division::{Which, take_back};
use crate::fixtures::{allocation, lease, partition};
use crate::guest_link::{Command, ExecRequest, Status};
use crate::ssh::{Door, LeaseKey, SessionEvent};
use crate::store::Store;
use crate::vmm::{Boottime, Operation};
use std::time::Duration;
use sublet_model::lease::EndReason;
use sublet_model::partition::Phase;
use sublet_model::units::Seconds;
use world::World;

fn line(job: &str, command: &str) -> ExecRequest {
    ExecRequest {
        job: job.into(),
        command: Command::Line(command.into()),
        env: Vec::new(),
        cwd: None,
        user: String::new(),
        pty: None,
        keep: false,
    }
}

fn key(n: u128, generation: u64) -> LeaseKey {
    LeaseKey { lease: lease(n, generation).to_string(), generation }
}

fn reason(phase: Phase) -> Option<EndReason> {
    if let Phase::Gone { reason } = phase { reason } else { panic!("not gone: {phase:?}") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_from_grant_to_gone() {
    let world = World::started().await;
    let granted = world.market.grant(1, 1, |_| {});
    world.market.until_ready(1, 1).await;

    let (door, _record) = AgentDoor::new(world.shared());
    let admission = door.lease(&granted.to_string()).await.unwrap();
    assert_eq!((admission.key.principal(), admission.one_shot), (format!("{granted}.g1"), false));
    let link = door.link(&admission.key).await.unwrap();
    let mut job = link.exec(&line("j", "cat; exit 3")).await.unwrap();
    job.stdin.write(b"hello").await.unwrap();
    job.stdin.finish().await.unwrap();
    assert_eq!(job.stdout.collect(100).await.unwrap(), b"hello");
    assert_eq!(job.control.wait().await.unwrap(), Status::Code(3));

    world.market.release(1);
    assert_eq!(reason(world.market.until_gone(1, 1).await.phase), None, "the market knows why");
    assert!(admission.ended.borrow().as_ref().unwrap().contains("has ended"));
    assert!(door.link(&admission.key).await.is_err());
    let receipts = world.market.until("the last receipt", |book| {
        let receipts: Vec<_> = book.receipts.iter().filter(|r| r.lease == granted).cloned().collect();
        receipts.last().is_some_and(|r| r.last).then_some(receipts)
    });
    assert!(receipts.await.last().unwrap().seconds < Seconds(60));
    assert_eq!(world.store.live_runs().unwrap(), []);
    assert_eq!(std::fs::read_dir(world.store.state().join("run")).unwrap().count(), 0, "wiped");
    let words: Vec<&str> = world.market.book().phases[&partition(1)].iter().map(|p| p.word()).collect();
    assert_eq!((words[0], words[words.len() - 1]), ("idle", "gone"));
    assert!(words.contains(&"ready"), "{words:?}");

    // And the next one, of the same partition.
    world.market.grant(1, 2, |_| {});
    world.market.until_ready(1, 2).await;
    assert_eq!(world.started_machines(), [(partition(1), 1), (partition(1), 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_killed_finds_everything_again() {
    let mut world = World::started().await;
    let granted = world.market.grant(1, 1, |_| {});
    world.market.until_ready(1, 1).await;
    let (door, _record) = AgentDoor::new(world.shared());
    let link = door.link(&key(1, 1)).await.unwrap();
    let job = link.exec(&line("kept", "sleep 60; echo late")).await.unwrap();
    let before = world.store.live_run(partition(1)).unwrap().unwrap();
    drop((job, link, door, _record));

    world.kill_agent().await;
    let session = world.market.book().session;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.start().await;
    world.market.until("a new session", |book| (book.session == session + 1).then_some(())).await;
    let observed = world.market.until_ready(1, 1).await;
    let after = world.store.live_run(partition(1)).unwrap().unwrap();
    assert_eq!((before.ready_mono_us, before.uuid), (after.ready_mono_us, after.uuid));
    assert!(observed.seconds >= Seconds(1), "the time of nobody's watch counts: the guest was there");
    assert_eq!(world.started_machines().len(), 1, "never started again");
    let (door, _record) = AgentDoor::new(world.shared());
    let link = door.link(&key(1, 1)).await.unwrap();
    let jobs = link.jobs().await.unwrap();
    assert!(jobs.iter().any(|job| job.job == "kept"), "{jobs:?}");

    world.market.release(1);
    world.market.until_gone(1, 1).await;
    let receipts = world.market.receipts_of(granted);
    let seconds: Vec<i64> = receipts.iter().map(|r| r.seconds.0).collect();
    assert!(seconds.is_sorted() && receipts.last().unwrap().last, "{receipts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_ends_a_machine_is_said_with_its_reason() {
    let world = World::started().await;
    type Act = fn(&World);
    let table: [(Act, EndReason); 4] = [
        (|w| w.machines.simulated().panic(partition(1)), EndReason::GuestCrashed),
        (|w| w.machines.simulated().shut_down(partition(1)), EndReason::GuestShutdown),
        (|w| w.machines.simulated().kill(partition(1)), EndReason::GuestCrashed),
        (|w| w.machines.simulated().tick(Boottime(i64::MAX)), EndReason::OutOfFunds),
    ];
    for (at, (act, expected)) in table.into_iter().enumerate() {
        let generation = at as u64 + 1;
        let granted = world.market.grant(1, generation, |_| {});
        world.market.until_ready(1, generation).await;
        act(&world);
        let observed = world.market.until_gone(1, generation).await;
        assert_eq!(reason(observed.phase), Some(expected), "{observed:?}");
        assert!(observed.detail.is_some());
        let last = world.market.receipts_of(granted).pop();
        assert!(last.is_some_and(|r| r.last), "the last receipt is not behind the gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_come_by_term_and_money_and_move_when_paid() {
    let world = World::started().await;
    world.market.grant(1, 1, |run| (run.term_seconds, run.paid_seconds) = (Seconds(1), Seconds(900)));
    world.market.grant(2, 1, |run| run.paid_seconds = Seconds(1));
    world.market.grant(3, 1, |run| run.paid_seconds = Seconds(2));
    world.market.until_ready(3, 1).await;
    world.market.extend(3, Seconds(900));
    assert_eq!(reason(world.market.until_gone(1, 1).await.phase), Some(EndReason::Expired));
    assert_eq!(reason(world.market.until_gone(2, 1).await.phase), Some(EndReason::OutOfFunds));
    for n in [1, 2] {
        let last = world
            .market
            .until("the last receipt", |book| book.receipts.iter().find(|r| r.lease == lease(n, 1) && r.last).cloned());
        assert_eq!(last.await.seconds, Seconds(1), "not a second past the end");
    }
    let ready = world.store.live_run(partition(3)).unwrap().unwrap();
    let past = Boottime(ready.ready_boot_us.unwrap() + 2_300_000);
    while Boottime::now() < past {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.store.live_run(partition(3)).unwrap().unwrap().paid, Seconds(900));
    world.market.until_ready(3, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_that_fails_says_how() {
    let mut world = World::new().await;
    world.boot_deadline = Duration::from_secs(2);
    world.start().await;
    world.machines.simulated().fail_next(Operation::Start);
    world.market.grant(1, 1, |_| {});
    let observed = world.market.until_gone(1, 1).await;
    assert_eq!(reason(observed.phase), Some(EndReason::BootFailed));
    assert!(observed.detail.unwrap().contains("made to fail"));

    world.market.grant(1, 2, |run| {
        let has = allocation(2, 0, 500);
        *run = crate::fixtures::wanted_run_of(1, &has, &crate::fixtures::manifest(b"absent"), &run.depot);
    });
    let observed = world.market.until_gone(1, 2).await;
    assert_eq!(reason(observed.phase), Some(EndReason::ImageUnavailable));
    assert!(observed.detail.unwrap().contains("kernel"));

    world.machines.mute();
    world.market.grant(1, 3, |_| {});
    let observed = world.market.until_gone(1, 3).await;
    assert_eq!(reason(observed.phase), Some(EndReason::BootFailed));
    assert!(observed.detail.unwrap().contains("did not come up"));
    assert!(world.market.receipts_of(lease(1, 3)).iter().all(|r| r.seconds == Seconds(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_is_done_again_whether_it_had_done_its_work_or_not() {
    let world = World::started().await;
    let mut generation = 0;
    for operation in [Operation::SetDeadline, Operation::Stop, Operation::Wipe] {
        for after in [false, true] {
            generation += 1;
            let simulated = world.machines.simulated();
            if after {
                simulated.fail_after_next(operation)
            } else {
                simulated.fail_next(operation)
            };
            world.market.grant(1, generation, |_| {});
            world.market.until_ready(1, generation).await;
            world.market.release(1);
            let observed = world.market.until_gone(1, generation).await;
            assert_eq!(reason(observed.phase), None, "{operation:?} {after}");
        }
    }
    let all: Vec<_> = (1..=generation).map(|g| (partition(1), g)).collect();
    assert_eq!(world.started_machines(), all, "each generation was started once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_market_that_is_away_stops_nothing_and_loses_no_second() {
    let world = World::started().await;
    let granted = world.market.grant(1, 1, |_| {});
    world.market.until_ready(1, 1).await;
    world.market.book().cut = true;
    let (door, _record) = AgentDoor::new(world.shared());
    let link = door.link(&key(1, 1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    link.ping().await.unwrap();
    // It even ends meanwhile; the receipts wait.
    world.machines.simulated().kill(partition(1));
    let gone = async {
        while !world.store.live_runs().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    assert!(world.market.receipts_of(granted).is_empty());
    world.market.book().cut = false;
    let observed = world.market.until_gone(1, 1).await;
    assert_eq!(reason(observed.phase), Some(EndReason::GuestCrashed));
    let receipts = world.market.receipts_of(granted);
    assert!(receipts.last().is_some_and(|r| r.last && r.seconds >= Seconds(1)), "{receipts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_market_that_refuses_the_session_ends_nothing() {
    let world = World::started().await;
    world.market.grant(1, 1, |_| {});
    world.market.until_ready(1, 1).await;
    // As when a second agent came with a copy of the key.
    world.market.book().session += 1;
    world.market.grant(2, 1, |_| {});
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.store.live_runs().unwrap().len(), 1, "nothing new, nothing stopped");
    let (door, _record) = AgentDoor::new(world.shared());
    door.link(&key(1, 1)).await.unwrap().ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owners_word_is_followed_at_once_with_and_without_a_market() {
    let world = World::started().await;
    for cut in [false, true] {
        let (n, generation) = if cut { (2, 1) } else { (1, 1) };
        world.market.grant(n, generation, |_| {});
        world.market.until_ready(n, generation).await;
        world.market.book().cut = cut;
        // Another process: the owner's command.
        let owner = Store::open(world.store.state()).unwrap();
        take_back(&owner, &Which::Named(vec![format!("p{n}")])).unwrap();
        let stopped = async {
            while world.store.live_run(partition(n)).unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), stopped).await.unwrap();
        world.market.book().cut = false;
        let observed = world.market.until_gone(n, generation).await;
        assert_eq!(reason(observed.phase), Some(EndReason::Evicted));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_that_can_not_be_recorded() {
    let world = World::started().await;
    world.shared().store.forbid_writes(true);
    world.market.grant(1, 1, |_| {});
    let syncs = world.market.book().syncs;
    world.market.until("more syncs", |book| (book.syncs > syncs + 1).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.started_machines(), [], "a start that is not recorded is none");
    world.shared().store.forbid_writes(false);
    world.market.until_ready(1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_can_keep_nothing_looks_after_what_runs_all_the_same() {
    let mut world = World::started().await;
    world.market.grant(1, 1, |_| {});
    world.market.until_ready(1, 1).await;
    world.kill_agent().await;
    let full = Store::open(world.store.state()).unwrap();
    full.forbid_writes(true);
    world.start_on(full).await;
    world.shared().store.forbid_writes(false);
    world.market.until_ready(1, 1).await;
    assert_eq!(world.started_machines().len(), 1, "it was found again");
}

fn one_shot(run: &mut sublet_wire::sync::Run) {
    (run.one_shot, run.release_after_disconnect) = (true, Seconds(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_shot_lease_ends_with_its_job_or_without_its_client() {
    let world = World::started().await;
    let (door, record) = AgentDoor::new(world.shared());
    let record = tokio::spawn(record);
    // Its job ends while the client is there.
    world.market.grant(1, 1, one_shot);
    assert!(door.lease(&lease(1, 1).to_string()).await.unwrap().one_shot);
    door.event(&key(1, 1), SessionEvent::Authenticated);
    let link = door.link(&key(1, 1)).await.unwrap();
    let job = link.exec(&line("only", "exit 5")).await.unwrap();
    door.event(&key(1, 1), SessionEvent::Opened { job: "only".into(), only: true });
    let status = job.control.wait().await.unwrap();
    world.market.until("a contact", |b| b.last.as_ref()?.observed.iter().any(|o| o.first_contact).then_some(())).await;
    door.event(&key(1, 1), SessionEvent::Exited { job: "only".into(), only: true, status });
    assert_eq!(reason(world.market.until_gone(1, 1).await.phase), Some(EndReason::Released));

    // Its client never comes.
    world.market.grant(1, 2, one_shot);
    assert_eq!(reason(world.market.until_gone(1, 2).await.phase), Some(EndReason::Released));

    // Its client goes, and the job ends by itself in time.
    world.market.grant(1, 3, |run| (run.one_shot, run.release_after_disconnect) = (true, Seconds(600)));
    door.event(&key(1, 3), SessionEvent::Authenticated);
    world.market.until_ready(1, 3).await;
    door.event(&key(1, 3), SessionEvent::Authenticated);
    let link = door.link(&key(1, 3)).await.unwrap();
    let job = link.exec(&line("last", "sleep 0.3")).await.unwrap();
    door.event(&key(1, 3), SessionEvent::Opened { job: "last".into(), only: true });
    job.control.close(true).await.unwrap();
    door.event(&key(1, 3), SessionEvent::Left { job: "last".into() });
    door.event(&key(1, 3), SessionEvent::Closed { remaining: 0 });
    let observed = world.market.until_gone(1, 3).await;
    assert_eq!(
        (reason(observed.phase), observed.detail.as_deref()),
        (Some(EndReason::Released), Some("its job ended"))
    );

    // Its client is there and stays: it is not ended.
    world.market.grant(1, 4, one_shot);
    door.lease(&lease(1, 4).to_string()).await.unwrap();
    door.event(&key(1, 4), SessionEvent::Authenticated);
    world.market.until_ready(1, 4).await;
    tokio::time::sleep(Duration::from_millis(1800)).await;
    assert!(world.store.live_run(partition(1)).unwrap().unwrap().vanished_boot_us.is_none());
    world.market.until_ready(1, 4).await;
    record.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_asks_after_the_one_job_only_while_no_session_serves_it() {
    let world = World::started().await;
    let (door, record) = AgentDoor::new(world.shared());
    let record = tokio::spawn(record);
    let long = |run: &mut sublet_wire::sync::Run| (run.one_shot, run.release_after_disconnect) = (true, Seconds(600));
    // Its job has ended, and its session still hands the client the last of its output.
    world.market.grant(1, 1, long);
    door.event(&key(1, 1), SessionEvent::Authenticated);
    world.market.until_ready(1, 1).await;
    let link = door.link(&key(1, 1)).await.unwrap();
    door.event(&key(1, 1), SessionEvent::Opened { job: "only".into(), only: true });
    let job = link.exec(&line("only", "exit 5")).await.unwrap();
    job.control.wait().await.unwrap();
    tokio::time::sleep(Duration::from_millis(4500)).await;
    world.market.until_ready(1, 1).await;
    assert!(world.store.live_run(partition(1)).unwrap().unwrap().stage == crate::store::Stage::Ready);
    door.event(&key(1, 1), SessionEvent::Left { job: "only".into() });
    assert_eq!(reason(world.market.until_gone(1, 1).await.phase), Some(EndReason::Released));

    // The link broke before its job was started.
    world.market.grant(1, 2, long);
    door.event(&key(1, 2), SessionEvent::Authenticated);
    world.market.until_ready(1, 2).await;
    door.event(&key(1, 2), SessionEvent::Opened { job: "never".into(), only: true });
    door.event(&key(1, 2), SessionEvent::Left { job: "never".into() });
    assert_eq!(reason(world.market.until_gone(1, 2).await.phase), Some(EndReason::Released));
    record.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_take_its_partitions_along_the_agent_stops_them_first() {
    let mut world = World::started().await;
    world.market.grant(1, 1, |_| {});
    world.market.grant(2, 1, |_| {});
    world.market.until_ready(1, 1).await;
    world.market.until_ready(2, 1).await;
    world.agent().stop_partitions().await.unwrap();
    assert_eq!(world.store.live_runs().unwrap(), []);
    assert_eq!(reason(world.market.until_gone(1, 1).await.phase), Some(EndReason::Evicted));
    world.kill_agent().await;
}
