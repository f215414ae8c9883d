//! What can go wrong with a recording: one line each, naming the file and the remedy.

use std::path::PathBuf;

use crate::model::session::SCHEMA;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{} is not a vmascope recording: give a file made by `vmascope record -o FILE`",
        path.display()
    )]
    NotARecording { path: PathBuf },
    #[error(
        "{} has schema {found}, this vmascope reads up to {SCHEMA}: use the version that made it or a newer one",
        path.display()
    )]
    Newer { path: PathBuf, found: u32 },
    #[error("{} is a broken recording: {}", path.display(), what(source))]
    Broken {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("cannot write {}: {source}: choose another place with -o", path.display())]
    Unwritable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{} exists and is not a vmascope recording, so it is left alone: choose another name with -o",
        path.display()
    )]
    Occupied { path: PathBuf },
    #[error(
        "{} is being written by another vmascope, or read: choose another name with -o, or end that one first",
        path.display()
    )]
    Taken { path: PathBuf },
    #[error("{} is in use: repair it when whoever writes or reads it has ended", path.display())]
    InUse { path: PathBuf },
    #[error(
        "{} has lost rows to a fault of the disk ({}): `sqlite3 FILE .recover` may save the rest",
        path.display(), visible(unsound)
    )]
    Unsound { path: PathBuf, unsound: String },
    #[error(
        "cannot write {}: {source}: make room, or choose another place with -o; what was written until then can be read",
        path.display()
    )]
    Writing {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error(
        "cannot keep what is measured: {source}: make room, or set TMPDIR to a folder with some"
    )]
    Temporary { source: rusqlite::Error },
    #[error(
        "{} is complete, but another program has it open: keep its -wal and -shm with it",
        path.display()
    )]
    StillOpen { path: PathBuf },
}

/// Without the query, which is ours and has several lines; what SQLite quotes from the file may have
/// anything in it, escape sequences for the terminal too.
fn what(source: &rusqlite::Error) -> String {
    let text = match source {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    visible(&text)
}

fn visible(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
