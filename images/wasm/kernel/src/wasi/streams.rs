//! What is open: standard input, output and error, and files.

use super::context::Open;
use super::memory::Memory;
use super::{Answer, Arguments, Context, Stop, errno};
use crate::files::{File, Node};
use crate::job::UNHEARD;
use alloc::rc::Rc;

/// Kinds of files in WASI: of streams it says nothing, so that libraries take them for pipes.
const UNKNOWN: u8 = 0;
const FOLDER: u8 = 3;
const FILE: u8 = 4;

const APPEND: u16 = 1;
const ALL_RIGHTS: u64 = (1 << 29) - 1;

pub fn kind_of(node: &Node) -> u8 {
    match node {
        Node::File(_) => FILE,
        Node::Folder(_) => FOLDER,
    }
}

pub fn read(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let pieces = memory.pieces(arguments.small(1), arguments.small(2))?;
    let count = match context.get(arguments.small(0))? {
        Open::Input => {
            let mut streams = context.streams.borrow_mut();
            if streams.input.is_empty() && !streams.input_ended && pieces.iter().any(|piece| piece.1 > 0) {
                return Err(Stop::Wait(None));
            }
            let mut count = 0;
            for (at, bytes) in pieces {
                count += streams.read(memory.slice(at, bytes)?) as u64;
            }
            count
        }
        Open::File { file, at, .. } => {
            let count = read_file(memory, file, *at, &pieces)?;
            *at += count;
            count
        }
        Open::Output(_) => return Err(Stop::Errno(errno::BADF)),
        Open::Folder { .. } => return Err(Stop::Errno(errno::ISDIR)),
    };
    context.moved = count;
    memory.put_u32(arguments.small(3), count as u32)
}

pub fn read_at(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let pieces = memory.pieces(arguments.small(1), arguments.small(2))?;
    let (file, _) = file_of(context, arguments.small(0))?;
    let count = read_file(memory, &file, arguments.large(3), &pieces)?;
    context.moved = count;
    memory.put_u32(arguments.small(4), count as u32)
}

fn read_file(memory: &mut Memory<'_>, file: &File, at: u64, pieces: &[(u32, u32)]) -> Result<u64, Stop> {
    let mut count = 0;
    for (place, bytes) in pieces {
        count += file.read(at.saturating_add(count), memory.slice(*place, *bytes)?) as u64;
    }
    Ok(count)
}

pub fn write(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let pieces = memory.pieces(arguments.small(1), arguments.small(2))?;
    let world = Rc::clone(&context.world);
    let count = match context.get(arguments.small(0))? {
        Open::Output(channel) => {
            let channel = *channel;
            let mut streams = context.streams.borrow_mut();
            if streams.hung_up {
                return Err(Stop::Exit(UNHEARD));
            }
            if streams.room(channel) == 0 && pieces.iter().any(|piece| piece.1 > 0) {
                return Err(Stop::Wait(None));
            }
            let mut count = 0;
            for (at, bytes) in pieces {
                let taken = streams.write(channel, memory.slice(at, bytes)?);
                count += taken as u64;
                if taken < bytes as usize {
                    break;
                }
            }
            count
        }
        Open::File { writes: false, .. } | Open::Input => return Err(Stop::Errno(errno::BADF)),
        Open::File { file, at, append, .. } => {
            if *append {
                *at = file.bytes();
            }
            let mut count = 0;
            for (place, bytes) in pieces {
                file.write(*at, memory.slice(place, bytes)?, &world)?;
                *at += u64::from(bytes);
                count += u64::from(bytes);
            }
            count
        }
        Open::Folder { .. } => return Err(Stop::Errno(errno::ISDIR)),
    };
    context.moved = count;
    memory.put_u32(arguments.small(3), count as u32)
}

pub fn write_at(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let pieces = memory.pieces(arguments.small(1), arguments.small(2))?;
    let (file, writes) = file_of(context, arguments.small(0))?;
    if !writes {
        return Err(Stop::Errno(errno::BADF));
    }
    let mut count = 0;
    for (place, bytes) in pieces {
        file.write(arguments.large(3).saturating_add(count), memory.slice(place, bytes)?, &context.world)?;
        count += u64::from(bytes);
    }
    context.moved = count;
    memory.put_u32(arguments.small(4), count as u32)
}

/// The file that a number stands for, and whether it may be written.
fn file_of(context: &mut Context, number: u32) -> Result<(Rc<File>, bool), Stop> {
    match context.get(number)? {
        Open::File { file, writes, .. } => Ok((Rc::clone(file), *writes)),
        Open::Folder { .. } => Err(Stop::Errno(errno::ISDIR)),
        Open::Input | Open::Output(_) => Err(Stop::Errno(errno::SPIPE)),
    }
}

pub fn seek(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let offset = arguments.large(1) as i64;
    let now = match context.get(arguments.small(0))? {
        Open::File { file, at, .. } => {
            let base = match arguments.small(2) {
                0 => 0,
                1 => *at,
                2 => file.bytes(),
                _ => return Err(Stop::Errno(errno::INVAL)),
            };
            *at = base.checked_add_signed(offset).ok_or(Stop::Errno(errno::INVAL))?;
            *at
        }
        Open::Folder { .. } => return Err(Stop::Errno(errno::ISDIR)),
        Open::Input | Open::Output(_) => return Err(Stop::Errno(errno::SPIPE)),
    };
    memory.put_u64(arguments.small(3), now)
}

pub fn tell(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    match context.get(arguments.small(0))? {
        Open::File { at, .. } => memory.put_u64(arguments.small(1), *at),
        _ => Err(Stop::Errno(errno::SPIPE)),
    }
}

pub fn close(_: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    context.close(arguments.small(0)).map(drop)
}

pub fn renumber(_: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    context.renumber(arguments.small(0), arguments.small(1))
}

pub fn set_size(_: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let (file, writes) = file_of(context, arguments.small(0))?;
    if !writes {
        return Err(Stop::Errno(errno::BADF));
    }
    context.moved = arguments.large(1).saturating_sub(file.bytes());
    Ok(file.resize(arguments.large(1), &context.world)?)
}

pub fn state(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let (kind, flags) = match context.get(arguments.small(0))? {
        Open::Input | Open::Output(_) => (UNKNOWN, 0),
        Open::File { append, .. } => (FILE, if *append { APPEND } else { 0 }),
        Open::Folder { .. } => (FOLDER, 0),
    };
    let at = arguments.small(1);
    memory.slice(at, 24)?.fill(0);
    memory.put(at, &[kind])?;
    memory.put(at + 2, &flags.to_le_bytes())?;
    memory.put_u64(at + 8, ALL_RIGHTS)?;
    memory.put_u64(at + 16, ALL_RIGHTS)
}

pub fn file_state(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let node = match context.get(arguments.small(0))? {
        Open::File { file, .. } => Some(Node::File(Rc::clone(file))),
        Open::Folder { folder, .. } => Some(Node::Folder(Rc::clone(folder))),
        Open::Input | Open::Output(_) => None,
    };
    put_state(memory, arguments.small(1), node.as_ref())
}

/// `filestat` of a file or folder; of a stream nothing is known.
pub fn put_state(memory: &mut Memory<'_>, at: u32, node: Option<&Node>) -> Answer {
    memory.slice(at, 64)?.fill(0);
    let Some(node) = node else { return Ok(()) };
    let changed = node.changed().get() * 1000;
    memory.put_u64(at + 8, node.number())?;
    memory.put(at + 16, &[kind_of(node)])?;
    memory.put_u64(at + 24, 1)?;
    memory.put_u64(at + 32, node.bytes())?;
    [40, 48, 56].into_iter().try_for_each(|field| memory.put_u64(at + field, changed))
}
