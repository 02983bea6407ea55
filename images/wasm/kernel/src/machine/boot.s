# From QEMU's entry (32 bits, no paging, the address of its start info in ebx) to Rust in 64 bits.

.section .note.pvh, "a", @note
.balign 4
.long 4, 4, 18          # lengths of name and value; XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.long start

.section .bss.tables, "aw", @nobits
.balign 4096
.globl level3
level4: .skip 4096
level3: .skip 4096
.globl level2
level2: .skip 4 * 4096

.section .rodata.gdt, "a"
.balign 8
gdt:
  .quad 0
  .quad 0x00af9a000000ffff        # 0x08: code
  .quad 0x00cf92000000ffff        # 0x10: data
gdt_end:
gdt_pointer:
  .word gdt_end - gdt - 1
  .quad gdt

.section .boot, "ax"
.code32
.globl start
start:
  cld
  mov esp, offset stack_top

  # The first 4 GiB are mapped as they are, in pages of 2 MiB.
  mov eax, offset level3 + 3
  mov [level4], eax
  mov edi, offset level3
  mov eax, offset level2 + 3
  mov ecx, 4
1: mov [edi], eax
  add edi, 8
  add eax, 4096
  loop 1b
  mov edi, offset level2
  mov eax, 0x83                   # present, writable, large
  mov ecx, 4 * 512
2: mov [edi], eax
  add edi, 8
  add eax, 0x200000
  loop 2b

  mov eax, offset level4
  mov cr3, eax
  mov eax, cr4
  or eax, 0x620                   # PAE; SSE, and its exceptions
  mov cr4, eax
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x100                   # long mode
  wrmsr
  mov eax, cr0
  and eax, ~0xc                   # no emulation of the FPU, no lazy switching of it
  or eax, 0x80010002              # paging, write protection, waits of the FPU
  mov cr0, eax
  lgdt [gdt_pointer]
  .byte 0xea                      # jmp far 8:start64
  .long start64
  .word 8

.code64
start64:
  mov ax, 0x10
  mov ds, ax
  mov es, ax
  mov ss, ax
  xor eax, eax
  mov fs, ax
  mov gs, ax
  mov rsp, offset stack_top
  mov edi, ebx
  xor ebp, ebp
  call kernel_main
  ud2
