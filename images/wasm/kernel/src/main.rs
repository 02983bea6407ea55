//! The kernel: it boots, finds its port, and moves bytes between that and the guest.

#![no_std]
#![no_main]

extern crate alloc;

mod machine;

use machine::{boot, boot::Boot, clock, heap, interrupts, port::Port, power, serial};
use sublet_wasm::{After, Guest, Machine};

/// What the image calls its port.
const PORT: &[u8] = b"org.sublet.guest.0";

/// Reads from the host before the jobs have their turn.
const READS_A_TURN: usize = 8;

struct Here {
    memory_bytes: u64,
}

impl Machine for Here {
    fn micros(&self) -> u64 {
        clock::micros()
    }

    fn free_bytes(&self) -> usize {
        heap::free_bytes()
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn vcpus(&self) -> u16 {
        boot::vcpus()
    }

    fn say(&self, line: &str) {
        serial::say(format_args!("{line}"));
    }
}

#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: usize) -> ! {
    interrupts::set_up();
    // SAFETY: the first and only call, with what the boot code was given.
    let boot = unsafe { Boot::read(start_info) };
    clock::start(boot.option("tsc_early_khz").and_then(|khz| khz.parse().ok()));
    let here = alloc::boxed::Box::leak(alloc::boxed::Box::new(Here { memory_bytes: boot.memory_bytes }));
    let mut port = Port::open(PORT);
    interrupts::wake_at(port.line());
    serial::say(format_args!("sublet-wasm {}: {} KiB free", env!("CARGO_PKG_VERSION"), heap::free_bytes() / 1024));
    serve(&mut port, &mut Guest::new(here))
}

fn serve(port: &mut Port, guest: &mut Guest) -> ! {
    let mut connected = false;
    loop {
        port.lower();
        let now = port.is_connected();
        if connected && !now {
            guest.left();
        }
        connected = now;
        let mut moved = false;
        for _ in 0..READS_A_TURN {
            let count = port.receive(guest.room());
            if count == 0 {
                break;
            }
            guest.filled(count);
            moved = true;
        }
        let after = guest.turn();
        if connected {
            let sent = port.send(guest.outgoing());
            guest.sent(sent);
            moved |= sent > 0;
        }
        match after {
            After::PowerOff if !connected || guest.outgoing().is_empty() && port.has_sent() => power::off(),
            // What was moved may have made room for more.
            After::Wait(until) if !moved => interrupts::sleep(until),
            _ => {}
        }
    }
}
