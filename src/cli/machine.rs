//! `-machine`, `-accel`, `-cpu`, `-smp`, `-m` and `-fw_cfg`: the machine around the devices.
//!
//! Called by `options`. Pure; which accelerators work is decided by the crate's `machine`.

use super::config::{AccelChoice, CpuModel, FwCfgFile, FwCfgSource, KernelUnpack, MAX_CPUS};
use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Absent, Fields, Key, Kind, Schema};
use super::suggest::did_you_mean;
use super::values;

/// Longest name of a fw_cfg file: 56 bytes with the terminating zero (QEMU, docs/specs/fw_cfg).
const MAX_FW_CFG_NAME: usize = 55;

/// The machine types, all of them names of the one machine.
pub(super) static TYPES: &[(&str, &str)] = &[
    ("pc", "the machine: a PC with one PCI bus, CF8/CFC and ECAM (default)"),
    ("q35", "another name of pc"),
];

/// The accelerators.
pub(super) static ACCELERATORS: &[(&str, AccelChoice)] =
    &[("kvm", AccelChoice::Kvm), ("soft", AccelChoice::Soft)];

/// The CPU models.
pub(super) static CPU_MODELS: &[(&str, CpuModel, &str)] = &[
    ("host", CpuModel::Host, "the host's CPU (default)"),
    ("max", CpuModel::Max, "everything that the accelerator can do"),
];

const KERNEL_UNPACK: &[(&str, KernelUnpack)] =
    &[("host", KernelUnpack::Host), ("guest", KernelUnpack::Guest)];

pub(super) static MACHINE: Schema = Schema {
    what: "-machine",
    keys: &[
        Key { name: "accel", kind: Kind::Str, default: "", text: "the same as -accel" },
        Key {
            name: "kernel-unpack",
            kind: Kind::Str,
            default: "host",
            text: "who decompresses a bzImage: host, or guest (the kernel's own decompressor)",
        },
        Key { name: "type", kind: Kind::Str, default: "pc", text: "pc or q35, two names of the one machine" },
    ],
    absent: &[
        Absent { name: "acpi", accepts: Some("on"), instead: "leave it out (ACPI is always there)" },
        Absent { name: "dump-guest-core", accepts: None, instead: "leave it out" },
        Absent { name: "graphics", accepts: Some("off"), instead: "leave it out (there is no display)" },
        Absent { name: "hpet", accepts: Some("off"), instead: "leave it out (there is no HPET)" },
        Absent {
            name: "kernel_irqchip",
            accepts: Some("on"),
            instead: "leave it out (the accelerator decides)",
        },
        Absent { name: "mem-merge", accepts: None, instead: "leave it out" },
        Absent { name: "nvdimm", accepts: Some("off"), instead: "leave it out" },
        Absent { name: "smm", accepts: Some("off"), instead: "leave it out (there is no SMM)" },
        Absent { name: "usb", accepts: Some("off"), instead: "leave it out (there is no USB)" },
        Absent { name: "vmport", accepts: Some("off"), instead: "leave it out" },
    ],
    help: "-machine help",
};

const SMP: Schema = Schema {
    what: "-smp",
    keys: &[Key { name: "cpus", kind: Kind::Uint32, default: "1", text: "number of CPUs" }],
    absent: &[
        Absent { name: "maxcpus", accepts: None, instead: "leave it out (CPUs are not hot-plugged)" },
        Absent { name: "sockets", accepts: None, instead: "leave it out (each CPU is its own socket)" },
        Absent { name: "dies", accepts: Some("1"), instead: "leave it out (each CPU is its own socket)" },
        Absent { name: "clusters", accepts: Some("1"), instead: "leave it out (each CPU is its own socket)" },
        Absent { name: "cores", accepts: Some("1"), instead: "leave it out (each CPU is its own socket)" },
        Absent { name: "threads", accepts: Some("1"), instead: "leave it out (each CPU is its own socket)" },
    ],
    help: "-help",
};

const MEMORY: Schema = Schema {
    what: "-m",
    keys: &[Key { name: "size", kind: Kind::Str, default: "256M", text: "size of guest RAM" }],
    absent: &[
        Absent { name: "slots", accepts: Some("0"), instead: "leave it out (memory is not hot-plugged)" },
        Absent { name: "maxmem", accepts: None, instead: "leave it out (memory is not hot-plugged)" },
    ],
    help: "-help",
};

const FW_CFG: Schema = Schema {
    what: "-fw_cfg",
    keys: &[
        Key { name: "name", kind: Kind::Str, default: "", text: "opt/NAME" },
        Key { name: "file", kind: Kind::Str, default: "", text: "the file with the content" },
        Key { name: "string", kind: Kind::Str, default: "", text: "the content" },
    ],
    absent: &[Absent { name: "gen_id", accepts: None, instead: "write file= or string=" }],
    help: "-help",
};

/// What one `-machine` says; a later one overrides key by key.
#[derive(Debug, Default)]
pub(super) struct MachineRequest {
    pub(super) accel: Option<Vec<AccelChoice>>,
    pub(super) kernel_unpack: Option<KernelUnpack>,
}

/// Reads the value of one `-machine`. None: help was asked for.
pub(super) fn machine(context: &Context, text: &str) -> Result<Option<MachineRequest>, CliError> {
    let pairs = keyval::split(text, "type").map_err(|wrong| context.error(wrong))?;
    if keyval::is_help(text) || keyval::asks_for_help(&pairs) {
        return Ok(None);
    }
    let fields = Fields::read(context, pairs, &MACHINE)?;
    fields.get("type", machine_type)?;
    Ok(Some(MachineRequest {
        accel: fields.get("accel", accelerators)?,
        kernel_unpack: fields.get("kernel-unpack", |text| values::one_of(text, KERNEL_UNPACK))?,
    }))
}

fn machine_type(text: &str) -> Result<(), Wrong> {
    if TYPES.iter().any(|(name, _)| *name == text) {
        return Ok(());
    }
    let versioned = text.starts_with("pc-");
    let advice = match text {
        _ if versioned => "there are no versions: write -machine pc".to_owned(),
        "none" | "isapc" | "microvm" | "xenpv" | "xenfv" => "the one machine here is pc".to_owned(),
        _ => did_you_mean(text, TYPES.iter().map(|(name, _)| *name), "the one machine here is pc"),
    };
    Err(Wrong::new(format!("{} is not a machine", quoted(text)), advice))
}

/// Reads the value of one `-accel`. None: help was asked for.
pub(super) fn accel(context: &Context, text: &str) -> Result<Option<Vec<AccelChoice>>, CliError> {
    let list = text.strip_prefix("accel=").unwrap_or(text);
    if keyval::is_help(list) {
        return Ok(None);
    }
    accelerators(list).map(Some).map_err(|wrong| context.error(wrong))
}

/// `kvm:soft`: the first that works.
fn accelerators(text: &str) -> Result<Vec<AccelChoice>, Wrong> {
    let mut chosen = Vec::new();
    for name in text.split(':') {
        let accel = accelerator(name)?;
        if chosen.contains(&accel) {
            return Err(Wrong::new(format!("'{name}' is given twice"), "keep one of them"));
        }
        chosen.push(accel);
    }
    Ok(chosen)
}

fn accelerator(name: &str) -> Result<AccelChoice, Wrong> {
    if let Some((_, accel)) = ACCELERATORS.iter().find(|(known, _)| *known == name) {
        return Ok(*accel);
    }
    let advice = match name {
        "tcg" => "the software CPU here is soft".to_owned(),
        "hvf" | "whpx" | "nvmm" | "xen" | "qtest" => "use kvm or soft".to_owned(),
        _ if name.contains(',') => {
            "accelerators take no options here: write kvm, soft or kvm:soft".to_owned()
        }
        _ => did_you_mean(name, ACCELERATORS.iter().map(|(name, _)| *name), "use kvm, soft or kvm:soft"),
    };
    Err(Wrong::new(format!("{} is not an accelerator", quoted(name)), advice))
}

/// Reads the value of `-cpu`. None: help was asked for.
pub(super) fn cpu(context: &Context, text: &str) -> Result<Option<CpuModel>, CliError> {
    if keyval::is_help(text) {
        return Ok(None);
    }
    if let Some((_, model, _)) = CPU_MODELS.iter().find(|(name, _, _)| *name == text) {
        return Ok(Some(*model));
    }
    let wrong = match text.split_once(',') {
        Some((_, flags)) => Wrong::new(
            format!("CPU flags ({}) cannot be chosen", quoted(flags)),
            "write -cpu host or -cpu max",
        ),
        None => {
            Wrong::new(format!("{} is not a CPU model here", quoted(text)), "write -cpu host or -cpu max")
        }
    };
    Err(context.error(wrong))
}

/// Reads the value of `-smp`.
pub(super) fn smp(context: &Context, text: &str) -> Result<u32, CliError> {
    let pairs = keyval::split(text, "cpus").map_err(|wrong| context.error(wrong))?;
    let fields = Fields::read(context, pairs, &SMP)?;
    let cpus = fields.get("cpus", |text| values::number(text, 1, MAX_CPUS.into()))?;
    cpus.map(|cpus| cpus as u32)
        .ok_or_else(|| fields.error(Wrong::new("the number of CPUs is missing", "write -smp 2")))
}

/// Reads the value of `-m`.
pub(super) fn memory(context: &Context, text: &str) -> Result<u64, CliError> {
    let pairs = keyval::split(text, "size").map_err(|wrong| context.error(wrong))?;
    let fields = Fields::read(context, pairs, &MEMORY)?;
    fields
        .get("size", values::memory_size)?
        .ok_or_else(|| fields.error(Wrong::new("the size is missing", "write -m 512M")))
}

/// Reads the value of one `-fw_cfg`.
pub(super) fn fw_cfg(context: &Context, text: &str) -> Result<FwCfgFile, CliError> {
    let pairs = keyval::split(text, "name").map_err(|wrong| context.error(wrong))?;
    let fields = Fields::read(context, pairs, &FW_CFG)?;
    let name = fields
        .get("name", fw_cfg_name)?
        .ok_or_else(|| fields.error(Wrong::new("name= is missing", "write name=opt/NAME,string=TEXT")))?;
    let file = fields.get("file", values::path)?;
    let string = fields.get("string", |text| Ok(text.to_owned()))?;
    let source = match (file, string) {
        (Some(file), None) => FwCfgSource::File(file),
        (None, Some(string)) => FwCfgSource::String(string),
        (None, None) => {
            return Err(fields.error(Wrong::new("the content is missing", "add file=PATH or string=TEXT")));
        }
        (Some(_), Some(_)) => {
            return Err(fields.error(Wrong::new("file= and string= are both given", "keep one of them")));
        }
    };
    Ok(FwCfgFile { name, source })
}

fn fw_cfg_name(text: &str) -> Result<String, Wrong> {
    if !text.starts_with("opt/") || text == "opt/" {
        return Err(Wrong::new(
            format!("{} is not under opt/, the part that belongs to the user", quoted(text)),
            "write opt/NAME, as in opt/minivmm/test",
        ));
    }
    if text.len() > MAX_FW_CFG_NAME {
        return Err(Wrong::new(
            format!("{} is {} bytes long", quoted(text), text.len()),
            format!("the device holds names of at most {MAX_FW_CFG_NAME}"),
        ));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Wrong::new(
            format!("{} has characters that are not printable ASCII", quoted(text)),
            "rename it",
        ));
    }
    Ok(text.to_owned())
}
