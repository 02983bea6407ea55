//! Devices on the first bus, as the firmware has set them up. There are no others.

use super::{in32, out32};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// The bridge that has ACPI's registers: device 31 on every q35.
const BRIDGE: Device = Device { slot: 31 };
const ACPI_BASE: u8 = 0x40;
const COMMAND: u8 = 0x04;
/// Answers to ports, to memory; may write to memory.
const COMMAND_ALL: u32 = 0x7;

/// One device.
#[derive(Clone, Copy)]
pub struct Device {
    slot: u32,
}

impl Device {
    /// Vendor and device in one number.
    pub fn find(id: u32) -> Option<Self> {
        (0..32).map(|slot| Self { slot }).find(|device| device.read(0) == id)
    }

    fn select(self, register: u8) {
        out32(ADDRESS, 0x8000_0000 | self.slot << 11 | u32::from(register));
    }

    fn read(self, register: u8) -> u32 {
        self.select(register);
        in32(DATA)
    }

    /// Has it answer and reach memory.
    pub fn enable(self) {
        let command = self.read(COMMAND);
        self.select(COMMAND);
        out32(DATA, command & 0xffff | COMMAND_ALL);
    }

    /// Its first window, if that is of ports.
    pub fn ports(self) -> Option<u16> {
        let base = self.read(0x10);
        (base & 1 == 1).then_some((base & 0xfffc) as u16)
    }

    /// Its first window, if that is of memory below 4 GiB.
    pub fn memory(self) -> Option<usize> {
        let base = self.read(0x10);
        (base & 1 == 0 && base & !0xf != 0).then_some((base & !0xf) as usize)
    }

    /// The interrupt line it raises.
    pub fn line(self) -> u8 {
        self.read(0x3c) as u8
    }
}

/// Where ACPI's registers are.
pub fn acpi_port() -> u16 {
    (BRIDGE.read(ACPI_BASE) & 0xff80) as u16
}
