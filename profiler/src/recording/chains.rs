//! What a recording tells of waits that hang together: chains, and kernel stacks.

use rusqlite::Row;

use super::{Recording, Result, session::counted};
use crate::model::WaitEvent;

/// A kernel stack, and the waits that speak of it.
pub struct StackRow {
    pub waits: u64,
    pub ns: u64,
    /// As [`StackEvent::frames`](crate::model::StackEvent).
    pub frames: String,
}

/// Waits that hang on one root, three threads deep or more.
pub struct ChainRow {
    pub root: u64,
    pub depth: u32,
    pub waits: u64,
    pub blocked_ns: u64,
}

impl Recording {
    /// Of the waits at the end of the longest paths to this root, the longest.
    pub fn deepest_wait(&self, root: u64) -> Result<Option<WaitEvent>> {
        self.one(
            "SELECT * FROM waits WHERE root_wait = ? ORDER BY depth DESC, wait_ns DESC LIMIT 1",
            root,
        )
    }

    /// How many chains, the deepest, and the time of all waits in them.
    pub fn chains_in_all(&self) -> Result<(u64, u32, u64)> {
        let query =
            "SELECT count(*), coalesce(max(depth), 0), coalesce(sum(blocked_ns), 0) FROM chains";
        let row = |row: &Row<'_>| {
            let n = |at| counted(row.get(at)?);
            Ok((n(0)?, row.get(1)?, n(2)?))
        };
        self.sql()
            .query_row(query, (), row)
            .map_err(|e| self.broken(e))
    }

    /// Most blocked time first.
    pub fn worst_chains(&self, n: u32) -> Result<Vec<ChainRow>> {
        let query = "SELECT id, depth, waits, blocked_ns FROM chains
            ORDER BY blocked_ns DESC, id LIMIT ?";
        let row = |row: &Row<'_>| {
            let n = |at| counted(row.get(at)?);
            Ok(ChainRow {
                root: n(0)?,
                depth: row.get(1)?,
                waits: n(2)?,
                blocked_ns: n(3)?,
            })
        };
        let read = || -> rusqlite::Result<Vec<ChainRow>> {
            self.sql().prepare(query)?.query_map([n], row)?.collect()
        };
        read().map_err(|e| self.broken(e))
    }

    /// Kernel stacks with the waits whose column has them, by the sum of another column.
    pub fn stacks(&self, column: &str, ns: &str, n: u32) -> Result<Vec<StackRow>> {
        let any = "SELECT EXISTS (SELECT 1 FROM stacks)";
        let none = self
            .sql()
            .query_row(any, (), |row| row.get(0).map(|any: bool| !any));
        if none.map_err(|e| self.broken(e))? {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT count(*), sum({ns}) AS ns, frames FROM waits JOIN stacks
             ON stacks.id = waits.{column} GROUP BY waits.{column} ORDER BY ns DESC LIMIT ?"
        );
        let row = |row: &Row<'_>| {
            let n = |at| counted(row.get(at)?);
            Ok(StackRow {
                waits: n(0)?,
                ns: n(1)?,
                frames: row.get(2)?,
            })
        };
        let read = || -> rusqlite::Result<Vec<StackRow>> {
            self.sql().prepare(&query)?.query_map([n], row)?.collect()
        };
        read().map_err(|e| self.broken(e))
    }
}
