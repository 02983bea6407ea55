//! The books, changed by hand.

use crate::db::books::audit;
use crate::engine::command::Command;
use crate::engine::tests::money::{audited, funded, gone};
use crate::engine::tests::world::{CLIENT, client, id};
use sublet_model::ids::AccountId;
use sublet_model::ledger::Book;

#[test]
fn the_audit_finds_what_was_changed_by_hand() {
    let (mut world, mut agent) = funded(2_000_000);
    let lease = world.running(&mut agent);
    world.pass(50);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    gone(&mut world, &mut agent, &lease, 40);
    let account: AccountId = id(CLIENT);
    let refused = [
        "update postings set micros = micros + 1",
        "delete from postings",
        "delete from transfers",
        "update transfers set at = 0",
        "insert into postings values (1, 'fees', 5, 5)",
        "insert into transfers values (9, 0, 'void', null, (select id from leases), null, null)",
        "insert into transfers values (99, 0, 'void', null, (select id from leases), null, null)",
        "update credits set micros = 1",
        "update disputes set note = 'x'",
    ];
    for sql in refused {
        let done = world.db.connection().execute(sql, []);
        assert!(done.is_err() || done == Ok(0), "{sql}");
    }
    let refused = |posting: String, why: &str| {
        let sql = format!("insert into postings values (90, {posting})");
        let said = world.db.connection().execute(&sql, []).unwrap_err().to_string();
        assert!(said.contains(why), "{sql}: {said}");
    };
    let has = world.engine.state().balance(Book::Available(account)).0;
    refused(format!("'available:{account}', -{0}, -1", has + 1), "balance >= 0");
    refused(format!("'owed:{account}', 1, 1"), "balance <= 0");
    // Numbers that somebody made up.
    for (micros, balance) in [(-has - 1, 0), (5, has), (5, has + 6), (-1, has), (i64::MAX, i64::MAX)] {
        refused(format!("'available:{account}', {micros}, {balance}"), "was in it before");
    }
    refused(format!("'owed:{account}', -5, -6"), "was in it before");
    audited(&world);
    // Somebody who takes the rules away first.
    let told = |sql: &str, words: &str| {
        world.db.connection().execute_batch(&format!("begin; {sql}")).unwrap();
        let found = audit(world.db.connection()).unwrap();
        assert!(!found.holds && found.problems.iter().any(|p| p.contains(words)), "{sql}: {:?}", found.problems);
        world.db.connection().execute_batch("rollback").unwrap();
    };
    let free = "drop trigger postings_never_change; drop trigger postings_never_go; drop trigger transfers_never_go; \
                drop trigger charges_never_change;";
    told(&format!("{free} update postings set micros = micros - 1 where transfer = 1 and book <> 'outside'"), "sum to");
    told(
        &format!("{free} update postings set balance = balance + 7 where transfer = 1 and book <> 'outside'"),
        "is said",
    );
    told(&format!("{free} update charges set total_micros = total_micros + 1"), "are posted");
    told(&format!("{free} update postings set book = 'fees' where transfer = 1 and book <> 'outside'"), "can't post");
}
