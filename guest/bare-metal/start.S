/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Multiboot 2 header and entry (Multiboot2 Specification, sections 3.1 and 3.3): 32-bit protected mode, flat segments,
 * interrupts off, EAX and EBX from the loader, no stack.
 */
	.section .header, "a"
	.balign 8
header:
	.long 0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
	.balign 8
	/* Information that main.c reads: command line, memory map. */
	.short 1, 0
	.long 16, 1, 6
	.balign 8
	.short 0, 0
	.long 8
header_end:

	.text
	.globl start
start:
	mov $stack_top, %esp
	xor %ebp, %ebp
	push %ebx
	push %eax
	call kernel_main
1:	hlt
	jmp 1b

	.bss
	.balign 16
	.skip 16384
stack_top:
	.section .note.GNU-stack, "", @progbits
