//! Everything that can be seen of an own partition, and what is due then.

use super::*;
use crate::fixtures::{manifest, partition, size};
use crate::store::Start;
use sublet_model::identity::{SecretKey, Signed};
use uuid::Uuid;

fn own(wish: Wish, stand: Stand) -> Own {
    let start = Start { uuid: Uuid::from_u128(9), boot_id: "boot".into() };
    Own {
        partition: partition(7),
        name: "mine".into(),
        resources: size(500, 256),
        image: Signed::sign(&manifest(b"kernel"), &SecretKey::from_seed(&[8; 32])).unwrap(),
        depot: "http://127.0.0.1:1".into(),
        wish,
        starts: 3,
        start: (stand != Stand::Down).then_some(start),
        stand,
        waits: None,
        said: None,
    }
}

fn look(observed: &Observed) -> Look<'_> {
    Look { boot_id: "boot", observed, answered: false, late: false, pauses: false, halts: false }
}

fn running() -> Observed {
    Observed::Running {
        pid: 1,
        uuid: Uuid::from_u128(9),
        generation: 3,
        vcpus: 1,
        memory: sublet_model::units::MiB(256),
    }
}

fn exited(cause: ExitCause) -> Observed {
    Observed::Exited(ExitRecord {
        generation: 3,
        uuid: Uuid::from_u128(9),
        cause,
        at_monotonic_us: 1,
        at_boottime_us: 1,
        boot_id: "boot".into(),
        said: String::new(),
    })
}

/// What is due, in a word.
fn word(due: &Due) -> &'static str {
    match due {
        Due::Nothing => "nothing",
        Due::Leave => "leave",
        Due::Begin => "begin",
        Due::Launch => "launch",
        Due::NoteReady => "note ready",
        Due::End(ending) => match ending.then {
            Then::AsWanted => "end as wanted",
            Then::Again => "again",
            Then::AgainLater => "again later",
            Then::StaysDown => "stays down",
        },
    }
}

#[test]
fn what_is_wanted_decides_while_it_is_down() {
    let nothing = Observed::NotRunning;
    let table = [(Wish::Run, "begin"), (Wish::Stop, "nothing"), (Wish::Remove, "leave")];
    for (wish, expected) in table {
        assert_eq!(word(&due(&own(wish, Stand::Down), look(&nothing))), expected, "{wish:?}");
    }
    let run = own(Wish::Run, Stand::Down);
    assert_eq!(due(&run, Look { pauses: true, ..look(&nothing) }), Due::Nothing, "after a crash");
    assert_eq!(due(&run, Look { halts: true, ..look(&nothing) }), Due::Nothing, "the agent ends with all of them");
    let gone = Look { halts: true, pauses: true, ..look(&nothing) };
    assert_eq!(due(&own(Wish::Remove, Stand::Down), gone), Due::Leave);
}

#[test]
fn what_is_seen_of_its_machine_decides_while_it_is_wanted() {
    let killed = exited(ExitCause::Signalled { signal: 9 });
    let ended = exited(ExitCause::Exited { code: 1 });
    let (stopped, vanished) = (exited(ExitCause::Stopped), exited(ExitCause::Vanished));
    let table = [
        // observed, while it boots, while it is ready
        (running(), "nothing", "nothing"),
        (Observed::NotRunning, "launch", "again later"),
        (Observed::Panicked, "again later", "again later"),
        (Observed::ShutDown, "again later", "stays down"),
        (killed, "again later", "again later"),
        (ended, "again later", "again later"),
        (stopped, "again later", "again later"),
        (vanished, "again later", "again later"),
    ];
    for (observed, boots, ready) in table {
        let seen = |stand| due(&own(Wish::Run, stand), look(&observed));
        assert_eq!((word(&seen(Stand::Boots)), word(&seen(Stand::Ready))), (boots, ready), "{observed:?}");
        // Nobody's answer and no clock changes what its machine says.
        for stand in [Stand::Boots, Stand::Ready] {
            let restarted = Look { boot_id: "another", ..look(&observed) };
            assert_eq!(word(&due(&own(Wish::Run, stand), restarted)), "again", "{observed:?} {stand:?}");
            for wish in [Wish::Stop, Wish::Remove] {
                assert_eq!(word(&due(&own(wish, stand), look(&observed))), "end as wanted", "{observed:?} {stand:?}");
            }
            let halts = Look { halts: true, ..look(&observed) };
            assert_eq!(word(&due(&own(Wish::Run, stand), halts)), "end as wanted");
        }
    }
}

#[test]
fn a_guest_is_ready_when_it_answers_and_given_up_when_it_never_did() {
    let observed = running();
    let seen = |stand, answered, late| {
        word(&due(&own(Wish::Run, stand), Look { answered, late, ..look(&observed) })).to_owned()
    };
    assert_eq!(seen(Stand::Boots, true, false), "note ready");
    assert_eq!(seen(Stand::Boots, true, true), "note ready", "at the last moment");
    assert_eq!(seen(Stand::Boots, false, true), "again later");
    assert_eq!(seen(Stand::Ready, false, true), "nothing", "a busy guest is not ended for its silence");
}

#[test]
fn the_pause_grows_with_each_crash_up_to_a_minute() {
    let seconds: Vec<u64> = [1, 2, 3, 6, 7, 8, 1000, u32::MAX].map(|n| pause(n).as_secs()).into();
    assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60, 60]);
}
