//! Sleep until something happens. Interrupts do nothing else than to end it.

use super::{clock, out8};
use core::arch::asm;

const FIRST_CONTROLLER: u16 = 0x20;
const SECOND_CONTROLLER: u16 = 0xa0;
/// Where the lines of the controllers begin, above the exceptions.
const FIRST_VECTOR: u8 = 32;
/// The line of the timer.
const TIMER_LINE: u8 = 0;
/// The line through which the first controller hears the second.
const CASCADE_LINE: u8 = 2;
/// Ticks a second of the timer.
const TIMER_HZ: u64 = 1_193_182;
/// What the page fault and the double fault stand on: the stack may be what faulted.
const FAULT_STACK_BYTES: usize = 16 * 1024;
const FAULTS: usize = 32;
const CODE: u16 = 0x08;
const TASK: u16 = 0x18;

#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    low: u16,
    code: u16,
    stack: u8,
    kind: u8,
    middle: u16,
    high: u32,
    reserved: u32,
}

impl Gate {
    const NONE: Self = Self { low: 0, code: 0, stack: 0, kind: 0, middle: 0, high: 0, reserved: 0 };

    fn to(address: usize, stack: u8) -> Self {
        let (low, middle, high) = (address as u16, (address >> 16) as u16, (address >> 32) as u32);
        Self { low, code: CODE, stack, kind: 0x8e, middle, high, reserved: 0 }
    }
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// The task state, of which only the first stack for faults is used.
#[repr(C, packed)]
struct Task {
    before: [u8; 36],
    fault_stack: u64,
    after: [u8; 60],
}

static mut GATES: [Gate; 48] = [Gate::NONE; 48];
static mut SEGMENTS: [u64; 5] = [0, 0x00af_9a00_0000_ffff, 0x00cf_9200_0000_ffff, 0, 0];
static mut TASK_STATE: Task = Task { before: [0; 36], fault_stack: 0, after: [0; 60] };
static mut FAULT_STACK: [u8; FAULT_STACK_BYTES] = [0; FAULT_STACK_BYTES];

unsafe extern "C" {
    static fault_stubs: u8;
    static wake_stub: u8;
}

/// Sets up what faults and what wakes; nothing wakes yet.
pub fn set_up() {
    let (stubs, wake) = ((&raw const fault_stubs) as usize, (&raw const wake_stub) as usize);
    // SAFETY: once, by the one processor, before any interrupt.
    unsafe {
        TASK_STATE.fault_stack = (&raw const FAULT_STACK) as u64 + FAULT_STACK_BYTES as u64;
        let (base, limit) = ((&raw const TASK_STATE) as u64, size_of::<Task>() as u64 - 1);
        SEGMENTS[3] = limit & 0xffff | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        SEGMENTS[4] = base >> 32;
        let segments = Pointer { limit: size_of::<[u64; 5]>() as u16 - 1, base: (&raw const SEGMENTS) as u64 };
        GATES = core::array::from_fn(|at| if at < FAULTS { Gate::to(stubs + 16 * at, 1) } else { Gate::to(wake, 0) });
        let gates = Pointer { limit: size_of::<[Gate; 48]>() as u16 - 1, base: (&raw const GATES) as u64 };
        asm!(
            "lgdt [{segments}]", "lidt [{gates}]", "ltr {task:x}",
            segments = in(reg) &segments, gates = in(reg) &gates, task = in(reg) TASK, options(nostack)
        );
    }
    for (controller, vector, wiring) in
        [(FIRST_CONTROLLER, FIRST_VECTOR, 1 << CASCADE_LINE), (SECOND_CONTROLLER, FIRST_VECTOR + 8, CASCADE_LINE)]
    {
        for (port, value) in [(0, 0x11), (1, vector), (1, wiring), (1, 1), (1, 0xff)] {
            out8(controller + port, value);
        }
    }
}

/// From now on the timer wakes, and what raises this line.
pub fn wake_at(line: u8) {
    let open = 1u16 << TIMER_LINE | 1 << CASCADE_LINE | 1 << line;
    let [first, second] = (!open).to_le_bytes();
    out8(FIRST_CONTROLLER + 1, first);
    out8(SECOND_CONTROLLER + 1, second);
}

/// Sleeps until a line is raised, or the time has come; sometimes for less.
pub fn sleep(until_micros: Option<u64>) {
    if let Some(until) = until_micros {
        let left = until.saturating_sub(clock::micros());
        // One shot of 16 bits: at most 55 ms.
        let ticks = (left.saturating_mul(TIMER_HZ) / 1_000_000).clamp(1, 0xffff) as u16;
        let [low, high] = ticks.to_le_bytes();
        out8(0x43, 0x30);
        out8(0x40, low);
        out8(0x40, high);
    }
    // SAFETY: what wakes changes nothing; an interrupt that is pending comes after `hlt` began.
    unsafe { asm!("sti", "hlt", "cli") }
}

/// Does nothing for ever.
pub fn stop() -> ! {
    loop {
        // SAFETY: nothing wakes it.
        unsafe { asm!("cli", "hlt", options(nostack)) }
    }
}

#[unsafe(no_mangle)]
extern "C" fn fault(vector: u64, code: u64, instruction: usize, address: usize) -> ! {
    panic!("fault {vector} (code {code:#x}) at {instruction:#x}, address {address:#x}")
}
