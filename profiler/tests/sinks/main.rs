//! Recordings, reports, exports and screens, fed by hand: no kernel needed.

mod csv;
mod recording;
mod report;
mod support;
mod top;
