use super::*;
use crate::fixtures::*;
use sublet_wire::sync::SyncAnswer;
use uuid::Uuid;

fn live<'a>(inventory: &'a Inventory, refusals: &'a BTreeMap<PartitionId, String>) -> Live<'a> {
    Live {
        inventory,
        dial: "127.0.0.1:1",
        boot_id: "boot",
        mono_us: 70_000_000,
        wall_clock: Timestamp(5),
        refusals,
        plan_version: 3,
        caught_up: false,
    }
}

#[test]
fn each_stage_is_said_as_its_phase() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (inventory, mut refusals) = (inventory(), BTreeMap::new());
    let mut observed = |refusal: Option<&str>| {
        refusals.clear();
        refusals.extend(refusal.map(|words| (partition(1), words.to_string())));
        let request = request(&store, &live(&inventory, &refusals), |_| (7, 9)).unwrap();
        request.observed.into_iter().next().map(|o| (o.phase, o.seconds.0, o.detail))
    };
    assert_eq!(observed(None), None, "what was never applied is not there");
    store.apply(partition(1), &allocation(1, 0, 1000)).unwrap();
    assert_eq!(observed(Some("why")), Some((Phase::Idle, 0, Some("why".into()))));
    store.begin(partition(1), 1, &wanted_run(1, &allocation(1, 0, 1000)), Uuid::from_u128(9)).unwrap();
    let run = store.live_run(partition(1)).unwrap().unwrap();
    assert_eq!(observed(None), Some((Phase::Fetching { done: 7, total: 9 }, 0, None)));
    store.starting(&run, "boot", 1, 1).unwrap();
    assert_eq!(observed(None), Some((Phase::Booting, 0, None)));
    store.ready(&run, 10_000_000, 10_000_000).unwrap();
    assert_eq!(observed(None), Some((Phase::Ready, 60, None)));
    store.stopping(&run, None, None, Seconds(55)).unwrap();
    assert_eq!(observed(None), Some((Phase::Stopping { reason: EndReason::Released }, 55, None)));
    store.ended(&run).unwrap();
    assert_eq!(observed(None), Some((Phase::Gone { reason: None }, 0, None)));
    store.apply(partition(1), &allocation(2, 0, 1000)).unwrap();
    assert_eq!(observed(None), Some((Phase::Idle, 0, None)), "a new generation is not gone");
    store.never_ran(partition(1), 2, Some(EndReason::Evicted), Some("the owner")).unwrap();
    assert_eq!(observed(None), Some((Phase::Gone { reason: Some(EndReason::Evicted) }, 0, Some("the owner".into()))));
}

#[test]
fn texts_from_a_guest_are_made_plain_and_their_end_is_kept() {
    assert_eq!(plain("a\x1b[2Jb\nc\u{9b}", 100), "a·[2Jb\nc·");
    assert_eq!(plain("abcdef", 3), "def");
    for (text, longest) in [("äöüäöü", 5), ("x".repeat(5000).as_str(), 100), ("", 0), ("日本語", 4)] {
        let kept = plain(text, longest);
        assert!(kept.len() <= longest && text.ends_with(&kept), "{kept:?}");
    }
}

#[test]
fn an_answer_beyond_all_bounds_is_refused() {
    let answer = |change: &dyn Fn(&mut SyncAnswer)| {
        let mut answer = SyncAnswer {
            plan_version: 1,
            told: Vec::new(),
            plan: Some(Vec::new()),
            acknowledged: Vec::new(),
            division_revision: 0,
            division_refused: None,
            warnings: vec!["\x1b[31m".into(); 50],
            ssh_ca: Vec::new(),
            keys: None,
            relay: None,
            market_time: Timestamp(1),
        };
        change(&mut answer);
        check(&mut answer).map(|()| answer)
    };
    let good = answer(&|_| {}).unwrap();
    assert_eq!((good.warnings.len(), good.warnings[0].as_str()), (20, "·[31m"));
    assert!(answer(&|a| a.plan = Some(vec![idle(1, allocation(0, 0, 1), None); MOST_PARTITIONS + 1])).is_err());
    assert!(answer(&|a| a.ssh_ca = vec!["not a key".into()]).is_err());
    assert!(answer(&|a| a.ssh_ca = vec!["x".into(); 17]).is_err());
}
