//! Time, from the processor's own counter.

use super::{in32, pci};
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Ticks a second of the timer that ACPI has, by which the counter is measured.
const ACPI_TIMER_HZ: u64 = 3_579_545;
/// It has so many bits.
const ACPI_TIMER_MASK: u32 = 0xff_ffff;
/// For so many of its ticks: 5 ms.
const MEASURED_TICKS: u32 = (ACPI_TIMER_HZ / 200) as u32;
/// Where in the ACPI registers it is.
const ACPI_TIMER: u16 = 8;

static START: AtomicU64 = AtomicU64::new(0);
/// Microseconds a tick, times 2^32.
static SCALE: AtomicU64 = AtomicU64::new(0);

fn ticks() -> u64 {
    // SAFETY: every processor has it.
    unsafe { _rdtsc() }
}

/// Starts counting. The host may have measured the counter, in kHz.
pub fn start(known_khz: Option<u64>) {
    START.store(ticks(), Relaxed);
    let khz = known_khz.filter(|khz| *khz > 0).unwrap_or_else(measure_khz).max(1);
    SCALE.store((1000u64 << 32) / khz, Relaxed);
}

fn measure_khz() -> u64 {
    let port = pci::acpi_port() + ACPI_TIMER;
    let (first, begun) = (in32(port), ticks());
    let mut passed = 0;
    while passed < MEASURED_TICKS {
        passed = in32(port).wrapping_sub(first) & ACPI_TIMER_MASK;
    }
    (ticks() - begun) * ACPI_TIMER_HZ / u64::from(passed) / 1000
}

/// Microseconds since the kernel started.
pub fn micros() -> u64 {
    let passed = ticks().wrapping_sub(START.load(Relaxed));
    ((u128::from(passed) * u128::from(SCALE.load(Relaxed))) >> 32) as u64
}
