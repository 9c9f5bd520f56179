//! The 8254 programmable interval timer and the speaker port 0x61.
//!
//! Pure: time comes in with every call, in nanoseconds. `accel/soft` routes channel 0 to IRQ 0 and asks
//! [`Pit::next_edge`] when to come back; with KVM the kernel has its own. Facts: Intel 8254 data sheet (1993).

/// Input clock in Hz (data sheet's PC value, 14.31818 MHz / 12).
pub const PIT_HZ: u64 = 1_193_182;

const NS: u128 = 1_000_000_000;

fn ticks(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(PIT_HZ) / NS) as u64
}

/// First nanosecond at which `ticks` have passed.
fn ns_of(ticks: u64) -> u64 {
    (u128::from(ticks) * NS).div_ceil(u128::from(PIT_HZ)) as u64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Lane {
    #[default]
    Low,
    High,
    LowHighLow,
    LowHighHigh,
}

#[derive(Debug, Clone, Default)]
struct Channel {
    mode: u8,
    bcd: bool,
    /// Access mode bits 5:4 of the control word.
    access: u8,
    write_lane: Lane,
    read_lane: Lane,
    low_byte: u8,
    /// Count register; 0 means 65536.
    reload: u16,
    /// The count was written since the control word.
    loaded: bool,
    /// When counting began.
    start_ns: u64,
    gate: bool,
    latched: Option<u16>,
    status: Option<u8>,
    /// Channel 0: output edges before this time have been reported.
    seen_ns: u64,
}

impl Channel {
    fn period(&self) -> u64 {
        let count = if self.bcd { from_bcd(self.reload) } else { u64::from(self.reload) };
        match (count, self.bcd) {
            (0, true) => 10_000,
            (0, false) => 0x1_0000,
            (count, _) => count,
        }
    }

    fn elapsed(&self, now: u64) -> u64 {
        ticks(now.saturating_sub(self.start_ns))
    }

    fn output(&self, now: u64) -> bool {
        if !self.loaded {
            return self.mode != 0;
        }
        let (t, n) = (self.elapsed(now), self.period());
        match self.mode {
            0 | 1 => t >= n,
            2 => t % n != n - 1,
            3 => t % n < n.div_ceil(2),
            _ => t != n,
        }
    }

    fn count(&self, now: u64) -> u16 {
        let (t, n) = (self.elapsed(now), self.period());
        let left = match self.mode {
            2 => n - t % n,
            3 => n - (2 * t) % n,
            _ => n.wrapping_sub(t) & 0xffff,
        };
        if self.bcd { to_bcd(left % 10_000) } else { left as u16 }
    }

    fn write_control(&mut self, value: u8, now: u64) {
        let access = value >> 4 & 3;
        if access == 0 {
            self.latched.get_or_insert(self.count(now));
            return;
        }
        let mode = value >> 1 & 7;
        *self = Self {
            mode: if mode > 5 { mode - 4 } else { mode },
            bcd: value & 1 != 0,
            access,
            write_lane: first_lane(access),
            read_lane: first_lane(access),
            gate: self.gate,
            seen_ns: now,
            ..Self::default()
        };
    }

    fn write(&mut self, value: u8, now: u64) {
        let v = u16::from(value);
        match self.write_lane {
            Lane::Low => self.load(v, now),
            Lane::High => self.load(v << 8, now),
            Lane::LowHighLow => {
                self.low_byte = value;
                self.write_lane = Lane::LowHighHigh;
            }
            Lane::LowHighHigh => {
                self.write_lane = Lane::LowHighLow;
                self.load(v << 8 | u16::from(self.low_byte), now);
            }
        }
    }

    fn load(&mut self, count: u16, now: u64) {
        self.reload = count;
        self.loaded = true;
        self.start_ns = now;
        self.seen_ns = now;
    }

    fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let [low, high] = self.latched.unwrap_or_else(|| self.count(now)).to_le_bytes();
        let (value, next, done) = match self.read_lane {
            Lane::Low => (low, Lane::Low, true),
            Lane::High => (high, Lane::High, true),
            Lane::LowHighLow => (low, Lane::LowHighHigh, false),
            Lane::LowHighHigh => (high, Lane::LowHighLow, true),
        };
        self.read_lane = next;
        if done {
            self.latched = None;
        }
        value
    }

    fn latch_status(&mut self, now: u64) {
        let bits = u8::from(self.output(now)) << 7 | u8::from(!self.loaded) << 6;
        self.status.get_or_insert(bits | self.access << 4 | self.mode << 1 | u8::from(self.bcd));
    }

    /// The first rising edge of the output after `after`.
    fn next_edge(&self, after: u64) -> Option<u64> {
        if !self.loaded {
            return None;
        }
        let (t, n) = (self.elapsed(after), self.period());
        let edge = match self.mode {
            2 | 3 => (t / n + 1) * n,
            0 | 1 if t < n => n,
            4 | 5 if t < n + 1 => n + 1,
            _ => return None,
        };
        Some(self.start_ns + ns_of(edge))
    }
}

fn first_lane(access: u8) -> Lane {
    match access {
        1 => Lane::Low,
        2 => Lane::High,
        _ => Lane::LowHighLow,
    }
}

fn from_bcd(v: u16) -> u64 {
    (0..4).rev().fold(0, |n, i| n * 10 + u64::from(v >> (4 * i) & 15).min(9))
}

fn to_bcd(v: u64) -> u16 {
    (0..4).fold(0, |n, i| n | ((v / 10u64.pow(i) % 10) as u16) << (4 * i))
}

/// The three channels and port 0x61.
#[derive(Debug, Clone)]
pub struct Pit {
    channels: [Channel; 3],
    speaker: bool,
}

impl Default for Pit {
    fn default() -> Self {
        let channel = |gate| Channel { gate, access: 3, ..Channel::default() };
        Self { channels: [channel(true), channel(true), channel(false)], speaker: false }
    }
}

impl Pit {
    /// Reads port 0x40 to 0x43 or 0x61 at time `now`.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        match port {
            0x40..=0x42 => self.channels[usize::from(port - 0x40)].read(now),
            0x61 => {
                let channel2 = &self.channels[2];
                // Bit 4 toggles with the DRAM refresh clock, 15.085 us (PIIX3, port 61h).
                let refresh = u8::from(now / 15_085 % 2 == 1);
                let out = u8::from(channel2.output(now) && channel2.loaded);
                u8::from(channel2.gate) | u8::from(self.speaker) << 1 | refresh << 4 | out << 5
            }
            _ => 0xff,
        }
    }

    /// Writes port 0x40 to 0x43 or 0x61 at time `now`.
    pub fn write(&mut self, port: u16, value: u8, now: u64) {
        match port {
            0x40..=0x42 => self.channels[usize::from(port - 0x40)].write(value, now),
            0x43 if value >> 6 == 3 => self.read_back(value, now),
            0x43 => self.channels[usize::from(value >> 6)].write_control(value, now),
            0x61 => {
                let gate = value & 1 != 0;
                let channel2 = &mut self.channels[2];
                if gate && !channel2.gate {
                    channel2.start_ns = now;
                }
                channel2.gate = gate;
                self.speaker = value & 2 != 0;
            }
            _ => {}
        }
    }

    fn read_back(&mut self, value: u8, now: u64) {
        for (i, channel) in self.channels.iter_mut().enumerate() {
            if value & (2 << i) != 0 {
                if value & 0x20 == 0 {
                    channel.latched.get_or_insert(channel.count(now));
                }
                if value & 0x10 == 0 {
                    channel.latch_status(now);
                }
            }
        }
    }

    /// When channel 0 raises IRQ 0 next; `None` while it does not count.
    pub fn next_edge(&self) -> Option<u64> {
        self.channels[0].next_edge(self.channels[0].seen_ns)
    }

    /// Whether channel 0's output rose since the last call. Edges missed meanwhile merge into one.
    pub fn take_edge(&mut self, now: u64) -> bool {
        let due = self.next_edge().is_some_and(|t| t <= now);
        if due {
            self.channels[0].seen_ns = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(pit: &mut Pit, mode: u8, count: u16) {
        pit.write(0x43, 0x30 | mode << 1, 0);
        pit.write(0x40, count as u8, 0);
        pit.write(0x40, (count >> 8) as u8, 0);
    }

    #[test]
    fn mode_2_is_periodic_and_exact() {
        let mut pit = Pit::default();
        rate(&mut pit, 2, 11932);
        let first = pit.next_edge().unwrap();
        assert!((10_000_000..10_001_000).contains(&first), "{first}");
        assert!(!pit.take_edge(first - 1));
        assert!(pit.take_edge(first));
        let second = pit.next_edge().unwrap();
        assert!((second - first).abs_diff(10_000_150) < 1000, "{second}");
    }

    #[test]
    fn mode_0_fires_once() {
        let mut pit = Pit::default();
        rate(&mut pit, 0, 1000);
        let at = pit.next_edge().unwrap();
        assert!(pit.take_edge(at));
        assert_eq!(pit.next_edge(), None);
    }

    #[test]
    fn a_latched_count_stays_until_read_whole() {
        let mut pit = Pit::default();
        rate(&mut pit, 2, 0xffff);
        pit.write(0x43, 0x00, 1_000_000);
        let low = pit.read(0x40, 5_000_000);
        let high = pit.read(0x40, 9_000_000);
        let count = u16::from_le_bytes([low, high]);
        assert_eq!(count, 0xffff - 1193);
    }

    #[test]
    fn channel_2_shows_its_end_on_port_61() {
        let mut pit = Pit::default();
        pit.write(0x61, 1, 0);
        pit.write(0x43, 0xb0, 0);
        pit.write(0x42, 0x00, 0);
        pit.write(0x42, 0x10, 0);
        assert_eq!(pit.read(0x61, 1000) & 0x20, 0);
        assert_eq!(pit.read(0x61, 4_000_000) & 0x20, 0x20);
    }

    #[test]
    fn the_read_back_command_latches_status() {
        let mut pit = Pit::default();
        rate(&mut pit, 2, 100);
        pit.write(0x43, 0xe2, 0);
        assert_eq!(pit.read(0x40, 0) & 0x3f, 0x34);
    }
}
