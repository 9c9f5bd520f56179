//! Makes small kernels: an ELF64 with a few segments and notes, and a bzImage around any payload. Helpers read what
//! `load` wrote, as the kernel would.

use minivmm::accel::EntryState;
use minivmm::boot::{BootImage, BootTarget, prepare_from_bytes};
use minivmm::cli::KernelUnpack;
use minivmm::memory::GuestRam;

pub const MIB: u64 = 1 << 20;
/// RAM of the test machine, unless a test says otherwise.
pub const RAM: u64 = 64 * MIB;
/// Where the synthetic kernel is linked, as real ones are.
pub const LINKED_AT: u64 = 16 * MIB;

/// A target without ACPI that unpacks on the host.
pub fn target() -> BootTarget {
    BootTarget { cmdline: "console=ttyS0".into(), unpack: KernelUnpack::Host, ram_bytes: RAM, rsdp: 0 }
}

/// The same, unpacking in the guest.
pub fn guest_target() -> BootTarget {
    BootTarget { unpack: KernelUnpack::Guest, ..target() }
}

/// Prepares and loads into fresh RAM; the kernel must be good.
pub fn boot(
    kernel: Vec<u8>,
    initrd: Option<Vec<u8>>,
    target: &BootTarget,
) -> (BootImage, GuestRam, EntryState) {
    let image = prepare_from_bytes(kernel, initrd, target).unwrap_or_else(|e| panic!("{e}"));
    let ram = GuestRam::new(&minivmm::machine::pc::ram_layout(target.ram_bytes)).unwrap();
    let entry = image.load(&ram).unwrap();
    (image, ram, entry)
}

/// The one line with which a bad kernel is refused.
pub fn refusal(kernel: Vec<u8>, target: &BootTarget) -> String {
    match prepare_from_bytes(kernel, None, target) {
        Ok(image) => panic!("accepted: {}", image.summary()),
        Err(error) => error.to_string(),
    }
}

pub fn bytes_at(ram: &GuestRam, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.read(addr, &mut bytes).unwrap();
    bytes
}

pub fn u16_at(ram: &GuestRam, addr: u64) -> u16 {
    u16::from_le_bytes(bytes_at(ram, addr, 2).try_into().unwrap())
}

pub fn u32_at(ram: &GuestRam, addr: u64) -> u32 {
    u32::from_le_bytes(bytes_at(ram, addr, 4).try_into().unwrap())
}

pub fn u64_at(ram: &GuestRam, addr: u64) -> u64 {
    u64::from_le_bytes(bytes_at(ram, addr, 8).try_into().unwrap())
}

/// The text at `addr` up to its zero.
pub fn text_at(ram: &GuestRam, addr: u64) -> String {
    let bytes = bytes_at(ram, addr, 4096);
    String::from_utf8(bytes.split(|&b| b == 0).next().unwrap().to_vec()).unwrap()
}

/// Overwrites `file` at `at`.
pub fn poke(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A loadable segment.
#[derive(Clone)]
pub struct Segment {
    pub paddr: u64,
    pub vaddr: u64,
    pub bytes: Vec<u8>,
    pub mem_len: u64,
}

/// An ELF64 kernel.
#[derive(Clone)]
pub struct Elf {
    pub entry: u64,
    pub segments: Vec<Segment>,
    pub notes: Vec<u8>,
}

/// File offset of the first program header; 56 bytes each.
pub const PHDRS: usize = 64;
pub const PHDR: usize = 56;

impl Elf {
    /// Code, and data with a .bss: what a linked kernel looks like.
    pub fn kernel() -> Self {
        const KERNEL_SPACE: u64 = 0xffff_ffff_8000_0000;
        let segment = |paddr, bytes: Vec<u8>, bss: u64| Segment {
            paddr,
            vaddr: KERNEL_SPACE + paddr,
            mem_len: bytes.len() as u64 + bss,
            bytes,
        };
        let code = segment(LINKED_AT, code(6000), 0);
        let data = segment(LINKED_AT + 2 * MIB, (0..700).map(|n| (n / 7) as u8).collect(), 9000);
        Self { entry: LINKED_AT + 0x40, segments: vec![code, data], notes: Vec::new() }
    }

    /// The same with a PVH note among others.
    pub fn pvh(entry: u64) -> Self {
        let mut notes = note(b"GNU\0", 3, &[7; 20]);
        notes.extend(note(b"Linux\0", 0x101, &[0]));
        notes.extend(note(b"Xen\0", 18, &entry.to_le_bytes()));
        Self { notes, ..Self::kernel() }
    }

    pub fn build(&self) -> Vec<u8> {
        let programs = self.segments.len() + usize::from(!self.notes.is_empty());
        let mut file = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let halves = |v: &mut Vec<u8>, list: &[u16]| list.iter().for_each(|h| v.extend(h.to_le_bytes()));
        halves(&mut file, &[2, 62]); // ET_EXEC, EM_X86_64
        file.extend(1u32.to_le_bytes());
        for word in [self.entry, PHDRS as u64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        halves(&mut file, &[64, PHDR as u16, programs as u16, 64, 0, 0]);
        let mut at = (PHDRS + programs * PHDR) as u64;
        for s in &self.segments {
            program(&mut file, 1, [at, s.vaddr, s.paddr, s.bytes.len() as u64, s.mem_len]);
            at += s.bytes.len() as u64;
        }
        if !self.notes.is_empty() {
            program(&mut file, 4, [at, 0, 0, self.notes.len() as u64, self.notes.len() as u64]);
        }
        self.segments.iter().for_each(|s| file.extend(&s.bytes));
        file.extend(&self.notes);
        file
    }
}

impl Elf {
    /// The same kernel as ELF32 for i386. Virtual addresses lose their upper half.
    pub fn build32(&self) -> Vec<u8> {
        let programs = self.segments.len() + usize::from(!self.notes.is_empty());
        let mut file = Vec::from(*b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
        let words = |v: &mut Vec<u8>, list: &[u32]| list.iter().for_each(|w| v.extend(w.to_le_bytes()));
        words(&mut file, &[3 << 16 | 2, 1, self.entry as u32, EHDR32 as u32, 0, 0]);
        words(&mut file, &[(PHDR32 as u32) << 16 | EHDR32 as u32, programs as u32 | 40 << 16, 0]);
        let mut at = (EHDR32 + programs * PHDR32) as u32;
        for s in &self.segments {
            let (len, mem_len) = (s.bytes.len() as u32, s.mem_len as u32);
            words(&mut file, &[1, at, s.vaddr as u32, s.paddr as u32, len, mem_len, 7, 4]);
            at += len;
        }
        if !self.notes.is_empty() {
            let len = self.notes.len() as u32;
            words(&mut file, &[4, at, 0, 0, len, len, 4, 4]);
        }
        self.segments.iter().for_each(|s| file.extend(&s.bytes));
        file.extend(&self.notes);
        file
    }

    /// The same with a multiboot 1 header at the start of its first segment, which the kernel must have room for.
    pub fn multiboot(flags: u32, addresses: [u32; 5]) -> Self {
        let mut elf = Self::kernel();
        elf.segments[0].bytes[..32].copy_from_slice(&multiboot_header(flags, addresses));
        elf
    }
}

/// Sizes in ELF32.
pub const EHDR32: usize = 52;
pub const PHDR32: usize = 32;

/// A multiboot 1 header: header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr if flag 16 is set.
pub fn multiboot_header(flags: u32, addresses: [u32; 5]) -> [u8; 32] {
    const MAGIC: u32 = 0x1bad_b002;
    let mut header = [0; 32];
    let sum = 0u32.wrapping_sub(MAGIC.wrapping_add(flags));
    for (n, word) in [MAGIC, flags, sum].iter().chain(&addresses).enumerate() {
        header[4 * n..4 * n + 4].copy_from_slice(&word.to_le_bytes());
    }
    header
}

fn program(file: &mut Vec<u8>, kind: u32, [offset, vaddr, paddr, file_len, mem_len]: [u64; 5]) {
    file.extend(kind.to_le_bytes());
    file.extend(7u32.to_le_bytes());
    for word in [offset, vaddr, paddr, file_len, mem_len, 4] {
        file.extend(word.to_le_bytes());
    }
}

/// An ELF note with 4-byte alignment.
pub fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name.len() as u32, desc.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    for part in [name, desc] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

/// Bytes with relative calls in them, which XZ's x86 filter rewrites.
fn code(len: usize) -> Vec<u8> {
    let mut code = Vec::new();
    while code.len() < len {
        let to_start = (-(code.len() as i32) - 5).to_le_bytes();
        code.extend([0x55, 0x48, 0x89, 0xe5, 0xe8]);
        code.extend(to_start);
        code.extend([0x5d, 0xc3]);
    }
    code
}

/// Offsets of setup header fields in the file.
pub mod field {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const SYSSIZE: usize = 0x1f4;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const JUMP_LEN: usize = 0x201;
    pub const VERSION: usize = 0x206;
    pub const KERNEL_VERSION: usize = 0x20e;
    pub const LOADFLAGS: usize = 0x211;
    pub const INITRD_ADDR_MAX: usize = 0x22c;
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    pub const RELOCATABLE: usize = 0x234;
    pub const XLOADFLAGS: usize = 0x236;
    pub const CMDLINE_SIZE: usize = 0x238;
    pub const PAYLOAD_OFFSET: usize = 0x248;
    pub const PAYLOAD_LENGTH: usize = 0x24c;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
}

/// Setup sectors of the built bzImage beside the boot sector.
const SETUP_SECTORS: u8 = 3;
/// Where the protected-mode part starts in the file.
pub const BODY_AT: usize = (SETUP_SECTORS as usize + 1) * 512;
/// Where the payload starts in the protected-mode part: behind both entries.
pub const PAYLOAD_AT: usize = 0x300;

/// A bzImage of protocol 2.15 around `payload` (compressed kernel with its appended size).
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0xf4; PAYLOAD_AT];
    body.extend(payload);
    body.extend([0; 40]); // What stands behind the payload in a real one.
    body.resize(body.len().next_multiple_of(16), 0);
    let mut file = vec![0; BODY_AT];
    let mut set = |at: usize, bytes: &[u8]| poke(&mut file, at, bytes);
    set(field::SETUP_SECTS, &[SETUP_SECTORS]);
    set(field::SYSSIZE, &(body.len() as u32 / 16).to_le_bytes());
    set(field::BOOT_FLAG, &[0x55, 0xaa, 0xeb, 0x6a]);
    set(0x202, b"HdrS");
    set(field::VERSION, &0x020fu16.to_le_bytes());
    set(field::KERNEL_VERSION, &0x200u16.to_le_bytes());
    set(0x400, b"6.16.9-test (somebody@somewhere)\0");
    set(field::LOADFLAGS, &[1]);
    set(0x214, &0x10_0000u32.to_le_bytes());
    set(field::INITRD_ADDR_MAX, &0x7fff_ffffu32.to_le_bytes());
    set(field::KERNEL_ALIGNMENT, &0x20_0000u32.to_le_bytes());
    set(field::RELOCATABLE, &[1, 21]);
    set(field::XLOADFLAGS, &3u16.to_le_bytes());
    set(field::CMDLINE_SIZE, &2047u32.to_le_bytes());
    set(field::PAYLOAD_OFFSET, &(PAYLOAD_AT as u32).to_le_bytes());
    set(field::PAYLOAD_LENGTH, &(payload.len() as u32).to_le_bytes());
    set(field::PREF_ADDRESS, &LINKED_AT.to_le_bytes());
    set(field::INIT_SIZE, &(8 * MIB as u32).to_le_bytes());
    file.extend(body);
    file
}

/// A stream with the unpacked size behind it, as the kernel's build appends it (not for gzip, which has its own).
pub fn with_size(stream: &[u8], size: u32) -> Vec<u8> {
    [stream, &size.to_le_bytes()].concat()
}

/// A bzImage whose kernel is gzip-compressed.
pub fn gzip_bzimage() -> Vec<u8> {
    bzimage(include_bytes!("fixtures/inner.elf.gz"))
}
