//! Rows of `system.rs`: page faults, accessed and dirty bits.

use super::*;

pub(super) const ROWS: &[Row] = &[
    Row("read a page", Kernel, &[0, 1, 3, 7, 5, NX | 3, RESERVED | 3], |a, v| {
        map_page(a, v)?;
        a.mov(al, byte_ptr(rbx))?;
        report_entry(a)
    }),
    Row("write a page", Kernel, &[0, 1, 3, 7, 5, NX | 3, RESERVED | 3], |a, v| {
        map_page(a, v)?;
        a.mov(byte_ptr(rbx), 0xc3)?;
        report_entry(a)
    }),
    Row("write a page, WP", Kernel, &[0, 1, 3, 7, 5, NX | 3, RESERVED | 3], |a, v| {
        map_page(a, v)?;
        change_cr0(a, 0x1_0000, 0)?;
        a.mov(byte_ptr(rbx), 0xc3)?;
        report_entry(a)
    }),
    Row("run a page", Kernel, &[0, 1, 3, 7, 5, NX | 3, RESERVED | 3], |a, v| {
        a.mov(rbx, PAGE)?;
        a.mov(byte_ptr(rbx), 0xc3)?;
        map_page(a, v)?;
        a.call(rbx)?;
        report_entry(a)
    }),
    Row("run a page, SMEP", Kernel, &[0, 1, 3, 7, 5, NX | 3, RESERVED | 3], |a, v| {
        a.mov(rbx, PAGE)?;
        a.mov(byte_ptr(rbx), 0xc3)?;
        map_page(a, v)?;
        change_cr4(a, 0x10_0000, 0)?;
        a.call(rbx)?;
        report_entry(a)
    }),
    Row("read a page, SMAP", Kernel, &[0, 1, 3, 7, 5, NX | 3, RESERVED | 3], |a, v| {
        map_page(a, v)?;
        change_cr4(a, 0x20_0000, 0)?;
        a.mov(al, byte_ptr(rbx))?;
        report_entry(a)
    }),
    Row("read a page, SMAP and AC", Kernel, &[0, 1, 3, 7, 5, NX | 3, RESERVED | 3], |a, v| {
        map_page(a, v)?;
        change_cr4(a, 0x20_0000, 0)?;
        a.stac()?;
        a.mov(al, byte_ptr(rbx))?;
        a.clac()?;
        report_entry(a)
    }),
    Row("translation until INVLPG", Kernel, ONCE, |a, _| {
        a.mov(rbx, PAGE)?;
        a.mov(al, byte_ptr(rbx))?;
        map_page(a, 0)?;
        a.mov(al, byte_ptr(rbx))
    }),
];
