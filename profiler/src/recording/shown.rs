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

    /// Each list as options name it, and as SQL.
    fn lists(&self) -> [(&'static str, Vec<String>); 3] {
        let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect();
        let quoted = |name: &String| format!("'{}'", name.replace('\'', "''"));
        [
            ("tid", numbers(&self.tids)),
            ("comm", self.comms.iter().map(quoted).collect()),
            ("cpu", numbers(&self.cpus)),
        ]
    }

    /// A condition on a table that has these columns.
    fn condition(&self, columns: &[&str]) -> String {
        let lists = self.lists().into_iter();
        let chosen = lists.filter(|(column, list)| columns.contains(column) && !list.is_empty());
        let all: Vec<_> = chosen
            .map(|(column, list)| format!("{column} IN ({})", list.join(", ")))
            .collect();
        match all.is_empty() {
            true => "1".into(),
            false => all.join(" AND "),
        }
    }
}

/// `tid 12, 34; comm RenderThread`.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>();
        let lists = [
            ("tid", numbers(&self.tids)),
            ("comm", self.comms.clone()),
            ("cpu", numbers(&self.cpus)),
        ];
        let chosen = lists.iter().filter(|(_, list)| !list.is_empty());
        let all: Vec<_> = chosen
            .map(|(what, list)| format!("{what} {}", list.join(", ")))
            .collect();
        f.write_str(&all.join("; "))
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
