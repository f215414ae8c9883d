//! The report as one page of HTML for a browser, with everything inside it: no network, no framework.
//! In: a recording. Out: the page, bounded in size however long the recording is.
//!
//! Names come from other programs: they enter the page as data only, and the script writes them as
//! text, never as HTML.

mod heat;
mod timeline;

use std::{fs, path::Path};

use rusqlite::Row;
use serde::Serialize;

use super::{Error, Result};
use crate::{
    recording::Recording,
    report::{self, Report},
};

/// Of each table.
const ROWS: usize = 20;
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPTS: &[&str] = &[
    include_str!("base.js"),
    include_str!("heat.js"),
    include_str!("timeline.js"),
    include_str!("figures.js"),
    include_str!("main.js"),
];

/// What the script reads. Serialized as it is, so that words keep the order of their lists.
#[derive(Serialize)]
struct Data<'a> {
    heat: heat::Heat,
    timeline: timeline::Timeline,
    report: &'a Report,
}

pub fn export(recording: &Recording, path: &Path) -> Result<()> {
    fs::write(path, page(recording)?).map_err(|source| Error::Write {
        path: path.into(),
        source,
    })
}

pub fn page(recording: &Recording) -> Result<String> {
    let mut report = report::of(recording)?;
    // The page shows the first few; the rest is for `report` and for CSV.
    report.threads.truncate(ROWS);
    report.processes.truncate(ROWS);
    report.worst_waits.truncate(ROWS);
    report.worst_faults.truncate(ROWS);
    let data = Data {
        heat: heat::heat(recording).map_err(|e| recording.broken(e))?,
        timeline: timeline::timeline(recording).map_err(|e| recording.broken(e))?,
        report: &report,
    };
    let json = serde_json::to_string(&data).map_err(Error::Page)?;
    let title = format!("vmascope: {}", report.target);
    // One pass: what is put in is not searched again.
    let parts = PAGE.split("@@").map(|part| match part {
        "title" => escaped(&title),
        "verdict" => escaped(&report.verdict),
        "style" => STYLE.to_owned(),
        "data" => in_script(&json),
        "script" => format!("(() => {{\n\"use strict\";\n{}}})();", SCRIPTS.concat()),
        text => text.to_owned(),
    });
    Ok(parts.collect())
}

fn u(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// JSON inside a script element: `<` stands in strings only, and there `\u003c` is the same.
/// Without it, neither `</script` nor `<!--` can end or hide the element.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_has_every_part_once() {
        for part in ["title", "verdict", "style", "data", "script"] {
            let count = PAGE.split("@@").skip(1).step_by(2).filter(|p| *p == part);
            assert_eq!(count.count(), 1, "{part}");
        }
        assert_eq!(PAGE.matches("@@").count(), 10);
        assert!(SCRIPTS.iter().all(|s| !s.contains("</script")));
    }

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(
            escaped("a</title><b \"\u{1b}&"),
            "a&lt;/title&gt;&lt;b &quot;?&amp;"
        );
        let json = serde_json::json!({ "comm": "</script><!--" }).to_string();
        let safe = in_script(&json);
        assert!(!safe.contains('<'));
        let back: serde_json::Value = serde_json::from_str(&safe).unwrap();
        assert_eq!(back["comm"], "</script><!--");
    }
}
