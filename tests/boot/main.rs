//! How kernels get into guest RAM, without KVM: synthetic kernels in, pieces and registers out.

mod broken_kernels;
mod builder;
mod bzimage_guest;
mod checksum;
mod compression;
mod damage;
mod files;
mod firmware;
mod linux_protocol;
mod multiboot2_protocol;
mod multiboot_protocol;
mod pvh_protocol;
