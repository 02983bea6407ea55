//! A job whose whole output is kept in the partition, too: in a file, beside what the host keeps the
//! end of.
//!
//! ```text
//! job -- stdout and stderr --> this process --+--> the file, to the last byte or until the disk is full
//!                                             +--> the host
//! ```

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

/// How often it is looked whether the job has ended, while something that it left holds its output.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const CHUNK_BYTES: usize = 64 * 1024;

/// Runs a command with its output in both places; returns how it ended.
pub fn run(path: &str, words: &[String]) -> io::Result<ExitStatus> {
    let [program, arguments @ ..] = words else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut file = Some(File::options().create(true).append(true).open(path)?);
    let (mut output, theirs) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(theirs.try_clone()?).stderr(theirs);
    let mut child = command.spawn()?;
    // It holds the pipe's other end, which would never close.
    drop(command);
    // What ends the job is for the job; we stay until its last word is passed on.
    crate::sys::ignore_endings();
    let mut bytes = vec![0; CHUNK_BYTES];
    while more(&output, &mut child)? {
        let count = output.read(&mut bytes)?;
        if count == 0 {
            break;
        }
        if let Some(Err(error)) = file.as_mut().map(|file| file.write_all(&bytes[..count])) {
            let _ = writeln!(io::stdout(), "[sublet: {path} is not whole: {error}]");
            file = None;
        }
        // The host drops what it does not keep; that is no reason to stop.
        let _ = io::stdout().write_all(&bytes[..count]).and_then(|()| io::stdout().flush());
    }
    child.wait()
}

/// Whether there is more to read, or may be.
fn more(output: &io::PipeReader, child: &mut Child) -> io::Result<bool> {
    loop {
        let mut fds = [PollFd::new(output, PollFlags::IN)];
        match poll(&mut fds, Some(&LOOK_EVERY)) {
            Ok(0) if child.try_wait()?.is_some() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends this process as its command ended.
pub fn end_as(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal() {
        crate::sys::end_by(signal);
    }
    std::process::exit(status.code().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_in_the_file_and_the_status_is_the_commands() {
        let path = std::env::temp_dir().join(format!("sublet-whole-{}", std::process::id()));
        let words = ["sh", "-c", "echo out; echo err >&2; (sleep 5; echo late) & exit 7"].map(String::from);
        let begun = std::time::Instant::now();
        let status = run(path.to_str().unwrap(), &words).unwrap();
        assert_eq!((status.code(), std::fs::read_to_string(&path).unwrap().as_str()), (Some(7), "out\nerr\n"));
        assert!(begun.elapsed().as_secs() < 4, "what it left behind is not waited for");
        let killed = run(path.to_str().unwrap(), &["sh", "-c", "kill -9 $$"].map(String::from)).unwrap();
        assert_eq!(killed.signal(), Some(9));
        std::fs::remove_file(path).unwrap();
        assert!(run("/no/such/folder/file", &words).is_err());
    }
}
