//! Turning the machine off.

use super::{interrupts, out16, pci};

/// Where in ACPI's registers sleep is asked for.
const CONTROL: u16 = 4;
/// The deepest sleep of QEMU's machines, now.
const OFF: u16 = 0x2000;

/// Turns it off.
pub fn off() -> ! {
    out16(pci::acpi_port() + CONTROL, OFF);
    interrupts::stop()
}
