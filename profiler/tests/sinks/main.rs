//! Recordings, reports, exports and screens, fed by hand: no kernel needed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod broken;
mod corpus;
mod csv;
mod formats;
mod older;
mod recording;
mod report;
mod settle;
mod shown;
mod support;
#[path = "../../../fuzz/src/targets.rs"]
mod targets;
mod top;
mod top_pages;
mod totals;
mod trace;
