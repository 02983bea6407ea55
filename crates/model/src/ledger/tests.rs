use super::chunks::{CHUNK, Next, Paid, Plan};
use super::*;
use crate::billing::PriceList;
use crate::ids::{AccountId, LeaseId};
use crate::resources::Resources;
use crate::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

mod debts;

const AT: Timestamp = Timestamp(5);

fn account(n: u128) -> AccountId {
    Uuid::from_u128(n).into()
}

fn lease(n: u128) -> LeaseId {
    Uuid::from_u128(n).into()
}

fn deposit(ledger: &Ledger, n: u128, micros: i64) -> Transfer {
    let cause = Cause::Deposit { account: account(n), reference: "PO-1".into() };
    ledger.next(AT, cause, Book::Outside, &[(Book::Available(account(n)), Micros(micros))])
}

fn hold(ledger: &Ledger, l: u128, n: u128, micros: i64) -> Transfer {
    let cause = Cause::Hold { lease: lease(l), client: account(n) };
    ledger.next(AT, cause, Book::Available(account(n)), &[(Book::Held(lease(l)), Micros(micros))])
}

fn bill(l: u128, total: i64, fee_permille: u16, withhold: bool) -> Bill {
    Bill { lease: lease(l), lender: account(2), total: Micros(total), fee_permille, receipt: 3, withhold }
}

/// A client with 1000, of which 600 are held for lease 7.
fn held() -> Ledger {
    let mut ledger = Ledger::default();
    for make in [|l: &Ledger| deposit(l, 1, 1000), |l: &Ledger| hold(l, 7, 1, 600)] {
        let transfer = make(&ledger);
        ledger.apply(&transfer).unwrap();
    }
    ledger
}

fn settle(ledger: &mut Ledger, bill: &Bill) {
    for transfer in ledger.settle(bill, AT).unwrap() {
        ledger.apply(&transfer).unwrap();
    }
}

#[test]
fn what_is_held_is_charged_and_the_rest_goes_back() {
    let mut ledger = held();
    settle(&mut ledger, &bill(7, 250, 50, false));
    let has = |book| ledger.balance(book);
    // 5 % of 250 are 12.5: a half goes to the even one.
    assert_eq!([has(Book::Available(account(1))), has(Book::Available(account(2))), has(Book::Fees)], [750, 238, 12]);
    assert_eq!([has(Book::Held(lease(7))), has(Book::Outside)], [0, -1000]);
}

#[test]
fn never_more_than_was_held() {
    let mut ledger = held();
    settle(&mut ledger, &bill(7, 9999, 0, false));
    assert_eq!(ledger.balance(Book::Available(account(2))), 600);
    assert_eq!(ledger.balance(Book::Available(account(1))), 400);
    let none = ledger.settle(&bill(7, 9999, 0, false), AT).unwrap();
    assert_eq!(none, [], "settled twice, posted once");
}

#[test]
fn what_is_withheld_goes_to_one_side_or_the_other() {
    let mut ledger = held();
    settle(&mut ledger, &bill(7, 300, 100, true));
    let (withheld, lender) = (Book::Withheld(lease(7)), Book::Available(account(2)));
    assert_eq!([ledger.balance(withheld), ledger.balance(lender), ledger.balance(Book::Fees)], [270, 0, 30]);
    let back = ledger.next(
        AT,
        Cause::Credit { lease: lease(7), number: 1 },
        withheld,
        &[(Book::Available(account(1)), Micros(70))],
    );
    ledger.apply(&back).unwrap();
    let out = ledger.next(AT, Cause::PayOut { lease: lease(7) }, withheld, &[(lender, Micros(200))]);
    ledger.apply(&out).unwrap();
    assert_eq!([ledger.balance(withheld), ledger.balance(lender)], [0, 200]);
    let again = ledger.next(AT, Cause::Withhold { lease: lease(7) }, lender, &[(withheld, Micros(150))]);
    ledger.apply(&again).unwrap();
    assert_eq!([ledger.balance(withheld), ledger.balance(lender)], [150, 50]);
}

fn write(ledger: &mut Ledger, cause: Cause, from: Book, to: &[(Book, Micros)]) -> Result<(), LedgerError> {
    let transfer = ledger.next(AT, cause, from, to);
    ledger.apply(&transfer)
}

#[test]
fn what_has_not_the_shape_of_its_cause_is_refused_and_changes_nothing() {
    let ledger = held();
    let (client, lender) = (Book::Available(account(1)), Book::Available(account(2)));
    let of = Book::Held(lease(7));
    let charge = Cause::Charge { lease: lease(7), lender: account(2), receipt: 1 };
    let to = |cause: &Cause, from, to: &[(Book, Micros)]| ledger.next(AT, cause.clone(), from, to);
    let credit = |number| Cause::Credit { lease: lease(7), number };
    let mut twice = to(&charge, of, &[(lender, Micros(1)), (lender, Micros(2))]);
    let bad = [
        Transfer { number: 9, ..deposit(&ledger, 1, 5) },
        Transfer { number: 2, ..deposit(&ledger, 1, 5) },
        deposit(&ledger, 1, -5),
        deposit(&ledger, 1, 0),
        hold(&ledger, 7, 1, 401),
        hold(&ledger, 7, 2, 1),
        hold(&ledger, 8, 3, 1),
        to(&charge, of, &[(lender, Micros(601))]),
        to(&charge, of, &[(client, Micros(5))]),
        to(&charge, client, &[(lender, Micros(5))]),
        to(&Cause::Void { lease: lease(7) }, of, &[(lender, Micros(5))]),
        to(&Cause::Void { lease: lease(8) }, Book::Held(lease(8)), &[(client, Micros(5))]),
        to(&credit(1), Book::Fees, &[(client, Micros(5))]),
        twice.clone(),
        {
            twice.postings.pop();
            twice
        },
    ];
    for transfer in bad {
        let mut after = ledger.clone();
        assert!(after.apply(&transfer).is_err(), "{transfer:?}");
        assert_eq!(after, ledger);
    }
}

#[test]
fn credits_are_counted_and_never_more_than_the_charge() {
    let mut ledger = held();
    settle(&mut ledger, &bill(7, 100, 0, false));
    let client = Book::Available(account(1));
    let credit = |ledger: &Ledger, number, micros| {
        let cause = Cause::Credit { lease: lease(7), number };
        ledger.next(AT, cause, Book::Available(account(2)), &[(client, Micros(micros))])
    };
    assert_eq!(
        ledger.apply(&credit(&ledger, 2, 10)),
        Err(LedgerError::CreditNumber { lease: lease(7), wanted: 1, got: 2 })
    );
    ledger.apply(&credit(&ledger, 1, 60)).unwrap();
    let funded = deposit(&ledger, 2, 1000);
    ledger.apply(&funded).unwrap();
    assert!(matches!(ledger.apply(&credit(&ledger, 2, 41)), Err(LedgerError::OverCredited { .. })));
    ledger.apply(&credit(&ledger, 2, 40)).unwrap();
    assert_eq!(ledger.balance(client), 1000);
}

#[test]
fn the_audit_names_the_first_transfer_that_can_not_be() {
    let mut all = Vec::new();
    let mut ledger = Ledger::default();
    for n in 1..=5 {
        let transfer = deposit(&ledger, n, 10);
        ledger.apply(&transfer).unwrap();
        all.push(transfer);
    }
    assert_eq!(Ledger::audit(&all), Ok(ledger));
    all[3].postings[0].micros = Micros(-11);
    assert_eq!(Ledger::audit(&all), Err((4, LedgerError::Unbalanced(-1))));
    all.remove(1);
    assert_eq!(Ledger::audit(&all), Err((3, LedgerError::Number { wanted: 2, got: 3 })));
}

#[test]
fn what_can_not_be_is_told_as_what_it_is() {
    let mut ledger = held();
    let mut nothing = deposit(&ledger, 1, 5);
    nothing.postings.push(Posting { book: Book::Fees, micros: Micros(0) });
    assert_eq!(ledger.apply(&nothing), Err(LedgerError::Shape(Book::Fees, Micros(0))), "a posting of nothing");
    assert_eq!(ledger.apply(&hold(&ledger, 7, 2, 1)), Err(LedgerError::OtherParty(lease(7), account(2))));
    // A lease earns for one lender.
    let charge = |lender| Cause::Charge { lease: lease(7), lender: account(lender), receipt: 1 };
    let to = |lender| [(Book::Available(account(lender)), Micros(5))];
    write(&mut ledger, charge(2), Book::Held(lease(7)), &to(2)).unwrap();
    write(&mut ledger, charge(2), Book::Held(lease(7)), &to(2)).unwrap();
    let other = LedgerError::OtherParty(lease(7), account(3));
    assert_eq!(write(&mut ledger, charge(3), Book::Held(lease(7)), &to(3)), Err(other));
    assert_eq!(
        (ledger.newest(), ledger.leases().map(|(id, of)| (id, of.charged)).collect()),
        (4, vec![(lease(7), 10)])
    );
}

#[test]
fn the_word_of_a_cause_is_the_one_that_is_stored() {
    let (lease, account, reference) = (lease(1), account(1), String::new());
    let all = [
        Cause::Deposit { account, reference: reference.clone() },
        Cause::Refund { account, reference },
        Cause::Hold { lease, client: account },
        Cause::Charge { lease, lender: account, receipt: 1 },
        Cause::Void { lease },
        Cause::Withhold { lease },
        Cause::PayOut { lease },
        Cause::Credit { lease, number: 1 },
    ];
    for cause in all {
        assert_eq!(serde_json::to_value(&cause).unwrap()["cause"], cause.word());
    }
}

#[test]
fn what_just_suffices_lasts_as_long_as_it_does() {
    let once = Plan { prices: PriceList { setup: Micros(100), ..PriceList::default() }, ..plan() };
    assert_eq!([99, 100, 101].map(|budget| once.affordable(Micros(budget))), [None, Some(once.term), Some(once.term)]);
    let last = [4999, 5000, 5001].map(|budget| plan().affordable(Micros(budget)));
    assert_eq!(last, [Some(Seconds(4999)), Some(Seconds(5000)), Some(Seconds(5000))]);
}

/// One micro a second.
fn plan() -> Plan {
    Plan {
        prices: PriceList { flat: MicrosPerHour(3600), ..PriceList::default() },
        resources: Resources::default(),
        term: Seconds(5000),
        chunk: CHUNK,
        outage_allowance: Seconds::ZERO,
    }
}

#[test]
fn a_chunk_is_always_ahead_and_the_end_is_where_the_money_ends() {
    let plan = plan();
    let next = |used, paid: i64, funds| {
        plan.next(Seconds(used), Paid { seconds: Seconds(paid), held: Micros(paid) }, Micros(funds))
    };
    let more = |seconds, micros, last| Next::More { seconds: Seconds(seconds), micros: Micros(micros), last };
    assert_eq!(next(0, 0, 9999), more(900, 900, false), "the grant");
    assert_eq!(next(0, 900, 9999), Next::Enough);
    assert_eq!(next(1, 900, 9999), more(1800, 900, false));
    assert_eq!(next(901, 1800, 9999), more(2700, 900, false));
    assert_eq!(next(901, 1800, 250), more(2050, 250, true), "all that is left");
    assert_eq!(next(1500, 2050, 0), Next::Short { micros: Micros(650) });
    assert_eq!(next(4500, 4500, 9999), more(5000, 500, false), "not past the term");
    assert_eq!(next(4900, 5000, 9999), Next::Enough);
    assert_eq!(next(901, 1800, 59), Next::Short { micros: Micros(900) }, "seconds by the dozen are not worth a word");
    let least = Plan { prices: PriceList { shortest_charge_seconds: Seconds(4000), ..plan.prices }, ..plan };
    let nothing = Paid { seconds: Seconds(0), held: Micros(0) };
    assert_eq!(least.next(Seconds(5), nothing, Micros(9999)), more(4000, 4000, false), "what is charged, it may run");
    assert_eq!(least.next(Seconds(5), nothing, Micros(4000)), more(4000, 4000, false));
    assert_eq!(least.next(Seconds(5), nothing, Micros(3999)), Next::Short { micros: Micros(4000) });
    let short = Plan { chunk: Seconds(60), ..plan };
    assert_eq!(short.next(Seconds(5), nothing, Micros(9999)), more(120, 120, false), "a market of shorter chunks");
    assert_eq!(short.next(Seconds(5), nothing, Micros(75)), more(75, 75, true));
    let away = Plan { outage_allowance: Seconds(3600), ..plan };
    let first = away.next(Seconds(0), Paid { seconds: Seconds(0), held: Micros(0) }, Micros(9999));
    assert_eq!(first, more(4500, 4500, false));
}

fn plans() -> impl Strategy<Value = Plan> {
    let price = || prop_oneof![Just(0), 1i64..50_000, 0..=MicrosPerHour::MAX.0];
    let amounts = (1i64..=64_000, 1i64..=1 << 20, 0i64..=10_000);
    let spans = (1i64..100_000, 0i64..20_000, 0i64..4000, 60i64..4000);
    (price(), price(), price(), price(), price(), amounts, spans).prop_map(
        |(setup, flat, cpu, memory, disk, of, spans)| Plan {
            prices: PriceList {
                setup: Micros(setup),
                flat: MicrosPerHour(flat),
                cpu: MicrosPerHour(cpu),
                memory: MicrosPerHour(memory),
                disk: MicrosPerHour(disk),
                shortest_charge_seconds: Seconds(spans.2),
            },
            resources: Resources { cpu: Millicores(of.0), memory: MiB(of.1), disk: GiB(of.2) },
            term: Seconds(spans.0),
            chunk: Seconds(spans.3),
            outage_allowance: Seconds(spans.1),
        },
    )
}

proptest! {
    /// Whatever it costs and however it is asked: it never runs past what is held, nor holds more
    /// than there is, and before funds run out a chunk is always ahead.
    #[test]
    fn nothing_runs_past_its_hold(
        plan in plans(), funds in prop_oneof![0i64..10_000_000, 0..i64::MAX / 4], jumps in prop::collection::vec(0i64..1200, 1..60)
    ) {
        let (mut used, mut left) = (Seconds::ZERO, Micros(funds));
        let mut paid = Paid { seconds: Seconds::ZERO, held: Micros::ZERO };
        let mut warned = false;
        for jump in jumps {
            match plan.next(used, paid, left) {
                Next::More { seconds, micros, last } => {
                    prop_assert!(micros >= Micros::ZERO && micros <= left && seconds >= paid.seconds);
                    paid = Paid { seconds, held: paid.held + micros };
                    left -= micros;
                    prop_assert!(plan.price(seconds) <= paid.held);
                    prop_assert!(seconds >= plan.shortest(), "what is charged in any case, it may run");
                    if last {
                        prop_assert!(seconds == plan.term || plan.price(seconds + Seconds(1)) > paid.held + left);
                    }
                    warned = warned || last;
                }
                Next::Enough => {}
                Next::Short { micros } => {
                    prop_assert!(micros > left);
                    if paid.seconds == Seconds::ZERO {
                        return Ok(()); // refused at the grant
                    }
                    warned = true;
                }
            }
            prop_assert!(warned || paid.seconds - used >= plan.chunk || paid.seconds == plan.term);
            // The guard stops it at the paid end.
            used = (used + Seconds(jump)).min(paid.seconds);
            prop_assert!(plan.price(used) <= paid.held);
        }
    }

    /// Any order of any operations: sums are zero, nobody is below zero, and from nothing the same comes out.
    #[test]
    fn the_books_balance_whatever_is_tried(steps in prop::collection::vec((0u8..12, 1u128..4, 1u128..4, -5i64..400), 1..120)) {
        let mut ledger = Ledger::default();
        let mut written = Vec::new();
        for (what, a, l, micros) in steps {
            let (of, who) = (lease(l), Book::Available(account(a)));
            let amount = Micros(micros);
            let one = |cause, from, to| vec![ledger.next(AT, cause, from, &[(to, amount)])];
            let transfers = match what {
                0 | 1 => vec![deposit(&ledger, a, micros)],
                2 | 3 => vec![hold(&ledger, l, a, micros)],
                4 => one(Cause::Refund { account: account(a), reference: String::new() }, who, Book::Outside),
                5 => one(Cause::PayOut { lease: of }, Book::Withheld(of), who),
                6 => one(Cause::Withhold { lease: of }, who, Book::Withheld(of)),
                7 => one(Cause::Credit { lease: of, number: a as u64 }, Book::Fees, who),
                8 => one(Cause::Hold { lease: of, client: account(a) }, Book::Owed(account(a)), Book::Held(of)),
                9 | 10 => {
                    let cause = match what {
                        9 => Cause::Deposit { account: account(a), reference: "b".into() },
                        _ => Cause::Credit { lease: of, number: 1 },
                    };
                    let from = if what == 9 { Book::Outside } else { Book::Available(account(2)) };
                    vec![ledger.next(AT, cause, from, &ledger.back(Book::Owed(account(a)), amount))]
                }
                _ => ledger.settle(&bill(l, micros, 100, a == 1), AT).unwrap_or_default(),
            };
            for transfer in transfers {
                let before = ledger.clone();
                let Ok(()) = ledger.apply(&transfer) else {
                    prop_assert_eq!(&ledger, &before);
                    continue;
                };
                let mut back = before.clone();
                let undo = back.write(&transfer);
                prop_assert_eq!(&back, &ledger, "judged or not, the same is written");
                back.take_back(undo);
                prop_assert_eq!(&back, &before);
                if let Cause::Deposit { account, .. } | Cause::Refund { account, .. } = transfer.cause {
                    let own = |books: &Ledger| books.balance(Book::Available(account));
                    prop_assert!(own(&ledger) == own(&before) || ledger.owed(account) == 0, "debts first");
                }
                written.push(transfer);
            }
            prop_assert_eq!(ledger.balances().map(|(_, balance)| balance).sum::<i128>(), 0);
            for (book, balance) in ledger.balances() {
                match book {
                    Book::Outside => {}
                    Book::Owed(_) => prop_assert!(balance <= 0, "{book} is above zero"),
                    _ => prop_assert!(balance >= 0, "{book} is below zero"),
                }
            }
            let held = ledger.balances().filter(|(book, _)| matches!(book, Book::Held(_))).map(|(_, balance)| balance);
            prop_assert_eq!(held.sum::<i128>(), (1..4).map(|a| ledger.set_aside(account(a))).sum::<i128>());
        }
        prop_assert_eq!(Ledger::audit(&written), Ok(ledger));
    }
}
