/* A multiboot 1 kernel that ends in the way that the first letter of its command line names: tests/guest/endings.py.
   32-bit code, flat segments, interrupts off, as the loader leaves them. */
	.set MAGIC, 0x1badb002
	.text
	.align 4
	.long MAGIC, 0, -MAGIC

	.globl _start
_start:	mov 16(%ebx), %esi		/* multiboot information: the command line */
	mov (%esi), %al
	mov $table, %edi
1:	cmpb $0, (%edi)
	je wait
	cmp %al, (%edi)
	je 2f
	add $5, %edi
	jmp 1b
2:	jmp *1(%edi)

	.macro entry letter, name
	.byte \letter
	.long \name
	.endm
table:	entry 'p', poweroff
	entry 'r', reset
	entry 'd', debug_exit
	entry 't', triple_fault
	entry 'h', halt
	entry 'n', halt_until_nmi
	entry 's', say_and_wait
	entry 'S', say_and_power_off
	entry 'k', say_panic
	entry 'K', say_panic_and_reset
	entry 'v', pvpanic
	entry 'f', driver_finding
	.byte 0

/* Nobody stops it: for -timeout and signals. */
wait:	pause
	jmp wait

poweroff:
	mov $0x604, %dx			/* PM1a_CNT: SLP_TYP 5, SLP_EN */
	mov $(5 << 10 | 1 << 13), %ax
	out %ax, %dx
	jmp halt

reset:	mov $0xcf9, %dx
	mov $6, %al
	out %al, %dx
	jmp halt

debug_exit:
	mov $0x501, %dx
	mov $5, %al
	out %al, %dx
	jmp halt			/* as kernels do: that is not the end that counts */

triple_fault:
	lidt no_idt
	int3

halt_until_nmi:
	movl $0x1ff, 0xfee000f0		/* the local APIC on: else its entries stay masked */
	movl $0x400, 0xfee00350		/* LINT0 as NMI */
halt:	hlt
	jmp halt

say_and_wait:
	mov $words, %esi
	call say
	jmp wait

say_and_power_off:
	mov $words, %esi
	call say
	jmp poweroff

say_panic:
	mov $panic, %esi
	call say
	jmp wait

say_panic_and_reset:
	mov $panic, %esi
	call say
	jmp reset

pvpanic:
	mov $0x505, %dx
	mov $1, %al
	out %al, %dx
	jmp wait

/* The e1000 in slot 1: memory space on, a ring of 8 descriptors, TDT far behind it (E1000-TX-003). */
driver_finding:
	mov $0x80000804, %eax
	mov $6, %ecx
	call config_write
	mov $0x80000810, %eax
	mov $0xcf8, %dx
	out %eax, %dx
	mov $0xcfc, %dx
	in %dx, %eax
	and $-16, %eax
	orl $0x40, (%eax)		/* CTRL.SLU */
	movl $0x200000, 0x3800(%eax)	/* TDBAL */
	movl $128, 0x3808(%eax)		/* TDLEN */
	movl $2, 0x400(%eax)		/* TCTL.EN */
	movl $100, 0x3818(%eax)		/* TDT */
	jmp wait

config_write:
	mov $0xcf8, %dx
	out %eax, %dx
	mov $0xcfc, %dx
	mov %ecx, %eax
	out %eax, %dx
	ret

say:	mov $0x3f8, %dx
1:	lodsb
	test %al, %al
	je 2f
	out %al, %dx
	jmp 1b
2:	ret

no_idt:	.word 0
	.long 0
words:	.asciz "all tests passed: 3 of 3\r\n"
panic:	.asciz "Kernel panic - not syncing: of the table\r\n"
