//! A bench for the device: guest RAM, a clock turned by hand, a peer that records, and what a driver does.
//!
//! Used by the device tests and the fuzz targets; no part of the machine. Helpers do what a driver's author would
//! write, through the BARs and guest memory only, and panic when the bench itself is misused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::spec::{DESC_LEN, ctrl, eeprom, mdic, rctl, reg, rxd, tctl, txd};
use super::{BAR_MMIO, Config, E1000, Model};
use crate::bus::{Access, Origin, Width};
use crate::irq::IrqLine;
use crate::memory::{DmaHandle, GuestRam};
use crate::netport::{Delivery, Frame, FrameMeta, FramePort, Offloads, PeerSlot, join, part};
use crate::pci::{Function, IntxLine};
use crate::time::{Clock, ManualClock};

/// Station address of the device on the bench.
pub const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
/// Somebody else.
pub const OTHER: [u8; 6] = [0x02, 0x00, 0x00, 0x00, 0x00, 0x01];
/// Bytes of RAM on the bench; what lies above is not memory.
pub const RAM_LEN: u64 = 8 << 20;
/// Where the bench puts the transmit ring.
pub const TX_RING: u64 = 0x1_0000;
/// Where the bench puts the receive ring.
pub const RX_RING: u64 = 0x2_0000;
/// Where the bench puts transmit buffers.
pub const TX_BUFFERS: u64 = 0x10_0000;
/// Where the bench puts receive buffers.
pub const RX_BUFFERS: u64 = 0x40_0000;
/// Distance of one receive buffer from the next.
pub const RX_BUFFER_STEP: u64 = 0x800;

/// A peer that keeps what it gets.
#[derive(Debug, Default)]
pub struct Recorder {
    frames: Mutex<VecDeque<(Vec<u8>, FrameMeta)>>,
    accepts: Mutex<Offloads>,
    /// Frames that it refuses to take until [`FramePort::peer_ready`] of the NIC is called by the test.
    room: AtomicUsize,
    readies: AtomicUsize,
    links: Mutex<Vec<bool>>,
    slot: PeerSlot,
}

impl Recorder {
    /// Lets the peer take `frames` more, then answer `Full`.
    pub fn set_room(&self, frames: usize) {
        self.room.store(frames, Ordering::SeqCst);
    }

    /// What offloads the peer takes.
    pub fn set_accepts(&self, offloads: Offloads) {
        *self.accepts.lock().unwrap() = offloads;
    }

    /// The oldest frame that has not been looked at.
    pub fn take(&self) -> Option<(Vec<u8>, FrameMeta)> {
        self.frames.lock().unwrap().pop_front()
    }

    /// All frames that have not been looked at.
    pub fn take_all(&self) -> Vec<Vec<u8>> {
        self.frames.lock().unwrap().drain(..).map(|f| f.0).collect()
    }

    /// How often the NIC said that it has room again.
    pub fn readies(&self) -> usize {
        self.readies.load(Ordering::SeqCst)
    }

    /// Link changes that the NIC reported.
    pub fn links(&self) -> Vec<bool> {
        self.links.lock().unwrap().clone()
    }
}

impl FramePort for Recorder {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let left = self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(1));
        if left.is_err() {
            return Delivery::Full;
        }
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes);
        self.frames.lock().unwrap().push_back((bytes, frame.meta));
        Delivery::Taken
    }

    fn accepts(&self) -> Offloads {
        *self.accepts.lock().unwrap()
    }

    fn peer_ready(&self) {
        self.readies.fetch_add(1, Ordering::SeqCst);
    }

    fn peer_link(&self, up: bool) {
        self.links.lock().unwrap().push(up);
    }

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

/// A received frame as the driver finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Bytes of all its buffers.
    pub bytes: Vec<u8>,
    /// Status of its last descriptor.
    pub status: u8,
    /// Errors of its last descriptor.
    pub errors: u8,
    /// Packet checksum of its last descriptor.
    pub checksum: u16,
    /// Special field of its last descriptor.
    pub special: u16,
    /// How many descriptors it took.
    pub descriptors: u32,
}

/// The device on the bench, with the driver's own notes.
#[derive(Debug)]
pub struct TestNic {
    /// The device.
    pub nic: Arc<E1000>,
    /// Guest memory.
    pub ram: GuestRam,
    /// The device's clock.
    pub clock: ManualClock,
    /// The other end of the cable.
    pub peer: Arc<Recorder>,
    /// INTA#.
    pub line: IntxLine,
    /// The device's way to memory.
    pub dma: DmaHandle,
    /// Address of the last instruction, if they are counted: each access is one.
    rip: AtomicU64,
    tx_len: u32,
    tx_next: u32,
    rx_len: u32,
    rx_next: u32,
}

/// The instruction behind an access; zero: nobody counts them.
struct At(u64);

impl Origin for At {
    fn rip(&self) -> Option<u64> {
        (self.0 != 0).then_some(self.0)
    }
}

impl Default for TestNic {
    fn default() -> Self {
        Self::new(Config::new(MAC))
    }
}

impl TestNic {
    /// Puts a device on the bench: bus mastering on, joined to a recorder with endless room.
    pub fn new(config: Config) -> Self {
        Self::with(|_| config)
    }

    /// So, with a configuration that needs to know the device's way to memory (for its MSI output).
    pub fn with(config: impl FnOnce(&DmaHandle) -> Config) -> Self {
        let ram = GuestRam::new(&[(0, RAM_LEN)]).expect("bench RAM");
        let dma = DmaHandle::new(ram.clone(), None);
        dma.set_enabled(true);
        let line = IntxLine::new(IrqLine::detached());
        let clock = ManualClock::default();
        let nic = E1000::new(config(&dma), dma.clone(), line.clone(), Arc::new(clock.clone()));
        let peer = Arc::new(Recorder::default());
        peer.set_room(usize::MAX);
        let (a, b): (Arc<dyn FramePort>, Arc<dyn FramePort>) = (nic.clone(), peer.clone());
        join(&a, &b);
        let rip = AtomicU64::new(0);
        Self { nic, ram, clock, peer, line, dma, rip, tx_len: 0, tx_next: 0, rx_len: 0, rx_next: 0 }
    }

    /// From now on each access to BAR0 has an instruction at an address of its own: the next one.
    pub fn count_instructions(&self) {
        self.rip.store(1, Ordering::SeqCst);
    }

    /// The address of the last of them.
    pub fn last_instruction(&self) -> u64 {
        self.rip.load(Ordering::SeqCst)
    }

    fn next_instruction(&self) -> At {
        let counted =
            self.rip.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |at| (at != 0).then_some(at + 1));
        At(counted.map_or(0, |at| at + 1))
    }

    /// Reads a register.
    pub fn read(&self, register: u32) -> u32 {
        let at = self.next_instruction();
        let dword = Access { cpu: 0, width: Width::Dword, origin: &at };
        self.nic.bar_read(BAR_MMIO, register.into(), &dword).expect("register reads never fail") as u32
    }

    /// Writes a register.
    pub fn write(&self, register: u32, value: u32) {
        let at = self.next_instruction();
        let dword = Access { cpu: 0, width: Width::Dword, origin: &at };
        self.nic
            .bar_write(BAR_MMIO, register.into(), value.into(), &dword)
            .expect("register writes never fail");
    }

    /// Writes a register through IOADDR and IODATA.
    pub fn io_write(&self, register: u32, value: u32) {
        let dword = Access::plain(Width::Dword);
        self.nic.bar_write(self.nic.io_bar(), 0, register.into(), &dword).expect("IOADDR");
        self.nic.bar_write(self.nic.io_bar(), 4, value.into(), &dword).expect("IODATA");
    }

    /// Reads a register through IOADDR and IODATA.
    pub fn io_read(&self, register: u32) -> u32 {
        let dword = Access::plain(Width::Dword);
        self.nic.bar_write(self.nic.io_bar(), 0, register.into(), &dword).expect("IOADDR");
        self.nic.bar_read(self.nic.io_bar(), 4, &dword).expect("IODATA") as u32
    }

    /// Lets time pass, stopping at each wake-up that the device asks for.
    pub fn advance(&self, ns: u64) {
        let target = self.clock.now_ns() + ns;
        // A device that wants to be woken for ever would be a finding, not a reason to hang.
        for _ in 0..100_000 {
            let Some(at) = self.clock.armed().filter(|&at| at <= target) else { break };
            self.clock.advance(at.saturating_sub(self.clock.now_ns()));
            assert!(self.clock.due());
            self.nic.time_passed();
        }
        self.clock.advance(target - self.clock.now_ns());
    }

    /// Whether INTA# is asserted.
    pub fn interrupted(&self) -> bool {
        self.line.level()
    }

    /// Reads a PHY register through MDIC.
    pub fn phy_read(&self, number: u32) -> u16 {
        self.write(reg::MDIC, number << 16 | mdic::PHY_ADDRESS << 21 | mdic::OP_READ << 26);
        let answer = self.read(reg::MDIC);
        assert_eq!(answer & (mdic::READY | mdic::ERROR), mdic::READY);
        answer as u16
    }

    /// Writes a PHY register through MDIC.
    pub fn phy_write(&self, number: u32, value: u16) {
        let command = number << 16 | mdic::PHY_ADDRESS << 21 | mdic::OP_WRITE << 26;
        self.write(reg::MDIC, command | u32::from(value));
        assert_eq!(self.read(reg::MDIC) & (mdic::READY | mdic::ERROR), mdic::READY);
    }

    /// Sends `count` bits of `value` to the EEPROM, most significant first, as Linux's driver does.
    pub fn eeprom_send(&self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            let eecd = self.read(reg::EECD) & !eeprom::DI;
            let eecd = eecd | if value >> bit & 1 != 0 { eeprom::DI } else { 0 };
            self.write(reg::EECD, eecd);
            self.write(reg::EECD, eecd | eeprom::SK);
            self.write(reg::EECD, eecd);
        }
        self.write(reg::EECD, self.read(reg::EECD) & !eeprom::DI);
    }

    /// Receives `count` bits from the EEPROM.
    pub fn eeprom_receive(&self, count: u32) -> u32 {
        (0..count).fold(0, |value, _| {
            let eecd = self.read(reg::EECD) & !eeprom::DI;
            self.write(reg::EECD, eecd | eeprom::SK);
            let bit = self.read(reg::EECD) & eeprom::DO != 0;
            self.write(reg::EECD, eecd & !eeprom::SK);
            value << 1 | u32::from(bit)
        })
    }

    /// Asks for the EEPROM, where that is the custom, and selects it.
    pub fn eeprom_acquire(&self) {
        if self.nic.model() != Model::I82544Gc {
            self.write(reg::EECD, self.read(reg::EECD) | eeprom::REQ);
            assert_ne!(self.read(reg::EECD) & eeprom::GNT, 0);
        }
        self.eeprom_standby();
    }

    /// Deselects and selects the EEPROM, so that the next instruction can begin. As Linux: the chip is selected
    /// while the clock is high.
    pub fn eeprom_standby(&self) {
        let eecd = self.read(reg::EECD) & !(eeprom::CS | eeprom::SK);
        self.write(reg::EECD, eecd);
        self.write(reg::EECD, eecd | eeprom::SK);
        self.write(reg::EECD, eecd | eeprom::SK | eeprom::CS);
        self.write(reg::EECD, eecd | eeprom::CS);
    }

    /// Deselects the EEPROM and lets it go.
    pub fn eeprom_release(&self) {
        let eecd = self.read(reg::EECD) & !(eeprom::CS | eeprom::DI | eeprom::SK);
        self.write(reg::EECD, eecd);
        self.write(reg::EECD, eecd | eeprom::SK);
        self.write(reg::EECD, eecd);
        self.write(reg::EECD, eecd & !eeprom::REQ);
    }

    /// Reads one EEPROM word by Microwire.
    pub fn eeprom_read(&self, address: u32) -> u16 {
        self.eeprom_acquire();
        self.eeprom_send(0b110, 3);
        self.eeprom_send(address, 6);
        let word = self.eeprom_receive(16);
        self.eeprom_standby();
        self.eeprom_release();
        word as u16
    }

    /// Gives the device a transmit ring and switches the transmitter on.
    pub fn start_tx(&mut self, descriptors: u32) {
        (self.tx_len, self.tx_next) = (descriptors, 0);
        self.write(reg::TDLEN, descriptors * DESC_LEN as u32);
        self.write(reg::TDBAH, 0);
        self.write(reg::TDBAL, TX_RING as u32);
        self.write(reg::TDT, 0);
        self.write(reg::TDH, 0);
        self.write(reg::CTRL, self.read(reg::CTRL) | ctrl::SLU);
        self.write(reg::TCTL, tctl::EN | tctl::PSP);
    }

    /// Gives the device a receive ring with all but one buffer posted, and switches the receiver on with
    /// `control` beside EN.
    pub fn start_rx(&mut self, descriptors: u32, control: u32) {
        (self.rx_len, self.rx_next) = (descriptors, 0);
        for n in 0..descriptors {
            self.post_rx_descriptor(n, RX_BUFFERS + u64::from(n) * RX_BUFFER_STEP);
        }
        self.write(reg::RDLEN, descriptors * DESC_LEN as u32);
        self.write(reg::RDBAH, 0);
        self.write(reg::RDBAL, RX_RING as u32);
        self.write(reg::RDT, 0);
        self.write(reg::RDH, 0);
        self.write(reg::CTRL, self.read(reg::CTRL) | ctrl::SLU);
        self.write(reg::RCTL, rctl::EN | control);
        self.write(reg::RDT, descriptors - 1);
    }

    /// Writes receive descriptor `n` for the buffer at `address`.
    pub fn post_rx_descriptor(&self, n: u32, address: u64) {
        let at = RX_RING + u64::from(n) * DESC_LEN;
        self.poke(at, &address.to_le_bytes());
        self.poke(at + 8, &[0; 8]);
    }

    /// Writes guest memory.
    pub fn poke(&self, address: u64, bytes: &[u8]) {
        self.ram.write(address, bytes).expect("inside bench RAM");
    }

    /// Reads guest memory.
    pub fn peek(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(address, &mut bytes).expect("inside bench RAM");
        bytes
    }

    /// Puts a raw descriptor into the transmit ring, without ringing the doorbell. Returns its index.
    pub fn queue_descriptor(&mut self, quads: [u64; 2]) -> u32 {
        let index = self.tx_next;
        let at = TX_RING + u64::from(index) * DESC_LEN;
        self.poke(at, &quads[0].to_le_bytes());
        self.poke(at + 8, &quads[1].to_le_bytes());
        self.tx_next = (index + 1) % self.tx_len;
        index
    }

    /// Queues a legacy descriptor with command bits `cmd` (a mask in the lower dword).
    pub fn queue_legacy(&mut self, address: u64, len: u32, cmd: u32) -> u32 {
        self.queue_descriptor([address, u64::from(len | cmd)])
    }

    /// Queues an extended data descriptor.
    pub fn queue_data(&mut self, address: u64, len: u32, cmd: u32, popts: u8, special: u16) -> u32 {
        let lower = len | txd::DTYP_DATA << txd::DTYP_SHIFT | txd::DEXT | cmd;
        let upper = u64::from(popts) << 8 | u64::from(special) << 16;
        self.queue_descriptor([address, u64::from(lower) | upper << 32])
    }

    /// Rings the doorbell for everything queued.
    pub fn ring_doorbell(&self) {
        self.write(reg::TDT, self.tx_next);
    }

    /// Sends one frame as simple drivers do: copied into a buffer, one legacy descriptor. Returns its index.
    pub fn send(&mut self, frame: &[u8]) -> u32 {
        let buffer = TX_BUFFERS + u64::from(self.tx_next) * 0x4000;
        self.poke(buffer, frame);
        let index = self.queue_legacy(buffer, frame.len() as u32, txd::EOP | txd::IFCS | txd::RS);
        self.ring_doorbell();
        index
    }

    /// Status byte of transmit descriptor `n`.
    pub fn tx_status(&self, n: u32) -> u8 {
        self.peek(TX_RING + u64::from(n) * DESC_LEN + 12, 1)[0]
    }

    /// Offers a finished frame to the device from the wire.
    pub fn inject(&self, frame: &[u8]) -> Delivery {
        self.nic.deliver(&Frame::whole(frame))
    }

    /// Takes the next received frame, if its last descriptor is done.
    pub fn receive(&mut self) -> Option<Received> {
        let mut bytes = Vec::new();
        for taken in 0..self.rx_len {
            let n = (self.rx_next + taken) % self.rx_len;
            let descriptor = self.peek(RX_RING + u64::from(n) * DESC_LEN, 16);
            let word = |at: usize| u16::from_le_bytes([descriptor[at], descriptor[at + 1]]);
            let status = descriptor[12];
            if status & rxd::DD == 0 {
                return None;
            }
            let address = u64::from_le_bytes(descriptor[..8].try_into().expect("8 bytes"));
            bytes.extend(self.peek(address, usize::from(word(8))));
            if status & rxd::EOP != 0 {
                for done in 0..=taken {
                    let n = (self.rx_next + done) % self.rx_len;
                    self.poke(RX_RING + u64::from(n) * DESC_LEN + 12, &[0]);
                }
                self.rx_next = (n + 1) % self.rx_len;
                return Some(Received {
                    bytes,
                    status,
                    errors: descriptor[13],
                    checksum: word(10),
                    special: word(14),
                    descriptors: taken + 1,
                });
            }
        }
        None
    }

    /// Gives all free buffers back to the device: RDT one behind the next descriptor to look at.
    pub fn refill(&self) {
        self.write(reg::RDT, (self.rx_next + self.rx_len - 1) % self.rx_len);
    }
}

impl Drop for TestNic {
    /// Peers hold each other.
    fn drop(&mut self) {
        let port: Arc<dyn FramePort> = self.nic.clone();
        part(&port);
    }
}

/// A frame of `len` bytes from [`OTHER`] to `destination`, with a counting payload.
pub fn frame_to(destination: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len);
    frame.extend(destination);
    frame.extend(OTHER);
    frame.extend([0x88, 0xb5]);
    frame.extend((14..len).map(|n| n as u8));
    frame
}
