//! Where one step more is too far: every limit from both sides, and what is written down once.

use super::world::*;
use crate::engine::command::{Actor, Command, Outcome, Rent};
use crate::engine::rows::Token;
use crate::engine::step::Request;
use sublet_model::account::Role;
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::ids::TokenId;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::units::{MicrosPerHour, Seconds, Timestamp};
use sublet_wire::problem::Kind;

const YEAR: Seconds = Seconds(366 * 86_400);

fn audited(world: &World, action: &str) -> i64 {
    world.db.count(&format!("select count(*) from audit where action = '{action}'"))
}

fn said(world: &World, detail: &str) -> i64 {
    world.db.count(&format!("select count(*) from audit where detail = '{detail}'"))
}

fn token(n: u128, name: &str, expires_at: Timestamp) -> Command {
    Command::CreateToken {
        actor: client(),
        id: id(n),
        member: id(CLIENT),
        name: name.into(),
        hash: Sha256Digest::of(&n.to_be_bytes()),
        roles: vec![Role::Client],
        expires_at,
    }
}

fn join_token(n: u128, uses: u32, expires_at: Timestamp) -> Command {
    Command::CreateJoinToken { actor: lender(), id: id(n), hash: Sha256Digest::of(&n.to_be_bytes()), uses, expires_at }
}

fn batch(world: &mut World, commands: impl Iterator<Item = Command>) -> usize {
    let batch = commands.map(|command| Request { command, idempotency: None }).collect();
    world.step(batch).iter().filter(|answer| answer.is_ok()).count()
}

#[track_caller]
fn refused(world: &mut World, command: Command, kind: Kind) {
    assert_eq!(world.call(command).unwrap_err().kind, kind);
}

#[test]
fn a_token_lives_between_now_and_a_year() {
    let mut world = World::empty();
    let micro = |at: Timestamp, n: i64| Timestamp(at.0 + n);
    for make in [|n, at| token(n, "t", at), |n, at| join_token(n, 1, at)] {
        refused(&mut world, make(60, START), Kind::Invalid);
        refused(&mut world, make(60, micro(START.after(YEAR), 1)), Kind::Invalid);
        world.call(make(61, micro(START, 1))).unwrap();
        world.call(make(62, START.after(YEAR))).unwrap();
        refused(&mut world, make(62, START.after(YEAR)), Kind::Conflict);
        world = World::empty();
    }
    for uses in [0, 10_001] {
        refused(&mut world, join_token(63, uses, START.after(YEAR)), Kind::Invalid);
    }
    for uses in [1, 10_000] {
        world.call(join_token(uses.into(), uses, START.after(YEAR))).unwrap();
    }
    assert_eq!(audited(&world, "join_token.create"), 2);
}

#[test]
fn a_token_is_good_until_it_expires_or_is_revoked() {
    let token = Token {
        id: id(1),
        member: id(CLIENT),
        name: "t".into(),
        hash: Sha256Digest::of(b"t"),
        roles: vec![Role::Client],
        expires_at: START.after(Seconds(10)),
        created_at: START,
        revoked_at: None,
    };
    let good = |token: &Token, seconds| token.is_good(START.after(Seconds(seconds)));
    assert_eq!([0, 9, 10, 11].map(|s| good(&token, s)), [true, true, false, false]);
    let revoked = Token { revoked_at: Some(START), ..token };
    assert_eq!([0, 9, 10, 11].map(|s| good(&revoked, s)), [false; 4]);
}

#[test]
fn names_of_tokens_are_short_and_printable() {
    let mut world = World::empty();
    let soon = START.after(Seconds(60));
    for name in ["", "a\nb", "a\u{7f}", &"x".repeat(101)] {
        refused(&mut world, token(60, name, soon), Kind::Invalid);
    }
    for (n, name) in ["x", "for ümläut's sake", &"ü".repeat(100)].into_iter().enumerate() {
        world.call(token(61 + n as u128, name, soon)).unwrap();
    }
    assert_eq!(audited(&world, "token.create"), 3);
    assert_eq!(said(&world, &format!("token x for {} as client", id::<sublet_model::ids::MemberId>(CLIENT))), 1);
}

#[test]
fn a_member_has_a_thousand_living_tokens_at_most() {
    let mut world = World::empty();
    let soon = START.after(Seconds(60));
    world.call(token(3000, "t", START.after(Seconds(1)))).unwrap();
    world.call(token(3001, "t", soon)).unwrap();
    world.call(Command::RevokeToken { actor: client(), id: id(3001) }).unwrap();
    world.call(Command::RevokeToken { actor: client(), id: id(3001) }).unwrap();
    assert_eq!(audited(&world, "token.revoke"), 1, "once");
    let of_another = Command::CreateToken {
        actor: lender(),
        id: id(3002),
        member: id(LENDER),
        name: "t".into(),
        hash: Sha256Digest::of(b"other"),
        roles: vec![Role::Lender],
        expires_at: soon,
    };
    world.call(of_another).unwrap();
    world.pass(1);
    // What is over, revoked or somebody else's is not counted.
    assert_eq!(batch(&mut world, (0..1001).map(|n| token(1000 + n, "t", soon))), 1000);
    refused(&mut world, token(2999, "t", soon), Kind::Conflict);
    world.call(Command::RevokeToken { actor: operator(), id: id(1000) }).unwrap();
    world.call(token(2999, "t", soon)).unwrap();
}

#[test]
fn an_account_has_a_thousand_members_of_different_names() {
    let mut world = World::empty();
    let member = |n: u128, account: u128, name: String, roles: &[Role]| Command::CreateMember {
        actor: operator(),
        id: id(n),
        account: id(account),
        name,
        roles: roles.to_vec(),
    };
    let plain = |n: u128, name: &str| member(n, CLIENT, name.into(), &[Role::Client]);
    refused(&mut world, plain(60, "client"), Kind::Conflict);
    refused(&mut world, plain(60, "No Name"), Kind::Invalid);
    refused(&mut world, member(60, CLIENT, "x".into(), &[]), Kind::Invalid);
    refused(&mut world, member(60, 999, "x".into(), &[Role::Client]), Kind::NotFound);
    world.call(member(60, LENDER, "client".into(), &[Role::Lender, Role::Client, Role::Lender])).unwrap();
    let roles = world.engine.state().member(id(60)).unwrap().roles.clone();
    assert_eq!(roles.len(), 2, "each role once: {roles:?}");
    assert_eq!(
        said(
            &world,
            &format!("member client of {} as {}, {}", id::<sublet_model::ids::AccountId>(LENDER), roles[0], roles[1])
        ),
        1
    );
    // One is there already.
    assert_eq!(batch(&mut world, (0..1000).map(|n| plain(1000 + n, &format!("m{n}")))), 999);
    refused(&mut world, plain(61, "late"), Kind::Conflict);
    world.call(member(61, LENDER, "late".into(), &[Role::Lender])).unwrap();
}

#[test]
fn accounts_have_names_of_their_own_and_what_is_so_is_not_written_down_again() {
    let mut world = World::empty();
    let create = |name: &str| Command::CreateAccount { actor: operator(), id: id(60), name: name.into() };
    refused(&mut world, create("client"), Kind::Conflict);
    refused(&mut world, create("a b"), Kind::Invalid);
    assert_eq!(world.call(create("other")).unwrap(), Outcome::Account(id(60)));
    assert_eq!(said(&world, "account other"), 1);
    let suspend = |n: u128, suspended| Command::SuspendAccount { actor: operator(), id: id(n), suspended };
    for suspended in [true, true, false, false] {
        world.call(suspend(60, suspended)).unwrap();
        assert_eq!(world.engine.state().account(id(60)).unwrap().suspended, suspended);
    }
    assert_eq!((audited(&world, "account.suspend"), audited(&world, "account.restore")), (1, 1));
    // To restore oneself is no harm.
    world.call(suspend(OPERATOR, false)).unwrap();
    refused(&mut world, suspend(999, true), Kind::NotFound);
}

#[test]
fn a_token_may_be_made_for_another_by_an_operator_who_need_not_have_its_roles() {
    let mut world = World::empty();
    let soon = START.after(Seconds(60));
    let make = |actor: Actor, member: u128, role| Command::CreateToken {
        actor,
        id: id(70),
        member: id(member),
        name: "t".into(),
        hash: Sha256Digest::of(b"t"),
        roles: vec![role],
        expires_at: soon,
    };
    let bare = Actor { roles: vec![Role::Operator], ..operator() };
    refused(&mut world, make(bare.clone(), OPERATOR, Role::Client), Kind::Forbidden);
    refused(&mut world, make(bare.clone(), CLIENT, Role::Lender), Kind::Forbidden);
    refused(&mut world, make(client(), LENDER, Role::Lender), Kind::NotFound);
    refused(&mut world, make(Actor { account: id(LENDER), ..client() }, CLIENT, Role::Client), Kind::NotFound);
    world.call(make(bare, CLIENT, Role::Client)).unwrap();
    assert!(world.engine.state().token(id::<TokenId>(70)).is_some());
}

#[test]
fn an_ssh_key_is_one_plain_line() {
    let (mut world, _) = World::lending();
    let with = |n: u128, key: &str| {
        Command::Rent(Box::new(Rent { ssh_public_key: key.into(), ..asking(client(), &[id(n)], 500) }))
    };
    let body = "A".repeat(40);
    let long = |n: usize| format!("ssh-ed25519 {body} {}", "c".repeat(n - 13 - body.len()));
    let bad = [
        String::new(),
        format!("ssh-ed25519 {}", "A".repeat(39)),
        format!("rsa {body}"),
        format!("ssh-ed25519 {body}\n"),
        format!("ssh-ed25519 {body} ü"),
        long(4097),
    ];
    for key in bad {
        refused(&mut world, with(70, &key), Kind::Invalid);
    }
    for (n, key) in [format!("ecdsa-sha2 {body}"), long(4096)].into_iter().enumerate() {
        world.call(with(71 + n as u128, &key)).unwrap();
    }
}

#[test]
fn a_request_is_for_so_many_and_outlives_its_client_by_a_day() {
    let (mut world, _) = World::lending();
    let with = |ids: &[u128], edit: &dyn Fn(&mut Rent)| {
        let ids: Vec<_> = ids.iter().map(|n| id(*n)).collect();
        let mut rent = asking(client(), &ids, 500);
        edit(&mut rent);
        Command::Rent(Box::new(rent))
    };
    for seconds in [-1, 86_401] {
        refused(&mut world, with(&[70], &|r| r.release_after_disconnect = Seconds(seconds)), Kind::Invalid);
    }
    refused(&mut world, with(&[], &|_| {}), Kind::Invalid);
    let many: Vec<u128> = (100..165).collect();
    refused(&mut world, with(&many, &|_| {}), Kind::Invalid);
    refused(&mut world, with(&many[..64], &|_| {}), Kind::NoMatch);
    refused(&mut world, with(&[70], &|r| r.requirements.count = Some(2)), Kind::Invalid);
    refused(&mut world, with(&[70, 70], &|_| {}), Kind::Conflict);
    world.call(with(&[70], &|r| r.release_after_disconnect = Seconds(86_400))).unwrap();
    refused(&mut world, with(&[70], &|_| {}), Kind::Conflict);
    let whole = id::<sublet_model::ids::LeaseId>(70).to_string().replace('_', "-");
    assert_eq!(world.lease(id(70)).name, format!("lease-{}", &whole[whole.len() - 8..]));
    // Another id with the same end: the short name is taken.
    let twin: u128 = 70 | 1 << 64;
    world.call(with(&[twin], &|r| r.release_after_disconnect = Seconds::ZERO)).unwrap();
    let whole = id::<sublet_model::ids::LeaseId>(twin).to_string().replace('_', "-");
    assert_eq!(world.lease(id(twin)).name, whole);
}

#[test]
fn several_of_one_name_are_numbered_and_one_is_not() {
    let (mut world, _) = World::lending();
    let named = |ids: &[u128]| {
        let ids: Vec<_> = ids.iter().map(|n| id(*n)).collect();
        Command::Rent(Box::new(Rent { name: Some("box".into()), ..asking(client(), &ids, 500) }))
    };
    world.call(named(&[71, 72])).unwrap();
    assert_eq!([71, 72].map(|n| world.lease(id(n)).name.clone()), ["box-1", "box-2"]);
    for n in [71, 72] {
        world.call(Command::Release { actor: client(), lease: id(n) }).unwrap();
    }
    assert_eq!(audited(&world, "lease.end"), 0, "its own doing is not the audit log's business");
}

#[test]
fn what_an_operator_ends_is_written_down_once() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    for _ in 0..2 {
        world.call(Command::Release { actor: operator(), lease: lease.id }).unwrap();
    }
    assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason: EndReason::Operator });
    assert_eq!(audited(&world, "lease.end"), 1);
}

#[test]
fn a_lease_is_lengthened_to_the_very_end_of_what_is_allowed() {
    let (mut world, mut agent) = World::lending();
    let longest = agent.says.division.conditions.as_ref().unwrap().longest_term_seconds;
    let lease = world.running(&mut agent);
    let extend = |by: Seconds| Command::Extend { actor: client(), lease: lease.id, by };
    let rest = longest - lease.term_seconds;
    refused(&mut world, extend(rest + Seconds(1)), Kind::Conflict);
    world.call(extend(Seconds(1))).unwrap();
    world.call(extend(rest - Seconds(1))).unwrap();
    let row = world.lease(lease.id);
    assert_eq!((row.term_seconds, row.paid_seconds), (longest, lease.paid_seconds + rest));
    world.call(Command::SuspendAccount { actor: operator(), id: id(CLIENT), suspended: true }).unwrap();
    refused(&mut world, extend(Seconds(1)), Kind::Forbidden);
}

#[test]
fn a_depots_address_has_a_length_and_a_move_is_written_down() {
    let (mut world, mut agent) = World::lending();
    let host = |world: &World| world.engine.state().host(id(HOST)).unwrap().plan_version;
    let register = |name: &str, depot: &str| Command::RegisterImage {
        actor: operator(),
        manifest: Signed::sign(&manifest(name, name), &SecretKey::from_seed(&[8; 32])).unwrap(),
        depot: depot.into(),
    };
    let idle = host(&world);
    world.call(register("other", &format!("http://{}", "a".repeat(193)))).unwrap();
    refused(&mut world, register("other", &format!("http://{}", "a".repeat(194))), Kind::Invalid);
    world.call(register("tiny", "http://moved")).unwrap();
    world.call(register("tiny", "http://moved")).unwrap();
    assert_eq!((audited(&world, "image.register"), audited(&world, "image.move")), (2, 1));
    assert_eq!(host(&world), idle, "nothing boots it");
    let lease = world.running(&mut agent);
    let held = host(&world);
    world.call(register("other", "http://else")).unwrap();
    assert_eq!(host(&world), held, "nothing boots that one");
    world.call(register("tiny", "http://else")).unwrap();
    assert_eq!(host(&world), held + 1);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    let stopping = host(&world);
    world.call(register("tiny", "http://again")).unwrap();
    assert_eq!(host(&world), stopping, "what stops boots no more");
    let suspend = |suspended| Command::SuspendImage { actor: operator(), reference: "tiny@1".into(), suspended };
    for suspended in [true, true, false, false] {
        world.call(suspend(suspended)).unwrap();
    }
    assert_eq!((audited(&world, "image.suspend"), audited(&world, "image.restore")), (1, 1));
}

#[test]
fn a_host_is_suspended_and_forgotten_once() {
    let (mut world, mut agent) = World::lending();
    let suspend = |suspended| Command::SuspendHost { actor: lender(), host: id(HOST), suspended };
    for suspended in [true, true, false, false] {
        world.call(suspend(suspended)).unwrap();
    }
    assert_eq!((audited(&world, "host.suspend"), audited(&world, "host.restore")), (1, 1));
    world.running(&mut agent);
    world.call(Command::ForgetHost { actor: operator(), host: id(HOST) }).unwrap();
    assert_eq!(said(&world, "host host-100; 1 leases ended"), 1);
    refused(&mut world, Command::ForgetHost { actor: operator(), host: id(HOST) }, Kind::NotFound);
    refused(&mut world, Command::OpenSession { host: id(HOST), last_session: 1 }, Kind::SessionRefused);
}

#[test]
fn a_join_token_admits_as_many_as_it_says_until_it_expires() {
    let mut world = World::empty();
    let hash = Sha256Digest::of(&5u128.to_be_bytes());
    world.call(join_token(5, 2, START.after(Seconds(60)))).unwrap();
    let join = |n: u128, name: &str, key: u8| Command::JoinHost {
        token: hash,
        id: id(n),
        name: name.into(),
        key: SecretKey::from_seed(&[key; 32]).public(),
        ssh_host_key: SSH_KEY.into(),
        inventory: inventory(4),
    };
    world.call(join(1, "a", 1)).unwrap();
    refused(&mut world, join(2, "a", 2), Kind::Conflict);
    refused(&mut world, join(2, "b", 1), Kind::Conflict);
    world.pass(59);
    let Command::JoinHost { token, id: host, name, key, inventory, .. } = join(2, "b", 2) else { unreachable!() };
    refused(
        &mut world,
        Command::JoinHost {
            token,
            id: host,
            name: name.clone(),
            key,
            ssh_host_key: "x".into(),
            inventory: inventory.clone(),
        },
        Kind::Invalid,
    );
    world.call(Command::SuspendAccount { actor: operator(), id: id(LENDER), suspended: true }).unwrap();
    refused(&mut world, join(2, "b", 2), Kind::Forbidden);
    refused(&mut world, join_token(6, 1, START.after(Seconds(120))), Kind::Forbidden);
    world.call(Command::SuspendAccount { actor: operator(), id: id(LENDER), suspended: false }).unwrap();
    world.call(join(2, "b", 2)).unwrap();
    world.pass(1);
    refused(&mut world, join(3, "c", 3), Kind::Unauthenticated);
    // Its key with another token is not the same request.
    world.call(join_token(7, 1, world.now.after(Seconds(60)))).unwrap();
    let other = Sha256Digest::of(&7u128.to_be_bytes());
    let Command::JoinHost { id: host, name, key, ssh_host_key, inventory, .. } = join(1, "a", 1) else {
        unreachable!()
    };
    refused(
        &mut world,
        Command::JoinHost { token: other, id: host, name, key, ssh_host_key, inventory },
        Kind::Conflict,
    );
}

#[test]
fn refused_sessions_are_written_down_once_an_hour_for_each_host() {
    let (mut world, _) = World::lending();
    world.add_host(101);
    let open = |n: u128, last| Command::OpenSession { host: id(n), last_session: last };
    for _ in 0..3 {
        refused(&mut world, open(HOST, 7), Kind::SessionRefused);
    }
    refused(&mut world, open(101, 7), Kind::SessionRefused);
    refused(&mut world, open(999, 0), Kind::SessionRefused);
    assert_eq!(audited(&world, "session.refuse"), 2);
    world.pass(3599);
    refused(&mut world, open(HOST, 7), Kind::SessionRefused);
    assert_eq!(audited(&world, "session.refuse"), 2);
    world.pass(1);
    refused(&mut world, open(HOST, 7), Kind::SessionRefused);
    assert_eq!(audited(&world, "session.refuse"), 3);
    // The newest one, and those before it that no sync used, may be named.
    assert_eq!(world.call(open(HOST, 1)).unwrap(), Outcome::Session(2));
    assert_eq!(world.call(open(HOST, 1)).unwrap(), Outcome::Session(3));
    assert_eq!(world.call(open(HOST, 3)).unwrap(), Outcome::Session(4));
    refused(&mut world, open(HOST, 0), Kind::SessionRefused);
}

#[test]
fn an_idle_partition_is_altered_within_its_profile_and_the_room_there_is() {
    let (mut world, agent) = World::lending();
    let alter = |cpu, memory, disk| Command::Alter {
        actor: lender(),
        partition: agent.partition(0),
        resources: resources(cpu, memory, disk),
    };
    refused(&mut world, alter(499, 512, 0), Kind::Invalid);
    refused(&mut world, alter(3001, 512, 0), Kind::Invalid);
    refused(&mut world, alter(1000, 4097, 0), Kind::Invalid);
    let before = world.has(agent.partition(0));
    world.call(alter(1000, 512, 0)).unwrap();
    assert_eq!((world.has(agent.partition(0)), audited(&world, "partition.alter")), (before, 0), "it has that");
    world.call(alter(2500, 512, 0)).unwrap();
    let has = world.has(agent.partition(0));
    assert_eq!((has.resources, has.vcpus, has.revision), (resources(2500, 512, 0), 3, before.revision + 1));
    assert_eq!(world.has(agent.partition(1)).resources, resources(500, 512, 0), "the neighbour gave");
    assert_eq!(audited(&world, "partition.alter"), 1);
    refused(&mut world, alter(2501, 512, 0), Kind::Conflict);
}

#[test]
fn a_clock_is_right_within_half_a_minute_and_a_host_fresh_for_a_quarter() {
    let (mut world, agent) = World::lending();
    let sync = |world: &mut World, off: i64| {
        let mut says = agent.says.clone();
        says.wall_clock = world.now.after(Seconds(off));
        world.raw_sync(agent.host, agent.session, says).unwrap().warnings
    };
    for (off, right) in [(30, true), (-30, true), (31, false), (-31, false)] {
        let warnings = sync(&mut world, off);
        assert_eq!(warnings.is_empty(), right, "{off}: {warnings:?}");
        let side = if off > 0 { "ahead" } else { "behind" };
        assert!(warnings.iter().all(|w| w.contains(side)), "{off}: {warnings:?}");
        assert_eq!(world.rent(500).is_ok(), right, "{off}");
        let leases: Vec<_> = world.engine.state().holding().cloned().collect();
        leases.iter().for_each(|l| drop(world.call(Command::Release { actor: client(), lease: l.id }).unwrap()));
        let mut says = agent.says.clone();
        says.wall_clock = world.now;
        let mut gone = Agent { says, ..Agent::new(HOST) };
        leases.iter().for_each(|lease| gone.sees(lease, Phase::Gone { reason: None }));
        world.raw_sync(agent.host, agent.session, gone.says).unwrap();
    }
    sync(&mut world, 0);
    let status =
        |world: &World| world.engine.state().host_status(world.engine.state().host(id(HOST)).unwrap(), world.now);
    let mut seen = Vec::new();
    for seconds in [0, 14, 1, 44, 1] {
        world.pass(seconds);
        seen.push(status(&world));
    }
    assert_eq!(seen, ["online", "online", "suspect", "suspect", "silent"]);
    refused(&mut world, rent(client(), id(90), 500), Kind::NoMatch);
    assert_eq!(world.engine.state().heard_at(id(HOST)), START);
    assert_eq!(world.engine.state().heard_at(id(999)), world.engine.state().started_at());
    assert!(START > Timestamp::default() && world.engine.state().started_at() == START);
}

#[test]
fn offers_are_told_in_their_newest_version_only() {
    let (mut world, mut agent) = World::lending();
    world.add_host(101);
    for price in [1, 2] {
        agent.says.division.revision += 1;
        agent.says.division.conditions.as_mut().unwrap().prices.flat = MicrosPerHour(price);
        world.sync(&mut agent);
    }
    let mut told: Vec<_> = world.engine.state().offers().map(|row| (row.offer.id, row.offer.version)).collect();
    told.sort();
    assert_eq!(told, [(id(HOST), 3), (id(101), 1)]);
}

#[test]
fn a_reloaded_state_keeps_what_was_heard_and_every_view_is_news() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    world.pass(5);
    let state = world.engine.state();
    let versions = |state: &crate::engine::State| [lease.id, id(999)].map(|lease| state.lease_version(lease));
    let again = state.reloaded(state.tables().clone());
    assert!(again.is_consistent() && again.tables() == state.tables());
    assert_eq!((again.started_at(), again.live(agent.host)), (state.started_at(), state.live(agent.host)));
    assert_eq!((again.heard_at(agent.host), again.listened_to()), (state.heard_at(agent.host), 1));
    let news = versions(&again).iter().zip(versions(state)).all(|(new, old)| *new > old);
    assert!(news, "{:?} after {:?}", versions(&again), versions(state));
    let mut touched = again.clone();
    let moved = crate::engine::change::Change::LeaseMoved {
        lease: lease.id,
        state: lease.state,
        timeline: lease.timeline.clone(),
        detail: Some("said".into()),
    };
    let _ = touched.apply(&moved);
    assert!(touched.lease_version(lease.id) > again.lease_version(lease.id));
    let phase = |state: &crate::engine::State| state.phase(state.partition(lease.partition).unwrap());
    assert_eq!((phase(state), phase(&again)), (Some(Phase::Ready), Some(Phase::Ready)));
}
