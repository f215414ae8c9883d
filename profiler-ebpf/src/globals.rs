//! What userspace set before load. Read-only afterwards, so the verifier knows the values: a branch
//! on one costs nothing, and code that needs a field this kernel lacks is cut away.

use aya_ebpf::Global;
pub use profiler_common::config::MISSING;

macro_rules! statics {
    ($(($name:ident, $($text:literal),+)),+ $(,)?) => {
        $(
            #[unsafe(no_mangle)]
            static $name: Global<u32> = Global::new(MISSING);
        )+

        /// The globals' values, by the kernel's own names.
        pub mod get {
            $(
                #[expect(clippy::allow_attributes, reason = "fulfilled by some of the list only")]
                #[allow(dead_code, non_snake_case, reason = "named as the global; complete for both sides")]
                #[inline(always)]
                pub fn $name() -> u32 {
                    super::$name.load()
                }
            )+
        }
    };
}

mod fields {
    use super::*;
    profiler_common::kernel_fields!(statics);
}
mod enums {
    use super::*;
    profiler_common::kernel_enums!(statics);
}
mod options {
    use super::*;
    profiler_common::options!(statics);
}

pub use enums::get as flag;
pub use fields::get as off;
pub use options::get as opt;

/// `value` has one of these bits. An enumerator this kernel lacks is 0: no bit.
#[inline(always)]
pub fn has(value: u32, bits: u32) -> bool {
    value & bits != 0
}
