//! The machine: a q35 of QEMU's, one processor of it. All `unsafe` of the kernel is below here.

pub mod boot;
pub mod clock;
pub mod heap;
pub mod interrupts;
pub mod panic;
mod pci;
pub mod port;
pub mod power;
pub mod serial;
mod virtio;

use core::arch::{asm, global_asm};

global_asm!(include_str!("boot.s"));
global_asm!(include_str!("interrupts.s"));
global_asm!(include_str!("memory_functions.s"));

/// Writes to a port of the processor.
pub fn out8(port: u16, value: u8) {
    // SAFETY: what a port does is the caller's matter; memory of the program is not touched.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) }
}

/// The same with two bytes.
pub fn out16(port: u16, value: u16) {
    // SAFETY: as above.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) }
}

/// The same with four bytes.
pub fn out32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) }
}

/// Reads from a port of the processor.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) }
    value
}

/// The same of two bytes.
pub fn in16(port: u16) -> u16 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack, preserves_flags)) }
    value
}

/// The same of four bytes.
pub fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags)) }
    value
}
