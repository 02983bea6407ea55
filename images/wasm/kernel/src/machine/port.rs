//! The virtio serial port over which the host speaks.
//!
//! ```text
//! kernel                        device
//!  | ready -----------------------> |
//!  | <------------------ port added |    for each
//!  | port ready ------------------> |
//!  | <------------------- its name  |
//!  | open ------------------------> |    the one with our name; from now on bytes come
//!  | <----------------- open, or not|    whenever a host connects, and when it goes
//! ```

use super::virtio::{Direction, Queue, Registers};
use super::{clock, pci};
use alloc::vec::Vec;

/// QEMU's serial device, as it is on the first bus.
const SERIAL: u32 = 0x1003_1af4;
/// There is more than one port.
const MULTIPORT: u32 = 1 << 1;

const CONTROL_IN: u16 = 2;
const CONTROL_OUT: u16 = 3;
const CONTROL_BYTES: usize = 256;
const CONTROL_BUFFERS: usize = 16;
/// What QEMU reads from a socket at once.
const IN_BYTES: usize = 4096;
const IN_BUFFERS: usize = 64;
const OUT_BYTES: usize = 32 * 1024;
const OUT_BUFFERS: usize = 8;

/// The device has named its ports by then.
const FOUND_WITHIN_MICROS: u64 = 20_000_000;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// The control queues of the device.
struct Control {
    input: Queue,
    output: Queue,
    free: Vec<u16>,
}

/// Something that the device says of a port.
struct Said {
    port: u32,
    event: u16,
    value: u16,
    name: Vec<u8>,
}

impl Control {
    fn tell(&mut self, port: u32, event: u16, value: u16) {
        while let Some((id, _)) = self.output.returned() {
            self.free.push(id);
        }
        // Never more than one answer to a message of the device; it reads faster than it speaks.
        let id = self.free.pop().expect("a control buffer");
        let buffer = self.output.buffer(id);
        buffer[..4].copy_from_slice(&port.to_le_bytes());
        buffer[4..6].copy_from_slice(&event.to_le_bytes());
        buffer[6..8].copy_from_slice(&value.to_le_bytes());
        self.output.send(id, 8);
        self.output.notify();
    }

    fn heard(&mut self) -> Option<Said> {
        let (id, length) = self.input.returned()?;
        let bytes = &self.input.buffer(id)[..length];
        let said = (length >= 8).then(|| Said {
            port: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            event: u16::from_le_bytes([bytes[4], bytes[5]]),
            value: u16::from_le_bytes([bytes[6], bytes[7]]),
            name: bytes[8..].to_vec(),
        });
        self.input.offer(id);
        self.input.notify();
        said
    }
}

/// The port.
pub struct Port {
    id: u32,
    line: u8,
    registers: Registers,
    control: Control,
    input: Queue,
    output: Queue,
    free: Vec<u16>,
    /// A buffer of which not all was taken yet: which, from where, up to where.
    begun: Option<(u16, usize, usize)>,
    connected: bool,
}

impl Port {
    /// Finds it by its name, and opens it.
    pub fn open(name: &[u8]) -> Self {
        let device = pci::Device::find(SERIAL).expect("this machine has no virtio serial device");
        let registers = Registers::take(device).expect("the virtio serial device does not answer at ports");
        assert!(registers.agree(MULTIPORT) == MULTIPORT, "the virtio serial device has one port only");
        let input = registers.queue(CONTROL_IN, CONTROL_BYTES, CONTROL_BUFFERS, Direction::In);
        let output = registers.queue(CONTROL_OUT, CONTROL_BYTES, CONTROL_BUFFERS, Direction::Out);
        let free = (0..output.buffers()).collect();
        let mut control = Control { input, output, free };
        registers.ready();
        control.input.notify();
        control.tell(u32::MAX, DEVICE_READY, 1);
        let (id, connected) = find(&mut control, name);
        let first = if id == 0 { 0 } else { 2 + 2 * id as u16 };
        let input = registers.queue(first, IN_BYTES, IN_BUFFERS, Direction::In);
        let output = registers.queue(first + 1, OUT_BYTES, OUT_BUFFERS, Direction::Out);
        input.notify();
        control.tell(id, PORT_OPEN, 1);
        let free = (0..output.buffers()).collect();
        Self { id, line: device.line(), registers, control, input, output, free, begun: None, connected }
    }

    /// The interrupt line it raises.
    pub fn line(&self) -> u8 {
        self.line
    }

    /// Takes the interrupt back; what it told of is looked at afterwards.
    pub fn lower(&self) {
        self.registers.lower();
    }

    /// Whether a host has the other end open.
    pub fn is_connected(&mut self) -> bool {
        while let Some(said) = self.control.heard() {
            if (said.port, said.event) == (self.id, PORT_OPEN) {
                self.connected = said.value != 0;
            }
        }
        self.connected
    }

    /// Takes bytes that came.
    pub fn receive(&mut self, room: &mut [u8]) -> usize {
        let (mut taken, mut offered) = (0, false);
        while taken < room.len() {
            let next = self.begun.take().or_else(|| self.input.returned().map(|(id, length)| (id, 0, length)));
            let Some((id, from, to)) = next else { break };
            let count = (to - from).min(room.len() - taken);
            room[taken..taken + count].copy_from_slice(&self.input.buffer(id)[from..from + count]);
            taken += count;
            if from + count < to {
                self.begun = Some((id, from + count, to));
            } else {
                self.input.offer(id);
                offered = true;
            }
        }
        if offered {
            self.input.notify();
        }
        taken
    }

    /// Whether the device has taken all that was sent.
    pub fn has_sent(&mut self) -> bool {
        while let Some((id, _)) = self.output.returned() {
            self.free.push(id);
        }
        self.free.len() == usize::from(self.output.buffers())
    }

    /// Sends as much as there is room for.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        self.has_sent();
        let mut sent = 0;
        while sent < bytes.len()
            && let Some(id) = self.free.pop()
        {
            let count = (bytes.len() - sent).min(OUT_BYTES);
            self.output.buffer(id)[..count].copy_from_slice(&bytes[sent..sent + count]);
            self.output.send(id, count);
            sent += count;
        }
        if sent > 0 {
            self.output.notify();
        }
        sent
    }
}

/// Waits for the port of that name; whether a host is connected already.
fn find(control: &mut Control, name: &[u8]) -> (u32, bool) {
    let begun = clock::micros();
    let (mut found, mut open) = (None, Vec::new());
    loop {
        let Some(said) = control.heard() else {
            // Its state follows its name at once, if it follows.
            if let Some(id) = found {
                return (id, open.contains(&id));
            }
            assert!(clock::micros() - begun < FOUND_WITHIN_MICROS, "no virtio port has the guest channel's name");
            core::hint::spin_loop();
            continue;
        };
        match said.event {
            PORT_ADD => control.tell(said.port, PORT_READY, 1),
            PORT_NAME if said.name.strip_suffix(b"\0").unwrap_or(&said.name) == name => found = Some(said.port),
            PORT_OPEN if said.value != 0 => open.push(said.port),
            _ => {}
        }
    }
}
