//! The borders of what holds: the last moment, the last micro, the order of things; and how it is told.

use super::*;

/// What is told of a statement of these lives that does not hold, though the market signs it.
fn refused(text: &str) -> (usize, Problem, Option<String>) {
    let fault = fault(&signed_again(text));
    (fault.line, fault.problem, fault.field)
}

#[test]
fn leases_come_by_their_ids_each_once() {
    let text = statement(vec![life(1), life(2)]);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let blocks = |order: [std::ops::Range<usize>; 4]| order.map(|of| lines[of].concat()).concat();
    // The frame and the head, six records each, the closing and the frame.
    assert_eq!(blocks([0..2, 2..8, 8..14, 14..16]), text);
    let field = || Some("lease".to_string());
    assert_eq!(refused(&blocks([0..2, 8..14, 2..8, 14..16])), (9, Problem::Order, field()));
    assert_eq!(refused(&blocks([0..2, 2..8, 2..8, 14..16])), (9, Problem::Order, field()));
}

#[test]
fn hosts_come_by_their_ids_each_once() {
    let host = |n: u128| HostKey { host: Uuid::from_u128(n).into(), ..head().hosts[0].clone() };
    let with = |hosts: Vec<HostKey>| {
        let record = |hosts| serde_json::to_string(&Record::Head(Head { hosts, ..head() })).unwrap();
        statement(vec![life(1)]).replace(&record(head().hosts), &record(hosts))
    };
    let sorted = signed_again(&with(vec![host(6), host(7), host(8)]));
    assert!(matches!(verify(sorted.as_bytes(), None), Verdict::Holds(_)));
    for hosts in [vec![host(8), host(7)], vec![host(7), host(7)]] {
        assert_eq!(refused(&with(hosts)), (2, Problem::Order, Some("hosts".into())));
    }
}

#[test]
fn a_receipt_of_the_last_moment_and_one_that_says_the_same_again_hold() {
    let mut life = life(1);
    life.receipts = receipts(&terms(1), &[100, 100]);
    let settled = life.seen.settled_at;
    life.receipts[1].0 = settled;
    let text = statement(vec![life.clone()]);
    assert!(matches!(verify(text.as_bytes(), None), Verdict::Holds(_)));
    let late = text.replace(&format!("\"received_at\":{}", settled.0), &format!("\"received_at\":{}", settled.0 + 1));
    assert_eq!(refused(&late), (6, Problem::Late, Some("received_at".into())));
}

/// Credits of so many micros each, by the lender (`true`) or the operator, of 700 charged, 630 of them earned.
fn credited(credits: &[(i64, bool)]) -> String {
    let mut life = life(1);
    let terms = Terms { fee_permille: 100, ..terms(1) };
    life.terms = Signed::sign(&terms, &market()).unwrap();
    let first = life.credits.pop().unwrap();
    let mut writer = Writer::new(head()).unwrap();
    writer.lease(life).unwrap();
    let text = writer.finish(&market()).unwrap();
    let one = |(at, (micros, by_lender)): (usize, &(i64, bool))| {
        let borne_by = if *by_lender { CreditBearer::Lender } else { CreditBearer::Operator };
        let record = Credit { number: at as u64 + 1, micros: Micros(*micros), borne_by, ..first.clone() };
        serde_json::to_string(&Record::Credit(record)).unwrap() + ",\n"
    };
    let records: String = credits.iter().enumerate().map(one).collect();
    let closing = text.find("{\"record\":\"closing\"").unwrap();
    signed_again(&format!("{}{records}{}", &text[..closing], &text[closing..]))
}

#[test]
fn credits_are_more_than_nothing_and_never_more_than_was_charged_or_earned() {
    // What the credits say holds; that the closing says otherwise is told in its own line.
    for good in
        [&[(630, true), (70, false)][..], &[(300, true), (330, true), (70, false)], &[(350, false), (350, false)]]
    {
        let fault = fault(&credited(good));
        assert_eq!((fault.line, fault.field.as_deref()), (8 + good.len(), Some("credited")), "{good:?}");
    }
    let told = |credits: &[(i64, bool)]| {
        let fault = fault(&credited(credits));
        assert_eq!((fault.problem, fault.field.as_deref()), (Problem::Arithmetic, Some("micros")), "{credits:?}");
        (fault.line, fault.expected.unwrap(), fault.found.unwrap())
    };
    let most = |line, most: i64, found: i64| (line, format!("at most {most}"), found.to_string());
    assert_eq!(told(&[(631, true)]), most(8, 630, 631));
    assert_eq!(told(&[(300, true), (331, true)]), most(9, 630, 631));
    assert_eq!(told(&[(300, true), (300, true), (31, true)]), most(10, 630, 631));
    assert_eq!(told(&[(701, false)]), most(8, 700, 701));
    assert_eq!(told(&[(600, false), (101, false)]), most(9, 700, 701));
    assert_eq!(told(&[(600, true), (50, false), (51, false)]), most(10, 700, 701));
    let nothing = fault(&credited(&[(0, false)]));
    assert_eq!((nothing.line, nothing.problem, nothing.field.as_deref()), (8, Problem::Implausible, Some("micros")));
}

#[test]
fn a_statement_ends_with_one_newline() {
    let text = statement(vec![life(1)]);
    let told = |text: &str| {
        let fault = fault(text);
        (fault.line, fault.problem, fault.expected.unwrap())
    };
    let lines = text.lines().count();
    assert_eq!(told(text.trim_end()), (lines, Problem::Frame, "a newline".into()));
    assert_eq!(told(&format!("{text}\n")), (lines + 1, Problem::Frame, "the end".into()));
}

#[test]
fn a_fault_names_the_line_the_record_and_the_lease_in_words() {
    let text = statement(vec![life(1)]);
    let said = |from: &str, to: &str| fault(&text.replacen(from, to, 1)).to_string();
    let lease = terms(1).lease;
    assert_eq!(said("physics", "physicz"), "line 2, head was changed after the market signed the statement");
    let other = format!("line 7, charge of {lease}, total is not what follows from the records before it");
    assert_eq!(said("\"total\":700", "\"total\":701"), other);
    let receipt = said("\"received_at\":1050000000", "\"received_at\":1050000001");
    assert_eq!(receipt, format!("line 5, receipt 1 of {lease} was changed after the market signed the statement"));
    assert_eq!(said("{\"sublet\"", "{\"other\""), "line 1 does not begin or end as it has to");
    use Problem::*;
    let all = [
        Malformed,
        Frame,
        Order,
        Key,
        Signature,
        Lease,
        Account,
        Host,
        Implausible,
        Seq,
        Previous,
        Backwards,
        AfterLast,
        Late,
        Period,
        Arithmetic,
        Digest,
    ];
    let words: std::collections::BTreeSet<&str> = all.iter().map(|problem| problem.words()).collect();
    assert!(words.len() == all.len() && words.iter().all(|words| words.contains(' ')), "{words:?}");
}

#[test]
fn a_long_statement_can_be_taken_piece_by_piece() {
    let mut writer = Writer::new(head()).unwrap();
    let mut pieces = vec![writer.take()];
    for n in [1, 2] {
        writer.lease(life(n)).unwrap();
        pieces.push(writer.take());
    }
    pieces.push(writer.finish(&market()).unwrap());
    let lines: Vec<usize> = pieces.iter().map(|piece| piece.lines().count()).collect();
    assert_eq!(lines, [2, 6, 6, 2]);
    assert_eq!(pieces.concat(), statement(vec![life(1), life(2)]));
}
