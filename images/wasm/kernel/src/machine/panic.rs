//! The end of a kernel that does not know further: said on the console, and told to QEMU.

use super::{interrupts, pci, serial};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

/// QEMU's device for it.
const PVPANIC: u32 = 0x0011_1b36;
/// "The guest has panicked."
const PANICKED: u8 = 1;

static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // A fault on the way here must not come here again.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        serial::say(format_args!("sublet-wasm: {info}"));
    }
    if let Some(place) = pci::Device::find(PVPANIC).and_then(pci::Device::memory) {
        // SAFETY: a register of a device.
        unsafe { (place as *mut u8).write_volatile(PANICKED) };
    }
    interrupts::stop()
}

/// Named by the standard library's own code, which was built to unwind. Nothing here does.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    unreachable!("a panic ends the machine")
}

/// The same.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    unreachable!("a panic ends the machine")
}
