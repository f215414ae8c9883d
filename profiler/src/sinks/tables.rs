//! A recording as tables: what the exports of single rows have in common. In: a recording. Out: names,
//! columns, moments in wall-clock time, and what is said of the whole.

use std::{io, path::Path};

use profiler_common::words::Loss;
use rusqlite::Statement;

use super::Error;
use crate::{
    model::{Session, Snapshot},
    recording::Recording,
};

/// Each table, and the column that tells when a row began.
pub const TABLES: &[(&str, Option<&str>)] = &[
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
pub const HEX: &[&str] = &[
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

/// Why a table is not written: it cannot be read, or what is made of it cannot be stored.
pub enum Failed {
    Read(rusqlite::Error),
    Write(io::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(e: rusqlite::Error) -> Self {
        Failed::Read(e)
    }
}

impl Failed {
    /// As an export to `path` tells it.
    pub fn told(self, recording: &Recording, path: &Path) -> Error {
        match self {
            Failed::Read(e) => recording.broken(e).into(),
            Failed::Write(source) => Error::Write {
                path: path.into(),
                source,
            },
        }
    }
}

pub fn columns(statement: &Statement<'_>) -> Vec<String> {
    let names = statement.column_names();
    names.into_iter().map(str::to_owned).collect()
}

/// The session, the schema version and the losses.
pub fn meta(recording: &Recording, counts: &Snapshot) -> serde_json::Value {
    let losses = Loss::ALL
        .iter()
        .map(|l| (l.name().to_owned(), counts.losses[*l as usize].into()));
    serde_json::json!({
        "schema": recording.session().schema,
        "complete": recording.complete(),
        "duration_ns": counts.duration_ns,
        "session": recording.session(),
        "loss": losses.collect::<serde_json::Map<_, _>>(),
    })
}

/// Moments of the monotonic clock as ISO 8601 in UTC. Most are in the second of the one before.
pub struct Clock {
    /// Wall-clock time where the monotonic clock is 0.
    offset_ns: i128,
    second: i128,
    /// The second's date and time.
    text: String,
}

impl Clock {
    pub fn new(session: &Session) -> Self {
        let (real, monotonic) = (session.armed_realtime_ns, session.armed_monotonic_ns);
        Self {
            offset_ns: i128::from(real) - i128::from(monotonic),
            second: i128::MIN,
            text: String::new(),
        }
    }

    pub fn wall(&mut self, monotonic_ns: u64) -> String {
        let unix_ns = i128::from(monotonic_ns) + self.offset_ns;
        let (second, ns) = (
            unix_ns.div_euclid(1_000_000_000),
            unix_ns.rem_euclid(1_000_000_000),
        );
        if second != self.second {
            (self.second, self.text) = (second, date_and_time(second));
        }
        // By hand: a format string costs more than the rest of a row.
        let mut out = String::with_capacity(self.text.len() + 11);
        out.push_str(&self.text);
        out.push('.');
        let mut place = 100_000_000;
        while place > 0 {
            out.push(char::from(b'0' + (ns / place % 10) as u8));
            place /= 10;
        }
        out.push('Z');
        out
    }
}

fn date_and_time(unix_s: i128) -> String {
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}")
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
        let mut clock = Clock {
            offset_ns: 0,
            second: i128::MIN,
            text: String::new(),
        };
        for (unix_s, want) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_790_000_000, "2026-09-21T14:13:20.000000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(clock.wall(unix_s * 1_000_000_000), want);
        }
        assert_eq!(clock.wall(123_456_789), "1970-01-01T00:00:00.123456789Z");
        clock.offset_ns = -1;
        assert_eq!(clock.wall(0), "1969-12-31T23:59:59.999999999Z");
    }
}
