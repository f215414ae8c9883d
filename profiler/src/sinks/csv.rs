//! A recording as a folder of CSV files (RFC 4180): one per table, and `meta.json` beside them with
//! the session, the schema version and the losses. In: a recording. Out: text that any spreadsheet
//! or data frame reads.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use rusqlite::types::ValueRef;

use super::{
    Error, Result,
    tables::{Clock, Failed, HEX, TABLES, columns, meta},
};
use crate::recording::Recording;

/// Writes the files into `dir`, which is made if it is not there; files of the same names are
/// replaced.
pub fn export(recording: &Recording, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|source| Error::Write {
        path: dir.into(),
        source,
    })?;
    for (name, time) in TABLES {
        let path = dir.join(name).with_extension("csv");
        let done = File::create(&path)
            .map_err(Failed::Write)
            .and_then(|file| table(recording, name, *time, file));
        done.map_err(|e| e.told(recording, &path))?;
    }
    let path = dir.join("meta.json");
    let mut meta = meta(recording, &recording.snapshot()?);
    let files = TABLES.iter().map(|(name, _)| format!("{name}.csv"));
    meta["files"] = files.collect();
    fs::write(&path, format!("{meta:#}\n")).map_err(|source| Error::Write { path, source })
}

impl From<csv::Error> for Failed {
    fn from(e: csv::Error) -> Self {
        Failed::Write(e.into())
    }
}

fn table(
    recording: &Recording,
    name: &str,
    time: Option<&str>,
    file: File,
) -> std::result::Result<(), Failed> {
    let mut statement = recording.sql().prepare(&format!("SELECT * FROM {name}"))?;
    let columns = columns(&statement);
    let mut out = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(BufWriter::new(file));
    let head = columns.iter().map(String::as_str);
    out.write_record(time.map(|_| "time").into_iter().chain(head))?;
    let hex: Vec<bool> = columns.iter().map(|c| HEX.contains(&c.as_str())).collect();
    let time = time.and_then(|time| columns.iter().position(|column| column == time));
    let mut clock = Clock::new(recording.session());
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        if let Some(at) = time {
            let ns = row.get::<_, i64>(at)?.cast_unsigned();
            out.write_field(clock.wall(ns))?;
        }
        for (at, hex) in hex.iter().enumerate() {
            field(&mut out, row.get_ref(at)?, *hex)?;
        }
        out.write_record(None::<&[u8]>)?;
    }
    let mut file = out
        .into_inner()
        .map_err(|e| Failed::Write(e.into_error()))?;
    file.flush().map_err(Failed::Write)
}

fn field<W: io::Write>(
    out: &mut csv::Writer<W>,
    value: ValueRef<'_>,
    hex: bool,
) -> csv::Result<()> {
    match value {
        ValueRef::Null => out.write_field(""),
        ValueRef::Integer(i) if hex => out.write_field(format!("{:#x}", i.cast_unsigned())),
        ValueRef::Integer(i) => out.write_field(itoa::Buffer::new().format(i)),
        ValueRef::Real(f) => out.write_field(f.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => out.write_field(bytes),
    }
}
