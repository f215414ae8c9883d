//! The heat map of fault latency, binned so that its size does not depend on the recording's. In: the
//! histograms of a recording. Out: cells; times are nanoseconds since arming.

use std::collections::{BTreeMap, HashMap};

use profiler_common::words::Path;
use serde::Serialize;

use super::u;
use crate::{model::Figure, recording::Recording};

/// Columns of the heat map.
const COLUMNS: usize = 120;

/// How many faults of a path took how long, over time.
#[derive(Serialize)]
pub struct Heat {
    /// Where columns begin, and where the last one ends.
    edges_ns: Vec<u64>,
    paths: Vec<HeatPath>,
}

#[derive(Serialize)]
struct HeatPath {
    path: &'static str,
    /// Column, power of two of the latency in nanoseconds, count.
    cells: Vec<(usize, u32, u64)>,
}

pub fn heat(recording: &Recording) -> rusqlite::Result<Heat> {
    let sql = recording.sql();
    let mut intervals = sql.prepare("SELECT id, since_armed_ns FROM intervals ORDER BY id")?;
    let intervals: Vec<(i64, i64)> = intervals
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let per_column = intervals.len().div_ceil(COLUMNS).max(1);
    let mut edges_ns = vec![0];
    let last = |chunk: &[(i64, i64)]| chunk.last().map(|(_, at)| at.cast_unsigned());
    edges_ns.extend(intervals.chunks(per_column).filter_map(last));
    let column: HashMap<i64, usize> = intervals
        .iter()
        .enumerate()
        .map(|(at, (id, _))| (*id, at / per_column))
        .collect();

    // Where the path cannot be told, the recording has a placeholder.
    let by_path = recording.session().has(Figure::FaultPath);
    let mut cells = BTreeMap::<(usize, usize, u32), u64>::new();
    let mut rows = sql.prepare(
        "SELECT interval, label, lower_ns, count FROM histograms WHERE name = 'fault_latency'",
    )?;
    let mut rows = rows.query(())?;
    while let Some(row) = rows.next()? {
        let label = row.get_ref(1)?;
        let path = Path::from_name(label.as_str()?);
        let (Some(path), Some(column)) = (path, column.get(&row.get(0)?)) else {
            continue;
        };
        let path = if by_path { path } else { Path::ALL[0] };
        let lower = u(row, 2)?;
        let cell = cells.entry((path as usize, *column, lower.max(1).ilog2()));
        *cell.or_default() += u(row, 3)?;
    }
    let of_path = |path: &Path| HeatPath {
        path: if by_path { path.name() } else { "any path" },
        cells: cells
            .iter()
            .filter(|((p, ..), count)| *p == *path as usize && **count > 0)
            .map(|((_, column, bucket), count)| (*column, *bucket, *count))
            .collect(),
    };
    let paths = Path::ALL.iter().map(of_path);
    Ok(Heat {
        edges_ns,
        paths: paths.filter(|p| !p.cells.is_empty()).collect(),
    })
}
