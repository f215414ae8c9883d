//! Recordings, reports, exports and screens, fed by hand: no kernel needed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broken;
mod csv;
mod recording;
mod report;
mod support;
mod top;
mod totals;
mod trace;
