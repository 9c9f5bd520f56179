//! What the 8254x Software Developer's Manual says: offsets, bits, descriptor layouts. No behaviour.
//!
//! Names are the manual's. Section numbers refer to Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers
//! Software Developer's Manual" (317453).

/// Register offsets in BAR0, bytes (chapter 13).
pub mod reg {
    #![allow(missing_docs, reason = "the register table names and describes each of them")]
    pub const CTRL: u32 = 0x0000;
    pub const STATUS: u32 = 0x0008;
    pub const EECD: u32 = 0x0010;
    pub const EERD: u32 = 0x0014;
    pub const CTRL_EXT: u32 = 0x0018;
    pub const FLA: u32 = 0x001c;
    pub const MDIC: u32 = 0x0020;
    pub const SCTL: u32 = 0x0024;
    pub const FCAL: u32 = 0x0028;
    pub const FCAH: u32 = 0x002c;
    pub const FCT: u32 = 0x0030;
    pub const VET: u32 = 0x0038;
    pub const ICR: u32 = 0x00c0;
    pub const ITR: u32 = 0x00c4;
    pub const ICS: u32 = 0x00c8;
    pub const IMS: u32 = 0x00d0;
    pub const IMC: u32 = 0x00d8;
    pub const RCTL: u32 = 0x0100;
    pub const FCTTV: u32 = 0x0170;
    pub const TXCW: u32 = 0x0178;
    pub const RXCW: u32 = 0x0180;
    pub const TCTL: u32 = 0x0400;
    pub const TIPG: u32 = 0x0410;
    pub const TBT: u32 = 0x0448;
    pub const AIT: u32 = 0x0458;
    pub const LEDCTL: u32 = 0x0e00;
    pub const PBA: u32 = 0x1000;
    pub const ERT: u32 = 0x2008;
    pub const FCRTL: u32 = 0x2160;
    pub const FCRTH: u32 = 0x2168;
    pub const RDFH: u32 = 0x2410;
    pub const RDFT: u32 = 0x2418;
    pub const RDFHS: u32 = 0x2420;
    pub const RDFTS: u32 = 0x2428;
    pub const RDFPC: u32 = 0x2430;
    pub const RDBAL: u32 = 0x2800;
    pub const RDBAH: u32 = 0x2804;
    pub const RDLEN: u32 = 0x2808;
    pub const RDH: u32 = 0x2810;
    pub const RDT: u32 = 0x2818;
    pub const RDTR: u32 = 0x2820;
    pub const RXDCTL: u32 = 0x2828;
    pub const RADV: u32 = 0x282c;
    pub const RSRPD: u32 = 0x2c00;
    pub const RAID: u32 = 0x2c08;
    pub const TXDMAC: u32 = 0x3000;
    pub const TDFH: u32 = 0x3410;
    pub const TDFT: u32 = 0x3418;
    pub const TDFHS: u32 = 0x3420;
    pub const TDFTS: u32 = 0x3428;
    pub const TDFPC: u32 = 0x3430;
    pub const TDBAL: u32 = 0x3800;
    pub const TDBAH: u32 = 0x3804;
    pub const TDLEN: u32 = 0x3808;
    pub const TDH: u32 = 0x3810;
    pub const TDT: u32 = 0x3818;
    pub const TIDV: u32 = 0x3820;
    pub const TXDCTL: u32 = 0x3828;
    pub const TADV: u32 = 0x382c;
    pub const TSPMT: u32 = 0x3830;
    pub const RXCSUM: u32 = 0x5000;
    pub const RFCTL: u32 = 0x5008;
    pub const MTA: u32 = 0x5200;
    pub const RAL: u32 = 0x5400;
    pub const RAH: u32 = 0x5404;
    pub const VFTA: u32 = 0x5600;
    pub const WUC: u32 = 0x5800;
    pub const WUFC: u32 = 0x5808;
    pub const WUS: u32 = 0x5810;
    pub const MANC: u32 = 0x5820;
    pub const IPAV: u32 = 0x5838;
    pub const IP4AT: u32 = 0x5840;
    pub const IP6AT: u32 = 0x5880;
    pub const WUPL: u32 = 0x5900;
    pub const WUPM: u32 = 0x5a00;
    pub const FFLT: u32 = 0x5f00;
    pub const FFMT: u32 = 0x9000;
    pub const FFVT: u32 = 0x9800;
    pub const PBM: u32 = 0x1_0000;

    pub const CRCERRS: u32 = 0x4000;
    pub const ALGNERRC: u32 = 0x4004;
    pub const SYMERRS: u32 = 0x4008;
    pub const RXERRC: u32 = 0x400c;
    pub const MPC: u32 = 0x4010;
    pub const SCC: u32 = 0x4014;
    pub const ECOL: u32 = 0x4018;
    pub const MCC: u32 = 0x401c;
    pub const LATECOL: u32 = 0x4020;
    pub const COLC: u32 = 0x4028;
    pub const DC: u32 = 0x4030;
    pub const TNCRS: u32 = 0x4034;
    pub const SEC: u32 = 0x4038;
    pub const CEXTERR: u32 = 0x403c;
    pub const RLEC: u32 = 0x4040;
    pub const XONRXC: u32 = 0x4048;
    pub const XONTXC: u32 = 0x404c;
    pub const XOFFRXC: u32 = 0x4050;
    pub const XOFFTXC: u32 = 0x4054;
    pub const FCRUC: u32 = 0x4058;
    pub const PRC64: u32 = 0x405c;
    pub const GPRC: u32 = 0x4074;
    pub const BPRC: u32 = 0x4078;
    pub const MPRC: u32 = 0x407c;
    pub const GPTC: u32 = 0x4080;
    pub const GORCL: u32 = 0x4088;
    pub const GOTCL: u32 = 0x4090;
    pub const RNBC: u32 = 0x40a0;
    pub const RUC: u32 = 0x40a4;
    pub const RFC: u32 = 0x40a8;
    pub const ROC: u32 = 0x40ac;
    pub const RJC: u32 = 0x40b0;
    pub const MGTPRC: u32 = 0x40b4;
    pub const MGTPDC: u32 = 0x40b8;
    pub const MGTPTC: u32 = 0x40bc;
    pub const TORL: u32 = 0x40c0;
    pub const TOTL: u32 = 0x40c8;
    pub const TPR: u32 = 0x40d0;
    pub const TPT: u32 = 0x40d4;
    pub const PTC64: u32 = 0x40d8;
    pub const MPTC: u32 = 0x40f0;
    pub const BPTC: u32 = 0x40f4;
    pub const TSCTC: u32 = 0x40f8;
    pub const TSCTFC: u32 = 0x40fc;
}

/// Device Control (13.4.1).
pub mod ctrl {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const FD: u32 = 1 << 0;
    pub const LRST: u32 = 1 << 3;
    pub const SLU: u32 = 1 << 6;
    pub const ILOS: u32 = 1 << 7;
    pub const SPEED_SHIFT: u32 = 8;
    pub const FRCSPD: u32 = 1 << 11;
    pub const FRCDPX: u32 = 1 << 12;
    pub const RST: u32 = 1 << 26;
    pub const RFCE: u32 = 1 << 27;
    pub const TFCE: u32 = 1 << 28;
    pub const VME: u32 = 1 << 30;
    pub const PHY_RST: u32 = 1 << 31;
}

/// Device Status (13.4.2).
pub mod status {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const FD: u32 = 1 << 0;
    pub const LU: u32 = 1 << 1;
    pub const TXOFF: u32 = 1 << 4;
    pub const SPEED_SHIFT: u32 = 6;
    pub const ASDV_SHIFT: u32 = 8;
}

/// Extended Device Control (13.4.6).
pub mod ctrl_ext {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const ASDCHK: u32 = 1 << 12;
    pub const EE_RST: u32 = 1 << 13;
}

/// EEPROM/Flash Control (13.4.3) and EEPROM Read (13.4.4).
pub mod eeprom {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const SK: u32 = 1 << 0;
    pub const CS: u32 = 1 << 1;
    pub const DI: u32 = 1 << 2;
    pub const DO: u32 = 1 << 3;
    pub const FWE_MASK: u32 = 3 << 4;
    pub const FWE_DISABLED: u32 = 1 << 4;
    pub const REQ: u32 = 1 << 6;
    pub const GNT: u32 = 1 << 7;
    pub const PRES: u32 = 1 << 8;
    /// 256 words, 8 address bits.
    pub const SIZE: u32 = 1 << 9;
    pub const EERD_START: u32 = 1 << 0;
    pub const EERD_DONE: u32 = 1 << 4;
}

/// MDI Control (13.4.7).
pub mod mdic {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const OP_WRITE: u32 = 1;
    pub const OP_READ: u32 = 2;
    pub const READY: u32 = 1 << 28;
    pub const INT_EN: u32 = 1 << 29;
    pub const ERROR: u32 = 1 << 30;
    /// The internal PHY's address.
    pub const PHY_ADDRESS: u32 = 1;
}

/// Interrupt causes (13.4.17).
pub mod cause {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const TXDW: u32 = 1 << 0;
    pub const TXQE: u32 = 1 << 1;
    pub const LSC: u32 = 1 << 2;
    pub const RXSEQ: u32 = 1 << 3;
    pub const RXDMT0: u32 = 1 << 4;
    pub const RXO: u32 = 1 << 6;
    pub const RXT0: u32 = 1 << 7;
    pub const MDAC: u32 = 1 << 9;
    pub const TXD_LOW: u32 = 1 << 15;
    pub const SRPD: u32 = 1 << 16;
    /// All causes that this part latches, the sourceless bits 5 and 8 included.
    pub const ALL: u32 = 0x0001_ffff;
}

/// Receive Control (13.4.22).
pub mod rctl {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const EN: u32 = 1 << 1;
    pub const SBP: u32 = 1 << 2;
    pub const UPE: u32 = 1 << 3;
    pub const MPE: u32 = 1 << 4;
    pub const LPE: u32 = 1 << 5;
    pub const LBM_MASK: u32 = 3 << 6;
    pub const LBM_MAC: u32 = 1 << 6;
    pub const LBM_PHY: u32 = 3 << 6;
    pub const RDMTS_SHIFT: u32 = 8;
    pub const MO_SHIFT: u32 = 12;
    pub const BAM: u32 = 1 << 15;
    pub const BSIZE_SHIFT: u32 = 16;
    pub const VFE: u32 = 1 << 18;
    pub const CFIEN: u32 = 1 << 19;
    pub const CFI: u32 = 1 << 20;
    pub const DPF: u32 = 1 << 22;
    pub const PMCF: u32 = 1 << 23;
    pub const BSEX: u32 = 1 << 25;
    pub const SECRC: u32 = 1 << 26;
}

/// Transmit Control (13.4.33).
pub mod tctl {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const EN: u32 = 1 << 1;
    pub const PSP: u32 = 1 << 3;
    pub const SWXOFF: u32 = 1 << 22;
}

/// Receive Checksum Control (13.4.47).
pub mod rxcsum {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const PCSS_MASK: u32 = 0xff;
    pub const IPOFL: u32 = 1 << 8;
    pub const TUOFL: u32 = 1 << 9;
    pub const IPV6OFL: u32 = 1 << 10;
}

/// Receive Address High (13.5.3).
pub mod rah {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const AV: u32 = 1 << 31;
    pub const AS_MASK: u32 = 3 << 16;
}

/// Wake-up (13.6.1 to 13.6.3): bits of WUC, and of WUFC and WUS.
pub mod wake {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const APME: u32 = 1 << 0;
    pub const PME_EN: u32 = 1 << 1;
    pub const PME_STATUS: u32 = 1 << 2;
    pub const APMPME: u32 = 1 << 3;

    pub const LNKC: u32 = 1 << 0;
    pub const MAG: u32 = 1 << 1;
    pub const EX: u32 = 1 << 2;
    pub const MC: u32 = 1 << 3;
    pub const BC: u32 = 1 << 4;
    pub const ARP: u32 = 1 << 5;
    pub const IPV4: u32 = 1 << 6;
    pub const IPV6: u32 = 1 << 7;
    pub const FLX0: u32 = 1 << 16;

    /// IPAV: the IPv6 address is valid.
    pub const IPAV_V60: u32 = 1 << 16;
}

/// Receive descriptor (3.2.3).
pub mod rxd {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const DD: u8 = 1 << 0;
    pub const EOP: u8 = 1 << 1;
    pub const IXSM: u8 = 1 << 2;
    pub const VP: u8 = 1 << 3;
    pub const TCPCS: u8 = 1 << 5;
    pub const IPCS: u8 = 1 << 6;
    pub const PIF: u8 = 1 << 7;
    pub const CE: u8 = 1 << 0;
    pub const TCPE: u8 = 1 << 5;
    pub const IPE: u8 = 1 << 6;
    pub const RXE: u8 = 1 << 7;
}

/// Transmit descriptors (3.3.3, 3.3.6, 3.3.7): bits of the lower dword (bytes 8 to 11) unless said otherwise.
pub mod txd {
    #![allow(missing_docs, reason = "the manual's bit names")]
    pub const EOP: u32 = 1 << 24;
    pub const IFCS: u32 = 1 << 25;
    pub const IC: u32 = 1 << 26;
    pub const TSE: u32 = 1 << 26;
    pub const RS: u32 = 1 << 27;
    pub const DEXT: u32 = 1 << 29;
    pub const VLE: u32 = 1 << 30;
    pub const IDE: u32 = 1 << 31;
    /// TUCMD.TCP of a context descriptor.
    pub const TUCMD_TCP: u32 = 1 << 24;
    /// TUCMD.IP of a context descriptor: IPv4.
    pub const TUCMD_IP: u32 = 1 << 25;
    pub const DTYP_SHIFT: u32 = 20;
    pub const DTYP_CONTEXT: u32 = 0;
    pub const DTYP_DATA: u32 = 1;
    /// Status byte (byte 12).
    pub const DD: u8 = 1 << 0;
    /// POPTS bits (byte 13).
    pub const POPTS_IXSM: u8 = 1 << 0;
    pub const POPTS_TXSM: u8 = 1 << 1;
}

/// Bytes of a descriptor, transmit and receive.
pub const DESC_LEN: u64 = 16;
/// Bytes of the frame check sequence.
pub const FCS_LEN: usize = 4;
/// Shortest frame on the wire, without FCS.
pub const MIN_FRAME: usize = 60;
/// Longest frame with FCS that is received while RCTL.LPE is clear.
pub const MAX_STANDARD: usize = 1522;
/// Longest frame with FCS that is received at all.
pub const MAX_LONG: usize = 16384;
/// Longest frame without FCS that the transmit FIFO takes (3.3.3).
pub const MAX_TX_FRAME: usize = 16288;
/// Nanoseconds of one tick of RDTR, RADV, TIDV and TADV.
pub const DELAY_TICK_NS: u64 = 1024;
/// Nanoseconds of one tick of ITR.
pub const ITR_TICK_NS: u64 = 256;

/// RSRPD.SIZE (13.4.32): frames up to this length in bytes raise SRPD; zero is off.
pub const fn rsrpd_size(rsrpd: u32) -> usize {
    (rsrpd & 0xfff) as usize
}
