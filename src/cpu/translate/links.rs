//! How host code finds the host code of the next block.
//!
//! A block whose successor is known when it is made has a link of its own; returns and indirect branches share a
//! table by target. Both say where the code is and under which stamp it was last found right (`run.rs`); host code
//! compares the stamp, and for the table the target, each time, and comes back to its caller if they differ, who looks
//! the block up and enters it here. So a link that is out of date costs time and nothing else.
//!
//! Read by host code by address, written between its runs.

use std::mem::{offset_of, size_of};

/// Where a block's code is.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    code: u64,
    /// No block has the stamp 0.
    stamp: u64,
    target: u64,
    /// Its own number; 0 in the table.
    number: u64,
}

pub(super) const CODE: i32 = offset_of!(Link, code) as i32;
pub(super) const STAMP: i32 = offset_of!(Link, stamp) as i32;
pub(super) const TARGET: i32 = offset_of!(Link, target) as i32;
pub(super) const NUMBER: i32 = offset_of!(Link, number) as i32;
/// As a shift.
pub(super) const LINK_BITS: u8 = size_of::<Link>().trailing_zeros() as u8;

/// Links of blocks at most.
const LINKS: usize = 1 << 16;
/// Entries of the table.
pub(super) const TABLE: usize = 1 << 12;

/// All links.
#[derive(Debug)]
pub(super) struct Links {
    /// Never moves: host code has its addresses. The first is no block's.
    links: Vec<Link>,
    table: Box<[Link]>,
}

impl Links {
    pub fn new() -> Self {
        let mut links = Vec::with_capacity(LINKS);
        links.push(Link::default());
        Links { links, table: vec![Link::default(); TABLE].into() }
    }

    pub fn clear(&mut self) {
        self.links.truncate(1);
        self.table.fill(Link::default());
    }

    /// Whether two more are to be had, which is what a block needs at most for each of its branches.
    pub fn has_room(&self, count: usize) -> bool {
        self.links.len() + count <= LINKS
    }

    /// A new link to the block at `target`; gives its address.
    pub fn add(&mut self, target: u64) -> u64 {
        assert!(self.has_room(1), "links never move");
        let number = self.links.len() as u64;
        self.links.push(Link { target, number, ..Link::default() });
        self.address(number as usize)
    }

    fn address(&self, number: usize) -> u64 {
        self.links.as_ptr() as u64 + (number * size_of::<Link>()) as u64
    }

    /// Where the table is.
    pub fn table(&self) -> u64 {
        self.table.as_ptr() as u64
    }

    /// The block at `target` has its code at `code` and was found right under `stamp`. `number` is that of the link that
    /// led there, if one did.
    pub fn found(&mut self, number: u32, target: u64, stamp: u64, code: u64) {
        let link = match self.links.get_mut(number as usize) {
            Some(link) if number != 0 && link.target == target => link,
            _ => &mut self.table[target as usize % TABLE],
        };
        *link = Link { code, stamp, target, ..*link };
    }
}
