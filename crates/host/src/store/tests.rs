use super::*;
use crate::fixtures::*;
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::lease::EndReason;
use sublet_model::market_keys::{KeyChain, Turn};
use sublet_model::metering::{ChainEnd, Intake, judge};
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::sync::{Acknowledged, Division};
use uuid::Uuid;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    (dir, store)
}

/// The same directory, opened anew: only what is durable is seen.
fn again(store: &Store) -> Store {
    Store::open(store.state()).unwrap()
}

fn rule(outcome: Result<()>) -> String {
    match outcome {
        Err(StoreError::Refused { rule, .. }) => rule,
        other => panic!("not refused by a rule: {other:?}"),
    }
}

/// Partition 1 at generation 1, begun.
fn begun(store: &Store) -> Run {
    let has = allocation(1, 0, 1000);
    store.apply(partition(1), &has).unwrap();
    store.begin(partition(1), 1, &wanted_run(1, &has), Uuid::from_u128(9)).unwrap();
    store.live_run(partition(1)).unwrap().unwrap()
}

#[test]
fn the_directory_is_the_owners_only() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, store) = store();
    store.keys().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(store.state()), 0o700);
    for file in ["host.sqlite", "keys/identity.seed", "keys/ssh_host_ed25519_key"] {
        assert_eq!(mode(&store.state().join(file)), 0o600, "{file}");
    }
}

#[test]
fn keys_are_made_once_and_a_damaged_one_is_not_replaced() {
    let (_dir, store) = store();
    let keys = store.keys().unwrap();
    let same = again(&store).keys().unwrap();
    assert_eq!(keys.identity.public(), same.identity.public());
    assert_eq!(keys.ssh_public, same.ssh_public);
    assert!(keys.ssh_public.starts_with("ssh-ed25519 "));
    assert!(!format!("{keys:?}").contains("PRIVATE"), "secrets are not shown");
    std::fs::write(store.state().join("keys/identity.seed"), b"short").unwrap();
    assert!(store.keys().unwrap_err().to_string().contains("32 bytes"));
}

#[test]
fn one_agent_a_directory() {
    let (_dir, store) = store();
    assert!(!store.has_agent());
    let lock = store.lock_for_agent().unwrap();
    assert!(again(&store).lock_for_agent().unwrap_err().to_string().contains("another agent"));
    assert!(store.has_agent());
    drop(lock);
    again(&store).lock_for_agent().unwrap();
}

#[test]
fn a_path_too_long_for_sockets_and_a_newer_schema_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(&dir.path().join("x".repeat(90))).unwrap_err();
    assert!(error.to_string().contains("too long for sockets"), "{error}");
    let (_dir, store) = store();
    store.lock().pragma_update(None, "user_version", 99).unwrap();
    assert!(Store::open(store.state()).unwrap_err().to_string().contains("version 99"));
}

#[test]
fn a_host_joins_once_and_its_sessions_rise() {
    let (_dir, store) = store();
    assert_eq!(store.identity().unwrap(), None);
    let identity = Identity { fingerprint: Some(Sha256Digest::of(b"c")), ..identity("https://m") };
    store.enrol(&identity).unwrap();
    assert_eq!(again(&store).identity().unwrap(), Some(identity.clone()));
    assert!(store.enrol(&identity).unwrap_err().is_refusal());
    store.opened_session(5).unwrap();
    assert!(rule(store.opened_session(4)).contains("only rises"));
    assert_eq!(again(&store).identity().unwrap().unwrap().session, 5);
}

#[test]
fn of_two_divisions_made_at_once_one_is_refused() {
    let (_dir, store) = store();
    assert_eq!(store.division().unwrap(), Division::default());
    let division = Division { revision: 1, keep: size(1000, 1024), ..Division::default() };
    store.set_division(&division).unwrap();
    assert_eq!(again(&store).division().unwrap(), division);
    assert!(rule(again(&store).set_division(&division)).contains("somebody else"));
}

#[test]
fn what_another_process_writes_is_noticed() {
    let (_dir, store) = store();
    let before = store.foreign_writes().unwrap();
    store.apply(partition(1), &allocation(0, 0, 100)).unwrap();
    assert_eq!(store.foreign_writes().unwrap(), before, "one's own writes are not");
    again(&store).apply(partition(2), &allocation(0, 0, 100)).unwrap();
    assert_ne!(store.foreign_writes().unwrap(), before);
}

#[test]
fn generations_and_revisions_only_rise() {
    let (_dir, store) = store();
    for (generation, revision) in [(0, 0), (0, 1), (3, 0), (3, 7)] {
        store.apply(partition(1), &allocation(generation, revision, 100)).unwrap();
    }
    for (generation, revision) in [(3, 7), (3, 6), (2, 9), (0, 0)] {
        let refused = again(&store).apply(partition(1), &allocation(generation, revision, 100));
        assert!(rule(refused).contains("only rise"), "{generation}.{revision}");
    }
    assert_eq!(again(&store).applied().unwrap()[&partition(1)], allocation(3, 7, 100));
}

#[test]
fn whoever_edits_the_file_by_hand_meets_the_same_rules() {
    let (_dir, store) = store();
    let run = begun(&store);
    store.starting(&run, "boot", 1, 2).unwrap();
    store.ready(&run, 5, 6).unwrap();
    let by_hand = rusqlite::Connection::open(store.state().join("host.sqlite")).unwrap();
    let table = [
        ("update allocations set memory_mib = 99999", "never changes"),
        ("delete from allocations", "never removed"),
        ("insert into allocations values ('x', 1, -1, 1, 1, 1, 1)", "CHECK"),
        ("insert into allocations select partition, 2, 0, 1, 1, 1, 1 from allocations", "frozen"),
        ("update runs set stage = 0", "only goes on"),
        ("update runs set ready_mono_us = 0", "only goes on"),
        ("update runs set paid_seconds = 1", "only goes on"),
        ("update runs set wanted = '{}'", "only goes on"),
        ("update runs set metered_seconds = -1", "only goes on"),
        ("delete from runs", "only when it is gone"),
        ("update runs set stage = 9", "CHECK"),
        ("update identity set session = -1", ""),
    ];
    for (sql, word) in table {
        match by_hand.execute(sql, []) {
            Ok(rows) => assert_eq!((rows, word), (0, ""), "{sql}"),
            Err(error) => assert!(error.to_string().contains(word), "{sql}: {error}"),
        }
    }
    assert_eq!(again(&store).applied().unwrap()[&partition(1)], allocation(1, 0, 1000));
}

#[test]
fn a_held_partition_is_frozen_and_runs_one_generation() {
    let (_dir, store) = store();
    let has = allocation(1, 0, 1000);
    let begin = |generation| {
        store.begin(partition(1), generation, &wanted_run(1, &allocation(generation, 0, 1000)), Uuid::now_v7())
    };
    assert!(rule(begin(1)).contains("newest applied generation"));
    store.apply(partition(1), &has).unwrap();
    assert!(rule(begin(2)).contains("newest applied generation"));
    begin(1).unwrap();
    assert!(begin(1).unwrap_err().is_refusal());
    assert!(rule(store.apply(partition(1), &allocation(1, 1, 500))).contains("frozen"));
    assert!(rule(store.apply(partition(1), &allocation(2, 0, 500))).contains("frozen"));

    let run = store.live_run(partition(1)).unwrap().unwrap();
    store.stopping(&run, Some(EndReason::GuestCrashed), Some("x"), Seconds(3)).unwrap();
    store.ended(&run).unwrap();
    assert_eq!(again(&store).live_runs().unwrap(), []);
    let gone = again(&store).gone().unwrap();
    assert_eq!((gone[&partition(1)].generation, gone[&partition(1)].reason), (1, Some(EndReason::GuestCrashed)));
    assert!(rule(begin(1)).contains("is gone"), "a generation runs once");
    store.apply(partition(1), &allocation(2, 0, 500)).unwrap();
    store.apply(partition(1), &allocation(2, 1, 1000)).unwrap();
    begin(2).unwrap();
}

#[test]
fn a_generation_that_never_ran_can_be_gone_and_then_never_runs() {
    let (_dir, store) = store();
    store.apply(partition(1), &allocation(1, 0, 1000)).unwrap();
    store.never_ran(partition(1), 1, None, None).unwrap();
    store.never_ran(partition(1), 1, None, None).unwrap();
    let begin = store.begin(partition(1), 1, &wanted_run(1, &allocation(1, 0, 1000)), Uuid::now_v7());
    assert!(rule(begin).contains("is gone"));
    store.acknowledge_gone(partition(1), 1).unwrap();
    assert!(again(&store).gone().unwrap()[&partition(1)].acknowledged, "the fence stays");
}

#[test]
fn the_first_word_stands() {
    let (_dir, store) = store();
    let run = begun(&store);
    store.starting(&run, "boot", 10, 20).unwrap();
    store.ready(&run, 30, 40).unwrap();
    store.ready(&run, 31, 41).unwrap();
    store.extend(&run, Seconds(1), Seconds(1800)).unwrap();
    store.first_job(&run, "j1").unwrap();
    store.first_job(&run, "j2").unwrap();
    store.progress(&[(run.clone(), Seconds(9)), (run.clone(), Seconds(5))]).unwrap();
    store.stopping(&run, None, None, Seconds(12)).unwrap();
    store.stopping(&run, Some(EndReason::GuestCrashed), Some("late"), Seconds(99)).unwrap();
    store.progress(&[(run.clone(), Seconds(500))]).unwrap();
    let now = again(&store).live_run(partition(1)).unwrap().unwrap();
    assert_eq!(now.stage, Stage::Stopping);
    assert_eq!((now.ready_mono_us, now.ready_boot_us), (Some(30), Some(40)));
    assert_eq!((now.term, now.paid), (Seconds(3600), Seconds(1800)));
    assert_eq!((now.reason, now.metered, now.job.as_deref()), (None, Seconds(12), Some("j1")));
}

#[test]
fn receipts_chain_are_kept_until_acknowledged_and_end() {
    let (_dir, store) = store();
    let key = SecretKey::from_seed(&[5; 32]);
    let new = |seconds, last| NewReceipt {
        lease: lease(1, 1),
        generation: 1,
        seconds: Seconds(seconds),
        cpu_used_ms: 1,
        last,
    };
    for (seconds, last) in [(15, false), (15, false), (10, false), (30, false), (42, true), (60, false), (60, true)] {
        again(&store).add_receipt(&new(seconds, last), &key).unwrap();
    }
    let receipts = store.unacknowledged(100).unwrap();
    let mut end: Option<ChainEnd> = None;
    let mut said = Vec::new();
    for signed in &receipts {
        let receipt = signed.verify(&key.public()).unwrap();
        assert_eq!(judge(lease(1, 1), 1, end.as_ref(), &receipt, signed.digest()), Ok(Intake::Next));
        said.push((receipt.seq, receipt.seconds.0, receipt.last));
        end =
            Some(ChainEnd { seq: receipt.seq, digest: signed.digest(), seconds: receipt.seconds, last: receipt.last });
    }
    // Nothing for a meter that stood still, never backwards, nothing after the last.
    assert_eq!(said, [(1, 15, false), (2, 15, false), (3, 30, false), (4, 42, true)].map(|x| x));
    assert_eq!(store.unacknowledged(2).unwrap().len(), 2, "oldest first, as many as fit");
    assert!(store.lock().execute("delete from receipts", []).is_err(), "kept until acknowledged");
    store.acknowledge(&[Acknowledged { lease: lease(1, 1), seq: 3 }]).unwrap();
    assert_eq!(again(&store).unacknowledged(100).unwrap(), receipts[3..]);
    store
        .acknowledge(&[Acknowledged { lease: lease(1, 1), seq: u64::MAX }, Acknowledged { lease: lease(9, 9), seq: 1 }])
        .unwrap();
    assert_eq!(store.unacknowledged(100).unwrap(), []);
    assert_eq!(again(&store).chain_end(lease(1, 1)).unwrap(), end, "the end of the chain stays");
}

#[test]
fn what_is_over_and_known_is_forgotten() {
    let (_dir, store) = store();
    let run = begun(&store);
    let key = SecretKey::from_seed(&[5; 32]);
    let last = NewReceipt { lease: run.lease(), generation: 1, seconds: Seconds(5), cpu_used_ms: 0, last: true };
    store.add_receipt(&last, &key).unwrap();
    store.stopping(&run, None, None, Seconds(5)).unwrap();
    store.ended(&run).unwrap();
    let runs = || -> i64 { store.lock().query_row("select count(*) from runs", [], |r| r.get(0)).unwrap() };
    store.prune().unwrap();
    store.prune_but(0).unwrap();
    assert_eq!(runs(), 1);
    store.acknowledge(&[Acknowledged { lease: run.lease(), seq: 1 }]).unwrap();
    store.prune_but(0).unwrap();
    assert_eq!(runs(), 1, "the market does not know that it is gone");
    store.acknowledge_gone(partition(1), 1).unwrap();
    store.prune().unwrap();
    assert_eq!(runs(), 1, "a market that is restored may ask for it");
    store.prune_but(0).unwrap();
    assert_eq!(runs(), 0);
}

#[test]
fn a_market_of_a_new_epoch_is_told_all_that_is_kept() {
    let (_dir, store) = store();
    store.enrol(&crate::fixtures::identity("http://127.0.0.1:7400")).unwrap();
    let run = begun(&store);
    let key = SecretKey::from_seed(&[5; 32]);
    let receipt = |seconds, last| NewReceipt {
        lease: run.lease(),
        generation: 1,
        seconds: Seconds(seconds),
        cpu_used_ms: 0,
        last,
    };
    store.add_receipt(&receipt(5, false), &key).unwrap();
    store.add_receipt(&receipt(9, false), &key).unwrap();
    let taken = Acknowledged { lease: run.lease(), seq: 2 };
    assert_eq!(store.acknowledge(std::slice::from_ref(&taken)).unwrap(), 2);
    assert_eq!(store.acknowledge(std::slice::from_ref(&taken)).unwrap(), 0, "that is no news");
    assert!(!store.is_behind().unwrap() && store.untold(10).unwrap().is_empty());
    store.extend(&run, Seconds(9000), Seconds(9000)).unwrap();

    store.entered_epoch(1_800_000_000).unwrap();
    let store = again(&store);
    assert!(store.is_behind().unwrap());
    assert_eq!(store.unacknowledged(10).unwrap(), [], "the lease is told first");
    let untold = store.untold(10).unwrap();
    assert_eq!((untold.len(), untold[0].over, untold[0].term_seconds), (1, false, Seconds(9000)));
    store.told(&[run.lease()]).unwrap();
    assert!(store.is_behind().unwrap(), "its receipts are not");
    assert_eq!(store.unacknowledged(10).unwrap().len(), 2);
    store.acknowledge(&[taken]).unwrap();
    assert!(!store.is_behind().unwrap());
    assert!(store.entered_epoch(2).unwrap_err().is_refusal(), "an older copy of the market");
}

const BACK_TO_2: &str = "drop table own; drop table market_keys; pragma user_version = 2";

#[test]
fn the_markets_keys_are_kept_in_their_order_for_ever() {
    let (_dir, store) = store();
    let (first, mut chain) = (SecretKey::from_seed(&[60; 32]), KeyChain::new(SecretKey::from_seed(&[60; 32]).public()));
    let identity = Identity { market_key: first.public(), ..crate::fixtures::identity("https://m") };
    let turned = |chain: KeyChain, n: u8| {
        let (old, new) = (SecretKey::from_seed(&[59 + n; 32]), SecretKey::from_seed(&[60 + n; 32]));
        let ssh = |n: u8| format!("ssh-ed25519 AAAA{n:064}");
        let (old_ssh_ca, new_ssh_ca) = (ssh(n), ssh(n + 1));
        let (at, ssh_until) = (Timestamp(i64::from(n)), Timestamp(i64::from(n) + 9));
        chain.turned(Turn { old: &old, new: &new, old_ssh_ca, new_ssh_ca, at, ssh_until }).unwrap()
    };
    chain = turned(chain, 1);
    store.enrol_with(&identity, &chain, Timestamp(7)).unwrap();
    assert_eq!(store.market_keys(first.public()).unwrap(), chain);
    let longer = turned(turned(chain, 2), 3);
    store.follow_market_keys(&longer, Timestamp(8)).unwrap();
    store.follow_market_keys(&longer, Timestamp(9)).unwrap();
    assert_eq!(again(&store).market_keys(first.public()).unwrap(), longer);
    assert_eq!(store.newest_market_key().unwrap().map(|r| r.digest()), longer.head());
    let refused = |sql: &str| store.lock().execute(sql, []).unwrap_err().to_string();
    assert!(refused("delete from market_keys where number = 3").contains("never forgotten"));
    assert!(refused("update market_keys set followed_at = 0").contains("never changes"));
    assert!(refused("insert into market_keys values (5, '{}', 0)").contains("follows the one before"));
    // Edited by hand with more force than that, it is not believed.
    store
        .lock()
        .execute_batch(
            "drop trigger a_key_that_was_followed_is_never_forgotten; delete from market_keys where number = 2",
        )
        .unwrap();
    assert!(store.market_keys(first.public()).unwrap_err().to_string().contains("change 2"));
}

#[test]
fn a_store_that_knew_no_changes_of_keys_follows_them_from_now_on() {
    let (dir, store) = store();
    store.enrol(&crate::fixtures::identity("http://127.0.0.1:7400")).unwrap();
    let run = begun(&store);
    store.lock().execute_batch(BACK_TO_2).unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("state")).unwrap();
    let first = store.identity().unwrap().unwrap().market_key;
    assert_eq!(store.market_keys(first).unwrap(), KeyChain::new(first));
    assert_eq!((store.newest_market_key().unwrap(), store.live_runs().unwrap().len()), (None, 1));
    assert_eq!(store.live_runs().unwrap()[0].lease(), run.lease());
    assert!(store.lock().query_row("pragma user_version", [], |row| row.get::<_, i64>(0)).unwrap() == SCHEMA);
}

/// A store of the version before that, with a life and a receipt in it.
#[test]
fn a_store_of_the_version_before_is_brought_up_to_date() {
    let (dir, store) = store();
    store.enrol(&crate::fixtures::identity("http://127.0.0.1:7400")).unwrap();
    let run = begun(&store);
    store.lock().execute_batch(BACK_TO_2).unwrap();
    store
        .lock()
        .execute_batch(
            "drop trigger an_epoch_only_rises; drop index runs_told; drop index receipts_acknowledged; \
             alter table runs drop column told_epoch; alter table runs drop column started; alter table identity drop column epoch; pragma user_version = 1",
        )
        .unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("state")).unwrap();
    assert_eq!((store.epoch().unwrap(), store.is_behind().unwrap()), (1, false));
    store.entered_epoch(7).unwrap();
    assert_eq!(store.untold(10).unwrap()[0].run.lease, run.lease());
}

#[test]
fn an_own_partition_has_one_machine_at_a_time_and_stays_what_it_is() {
    let (_dir, store) = store();
    let image = Signed::sign(&crate::fixtures::manifest(b"kernel"), &SecretKey::from_seed(&[8; 32])).unwrap();
    let new = Own {
        partition: partition(7),
        name: "mine".into(),
        resources: crate::fixtures::size(500, 256),
        image,
        depot: "http://127.0.0.1:1".into(),
        wish: Wish::Run,
        starts: 0,
        start: None,
        stand: Stand::Down,
        waits: None,
        said: None,
    };
    let division = Division { revision: 1, ..Division::default() };
    store.divide_for_own(&division, std::slice::from_ref(&new)).unwrap();
    assert_eq!(again(&store).own().unwrap(), [new]);
    let start = |n| Start { uuid: Uuid::from_u128(n), boot_id: "boot".into() };
    store.own_starts(partition(7), &start(1)).unwrap();
    assert!(store.own_starts(partition(7), &start(2)).unwrap_err().to_string().contains("not gone yet"));
    store.own_is_ready(partition(7)).unwrap();
    let next = Division { revision: 2, ..Division::default() };
    assert!(store.divide_without_own(&next, partition(7)).unwrap_err().to_string().contains("machine is gone"));
    assert_eq!(store.division().unwrap().revision, 1, "all of it or nothing");
    store.own_is_down(partition(7), Some("it crashed"), false).unwrap();
    store.own_starts(partition(7), &start(2)).unwrap();
    let own = again(&store).own_of(partition(7)).unwrap().unwrap();
    assert_eq!((own.starts, own.start, own.stand, own.wish), (2, Some(start(2)), Stand::Boots, Wish::Run));
    store.own_is_down(partition(7), None, true).unwrap();
    assert_eq!(store.own().unwrap()[0].wish, Wish::Stop);
    store.wish_own(partition(7), Wish::Remove).unwrap();
    store.wish_own(partition(7), Wish::Run).unwrap();
    assert_eq!(store.own().unwrap()[0].wish, Wish::Remove, "for good");
    let refused = |sql: &str| store.lock().execute(sql, []).unwrap_err().to_string();
    assert!(refused("update own set memory_mib = 1").contains("stays what it was made"));
    assert!(refused("update own set starts = 1").contains("number of its own"));
    assert!(refused("update own set stand = 'ready'").contains("CHECK"));
    store.divide_without_own(&next, partition(7)).unwrap();
    assert_eq!(store.own().unwrap(), []);
}

#[test]
fn places_are_given_once_and_to_nobodys_users() {
    let (_dir, store) = store();
    let place = |n| again(&store).place(partition(n), 61_000, |uid| (61_000..=61_002).contains(&uid)).unwrap();
    let first = place(1);
    assert_eq!((first.number, first.uid), (1, 61_003));
    assert_eq!(place(2), Place { number: 2, uid: 61_004 });
    assert_eq!(place(1), first);
    // A disk that takes nothing more hides no place: machines can still be seen and stopped.
    store.forbid_writes(true);
    assert_eq!(store.place(partition(1), 61_000, |_| false).unwrap(), first);
    assert!(store.place(partition(3), 61_000, |_| false).is_err());
}

#[test]
fn a_full_disk_is_said_and_nothing_is_half_written() {
    let (_dir, store) = store();
    // SQLite's own limit stands for the disk's: the same error on the same path.
    let pages: i64 = store.lock().query_row("pragma page_count", [], |row| row.get(0)).unwrap();
    store.lock().pragma_update(None, "max_page_count", pages).unwrap();
    let mut outcome = Ok(());
    for n in 0..2000 {
        outcome = store.apply(partition(n), &allocation(0, 0, 100));
        if outcome.is_err() {
            break;
        }
    }
    assert!(matches!(outcome, Err(StoreError::Full { .. })), "{outcome:?}");
    assert!(outcome.unwrap_err().to_string().contains("nothing starts"));
    store.lock().pragma_update(None, "max_page_count", 1_000_000).unwrap();
    store.apply(partition(5000), &allocation(0, 0, 100)).unwrap();
}
