//! One request, one answer.

use super::handles::Open;
use super::status::Status;
use crate::files::{File, Node, Place, Trouble, follow};
use crate::world::World;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use sublet_guest::handles::{Handles, MAX_OPEN};
use sublet_guest::sftp_wire::{self as wire, Attributes, MAX_DATA_BYTES, MAX_PACKET_BYTES, Packet, kind};

/// Most entries of a folder told at once.
const MAX_LISTED: usize = 100;
/// What is said of every file, of every folder: owners and permissions there are none.
const FILE_MODE: u32 = 0o100_755;
const FOLDER_MODE: u32 = 0o040_755;

/// What OpenSSH added to the protocol, as its PROTOCOL file describes it.
pub const EXTENSIONS: [(&str, &str); 5] = [
    ("posix-rename@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// What a client is told.
pub enum Answer {
    /// How it went.
    Status(Status),
    /// What was opened.
    Handle(u32),
    /// Bytes of a file.
    Data(Vec<u8>),
    /// Names.
    Names(Vec<Name>),
    /// What is known of a file.
    Attributes(Attributes),
    /// The answer of an extension.
    Extended(Vec<u8>),
}

/// One entry of a listing.
pub struct Name {
    /// Its name.
    pub name: Vec<u8>,
    /// As `ls -l` would print it.
    pub line: Vec<u8>,
    /// What is known of it.
    pub attributes: Attributes,
}

impl Name {
    fn bare(name: Vec<u8>) -> Self {
        Self { line: name.clone(), name, attributes: Attributes::default() }
    }

    fn listed(name: Vec<u8>, node: &Node) -> Self {
        let kind = if matches!(node, Node::Folder(_)) { 'd' } else { '-' };
        let date = wire::date((node.changed().get() / 1_000_000) as i64);
        let mut line = format!("{kind}rwxr-xr-x    1 0        0        {:>8} {date} ", node.bytes()).into_bytes();
        line.extend_from_slice(&name);
        Self { name, line, attributes: attributes(node) }
    }
}

fn attributes(node: &Node) -> Attributes {
    let seconds = (node.changed().get() / 1_000_000) as u32;
    Attributes {
        size: Some(node.bytes()),
        owner: Some((0, 0)),
        permissions: Some(if matches!(node, Node::Folder(_)) { FOLDER_MODE } else { FILE_MODE }),
        times: Some((seconds, seconds)),
    }
}

type Answered = Result<Answer, Status>;

fn done() -> Answered {
    Ok(Answer::Status(Status::new(Status::OK, "")))
}

/// A client's open files.
#[derive(Default)]
pub struct Server {
    handles: Handles<Open>,
}

impl Server {
    /// Does what one request asks for.
    pub fn answer(&mut self, asked: u8, packet: &mut Packet<'_>, world: &World) -> Answer {
        let answered = match asked {
            kind::OPEN => self.open(packet, world),
            kind::CLOSE => self.close(packet),
            kind::READ => self.read(packet),
            kind::WRITE => self.write(packet, world),
            kind::FSTAT => self.node(packet).map(|node| Answer::Attributes(attributes(&node))),
            kind::FSETSTAT => self.node(packet).and_then(|node| change(&node, packet, world)),
            kind::OPENDIR => self.open_folder(packet, world),
            kind::READDIR => self.list(packet),
            kind::EXTENDED => self.extended(packet, world),
            _ => by_name(asked, packet, world),
        };
        answered.unwrap_or_else(Answer::Status)
    }

    fn open(&mut self, packet: &mut Packet<'_>, world: &World) -> Answered {
        let (place, flags) = (place(packet, world)?, packet.u32()?);
        let [writes, append, create, truncate, exclusive] = [2, 4, 8, 16, 32].map(|flag| flags & flag != 0);
        let file = match place.node() {
            Ok(_) if create && exclusive => return Err(Trouble::Exists.into()),
            Ok(node) => {
                let file = node.file()?;
                if truncate {
                    file.resize(0, world)?;
                }
                file
            }
            Err(Trouble::NotFound) if create => world.files.borrow_mut().make_file(&place, world)?,
            Err(trouble) => return Err(trouble.into()),
        };
        self.keep(Open::File { file, writes, append })
    }

    fn open_folder(&mut self, packet: &mut Packet<'_>, world: &World) -> Answered {
        let folder = place(packet, world)?.node()?.folder()?;
        self.keep(Open::Folder { folder, told: 0, dots: true })
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

    fn node(&mut self, packet: &mut Packet<'_>) -> Result<Node, Status> {
        match self.handles.get(handle(packet)?) {
            Some(Open::File { file, .. }) => Ok(Node::File(Rc::clone(file))),
            Some(Open::Folder { folder, .. }) => Ok(Node::Folder(Rc::clone(folder))),
            None => Err(no_handle()),
        }
    }

    fn read(&mut self, packet: &mut Packet<'_>) -> Answered {
        let file = self.node(packet)?.file()?;
        let (at, most) = (packet.u64()?, packet.u32()? as usize);
        let left = usize::try_from(file.bytes().saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(MAX_DATA_BYTES).min(left)];
        if file.read(at, &mut bytes) == 0 && most > 0 {
            return Err(Status::new(Status::END, "the end of the file"));
        }
        Ok(Answer::Data(bytes))
    }

    fn write(&mut self, packet: &mut Packet<'_>, world: &World) -> Answered {
        let Some(Open::File { file, writes: true, append }) = self.handles.get(handle(packet)?) else {
            return Err(no_handle());
        };
        let (at, bytes) = (packet.u64()?, packet.bytes()?);
        file.write(if *append { file.bytes() } else { at }, bytes, world)?;
        done()
    }

    fn list(&mut self, packet: &mut Packet<'_>) -> Answered {
        let Some(Open::Folder { folder, told, dots }) = self.handles.get(handle(packet)?) else {
            return Err(no_handle());
        };
        let mut names = Vec::new();
        if core::mem::take(dots) {
            let here = Node::Folder(Rc::clone(folder));
            names.extend([".", ".."].map(|name| Name::listed(name.into(), &here)));
        }
        let entries = folder.list(*told, MAX_LISTED);
        *told += entries.len();
        names.extend(entries.into_iter().map(|(name, node)| Name::listed(name, &node)));
        match names.is_empty() {
            true => Err(Status::new(Status::END, "the end of the folder")),
            false => Ok(Answer::Names(names)),
        }
    }

    fn extended(&mut self, packet: &mut Packet<'_>, world: &World) -> Answered {
        match packet.bytes()? {
            b"posix-rename@openssh.com" => {
                let (from, to) = (place(packet, world)?, place(packet, world)?);
                world.files.borrow_mut().rename(&from, &to, true, world)?;
                done()
            }
            b"lsetstat@openssh.com" => change(&place(packet, world)?.node()?, packet, world),
            b"fsync@openssh.com" => self.node(packet).and_then(|_| done()),
            b"limits@openssh.com" => {
                let mut out = Vec::new();
                for limit in [MAX_PACKET_BYTES, MAX_DATA_BYTES, MAX_DATA_BYTES, MAX_OPEN] {
                    wire::u64(&mut out, limit as u64);
                }
                Ok(Answer::Extended(out))
            }
            b"expand-path@openssh.com" => Ok(Answer::Names(vec![Name::bare(real_path(packet.bytes()?))])),
            _ => Err(Status::new(Status::UNSUPPORTED, "no such extension")),
        }
    }
}

/// Requests about a path, which need nothing that is open.
fn by_name(asked: u8, packet: &mut Packet<'_>, world: &World) -> Answered {
    if asked == kind::REALPATH {
        return Ok(Answer::Names(vec![Name::bare(real_path(packet.bytes()?))]));
    }
    let place = place(packet, world)?;
    let mut files = world.files.borrow_mut();
    match asked {
        kind::STAT | kind::LSTAT => return Ok(Answer::Attributes(attributes(&place.node()?))),
        kind::SETSTAT => return change(&place.node()?, packet, world),
        kind::REMOVE => files.remove_file(&place, world)?,
        kind::RMDIR => files.remove_folder(&place, world)?,
        kind::MKDIR => files.make_folder(&place, world)?,
        kind::RENAME => {
            let to = follow(&files.root, &real_path(packet.bytes()?))?;
            // Version 3 never overwrites.
            files.rename(&place, &to, false, world)?;
        }
        _ => return Err(Status::new(Status::UNSUPPORTED, format!("no request of kind {asked}"))),
    }
    done()
}

/// Size and time; owners and permissions are taken and mean nothing.
fn change(node: &Node, packet: &mut Packet<'_>, world: &World) -> Answered {
    let wanted = Attributes::read(packet)?;
    if let Some(size) = wanted.size {
        let file: Rc<File> = node.clone().file()?;
        file.resize(size, world)?;
    }
    if let Some((_, changed)) = wanted.times {
        node.changed().set(u64::from(changed) * 1_000_000);
    }
    done()
}

fn place(packet: &mut Packet<'_>, world: &World) -> Result<Place, Status> {
    Ok(follow(&world.files.borrow().root, &real_path(packet.bytes()?))?)
}

/// The whole path. Everybody is at home in the root; there is nothing above it.
fn real_path(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"~").filter(|rest| rest.is_empty() || rest.starts_with(b"/")).unwrap_or(path);
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    [b"/", names.join(&b'/').as_slice()].concat()
}

fn handle(packet: &mut Packet<'_>) -> Result<u32, Status> {
    packet.bytes()?.try_into().map(u32::from_be_bytes).map_err(|_| no_handle())
}

fn no_handle() -> Status {
    Status::new(Status::FAILURE, String::from("no such handle"))
}
