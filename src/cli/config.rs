//! What a command line means: the typed configuration that [`parse`](super::parse) returns.
//!
//! Read by `machine` (assembly) and `main`. Plain data: nothing here opens a file, reads a clock or knows how
//! an option is spelled. Every value has passed the checks that the text alone allows; what only the host can
//! tell (does the file exist, may we open the tap) is checked by whoever opens it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::expect::Expectation;
use super::fault_plan::FaultPlan;
use super::filter_options::FilterOptions;
use super::socket_options::{
    DgramOptions, L2tpv3Options, PasstOptions, SocketChardev, SocketOptions, StreamOptions,
};
use super::user_net::UserOptions;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Build this machine and run it.
    Run(Box<Config>),
    /// Print this text (it ends with a newline) on standard output and exit with status 0.
    Print(String),
    /// Print which accelerators this build and this host have (only `machine` knows) and exit with status 0.
    AccelHelp,
    /// Print this text and then which events there are (only `machine` knows) and exit with status 0.
    TraceHelp(String),
}

/// One machine, as the command line describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `-kernel`: bzImage or ELF. None: [`Config::bios`] is there.
    pub kernel: Option<PathBuf>,
    /// `-bios`: a firmware's image. None: [`Config::kernel`] is there.
    pub bios: Option<PathBuf>,
    /// `-initrd`: loaded as it is.
    pub initrd: Option<PathBuf>,
    /// `-append`: the kernel's command line, empty if not given.
    pub append: String,
    /// `-m`: guest RAM in bytes, a multiple of 8 KiB, [`MIN_MEMORY`]..=[`MAX_MEMORY`].
    pub memory: u64,
    /// `-smp`: number of vCPUs, 1..=[`MAX_CPUS`].
    pub smp: u32,
    /// `-netdev`, in the order given; ids are unique.
    pub netdevs: Vec<Netdev>,
    /// `-chardev`, in the order given; ids are unique, and each is named by one filter at most.
    pub chardevs: Vec<SocketChardev>,
    /// `-object filter-...`, in the order given; ids are unique, `netdev` is in [`Config::netdevs`], and so are
    /// `indev` and `outdev` unless they are in [`Config::chardevs`].
    pub filters: Vec<FilterOptions>,
    /// `-fault`, in the order given; ids are unique, also among the filters, and the netdevs exist.
    pub faults: Vec<FaultPlan>,
    /// `-device`, in the order given; ids and explicit PCI addresses are unique.
    pub devices: Vec<Device>,
    /// `-accel`: the accelerators to try, in this order; empty if the user left the choice to `machine`.
    pub accel: Vec<AccelChoice>,
    /// `-cpu`.
    pub cpu: CpuModel,
    /// `-nographic`: accepted for QEMU's sake; there is never a display.
    pub nographic: bool,
    /// `-serial`: the ports in order, ttyS0 first, at most [`MAX_SERIALS`]. Without the option: one on stdio.
    pub serials: Vec<Chardev>,
    /// `-qmp` and `-monitor`, in the order given.
    pub monitors: Vec<MonitorConfig>,
    /// Ctrl-A c on the console's terminal leads to a monitor: no `-monitor` said that it is elsewhere.
    pub console_monitor: bool,
    /// `-S`: the guest runs when a monitor says `cont`.
    pub stopped: bool,
    /// `-gdb` and `-s`: where a debugger may connect; always a server that waits for nobody.
    pub gdb: Option<Chardev>,
    /// `-no-reboot`: a guest's reset ends the run.
    pub no_reboot: bool,
    /// `-timeout`: wall time after which the run ends with status 124; never zero.
    pub timeout: Option<Duration>,
    /// `-expect`: what must be seen on the console, in this order; then the run ends with success.
    pub expect: Vec<Expectation>,
    /// `-on-failure`: the folder that keeps what was recorded of a run that fails.
    pub on_failure: Option<PathBuf>,
    /// `-result`: where a JSON object about the run goes.
    pub result: Option<PathBuf>,
    /// `-d` and `-trace`.
    pub observe: ObserveConfig,
    /// `-machine`.
    pub machine: MachineConfig,
    /// `-fw_cfg`, in the order given; names are unique.
    pub fw_cfg: Vec<FwCfgFile>,
    /// What works but is probably not meant, one line each, to be printed on standard error.
    pub warnings: Vec<String>,
}

/// Guest RAM without `-m`: 256 MiB.
pub const DEFAULT_MEMORY: u64 = 256 << 20;
/// Least guest RAM: a kernel is loaded at 1 MiB and needs something to stand on.
pub const MIN_MEMORY: u64 = 2 << 20;
/// Most guest RAM: 1 TiB. More is a forgotten or mistyped suffix.
pub const MAX_MEMORY: u64 = 1 << 40;
/// Most vCPUs.
pub const MAX_CPUS: u32 = 32;
/// Serial ports of the machine: ttyS0 and ttyS1.
pub const MAX_SERIALS: usize = 2;

/// An accelerator: what runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccelChoice {
    /// Linux KVM.
    Kvm,
    /// The software CPU.
    Soft,
}

/// `-cpu`: what CPUID tells the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuModel {
    /// The host's CPU, as far as the accelerator passes it on.
    #[default]
    Host,
    /// Everything that the accelerator can do.
    Max,
}

/// `-d` and `-trace`: what is told about the devices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObserveConfig {
    /// `-d guest_errors`.
    pub doctor: Option<DoctorMode>,
    /// `-d symbols=`: names for guest addresses.
    pub symbols: Option<PathBuf>,
    /// `-trace`, in the order given.
    pub traces: Vec<TraceOptions>,
}

/// What becomes of a driver's mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoctorMode {
    /// They are told.
    Report,
    /// The first error or warning ends the run.
    Fatal,
}

/// `-trace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOptions {
    /// Which events, with `*`; never empty.
    pub pattern: String,
    /// `file=`. None: standard error.
    pub file: Option<PathBuf>,
    /// `format=`.
    pub format: TraceFormat,
    /// `limit=`: events a second; zero is no limit.
    pub limit: u32,
}

/// `format=` of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TraceFormat {
    /// A line for each event.
    #[default]
    Text,
    /// A JSON object on a line for each event.
    Json,
    /// The frames, each with a comment.
    PcapNg,
}

/// `-machine`: `pc` and `q35` both name the one machine there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineConfig {
    /// `kernel-unpack=`.
    pub kernel_unpack: KernelUnpack,
}

/// Who decompresses a bzImage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KernelUnpack {
    /// We do, before the machine starts.
    #[default]
    Host,
    /// The kernel's own decompressor does.
    Guest,
}

/// `-netdev`: a backend, joined to a NIC by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netdev {
    /// `id=`: the name by which a device refers to this backend.
    pub id: String,
    /// What it is.
    pub kind: NetdevKind,
}

/// The type of a backend with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetdevKind {
    /// A port of a hub.
    HubPort(HubPortOptions),
    /// A tap interface of the host.
    Tap(TapOptions),
    /// A network of its own, in this process.
    User(Box<UserOptions>),
    /// A tap on a bridge, made by a helper.
    Bridge(BridgeHelper),
    /// Frames over a connection.
    Stream(StreamOptions),
    /// Frames in datagrams.
    Dgram(DgramOptions),
    /// The older form of both.
    Socket(SocketOptions),
    /// Frames in an L2TPv3 tunnel.
    L2tpv3(L2tpv3Options),
    /// The program passt.
    Passt(PasstOptions),
}

/// `-netdev hubport`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPortOptions {
    /// `hubid=`: the hub's number; the hub is there when its first port is.
    pub hubid: u32,
    /// `netdev=`: the backend that the port is connected to. None: a NIC or another port names this one instead.
    pub netdev: Option<String>,
    /// `learning=`, which holds for the whole hub. None: as its other ports say, else off.
    pub learning: Option<bool>,
}

/// `-netdev tap`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TapOptions {
    /// `ifname=`: 1 to 15 bytes, a valid interface name. None: the kernel picks one, or `fd` brings it.
    pub ifname: Option<String>,
    /// `script=`: run when the tap is up.
    pub script: ScriptChoice,
    /// `downscript=`: run before the tap goes.
    pub downscript: ScriptChoice,
    /// `fd=`: an open tap inherited from the parent, never negative. Then none of the others but
    /// `vnet_hdr` and `address` differ from their defaults.
    pub fd: Option<i32>,
    /// `br=` and `helper=`: a program makes the tap. Then neither `ifname` nor the scripts nor `fd` is given.
    pub helper: Option<BridgeHelper>,
    /// `vnet_hdr=`. None: used where the tap has it.
    pub vnet_hdr: Option<bool>,
    /// `sndbuf=`: bytes of the guest's frames that the host queues for this tap; 0 is no limit. None: the kernel's
    /// own.
    pub sndbuf: Option<u32>,
    /// `address=`: the host side's IPv4 address.
    pub address: AddressChoice,
}

/// `-netdev bridge`, or a tap's `br=` and `helper=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeHelper {
    /// `br=`: a valid interface name.
    pub bridge: String,
    /// `helper=`: a program, or with blanks a shell command. None: QEMU's own helper.
    pub program: Option<String>,
}

/// `script=` and `downscript=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ScriptChoice {
    /// Not given.
    #[default]
    Default,
    /// `no`: run nothing.
    No,
    /// Run this program with the interface's name as its argument.
    Path(PathBuf),
}

/// `address=`: what minivmm sets on the host side of a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressChoice {
    /// Not given: 10.0.2.2/24 if neither ifname, script nor fd is given and the subnet is free, else nothing.
    #[default]
    Default,
    /// `none`: leave the addresses alone.
    None,
    /// Set this one.
    Ip4 {
        /// A host's address: neither 0.0.0.0, multicast nor broadcast.
        addr: Ipv4Addr,
        /// Prefix length, 1..=32.
        prefix: u8,
    },
}

/// `-device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// Intel 82540EM or a relative.
    E1000(E1000Options),
    /// QEMU's isa-debug-exit: a write of n ends the run with status 2n+1.
    IsaDebugExit(IsaDebugExitOptions),
}

impl Device {
    /// `id=`, if given.
    pub fn id(&self) -> Option<&str> {
        match self {
            Device::E1000(nic) => nic.id.as_deref(),
            Device::IsaDebugExit(exit) => exit.id.as_deref(),
        }
    }
}

/// The members of the 8254x family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NicModel {
    /// `e1000`, `e1000-82540em`.
    I82540Em,
    /// `e1000-82545em`.
    I82545Em,
    /// `e1000-82544gc`.
    I82544Gc,
}

/// `overflow=`: what becomes of a frame for which the driver has given no descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NicOverflow {
    /// Its sender waits.
    #[default]
    Wait,
    /// It is lost once the receive FIFO is full, as on a wire.
    Drop,
}

/// `-device e1000`, `-device e1000-82545em`, `-device e1000-82544gc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct E1000Options {
    /// Which of them.
    pub model: NicModel,
    /// `id=`.
    pub id: Option<String>,
    /// `netdev=`: the id of a netdev in [`Config::netdevs`], used by no other device. None: no cable.
    pub netdev: Option<String>,
    /// `mac=`, or the default 52:54:00:12:34:56 with the last byte counted up past the MACs that are taken.
    /// Unicast, never zero.
    pub mac: [u8; 6],
    /// Whether `mac` was asked for.
    pub mac_given: bool,
    /// `addr=`. None: the machine picks a free slot.
    pub addr: Option<PciAddress>,
    /// `link-delay=`: time from the start of autonegotiation to link up; zero unless given.
    pub link_delay: Duration,
    /// `msi=`: has an MSI capability.
    pub msi: bool,
    /// `strict=`: no allowances.
    pub strict: bool,
    /// `overflow=`.
    pub overflow: NicOverflow,
    /// `eeprom=`: the file that keeps its EEPROM; no other NIC's.
    pub eeprom: Option<PathBuf>,
    /// `romfile=`: the expansion ROM.
    pub romfile: Option<PathBuf>,
    /// `coverage=`: where it is written what the driver has used of the device.
    pub coverage: Option<PathBuf>,
}

/// `addr=SLOT[.FUNCTION]` on PCI bus 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// 1..=30: slot 0 is the host bridge, slot 31 the ISA bridge.
    pub slot: u8,
    /// Always 0 as long as every device has one function.
    pub function: u8,
}

/// `-device isa-debug-exit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsaDebugExitOptions {
    /// `id=`.
    pub id: Option<String>,
    /// `iobase=`: first port, 0x501 unless given; `iobase + iosize` stays within 0x10000.
    pub iobase: u16,
    /// `iosize=`: number of ports: 1, 2 (default) or 4.
    pub iosize: u16,
}

/// `-monitor` and `-qmp`: a monitor and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorConfig {
    /// For programs (QMP), not for people (HMP).
    pub qmp: bool,
    /// Never [`Chardev::None`].
    pub place: Chardev,
}

/// `-serial`, `-monitor`, `-qmp`: where the bytes of a 16550 or a monitor go and come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chardev {
    /// The terminal (or whatever standard input and output are); at most one port, and monitors for people.
    Stdio,
    /// The port exists; output is thrown away and there is no input.
    Null,
    /// The port does not exist; the next `-serial` is still the next port.
    None,
    /// Output goes to this file, truncated at the start; there is no input.
    File(PathBuf),
    /// A TCP socket.
    Tcp {
        /// Name or address; empty: every address of this host, or localhost for a client.
        host: String,
        /// Never zero.
        port: u16,
        /// `server=on`: listen there; off: connect.
        server: bool,
        /// As with [`Self::Unix`].
        wait: bool,
    },
    /// A Unix stream socket.
    Unix {
        /// At most 107 bytes (sun_path).
        path: PathBuf,
        /// `server=on`: listen there; off: connect.
        server: bool,
        /// `wait=on` (a server's default): the machine starts when somebody has connected. Off for a client.
        wait: bool,
    },
}

/// `-fw_cfg`: a file that the guest reads through the fw_cfg device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FwCfgFile {
    /// Begins with `opt/`, at most 55 bytes of printable ASCII.
    pub name: String,
    /// Where the content comes from.
    pub source: FwCfgSource,
}

/// The content of a [`FwCfgFile`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FwCfgSource {
    /// `file=`: this file's bytes.
    File(PathBuf),
    /// `string=`: these bytes, without a terminating zero.
    String(String),
}
