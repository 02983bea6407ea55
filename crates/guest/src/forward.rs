//! Forwarded connections: the partition's own end of `ssh -L`, `-D` and `-R`.
//!
//! ```text
//! host                         guest
//!  | exec connect HOST PORT --> process ---- connects ----> a port in the partition
//!  | <------------------- '+' , then bytes both ways
//!
//!  | exec listen HOST PORT DOOR --> process (listens)
//!  | <------ "listening PORT"        | <---- somebody connects
//!  | <------ "N ADDRESS PORT"        |
//!  | exec take DOOR N ------------> process -- asks for N at DOOR --> is handed the connection
//!  | <------------------- '+' , then bytes both ways
//! ```
//!
//! Each is a process of the user who asked, so it reaches what that user reaches and no more; and
//! one that hangs or dies is one job that does. A door is an abstract Unix socket that opens to
//! processes of the same user.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketType,
};
use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use sublet_guest::messages::{CONNECTED, MAX_WAITING_CONNECTIONS};

/// How long the other end may take to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// Bytes moved at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What to forward.
#[derive(Debug, PartialEq, Eq)]
pub enum Forward {
    /// Connect to a port.
    Connect { host: String, port: u16 },
    /// Connect to a Unix socket.
    ConnectPath { path: String },
    /// Listen on a port, and hand connections out at a door.
    Listen { host: String, port: u16, door: String },
    /// Take one of those connections.
    Take { door: String, number: u64 },
}

impl Forward {
    /// Reads the words of the command line.
    pub fn parse(what: &str, words: &[&str]) -> Option<Self> {
        Some(match (what, words) {
            ("connect", [path]) => Self::ConnectPath { path: (*path).into() },
            ("connect", [host, port]) => Self::Connect { host: (*host).into(), port: port.parse().ok()? },
            ("listen", [host, port, door]) => {
                Self::Listen { host: (*host).into(), port: port.parse().ok()?, door: (*door).into() }
            }
            ("take", [door, number]) => Self::Take { door: (*door).into(), number: number.parse().ok()? },
            _ => return None,
        })
    }

    /// Does it, until both ends are through or the client ends its input.
    pub fn run(&self) -> io::Result<()> {
        match self {
            Self::Connect { host, port } => relay(connect(host, *port)?.into()),
            Self::ConnectPath { path } => relay(UnixStream::connect(path)?.into()),
            Self::Listen { host, port, door } => listen(host, *port, door),
            Self::Take { door, number } => relay(take(door, *number)?),
        }
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Moves bytes both ways. The end of one direction is passed on and leaves the other open.
fn relay(socket: OwnedFd) -> io::Result<()> {
    // TCP or Unix: read, write and shutdown are the same calls.
    let socket = UnixStream::from(socket);
    let (mut input, output) = crate::sys::take_stdio()?;
    (&output).write_all(&[CONNECTED])?;
    let mut from = socket.try_clone()?;
    // Only the thread keeps stdout open, so that the host sees its end while input goes on.
    let output = Arc::new(output);
    let listened_to = Arc::downgrade(&output);
    let _ = std::thread::spawn(move || pump(&mut from, &mut &*output));
    let _ = pump(&mut input, &mut &socket);
    let _ = socket.shutdown(Shutdown::Write);
    // The other end may still have something to say, as long as somebody listens.
    while let Some(output) = listened_to.upgrade() {
        if nobody_reads(&output) {
            break;
        }
    }
    Ok(())
}

/// Whether a pipe has lost its reader; waits a moment for that.
fn nobody_reads(pipe: &impl AsFd) -> bool {
    const MOMENT: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let mut fds = [PollFd::new(pipe, PollFlags::empty())];
    matches!(poll(&mut fds, Some(&MOMENT)), Ok(1..))
}

fn pump(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&bytes[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Connections that came and were not taken yet.
#[derive(Default)]
struct Waiting {
    connections: Mutex<BTreeMap<u64, TcpStream>>,
    taken: Condvar,
}

fn listen(host: &str, port: u16, door: &str) -> io::Result<()> {
    let listener = match host {
        "" | "*" => TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?,
        host => TcpListener::bind((host, port))?,
    };
    let door = UnixListener::bind_addr(&SocketAddr::from_abstract_name(door)?)?;
    let waiting = Arc::<Waiting>::default();
    say_line(&format!("listening {}", listener.local_addr()?.port()))?;
    std::thread::spawn({
        let waiting = Arc::clone(&waiting);
        move || accept(&listener, &waiting)
    });
    std::thread::spawn(move || {
        while let Ok((taker, _)) = door.accept() {
            // Whoever asks for what is not there gets nothing.
            let _ = hand_out(&taker, &waiting);
        }
    });
    // The client stops listening by ending the input.
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}

fn accept(listener: &TcpListener, waiting: &Waiting) {
    for number in 1.. {
        let Ok((connection, peer)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let _ = connection.set_nodelay(true);
        let mut connections = waiting.connections.lock().unwrap_or_else(PoisonError::into_inner);
        // More wait in the kernel's own queue.
        while connections.len() >= MAX_WAITING_CONNECTIONS {
            connections = waiting.taken.wait(connections).unwrap_or_else(PoisonError::into_inner);
        }
        connections.insert(number, connection);
        drop(connections);
        if say_line(&format!("{number} {} {}", peer.ip(), peer.port())).is_err() {
            std::process::exit(0);
        }
    }
}

fn hand_out(taker: &UnixStream, waiting: &Waiting) -> io::Result<()> {
    let asker = rustix::net::sockopt::socket_peercred(taker)?;
    if asker.uid != rustix::process::getuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    taker.set_read_timeout(Some(CONNECT_WITHIN))?;
    let mut number = [0; 8];
    (&mut &*taker).read_exact(&mut number)?;
    let taken = waiting.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&u64::from_be_bytes(number));
    waiting.taken.notify_one();
    let Some(connection) = taken else { return Ok(()) };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [connection.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(taker, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn take(door: &str, number: u64) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(door.as_bytes())?)?;
    rustix::io::write(&socket, &number.to_be_bytes())?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let handed = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    handed.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no connection {number} waits")))
}

fn say_line(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_each_kind() {
        let connect = |host: &str, port| Some(Forward::Connect { host: host.into(), port });
        for (what, words, expected) in [
            ("connect", &["localhost", "80"][..], connect("localhost", 80)),
            ("connect", &["::1", "65535"], connect("::1", 65535)),
            ("connect", &["localhost", "65536"], None),
            ("connect", &["/run/x.sock"], Some(Forward::ConnectPath { path: "/run/x.sock".into() })),
            ("connect", &[], None),
            ("take", &["door", "7"], Some(Forward::Take { door: "door".into(), number: 7 })),
            ("take", &["door", "-7"], None),
            ("listen", &["", "0"], None),
        ] {
            assert_eq!(Forward::parse(what, words), expected, "{what} {words:?}");
        }
    }
}
