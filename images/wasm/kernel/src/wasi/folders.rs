//! Folders, and files by their names.

use super::context::Open;
use super::memory::Memory;
use super::streams::{kind_of, put_state};
use super::{Answer, Arguments, Context, Stop, errno};
use crate::files::{Place, follow};
use alloc::rc::Rc;
use alloc::vec::Vec;

const CREATE: u32 = 1;
const FOLDER: u32 = 2;
const EXCLUSIVE: u32 = 4;
const TRUNCATE: u32 = 8;
const APPEND: u32 = 1;
/// The right to write, which opening for writing asks for.
const MAY_WRITE: u64 = 1 << 6;

/// The one folder that is open from the start is the root.
const ROOT: &[u8] = b"/";
/// Most bytes of a path.
const MOST_PATH_BYTES: u32 = 16 * 1024;
/// An entry of a listing, before its name.
const ENTRY_BYTES: usize = 24;
/// Most entries listed at once.
const MOST_LISTED: usize = 1024;

pub fn given(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    match context.get(arguments.small(0))? {
        Open::Folder { given: true, .. } => {
            memory.put_u32(arguments.small(1), 0)?;
            memory.put_u32(arguments.small(1).saturating_add(4), ROOT.len() as u32)
        }
        _ => Err(Stop::Errno(errno::BADF)),
    }
}

pub fn given_name(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    match context.get(arguments.small(0))? {
        Open::Folder { given: true, .. } if arguments.small(2) as usize >= ROOT.len() => {
            memory.put(arguments.small(1), ROOT)
        }
        Open::Folder { given: true, .. } => Err(Stop::Errno(errno::NAMETOOLONG)),
        _ => Err(Stop::Errno(errno::BADF)),
    }
}

/// Where the path leads whose folder, place in memory and length are these arguments.
fn place(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments, at: [usize; 3]) -> Result<Place, Stop> {
    let [folder, path, bytes] = at.map(|at| arguments.small(at));
    if bytes > MOST_PATH_BYTES {
        return Err(Stop::Errno(errno::NAMETOOLONG));
    }
    let folder = context.folder(folder)?;
    Ok(follow(&folder, memory.slice(path, bytes)?)?)
}

pub fn open(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let place = place(memory, context, arguments, [0, 2, 3])?;
    let (how, rights, flags) = (arguments.small(4), arguments.large(5), arguments.small(7));
    let writes = rights & MAY_WRITE != 0;
    let open = match place.node() {
        Ok(_) if how & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE => return Err(Stop::Errno(errno::EXIST)),
        Ok(node) if how & FOLDER != 0 => Open::Folder { folder: node.folder()?, given: false },
        Ok(crate::files::Node::Folder(folder)) => {
            if how & TRUNCATE != 0 {
                return Err(Stop::Errno(errno::ISDIR));
            }
            Open::Folder { folder, given: false }
        }
        Ok(crate::files::Node::File(file)) => {
            if how & TRUNCATE != 0 {
                file.resize(0, &context.world)?;
            }
            Open::File { file, at: 0, append: flags & APPEND != 0, writes }
        }
        Err(_) if how & (CREATE | FOLDER) == CREATE => {
            let world = Rc::clone(&context.world);
            let file = world.files.borrow_mut().make_file(&place, &world)?;
            Open::File { file, at: 0, append: flags & APPEND != 0, writes }
        }
        Err(trouble) => return Err(trouble.into()),
    };
    let number = context.insert(open)?;
    memory.put_u32(arguments.small(8), number)
}

pub fn state(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let node = place(memory, context, arguments, [0, 2, 3])?.node()?;
    put_state(memory, arguments.small(4), Some(&node))
}

pub fn make(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let place = place(memory, context, arguments, [0, 1, 2])?;
    let world = Rc::clone(&context.world);
    Ok(world.files.borrow_mut().make_folder(&place, &world)?)
}

pub fn remove_file(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let place = place(memory, context, arguments, [0, 1, 2])?;
    let world = Rc::clone(&context.world);
    Ok(world.files.borrow_mut().remove_file(&place, &world)?)
}

pub fn remove_folder(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let place = place(memory, context, arguments, [0, 1, 2])?;
    let world = Rc::clone(&context.world);
    Ok(world.files.borrow_mut().remove_folder(&place, &world)?)
}

pub fn rename(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let from = place(memory, context, arguments, [0, 1, 2])?;
    let to = place(memory, context, arguments, [3, 4, 5])?;
    let world = Rc::clone(&context.world);
    Ok(world.files.borrow_mut().rename(&from, &to, true, &world)?)
}

/// As many entries as fit, the last perhaps in part: the module asks on from the last whole one.
pub fn list(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let folder = context.folder(arguments.small(0))?;
    let room = memory.slice(arguments.small(1), arguments.small(2))?;
    let first = usize::try_from(arguments.large(3)).unwrap_or(usize::MAX);
    let most = (room.len() / ENTRY_BYTES + 1).min(MOST_LISTED);
    let mut used = 0;
    for (index, (name, node)) in folder.list(first, most).into_iter().enumerate() {
        let next = (first + index + 1) as u64;
        let mut entry = Vec::with_capacity(ENTRY_BYTES + name.len());
        entry.extend_from_slice(&next.to_le_bytes());
        entry.extend_from_slice(&node.number().to_le_bytes());
        entry.extend_from_slice(&(name.len() as u32).to_le_bytes());
        entry.extend_from_slice(&[kind_of(&node), 0, 0, 0]);
        entry.extend_from_slice(&name);
        let count = entry.len().min(room.len() - used);
        room[used..used + count].copy_from_slice(&entry[..count]);
        used += count;
    }
    context.moved = used as u64;
    memory.put_u32(arguments.small(4), used as u32)
}
