//! What QEMU tells a kernel at its entry: where memory is, and the command line.

use super::{in8, out16};
use core::arch::x86_64::__cpuid;

/// "xEn3", little-endian.
const MAGIC: u32 = 0x336e_c578;
/// Memory that is memory.
const RAM: u32 = 1;
/// Longer command lines are cut.
const COMMAND_LINE_BYTES: usize = 2048;
/// What one page of the third level maps.
const GIB: u64 = 1 << 30;
/// What the boot code has mapped.
const MAPPED_FIRST: u64 = 4 * GIB;
/// What one page of third level entries can map.
const MAPPED_MOST: u64 = 512 * GIB;

/// `hvm_start_info`.
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    modules_at: u64,
    command_line_at: u64,
    rsdp_at: u64,
    memory_map_at: u64,
    memory_map_entries: u32,
    reserved: u32,
}

/// `hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    start: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

unsafe extern "C" {
    static mut level2: [u64; 4 * 512];
    static mut level3: [u64; 512];
    static image_end: u8;
}

/// What was said at the entry, copied from where it lay.
pub struct Boot {
    command_line: [u8; COMMAND_LINE_BYTES],
    length: usize,
    /// All memory of the machine that can be used, the kernel's own part among it.
    pub memory_bytes: u64,
}

impl Boot {
    /// Reads it, gives the heap all memory that is free, and takes the lowest page away.
    ///
    /// # Safety
    /// Once, with the address that stood in the register at the entry.
    pub unsafe fn read(start_info: usize) -> Self {
        // SAFETY: QEMU put it there; the first 4 GiB are mapped as they are.
        let info = unsafe { &*(start_info as *const StartInfo) };
        assert!(info.magic == MAGIC && info.version >= 1, "started by something else than QEMU's PVH entry");
        let mut boot = Self { command_line: [0; COMMAND_LINE_BYTES], length: 0, memory_bytes: 0 };
        let text = info.command_line_at as *const u8;
        while !text.is_null() && boot.length < COMMAND_LINE_BYTES {
            // SAFETY: it ends with a zero.
            let byte = unsafe { text.add(boot.length).read() };
            if byte == 0 {
                break;
            }
            boot.command_line[boot.length] = byte;
            boot.length += 1;
        }
        let mapped = map_the_rest();
        // SAFETY: the table is as long as it says.
        let map = unsafe {
            core::slice::from_raw_parts(info.memory_map_at as *const MapEntry, info.memory_map_entries as usize)
        };
        let first_free = (&raw const image_end) as u64;
        for entry in map.iter().filter(|entry| entry.kind == RAM) {
            boot.memory_bytes += entry.bytes;
            let (start, end) = (entry.start.max(first_free), (entry.start + entry.bytes).min(mapped));
            if start < end {
                // SAFETY: nothing else lies there: the firmware's part is below the kernel.
                unsafe { super::heap::claim(start as usize, end as usize) };
            }
        }
        take_lowest_page_away();
        boot
    }

    /// The value of `name=value` on the command line. The last one counts.
    pub fn option(&self, name: &str) -> Option<&str> {
        let line = core::str::from_utf8(&self.command_line[..self.length]).ok()?;
        line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// How many processors the machine has, as its firmware is told.
pub fn vcpus() -> u16 {
    const SELECT: u16 = 0x510;
    const DATA: u16 = 0x511;
    const PROCESSORS: u16 = 5;
    out16(SELECT, PROCESSORS);
    u16::from_le_bytes([in8(DATA), in8(DATA)])
}

/// Maps what is above 4 GiB, if the processor has pages of a GiB. Up to where memory is mapped now.
fn map_the_rest() -> u64 {
    const LARGE: u64 = 0x83;
    if __cpuid(0x8000_0001).edx & 1 << 26 == 0 {
        return MAPPED_FIRST;
    }
    for at in MAPPED_FIRST / GIB..MAPPED_MOST / GIB {
        // SAFETY: entries that were not present; nothing was cached of them.
        unsafe { (&raw mut level3).cast::<u64>().add(at as usize).write((at * GIB) | LARGE) };
    }
    MAPPED_MOST
}

/// So that a null pointer faults, and a stack that ran over.
fn take_lowest_page_away() {
    // SAFETY: what QEMU left there was read; the stack begins above it.
    unsafe {
        (&raw mut level2).cast::<u64>().write(0);
        core::arch::asm!("invlpg [{}]", in(reg) 0usize, options(nostack));
    }
}
