//! Recordings on disk: one SQLite file, described in docs/formats.md. In: the session, snapshots
//! and single events. Out: the same, exactly, in this process or years later.

mod anatomy;
mod blame;
mod chains;
mod error;
mod events;
mod last;
mod older;
mod part;
mod read;
mod repair;
mod schema;
mod session;
mod shown;
mod write;

pub use chains::{ChainRow, StackRow};
pub use error::{Error, Result};
pub(crate) use events::Event;
pub use last::{LastSeconds, ns};
pub use read::{Events, Intervals, Recording};
pub use repair::{Repaired, repair};
pub(crate) use session::{counted, limited};
pub use shown::Shown;
pub use write::{Writer, empty_tables};

/// "vmas", in the file's header where SQLite keeps it for `file(1)` and for us.
pub const APPLICATION_ID: u32 = u32::from_be_bytes(*b"vmas");

/// What a file claims to be, from its first hundred bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Recording { schema: u32 },
    Empty,
    Other,
}

fn head(path: &std::path::Path) -> std::io::Result<Head> {
    use std::io::Read as _;
    let mut bytes = Vec::with_capacity(100);
    std::fs::File::open(path)?
        .take(100)
        .read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(Head::Empty);
    }
    // https://sqlite.org/fileformat2.html#the_database_header
    let word = |at: usize| {
        let four = bytes.get(at..at + 4)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*four))
    };
    let ours = bytes.starts_with(b"SQLite format 3\0") && word(68) == Some(APPLICATION_ID);
    Ok(match word(60) {
        Some(schema) if ours => Head::Recording { schema },
        _ => Head::Other,
    })
}

/// By its header: whether it can be read is another question.
pub fn is_one(path: &std::path::Path) -> bool {
    matches!(head(path), Ok(Head::Recording { .. }))
}

/// The recording, and what a crash or a reader left beside it.
pub fn delete(path: &std::path::Path) -> std::io::Result<()> {
    for file in companions(path) {
        match std::fs::remove_file(file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    std::fs::remove_file(path)
}

/// FILE-wal and FILE-shm: there while a recording is being written, and after a crash.
fn companions(path: &std::path::Path) -> [std::path::PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}
