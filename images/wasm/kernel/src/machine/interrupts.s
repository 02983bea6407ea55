# Interrupts come only while the processor sleeps (see `sleep`), and all they do is to wake it: they
# return with interrupts off again, so that a line that is still raised can't come back at once.

.section .text.interrupts, "ax"
.globl wake_stub
wake_stub:
  push rax
  mov al, 0x20                    # end of interrupt, to both controllers
  out 0xa0, al
  out 0x20, al
  and qword ptr [rsp + 8 + 16], ~0x200
  pop rax
  iretq

# Exceptions: which one, its error code if it has one, and where. Each stub is 16 bytes long.
.balign 16
.globl fault_stubs
fault_stubs:
.set vector, 0
.rept 32
  .balign 16
  .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
  .else
    push 0
  .endif
  mov edi, vector
  jmp fault_common
  .set vector, vector + 1
.endr
fault_common:
  mov rsi, [rsp]                  # error code
  mov rdx, [rsp + 8]              # instruction
  mov rcx, cr2
  and rsp, ~15
  call fault
  ud2
