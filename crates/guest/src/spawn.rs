//! From a request to a running job: user, environment, terminal or pipes, then the fork.

use crate::sys;
use crate::users::{self, User};
use rustix::fs::{Access, OFlags};
use rustix::pipe::PipeFlags;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sublet_guest::messages::{Command, Exec, Pty, Refusal, Refused};

const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
/// Enough that a whole frame goes through without a second write.
const PIPE_BYTES: usize = 256 * 1024;

/// A started process and our ends of what it reads and writes.
pub struct Started {
    pub pid: i32,
    pub stdin: OwnedFd,
    /// stdout, and stderr if it is apart.
    pub outputs: [Option<OwnedFd>; 2],
    /// Becomes readable with an error number, or ends once the program runs.
    pub failure: OwnedFd,
}

/// Starts what was asked for.
pub fn spawn(
    exec: &Exec,
    recorded: bool,
    rehearse: bool,
    lease: Option<&str>,
    cgroup: Option<&OwnedFd>,
) -> Result<Started, Refused> {
    let user = users::find(&exec.user).ok_or_else(|| refused(Refusal::NotFound, format!("no user {}", exec.user)))?;
    let env = environment(exec, &user, lease);
    let (program, argv) = program(&exec.command, &user, &env)?;
    let ends = match &exec.pty {
        Some(pty) => Ends::terminal(pty, &user)?,
        None if recorded => Ends::one_output()?,
        None => Ends::pipes()?,
    };
    let (failure, failure_child) = pipe()?;
    rustix::io::ioctl_fionbio(&failure, true).map_err(failed("make a pipe"))?;
    let cwd = folder(exec, &user);
    let privileged = sys::is_root() && !(rehearse && user.uid == 0);
    let child = sys::Child {
        program: c_string(&program)?,
        argv: argv.iter().map(|word| c_string(word)).collect::<Result<_, _>>()?,
        envp: env.iter().map(|(name, value)| c_string(&[name, &b"="[..], value].concat())).collect::<Result<_, _>>()?,
        fallback_cwd: if exec.cwd.is_some() { c_string(&cwd)? } else { c"/".into() },
        cwd: c_string(&cwd)?,
        uid: user.uid,
        gid: user.gid,
        groups: privileged.then_some(user.groups),
        stdio: ends.child.each_ref().map(AsRawFd::as_raw_fd),
        terminal: exec.pty.is_some(),
        failure: failure_child.as_raw_fd(),
        cgroup: cgroup.map(AsRawFd::as_raw_fd),
    };
    let scarce = |error: std::io::Error| {
        refused(refusal_of(error.raw_os_error().unwrap_or(libc::EAGAIN)), format!("cannot fork: {error}"))
    };
    let pid = sys::start(&child).map_err(scarce)?;
    Ok(Started { pid, stdin: ends.stdin, outputs: ends.outputs, failure })
}

/// Where it begins: what is not said from the root on is below the user's home.
fn folder(exec: &Exec, user: &User) -> Vec<u8> {
    let home = user.home.as_bytes();
    match &exec.cwd {
        Some(folder) if folder.starts_with(b"/") => folder.clone(),
        Some(folder) => [home, b"/", folder].concat(),
        None => home.to_vec(),
    }
}

struct Ends {
    stdin: OwnedFd,
    outputs: [Option<OwnedFd>; 2],
    child: [OwnedFd; 3],
}

impl Ends {
    fn pipes() -> Result<Self, Refused> {
        let (stdin_child, stdin) = pipe()?;
        let (stdout, stdout_child) = pipe()?;
        let (stderr, stderr_child) = pipe()?;
        for end in [&stdin, &stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true).map_err(failed("make a pipe"))?;
        }
        let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE_BYTES);
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_BYTES);
        Ok(Self { stdin, outputs: [Some(stdout), Some(stderr)], child: [stdin_child, stdout_child, stderr_child] })
    }

    /// stdout and stderr are one pipe, so that their order is kept.
    fn one_output() -> Result<Self, Refused> {
        let mut ends = Self::pipes()?;
        ends.child[2] = ends.child[1].try_clone().map_err(|e| refused(Refusal::Failed, e.to_string()))?;
        ends.outputs[1] = None;
        Ok(ends)
    }

    fn terminal(pty: &Pty, user: &User) -> Result<Self, Refused> {
        let open = || -> rustix::io::Result<(OwnedFd, OwnedFd)> {
            use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
            let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&ours)?;
            unlockpt(&ours)?;
            let name = ptsname(&ours, Vec::new())?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let child = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty())?;
            if sys::is_root() {
                let _ = rustix::fs::fchown(&child, Some(rustix::fs::Uid::from_raw(user.uid)), None);
            }
            resize(&ours, pty.rows, pty.cols);
            rustix::io::ioctl_fionbio(&ours, true)?;
            Ok((ours, child))
        };
        let (ours, child) = open().map_err(failed("make a terminal"))?;
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| refused(Refusal::Failed, e.to_string()));
        Ok(Self { stdin: copy(&ours)?, outputs: [Some(ours), None], child: [copy(&child)?, copy(&child)?, child] })
    }
}

/// Tells a terminal its size.
pub fn resize(terminal: &OwnedFd, rows: u16, cols: u16) {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Refused> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"))
}

type Environment = Vec<(Vec<u8>, Vec<u8>)>;

fn environment(exec: &Exec, user: &User, lease: Option<&str>) -> Environment {
    let path = if user.uid == 0 { ROOT_PATH } else { USER_PATH };
    let mut env: Environment = Vec::new();
    let mut set = |name: &[u8], value: &[u8]| match env.iter_mut().find(|(known, _)| known == name) {
        Some(entry) => entry.1 = value.to_vec(),
        None => env.push((name.to_vec(), value.to_vec())),
    };
    for (name, value) in [
        ("HOME", user.home.as_str()),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", &user.shell),
        ("PATH", path),
        ("SUBLET_LEASE", lease.unwrap_or_default()),
    ] {
        set(name.as_bytes(), value.as_bytes());
    }
    exec.env.iter().filter(|(name, _)| !name.is_empty() && !name.contains(&b'=')).for_each(|(n, v)| set(n, v));
    if let Some(pty) = &exec.pty {
        set(b"TERM", if pty.term.is_empty() { b"vt100" } else { pty.term.as_bytes() });
    }
    env
}

fn program(command: &Command, user: &User, env: &Environment) -> Result<(Vec<u8>, Vec<Vec<u8>>), Refused> {
    let shell = user.shell.as_bytes().to_vec();
    let shell_name = shell.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
    match command {
        Command::Login => Ok((shell, vec![[b"-", shell_name.as_slice()].concat()])),
        Command::Line(line) => Ok((shell, vec![shell_name, b"-c".to_vec(), line.clone()])),
        Command::Argv(words) => {
            let first = words.first().ok_or_else(|| refused(Refusal::Protocol, "a command without words".into()))?;
            Ok((find_program(first, env)?, words.clone()))
        }
    }
}

/// As execvp would, but here, where the answer can be put in words.
fn find_program(name: &[u8], env: &Environment) -> Result<Vec<u8>, Refused> {
    if name.contains(&b'/') {
        return Ok(name.to_vec());
    }
    let path = env.iter().find(|(known, _)| known == b"PATH").map(|(_, value)| value.as_slice()).unwrap_or_default();
    let candidates = path.split(|b| *b == b':').map(|dir| [dir, b"/", name].concat());
    let runnable = |file: &Vec<u8>| {
        let file = Path::new(std::ffi::OsStr::from_bytes(file));
        file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok()
    };
    candidates.into_iter().find(runnable).ok_or_else(|| {
        refused(
            Refusal::NotFound,
            format!("no program {} in {}", String::from_utf8_lossy(name), String::from_utf8_lossy(path)),
        )
    })
}

fn c_string(bytes: &[u8]) -> Result<CString, Refused> {
    CString::new(bytes).map_err(|_| refused(Refusal::Protocol, "a NUL byte in a command".into()))
}

/// A refusal in words.
pub fn refused(why: Refusal, words: String) -> Refused {
    Refused { why, words }
}

fn failed(what: &'static str) -> impl Fn(rustix::io::Errno) -> Refused {
    move |error| refused(refusal_of(error.raw_os_error()), format!("cannot {what}: {error}"))
}

/// What kind of refusal an error number is: what is scarce for a moment is no reason to give a job up.
pub fn refusal_of(number: i32) -> Refusal {
    match number {
        libc::ENOENT => Refusal::NotFound,
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ETXTBSY => Refusal::TooMany,
        _ => Refusal::Failed,
    }
}
