//! From the kernel's maps and ring to the model: `ring` turns records into events on a thread of
//! its own, `maps` polls the counters into a Snapshot. Nothing after this touches the kernel.

mod blame;
mod conflicts;
mod dead;
mod maps;
mod ring;
mod slots;
mod stacks;

pub use blame::Blamer;
pub use conflicts::Conflicts;
pub use maps::{Maps, taken};
pub use ring::Ring;
pub use stacks::Stacks;

/// A NUL-padded name as the kernel keeps it.
fn text(raw: &[u8]) -> String {
    let end = raw.iter().position(|b| *b == 0).unwrap_or(raw.len());
    String::from_utf8_lossy(&raw[..end]).into_owned()
}
