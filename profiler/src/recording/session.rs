//! The session as rows: every scalar under its own key in `meta`, so that SQL reads it as it is,
//! and one row per signal.

use rusqlite::{Connection, types::Value as Sql};
use serde_json::{Map, Value as Json};

use crate::model::{Session, Signal};

const HOST: &str = "host_";

/// Cannot fail for a session; the error is that of the conversion all the same.
pub fn write(sql: &Connection, session: &Session) -> rusqlite::Result<()> {
    let Json::Object(mut fields) = serde_json::to_value(session).map_err(odd)? else {
        return Err(odd("a session is an object"));
    };
    fields.remove("signals");
    if let Some(Json::Object(host)) = fields.remove("host") {
        fields.extend(host.into_iter().map(|(k, v)| (format!("{HOST}{k}"), v)));
    }
    for (key, value) in fields {
        set(sql, &key, to_sql(value))?;
    }
    let mut insert = sql.prepare("INSERT INTO signals VALUES (NULL, ?, ?, ?, ?)")?;
    for signal in &session.signals {
        let quality = serde_json::to_value(signal.quality).map_err(odd)?;
        insert.execute((&signal.name, quality.as_str(), &signal.hook, &signal.reason))?;
    }
    Ok(())
}

pub fn set(sql: &Connection, key: &str, value: Sql) -> rusqlite::Result<()> {
    sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))?;
    Ok(())
}

pub fn read(sql: &Connection) -> rusqlite::Result<Session> {
    let (mut fields, mut host) = (Map::new(), Map::new());
    let mut rows = sql.prepare("SELECT key, value FROM meta")?;
    let mut rows = rows.query(())?;
    while let Some(row) = rows.next()? {
        let (key, value) = (row.get::<_, String>(0)?, to_json(row.get(1)?));
        match key.strip_prefix(HOST) {
            Some(key) => host.insert(key.to_owned(), value),
            None => fields.insert(key, value),
        };
    }
    let mut signals = sql.prepare("SELECT name, quality, hook, reason FROM signals ORDER BY id")?;
    let signals = signals
        .query_map((), |row| {
            let quality: String = row.get(1)?;
            Ok(Signal {
                name: row.get(0)?,
                quality: serde_json::from_value(Json::String(quality)).map_err(odd)?,
                hook: row.get(2)?,
                reason: row.get(3)?,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    fields.insert("host".into(), Json::Object(host));
    fields.insert(
        "signals".into(),
        serde_json::to_value(signals).map_err(odd)?,
    );
    serde_json::from_value(Json::Object(fields)).map_err(odd)
}

fn to_sql(value: Json) -> Sql {
    match value {
        Json::Null => Sql::Null,
        Json::Bool(b) => Sql::Integer(b.into()),
        Json::String(s) => Sql::Text(s),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Sql::Integer(i),
            (None, Some(f)) => Sql::Real(f),
            (None, None) => Sql::Text(n.to_string()),
        },
        nested => Sql::Text(nested.to_string()),
    }
}

fn to_json(value: Sql) -> Json {
    match value {
        Sql::Integer(i) => i.into(),
        Sql::Real(f) => f.into(),
        Sql::Text(s) => s.into(),
        Sql::Null | Sql::Blob(_) => Json::Null,
    }
}

/// Content that no vmascope wrote, in the one error type of this layer.
/// Nine years of nanoseconds, or as many of anything. What a broken or forged file says beyond it is
/// not believed, so that sums of what is cannot overflow.
const COUNT_MAX: u64 = 1 << 58;

/// A count, a duration or a moment; addresses may be anything.
pub fn counted(value: i64) -> rusqlite::Result<u64> {
    limited(value.cast_unsigned())
}

pub fn limited(value: u64) -> rusqlite::Result<u64> {
    match value {
        0..=COUNT_MAX => Ok(value),
        _ => Err(odd(format!("{} is no count", value.cast_signed()))),
    }
}

pub fn odd(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, why.into())
}
