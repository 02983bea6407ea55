//! From a request to something that runs: a module, or what the host itself starts for a client.

use crate::command;
use crate::files::follow;
use crate::job::Streams;
use crate::sftp::Session;
use crate::wasm::Run;
use crate::world::World;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use sublet_guest::messages::{Command, Exec, Identity, OWN_PROGRAM, Refusal, Refused, Status};

/// Said wherever something else is asked for.
const WHAT_RUNS: &str = "this partition runs WebAssembly";
/// Of an x86-64 system, whichever it is.
const PAGE_BYTES: u64 = 4096;
/// What a job takes beside its module and memory, at most: the windows of its streams, and its record.
const JOB_BYTES: usize = 1 << 20;

/// Something that runs.
pub enum Program {
    /// A module.
    Wasm(Box<Run>),
    /// A client's file transfer.
    Files(Box<Session>),
    /// It was done at once.
    Done,
}

impl Program {
    /// Runs it for a slice; true if it could go on at once. Else `wake` may become the time at which it can.
    pub fn run(&mut self, world: &World, wake: &mut Option<u64>) -> Result<bool, Status> {
        match self {
            Self::Wasm(run) => run.run(wake),
            Self::Files(session) => session.run(world),
            Self::Done => Err(Status::Code(0)),
        }
    }
}

/// A refusal in words.
pub fn refused(why: Refusal, words: impl Into<String>) -> Refused {
    Refused { why, words: words.into() }
}

/// What a job is given beside its input.
pub struct Given {
    /// Its arguments, its own name first.
    pub words: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub env: Vec<Vec<u8>>,
}

/// Starts what was asked for, beside so many that run.
pub fn start(
    exec: Exec,
    identity: &Identity,
    running: usize,
    streams: Rc<RefCell<Streams>>,
    world: &Rc<World>,
) -> Result<Program, Refused> {
    if !["", "root"].contains(&exec.user.as_str()) {
        return Err(refused(Refusal::NotFound, format!("no user {}", exec.user)));
    }
    if !world.has_room((running + 1) * JOB_BYTES) {
        return Err(refused(Refusal::TooMany, "no memory for another job"));
    }
    let (words, own) = match exec.command {
        Command::Login => return Err(no_program("there is no shell; name a module, as in `job.wasm`")),
        _ if exec.pty.is_some() => return Err(no_program("it has no terminals; ask for none, as with `ssh -T`")),
        Command::Line(line) => {
            let line = command::parse(&line).map_err(|words| no_program(&words))?;
            if line.words == [OWN_PROGRAM.as_bytes(), b"figures"] {
                say_figures(identity, &streams, world);
                return Ok(Program::Done);
            }
            let env = exec.env.iter().cloned().chain(line.env).collect();
            (line.words, env)
        }
        Command::Argv(words) if words.first().is_some_and(|word| word == OWN_PROGRAM.as_bytes()) => {
            return own_program(&words[1..], streams, world);
        }
        Command::Argv(words) => (words, exec.env),
    };
    let Some(name) = words.first() else { return Err(no_program("no command was given")) };
    let path = [exec.cwd.as_deref().unwrap_or_default(), b"/", name].concat();
    let path = if name.starts_with(b"/") { name } else { &path };
    let shown = String::from_utf8_lossy(name).into_owned();
    let found = follow(&world.files.borrow().root, path).and_then(|place| place.node()).and_then(|node| node.file());
    let Ok(file) = found else { return Err(no_program(&format!("there is no module {shown}"))) };
    let module = file.whole(world).map_err(|_| refused(Refusal::TooMany, format!("no memory to load {shown}")))?;
    let given = Given { env: environment(&own, &identity.lease), words };
    let run = Run::new(&module, given, streams, world)
        .map_err(|words| refused(Refusal::Failed, format!("{shown}: {words}")))?;
    Ok(Program::Wasm(Box::new(run)))
}

/// What clients of a full system start by the name of its guest program.
fn own_program(words: &[Vec<u8>], streams: Rc<RefCell<Streams>>, world: &Rc<World>) -> Result<Program, Refused> {
    match words {
        [what] if what == b"sftp" => Ok(Program::Files(Box::new(Session::new(streams)))),
        [what, words] if what == b"notice" => {
            world.machine.say(&String::from_utf8_lossy(words));
            Ok(Program::Done)
        }
        [what, ..] if what == b"whole" => Err(no_program("output is not kept whole here")),
        _ => Err(no_program("there is no network in it")),
    }
}

/// What `sublet lease verify` compares, in the words in which a Linux says it.
fn say_figures(identity: &Identity, streams: &RefCell<Streams>, world: &World) {
    let machine = world.machine;
    let figures = format!(
        "vcpus {}\nMemTotal: {} kB\npresent {}\ngeneration={}\n",
        machine.vcpus(),
        machine.free_bytes() / 1024,
        machine.memory_bytes() / PAGE_BYTES,
        identity.generation
    );
    streams.borrow_mut().write(0, figures.as_bytes());
}

fn no_program(words: &str) -> Refused {
    refused(Refusal::NotFound, format!("{WHAT_RUNS}: {words}"))
}

type Variables = Vec<(Vec<u8>, Vec<u8>)>;

fn environment(own: &Variables, lease: &str) -> Vec<Vec<u8>> {
    let mut all: Variables = vec![];
    let known = [("HOME", "/"), ("USER", "root"), ("LOGNAME", "root"), ("SUBLET_LEASE", lease)];
    let known = known.map(|(name, value)| (name.into(), value.into()));
    let fine = own.iter().filter(|(name, _)| !name.is_empty() && !name.contains(&b'=')).cloned();
    for (name, value) in known.into_iter().chain(fine) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => all.push((name, value)),
        }
    }
    all.iter().map(|(name, value)| [name, &b"="[..], value].concat()).collect()
}
