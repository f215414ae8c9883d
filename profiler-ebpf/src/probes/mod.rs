//! One signal per file, with the same name on the user side. A file's functions hold the meaning,
//! the programs at its end only fetch arguments for one rung of the hook ladder.

mod anatomy;
mod check;
mod fault;
mod io_wait;
mod life;
mod lock_release;
mod mmap_lock;
mod vma_lock;
mod vma_write;
