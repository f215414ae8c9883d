//! Recordings, reports, exports and screens, fed by hand: no kernel needed.

mod recording;
mod report;
mod support;
