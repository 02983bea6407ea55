//! The program inside a partition: sets its identity, runs jobs, reports.
//!
//! As the first process it is also the system's init; beside systemd it is a service.
//! One thread, one poll loop, fixed memory: it must answer when everything around it does not.

mod begun;
mod cgroup;
mod forward;
mod identity;
mod init;
mod job;
mod link;
mod notice;
mod port;
mod scratch;
mod serve;
mod sftp;
mod spawn;
mod stats;
mod sys;
mod table;
mod template;
mod users;
mod whole;

use begun::Begun;
use forward::Forward;
use serve::{Ending, Manner};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

const USAGE: &str = "usage: sublet-guest [--rehearse (--fd N | --socket PATH)] | --version
       sublet-guest notice WORDS | whole FILE PROGRAM ARGUMENT… | sftp | connect HOST PORT | connect PATH | listen HOST PORT DOOR | take DOOR N

Without arguments it serves the host on the virtio port org.sublet.guest.0; as process 1 it also
sets the system up. --rehearse serves on a socket instead and leaves this machine's name, clock,
limits and power alone. The others are what the host starts for a client: file transfer and
forwarded connections, over stdin and stdout.";

enum Mode {
    Init,
    Service,
    RehearseFd(i32),
    RehearseSocket(PathBuf),
    Sftp,
    Notice(String),
    Whole { file: String, words: Vec<String> },
    Forward(Forward),
}

fn main() {
    let mode = match arguments(std::env::args().skip(1)) {
        Ok(mode) => mode,
        Err(words) => {
            say(&words);
            std::process::exit(if words.starts_with("sublet-guest ") { 0 } else { 2 });
        }
    };
    match mode {
        Mode::Init => {
            init::set_up();
            for_ever(Manner::Init)
        }
        Mode::Service => for_ever(Manner::Service),
        Mode::RehearseFd(fd) => rehearse(sys::adopt(fd)),
        Mode::RehearseSocket(path) => rehearse_at(&path),
        Mode::Sftp => {
            finish("transfer files", sys::take_stdio().and_then(|(input, output)| sftp::serve(input, output)))
        }
        Mode::Notice(words) => finish("tell", notice::tell(&words)),
        Mode::Whole { file, words } => match whole::run(&file, &words) {
            Ok(status) => whole::end_as(status),
            Err(error) => finish("run it with its output kept whole", Err(error)),
        },
        Mode::Forward(forward) => finish("forward", forward.run()),
    }
}

/// Ends a process that served one client, with the error in words.
fn finish(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        say(&format!("cannot {what}: {error}"));
        std::process::exit(1);
    }
}

fn arguments(words: impl Iterator<Item = String>) -> Result<Mode, String> {
    if std::process::id() == 1 {
        // The kernel hands its own unknown options to init; they mean nothing here.
        return Ok(Mode::Init);
    }
    let words: Vec<String> = words.collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(Mode::Service),
        ["--version"] => Err(format!("sublet-guest {}", env!("CARGO_PKG_VERSION"))),
        ["--rehearse", "--fd", fd] => fd.parse().map(Mode::RehearseFd).map_err(|_| USAGE.into()),
        ["--rehearse", "--socket", path] => Ok(Mode::RehearseSocket(path.into())),
        ["sftp"] => Ok(Mode::Sftp),
        ["whole", file, words @ ..] => {
            Ok(Mode::Whole { file: (*file).into(), words: words.iter().map(|word| (*word).into()).collect() })
        }
        ["notice", words] => Ok(Mode::Notice((*words).into())),
        [what @ ("connect" | "listen" | "take"), rest @ ..] => {
            Forward::parse(what, rest).map(Mode::Forward).ok_or_else(|| USAGE.into())
        }
        _ => Err(USAGE.into()),
    }
}

/// Serves the port, whatever happens: what fails is said on the console and tried again.
fn for_ever(manner: Manner) -> ! {
    sys::protect_self();
    let mut table = table::Table::new(manner, Begun::new(begun::FOLDER));
    loop {
        let port = port::wait();
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve::serve(port, &mut table)));
        match served {
            Ok(Ok(Ending::Stop)) if matches!(manner, Manner::Service) => std::process::exit(0),
            Ok(Ok(_)) => say("sublet-guest: the port closed, opening it again"),
            Ok(Err(error)) => say(&format!("sublet-guest: cannot serve the host: {error}, trying again")),
            Err(_) => say("sublet-guest: a fault in the serve loop, trying again"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rehearse(socket: OwnedFd) {
    let here = std::env::temp_dir().join(format!("sublet-rehearsal-{}", std::process::id()));
    let mut table = table::Table::new(Manner::Rehearse, Begun::new(&here));
    if let Err(error) = serve::serve(socket, &mut table) {
        say(&format!("sublet-guest: cannot serve: {error}"));
        std::process::exit(1);
    }
    let _ = std::fs::remove_dir_all(here);
}

/// Listens as the machine's own end of the port would, one host at a time.
fn rehearse_at(path: &PathBuf) {
    let mut table = table::Table::new(Manner::Rehearse, Begun::new(path.with_extension("begun")));
    let _ = std::fs::remove_file(path);
    let listener = match std::os::unix::net::UnixListener::bind(path) {
        Ok(listener) => listener,
        Err(error) => {
            say(&format!("sublet-guest: cannot listen at {}: {error}", path.display()));
            std::process::exit(1);
        }
    };
    while let Ok((socket, _)) = listener.accept() {
        match serve::serve(socket.into(), &mut table) {
            Ok(Ending::Stop) => return,
            Ok(Ending::Closed) => {}
            Err(error) => say(&format!("sublet-guest: cannot serve: {error}")),
        }
    }
}

/// Says a line where somebody may see it; a console that is gone is no reason to stop.
pub fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
