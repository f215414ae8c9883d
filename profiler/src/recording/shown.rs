//! Which rows of a recording are shown. In: what the user chose. Out: views that stand before the
//! tables of threads, waits and faults. What was counted is not told apart by thread or CPU, and stays.

use std::fmt;

use rusqlite::{Connection, OptionalExtension as _};

/// Threads, and where their single waits and faults ended; an empty list is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub tids: Vec<u32>,
    /// Whole names.
    pub comms: Vec<String>,
    pub cpus: Vec<u32>,
}

impl Shown {
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Those that are not empty, by column.
    fn lists(&self) -> impl Iterator<Item = (&'static str, Vec<String>)> {
        let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect();
        let all = [
            ("tid", numbers(&self.tids)),
            ("comm", self.comms.clone()),
            ("cpu", numbers(&self.cpus)),
        ];
        all.into_iter().filter(|(_, list)| !list.is_empty())
    }

    /// A condition on a table that has these columns.
    fn condition(&self, columns: &[&str]) -> String {
        let quoted = |value: &String| format!("'{}'", value.replace('\'', "''"));
        let any = |list: &[String]| list.iter().map(quoted).collect::<Vec<_>>().join(", ");
        let chosen = self.lists().filter(|(column, _)| columns.contains(column));
        let all = chosen.map(|(column, list)| format!(" AND {column} IN ({})", any(&list)));
        "1".to_owned() + &all.collect::<String>()
    }
}

/// `tid 12, 34; comm RenderThread`.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self
            .lists()
            .map(|(what, list)| format!("{what} {}", list.join(", ")));
        f.write_str(&all.collect::<Vec<_>>().join("; "))
    }
}

/// From here on whoever reads these tables reads the rows that are shown.
pub(super) fn narrow(sql: &Connection, shown: &Shown) -> rusqlite::Result<()> {
    let of_cpus = shown.condition(&["tid", "comm", "cpu"]);
    let views = [
        ("threads", shown.condition(&["tid", "comm"])),
        ("waits", of_cpus.clone()),
        ("faults", of_cpus),
        ("segments", "wait IN (SELECT id FROM waits)".into()),
    ];
    for (name, condition) in views {
        let rows = rows(sql, name)?;
        sql.execute_batch(&format!(
            "DROP VIEW IF EXISTS temp.{name};
             CREATE TEMP VIEW {name} AS SELECT * FROM ({rows}) WHERE {condition};"
        ))?;
    }
    Ok(())
}

/// What gives all rows of a table: in older recordings it is a view already.
fn rows(sql: &Connection, name: &str) -> rusqlite::Result<String> {
    let view = "SELECT sql FROM sqlite_temp_schema WHERE type = 'view' AND name = ?";
    let view: Option<String> = sql.query_row(view, [name], |row| row.get(0)).optional()?;
    let select = view.as_deref().and_then(|view| view.split_once(" AS "));
    Ok(match select {
        Some((_, select)) => select.into(),
        None => format!("SELECT * FROM main.{name}"),
    })
}
