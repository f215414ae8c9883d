//! The immutable picture of a session that every sink draws from. `collect` makes it from maps and
//! ring records, `recording` stores and restores it; nothing in here touches the kernel.

pub mod anatomy;
pub mod event;
pub mod exited;
pub mod figure;
pub mod hist;
pub mod knows;
pub mod session;
pub mod snapshot;
pub mod standing;

pub use anatomy::{Anatomy, Components, IoWait};
pub use event::{
    ArrivalEvent, Batch, Blame, ConflictEvent, Doing, FaultEvent, HoldEvent, HolderInfo, Segment,
    SegmentBy, StackEvent, WaitEvent, WindowEvent,
};
pub use figure::Figure;
pub use hist::Hist;
pub use knows::Knows;
pub use session::{Host, Quality, Session, Signal};
pub use snapshot::{FaultStats, LockSide, OpStats, Process, Snapshot, Thread};
pub use standing::{Ground, Standing, role};
