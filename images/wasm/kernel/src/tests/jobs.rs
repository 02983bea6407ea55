//! Jobs as the host steers them: streams that are held up, signals, detached ones.

use super::host::{Host, exec};
use super::modules::{cat, module};
use crate::After;
use sublet_guest::frames::WINDOW_BYTES;
use sublet_guest::messages::{Attach, Command, Exec, Pty, Refusal, Status, kind};

const FOR_EVER: &str = "(loop $again (br $again))";
/// Says a KiB without end.
const FLOOD: &str = "(loop $again (drop (call $say (i32.const 1) (i32.const 1024) (i32.const 1024))) (br $again))";

fn with(modules: &[(&str, String)]) -> Host {
    let mut host = Host::identified();
    modules.iter().for_each(|(name, text)| host.put_wat(name, text));
    host
}

#[test]
fn a_job_that_never_ends_is_ended_and_holds_nobody_up() {
    let mut host = with(&[("spin", module("", FOR_EVER)), ("cat", cat())]);
    let spin = host.start("spin");
    for _ in 0..20 {
        assert_eq!(host.turn(), After::Go);
    }
    assert_eq!(host.run("cat", b"beside it").stdout(), "beside it");
    assert_eq!(host.ask(kind::PING, b"x").0, kind::PONG);
    host.say(spin, kind::SIGNAL, 0, &[28]);
    host.turn();
    assert_eq!(host.heard[&spin].status, None, "a window that changes ends nobody");
    host.say(spin, kind::SIGNAL, 0, &[15]);
    assert_eq!(host.finish(spin).status, Some(Status::Signal(15)));
    assert_eq!(host.turn(), After::Wait(None), "nothing is left that runs");
}

#[test]
fn a_job_waits_while_nobody_takes_what_it_says() {
    let mut host = with(&[("flood", module("", FLOOD))]);
    host.grants = false;
    let flood = host.start("flood");
    for _ in 0..2000 {
        host.turn();
    }
    assert_eq!(host.heard[&flood].data[0].len(), WINDOW_BYTES as usize);
    assert_eq!(host.turn(), After::Wait(None), "it waits, and does not turn");
    host.say(flood, kind::CREDIT, 0, &1000u32.to_le_bytes());
    host.turn();
    assert_eq!(host.heard[&flood].data[0].len(), WINDOW_BYTES as usize + 1000);
    // Nobody listens any more: who writes on ends.
    host.say(flood, kind::CLOSE, 0, &[0]);
    for _ in 0..10 {
        host.turn();
    }
    let jobs = host.connect().jobs;
    assert!(jobs.iter().any(|job| job.ended == Some(Status::Signal(13))), "{jobs:?}");
}

#[test]
fn more_input_than_was_granted_is_refused() {
    let mut host = with(&[("spin", module("", FOR_EVER))]);
    let spin = host.start("spin");
    host.turn();
    for _ in 0..4 {
        host.say(spin, kind::DATA, 0, &[0; 64 * 1024]);
    }
    host.turn();
    assert!(host.heard[&spin].refused.is_none());
    host.say(spin, kind::DATA, 0, &[0; 1]);
    host.turn();
    assert!(host.heard[&spin].words().contains("granted"));
}

#[test]
fn what_is_no_module_is_refused_in_words() {
    let mut host = with(&[]);
    for (line, words) in [
        ("ls -l", "this partition runs WebAssembly: there is no module ls"),
        ("cat a | b", "needs a shell"),
        ("", "no command"),
        ("/", "no module"),
    ] {
        let heard = host.run(line, b"");
        assert!(heard.words().contains(words) && !heard.started, "{line}: {}", heard.words());
        assert_eq!(heard.refused.unwrap().why, Refusal::NotFound);
    }
    let login = host.start_as(kind::EXEC, exec(Command::Login));
    assert!(host.finish(login).words().contains("no shell"));
    let pty = Some(Pty { term: "vt100".into(), rows: 24, cols: 80 });
    let terminal = host.start_as(kind::EXEC, Exec { pty, ..exec(Command::Line("x".into())) });
    assert!(host.finish(terminal).words().contains("no terminals"));
    let ann = Exec { user: "ann".into(), ..exec(Command::Line("x".into())) };
    let ann = host.start_as(kind::EXEC, ann);
    assert!(host.finish(ann).words().contains("no user ann"));
}

#[test]
fn only_so_many_run_at_a_time() {
    let mut host = with(&[("spin", module("", FOR_EVER))]);
    let all: Vec<u32> = (0..33).map(|_| host.start("spin")).collect();
    host.turn();
    let refused: Vec<u32> = all.iter().copied().filter(|stream| host.heard[stream].refused.is_some()).collect();
    assert_eq!(refused, all[32..], "{:?}", host.heard[&all[32]].words());
    host.say(all[0], kind::SIGNAL, 0, &[9]);
    host.finish(all[0]);
    let next = host.start("spin");
    host.turn();
    assert!(host.heard[&next].started);
    // Each that runs may yet fill its windows.
    host.machine.free_bytes.set(crate::KEPT_BYTES + (20 << 20));
    host.say(next, kind::SIGNAL, 0, &[9]);
    host.finish(next);
    let scarce = host.start("spin");
    assert!(host.finish(scarce).words().contains("no memory"));
}

#[test]
fn a_detached_job_is_found_again_with_all_that_it_said() {
    let twice = module(
        r#"(data (i32.const 100) "one\n") (data (i32.const 200) "two\n")"#,
        "(drop (call $say (i32.const 1) (i32.const 100) (i32.const 4)))
         (drop (call $say (i32.const 2) (i32.const 200) (i32.const 4)))",
    );
    let mut host = with(&[("twice", twice), ("spin", module("", FOR_EVER))]);
    host.grants = false;
    let first = host.start_as(kind::RECORD, exec(Command::Line("twice".into())));
    host.until(|host| host.heard.get(&first).is_some_and(|heard| heard.over()));
    assert_eq!(host.heard[&first].stdout(), "one\ntwo\n", "both are one, in order");

    host.connect();
    let again = host.stream();
    host.say(again, kind::ATTACH, 0, &Attach { job: "job_1".into(), from: 4 }.encode());
    let heard = host.finish(again);
    assert_eq!((heard.stdout().as_str(), heard.status), ("two\n", Some(Status::Code(0))));
    assert_eq!(heard.answers[0], (kind::ATTACHED, 4u64.to_le_bytes().to_vec()));
    assert_eq!(host.ask(kind::FORGET, b"job_1").0, kind::DONE);
    host.turn();
    assert_eq!(host.ask(kind::FORGET, b"job_1").0, kind::REFUSED);

    let spin = host.start_as(kind::RECORD, exec(Command::Line("spin".into())));
    host.turn();
    assert_eq!(host.ask(kind::FORGET, b"job_1").0, kind::REFUSED, "it still runs");
    host.say(spin, kind::SIGNAL, 0, &[15]);
    assert_eq!(host.finish(spin).status, Some(Status::Signal(15)));
}
