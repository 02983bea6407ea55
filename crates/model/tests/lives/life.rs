//! One life of a lease: what is agreed, what really happens, what the market sees of it, what the
//! host says, which is not always true, and what is billed and posted in the end.

use crate::random::Random;
use sublet_model::billing::{Bound, PriceList, Terms};
use sublet_model::identity::{PublicKey, SecretKey, Sha256Digest, Signed};
use sublet_model::ids::{AccountId, HostId};
use sublet_model::lease::EndReason;
use sublet_model::ledger::chunks::{CHUNK, Next, Paid, Plan};
use sublet_model::ledger::{Bill, Book, Cause, Ledger};
use sublet_model::metering::{ChainEnd, Intake, Receipt, judge};
use sublet_model::resources::Resources;
use sublet_model::statement::{ChargeRecord, Credit, CreditBearer, Life, Seen, work_out};
use sublet_model::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds, Timestamp};

const SECOND: i64 = 1_000_000;

/// A host, and what signs for it.
pub struct Host {
    pub id: HostId,
    pub name: String,
    pub key: SecretKey,
}

/// Who takes part, and the books.
pub struct World {
    pub market: SecretKey,
    /// Keys that the market had before, oldest first: each with when the next one began.
    pub older: Vec<(SecretKey, Timestamp)>,
    pub hosts: Vec<Host>,
    pub client: AccountId,
    pub lender: AccountId,
    pub ledger: Ledger,
}

impl World {
    /// The key with which the market signed then.
    fn signer(&self, at: Timestamp) -> &SecretKey {
        self.older.iter().find(|(_, until)| at < *until).map_or(&self.market, |(key, _)| key)
    }
}

/// What came up, so that a test that misses something is seen.
#[derive(Debug, Default)]
pub struct Tally {
    lives: u64,
    refused: u64,
    receipts: u64,
    lies_told: u64,
    lies_taken: u64,
    out_of_funds: u64,
    credits: u64,
    bounds: [u64; 7],
}

impl Tally {
    /// Fails if a thousand lives and more left something out.
    pub fn covers_everything(&self, lives: u64) {
        let all = [self.refused, self.lies_told, self.lies_taken, self.out_of_funds, self.credits];
        let missed = all.iter().chain(&self.bounds).any(|count| *count == 0);
        assert!(lives < 1000 || !missed, "some kind of life never came up: {self:?}");
    }
}

/// How far it is paid, and until when it really ran.
struct Run {
    paid: Paid,
    used: Seconds,
    reason: EndReason,
}

/// Lives a life. None if there was no money for even its first second.
pub fn live(random: &mut Random, world: &mut World, tally: &mut Tally) -> Option<Life> {
    let host = random.below(world.hosts.len());
    let halves = random.percent(10);
    let terms = agree(random, world, world.hosts[host].id, halves);
    let term = Seconds(if halves { 1800 * random.between(1, 20) } else { random.between(1, 40_000) });
    let plan = Plan {
        prices: terms.prices,
        resources: terms.resources,
        term,
        chunk: CHUNK,
        outage_allowance: Seconds(random.one_of(&[0, 0, 900, 3600])),
    };
    deposit(random, world, &terms, &plan);
    let mut run = Run {
        paid: Paid { seconds: Seconds::ZERO, held: Micros::ZERO },
        used: Seconds::ZERO,
        reason: EndReason::BootFailed,
    };
    if !extend(world, &terms, &plan, &mut run, tally) {
        tally.refused += 1;
        return None;
    }
    let boots = !random.percent(10);
    if boots {
        use_it(random, world, &terms, &plan, &mut run, tally);
    }
    let seen = look(random, world, &terms, term, &run, boots);
    let receipts = receive(random, &world.hosts[host].key, &terms, &seen, &run, boots, tally);
    let life = Life {
        terms: Signed::sign(&terms, world.signer(terms.granted_at)).unwrap(),
        seen,
        receipts,
        credits: Vec::new(),
    };
    Some(settle(random, world, &terms, life, tally))
}

/// With `halves` its price for half an hour is a half of something, one time in two.
fn agree(random: &mut Random, world: &World, host: HostId, halves: bool) -> Terms {
    let most = random.one_of(&[0, 10, 50_000, 50_000, 5_000_000, 100_000_000_000]);
    let mut price = || MicrosPerHour(random.between(0, most));
    let (flat, cpu, memory, disk) = match halves {
        true => (MicrosPerHour(random.between(0, 9)), MicrosPerHour(0), MicrosPerHour(0), MicrosPerHour(0)),
        false => (price(), price(), price(), price()),
    };
    let prices = PriceList {
        setup: Micros(random.one_of(&[0, 0, 100, 5000, 1_000_000])),
        flat,
        cpu,
        memory,
        disk,
        shortest_charge_seconds: Seconds(random.one_of(&[0, 0, 0, 60, 600, 3600])),
    };
    let resources = Resources {
        cpu: Millicores(random.between(100, 64_000)),
        memory: MiB(random.between(64, 300_000)),
        disk: GiB(random.between(0, 4000)),
    };
    let granted_at = Timestamp(random.between(1_700_000_000, 1_900_000_000) * SECOND + random.between(0, SECOND - 1));
    Terms {
        lease: random.id(),
        client: world.client,
        lender: world.lender,
        host,
        partition: random.id(),
        generation: random.bits() >> random.between(0, 63),
        resources,
        vcpus: 64,
        offer: random.id(),
        offer_version: 1 + random.below(9) as u32,
        prices,
        image: Sha256Digest::of(&random.bits().to_le_bytes()),
        granted_at,
        until: random.percent(25).then(|| granted_at.after(Seconds(random.between(1, 30_000)))),
        fee_permille: random.one_of(&[0, 0, 25, 50, 125, 500, 1000]),
        term_seconds: random.percent(50).then(|| Seconds(random.between(1, 100_000))),
    }
}

/// Money for all of it, for a part, or for next to nothing.
fn deposit(random: &mut Random, world: &mut World, terms: &Terms, plan: &Plan) {
    let all = plan.price(plan.term).0;
    let share = random.one_of(&[0, 1, 5, 30, 60, 100, 100, 100, 100, 100]);
    let amount = Micros((i128::from(all) * share / 100) as i64);
    let available = world.ledger.balance(Book::Available(terms.client));
    // What was left by another life is taken out first, so that shortage happens.
    if available > 0 {
        let cause = Cause::Refund { account: terms.client, reference: "R-1".into() };
        let from = Book::Available(terms.client);
        let left = Micros(i64::try_from(available).unwrap());
        post(world, terms.granted_at, cause, from, Book::Outside, left);
    }
    if amount > Micros::ZERO {
        let cause = Cause::Deposit { account: terms.client, reference: "PO-1".into() };
        post(world, terms.granted_at, cause, Book::Outside, Book::Available(terms.client), amount);
    }
}

fn post(world: &mut World, at: Timestamp, cause: Cause, from: Book, to: Book, micros: Micros) {
    let transfer = world.ledger.next(at, cause, from, &[(to, micros)]);
    world.ledger.apply(&transfer).unwrap_or_else(|error| panic!("{transfer:?}: {error}"));
}

/// Holds what is due next. Answers whether it may run at all.
fn extend(world: &mut World, terms: &Terms, plan: &Plan, run: &mut Run, tally: &mut Tally) -> bool {
    let funds = Micros(i64::try_from(world.ledger.balance(Book::Available(terms.client))).unwrap());
    match plan.next(run.used, run.paid, funds) {
        Next::Enough => true,
        Next::Short { .. } => run.paid.seconds > Seconds::ZERO,
        Next::More { seconds, micros, last } => {
            if micros > Micros::ZERO {
                let cause = Cause::Hold { lease: terms.lease, client: terms.client };
                let (from, to) = (Book::Available(terms.client), Book::Held(terms.lease));
                post(world, terms.granted_at, cause, from, to, micros);
            }
            run.paid = Paid { seconds, held: run.paid.held + micros };
            tally.out_of_funds += u64::from(last);
            true
        }
    }
}

/// Uses it for a while; the market is not always there to extend what is paid.
fn use_it(random: &mut Random, world: &mut World, terms: &Terms, plan: &Plan, run: &mut Run, tally: &mut Tally) {
    let whole = plan.term.0 % 1800 == 0 && random.percent(80);
    let wanted = if whole { plan.term } else { Seconds(random.between(0, plan.term.0 * 3 / 2)) };
    loop {
        let step = Seconds(random.between(1, 1500));
        // The guard stops it where it is paid to, whoever is out of reach.
        let next = (run.used + step).min(wanted).min(run.paid.seconds);
        let stands = next == run.used;
        run.used = next;
        if run.used == wanted || run.used == plan.term || stands {
            break;
        }
        if !random.percent(15) {
            extend(world, terms, plan, run, tally);
        }
    }
    run.reason = match run.used {
        used if used == plan.term => EndReason::Expired,
        used if used == wanted => random.one_of(&[EndReason::Released, EndReason::GuestCrashed, EndReason::HostLost]),
        _ => EndReason::OutOfFunds,
    };
}

/// What the market sees: late, and by its own clock.
fn look(random: &mut Random, world: &World, terms: &Terms, term: Seconds, run: &Run, boots: bool) -> Seen {
    let after = |from: Timestamp, most: i64, random: &mut Random| Timestamp(from.0 + random.between(0, most * SECOND));
    let booted_at = after(terms.granted_at, 60, random);
    let ready = after(booted_at, 60, random);
    let heard = after(ready, 5, random);
    let real_stop = ready.after(run.used);
    let away = if random.percent(10) { 7200 } else { 3 };
    // A release is decided before the host hears of it; an end is heard of after it was.
    let stopped_at = match run.reason {
        EndReason::Released => Timestamp((real_stop.0 - random.between(0, 3 * SECOND)).max(terms.granted_at.0)),
        _ => after(real_stop, away, random),
    };
    let ended_at = random.percent(90).then(|| after(stopped_at, 20, random));
    let held = world.ledger.balance(Book::Held(terms.lease));
    Seen {
        lease: terms.lease,
        name: random.one_of(&["box", "größer", "=1+1", "a\"b\\c\u{1}\u{7f}\u{2028}", "𝛑"]).into(),
        image: "debian-12@12.11-1".into(),
        fetched_at: random.percent(80).then_some(terms.granted_at),
        booted_at: Some(booted_at),
        ready_at: (boots && random.percent(95)).then_some(heard),
        contact_at: random.percent(50).then_some(heard),
        stopped_at,
        ended_at,
        term_seconds: term,
        paid_seconds: run.paid.seconds,
        held: Some(Micros(i64::try_from(held).unwrap())),
        reason: run.reason,
        settled_at: after(stopped_at, 3600, random),
    }
}

/// The receipts that the market takes in, of all that the host sends.
fn receive(
    random: &mut Random,
    key: &SecretKey,
    terms: &Terms,
    seen: &Seen,
    run: &Run,
    boots: bool,
    tally: &mut Tally,
) -> Vec<(Timestamp, Signed<Receipt>)> {
    let lies = random.percent(40);
    let count = if boots { random.between(0, 7) } else { random.between(0, 1) };
    let mut stored: Vec<(Timestamp, Signed<Receipt>)> = Vec::new();
    let mut end: Option<ChainEnd> = None;
    let mut sent: Vec<Signed<Receipt>> = Vec::new();
    for at in 1..=count {
        let seconds = Seconds(run.used.0 * at / count);
        let honest = Receipt {
            lease: terms.lease,
            generation: terms.generation,
            seq: end.as_ref().map_or(1, |e| e.seq + 1),
            seconds: seconds.max(end.as_ref().map_or(Seconds::ZERO, |e| e.seconds)),
            cpu_used_ms: random.between(0, 1 << 40),
            last: at == count && random.percent(90),
            previous: end.as_ref().map(|e| e.digest),
        };
        let mut says = vec![Signed::sign(&honest, key).unwrap()];
        if lies {
            let lie = tell(random, &honest, &end, &sent, key);
            says.insert(random.below(2), lie);
            tally.lies_told += 1;
        }
        for (n, signed) in says.iter().enumerate() {
            let taken = take_in(terms, &key.public(), &mut end, signed);
            tally.lies_taken += u64::from(taken && lies && n == 0 && signed.payload != says[1].payload);
            if taken {
                let received_at = Timestamp(random.between(terms.granted_at.0, seen.settled_at.0));
                stored.push((received_at, signed.clone()));
            }
        }
        sent.extend(says);
    }
    tally.receipts += stored.len() as u64;
    stored
}

/// Something that is not so, signed with the right key.
fn tell(
    random: &mut Random,
    honest: &Receipt,
    end: &Option<ChainEnd>,
    sent: &[Signed<Receipt>],
    key: &SecretKey,
) -> Signed<Receipt> {
    let mut lie = honest.clone();
    match random.below(9) {
        // More than was used, by a little or beyond all measure; a clock that jumps.
        0 => lie.seconds = Seconds(honest.seconds.0.saturating_mul(random.between(2, 1000)).min(Seconds::MAX.0)),
        1 => lie.seconds = random.one_of(&[Seconds::MAX, Seconds(i64::MAX), Seconds(-1), Seconds(i64::MIN)]),
        2 => lie.seconds = honest.seconds + Seconds(7200),
        3 => lie.seconds = honest.seconds - Seconds(7200),
        // Another past: a fork, a gap, another life.
        4 => {
            lie.previous = Some(Sha256Digest::of(b"another past"));
            lie.seconds = Seconds(honest.seconds.0 * 2);
        }
        5 => lie.seq += random.between(1, 3) as u64,
        6 => lie.generation = lie.generation.wrapping_add(1),
        7 => {
            lie.seq = end.as_ref().map_or(1, |e| e.seq);
            lie.seconds = Seconds(honest.seconds.0 + 5000);
        }
        // Said before.
        _ => {
            if let Some(old) = sent.first() {
                return old.clone();
            }
        }
    }
    Signed::sign(&lie, key).unwrap()
}

/// The rule of the market's intake: signature, plausible, next of its chain.
fn take_in(terms: &Terms, key: &PublicKey, end: &mut Option<ChainEnd>, signed: &Signed<Receipt>) -> bool {
    let receipt = signed.verify(key).unwrap();
    let digest = signed.digest();
    let next = judge(terms.lease, terms.generation, end.as_ref(), &receipt, digest) == Ok(Intake::Next);
    if !next || !(Seconds::ZERO..=Seconds::MAX).contains(&receipt.seconds) {
        return false;
    }
    *end = Some(ChainEnd { seq: receipt.seq, digest, seconds: receipt.seconds, last: receipt.last });
    true
}

/// The bill and its postings, and what must be true of them.
fn settle(random: &mut Random, world: &mut World, terms: &Terms, mut life: Life, tally: &mut Tally) -> Life {
    let receipted = life.receipted().unwrap();
    let (count, at) = (life.receipts.len() as u64, life.seen.settled_at);
    let charge = work_out(terms, &life.seen, count, receipted);
    is_fair(terms, &life.seen, receipted, &charge);
    let before = world.ledger.balance(Book::Available(terms.lender));
    let bill = Bill {
        lease: terms.lease,
        lender: terms.lender,
        total: charge.total,
        fee_permille: terms.fee_permille,
        receipt: count,
        withhold: false,
    };
    if run_held(world, terms) {
        for transfer in world.ledger.settle(&bill, at).unwrap() {
            world.ledger.apply(&transfer).unwrap();
        }
    }
    let earned = world.ledger.balance(Book::Available(terms.lender)) - before;
    assert_eq!(earned, i128::from(charge.earned.0), "posted is what the statement says: {charge:?}");
    assert_eq!(world.ledger.balance(Book::Held(terms.lease)), 0);
    if random.percent(15) && charge.earned > Micros::ZERO {
        life.credits = credit(random, world, terms, &charge, at);
        tally.credits += life.credits.len() as u64;
    }
    if charge.total.0 <= life.seen.held.map_or(0, |held| held.0) && random.percent(5) {
        life.seen.held = None;
    }
    balances(&world.ledger);
    tally.lives += 1;
    tally.bounds[charge.because as usize] += 1;
    life
}

/// Nothing was ever held for a lease that costs nothing.
fn run_held(world: &World, terms: &Terms) -> bool {
    world.ledger.balances().any(|(book, _)| book == Book::Held(terms.lease))
}

fn credit(random: &mut Random, world: &mut World, terms: &Terms, charge: &ChargeRecord, at: Timestamp) -> Vec<Credit> {
    let (mut left, mut credits) = (charge.earned, Vec::new());
    for number in 1..=random.between(1, 3) as u64 {
        let micros = Micros(random.between(0, left.0));
        if micros == Micros::ZERO {
            break;
        }
        left -= micros;
        let cause = Cause::Credit { lease: terms.lease, number };
        post(world, at, cause, Book::Available(terms.lender), Book::Available(terms.client), micros);
        let note = "unreachable, \t\"twice\"\n".to_string();
        credits.push(Credit { lease: terms.lease, number, at, micros, borne_by: CreditBearer::Lender, note });
    }
    credits
}

/// Whatever the host said: billed inside the lease, what was paid for, and what the market saw.
fn is_fair(terms: &Terms, seen: &Seen, receipted: Option<Seconds>, charge: &ChargeRecord) {
    let billed = charge.billed_seconds;
    let lived = seen.stopped_at.since(terms.granted_at).max(Seconds::ZERO);
    let said = format!("{terms:?} {seen:?} {charge:?}");
    assert!(billed <= seen.term_seconds && billed <= seen.paid_seconds, "past its term or what was paid: {said}");
    if charge.because == Bound::Shortest {
        assert!(billed <= terms.prices.shortest_charge_seconds, "{said}");
    } else {
        assert!(billed <= lived, "outside a live lease: {said}");
        assert!(billed <= receipted.unwrap_or(Seconds::ZERO), "not receipted: {said}");
        let window = terms.until.map_or(Seconds::MAX, |until| until.since(terms.granted_at).max(Seconds::ZERO));
        assert!(billed <= window, "outside the owner's hours: {said}");
    }
    let worst = work_out(terms, &Seen { ready_at: Some(seen.stopped_at), ..seen.clone() }, 1, Some(Seconds::MAX));
    assert!(charge.total <= worst.total, "more than the market saw: {said}");
    assert!(charge.charged <= seen.held.unwrap(), "{said}");
    assert_eq!(charge.charged, charge.total, "what may run is held, so all of it is paid: {said}");
    assert_eq!(charge.earned + charge.fee, charge.charged, "{said}");
    if charge.because == Bound::NeverRan {
        assert_eq!(charge.total, Micros::ZERO, "{said}");
    }
}

fn balances(ledger: &Ledger) {
    assert_eq!(ledger.balances().map(|(_, balance)| balance).sum::<i128>(), 0, "money appeared or vanished");
    let below = ledger.balances().find(|(book, balance)| *book != Book::Outside && *balance < 0);
    assert_eq!(below, None, "nobody is below zero");
}
