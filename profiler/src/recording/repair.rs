//! A recording that was not finished, made one file. In: FILE with its -wal and -shm, as a crash left
//! them. Out: FILE alone, with the same rows.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Error, Recording, Result, companions};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// It was one file already.
    Whole,
    Folded,
}

/// Refuses what is no recording, and what somebody still writes.
pub fn repair(path: &Path) -> Result<Repaired> {
    // Says what is wrong with the file, if anything is.
    drop(Recording::open(path)?);
    let writing = |source| Error::Writing {
        path: path.into(),
        source,
    };
    let sql =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(writing)?;
    let whole = companions(path).iter().all(|file| !file.exists());
    let done = fold(&sql);
    drop(sql);
    match done {
        Ok(sound) if sound == "ok" => {}
        Ok(unsound) => {
            return Err(Error::Unsound {
                path: path.into(),
                unsound,
            });
        }
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            return Err(Error::InUse { path: path.into() });
        }
        Err(e) => return Err(writing(e)),
    }
    Ok(if whole {
        Repaired::Whole
    } else {
        Repaired::Folded
    })
}

/// Whether somebody writes it, or reads one that is not finished. One that a crash has left is folded.
pub fn is_open(path: &Path) -> bool {
    let alone = || {
        let sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        sql.busy_timeout(std::time::Duration::ZERO)?;
        // A recorder has a lock on it from its first row to its last, also between two of them.
        sql.query_row("PRAGMA journal_mode=DELETE", (), |_| Ok(()))
    };
    // What is broken is nobody's.
    alone().is_err_and(|e: rusqlite::Error| e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
}

/// Gives what SQLite thinks of the result: `ok`, or what is wrong.
fn fold(sql: &Connection) -> rusqlite::Result<String> {
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    // Fails with SQLITE_BUSY where somebody else has it open.
    sql.query_row("PRAGMA journal_mode=DELETE", (), |_| Ok(()))?;
    sql.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))
}
