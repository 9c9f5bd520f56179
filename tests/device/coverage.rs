//! Which test holds which promise: each register of the table, and each row of the chapters on reception, transmission,
//! interrupts and reset. `docs/e1000.md` shows the lists; a test that does not exist, a register without one, or a stale
//! page fails here.

use std::collections::HashSet;
use std::fmt::Write;

use minivmm::nic::e1000::regs::table::{Class, Effect, Reg, State, TABLE};

use super::register_docs::replace_block;

const STORED: &str = "self_test::every_register_stores_its_mask_and_nothing_else";
const RESET: &str = "resets::every_register_has_its_reset_value_or_is_kept_as_the_table_says";

/// Tests of what a register does, by name. Registers that only store are held by [`STORED`] and [`RESET`].
const REGISTERS: &[(&[&str], &str)] = &[
    (&["CTRL"], "link::ctrl_overrides_what_status_says"),
    (&["STATUS"], "link::negotiation_takes_the_best_that_is_advertised"),
    (&["EECD"], "eeprom::words_are_written_only_after_ewen_and_until_ewds"),
    (&["EERD"], "eeprom::eerd_completes_at_once_in_the_layout_of_the_82540"),
    (&["CTRL_EXT"], "eeprom::ee_rst_loads_the_station_address_again"),
    (&["MDIC"], "link::there_is_exactly_one_phy"),
    (&["FCAL", "FCAH", "FCT"], "flow_control::a_pause_frame_holds_the_transmitter_for_its_time"),
    (&["FCTTV"], "flow_control::swxoff_sends_a_pause_frame"),
    (&["FCRTL", "FCRTH", "XOFFTXC", "XONTXC"], "overflow::xoff_goes_out_at_fcrth_and_xon_below_fcrtl"),
    (&["VET"], "receive_ring::the_vlan_filter_holds_for_a_promiscuous_receiver_too"),
    (&["ICR", "ICS"], "causes::bits_0_to_16_are_latched_by_ics_whatever_the_mask_and_bit_31_never"),
    (&["IMS", "IMC"], "causes::imc_reads_zero_and_ims_reads_the_mask"),
    (&["ITR"], "interrupts::itr_keeps_assertions_apart_and_loses_none"),
    (&["RCTL"], "receive::addresses_are_filtered_as_rctl_says"),
    (&["TCTL"], "transmit::the_doorbell_waits_for_enable_link_and_bus_mastering"),
    (&["LEDCTL"], "leds::each_mode_shows_what_the_manual_says"),
    (&["PBA"], "overflow::the_fifo_has_the_size_that_pba_gave_it_at_the_last_reset"),
    (&["RDFPC"], "overflow::frames_wait_in_the_fifo_and_come_in_order_when_rdt_moves"),
    (&["RDBAL", "RDBAH", "RDLEN", "RDH", "RDT"], "receive_ring::the_ring_wraps_and_rdh_never_leaves_it"),
    (&["RDTR", "RADV"], "interrupts::rdtr_restarts_with_each_frame_and_radv_bounds_it"),
    (&["RSRPD"], "receive::small_packets_interrupt_at_once_despite_rdtr"),
    (&["RXCSUM"], "checksums::good_packets_are_called_good_and_a_flipped_bit_bad"),
    (&["MTA"], "receive::the_multicast_table_lets_its_groups_through_and_marks_them_inexact"),
    (&["RAL", "RAH"], "receive::more_station_addresses_can_be_added"),
    (&["VFTA"], "receive::vlan_frames_are_stripped_and_filtered"),
    (&["TDBAL", "TDBAH", "TDLEN", "TDH", "TDT"], "transmit::the_ring_wraps"),
    (&["TIDV", "TADV"], "interrupts::ide_waits_for_tidv_and_rs_without_ide_does_not"),
    (&["TXDCTL"], "write_back::transmitted_descriptors_wait_for_wthresh_of_them"),
    (&["RXDCTL"], "write_back::received_descriptors_wait_for_wthresh_of_them"),
    (&["WUC"], "msi_and_power::pmcsr_and_wuc_show_the_same_pme_bits"),
    (&["WUFC", "IPAV", "IP4AT", "IP6AT"], "wake::each_reason_wakes_by_its_frame_only_if_it_is_enabled"),
    (&["WUS", "WUPL", "WUPM"], "wake::the_first_frame_that_wakes_is_kept_through_the_reset_that_follows"),
    (&["FFLT", "FFMT", "FFVT"], "wake::flexible_filters_compare_what_their_masks_select"),
    (&["CRCERRS"], "damaged_frames::a_wrong_fcs_is_counted_and_dropped_unless_sbp_stores_it"),
    (&["RUC", "RFC"], "damaged_frames::runts_are_undersize_or_fragments"),
    (&["ROC", "RJC"], "damaged_frames::giants_are_oversize_or_jabber"),
    (&["MPC", "RNBC"], "overflow::a_full_fifo_loses_frames_counts_them_and_raises_rxo"),
    (&["XONRXC"], "flow_control::a_zero_pause_lets_it_go_at_once"),
    (&["XOFFRXC"], "flow_control::a_pause_frame_holds_the_transmitter_for_its_time"),
    (&["FCRUC"], "flow_control::an_unknown_opcode_is_counted"),
    (
        &[
            "PRC64", "PRC127", "PRC255", "PRC511", "PRC1023", "PRC1522", "GPRC", "BPRC", "MPRC", "GPTC",
            "GORCL", "GOTCL", "TORL", "TOTL", "TPR", "TPT", "PTC64", "PTC127", "PTC255", "PTC511", "PTC1023",
            "PTC1522", "MPTC", "BPTC",
        ],
        "statistics::sent_and_received_frames_are_counted_by_length_and_kind",
    ),
    (
        &["GORCH", "GOTCH", "TORH", "TOTH"],
        "statistics::counters_clear_on_read_and_pairs_on_the_read_of_the_high_half",
    ),
    (&["TSCTC", "TSCTFC"], "segmentation::finished_and_failed_segmentations_are_counted"),
];

fn tests_of(row: &Reg) -> Vec<&'static str> {
    let mut tests: Vec<_> =
        REGISTERS.iter().filter(|(names, _)| names.contains(&row.name)).map(|&(_, test)| test).collect();
    if row.state == State::ReadsZero {
        tests.push("bars::places_without_a_register_read_zero_and_take_nothing");
    }
    if row.state == State::Stored && row.class == Class::Rc {
        tests.push("statistics::what_cannot_happen_is_never_counted");
    }
    if row.state == State::Stored && row.class == Class::Ro {
        tests.push("bars::places_without_a_register_read_zero_and_take_nothing");
    }
    if row.class == Class::Rw && row.effect == Effect::None {
        tests.extend([STORED, RESET]);
    }
    tests
}

/// Rows of the reference's chapters 3 to 10: what is promised, and the tests that hold it.
const ROWS: &[(&str, &str, &[&str])] = &[
    (
        "PCI",
        "identity, BARs, I/O window",
        &[
            "bars::the_function_is_an_82540em_with_a_memory_and_an_io_bar",
            "bars::the_82545_has_a_64_bit_bar_and_its_io_window_behind_it",
            "bars::the_io_window_reaches_every_register",
        ],
    ),
    (
        "PCI",
        "capabilities, MSI, INTx disable",
        &[
            "msi_and_power::the_capabilities_are_those_of_the_real_part",
            "msi_and_power::msi_is_sent_once_for_each_rise_of_the_enabled_causes",
            "msi_and_power::intx_disable_gates_the_line_and_a_strict_board_has_no_such_bit",
            "msi_and_power::intx_takes_over_when_msi_is_switched_off_under_a_pending_cause",
        ],
    ),
    (
        "registers",
        "widths, lanes, quadwords",
        &["bars::narrow_reads_give_lanes_and_narrow_writes_are_lost", "bars::a_quadword_is_two_registers"],
    ),
    (
        "self-test",
        "Linux's offline test, three parts, delay 0 and 2 s",
        &[
            "self_test::the_offline_test_passes_with_the_link_up_at_once",
            "self_test::the_offline_test_passes_with_two_seconds_of_negotiation",
        ],
    ),
    (
        "self-test",
        "receiver on with a full ring of nothing",
        &["self_test::the_register_test_leaves_the_receiver_on_and_nothing_happens"],
    ),
    (
        "EEPROM",
        "read, write, erase, enable, all words",
        &[
            "eeprom::words_are_written_only_after_ewen_and_until_ewds",
            "eeprom::erase_and_the_two_instructions_for_all_words",
            "eeprom::more_clocks_go_on_with_the_next_word",
        ],
    ),
    (
        "EEPROM",
        "request and grant; the 82544 without",
        &["eeprom::the_pins_act_only_while_the_eeprom_is_granted", "eeprom::the_82544_needs_no_request"],
    ),
    (
        "EEPROM",
        "256 words; checksum; signature; store",
        &[
            "eeprom::a_93c66_has_eight_address_bits_and_says_so",
            "eeprom::the_words_sum_to_baba_and_hold_the_station_address",
            "eeprom::an_unsigned_image_is_not_loaded",
            "eeprom::the_store_is_told_of_every_change_and_of_nothing_else",
        ],
    ),
    (
        "PHY",
        "autonegotiation, forced modes, latched link",
        &[
            "link::negotiation_takes_the_best_that_is_advertised",
            "link::without_negotiation_bmcr_says_speed_and_duplex",
            "link::bmsr_shows_a_loss_once",
        ],
    ),
    (
        "PHY",
        "reset, power-down, CTRL.PHY_RST",
        &[
            "link::phy_reset_keeps_the_other_bits_and_clears_itself",
            "link::power_down_holds_the_link_through_resets",
            "link::ctrl_phy_rst_holds_the_phy_and_its_end_restarts_it",
        ],
    ),
    (
        "6.1",
        "RDH = RDT is empty; wrap; RDT = N; order of initialisation",
        &[
            "receive_ring::rdh_equal_to_rdt_is_an_empty_ring",
            "receive_ring::the_ring_wraps_and_rdh_never_leaves_it",
            "receive_ring::rdt_equal_to_the_ring_length_gives_all_descriptors_for_ever",
            "receive_ring::the_receiver_may_be_on_before_the_indices_are_written",
        ],
    ),
    (
        "6.1",
        "enable, link, bus mastering; switched off",
        &[
            "receive::receiver_off_or_link_down_drops",
            "receive::without_bus_mastering_frames_wait",
            "overflow::the_receiver_switched_off_empties_the_fifo",
        ],
    ),
    (
        "6.2",
        "descriptor: length, status, errors, special; stale contents",
        &[
            "receive::a_frame_lands_in_memory_with_its_fcs_and_interrupts",
            "receive_ring::what_stood_in_a_descriptor_before_is_gone",
            "receive_ring::descriptors_that_are_not_last_carry_dd_and_a_full_buffer",
        ],
    ),
    ("6.2", "null buffer", &["receive::a_null_buffer_is_skipped"]),
    ("6.3", "EN, UPE, MPE, BAM", &["receive::addresses_are_filtered_as_rctl_says"]),
    (
        "6.3",
        "SBP",
        &[
            "damaged_frames::a_wrong_fcs_is_counted_and_dropped_unless_sbp_stores_it",
            "damaged_frames::sbp_lets_giants_from_the_wire_in_too",
        ],
    ),
    (
        "6.3",
        "LPE, 1522 and 16384",
        &[
            "receive::long_frames_need_lpe_because_linux_gives_1522_bytes_where_bsize_says_2048",
            "damaged_frames::giants_are_oversize_or_jabber",
        ],
    ),
    (
        "6.3",
        "LBM, BMCR loopback",
        &["receive_ring::every_loopback_mode_returns_frames_and_keeps_them_from_the_wire"],
    ),
    (
        "6.3",
        "RDMTS",
        &[
            "receive_ring::each_threshold_of_rdmts_raises_rxdmt0_once",
            "receive::the_minimum_threshold_is_an_edge",
        ],
    ),
    ("6.3", "MO", &["receive::the_multicast_table_lets_its_groups_through_and_marks_them_inexact"]),
    ("6.3", "BSIZE, BSEX", &["receive::every_buffer_size_is_honoured"]),
    (
        "6.3",
        "VFE, CFIEN, CFI",
        &[
            "receive::vlan_frames_are_stripped_and_filtered",
            "receive::cfien_compares_the_canonical_bit_of_the_tag",
        ],
    ),
    ("6.3", "DPF, PMCF", &["flow_control::dpf_and_pmcf_decide_what_the_host_sees"]),
    ("6.3", "SECRC", &["receive::runts_are_padded_and_secrc_strips_the_fcs"]),
    (
        "6.4",
        "padding, length, flaws",
        &[
            "receive::runts_are_padded_and_secrc_strips_the_fcs",
            "damaged_frames::runts_are_undersize_or_fragments",
            "damaged_frames::flaws_of_frames_for_others_are_not_counted",
        ],
    ),
    (
        "6.4",
        "addresses, hash, PIF",
        &[
            "receive_ring::address_entries_of_the_source_kind_or_invalid_ones_do_not_match",
            "receive_ring::a_hash_bit_lets_unicast_and_broadcast_through_too",
        ],
    ),
    (
        "6.4",
        "VLAN filter and strip",
        &[
            "receive_ring::the_vlan_filter_holds_for_a_promiscuous_receiver_too",
            "receive::vlan_frames_are_stripped_and_filtered",
        ],
    ),
    (
        "6.4",
        "flow control",
        &[
            "flow_control::a_pause_frame_holds_the_transmitter_for_its_time",
            "overflow::a_pause_frame_for_the_host_does_not_wait_for_descriptors",
        ],
    ),
    (
        "6.4",
        "scatter: whole or not at all; FIFO; overflow",
        &[
            "receive::a_frame_is_never_placed_in_part",
            "receive::a_long_frame_is_spread_over_descriptors",
            "overflow::frames_wait_in_the_fifo_and_come_in_order_when_rdt_moves",
            "overflow::a_full_fifo_loses_frames_counts_them_and_raises_rxo",
        ],
    ),
    (
        "6.5",
        "IPOFL, TUOFL, IPv6, options, tags",
        &[
            "checksums::good_packets_are_called_good_and_a_flipped_bit_bad",
            "checksums::a_damaged_ip_header_is_ipe_and_leaves_tcpcs_alone",
        ],
    ),
    (
        "6.5",
        "fragments, UDP 0, IXSM",
        &[
            "checksums::fragments_and_udp_without_checksum_are_not_looked_at",
            "checksums::what_is_neither_ip_nor_whole_says_ixsm",
        ],
    ),
    ("6.5", "packet checksum", &["receive::the_packet_checksum_sums_what_is_stored_from_pcss_on"]),
    (
        "6.6",
        "RXT0, RDTR, RADV, FPD",
        &[
            "causes::rdtr_zero_interrupts_at_once_and_radv_alone_does_nothing",
            "interrupts::rdtr_restarts_with_each_frame_and_radv_bounds_it",
            "interrupts::fpd_flushes_the_receive_delay_and_reads_zero",
        ],
    ),
    (
        "6.6",
        "RXDCTL.WTHRESH",
        &[
            "write_back::received_descriptors_wait_for_wthresh_of_them",
            "write_back::radv_and_fpd_flush_received_descriptors",
            "write_back::without_rdtr_and_for_small_packets_nothing_waits",
        ],
    ),
    (
        "6.6",
        "SRPD, RXDMT0, RXO",
        &[
            "receive::small_packets_interrupt_at_once_despite_rdtr",
            "receive::the_minimum_threshold_is_an_edge",
            "overflow::a_full_fifo_loses_frames_counts_them_and_raises_rxo",
        ],
    ),
    (
        "7.1",
        "TDT while off; wrap; indices beyond the ring; one lap",
        &[
            "transmit::the_doorbell_waits_for_enable_link_and_bus_mastering",
            "transmit::the_ring_wraps",
            "transmit::indices_beyond_the_ring_stop_it",
            "robustness::a_ring_of_the_greatest_length_is_worked_off_in_bounded_time",
        ],
    ),
    (
        "7.1",
        "off between packets; several doorbells for one packet",
        &[
            "transmit_fields::switching_the_transmitter_off_stops_it_between_packets",
            "transmit::a_packet_may_come_with_several_doorbells",
        ],
    ),
    (
        "7.2",
        "legacy, context, data, unknown types",
        &[
            "transmit::a_legacy_frame_leaves_and_its_descriptor_is_done",
            "transmit_fields::a_context_alone_sends_nothing",
            "transmit_fields::a_descriptor_of_an_unknown_type_is_passed_over",
        ],
    ),
    (
        "7.2",
        "which descriptor decides",
        &[
            "transmit_fields::popts_count_in_the_first_data_descriptor",
            "transmit_fields::tag_and_ifcs_count_in_the_last_descriptor",
        ],
    ),
    (
        "7.3",
        "two contexts that persist; none; after reset",
        &[
            "transmit::contexts_persist_and_there_are_two",
            "transmit_fields::data_without_any_context_is_sent_as_it_is",
            "segmentation::contexts_do_not_outlive_a_reset",
        ],
    ),
    (
        "7.4",
        "TXSM range, odd tail, UDP ones, IC, before the tag",
        &["checksums::an_inserted_checksum_is_the_plain_sum_over_the_range_of_the_context"],
    ),
    (
        "7.4",
        "IXSM; offsets beyond the packet",
        &[
            "transmit_fields::ixsm_inserts_the_ip_header_checksum",
            "transmit_fields::offsets_beyond_the_packet_insert_nothing",
        ],
    ),
    (
        "7.4",
        "left to the peer: its own field, a right seed, no padding; else inserted here",
        &["checksums::a_checksum_is_left_to_the_peer_only_if_it_comes_out_right"],
    ),
    (
        "7.5",
        "v4, v6, TCP, UDP, any pieces, against etherparse",
        &["segmentation::segments_are_good_whatever_the_pieces"],
    ),
    (
        "7.5",
        "FIN, PSH, CWR; identification; seed",
        &[
            "segmentation::the_last_segment_alone_carries_fin_and_psh",
            "segmentation::packets_with_cwr_are_cut_here",
            "segmentation::the_identification_counts_up_and_wraps",
            "segmentation::a_wrong_seed_gives_the_wrong_checksum_of_the_real_part",
        ],
    ),
    (
        "7.5",
        "tags; single segment; sentinel; requests that hang",
        &[
            "segmentation::tags_go_into_every_segment",
            "segmentation::a_single_short_segment_is_padded_even_when_its_checksum_is_left_to_the_peer",
            "segmentation::linuxs_four_byte_sentinel_is_payload_like_any_other",
            "segmentation::requests_that_hang_the_real_part_are_given_up",
        ],
    ),
    ("7.6", "VLE and VME", &["transmit::a_vlan_tag_is_inserted_with_vle_if_ctrl_vme_allows_it"]),
    (
        "7.6",
        "IFCS",
        &[
            "transmit::a_frame_that_brings_its_fcs_loses_it_and_one_that_forgot_ifcs_is_sent_whole",
            "damaged_frames::on_the_wire_a_strict_boards_bad_fcs_is_lost",
        ],
    ),
    (
        "7.6",
        "PSP, SWXOFF",
        &["transmit::short_frames_are_padded_only_with_psp", "flow_control::swxoff_sends_a_pause_frame"],
    ),
    (
        "7.6",
        "no bytes; too many bytes",
        &[
            "transmit::a_zero_length_descriptor_sends_nothing_but_reports",
            "transmit_fields::a_packet_longer_than_the_fifo_takes_is_given_up_and_the_ring_goes_on",
        ],
    ),
    (
        "7.6",
        "RS and write-back",
        &[
            "transmit::without_rs_the_descriptor_stays_as_it_is",
            "transmit_fields::rs_is_honoured_on_contexts_and_in_the_middle_of_a_packet",
            "transmit_fields::write_back_touches_nothing_but_dd",
        ],
    ),
    (
        "7.6",
        "TXDCTL.WTHRESH",
        &[
            "write_back::transmitted_descriptors_wait_for_wthresh_of_them",
            "write_back::counting_begins_with_the_first_descriptor_that_has_rs",
            "write_back::tidv_flushes_what_has_gathered_counted_from_the_first",
            "write_back::a_threshold_of_one_or_in_cache_lines_does_not_wait",
            "write_back::a_burst_does_not_outlive_a_reset_or_a_new_ring",
        ],
    ),
    (
        "7.6",
        "TXDW, IDE, TIDV, TADV; TXQE; TXD_LOW",
        &[
            "interrupts::ide_waits_for_tidv_and_rs_without_ide_does_not",
            "transmit_fields::txqe_comes_when_the_ring_runs_empty_and_not_for_an_idle_doorbell",
            "transmit::low_threshold_is_reported_when_it_is_crossed",
        ],
    ),
    ("7.6", "link down: the ring waits", &["transmit::the_doorbell_waits_for_enable_link_and_bus_mastering"]),
    (
        "8",
        "every bit; ICR clears all; W1C",
        &[
            "causes::bits_0_to_16_are_latched_by_ics_whatever_the_mask_and_bit_31_never",
            "causes::causes_gather_while_everything_is_masked_for_drivers_that_poll",
            "interrupts::writing_ones_to_icr_acknowledges",
        ],
    ),
    (
        "8",
        "level of the line; NAPI's sequence",
        &[
            "interrupts::the_line_is_high_while_an_enabled_cause_is_latched",
            "causes::the_napi_sequence_loses_no_cause",
        ],
    ),
    (
        "8",
        "LSC, MDAC",
        &["link::lsc_comes_with_every_change_and_the_peer_hears_of_it", "link::mdic_interrupts_when_asked"],
    ),
    (
        "8",
        "ITR",
        &[
            "interrupts::itr_keeps_assertions_apart_and_loses_none",
            "causes::a_held_assertion_falls_away_with_its_cause_and_comes_with_the_next",
            "causes::a_shorter_interval_ends_the_gap_sooner",
        ],
    ),
    ("8", "MSI", &["msi_and_power::msi_is_sent_once_for_each_rise_of_the_enabled_causes"]),
    ("8", "RST", &["causes::a_reset_stops_delays_throttle_and_line"]),
    (
        "9",
        "STATUS, SLU, LEDs",
        &[
            "link::ctrl_overrides_what_status_says",
            "link::strict_boards_need_slu",
            "leds::each_mode_shows_what_the_manual_says",
        ],
    ),
    ("9", "XOFF and XON thresholds", &["overflow::xoff_goes_out_at_fcrth_and_xon_below_fcrtl"]),
    (
        "10",
        "registers, by CTRL, CTRL_DUP, IODATA and D3hot",
        &["resets::every_register_has_its_reset_value_or_is_kept_as_the_table_says"],
    ),
    (
        "10",
        "RST#",
        &[
            "resets::rst_on_the_bus_gives_every_register_its_reset_value",
            "resets::rst_on_the_bus_resets_the_phy_and_negotiates_anew",
        ],
    ),
    ("10", "RA0 to RA15", &["resets::the_first_address_is_loaded_again_and_the_others_are_invalid"]),
    (
        "10",
        "contexts, partial packets, FIFOs",
        &[
            "segmentation::contexts_do_not_outlive_a_reset",
            "resets::a_packet_in_pieces_does_not_outlive_a_reset",
            "resets::a_packet_that_a_full_peer_refused_does_not_outlive_a_reset",
            "overflow::the_fifo_has_the_size_that_pba_gave_it_at_the_last_reset",
        ],
    ),
    ("10", "statistics", &["statistics::reset_clears_the_counters_but_not_the_machines"]),
    ("10", "PBA", &["overflow::the_fifo_has_the_size_that_pba_gave_it_at_the_last_reset"]),
    ("10", "wake-up state", &["wake::the_first_frame_that_wakes_is_kept_through_the_reset_that_follows"]),
    (
        "10",
        "EEPROM, PHY, link",
        &[
            "resets::phy_and_eeprom_outlive_a_device_reset",
            "link::ctrl_phy_rst_holds_the_phy_and_its_end_restarts_it",
        ],
    ),
    (
        "10",
        "RST reads 0; EE_RST",
        &[
            "bars::reset_through_the_io_window_resets_but_keeps_what_the_manual_says",
            "resets::no_reset_is_left_half_done_by_writing_other_bits_with_it",
            "eeprom::ee_rst_loads_the_station_address_again",
        ],
    ),
    (
        "guest",
        "any operations; several threads",
        &[
            "robustness::any_stream_of_operations_is_survived",
            "robustness::doorbells_and_registers_from_several_threads",
        ],
    ),
    (
        "guest",
        "rings without length",
        &[
            "transmit::a_ring_without_length_sends_its_one_descriptor_at_each_doorbell",
            "receive::a_ring_without_length_keeps_using_its_one_descriptor",
        ],
    ),
    (
        "guest",
        "DMA into holes and BARs",
        &[
            "receive_ring::a_buffer_that_is_not_memory_loses_its_bytes_and_nothing_else",
            "receive_ring::a_ring_that_is_not_memory_receives_nothing",
            "transmit::a_buffer_that_is_not_memory_loses_the_packet_but_not_the_ring",
            "transmit_fields::a_ring_that_is_not_memory_sends_nothing",
        ],
    ),
];

/// All tests of this crate, as `file::name`.
fn existing() -> HashSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device");
    let mut found = HashSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for part in text.split("#[test]").skip(1) {
            let name = part
                .split_once("fn ")
                .unwrap()
                .1
                .split(|c: char| c != '_' && !c.is_alphanumeric())
                .next()
                .unwrap();
            found.insert(format!("{file}::{name}"));
        }
    }
    found
}

fn generated() -> String {
    let mut text = String::from("\n| Chapter | What | Tests |\n|---|---|---|\n");
    for (chapter, what, tests) in ROWS {
        writeln!(text, "| {chapter} | {what} | {} |", tests.join(", ")).unwrap();
    }
    text += "\n| Registers | Test |\n|---|---|\n";
    for (names, test) in REGISTERS {
        writeln!(text, "| {} | {test} |", names.join(", ")).unwrap();
    }
    text
}

#[test]
fn every_register_has_a_test() {
    let existing = existing();
    for row in TABLE {
        let tests = tests_of(row);
        assert!(!tests.is_empty(), "{} has no test", row.name);
        if row.state == State::Implemented {
            assert!(
                REGISTERS.iter().any(|(names, _)| names.contains(&row.name)),
                "{}: what does it do?",
                row.name
            );
        }
        for test in tests {
            assert!(existing.contains(test), "{}: there is no {test}", row.name);
        }
    }
    for name in REGISTERS.iter().flat_map(|(names, _)| *names) {
        assert!(TABLE.iter().any(|row| row.name == *name), "{name} is no register");
    }
}

#[test]
fn every_row_of_the_chapters_has_a_test() {
    let existing = existing();
    for (chapter, what, tests) in ROWS {
        assert!(!tests.is_empty(), "{chapter}: {what}");
        for test in *tests {
            assert!(existing.contains(*test), "{chapter}, {what}: there is no {test}");
        }
    }
    replace_block("coverage", &generated());
}
