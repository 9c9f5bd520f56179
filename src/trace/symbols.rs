//! Names for guest addresses: from a System.map, a copy of /proc/kallsyms, or an ELF file's symbol table.

use std::io;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

/// A symbol is believed to reach so far, unless another begins.
const LONGEST: u64 = 1 << 20;

/// Why a file of symbols could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// It holds no symbols.
    #[error(
        "{0} holds no symbols; take a System.map, a copy of /proc/kallsyms or an ELF file that is not stripped"
    )]
    Empty(PathBuf),
}

/// Symbols by address.
#[derive(Debug, Default)]
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`SymbolError`].
    pub fn read(path: &Path) -> Result<Self, SymbolError> {
        let bytes =
            std::fs::read(path).map_err(|source| SymbolError::Io { path: path.to_owned(), source })?;
        let symbols = Self::of(&bytes);
        if symbols.0.is_empty() { Err(SymbolError::Empty(path.to_owned())) } else { Ok(symbols) }
    }

    /// The symbols in `bytes`; none if it has none that can be read.
    pub fn of(bytes: &[u8]) -> Self {
        Self::ordered(match object::File::parse(bytes) {
            Ok(file) => elf(&file),
            Err(_) => map(&String::from_utf8_lossy(bytes)),
        })
    }

    /// Of several at one address a function.
    fn ordered(mut list: Vec<Symbol>) -> Self {
        list.sort_unstable_by(|a, b| (a.address, a.is_label, &a.name).cmp(&(b.address, b.is_label, &b.name)));
        list.dedup_by_key(|symbol| symbol.address);
        Self(list.into_iter().map(|symbol| (symbol.address, symbol.name)).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `name+0x12` for an address behind a known symbol.
    pub fn name(&self, address: u64) -> Option<String> {
        let behind = self.0.partition_point(|symbol| symbol.0 <= address);
        let (start, name) = self.0.get(behind.checked_sub(1)?)?;
        let offset = address - start;
        (offset < LONGEST).then(|| if offset == 0 { name.clone() } else { format!("{name}+{offset:#x}") })
    }

    /// The address, with its name if it has one.
    pub fn describe(&self, address: u64) -> String {
        match self.name(address) {
            Some(name) => format!("{address:#x}({name})"),
            None => format!("{address:#x}"),
        }
    }
}

struct Symbol {
    address: u64,
    name: String,
    /// Not said to be a function: assembly without `.type`.
    is_label: bool,
}

fn elf(file: &object::File<'_>) -> Vec<Symbol> {
    let in_code = |symbol: &object::Symbol<'_, '_>| {
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        section.is_some_and(|section| section.kind() == SectionKind::Text)
    };
    let symbol = |symbol: object::Symbol<'_, '_>| {
        let is_label = symbol.kind() != SymbolKind::Text;
        let counts = !is_label || symbol.kind() == SymbolKind::Unknown && in_code(&symbol);
        let name = symbol.name().ok().filter(|name| counts && symbol.is_definition() && !name.is_empty())?;
        Some(Symbol { address: symbol.address(), name: name.to_owned(), is_label })
    };
    file.symbols().filter_map(symbol).collect()
}

/// Lines of address, type and name; T and t, W and w are code.
fn map(text: &str) -> Vec<Symbol> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let kind = words.next()?;
        let name = words.next()?;
        let counts = matches!(kind, "T" | "t" | "W" | "w") && address != 0;
        counts.then(|| Symbol { address, name: name.to_owned(), is_label: false })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_map_names_addresses_up_to_the_next_symbol() {
        let text = "ffffffff81000000 T _stext\nffffffff81000100 t e1000_open\nffffffff81000180 D data\n\
                    ffffffff81000200 t minie1000_open\t[minie1000]\nnot a line\n";
        let symbols = Symbols::of(text.as_bytes());
        assert_eq!(symbols.name(0xffff_ffff_8100_0100).as_deref(), Some("e1000_open"));
        assert_eq!(symbols.name(0xffff_ffff_8100_01ff).as_deref(), Some("e1000_open+0xff"));
        assert_eq!(symbols.name(0xffff_ffff_8100_0200).as_deref(), Some("minie1000_open"));
        assert_eq!(symbols.name(0x1000), None);
        assert_eq!(symbols.describe(0x1000), "0x1000");
    }

    // Two functions that no optimiser may leave out, join or name otherwise: their addresses are asked for.
    #[inline(never)]
    fn the_first_of_two(x: u64) -> u64 {
        std::hint::black_box(x) + 1
    }

    #[inline(never)]
    fn the_second_of_two(x: u64) -> u64 {
        std::hint::black_box(x) * 3
    }

    #[test]
    fn an_elf_file_names_its_functions() {
        let first: fn(u64) -> u64 = std::hint::black_box(the_first_of_two);
        let second: fn(u64) -> u64 = std::hint::black_box(the_second_of_two);
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let symbols = Symbols::of(&own);
        let address = |part: &str| symbols.0.iter().find(|(_, name)| name.contains(part)).unwrap().0;
        // The program is loaded anywhere; how far apart its functions are stays.
        let apart = address("the_second_of_two").wrapping_sub(address("the_first_of_two"));
        assert_eq!((second as usize as u64).wrapping_sub(first as usize as u64), apart);
    }

    #[test]
    fn a_label_names_what_no_function_does() {
        let symbol = |address, name: &str, is_label| Symbol { address, name: name.to_owned(), is_label };
        let symbols = Symbols::ordered(vec![
            symbol(16, "a_label", true),
            symbol(0, "start", true),
            symbol(16, "main", false),
        ]);
        assert_eq!([1, 17].map(|address| symbols.name(address).unwrap()), ["start+0x1", "main+0x1"]);
    }

    #[test]
    fn a_file_without_symbols_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Symbols::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("holds no symbols") && error.contains(file.path().to_str().unwrap()));
    }
}
