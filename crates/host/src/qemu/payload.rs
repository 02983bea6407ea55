//! Kernels of a few dozen bytes, made here: so that a host can be tried out before it has any
//! image, and the driver tested without one.
//!
//! Each is a 32-bit ELF file with a PVH note, which QEMU starts in flat protected mode with
//! interrupts and paging off.

use std::fs;
use std::io;
use std::path::Path;

/// Where the code is loaded: the first MiB belongs to the firmware.
const BASE: u32 = 0x10_0000;

const ELF_HEADER: usize = 52;
const PROGRAM_HEADER: usize = 32;

/// The note's type that gives QEMU the entry point (XEN_ELFNOTE_PHYS32_ENTRY).
const PVH_ENTRY: u32 = 18;

/// Port and value with which [`Payload::Work`] ends; QEMU then exits with [`WORK_DONE`].
pub const EXIT_PORT: u16 = 0xf4;

/// QEMU's exit code after the work was done: twice the value written, and one.
pub const WORK_DONE: i32 = 0x10 << 1 | 1;

/// What a tiny kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Sleeps for ever.
    Halt,
    /// Reports a panic through the pvpanic device, then sleeps.
    Panic,
    /// Faults until the processor gives up, which restarts the machine.
    Reset,
    /// Writes to its console without end.
    Flood,
    /// So many rounds of what is slow where virtualization is not real: a million loops, a
    /// thousand port writes (each leaves the guest), 4096 pages touched. Then it ends QEMU.
    Work {
        /// At least one.
        rounds: u32,
    },
}

impl Payload {
    /// Writes the kernel to a file.
    pub fn write(self, path: &Path) -> io::Result<()> {
        fs::write(path, self.elf())
    }

    /// The kernel.
    pub fn elf(self) -> Vec<u8> {
        let code = self.code();
        let note = words(&[4, 4, PVH_ENTRY, u32::from_le_bytes(*b"Xen\0"), BASE]);
        let note_at = ELF_HEADER + 2 * PROGRAM_HEADER;
        let code_at = note_at + note.len();
        // Executable (2) for the 386 (3), version 1; headers follow each other.
        let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
        file.extend(words(&[1, BASE, ELF_HEADER as u32, 0, 0]));
        file.extend([ELF_HEADER as u16, PROGRAM_HEADER as u16, 2, 40, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
        let segment =
            |kind, at, address, len, flags, align| words(&[kind, at, address, address, len, len, flags, align]);
        file.extend(segment(1, code_at as u32, BASE, code.len() as u32, 7, 16));
        file.extend(segment(4, note_at as u32, 0, note.len() as u32, 4, 4));
        file.extend(note);
        file.extend(code);
        file
    }

    fn code(self) -> Vec<u8> {
        match self {
            // halt: hlt; jmp halt
            Self::Halt => b"\xf4\xeb\xfd".to_vec(),
            // lidt [0]; int3: no handler, and no handler for that either.
            Self::Reset => b"\x0f\x01\x1d\0\0\0\0\xcc".to_vec(),
            // mov edx, 0x3f8; mov al, 'a'; again: out dx, al; jmp again
            Self::Flood => b"\xba\xf8\x03\0\0\xb0a\xee\xeb\xfd".to_vec(),
            Self::Panic => [
                b"\x31\xdb".as_slice(),                      // xor ebx, ebx: the slot
                b"\x89\xd8\xc1\xe0\x0b",                     // next: mov eax, ebx; shl eax, 11
                b"\x0d\0\0\0\x80\xba\xf8\x0c\0\0\xef",       // or eax, 1<<31; mov edx, 0xcf8; out dx, eax
                b"\x83\xc2\x04\xed",                         // add edx, 4; in eax, dx
                b"\x3d\x36\x1b\x11\0\x74\x08",               // cmp eax, pvpanic (1b36:0011); je found
                b"\x43\x83\xfb\x20\x72\xdf\xeb\x17",         // inc ebx; cmp ebx, 32; jb next; jmp halt
                b"\x89\xd8\xc1\xe0\x0b\x0d\x10\0\0\x80",     // found: eax = address of its register 0x10
                b"\x83\xea\x04\xef\x83\xc2\x04\xed\x24\xf0", // read it: where its memory is
                b"\xc6\0\x01\xf4\xeb\xfd",                   // mov byte [eax], 1; halt: hlt; jmp halt
            ]
            .concat(),
            Self::Work { rounds } => [
                b"\xbe".as_slice(), // mov esi, rounds
                &rounds.max(1).to_le_bytes(),
                b"\xb9\x40\x42\x0f\0\x49\x75\xfd", // round: mov ecx, 1000000; 1: dec ecx; jnz 1
                b"\xb9\xe8\x03\0\0\xe6\x80\x49\x75\xfb", // mov ecx, 1000; 2: out 0x80, al; dec ecx; jnz 2
                b"\xbf\0\0\x40\0",                 // mov edi, 4 MiB
                b"\x89\x37\x81\xc7\0\x10\0\0",     // 3: mov [edi], esi; add edi, 4096
                b"\x81\xff\0\0\x40\x01\x72\xf0",   // cmp edi, 20 MiB; jb 3
                b"\x4e\x75\xd6",                   // dec esi; jnz round
                b"\xb0\x10\xba\xf4\0\0\0\xee\xf4\xeb\xfd", // mov al, 0x10; mov edx, 0xf4; out dx, al; halt
            ]
            .concat(),
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_an_elf_file_whose_parts_lie_where_it_says() {
        for payload in [Payload::Halt, Payload::Panic, Payload::Reset, Payload::Flood, Payload::Work { rounds: 3 }] {
            let file = payload.elf();
            let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
            assert_eq!(&file[..4], b"\x7fELF");
            let (code_at, code_len) = (word(ELF_HEADER + 4), word(ELF_HEADER + 16));
            assert_eq!(code_at + code_len, file.len());
            assert_eq!(file[code_at..], payload.code());
            let note_at = word(ELF_HEADER + PROGRAM_HEADER + 4);
            assert_eq!(&file[note_at + 12..note_at + 16], b"Xen\0");
        }
    }
}
