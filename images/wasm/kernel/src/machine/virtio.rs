//! One queue of a virtio device, by the interface that every such device of QEMU's has on the first
//! bus: registers at ports, and a ring whose size and layout are the device's.

use super::{in8, in16, in32, out8, out16, out32, pci};
use alloc::alloc::{Layout, alloc_zeroed};
use core::sync::atomic::{Ordering, fence};

/// A page, by which the device counts.
const PAGE_BYTES: usize = 4096;
/// The device writes to this buffer.
const WRITES: u16 = 2;

const DRIVER_KNOWS: u8 = 1 | 2;
const DRIVER_READY: u8 = 4;

/// A device's registers.
#[derive(Clone, Copy)]
pub struct Registers(u16);

impl Registers {
    /// Of a device that answers at ports; it is reset, and told that there is a driver.
    pub fn take(device: pci::Device) -> Option<Self> {
        device.enable();
        let registers = Self(device.ports()?);
        registers.set_status(0);
        registers.set_status(DRIVER_KNOWS);
        Some(registers)
    }

    /// Agrees on features, of those the device has.
    pub fn agree(self, wanted: u32) -> u32 {
        let agreed = in32(self.0) & wanted;
        out32(self.0 + 4, agreed);
        agreed
    }

    /// Everything is set up.
    pub fn ready(self) {
        self.set_status(DRIVER_KNOWS | DRIVER_READY);
    }

    fn set_status(self, status: u8) {
        out8(self.0 + 18, status);
    }

    /// Takes the interrupt back that the device raised, if it did.
    pub fn lower(self) {
        in8(self.0 + 19);
    }

    /// Sets up a queue.
    pub fn queue(self, index: u16, buffer_bytes: usize, most: usize, direction: Direction) -> Queue {
        out16(self.0 + 14, index);
        let size = usize::from(in16(self.0 + 12));
        assert!(size.is_power_of_two(), "the port's device has no queue {index}");
        let used_at = (16 * size + 2 * (3 + size)).next_multiple_of(PAGE_BYTES);
        let bytes = used_at + (6 + 8 * size).next_multiple_of(PAGE_BYTES);
        let ring = pages(bytes);
        out32(self.0 + 8, (ring as usize / PAGE_BYTES) as u32);
        let buffers = size.min(most);
        let memory = pages(buffers * buffer_bytes);
        let mut queue =
            Queue { registers: self, index, size, ring, used_at, memory, buffers, buffer_bytes, next: 0, seen: 0 };
        for at in 0..buffers {
            queue.describe(at as u16, buffer_bytes, direction);
            if direction == Direction::In {
                queue.offer(at as u16);
            }
        }
        queue
    }
}

/// Whether the device writes or reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It writes.
    In,
    /// It reads.
    Out,
}

/// A queue and its buffers, all of one size.
pub struct Queue {
    registers: Registers,
    index: u16,
    size: usize,
    ring: *mut u8,
    used_at: usize,
    memory: *mut u8,
    buffers: usize,
    buffer_bytes: usize,
    /// How many were offered to the device, and how many came back.
    next: u16,
    seen: u16,
}

impl Queue {
    /// Buffers that the device has given back, one at a time, each with how much is in it.
    pub fn returned(&mut self) -> Option<(u16, usize)> {
        let used = self.at::<u16>(self.used_at + 2);
        // SAFETY: within the ring; the device writes there.
        if unsafe { used.read_volatile() } == self.seen {
            return None;
        }
        fence(Ordering::Acquire);
        let entry = self.used_at + 4 + 8 * (usize::from(self.seen) % self.size);
        // SAFETY: as above.
        let (id, length) =
            unsafe { (self.at::<u32>(entry).read_volatile(), self.at::<u32>(entry + 4).read_volatile()) };
        self.seen = self.seen.wrapping_add(1);
        // What a device says is not believed further than our own buffers.
        ((id as usize) < self.buffers).then_some((id as u16, (length as usize).min(self.buffer_bytes)))
    }

    /// A buffer that the device has given back, or never had.
    pub fn buffer(&mut self, id: u16) -> &mut [u8] {
        assert!(usize::from(id) < self.buffers);
        // SAFETY: allocated for ever, and the device is done with it.
        unsafe {
            core::slice::from_raw_parts_mut(self.memory.add(usize::from(id) * self.buffer_bytes), self.buffer_bytes)
        }
    }

    /// Says how much of a buffer there is to send, and offers it.
    pub fn send(&mut self, id: u16, bytes: usize) {
        self.describe(id, bytes, Direction::Out);
        self.offer(id);
    }

    /// Offers a buffer to the device, which hears of it by [`Self::notify`].
    pub fn offer(&mut self, id: u16) {
        let available = 16 * self.size;
        // SAFETY: within the ring, which is ours to write there.
        unsafe {
            self.at::<u16>(available + 4 + 2 * (usize::from(self.next) % self.size)).write_volatile(id);
            fence(Ordering::Release);
            self.next = self.next.wrapping_add(1);
            self.at::<u16>(available + 2).write_volatile(self.next);
        }
        fence(Ordering::SeqCst);
    }

    /// Has the device look.
    pub fn notify(&self) {
        out16(self.registers.0 + 16, self.index);
    }

    /// How many buffers there are.
    pub fn buffers(&self) -> u16 {
        self.buffers as u16
    }

    fn describe(&mut self, id: u16, bytes: usize, direction: Direction) {
        let at = 16 * usize::from(id);
        let address = self.memory as usize + usize::from(id) * self.buffer_bytes;
        // SAFETY: within the ring.
        unsafe {
            self.at::<u64>(at).write_volatile(address as u64);
            self.at::<u32>(at + 8).write_volatile(bytes as u32);
            self.at::<u16>(at + 12).write_volatile(if direction == Direction::In { WRITES } else { 0 });
        }
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        // SAFETY: offsets are within what was allocated, and aligned as the layout is.
        unsafe { self.ring.add(offset).cast() }
    }
}

/// Zeroed pages, for ever.
fn pages(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("a size that is one");
    // SAFETY: not of size zero.
    let place = unsafe { alloc_zeroed(layout) };
    assert!(!place.is_null(), "no memory for the port");
    place
}
