//! Single values: text to number, size, time, address.
//!
//! Called by the option parsers. Each function takes the bare text and returns the value or what is [`Wrong`]
//! with it, in words that stand without context. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::config::{AddressChoice, MAX_MEMORY, MIN_MEMORY, PciAddress};
use super::error::{Wrong, quoted};
use crate::machine::pc::RESERVED_SLOTS;

/// Slots left for `-device`; one less with `-bios`, whose ISA bridge is elsewhere.
pub(super) const FREE_SLOTS: usize = 32 - RESERVED_SLOTS.len();
/// Longest id.
const MAX_ID: usize = 64;
/// IFNAMSIZ less the terminating zero.
const MAX_IFNAME: usize = 15;
/// Longest time that any option takes: a year, so that adding it to a clock never overflows.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// `on` or `off`.
pub(super) fn on_off(text: &str) -> Result<bool, Wrong> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Wrong::new(format!("{} is neither 'on' nor 'off'", quoted(text)), "write one of the two")),
    }
}

/// One of `choices`.
pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
    choices
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| Wrong::new(format!("{} is not a choice", quoted(text)), format!("write {}", names())))
}

/// A name that other options refer to: a letter, then letters, digits, `-`, `.` and `_` (QEMU's rule), and no
/// longer than fits into a message.
pub(super) fn identifier(text: &str) -> Result<String, Wrong> {
    if text.len() > MAX_ID {
        let problem = format!("{} is {} characters long", quoted(text), text.len());
        return Err(Wrong::new(problem, format!("an id has at most {MAX_ID}")));
    }
    let mut chars = text.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    if begins && chars.all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{} is not an id", quoted(text)),
        "start with a letter and go on with letters, digits, '-', '.' or '_'",
    ))
}

/// A path that is not empty.
pub(super) fn path(text: &str) -> Result<PathBuf, Wrong> {
    match text {
        "" => Err(Wrong::new("the path is empty", "name a file")),
        _ => Ok(PathBuf::from(text)),
    }
}

/// A decimal or `0x` number within `least..=most`.
pub(super) fn number(text: &str, least: u64, most: u64) -> Result<u64, Wrong> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    };
    parsed
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| Wrong::from(format!("{} is not a number from {least} to {most}", quoted(text))))
}

/// Digits only: the standard parser would take a sign.
fn digits(text: &str, radix: u32) -> Option<u64> {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    plain.then(|| u64::from_str_radix(text, radix).ok()).flatten()
}

/// A number of bytes, 0 to `most`; k, M and G count in powers of 1024.
pub(super) fn byte_size(text: &str, most: u64) -> Result<u64, Wrong> {
    let (amount, suffix) = split_number(text);
    let unit = match suffix {
        "" | "b" | "B" => Some(1),
        "k" | "K" => Some(1 << 10),
        "m" | "M" => Some(1 << 20),
        "g" | "G" => Some(1 << 30),
        _ => None,
    };
    unit.and_then(|unit| scaled(amount, unit)).filter(|bytes| *bytes <= most).ok_or_else(|| {
        Wrong::new(format!("{} is not a size from 0 to {most} bytes", quoted(text)), "write 65536, 64k or 1M")
    })
}

/// `-m`: MiB without a suffix; b, k, M, G, T in either case; a fraction is fine. Rounded up to 8 KiB as QEMU does.
pub(super) fn memory_size(text: &str) -> Result<u64, Wrong> {
    let not_a_size = |advice: String| Wrong::new(format!("{} is not a size", quoted(text)), advice);
    let (amount, suffix) = split_number(text);
    let unit: u64 = match suffix.to_ascii_lowercase().as_str() {
        "" | "m" => 1 << 20,
        "b" => 1,
        "k" => 1 << 10,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "kb" | "mb" | "gb" | "tb" | "kib" | "mib" | "gib" | "tib" if !amount.is_empty() => {
            return Err(not_a_size(format!(
                "did you mean {}?",
                quoted(&format!("{amount}{}", suffix[..1].to_ascii_uppercase()))
            )));
        }
        _ => return Err(not_a_size("write 512, 512M or 2G (without a suffix it counts MiB)".into())),
    };
    let bytes = scaled(amount, unit)
        .ok_or_else(|| not_a_size("write 512, 512M or 2G (without a suffix it counts MiB)".into()))?;
    match bytes {
        0..MIN_MEMORY => Err(Wrong::new(
            format!("{} is too little memory for any guest", quoted(text)),
            "a small Linux guest wants 64M or more",
        )),
        MIN_MEMORY..=MAX_MEMORY => Ok(bytes.next_multiple_of(8 << 10)),
        _ => Err(Wrong::new(
            format!("{} is more than 1T", quoted(text)),
            too_much_memory_advice(amount, suffix.is_empty()),
        )),
    }
}

fn too_much_memory_advice(amount: &str, bare: bool) -> String {
    match amount.parse::<u64>() {
        Ok(bytes) if bare && bytes % MIN_MEMORY == 0 && bytes <= MAX_MEMORY => {
            format!("a number without a suffix counts MiB: did you mean {}M?", bytes >> 20)
        }
        _ => "write 512, 512M or 2G".to_owned(),
    }
}

/// A time such as `90`, `1m30s`, `500ms`, `1.5h`; a bare number counts `bare_unit`. May be zero.
pub(super) fn duration(text: &str, bare_unit: Duration) -> Result<Duration, Wrong> {
    let not_a_time = || Wrong::new(format!("{} is not a time", quoted(text)), "write 90s, 1m30s or 500ms");
    let mut total = 0u64;
    let mut rest = text;
    loop {
        let (amount, tail) = split_number(rest);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit = match &tail[..unit_end] {
            "" if rest.len() == text.len() => bare_unit,
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(not_a_time()),
        };
        let unit = u64::try_from(unit.as_nanos()).map_err(|_| not_a_time())?;
        let part = scaled(amount, unit).ok_or_else(not_a_time)?;
        total = total.checked_add(part).ok_or_else(not_a_time)?;
        rest = &tail[unit_end..];
        if rest.is_empty() {
            break;
        }
    }
    let total = Duration::from_nanos(total);
    if total > MAX_TIME {
        return Err(Wrong::new(
            format!("{} is more than a year", quoted(text)),
            "leave it out to wait for ever",
        ));
    }
    Ok(total)
}

/// Leading digits and points, and the rest.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// `amount` (digits, or digits with a fraction of at most nine) times `unit`, rounded down.
fn scaled(amount: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 9)?;
    let part = u128::from(digits(fraction, 10)?) * u128::from(unit) / 10u128.pow(places);
    digits(whole, 10)?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

/// A unicast MAC: six hexadecimal bytes with `:` or `-` between them.
pub(super) fn mac(text: &str) -> Result<[u8; 6], Wrong> {
    const EXAMPLE: &str = "write six hexadecimal bytes, as in 52:54:00:12:34:56";
    let separator = if text.contains('-') { '-' } else { ':' };
    let bytes: Option<Vec<u8>> = text
        .split(separator)
        .map(|byte| digits(byte, 16).filter(|_| byte.len() <= 2).and_then(|n| u8::try_from(n).ok()))
        .collect();
    let mac: [u8; 6] = bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Wrong::new(format!("{} is not a MAC address", quoted(text)), EXAMPLE))?;
    if mac == [0; 6] {
        return Err(Wrong::new(format!("{} means 'no address'", quoted(text)), EXAMPLE));
    }
    if mac[0] & 1 != 0 {
        let first = mac[0] & !1 | 2;
        return Err(Wrong::new(
            format!("{} is a multicast address (lowest bit of the first byte set)", quoted(text)),
            format!("a NIC needs a unicast one: start with {first:02x}"),
        ));
    }
    Ok(mac)
}

/// `SLOT[.FUNCTION]`, hexadecimal as in QEMU, with or without `0x`.
pub(super) fn pci_address(text: &str) -> Result<PciAddress, Wrong> {
    const HOW: &str = "slots are hexadecimal, 1 to 1e, as in addr=3 or addr=1a";
    let (slot, function) = text.split_once('.').unwrap_or((text, "0"));
    let hex = |text: &str| digits(text.strip_prefix("0x").unwrap_or(text), 16);
    let (Some(slot), Some(function)) = (hex(slot), hex(function)) else {
        return Err(Wrong::new(format!("{} is not a PCI slot", quoted(text)), HOW));
    };
    if slot > 31 {
        return Err(Wrong::new(format!("there is no slot {slot:#x} on a PCI bus"), HOW));
    }
    if RESERVED_SLOTS.iter().any(|reserved| u64::from(*reserved) == slot) {
        return Err(Wrong::new(format!("slot {slot:#x} belongs to the machine's own bridges"), HOW));
    }
    if function != 0 {
        return Err(Wrong::new(
            format!("{} names function {function}, but every device here has one function", quoted(text)),
            format!("write addr={slot:x}"),
        ));
    }
    Ok(PciAddress { slot: slot as u8, function: 0 })
}

/// The name of a network interface, by the kernel's rules (net/core/dev.c, `dev_valid_name`).
pub(super) fn interface_name(text: &str) -> Result<String, Wrong> {
    if text.len() > MAX_IFNAME {
        return Err(Wrong::new(
            format!("{} is {} characters long and Linux allows {MAX_IFNAME}", quoted(text), text.len()),
            "shorten it",
        ));
    }
    if text.contains('%') {
        return Err(Wrong::new(
            format!("{} is a pattern", quoted(text)),
            "leave ifname out and the kernel picks a free name",
        ));
    }
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    if text.is_empty() || text == "." || text == ".." || !text.chars().all(allowed) {
        return Err(Wrong::new(format!("{} is not an interface name", quoted(text)), "write one like tap0"));
    }
    Ok(text.to_owned())
}

/// `none`, or a host's IPv4 address with its prefix length.
pub(super) fn host_address(text: &str) -> Result<AddressChoice, Wrong> {
    const HOW: &str = "write address and prefix length, as in 10.0.2.2/24, or none";
    if text == "none" {
        return Ok(AddressChoice::None);
    }
    let (addr, prefix) = text.split_once('/').unwrap_or((text, ""));
    if addr.parse::<Ipv6Addr>().is_ok() {
        return Err(Wrong::new(format!("{} is IPv6 and only IPv4 can be set here", quoted(text)), HOW));
    }
    let Ok(addr) = addr.parse::<Ipv4Addr>() else {
        return Err(Wrong::new(format!("{} is not an IPv4 address with prefix length", quoted(text)), HOW));
    };
    if prefix.is_empty() {
        return Err(Wrong::new(
            format!("{} lacks the prefix length", quoted(text)),
            format!("did you mean {addr}/24?"),
        ));
    }
    let Some(prefix) = digits(prefix, 10).filter(|n| (1..=32).contains(n)) else {
        return Err(Wrong::new(
            format!("{} is not a prefix length", quoted(prefix)),
            "write 1 to 32, mostly 24",
        ));
    };
    let host_bits = u32::MAX.checked_shr(prefix as u32).unwrap_or(0);
    let host = addr.to_bits() & host_bits;
    let of_a_host =
        !(addr.is_unspecified() || addr.is_multicast() || addr.is_broadcast() || addr.is_loopback());
    if !of_a_host || prefix <= 30 && (host == 0 || host == host_bits) {
        return Err(Wrong::new(
            format!("{} cannot be the address of a host", quoted(text)),
            "take one inside the subnet, as in 10.0.2.2/24",
        ));
    }
    Ok(AddressChoice::Ip4 { addr, prefix: prefix as u8 })
}
