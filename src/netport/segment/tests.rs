//! The cutter against an independent reader of headers (etherparse).

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::netport::{CsumRequest, Gso};

fn gso_frame(v6: bool, payload: &[u8], fin_psh: bool, mss: u16) -> (Vec<u8>, FrameMeta) {
    let eth = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip =
        if v6 { eth.ipv6([0xfd; 16], [0xfe; 16], 64) } else { eth.ipv4([10, 0, 2, 2], [10, 0, 2, 15], 64) };
    let mut tcp = ip.tcp(1000, 80, 0xffff_fff0, 512).ack(77);
    if fin_psh {
        tcp = tcp.fin().psh();
    }
    let mut frame = Vec::new();
    tcp.write(&mut frame, payload).unwrap();
    let l4 = if v6 { 54 } else { 34 };
    let kind = if v6 { GsoKind::Tcp6 } else { GsoKind::Tcp4 };
    let meta = FrameMeta {
        csum: Some(CsumRequest { start: l4, offset: 16 }),
        csum_valid: false,
        gso: Some(Gso { kind, mss, header_len: l4 + 20 }),
    };
    (frame, meta)
}

fn check_segment(segment: &[u8], v6: bool) -> (u32, Vec<u8>, bool) {
    let parsed = SlicedPacket::from_ethernet(segment).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = parsed.transport else { panic!("not TCP") };
    let header = tcp.to_header();
    let good = match parsed.net.as_ref().unwrap() {
        etherparse::NetSlice::Ipv4(ip) => {
            let ip_header = ip.header().to_header();
            assert!(!v6);
            assert_eq!(ip_header.calc_header_checksum(), ip_header.header_checksum);
            header.calc_checksum_ipv4(&ip_header, tcp.payload()).unwrap()
        }
        etherparse::NetSlice::Ipv6(ip) => {
            header.calc_checksum_ipv6(&ip.header().to_header(), tcp.payload()).unwrap()
        }
    };
    assert_eq!(header.checksum, good, "TCP checksum");
    (header.sequence_number, tcp.payload().to_vec(), header.fin || header.psh)
}

proptest! {
    #[test]
    fn segments_carry_the_payload_in_order_with_good_checksums(
        v6: bool,
        payload in proptest::collection::vec(any::<u8>(), 1..5000),
        mss in 1u16..1500,
        fin_psh: bool,
    ) {
        let (mut frame, meta) = gso_frame(v6, &payload, fin_psh, mss);
        let plan = SegmentPlan::for_gso(&mut frame, &meta).unwrap();
        let count = plan.count(frame.len() - plan.header_len);
        let (mut whole, mut header) = (Vec::new(), Vec::new());
        for k in 0..count {
            let piece = plan.cut(&frame, k, &mut header).to_vec();
            header.extend_from_slice(&piece);
            let (seq, data, last_flags) = check_segment(&header, v6);
            prop_assert_eq!(seq, 0xffff_fff0u32.wrapping_add(whole.len() as u32));
            prop_assert_eq!(last_flags, fin_psh && k == count - 1);
            prop_assert!(data.len() <= usize::from(mss));
            whole.extend_from_slice(&data);
        }
        prop_assert_eq!(whole, payload);
    }

    #[test]
    fn any_frame_and_any_metadata_are_survived(
        mut frame in proptest::collection::vec(any::<u8>(), 0..200),
        start: u16, mss: u16, header_len: u16, v6: bool, csum: bool,
    ) {
        let kind = if v6 { GsoKind::Tcp6 } else { GsoKind::Tcp4 };
        let meta = FrameMeta {
            csum: csum.then_some(CsumRequest { start, offset: 16 }),
            csum_valid: false,
            gso: Some(Gso { kind, mss, header_len }),
        };
        if let Some(plan) = SegmentPlan::for_gso(&mut frame, &meta) {
            plan.cut(&frame, 0, &mut Vec::new());
        }
    }
}

#[test]
fn identification_counts_up_from_the_prototype() {
    let (mut frame, meta) = gso_frame(false, &[1; 30], false, 10);
    store(&mut frame, 18, 0xffff);
    let plan = SegmentPlan::for_gso(&mut frame, &meta).unwrap();
    let mut header = Vec::new();
    for (k, id) in [(0, 0xffff), (1, 0), (2, 1)] {
        plan.cut(&frame, k, &mut header);
        assert_eq!(load(&header, 18), Some(id));
    }
}

#[test]
fn metadata_that_contradicts_the_frame_is_refused() {
    let (mut frame, mut meta) = gso_frame(false, &[1; 30], false, 10);
    meta.gso = Some(Gso { kind: GsoKind::Tcp6, mss: 10, header_len: 54 });
    assert_eq!(SegmentPlan::for_gso(&mut frame, &meta), None);
    meta.gso = Some(Gso { kind: GsoKind::Tcp4, mss: 0, header_len: 54 });
    assert_eq!(SegmentPlan::for_gso(&mut frame, &meta), None);
    meta.gso = Some(Gso { kind: GsoKind::Tcp4, mss: 10, header_len: 54 });
    assert_eq!(SegmentPlan::for_gso(&mut frame[..50], &meta), None);
}
