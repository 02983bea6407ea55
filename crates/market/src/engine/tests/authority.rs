//! Who may do what: every command that has an actor, for each kind of actor.

use super::world::*;
use crate::engine::command::{Actor, Command};
use sublet_model::account::Role;
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::partition::alter::resources;
use sublet_model::units::Seconds;
use sublet_wire::problem::Kind;

/// A lender's member whose account is the client's: the wrong role for the right account.
const ALSO_CLIENT: u128 = 30;

type Make = Box<dyn Fn(&World, Actor) -> Command>;

fn commands() -> Vec<(&'static str, Make)> {
    let lease = |w: &World| w.engine.state().leases().next().unwrap().id;
    let idle = |w: &World| w.engine.state().partitions().find(|p| w.engine.state().holder(p.id).is_none()).unwrap().id;
    let later = START.after(Seconds(1000));
    let make = |f: Make| f;
    vec![
        ("create account", make(Box::new(|_, actor| Command::CreateAccount { actor, id: id(60), name: "new".into() }))),
        (
            "suspend account",
            make(Box::new(|_, actor| Command::SuspendAccount { actor, id: id(STRANGER), suspended: true })),
        ),
        (
            "create member",
            make(Box::new(|_, actor| Command::CreateMember {
                actor,
                id: id(61),
                account: id(CLIENT),
                name: "new".into(),
                roles: vec![Role::Operator],
            })),
        ),
        (
            "token of the client",
            make(Box::new(move |_, actor| Command::CreateToken {
                actor,
                id: id(62),
                member: id(CLIENT),
                name: "t".into(),
                hash: Sha256Digest::of(b"t"),
                roles: vec![Role::Client],
                expires_at: later,
            })),
        ),
        (
            "join token",
            make(Box::new(move |_, actor| Command::CreateJoinToken {
                actor,
                id: id(63),
                hash: Sha256Digest::of(b"j"),
                uses: 1,
                expires_at: later,
            })),
        ),
        (
            "register image",
            make(Box::new(|_, actor| Command::RegisterImage {
                actor,
                manifest: Signed::sign(&manifest("new", "new"), &SecretKey::from_seed(&[8; 32])).unwrap(),
                depot: "http://127.0.0.1:1".into(),
            })),
        ),
        (
            "suspend image",
            make(Box::new(|_, actor| Command::SuspendImage { actor, reference: "tiny@1".into(), suspended: true })),
        ),
        ("rent", make(Box::new(|_, actor| rent(actor, id(64), 500)))),
        ("release", make(Box::new(move |w, actor| Command::Release { actor, lease: lease(w) }))),
        ("extend", make(Box::new(move |w, actor| Command::Extend { actor, lease: lease(w), by: Seconds(1) }))),
        (
            "alter",
            make(Box::new(move |w, actor| Command::Alter {
                actor,
                partition: idle(w),
                resources: resources(700, 512, 0),
            })),
        ),
        ("suspend host", make(Box::new(|_, actor| Command::SuspendHost { actor, host: id(HOST), suspended: true }))),
        ("reset session", make(Box::new(|_, actor| Command::ResetSession { actor, host: id(HOST) }))),
        ("forget host", make(Box::new(|_, actor| Command::ForgetHost { actor, host: id(HOST) }))),
    ]
}

/// `.` allowed, `F` forbidden, `-` not found: for the operator, the lender, the client, a
/// stranger, a member of the client's account who may only lend, and a token that carries nothing.
const TABLE: [(&str, &str); 14] = [
    ("create account", ".FFFFF"),
    ("suspend account", ".FFFFF"),
    ("create member", ".FFFFF"),
    ("token of the client", ".-.--F"),
    ("join token", "..F..F"),
    ("register image", ".FFFFF"),
    ("suspend image", ".FFFFF"),
    ("rent", ".F..FF"),
    ("release", ".-.-FF"),
    ("extend", "--.-FF"),
    ("alter", "..----"),
    ("suspend host", "..----"),
    ("reset session", "..----"),
    ("forget host", ".FFFFF"),
];

#[test]
fn every_command_for_every_kind_of_actor() {
    for (at, (name, make)) in commands().into_iter().enumerate() {
        assert_eq!(name, TABLE[at].0);
        let said: String = (0..6).map(|who| ask(who, &make)).collect();
        assert_eq!(said, TABLE[at].1, "{name}");
    }
}

fn ask(who: usize, make: &Make) -> char {
    let (mut world, mut agent) = World::lending();
    world.running(&mut agent);
    let roles = vec![Role::Lender];
    let member = Command::CreateMember {
        actor: operator(),
        id: id(ALSO_CLIENT),
        account: id(CLIENT),
        name: "also".into(),
        roles: roles.clone(),
    };
    world.call(member).unwrap();
    let also = Actor { member: id(ALSO_CLIENT), account: id(CLIENT), roles };
    let bare = Actor { roles: Vec::new(), ..client() };
    let actor = [operator(), lender(), client(), stranger(), also, bare][who].clone();
    let before = world.engine.state().tables().clone();
    let command = make(&world, actor);
    match world.call(command) {
        Ok(_) => '.',
        Err(refusal) => {
            assert_eq!(*world.engine.state().tables(), before, "a refusal changes nothing");
            match refusal.kind {
                Kind::Forbidden => 'F',
                Kind::NotFound => '-',
                other => panic!("{other:?}: {refusal}"),
            }
        }
    }
}

#[test]
fn a_token_that_says_more_than_its_member_may_counts_for_nothing() {
    let mut world = World::empty();
    let forged = Actor { roles: Role::ALL.to_vec(), ..client() };
    let create = |actor| Command::CreateAccount { actor, id: id(60), name: "new".into() };
    assert_eq!(world.call(create(forged)).unwrap_err().kind, Kind::Forbidden);
    let of_another_account = Actor { account: id(CLIENT), ..operator() };
    assert_eq!(world.call(create(of_another_account)).unwrap_err().kind, Kind::Forbidden);
}

#[test]
fn a_token_carries_no_more_than_its_maker() {
    let mut world = World::empty();
    let token = |roles: &[Role], expires_at| Command::CreateToken {
        actor: client(),
        id: id(62),
        member: id(CLIENT),
        name: "t".into(),
        hash: Sha256Digest::of(b"t"),
        roles: roles.to_vec(),
        expires_at,
    };
    let soon = START.after(Seconds(60));
    assert_eq!(world.call(token(&[Role::Client, Role::Operator], soon)).unwrap_err().kind, Kind::Forbidden);
    assert_eq!(world.call(token(&[], soon)).unwrap_err().kind, Kind::Invalid);
    assert_eq!(world.call(token(&[Role::Client], START)).unwrap_err().kind, Kind::Invalid);
    assert_eq!(world.call(token(&[Role::Client], START.after(Seconds::MAX))).unwrap_err().kind, Kind::Invalid);
    world.call(token(&[Role::Client], soon)).unwrap();
    let good = |world: &World| world.engine.state().token_by_hash(&Sha256Digest::of(b"t")).unwrap().is_good(world.now);
    assert!(good(&world));
    assert_eq!(world.call(Command::RevokeToken { actor: stranger(), id: id(62) }).unwrap_err().kind, Kind::NotFound);
    world.call(Command::RevokeToken { actor: client(), id: id(62) }).unwrap();
    assert!(!good(&world));
}

#[test]
fn a_suspended_account_rents_and_lists_nothing_new() {
    let (mut world, _) = World::lending();
    let suspend = |n: u128, suspended| Command::SuspendAccount { actor: operator(), id: id(n), suspended };
    world.call(suspend(CLIENT, true)).unwrap();
    assert_eq!(world.rent(1000).unwrap_err().kind, Kind::Forbidden);
    world.call(suspend(CLIENT, false)).unwrap();
    world.call(suspend(LENDER, true)).unwrap();
    assert_eq!(world.rent(1000).unwrap_err().kind, Kind::NoMatch);
    world.call(suspend(LENDER, false)).unwrap();
    world.call(Command::SuspendHost { actor: operator(), host: id(HOST), suspended: true }).unwrap();
    assert_eq!(world.rent(1000).unwrap_err().kind, Kind::NoMatch);
    world.call(Command::SuspendHost { actor: operator(), host: id(HOST), suspended: false }).unwrap();
    world.call(Command::SuspendImage { actor: operator(), reference: "tiny@1".into(), suspended: true }).unwrap();
    assert_eq!(world.rent(1000).unwrap_err().kind, Kind::NoMatch);
    assert_eq!(world.call(suspend(OPERATOR, true)).unwrap_err().kind, Kind::Conflict);
}

#[test]
fn a_join_token_is_used_up() {
    let mut world = World::empty();
    let hash = Sha256Digest::of(b"join");
    let expires_at = START.after(Seconds(60));
    world.call(Command::CreateJoinToken { actor: lender(), id: id(9), hash, uses: 1, expires_at }).unwrap();
    let join = |n: u128, name: &str, token| Command::JoinHost {
        token,
        id: id(n),
        name: name.into(),
        key: SecretKey::from_seed(&[n as u8; 32]).public(),
        ssh_host_key: SSH_KEY.into(),
        inventory: inventory(4),
    };
    assert_eq!(world.call(join(1, "a", Sha256Digest::of(b"?"))).unwrap_err().kind, Kind::Unauthenticated);
    assert_eq!(world.call(join(1, "A b", hash)).unwrap_err().kind, Kind::Invalid);
    world.pass(60);
    assert_eq!(world.call(join(1, "a", hash)).unwrap_err().kind, Kind::Unauthenticated, "expired");
    world.pass(-60);
    let joined = world.call(join(1, "a", hash)).unwrap();
    assert_eq!(world.call(join(2, "b", hash)).unwrap_err().kind, Kind::Unauthenticated, "used up");
    // The answer was lost: the same computer says it again, under the id that HTTP made anew.
    let again = Command::JoinHost {
        token: hash,
        id: id(77),
        name: "a".into(),
        key: SecretKey::from_seed(&[1; 32]).public(),
        ssh_host_key: SSH_KEY.into(),
        inventory: inventory(4),
    };
    assert_eq!(world.call(again).unwrap(), joined);
    assert_eq!(world.engine.state().hosts().count(), 1);
}
