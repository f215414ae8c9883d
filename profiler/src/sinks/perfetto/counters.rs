//! Counter tracks: what came in per second, from interval to interval, and how many waits and
//! windows there are at a time. In: the recording. Out: counter events below the root track.

use std::io;

use profiler_common::words::{Mode, Path};

use super::{Written, args::lock_name, stream::Stream};
use crate::{
    model::{Figure, Snapshot},
    recording::Recording,
};

/// Numbers of the tracks below the root: each group has a range of its own.
const PATHS: u64 = 100;
const WAITS: u64 = 200;
const LOST: u64 = 300;
const IN_FLIGHT: u64 = 400;

pub fn write<W: io::Write>(recording: &Recording, out: &mut Stream<W>, root: u64) -> Written {
    rates(recording, out, root)?;
    for mode in Mode::ALL {
        let (lock, mode_name) = match mode {
            Mode::Read => ("mmap_lock", "read"),
            Mode::Write => ("mmap_lock", "write"),
            Mode::VmaWrite => ("vma", "write"),
        };
        let name = format!("waiting for {}", lock_name(*mode));
        let query = "SELECT start_ns AS at, 1 FROM waits WHERE lock = ?1 AND mode = ?2
            UNION ALL SELECT end_ns, -1 FROM waits WHERE lock = ?1 AND mode = ?2 ORDER BY at";
        let track = |out: &mut Stream<W>| {
            let number = IN_FLIGHT + *mode as u64;
            out.counter(root, number, &name, "threads")
        };
        in_flight(recording, out, query, &[lock, mode_name], track)?;
    }
    let query = "SELECT io_ns AS at, 1 FROM windows
        UNION ALL SELECT close_ns, -1 FROM windows ORDER BY at";
    in_flight(recording, out, query, &[], |out| {
        let number = IN_FLIGHT + Mode::COUNT as u64;
        out.counter(root, number, "windows open", "faults")
    })
}

/// A rate is that of the interval that begins where it is written.
fn rates<W: io::Write>(recording: &Recording, out: &mut Stream<W>, root: u64) -> Written {
    let last = recording.snapshot()?;
    let by_path = recording.session().has(Figure::FaultPath);
    let mut before = Snapshot::empty();
    before.at_ns = recording.session().armed_monotonic_ns;
    for now in recording.intervals() {
        let now = now?;
        let seconds = now.at_ns.saturating_sub(before.at_ns) as f64 / 1e9;
        let per_second = |now: u64, before: u64| match seconds {
            0.0 => 0.0,
            s => now.saturating_sub(before) as f64 / s,
        };
        each(out, (root, by_path), &last, |out, track, figure| {
            let rate = per_second(figure(&now), figure(&before));
            out.rate(track, before.at_ns, rate)
        })?;
        let lost = out.counter(root, LOST, "lost events", "events")?;
        out.count(lost, now.at_ns, now.lost().cast_signed())?;
        before = now;
    }
    // A counter keeps its value until the next one: the recording ends here.
    each(out, (root, by_path), &last, |out, track, _| {
        out.rate(track, last.at_ns, 0.0)
    })
}

type Count<'a> = &'a dyn Fn(&Snapshot) -> u64;

/// Every track of rates that is not empty.
fn each<W: io::Write>(
    out: &mut Stream<W>,
    (root, by_path): (u64, bool),
    last: &Snapshot,
    mut write: impl FnMut(&mut Stream<W>, u64, Count<'_>) -> io::Result<()>,
) -> Written {
    // Where the path cannot be told, counts are on a placeholder.
    let paths = if by_path { Path::ALL } else { &[] };
    if !by_path && last.faults_total() > 0 {
        let track = out.counter(root, PATHS, "faults", "1/s")?;
        write(out, track, &Snapshot::faults_total)?;
    }
    for path in paths {
        let figure = |s: &Snapshot| s.path(*path).count;
        if figure(last) > 0 {
            let name = format!("faults {}", path.name());
            let track = out.counter(root, PATHS + 1 + *path as u64, &name, "1/s")?;
            write(out, track, &figure)?;
        }
    }
    for mode in Mode::ALL {
        let figure = |s: &Snapshot| s.locks[*mode as usize].total().waits;
        if figure(last) > 0 {
            let name = format!("waits {}", lock_name(*mode));
            let track = out.counter(root, WAITS + *mode as u64, &name, "1/s")?;
            write(out, track, &figure)?;
        }
    }
    Ok(())
}

/// `query` gives moments, each with 1 or -1.
fn in_flight<W: io::Write>(
    recording: &Recording,
    out: &mut Stream<W>,
    query: &str,
    values: &[&str],
    track: impl Fn(&mut Stream<W>) -> io::Result<u64>,
) -> Written {
    let mut statement = recording.sql().prepare(query)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let (mut at, mut sum) = (None, 0_i64);
    while let Some(row) = rows.next()? {
        let moment = row.get::<_, i64>(0)?.cast_unsigned();
        if let Some(at) = at.filter(|at| *at != moment) {
            let track = track(out)?;
            out.count(track, at, sum)?;
        }
        at = Some(moment);
        sum += row.get::<_, i64>(1)?;
    }
    if let Some(at) = at {
        let track = track(out)?;
        out.count(track, at, sum)?;
    }
    Ok(())
}
