//! A recording as a folder of CSV files (RFC 4180): one per table, and `meta.json` beside them with
//! the session, the schema version and the losses. In: a recording. Out: text that any spreadsheet
//! or data frame reads.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use profiler_common::words::Loss;
use rusqlite::types::ValueRef;

use super::{Error, Result};
use crate::{
    model::{Session, Snapshot},
    recording::Recording,
};

/// Each table, and the column that tells when a row began.
const TABLES: &[(&str, Option<&str>)] = &[
    ("intervals", Some("at_ns")),
    ("fault_paths", None),
    ("fault_kinds", None),
    ("fallbacks", None),
    ("retries", None),
    ("folio_states", None),
    ("held_waits", None),
    ("components", None),
    ("run_delays", None),
    ("vma_sizes", None),
    ("locks", None),
    ("histograms", None),
    ("histogram_totals", None),
    ("losses", None),
    ("processes", None),
    ("threads", None),
    ("waits", Some("start_ns")),
    ("segments", Some("start_ns")),
    ("stacks", None),
    ("chains", None),
    ("windows", Some("io_ns")),
    ("arrivals", Some("at_ns")),
    ("conflicts", Some("at_ns")),
    ("faults", Some("start_ns")),
    ("signals", None),
];

/// Bits and addresses: written in hexadecimal.
const HEX: &[&str] = &[
    "mm",
    "address",
    "vm_start",
    "vm_end",
    "vm_flags",
    "op_start",
    "op_end",
    "holder_address",
    "range_start",
    "range_end",
    "fault_flags",
    "ret",
];

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
        done.map_err(|e| match e {
            Failed::Read(e) => recording.broken(e).into(),
            Failed::Write(source) => Error::Write { path, source },
        })?;
    }
    let path = dir.join("meta.json");
    let meta = meta(recording, &recording.snapshot()?);
    fs::write(&path, format!("{meta:#}\n")).map_err(|source| Error::Write { path, source })
}

enum Failed {
    Read(rusqlite::Error),
    Write(io::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(e: rusqlite::Error) -> Self {
        Failed::Read(e)
    }
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
    let columns: Vec<String> = statement
        .column_names()
        .iter()
        .map(|c| (*c).into())
        .collect();
    let mut out = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(BufWriter::new(file));
    let head = columns.iter().map(String::as_str);
    out.write_record(time.map(|_| "time").into_iter().chain(head))?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        if let Some(column) = time {
            let at = row.get::<_, i64>(column)?.cast_unsigned();
            out.write_field(wall(recording.session(), at))?;
        }
        for (at, column) in columns.iter().enumerate() {
            out.write_field(field(column, row.get_ref(at)?))?;
        }
        out.write_record(None::<&[u8]>)?;
    }
    let mut file = out
        .into_inner()
        .map_err(|e| Failed::Write(e.into_error()))?;
    file.flush().map_err(Failed::Write)
}

fn field(column: &str, value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Null => Vec::new(),
        ValueRef::Integer(i) if HEX.contains(&column) => {
            format!("{:#x}", i.cast_unsigned()).into_bytes()
        }
        ValueRef::Integer(i) => i.to_string().into_bytes(),
        ValueRef::Real(f) => f.to_string().into_bytes(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
    }
}

fn meta(recording: &Recording, counts: &Snapshot) -> serde_json::Value {
    let losses = Loss::ALL
        .iter()
        .map(|l| (l.name().to_owned(), counts.losses[*l as usize].into()));
    let files = TABLES.iter().map(|(name, _)| format!("{name}.csv"));
    serde_json::json!({
        "schema": recording.session().schema,
        "complete": recording.complete(),
        "duration_ns": counts.duration_ns,
        "session": recording.session(),
        "loss": losses.collect::<serde_json::Map<_, _>>(),
        "files": files.collect::<Vec<_>>(),
    })
}

/// A moment of the monotonic clock as ISO 8601 in UTC.
fn wall(session: &Session, monotonic_ns: u64) -> String {
    let since = i128::from(monotonic_ns) - i128::from(session.armed_monotonic_ns);
    iso(i128::from(session.armed_realtime_ns) + since)
}

fn iso(unix_ns: i128) -> String {
    let (seconds, ns) = (
        unix_ns.div_euclid(1_000_000_000),
        unix_ns.rem_euclid(1_000_000_000),
    );
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ns:09}Z")
}

/// Days since 1970-01-01 as a date: Howard Hinnant's `civil_from_days`, in years that start in
/// March so that the leap day comes last.
fn civil(days: i128) -> (i128, i128, i128) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (year + era * 400 + i128::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, want) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_790_000_000, "2026-09-21T14:13:20.000000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(iso(unix_s * 1_000_000_000), want);
        }
        assert_eq!(iso(123_456_789), "1970-01-01T00:00:00.123456789Z");
    }
}
