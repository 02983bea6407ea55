//! Waiting for the clock, for input, for room for output.

use super::basics::nanos;
use super::context::Open;
use super::memory::Memory;
use super::{Answer, Arguments, Context, Stop, errno};
use alloc::vec::Vec;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
/// More are no single wait.
const MOST: u32 = 256;

const CLOCK: u8 = 0;
const READ: u8 = 1;
const WRITE: u8 = 2;
/// The time is one of the clock, and not from now on.
const ABSOLUTE: u8 = 1;

/// Something that is waited for has come.
struct Event {
    userdata: u64,
    kind: u8,
    error: u16,
    bytes: u64,
}

pub fn poll(memory: &mut Memory<'_>, context: &mut Context, arguments: &Arguments) -> Answer {
    let (subscriptions, events, count) = (arguments.small(0), arguments.small(1), arguments.small(2));
    if count == 0 || count > MOST {
        return Err(Stop::Errno(errno::INVAL));
    }
    memory.slice(subscriptions, count * SUBSCRIPTION_BYTES)?;
    memory.slice(events, count * EVENT_BYTES)?;
    let now = context.world.machine.micros();
    let since = *context.waits_since.get_or_insert(now);
    let (mut come, mut until) = (Vec::new(), None);
    for index in 0..count {
        let at = subscriptions + index * SUBSCRIPTION_BYTES;
        let (userdata, kind) = (memory.u64(at)?, memory.slice(at + 8, 1)?[0]);
        let event = |error, bytes| Event { userdata, kind, error, bytes };
        match kind {
            CLOCK => match due(memory, context, at, since) {
                Ok(due) if due <= now => come.push(event(0, 0)),
                Ok(due) => until = Some(until.map_or(due, |until: u64| until.min(due))),
                Err(Stop::Errno(number)) => come.push(event(number, 0)),
                Err(other) => return Err(other),
            },
            READ | WRITE => match ready(context, memory.u32(at + 16)?, kind) {
                Ok(Some(bytes)) => come.push(event(0, bytes)),
                Ok(None) => {}
                Err(number) => come.push(event(number, 0)),
            },
            _ => return Err(Stop::Errno(errno::INVAL)),
        }
    }
    if come.is_empty() {
        return Err(Stop::Wait(until));
    }
    context.waits_since = None;
    for (index, event) in come.iter().enumerate() {
        let at = events + index as u32 * EVENT_BYTES;
        memory.slice(at, EVENT_BYTES)?.fill(0);
        memory.put_u64(at, event.userdata)?;
        memory.put(at + 8, &event.error.to_le_bytes())?;
        memory.put(at + 10, &[event.kind])?;
        memory.put_u64(at + 16, event.bytes)?;
    }
    memory.put_u32(arguments.small(3), come.len() as u32)
}

/// When a clock's time comes, in microseconds since the kernel started.
fn due(memory: &mut Memory<'_>, context: &Context, at: u32, since: u64) -> Result<u64, Stop> {
    let (clock, timeout) = (memory.u32(at + 16)?, memory.u64(at + 24)?);
    let shows = nanos(context, clock)?;
    let micros = |nanos: u64| nanos.div_ceil(1000);
    Ok(match memory.slice(at + 40, 1)?[0] & ABSOLUTE {
        0 => since.saturating_add(micros(timeout)),
        _ => context.world.machine.micros().saturating_add(micros(timeout.saturating_sub(shows))),
    })
}

/// How much can be read or written at once, if anything can.
fn ready(context: &mut Context, number: u32, kind: u8) -> Result<Option<u64>, u16> {
    let streams = alloc::rc::Rc::clone(&context.streams);
    let streams = streams.borrow();
    match (context.get(number), kind) {
        (Ok(Open::Input), READ) => {
            let bytes = streams.input.len() as u64;
            Ok((bytes > 0 || streams.input_ended).then_some(bytes))
        }
        (Ok(Open::Output(channel)), WRITE) => {
            let room = streams.room(*channel) as u64;
            Ok((room > 0 || streams.hung_up).then_some(room))
        }
        (Ok(Open::File { file, at, .. }), READ) => Ok(Some(file.bytes().saturating_sub(*at))),
        (Ok(Open::File { .. }), _) => Ok(Some(0)),
        _ => Err(errno::BADF),
    }
}
