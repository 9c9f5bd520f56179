//! Statistics: wire frames and octets with FCS, clear on read, saturation.

use minivmm::bus::{Access, Width};
use minivmm::nic::e1000::spec::{ctrl, rctl, reg};
use minivmm::nic::e1000::testing::{MAC, OTHER, TestNic, frame_to};
use minivmm::pci::Function;

#[test]
fn sent_and_received_frames_are_counted_by_length_and_kind() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.start_rx(32, rctl::BAM | rctl::MPE);
    let group = [0x01, 0, 0x5e, 0, 0, 1];
    for (n, len) in [42, 60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020].into_iter().enumerate() {
        let destination = [MAC, [0xff; 6], group][n % 3];
        bench.send(&frame_to(destination, len));
        bench.inject(&frame_to(destination, len));
    }
    bench.inject(&frame_to(OTHER, 100));
    for first in [reg::PRC64, reg::PTC64] {
        let bins: Vec<_> = (0..6).map(|n| bench.read(first + 4 * n)).collect();
        assert_eq!(bins, [2, 2, 2, 2, 2, 1], "{first:#x}");
    }
    let octets = [60, 60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020].iter().sum::<u32>() + 11 * 4;
    for (register, value) in [
        (reg::TPT, 11),
        (reg::GPTC, 11),
        (reg::BPTC, 4),
        (reg::MPTC, 3),
        (reg::TPR, 12),
        (reg::GPRC, 11),
        (reg::BPRC, 4),
        (reg::MPRC, 3),
        (reg::GOTCL, octets),
        (reg::TOTL, octets),
        (reg::GORCL, octets),
        (reg::TORL, octets + 104),
    ] {
        assert_eq!(bench.read(register), value, "{register:#x}");
    }
    let machine = bench.nic.stats_snapshot();
    assert_eq!((machine.tx_frames, machine.rx_frames, machine.rx_filtered), (11, 12, 1));
}

#[test]
fn counters_clear_on_read_and_pairs_on_the_read_of_the_high_half() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.send(&frame_to(OTHER, 60));
    assert_eq!((bench.read(reg::GPTC), bench.read(reg::GPTC)), (1, 0));
    assert_eq!((bench.read(reg::TOTL), bench.read(reg::TOTL)), (64, 64));
    assert_eq!((bench.read(reg::TOTL + 4), bench.read(reg::TOTL)), (0, 0));
    bench.send(&frame_to(OTHER, 60));
    let both = bench.nic.bar_read(0, reg::GOTCL.into(), &Access::plain(Width::Qword));
    assert_eq!(both, Ok(128));
    assert_eq!(bench.read(reg::GOTCL), 0);
    bench.write(reg::TPT, 77);
    assert_eq!(bench.read(reg::TPT), 2, "not writable");
}

#[test]
fn reset_clears_the_counters_but_not_the_machines() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.send(&frame_to(OTHER, 60));
    bench.io_write(reg::CTRL, ctrl::RST);
    assert_eq!(bench.read(reg::TPT), 0);
    assert_eq!(bench.nic.stats_snapshot().tx_frames, 1);
}

#[test]
fn what_cannot_happen_is_never_counted() {
    use minivmm::nic::e1000::regs::table::{Class, State, TABLE};
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.start_rx(16, rctl::BAM);
    for len in [60, 1514] {
        bench.send(&frame_to(OTHER, len));
        bench.inject(&frame_to(MAC, len));
    }
    for row in TABLE.iter().filter(|row| row.class == Class::Rc && row.state == State::Stored) {
        for n in 0..row.count {
            bench.write(row.offset + n * row.stride, 5);
            assert_eq!(bench.read(row.offset + n * row.stride), 0, "{}", row.name);
        }
    }
}
