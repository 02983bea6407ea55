//! Arguments, variables, clocks, randomness, the end.

use super::memory::Memory;
use super::{Answer, Arguments, Context, Stop, errno};
use alloc::vec::Vec;
use sublet_guest::messages::Status;

/// Clocks of WASI.
const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;

/// What can succeed without doing anything.
pub fn nothing(_: &mut Memory<'_>, _: &mut Context, _: &Arguments) -> Answer {
    Ok(())
}

pub fn args(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    put_list(memory, &context.given.words, arguments)
}

pub fn args_sizes(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    put_sizes(memory, &context.given.words, arguments)
}

pub fn environ(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    put_list(memory, &context.given.env, arguments)
}

pub fn environ_sizes(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    put_sizes(memory, &context.given.env, arguments)
}

/// Pointers at one place, what they point to at another; each ends with a zero.
fn put_list(memory: &mut Memory<'_>, list: &[Vec<u8>], arguments: &Arguments) -> Answer {
    let (mut pointer, mut at) = (arguments.small(0), arguments.small(1));
    for text in list {
        memory.put_u32(pointer, at)?;
        memory.put(at, text)?;
        at = at.saturating_add(text.len() as u32);
        memory.put(at, &[0])?;
        at = at.saturating_add(1);
        pointer = pointer.saturating_add(4);
    }
    Ok(())
}

fn put_sizes(memory: &mut Memory<'_>, list: &[Vec<u8>], arguments: &Arguments) -> Answer {
    memory.put_u32(arguments.small(0), list.len() as u32)?;
    memory.put_u32(arguments.small(1), list.iter().map(|text| text.len() as u32 + 1).sum())
}

pub fn clock_time(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    memory.put_u64(arguments.small(2), nanos(context, arguments.small(0))?)
}

pub fn clock_resolution(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    nanos(context, arguments.small(0))?;
    memory.put_u64(arguments.small(1), 1000)
}

/// What a clock shows.
pub fn nanos(context: &Context, clock: u32) -> Result<u64, Stop> {
    match clock {
        REALTIME => Ok(context.world.wall_micros() * 1000),
        MONOTONIC => Ok(context.world.machine.micros() * 1000),
        _ => Err(Stop::Errno(errno::NOTSUP)),
    }
}

pub fn random(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let bytes = memory.slice(arguments.small(0), arguments.small(1))?;
    context.moved = bytes.len() as u64 * 8;
    if context.world.random.borrow_mut().fill(bytes) { Ok(()) } else { Err(Stop::Errno(errno::NOTSUP)) }
}

pub fn exit(_: &mut Memory<'_>, _: &mut Context, arguments: &Arguments) -> Answer {
    Err(Stop::Exit(Status::Code(arguments.small(0) as u8)))
}
