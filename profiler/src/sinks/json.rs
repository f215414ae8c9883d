//! A recording as lines of JSON: one object per row, which names its table. In: a recording. Out: text
//! for `jq` and log pipelines, and the JSON Schema of its lines.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use rusqlite::{Connection, types::ValueRef};
use serde_json::{Map, Value, json};

use super::{
    Error, Result,
    tables::{Clock, Failed, HEX, TABLES, columns, meta},
};
use crate::recording::{Recording, empty_tables};

/// The first line is of the table `meta`.
pub fn export(recording: &Recording, path: &Path) -> Result<()> {
    let written = |source: io::Error| Error::Write {
        path: path.into(),
        source,
    };
    let mut meta = meta(recording, &recording.snapshot()?);
    meta["table"] = "meta".into();
    let mut out = BufWriter::new(File::create(path).map_err(written)?);
    line(&mut out, &meta).map_err(written)?;
    for (name, time) in TABLES {
        let done = table(recording, name, *time, &mut out);
        done.map_err(|e| e.told(recording, path))?;
    }
    out.flush().map_err(written)
}

fn line(out: &mut impl io::Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn table(
    recording: &Recording,
    name: &str,
    time: Option<&str>,
    out: &mut impl io::Write,
) -> std::result::Result<(), Failed> {
    let mut statement = recording.sql().prepare(&format!("SELECT * FROM {name}"))?;
    let columns = columns(&statement);
    let mut clock = Clock::new(recording.session());
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let mut object = Map::new();
        object.insert("table".into(), name.into());
        if let Some(time) = time {
            let ns = row.get::<_, i64>(time)?.cast_unsigned();
            object.insert("time".into(), clock.wall(ns).into());
        }
        for (at, column) in columns.iter().enumerate() {
            object.insert(column.clone(), value(column, row.get_ref(at)?));
        }
        line(out, &Value::Object(object)).map_err(Failed::Write)?;
    }
    Ok(())
}

/// Addresses need 64 bits, and most readers of JSON have 53: they are text.
fn value(column: &str, value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) if HEX.contains(&column) => format!("{:#x}", i.cast_unsigned()).into(),
        ValueRef::Integer(i) => i.into(),
        ValueRef::Real(f) => f.into(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into(),
    }
}

/// Of each line, draft 2020-12: made from the tables' own definitions.
pub fn schema() -> rusqlite::Result<Value> {
    let sql = empty_tables()?;
    let mut lines = vec![json!({
        "type": "object",
        "required": ["table", "schema", "complete", "duration_ns", "session", "loss"],
        "properties": {
            "table": {"const": "meta"},
            "schema": {"type": "integer"},
            "complete": {"type": "boolean"},
            "duration_ns": {"type": "integer"},
            "session": {"type": "object"},
            "loss": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
        "additionalProperties": false,
    })];
    for (name, time) in TABLES {
        lines.push(table_schema(&sql, name, time.is_some())?);
    }
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "a line of `vmascope export --json`",
        "oneOf": lines,
    }))
}

fn table_schema(sql: &Connection, name: &str, time: bool) -> rusqlite::Result<Value> {
    let mut properties = Map::new();
    properties.insert("table".into(), json!({"const": name}));
    if time {
        properties.insert(
            "time".into(),
            json!({"type": "string", "format": "date-time"}),
        );
    }
    let mut info = sql.prepare(&format!("PRAGMA table_xinfo({name})"))?;
    let mut rows = info.query(())?;
    while let Some(row) = rows.next()? {
        let (column, declared): (String, String) = (row.get("name")?, row.get("type")?);
        let kind = match declared.as_str() {
            _ if HEX.contains(&column.as_str()) => json!({
                "type": ["string", "null"], "pattern": "^0x[0-9a-f]+$",
            }),
            "INTEGER" => json!({"type": ["integer", "null"]}),
            "TEXT" => json!({"type": ["string", "null"]}),
            // Worked out by a view.
            _ => json!({"type": ["integer", "string", "null"]}),
        };
        properties.insert(column, kind);
    }
    let required: Vec<&String> = properties.keys().collect();
    Ok(json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    }))
}
