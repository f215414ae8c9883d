//! Zeroing that stays a few stores. For eBPF, LLVM makes it a call of memset, which is a loop over
//! bytes there: eight times the instructions, and the verifier walks every round of it.

use crate::{
    thread::{Holder, Lock, VmaRequest, Window},
    waits::{AttemptIo, Waits},
};

/// # Safety
/// Made of integers only, so that zero bytes are a value, and of whole words.
pub unsafe trait Words: Copy {}

// SAFETY: as the trait says; `zero` checks the words.
unsafe impl Words for Waits {}
// SAFETY: as above.
unsafe impl Words for AttemptIo {}
// SAFETY: as above.
unsafe impl Words for Lock {}
// SAFETY: as above.
unsafe impl Words for Holder {}
// SAFETY: as above.
unsafe impl Words for VmaRequest {}
// SAFETY: as above.
unsafe impl Words for Window {}
// SAFETY: as above.
unsafe impl<const N: usize> Words for [u64; N] {}

#[inline(always)]
pub fn zero<T: Words>(value: &mut T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let words = core::ptr::from_mut(value).cast::<u64>();
    let mut i = 0;
    while i < size_of::<T>() / 8 {
        // SAFETY: inside the value, aligned; zero is a value of every field.
        unsafe { words.add(i).write_volatile(0) };
        i += 1;
    }
}
