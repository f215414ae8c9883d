//! Histograms over time as an HDR histogram log, which HdrHistogram's own tools read. In: the
//! intervals of a recording. Out: a line for each interval and each histogram with anything in it,
//! its name as the tag; values in ns.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};
use profiler_common::words::{Mode, Path as FaultPath};

use super::{Error, Result};
use crate::{
    model::{Anatomy, Hist, Snapshot},
    recording::Recording,
};

/// Maxima beside the histograms are in ms, as those tools have it.
const NS_PER_MS: f64 = 1e6;

pub fn export(recording: &Recording, path: &Path) -> Result<()> {
    let written = |source| Error::Write {
        path: path.into(),
        source,
    };
    let mut out = BufWriter::new(File::create(path).map_err(written)?);
    let mut serializer = V2DeflateSerializer::new();
    let session = recording.session();
    let armed = UNIX_EPOCH + Duration::from_nanos(session.armed_realtime_ns);
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!(
            "vmascope {}: {}; values in ns, tags as in docs/formats.md",
            session.version, session.target
        ))
        .with_start_time(armed)
        .with_base_time(armed)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(written)?;
    let mut before = Snapshot::empty();
    for now in recording.intervals() {
        let now = now?;
        let from = Duration::from_nanos(before.duration_ns);
        let length = Duration::from_nanos(now.duration_ns.saturating_sub(before.duration_ns));
        for (name, hist) in added(&now, &before) {
            log.write_histogram(&hist.hdr(), from, length, Tag::new(&name))
                .map_err(|e| written(io::Error::other(format!("{e:?}"))))?;
        }
        before = now;
    }
    drop(log);
    out.flush().map_err(written)
}

/// What came in, by name: `fault_latency.retry`, `lock_wait.read`, `io_wait.normal/none`.
fn added(now: &Snapshot, before: &Snapshot) -> Vec<(String, Hist)> {
    let mut all = Vec::new();
    let mut add = |name: String, now: &Hist, before: &Hist| {
        let hist = now.since(before);
        if hist.count > 0 {
            all.push((name, hist));
        }
    };
    for path in FaultPath::ALL {
        let (now, before) = (now.path(*path), before.path(*path));
        add(
            format!("fault_latency.{}", path.name()),
            &now.latency,
            &before.latency,
        );
    }
    for mode in Mode::ALL {
        let (now, before) = (&now.locks[*mode as usize], &before.locks[*mode as usize]);
        add(
            format!("lock_wait.{}", mode.name()),
            &now.wait,
            &before.wait,
        );
        add(
            format!("mmap_lock_hold.{}", mode.name()),
            &now.hold,
            &before.hold,
        );
    }
    for (at, (prio, ioprio)) in Anatomy::io_classes().enumerate() {
        let (now, before) = (&now.anatomy.io[at].wait, &before.anatomy.io[at].wait);
        let name = format!("io_wait.{}/{}", prio.name(), ioprio.name());
        add(name, now, before);
    }
    all
}
