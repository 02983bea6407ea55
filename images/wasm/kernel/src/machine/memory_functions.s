# What the compiler expects of a C library. Eight and sixteen bytes at a time: the string
# instructions of the processor are the slow ones where it is emulated.

.section .text.memory, "ax"

# memcpy(rdi: to, rsi: from, rdx: count) -> rax: to
.globl memcpy
memcpy:
  mov rax, rdi
copy_up:
  mov rcx, rdx
  shr rcx, 5
  jz 2f
1: movups xmm0, [rsi]
  movups xmm1, [rsi + 16]
  movups [rdi], xmm0
  movups [rdi + 16], xmm1
  add rsi, 32
  add rdi, 32
  dec rcx
  jnz 1b
2: mov ecx, edx
  and ecx, 31
  shr ecx, 3
  jz 4f
3: mov r8, [rsi]
  mov [rdi], r8
  add rsi, 8
  add rdi, 8
  dec ecx
  jnz 3b
4: and edx, 7
  jz 6f
5: mov r8b, [rsi]
  mov [rdi], r8b
  inc rsi
  inc rdi
  dec edx
  jnz 5b
6: ret

# memmove: upwards unless what is read would be overwritten first.
.globl memmove
memmove:
  mov rax, rdi
  mov rcx, rdi
  sub rcx, rsi
  cmp rcx, rdx
  jae copy_up
  lea rsi, [rsi + rdx]
  lea rdi, [rdi + rdx]
  mov rcx, rdx
  shr rcx, 3
  jz 2f
1: sub rsi, 8
  sub rdi, 8
  mov r8, [rsi]
  mov [rdi], r8
  dec rcx
  jnz 1b
2: and edx, 7
  jz 4f
3: dec rsi
  dec rdi
  mov r8b, [rsi]
  mov [rdi], r8b
  dec edx
  jnz 3b
4: ret

# memset(rdi: to, esi: byte, rdx: count) -> rax: to
.globl memset
memset:
  mov rax, rdi
  movzx esi, sil
  mov r8, 0x0101010101010101
  imul r8, rsi
  movq xmm0, r8
  punpcklqdq xmm0, xmm0
  mov rcx, rdx
  shr rcx, 5
  jz 2f
1: movups [rdi], xmm0
  movups [rdi + 16], xmm0
  add rdi, 32
  dec rcx
  jnz 1b
2: and edx, 31
  jz 4f
3: mov [rdi], r8b
  inc rdi
  dec edx
  jnz 3b
4: ret

# memcmp(rdi, rsi, rdx: count) -> eax: below, at or above zero
.globl memcmp
.globl bcmp
memcmp:
bcmp:
  mov rcx, rdx
  shr rcx, 3
  jz 2f
1: mov rax, [rdi]
  cmp rax, [rsi]
  jne 5f
  add rdi, 8
  add rsi, 8
  dec rcx
  jnz 1b
2: and edx, 7
  jz 4f
3: movzx eax, byte ptr [rdi]
  movzx ecx, byte ptr [rsi]
  sub eax, ecx
  jne 6f
  inc rdi
  inc rsi
  dec edx
  jnz 3b
4: xor eax, eax
6: ret
5: mov edx, 8                     # the difference is in these eight
  jmp 3b

# strlen(rdi) -> rax
.globl strlen
strlen:
  xor eax, eax
1: cmp byte ptr [rdi + rax], 0
  je 2f
  inc rax
  jmp 1b
2: ret
