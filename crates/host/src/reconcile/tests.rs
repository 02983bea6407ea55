use super::*;
use crate::fixtures::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use sublet_model::identity::{SecretKey, Signed};

fn seen(n: u128, applied: Allocation, life: Life) -> Seen {
    Seen { partition: partition(n), applied, life }
}

fn running(n: u128, generation: u64) -> Life {
    Life::Held { lease: lease(n, generation), term: Seconds(3600), paid: Seconds(900), stopping: false }
}

fn begin(n: u128, has: Allocation) -> Step {
    Step::Begin { partition: partition(n), generation: has.generation, run: Box::new(wanted_run(n, &has)) }
}

fn apply(n: u128, allocation: Allocation) -> Step {
    Step::Apply { partition: partition(n), allocation }
}

fn refused(steps: &[Step]) -> Vec<String> {
    let words = |step: &'_ Step| match step {
        Step::Refuse { why, .. } | Step::SayGone { why: Some((_, why)), .. } => Some(why.clone()),
        _ => None,
    };
    steps.iter().filter_map(words).collect()
}

const GONE: Life = Life::Gone { acknowledged: false };
const KNOWN: Life = Life::Gone { acknowledged: true };

#[test]
fn an_ordinary_life_step_by_step() {
    let (p, a0, a1, a2) = (partition(1), allocation(0, 0, 500), allocation(1, 0, 1000), allocation(1, 1, 500));
    let stop = Step::Stop { partition: p, reason: None };
    let table: Vec<(Vec<Wanted>, Vec<Seen>, Vec<Step>)> = vec![
        // Declared: it gets its first allocation, and nothing is to be gone of generation 0.
        (vec![idle(1, a0, None)], vec![], vec![apply(1, a0)]),
        (vec![idle(1, a0, None)], vec![seen(1, a0, Life::Idle)], vec![]),
        // Granted: recorded first, begun then.
        (vec![held(1, a1)], vec![seen(1, a0, Life::Idle)], vec![apply(1, a1), begin(1, a1)]),
        (vec![held(1, a1)], vec![seen(1, a1, Life::Idle)], vec![begin(1, a1)]),
        (vec![held(1, a1)], vec![seen(1, a1, running(1, 1))], vec![]),
        // Released: stopped, gone, and said until it is known.
        (vec![idle(1, a1, None)], vec![seen(1, a1, running(1, 1))], vec![stop.clone()]),
        (vec![idle(1, a1, None)], vec![seen(1, a1, GONE)], vec![]),
        (vec![idle(1, a1, Some(1))], vec![seen(1, a1, GONE)], vec![Step::Acknowledge { partition: p, generation: 1 }]),
        (vec![idle(1, a1, Some(1))], vec![seen(1, a1, KNOWN)], vec![]),
        // Idle ones change their size within the generation.
        (vec![idle(1, a2, Some(1))], vec![seen(1, a1, KNOWN)], vec![apply(1, a2)]),
        // Granted and released before this host heard of it: the generation is gone all the same.
        (
            vec![idle(1, a1, None)],
            vec![seen(1, a0, Life::Idle)],
            vec![apply(1, a1), Step::SayGone { partition: p, generation: 1, why: None }],
        ),
        // It ended by itself; the market still wants it until it hears: nothing begins again.
        (vec![held(1, a1)], vec![seen(1, a1, GONE)], vec![]),
        // It left the plan altogether.
        (vec![], vec![seen(1, a1, running(1, 1))], vec![stop]),
        (vec![], vec![seen(1, a1, GONE)], vec![]),
    ];
    for (at, (plan, seen, steps)) in table.into_iter().enumerate() {
        assert_eq!(reconcile(&plan, &seen, &policy()), steps, "line {at}");
    }
}

#[test]
fn the_old_generation_is_gone_before_the_new_one_is_applied() {
    let (a1, a2) = (allocation(1, 0, 1000), allocation(2, 0, 1000));
    let stop = Step::Stop { partition: partition(1), reason: None };
    assert_eq!(reconcile(&[held(1, a2)], &[seen(1, a1, running(1, 1))], &policy()), [stop]);
    let stopping = Life::Held { lease: lease(1, 1), term: Seconds(1), paid: Seconds(1), stopping: true };
    assert_eq!(reconcile(&[held(1, a2)], &[seen(1, a1, stopping)], &policy()), []);
    assert_eq!(reconcile(&[held(1, a2)], &[seen(1, a1, GONE)], &policy()), [apply(1, a2), begin(1, a2)]);
}

#[test]
fn shrunk_ones_are_applied_before_one_grows_and_begins() {
    let plan = [held(1, allocation(1, 0, 1900)), idle(2, allocation(0, 1, 100), None)];
    let now = [seen(1, allocation(0, 0, 500), Life::Idle), seen(2, allocation(0, 0, 1500), Life::Idle)];
    assert_eq!(
        reconcile(&plan, &now, &policy()),
        [apply(2, allocation(0, 1, 100)), apply(1, allocation(1, 0, 1900)), begin(1, allocation(1, 0, 1900))]
    );
    // The one that should shrink is held after all: then nothing grows.
    let now = [seen(1, allocation(0, 0, 500), Life::Idle), seen(2, allocation(0, 0, 1500), running(2, 0))];
    let steps = reconcile(&plan, &now, &policy());
    assert!(!steps.iter().any(|s| matches!(s, Step::Apply { .. } | Step::Begin { .. })), "{steps:?}");
    assert!(refused(&steps).iter().any(|why| why.contains("above the 2 cpu")), "{steps:?}");
}

#[test]
fn what_was_divided_away_takes_nothing_unless_it_is_held() {
    let plan = [held(1, allocation(1, 0, 1900))];
    let away = |life| [seen(1, allocation(0, 0, 100), Life::Idle), seen(9, allocation(3, 0, 1900), life)];
    assert!(!policy().partitions.contains_key(&partition(9)));
    let begun = [apply(1, allocation(1, 0, 1900)), begin(1, allocation(1, 0, 1900))];
    for life in [Life::Idle, GONE, KNOWN] {
        assert_eq!(reconcile(&plan, &away(life), &policy()), begun);
    }
    let steps = reconcile(&plan, &away(running(9, 3)), &policy());
    assert!(!steps.iter().any(|s| matches!(s, Step::Apply { .. } | Step::Begin { .. })), "{steps:?}");
}

#[test]
fn ends_move_outwards_only() {
    let a1 = allocation(1, 0, 1000);
    let mut wanted = held(1, a1);
    let run = wanted.run.as_mut().unwrap();
    (run.term_seconds, run.paid_seconds) = (Seconds(100), Seconds(1800));
    let extend = Step::Extend { partition: partition(1), term: Seconds(3600), paid: Seconds(1800) };
    assert_eq!(reconcile(&[wanted], &[seen(1, a1, running(1, 1))], &policy()), [extend]);
}

#[test]
fn the_owner_has_the_last_word() {
    let a1 = allocation(1, 0, 1000);
    let mut taken = policy();
    taken.partitions.get_mut(&partition(1)).unwrap().taken_back = Some(1);
    let evict = Step::Stop { partition: partition(1), reason: Some(EndReason::Evicted) };
    let now = [seen(1, a1, running(1, 1))];
    assert_eq!(reconcile(&[held(1, a1)], &now, &taken), std::slice::from_ref(&evict));
    assert_eq!(without_plan(&now, &taken), [evict]);
    assert_eq!(without_plan(&now, &policy()), []);
    // A grant that crossed the owner's word ends as evicted; the next generation may be lent again.
    let words = "the owner does not lend this partition any more".to_string();
    let say = Step::SayGone { partition: partition(1), generation: 1, why: Some((EndReason::Evicted, words)) };
    assert_eq!(reconcile(&[held(1, a1)], &[seen(1, a1, Life::Idle)], &taken), std::slice::from_ref(&say));
    let a2 = allocation(2, 0, 1000);
    assert_eq!(reconcile(&[held(1, a2)], &[seen(1, a1, GONE)], &taken), [apply(1, a2), begin(1, a2)]);
    let mut unlisted = policy();
    unlisted.partitions.get_mut(&partition(1)).unwrap().lendable = false;
    assert_eq!(reconcile(&[held(1, a1)], &[seen(1, a1, Life::Idle)], &unlisted), [say]);
    // What runs when it is unlisted goes on.
    assert_eq!(reconcile(&[held(1, a1)], &[seen(1, a1, running(1, 1))], &unlisted), []);
}

#[test]
fn what_is_not_lent_is_never_made_smaller_and_counts_as_taken() {
    let mut policy = policy();
    let own = policy.partitions.get_mut(&partition(3)).unwrap();
    (own.lendable, own.profile) = (false, Profile::fixed(size(1000, 256)));
    let now = [seen(1, allocation(0, 0, 500), Life::Idle), seen(3, allocation(0, 0, 1000), Life::Idle)];
    let less = [idle(1, allocation(0, 0, 500), None), idle(3, allocation(0, 1, 900), None)];
    let said = reconcile(&less, &now, &policy);
    assert!(matches!(&said[..], [Step::Refuse { why, .. }] if why.contains("the owner's own")), "{said:?}");
    // 500 and 1000 of 2000 are taken.
    assert!(has_room(&now, &policy, partition(9), size(500, 256)));
    assert!(!has_room(&now, &policy, partition(9), size(501, 256)));
    assert!(has_room(&now, &policy, partition(3), size(1500, 256)), "its own share is its own");
}

/// What a hostile market may say, and a word of the answer. Nothing is ever applied or begun.
#[test]
fn a_hostile_plan_is_refused_with_a_reason() {
    let a1 = allocation(1, 0, 1000);
    let idle_now = |n| seen(n, allocation(0, 0, 500), Life::Idle);
    let with = |change: &dyn Fn(&mut Run)| {
        let mut wanted = held(1, a1);
        change(wanted.run.as_mut().unwrap());
        wanted
    };
    let resigned = |change: &dyn Fn(&mut sublet_model::billing::Terms), key: &SecretKey| {
        with(&|run| {
            let mut terms = run.terms.read().unwrap();
            change(&mut terms);
            run.terms = Signed::sign(&terms, key).unwrap();
        })
    };
    let key = market();
    let table: Vec<(&str, Wanted, Seen)> = vec![
        ("no such partition", held(9, a1), idle_now(9)),
        ("older than 5", held(1, a1), seen(1, allocation(5, 0, 500), KNOWN)),
        ("frozen", held(1, allocation(1, 1, 500)), seen(1, a1, running(1, 1))),
        ("frozen", held(1, allocation(1, 0, 500)), seen(1, a1, running(1, 1))),
        ("applied already", idle(1, allocation(1, 0, 500), None), seen(1, a1, KNOWN)),
        ("applied already", idle(1, allocation(1, 1, 500), None), seen(1, allocation(1, 2, 500), KNOWN)),
        ("above what the owner allows in cpu", held(1, allocation(1, 0, 2001)), idle_now(1)),
        ("no partition can have", held(1, allocation(1, 0, -5)), idle_now(1)),
        ("no partition can have", held(1, Allocation { vcpus: 0, ..a1 }), idle_now(1)),
        ("no partition can have", held(1, Allocation { vcpus: 1, ..allocation(1, 0, 1500) }), idle_now(1)),
        ("fewer hardware threads", held(1, Allocation { vcpus: 3, ..a1 }), idle_now(1)),
        ("another key", resigned(&|_| {}, &SecretKey::from_seed(&[66; 32])), idle_now(1)),
        ("signature", with(&|run| run.terms.payload = run.terms.payload.replace("1000", "1001")), idle_now(1)),
        ("another host", resigned(&|t| t.host = uuid::Uuid::from_u128(99).into(), &key), idle_now(1)),
        ("another partition", resigned(&|t| t.partition = partition(2), &key), idle_now(1)),
        ("another generation", resigned(&|t| t.generation = 2, &key), idle_now(1)),
        ("another lease", resigned(&|t| t.lease = lease(3, 3), &key), idle_now(1)),
        ("not what the terms say", resigned(&|t| t.resources = size(900, 256), &key), idle_now(1)),
        ("not what the terms say", resigned(&|t| t.vcpus = 2, &key), idle_now(1)),
        (
            "not the one of the terms",
            with(&|run| run.image = wanted_run_of(1, &a1, &manifest(b"evil"), "x").image),
            idle_now(1),
        ),
        ("hostname", with(&|run| run.hostname = "a,file=/etc/passwd".into()), idle_now(1)),
        ("from a second", with(&|run| run.paid_seconds = Seconds(i64::MAX)), idle_now(1)),
        ("from a second", with(&|run| run.term_seconds = Seconds(0)), idle_now(1)),
        ("wait for a client", with(&|run| run.release_after_disconnect = Seconds(-1)), idle_now(1)),
        ("too long", with(&|run| run.depot = "x".repeat(501)), idle_now(1)),
        ("before the first grant", held(1, allocation(0, 1, 500)), idle_now(1)),
        ("holds this generation", with(&|run| run.lease = lease(3, 3)), seen(1, a1, running(1, 1))),
    ];
    for (word, wanted, now) in table {
        let steps = reconcile(&[wanted], &[now], &policy());
        assert!(refused(&steps).iter().any(|why| why.contains(word)), "{word}: {steps:?}");
        assert!(!steps.iter().any(|s| matches!(s, Step::Begin { .. } | Step::Stop { .. })), "{word}: {steps:?}");
    }
}

#[test]
fn a_hostile_image_is_refused_though_the_terms_name_it() {
    let a1 = allocation(1, 0, 1000);
    let check = |word: &str, change: &dyn Fn(&mut sublet_model::image::ImageManifest)| {
        let mut image = manifest(b"kernel");
        change(&mut image);
        let wanted = Wanted { run: Some(wanted_run_of(1, &a1, &image, "http://127.0.0.1:1")), ..held(1, a1) };
        let steps = reconcile(&[wanted], &[seen(1, a1, Life::Idle)], &policy());
        assert!(refused(&steps).iter().any(|why| why.contains(word)), "{word}: {steps:?}");
    };
    check("another architecture", &|i| i.arch = "aarch64".into());
    check("more memory", &|i| i.minimum_memory = sublet_model::units::MiB(257));
    check("more vcpus", &|i| i.minimum_vcpus = 2);
    check("letters, digits", &|i| i.guest_channel = "x,chardev=y".into());
    check("letters, digits", &|i| i.login_user = "../root".into());
    check("not plain text", &|i| i.command_line = "a\nb".into());
    check("empty", &|i| {
        let sublet_model::image::Boot::Direct { kernel, .. } = &mut i.boot else { unreachable!() };
        kernel.bytes = 0;
    });
}

#[test]
fn a_plan_that_contradicts_itself_is_refused_whole() {
    let plan = [held(1, allocation(1, 0, 100)), held(2, allocation(1, 0, 100)), held(1, allocation(2, 0, 100))];
    let steps = reconcile(&plan, &[], &policy());
    assert!(matches!(steps.as_slice(), [Step::Refuse { .. }]), "{steps:?}");
}

#[test]
fn a_computer_that_shrank_keeps_what_is_held_and_begins_nothing() {
    let small = Policy { lendable: size(900, 2048), ..policy() };
    let plan = [held(1, allocation(1, 0, 1000)), held(2, allocation(1, 0, 100))];
    let now = [seen(1, allocation(1, 0, 1000), running(1, 1)), seen(2, allocation(1, 0, 100), Life::Idle)];
    let steps = reconcile(&plan, &now, &small);
    assert!(matches!(steps.as_slice(), [Step::Refuse { partition: p, .. }] if *p == partition(2)), "{steps:?}");
}

/// What the agent and time make of the steps: the record after them.
fn carry_out(steps: &[Step], record: &mut Vec<Seen>, ran: &mut BTreeSet<(PartitionId, u64)>, policy: &Policy) {
    for step in steps {
        let find = |id: PartitionId, record: &mut Vec<Seen>| record.iter().position(|s| s.partition == id);
        match step {
            Step::Apply { partition, allocation } => match find(*partition, record) {
                Some(at) => {
                    let seen = &mut record[at];
                    assert!(allocation.is_after(&seen.applied), "only newer ones are applied");
                    assert!(!matches!(seen.life, Life::Held { .. }), "a held one is frozen");
                    if allocation.generation > seen.applied.generation {
                        seen.life = Life::Idle;
                    }
                    seen.applied = *allocation;
                }
                None => record.push(Seen { partition: *partition, applied: *allocation, life: Life::Idle }),
            },
            Step::Begin { partition, generation, run } => {
                let at = find(*partition, record).expect("what begins was applied");
                assert_eq!(record[at].life, Life::Idle, "never two at once");
                assert_eq!(record[at].applied.generation, *generation);
                assert!(ran.insert((*partition, *generation)), "a generation begins once");
                let sum: Resources = record.iter().map(|s| s.applied.resources).sum();
                assert!(sum.fits(policy.lendable), "{sum} is lent, {} may be", policy.lendable);
                let (term, paid) = (run.term_seconds, run.paid_seconds);
                record[at].life = Life::Held { lease: run.lease, term, paid, stopping: false };
            }
            Step::Extend { partition, term, paid } => {
                let at = find(*partition, record).unwrap();
                if let Life::Held { term: t, paid: p, .. } = &mut record[at].life {
                    (*t, *p) = (*term, *paid);
                }
            }
            // Stopping takes no time here.
            Step::Stop { partition, .. } | Step::SayGone { partition, .. } => {
                let at = find(*partition, record).unwrap();
                record[at].life = Life::Gone { acknowledged: false };
            }
            Step::Acknowledge { partition, .. } => {
                let at = find(*partition, record).unwrap();
                record[at].life = Life::Gone { acknowledged: true };
            }
            Step::Refuse { .. } => {}
        }
    }
}

fn some_wanted() -> impl Strategy<Value = Wanted> {
    (1u128..5, 0u64..4, 0u32..3, 1i64..25, any::<bool>(), any::<bool>(), proptest::option::of(0u64..4)).prop_map(
        |(n, generation, revision, tenths, runs, right, gone)| {
            let has = allocation(generation, revision, tenths * 100);
            let mut wanted = if runs { held(n, has) } else { idle(n, has, gone) };
            if let (false, Some(run)) = (right, wanted.run.as_mut()) {
                run.terms = Signed::sign(&run.terms.read().unwrap(), &SecretKey::from_seed(&[66; 32])).unwrap();
            }
            wanted
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_plans_come_the_rules_hold_and_each_plan_is_reached(
        plans in proptest::collection::vec(proptest::collection::vec(some_wanted(), 0..5), 1..8),
    ) {
        let policy = policy();
        let (mut record, mut ran) = (Vec::new(), BTreeSet::new());
        for plan in plans {
            let mut rounds = 0;
            loop {
                let steps = reconcile(&plan, &record, &policy);
                carry_out(&steps, &mut record, &mut ran, &policy);
                if steps.iter().all(|s| matches!(s, Step::Refuse { .. })) {
                    break;
                }
                rounds += 1;
                prop_assert!(rounds < 10, "no end of steps: {steps:?}");
            }
            // Where nothing was refused, the plan is what there is.
            let last = reconcile(&plan, &record, &policy);
            if last.is_empty() {
                for wanted in &plan {
                    let seen = record.iter().find(|s| s.partition == wanted.partition).unwrap();
                    prop_assert_eq!(seen.applied, wanted.allocation);
                    let runs = matches!(seen.life, Life::Held { .. });
                    let over = matches!(seen.life, Life::Gone { .. });
                    prop_assert!(runs == wanted.run.is_some() || over, "{seen:?}");
                }
            }
        }
    }
}
