//! The kernel side of vmascope: hooks in `probes/`, everything else serves them. A common fault
//! costs bumps in maps; only rare events reach the ring.
#![no_std]
#![no_main]
// The core library has no atomic addition for this target, because it has no compare-and-swap.
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "window.rs: the kernel side is built with its own core"
)]

mod count;
mod emit;
mod filter;
mod finish;
mod globals;
mod kernel;
mod maps;
mod op;
mod prio;
mod probes;
mod rwsem;
mod stack;
mod thread;
mod vma;
mod window;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
