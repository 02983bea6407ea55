use super::*;
use crate::fixtures::run;

const S: i64 = 1_000_000;

fn look(watched: bool) -> Look<'static> {
    Look { boot_id: "boot", mono_us: 100 * S, boot_us: 100 * S, watched }
}

fn exit(cause: ExitCause) -> Observed {
    Observed::Exited(ExitRecord {
        generation: 1,
        uuid: run(Stage::Ready).uuid,
        cause,
        at_monotonic_us: 60 * S,
        at_boottime_us: 60 * S,
        boot_id: "boot".into(),
        said: " bad\n".into(),
    })
}

fn running() -> Observed {
    Observed::Running {
        pid: 1,
        uuid: run(Stage::Ready).uuid,
        generation: 1,
        vcpus: 1,
        memory: sublet_model::units::MiB(64),
    }
}

/// Stage, what is seen, whether it was watched; then reason and seconds, none if it goes on. 40 s were kept 50 s
/// ago: whoever watched stood still since, and counts on for no longer than meters are kept apart.
#[test]
fn every_end_has_its_reason_and_its_last_second() {
    use EndReason::*;
    use Stage::{Booting, Ready};
    let nine = ExitCause::Signalled { signal: 9 };
    let table = [
        (Ready, running(), true, None),
        (Booting, running(), false, None),
        (Booting, Observed::NotRunning, false, None),
        (Ready, Observed::NotRunning, true, Some((GuestCrashed, 45))),
        (Ready, Observed::NotRunning, false, Some((GuestCrashed, 40))),
        (Ready, Observed::Panicked, true, Some((GuestCrashed, 45))),
        (Ready, Observed::Panicked, false, Some((GuestCrashed, 40))),
        (Booting, Observed::Panicked, true, Some((BootFailed, 0))),
        (Ready, Observed::ShutDown, true, Some((GuestShutdown, 45))),
        (Booting, Observed::ShutDown, true, Some((BootFailed, 0))),
        (Ready, exit(nine.clone()), true, Some((GuestCrashed, 50))),
        (Ready, exit(nine.clone()), false, Some((GuestCrashed, 50))),
        (Booting, exit(nine), true, Some((BootFailed, 0))),
        (Ready, exit(ExitCause::Exited { code: 1 }), true, Some((GuestCrashed, 50))),
        (Ready, exit(ExitCause::Deadline), false, Some((OutOfFunds, 50))),
        (Booting, exit(ExitCause::Deadline), true, Some((BootFailed, 0))),
        (Ready, exit(ExitCause::Stopped), true, Some((HostRestarted, 50))),
        // The guard was killed: seen at once by an agent that watched, else nobody knows when.
        (Ready, exit(ExitCause::Vanished), true, Some((GuestCrashed, 45))),
        (Ready, exit(ExitCause::Vanished), false, Some((GuestCrashed, 40))),
    ];
    for (stage, observed, watched, expected) in table {
        let metered = Seconds(if stage == Ready { 40 } else { 0 });
        let run = Run { metered, ..run(stage) };
        let ending = ending_of(&run, &observed, look(watched));
        let short = ending.map(|e| (e.reason.unwrap(), e.metered.0));
        assert_eq!(short, expected, "{stage:?} {observed:?} watched: {watched}");
    }
}

#[test]
fn an_agent_that_watched_and_was_awake_counts_until_now() {
    let run = Run { metered: Seconds(87), ..run(Stage::Ready) };
    let ending = ending_of(&run, &Observed::Panicked, look(true)).unwrap();
    assert_eq!((ending.reason, ending.metered), (Some(EndReason::GuestCrashed), Seconds(90)));
}

#[test]
fn another_boot_of_the_computer_ends_every_life_with_what_was_kept() {
    for stage in [Stage::Booting, Stage::Ready] {
        for observed in [running(), Observed::NotRunning, exit(ExitCause::Vanished)] {
            let run = Run { metered: Seconds(7), ..run(stage) };
            let ending = ending_of(&run, &observed, Look { boot_id: "next", ..look(true) }).unwrap();
            assert_eq!((ending.reason, ending.metered), (Some(EndReason::HostRestarted), Seconds(7)));
        }
    }
}

#[test]
fn a_life_ends_with_its_term_its_money_or_its_client() {
    let one_shot = |vanished: Option<i64>| {
        let mut run = run(Stage::Ready);
        run.wanted.one_shot = true;
        Run { vanished_boot_us: vanished.map(|s| s * S), ..run }
    };
    assert_eq!(due(&run(Stage::Ready)), Some((910 * S, EndReason::OutOfFunds)));
    assert_eq!(due(&Run { term: Seconds(60), ..run(Stage::Ready) }), Some((70 * S, EndReason::Expired)));
    assert_eq!(due(&run(Stage::Booting)), None);
    assert_eq!(due(&one_shot(None)), Some((910 * S, EndReason::OutOfFunds)));
    assert_eq!(due(&one_shot(Some(50))), Some((170 * S, EndReason::Released)));
    assert_eq!(due(&one_shot(Some(850))), Some((910 * S, EndReason::OutOfFunds)));
    // A lease for several jobs outlives its client.
    assert_eq!(
        due(&Run { vanished_boot_us: Some(50 * S), ..run(Stage::Ready) }),
        Some((910 * S, EndReason::OutOfFunds))
    );

    let at = |s: i64| Look { boot_us: s * S, mono_us: s * S, ..look(true) };
    assert_eq!(ending_by_clock(&one_shot(Some(50)), at(169)), None);
    let ending = ending_by_clock(&one_shot(Some(50)), at(170)).unwrap();
    assert_eq!((ending.reason, ending.metered), (Some(EndReason::Released), Seconds(160)));
}
