//! Who pays afterwards owes, and pays that first.

use super::*;

/// A client that pays afterwards, with 900 held for lease 7.
fn on_account() -> Ledger {
    let mut ledger = Ledger::default();
    for micros in [600, 300] {
        let cause = Cause::Hold { lease: lease(7), client: account(1) };
        let to = [(Book::Held(lease(7)), Micros(micros))];
        write(&mut ledger, cause, Book::Owed(account(1)), &to).unwrap();
    }
    ledger
}

/// What comes in for the client, and goes where it has to.
fn pay_in(ledger: &mut Ledger, micros: i64) {
    let cause = Cause::Deposit { account: account(1), reference: "bill".into() };
    let to = ledger.back(Book::Owed(account(1)), Micros(micros));
    write(ledger, cause, Book::Outside, &to).unwrap();
}

/// What the client owes, and what it has.
fn stands(ledger: &Ledger) -> [i128; 2] {
    [ledger.owed(account(1)), ledger.balance(Book::Available(account(1)))]
}

#[test]
fn who_pays_afterwards_owes_what_was_charged_and_no_more() {
    let mut ledger = on_account();
    assert_eq!(ledger.lease(lease(7)).map(|of| (of.held, of.payer)), Some((900, Book::Owed(account(1)))));
    let mut other = Ledger::default();
    let funded = deposit(&other, 1, 50);
    other.apply(&funded).unwrap();
    let first = hold(&other, 7, 1, 10);
    other.apply(&first).unwrap();
    let cause = Cause::Hold { lease: lease(7), client: account(1) };
    let mixed = other.next(AT, cause, Book::Owed(account(1)), &[(Book::Held(lease(7)), Micros(10))]);
    assert!(matches!(other.apply(&mixed), Err(LedgerError::Shape(..))), "one lease, one purse");
    settle(&mut ledger, &bill(7, 250, 0, false));
    assert_eq!((stands(&ledger), ledger.balance(Book::Outside)), ([250, 0], 0), "nothing came in yet");
    let cause = Cause::Credit { lease: lease(7), number: 1 };
    let lender = Book::Available(account(2));
    let to_client = ledger.next(AT, cause.clone(), lender, &[(Book::Available(account(1)), Micros(5))]);
    let owes = LedgerError::Owes { account: account(1), micros: 250 };
    assert_eq!(ledger.apply(&to_client), Err(owes), "a credit lowers what it owes");
    write(&mut ledger, cause, lender, &[(Book::Owed(account(1)), Micros(5))]).unwrap();
    assert_eq!(stands(&ledger), [245, 0]);
}

#[test]
fn what_is_owed_is_paid_before_anything_is_ones_own() {
    let mut ledger = on_account();
    let (owed, own) = (Book::Owed(account(1)), Book::Available(account(1)));
    let deposit = Cause::Deposit { account: account(1), reference: "r".into() };
    let owes = |micros| Err(LedgerError::Owes { account: account(1), micros });
    let more = |micros, asked| Err(LedgerError::Overpaid { account: account(1), micros, asked });
    assert_eq!(write(&mut ledger, deposit.clone(), Book::Outside, &[(own, Micros(1))]), owes(900));
    let both = [(owed, Micros(899)), (own, Micros(1))];
    assert_eq!(write(&mut ledger, deposit.clone(), Book::Outside, &both), owes(900));
    assert_eq!(write(&mut ledger, deposit, Book::Outside, &[(owed, Micros(901))]), more(900, 901));
    pay_in(&mut ledger, 899);
    assert_eq!(stands(&ledger), [1, 0]);
    pay_in(&mut ledger, 101);
    assert_eq!(stands(&ledger), [0, 100]);
    // What was held, and paid already, is its own.
    settle(&mut ledger, &bill(7, 250, 0, false));
    assert_eq!(stands(&ledger), [0, 750]);
    let refund = Cause::Refund { account: account(1), reference: "r".into() };
    write(&mut ledger, refund.clone(), own, &[(Book::Outside, Micros(700))]).unwrap();
    let hold = Cause::Hold { lease: lease(8), client: account(1) };
    write(&mut ledger, hold, owed, &[(Book::Held(lease(8)), Micros(30))]).unwrap();
    assert_eq!(write(&mut ledger, refund, own, &[(Book::Outside, Micros(1))]), owes(30), "nor is it paid out");
    settle(&mut ledger, &Bill { lease: lease(8), ..bill(8, 10, 0, false) });
    assert_eq!(stands(&ledger), [10, 50], "the rest of a hold lowers what is owed");
}

#[test]
fn what_comes_back_to_who_paid_from_what_it_has_is_its_own_whatever_it_owes() {
    let mut ledger = held();
    let hold = Cause::Hold { lease: lease(8), client: account(1) };
    write(&mut ledger, hold, Book::Owed(account(1)), &[(Book::Held(lease(8)), Micros(30))]).unwrap();
    settle(&mut ledger, &bill(7, 250, 0, false));
    assert_eq!(stands(&ledger), [30, 750]);
    let funds = ledger.back(Book::Available(account(1)), Micros(5));
    assert_eq!(funds, [(Book::Available(account(1)), Micros(5))]);
}
