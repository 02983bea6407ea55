//! Accounts, members and tokens: every limit from both sides, and what is written down once.

use super::limits::{audited, refused, said};
use super::world::*;
use crate::engine::command::{Actor, Command, Outcome};
use crate::engine::rows::Token;
use crate::engine::step::Request;
use sublet_model::account::Role;
use sublet_model::identity::{SecretKey, Sha256Digest};
use sublet_model::ids::TokenId;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::problem::Kind;

const YEAR: Seconds = Seconds(366 * 86_400);

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
