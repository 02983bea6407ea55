//! One request, one answer: what each kind of request does to files.

use super::attributes;
use super::handles::Open;
use super::names::Name;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use sublet_guest::handles::{Handles, MAX_OPEN};
use sublet_guest::sftp_wire::{self as wire, Attributes, MAX_DATA_BYTES, MAX_PACKET_BYTES, Malformed, Packet, kind};

/// Most entries of a folder told at once.
const MAX_LISTED: usize = 100;

/// What OpenSSH added to the protocol, as its PROTOCOL file describes it.
pub const EXTENSIONS: [(&str, &str); 9] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("home-directory", "1"),
];

/// What a client is told.
#[derive(Debug)]
pub enum Answer {
    Status(Status),
    Handle(u32),
    Data(Vec<u8>),
    Names(Vec<Name>),
    Attributes(Attributes),
    Extended(Vec<u8>),
}

/// How a request ended that has nothing else to say.
#[derive(Debug)]
pub struct Status {
    code: u32,
    words: String,
}

impl Status {
    const OK: u32 = 0;
    const END: u32 = 1;
    const NO_SUCH_FILE: u32 = 2;
    const DENIED: u32 = 3;
    const FAILURE: u32 = 4;
    const MALFORMED: u32 = 5;
    const UNSUPPORTED: u32 = 8;

    fn new(code: u32, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
    }

    /// Appends it to an answer.
    pub fn write(&self, out: &mut Vec<u8>) {
        wire::u32(out, self.code);
        wire::bytes(out, self.words.as_bytes());
        wire::bytes(out, b"");
    }
}

impl From<io::Error> for Status {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NO_SUCH_FILE,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::DENIED,
            io::ErrorKind::Unsupported => Self::UNSUPPORTED,
            io::ErrorKind::UnexpectedEof => Self::END,
            _ => Self::FAILURE,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Errno> for Status {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Self {
        Self::new(Self::MALFORMED, "a request that does not decode")
    }
}

type Answered = Result<Answer, Status>;

fn done() -> Answered {
    Ok(Answer::Status(Status::new(Status::OK, "")))
}

/// A client's open files.
#[derive(Debug, Default)]
pub struct Server {
    handles: Handles<Open>,
}

impl Server {
    /// Does what one request asks for.
    pub fn answer(&mut self, kind: u8, mut packet: Packet<'_>) -> Answer {
        let packet = &mut packet;
        let answered = match kind {
            kind::OPEN => self.open(packet),
            kind::CLOSE => self.close(packet),
            kind::READ => self.read(packet),
            kind::WRITE => self.write(packet),
            kind::FSTAT => self.describe_open(packet),
            kind::FSETSTAT => self.change_open(packet),
            kind::OPENDIR => self.open_folder(packet),
            kind::READDIR => self.list(packet),
            kind::EXTENDED => self.extended(packet),
            _ => by_name(kind, packet),
        };
        answered.unwrap_or_else(Answer::Status)
    }

    fn open(&mut self, packet: &mut Packet<'_>) -> Answered {
        let (path, flags, attributes) = (path(packet)?, packet.u32()?, Attributes::read(packet)?);
        let mut how = match (flags & 1 != 0, flags & 2 != 0) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        } | OFlags::CLOEXEC;
        for (flag, meaning) in [(4, OFlags::APPEND), (8, OFlags::CREATE), (16, OFlags::TRUNC), (32, OFlags::EXCL)] {
            how.set(meaning, flags & flag != 0);
        }
        let mode = Mode::from_bits_truncate(attributes.permissions.unwrap_or(0o666) & 0o7777);
        self.keep(Open::File(rustix::fs::open(path, how, mode)?.into()))
    }

    fn open_folder(&mut self, packet: &mut Packet<'_>) -> Answered {
        let path = path(packet)?.to_owned();
        let entries = fs::read_dir(&path)?;
        self.keep(Open::Folder { path, entries, dots: true })
    }

    fn keep(&mut self, open: Open) -> Answered {
        let handle = self.handles.insert(open);
        handle.map(Answer::Handle).ok_or_else(|| Status::new(Status::FAILURE, format!("{MAX_OPEN} files are open")))
    }

    fn close(&mut self, packet: &mut Packet<'_>) -> Answered {
        let handle = handle(packet)?;
        self.handles.remove(handle).ok_or_else(no_handle)?;
        done()
    }

    fn file(&mut self, packet: &mut Packet<'_>) -> Result<&File, Status> {
        match self.handles.get(handle(packet)?) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(no_handle()),
        }
    }

    fn read(&mut self, packet: &mut Packet<'_>) -> Answered {
        let file = self.file(packet)?;
        let (at, most) = (packet.u64()?, packet.u32()? as usize);
        let mut bytes = vec![0; most.min(MAX_DATA_BYTES)];
        let count = file.read_at(&mut bytes, at)?;
        if count == 0 && !bytes.is_empty() {
            return Err(Status::new(Status::END, "the end of the file"));
        }
        bytes.truncate(count);
        Ok(Answer::Data(bytes))
    }

    fn write(&mut self, packet: &mut Packet<'_>) -> Answered {
        let file = self.file(packet)?;
        let (at, bytes) = (packet.u64()?, packet.bytes()?);
        // Of a file opened to append, the system takes no offset.
        file.write_all_at(bytes, at)?;
        done()
    }

    fn describe_open(&mut self, packet: &mut Packet<'_>) -> Answered {
        let file = self.file(packet)?;
        Ok(Answer::Attributes(attributes::of(&file.metadata()?)))
    }

    fn change_open(&mut self, packet: &mut Packet<'_>) -> Answered {
        let file = self.file(packet)?;
        attributes::apply(&Attributes::read(packet)?, file)?;
        done()
    }

    fn list(&mut self, packet: &mut Packet<'_>) -> Answered {
        let Some(Open::Folder { path, entries, dots }) = self.handles.get(handle(packet)?) else {
            return Err(no_handle());
        };
        let mut names = Vec::new();
        if std::mem::take(dots) {
            let listed = |name: &str| Ok::<_, Status>(Name::listed(name.into(), &path.join(name).symlink_metadata()?));
            names.extend([listed(".")?, listed("..")?]);
        }
        for entry in entries.take(MAX_LISTED) {
            let entry = entry?;
            // One that went since it was listed is left out.
            if let Ok(known) = entry.metadata() {
                names.push(Name::listed(entry.file_name().into_vec(), &known));
            }
        }
        match names.is_empty() {
            true => Err(Status::new(Status::END, "the end of the folder")),
            false => Ok(Answer::Names(names)),
        }
    }

    fn extended(&mut self, packet: &mut Packet<'_>) -> Answered {
        match packet.bytes()? {
            b"posix-rename@openssh.com" => {
                let (from, to) = (path(packet)?, path(packet)?);
                fs::rename(from, to)?;
            }
            b"hardlink@openssh.com" => {
                let (from, to) = (path(packet)?, path(packet)?);
                fs::hard_link(from, to)?;
            }
            b"lsetstat@openssh.com" => {
                let path = path(packet)?;
                attributes::apply_at(&Attributes::read(packet)?, path, false)?;
            }
            b"fsync@openssh.com" => self.file(packet)?.sync_all()?,
            b"statvfs@openssh.com" => return Ok(Answer::Extended(room(rustix::fs::statvfs(path(packet)?)?))),
            b"fstatvfs@openssh.com" => {
                return Ok(Answer::Extended(room(rustix::fs::fstatvfs(self.file(packet)?)?)));
            }
            b"limits@openssh.com" => {
                let mut out = Vec::new();
                for limit in [MAX_PACKET_BYTES, MAX_DATA_BYTES, MAX_DATA_BYTES, MAX_OPEN] {
                    wire::u64(&mut out, limit as u64);
                }
                return Ok(Answer::Extended(out));
            }
            b"expand-path@openssh.com" => return real_path(&expanded(path(packet)?)?),
            b"home-directory" => return real_path(&home(packet.bytes()?)?),
            _ => return Err(Status::new(Status::UNSUPPORTED, "no such extension")),
        }
        done()
    }
}

/// Requests about a path, which need nothing that is open.
fn by_name(kind: u8, packet: &mut Packet<'_>) -> Answered {
    let path = path(packet)?;
    match kind {
        kind::STAT => return Ok(Answer::Attributes(attributes::of(&fs::metadata(path)?))),
        kind::LSTAT => return Ok(Answer::Attributes(attributes::of(&fs::symlink_metadata(path)?))),
        kind::REALPATH => return real_path(path),
        kind::READLINK => {
            let target = fs::read_link(path)?.into_os_string().into_vec();
            return Ok(Answer::Names(vec![Name::bare(target)]));
        }
        kind::SETSTAT => attributes::apply_at(&Attributes::read(packet)?, path, true)?,
        kind::REMOVE => fs::remove_file(path)?,
        kind::RMDIR => fs::remove_dir(path)?,
        kind::MKDIR => {
            let mode = Attributes::read(packet)?.permissions.unwrap_or(0o777);
            rustix::fs::mkdir(path, Mode::from_bits_truncate(mode & 0o7777))?;
        }
        kind::RENAME => {
            // Version 3 never overwrites.
            rustix::fs::renameat_with(CWD, path, CWD, self::path(packet)?, RenameFlags::NOREPLACE)?;
        }
        // The target comes first: so does OpenSSH, unlike the draft, and so do all who speak with it.
        kind::SYMLINK => std::os::unix::fs::symlink(path, self::path(packet)?)?,
        _ => return Err(Status::new(Status::UNSUPPORTED, format!("no request of kind {kind}"))),
    }
    done()
}

/// A path; an empty one is where the session began. A NUL byte in it is refused by the system call.
fn path<'a>(packet: &mut Packet<'a>) -> Result<&'a Path, Status> {
    let bytes = packet.bytes()?;
    Ok(Path::new(OsStr::from_bytes(if bytes.is_empty() { b"." } else { bytes })))
}

fn handle(packet: &mut Packet<'_>) -> Result<u32, Status> {
    packet.bytes()?.try_into().map(u32::from_be_bytes).map_err(|_| no_handle())
}

fn no_handle() -> Status {
    Status::new(Status::FAILURE, "no such handle")
}

/// The whole path without links; its last part need not exist.
fn real_path(path: &Path) -> Answered {
    let real = match (path.canonicalize(), path.file_name(), path.parent()) {
        (Err(error), Some(name), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            parent.canonicalize()?.join(name)
        }
        (found, ..) => found?,
    };
    Ok(Answer::Names(vec![Name::bare(real.into_os_string().into_vec())]))
}

/// A path whose first part may be `~` or `~user`.
fn expanded(path: &Path) -> Result<PathBuf, Status> {
    let Some(rest) = path.as_os_str().as_bytes().strip_prefix(b"~") else { return Ok(path.to_owned()) };
    let (user, rest) = match rest.iter().position(|byte| *byte == b'/') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &b""[..]),
    };
    Ok(home(user)?.join(OsStr::from_bytes(rest)))
}

/// Where a user is at home; without a name, the user who asks.
fn home(user: &[u8]) -> Result<PathBuf, Status> {
    if user.is_empty() {
        return Ok(std::env::var_os("HOME").map_or_else(|| "/".into(), PathBuf::from));
    }
    let known = std::str::from_utf8(user).ok().and_then(crate::users::find);
    known.map(|user| user.home.into()).ok_or_else(|| Status::new(Status::NO_SUCH_FILE, "no such user"))
}

/// Room in a file system, laid out as OpenSSH does.
fn room(known: rustix::fs::StatVfs) -> Vec<u8> {
    /// Told where the file system says so: read-only, and no programs of other users' rights.
    const READ_ONLY: u64 = 1;
    const NO_SETUID: u64 = 2;
    let flags = known.f_flag;
    let read_only = if flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) { READ_ONLY } else { 0 };
    let no_setuid = if flags.contains(rustix::fs::StatVfsMountFlags::NOSUID) { NO_SETUID } else { 0 };
    let mut out = Vec::new();
    for value in [
        known.f_bsize,
        known.f_frsize,
        known.f_blocks,
        known.f_bfree,
        known.f_bavail,
        known.f_files,
        known.f_ffree,
        known.f_favail,
        known.f_fsid,
        read_only | no_setuid,
        known.f_namemax,
    ] {
        wire::u64(&mut out, value);
    }
    out
}
